/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c: quantizes, decodes and compares a strip, one quantizer after the other. */
#include "plan/measure.h"

static u64 align16(u64 n) {
    return (n + 15) & ~(u64)15;
}

u64 lb_quant_part_bytes(const lb_quant *q, lb_quant_part part, u64 n) {
    u64 bytes = 0, elems = n / lb_quant_cols(q) * lb_quant_part_elems(q, part);
    bool ok = lb_dtype_bytes(lb_quant_part_dtype(q, part), elems, &bytes);
    LB_ASSERT(ok && n % lb_quant_cols(q) == 0);
    return bytes;
}

static lb_k_decode_f32_mlx_q4_fn *affine(const lb_kernels *k, u32 bits) {
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
    default:
        return k->decode_f32_mlx_q8;
    }
}

void lb_quant_decode(const lb_quant *q, const lb_kernels *k, u64 n, float *out,
                     const u8 *const part[LB_QUANT_PARTS], float *scratch) {
    u64 cols = lb_quant_cols(q), groups = n / cols;
    float *scale = scratch, *bias = scratch + groups;
    lb_decode_fn *floats = lb_kernels_decode(k, lb_quant_part_dtype(q, LB_QUANT_SCALES));
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        lb_kernels_decode(k, q->dtype)(n, out, part[LB_QUANT_CODES]);
        return;
    case LB_QUANT_AFFINE:
        floats(groups, scale, part[LB_QUANT_SCALES]);
        floats(groups, bias, part[LB_QUANT_BIASES]);
        affine(k, q->bits)(groups, cols, out, part[LB_QUANT_CODES], scale, bias,
                           LB_MLX_ROUND(q->round, q->round));
        return;
    case LB_QUANT_MXFP4:
        k->decode_f32_mlx_e8m0(groups, scale, part[LB_QUANT_SCALES]);
        k->decode_f32_mlx_fp4(groups, cols, out, part[LB_QUANT_CODES], scale);
        return;
    case LB_QUANT_MXFP8:
        k->decode_f32_mlx_e8m0(groups, scale, part[LB_QUANT_SCALES]);
        k->decode_f32_mlx_fp8(groups, cols, out, part[LB_QUANT_CODES], scale);
        return;
    case LB_QUANT_NVFP4:
        k->decode_f32_f8_e4m3(groups, scale, part[LB_QUANT_SCALES]);
        k->decode_f32_mlx_fp4(groups, cols, out, part[LB_QUANT_CODES], scale);
        return;
    default:
        break;
    }
    LB_ASSERT(false && "refused by lb_expr_measure");
}

/* Scratch: the decoded values, the weighted ones, scales and biases, the parts. */
static u64 scratch_elems(const lb_quant *q, u64 n) {
    u64 elems = 2 * align16(n) + align16(2 * (n / lb_quant_cols(q)));
    for (u32 k = 0; k < lb_quant_n_parts(q); k++)
        elems += align16(lb_quant_part_bytes(q, (lb_quant_part)k, n) / sizeof(float) + 1);
    return elems;
}

u64 lb_measure_scratch_elems(const lb_measure *m, u64 n_elems) {
    u64 most = 0;
    for (u32 i = 0; i < m->n; i++) {
        u64 cols = lb_quant_cols(m->quants[i]), n = lb_ceil_div_u64(n_elems, cols) * cols;
        u64 elems = scratch_elems(m->quants[i], n);
        most = LB_MAX(most, elems);
    }
    return most;
}

/* n_rows rows from `values` on, whose sums go to leaf. */
static u64 run_rows(const lb_measure *m, u32 i, const lb_kernels *k, const lb_measure_area *a) {
    const lb_quant *q = m->quants[i];
    u64 n = a->n_rows * a->n_cols;
    float *decoded = a->scratch, *weighted = decoded + align16(n), *scales = weighted + align16(n);
    u8 *part[LB_QUANT_PARTS];
    float *at = scales + align16(2 * (n / lb_quant_cols(q)));
    for (u32 p = 0; p < lb_quant_n_parts(q); p++) {
        part[p] = (u8 *)(void *)at;
        at += align16(lb_quant_part_bytes(q, (lb_quant_part)p, n) / sizeof(float) + 1);
    }
    u64 bad = lb_quant_run(q, k, n, a->col, a->values, part);
    if (bad)
        return bad;
    lb_quant_decode(q, k, n, decoded, (const u8 *const *)part, scales);
    k->map_sub_f32(n, decoded, decoded, a->values);
    for (u64 r = 0; r < a->n_rows; r++)
        for (u64 c = 0, j = 0; c < a->n_cols; c += LB_FOLD_LEAF, j++) {
            u64 len = LB_MIN(a->n_cols - c, LB_FOLD_LEAF);
            const float *d = decoded + r * a->n_cols + c, *w = d;
            if (m->importance) {
                k->map_mul_f32(len, weighted, d, m->importance + a->col + c);
                w = weighted;
            }
            a->leaf[r * a->row_leaves + j] = k->fold_dot_f32(len, d, w);
        }
    return 0;
}

u64 lb_measure_run(const lb_measure *m, const lb_kernels *k, const lb_measure_area *a) {
    u64 bad = 0;
    for (u32 i = 0; i < m->n && !bad; i++) {
        u64 step = m->quants[i]->importance ? 1 : a->n_rows; /* importance is of one row */
        for (u64 r = 0; r < a->n_rows; r += step) {
            lb_measure_area rows = *a;
            rows.n_rows = step;
            rows.values = a->values + r * a->n_cols;
            rows.leaf = a->leaf + i * a->quant_leaves + r * a->row_leaves;
            bad += run_rows(m, i, k, &rows);
        }
    }
    return bad;
}

void lb_measure_add(lb_measure *m, const double *leaf, u64 n) {
    for (u32 i = 0; i < m->n; i++)
        for (u64 j = 0; j < n; j++)
            m->error[i] += leaf[i * n + j];
}
