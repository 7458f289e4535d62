/* SPDX-License-Identifier: Apache-2.0 */
/* config_back.c: GGUF metadata -> config.json and generation_config.json.
 *
 * What a row of the tables writes forward is read back from the same row; ties and biases, which
 * only tensors show, are here, rope parameters in config_rope.c, kinds of layers in
 * config_layers.c. Assumptions for absent keys are those of llama.cpp's loader
 * (src/llama-model.cpp and src/models/gemma3.cpp of llama-cpp-python 0.3.36). A key of the
 * architecture that finds no place is reported, never dropped in silence. */
#include "arch/config_back.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

void lb_back_set(lb_back *b, lb_json *object, const char *key, lb_json *value) {
    b->oom |= !lb_json_set(b->perm, object, key, value);
}

void lb_back_notice(lb_back *b, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (b->n_notices == LB_BACK_NOTICES - 1)
        snprintf(text, sizeof text, "and more");
    if (b->n_notices == LB_BACK_NOTICES)
        return;
    lb_str copy = lb_arena_str(b->perm, lb_str_c(text));
    b->oom |= !copy.ptr;
    b->notices[b->n_notices++] = copy.ptr;
}

const lb_gguf_kv *lb_back_find(const lb_back *b, const char *key) {
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

static lb_json *literal(lb_back *b, const char *text) {
    lb_json *v = NULL;
    if (lb_json_parse(lb_str_c(text), "a table", b->perm, &v, NULL) != LB_OK)
        b->oom = true;
    return v;
}

/* ---- the rows ---- */

/* The config's number: the shortest of which GGUF holds the product. */
static lb_json *unscaled(lb_back *b, float v, double scale) {
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

/* A value of the metadata; lists that say the same for every layer are one value. scale: GGUF holds
 * so many times the number of the config. */
lb_status lb_back_value(lb_back *b, const lb_gguf_kv *kv, double scale, lb_json **out) {
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

static bool reads(const lb_back *b, const lb_arch_kv *row) {
    bool local = (row->flags & LB_KVF_ROPE_LOCAL) != 0;
    if (!b->arch->theta && row->op == LB_KV_VALUE && strncmp(row->key, "rope.", 5) == 0)
        return false;
    return (row->op == LB_KV_VALUE || row->op == LB_KV_OR_TIMES || row->op == LB_KV_BACK ||
            row->op == LB_KV_MTP || row->op == LB_KV_BY_TYPE || row->op == LB_KV_FF_SIZE) &&
           row->hf && !(row->flags & (LB_KVF_NO_BACK | LB_KVF_ROPE)) &&
           (!local || (b->arch->flags & LB_ARCH_ROPE_BY_LAYER));
}

/* What only one value says of this family's models. */
static lb_status check_const(lb_back *b, const lb_arch_kv *row) {
    const lb_gguf_kv *kv = lb_back_find(b, row->key);
    lb_json *v = NULL;
    const lb_json want = {.type = LB_JNUMBER, .text = lb_str_c(row->fallback)};
    double x = 0, y = 0;
    if (!kv)
        return LB_OK;
    LB_TRY(lb_back_value(b, kv, 0, &v));
    bool same = v && v->type == LB_JBOOL
                    ? v->truth == (strcmp(row->fallback, "true") == 0)
                    : lb_json_as_f64(v, &x) && lb_json_as_f64(&want, &y) && (float)x == (float)y;
    return same ? LB_OK
                : lb_fail(b->err, LB_E_UNSUPPORTED, "GGUF metadata: '%.*s' is not %s: %s",
                          LB_FMT(kv->key), row->fallback, row->hf);
}

/* The model class knows no other function. */
static lb_status take_gating(lb_back *b, const lb_arch_kv *row) {
    u64 type;
    if (lb_kv_as_u64(lb_back_find(b, row->key), &type) &&
        type != lb_arch_gating_type(lb_str_c(row->absent)))
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: '%.*s.%s' is %llu: config.json of '%s' has no form for that",
                       LB_FMT(b->name), row->key, (unsigned long long)type, b->arch->family);
    lb_back_set(b, b->config, row->hf, lb_json_new_str(b->perm, lb_str_c(row->absent)));
    return LB_OK;
}

/* A list with 0 for layers of another type: one number and the list of types. */
static lb_status take_types(lb_back *b, const lb_arch_kv *row) {
    const lb_gguf_kv *kv = lb_back_find(b, row->key);
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
    lb_back_set(b, b->config, row->of, types);
    lb_back_set(b, b->config, row->hf, lb_json_new_u64(b->perm, b->hp.n_head_kv));
    return LB_OK;
}

/* One number of a product from the other, which an earlier row has read. */
static lb_status take_product(lb_back *b, const lb_arch_kv *row) {
    u64 product = 0, by = 0;
    const lb_gguf_kv *kv = lb_back_find(b, row->key);
    if (lb_kv_as_u64(kv, &product) && lb_json_as_u64(lb_json_get(b->config, row->of), &by) && by &&
        product % by == 0) {
        lb_back_set(b, b->config, row->hf, lb_json_new_u64(b->perm, product / by));
        return LB_OK;
    }
    return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is %s", LB_FMT(b->name), row->key,
                   kv ? "no multiple of the heads" : "missing");
}

static lb_status take_false(lb_back *b, const lb_arch_kv *row) {
    bool truth = true;
    if (lb_kv_as_bool(lb_back_find(b, row->key), &truth) && !truth)
        lb_back_set(b, b->config, row->names, lb_json_new_bool(b->perm, false));
    return LB_OK;
}

static lb_status take_row(lb_back *b, const lb_arch_kv *row) {
    lb_json *v = NULL;
    if (row->op == LB_KV_FALSE)
        return take_false(b, row);
    if (row->op == LB_KV_BY_TYPE)
        return take_types(b, row);
    if (row->op == LB_KV_CONST && row->hf)
        return check_const(b, row);
    if (row->op == LB_KV_GATING && row->hf)
        return take_gating(b, row);
    if (row->op == LB_KV_PRODUCT && row->hf)
        return take_product(b, row);
    if (!reads(b, row))
        return LB_OK;
    const lb_gguf_kv *kv = lb_back_find(b, row->key);
    u64 n = 0;
    if (kv && (row->flags & LB_KVF_ZERO_NULL) && lb_kv_as_u64(kv, &n) && n == 0)
        return LB_OK;
    if (row->flags & LB_KVF_BLOCKS)
        v = lb_json_new_u64(b->perm, b->hp.n_layers);
    else if (row->above_one)
        v = literal(b, lb_kv_as_u64(kv, &n) && n > 1 ? row->above_one : row->absent);
    else if (kv)
        LB_TRY(lb_back_value(b, kv, row->scale, &v));
    else if (row->absent)
        v = literal(b, row->absent);
    else if (row->flags & LB_KVF_BACK_REQUIRED)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is missing", LB_FMT(b->name),
                       row->key);
    else
        return LB_OK;
    bool of_rope = row->hf[0] == '@';
    lb_back_set(b, of_rope ? b->rope : b->config, row->hf + of_rope, v);
    return LB_OK;
}

/* A family that has a name of its own for a key does not get the common one beside it. */
static bool has_own(const lb_back *b, const lb_arch_kv *common) {
    for (u32 i = 0; i < b->arch->n_kv; i++)
        if (reads(b, &b->arch->kv[i]) && strcmp(b->arch->kv[i].key, common->key) == 0)
            return true;
    return false;
}

static bool is_by_layer(const lb_arch_kv *row) {
    return row->op == LB_KV_KV_HEADS || row->op == LB_KV_WIDE_FFN;
}

/* A list that the family reads in its own way. */
static bool is_read_by_layer(const lb_back *b, const char *key) {
    for (u32 i = 0; i < b->arch->n_kv; i++)
        if (is_by_layer(&b->arch->kv[i]) && strcmp(b->arch->kv[i].key, key) == 0)
            return lb_back_find(b, key) && lb_back_find(b, key)->type == LB_GGUF_ARRAY;
    return false;
}

static lb_status take_rows(lb_back *b) {
    for (u32 i = 0; i < lb_arch_common_n_kv; i++)
        if (!has_own(b, &lb_arch_common_kv[i]) && !is_read_by_layer(b, lb_arch_common_kv[i].key))
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

/* A head has as many keys as values, and as many of them rotate as the class says. */
static lb_status take_head(lb_back *b) {
    u64 n = 0;
    if (!b->arch->defaults || lb_arch_has_field(b->arch, "num_key_value_heads"))
        lb_back_set(b, b->config, "num_key_value_heads", lb_json_new_u64(b->perm, b->hp.n_head_kv));
    else if (b->hp.n_head_kv != b->hp.n_head)
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "GGUF metadata: %llu key-value heads of %llu: config.json of '%s' has no "
                       "form for that",
                       (unsigned long long)b->hp.n_head_kv, (unsigned long long)b->hp.n_head,
                       b->arch->family);
    if (!(b->arch->flags & LB_ARCH_LAYER_SIZES) &&
        (lb_back_find(b, "attention.key_length") || lb_arch_has_field(b->arch, "head_dim")))
        lb_back_set(b, b->config, "head_dim", lb_json_new_u64(b->perm, b->hp.head_dim));
    if (lb_back_find(b, "attention.value_length") &&
        (!lb_kv_as_u64(lb_back_find(b, "attention.value_length"), &n) || n != b->hp.head_dim))
        return lb_fail(
            b->err, LB_E_UNSUPPORTED,
            "GGUF metadata: values of %llu with keys of %llu: config.json of '%s' has no "
            "form for that",
            (unsigned long long)n, (unsigned long long)b->hp.head_dim, b->arch->family);
    return lb_back_rope_dims(b);
}

/* Every head has keys and values of its own once they are made from what is cached. */
static void take_latent(lb_back *b) {
    lb_json_remove(b->config, "head_dim");
    lb_back_set(b, b->config, "num_key_value_heads", lb_json_new_u64(b->perm, b->hp.n_head));
    lb_back_set(b, b->config, "qk_nope_head_dim", lb_json_new_u64(b->perm, b->hp.nope_dim));
    lb_back_set(b, b->config, "v_head_dim", lb_json_new_u64(b->perm, b->hp.value_dim));
}

/* Rows of the embedding: vocab_size. */
static u64 n_rows(const lb_back *b) {
    return b->in->seen->vocab_rows ? b->in->seen->vocab_rows : b->hp.n_vocab;
}

/* Sizes that the loader derives when they are not written, and those that only tensors show. */
static lb_status take_shape(lb_back *b) {
    if (b->arch->flags & LB_ARCH_LATENT)
        take_latent(b);
    else
        LB_TRY(take_head(b));
    if (!lb_back_find(b, norm_key(b->arch)))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is missing", LB_FMT(b->name),
                       norm_key(b->arch));
    u64 n_vocab = n_rows(b);
    if (n_vocab == 0)
        return lb_fail(b->err, LB_E_FORMAT,
                       "GGUF: neither embeddings nor vocabulary give its size");
    lb_back_set(b, b->config, "vocab_size", lb_json_new_u64(b->perm, n_vocab));
    lb_back_set(b, b->config, "tie_word_embeddings", lb_json_new_bool(b->perm, b->hp.tied));
    if (!lb_back_find(b, "context_length"))
        lb_back_notice(b,
                       "the GGUF names no context length: the default of the model class applies");
    for (u32 i = 0; i < b->arch->n_biases; i++) {
        const lb_arch_bias *bias = &b->arch->biases[i];
        bool has = (b->in->seen->suffixes[bias->role] & LB_SUFFIX_BIAS) != 0;
        lb_back_set(b, b->config, bias->hf, lb_json_new_bool(b->perm, has));
    }
    for (u32 i = 0; i < b->arch->n_present; i++) {
        const lb_arch_bias *of = &b->arch->present[i];
        lb_back_set(b, b->config, of->hf,
                    lb_json_new_bool(b->perm, b->in->seen->count[of->role] != 0));
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
static void check_biases(lb_back *b) {
    const u8 *s = b->in->seen->suffixes;
    bool qkv = (s[LB_ROLE_ATTN_Q] | s[LB_ROLE_ATTN_K] | s[LB_ROLE_ATTN_V]) & LB_SUFFIX_BIAS;
    bool out = s[LB_ROLE_ATTN_OUTPUT] & LB_SUFFIX_BIAS;
    if ((s[LB_ROLE_OUTPUT] & LB_SUFFIX_BIAS) && !tells_bias(b->arch, LB_ROLE_OUTPUT))
        lb_back_notice(b, "output.bias has no place in '%s' models", b->arch->classes[0]);
    if (tells_bias(b->arch, LB_ROLE_ATTN_OUTPUT)) /* apart from the others */
        return;
    for (u32 i = 0; i < b->arch->n_biases; i++)
        if (b->arch->biases[i].role == LB_ROLE_ATTN_Q && qkv != out && biased_output(b->arch))
            lb_back_notice(b, "biases on %s: '%s' has them on all four projections of attention",
                           qkv ? "q, k and v only" : "the output projection only",
                           b->arch->classes[0]);
}

/* ---- the rest of the config ---- */

static lb_status take_layer_sizes(lb_back *b) {
    if (!(b->arch->flags & LB_ARCH_LAYER_SIZES) || b->oom)
        return LB_OK;
    lb_arch_sizes_in in = {.arch = b->arch,
                           .meta = b->meta,
                           .name = b->name,
                           .hp = &b->hp,
                           .seen = b->in->seen,
                           .full = b->full,
                           .perm = b->perm,
                           .config = b->config};
    return lb_arch_sizes_back(&in, b->err);
}

/* gemma2.cpp, gemma3.cpp: 1 / sqrt(head_dim), but for the 27B model 1 / sqrt(n_embd / n_head). */
static void take_scalar(lb_back *b) {
    bool split = b->hp.n_layers == b->arch->split_scalar_layers;
    u64 v = split ? b->hp.n_embd / b->hp.n_head : b->hp.head_dim;
    if (b->arch->flags & LB_ARCH_SCALAR_IS_HEAD_DIM)
        lb_back_set(b, b->config, "query_pre_attn_scalar", lb_json_new_u64(b->perm, v));
}

static const char *dtype_name(lb_dtype t) {
    return t == LB_F32 ? "float32" : t == LB_F16 ? "float16" : "bfloat16";
}

/* An id that no token has is ignored, as by llama.cpp; transformers does not load such a config. */
static bool find_id(lb_back *b, const char *key, bool say, u64 *id) {
    if (!lb_kv_as_u64(lb_meta_find(b->meta, key), id))
        return false;
    if (*id < n_rows(b))
        return true;
    if (say)
        lb_back_notice(b, "%s is %llu, which no token has: left out", key, (unsigned long long)*id);
    return false;
}

static void take_ids(lb_back *b, lb_json *to, bool with_eot) {
    static const struct {
        const char *key, *hf;
    } ids[] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
               {"tokenizer.ggml.eos_token_id", "eos_token_id"},
               {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    u64 id, eot;
    for (size_t i = 0; i < LB_LEN(ids); i++) {
        if (!find_id(b, ids[i].key, to == b->config, &id))
            continue;
        lb_json *v = lb_json_new_u64(b->perm, id);
        if (i == 1 && with_eot && find_id(b, "tokenizer.ggml.eot_token_id", true, &eot) &&
            eot != id) {
            lb_json *list = lb_json_new_array(b->perm);
            b->oom |= !lb_json_push(list, v) || !lb_json_push(list, lb_json_new_u64(b->perm, eot));
            v = list;
        }
        lb_back_set(b, to, ids[i].hf, v);
    }
}

static void take_names(lb_back *b) {
    if (!b->arch->defaults)
        lb_back_notice(
            b, "transformers has no class '%s': the code that comes with such models is needed",
            b->arch->classes[0]);
    lb_json *classes = lb_json_new_array(b->perm);
    b->oom |= !lb_json_push(classes, lb_json_new_str(b->perm, lb_str_c(b->arch->classes[0])));
    lb_back_set(b, b->config, "architectures", classes);
    lb_back_set(b, b->config, "model_type",
                lb_json_new_str(b->perm, lb_str_c(b->arch->model_types[0])));
    lb_json *constants = literal(b, b->arch->constants);
    for (lb_json *c = constants ? constants->first : NULL; c;) {
        lb_json *next = c->next;
        lb_str key = lb_arena_str(b->perm, c->key);
        b->oom |= !key.ptr;
        if (key.ptr)
            lb_back_set(b, b->config, key.ptr, lb_json_copy(b->perm, c));
        c = next;
    }
    lb_str dtype = lb_str_c(dtype_name(b->in->dtype));
    lb_back_set(b, b->config, "dtype", lb_json_new_str(b->perm, dtype));
    lb_back_set(b, b->config, "torch_dtype", lb_json_new_str(b->perm, dtype));
    take_ids(b, b->config, false);
}

/* Whether what a row of the family writes has a place in its config, or says nothing. */
static bool says(const lb_back *b, const lb_arch_kv *row) {
    bool latent = (b->arch->flags & LB_ARCH_LATENT) && (row->flags & LB_KVF_NO_BACK) && row->key;
    return reads(b, row) || latent || row->op == LB_KV_SUM || row->op == LB_KV_FALSE ||
           (row->flags & LB_KVF_ROPE) || (row->op == LB_KV_GATING && row->hf) || is_by_layer(row);
}

/* Keys of the architecture that nothing above reads. */
static void report_unknown(lb_back *b) {
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
        "attention.recurrent_layers",
        "rope.dimension_sections",
        "full_attention_interval",
        "ssm.inner_size",
        "attention.value_length_swa",
        "rope.dimension_count_swa",
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
            found = says(b, &lb_arch_common_kv[k]) && lb_str_eq_c(rest, lb_arch_common_kv[k].key);
        for (u32 k = 0; k < b->arch->n_kv && !found; k++)
            found = says(b, &b->arch->kv[k]) && lb_str_eq_c(rest, b->arch->kv[k].key);
        if (!found)
            lb_back_notice(b, "'%.*s' has no place in config.json",
                           LB_FMT(lb_str_sub(key, 0, 100)));
    }
}

/* ---- generation_config.json ---- */

static void take_suppressed(lb_back *b, lb_json *to) {
    const lb_gguf_kv *kv = lb_meta_find(b->meta, "tokenizer.ggml.suppress_tokens");
    u64 id;
    if (!kv || kv->type != LB_GGUF_ARRAY || kv->n == 0 || !lb_kv_elem_u64(kv, 0, &id))
        return;
    lb_json *list = lb_json_new_array(b->perm);
    for (u64 i = 0; i < kv->n && lb_kv_elem_u64(kv, i, &id) && !b->oom; i++)
        b->oom |= !lb_json_push(list, lb_json_new_u64(b->perm, id));
    lb_back_set(b, to, "suppress_tokens", list);
}

static lb_json *generation(lb_back *b) {
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
            lb_back_set(b, g, rows[i].hf, lb_json_new_i64(b->perm, n));
        else if (lb_kv_as_f64(kv, &f) && fabs(f) <= (double)FLT_MAX)
            lb_back_set(b, g, rows[i].hf, lb_arch_json_f32(b->perm, (float)f));
        else
            continue;
        sampled |= i < 4; /* a penalty alone does not make greedy decoding random */
    }
    if (sampled)
        lb_back_set(b, g, "do_sample", lb_json_new_bool(b->perm, true));
    take_ids(b, g, true);
    take_suppressed(b, g);
    return g;
}

/* ---- texts ---- */

static lb_status to_text(lb_back *b, lb_json *v, lb_str *out) {
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

/* ---- the texts that lbrx kept when it made the GGUF ---- */

/* Keys from which a config would be made: those of the family, and the tokens' ids. */
static bool is_config_key(const void *ctx, lb_str key) {
    const lb_str *family = ctx;
    return lb_str_eq_c(key, "general.architecture") || lb_str_ends(key, LB_STR("_token_id")) ||
           (lb_str_starts(key, *family) && key.len > family->len && key.ptr[family->len] == '.');
}

static void sum_keys(const lb_gguf_meta *meta, char out[33]) {
    lb_str family = LB_STR("general.architecture"); /* no key begins with that and a dot */
    lb_hash128 sum = {0, 0};
    (void)lb_kv_as_str(lb_meta_find(meta, "general.architecture"), &family);
    lb_meta_sum(meta, is_config_key, &family, &sum);
    lb_hash_hex(sum, out);
}

lb_status lb_arch_config_seal(lb_gguf_meta *meta, lb_err *err) {
    char sum[33];
    if (!lb_meta_find(meta, LB_KEY_HF_CONFIG))
        return LB_OK;
    sum_keys(meta, sum);
    return lb_meta_set_str(meta, LB_KEY_HF_CONFIG_SUM, lb_str_c(sum), err);
}

bool lb_arch_config_kept(const lb_gguf_meta *meta) {
    char sum[33];
    lb_str sealed, text;
    if (!lb_kv_as_str(lb_meta_find(meta, LB_KEY_HF_CONFIG), &text))
        return false;
    if (!lb_kv_as_str(lb_meta_find(meta, LB_KEY_HF_CONFIG_SUM), &sealed))
        return true; /* nothing says that it is not */
    sum_keys(meta, sum);
    return lb_str_eq_c(sealed, sum);
}

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

static lb_status build(lb_back *b, lb_arch_config_out *out) {
    b->config = lb_json_new_object(b->perm);
    b->rope = lb_json_new_object(b->perm);
    if (!b->config || !b->rope)
        return lb_fail(b->err, LB_E_NOMEM, "config.json: out of memory");
    take_names(b);
    LB_TRY(take_rows(b));
    LB_TRY(take_shape(b));
    LB_TRY(lb_back_rope(b));
    LB_TRY(lb_back_layers(b));
    LB_TRY(lb_back_recurrent(b));
    LB_TRY(take_layer_sizes(b));
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
    lb_back b = {.in = in, .meta = in->meta, .perm = perm, .err = err};
    lb_str text;
    *out = (lb_arch_config_out){0};
    if (lb_arch_config_kept(in->meta) &&
        lb_kv_as_str(lb_meta_find(in->meta, LB_KEY_HF_CONFIG), &text))
        return take_original(in, text, perm, out, err);
    if (lb_meta_find(in->meta, LB_KEY_HF_CONFIG))
        lb_back_notice(&b, "keys of the GGUF were changed since lbrx wrote it: it is made of them, "
                           "without what only the original said");
    bool has_output = in->seen->count[LB_ROLE_OUTPUT] != 0;
    LB_TRY(lb_arch_from_gguf(in->meta, has_output, &b.arch, &b.hp, err));
    lb_kv_as_str(lb_meta_find(in->meta, "general.architecture"), &b.name);
    if (b.hp.n_layers > LB_LAYERS_MAX)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "GGUF metadata: '%.*s.block_count' is %llu: at most %d layers are taken",
                       LB_FMT(b.name), (unsigned long long)b.hp.n_layers, LB_LAYERS_MAX);
    return build(&b, out);
}
