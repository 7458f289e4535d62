/* SPDX-License-Identifier: Apache-2.0 */
/* quant.c: values to codes, by the kernels of the type. */
#include "plan/quant.h"
#include "kernel/refine.h"

u32 lb_quant_n_parts(const lb_quant *q) {
    return q->kind == LB_QUANT_BLOCKS ? 1 : q->kind == LB_QUANT_AFFINE ? 3 : 2;
}

u32 lb_quant_cols(const lb_quant *q) {
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        return lb_dtype_get(q->dtype)->block_elems;
    case LB_QUANT_AFFINE:
        return q->group;
    case LB_QUANT_NVFP4:
        return 16;
    default:
        return 32;
    }
}

static u32 bits_of(const lb_quant *q) {
    return q->kind == LB_QUANT_AFFINE ? q->bits : q->kind == LB_QUANT_MXFP8 ? 8 : 4;
}

u32 lb_quant_part_elems(const lb_quant *q, lb_quant_part part) {
    u32 cols = lb_quant_cols(q);
    if (q->kind == LB_QUANT_BLOCKS)
        return cols;
    return part == LB_QUANT_CODES ? cols * bits_of(q) / 32 : 1;
}

lb_dtype lb_quant_part_dtype(const lb_quant *q, lb_quant_part part) {
    if (q->kind == LB_QUANT_BLOCKS)
        return q->dtype;
    if (part == LB_QUANT_CODES)
        return LB_U32;
    if (q->kind != LB_QUANT_AFFINE)
        return LB_U8;
    return q->round == LB_ROUND_BF16 ? LB_BF16 : q->round == LB_ROUND_F16 ? LB_F16 : LB_F32;
}

bool lb_quant_by_row(const lb_quant *q) {
    return q->kind == LB_QUANT_BLOCKS && q->importance &&
           (q->dtype == LB_Q4_0 || q->dtype == LB_Q4_1 || q->dtype == LB_Q5_0 ||
            q->dtype == LB_Q5_1);
}

static lb_k_quant_mlx_q4_fn *affine(const lb_kernels *k, u32 bits) {
    switch (bits) {
    case 1:
        return k->quant_mlx_q1;
    case 2:
        return k->quant_mlx_q2;
    case 3:
        return k->quant_mlx_q3;
    case 4:
        return k->quant_mlx_q4;
    case 5:
        return k->quant_mlx_q5;
    case 6:
        return k->quant_mlx_q6;
    default:
        return k->quant_mlx_q8;
    }
}

/* As the reference has it; returns groups that do not hold what they were given. */
static u64 by_reference(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                        u8 *const out[LB_QUANT_PARTS]) {
    u64 groups = n / lb_quant_cols(q);
    u32 how = LB_QUANT_HOW(LB_ROUND_NONE, q->round, q->bits) | (q->cpu_rule ? LB_QUANT_CPU : 0);
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        lb_kernels_quant(k, q->dtype)(n, out[0], in, q->importance ? q->importance + col : NULL,
                                      q->tables);
        return 0;
    case LB_QUANT_AFFINE:
        return affine(k, q->bits)(groups, q->group, out[LB_QUANT_CODES], out[LB_QUANT_SCALES],
                                  out[LB_QUANT_BIASES], in, how);
    case LB_QUANT_MXFP4:
        return k->quant_mlx_mxfp4(groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES], in, 0, how);
    case LB_QUANT_MXFP8:
        return k->quant_mlx_mxfp8(groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES], in, 0, how);
    case LB_QUANT_NVFP4:
        return k->quant_mlx_nvfp4(groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES], in, 0, how);
    }
    return 0;
}

static void refine(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                   u8 *const out[LB_QUANT_PARTS]) {
    const float *w = q->importance ? q->importance + col : NULL;
    const lb_refine_affine_type t = {q->group, q->bits, q->round};
    u64 groups = n / lb_quant_cols(q);
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        lb_refine_blocks(k, q->dtype, n, out[0], in, w);
        return;
    case LB_QUANT_AFFINE:
        lb_refine_affine(&t, groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES],
                         out[LB_QUANT_BIASES], in, w);
        return;
    case LB_QUANT_MXFP4:
        lb_refine_fp_groups(k, LB_REFINE_MXFP4, groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES],
                            in, w);
        return;
    case LB_QUANT_MXFP8:
        lb_refine_fp_groups(k, LB_REFINE_MXFP8, groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES],
                            in, w);
        return;
    case LB_QUANT_NVFP4:
        lb_refine_fp_groups(k, LB_REFINE_NVFP4, groups, out[LB_QUANT_CODES], out[LB_QUANT_SCALES],
                            in, w);
        return;
    }
}

u64 lb_quant_run(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                 u8 *const out[LB_QUANT_PARTS]) {
    float range[2] = {0, 0};
    u64 bad = k->fold_range_f32(n, in, range);
    if (bad)
        return bad;
    bad = by_reference(q, k, n, col, in, out);
    if (q->refine)
        refine(q, k, n, col, in, out);
    return bad;
}
