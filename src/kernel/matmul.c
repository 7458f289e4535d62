/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.c: see matmul.h. Rows of f16, bf16 and f32 meet activations where they lie; those of other
 * types are decoded into the scratch, a few at a time. */
#include "kernel/matmul.h"

#define ROWS_AT_ONCE 8u

static size_t up64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

lb_act_form lb_mat_act(const lb_mat *m, bool exact) {
    (void)m, (void)exact;
    return LB_ACT_F32;
}

size_t lb_act_bytes(lb_act_form form, u64 n_cols) {
    (void)form;
    return up64(n_cols * sizeof(float));
}

void lb_act_make(const lb_kernels *k, lb_act_form form, u64 n_cols, void *out, const float *in) {
    (void)k, (void)form;
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

void lb_mat_row(const lb_kernels *k, const lb_mat *m, u64 row, float *out, void *scratch) {
    decode_row(k, m, row, out, scratch);
}

/* ---- products ---- */

size_t lb_matmul_scratch_bytes(const lb_mat *m, size_t n_tokens) {
    (void)n_tokens;
    return up64((ROWS_AT_ONCE * m->n_cols + 2 * groups_of(m)) * sizeof(float));
}

u64 lb_matmul_unit(const lb_mat *m, size_t n_tokens) {
    u64 work = m->n_cols * LB_MAX((u64)n_tokens, (u64)1), rows = 65536 / LB_MAX(work, (u64)1);
    return LB_MAX(rows / ROWS_AT_ONCE, (u64)1) * ROWS_AT_ONCE;
}

void lb_matmul(const lb_kernels *k, const lb_matmul_in *in, void *scratch) {
    const lb_mat *m = in->m;
    size_t x_stride = lb_act_bytes(in->form, m->n_cols) / sizeof(float);
    const u8 *w = m->codes + in->row * m->row_bytes;
    bool as_stored = m->kind == LB_ENC_PLAIN && m->times == 1;
    if (as_stored && (m->dtype == LB_F16 || m->dtype == LB_BF16)) {
        lb_dots d = {m->n_cols, in->out_stride, m->row_bytes, x_stride};
        (m->dtype == LB_F16 ? k->dots_f16 : k->dots_bf16)(in->n_rows, in->n_tokens, in->out, w,
                                                          in->act, &d);
        return;
    }
    lb_dots d = {m->n_cols, in->out_stride, m->n_cols, x_stride};
    float *rows = scratch, *groups = rows + ROWS_AT_ONCE * m->n_cols;
    for (u64 r = 0; r < in->n_rows; r += ROWS_AT_ONCE) {
        u64 n = LB_MIN((u64)ROWS_AT_ONCE, in->n_rows - r);
        for (u64 i = 0; i < n; i++)
            decode_row(k, m, in->row + r + i, rows + i * m->n_cols, groups);
        k->dots_f32(n, in->n_tokens, in->out + r, rows, in->act, &d);
    }
}
