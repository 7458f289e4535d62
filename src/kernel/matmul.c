/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.c: see matmul.h. Rows of f16 and bf16 meet activations where they lie. Quantized ones
 * become codes (q8.h) that meet activations of eight bits: one row at a time for few tokens, panels
 * of 16 for many, with the same result. The rest is decoded to f32, a few rows at a time. */
#include "kernel/matmul.h"
#include "kernel/act_ggml.h"
#include "kernel/half.h"
#include "kernel/q8.h"

#define ROWS_AT_ONCE 12u /* whole tiles of dots_tmpl.h */
#define ROWS_OF_PANEL ((u64)LB_Q8_LANES)
/* From so many tokens on, rows are made panels. */
#define PANEL_TOKENS 6u
/* Of panels that one thread makes before it goes through the tokens: half of an L2 of 1 MiB. */
#define PANELS_BYTES ((u64)512 << 10)

/* ---- types that are multiplied as codes ---- */

/* 0: none. */
static u32 q8_block_type(lb_dtype t) {
    switch (t) {
#define LB_Q8_UNITS(id, name, elems, bytes, type) \
    case LB_##id:                                 \
        return (type) | LB_Q8_USED;
#include "kernel/q8_types.def"
    default:
        return 0;
    }
}

static u32 q8_type(const lb_mat *m) {
    switch (m->kind) {
    case LB_ENC_PLAIN:
        return q8_block_type(m->dtype);
    case LB_ENC_MLX_AFFINE:
        return LB_Q8_TYPE(LB_Q8_MIN | (m->bits == 8 ? LB_Q8_WIDE : 0), LB_Q8_NO_OFF) | LB_Q8_USED;
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_NVFP4:
        if (m->group != 16 && m->group % 32 != 0)
            return 0;
        return LB_Q8_TYPE(m->group == 16 ? LB_Q8_HALVES : 0, 4) | LB_Q8_USED;
    default:
        return 0;
    }
}

lb_act_form lb_mat_act(const lb_mat *m, lb_act_mode mode) {
    if (mode == LB_ACTS_GGML && m->kind == LB_ENC_PLAIN)
        return lb_act_ggml_form(m->dtype);
    if (mode == LB_ACTS_GGML || mode == LB_ACTS_EXACT || !q8_type(m))
        return LB_ACT_F32;
    return mode == LB_ACTS_FAST ? LB_ACT_Q8 : LB_ACT_Q16;
}

bool lb_act_used(lb_act_form form, lb_act_mode mode) {
    switch (form) {
    case LB_ACT_F32:
        return true;
    case LB_ACT_Q8:
        return mode == LB_ACTS_FAST;
    case LB_ACT_Q16:
        return mode == LB_ACTS_AUTO;
    default:
        return mode == LB_ACTS_GGML;
    }
}

/* Of a row, and of an activation. */
static u64 floats_of(lb_act_form form, u64 n_cols) {
    return n_cols + (form == LB_ACT_GGML_Q8_1 ? (n_cols + 31) / 32 : 0);
}

size_t lb_act_bytes(lb_act_form form, u64 n_cols) {
    size_t q8 = lb_q8_chunks(n_cols) * sizeof(lb_q8_act);
    return form == LB_ACT_Q16  ? 2 * q8
           : form == LB_ACT_Q8 ? q8
                               : lb_round_up(floats_of(form, n_cols) * sizeof(float), 64);
}

void lb_act_make(const lb_kernels *k, lb_act_form form, u64 n_cols, void *out, const float *in) {
    if (form == LB_ACT_Q8)
        k->act_q8(n_cols, out, in);
    else if (form == LB_ACT_Q16)
        k->act_q16(n_cols, out, in);
    else if (form != LB_ACT_F32)
        lb_act_ggml(form, n_cols, out, in);
    else
        memcpy(out, in, n_cols * sizeof(float));
}

/* ---- rows as values ---- */

typedef void(mlx_fn)(size_t n_groups, size_t group_elems, float *out, const void *codes,
                     const float *scale, const float *bias, u32 round);

static mlx_fn *mlx_of(const lb_kernels *k, u32 bits) {
    switch (bits) {
    case 1:
        return k->decode_f32_mlx_q1;
    case 2:
        return k->decode_f32_mlx_q2;
    case 3:
        return k->decode_f32_mlx_q3;
    case 4:
        return k->decode_f32_mlx_q4;
    case 5:
        return k->decode_f32_mlx_q5;
    case 6:
        return k->decode_f32_mlx_q6;
    case 8:
        return k->decode_f32_mlx_q8;
    default:
        return NULL;
    }
}

static u64 groups_of(const lb_mat *m) {
    return m->group ? (m->n_cols + m->group - 1) / m->group : 1;
}

lb_status lb_mat_check(const lb_mat *m, lb_err *err) {
    lb_dtype_class cls = lb_dtype_get(m->dtype)->cls;
    u64 bytes;
    switch (m->kind) {
    case LB_ENC_PLAIN:
        if ((cls == LB_CLASS_FLOAT || cls == LB_CLASS_BLOCK) && m->dtype != LB_F64 &&
            lb_dtype_bytes(m->dtype, m->n_cols, &bytes))
            return LB_OK;
        break;
    case LB_ENC_MLX_AFFINE:
        if ((m->group == 32 || m->group == 64 || m->group == 128) && m->n_cols % m->group == 0 &&
            m->bits >= 1 && m->bits <= 8 && m->bits != 7)
            return LB_OK;
        break;
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_MXFP8:
    case LB_ENC_MLX_NVFP4:
        if (m->group && m->n_cols % m->group == 0)
            return LB_OK;
        break;
    case LB_ENC_FP8:
        if (m->dtype == LB_F8_E4M3)
            return LB_OK;
        break;
    default:
        break;
    }
    return lb_fail(err, LB_E_UNSUPPORTED, "no kernel multiplies rows of %llu of this type (%s)",
                   (unsigned long long)m->n_cols, lb_dtype_get(m->dtype)->name);
}

/* scratch: two floats for each group. */
static void decode_row(const lb_kernels *k, const lb_mat *m, u64 row, float *out, float *scratch) {
    const u8 *codes = m->codes + row * m->row_bytes;
    u64 n = groups_of(m),
        at = m->kind == LB_ENC_FP8 ? (m->block_rows ? row / m->block_rows : 0) : row;
    const u8 *scale = m->scale ? m->scale + at * m->scale_bytes : NULL;
    switch (m->kind) {
    case LB_ENC_MLX_AFFINE: {
        lb_decode_fn *d = lb_kernels_decode(k, m->scale_dtype);
        u32 round = LB_MLX_ROUND(LB_ROUND_NONE, LB_ROUND_NONE);
        d(n, scratch, scale);
        d(n, scratch + n, m->bias + at * m->scale_bytes);
        mlx_of(k, m->bits)(n, m->group, out, codes, scratch, scratch + n, round);
        break;
    }
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_MXFP8:
        k->decode_f32_mlx_e8m0(n, scratch, scale);
        (m->kind == LB_ENC_MLX_MXFP4 ? k->decode_f32_mlx_fp4
                                     : k->decode_f32_mlx_fp8)(n, m->group, out, codes, scratch);
        break;
    case LB_ENC_MLX_NVFP4:
        k->decode_f32_f8_e4m3(n, scratch, scale);
        k->decode_f32_mlx_fp4(n, m->group, out, codes, scratch);
        break;
    case LB_ENC_FP8:
        k->decode_f32_f8_e4m3(m->n_cols, out, codes);
        lb_kernels_decode(k, m->scale_dtype)(n, scratch, scale);
        for (u64 g = 0; g < n; g++) {
            u64 from = g * m->group,
                len = m->group ? LB_MIN((u64)m->group, m->n_cols - from) : m->n_cols;
            k->map_mulc_f32(len, out + from, out + from, scratch[g]);
        }
        break;
    default:
        lb_kernels_decode(k, m->dtype)(m->n_cols, out, codes);
    }
    if (m->times != 1)
        k->map_mulc_f32(m->n_cols, out, out, m->times);
}

/* Of Q4_1 and Q5_1: the second number of each block. */
static void minima_row(const lb_mat *m, u64 row, float *out) {
    const lb_dtype_info *t = lb_dtype_get(m->dtype);
    const u8 *block = m->codes + row * m->row_bytes;
    for (u64 i = 0; i < m->n_cols / t->block_elems; i++, block += t->block_bytes)
        out[i] = lb_f16_to_f32(lb_load_u16(block + 2)) * m->times;
}

void lb_mat_row(const lb_kernels *k, const lb_mat *m, u64 row, float *out, void *scratch) {
    decode_row(k, m, row, out, scratch);
}

/* ---- rows as codes ---- */

typedef void(block_codes_fn)(size_t n_elems, void *out, const void *in);
typedef void(mlx_codes_fn)(size_t n_elems, size_t group_elems, void *out, const void *in,
                           const float *scale, const float *bias);

static block_codes_fn *codes_of(const lb_kernels *k, lb_dtype t) {
    switch (t) {
#define LB_Q8_UNITS(id, name, elems, bytes, type) \
    case LB_##id:                                 \
        return k->codes_##name;
#include "kernel/q8_types.def"
    default:
        return NULL;
    }
}

static mlx_codes_fn *mlx_codes_of(const lb_kernels *k, u32 bits) {
    switch (bits) {
    case 1:
        return k->codes_mlx_q1;
    case 2:
        return k->codes_mlx_q2;
    case 3:
        return k->codes_mlx_q3;
    case 4:
        return k->codes_mlx_q4;
    case 5:
        return k->codes_mlx_q5;
    case 6:
        return k->codes_mlx_q6;
    default:
        return k->codes_mlx_q8;
    }
}

/* groups: two floats each. */
static void codes_row(const lb_kernels *k, const lb_mat *m, u64 row, lb_q8_row *out,
                      float *groups) {
    const u8 *codes = m->codes + row * m->row_bytes;
    const u8 *scale = m->scale ? m->scale + row * m->scale_bytes : NULL;
    u64 n = groups_of(m);
    switch (m->kind) {
    case LB_ENC_MLX_AFFINE: {
        lb_decode_fn *d = lb_kernels_decode(k, m->scale_dtype);
        d(n, groups, scale);
        d(n, groups + n, m->bias + row * m->scale_bytes);
        mlx_codes_of(k, m->bits)(m->n_cols, m->group, out, codes, groups, groups + n);
        return;
    }
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_NVFP4:
        if (m->kind == LB_ENC_MLX_MXFP4)
            k->decode_f32_mlx_e8m0(n, groups, scale);
        else
            k->decode_f32_f8_e4m3(n, groups, scale);
        k->codes_mlx_fp4(m->n_cols, m->group, out, codes, groups, NULL);
        return;
    default:
        codes_of(k, m->dtype)(m->n_cols, out, codes);
    }
}

/* ---- rows as they are stored ---- */

typedef void(rows_fn)(const lb_q8_shape *shape, float *out, const lb_q8_rows *rows,
                      const void *act);

static rows_fn *mlx_rows_of(const lb_kernels *k, const lb_mat *m, bool single) {
    if (m->kind == LB_ENC_MLX_MXFP4 || m->kind == LB_ENC_MLX_NVFP4)
        return single && m->group == (m->kind == LB_ENC_MLX_NVFP4 ? 16 : 32) ? k->rows_mlx_fp4
                                                                             : NULL;
    if (m->kind != LB_ENC_MLX_AFFINE ||
        (m->scale_dtype != LB_F32 && m->scale_dtype != LB_F16 && m->scale_dtype != LB_BF16))
        return NULL;
    switch (m->bits) {
    case 1:
        return single ? k->rows_mlx_q1 : NULL;
    case 2:
        return single ? k->rows_mlx_q2 : NULL;
    case 3:
        return single ? k->rows_mlx_q3 : NULL;
    case 4:
        return k->rows_mlx_q4;
    case 5:
        return single ? k->rows_mlx_q5 : NULL;
    case 6:
        return single ? k->rows_mlx_q6 : NULL;
    default:
        return k->rows_mlx_q8;
    }
}

/* NULL: they become codes first. single: the product is of one token. */
static rows_fn *rows_of(const lb_kernels *k, const lb_mat *m, bool single) {
    if (m->kind != LB_ENC_PLAIN)
        return mlx_rows_of(k, m, single);
    switch (m->dtype) {
#define LB_Q8_UNITS(id, name, elems, bytes, type) \
    case LB_##id:                                 \
        return k->rows_##name;
#define LB_Q8_SINGLE(id, name, elems, bytes, type) \
    case LB_##id:                                  \
        return single ? k->rows_##name : NULL;
#include "kernel/q8_types.def"
    default:
        return NULL;
    }
}

/* ---- products ---- */

static u64 panel_rows(const lb_mat *m, u32 type) {
    u64 n = PANELS_BYTES / lb_q8_panel_bytes(type, m->n_cols);
    return LB_MIN(LB_MAX(n, (u64)1), (u64)16) * ROWS_OF_PANEL;
}

static size_t groups_bytes(const lb_mat *m) {
    return lb_round_up(2 * groups_of(m) * sizeof(float), 64);
}

static size_t values_bytes(const lb_mat *m) {
    return lb_round_up((ROWS_AT_ONCE * floats_of(LB_ACT_GGML_Q8_1, m->n_cols) + 2 * groups_of(m)) *
                           sizeof(float),
                       64);
}

size_t lb_matmul_scratch_bytes(const lb_mat *m, size_t n_tokens) {
    const size_t values = values_bytes(m) + (n_tokens > LB_DOTS_SOME ? LB_DOTS_SCRATCH : 0);
    const u32 type = q8_type(m);
    if (!type)
        return values;
    size_t n = groups_bytes(m) + ROWS_OF_PANEL * lb_q8_chunks(m->n_cols) * sizeof(lb_q8_row);
    if (n_tokens >= PANEL_TOKENS)
        n += panel_rows(m, type) / ROWS_OF_PANEL * lb_q8_panel_bytes(type, m->n_cols) +
             LB_MAX(lb_q8_tile_bytes(m->n_cols), lb_q8_chunks(m->n_cols) * sizeof(lb_q8_row));
    return LB_MAX(lb_round_up(n, 64), values);
}

u64 lb_matmul_unit(const lb_mat *m, size_t n_tokens) {
    const u32 type = q8_type(m);
    if (type && n_tokens >= PANEL_TOKENS)
        return LB_MIN(panel_rows(m, type), (u64)64);
    if (n_tokens > LB_DOTS_SOME)
        return m->n_rows >= 16 * LB_DOTS_ROWS ? LB_DOTS_ROWS : LB_DOTS_ROWS / 2;
    u64 work = m->n_cols * LB_MAX((u64)n_tokens, (u64)1), rows = 65536 / LB_MAX(work, (u64)1);
    return LB_MAX(rows / ROWS_AT_ONCE, (u64)1) * ROWS_AT_ONCE;
}

/* times: of the whole tensor, after the sum. */
static void scale_out(const lb_kernels *k, const lb_matmul_in *in) {
    for (size_t t = 0; in->m->times != 1 && t < in->n_tokens; t++) {
        float *out = in->out + t * in->out_stride;
        k->map_mulc_f32(in->n_rows, out, out, in->m->times);
    }
}

static void matmul_q8(const lb_kernels *k, const lb_matmul_in *in, u8 *scratch) {
    const lb_mat *m = in->m;
    const u32 type = q8_type(m) & ~LB_Q8_USED;
    const size_t chunks = lb_q8_chunks(m->n_cols);
    float *groups = (float *)(void *)scratch;
    lb_q8_row *rows = (lb_q8_row *)(void *)(scratch + groups_bytes(m));
    lb_q8_shape shape = {.n_rows = 1,
                         .n_cols = m->n_cols,
                         .n_tokens = in->n_tokens,
                         .out_stride = in->out_stride,
                         .type = type,
                         .act_stride = (in->form == LB_ACT_Q16 ? 2 : 1) * chunks};
    rows_fn *stored = rows_of(k, m, in->n_tokens == 1);
    if (in->n_tokens < PANEL_TOKENS && stored) {
        const lb_q8_rows at = {.codes = m->codes + in->row * m->row_bytes,
                               .row_bytes = m->row_bytes,
                               .scale = m->scale ? m->scale + in->row * m->scale_bytes : NULL,
                               .bias = m->bias ? m->bias + in->row * m->scale_bytes : NULL,
                               .scale_bytes = m->scale_bytes,
                               .group = m->group,
                               .scale_dtype = m->scale_dtype};
        shape.n_rows = in->n_rows;
        stored(&shape, in->out, &at, in->act);
        return;
    }
    if (in->n_tokens < PANEL_TOKENS) {
        for (u64 r = 0; r < in->n_rows; r++) {
            codes_row(k, m, in->row + r, rows, groups);
            k->dots_q8(&shape, in->out + r, rows, in->act);
        }
        return;
    }
    const size_t panel_bytes = lb_q8_panel_bytes(type, m->n_cols);
    const u64 step = panel_rows(m, type);
    u8 *panels = (u8 *)(void *)(rows + ROWS_OF_PANEL * chunks);
    u8 *tile = panels + step / ROWS_OF_PANEL * panel_bytes;
    for (u64 r = 0; r < in->n_rows; r += step) {
        const u64 n = LB_MIN(step, in->n_rows - r);
        for (u64 p = 0; p < n; p += ROWS_OF_PANEL) {
            const u64 np = LB_MIN(ROWS_OF_PANEL, n - p);
            for (u64 i = 0; i < np; i++)
                codes_row(k, m, in->row + r + p + i, rows + i * chunks, groups);
            k->panel_q8(np, m->n_cols, panels + p / ROWS_OF_PANEL * panel_bytes, type, rows);
        }
        shape.n_rows = n;
        k->gemm_q8(&shape, in->out + r, panels, in->act, tile);
    }
}

/* Floats that dots_<type> reads where they lie. */
static bool as_stored(const lb_mat *m) {
    if (m->kind != LB_ENC_PLAIN || m->times != 1)
        return false;
    return m->dtype == LB_F16 || m->dtype == LB_BF16 ||
           (m->dtype == LB_F32 && m->row_bytes % 4 == 0 && (uintptr_t)m->codes % 4 == 0);
}

static void matmul_stored(const lb_kernels *k, const lb_matmul_in *in, lb_dots *d) {
    const lb_mat *m = in->m;
    const u8 *w = m->codes + in->row * m->row_bytes;
    d->w_stride = m->row_bytes;
    if (m->dtype == LB_F16) {
        k->dots_f16(in->n_rows, in->n_tokens, in->out, w, in->act, d);
    } else if (m->dtype == LB_BF16) {
        k->dots_bf16(in->n_rows, in->n_tokens, in->out, w, in->act, d);
    } else {
        d->w_stride /= sizeof(float);
        k->dots_f32(in->n_rows, in->n_tokens, in->out, (const float *)(const void *)w, in->act, d);
    }
}

void lb_matmul(const lb_kernels *k, const lb_matmul_in *in, void *scratch) {
    const lb_mat *m = in->m;
    if (in->form == LB_ACT_Q8 || in->form == LB_ACT_Q16) {
        matmul_q8(k, in, scratch);
        scale_out(k, in);
        return;
    }
    const u64 n_cols = floats_of(in->form, m->n_cols);
    lb_dots d = {.n_cols = n_cols,
                 .out_stride = in->out_stride,
                 .w_stride = n_cols,
                 .x_stride = lb_act_bytes(in->form, m->n_cols) / sizeof(float),
                 .scratch = (u8 *)scratch + values_bytes(m)};
    if (as_stored(m)) {
        matmul_stored(k, in, &d);
        return;
    }
    float *rows = scratch, *groups = rows + ROWS_AT_ONCE * n_cols;
    for (u64 r = 0; r < in->n_rows; r += ROWS_AT_ONCE) {
        u64 n = LB_MIN((u64)ROWS_AT_ONCE, in->n_rows - r);
        for (u64 i = 0; i < n; i++) {
            decode_row(k, m, in->row + r + i, rows + i * n_cols, groups);
            if (n_cols != m->n_cols)
                minima_row(m, in->row + r + i, rows + i * n_cols + m->n_cols);
        }
        k->dots_f32(n, in->n_tokens, in->out + r, rows, in->act, &d);
    }
}
