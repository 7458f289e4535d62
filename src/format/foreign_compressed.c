/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_compressed.c: compressed-tensors: float-, int-, pack-, mxfp8-, nvfp4-pack- and
 * mxfp4-pack- quantized, with several groups of layers. compressed-tensors 0.20.0:
 * compressors/naive_quantized, pack_quantized, nvfp4 and mxfp4 decompress,
 * quantization/lifecycle/forward_helpers.py _dequantize: (code - zero) * scale, each in the type of
 * the scale. Of four-bit floats the codes become bf16 first, and so do the values, whatever the
 * model was.
 *
 * Which group a layer belongs to is told by module types and patterns of names in the config. Here
 * the tensors decide: a group counts whose width, type, zeros and blocks are those of the layer,
 * and all that count must agree. */
#include "format/foreign_internal.h"

#define SCHEMES_MAX 64
#define COLS_MAX ((u64)1 << 28) /* of a table of columns */
#define BLOCK_MAX 65536         /* rows or columns of a block, so that sums of them fit */

typedef struct scheme {
    bool is_float, zeros, global; /* global: one more scale, by which the others are divided */
    lb_enc enc;                   /* bits, group_size, block_rows */
} scheme;

typedef struct ct {
    lb_fgn *f;
    scheme schemes[SCHEMES_MAX];
    u32 n;
} ct;

static lb_status bad(lb_fgn *f, const lb_json *group, const char *what) {
    return lb_fail(f->err, LB_E_UNSUPPORTED,
                   "quantized with 'compressed-tensors': %s of '%.*s' is not supported", what,
                   LB_FMT(group->key));
}

static bool is_null(const lb_json *v) {
    return !v || v->type == LB_JNULL;
}

/* [128, 128], or "128x128" as the library wrote it first. */
static bool two_sizes(const lb_json *v, u64 out[2]) {
    lb_str text;
    size_t x;
    if (lb_json_as_str(v, &text))
        return lb_str_find(text, LB_STR("x"), &x) &&
               lb_str_to_u64(lb_str_sub(text, 0, x), &out[0]) &&
               lb_str_to_u64(lb_str_sub(text, x + 1, text.len), &out[1]);
    return v && v->type == LB_JARRAY && v->n == 2 && lb_json_as_u64(v->first, &out[0]) &&
           lb_json_as_u64(v->last, &out[1]);
}

static lb_status parse_blocks(lb_fgn *f, const lb_json *group, const lb_json *w, lb_enc *enc,
                              bool *global) {
    lb_str strategy = LB_STR("");
    i64 size = 0;
    u64 b[2];
    (void)lb_json_as_str(lb_json_get(w, "strategy"), &strategy);
    (void)lb_json_as_i64(lb_json_get(w, "group_size"), &size);
    if (strategy.len == 0) /* the library's own rule */
        strategy = size > 0 ? LB_STR("group") : size < 0 ? LB_STR("channel") : LB_STR("tensor");
    if (lb_str_eq_c(strategy, "tensor"))
        return LB_OK;
    enc->block_rows = 1;
    if (lb_str_eq_c(strategy, "channel"))
        return LB_OK;
    if (lb_str_eq_c(strategy, "group") && size > 0 && size <= BLOCK_MAX) {
        enc->group_size = (u32)size;
        return LB_OK;
    }
    if (lb_str_eq_c(strategy, "tensor_group") && size > 0 && size <= BLOCK_MAX) {
        enc->group_size = (u32)size;
        *global = true;
        return LB_OK;
    }
    if (lb_str_eq_c(strategy, "block") && two_sizes(lb_json_get(w, "block_structure"), b) &&
        b[0] - 1 < BLOCK_MAX && b[1] - 1 < BLOCK_MAX) {
        enc->block_rows = (u32)b[0];
        enc->group_size = (u32)b[1];
        return LB_OK;
    }
    return bad(f, group, "the strategy");
}

static lb_status parse_group(ct *c, const lb_json *group) {
    lb_fgn *f = c->f;
    const lb_json *w = lb_json_get(group, "weights");
    scheme *s = &c->schemes[c->n];
    lb_str type = LB_STR("int");
    bool symmetric = true;
    u64 bits = 8;
    if (is_null(w)) /* activations alone */
        return LB_OK;
    if (c->n == SCHEMES_MAX)
        return lb_fail(f->err, LB_E_LIMIT, "more than %d config_groups", SCHEMES_MAX);
    (void)lb_json_as_str(lb_json_get(w, "type"), &type);
    (void)lb_json_as_bool(lb_json_get(w, "symmetric"), &symmetric);
    (void)lb_json_as_u64(lb_json_get(w, "num_bits"), &bits);
    s->is_float = lb_str_eq_c(type, "float");
    if ((!s->is_float && !lb_str_eq_c(type, "int")) || bits - 1 >= 8 ||
        (s->is_float && bits != 8 && bits != 4) || (s->is_float && !symmetric))
        return bad(f, group, "the type of weights");
    s->zeros = !symmetric;
    s->enc.bits = (u32)bits;
    LB_TRY(parse_blocks(f, group, w, &s->enc, &s->global));
    if (s->is_float && bits == 4
            ? s->enc.group_size % 2 || s->enc.group_size == 0 || s->enc.block_rows != 1
            : s->global)
        return bad(f, group, "the strategy");
    c->n++;
    return LB_OK;
}

static bool is_format(lb_str s) {
    static const char *const formats[] = {
        "float-quantized",      "int-quantized",        "naive-quantized",
        "pack-quantized",       "mixed-precision",      "dense",
        "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"};
    for (size_t i = 0; i < LB_LEN(formats); i++)
        if (lb_str_eq_c(s, formats[i]))
            return true;
    return false;
}

static lb_status check_format(lb_fgn *f, const lb_json *v) {
    lb_str name;
    if (lb_json_as_str(lb_json_get(v, "format"), &name) && !is_format(name))
        return lb_fail(f->err, LB_E_UNSUPPORTED,
                       "quantized with 'compressed-tensors' %.*s: not supported yet", LB_FMT(name));
    return LB_OK;
}

/* What changes values beyond codes and scales. */
static lb_status check_rest(lb_fgn *f) {
    const lb_json *sparse = lb_json_get(f->config, "sparsity_config");
    const lb_json *transform = lb_json_get(f->config, "transform_config");
    const lb_json *groups = lb_json_get(transform, "config_groups");
    lb_str format = LB_STR("");
    if (!is_null(sparse) && sparse->n && lb_json_as_str(lb_json_get(sparse, "format"), &format) &&
        !lb_str_eq_c(format, "dense"))
        return lb_fail(f->err, LB_E_UNSUPPORTED,
                       "quantized with 'compressed-tensors' and sparse (%.*s): not supported yet",
                       LB_FMT(format));
    if (!is_null(transform) && transform->n && (!groups || groups->n))
        return lb_fail(f->err, LB_E_UNSUPPORTED,
                       "quantized with 'compressed-tensors' and transform_config: not supported");
    return LB_OK;
}

static lb_status parse(ct *c) {
    const lb_json *groups = lb_json_get(c->f->config, "config_groups");
    LB_TRY(check_format(c->f, c->f->config));
    LB_TRY(check_rest(c->f));
    if (!groups || groups->type != LB_JOBJECT)
        return lb_fail(
            c->f->err, LB_E_UNSUPPORTED,
            "quantized with 'compressed-tensors' without config_groups: not supported yet");
    for (const lb_json *g = groups->first; g; g = g->next) {
        LB_TRY(check_format(c->f, g));
        LB_TRY(parse_group(c, g));
    }
    return LB_OK;
}

/* ---- one weight ---- */

typedef struct found {
    lb_str path;
    const lb_tensor *codes, *scale, *zeros, *global, *order;
    bool packed, fp4; /* fp4: packed in bytes */
    u64 rows, cols;
} found;

static bool zeros_fit(const found *x, const scheme *s) {
    if (!x->zeros)
        return true;
    if (!x->packed)
        return x->zeros->dtype == LB_I8 && lb_fgn_fits(x->zeros, &s->enc, x->rows, x->cols);
    u64 bits;
    return x->zeros->dtype == LB_I32 && s->enc.block_rows == 1 &&
           lb_mul_u64(x->rows, s->enc.bits, &bits) &&
           lb_fgn_is_matrix(x->zeros, lb_ceil_div_u64(bits, 32),
                            s->enc.group_size ? lb_ceil_div_u64(x->cols, s->enc.group_size) : 1);
}

static bool fits(const found *x, const scheme *s) {
    u64 bits = 0;
    if (x->fp4)
        return s->is_float && s->enc.bits == 4 && !x->zeros && s->global == (x->global != NULL) &&
               x->scale->dtype == (s->global ? LB_F8_E4M3 : LB_U8) &&
               x->cols % s->enc.group_size == 0 && lb_fgn_fits(x->scale, &s->enc, x->rows, x->cols);
    if (s->is_float && s->enc.bits != 8)
        return false;
    if (s->is_float != lb_fgn_is_f8(x->codes->dtype) || (x->zeros != NULL) != s->zeros ||
        !lb_fgn_fits(x->scale, &s->enc, x->rows, x->cols) || !zeros_fit(x, s))
        return false;
    if (!x->packed)
        return s->is_float || s->enc.bits <= 8;
    return !s->is_float && lb_mul_u64(x->cols, s->enc.bits, &bits) &&
           lb_fgn_is_matrix(x->codes, x->rows, lb_ceil_div_u64(bits, 32));
}

static bool same(const lb_enc *a, const lb_enc *b) {
    return a->group_size == b->group_size && a->block_rows == b->block_rows;
}

/* Of activation order by groups: each column names its group, as libraries up to 2026 wrote it
 * (0.9.4 quantization/lifecycle/forward.py, _process_quantization). */
static lb_status check_order(ct *c, const found *x, const lb_enc *enc) {
    if (!x->order)
        return LB_OK;
    if ((enc->kind != LB_ENC_PACKED && enc->kind != LB_ENC_INT8) || enc->block_rows != 1 ||
        enc->group_size == 0)
        return lb_fgn_misfit(c->f, x->order, x->codes, "there are no groups of columns");
    if (x->order->dtype != LB_I32 || x->order->shape.rank != 1 || x->order->n_elems != x->cols ||
        x->cols > COLS_MAX)
        return lb_fgn_misfit(c->f, x->order, x->codes, "expected an i32 for each column");
    return LB_OK;
}

static lb_status add(ct *c, const found *x) {
    const scheme *best = NULL;
    bool mxfp8 = x->scale->dtype == LB_U8 && lb_fgn_is_f8(x->codes->dtype);
    if (!x->fp4 && !mxfp8 && !lb_fgn_is_float(x->scale->dtype))
        return lb_fgn_misfit(c->f, x->scale, x->codes, "scales must be floats");
    for (u32 i = 0; i < c->n; i++) {
        const scheme *s = &c->schemes[i];
        if (!fits(x, s))
            continue;
        if (best && (!same(&best->enc, &s->enc) || (x->packed && best->enc.bits != s->enc.bits)))
            return lb_fgn_misfit(c->f, x->scale, x->codes,
                                 "more than one of the config_groups fits");
        best = s;
    }
    if (!best)
        return lb_fgn_misfit(c->f, x->scale, x->codes, "none of the config_groups has such blocks");
    lb_enc enc = best->enc;
    enc.kind = x->fp4           ? LB_ENC_FP4_INVERSE
               : x->packed      ? LB_ENC_PACKED
               : best->is_float ? LB_ENC_FP8
                                : LB_ENC_INT8;
    enc.rounded = x->fp4 || mxfp8 ? LB_BF16 : x->scale->dtype;
    enc.ordered = x->order != NULL;
    LB_TRY(check_order(c, x, &enc));
    lb_shape shape = {2, {x->rows, x->cols}};
    const lb_tensor *third = x->fp4 ? x->global : x->zeros;
    return lb_fgn_add(c->f, x->path, shape, enc,
                      (const lb_tensor *[]){x->codes, x->scale, third ? third : x->order,
                                            third ? x->order : NULL, NULL});
}

/* The shape before packing stands in a tensor of its own: two integers. */
static lb_status packed_shape(ct *c, found *x) {
    const lb_tensor *t;
    i64 n[2] = {0, 0};
    i32 small[2];
    LB_TRY(lb_fgn_find(c->f, x->path, ".weight_shape", &t));
    if (!t)
        return lb_fail(c->f->err, LB_E_FORMAT, "tensor '%.*s.weight_shape' is missing",
                       LB_FMT(x->path));
    if (t->dtype == LB_I32) {
        LB_TRY(lb_fgn_read(c->f, t, small, sizeof small));
        n[0] = small[0];
        n[1] = small[1];
    } else if (t->dtype == LB_I64) {
        LB_TRY(lb_fgn_read(c->f, t, n, sizeof n));
    }
    lb_fgn_take(c->f, t);
    if (n[0] <= 0 || n[1] <= 0 || n[1] > INT64_MAX / 64)
        return lb_fgn_misfit(c->f, t, x->codes, "expected rows and columns");
    x->rows = (u64)n[0];
    x->cols = (u64)n[1];
    if (x->codes->shape.rank != 2 || x->codes->dtype != LB_I32 || x->codes->shape.dim[0] != x->rows)
        return lb_fgn_misfit(c->f, t, x->codes, "expected words of so many rows");
    return LB_OK;
}

/* Four-bit floats, two a byte. */
static lb_status fp4_shape(ct *c, found *x) {
    const lb_tensor *t = x->codes;
    LB_TRY(lb_fgn_find(c->f, x->path, ".weight_global_scale", &x->global));
    if (x->global && (x->global->dtype != LB_F32 || x->global->n_elems != 1))
        return lb_fgn_misfit(c->f, x->global, t, "expected one f32");
    if (t->shape.rank != 2 || t->shape.dim[1] > UINT64_MAX / 4)
        return lb_fgn_misfit(c->f, x->scale, t, "expected a matrix");
    x->rows = t->shape.dim[0];
    x->cols = 2 * t->shape.dim[1];
    return LB_OK;
}

/* Where no scheme has zero points, those of a checkpoint (the library wrote them for symmetric
 * weights as well, once) must be none. */
static lb_status drop_zeros(ct *c, found *x) {
    bool all_zero;
    for (u32 i = 0; i < c->n; i++)
        if (c->schemes[i].zeros)
            return LB_OK;
    LB_TRY(lb_fgn_is_zero(c->f, x->zeros, &all_zero));
    if (!all_zero)
        return lb_fgn_misfit(c->f, x->zeros, x->codes, "zero points of symmetric weights");
    lb_fgn_take(c->f, x->zeros);
    x->zeros = NULL;
    return LB_OK;
}

static lb_status look(ct *c, const lb_tensor *t) {
    found x = {.codes = t};
    lb_fgn *f = c->f;
    x.packed = lb_fgn_path(t, ".weight_packed", &x.path);
    x.fp4 = x.packed && t->dtype == LB_U8;
    if (!x.packed &&
        ((!lb_fgn_is_f8(t->dtype) && t->dtype != LB_I8) || !lb_fgn_path(t, ".weight", &x.path)))
        return LB_OK;
    LB_TRY(lb_fgn_need(f, x.path, ".weight_scale", &x.scale));
    LB_TRY(lb_fgn_find(f, x.path, ".weight_zero_point", &x.zeros));
    LB_TRY(lb_fgn_find(f, x.path, ".weight_g_idx", &x.order));
    if (x.zeros)
        LB_TRY(drop_zeros(c, &x));
    if (x.fp4) {
        LB_TRY(fp4_shape(c, &x));
    } else if (x.packed) {
        LB_TRY(packed_shape(c, &x));
    } else {
        if (t->shape.rank != 2)
            return lb_fgn_misfit(f, x.scale, t, "expected a matrix");
        x.rows = t->shape.dim[0];
        x.cols = t->shape.dim[1];
    }
    return add(c, &x);
}

lb_status lb_fgn_compressed(lb_fgn *f) {
    ct c = {.f = f};
    LB_TRY(parse(&c));
    for (u64 i = 0; i < f->s->n_tensors; i++)
        LB_TRY(look(&c, &f->s->tensors[i]));
    return LB_OK;
}
