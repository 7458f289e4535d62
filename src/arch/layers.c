/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c: config classes whose layers of full attention have sizes of their own.
 *
 * Checkpoints name them global_head_dim and num_global_key_value_heads, transformers 5.24 writes
 * per_layer_config (an object by layer number) in their place; here they are the two names. Source:
 * transformers 5.24, models/gemma4/configuration_gemma4.py; conversion/gemma.py (Gemma4Model) of
 * llama-cpp-python 0.3.36. */
#include "arch/arch_internal.h"

static const struct {
    const char *name, *member; /* of the config, of a layer in per_layer_config */
} sizes[] = {{"global_head_dim", "head_dim"},
             {"num_global_key_value_heads", "num_key_value_heads"}};

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

bool lb_arch_layer_kinds(const lb_json *config, lb_arena *s, lb_arch_kinds *out) {
    const lb_json *types = lb_json_get(config, "layer_types");
    lb_str text;
    u64 i = 0;
    *out = (lb_arch_kinds){0};
    if (!types || types->type != LB_JARRAY)
        return true;
    bool *full = lb_arena_new(s, bool, types->n + 1);
    if (!full)
        return false;
    for (const lb_json *t = types->first; t; t = t->next) {
        full[i] = lb_json_as_str(t, &text) && lb_str_eq_c(text, "full_attention");
        out->n_full += full[i++];
    }
    out->full = full;
    out->n = types->n;
    return true;
}

static bool is_full(const lb_arch_kinds *k, const lb_json *layer) {
    u64 i;
    return lb_str_to_u64(layer->key, &i) && i < k->n && k->full[i];
}

/* That of the first layer of full attention that has one. */
static const lb_json *first_of(const lb_json *c, const lb_arch_kinds *k, const char *member) {
    const lb_json *layers = lb_json_get(c, "per_layer_config");
    for (const lb_json *l = layers && layers->type == LB_JOBJECT ? layers->first : NULL; l;
         l = l->next) {
        const lb_json *v = lb_json_get(l, member);
        if (v && is_full(k, l))
            return v;
    }
    return NULL;
}

bool lb_arch_fill_sizes(lb_json *c, bool by_class, lb_arena *s) {
    bool shared = false, listed = is_set(lb_json_get(c, "per_layer_config"));
    lb_json *types = lb_json_get(c, "layer_types");
    lb_json *last = types && types->type == LB_JARRAY ? types->last : NULL;
    lb_arch_kinds kinds;
    if (by_class && last && last->type == LB_JSTRING)
        last->text = LB_STR("full_attention");
    if (!lb_arch_layer_kinds(c, s, &kinds))
        return false;
    lb_json_as_bool(lb_json_get(c, "attention_k_eq_v"), &shared);
    for (u32 i = 0; i < LB_LEN(sizes); i++) {
        if (by_class && (listed || (i == 1 && !shared))) /* the class does not look at it */
            lb_json_remove(c, sizes[i].name);
        if (!listed || is_set(lb_json_get(c, sizes[i].name)))
            continue;
        const lb_json *v = first_of(c, &kinds, sizes[i].member);
        if (v && !lb_json_set(s, c, sizes[i].name, lb_json_copy(s, v)))
            return false;
    }
    return listed || !by_class || lb_json_get(c, sizes[0].name) ||
           lb_json_set(s, c, sizes[0].name, lb_json_new_u64(s, 512));
}

/* The value that the normal form has, of full layers, and no other. */
static bool is_usual(const lb_json *c, const lb_arch_kinds *k, const lb_json *layer) {
    u64 x, y;
    if (layer->type != LB_JOBJECT || (layer->n && !is_full(k, layer)))
        return false;
    for (const lb_json *m = layer->first; m; m = m->next) {
        const char *name = NULL;
        for (u32 i = 0; i < LB_LEN(sizes); i++)
            name = lb_str_eq_c(m->key, sizes[i].member) ? sizes[i].name : name;
        if (!name || !lb_json_as_u64(m, &x) || !lb_json_as_u64(lb_json_get(c, name), &y) || x != y)
            return false;
    }
    return true;
}

/* Every full layer is listed, each size of all or of none of them. */
static bool all_usual(const lb_json *c, const lb_arch_kinds *k, const lb_json *layers) {
    u64 n[LB_LEN(sizes)] = {0};
    for (const lb_json *l = layers->first; l; l = l->next) {
        if (!is_usual(c, k, l))
            return false;
        for (u32 i = 0; i < LB_LEN(sizes); i++)
            n[i] += lb_json_get(l, sizes[i].member) != NULL;
    }
    for (u32 i = 0; i < LB_LEN(sizes); i++)
        if (n[i] != 0 && n[i] != k->n_full)
            return false;
    return true;
}

lb_status lb_arch_check_layers(const lb_arch_normal *n, lb_err *err) {
    const lb_json *layers = lb_json_get(n->config, "per_layer_config");
    lb_arena s = {.max_bytes = 64 * LB_MIB};
    lb_arch_kinds kinds;
    lb_status st = LB_OK;
    if (!is_set(layers))
        return LB_OK;
    if (!lb_arch_layer_kinds(n->config, &s, &kinds))
        st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    else if (layers->type != LB_JOBJECT || !all_usual(n->config, &kinds, layers))
        st = lb_fail(err, LB_E_UNSUPPORTED,
                     "config.json: 'per_layer_config' says more than the head_dim and "
                     "num_key_value_heads that all layers of full attention share: only that has "
                     "a form elsewhere");
    lb_arena_deinit(&s);
    return st;
}

/* ---- GGUF metadata -> config ---- */

static const lb_gguf_kv *find(const lb_arch_sizes_in *b, const char *key) {
    return lb_meta_find_arch(b->meta, b->name, key);
}

static lb_status set(const lb_arch_sizes_in *b, const char *key, lb_json *value, lb_err *err) {
    return lb_json_set(b->perm, b->config, key, value)
               ? LB_OK
               : lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
}

/* The number of the layers of one kind; LB_E_UNSUPPORTED: they differ. *out stays where there are
 * none. */
static lb_status of_kind(const lb_arch_sizes_in *b, const lb_gguf_kv *kv, const bool *kind,
                         bool which, u64 *out, lb_err *err) {
    u64 n;
    bool any = false;
    for (u64 i = 0; i < b->hp->n_layers; i++) {
        if (kind[i] != which)
            continue;
        if (!lb_kv_elem_u64(kv, i, &n) || n == 0 || (any && n != *out))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "GGUF metadata: '%.*s' is not one number for layers of full attention "
                           "and one for the others: config.json of '%s' has no form for that",
                           LB_FMT(kv->key), b->arch->family);
        *out = n;
        any = true;
    }
    return LB_OK;
}

static lb_status take_kv_heads(const lb_arch_sizes_in *b, const lb_arch_kv *row, lb_err *err) {
    const lb_gguf_kv *kv = find(b, row->key);
    bool shared = b->seen->count[LB_ROLE_ATTN_V] < b->seen->count[LB_ROLE_ATTN_K];
    u64 full = b->hp->n_head_kv, usual;
    LB_TRY(set(b, "attention_k_eq_v", lb_json_new_bool(b->perm, shared), err));
    if (!kv || kv->type != LB_GGUF_ARRAY)
        return LB_OK;
    LB_TRY(of_kind(b, kv, b->full, true, &full, err));
    usual = full;
    LB_TRY(of_kind(b, kv, b->full, false, &usual, err));
    if (full != usual && !shared)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "GGUF metadata: '%.*s' differs by layer, and layers have values of their "
                       "own: config.json of '%s' has no form for that",
                       LB_FMT(kv->key), b->arch->family);
    LB_TRY(set(b, "num_key_value_heads", lb_json_new_u64(b->perm, usual), err));
    if (shared)
        LB_TRY(set(b, row->names, lb_json_new_u64(b->perm, full), err));
    return LB_OK;
}

/* Twice as wide from the first layer on that shares keys. */
static lb_status take_wide_ffn(const lb_arch_sizes_in *b, const lb_arch_kv *row, lb_err *err) {
    const lb_gguf_kv *kv = find(b, row->key);
    u64 usual = b->hp->n_ff, n, own = b->hp->n_layers - LB_MIN(b->hp->n_kv_shared, b->hp->n_layers);
    bool wide = kv && kv->type == LB_GGUF_ARRAY && own < b->hp->n_layers && own > 0 &&
                lb_kv_elem_u64(kv, own, &n) && n == 2 * usual;
    LB_TRY(set(b, row->names, lb_json_new_bool(b->perm, wide), err));
    LB_TRY(set(b, "intermediate_size", lb_json_new_u64(b->perm, usual), err));
    for (u64 i = 0; kv && kv->type == LB_GGUF_ARRAY && i < b->hp->n_layers; i++)
        if (!lb_kv_elem_u64(kv, i, &n) || n != (wide && i >= own ? 2 * usual : usual))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "GGUF metadata: '%.*s' is not twice as large for the layers that share "
                           "keys: config.json of '%s' has no form for that",
                           LB_FMT(kv->key), b->arch->family);
    return LB_OK;
}

/* Keys and values of a layer with a window: as long as each other, and rotated whole. */
static lb_status check_sliding_head(const lb_arch_sizes_in *b, lb_err *err) {
    u64 dim = 0, n;
    static const char *const keys[] = {"attention.value_length_swa", "rope.dimension_count_swa"};
    if (!lb_kv_as_u64(find(b, "attention.key_length_swa"), &dim) || dim == 0)
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: '%.*s.attention.key_length_swa' is %s",
                       LB_FMT(b->name), dim ? "not a number" : "missing");
    for (size_t i = 0; i < LB_LEN(keys); i++)
        if (find(b, keys[i]) && (!lb_kv_as_u64(find(b, keys[i]), &n) || n != dim))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "GGUF metadata: '%.*s.%s' is not %llu as the keys: config.json of '%s' "
                           "has no form for that",
                           LB_FMT(b->name), keys[i], (unsigned long long)dim, b->arch->family);
    return LB_OK;
}

lb_status lb_arch_sizes_back(const lb_arch_sizes_in *b, lb_err *err) {
    if (!b->full[b->hp->n_layers - 1])
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "GGUF metadata: the last layer has a window: '%s' models have none there",
                       b->arch->classes[0]);
    LB_TRY(check_sliding_head(b, err));
    for (u32 i = 0; i < b->arch->n_kv; i++) {
        const lb_arch_kv *row = &b->arch->kv[i];
        if (row->op == LB_KV_KV_HEADS)
            LB_TRY(take_kv_heads(b, row, err));
        if (row->op == LB_KV_WIDE_FFN)
            LB_TRY(take_wide_ffn(b, row, err));
    }
    if (b->seen->layer_vocab_rows)
        LB_TRY(set(b, "vocab_size_per_layer_input",
                   lb_json_new_u64(b->perm, b->seen->layer_vocab_rows), err));
    return set(b, "enable_moe_block",
               lb_json_new_bool(b->perm, b->seen->count[LB_ROLE_FFN_ROUTER] != 0), err);
}
