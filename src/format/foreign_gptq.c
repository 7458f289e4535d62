/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_gptq.c: GPTQ (AutoGPTQ, GPTQModel, optimum) and AWQ (AutoAWQ, GPTQModel): words of codes,
 * inputs first. GPTQModel 7.3.4 quantization/config.py and nn_modules/qlinear, AutoAWQ 0.2.9
 * modules/linear/gemm.py.
 *
 * Which layers have codes, and of how many bits and which groups, is told by rules over their names
 * (modules_in_block_to_quantize, modules_to_not_convert, dynamic). Here the tensors decide: bits
 * follow from their shapes, and must be those of the config or of one of its rules, with as many
 * groups as that says. */
#include "format/foreign_internal.h"
#include <stdio.h>

#define SETTINGS_MAX 256
#define KINDS_MAX 64
#define DIM_MAX ((u64)1 << 31)

typedef struct setting {
    u32 bits;
    u64 group; /* 0: all columns */
} setting;

typedef struct words {
    lb_fgn *f;
    bool awq, less_one, act_order;
    setting set[SETTINGS_MAX]; /* the config's own first, then those of its rules */
    u32 n;
} words;

/* ---- config ---- */

/* The first of these keys that is there. */
static const lb_json *one_of(const lb_json *object, const char *const *keys) {
    const lb_json *v = NULL;
    for (; *keys && (!v || v->type == LB_JNULL); keys++)
        v = lb_json_get(object, *keys);
    return v && v->type != LB_JNULL ? v : NULL;
}

static const char *const bits_keys[] = {"bits", "w_bit", "wbits", NULL};
static const char *const group_keys[] = {"group_size", "q_group_size", NULL};

static bool same_word(lb_str a, const char *b) { /* upper or lower case */
    size_t i = 0;
    for (; i < a.len && b[i]; i++)
        if (a.ptr[i] != b[i] && !(a.ptr[i] >= 'A' && a.ptr[i] <= 'Z' && (a.ptr[i] | 32) == b[i]))
            return false;
    return i == a.len && !b[i];
}

static lb_status check_bits(words *w, u64 bits) {
    if (w->awq ? bits == 4 : bits == 2 || bits == 3 || bits == 4 || bits == 8)
        return LB_OK;
    return lb_fgn_refuse(w->f, "%llu bits are not supported", (unsigned long long)bits);
}

/* Bits and group of the config or of a rule, which changes what it names. */
static lb_status add_setting(words *w, const lb_json *object, setting base) {
    const lb_json *bits = one_of(object, bits_keys), *group = one_of(object, group_keys);
    u64 n = base.bits;
    i64 g = 0;
    if (bits && !lb_json_as_u64(bits, &n))
        return lb_fgn_refuse(w->f, "bits of %s are not a number", w->n ? "a rule" : "the config");
    LB_TRY(check_bits(w, n));
    base.bits = (u32)n;
    if (group) {
        if (!lb_json_as_i64(group, &g) || g == 0 || g < -1 || g > INT32_MAX)
            return lb_fgn_refuse(w->f, "group_size is neither -1 nor a size");
        base.group = g < 0 ? 0 : (u64)g;
    }
    for (u32 i = 0; i < w->n; i++)
        if (w->set[i].bits == base.bits && w->set[i].group == base.group)
            return LB_OK;
    if (w->n == SETTINGS_MAX)
        return lb_fail(w->f->err, LB_E_LIMIT, "more than %d kinds of layers in dynamic",
                       SETTINGS_MAX);
    w->set[w->n++] = base;
    return LB_OK;
}

/* "+:regex" or "regex": layers with settings of their own; "-:regex": layers without codes. */
static lb_status parse_rules(words *w) {
    static const char *const other[] = {"format",       "checkpoint_format", "method",
                                        "quant_method", "pack_dtype",        NULL};
    const lb_json *rules = lb_json_get(w->f->config, "dynamic");
    if (!rules || rules->type == LB_JNULL)
        return LB_OK;
    if (rules->type != LB_JOBJECT)
        return lb_fgn_refuse(w->f, "dynamic is not a list of rules");
    for (const lb_json *r = rules->first; r; r = r->next) {
        if (lb_str_starts(r->key, LB_STR("-:")) || r->type != LB_JOBJECT)
            continue;
        const lb_json *v = one_of(r, other);
        if (v)
            return lb_fgn_refuse(w->f, "'%.*s' in a rule of dynamic is not supported",
                                 LB_FMT(v->key));
        LB_TRY(add_setting(w, r, w->set[0]));
    }
    return LB_OK;
}

static lb_status check_format(words *w) {
    static const char *const gptq_keys[] = {"checkpoint_format", "format", NULL};
    static const char *const awq_keys[] = {"version", "checkpoint_format", "format", NULL};
    lb_str format = w->awq ? LB_STR("gemm") : LB_STR("gptq"), text = {0};
    const lb_json *c = w->f->config, *v = one_of(c, w->awq ? awq_keys : gptq_keys);
    bool marlin = false;
    if (v && !lb_json_as_str(v, &format))
        return lb_fgn_refuse(w->f, "'%.*s' is not a name", LB_FMT(v->key));
    (void)lb_json_as_bool(lb_json_get(c, "is_marlin_format"), &marlin);
    if (marlin)
        format = LB_STR("marlin");
    if (lb_json_as_str(lb_json_get(c, "backend"), &text) && lb_str_eq_c(text, "llm-awq"))
        format = text;
    if (lb_json_as_str(lb_json_get(c, "pack_dtype"), &text) && !lb_str_eq_c(text, "int32"))
        return lb_fgn_refuse(w->f, "words of %.*s are not supported", LB_FMT(text));
    w->less_one = same_word(format, "gptq");
    if (w->awq ? same_word(format, "gemm") : w->less_one || same_word(format, "gptq_v2"))
        return LB_OK;
    return lb_fgn_refuse(w->f, "the format '%.*s' is not supported yet", LB_FMT(format));
}

static lb_status parse(words *w) {
    const lb_json *c = w->f->config;
    LB_TRY(check_format(w));
    if (!one_of(c, bits_keys) && !w->awq)
        return lb_fgn_refuse(w->f, "without bits: not supported yet");
    LB_TRY(add_setting(w, c, (setting){4, 128}));
    (void)lb_json_as_bool(lb_json_get(c, "desc_act"), &w->act_order);
    return parse_rules(w);
}

/* ---- one weight ---- */

typedef struct layer {
    lb_str path;
    const lb_tensor *codes, *scales, *zeros, *groups; /* groups: NULL if there are none */
    u64 rows, cols, n_groups;
    u32 bits;
} layer;

static lb_status check_parts(words *w, const layer *x) {
    if (x->codes->dtype != LB_I32 || x->codes->shape.rank != 2)
        return lb_fgn_misfit(w->f, x->scales, x->codes, "codes must be rows of i32 words");
    if (!lb_fgn_is_float(x->scales->dtype) || x->scales->shape.rank != 2)
        return lb_fgn_misfit(w->f, x->scales, x->codes, "expected rows of floats");
    if (x->zeros->dtype != LB_I32 || x->zeros->shape.rank != 2 ||
        x->zeros->shape.dim[0] != x->scales->shape.dim[0])
        return lb_fgn_misfit(w->f, x->zeros, x->scales, "expected as many rows of i32 words");
    return LB_OK;
}

/* Bits, rows and columns from the shapes of codes and zero points. */
static lb_status measure(words *w, layer *x) {
    u64 n_words = x->codes->shape.dim[0], out = x->codes->shape.dim[1];
    u64 zero_words = x->zeros->shape.dim[1];
    x->n_groups = x->scales->shape.dim[0];
    if (n_words == 0 || out == 0 || n_words > DIM_MAX || out > DIM_MAX || zero_words > DIM_MAX)
        return lb_fgn_misfit(w->f, x->scales, x->codes, "there is nothing in it, or too much");
    if (w->awq) {
        x->bits = 4;
        x->rows = 8 * out;
        x->cols = n_words;
        if (zero_words != out)
            return lb_fgn_misfit(w->f, x->zeros, x->codes, "expected as many words in a row");
    } else {
        x->rows = out;
        u64 bits = zero_words * 32 / out;
        if (zero_words * 32 % out || bits == 0 || bits > 8 || n_words * 32 % bits)
            return lb_fgn_misfit(w->f, x->zeros, x->codes, "not whole words of codes");
        x->bits = (u32)bits;
        x->cols = n_words * 32 / bits;
    }
    if (x->scales->shape.dim[1] != x->rows)
        return lb_fgn_misfit(w->f, x->scales, x->codes, "expected a scale for each output");
    return LB_OK;
}

/* The group size of the settings that have such bits and so many groups. */
static lb_status find_group(words *w, const layer *x, u64 *group) {
    bool bits_known = false;
    *group = 0;
    for (u32 i = 0; i < w->n; i++) {
        u64 g = w->set[i].group ? w->set[i].group : x->cols;
        if (w->set[i].bits != x->bits)
            continue;
        bits_known = true;
        if (lb_ceil_div_u64(x->cols, g) != x->n_groups)
            continue;
        if (*group && *group != LB_MIN(g, x->cols) && !x->groups)
            return lb_fgn_misfit(w->f, x->scales, x->codes,
                                 "more than one group size of the config has so many");
        *group = LB_MIN(g, x->cols);
    }
    if (*group)
        return LB_OK;
    char why[96];
    snprintf(why, sizeof why, "the config has no such groups of %u bits", x->bits);
    if (!bits_known)
        snprintf(why, sizeof why, "these are %u bits, which the config does not name", x->bits);
    return lb_fgn_misfit(w->f, x->scales, x->codes, why);
}

static lb_status check_groups(words *w, const layer *x) {
    if (!x->groups && w->act_order && !w->awq)
        return lb_fail(w->f->err, LB_E_FORMAT, "tensor '%.*s.g_idx' is missing (desc_act)",
                       LB_FMT(x->path));
    if (x->groups &&
        (x->groups->dtype != LB_I32 || x->groups->shape.rank != 1 || x->groups->n_elems != x->cols))
        return lb_fgn_misfit(w->f, x->groups, x->codes, "expected an i32 for each input");
    return LB_OK;
}

static lb_status look(words *w, const lb_tensor *t) {
    layer x = {.codes = t};
    lb_fgn *f = w->f;
    u64 group;
    if (!lb_fgn_path(t, ".qweight", &x.path))
        return LB_OK;
    LB_TRY(lb_fgn_need(f, x.path, ".scales", &x.scales));
    LB_TRY(lb_fgn_need(f, x.path, ".qzeros", &x.zeros));
    if (!w->awq)
        LB_TRY(lb_fgn_find(f, x.path, ".g_idx", &x.groups));
    if (x.groups && x.groups->n_elems == 0) { /* a kernel's way to say that there are none */
        lb_fgn_take(f, x.groups);
        x.groups = NULL;
    }
    LB_TRY(check_parts(w, &x));
    LB_TRY(measure(w, &x));
    LB_TRY(find_group(w, &x, &group));
    LB_TRY(check_groups(w, &x));
    if (w->awq && x.cols % group)
        return lb_fgn_misfit(f, x.scales, t, "the groups do not divide the inputs");
    lb_enc enc = {.kind = w->awq ? LB_ENC_AWQ : LB_ENC_GPTQ,
                  .bits = x.bits,
                  .group_size = (u32)group,
                  .rounded = x.scales->dtype,
                  .less_one = w->less_one};
    return lb_fgn_add(f, x.path, (lb_shape){2, {x.rows, x.cols}}, enc,
                      (const lb_tensor *[]){t, x.scales, x.zeros, x.groups, NULL});
}

/* ---- biases that no model had ---- */

/* Layers of one name ("down_proj"). */
typedef struct layers {
    lb_str name;
    bool zero; /* all their biases are */
} layers;

typedef struct biases {
    lb_fgn *f;
    layers list[KINDS_MAX];
    u32 n;
} biases;

static layers *find_layers(biases *b, lb_str path) {
    size_t dot = path.len;
    while (dot > 0 && path.ptr[dot - 1] != '.')
        dot--;
    lb_str name = lb_str_sub(path, dot, path.len);
    for (u32 i = 0; i < b->n; i++)
        if (lb_str_eq(b->list[i].name, name))
            return &b->list[i];
    if (b->n == KINDS_MAX)
        return NULL;
    b->list[b->n] = (layers){name, true};
    return &b->list[b->n++];
}

/* Whether layers with codes have a bias each, and nothing else has one. */
static lb_status is_made_so(lb_fgn *f, bool *out) {
    const lb_tensor *other;
    lb_str path;
    *out = true;
    for (u64 i = 0; i < f->s->n_tensors && *out; i++) {
        const lb_tensor *t = &f->s->tensors[i];
        const char *want = lb_fgn_path(t, ".qweight", &path) ? ".bias"
                           : lb_fgn_path(t, ".bias", &path)  ? ".qweight"
                                                             : NULL;
        if (!want)
            continue;
        LB_TRY(lb_fgn_find(f, path, want, &other));
        *out = other != NULL;
    }
    return LB_OK;
}

/* AutoGPTQ gave every layer a bias at first, of zeros where the model had none. They are left out
 * for all layers of a name together, in models whose other layers have no biases: vLLM passes them
 * over as well (model_executor/models/llama.py, "Skip loading extra bias for GPTQ models"). */
static lb_status drop_biases(lb_fgn *f) {
    biases b = {.f = f};
    lb_str path;
    bool made_so, zero;
    LB_TRY(is_made_so(f, &made_so));
    for (u32 pass = 0; pass < 2 && made_so; pass++)
        for (u64 i = 0; i < f->s->n_tensors; i++) {
            const lb_tensor *t = &f->s->tensors[i];
            layers *of = lb_fgn_path(t, ".bias", &path) ? find_layers(&b, path) : NULL;
            if (!of || !of->zero)
                continue;
            if (pass == 0) {
                LB_TRY(lb_fgn_is_zero(f, t, &zero));
                of->zero = zero;
            } else {
                lb_fgn_take(f, t);
                f->n_zero_biases++;
            }
        }
    return LB_OK;
}

static lb_status take(lb_fgn *f, bool awq) {
    words w = {.f = f, .awq = awq};
    LB_TRY(parse(&w));
    for (u64 i = 0; i < f->s->n_tensors; i++)
        LB_TRY(look(&w, &f->s->tensors[i]));
    return awq ? LB_OK : drop_biases(f);
}

lb_status lb_fgn_gptq(lb_fgn *f) {
    return take(f, false);
}

lb_status lb_fgn_awq(lb_fgn *f) {
    return take(f, true);
}
