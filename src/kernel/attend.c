/* SPDX-License-Identifier: Apache-2.0 */
/* attend.c: the two ways through a page: stored rows against few queries, and a page of floats
 * against many. Both go by blocks of rows that begin at multiples of a constant: scores of a block,
 * weights, the sum of its values, which is added to what came before. Sums have one order in both:
 * scores that of attend_dot, values that of the rows. */
#include "kernel/attend.h"

enum {
    BLOCK_ROWS = 192,  /* keys and values of 128 floats: 192 KiB */
    MANY_QUERIES = 64, /* scores 48 KiB, and values to add, beside them in the L2 */
};

typedef struct range {
    size_t lo, hi;
} range;

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
    const size_t k = lb_round_up(a->k_dim, 16), v = lb_round_up(a->v_dim, 16);
    const size_t few = LB_ATTEND_FEW * (k + v + BLOCK_ROWS);
    const size_t many = BLOCK_ROWS * (k + v) + MANY_QUERIES * (k + v + BLOCK_ROWS);
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

/* Rows of queries as attend_dot wants them. */
static void load_queries(const lb_attend *a, range queries, float *q) {
    const size_t stride = lb_round_up(a->k_dim, 16);
    for (size_t i = queries.lo; i < queries.hi; i++, q += stride) {
        memcpy(q, a->q + i * a->q_stride, a->k_dim * sizeof *q);
        memset(q + a->k_dim, 0, (stride - a->k_dim) * sizeof *q);
    }
}

static void few(const lb_kernels *k, const lb_attend *a, range all) {
    const few_kernels f = kernels_of(k, a->type);
    const size_t n = a->n_queries;
    float *const q = a->scratch, *const add = q + n * lb_round_up(a->k_dim, 16);
    float *const s = add + n * lb_round_up(a->v_dim, 16), before[LB_ATTEND_FEW];
    load_queries(a, (range){0, n}, q);
    for (size_t b = all.lo / BLOCK_ROWS * BLOCK_ROWS; b < all.hi; b += BLOCK_ROWS) {
        const range r = cut(all, b, b + BLOCK_ROWS);
        const size_t n_rows = r.hi - r.lo;
        f.dot(n, n_rows, a->k_dim, s, q, (const u8 *)a->k + r.lo * a->k_bytes, a->k_bytes);
        for (size_t i = 0; i < n; i++)
            before[i] = weights(k, a, i, r, s + i * n_rows);
        memset(add, 0, n * a->v_dim * sizeof *add);
        f.mix(n, n_rows, a->v_dim, add, a->v_dim, s, (const u8 *)a->v + r.lo * a->v_bytes,
              a->v_bytes);
        for (size_t i = 0; i < n; i++) {
            float *const acc = a->acc + i * a->acc_stride;
            k->map_fmac_f32(a->v_dim, acc, acc, before[i], add + i * a->v_dim);
        }
    }
}

/* ---- many queries ---- */

typedef struct block {
    range rows;
    float *keys;   /* [rows, k_dim] */
    float *values; /* [rows, v_dim] */
    float *q;      /* [MANY_QUERIES, k_dim rounded up] */
    float *scores; /* [MANY_QUERIES, rows] */
    float *add;    /* [MANY_QUERIES, v_dim] */
} block;

static void make_floats(const lb_kernels *k, const lb_attend *a, const block *b) {
    lb_decode_fn *const decode = lb_kernels_decode(k, a->type);
    for (size_t r = b->rows.lo, i = 0; r < b->rows.hi; r++, i++) {
        decode(a->k_dim, b->keys + i * a->k_dim, (const u8 *)a->k + r * a->k_bytes);
        decode(a->v_dim, b->values + i * a->v_dim, (const u8 *)a->v + r * a->v_bytes);
    }
}

/* Only rows that one of these queries sees are met: beyond what a query sees its weights are 0,
 * which changes no sum that began with +0. */
static void many_block(const lb_kernels *k, const lb_attend *a, const block *b, range queries,
                       range met) {
    const size_t n = queries.hi - queries.lo, n_rows = met.hi - met.lo;
    const size_t skip = met.lo - b->rows.lo;
    float before[MANY_QUERIES];
    load_queries(a, queries, b->q);
    k->attend_dot_f32(n, n_rows, a->k_dim, b->scores, b->q, b->keys + skip * a->k_dim,
                      a->k_dim * sizeof(float));
    for (size_t i = 0; i < n; i++)
        before[i] = weights(k, a, queries.lo + i, met, b->scores + i * n_rows);
    memset(b->add, 0, n * a->v_dim * sizeof(float));
    k->gemm_part_f32(n, a->v_dim, n_rows, b->add, b->scores, n_rows, b->values + skip * a->v_dim,
                     a->v_dim);
    for (size_t i = 0; i < n; i++) {
        float *const acc = a->acc + (queries.lo + i) * a->acc_stride;
        k->map_fmac_f32(a->v_dim, acc, acc, before[i], b->add + i * a->v_dim);
    }
}

static void many(const lb_kernels *k, const lb_attend *a, range all) {
    block b = {.keys = a->scratch};
    b.values = b.keys + BLOCK_ROWS * lb_round_up(a->k_dim, 16);
    b.q = b.values + BLOCK_ROWS * lb_round_up(a->v_dim, 16);
    b.scores = b.q + MANY_QUERIES * lb_round_up(a->k_dim, 16);
    b.add = b.scores + MANY_QUERIES * BLOCK_ROWS;
    for (size_t at = all.lo / BLOCK_ROWS * BLOCK_ROWS; at < all.hi; at += BLOCK_ROWS) {
        b.rows = cut(all, at, at + BLOCK_ROWS);
        make_floats(k, a, &b);
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
