/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_fp8.c: quant_method "fp8" (DeepSeek, Qwen and others): a weight in 8-bit floats and
 * scales of blocks, rows or the whole matrix. value = weight * scale in f32: transformers 5.24.0
 * integrations/finegrained_fp8.py Fp8Dequantize; blocks that the matrix cuts (which transformers
 * refuses) as in DeepSeek-V3's weight_dequant. */
#include "format/foreign_internal.h"

#define BLOCK_UNSAID 128

typedef struct fp8 {
    u32 block[2];
    bool unsaid; /* the config has no key for blocks */
} fp8;

/* [rows, columns] of a block; {0, 0}: the config says none. */
static lb_status block_size(lb_fgn *f, u32 out[2]) {
    const lb_json *v = lb_json_get(f->config, "weight_block_size");
    u64 n[2] = {0, 0};
    if (v && v->type != LB_JNULL) {
        if (v->type != LB_JARRAY || v->n != 2 || !lb_json_as_u64(v->first, &n[0]) ||
            !lb_json_as_u64(v->last, &n[1]) || n[0] - 1 >= 65536 || n[1] - 1 >= 65536)
            return lb_fail(f->err, LB_E_FORMAT,
                           "quantization_config: weight_block_size is not two sizes");
    }
    out[0] = (u32)n[0];
    out[1] = (u32)n[1];
    return LB_OK;
}

/* Where the config says none, transformers has blocks of 128 x 128; "mxfp8" is of rows of 32. */
static lb_status parse(lb_fgn *f, fp8 *x) {
    const lb_json *v = lb_json_get(f->config, "weight_block_size");
    LB_TRY(block_size(f, x->block));
    if (!x->block[0] && lb_str_eq_c(f->method, "mxfp8"))
        x->block[0] = 1, x->block[1] = 32;
    x->unsaid = !v && !x->block[0] && lb_str_eq_c(f->method, "fp8");
    return LB_OK;
}

static bool is_scale(lb_dtype t) {
    return lb_fgn_is_float(t) || t == LB_F8_E8M0 || t == LB_U8;
}

static lb_status add(lb_fgn *f, const lb_tensor *t, lb_str path, const fp8 *x) {
    const lb_tensor *scale, *other;
    lb_enc enc = {.kind = LB_ENC_FP8, .bits = 8};
    LB_TRY(lb_fgn_find(f, path, ".weight_scale_inv", &scale));
    LB_TRY(lb_fgn_find(f, path, ".weight_scale", &other));
    if (scale && other)
        return lb_fgn_misfit(f, other, t, "there is weight_scale_inv as well");
    scale = scale ? scale : other;
    if (!scale)
        return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s' (%s) has no weight_scale_inv beside it",
                       LB_FMT(t->name), lb_dtype_get(t->dtype)->name);
    if (!is_scale(scale->dtype))
        return lb_fgn_misfit(f, scale, t, "scales must be floats or powers of two");
    if (t->shape.rank != 2)
        return lb_fgn_misfit(f, scale, t, "expected a matrix");
    u64 rows = t->shape.dim[0], cols = t->shape.dim[1];
    if (x->block[0]) {
        enc.block_rows = x->block[0];
        enc.group_size = x->block[1];
    } else if (scale->n_elems != 1) {
        enc.block_rows = 1;
    }
    if (x->unsaid && !lb_fgn_fits(scale, &enc, rows, cols))
        enc.block_rows = enc.group_size = BLOCK_UNSAID;
    if (!lb_fgn_fits(scale, &enc, rows, cols))
        return lb_fgn_misfit(f, scale, t,
                             x->block[0] ? "not one scale for each block of the config"
                                         : "neither one scale nor one for each row");
    return lb_fgn_add(f, path, t->shape, enc, (const lb_tensor *[]){t, scale, NULL});
}

/* Whether a scale has a grid for each matrix of a stack: [matrices, blocks, blocks], or where one
 * scale is for the whole matrix also [matrices]. */
static bool fits_stack(const lb_tensor *scale, const lb_enc *enc, const lb_shape *w) {
    u64 rows = enc->block_rows ? lb_ceil_div_u64(w->dim[1], enc->block_rows) : 1;
    u64 cols = enc->group_size ? lb_ceil_div_u64(w->dim[2], enc->group_size) : 1;
    const lb_shape *s = &scale->shape;
    if (s->rank == 1 && rows == 1 && cols == 1)
        return s->dim[0] == w->dim[0];
    return s->rank == 3 && s->dim[0] == w->dim[0] && s->dim[1] == rows && s->dim[2] == cols;
}

/* Experts in one tensor, as transformers holds them (FP8Experts): "<name>" [experts, outputs,
 * inputs] and "<name>_scale_inv". */
static lb_status add_stack(lb_fgn *f, const lb_tensor *t, const fp8 *x) {
    const lb_tensor *scale;
    lb_enc enc = {
        .kind = LB_ENC_FP8, .bits = 8, .block_rows = x->block[0], .group_size = x->block[1]};
    LB_TRY(lb_fgn_need(f, t->name, "_scale_inv", &scale));
    if (!is_scale(scale->dtype))
        return lb_fgn_misfit(f, scale, t, "scales must be floats or powers of two");
    if (t->shape.rank != 3)
        return lb_fgn_misfit(f, scale, t, "expected a matrix for each expert");
    if (x->unsaid && !fits_stack(scale, &enc, &t->shape))
        enc.block_rows = enc.group_size = BLOCK_UNSAID;
    if (!fits_stack(scale, &enc, &t->shape))
        return lb_fgn_misfit(f, scale, t,
                             x->block[0] ? "not one scale for each block of the config"
                                         : "not one scale for each matrix");
    LB_TRY(lb_fgn_add(f, t->name, t->shape, enc, (const lb_tensor *[]){t, scale, NULL}));
    f->weight[t - f->s->tensors].name = t->name;
    return LB_OK;
}

static lb_status add_all(lb_fgn *f, const fp8 *x) {
    lb_str path;
    for (u64 i = 0; i < f->s->n_tensors; i++) {
        const lb_tensor *t = &f->s->tensors[i];
        if (lb_fgn_is_f8(t->dtype) && lb_fgn_path(t, ".weight", &path))
            LB_TRY(add(f, t, path, x));
        else if (lb_fgn_is_f8(t->dtype))
            LB_TRY(add_stack(f, t, x));
    }
    return LB_OK;
}

lb_status lb_fgn_fp8(lb_fgn *f) {
    fp8 x = {{0, 0}, false};
    LB_TRY(parse(f, &x));
    return add_all(f, &x);
}
