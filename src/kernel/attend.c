/* SPDX-License-Identifier: Apache-2.0 */
/* attend.c: the two ways through a page: stored rows against few queries, and a page of floats
 * against many. Both go by blocks of rows that begin at multiples of a constant: scores of a block,
 * weights, then values. */
#include "kernel/attend.h"

enum {
    FEW_ROWS = 256,    /* 8 queries' weights: 8 KiB */
    MANY_ROWS = 192,   /* keys and values of 128 floats: 192 KiB; whole tiles of 48, 16 and 12 */
    MANY_QUERIES = 64, /* scores 48 KiB, and values to add, beside them in the L2 */
};

typedef struct range {
    size_t lo, hi;
} range;

static size_t padded(size_t n) {
    return (n + 15) / 16 * 16;
}

static range cut(range r, size_t lo, size_t hi) {
    return (range){LB_MAX(r.lo, lo), LB_MIN(r.hi, hi)};
}

static range seen_by(const lb_attend *a, size_t query) {
    const i32 from = a->from[query], to = a->to[query];
    const range r = {from < 0 ? 0 : (size_t)from, to < 0 ? 0 : (size_t)to};
    return cut(r, 0, a->n_rows);
}

/* The least range with what the queries from first to last see; empty: lo >= hi. */
static range seen(const lb_attend *a, size_t first, size_t last) {
    range all = {a->n_rows, 0};
    for (size_t q = first; q < last; q++) {
        const range r = seen_by(a, q);
        if (r.lo < r.hi)
            all = (range){LB_MIN(all.lo, r.lo), LB_MAX(all.hi, r.hi)};
    }
    return all;
}

size_t lb_attend_scratch_bytes(const lb_attend *a) {
    const size_t few = LB_ATTEND_FEW * (padded(a->k_dim) + FEW_ROWS);
    const size_t many = MANY_ROWS * (2 * padded(a->k_dim) + padded(a->v_dim)) +
                        MANY_QUERIES * (MANY_ROWS + padded(a->v_dim));
    return sizeof(float) * (a->n_queries <= LB_ATTEND_FEW ? few : LB_MAX(few, many));
}

/* Scores of the rows of `block` become weights, 0 where the query does not look. Returns what its
 * accumulated values are to be multiplied by. */
static float weights(const lb_kernels *k, const lb_attend *a, size_t query, range block, float *s) {
    const range r = cut(seen_by(a, query), block.lo, block.hi);
    const size_t n = block.hi - block.lo;
    if (r.lo >= r.hi) {
        memset(s, 0, n * sizeof *s);
        return 1;
    }
    float state[2] = {a->max[query], a->sum[query]};
    memset(s, 0, (r.lo - block.lo) * sizeof *s);
    memset(s + (r.hi - block.lo), 0, (block.hi - r.hi) * sizeof *s);
    const float before =
        k->softmax_part_f32(r.hi - r.lo, s + (r.lo - block.lo), a->scale, a->softcap, state);
    a->max[query] = state[0];
    a->sum[query] = state[1];
    return before;
}

/* ---- few queries ---- */

typedef struct few_kernels {
    lb_k_attend_dot_f32_fn *dot;
    lb_k_attend_mix_f32_fn *mix;
} few_kernels;

static few_kernels kernels_of(const lb_kernels *k, lb_dtype t) {
    switch (t) {
    case LB_F16:
        return (few_kernels){k->attend_dot_f16, k->attend_mix_f16};
    case LB_Q8_0:
        return (few_kernels){k->attend_dot_q8_0, k->attend_mix_q8_0};
    case LB_Q4_0:
        return (few_kernels){k->attend_dot_q4_0, k->attend_mix_q4_0};
    default:
        LB_ASSERT(t == LB_F32);
        return (few_kernels){k->attend_dot_f32, k->attend_mix_f32};
    }
}

static void few(const lb_kernels *k, const lb_attend *a, range all) {
    const few_kernels f = kernels_of(k, a->type);
    const size_t n = a->n_queries, stride = padded(a->k_dim);
    float *const q = a->scratch, *const s = q + n * stride;
    for (size_t i = 0; i < n; i++) {
        memcpy(q + i * stride, a->q + i * a->q_stride, a->k_dim * sizeof *q);
        memset(q + i * stride + a->k_dim, 0, (stride - a->k_dim) * sizeof *q);
    }
    for (size_t b = all.lo / FEW_ROWS * FEW_ROWS; b < all.hi; b += FEW_ROWS) {
        const range r = cut(all, b, b + FEW_ROWS);
        const size_t n_rows = r.hi - r.lo;
        f.dot(n, n_rows, a->k_dim, s, q, (const u8 *)a->k + r.lo * a->k_bytes, a->k_bytes);
        for (size_t i = 0; i < n; i++) {
            float *const acc = a->acc + i * a->acc_stride;
            const float before = weights(k, a, i, r, s + i * n_rows);
            if (before != 1) /* NaN too */
                k->map_mulc_f32(a->v_dim, acc, acc, before);
        }
        f.mix(n, n_rows, a->v_dim, a->acc, a->acc_stride, s, (const u8 *)a->v + r.lo * a->v_bytes,
              a->v_bytes);
    }
}

/* ---- many queries ---- */

typedef struct block {
    range rows;
    size_t n;      /* of them */
    float *keys;   /* [k_dim, n] */
    float *values; /* [n, v_dim] */
    float *scores; /* [MANY_QUERIES, n] */
    float *add;    /* [MANY_QUERIES, v_dim] */
} block;

static void make_floats(const lb_kernels *k, const lb_attend *a, block *b, float *flat) {
    lb_decode_fn *const decode = lb_kernels_decode(k, a->type);
    for (size_t r = 0; r < b->n; r++) {
        decode(a->k_dim, flat + r * a->k_dim, (const u8 *)a->k + (b->rows.lo + r) * a->k_bytes);
        decode(a->v_dim, b->values + r * a->v_dim,
               (const u8 *)a->v + (b->rows.lo + r) * a->v_bytes);
    }
    k->transpose(b->n, a->k_dim, sizeof(float), b->keys, b->n, flat, a->k_dim);
}

/* Only rows that one of these queries sees are met, from a register's first on: beyond what a query
 * sees its weights are 0, which changes no sum that began with +0. */
static void many_block(const lb_kernels *k, const lb_attend *a, const block *b, range queries,
                       range met) {
    const size_t n = queries.hi - queries.lo;
    const size_t skip = (met.lo - b->rows.lo) / 16 * 16, end = met.hi - b->rows.lo;
    const float *const q = a->q + queries.lo * a->q_stride;
    const range rows = {b->rows.lo + skip, met.hi};
    float before[MANY_QUERIES];
    memset(b->scores, 0, n * b->n * sizeof(float));
    memset(b->add, 0, n * a->v_dim * sizeof(float));
    k->gemm_part_f32(n, LB_MIN((end + 15) / 16 * 16, b->n) - skip, a->k_dim, b->scores + skip, q,
                     a->q_stride, b->keys + skip, b->n);
    for (size_t i = 0; i < n; i++)
        before[i] = weights(k, a, queries.lo + i, rows, b->scores + i * b->n + skip);
    k->gemm_part_f32(n, a->v_dim, end - skip, b->add, b->scores + skip, b->n,
                     b->values + skip * a->v_dim, a->v_dim);
    for (size_t i = 0; i < n; i++) {
        float *const acc = a->acc + (queries.lo + i) * a->acc_stride;
        k->map_fmac_f32(a->v_dim, acc, acc, before[i], b->add + i * a->v_dim);
    }
}

static void many(const lb_kernels *k, const lb_attend *a, range all) {
    block b;
    float *const flat = a->scratch;
    b.keys = flat + MANY_ROWS * padded(a->k_dim);
    b.values = b.keys + MANY_ROWS * padded(a->k_dim);
    b.scores = b.values + MANY_ROWS * padded(a->v_dim);
    b.add = b.scores + MANY_QUERIES * MANY_ROWS;
    for (size_t at = all.lo / MANY_ROWS * MANY_ROWS; at < all.hi; at += MANY_ROWS) {
        b.rows = cut(all, at, at + MANY_ROWS);
        b.n = b.rows.hi - b.rows.lo;
        make_floats(k, a, &b, flat);
        for (size_t q = 0; q < a->n_queries; q += MANY_QUERIES) {
            const range some = cut((range){q, q + MANY_QUERIES}, 0, a->n_queries);
            const range met = cut(seen(a, some.lo, some.hi), b.rows.lo, b.rows.hi);
            if (met.lo < met.hi)
                many_block(k, a, &b, some, met);
        }
    }
}

void lb_attend_page(const lb_kernels *k, const lb_attend *a) {
    const range all = seen(a, 0, a->n_queries);
    if (all.lo >= all.hi)
        return;
    if (a->n_queries <= LB_ATTEND_FEW)
        few(k, a, all);
    else
        many(k, a, all);
}
