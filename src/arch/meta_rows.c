/* SPDX-License-Identifier: Apache-2.0 */
/* meta_rows.c: <arch>.* metadata from a normalised config, by the rows of the tables.
 *
 * Source: conversion/base.py (TextModel.set_gguf_parameters, _try_set_pooling_type), gguf_writer.py
 * (types) and constants.py (keys, enums) of llama-cpp-python 0.3.36. */
#include "arch/meta_writer.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

#define KEY_BYTES_MAX LB_META_KEY_MAX
#define LAYERS_MAX 65536 /* as in config_back.c */

typedef lb_meta_writer writer;

const char *lb_meta_full_key(const writer *w, const char *key, char *buf) {
    if (strncmp(key, "general.", 8) == 0 || strncmp(key, "tokenizer.", 10) == 0)
        return key;
    int len = snprintf(buf, KEY_BYTES_MAX, "%s.%s", w->arch->gguf, key);
    LB_ASSERT(len > 0 && len < KEY_BYTES_MAX);
    return buf;
}

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

static bool is_truthy(const lb_json *v) {
    double f;
    if (v->type == LB_JBOOL)
        return v->truth;
    if (v->type == LB_JARRAY)
        return v->n != 0;
    return !lb_json_as_f64(v, &f) || f != 0;
}

static lb_status put_u32(const writer *w, const char *key, u64 v, lb_err *err) {
    char buf[KEY_BYTES_MAX];
    if (v > UINT32_MAX)
        return lb_fail(err, LB_E_FORMAT, "config.json: %llu does not fit '%s.%s', 32 bits wide",
                       (unsigned long long)v, w->arch->gguf, key);
    return lb_meta_set_u32(w->out, lb_meta_full_key(w, key, buf), (u32)v, err);
}

static lb_status put_scaled(const writer *w, const char *key, const lb_json *v, double scale,
                            const char *name, lb_err *err) {
    char buf[KEY_BYTES_MAX];
    double f;
    if (!lb_json_as_f64(v, &f))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a number", name);
    f *= scale;
    if (isfinite(f) && fabs(f) > (double)FLT_MAX)
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' does not fit a 32-bit float", name);
    return lb_meta_set_f32(w->out, lb_meta_full_key(w, key, buf), (float)f, err);
}

static lb_status put_f32(const writer *w, const char *key, const lb_json *v, const char *name,
                         lb_err *err) {
    return put_scaled(w, key, v, 1, name, err);
}

static lb_status put_str(const writer *w, const char *key, const char *v, lb_err *err) {
    char buf[KEY_BYTES_MAX];
    return lb_meta_set_str(w->out, lb_meta_full_key(w, key, buf), lb_str_c(v), err);
}

/* A value a layer: the reference writes such lists as arrays of I32. */
static lb_status put_list(const writer *w, const char *key, const lb_json *v, const char *name,
                          lb_err *err) {
    char buf[KEY_BYTES_MAX];
    lb_arena scratch = {0};
    lb_status st = LB_OK;
    i32 *list = lb_arena_new(&scratch, i32, v->n);
    u64 n = 0;
    if (!list)
        st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (const lb_json *e = v->first; st == LB_OK && e; e = e->next) {
        i64 x;
        if (!lb_json_as_i64(e, &x) || x < INT32_MIN || x > INT32_MAX)
            st = lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a list of integers", name);
        else
            list[n++] = (i32)x;
    }
    if (st == LB_OK && n)
        st = lb_meta_set_array(w->out, lb_meta_full_key(w, key, buf), LB_GGUF_I32, n, list, err);
    lb_arena_deinit(&scratch);
    return st;
}

/* Layers of multi-token prediction that the GGUF has. */
static u64 count_mtp(const writer *w) {
    const lb_arch_kv *row = lb_arch_mtp_kv(w->arch);
    u64 n = 0;
    if (!row || (w->in && w->in->no_mtp))
        return 0;
    lb_json_as_u64(lb_arch_pick(w->n, row->names), &n);
    return n || !w->in ? n : w->in->n_mtp;
}

lb_status lb_meta_put_value(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    u64 u;
    if (row->type == LB_GGUF_F32)
        return put_scaled(w, row->key, v, row->scale != 0 ? row->scale : 1, row->names, err);
    if (row->type == LB_GGUF_BOOL) {
        char buf[KEY_BYTES_MAX];
        if (v->type != LB_JBOOL)
            return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is neither true nor false",
                           row->names);
        return lb_meta_set_bool(w->out, lb_meta_full_key(w, row->key, buf), v->truth, err);
    }
    if (v->type == LB_JARRAY)
        return put_list(w, row->key, v, row->names, err);
    if (!lb_json_as_u64(v, &u))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a whole number of 0 or more",
                       row->names);
    if ((row->flags & LB_KVF_BLOCKS) && !lb_add_u64(u, count_mtp(w), &u))
        u = UINT64_MAX;
    return put_u32(w, row->key, u, err);
}

/* ---- rope scaling ---- */

static lb_status put_yarn(const writer *w, lb_err *err) {
    static const struct {
        const char *names, *key;
    } opt[] = {
        {"@extrapolation_factor", "rope.scaling.yarn_ext_factor"},
        {"@attention_factor|@attn_factor", "rope.scaling.yarn_attn_factor"},
        {"@beta_fast", "rope.scaling.yarn_beta_fast"},
        {"@beta_slow", "rope.scaling.yarn_beta_slow"},
    };
    u64 orig;
    LB_TRY(lb_arch_pick_u64(w->n, "@original_max_position_embeddings", &orig, err));
    LB_TRY(put_u32(w, "rope.scaling.original_context_length", orig, err));
    for (size_t i = 0; i < LB_LEN(opt); i++) {
        const lb_json *v = lb_arch_pick(w->n, opt[i].names);
        if (is_set(v))
            LB_TRY(put_f32(w, opt[i].key, v, opt[i].names, err));
    }
    return w->run ? lb_meta_run_yarn(w, err) : LB_OK;
}

/* Types that the reference passes over in silence although they change the model are refused. */
static lb_status put_rope_scaling(const writer *w, const lb_arch_kv *row, const lb_json *v,
                                  lb_err *err) {
    (void)row;
    (void)v;
    lb_str type;
    const lb_json *factor = lb_arch_pick(w->n, "@factor");
    const lb_json *t = lb_arch_pick(w->n, "@rope_type");
    if (!is_set(t))
        return LB_OK;
    if (!lb_json_as_str(t, &type))
        return lb_fail(err, LB_E_FORMAT, "config.json: the rope type is not a name");
    bool linear = lb_str_eq_c(type, "linear"), yarn = lb_str_eq_c(type, "yarn");
    if (linear || yarn) {
        LB_TRY(put_str(w, "rope.scaling.type", linear ? "linear" : "yarn", err));
        LB_TRY(put_f32(w, "rope.scaling.factor", factor, "rope_parameters.factor", err));
        return yarn ? put_yarn(w, err) : LB_OK;
    }
    if (lb_str_eq_c(type, "dynamic"))
        return lb_meta_run_dynamic(w, factor, err);
    if (lb_str_eq_c(type, "default") ||
        (lb_str_eq_c(type, "llama3") && (w->arch->flags & LB_ARCH_ROPE_FREQS)) ||
        (lb_str_eq_c(type, "proportional") && (w->arch->flags & LB_ARCH_ROPE_SHARE)))
        return LB_OK;
    if (w->run)
        return lb_meta_run_rope(w, type, err);
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "config.json: rope type '%.*s' has no form in GGUF for '%s'",
                   LB_FMT(lb_str_sub(type, 0, 40)), w->arch->gguf);
}

/* ---- rows with a rule of their own ---- */

/* constants.py: PoolingType MEAN 1, CLS 2, LAST 3. */
static lb_status put_pooling(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    (void)v;
    static const struct {
        const char *flag, *mode;
        u32 type;
    } kind[] = {{"pooling_mode_mean_tokens", "mean", 1},
                {"pooling_mode_cls_token", "cls", 2},
                {"pooling_mode_lasttoken", "lasttoken", 3}};
    const lb_json *p = w->in ? w->in->pooling : NULL;
    lb_str mode = LB_STR_NONE;
    if (!p)
        return LB_OK;
    lb_json_as_str(lb_json_get(p, "pooling_mode"), &mode);
    for (size_t i = 0; i < LB_LEN(kind); i++) {
        const lb_json *flag = lb_json_get(p, kind[i].flag);
        if (is_set(flag) && is_truthy(flag))
            return put_u32(w, row->key, kind[i].type, err);
    }
    for (size_t i = 0; i < LB_LEN(kind); i++)
        if (mode.ptr && lb_str_eq_c(mode, kind[i].mode))
            return put_u32(w, row->key, kind[i].type, err);
    return lb_fail(err, LB_E_UNSUPPORTED, "pooling is neither mean, cls nor last token");
}

/* constants.py: ExpertGatingFuncType. */
u32 lb_arch_gating_type(lb_str name) {
    static const struct {
        const char *name;
        u32 type;
    } kind[] = {{"softmax", 1}, {"sigmoid", 2}, {"sqrtsoftplus", 4}};
    for (size_t i = 0; i < LB_LEN(kind); i++)
        if (lb_str_eq_c(name, kind[i].name))
            return kind[i].type;
    return 0;
}

static lb_status put_gating(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    lb_str name = lb_str_c(row->fallback);
    if (!is_set(v) && !row->fallback)
        return LB_OK;
    if (is_set(v) && !lb_json_as_str(v, &name))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a name", row->names);
    u32 type = lb_arch_gating_type(name);
    if (!type)
        return lb_fail(err, LB_E_UNSUPPORTED, "expert gating function '%.*s' has no form in GGUF",
                       LB_FMT(name));
    return put_u32(w, row->key, type, err);
}

static lb_status put_head_dim(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    u64 dim;
    if (is_set(v))
        return lb_meta_put_value(w, row, v, err);
    LB_TRY(lb_arch_head_dim(w->n, &dim, err));
    return put_u32(w, row->key, dim, err);
}

static lb_status put_rope_dims(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    (void)v;
    u64 dims;
    LB_TRY(lb_arch_rope_dims(w->arch, w->n, &dims, err));
    return put_u32(w, row->key, dims, err);
}

/* longrope's factor as the model has it. The reference's converter goes by the two lengths alone.
 */
lb_status lb_meta_put_mscale(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    char buf[KEY_BYTES_MAX];
    lb_str type;
    double scale, orig, factor, other;
    (void)v;
    if (!lb_json_as_str(lb_arch_pick(w->n, "@rope_type"), &type) || !lb_str_eq_c(type, "longrope"))
        return LB_OK;
    if (!lb_json_as_f64(lb_arch_pick(w->n, "@original_max_position_embeddings"), &orig) ||
        !(orig > 1))
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: 'original_max_position_embeddings' of longrope is no length");
    bool mscale = (w->arch->flags & LB_ARCH_MSCALE) != 0;
    const lb_json *given = lb_arch_pick(w->n, mscale ? "@long_mscale" : "@attention_factor");
    if (is_set(given)) {
        if (!lb_json_as_f64(given, &factor))
            return lb_fail(err, LB_E_FORMAT, "config.json: longrope's factor is not a number");
        if (mscale &&
            (!lb_json_as_f64(lb_arch_pick(w->n, "@short_mscale"), &other) || other != factor))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "config.json: 'short_mscale' is not 'long_mscale': GGUF has one value "
                           "for both");
        return put_f32(w, row->key, given, "long_mscale", err);
    }
    given = lb_arch_pick(w->n, "@factor");
    if (!lb_json_as_f64(given, &scale)) {
        if (!lb_json_as_f64(lb_arch_pick(w->n, "n_positions|max_position_embeddings"), &scale))
            return lb_fail(err, LB_E_FORMAT, "config.json: 'max_position_embeddings' is missing");
        scale /= orig;
    }
    return lb_meta_set_f32(w->out, lb_meta_full_key(w, row->key, buf),
                           (float)lb_rope_long_mscale(scale, orig), err);
}

static lb_status put_or_times(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    u64 n;
    if (is_set(v))
        return lb_meta_put_value(w, row, v, err);
    LB_TRY(lb_arch_pick_u64(w->n, row->of, &n, err));
    return put_u32(w, row->key, n <= UINT32_MAX ? n * row->times : n, err);
}

static lb_status put_by_type(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    lb_arena scratch = {0};
    lb_status st = LB_OK;
    char buf[KEY_BYTES_MAX];
    u64 heads, n = 0;
    lb_str type;
    const lb_json *types = lb_arch_pick(w->n, row->of);
    (void)v;
    LB_TRY(lb_arch_pick_u64(w->n, row->names, &heads, err));
    if (!types || types->type != LB_JARRAY || types->n == 0 || heads > INT32_MAX)
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: '%s' is no list of layers, or '%s' too large", row->of,
                       row->names);
    i32 *list = lb_arena_new(&scratch, i32, types->n);
    if (!list)
        st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (const lb_json *t = types->first; st == LB_OK && t; t = t->next)
        list[n++] = lb_json_as_str(t, &type) && lb_str_eq_c(type, row->fallback) ? 0 : (i32)heads;
    if (st == LB_OK)
        st = lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_I32, n, list,
                               err);
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status put_ff_size(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    (void)v;
    u64 ff;
    LB_TRY(lb_arch_ff_size(w->n, row->names, &ff, err));
    return put_u32(w, row->key, ff, err);
}

static lb_status put_product(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    u64 n = 0, k = 0;
    if (!lb_json_as_u64(v, &n) || !lb_json_as_u64(lb_arch_pick(w->n, row->of), &k) || !n || !k)
        return LB_OK;
    return put_u32(w, row->key, lb_mul_u64(n, k, &n) ? n : UINT64_MAX, err);
}

/* The reference takes one base and two lengths for granted, and stops at others. */
static lb_status put_ntk_alpha(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    (void)row;
    (void)v;
    enum { N_CTX = 256 * 1024 };
    char buf[KEY_BYTES_MAX];
    lb_str type;
    double alpha, base;
    u64 dim, n_ctx;
    if (!lb_json_as_str(lb_arch_pick(w->n, "@rope_type"), &type) || !lb_str_eq_c(type, "dynamic"))
        return LB_OK;
    LB_TRY(lb_arch_head_dim(w->n, &dim, err));
    LB_TRY(lb_arch_pick_u64(w->n, "max_position_embeddings", &n_ctx, err));
    if (!lb_json_as_f64(lb_arch_pick(w->n, "@alpha"), &alpha) || !(alpha > 0) || !(alpha < 1e9) ||
        !lb_json_as_f64(lb_arch_pick(w->n, "@rope_theta"), &base) || base != 10000 || dim <= 2 ||
        (n_ctx != 32 * 1024 && n_ctx != N_CTX))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: dynamic rope has a form in GGUF for '%s' with an alpha above "
                       "0, a base of 10000 and 32768 or 262144 positions",
                       w->arch->gguf);
    LB_TRY(lb_meta_set_f32(w->out, lb_meta_full_key(w, "rope.freq_base", buf),
                           (float)lb_rope_ntk_base(base, alpha, dim), err));
    LB_TRY(put_str(w, "rope.scaling.type", "none", err));
    LB_TRY(lb_meta_set_f32(w->out, lb_meta_full_key(w, "rope.scaling.factor", buf), 1, err));
    LB_TRY(put_u32(w, "rope.scaling.original_context_length", N_CTX, err));
    return put_u32(w, "context_length", N_CTX, err);
}

static bool is_left_out(const lb_arch *a, const char *key) {
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].op == LB_KV_NOT && strcmp(a->kv[i].key, key) == 0)
            return true;
    return false;
}

static lb_status put_mtp(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    u64 n = count_mtp(w), said;
    if (is_set(v) && !lb_json_as_u64(v, &said))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a whole number of 0 or more",
                       row->names);
    bool silent = !is_set(v) || (row->flags & LB_KVF_TRUTHY) || !*row->key;
    if ((w->in && w->in->no_mtp) || (n == 0 && silent))
        return LB_OK;
    return put_u32(w, row->key, n, err);
}

static lb_status put_sections(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    char buf[KEY_BYTES_MAX];
    i32 list[4] = {0};
    u64 n = 0;
    i64 x;
    if (is_set(v) == (row->fallback != NULL))
        return LB_OK;
    for (const char *s = row->fallback; s && *s && n < LB_LEN(list);) {
        size_t len = strcspn(s, "|");
        u64 u = 0;
        (void)lb_str_to_u64((lb_str){s, len}, &u);
        list[n++] = (i32)u;
        s += len + (s[len] == '|');
    }
    for (const lb_json *e = is_set(v) ? v->first : NULL; e && n < LB_LEN(list); e = e->next) {
        if (!lb_json_as_i64(e, &x) || x < 0 || x > INT32_MAX)
            return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a list of numbers",
                           row->names + 1);
        list[n++] = (i32)x;
    }
    return lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_I32, LB_LEN(list),
                             list, err);
}

/* gguf_writer.py: a list of booleans. */
static lb_status put_recurrent(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    char buf[KEY_BYTES_MAX];
    lb_arena scratch = {0};
    lb_str kind;
    u64 n = 0, n_layers;
    if (!is_set(v))
        return LB_OK;
    LB_TRY(lb_arch_pick_u64(w->n, "num_hidden_layers", &n_layers, err));
    if (v->type != LB_JARRAY || v->n != n_layers)
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a list of %llu layers",
                       row->names, (unsigned long long)n_layers);
    u64 n_mtp = count_mtp(w);
    if (n_mtp > LAYERS_MAX)
        return lb_fail(err, LB_E_LIMIT,
                       "config.json: more than %d layers of multi-token prediction", LAYERS_MAX);
    u8 *recurrent = lb_arena_push_array(&scratch, v->n + n_mtp, 1, 1); /* those have attention */
    if (!recurrent)
        return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (const lb_json *e = v->first; e; e = e->next)
        recurrent[n++] = lb_json_as_str(e, &kind) && lb_str_eq_c(kind, "linear_attention");
    memset(recurrent + n, 0, n_mtp);
    lb_status st = lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_BOOL,
                                     n + n_mtp, recurrent, err);
    lb_arena_deinit(&scratch);
    return st;
}

/* Said of GGUF alone: an evaluation has it from the config or the tensors. */
static bool is_run(const writer *w, const lb_arch_kv *row) {
    return w->run && (row->flags & LB_KVF_RUNS);
}

static lb_status check_refused(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    u64 n_layers = 0;
    if (!is_set(v) || ((row->flags & LB_KVF_TRUTHY) && !is_truthy(v)) || is_run(w, row))
        return LB_OK;
    lb_json_as_u64(lb_arch_pick(w->n, "num_hidden_layers"), &n_layers);
    if ((row->flags & LB_KVF_ONE_LAYER) && n_layers != 1)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED, "config.json: '%s' is set: %s", row->names, row->hf);
}

bool lb_meta_is_value(const lb_json *v, lb_str want) {
    double x, y;
    lb_str text;
    const lb_json number = {.type = LB_JNUMBER, .text = want};
    return v->type == LB_JBOOL ? lb_str_eq_c(want, v->truth ? "true" : "false")
           : lb_json_as_str(v, &text)
               ? lb_str_eq(text, want)
               : lb_json_as_f64(v, &x) && lb_json_as_f64(&number, &y) && x == y;
}

/* What GGUF does not say: the model is the one that its readers assume, or refused. */
static lb_status check_only(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    bool same = is_run(w, row) || (!is_set(v) && !(row->flags & LB_KVF_REQUIRED));
    for (const char *s = row->fallback; is_set(v) && *s && !same;) {
        size_t len = strcspn(s, "|");
        same = lb_meta_is_value(v, (lb_str){s, len});
        s += len + (s[len] == '|');
    }
    if (same)
        return LB_OK;
    if (!(row->flags & LB_KVF_SAID))
        return lb_fail(err, LB_E_UNSUPPORTED, "config.json: '%s' is not %s: %s", row->names,
                       row->fallback, row->hf);
    if (w->in && w->in->said)
        lb_buf_printf(w->in->said, "config.json: '%s' is not %s: %s\n", row->names, row->fallback,
                      row->hf);
    return LB_OK;
}

static lb_status put_rope_only(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    return w->run ? put_rope_scaling(w, row, v, err) : check_only(w, row, v, err);
}

static lb_status check_last(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    u64 n_layers = 0;
    i64 last = 0;
    lb_json_as_u64(lb_arch_pick(w->n, "num_hidden_layers"), &n_layers);
    if (!is_set(v) ||
        (lb_json_as_i64(v, &last) && (last == -1 || (last >= 0 && (u64)last + 1 == n_layers))))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED, "config.json: '%s' is not the last layer: %s", row->names,
                   row->hf);
}

static lb_status check_period(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    u64 period = 0, i = 0;
    lb_str text;
    if (!lb_str_to_u64(lb_str_c(row->fallback), &period) || !v || v->type != LB_JARRAY)
        return LB_OK;
    if (w->run)
        return lb_meta_run_layers(w, row, v, err);
    for (const lb_json *e = v->first; e; e = e->next) {
        bool usual = lb_json_as_str(e, &text) ? !lb_str_eq_c(text, "full_attention") : is_truthy(e);
        if (usual != (++i % period != 0))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "config.json: '%s' does not single out every layer of %s: %s",
                           row->names, row->fallback, row->hf);
    }
    return LB_OK;
}

/* gguf_writer.py: a list of booleans. */
static lb_status put_sliding(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    char buf[KEY_BYTES_MAX];
    lb_arena scratch = {0};
    lb_status st;
    lb_str kind;
    u64 n = 0, period = 0;
    bool usual = row->fallback && lb_str_to_u64(lb_str_c(row->fallback), &period);
    if (!is_set(lb_arch_pick(w->n, "sliding_window")) || !is_set(v) || v->n == 0)
        return LB_OK;
    if (v->type != LB_JARRAY)
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a list", row->names);
    u8 *slides = lb_arena_new(&scratch, u8, v->n);
    if (!slides)
        return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (const lb_json *e = v->first; e; e = e->next) {
        slides[n++] = lb_json_as_str(e, &kind) && lb_str_eq_c(kind, "sliding_attention");
        usual = usual && slides[n - 1] == (n % period != 0);
    }
    st = usual ? LB_OK
               : lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_BOOL, n,
                                   slides, err);
    lb_arena_deinit(&scratch);
    return st;
}

/* The value of the row's fallback. */
static lb_json fallback_of(const lb_arch_kv *row) {
    bool is_bool = row->type == LB_GGUF_BOOL;
    return (lb_json){.type = is_bool ? LB_JBOOL : LB_JNUMBER,
                     .truth = is_bool && strcmp(row->fallback, "true") == 0,
                     .text = lb_str_c(row->fallback)};
}

/* ---- a value a layer ---- */

/* The layers with `other`: those of full attention, or from `from` on. */
static lb_status put_two(const writer *w, const lb_arch_kv *row, u64 usual, u64 other, u64 from,
                         lb_arena *s, lb_err *err) {
    char buf[KEY_BYTES_MAX];
    lb_arch_kinds k = {0};
    u64 n = 0;
    LB_TRY(lb_arch_pick_u64(w->n, "num_hidden_layers", &n, err));
    if (n > LB_LAYERS_MAX || usual > INT32_MAX || other > INT32_MAX)
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' does not fit '%s'", row->names,
                       row->key);
    i32 *list = lb_arena_new(s, i32, n);
    if (!list || !lb_arch_layer_kinds(w->n->config, s, &k))
        return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (u64 i = 0; i < n; i++)
        list[i] = (i32)((from == UINT64_MAX ? i < k.n && k.full[i] : i >= from) ? other : usual);
    return lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_I32, n, list, err);
}

static lb_status put_wide_ffn(const writer *w, const lb_arch_kv *row, lb_arena *s, lb_err *err) {
    u64 n_ff, n, shared = 0;
    LB_TRY(lb_arch_pick_u64(w->n, "intermediate_size", &n_ff, err));
    LB_TRY(lb_arch_pick_u64(w->n, "num_hidden_layers", &n, err));
    lb_json_as_u64(lb_arch_pick(w->n, "num_kv_shared_layers"), &shared);
    if (shared >= n)
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: %llu of %llu layers use the keys of earlier ones",
                       (unsigned long long)shared, (unsigned long long)n);
    return put_two(w, row, n_ff, 2 * LB_MIN(n_ff, (u64)INT32_MAX), n - shared, s, err);
}

static lb_status put_kv_heads(const writer *w, const lb_arch_kv *row, lb_arena *s, lb_err *err) {
    u64 usual, full;
    LB_TRY(lb_arch_pick_u64(w->n, "num_key_value_heads", &usual, err));
    LB_TRY(lb_arch_pick_u64(w->n, row->names, &full, err));
    return put_two(w, row, usual, full, UINT64_MAX, s, err);
}

static lb_status put_by_layer(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    lb_arena s = {.max_bytes = 64 * LB_MIB};
    lb_status st = LB_OK;
    if (row->op == LB_KV_WIDE_FFN && v && is_truthy(v))
        st = put_wide_ffn(w, row, &s, err);
    else if (row->op == LB_KV_KV_HEADS && is_set(v))
        st = put_kv_heads(w, row, &s, err);
    lb_arena_deinit(&s);
    return st;
}

static lb_status check_layers(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    (void)row;
    (void)v;
    return lb_arch_check_layers(w->n, err);
}

static lb_status put_const(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    const lb_json value = fallback_of(row);
    (void)v;
    return row->type == LB_GGUF_STR ? put_str(w, row->key, row->fallback, err)
                                    : lb_meta_put_value(w, row, &value, err);
}

static lb_status put_rope_none(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    lb_str type = LB_STR("default");
    (void)v;
    if (w->run)
        (void)lb_json_as_str(lb_arch_pick(w->n, "@rope_type"), &type);
    return is_set(lb_arch_pick(w->n, "@factor")) || !lb_str_eq_c(type, "default")
               ? LB_OK
               : put_str(w, row->key, "none", err);
}

static lb_status put_sum(const writer *w, const lb_arch_kv *row, const lb_json *one, lb_err *err) {
    (void)one;
    char name[KEY_BYTES_MAX];
    u64 sum = 0, v;
    for (const char *at = row->names; *at;) {
        size_t len = strcspn(at, "|");
        LB_ASSERT(len < sizeof name);
        memcpy(name, at, len);
        name[len] = '\0';
        LB_TRY(lb_arch_pick_u64(w->n, name, &v, err));
        if (!lb_add_u64(sum, v, &sum))
            sum = UINT64_MAX;
        at += len + (at[len] == '|');
    }
    return put_u32(w, row->key, sum, err);
}

/* Readers of GGUF take one factor for both (llama-context.cpp); without it the first is 1. */
static lb_status check_mscale(const writer *w, const lb_arch_kv *row, const lb_json *v,
                              lb_err *err) {
    (void)v;
    double one = 1, all = 0;
    lb_str type;
    if (w->run || !lb_json_as_str(lb_arch_pick(w->n, "@rope_type"), &type) ||
        !lb_str_eq_c(type, "yarn"))
        return LB_OK;
    bool given = lb_json_as_f64(lb_arch_pick(w->n, "@mscale"), &one);
    lb_json_as_f64(lb_arch_pick(w->n, "@mscale_all_dim"), &all);
    if (all == 0 ? one == 1 : given && one == all)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "config.json: rope scaling with mscale %g and mscale_all_dim %g: %s", one, all,
                   row->hf);
}

static lb_status put_file_type(const writer *w, const lb_arch_kv *row, const lb_json *v,
                               lb_err *err) {
    (void)v;
    return w->in ? put_u32(w, row->key, w->in->file_type, err) : LB_OK;
}

static lb_status put_false(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    char buf[KEY_BYTES_MAX];
    if (!v || v->type != LB_JBOOL || v->truth)
        return LB_OK;
    return lb_meta_set_bool(w->out, lb_meta_full_key(w, row->key, buf), false, err);
}

static lb_status put_picked(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    if ((row->flags & LB_KVF_OTHER) && (!is_set(v) || lb_meta_is_value(v, lb_str_c(row->fallback))))
        return LB_OK;
    if (is_set(v) && (!(row->flags & LB_KVF_TRUTHY) || is_truthy(v)))
        return lb_meta_put_value(w, row, v, err);
    if (!v && row->fallback) {
        const lb_json value = fallback_of(row);
        return lb_meta_put_value(w, row, &value, err);
    }
    if (row->flags & LB_KVF_ZERO_NULL)
        return put_u32(w, row->key, 0, err);
    if (v && is_run(w, row)) /* null: without it */
        return LB_OK;
    if (row->flags & LB_KVF_REQUIRED)
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is missing", row->names);
    return LB_OK;
}

static lb_status put_of_generation(const writer *w, const lb_arch_kv *row, const lb_json *v,
                                   lb_err *err) {
    v = w->in && w->in->generation ? lb_json_get(w->in->generation, row->names) : NULL;
    return is_set(v) ? lb_meta_put_value(w, row, v, err) : LB_OK;
}

/* Only the way back, or other rows, ask. */
static lb_status put_nothing(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    (void)w;
    (void)row;
    (void)v;
    (void)err;
    return LB_OK;
}

/* ---- all rows ---- */

/* v: what the config has under the row's names, NULL for nothing. */
typedef lb_status(put_fn)(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err);

static put_fn *const put[] = {
    [LB_KV_VALUE] = put_picked,
    [LB_KV_BACK] = put_nothing,
    [LB_KV_ROPE] = put_rope_scaling,
    [LB_KV_ROPE_NONE] = put_rope_none,
    [LB_KV_HEAD_DIM] = put_head_dim,
    [LB_KV_ROPE_DIMS] = put_rope_dims,
    [LB_KV_ROPE_MSCALE] = lb_meta_put_mscale,
    [LB_KV_FILE_TYPE] = put_file_type,
    [LB_KV_POOLING] = put_pooling,
    [LB_KV_GATING] = put_gating,
    [LB_KV_FALSE] = put_false,
    [LB_KV_RUN] = lb_meta_run_value,
    [LB_KV_RUN_SCALE] = lb_meta_run_scale,
    [LB_KV_RUN_WINDOW] = lb_meta_run_window,
    [LB_KV_REFUSE] = check_refused,
    [LB_KV_ONLY] = check_only,
    [LB_KV_ROPE_ONLY] = put_rope_only,
    [LB_KV_PERIOD] = check_period,
    [LB_KV_OR_TIMES] = put_or_times,
    [LB_KV_CONST] = put_const,
    [LB_KV_SLIDING] = put_sliding,
    [LB_KV_KV_HEADS] = put_by_layer,
    [LB_KV_WIDE_FFN] = put_by_layer,
    [LB_KV_LAYERS] = check_layers,
    [LB_KV_NOT] = put_nothing,
    [LB_KV_NTK_ALPHA] = put_ntk_alpha,
    [LB_KV_MTP] = put_mtp,
    [LB_KV_PRODUCT] = put_product,
    [LB_KV_LAST] = check_last,
    [LB_KV_GENERATION] = put_of_generation,
    [LB_KV_SUM] = put_sum,
    [LB_KV_MSCALE] = check_mscale,
    [LB_KV_BY_TYPE] = put_by_type,
    [LB_KV_FF_SIZE] = put_ff_size,
    [LB_KV_SECTIONS] = put_sections,
    [LB_KV_RECURRENT] = put_recurrent,
};

static lb_status put_row(const writer *w, const lb_arch_kv *row, lb_err *err) {
    u64 one = 0;
    if (row->unless_one && lb_json_as_u64(lb_arch_pick(w->n, row->unless_one), &one) && one == 1)
        return LB_OK;
    LB_ASSERT(row->op < LB_LEN(put) && put[row->op]);
    return put[row->op](w, row, row->names ? lb_arch_pick(w->n, row->names) : NULL, err);
}

/* Those of the family that go before general.type. */
static lb_status put_first(const lb_arch *a, const lb_arch_normal *n, const lb_arch_meta_in *in,
                           lb_gguf_meta *out, lb_err *err) {
    writer w = {a, n, in, out, false};
    LB_TRY(lb_meta_set_str(out, "general.architecture", lb_str_c(a->gguf), err));
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].flags & LB_KVF_FIRST)
            LB_TRY(put_row(&w, &a->kv[i], err));
    return LB_OK;
}

static lb_status put_rows(const writer *w, lb_err *err) {
    const lb_arch *a = w->arch;
    for (u32 i = 0; i < lb_arch_common_n_kv; i++) {
        const lb_arch_kv *row = &lb_arch_common_kv[i];
        /* a missing mask is not a family's own matter */
        if ((!(a->flags & LB_ARCH_OWN_KV) || row->op == LB_KV_FALSE) && !is_left_out(a, row->key))
            LB_TRY(put_row(w, row, err));
    }
    for (u32 i = 0; i < a->n_kv; i++)
        if (!(a->kv[i].flags & LB_KVF_FIRST))
            LB_TRY(put_row(w, &a->kv[i], err));
    return lb_meta_run_rest(w, err);
}

lb_status lb_arch_meta_rows(const lb_arch *a, const lb_arch_normal *n, const lb_arch_meta_in *in,
                            lb_gguf_meta *out, lb_err *err) {
    return put_rows(&(writer){a, n, in, out, false}, err);
}

/* Case-blind search: is `needle` (lower case) in s, right after `before`? */
static bool has_word(lb_str s, const char *needle, const char *before) {
    size_t n = strlen(needle), n_before = strlen(before);
    for (size_t i = n_before; i + n <= s.len; i++) {
        if (memcmp(s.ptr + i - n_before, before, n_before) != 0)
            continue;
        size_t k = 0;
        while (k < n &&
               (s.ptr[i + k] | (s.ptr[i + k] >= 'A' && s.ptr[i + k] <= 'Z' ? 32 : 0)) == needle[k])
            k++;
        if (k == n)
            return true;
    }
    return false;
}

static lb_status meta_of(const lb_arch *a, const lb_json *config, bool run, lb_gguf_meta *out,
                         lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_normal n;
    lb_status st = lb_arch_normalise(config, &scratch, &n, err);
    if (st == LB_OK)
        st = put_first(a, &n, NULL, out, err);
    if (st == LB_OK)
        st = put_rows(&(writer){a, &n, NULL, out, run}, err);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_arch_meta_model(const lb_arch *a, const lb_json *config, lb_gguf_meta *out,
                             lb_err *err) {
    return meta_of(a, config, false, out, err);
}

lb_status lb_arch_meta_run(const lb_arch *a, const lb_json *config, lb_gguf_meta *out,
                           lb_err *err) {
    return meta_of(a, config, true, out, err);
}

lb_status lb_arch_meta_from_config(const lb_arch *a, const lb_arch_meta_in *in, lb_gguf_meta *out,
                                   lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_normal n;
    lb_status st = LB_OK;
    if (a->refused_label &&
        (has_word(in->label, a->refused_label, "") || has_word(in->readme, a->refused_label, "# ")))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s' is a reranker: its classifier has no conversion yet",
                       LB_FMT(in->label));
    LB_TRY_DONE(st, lb_arch_normalise(in->config, &scratch, &n, err));
    LB_TRY_DONE(st, put_first(a, &n, in, out, err));
    LB_TRY_DONE(st, lb_meta_set_str(out, "general.type", LB_STR("model"), err));
    LB_TRY_DONE(st, lb_arch_meta_general(in, &scratch, out, err));
    LB_TRY_DONE(st, lb_arch_meta_rows(a, &n, in, out, err));
    /* constants.py: GGML_QUANT_VERSION */
    LB_TRY_DONE(st, lb_meta_set_u32(out, "general.quantization_version", 2, err));
done:
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_arch_meta_adapter(const lb_arch *a, const lb_arch_meta_in *in, float alpha,
                               lb_gguf_meta *out, lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_meta_in own = *in;
    lb_status st = LB_OK;
    own.adapter = true;
    LB_TRY_DONE(st, lb_meta_set_str(out, "general.architecture", lb_str_c(a->gguf), err));
    LB_TRY_DONE(st, lb_meta_set_str(out, "general.type", LB_STR("adapter"), err));
    LB_TRY_DONE(st, lb_meta_set_str(out, "adapter.type", LB_STR("lora"), err));
    LB_TRY_DONE(st, lb_arch_meta_general(&own, &scratch, out, err));
    LB_TRY_DONE(st, lb_meta_set_f32(out, "adapter.lora.alpha", alpha, err));
    LB_TRY_DONE(st, lb_meta_set_u32(out, "general.quantization_version", 2, err));
done:
    lb_arena_deinit(&scratch);
    return st;
}
