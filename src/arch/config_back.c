/* SPDX-License-Identifier: Apache-2.0 */
/* config_back.c: GGUF metadata -> config.json and generation_config.json.
 *
 * What a row of the tables writes forward is read back from the same row; the rest (rope scaling,
 * kinds of layers, ties and biases, which only tensors show) is here. Assumptions for absent keys
 * are those of llama.cpp's loader (src/llama-model.cpp and src/models/gemma3.cpp of
 * llama-cpp-python 0.3.36). A key of the architecture that finds no place is reported, never
 * dropped in silence. */
#include "arch/arch_internal.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

#define NOTICES_MAX 32
/* config.json names the kind of every layer. */
#define LAYERS_MAX 65536

typedef struct back {
    const lb_arch *arch;
    const lb_arch_config_in *in;
    const lb_gguf_meta *meta;
    lb_str name; /* general.architecture */
    lb_hparams hp;
    u64 rope_dims; /* values of a head that are rotated */
    lb_arena *perm;
    lb_json *config;
    lb_json *rope; /* what rows say of its parameters, all of them of yarn */
    bool oom;
    const char *notices[NOTICES_MAX];
    u32 n_notices;
    lb_err *err;
} back;

static void set(back *b, lb_json *object, const char *key, lb_json *value) {
    b->oom |= !lb_json_set(b->perm, object, key, value);
}

static void LB_PRINTF(2, 3) notice(back *b, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (b->n_notices == NOTICES_MAX - 1)
        snprintf(text, sizeof text, "and more");
    if (b->n_notices == NOTICES_MAX)
        return;
    lb_str copy = lb_arena_str(b->perm, lb_str_c(text));
    b->oom |= !copy.ptr;
    b->notices[b->n_notices++] = copy.ptr;
}

static const lb_gguf_kv *find(const back *b, const char *key) {
    return lb_meta_find_arch(b->meta, b->name, key);
}

lb_json *lb_arch_json_f32(lb_arena *perm, float v) {
    char text[32];
    if (!isfinite(v))
        return lb_json_new_f64(perm, (double)v);
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(text)};
        double x;
        if (lb_json_as_f64(&number, &x) && (float)x == v)
            return lb_json_new_f64(perm, x);
    }
    return lb_json_new_f64(perm, (double)v);
}

static lb_json *literal(back *b, const char *text) {
    lb_json *v = NULL;
    if (lb_json_parse(lb_str_c(text), "a table", b->perm, &v, NULL) != LB_OK)
        b->oom = true;
    return v;
}

/* ---- the rows ---- */

/* The config's number: the shortest of which GGUF holds the product. */
static lb_json *unscaled(back *b, float v, double scale) {
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v / scale);
        lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(text)};
        double x;
        if (lb_json_as_f64(&number, &x) && (float)(x * scale) == v)
            return lb_json_new_f64(b->perm, x);
    }
    return lb_json_new_f64(b->perm, (double)v / scale);
}

/* A value of the metadata; lists that say the same for every layer are one value. */
static lb_status read_value(back *b, const lb_gguf_kv *kv, double scale, lb_json **out) {
    u64 u = 0;
    double f = 0;
    if (kv->type == LB_GGUF_ARRAY) {
        u64 first = 0;
        for (u64 i = 0; i < kv->n; i++) {
            if (!lb_kv_elem_u64(kv, i, &u) || (i && u != first))
                return lb_fail(b->err, LB_E_UNSUPPORTED,
                               "GGUF metadata: '%.*s' differs by layer: config.json of '%s' has no "
                               "form for that",
                               LB_FMT(kv->key), b->arch->family);
            first = u;
        }
        *out = kv->n ? lb_json_new_u64(b->perm, first) : NULL;
        return LB_OK;
    }
    if (kv->type == LB_GGUF_BOOL) {
        bool truth = false;
        lb_kv_as_bool(kv, &truth);
        *out = lb_json_new_bool(b->perm, truth);
        return LB_OK;
    }
    if (kv->type == LB_GGUF_F32 || kv->type == LB_GGUF_F64) {
        if (!lb_kv_as_f64(kv, &f) || !isfinite(f))
            return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is not a number",
                           LB_FMT(kv->key));
        *out = fabs(f) > (double)FLT_MAX ? lb_json_new_f64(b->perm, f)
               : scale != 0              ? unscaled(b, (float)f, scale)
                                         : lb_arch_json_f32(b->perm, (float)f);
        return LB_OK;
    }
    if (kv->type == LB_GGUF_BOOL) {
        *out = lb_json_new_bool(b->perm, kv->v.u != 0);
        return LB_OK;
    }
    if (!lb_kv_as_u64(kv, &u))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is not a number of 0 or more",
                       LB_FMT(kv->key));
    *out = lb_json_new_u64(b->perm, u);
    return LB_OK;
}

static bool reads(const back *b, const lb_arch_kv *row) {
    bool local = (row->flags & LB_KVF_ROPE_LOCAL) != 0;
    if (!b->arch->theta && row->op == LB_KV_VALUE && strncmp(row->key, "rope.", 5) == 0)
        return false;
    return (row->op == LB_KV_VALUE || row->op == LB_KV_OR_TIMES || row->op == LB_KV_BACK ||
            row->op == LB_KV_MTP || row->op == LB_KV_BY_TYPE || row->op == LB_KV_FF_SIZE) &&
           row->hf && !(row->flags & (LB_KVF_NO_BACK | LB_KVF_ROPE)) &&
           (!local || (b->arch->flags & LB_ARCH_ROPE_BY_LAYER));
}

/* What only one value says of this family's models. */
static lb_status check_const(back *b, const lb_arch_kv *row) {
    const lb_gguf_kv *kv = find(b, row->key);
    lb_json *v = NULL;
    const lb_json want = {.type = LB_JNUMBER, .text = lb_str_c(row->fallback)};
    double x = 0, y = 0;
    if (!kv)
        return LB_OK;
    LB_TRY(read_value(b, kv, 0, &v));
    bool same = v && v->type == LB_JBOOL
                    ? v->truth == (strcmp(row->fallback, "true") == 0)
                    : lb_json_as_f64(v, &x) && lb_json_as_f64(&want, &y) && (float)x == (float)y;
    return same ? LB_OK
                : lb_fail(b->err, LB_E_UNSUPPORTED, "GGUF metadata: '%.*s' is not %s: %s",
                          LB_FMT(kv->key), row->fallback, row->hf);
}

/* The model class knows no other function. */
static lb_status take_gating(back *b, const lb_arch_kv *row) {
    u64 type;
    if (lb_kv_as_u64(find(b, row->key), &type) &&
        type != lb_arch_gating_type(lb_str_c(row->absent)))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: '%.*s.%s' is %llu: config.json of '%s' has no form for that",
                       LB_FMT(b->name), row->key, (unsigned long long)type, b->arch->family);
    set(b, b->config, row->hf, lb_json_new_str(b->perm, lb_str_c(row->absent)));
    return LB_OK;
}

/* A list with 0 for layers of another type: one number and the list of types. */
static lb_status take_types(back *b, const lb_arch_kv *row) {
    const lb_gguf_kv *kv = find(b, row->key);
    lb_json *types = lb_json_new_array(b->perm);
    u64 v = b->hp.n_head_kv;
    if (!kv)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is missing", LB_FMT(b->name),
                       row->key);
    bool is_list = kv->type == LB_GGUF_ARRAY;
    if (is_list && kv->n < b->hp.n_layers)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is shorter than the layers",
                       LB_FMT(kv->key));
    for (u64 i = 0; i < b->hp.n_layers && !b->oom; i++) {
        if (is_list && (!lb_kv_elem_u64(kv, i, &v) || (v && v != b->hp.n_head_kv)))
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "GGUF metadata: '%.*s' differs by layer: config.json of '%s' has no "
                           "form for that",
                           LB_FMT(kv->key), b->arch->family);
        b->oom |= !lb_json_push(
            types, lb_json_new_str(b->perm, lb_str_c(v ? "full_attention" : row->fallback)));
    }
    set(b, b->config, row->of, types);
    set(b, b->config, row->hf, lb_json_new_u64(b->perm, b->hp.n_head_kv));
    return LB_OK;
}

static lb_status take_row(back *b, const lb_arch_kv *row) {
    lb_json *v = NULL;
    if (row->op == LB_KV_BY_TYPE)
        return take_types(b, row);
    if (row->op == LB_KV_CONST && row->hf)
        return check_const(b, row);
    if (row->op == LB_KV_GATING && row->hf)
        return take_gating(b, row);
    if (!reads(b, row))
        return LB_OK;
    const lb_gguf_kv *kv = find(b, row->key);
    u64 n = 0;
    if (kv && (row->flags & LB_KVF_ZERO_NULL) && lb_kv_as_u64(kv, &n) && n == 0)
        return LB_OK;
    if (row->flags & LB_KVF_BLOCKS)
        v = lb_json_new_u64(b->perm, b->hp.n_layers);
    else if (row->above_one)
        v = literal(b, lb_kv_as_u64(kv, &n) && n > 1 ? row->above_one : row->absent);
    else if (kv)
        LB_TRY(read_value(b, kv, row->scale, &v));
    else if (row->absent)
        v = literal(b, row->absent);
    else if (row->flags & LB_KVF_BACK_REQUIRED)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is missing", LB_FMT(b->name),
                       row->key);
    else
        return LB_OK;
    bool of_rope = row->hf[0] == '@';
    set(b, of_rope ? b->rope : b->config, row->hf + of_rope, v);
    return LB_OK;
}

/* A family that has a name of its own for a key does not get the common one beside it. */
static bool has_own(const back *b, const lb_arch_kv *common) {
    for (u32 i = 0; i < b->arch->n_kv; i++)
        if (reads(b, &b->arch->kv[i]) && strcmp(b->arch->kv[i].key, common->key) == 0)
            return true;
    return false;
}

static lb_status take_rows(back *b) {
    for (u32 i = 0; i < lb_arch_common_n_kv; i++)
        if (!has_own(b, &lb_arch_common_kv[i]))
            LB_TRY(take_row(b, &lb_arch_common_kv[i]));
    for (u32 i = 0; i < b->arch->n_kv; i++)
        LB_TRY(take_row(b, &b->arch->kv[i]));
    return LB_OK;
}

/* The key of the family's norms; a family whose are not RMS norms has a row for it. */
static const char *norm_key(const lb_arch *a) {
    static const char *const layer = "attention.layer_norm_epsilon";
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].key && strcmp(a->kv[i].key, layer) == 0)
            return layer;
    return "attention.layer_norm_rms_epsilon";
}

/* The share of a head that makes so many values: the quotient where it is a short number (0.75),
 * else the shortest that gives them (0.4 of 96 are 38). */
static lb_json *share_of(back *b, u64 dims) {
    const double whole = (double)b->hp.head_dim, quotient = (double)dims / whole;
    for (int exact = 1; exact >= 0; exact--)
        for (int digits = 1; digits <= (exact ? 4 : 17); digits++) {
            char text[32];
            double x = 0;
            snprintf(text, sizeof text, "%.*g", digits, quotient);
            const lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(text)};
            if (lb_json_as_f64(&number, &x) && x <= 1 && (u64)(whole * x) == dims &&
                (!exact || whole * x == (double)dims))
                return lb_json_new_f64(b->perm, x);
        }
    return lb_json_new_f64(b->perm, nextafter(quotient, 1)); /* whole * quotient was rounded down */
}

static lb_status take_rope_dims(back *b) {
    const lb_gguf_kv *kv = find(b, "rope.dimension_count");
    const lb_arch_kv *row = lb_arch_rope_dims_row(b->arch);
    u64 n = b->rope_dims = b->hp.head_dim;
    if (kv && (!lb_kv_as_u64(kv, &n) || n == 0 || n > b->hp.head_dim))
        return lb_fail(b->err, LB_E_FORMAT,
                       "GGUF metadata: '%.*s' is not a number of up to %llu values of a head",
                       LB_FMT(kv->key), (unsigned long long)b->hp.head_dim);
    if (!row && n != b->hp.head_dim)
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: only %llu of %llu values of a head are rotated: config.json "
                       "of '%s' has no form for that",
                       (unsigned long long)n, (unsigned long long)b->hp.head_dim, b->arch->family);
    b->rope_dims = n;
    if (row && row->of)
        set(b, b->config, row->of, lb_json_new_u64(b->perm, n));
    else if (row && (n != b->hp.head_dim || b->arch->rotary))
        set(b, b->config, "partial_rotary_factor", share_of(b, n));
    return LB_OK;
}

/* A head has as many keys as values, and as many of them rotate as the class says. */
static lb_status take_head(back *b) {
    u64 n = 0;
    if (!b->arch->defaults || lb_arch_has_field(b->arch, "num_key_value_heads"))
        set(b, b->config, "num_key_value_heads", lb_json_new_u64(b->perm, b->hp.n_head_kv));
    else if (b->hp.n_head_kv != b->hp.n_head)
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: %llu key-value heads of %llu: config.json of '%s' has no "
                       "form for that",
                       (unsigned long long)b->hp.n_head_kv, (unsigned long long)b->hp.n_head,
                       b->arch->family);
    if (find(b, "attention.key_length") || lb_arch_has_field(b->arch, "head_dim"))
        set(b, b->config, "head_dim", lb_json_new_u64(b->perm, b->hp.head_dim));
    if (find(b, "attention.value_length") &&
        (!lb_kv_as_u64(find(b, "attention.value_length"), &n) || n != b->hp.head_dim))
        return lb_fail(
            b->err, LB_E_UNSUPPORTED,
            "GGUF metadata: values of %llu with keys of %llu: config.json of '%s' has no "
            "form for that",
            (unsigned long long)n, (unsigned long long)b->hp.head_dim, b->arch->family);
    return take_rope_dims(b);
}

/* Every head has keys and values of its own once they are made from what is cached. */
static void take_latent(back *b) {
    lb_json_remove(b->config, "head_dim");
    set(b, b->config, "num_key_value_heads", lb_json_new_u64(b->perm, b->hp.n_head));
    set(b, b->config, "qk_nope_head_dim", lb_json_new_u64(b->perm, b->hp.nope_dim));
    set(b, b->config, "v_head_dim", lb_json_new_u64(b->perm, b->hp.value_dim));
}

/* Sizes that the loader derives when they are not written, and those that only tensors show. */
static lb_status take_shape(back *b) {
    if (b->arch->flags & LB_ARCH_LATENT)
        take_latent(b);
    else
        LB_TRY(take_head(b));
    if (!find(b, norm_key(b->arch)))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is missing", LB_FMT(b->name),
                       norm_key(b->arch));
    u64 n_vocab = b->in->seen->vocab_rows ? b->in->seen->vocab_rows : b->hp.n_vocab;
    if (n_vocab == 0)
        return lb_fail(b->err, LB_E_FORMAT,
                       "GGUF: neither embeddings nor vocabulary give its size");
    set(b, b->config, "vocab_size", lb_json_new_u64(b->perm, n_vocab));
    set(b, b->config, "tie_word_embeddings", lb_json_new_bool(b->perm, b->hp.tied));
    if (!find(b, "context_length"))
        notice(b, "the GGUF names no context length: the default of the model class applies");
    for (u32 i = 0; i < b->arch->n_biases; i++) {
        const lb_arch_bias *bias = &b->arch->biases[i];
        bool has = (b->in->seen->suffixes[bias->role] & LB_SUFFIX_BIAS) != 0;
        set(b, b->config, bias->hf, lb_json_new_bool(b->perm, has));
    }
    for (u32 i = 0; i < b->arch->n_present; i++) {
        const lb_arch_bias *of = &b->arch->present[i];
        set(b, b->config, of->hf, lb_json_new_bool(b->perm, b->in->seen->count[of->role] != 0));
    }
    return LB_OK;
}

/* Whether the config has a key for the biases of a role. */
static bool tells_bias(const lb_arch *a, lb_role role) {
    for (u32 i = 0; i < a->n_biases; i++)
        if (a->biases[i].role == role)
            return true;
    return false;
}

/* Whether the class has a bias on the output projection where it has them on q, k and v. */
static bool biased_output(const lb_arch *a) {
    for (u32 i = 0; i < a->n_rows; i++)
        if (a->rows[i].role == LB_ROLE_ATTN_OUTPUT)
            return (a->rows[i].suffixes & LB_SUFFIX_BIAS) != 0;
    return false;
}

/* Biases that the model class would not look for, or would miss and set to 0. */
static void check_biases(back *b) {
    const u8 *s = b->in->seen->suffixes;
    bool qkv = (s[LB_ROLE_ATTN_Q] | s[LB_ROLE_ATTN_K] | s[LB_ROLE_ATTN_V]) & LB_SUFFIX_BIAS;
    bool out = s[LB_ROLE_ATTN_OUTPUT] & LB_SUFFIX_BIAS;
    if ((s[LB_ROLE_OUTPUT] & LB_SUFFIX_BIAS) && !tells_bias(b->arch, LB_ROLE_OUTPUT))
        notice(b, "output.bias has no place in '%s' models", b->arch->classes[0]);
    if (tells_bias(b->arch, LB_ROLE_ATTN_OUTPUT)) /* apart from the others */
        return;
    for (u32 i = 0; i < b->arch->n_biases; i++)
        if (b->arch->biases[i].role == LB_ROLE_ATTN_Q && qkv != out && biased_output(b->arch))
            notice(b, "biases on %s: '%s' has them on all four projections of attention",
                   qkv ? "q, k and v only" : "the output projection only", b->arch->classes[0]);
}

/* ---- rope ---- */

static void scaling_f32(back *b, lb_json *rope, const char *key, const char *hf) {
    const lb_gguf_kv *kv = find(b, key);
    double f;
    if (lb_kv_as_f64(kv, &f) && fabs(f) <= (double)FLT_MAX)
        set(b, rope, hf, lb_arch_json_f32(b->perm, (float)f));
}

static lb_status yarn(back *b, lb_json *rope) {
    u64 orig = b->hp.n_ctx;
    double ext = 1;
    lb_kv_as_u64(find(b, "rope.scaling.original_context_length"), &orig);
    set(b, rope, "original_max_position_embeddings", lb_json_new_u64(b->perm, orig));
    scaling_f32(b, rope, "rope.scaling.yarn_attn_factor", "attention_factor");
    scaling_f32(b, rope, "rope.scaling.yarn_beta_fast", "beta_fast");
    scaling_f32(b, rope, "rope.scaling.yarn_beta_slow", "beta_slow");
    scaling_f32(b, rope, "rope.scaling.yarn_ext_factor", "extrapolation_factor");
    if (lb_kv_as_f64(find(b, "rope.scaling.yarn_ext_factor"), &ext) && ext != 1)
        notice(b, "yarn's extrapolation factor %g is not read by transformers", ext);
    return LB_OK;
}

/* What the family's rows say of a scaling rule. */
static lb_status scaling_rows(back *b, lb_json *rope) {
    for (u32 i = 0; i < b->arch->n_kv; i++) {
        const lb_arch_kv *row = &b->arch->kv[i];
        const lb_gguf_kv *kv = row->flags & LB_KVF_ROPE ? find(b, row->key) : NULL;
        double f;
        if (!kv || (lb_kv_as_f64(kv, &f) && f == 0))
            continue; /* 0 is what a config without the key means */
        for (const char *at = row->hf; *at;) {
            size_t len = strcspn(at, "|");
            lb_str name = lb_arena_str(b->perm, (lb_str){at, len});
            lb_json *v = NULL;
            LB_TRY(read_value(b, kv, row->scale, &v));
            b->oom |= !name.ptr;
            if (name.ptr)
                set(b, rope, name.ptr, v);
            at += len + (at[len] == '|');
        }
    }
    return LB_OK;
}

static bool all_ones(const float *v, u64 n) {
    for (u64 i = 0; i < n; i++)
        if (v[i] != 1)
            return false;
    return true;
}

/* A number as a config writes it: 8.0 for a factor, 8192 for a length. */
static lb_json *length_json(back *b, double v) {
    return v == rint(v) && v < 1e15 ? lb_json_new_u64(b->perm, (u64)v)
                                    : lb_json_new_f64(b->perm, v);
}

static lb_status llama3(back *b, lb_json *rope, double theta) {
    lb_rope_llama3 p = {.theta = theta};
    if (b->in->n_rope_freqs != b->rope_dims / 2)
        return lb_fail(b->err, LB_E_FORMAT, "rope_freqs.weight has %llu values, a head has %llu",
                       (unsigned long long)b->in->n_rope_freqs,
                       (unsigned long long)b->rope_dims / 2);
    if (!lb_rope_llama3_solve(&p, b->rope_dims, b->in->rope_freqs))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "rope_freqs.weight follows no llama3 rule: config.json has no form for it");
    set(b, rope, "rope_type", lb_json_new_str(b->perm, LB_STR("llama3")));
    set(b, rope, "factor", lb_json_new_f64(b->perm, p.factor));
    set(b, rope, "low_freq_factor", lb_json_new_f64(b->perm, p.low));
    set(b, rope, "high_freq_factor", lb_json_new_f64(b->perm, p.high));
    set(b, rope, "original_max_position_embeddings", length_json(b, p.orig));
    return LB_OK;
}

static lb_json *factor_list(back *b, const float *values) {
    lb_json *list = lb_json_new_array(b->perm);
    for (u64 i = 0; i < b->in->n_rope_long && !b->oom; i++)
        b->oom |= !lb_json_push(list, lb_arch_json_f32(b->perm, values[i]));
    return list;
}

/* Only the members that transformers 4 takes, which counts them. */
static lb_status longrope(back *b, lb_json *rope) {
    u64 orig = b->hp.n_ctx;
    double v = 1;
    if (!(b->arch->flags & LB_ARCH_LONGROPE))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF: factors of longrope have no form in config.json of '%s'",
                       b->arch->family);
    if (b->in->n_rope_long != b->rope_dims / 2)
        return lb_fail(
            b->err, LB_E_FORMAT, "rope_factors_long.weight has %llu values, half a head has %llu",
            (unsigned long long)b->in->n_rope_long, (unsigned long long)b->rope_dims / 2);
    lb_kv_as_u64(find(b, "rope.scaling.original_context_length"), &orig);
    const lb_gguf_kv *kv = find(b, "rope.scaling.attn_factor");
    if (kv && !(lb_kv_as_f64(kv, &v) && fabs(v) <= (double)FLT_MAX))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is not a number",
                       LB_FMT(kv->key));
    set(b, rope, "type", lb_json_new_str(b->perm, LB_STR("longrope")));
    set(b, rope, "long_factor", factor_list(b, b->in->rope_long));
    set(b, rope, "short_factor", factor_list(b, b->in->rope_short));
    bool own = lb_arch_has_field(b->arch, "original_max_position_embeddings");
    set(b, own ? b->config : rope, "original_max_position_embeddings",
        lb_json_new_u64(b->perm, orig));
    if (b->arch->flags & LB_ARCH_MSCALE) {
        set(b, rope, "long_mscale", lb_arch_json_f32(b->perm, (float)v));
        set(b, rope, "short_mscale", lb_arch_json_f32(b->perm, (float)v));
    } else if (orig > 1 && (float)v != (float)lb_rope_long_mscale(
                                           (double)b->hp.n_ctx / (double)orig, (double)orig)) {
        set(b, rope, "attention_factor", lb_arch_json_f32(b->perm, (float)v));
        notice(b,
               "longrope's attention factor %g is not the one that the lengths give: mlx-lm "
               "does not read it",
               v);
    }
    return LB_OK;
}

/* A base that an alpha has stretched, or none: such a model has the plain rule. */
static void ntk_alpha(back *b, lb_json *rope, double scaled) {
    double alpha;
    bool has_row = false;
    for (u32 i = 0; i < b->arch->n_kv; i++)
        has_row |= b->arch->kv[i].op == LB_KV_NTK_ALPHA;
    if (!has_row || !find(b, "rope.scaling.original_context_length"))
        return;
    if (!lb_rope_ntk_solve((float)scaled, 10000, b->rope_dims, &alpha)) {
        notice(b, "the rope base %g follows no alpha: it is written as it is", scaled);
        return;
    }
    set(b, b->config, "rope_theta", lb_json_new_f64(b->perm, 10000));
    set(b, rope, "rope_type", lb_json_new_str(b->perm, LB_STR("dynamic")));
    set(b, rope, "type", lb_json_new_str(b->perm, LB_STR("dynamic")));
    set(b, rope, "alpha", lb_json_new_f64(b->perm, alpha));
    set(b, rope, "factor", lb_json_new_f64(b->perm, 1));
}

/* Fills `rope` with a scaling rule; leaves it empty when there is none. */
static lb_status read_scaling(back *b, lb_json *rope) {
    lb_str type =
        LB_STR("linear"); /* the loader's default, without effect unless there is a factor */
    double factor = 0, theta = 10000, attn = 1;
    if (b->in->rope_long)
        return longrope(b, rope);
    if (!lb_kv_as_f64(find(b, "rope.scaling.factor"), &factor))
        lb_kv_as_f64(find(b, "rope.scale_linear"), &factor);
    lb_kv_as_f64(find(b, "rope.freq_base"), &theta);
    lb_kv_as_str(find(b, "rope.scaling.type"), &type);
    bool is_yarn = lb_str_eq_c(type, "yarn"), is_linear = lb_str_eq_c(type, "linear");
    bool scaled = factor > 0 && (is_linear || is_yarn) && (factor != 1 || (is_yarn && b->rope->n));
    if (!is_yarn && !is_linear && !lb_str_eq_c(type, "none"))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: rope scaling '%.*s' is not supported for '%s'",
                       LB_FMT(lb_str_sub(type, 0, 40)), b->arch->family);
    if (lb_kv_as_f64(find(b, "rope.scaling.attn_factor"), &attn) && attn != 1)
        notice(b, "rope.scaling.attn_factor %g has no place in config.json", attn);
    if (b->in->rope_freqs && !all_ones(b->in->rope_freqs, b->in->n_rope_freqs)) {
        if (scaled)
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "GGUF: rope factors and rope scaling together have no form in "
                           "config.json");
        return llama3(b, rope, theta);
    }
    if (!is_yarn && !is_linear)
        ntk_alpha(b, rope, theta);
    if (!scaled)
        return LB_OK;
    set(b, rope, "rope_type", lb_json_new_str(b->perm, type));
    set(b, rope, "type", lb_json_new_str(b->perm, type)); /* what transformers before 4.43 reads */
    set(b, rope, "factor", lb_arch_json_f32(b->perm, (float)factor));
    LB_TRY(scaling_rows(b, rope));
    return is_yarn ? yarn(b, rope) : LB_OK;
}

/* What rows say of yarn. */
static lb_status add_rope_rows(back *b, lb_json *scaling) {
    lb_str type;
    if (!b->rope->n)
        return LB_OK;
    if (!lb_json_as_str(lb_json_get(scaling, "rope_type"), &type) || !lb_str_eq_c(type, "yarn"))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: no yarn: config.json of '%s' has no form for that",
                       b->arch->family);
    for (const lb_json *m = b->rope->first; m; m = m->next) {
        lb_str key = lb_arena_str(b->perm, m->key);
        if (!key.ptr)
            return b->oom = true, LB_OK;
        set(b, scaling, key.ptr, lb_json_copy(b->perm, m));
    }
    return LB_OK;
}

/* rope_theta and rope_scaling as transformers 4 and mlx-lm read them, rope_parameters as 5 does. */
static lb_status take_rope(back *b) {
    if (!b->arch->theta)
        return LB_OK;
    lb_json *scaling = lb_json_new_object(b->perm), *full, *both;
    if (!scaling)
        return b->oom = true, LB_OK;
    LB_TRY(read_scaling(b, scaling));
    LB_TRY(add_rope_rows(b, scaling));
    if (scaling->n)
        set(b, b->config, "rope_scaling", scaling);
    full = lb_json_copy(b->perm, scaling);
    if (full && !lb_json_get(full, "rope_type"))
        set(b, full, "rope_type",
            scaling->n ? lb_json_copy(b->perm, lb_json_get(scaling, "type"))
                       : lb_json_new_str(b->perm, LB_STR("default")));
    lb_json_remove(full, "type");
    static const char *const mirrored[] = {"rope_theta", "partial_rotary_factor",
                                           "original_max_position_embeddings"};
    for (size_t i = 0; i < LB_LEN(mirrored); i++) {
        const lb_json *v = lb_json_get(b->config, mirrored[i]);
        if (v && (i < 2 || b->in->rope_long))
            set(b, full, mirrored[i], lb_json_copy(b->perm, v));
    }
    if (!(b->arch->flags & LB_ARCH_ROPE_BY_LAYER)) {
        set(b, b->config, "rope_parameters", full);
        return LB_OK;
    }
    both = lb_json_new_object(b->perm);
    lb_json *local = lb_json_new_object(b->perm);
    const lb_json *theta = lb_json_get(b->config, "rope_local_base_freq");
    if (!b->arch->local_theta && !find(b, "rope.freq_base_swa"))
        theta = lb_json_get(b->config, "rope_theta");
    set(b, local, "rope_type", lb_json_new_str(b->perm, LB_STR("default")));
    set(b, local, "rope_theta", lb_json_copy(b->perm, theta));
    if (!b->arch->local_theta)
        lb_json_remove(b->config, "rope_local_base_freq");
    set(b, both, "full_attention", full);
    set(b, both, "sliding_attention", local);
    set(b, b->config, "rope_parameters", both);
    return LB_OK;
}

/* ---- kinds of layers ---- */

/* Whether layer i has a sliding window: a list of flags, or all but every pattern-th. */
static bool is_sliding(const lb_gguf_kv *list, u64 pattern, u64 i) {
    u64 flag = 0;
    if (list)
        return lb_kv_elem_u64(list, i, &flag) && flag != 0;
    return pattern == 0 || i % pattern < pattern - 1;
}

/* The period that stands beside layer_types, or its letters. */
static lb_json *window_rule(back *b, const lb_gguf_kv *list, u64 pattern, u64 period) {
    if (!b->arch->window.letters)
        return lb_json_new_u64(b->perm, period);
    char *letters = lb_arena_new(b->perm, char, period);
    for (u64 i = 0; letters && i < period; i++)
        letters[i] = is_sliding(list, pattern, i) ? 'L' : 'G';
    return letters ? lb_json_new_str(b->perm, (lb_str){letters, (size_t)period}) : NULL;
}

static lb_status take_layer_types(back *b) {
    const lb_arch_window *w = &b->arch->window;
    u64 window = 0, pattern = w->period, n = b->hp.n_layers;
    const lb_gguf_kv *kv = find(b, "attention.sliding_window_pattern"), *list = NULL;
    if (!w->period)
        return LB_OK;
    lb_json *types = lb_json_new_array(b->perm);
    if (kv && kv->type == LB_GGUF_ARRAY) {
        list = kv;
        if (kv->n < n)
            return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is shorter than the layers",
                           LB_FMT(kv->key));
    } else {
        lb_kv_as_u64(kv, &pattern);
    }
    lb_kv_as_u64(find(b, "attention.sliding_window"), &window);
    if (window == 0) { /* every layer sees everything */
        pattern = 1;
        list = NULL;
        if (w->letters)
            set(b, b->config, "sliding_window", lb_json_new_null(b->perm));
        else
            lb_json_remove(b->config, "sliding_window");
    }
    u64 regular = n + 1; /* the pattern that the list follows, if any */
    for (u64 i = 0; i < n; i++) {
        bool s = is_sliding(list, pattern, i);
        if (!s && regular > n)
            regular = i + 1;
        b->oom |= !lb_json_push(types, lb_json_new_str(b->perm, s ? LB_STR("sliding_attention")
                                                                  : LB_STR("full_attention")));
        if (b->oom)
            return LB_OK;
    }
    for (u64 i = 0; i < n; i++)
        if (is_sliding(list, pattern, i) != ((i + 1) % regular != 0)) {
            if (w->letters)
                regular = n;
            else if (w->key)
                notice(b, "the order of sliding and full layers is irregular: only layer_types "
                          "says it");
            break;
        }
    set(b, b->config, "layer_types", types);
    if (w->key && w->letters && window == 0)
        set(b, b->config, w->key, lb_json_new_null(b->perm));
    else if (w->key)
        set(b, b->config, w->key,
            window_rule(b, list, pattern, list || pattern == 0 ? regular : pattern));
    return LB_OK;
}

/* gemma2.cpp, gemma3.cpp: 1 / sqrt(head_dim), but for the 27B model 1 / sqrt(n_embd / n_head). */
static void take_scalar(back *b) {
    bool split = b->hp.n_layers == b->arch->split_scalar_layers;
    u64 v = split ? b->hp.n_embd / b->hp.n_head : b->hp.head_dim;
    if (b->arch->flags & LB_ARCH_SCALAR_IS_HEAD_DIM)
        set(b, b->config, "query_pre_attn_scalar", lb_json_new_u64(b->perm, v));
}

/* ---- the rest of the config ---- */

static const char *dtype_name(lb_dtype t) {
    return t == LB_F32 ? "float32" : t == LB_F16 ? "float16" : "bfloat16";
}

static void take_ids(back *b, lb_json *to, bool with_eot) {
    static const struct {
        const char *key, *hf;
    } ids[] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
               {"tokenizer.ggml.eos_token_id", "eos_token_id"},
               {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    u64 id, eot;
    for (size_t i = 0; i < LB_LEN(ids); i++) {
        if (!lb_kv_as_u64(lb_meta_find(b->meta, ids[i].key), &id))
            continue;
        lb_json *v = lb_json_new_u64(b->perm, id);
        if (i == 1 && with_eot &&
            lb_kv_as_u64(lb_meta_find(b->meta, "tokenizer.ggml.eot_token_id"), &eot) && eot != id) {
            lb_json *list = lb_json_new_array(b->perm);
            b->oom |= !lb_json_push(list, v) || !lb_json_push(list, lb_json_new_u64(b->perm, eot));
            v = list;
        }
        set(b, to, ids[i].hf, v);
    }
}

static void take_names(back *b) {
    if (!b->arch->defaults)
        notice(b, "transformers has no class '%s': the code that comes with such models is needed",
               b->arch->classes[0]);
    lb_json *classes = lb_json_new_array(b->perm);
    b->oom |= !lb_json_push(classes, lb_json_new_str(b->perm, lb_str_c(b->arch->classes[0])));
    set(b, b->config, "architectures", classes);
    set(b, b->config, "model_type", lb_json_new_str(b->perm, lb_str_c(b->arch->model_types[0])));
    lb_json *constants = literal(b, b->arch->constants);
    for (lb_json *c = constants ? constants->first : NULL; c;) {
        lb_json *next = c->next;
        lb_str key = lb_arena_str(b->perm, c->key);
        b->oom |= !key.ptr;
        if (key.ptr)
            set(b, b->config, key.ptr, lb_json_copy(b->perm, c));
        c = next;
    }
    lb_str dtype = lb_str_c(dtype_name(b->in->dtype));
    set(b, b->config, "dtype", lb_json_new_str(b->perm, dtype));
    set(b, b->config, "torch_dtype", lb_json_new_str(b->perm, dtype));
    take_ids(b, b->config, false);
}

/* Whether what a row of the family writes has a place in its config, or says nothing. */
static bool says(const back *b, const lb_arch_kv *row) {
    bool latent = (b->arch->flags & LB_ARCH_LATENT) && (row->flags & LB_KVF_NO_BACK) && row->key;
    return reads(b, row) || latent || row->op == LB_KV_SUM || (row->flags & LB_KVF_ROPE) ||
           (row->op == LB_KV_GATING && row->hf);
}

/* Keys of the architecture that nothing above reads. */
static void report_unknown(back *b) {
    static const char *const known[] = {
        "vocab_size",
        "rope.dimension_count",
        "rope.scale_linear",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.attn_factor",
        "rope.scaling.finetuned",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "attention.value_length",
        "attention.sliding_window_pattern",
        "expert_count", /* 0, or the family is refused */
        "tensor_data_layout",
    };
    for (u64 i = 0; i < b->meta->n; i++) {
        lb_str key = b->meta->kv[i].key;
        bool found = false;
        if (key.len <= b->name.len || !lb_str_starts(key, b->name) || key.ptr[b->name.len] != '.')
            continue;
        lb_str rest = lb_str_sub(key, b->name.len + 1, key.len);
        for (size_t k = 0; k < LB_LEN(known) && !found; k++)
            found = lb_str_eq_c(rest, known[k]);
        for (u32 k = 0; k < lb_arch_common_n_kv && !found; k++)
            found = reads(b, &lb_arch_common_kv[k]) && lb_str_eq_c(rest, lb_arch_common_kv[k].key);
        for (u32 k = 0; k < b->arch->n_kv && !found; k++)
            found = says(b, &b->arch->kv[k]) && lb_str_eq_c(rest, b->arch->kv[k].key);
        if (!found)
            notice(b, "'%.*s' has no place in config.json", LB_FMT(lb_str_sub(key, 0, 100)));
    }
}

/* ---- generation_config.json ---- */

static lb_json *generation(back *b) {
    static const struct {
        const char *key, *hf;
    } rows[] = {{"general.sampling.temp", "temperature"},
                {"general.sampling.top_k", "top_k"},
                {"general.sampling.top_p", "top_p"},
                {"general.sampling.min_p", "min_p"},
                {"general.sampling.penalty_repeat", "repetition_penalty"}};
    lb_json *g = lb_json_new_object(b->perm);
    bool sampled = false;
    i64 n;
    double f;
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        const lb_gguf_kv *kv = lb_meta_find(b->meta, rows[i].key);
        if (lb_kv_as_i64(kv, &n))
            set(b, g, rows[i].hf, lb_json_new_i64(b->perm, n));
        else if (lb_kv_as_f64(kv, &f) && fabs(f) <= (double)FLT_MAX)
            set(b, g, rows[i].hf, lb_arch_json_f32(b->perm, (float)f));
        else
            continue;
        sampled |= i < 4; /* a penalty alone does not make greedy decoding random */
    }
    if (sampled)
        set(b, g, "do_sample", lb_json_new_bool(b->perm, true));
    take_ids(b, g, true);
    return g;
}

/* ---- texts ---- */

static lb_status to_text(back *b, lb_json *v, lb_str *out) {
    lb_buf text = {0};
    lb_json_sort_keys(v);
    lb_json_write(&text, v, (lb_json_style){.indent = 2, .ascii = true});
    lb_buf_put_u8(&text, '\n');
    lb_status st = lb_buf_status(&text, b->err);
    if (st == LB_OK) {
        *out = lb_arena_str(b->perm, lb_buf_str(&text));
        if (!out->ptr)
            st = lb_fail(b->err, LB_E_NOMEM, "config.json: out of memory");
    }
    lb_buf_deinit(&text);
    return st;
}

/* The texts that lbrx kept when it made the GGUF. */
static lb_status take_original(const lb_arch_config_in *in, lb_str text, lb_arena *perm,
                               lb_arch_config_out *out, lb_err *err) {
    lb_buf config = {0};
    lb_status st = lb_arch_config_to_hf(text, in->dtype, in->seen->vocab_rows, &config, err);
    if (st == LB_OK)
        st = lb_buf_status(&config, err);
    if (st == LB_OK) {
        out->config = lb_arena_str(perm, lb_buf_str(&config));
        if (!out->config.ptr)
            st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    }
    lb_buf_deinit(&config);
    if (st != LB_OK) {
        lb_err_context(err, "GGUF metadata '%s'", LB_KEY_HF_CONFIG);
        return st;
    }
    lb_kv_as_str(lb_meta_find(in->meta, LB_KEY_HF_GENERATION), &out->generation);
    out->original = true;
    return LB_OK;
}

static lb_status build(back *b, lb_arch_config_out *out) {
    b->config = lb_json_new_object(b->perm);
    b->rope = lb_json_new_object(b->perm);
    if (!b->config || !b->rope)
        return lb_fail(b->err, LB_E_NOMEM, "config.json: out of memory");
    take_names(b);
    LB_TRY(take_rows(b));
    LB_TRY(take_shape(b));
    LB_TRY(take_rope(b));
    LB_TRY(take_layer_types(b));
    take_scalar(b);
    check_biases(b);
    report_unknown(b);
    lb_json *g = generation(b);
    if (b->oom || !g)
        return lb_fail(b->err, LB_E_NOMEM, "config.json: out of memory");
    LB_TRY(to_text(b, b->config, &out->config));
    if (g->n)
        LB_TRY(to_text(b, g, &out->generation));
    out->notices = lb_arena_new(b->perm, const char *, b->n_notices);
    if (!out->notices)
        return lb_fail(b->err, LB_E_NOMEM, "config.json: out of memory");
    memcpy(out->notices, b->notices, b->n_notices * sizeof b->notices[0]);
    out->n_notices = b->n_notices;
    return LB_OK;
}

lb_status lb_arch_config_from_meta(const lb_arch_config_in *in, lb_arena *perm,
                                   lb_arch_config_out *out, lb_err *err) {
    back b = {.in = in, .meta = in->meta, .perm = perm, .err = err};
    lb_str text;
    *out = (lb_arch_config_out){0};
    if (lb_kv_as_str(lb_meta_find(in->meta, LB_KEY_HF_CONFIG), &text))
        return take_original(in, text, perm, out, err);
    bool has_output = in->seen->count[LB_ROLE_OUTPUT] != 0;
    LB_TRY(lb_arch_from_gguf(in->meta, has_output, &b.arch, &b.hp, err));
    lb_kv_as_str(lb_meta_find(in->meta, "general.architecture"), &b.name);
    if (b.hp.n_layers > LAYERS_MAX)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "GGUF metadata: '%.*s.block_count' is %llu: at most %d layers are taken",
                       LB_FMT(b.name), (unsigned long long)b.hp.n_layers, LAYERS_MAX);
    return build(&b, out);
}
