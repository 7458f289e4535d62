/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_weights.c: what the families share: finding companions, adding weights, and accounting
 * for every tensor. */
#include "base/os.h"
#include "format/foreign_internal.h"
#include <stdarg.h>
#include <stdio.h>

typedef unsigned long long ull;

static u64 index_of(const lb_fgn *f, const lb_tensor *t) {
    return (u64)(t - f->s->tensors);
}

lb_status lb_fgn_find(lb_fgn *f, lb_str path, const char *suffix, const lb_tensor **out) {
    lb_buf_reset(&f->name);
    lb_buf_put_str(&f->name, path);
    lb_buf_put_c(&f->name, suffix);
    LB_TRY(lb_buf_status(&f->name, f->err));
    *out = lb_source_tensor(f->s, lb_buf_str(&f->name));
    return LB_OK;
}

lb_status lb_fgn_need(lb_fgn *f, lb_str path, const char *suffix, const lb_tensor **out) {
    LB_TRY(lb_fgn_find(f, path, suffix, out));
    if (*out)
        return LB_OK;
    return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s%s' is missing", LB_FMT(path), suffix);
}

lb_status lb_fgn_refuse(lb_fgn *f, const char *text, ...) {
    char what[192];
    va_list args;
    va_start(args, text);
    vsnprintf(what, sizeof what, text, args);
    va_end(args);
    return lb_fail(f->err, LB_E_UNSUPPORTED, "quantized with '%.*s': %s", LB_FMT(f->method), what);
}

void lb_fgn_take(lb_fgn *f, const lb_tensor *t) {
    f->taken[index_of(f, t)] = true;
}

lb_status lb_fgn_add(lb_fgn *f, lb_str path, lb_shape shape, lb_enc enc,
                     const lb_tensor *const *parts) {
    lb_weight *w = &f->weight[index_of(f, parts[0])];
    *w = (lb_weight){.shape = shape, .enc = enc};
    w->name = lb_arena_printf(&f->s->perm, "%.*s.weight", LB_FMT(path));
    if (!w->name.ptr)
        return lb_fail(f->err, LB_E_NOMEM, "out of memory for names");
    for (; *parts; parts++) {
        LB_ASSERT(w->n_parts < LB_PARTS_MAX);
        w->part[w->n_parts++] = (u32)index_of(f, *parts);
        lb_fgn_take(f, *parts);
    }
    return LB_OK;
}

lb_status lb_fgn_misfit(lb_fgn *f, const lb_tensor *t, const lb_tensor *weight, const char *why) {
    char a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
    return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s' %s %s does not fit '%.*s' %s %s: %s",
                   LB_FMT(t->name), lb_dtype_get(t->dtype)->name, lb_shape_text(&t->shape, a),
                   LB_FMT(weight->name), lb_dtype_get(weight->dtype)->name,
                   lb_shape_text(&weight->shape, b), why);
}

lb_status lb_fgn_read(lb_fgn *f, const lb_tensor *t, void *out, u64 size_bytes) {
    const char *path = f->s->files[t->file].path;
    int fd = -1;
    if (t->size_bytes != size_bytes)
        return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s': %llu bytes, expected %llu",
                       LB_FMT(t->name), (ull)t->size_bytes, (ull)size_bytes);
    LB_TRY(lb_os_open_read(path, &fd, f->err));
    lb_status st = lb_os_pread(fd, path, out, size_bytes, t->off_bytes, f->err);
    lb_os_close(&fd);
    return st;
}

/* Of a float's bytes the highest (files are little-endian) has the sign. */
static bool is_zero(const u8 *p, u64 n, u64 elem_bytes, bool is_signed) {
    for (u64 i = 0; i < n; i++)
        if (is_signed && i % elem_bytes == elem_bytes - 1 ? p[i] & 127 : p[i])
            return false;
    return true;
}

lb_status lb_fgn_is_zero(lb_fgn *f, const lb_tensor *t, bool *out) {
    const lb_dtype_info *info = lb_dtype_get(t->dtype);
    const char *path = f->s->files[t->file].path;
    u8 part[4096];
    int fd = -1;
    *out = false;
    if (t->size_bytes > LB_MIB || info->block_elems != 1)
        return LB_OK;
    LB_TRY(lb_os_open_read(path, &fd, f->err));
    lb_status st = LB_OK;
    *out = true;
    for (u64 at = 0; st == LB_OK && *out && at < t->size_bytes; at += sizeof part) {
        u64 n = LB_MIN(t->size_bytes - at, sizeof part);
        st = lb_os_pread(fd, path, part, n, t->off_bytes + at, f->err);
        *out = is_zero(part, n, info->block_bytes, info->cls == LB_CLASS_FLOAT);
    }
    lb_os_close(&fd);
    return st;
}

bool lb_fgn_is_float(lb_dtype t) {
    return t == LB_F16 || t == LB_BF16 || t == LB_F32;
}

bool lb_fgn_is_f8(lb_dtype t) {
    return t == LB_F8_E4M3 || t == LB_F8_E5M2;
}

bool lb_fgn_is_matrix(const lb_tensor *t, u64 rows, u64 cols) {
    if (t->shape.rank == 2)
        return t->shape.dim[0] == rows && t->shape.dim[1] == cols;
    return t->shape.rank == 1 && cols == 1 && t->shape.dim[0] == rows;
}

bool lb_fgn_fits(const lb_tensor *scale, const lb_enc *enc, u64 rows, u64 cols) {
    if (enc->block_rows == 0 && enc->group_size == 0)
        return scale->n_elems == 1;
    return lb_fgn_is_matrix(scale, enc->block_rows ? lb_ceil_div_u64(rows, enc->block_rows) : 1,
                            enc->group_size ? lb_ceil_div_u64(cols, enc->group_size) : 1);
}

bool lb_fgn_path(const lb_tensor *t, const char *ending, lb_str *path) {
    lb_str e = lb_str_c(ending);
    if (!lb_str_ends(t->name, e))
        return false;
    *path = lb_str_sub(t->name, 0, t->name.len - e.len);
    return path->len > 0;
}

/* ---- what is left ---- */

/* Of activations and caches: no weight's business. */
static bool is_activation(lb_str name) {
    static const char *const endings[] = {
        ".input_scale",  ".input_zero_point", ".input_global_scale",
        ".output_scale", ".k_scale",          ".v_scale",
        ".q_scale",      ".activation_scale", ".kv_scale",
        ".act_scale",    ".input_scaler",     "_proj_activation_scale",
        ".k_zero_point", ".v_zero_point",
    };
    for (size_t i = 0; i < LB_LEN(endings); i++)
        if (lb_str_ends(name, lb_str_c(endings[i])))
            return true;
    return false;
}

/* Floats too, if their weight was not found: they would become a tensor of the model. */
static bool is_companion(const lb_source *s, lb_str name) {
    static const char *const endings[] = {
        "weight_scale",
        "weight_scale_inv",
        "weight_scale_2",
        "weight_zero_point",
        "weight_shape",
        "weight_g_idx",
        ".g_idx",
        "weight_global_scale",
        ".scales",
        ".qzeros",
        ".absmax",
        ".quant_map",
        ".SCB",
        ".scale_inv",
        ".zeros",
        ".scale_zeros",
        ".nested_absmax",
        ".pre_quant_scale",
        ".quant_state",
        "_bias_scale",
        ".nested_quant_map",
        "_scale_inv",
    };
    /* a model may have scales of its own (gemma4's router.per_expert_scale): these count beside
     * what they are scales of */
    static const char *const beside[] = {"_scale", "_scales", "_scale_2", "_zero_point",
                                         "_global_scale"};
    for (size_t i = 0; i < LB_LEN(endings); i++)
        if (lb_str_ends(name, lb_str_c(endings[i])))
            return true;
    for (size_t i = 0; i < LB_LEN(beside); i++) {
        lb_str e = lb_str_c(beside[i]);
        if (lb_str_ends(name, e) &&
            lb_source_tensor(s, lb_str_sub(name, 0, name.len - e.len)) != NULL)
            return true;
    }
    return false;
}

static lb_status add_plain(lb_fgn *f, u64 i) {
    const lb_tensor *t = &f->s->tensors[i];
    if (is_activation(t->name) && t->n_elems <= LB_KIB) {
        f->n_left_out++;
        return LB_OK;
    }
    if ((!lb_fgn_is_float(t->dtype) && t->dtype != LB_F64) || is_companion(f->s, t->name))
        return lb_fail(f->err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' (%s) of a model quantized with '%.*s': not known beside its "
                       "weights",
                       LB_FMT(t->name), lb_dtype_get(t->dtype)->name, LB_FMT(f->method));
    return lb_source_add_plain(f->s, i, f->err);
}

static const struct {
    const char *method;
    lb_status (*take)(lb_fgn *f);
} families[] = {
    {"fp8", lb_fgn_fp8},          {"compressed-tensors", lb_fgn_compressed},
    {"gptq", lb_fgn_gptq},        {"awq", lb_fgn_awq},
    {"bitsandbytes", lb_fgn_bnb}, {"modelopt", lb_fgn_modelopt},
    {"mxfp4", lb_fgn_mxfp4},      {"fbgemm_fp8", lb_fgn_fp8}, /* a scale for each row */
    {"mxfp8", lb_fgn_fp8},
};

bool lb_foreign_is_known(lb_str method) {
    for (size_t i = 0; i < LB_LEN(families); i++)
        if (lb_str_eq_c(method, families[i].method))
            return true;
    return false;
}

static lb_status make_weights(lb_fgn *f) {
    f->weight = lb_arena_new(&f->scratch, lb_weight, f->s->n_tensors + 1);
    f->taken = lb_arena_new(&f->scratch, bool, f->s->n_tensors + 1);
    if (!f->weight || !f->taken)
        return lb_fail(f->err, LB_E_NOMEM, "out of memory for the list of weights");
    for (size_t i = 0; i < LB_LEN(families); i++)
        if (lb_str_eq_c(f->method, families[i].method))
            LB_TRY(families[i].take(f));
    for (u64 i = 0; i < f->s->n_tensors; i++)
        if (f->weight[i].n_parts)
            LB_TRY(lb_source_add_weight(f->s, &f->weight[i], f->err));
        else if (!f->taken[i])
            LB_TRY(add_plain(f, i));
    return LB_OK;
}

lb_status lb_foreign_weights(lb_source *s, const lb_json *object, lb_str method, lb_buf *notes,
                             lb_err *err) {
    lb_fgn f = {.s = s, .config = object, .method = method, .err = err};
    lb_status st = make_weights(&f);
    if (st == LB_OK && f.n_left_out)
        lb_buf_printf(notes, "%sscales of activations are left out: %llu", notes->len ? "\n" : "",
                      (ull)f.n_left_out);
    if (st == LB_OK && f.n_zero_biases)
        lb_buf_printf(notes, "%sbiases of zeros beside codes are left out: %llu",
                      notes->len ? "\n" : "", (ull)f.n_zero_biases);
    lb_buf_deinit(&f.name);
    lb_arena_deinit(&f.scratch);
    return st;
}
