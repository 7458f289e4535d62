/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf.c: rectangles of values to the codes, scales and zero points of Hugging Face's types.
 *
 * compressed-tensors computes in the type of the weights, transformers' fine-grained fp8 in f32
 * (kernel/quant_hf_ref.c). Zero points of packed codes are packed too, down a column: a word has
 * those of 32 / bits rows, the first lowest. */
#include "kernel/quant_mlx.h"
#include "plan/quant.h"

#define GROUPS_AT_A_TIME 64  /* zero points on the stack */
#define CODES_AT_A_TIME 1024 /* the same of codes before they are packed; whole words */

typedef struct params {
    float scale, second; /* second: the zero point, or the factor of the values */
} params;

static u32 how_of(const lb_quant *q) {
    u32 how = LB_QUANT_HOW(LB_ROUND_NONE, q->round, q->kind == LB_QUANT_PACKED ? q->bits : 8);
    if (q->kind == LB_QUANT_FINE_F8)
        return LB_QUANT_HOW(LB_ROUND_NONE, LB_ROUND_NONE, 8) | LB_QUANT_TIMES;
    return how | (q->kind == LB_QUANT_F8 ? LB_QUANT_FLOAT : q->asym ? LB_QUANT_ASYM : 0);
}

/* Rows of values, one every `stride`. */
typedef struct values {
    const float *in;
    u64 n_rows, n_cols, stride;
} values;

static u64 range_of(const lb_kernels *k, const values *v, float range[2]) {
    u64 n_bad = 0;
    range[0] = range[1] = 0; /* 0 counts in */
    for (u64 i = 0; i < v->n_rows; i++) {
        float row[2] = {0, 0};
        n_bad += k->fold_range_f32(v->n_cols, v->in + i * v->stride, row);
        range[0] = LB_MIN(range[0], row[0]);
        range[1] = LB_MAX(range[1], row[1]);
    }
    return n_bad;
}

/* Returns whether there are none. */
static bool params_of(const lb_quant *q, const lb_kernels *k, const float range[2], params *p) {
    u64 n_odd = k->quant_params(1, &p->scale, &p->second, &range[0], &range[1], how_of(q));
    if (n_odd && q->kind == LB_QUANT_FINE_F8) {
        /* 448 over the largest of the values is infinite: all of them are 0 beside any other */
        *p = (params){1, 1};
        return false;
    }
    return n_odd != 0;
}

/* The zero point of a row for its unit'th group. Of each word the first row is met first. */
static void put_zero(const lb_quant *q, const lb_quant_rect *r, u64 i, u64 unit, i32 zero) {
    u32 a_word = 32 / q->bits, place = (u32)((r->row + i) % a_word) * q->bits;
    u8 *word = r->out[LB_QUANT_BIASES] +
               (r->row % a_word + i) / a_word * r->stride[LB_QUANT_BIASES] + 4 * unit;
    u32 code = (u32)(zero + (1 << (q->bits - 1))) & ((1u << q->bits) - 1);
    lb_store_u32(word, (place ? lb_load_u32(word) : 0) | code << place);
}

static void put_params(const lb_quant *q, const lb_quant_rect *r, u64 i, u64 unit, params p) {
    u64 band = q->scope == LB_SCOPE_BLOCK ? i / q->band : q->scope == LB_SCOPE_CHANNEL ? i : 0;
    lb_round type = q->kind == LB_QUANT_FINE_F8 ? LB_ROUND_NONE : q->round;
    (void)lb_float_store(r->out[LB_QUANT_SCALES] + band * r->stride[LB_QUANT_SCALES], unit, p.scale,
                         type);
    if (!q->asym)
        return;
    if (q->kind == LB_QUANT_PACKED)
        put_zero(q, r, i, unit, (i32)p.second);
    else
        r->out[LB_QUANT_BIASES][band * r->stride[LB_QUANT_BIASES] + unit] = (u8)(i8)p.second;
}

static void pack_row(const lb_quant *q, const lb_kernels *k, u64 n, u8 *out, const float *in,
                     params p) {
    i8 code[CODES_AT_A_TIME];
    for (u64 i = 0; i < n; i += CODES_AT_A_TIME) {
        u64 m = LB_MIN(n - i, (u64)CODES_AT_A_TIME);
        k->quant_i8(m, code, in + i, p.scale, p.second, how_of(q));
        k->pack_codes(m, q->bits, out + i / 8 * q->bits, 1, code, 1);
    }
}

static void put_codes(const lb_quant *q, const lb_kernels *k, const values *v, u8 *out, u64 stride,
                      params p) {
    u32 how = how_of(q);
    for (u64 i = 0; i < v->n_rows; i++, out += stride) {
        const float *in = v->in + i * v->stride;
        if (q->kind == LB_QUANT_PACKED)
            pack_row(q, k, v->n_cols, out, in, p);
        else if (q->kind == LB_QUANT_I8)
            k->quant_i8(v->n_cols, out, in, p.scale, p.second, how);
        else
            k->quant_f8_e4m3(v->n_cols, out, in, how & LB_QUANT_TIMES ? p.second : p.scale, how);
    }
}

/* What has one scale, from row i and column c of the rectangle on. */
static u64 run_unit(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r, u64 i, u64 c,
                    const values *v) {
    params p;
    float range[2] = {r->range[0], r->range[1]};
    u64 n_bad = q->scope == LB_SCOPE_TENSOR ? 0 : range_of(k, v, range);
    bool none = params_of(q, k, range, &p);
    if (n_bad || none)
        return LB_MAX(n_bad, (u64)1);
    put_params(q, r, i, q->scope == LB_SCOPE_BLOCK ? c / q->group : 0, p);
    put_codes(q, k, v, r->out[LB_QUANT_CODES] + i * r->stride[LB_QUANT_CODES] + c,
              r->stride[LB_QUANT_CODES], p);
    return 0;
}

static u64 run_units(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r) {
    u64 rows = q->scope == LB_SCOPE_TENSOR ? r->n_rows : q->scope == LB_SCOPE_BLOCK ? q->band : 1;
    u64 cols = q->scope == LB_SCOPE_BLOCK ? q->group : r->n_cols, n_bad = 0;
    for (u64 i = 0; i < r->n_rows; i += rows)
        for (u64 c = 0; c < r->n_cols; c += cols) {
            values v = {.in = r->in + i * r->n_cols + c,
                        .n_rows = LB_MIN(rows, r->n_rows - i),
                        .n_cols = LB_MIN(cols, r->n_cols - c),
                        .stride = r->n_cols};
            n_bad += run_unit(q, k, r, i, c, &v);
        }
    return n_bad;
}

/* Groups of a row; its zero points are packed with those of the rows beside it. */
static u64 run_row_groups(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r, u64 i) {
    i8 zero[GROUPS_AT_A_TIME];
    u64 n_groups = r->n_cols / q->group, n_odd = 0;
    u64 code_bytes = q->group / 8 * q->bits, scale_bytes = lb_float_bytes(q->round);
    u8 *codes = r->out[LB_QUANT_CODES] + i * r->stride[LB_QUANT_CODES];
    u8 *scales = r->out[LB_QUANT_SCALES] + i * r->stride[LB_QUANT_SCALES];
    for (u64 g = 0; g < n_groups; g += GROUPS_AT_A_TIME) {
        u64 n = LB_MIN(n_groups - g, (u64)GROUPS_AT_A_TIME);
        n_odd += k->quant_groups(n, q->group, codes + g * code_bytes, scales + g * scale_bytes,
                                 zero, r->in + i * r->n_cols + g * q->group, how_of(q));
        for (u64 j = 0; j < n && q->asym; j++)
            put_zero(q, r, i, g + j, zero[j]);
    }
    return n_odd;
}

static u64 run_groups(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r) {
    u64 n_odd = 0;
    for (u64 i = 0; i < r->n_rows; i++)
        n_odd += run_row_groups(q, k, r, i);
    if (n_odd == 0)
        return 0;
    float range[2]; /* how many values it was, not groups */
    u64 n_bad = range_of(k, &(values){r->in, r->n_rows, r->n_cols, r->n_cols}, range);
    return LB_MAX(n_bad, (u64)1);
}

u64 lb_quant_run_hf(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r) {
    return q->scope == LB_SCOPE_GROUP ? run_groups(q, k, r) : run_units(q, k, r);
}
