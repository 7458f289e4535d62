/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_mxfp4.c: gpt-oss: experts in MXFP4 as OpenAI publishes them. "<name>_blocks" u8 [...,
 * rows, groups, 16]: two codes of E2M1 a byte, the first low; "<name>_scales" u8 [..., rows,
 * groups]: E8M0. That is MLX's encoding byte for byte. Source: transformers 5.24,
 * integrations/mxfp4.py (convert_moe_packed_tensors). */
#include "format/foreign_internal.h"

enum { CODES = 32 };

/* [..., rows, groups, 16] -> [..., rows, columns]; false: not of this kind. */
static bool values_shape(const lb_tensor *t, lb_shape *out) {
    u32 rank = t->shape.rank;
    if (t->dtype != LB_U8 || rank < 3 || t->shape.dim[rank - 1] != CODES / 2)
        return false;
    *out = t->shape;
    out->rank = rank - 1;
    u64 elems;
    return lb_mul_u64(t->shape.dim[rank - 2], CODES, &out->dim[rank - 2]) &&
           lb_shape_elems(out, &elems);
}

static lb_status take(lb_fgn *f, const lb_tensor *t, lb_str path) {
    const lb_tensor *scales;
    lb_shape shape;
    LB_TRY(lb_fgn_find(f, path, "_scales", &scales));
    if (!scales)
        return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s': '%.*s_scales' is missing",
                       LB_FMT(t->name), LB_FMT(path));
    if (!values_shape(t, &shape))
        return lb_fgn_misfit(f, scales, t, "the codes are not groups of 16 bytes");
    lb_shape want = t->shape;
    want.rank--;
    if (scales->dtype != LB_U8 || !lb_shape_eq(&scales->shape, &want))
        return lb_fgn_misfit(f, scales, t, "one byte for each group of codes is expected");
    const lb_tensor *parts[] = {t, scales, NULL};
    LB_TRY(lb_fgn_add(f, path, shape,
                      (lb_enc){.kind = LB_ENC_MLX_MXFP4, .bits = 4, .group_size = CODES}, parts));
    f->weight[t - f->s->tensors].name = t->name; /* under which a family's table has it */
    return LB_OK;
}

lb_status lb_fgn_mxfp4(lb_fgn *f) {
    lb_str path;
    for (u64 i = 0; i < f->s->n_tensors; i++)
        if (lb_fgn_path(&f->s->tensors[i], "_blocks", &path))
            LB_TRY(take(f, &f->s->tensors[i], path));
    return LB_OK;
}
