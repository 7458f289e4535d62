/* SPDX-License-Identifier: Apache-2.0 */
/* slice.c: see slice.h. */
#include "model/slice.h"

lb_span lb_span_of_rank(u64 all, u64 unit, u32 rank, u32 n_ranks) {
    const u64 units = all / unit;
    const u64 from = units * rank / n_ranks * unit, end = units * (rank + 1ull) / n_ranks * unit;
    return (lb_span){from, end - from};
}

u64 lb_mat_col_unit(const lb_mat *m) {
    return m->kind == LB_ENC_PLAIN ? lb_dtype_get(m->dtype)->block_elems
           : m->group              ? LB_MAX(m->group, 32u)
                                   : 32;
}

u64 lb_mat_row_unit(const lb_mat *m) {
    return m->kind == LB_ENC_FP8 && m->block_rows ? m->block_rows : 1;
}

lb_mat lb_mat_cols(const lb_mat *m, lb_span cols) {
    lb_mat out = *m;
    const u64 groups = m->group ? cols.from / m->group : 0;
    const u32 scale = m->kind == LB_ENC_MLX_AFFINE || m->kind == LB_ENC_FP8
                          ? lb_dtype_get(m->scale_dtype)->block_bytes
                          : 1;
    const u32 bits = m->kind == LB_ENC_MLX_AFFINE                                 ? m->bits
                     : m->kind == LB_ENC_MLX_MXFP4 || m->kind == LB_ENC_MLX_NVFP4 ? 4
                                                                                  : 8;
    out.n_cols = cols.n;
    if (m->kind == LB_ENC_PLAIN) {
        const lb_dtype_info *t = lb_dtype_get(m->dtype);
        out.codes += cols.from / t->block_elems * t->block_bytes;
        return out;
    }
    out.codes += cols.from / 8 * bits;
    out.scale = m->scale ? m->scale + groups * scale : NULL;
    out.bias = m->bias ? m->bias + groups * scale : NULL;
    return out;
}
