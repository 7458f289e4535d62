/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_weights.c: products and rows of every stored type, against the reference decoders. */
#include "device/kern/mt_args.h"
#include "device/selftest_cases.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "tensor/dtype.h"
#include <math.h>
#include <stdio.h>

typedef struct shape {
    u32 n_rows, n_units, n_tokens; /* a unit: a block; of floats and MLX's groups see units_of */
} shape;

/* One and a few, beyond a simdgroup's chunks, rows that fill no threadgroup; then a model's. */
static const shape shapes[] = {{1, 1, 1}, {9, 5, 2}, {19, 37, 1}, {8, 3, 3}};
/* More than a tile of x; small blocks have the more of them. */
static const shape tiles = {3, 0, 1};
static const shape large = {1032, 0, 2};
/* Of products for many tokens: less than a tile each way, and more; every second one of a stack. */
static const shape mm_shapes[] = {{1, 1, 1},   {5, 2, 3},  {67, 2, 5},
                                  {22, 1, 36}, {9, 3, 66}, {65, 1, 4}};
static const shape mm_large = {72, 0, 66};
/* Of products of few tokens, a unit: 256 columns. Of the plain ones the last but two has rows for a
 * threadgroup that goes on, the last two more columns than are kept of x, the last one also more
 * tiles than are added up at a time. */
static const shape mt_shapes[] = {{16, 1, 1},
                                  {17, 9, 2},
                                  {45, 2, 3},
                                  {83, 5, 1},
                                  {33, 3, 8},
                                  {300, 1, 1},
                                  {40, 60, 1},
                                  {150, 17, 1},
                                  /* their sums go through an activation, in pairs where they can */
                                  {34, 3, 2},
                                  {32, 1, 1},
                                  {45, 1, 3},
                                  {170, 17, 1},
                                  {40, 58, 1}};
enum {
    MT_PLAIN = 8,  /* of these */
    PARTS = 4,     /* threadgroups that share columns, at most */
    STACK = 3,     /* matrices of mve_*, of whose rows each has as many */
    MV_TILE = 6144 /* LBK_MV_TILE */
};

typedef struct weights {
    lb_dtype type;
    u32 mlx_bits; /* 0: a type of the table */
    u32 fp_bits;  /* of *_scaled; 0: none */
    bool acts;    /* sums go through an activation */
    lb_mv_args a;
    u64 row_bytes;
    u8 *rows; /* [n_rows][row_bytes] */
    u8 *scales, *biases;
    u64 scale_bytes;
    float *value; /* decoded [n_rows][n_cols] */
    float *size;  /* the same: of what is added up for a value; NULL: that of the value */
} weights;

/* Places of the f16 fields in a block; 0xffff: none. */
static void scale_fields(lb_dtype t, u32 at[2]) {
    static const struct {
        lb_dtype t;
        u32 at[2];
    } fields[] = {
        {LB_Q8_0, {0, 0xffff}},    {LB_Q4_0, {0, 0xffff}},   {LB_Q4_1, {0, 2}},
        {LB_Q5_0, {0, 0xffff}},    {LB_Q5_1, {0, 2}},        {LB_Q2_K, {80, 82}},
        {LB_Q3_K, {108, 0xffff}},  {LB_Q4_K, {0, 2}},        {LB_Q5_K, {0, 2}},
        {LB_Q6_K, {208, 0xffff}},  {LB_IQ4_NL, {0, 0xffff}}, {LB_IQ4_XS, {0, 0xffff}},
        {LB_IQ2_XXS, {0, 0xffff}}, {LB_IQ2_XS, {0, 0xffff}}, {LB_IQ2_S, {0, 0xffff}},
        {LB_IQ3_XXS, {0, 0xffff}}, {LB_IQ3_S, {0, 0xffff}},  {LB_IQ1_S, {0, 0xffff}},
        {LB_TQ1_0, {52, 0xffff}},  {LB_TQ2_0, {64, 0xffff}}, {LB_Q1_0, {0, 0xffff}},
        {LB_Q2_0, {0, 0xffff}},    {LB_Q8_1, {0, 2}},
    };
    at[0] = at[1] = 0xffff;
    for (u32 i = 0; i < LB_LEN(fields); i++)
        if (fields[i].t == t)
            memcpy(at, fields[i].at, sizeof fields[i].at);
}

/* A half of either sign, 2^-9 to 2^-4; now and then 0 or a subnormal one. */
static u16 some_half(lb_selftest *t) {
    const u32 r = lb_selftest_u32(t);
    if (r % 61 == 0)
        return (u16)(r >> 16 & 0x83ffu);
    return (u16)((r >> 16 & 0x83ffu) | (6 + r % 5) << 10);
}

/* Random bytes with scales that a model could have. */
static void fill_blocks(lb_selftest *t, const weights *w, u64 n_bytes) {
    const u32 block_bytes = lb_dtype_get(w->type)->block_bytes;
    u32 field[2];
    for (u64 i = 0; i < n_bytes; i++)
        w->rows[i] = (u8)(lb_selftest_u32(t) >> 11);
    scale_fields(w->type, field);
    for (u64 at = 0; at < n_bytes; at += block_bytes) {
        for (u32 i = 0; i < 2; i++)
            if (field[i] != 0xffff)
                lb_store_u16(w->rows + at + field[i], some_half(t));
        if (w->type == LB_MXFP4)
            w->rows[at] = (u8)(lb_selftest_u32(t) % 67 ? 118 + lb_selftest_u32(t) % 8
                                                       : lb_selftest_u32(t) % 3);
        if (w->type == LB_IQ1_M) { /* nibbles of d are the highest of its scales */
            const u16 d = some_half(t);
            for (u32 i = 0; i < 4; i++) {
                u8 *high = w->rows + at + 49 + 2 * i;
                *high = (u8)((*high & 15u) | (d >> 4 * i & 15u) << 4);
            }
        }
        if (w->type == LB_Q8_K)
            lb_store_u32(w->rows + at, lb_f32_bits(lb_f16_to_f32(some_half(t))));
        if (w->type == LB_F8_E4M3)
            w->rows[at] &= (w->rows[at] & 0x7f) == 0x7f ? 0xf7 : 0xff; /* no NaN */
        if (w->type == LB_F8_E5M2)
            w->rows[at] &= 0xbf; /* below 2 */
        if (w->type == LB_F32)
            lb_store_u32(w->rows + at, lb_f32_bits(lb_selftest_float(t)));
        if (w->type == LB_F16)
            lb_store_u16(w->rows + at, lb_f16_from_f32(lb_selftest_float(t)));
        if (w->type == LB_BF16)
            lb_store_u16(w->rows + at, lb_bf16_from_f32(lb_selftest_float(t)));
    }
}

static void store_scale(u8 *p, u64 i, u32 type, float v, float *stored) {
    if (type == LB_DEV_F32) {
        lb_store_u32(p + 4 * i, lb_f32_bits(*stored = v));
        return;
    }
    const u16 h = type == LB_DEV_F16 ? lb_f16_from_f32(v) : lb_bf16_from_f32(v);
    *stored = type == LB_DEV_F16 ? lb_f16_to_f32(h) : lb_bf16_to_f32(h);
    lb_store_u16(p + 2 * i, h);
}

/* Codes, scales and biases; decoded group by group. split: also without biases. */
static bool make_mlx(lb_selftest *t, weights *w, bool split) {
    const u64 n = (u64)w->a.n_rows * w->a.n_cols, n_groups = n / w->a.group_elems;
    float *s = lb_arena_new(&t->arena, float, n_groups),
          *b = lb_arena_new(&t->arena, float, n_groups);
    w->row_bytes = (u64)w->a.n_cols / 8 * w->mlx_bits;
    w->scale_bytes = n_groups * (w->a.scale_type == LB_DEV_F32 ? 4 : 2);
    w->rows = lb_arena_push(&t->arena, (size_t)(w->row_bytes * w->a.n_rows), 16);
    w->scales = lb_arena_push(&t->arena, (size_t)w->scale_bytes, 16);
    w->biases = lb_arena_push(&t->arena, (size_t)w->scale_bytes, 16);
    w->value = lb_arena_new(&t->arena, float, n);
    if (!s || !b || !w->rows || !w->scales || !w->biases || !w->value)
        return false;
    for (u64 i = 0; i < w->row_bytes * w->a.n_rows; i++)
        w->rows[i] = (u8)(lb_selftest_u32(t) >> 11);
    for (u64 i = 0; i < n_groups; i++) {
        store_scale(w->scales, i, w->a.scale_type, 0.03f * lb_selftest_float(t), &s[i]);
        store_scale(w->biases, i, w->a.scale_type, 0.2f * lb_selftest_float(t), &b[i]);
    }
    static void (*const decode[])(size_t, size_t, float *, const void *, const float *,
                                  const float *, u32) = {
        [1] = lb_k_decode_f32_mlx_q1_ref, [2] = lb_k_decode_f32_mlx_q2_ref,
        [3] = lb_k_decode_f32_mlx_q3_ref, [4] = lb_k_decode_f32_mlx_q4_ref,
        [5] = lb_k_decode_f32_mlx_q5_ref, [6] = lb_k_decode_f32_mlx_q6_ref,
        [8] = lb_k_decode_f32_mlx_q8_ref};
    decode[w->mlx_bits](n_groups, w->a.group_elems, w->value, w->rows, s, b, 0);
    if (!split)
        return true;
    memset(b, 0, n_groups * sizeof *b);
    w->size = lb_arena_new(&t->arena, float, n);
    if (w->size)
        decode[w->mlx_bits](n_groups, w->a.group_elems, w->size, w->rows, s, b, 0);
    return w->size != NULL;
}

/* Rows that share scales, types of scales and sizes of groups in turn: those of MLX, and of FP8. */
static bool make_scaled(lb_selftest *t, weights *w, u32 n_mats) {
    static const u32 groups[] = {32, 16, 128, 64, 256};
    lb_mv_args *a = &w->a;
    const u32 way = t->row->n_cases % LB_LEN(groups), n_rows = a->n_rows / n_mats;
    const bool fp8_blocks = way == 2 || way == 4;
    a->group_elems = groups[way];
    a->scale_type = fp8_blocks ? (way == 2 ? LB_DEV_F32 : LB_DEV_BF16)
                    : way == 1 ? LB_DEV_E4M3
                               : LB_DEV_E8M0;
    a->scale_rows = way == 2 ? 5 : way == 4 ? n_rows : 1;
    const u32 per_row = (a->n_cols + a->group_elems - 1) / a->group_elems;
    const u32 per_mat = (n_rows + a->scale_rows - 1) / a->scale_rows;
    const u64 n_scales = (u64)per_row * per_mat * n_mats;
    float *s = lb_arena_new(&t->arena, float, n_scales);
    w->row_bytes = (u64)a->n_cols / 8 * w->fp_bits;
    w->scale_bytes = n_scales * (a->scale_type == LB_DEV_F32 ? 4 : fp8_blocks ? 2 : 1);
    w->rows = lb_arena_push(&t->arena, (size_t)(w->row_bytes * a->n_rows), 16);
    w->scales = lb_arena_push(&t->arena, (size_t)w->scale_bytes, 16);
    w->value = lb_arena_new(&t->arena, float, (u64)a->n_rows * a->n_cols);
    if (!s || !w->rows || !w->scales || !w->value)
        return false;
    for (u64 i = 0; i < w->row_bytes * a->n_rows; i++) {
        w->rows[i] = (u8)(lb_selftest_u32(t) >> 11);
        if (w->fp_bits == 8 && (w->rows[i] & 0x7f) == 0x7f)
            w->rows[i] ^= 8; /* no NaN */
    }
    for (u64 i = 0; i < n_scales; i++)
        if (fp8_blocks) {
            store_scale(w->scales, i, a->scale_type, 0.03f * lb_selftest_float(t), &s[i]);
        } else {
            w->scales[i] = (u8)(a->scale_type == LB_DEV_E8M0 ? 118 + lb_selftest_u32(t) % 8
                                                             : lb_selftest_u32(t) % 126);
            (a->scale_type == LB_DEV_E8M0 ? lb_k_decode_f32_mlx_e8m0_ref
                                          : lb_k_decode_f32_f8_e4m3_ref)(1, &s[i], w->scales + i);
        }
    for (u64 r = 0; r < a->n_rows; r++) {
        float *to = w->value + r * a->n_cols;
        const u64 at = (r / n_rows * per_mat + r % n_rows / a->scale_rows) * per_row;
        (w->fp_bits == 4 ? lb_k_decode_f32_f4_ref
                         : lb_k_decode_f32_f8_e4m3_ref)(a->n_cols, to, w->rows + r * w->row_bytes);
        for (u32 i = 0; i < a->n_cols; i++)
            to[i] *= s[at + i / a->group_elems];
    }
    return true;
}

/* Values without what is subtracted of them. */
static bool make_products(lb_selftest *t, weights *w, u64 n_bytes) {
    const lb_dtype_info *type = lb_dtype_get(w->type);
    const u64 n = (u64)w->a.n_rows * w->a.n_cols;
    u8 *rows = lb_arena_push(&t->arena, (size_t)n_bytes, 16);
    u32 field[2];
    lb_kernels k;
    scale_fields(w->type, field);
    if (field[1] == 0xffff)
        return true;
    w->size = lb_arena_new(&t->arena, float, n);
    if (!w->size || !rows)
        return false;
    memcpy(rows, w->rows, n_bytes);
    for (u64 at = 0; at < n_bytes; at += type->block_bytes)
        lb_store_u16(rows + at + field[1], 0);
    lb_kernels_init(&k, 0);
    lb_kernels_decode(&k, w->type)((size_t)n, w->size, rows);
    return true;
}

static bool make_blocks(lb_selftest *t, weights *w, bool split) {
    const u64 n = (u64)w->a.n_rows * w->a.n_cols;
    lb_kernels k;
    u64 n_bytes;
    if (!lb_dtype_bytes(w->type, n, &n_bytes))
        return false;
    w->row_bytes = n_bytes / w->a.n_rows;
    w->rows = lb_arena_push(&t->arena, (size_t)n_bytes, 16);
    w->value = lb_arena_new(&t->arena, float, n);
    if (!w->rows || !w->value)
        return false;
    fill_blocks(t, w, n_bytes);
    lb_kernels_init(&k, 0);
    lb_kernels_decode(&k, w->type)((size_t)n, w->value, w->rows);
    return !split || make_products(t, w, n_bytes);
}

/* What is added up for each value, where products of scales and codes and what is subtracted are.
 */
static void add_sizes(weights *w) {
    for (u64 i = 0; w->size && i < (u64)w->a.n_rows * w->a.n_cols; i++)
        w->size[i] = fabsf(w->size[i]) + fabsf(w->size[i] - w->value[i]);
}

/* Roundings of a row's sum: a lane adds its chunks' products to four sums, tile by tile, which
 * meet, then lanes do. */
static double roundings(const weights *w) {
    const bool is_float =
        !w->mlx_bits && !w->fp_bits && lb_dtype_get(w->type)->cls == LB_CLASS_FLOAT;
    const u32 chunk = is_float ? 4 : 32, tile = LB_MIN(w->a.n_cols, MV_TILE), n = w->a.split;
    const u64 per_tile = lb_ceil_div_u64(tile / chunk, 32ull * n) * (chunk / 4);
    return (double)(lb_ceil_div_u64(w->a.n_cols, MV_TILE) * per_tile) + 2 + 5 + n + 2;
}

/* The same of mt_*: a lane's sums of whole numbers become floats in three steps and are added one
 * by one; sums of x have five; then four lanes and simdgroups meet. Of halves, 34 terms of two
 * tiles in a row are cut off (2^-23) by the matrix unit. */
static double few_roundings(const weights *w) {
    const bool halves = w->type == LB_BF16 || w->type == LB_F16;
    const u64 units = lb_ceil_div_u64(w->a.n_cols / 256, w->a.split);
    const u64 adds = w->mlx_bits                                                      ? 8
                     : w->type == LB_Q4_K || w->type == LB_Q5_K || w->type == LB_Q6_K ? 2
                                                                                      : 4;
    return (double)(adds * units + 3 + 5 + 2 + w->a.split + 2 + PARTS) +
           (halves && !w->mlx_bits ? 2 * 34 + 2 : 0);
}

static lb_dev_form form_of(const weights *w) {
    return w->mlx_bits ? LB_DEV_AFFINE : w->fp_bits ? LB_DEV_SCALED : LB_DEV_BLOCKS;
}

/* What x is made of: what a kernel should have as x, and by how much it may differ. */
typedef struct made {
    double *x, *bound; /* [n_tokens][n_cols] */
    float *pre;        /* [n_cols] */
    double sums;       /* what the product's own sums may be off, as a part of its size */
} made;

static lb_dev_kernel act_of(u32 pre) {
    static const lb_dev_kernel acts[] = {[LB_DEV_PRE_SILU] = LB_DK_act_silu,
                                         [LB_DEV_PRE_GELU] = LB_DK_act_gelu,
                                         [LB_DEV_PRE_GELU_ERF] = LB_DK_act_gelu_erf,
                                         [LB_DEV_PRE_RELU2] = LB_DK_act_relu2,
                                         [LB_DEV_PRE_OAI] = LB_DK_act_oai};
    return acts[pre];
}

/* Squares are added by 128 threads at least, four at a time, then over simdgroups; the root halves
 * relative errors and has three roundings of its own, the factors one each. */
static void make_norm(const lb_mv_args *a, const float *x, const float *pre, double *to,
                      double *bound) {
    double squares = 0;
    for (u32 i = 0; i < a->n_cols; i++)
        squares += (double)x[i] * (double)x[i];
    const double f = 1 / sqrt(squares / a->n_cols + (double)a->eps);
    const double n = ((double)lb_ceil_div_u64(a->n_cols, 512) * 4 + 5 + 16) / 2 + 3 + 2;
    for (u32 i = 0; i < a->n_cols; i++) {
        to[i] = (double)x[i] * f * (double)pre[i];
        bound[i] = n * LB_SELFTEST_ULP * fabs(to[i]);
    }
}

/* mt_*: of 256 values each is a whole number of 2^-30 of the largest, or three halves that end
 * there. */
static void round_x(const lb_mv_args *a, u32 n_x, made *m) {
    for (u64 at = 0; at < (u64)n_x * a->n_cols; at += 256) {
        double most = 0;
        for (u32 i = 0; i < 256; i++)
            most = fmax(most, fabs(m->x[at + i]));
        for (u32 i = 0; i < 256; i++)
            m->bound[at + i] += 0x1p-30 * most;
    }
}

static bool make_x(lb_selftest *t, const lb_mv_args *a, u32 n_x, const float *x, made *m) {
    const u32 n = a->n_cols, stride = a->x_stride ? a->x_stride : n;
    float *out = lb_arena_new(&t->arena, float, n);
    m->x = lb_arena_new(&t->arena, double, (u64)n_x *n);
    m->bound = lb_arena_new(&t->arena, double, (u64)n_x *n);
    m->pre = lb_selftest_floats(t, n, 1);
    if (!m->x || !m->bound || !m->pre || !out)
        return false;
    for (u32 r = 0; r < n_x; r++) {
        const float *from = x + (u64)r * stride;
        double *to = m->x + (u64)r * n, *bound = m->bound + (u64)r * n;
        if (a->pre == LB_DEV_PRE_NORM)
            make_norm(a, from, m->pre, to, bound);
        else if (a->pre)
            lb_selftest_act(act_of(a->pre), n, out, from, a->gated ? from + a->second : NULL);
        for (u32 i = 0; i < n && a->pre != LB_DEV_PRE_NORM; i++) {
            to[i] = a->pre ? (double)out[i] : (double)from[i];
            bound[i] = a->pre ? lb_selftest_act_bound(act_of(a->pre), from[i], out[i]) : 0;
        }
    }
    return true;
}

/* The part of a product's size that it may be off. A product for many tokens may take a value as
 * two of 11 bits, of 2^-21 of its size what is cut off, and leaves out the product of the lower
 * ones, 2^-20 at most; where decoded values have 11 bits, it is what is cut off of x alone. Its
 * terms, three or two a column, are added in an order and with roundings (2^-23: cut off) that are
 * the matrix unit's. */
static double bound_of(const weights *w, bool mm, bool mt) {
    const lb_dtype exact[] = {LB_F16,     LB_BF16,  LB_MXFP4, LB_NVFP4, LB_F8_E4M3,
                              LB_F8_E5M2, LB_TQ1_0, LB_TQ2_0, LB_Q1_0};
    bool is_exact = false;
    for (u32 i = 0; i < LB_LEN(exact); i++)
        is_exact |= !w->mlx_bits && !w->fp_bits && w->type == exact[i];
    const double terms = (is_exact ? 2.0 : 3.0) * w->a.n_cols;
    if (!mm)
        return (mt ? few_roundings(w) : roundings(w)) * LB_SELFTEST_ULP;
    return (is_exact ? 1 : 4) * 0x1p-21 + (terms + 1) * 2 * LB_SELFTEST_ULP;
}

/* A product: with which row of x, what was there before, what came. */
typedef struct spot {
    u64 row;
    float was, y;
} spot;

/* v: a row of w, sizes: of what is added up for it; by how much the product may differ. */
static double product_of(const lb_mv_args *a, const float *v, const float *sizes, const made *m,
                         u64 row, double *off) {
    double sum = 0, size = 0;
    *off = 0;
    for (u32 c = 0; c < a->n_cols; c++) {
        const double x = (double)a->times * m->x[row * a->n_cols + c];
        sum += (double)v[c] * x;
        size += fabs((double)sizes[c] * x);
        *off += fabs((double)a->times * (double)sizes[c]) * m->bound[row * a->n_cols + c];
    }
    *off += m->sums * size;
    return sum;
}

/* An activation of a product, times its partner: as far as it moves when they do by off, which
 * becomes it. */
static double acted(const lb_mv_args *a, const double sum[2], double off[2]) {
    const lb_dev_kernel act = act_of(a->act);
    const float gate = (float)sum[0], up = (float)sum[1];
    float want;
    double most;
    lb_selftest_act(act, 1, &want, &gate, a->gated ? &up : NULL);
    most = lb_selftest_act_bound(act, gate, want) +
           (fabs((double)gate) + fabs((double)want)) * 2 * LB_SELFTEST_ULP;
    for (u32 k = 0; k < 4; k++) {
        const float g = (float)(sum[0] + (k & 1 ? off[0] : -off[0]));
        const float u = (float)(sum[1] + (k & 2 ? off[1] : -off[1]));
        float moved;
        lb_selftest_act(act, 1, &moved, &g, a->gated ? &u : NULL);
        most = fmax(most,
                    2 * fabs((double)moved - (double)want) + lb_selftest_act_bound(act, g, moved));
    }
    off[0] = most;
    return (double)want;
}

/* Row r of w, with that which makes a pair with it. */
static void compare_product(lb_selftest *t, const weights *w, const lb_mv_args *a, u64 r,
                            const made *m, spot p) {
    const u64 second = a->act && a->gated ? (u64)LB_MAX(a->n_mats, 1u) * (a->n_rows / 2) : 0;
    const float *sizes = w->size ? w->size : w->value;
    double sum[2] = {0}, off[2] = {0};
    for (u32 k = 0; k < (second ? 2 : 1); k++)
        sum[k] = product_of(a, w->value + (r + k * second) * a->n_cols,
                            sizes + (r + k * second) * a->n_cols, m, p.row, &off[k]);
    if (a->act)
        sum[0] = acted(a, sum, off);
    if (a->add) {
        sum[0] = (double)p.was + (double)a->add_times * sum[0];
        off[0] = fabs((double)a->add_times) * off[0] + 2 * LB_SELFTEST_ULP * fabs(sum[0]);
        sum[0] *= (double)a->add_scale;
        off[0] *= fabs((double)a->add_scale);
    }
    lb_selftest_compare(t, t->at++, p.y, sum[0], off[0] + LB_SELFTEST_TINY);
}

/* What x of a product may be made of, and where the product goes, in turn. */
static void vary(const lb_selftest *t, lb_mv_args *a) {
    const u32 way = t->row->n_cases + t->row->kernel;
    a->pre = way % (LB_DEV_PRE_OAI + 1);
    a->gated = a->pre == LB_DEV_PRE_OAI || (a->pre > LB_DEV_PRE_NORM && way % 3);
    a->second = a->gated ? a->n_cols + 8 : 0;
    a->x_stride = a->second + a->n_cols + way % 2 * 4;
    a->eps = 1e-5f;
    a->alpha = LB_SELFTEST_ALPHA;
    a->limit = LB_SELFTEST_LIMIT;
    a->add = way % 2;
    a->add_times = 0.5f;
    a->add_scale = 1.25f;
}

/* Of mt_*: threadgroups that share columns, where there are enough. */
static void vary_parts(const lb_selftest *t, lb_mv_args *a) {
    const u32 n_blocks = a->n_cols / LB_DEV_MT_COLS, way = t->row->n_cases + t->row->kernel;
    const bool is_long = n_blocks > LB_DEV_MT_KEEP * LB_DEV_MT_SIMDGROUPS;
    if (!a->act && a->pre != LB_DEV_PRE_NORM)
        a->parts = LB_MIN(is_long ? 2 + way % (PARTS - 1) : 1 + way % PARTS, n_blocks / a->split);
}

/* What is made of sums, in turn. */
static void vary_act(lb_mv_args *a, u32 i) {
    a->pre %= 2;
    a->act = LB_DEV_PRE_SILU + i % (LB_DEV_PRE_OAI - LB_DEV_PRE_SILU + 1);
    a->gated = a->n_rows % 2 == 0;
    if (a->act == LB_DEV_PRE_OAI && !a->gated)
        a->act = LB_DEV_PRE_SILU;
    a->second = 0;
    a->x_stride = a->n_cols + a->n_cols % 3 * 4;
}

/* A plan (kern/args.h) that is none of routes_group's: the last matrix first, its tokens backward,
 * tiles side by side. */
static u32 *make_plan(lb_selftest *t, const lb_mv_args *a, const u32 *routes, u64 *bytes) {
    const u32 n_tiles = a->n_tokens / LB_DEV_MM_TOKENS + a->n_mats + 1;
    u32 *plan = lb_arena_new(&t->arena, u32, 4ull * n_tiles + a->n_tokens), at = 0, tile = 0;
    *bytes = (4ull * n_tiles + a->n_tokens) * 4;
    for (u32 m = a->n_mats + 1; plan && m--;)
        for (u32 i = a->n_tokens, n = 0; i--;) {
            if (routes[2 * i] != m)
                continue;
            u32 *to = plan + 4 * (n % LB_DEV_MM_TOKENS ? tile - 1 : tile++);
            to[1] = n % LB_DEV_MM_TOKENS ? to[1] : at;
            to[0] = m;
            to[2] = ++n % LB_DEV_MM_TOKENS ? n % LB_DEV_MM_TOKENS : LB_DEV_MM_TOKENS;
            plan[4 * n_tiles + at++] = i;
        }
    return plan;
}

/* A product's buffers, y the last one; of mt_* there is what threadgroups leave besides, whose
 * counters are zeros before and after. */
static lb_status launch_mv(lb_selftest *t, const lb_mv_args *a, const lb_selftest_data *bufs,
                           float *y, lb_err *err) {
    const char *signature = lb_dev_kernel_signature(t->row->kernel);
    const u32 y_at = (u32)strcspn(signature, "o");
    const u64 join_bytes = lb_dev_mt_join_bytes(a->n_rows, a->n_tokens, PARTS);
    lb_selftest_data all[LB_DEV_BUFS_MAX] = {0};
    void *outs[LB_DEV_BUFS_MAX] = {0};
    memcpy(all, bufs, (y_at + 1) * sizeof *all);
    outs[y_at] = y;
    if (signature[y_at + 1] != 'o')
        return lb_selftest_launch_all(t, all, a, outs, err);
    u32 *join = (u32 *)lb_selftest_floats(t, join_bytes / 4, 1);
    if (!join)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    memset(join, 0, 4ull * LB_DEV_MT_COUNTERS);
    all[y_at + 1] = (lb_selftest_data){join, join_bytes};
    outs[y_at + 1] = join;
    LB_TRY(lb_selftest_launch_all(t, all, a, outs, err));
    for (u32 i = 0; i < LB_DEV_MT_COUNTERS; i++)
        lb_selftest_compare(t, i, (float)join[i], 0, 0);
    return LB_OK;
}

/* Products of a stack of matrices (mve_*, mte_*, mm_*), half of them of the same x, and of one
 * (mv_*, mt_*, mm_*); y's rows lie apart, what is between them is as it was. */
static lb_status check_mv(lb_selftest *t, const weights *w, bool stack, bool mm, lb_err *err) {
    const bool mt = lb_dev_kernel_needs(t->row->kernel) == LB_DEV_NEEDS_RING;
    lb_mv_args a = w->a;
    const u32 n_x = a.n_tokens;
    a.n_rows = a.n_rows / (stack ? STACK : 1);
    a.n_mats = stack ? STACK : 0;
    a.per = stack && !mt ? 2 : a.per;
    a.per_x = stack ? 2 : 0;
    a.n_tokens = stack ? 2 * n_x : n_x;
    if ((!stack || mt) && !mm)
        vary(t, &a);
    if (w->acts)
        vary_act(&a, t->row->n_cases + t->row->kernel);
    if (mt && !stack)
        vary_parts(t, &a);
    if (stack)
        a.add = 0;
    const u32 n_rows = a.act && a.gated ? a.n_rows / 2 : a.n_rows; /* of y */
    a.y_first = n_rows % 3;
    a.y_stride = n_rows + n_rows % 5 + a.y_first;
    const u64 n_out = (u64)(a.n_tokens - 1) * a.y_stride + a.y_first + n_rows;
    made m = {.sums = bound_of(w, mm, mt)};
    const u64 n_in = (u64)n_x * (a.x_stride ? a.x_stride : a.n_cols);
    float *x = lb_selftest_floats(t, n_in, 2);
    float *y = lb_selftest_floats(t, n_out, 1), *was = lb_arena_new(&t->arena, float, n_out);
    u32 *routes = lb_arena_new(&t->arena, u32, 2ull * a.n_tokens);
    if (!x || !y || !was || !routes || !make_x(t, &a, n_x, x, &m))
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    if (mt)
        round_x(&a, n_x, &m);
    memcpy(was, y, n_out * sizeof *y);
    for (u32 i = 0; i < a.n_tokens; i++)
        routes[2 * i] = lb_selftest_u32(t) % STACK;
    const bool missing = stack && a.n_tokens > 2;
    if (missing) /* a matrix that is not there */
        routes[2 * (a.n_tokens - 1)] = STACK;
    u64 plan_bytes = 0;
    const u32 *plan = mm && stack ? make_plan(t, &a, routes, &plan_bytes) : routes;
    if (!plan)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    const lb_selftest_data in = {w->rows, w->row_bytes * w->a.n_rows};
    const lb_selftest_data which = {plan, mm ? plan_bytes : a.n_tokens * 8ull};
    const lb_selftest_data out = {was, n_out * 4};
    const lb_selftest_data vectors = {x, n_in * 4}, pre = {m.pre, a.n_cols * 4ull};
    const lb_selftest_data scales = {w->scales, w->scale_bytes},
                           biases = {w->biases, w->scale_bytes};
    const lb_selftest_data bufs[3][3][7] = {
        {{in, pre, vectors, out}, {in, which, vectors, out}, {in, which, pre, vectors, out}},
        {{in, scales, biases, pre, vectors, out},
         {in, scales, biases, which, vectors, out},
         {in, scales, biases, which, pre, vectors, out}},
        {{in, scales, pre, vectors, out}, {in, scales, which, vectors, out}}};
    LB_TRY(launch_mv(t, &a, bufs[form_of(w)][stack && mt ? 2 : stack || mm ? 1 : 0], y, err));
    for (u64 i = 0; i < n_out; i++) {
        const u64 token = i / a.y_stride, at = i % a.y_stride;
        const u32 mat = stack ? routes[2 * token] : 0;
        if (at < a.y_first || at >= (u64)a.y_first + n_rows)
            lb_selftest_compare(t, i, y[i], (double)was[i], 0);
        else if (mat == STACK)
            lb_selftest_compare(t, i, y[i], NAN, 0);
        else
            compare_product(t, w, &a, (u64)mat * n_rows + at - a.y_first, &m,
                            (spot){token / (stack ? 2 : 1), was[i], y[i]});
    }
    return LB_OK;
}

static lb_status check_rows(lb_selftest *t, const weights *w, lb_err *err) {
    const lb_rows_args a = {w->a.n_rows,      w->a.n_cols,     w->a.n_tokens + 1,
                            w->a.group_elems, w->a.scale_type, w->a.scale_rows};
    const u64 n_out = (u64)a.n_tokens * a.n_cols;
    u32 *ids = lb_arena_new(&t->arena, u32, a.n_tokens);
    float *y = lb_arena_new(&t->arena, float, n_out);
    if (!ids || !y)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    for (u32 i = 0; i < a.n_tokens; i++)
        ids[i] = lb_selftest_u32(t) % a.n_rows;
    ids[0] = a.n_rows - 1;
    ids[a.n_tokens - 1] = a.n_rows; /* not there */
    const lb_selftest_data in = {w->rows, w->row_bytes * a.n_rows};
    const lb_selftest_data which = {ids, (u64)a.n_tokens * 4}, out = {NULL, n_out * 4};
    const lb_selftest_data plain[] = {in, which, out};
    const lb_selftest_data mlx[] = {
        in, {w->scales, w->scale_bytes}, {w->biases, w->scale_bytes}, which, out};
    const lb_selftest_data scaled[] = {in, {w->scales, w->scale_bytes}, which, out};
    const lb_selftest_data *bufs[] = {plain, mlx, scaled};
    LB_TRY(lb_selftest_launch(t, bufs[form_of(w)], &a, y, err));
    for (u64 i = 0; i < n_out; i++) {
        const u32 id = ids[i / a.n_cols];
        const double want =
            id < a.n_rows ? (double)w->value[(u64)id * a.n_cols + i % a.n_cols] : NAN;
        lb_selftest_compare(t, i, y[i], want, 0);
    }
    return LB_OK;
}

/* Rows as halves: the nearest halves, and zeros to the end of the last halves. */
static lb_status check_unpack(lb_selftest *t, const weights *w, bool stack, lb_err *err) {
    const u32 n_mats = stack ? STACK : 1, n_rows = w->a.n_rows / n_mats, n_cols = w->a.n_cols;
    const u32 first = lb_selftest_u32(t) % n_rows, mat = lb_selftest_u32(t) % n_mats;
    const lb_unpack_args a = {.n_rows = n_rows,
                              .n_cols = n_cols,
                              .group_elems = w->a.group_elems,
                              .scale_type = w->a.scale_type,
                              .scale_rows = w->a.scale_rows,
                              .n_mats = stack ? STACK : 0,
                              .mat = mat,
                              .first = first,
                              .n = n_rows - first,
                              .n_more = lb_selftest_u32(t) % (n_mats - mat)};
    const u32 per = (u32)lb_round_up(a.n, LB_DEV_TILE_PAD), n_lines = per * (1 + a.n_more);
    const u32 width = LB_DEV_TILE_COLS;
    const u64 bytes = lb_dev_tile_bytes(n_lines, n_cols, LB_DEV_TILE_PAD);
    u16 *halves = lb_arena_push(&t->arena, (size_t)bytes, 16);
    if (!halves)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    const lb_selftest_data in = {w->rows, w->row_bytes * w->a.n_rows}, out = {NULL, bytes};
    const lb_selftest_data scales = {w->scales, w->scale_bytes},
                           biases = {w->biases, w->scale_bytes};
    const lb_selftest_data bufs[3][4] = {{in, out}, {in, scales, biases, out}, {in, scales, out}};
    LB_TRY(lb_selftest_launch(t, bufs[form_of(w)], &a, halves, err));
    for (u32 r = 0; r < n_lines; r++)
        for (u32 c = 0; c < lb_round_up(n_cols, width); c++) {
            const u32 line = r % per;
            const float *row = w->value + ((u64)(mat + r / per) * n_rows + first + line) * n_cols;
            const u16 want = line < a.n && c < n_cols ? lb_f16_from_f32(row[c]) : 0;
            lb_selftest_compare(t, t->at++,
                                lb_f16_to_f32(halves[lb_selftest_tile_at(n_cols, r, c)]),
                                (double)lb_f16_to_f32(want), 0);
        }
    return LB_OK;
}

/* Types of kernels' names. */
static bool find_type(lb_str name, weights *w) {
    if (lb_str_starts(name, LB_STR("mlx_q"))) {
        w->mlx_bits = (u32)(name.ptr[5] - '0');
        return true;
    }
    if (lb_str_ends(name, LB_STR("_scaled"))) { /* fp4_scaled */
        w->fp_bits = (u32)(name.ptr[2] - '0');
        return true;
    }
    return lb_dtype_find(name, &w->type);
}

lb_status lb_selftest_weights(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_str name = lb_str_c(lb_dev_kernel_name(t->row->kernel));
    const bool mm = lb_str_starts(name, LB_STR("mm_")), mte = lb_str_starts(name, LB_STR("mte_")),
               mve = mte || lb_str_starts(name, LB_STR("mve_"));
    const bool tiled = lb_str_starts(name, LB_STR("mv_")),
               mt = lb_dev_kernel_needs(t->row->kernel) == LB_DEV_NEEDS_RING;
    const bool unpack = lb_str_starts(name, LB_STR("unpack_"));
    const bool product = mm || mve || tiled || mt;
    const shape *small = mm ? mm_shapes : mt ? mt_shapes : shapes;
    const u32 n_groups = 3, n_small = (u32)(mm   ? LB_LEN(mm_shapes)
                                            : mt ? LB_LEN(mt_shapes)
                                                 : LB_LEN(shapes));
    static const u32 splits[] = {1, 4, 2, 8}, mt_splits[] = {8, 4, 1, 2};
    weights w = {0};
    if (!find_type(lb_str_sub(name, mve ? 4 : product ? 3 : unpack ? 7 : 5, name.len), &w))
        return lb_fail(err, LB_E_UNSUPPORTED, "kernel %.*s: the self-test knows no such type",
                       LB_FMT(name));
    /* MLX: each shape with every size of group; then types of scales in turn. */
    const u32 n_variants = w.mlx_bits ? n_groups : w.fp_bits ? 2 : 1;
    const u32 n_cases = (n_small + tiled + t->opts->large) * n_variants, at = i / n_variants;
    const bool stack = mve || ((mm || unpack) && at % 2);
    const shape s = at < n_small             ? small[at]
                    : at == n_small && tiled ? tiles
                    : mm                     ? mm_large
                                             : large;
    const u32 block = w.mlx_bits  ? 32u << i % n_groups
                      : w.fp_bits ? 32
                                  : lb_dtype_get(w.type)->block_elems;
    const u32 unit = mt ? (w.type == LB_Q6_K && !w.mlx_bits ? 2048 : 256) : block == 1 ? 4 : block;
    w.a = (lb_mv_args){.n_rows = stack ? (s.n_rows + STACK - 1) / STACK * STACK : s.n_rows,
                       .n_cols = s.n_units * unit,
                       .n_tokens = s.n_tokens,
                       .simdgroups = mt           ? LB_DEV_MT_SIMDGROUPS
                                     : i % 3 == 1 ? 16
                                                  : 8,
                       .split = mt ? mt_splits[i % LB_LEN(mt_splits)] : splits[i % LB_LEN(splits)],
                       .times = i % 2 ? 0.75f : 1};
    if (mt && w.a.n_rows >= 40)
        w.a.per = 1 + i % 2;
    w.acts = mt && at >= MT_PLAIN && at < n_small;
    if (mte) /* each of the stack has 16 rows or more, pairs of them where there are activations */
        w.a.n_rows = STACK * LB_MAX(w.a.n_rows / STACK, w.acts ? 32u : 16u);
    if (at >= n_small)
        w.a.n_cols = at == n_small && tiled ? MV_TILE + 2 * block : mm ? 1024 : 4096;
    if (block == 1 && at == n_small && tiled)
        w.a.n_cols = MV_TILE + 20;
    while (mt && w.a.split > w.a.n_cols / LB_DEV_MT_COLS)
        w.a.split /= 2;
    if (w.mlx_bits) {
        w.a.group_elems = block;
        w.a.scale_type = i % 3 == 0 ? LB_DEV_F16 : i % 2 ? LB_DEV_BF16 : LB_DEV_F32;
    }
    *more = i + 1 < n_cases;
    (void)snprintf(t->where, sizeof t->where, "[%u,%u], %u tokens", w.a.n_rows, w.a.n_cols,
                   w.a.n_tokens);
    if (!(w.mlx_bits  ? make_mlx(t, &w, mt)
          : w.fp_bits ? make_scaled(t, &w, stack ? STACK : 1)
                      : make_blocks(t, &w, mt)))
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    add_sizes(&w);
    return product  ? check_mv(t, &w, stack, mm, err)
           : unpack ? check_unpack(t, &w, stack, err)
                    : check_rows(t, &w, err);
}
