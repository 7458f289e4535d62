/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_modelopt.c: ModelOpt's FP8 and NVFP4, as it exports them for Hugging Face:
 * nvidia-modelopt 0.47.0 torch/export (layout), torch/quantization/qtensor dequantize in f32
 * (values). Which layers have which is told by their tensors: the config may name a mixture. */
#include "format/foreign_internal.h"

#define NVFP4_GROUP 16

/* "pre_quant_scale" and other companions are refused by name where a layer has them. */
static bool is_known(lb_str algo) {
    static const char *const algos[] = {
        "FP8",
        "FP8_PER_CHANNEL_PER_TOKEN",
        "NVFP4",
        "W4A16_NVFP4",
        "NVFP4_AWQ",
        "W4A8_NVFP4_FP8",
        "MIXED_PRECISION",
    };
    for (size_t i = 0; i < LB_LEN(algos); i++)
        if (lb_str_eq_c(algo, algos[i]))
            return true;
    return false;
}

static lb_status check_algo(lb_fgn *f, const lb_json *v) {
    lb_str algo;
    if (!v || v->type == LB_JNULL || (lb_json_as_str(v, &algo) && is_known(algo)))
        return LB_OK;
    if (!lb_json_as_str(v, &algo))
        return lb_fgn_refuse(f, "quant_algo is not a name");
    return lb_fgn_refuse(f, "%.*s: not supported yet", LB_FMT(algo));
}

static lb_status check_algos(lb_fgn *f) {
    const lb_json *layers = lb_json_get(f->config, "quantized_layers");
    LB_TRY(check_algo(f, lb_json_get(f->config, "quant_algo")));
    for (const lb_json *l = layers && layers->type == LB_JOBJECT ? layers->first : NULL; l;
         l = l->next)
        LB_TRY(check_algo(f, lb_json_get(l, "quant_algo")));
    return LB_OK;
}

/* Codes two a byte; a scale for 16 of them; one f32 that multiplies the scales. */
static lb_status four_bits(lb_fgn *f, const lb_tensor *t, lb_str path) {
    const lb_tensor *scale, *all;
    u64 cols;
    lb_enc enc = {.kind = LB_ENC_FP4, .bits = 4, .group_size = NVFP4_GROUP, .block_rows = 1};
    LB_TRY(lb_fgn_need(f, path, ".weight_scale", &scale));
    LB_TRY(lb_fgn_need(f, path, ".weight_scale_2", &all));
    if (t->shape.rank != 2 || !lb_mul_u64(t->shape.dim[1], 2, &cols) || cols % NVFP4_GROUP)
        return lb_fgn_misfit(f, scale, t, "expected rows of pairs, in groups of 16");
    if (scale->dtype != LB_F8_E4M3 || !lb_fgn_fits(scale, &enc, t->shape.dim[0], cols))
        return lb_fgn_misfit(f, scale, t, "expected an f8_e4m3 for each group of 16");
    if (all->dtype != LB_F32 || all->n_elems != 1)
        return lb_fgn_misfit(f, all, t, "expected one f32");
    return lb_fgn_add(f, path, (lb_shape){2, {t->shape.dim[0], cols}}, enc,
                      (const lb_tensor *[]){t, scale, all, NULL});
}

static lb_status eight_bits(lb_fgn *f, const lb_tensor *t, lb_str path) {
    const lb_tensor *scale;
    lb_enc enc = {.kind = LB_ENC_FP8, .bits = 8};
    LB_TRY(lb_fgn_need(f, path, ".weight_scale", &scale));
    if (!lb_fgn_is_float(scale->dtype))
        return lb_fgn_misfit(f, scale, t, "scales must be floats");
    if (t->shape.rank != 2)
        return lb_fgn_misfit(f, scale, t, "expected a matrix");
    enc.block_rows = scale->n_elems != 1;
    if (!lb_fgn_fits(scale, &enc, t->shape.dim[0], t->shape.dim[1]))
        return lb_fgn_misfit(f, scale, t, "neither one scale nor one for each row");
    return lb_fgn_add(f, path, t->shape, enc, (const lb_tensor *[]){t, scale, NULL});
}

lb_status lb_fgn_modelopt(lb_fgn *f) {
    lb_str path;
    LB_TRY(check_algos(f));
    for (u64 i = 0; i < f->s->n_tensors; i++) {
        const lb_tensor *t = &f->s->tensors[i];
        if (t->dtype == LB_U8 && lb_fgn_path(t, ".weight", &path))
            LB_TRY(four_bits(f, t, path));
        else if (t->dtype == LB_F8_E4M3 && lb_fgn_path(t, ".weight", &path))
            LB_TRY(eight_bits(f, t, path));
    }
    return LB_OK;
}
