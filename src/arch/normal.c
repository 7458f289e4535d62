/* SPDX-License-Identifier: Apache-2.0 */
/* normal.c: config.json as the reference's classes see it, and the parameters read from it.
 *
 * The converter reads a config through transformers' config class, which fills in defaults and
 * moves rope_theta and rope_scaling into rope_parameters; only when that class refuses the file (a
 * type it does not know, a field of the wrong type) it takes the JSON as it is. Both ways are
 * followed here. Source: conversion/base.py (load_hparams, TextModel.__init__) of llama-cpp-python
 * 0.3.36; transformers 5.23: configuration_utils.py, modeling_rope_utils.py, models/gemma3. */
#include "arch/arch_internal.h"

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
}

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

/* ---- reading a normalised config ---- */

const lb_json *lb_arch_pick(const lb_arch_normal *n, const char *names) {
    while (*names) {
        size_t len = strcspn(names, "|");
        lb_str name = {names, len};
        const lb_json *from = n->config;
        if (*names == '@' || *names == '%') {
            from = *names == '@' ? n->rope : n->rope_local;
            name = lb_str_sub(name, 1, len);
        }
        const lb_json *v = lb_json_get_str(from, name);
        if (v)
            return v;
        names += len + (names[len] == '|');
    }
    return NULL;
}

lb_status lb_arch_pick_u64(const lb_arch_normal *n, const char *names, u64 *out, lb_err *err) {
    const lb_json *v = lb_arch_pick(n, names);
    if (lb_json_as_u64(v, out) && *out > 0)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is %s: a number above 0 is needed", names,
                   is_set(v) ? "not a positive integer" : "missing");
}

lb_status lb_arch_head_dim(const lb_arch_normal *n, u64 *out, lb_err *err) {
    u64 n_embd, n_head;
    if (is_set(lb_arch_pick(n, "head_dim")))
        return lb_arch_pick_u64(n, "head_dim", out, err);
    LB_TRY(lb_arch_pick_u64(n, "hidden_size", &n_embd, err));
    LB_TRY(lb_arch_pick_u64(n, "num_attention_heads", &n_head, err));
    *out = n_embd / n_head;
    return LB_OK;
}

const lb_arch_kv *lb_arch_rope_dims_row(const lb_arch *a) {
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].op == LB_KV_ROPE_DIMS)
            return &a->kv[i];
    return NULL;
}

lb_status lb_arch_rope_dims(const lb_arch *a, const lb_arch_normal *n, u64 *out, lb_err *err) {
    const lb_arch_kv *row = lb_arch_rope_dims_row(a);
    double share = 1;
    u64 dim;
    LB_TRY(lb_arch_head_dim(n, &dim, err));
    *out = dim;
    if (!row)
        return LB_OK;
    if (row->of && is_set(lb_arch_pick(n, row->of))) {
        LB_TRY(lb_arch_pick_u64(n, row->of, out, err));
        if (*out == 0 || *out > dim)
            return lb_fail(err, LB_E_FORMAT,
                           "config.json: '%s' is not a number of up to %llu values of a head",
                           row->of, (unsigned long long)dim);
        return LB_OK;
    }
    const lb_json *v = lb_arch_pick(n, row->names);
    const lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(row->fallback)};
    if (!v && row->fallback)
        v = &number;
    if (!lb_json_as_f64(v, &share) || !(share > 0) || !(share <= 1))
        return lb_fail(
            err, LB_E_FORMAT,
            "config.json: 'partial_rotary_factor' is %s: a number above 0, at most 1, is "
            "needed",
            is_set(v) ? "no share" : "missing");
    *out = (u64)((double)LB_MIN(*out, UINT32_MAX) * share);
    return LB_OK;
}

/* ---- would the config class take this file? ---- */

/* Fields are typed: an integer where a float belongs is refused, and the other way round. A field
 * that is null by default or marked so in the table may be null. */
static bool fits(const lb_json *field, bool optional, const lb_json *v) {
    if (v->type == LB_JNULL)
        return optional || field->type == LB_JNULL;
    if (field->type == LB_JNULL)
        return v->type == LB_JNUMBER && lb_json_is_int(v);
    if (field->type == LB_JNUMBER)
        return v->type == LB_JNUMBER && lb_json_is_int(v) == lb_json_is_int(field);
    return v->type == field->type;
}

/* Keys that a rope type must have: _validate_*_rope_parameters. */
static bool rope_complete(const lb_json *rope) {
    static const struct {
        const char *type, *keys[5];
    } need[] = {
        {"linear", {"factor"}},
        {"dynamic", {"factor"}},
        {"yarn", {"factor", "original_max_position_embeddings"}},
        {"longrope", {"short_factor", "long_factor", "original_max_position_embeddings"}},
        {"llama3",
         {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}},
    };
    lb_str type;
    const lb_json *t = lb_json_get(rope, "rope_type");
    if (!lb_json_as_str(t ? t : lb_json_get(rope, "type"), &type))
        return true;
    for (size_t i = 0; i < LB_LEN(need); i++)
        for (size_t k = 0; lb_str_eq_c(type, need[i].type) && need[i].keys[k]; k++)
            if (!lb_json_get(rope, need[i].keys[k]))
                return false;
    return true;
}

/* layer_types, where there is one, names every layer. */
static bool layers_named(const lb_json *c) {
    const lb_json *types = lb_json_get(c, "layer_types");
    lb_str s;
    u64 n;
    if (!is_set(types))
        return true;
    for (const lb_json *t = types->first; t; t = t->next)
        if (!lb_json_as_str(t, &s))
            return false;
    return types->type == LB_JARRAY && lb_json_as_u64(lb_json_get(c, "num_hidden_layers"), &n) &&
           n == types->n;
}

/* The class's own name of a field. */
static const char *own_name(const lb_arch *a, const char *key) {
    for (const lb_arch_alias *x = a->aliases; x && x->own; x++)
        if (strcmp(x->general, key) == 0)
            return x->own;
    return key;
}

/* A field under its general name sets the class's own, whatever that is. */
static bool use_own_names(const lb_arch *a, lb_json *c, lb_arena *s) {
    for (const lb_arch_alias *x = a->aliases; x && x->own; x++) {
        const lb_json *v = lb_json_get(c, x->general);
        if (v && !lb_json_set(s, c, x->own, lb_json_copy(s, v)))
            return false;
        lb_json_remove(c, x->general);
    }
    return true;
}

static bool shape_accepted(const lb_arch *a, const lb_json *c) {
    u64 n_embd, n_head;
    if (!lb_json_as_u64(lb_json_get(c, own_name(a, "hidden_size")), &n_embd) ||
        !lb_json_as_u64(lb_json_get(c, own_name(a, "num_attention_heads")), &n_head) || n_head == 0)
        return false;
    return (!(a->flags & LB_ARCH_HEADS_DIVIDE) || n_embd % n_head == 0) && layers_named(c);
}

/* An odd head is taken only where a part of it is rotated. */
static bool head_rotates(const lb_json *c, const lb_json *rope) {
    u64 dim;
    double part = 1;
    if (!lb_json_as_u64(lb_json_get(c, "head_dim"), &dim) || dim <= 4 || dim % 2 == 0)
        return true;
    lb_json_as_f64(lb_json_get(rope, "partial_rotary_factor"), &part);
    return part >= 0 && (u64)((double)LB_MIN(dim, UINT32_MAX) * LB_MIN(part, 1e6)) != dim;
}

/* ---- the config class ---- */

static bool set_default(lb_arena *perm, lb_json *object, const char *key, const lb_json *value) {
    return lb_json_get(object, key) != NULL ||
           lb_json_set(perm, object, key, lb_json_copy(perm, value));
}

/* A JSON literal of a table. */
static lb_json *literal(lb_arena *perm, const char *text) {
    lb_json *v = NULL;
    return lb_json_parse(lb_str_c(text), "a table", perm, &v, NULL) == LB_OK ? v : NULL;
}

/* The converter passes it over; here it stays where it says something. */
static void drop_head_dim(lb_json *c) {
    u64 dim, n_embd, n_head;
    if (lb_json_as_u64(lb_json_get(c, "head_dim"), &dim) &&
        lb_json_as_u64(lb_json_get(c, "hidden_size"), &n_embd) &&
        lb_json_as_u64(lb_json_get(c, "num_attention_heads"), &n_head) && n_head &&
        n_embd / n_head == dim)
        lb_json_remove(c, "head_dim");
}

static bool fill_shape(const lb_arch *a, lb_json *c, lb_arena *s) {
    u64 n_embd, n_head;
    lb_json *heads = lb_json_get(c, "num_attention_heads");
    if ((a->flags & LB_ARCH_LAYER_SIZES) && !lb_arch_fill_sizes(c, true, s))
        return false;
    if (lb_json_get(c, "num_key_value_heads") && !is_set(lb_json_get(c, "num_key_value_heads")) &&
        !lb_json_set(s, c, "num_key_value_heads", lb_json_copy(s, heads)))
        return false;
    if (a->flags & LB_ARCH_NO_HEAD_DIM)
        drop_head_dim(c);
    if (a->head_dim_is && lb_json_get(c, a->head_dim_is) &&
        !lb_json_set(s, c, "head_dim", lb_json_copy(s, lb_json_get(c, a->head_dim_is))))
        return false;
    if (!(a->flags & LB_ARCH_HEAD_DIM_SPLIT) || is_set(lb_json_get(c, "head_dim")) ||
        (a->split_unless && is_set(lb_json_get(c, a->split_unless))))
        return true;
    if (!lb_json_as_u64(lb_json_get(c, "hidden_size"), &n_embd) ||
        !lb_json_as_u64(heads, &n_head) || n_head == 0)
        return true;
    return lb_json_set(s, c, "head_dim", lb_json_new_u64(s, n_embd / n_head));
}

/* One entry of a list made by a rule: a period, or letters that repeat ("LLLG"). */
static const char *layer_entry(const lb_arch_layers *l, const lb_json *rule, u64 period, u64 i) {
    bool single = rule && rule->type == LB_JSTRING ? rule->text.ptr[i % rule->text.len] != 'L'
                                                   : (i + 1) % period == 0;
    return single ? l->single : l->usual;
}

static const char *indexed(const lb_arch *a, const lb_json *c, u64 layer) {
    const lb_json *list = lb_json_get(c, a->layer_indices);
    u64 i;
    if (!is_set(list))
        return a->layers->single;
    for (const lb_json *e = list->first; e; e = e->next)
        if (lb_json_as_u64(e, &i) && i == layer)
            return a->layers->single;
    return a->layers->usual;
}

/* Makes the list of layers that is null. raw: as the converter does it for a config that the class
 * refuses. False: the class fails here, or out of memory. */
static bool fill_layers(const lb_arch *a, lb_json *c, bool raw, lb_arena *s, bool *oom) {
    const lb_arch_layers *l = a->layers;
    u64 n = 0, period = l ? l->period : 0;
    if (!l || is_set(lb_json_get(c, l->list)))
        return true;
    const lb_json *rule = l->rule ? lb_json_get(c, l->rule) : NULL;
    bool letters = raw && rule && rule->type == LB_JSTRING && rule->text.len;
    bool ruled = letters || (rule ? lb_json_as_u64(rule, &period) && period > 0 : !raw || !l->rule);
    if (!ruled || (l->refuse && !is_set(lb_json_get(c, l->refuse))) ||
        !lb_json_as_u64(lb_json_get(c, "num_hidden_layers"), &n) || n > LB_LAYERS_MAX)
        return false;
    lb_json *list = lb_json_new_array(s);
    *oom = !list;
    for (u64 i = 0; i < n && !*oom; i++)
        *oom = !lb_json_push(list, literal(s, a->layer_indices ? indexed(a, c, i)
                                                               : layer_entry(l, rule, period, i)));
    if (l->rule && (a->flags & LB_ARCH_TAKES_RULE) && !raw)
        lb_json_remove(c, l->rule);
    *oom = *oom || !lb_json_set(s, c, l->list, list);
    return !*oom;
}

#define ORIGINAL "original_max_position_embeddings"

/* Type and original length of one set of rope parameters. */
static bool standardise(const lb_arch *a, lb_json *rope, const lb_json *c, lb_arena *s) {
    lb_str type;
    const lb_json *t = lb_json_get(rope, "type");
    if (!lb_json_get(rope, "rope_type") &&
        !lb_json_set(s, rope, "rope_type",
                     t ? lb_json_copy(s, t) : lb_json_new_str(s, LB_STR("default"))))
        return false;
    if (!lb_json_as_str(lb_json_get(rope, "rope_type"), &type))
        return true;
    bool yarn = lb_str_eq_c(type, "yarn"), own = lb_arch_has_field(a, ORIGINAL);
    bool older = (a->flags & LB_ARCH_LONGROPE) && (yarn || lb_str_eq_c(type, "su"));
    if (lb_str_eq_c(type, "llama3") || yarn || lb_str_eq_c(type, "longrope") || older) {
        const lb_json *length = lb_json_get(c, own ? ORIGINAL : "max_position_embeddings");
        if (own) /* counts before the same key here */
            lb_json_remove(rope, ORIGINAL);
        if (length && !set_default(s, rope, ORIGINAL, length))
            return false;
    }
    return !older || lb_json_set(s, rope, "rope_type", lb_json_new_str(s, LB_STR("longrope")));
}

static lb_json *move_theta(lb_json *c, const char *key, const char *fallback, lb_arena *s) {
    lb_json *v = key ? lb_json_get(c, key) : NULL;
    lb_json *copy = v ? lb_json_copy(s, v) : literal(s, fallback);
    if (key)
        lb_json_remove(c, key);
    return copy;
}

/* Whether any layer has full attention: parameters of absent kinds are not standardised. */
static bool has_full_layer(const lb_arch *a, const lb_json *c) {
    const lb_json *types = lb_json_get(c, "layer_types");
    u64 n_layers = 0, pattern = 6;
    lb_str s;
    if (types && types->type == LB_JARRAY) {
        for (const lb_json *t = types->first; t; t = t->next)
            if (lb_json_as_str(t, &s) && lb_str_eq_c(s, "full_attention"))
                return true;
        return false;
    }
    if (!(a->flags & LB_ARCH_ROPE_BY_LAYER))
        return true;
    lb_json_as_u64(lb_json_get(c, "num_hidden_layers"), &n_layers);
    if (!lb_json_as_u64(lb_json_get(c, "sliding_window_pattern"), &pattern) || pattern == 0)
        pattern = 6;
    return n_layers >= pattern;
}

/* One set of parameters a kind of layer (gemma3). */
static bool rope_by_layer(const lb_arch *a, lb_json *c, lb_arena *s, lb_arch_normal *out) {
    lb_json *outer = lb_json_get(c, "rope_parameters"), *scaling = lb_json_get(c, "rope_scaling");
    if (!outer || outer->type != LB_JOBJECT)
        outer = lb_json_new_object(s);
    lb_json *full = lb_json_get(outer, "full_attention");
    lb_json *local = lb_json_get(outer, "sliding_attention");
    if (!full || full->type != LB_JOBJECT) {
        full = lb_json_new_object(s);
        if (!lb_json_set(s, full, "rope_type", lb_json_new_str(s, LB_STR("default"))))
            return false;
    }
    if (!local || local->type != LB_JOBJECT) {
        local = lb_json_new_object(s);
        if (!lb_json_set(s, local, "rope_type", lb_json_new_str(s, LB_STR("default"))))
            return false;
    }
    for (const lb_json *m = scaling && scaling->type == LB_JOBJECT ? scaling->first : NULL; m;
         m = m->next) {
        lb_str key = lb_arena_str(s, m->key);
        if (!key.ptr || !lb_json_set(s, full, key.ptr, lb_json_copy(s, m)))
            return false;
    }
    lb_json_remove(c, "rope_scaling");
    lb_json_remove(c, "rope_parameters");
    lb_json *theta = move_theta(c, "rope_theta", a->theta, s);
    lb_json *theta_local = move_theta(c, a->local_theta, a->theta_local, s);
    out->rope = full;
    out->rope_local = local;
    return theta && theta_local && set_default(s, full, "rope_theta", theta) &&
           set_default(s, local, "rope_theta", theta_local) &&
           (!has_full_layer(a, c) || standardise(a, full, c, s));
}

/* Nested as they are: the class knows no other form. */
static bool rope_nested(const lb_arch *a, lb_json *c, lb_arena *s, lb_arch_normal *out) {
    lb_json *rope = lb_json_get(c, "rope_parameters");
    if (!is_set(rope)) {
        rope = literal(s, a->rope);
        if (!rope || !lb_json_set(s, c, "rope_parameters", rope))
            return false;
    }
    lb_json *full = lb_json_get(rope, "full_attention");
    lb_json *local = lb_json_get(rope, "sliding_attention");
    out->rope = full && full->type == LB_JOBJECT ? full : lb_json_new_object(s);
    out->rope_local = local && local->type == LB_JOBJECT ? local : lb_json_new_object(s);
    return out->rope && out->rope_local;
}

static bool set_theta(const lb_arch *a, lb_json *rope, lb_json *c, const lb_json *theta,
                      const lb_json *part, lb_arena *s) {
    return theta && set_default(s, rope, "rope_theta", theta) &&
           (!is_set(part) || set_default(s, rope, "partial_rotary_factor", part)) &&
           standardise(a, rope, c, s);
}

/* One set of parameters for all layers, unless the config itself nests them by the kinds of layers
 * that its class knows. */
static bool rope_global(const lb_arch *a, lb_json *c, lb_arena *s, lb_arch_normal *out) {
    lb_json *scaling = lb_json_get(c, "rope_scaling"), *params = lb_json_get(c, "rope_parameters");
    lb_json *rope = scaling && scaling->type == LB_JOBJECT && scaling->n ? scaling : params;
    rope = rope && rope->type == LB_JOBJECT ? lb_json_copy(s, rope)
           : a->rope                        ? literal(s, a->rope)
                                            : lb_json_new_object(s);
    lb_json_remove(c, "rope_scaling");
    lb_json_remove(c, "rope_parameters");
    lb_json *theta = move_theta(c, "rope_theta", a->theta, s);
    const lb_json *part = lb_json_get(c, "partial_rotary_factor");
    if (!part && a->rotary)
        part = literal(s, a->rotary);
    lb_json *full = lb_json_get(rope, "full_attention");
    lb_json *local = lb_json_get(rope, "sliding_attention");
    full = full && full->type == LB_JOBJECT ? full : NULL;
    out->rope = full ? full : rope;
    out->rope_local = local && local->type == LB_JOBJECT ? local : NULL;
    if (!rope)
        return false;
    if (full && (a->flags & LB_ARCH_LAYER_TYPES) && has_full_layer(a, c))
        return set_theta(a, full, c, theta, part, s);
    return set_theta(a, rope, c, theta, part, s);
}

static bool class_rope(const lb_arch *a, lb_json *c, lb_arena *s, lb_arch_normal *out) {
    return (a->flags & LB_ARCH_LAYER_SIZES)     ? rope_nested(a, c, s, out)
           : (a->flags & LB_ARCH_ROPE_BY_LAYER) ? rope_by_layer(a, c, s, out)
                                                : rope_global(a, c, s, out);
}

/* Whether every field of the class is there with its type, once defaults are added. */
static bool fill_fields(const char *fields, lb_json *c, lb_arena *s, bool *oom) {
    lb_json *defaults = literal(s, fields);
    *oom = !defaults;
    for (lb_json *d = defaults ? defaults->first : NULL; d; d = d->next) {
        bool optional, number;
        lb_str key = lb_arena_str(s, lb_arch_field_name(d->key, &optional, &number));
        lb_json *v = lb_json_get_str(c, key);
        if (v && !(number && v->type == LB_JNUMBER) && !fits(d, optional, v))
            return false;
        if (!v && (!key.ptr || !lb_json_set(s, c, key.ptr, lb_json_copy(s, d)))) {
            *oom = true;
            return false;
        }
    }
    return !*oom;
}

static bool accepts(const lb_arch *a, lb_json *c, lb_arena *s, bool *oom) {
    return fill_fields(a->defaults, c, s, oom) && shape_accepted(a, c);
}

/* Only the parameters of kinds of layers that there are are looked at. */
static bool rope_accepted(const lb_arch *a, const lb_json *c, const lb_arch_normal *n) {
    bool nested = (a->flags & LB_ARCH_ROPE_BY_LAYER) != 0;
    if ((!nested || has_full_layer(a, c)) && (!rope_complete(n->rope) || !head_rotates(c, n->rope)))
        return false;
    return !nested || (rope_complete(n->rope_local) && head_rotates(c, n->rope_local));
}

/* ---- what the converter adds to either ---- */

static bool mirror(const lb_json *c, const char *const *names, lb_json *rope, const char *key,
                   lb_arena *s) {
    for (; *names; names++) {
        const lb_json *v = lb_json_get(c, *names);
        if (v) /* the first name that exists counts, null or not */
            return v->type == LB_JNULL || set_default(s, rope, key, v);
    }
    return true;
}

static bool mirror_globals(const lb_json *c, lb_arena *s, lb_arch_normal *out) {
    static const char *const theta[] = {"global_rope_theta", "rope_global_theta",
                                        "rope_theta_global", "rope_theta",
                                        "rotary_emb_base",   NULL};
    static const char *const local[] = {"local_rope_theta",     "rope_local_theta",
                                        "rope_theta_local",     "swa_rope_theta",
                                        "rope_local_base_freq", NULL};
    static const char *const share[] = {"partial_rotary_factor", "rope_pct", "rope_percent", NULL};
    static const char *const length[] = {"original_max_position_embeddings", NULL};
    static const char *const type[] = {"type", NULL};
    lb_json *holder = lb_json_new_object(s);
    if (!holder || !out->rope)
        return false;
    if (!mirror(c, local, holder, "rope_theta", s))
        return false;
    if (holder->n)
        out->rope_local = holder;
    return mirror(c, theta, out->rope, "rope_theta", s) &&
           mirror(out->rope, type, out->rope, "rope_type", s) &&
           mirror(c, share, out->rope, "partial_rotary_factor", s) &&
           mirror(c, length, out->rope, "original_max_position_embeddings", s);
}

/* ---- configs that nest the language model's ---- */

/* The two configs of an outer class: its own with its defaults, and a copy of the nested one. */
typedef struct nested {
    const lb_arch_outer *of;
    lb_json *outer, *text;
} nested;

/* What the outer config says stands beneath what the language model's says, but for ties. */
static bool put_beneath(lb_json *c, const nested *n, lb_arena *s) {
    if (n->of->tied_by_tensors)
        lb_json_remove(n->outer, "tie_word_embeddings");
    const lb_json *tied = lb_json_get(n->outer, "tie_word_embeddings");
    for (const lb_json *m = n->outer->first; m; m = m->next) {
        lb_str key = lb_arena_str(s, m->key);
        if (!key.ptr ||
            (!lb_json_get_str(c, key) && !lb_json_set(s, c, key.ptr, lb_json_copy(s, m))))
            return false;
    }
    return !tied || lb_json_set(s, c, "tie_word_embeddings", lb_json_copy(s, tied));
}

/* Whether the embeddings are tied where there is no output matrix, as the outer config says. */
static bool may_tie(const lb_arch_outer *o, const lb_json *config, lb_arena *s) {
    bool tied = false;
    const lb_json *v = lb_json_get(config, "tie_word_embeddings");
    if (!is_set(v))
        v = lb_json_get(literal(s, o->defaults), "tie_word_embeddings");
    lb_json_as_bool(v, &tied);
    return tied;
}

static bool take_nested(const lb_arch_outer *o, const lb_json *config, lb_arena *s, nested *out) {
    const lb_json *text = lb_arch_outer_text(o, config);
    out->of = o;
    out->outer = lb_json_copy(s, config);
    out->text = text ? lb_json_copy(s, text) : lb_json_new_object(s);
    lb_json_remove(out->outer, o->key);
    return out->outer && out->text;
}

/* Rope parameters as they stand in the config. */
static bool take_rope(lb_json *c, lb_arena *s, lb_arch_normal *out) {
    lb_json *rope = lb_json_get(c, "rope_parameters");
    if (!rope)
        rope = lb_json_get(c, "rope_scaling");
    if (!rope || rope->type != LB_JOBJECT)
        rope = lb_json_new_object(s);
    out->config = c;
    lb_json *full = lb_json_get(rope, "full_attention");
    lb_json *local = lb_json_get(rope, "sliding_attention");
    out->rope = full && full->type == LB_JOBJECT ? full : rope;
    out->rope_local = local && local->type == LB_JOBJECT ? local : NULL;
    return c && rope && (full || local || mirror_globals(c, s, out));
}

/* The JSON as it is. */
static bool take_raw(const lb_arch *cls, const lb_json *config, lb_arena *s, lb_arch_normal *out) {
    const lb_arch_outer *o = lb_arch_outer_of(config, NULL);
    lb_json *c = NULL;
    nested n;
    bool oom = false;
    if (!o || !lb_arch_outer_text(o, config))
        c = lb_json_copy(s, config);
    else if (take_nested(o, config, s, &n) && put_beneath(n.text, &n, s))
        c = n.text;
    if (c && !lb_arch_fill_sizes(c, false, s))
        return false;
    if (c && cls && !fill_layers(cls, c, true, s, &oom) && oom)
        return false;
    return take_rope(c, s, out);
}

/* Through the class, which fills in the copy `c`; outer: what is beneath it, or NULL. *ok: the
 * class takes it. */
static lb_status take_class(const lb_arch *cls, lb_json *c, const nested *n, lb_arena *s,
                            lb_arch_normal *out, bool *ok, lb_err *err) {
    bool by_layer = (cls->flags & LB_ARCH_ROPE_BY_LAYER) != 0;
    bool oom = !c || !use_own_names(cls, c, s);
    *ok = !oom && accepts(cls, c, s, &oom) && fill_layers(cls, c, false, s, &oom);
    if (oom)
        return no_memory(err);
    if (!*ok)
        return LB_OK;
    out->config = c;
    if (!fill_shape(cls, c, s))
        return no_memory(err);
    if (!cls->theta && !(cls->flags & LB_ARCH_LAYER_SIZES))
        return (!n || put_beneath(c, n, s)) && take_rope(c, s, out) ? LB_OK : no_memory(err);
    if (!class_rope(cls, c, s, out))
        return no_memory(err);
    *ok = rope_accepted(cls, c, out);
    if (!*ok)
        return LB_OK;
    if (n && !put_beneath(c, n, s))
        return no_memory(err);
    return by_layer || out->rope_local || mirror_globals(c, s, out) ? LB_OK : no_memory(err);
}

static lb_status take_outer(const lb_arch_outer *o, const lb_json *config, lb_arena *s,
                            lb_arch_normal *out, bool *ok, lb_err *err) {
    nested n;
    bool oom = !take_nested(o, config, s, &n);
    *ok = !oom && fill_fields(o->defaults, n.outer, s, &oom);
    if (oom)
        return no_memory(err);
    lb_str type = lb_arch_outer_type(o, n.text);
    const lb_arch *cls = lb_arch_by_model_type(type);
    *ok = *ok && lb_arch_has_config_class(cls, type);
    return *ok ? take_class(cls, n.text, &n, s, out, ok, err) : LB_OK;
}

lb_status lb_arch_normalise(const lb_json *config, lb_arena *scratch, lb_arch_normal *out,
                            lb_err *err) {
    lb_str type = LB_STR_NONE;
    bool ok = false;
    lb_json_as_str(lb_json_get(config, "model_type"), &type);
    *out = (lb_arch_normal){0};
    if (!config || config->type != LB_JOBJECT)
        return lb_fail(err, LB_E_FORMAT, "config.json: not an object");
    /* The config class goes by model_type, which may be another family's. */
    const lb_arch *cls = lb_arch_by_model_type(type);
    const lb_arch *family = NULL;
    const lb_arch_outer *o = cls ? NULL : lb_arch_outer_of(config, &family);
    if (lb_arch_has_config_class(cls, type))
        LB_TRY(take_class(cls, lb_json_copy(scratch, config), NULL, scratch, out, &ok, err));
    else if (o && lb_arch_in_list(o->model_types, type))
        LB_TRY(take_outer(o, config, scratch, out, &ok, err));
    if (ok)
        return LB_OK;
    *out = (lb_arch_normal){0};
    return take_raw(o ? family : cls, config, scratch, out) ? LB_OK : no_memory(err);
}

/* ---- family and parameters ---- */

static lb_status find_family(const lb_json *config, const lb_arch_outer *o, const lb_arch *outer,
                             const lb_arch **out, lb_str *class_name, lb_err *err) {
    lb_str type = LB_STR_NONE;
    *class_name = lb_arch_first_class(config);
    if (o) { /* the language model's config may name its class */
        lb_str own = lb_arch_first_class(lb_arch_outer_text(o, config));
        *out = own.ptr ? lb_arch_by_class(own) : outer;
        if (own.ptr)
            *class_name = own;
        type = lb_arch_outer_type(o, lb_arch_outer_text(o, config));
        if (!own.ptr && !lb_arch_in_list(outer->model_types, type))
            return lb_arch_unknown(err, "config.json: the language model's model_type", type);
        return *out ? LB_OK : lb_arch_unknown(err, "config.json: the class", own);
    }
    if (class_name->ptr) {
        *out = lb_arch_by_class(*class_name);
        return *out ? LB_OK : lb_arch_unknown_class(config, *class_name, err);
    }
    if (!lb_json_as_str(lb_json_get(config, "model_type"), &type))
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: names neither 'architectures' nor 'model_type'");
    *out = lb_arch_by_model_type(type);
    return *out ? LB_OK : lb_arch_unknown(err, "config.json: the model_type", type);
}

/* A number of the model is the one that the rows write under its key of the metadata: the last row
 * that writes counts, and a row's fallback stands in for a config that has none of its names. Read
 * any other way, a config with two names of a number or with none would be another model in GGUF.
 * A key that no row writes leaves *out as it is, which is an error where `needed`. */
/* conversion/lfm2.py, _add_feed_forward_length, in its floats. */
lb_status lb_arch_ff_size(const lb_arch_normal *n, const char *names, u64 *out, lb_err *err) {
    u64 ff, multiple;
    bool adjusted = false;
    double factor;
    const lb_json *f = lb_arch_pick(n, "block_ffn_dim_multiplier");
    LB_TRY(lb_arch_pick_u64(n, names, out, err));
    lb_json_as_bool(lb_arch_pick(n, "block_auto_adjust_ff_dim"), &adjusted);
    if (!adjusted)
        return LB_OK;
    LB_TRY(lb_arch_pick_u64(n, "block_multiple_of", &multiple, err));
    ff = *out;
    if (ff > UINT32_MAX || multiple > UINT32_MAX || (is_set(f) && !lb_json_as_f64(f, &factor)) ||
        (is_set(f) && !(factor > 0 && factor < 1e6)))
        return lb_fail(err, LB_E_FORMAT, "config.json: the feed-forward's size is no number");
    ff = (u64)((double)(2 * ff) / 3);
    if (is_set(f))
        ff = (u64)(factor * (double)ff);
    *out = lb_ceil_div_u64(ff, multiple) * multiple;
    return LB_OK;
}

static lb_status row_u64(const lb_arch *a, const lb_arch_normal *n, const char *key, bool needed,
                         u64 *out, lb_err *err) {
    const char *names = key, *fault = needed ? "missing" : NULL;
    for (u32 i = 0; i < lb_arch_common_n_kv + a->n_kv; i++) {
        const lb_arch_kv *row =
            i < lb_arch_common_n_kv ? &lb_arch_common_kv[i] : &a->kv[i - lb_arch_common_n_kv];
        const bool size = row->op == LB_KV_FF_SIZE;
        if ((row->op != LB_KV_VALUE && row->op != LB_KV_OR_TIMES && !size) ||
            strcmp(row->key, key) != 0)
            continue;
        if (size) {
            LB_TRY(lb_arch_ff_size(n, row->names, out, err));
            fault = *out ? NULL : "0";
            continue;
        }
        const lb_json *v = lb_arch_pick(n, row->names);
        if (row->op == LB_KV_OR_TIMES && !is_set(v)) {
            LB_TRY(lb_arch_pick_u64(n, row->of, out, err));
            fault = lb_mul_u64(*out, row->times, out) ? NULL : "missing";
            continue;
        }
        lb_json number = {.type = LB_JNUMBER, .text = lb_str_c(row->fallback)};
        names = row->names;
        if (!v && row->fallback)
            v = &number;
        if (is_set(v))
            fault = lb_json_as_u64(v, out) && *out > 0 ? NULL : "not a positive integer";
    }
    if (!fault)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is %s: a number above 0 is needed", names,
                   fault);
}

/* May be 0, unlike the others. */
static lb_status read_mtp(const lb_arch *a, const lb_arch_normal *n, u64 *out, lb_err *err) {
    const lb_arch_kv *row = lb_arch_mtp_kv(a);
    const lb_json *v = row ? lb_arch_pick(n, row->names) : NULL;
    if (!is_set(v) || (lb_json_as_u64(v, out) && *out <= UINT32_MAX))
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a whole number of 0 or more",
                   row->names);
}

/* Latent attention: no row has a head's sizes alone. */
static lb_status latent_dims(const lb_arch *a, const lb_arch_normal *n, lb_hparams *hp,
                             lb_err *err) {
    u64 rope;
    if (!(a->flags & LB_ARCH_LATENT))
        return LB_OK;
    LB_TRY(lb_arch_pick_u64(n, "qk_nope_head_dim", &hp->nope_dim, err));
    LB_TRY(lb_arch_pick_u64(n, "qk_rope_head_dim", &rope, err));
    LB_TRY(lb_arch_pick_u64(n, "v_head_dim", &hp->value_dim, err));
    if (!lb_add_u64(hp->nope_dim, rope, &hp->head_dim))
        return lb_fail(err, LB_E_FORMAT, "config.json: 'qk_rope_head_dim' is too large");
    if (hp->n_head_kv != hp->n_head)
        return lb_fail(
            err, LB_E_FORMAT,
            "config.json: %llu key-value heads of %llu: with latent attention every head "
            "has keys and values of its own",
            (unsigned long long)hp->n_head_kv, (unsigned long long)hp->n_head);
    return LB_OK;
}

static lb_status check_experts(const lb_hparams *hp, lb_err *err) {
    if (hp->n_expert <= LB_EXPERTS_MAX)
        return LB_OK;
    return lb_fail(err, LB_E_LIMIT, "%llu experts: more than %d are not supported",
                   (unsigned long long)hp->n_expert, LB_EXPERTS_MAX);
}

/* Where they differ by layer, the numbers are the first one's: metadata list them so. */
static lb_status first_layer(const lb_arch *a, const lb_arch_normal *n, lb_hparams *hp,
                             lb_err *err) {
    const lb_json *types = lb_json_get(n->config, "layer_types");
    lb_str s;
    u64 heads;
    if (!(a->flags & LB_ARCH_LAYER_SIZES) || !types || types->type != LB_JARRAY ||
        !lb_json_as_str(types->first, &s) || !lb_str_eq_c(s, "full_attention") ||
        !is_set(lb_arch_pick(n, "num_global_key_value_heads")))
        return LB_OK;
    LB_TRY(lb_arch_pick_u64(n, "num_global_key_value_heads", &heads, err));
    hp->n_head_kv = heads;
    return LB_OK;
}

/* A key of the metadata of layers of linear attention from its row. */
static lb_status linear_u64(const lb_arch *a, const lb_arch_normal *n, const char *key, u64 *out,
                            lb_err *err) {
    for (u32 i = 0; i < a->n_kv; i++) {
        u64 by;
        if (a->kv[i].op != LB_KV_PRODUCT || strcmp(a->kv[i].key, key) != 0)
            continue;
        LB_TRY(lb_arch_pick_u64(n, a->kv[i].names, out, err));
        LB_TRY(lb_arch_pick_u64(n, a->kv[i].of, &by, err));
        if (lb_mul_u64(*out, by, out))
            return LB_OK;
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is too large", a->kv[i].names);
    }
    return row_u64(a, n, key, true, out, err);
}

static lb_status check_linear(const lb_hparams *hp, const char *where, lb_err *err) {
    if (hp->ssm_heads % hp->ssm_groups == 0 && hp->ssm_inner % hp->ssm_heads == 0 &&
        hp->n_recurrent <= hp->n_layers)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT,
                   "%s: %llu heads of keys with %llu heads of values in %llu channels make no "
                   "linear attention",
                   where, (unsigned long long)hp->ssm_groups, (unsigned long long)hp->ssm_heads,
                   (unsigned long long)hp->ssm_inner);
}

static u64 count_recurrent(u64 n_layers, u64 interval) {
    return interval ? n_layers - n_layers / interval : n_layers;
}

/* Sizes of linear attention and which layers have it: the list, or all but every so many-th. */
static lb_status read_linear(const lb_arch *a, const lb_arch_normal *n, lb_hparams *hp,
                             lb_err *err) {
    u64 interval = 4;
    lb_str kind;
    if (!lb_arch_has_recurrent(a))
        return LB_OK;
    LB_TRY(linear_u64(a, n, "ssm.group_count", &hp->ssm_groups, err));
    LB_TRY(linear_u64(a, n, "ssm.time_step_rank", &hp->ssm_heads, err));
    LB_TRY(linear_u64(a, n, "ssm.state_size", &hp->ssm_state, err));
    LB_TRY(linear_u64(a, n, "ssm.inner_size", &hp->ssm_inner, err));
    const lb_json *types = lb_arch_pick(n, "layer_types");
    lb_json_as_u64(lb_arch_pick(n, "full_attention_interval"), &interval);
    hp->n_recurrent = count_recurrent(hp->n_layers, interval);
    if (types && types->type == LB_JARRAY) {
        hp->n_recurrent = 0;
        for (const lb_json *t = types->first; t; t = t->next)
            hp->n_recurrent += lb_json_as_str(t, &kind) && lb_str_eq_c(kind, "linear_attention");
    }
    return check_linear(hp, "config.json", err);
}

static lb_status read_hparams(const lb_arch *a, const lb_arch_normal *n, lb_hparams *hp,
                              lb_err *err) {
    LB_TRY(row_u64(a, n, "block_count", true, &hp->n_layers, err));
    LB_TRY(row_u64(a, n, "embedding_length", true, &hp->n_embd, err));
    LB_TRY(row_u64(a, n, "feed_forward_length", !lb_arch_has_experts(a), &hp->n_ff, err));
    LB_TRY(row_u64(a, n, "attention.head_count", true, &hp->n_head, err));
    LB_TRY(lb_arch_pick_u64(n, "vocab_size", &hp->n_vocab, err));
    hp->n_head_kv = hp->n_head;
    LB_TRY(row_u64(a, n, "attention.head_count_kv", false, &hp->n_head_kv, err));
    hp->head_dim = hp->n_embd / hp->n_head;
    LB_TRY(row_u64(a, n, "attention.key_length", false, &hp->head_dim, err));
    if (lb_arch_has_experts(a)) {
        bool needed = !(a->flags & LB_ARCH_DENSE_TOO) || is_set(lb_arch_pick(n, "num_experts"));
        LB_TRY(row_u64(a, n, "expert_count", needed, &hp->n_expert, err));
        LB_TRY(row_u64(a, n, "expert_used_count", false, &hp->n_expert_used, err));
        LB_TRY(check_experts(hp, err));
    }
    LB_TRY(read_mtp(a, n, &hp->n_mtp, err));
    LB_TRY(latent_dims(a, n, hp, err));
    LB_TRY(read_linear(a, n, hp, err));
    lb_json_as_u64(lb_arch_pick(n, "max_position_embeddings|n_ctx|n_positions"), &hp->n_ctx);
    lb_json_as_bool(lb_arch_pick(n, "tie_word_embeddings"), &hp->tied);
    lb_json_as_u64(lb_arch_pick(n, "num_kv_shared_layers"), &hp->n_kv_shared);
    LB_TRY(first_layer(a, n, hp, err));
    if (hp->head_dim == 0 || hp->n_head % hp->n_head_kv != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "config.json: %llu heads with %llu key-value heads on a hidden size of %llu "
                       "make no model",
                       (unsigned long long)hp->n_head, (unsigned long long)hp->n_head_kv,
                       (unsigned long long)hp->n_embd);
    return LB_OK;
}

lb_status lb_arch_from_config(const lb_json *config, const lb_arch **out, lb_hparams *hp,
                              lb_err *err) {
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    lb_arch_normal n;
    lb_str class_name;
    const lb_arch *family = NULL;
    const lb_arch_outer *outer = lb_arch_outer_of(config, &family);
    *hp = (lb_hparams){.outer = outer};
    lb_status st = find_family(config, outer, family, out, &class_name, err);
    if (st == LB_OK)
        st = lb_arch_normalise(config, &scratch, &n, err);
    if (st == LB_OK)
        st = read_hparams(*out, &n, hp, err);
    if (st == LB_OK && outer && outer->tied_by_tensors)
        hp->may_tie = may_tie(outer, config, &scratch);
    hp->headless = lb_str_ends(class_name, LB_STR("Model"));
    if (st == LB_OK && !outer && (*out)->mlx_outer)
        hp->mlx_outer = (*out)->outers;
    lb_arena_deinit(&scratch);
    return st;
}

/* Of a list, the first layer's. */
static lb_status meta_u64(const lb_gguf_meta *m, lb_str arch, const char *key, u64 *out,
                          lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find_arch(m, arch, key);
    if ((lb_kv_as_u64(kv, out) || lb_kv_elem_u64(kv, 0, out)) && *out > 0)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "GGUF metadata: '%.*s.%s' is %s: a number above 0 is needed",
                   LB_FMT(arch), key, kv ? "not a positive integer" : "missing");
}

/* A head's keys are the rotated part and the other. Files from before the split of kv_b have their
 * sizes under the keys that now say what the cache holds. */
static lb_status latent_dims_of_gguf(const lb_arch *a, const lb_gguf_meta *meta, lb_str arch,
                                     lb_hparams *hp, lb_err *err) {
    bool split = lb_meta_find_arch(meta, arch, "attention.key_length_mla") != NULL;
    u64 key, rope;
    if (!(a->flags & LB_ARCH_LATENT))
        return LB_OK;
    LB_TRY(meta_u64(meta, arch, split ? "attention.key_length_mla" : "attention.key_length", &key,
                    err));
    LB_TRY(meta_u64(meta, arch, split ? "attention.value_length_mla" : "attention.value_length",
                    &hp->value_dim, err));
    LB_TRY(meta_u64(meta, arch, "rope.dimension_count", &rope, err));
    if (rope >= key)
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: %llu of the %llu values of a key rotate",
                       (unsigned long long)rope, (unsigned long long)key);
    hp->nope_dim = key - rope;
    hp->head_dim = key;
    return LB_OK;
}

/* Of a list with a number a layer, in which 0 says that the layer has no attention, the largest. */
static lb_status meta_heads(const lb_gguf_meta *m, lb_str arch, const char *key, u64 *out,
                            lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find_arch(m, arch, key);
    u64 n, most = 0;
    for (u64 i = 0; kv && kv->type == LB_GGUF_ARRAY && i < kv->n; i++)
        if (lb_kv_elem_u64(kv, i, &n))
            most = LB_MAX(most, n);
    if (most == 0)
        return meta_u64(m, arch, key, out, err);
    *out = most;
    return LB_OK;
}

/* Without its two keys the loader takes every fourth layer for one of attention. */
static lb_status linear_of_gguf(const lb_arch *a, const lb_gguf_meta *meta, lb_str arch,
                                lb_hparams *hp, lb_err *err) {
    const lb_gguf_kv *list = lb_meta_find_arch(meta, arch, "attention.recurrent_layers");
    u64 interval = 4, flag;
    if (!lb_arch_has_recurrent(a))
        return LB_OK;
    LB_TRY(meta_u64(meta, arch, "ssm.group_count", &hp->ssm_groups, err));
    LB_TRY(meta_u64(meta, arch, "ssm.time_step_rank", &hp->ssm_heads, err));
    LB_TRY(meta_u64(meta, arch, "ssm.state_size", &hp->ssm_state, err));
    LB_TRY(meta_u64(meta, arch, "ssm.inner_size", &hp->ssm_inner, err));
    lb_kv_as_u64(lb_meta_find_arch(meta, arch, "full_attention_interval"), &interval);
    hp->n_recurrent = count_recurrent(hp->n_layers, interval);
    if (list && list->type == LB_GGUF_ARRAY) {
        hp->n_recurrent = 0;
        for (u64 i = 0; i < list->n && i < hp->n_layers; i++)
            hp->n_recurrent += lb_kv_elem_u64(list, i, &flag) && flag;
    }
    return check_linear(hp, "GGUF metadata", err);
}

lb_status lb_arch_from_gguf(const lb_gguf_meta *meta, bool has_output, const lb_arch **out,
                            lb_hparams *hp, lb_err *err) {
    lb_str arch;
    *hp = (lb_hparams){.tied = !has_output};
    if (!lb_kv_as_str(lb_meta_find(meta, "general.architecture"), &arch))
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: 'general.architecture' is missing");
    if (lb_meta_find_arch(meta, arch, "expert_count") &&
        !lb_kv_as_u64(lb_meta_find_arch(meta, arch, "expert_count"), &hp->n_expert))
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: '%.*s.expert_count' is not a number",
                       LB_FMT(arch));
    LB_TRY(check_experts(hp, err));
    if (hp->n_expert) /* the loader asks for it */
        LB_TRY(meta_u64(meta, arch, "expert_used_count", &hp->n_expert_used, err));
    *out = lb_arch_by_gguf(meta, arch, hp->n_expert != 0);
    if (!*out)
        return lb_arch_unknown(err, "GGUF metadata: the architecture", arch);
    hp->mlx_outer = (*out)->mlx_outer ? (*out)->outers : NULL;
    LB_TRY(meta_u64(meta, arch, "block_count", &hp->n_layers, err));
    if (lb_arch_mtp_kv(*out)) { /* they are counted in */
        lb_kv_as_u64(lb_meta_find_arch(meta, arch, lb_arch_mtp_kv(*out)->key), &hp->n_mtp);
        if (hp->n_mtp >= hp->n_layers)
            return lb_fail(err, LB_E_FORMAT,
                           "GGUF metadata: %llu of %llu layers are of multi-token prediction",
                           (unsigned long long)hp->n_mtp, (unsigned long long)hp->n_layers);
        hp->n_layers -= hp->n_mtp;
    }
    LB_TRY(meta_u64(meta, arch, "embedding_length", &hp->n_embd, err));
    if (!hp->n_expert || lb_meta_find_arch(meta, arch, "feed_forward_length"))
        LB_TRY(meta_u64(meta, arch, "feed_forward_length", &hp->n_ff, err));
    LB_TRY(meta_u64(meta, arch, "attention.head_count", &hp->n_head, err));
    lb_kv_as_u64(lb_meta_find_arch(meta, arch, "context_length"), &hp->n_ctx);
    hp->n_head_kv = hp->n_head;
    if (lb_meta_find_arch(meta, arch, "attention.head_count_kv"))
        LB_TRY(meta_heads(meta, arch, "attention.head_count_kv", &hp->n_head_kv, err));
    hp->head_dim = hp->n_embd / hp->n_head;
    if (lb_meta_find_arch(meta, arch, "attention.key_length"))
        LB_TRY(meta_u64(meta, arch, "attention.key_length", &hp->head_dim, err));
    LB_TRY(latent_dims_of_gguf(*out, meta, arch, hp, err));
    lb_kv_as_u64(lb_meta_find_arch(meta, arch, "attention.shared_kv_layers"), &hp->n_kv_shared);
    LB_TRY(linear_of_gguf(*out, meta, arch, hp, err));
    lb_kv_as_u64(lb_meta_find_arch(meta, arch, "attention.key_length_swa"), &hp->window_dim);
    const lb_gguf_kv *tokens = lb_meta_find(meta, "tokenizer.ggml.tokens");
    if (tokens && tokens->type == LB_GGUF_ARRAY)
        hp->n_vocab = tokens->n;
    lb_kv_as_u64(lb_meta_find_arch(meta, arch, "vocab_size"), &hp->n_vocab);
    if (!hp->n_expert && lb_arch_has_experts(*out) && !((*out)->flags & LB_ARCH_DENSE_TOO))
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: '%.*s.expert_count' is missing",
                       LB_FMT(arch));
    if (hp->n_expert && !lb_arch_has_experts(*out))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "GGUF architecture '%.*s' with %llu experts is not supported yet",
                       LB_FMT(arch), (unsigned long long)hp->n_expert);
    if (hp->head_dim == 0 || hp->n_head % hp->n_head_kv != 0)
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: %llu heads, %llu key-value heads",
                       (unsigned long long)hp->n_head, (unsigned long long)hp->n_head_kv);
    return LB_OK;
}
