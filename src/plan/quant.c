/* SPDX-License-Identifier: Apache-2.0 */
/* quant.c: values to codes, by the kernels of the type. */
#include "plan/quant.h"
#include "kernel/refine.h"

u32 lb_quant_n_parts(const lb_quant *q) {
    if (q->kind == LB_QUANT_BLOCKS)
        return 1;
    return q->kind == LB_QUANT_AFFINE || (lb_quant_is_hf(q) && q->asym) ? 3 : 2;
}

u32 lb_quant_cols(const lb_quant *q) {
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        return lb_dtype_get(q->dtype)->block_elems;
    case LB_QUANT_AFFINE:
        return q->group;
    case LB_QUANT_NVFP4:
        return 16;
    case LB_QUANT_MXFP4:
    case LB_QUANT_MXFP8:
        return 32;
    default:
        return q->scope == LB_SCOPE_GROUP ? q->group : 1;
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

static lb_dtype hf_dtype(const lb_quant *q, lb_quant_part part) {
    bool is_float = q->kind == LB_QUANT_F8 || q->kind == LB_QUANT_FINE_F8;
    if (part == LB_QUANT_CODES)
        return is_float ? LB_F8_E4M3 : q->kind == LB_QUANT_I8 ? LB_I8 : LB_I32;
    return q->kind == LB_QUANT_PACKED ? LB_I32 : LB_I8;
}

lb_dtype lb_quant_part_dtype(const lb_quant *q, lb_quant_part part) {
    if (q->kind == LB_QUANT_BLOCKS)
        return q->dtype;
    if (lb_quant_is_hf(q) && part != LB_QUANT_SCALES)
        return hf_dtype(q, part);
    if (q->kind == LB_QUANT_FINE_F8)
        return LB_F32;
    if (part == LB_QUANT_CODES)
        return LB_U32;
    if (q->kind != LB_QUANT_AFFINE && !lb_quant_is_hf(q))
        return LB_U8;
    return q->round == LB_ROUND_BF16 ? LB_BF16 : q->round == LB_ROUND_F16 ? LB_F16 : LB_F32;
}

/* Of scales, and of zero points that are not packed. */
static lb_quant_ratio scope_ratio(const lb_quant *q, u64 n_rows, u64 n_cols) {
    switch (q->scope) {
    case LB_SCOPE_GROUP:
        return (lb_quant_ratio){1, q->group, 1, false};
    case LB_SCOPE_CHANNEL:
        return (lb_quant_ratio){1, n_cols, 1, false};
    case LB_SCOPE_BLOCK:
        return (lb_quant_ratio){q->band, q->group, 1, false};
    case LB_SCOPE_TENSOR:
        break;
    }
    return (lb_quant_ratio){n_rows, n_cols, 1, true};
}

lb_quant_ratio lb_quant_ratio_of(const lb_quant *q, lb_quant_part part, u64 n_rows, u64 n_cols) {
    if (!lb_quant_is_hf(q))
        return (lb_quant_ratio){1, lb_quant_cols(q), lb_quant_part_elems(q, part), false};
    lb_quant_ratio r = scope_ratio(q, n_rows, n_cols);
    u32 a_word = q->kind == LB_QUANT_PACKED ? 32 / q->bits : 1; /* codes of a word */
    if (part == LB_QUANT_CODES)                                 /* each row begins with a word */
        return n_cols % a_word ? (lb_quant_ratio){1, n_cols, lb_ceil_div_u64(n_cols, a_word), false}
                               : (lb_quant_ratio){1, a_word, 1, false};
    if (part == LB_QUANT_BIASES && a_word > 1)
        r.rows = a_word; /* words go down a column */
    return r;
}

void lb_quant_part_shape(const lb_quant *q, lb_quant_part part, u64 n_rows, u64 n_cols,
                         u64 shape[2]) {
    lb_quant_ratio r = lb_quant_ratio_of(q, part, n_rows, n_cols);
    shape[0] = lb_ceil_div_u64(n_rows, LB_MAX(r.rows, 1));
    shape[1] = lb_ceil_div_u64(n_cols, LB_MAX(r.cols, 1)) * r.elems;
}

bool lb_quant_by_row(const lb_quant *q) {
    if (lb_quant_is_hf(q))
        return q->scope == LB_SCOPE_CHANNEL;
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
    default:
        break;
    }
    LB_ASSERT(false && "of lb_quant_run_hf");
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
    default:
        break;
    }
    LB_ASSERT(false && "refused by lb_expr_quant");
}

u64 lb_quant_run(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                 u8 *const out[LB_QUANT_PARTS]) {
    float range[2] = {0, 0};
    /* a group of MLX with one of them counts as one that does not hold its values */
    u64 bad = q->kind == LB_QUANT_BLOCKS ? k->fold_range_f32(n, in, range) : 0;
    if (bad)
        return bad;
    bad = by_reference(q, k, n, col, in, out);
    const u64 odd = bad ? k->fold_range_f32(n, in, range) : 0;
    if (odd)
        return odd;
    if (q->refine)
        refine(q, k, n, col, in, out);
    return bad;
}
