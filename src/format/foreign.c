/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.c: which tool quantized this model.
 *
 * Witnesses: a quantization_config (or compression_config) with a method, at the top of the config
 * or in one of its sub-configs; a file of the tool's own; and tensors that only a packed format
 * has. The last one catches folders whose config lost the method. */
#include "format/foreign.h"

/* ---- config ---- */

/* "quant_method", or what older configs have instead. */
static lb_str method_of(const lb_json *object) {
    lb_str method;
    if (object->type != LB_JOBJECT)
        return LB_STR("no object");
    if (lb_json_as_str(lb_json_get(object, "quant_method"), &method))
        return method;
    if (lb_json_get(object, "load_in_4bit") || lb_json_get(object, "load_in_8bit"))
        return LB_STR("bitsandbytes");
    if (lb_json_get(object, "config_groups"))
        return LB_STR("compressed-tensors");
    if (lb_json_get(object, "quant_algo"))
        return LB_STR("modelopt");
    return LB_STR("no quant_method");
}

/* Something is said. A text or a list is no config that is known, but no reason to pass it over. */
static const lb_json *non_empty(const lb_json *v) {
    if (!v || v->type == LB_JNULL || (v->type == LB_JBOOL && !v->truth))
        return NULL;
    bool holds = v->type == LB_JOBJECT || v->type == LB_JARRAY;
    return holds && v->n == 0 ? NULL : v;
}

static const lb_json *direct(const lb_json *config) {
    static const char *const keys[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < LB_LEN(keys); i++) {
        const lb_json *v = non_empty(lb_json_get(config, keys[i]));
        if (v)
            return v;
    }
    return NULL;
}

#define NESTED_MAX 4 /* thinker_config.text_config, and some more */

/* In sub-configs (text_config, vision_config, thinker_config...): the first; *n: of how many. */
static const lb_json *nested(const lb_json *config, u32 depth, u32 *n) {
    const lb_json *v = NULL;
    for (const lb_json *sub = config->first; sub; sub = sub->next) {
        const lb_json *own = sub->type == LB_JOBJECT ? direct(sub) : NULL;
        *n += own != NULL;
        if (!own && sub->type == LB_JOBJECT && depth < NESTED_MAX)
            own = nested(sub, depth + 1, n);
        v = v ? v : own;
    }
    return v;
}

/* At the top, else in a sub-config; *n: in how many of these. */
static const lb_json *find_config(const lb_json *config, u32 *n) {
    const lb_json *v = direct(config);
    *n = 0;
    return v || !config || config->type != LB_JOBJECT ? v : nested(config, 1, n);
}

/* {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8" or null...}} */
static bool modelopt_packs(const lb_json *modelopt, lb_str *algo) {
    const lb_json *object = lb_json_get(modelopt, "quantization");
    return lb_json_as_str(lb_json_get(object ? object : modelopt, "quant_algo"), algo) &&
           algo->len > 0;
}

/* ---- tensors ---- */

static bool is_float(lb_dtype t) {
    return t == LB_F16 || t == LB_BF16 || t == LB_F32 || t == LB_F64;
}

/* Names that stand beside packed weights and nowhere else. */
static const struct {
    const char *suffix, *method;
} markers[] = {
    {".qweight", "gptq or awq"},
    {".weight_packed", "compressed-tensors"},
    {".weight_scale_inv", "fp8 blocks"},
    {".weight.absmax", "bitsandbytes"},
    {".SCB", "bitsandbytes"},
    {"_proj_blocks", "mxfp4"},
    {".q_weight", "exl2"},
    {".trellis", "exl3"},
    {".W_q", "hqq"},
    {".codebooks", "aqlm"},
    {".Qidxs", "quip"},
    {".centroids.weight", "vptq"},
    {".dense_weights", "spqr"},
    {".tables2", "higgs"},
    {".weight._data", "quanto"},
    {"._weight_qdata", "torchao"},
    {".weight_scales", "eetq"},
};

static const char *marked(const lb_tensor *t) {
    for (size_t i = 0; i < LB_LEN(markers); i++)
        if (lb_str_ends(t->name, lb_str_c(markers[i].suffix)))
            return markers[i].method;
    return NULL;
}

/* Eight bits or less with a scale beside it: fp8 and int8 of several tools, matrices and stacks of
 * them. */
static lb_status scaled(const lb_source *s, const lb_tensor *t, lb_buf *buf, bool *out,
                        lb_err *err) {
    static const char *const endings[] = {"_scale", "_scale_inv", "_weight_scale"};
    /* in the place of "weight" */
    static const char *const names[] = {"scale", "scales", "scale_inv", "scale_weight",
                                        "qscale_weight"};
    const lb_dtype_info *info = lb_dtype_get(t->dtype);
    lb_str weight = LB_STR("weight");
    size_t n = lb_str_ends(t->name, LB_STR(".weight")) ? LB_LEN(names) : 0;
    *out = false;
    if (is_float(t->dtype) || info->block_bytes > info->block_elems)
        return LB_OK;
    for (size_t i = 0; i < LB_LEN(endings) + n && !*out; i++) {
        bool after = i < LB_LEN(endings);
        lb_buf_reset(buf);
        lb_buf_put_str(buf, after ? t->name : lb_str_sub(t->name, 0, t->name.len - weight.len));
        lb_buf_put_c(buf, after ? endings[i] : names[i - LB_LEN(endings)]);
        LB_TRY(lb_buf_status(buf, err));
        *out = lb_source_tensor(s, lb_buf_str(buf)) != NULL;
    }
    return LB_OK;
}

static lb_status check_tensors(const lb_source *s, lb_err *err) {
    lb_buf buf = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; st == LB_OK && i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        const char *method = marked(t);
        bool has_scale = false;
        if (!method)
            st = scaled(s, t, &buf, &has_scale, err);
        if (method || has_scale)
            st =
                lb_fail(err, LB_E_UNSUPPORTED,
                        "tensor '%.*s' (%s) belongs to a model quantized by another tool (%s): not "
                        "supported yet",
                        LB_FMT(t->name), lb_dtype_get(t->dtype)->name,
                        method ? method : "a scale for each weight");
    }
    lb_buf_deinit(&buf);
    return st;
}

/* A model's matrices are no whole numbers: codes whose scales and config are lost. Words of MLX are
 * u32, and looked at elsewhere. */
static lb_status check_integers(const lb_source *s, lb_err *err) {
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        if (lb_dtype_get(t->dtype)->cls == LB_CLASS_INT && t->dtype != LB_U32 &&
            t->shape.rank >= 2 && lb_str_ends(t->name, LB_STR(".weight")))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' is %s: codes of another tool, and nothing in config.json "
                           "says of which",
                           LB_FMT(t->name), lb_dtype_get(t->dtype)->name);
    }
    return LB_OK;
}

/* MLX wrote it: what the config names was undone if only plain floats are left. */
static lb_status check_plain(const lb_source *s, lb_str method, lb_err *err) {
    for (u64 i = 0; i < s->n_tensors; i++)
        if (!is_float(s->tensors[i].dtype))
            return lb_fail(
                err, LB_E_UNSUPPORTED,
                "quantized with '%.*s' (config.json), and tensor '%.*s' is still %s: not "
                "supported yet",
                LB_FMT(method), LB_FMT(s->tensors[i].name),
                lb_dtype_get(s->tensors[i].dtype)->name);
    return LB_OK;
}

/* ---- which config ---- */

typedef struct found {
    const lb_json *object; /* NULL: none says that anything was quantized */
    lb_str method;
    const char *file;
    u32 n_nested; /* in so many sub-configs of config.json, and not at its top */
} found;

static bool has_packed_words(const lb_source *s) {
    for (u64 i = 0; i < s->n_tensors; i++)
        if (lb_str_ends(s->tensors[i].name, LB_STR(".qweight")))
            return true;
    return false;
}

/* The files of AutoGPTQ and AutoAWQ count where config.json is silent and there are codes: they are
 * left behind in folders that were dequantized. */
static found find(const lb_source *s, const lb_foreign_files *files) {
    found x = {.file = "config.json"};
    x.object = find_config(files->config, &x.n_nested);
    if (x.object) {
        x.method = method_of(x.object);
        return x;
    }
    if (modelopt_packs(files->modelopt, &x.method)) {
        x.object = lb_json_get(files->modelopt, "quantization");
        x.object = x.object ? x.object : files->modelopt;
        x.method = LB_STR("modelopt");
        x.file = "hf_quant_config.json";
        return x;
    }
    const lb_json *own[] = {non_empty(files->gptq), non_empty(files->awq)};
    static const char *const names[] = {"quantize_config.json", "quant_config.json"};
    static const char *const methods[] = {"gptq", "awq"};
    for (size_t i = 0; i < LB_LEN(own) && !x.object; i++)
        if (own[i] && has_packed_words(s)) {
            x.object = own[i];
            x.file = names[i];
            x.method = lb_str_c(methods[i]);
            (void)lb_json_as_str(lb_json_get(own[i], "quant_method"), &x.method);
        }
    return x;
}

static lb_status refuse(const lb_source *s, const found *x, bool mlx, lb_err *err) {
    if (x->object && mlx)
        LB_TRY(check_plain(s, x->method, err));
    else if (x->object)
        return lb_fail(err, LB_E_UNSUPPORTED, "quantized with '%.*s' (%s): not supported yet",
                       LB_FMT(x->method), x->file);
    return check_tensors(s, err);
}

lb_status lb_foreign_check(const lb_source *s, const lb_foreign_files *files, bool mlx,
                           lb_err *err) {
    found x = find(s, files);
    return refuse(s, &x, mlx, err);
}

lb_status lb_foreign_open(lb_source *s, const lb_foreign_files *files, bool mlx, lb_buf *notes,
                          bool *made, lb_err *err) {
    found x = find(s, files);
    *made = false;
    /* which of several a tensor belongs to is not known */
    if (mlx || !x.object || x.n_nested > 1 || !lb_foreign_is_known(x.method)) {
        LB_TRY(refuse(s, &x, mlx, err));
        return files->config ? check_integers(s, err) : LB_OK;
    }
    *made = true;
    LB_TRY(lb_foreign_weights(s, x.object, x.method, notes, err));
    for (u64 i = 0; i < s->n_weights; i++)
        if (s->weights[i].enc.kind != LB_ENC_PLAIN)
            return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "quantized with '%.*s' (%s), but no tensor has codes: not supported yet",
                   LB_FMT(x.method), x.file);
}
