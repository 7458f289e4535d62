/* SPDX-License-Identifier: Apache-2.0 */
/* config_mlx.c: config.json between HF and MLX folders.
 *
 * To MLX: mlx_lm/utils.py (load_config, save_config) of mlx-lm 0.32.2. To HF: only the members that
 * must change are touched, in the text itself, so that what a person wrote stays as it is. */
#include "arch/arch_internal.h"
#include <stdlib.h>

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
}

/* ---- to MLX ---- */

/* Python's truth: 0, "", [] and false say nothing. */
static bool is_truthy(const lb_json *v) {
    double f;
    if (!v || v->type == LB_JNULL)
        return false;
    if (v->type == LB_JBOOL)
        return v->truth;
    if (v->type == LB_JNUMBER)
        return !lb_json_as_f64(v, &f) || f != 0;
    return v->type == LB_JSTRING ? v->text.len != 0 : v->n != 0;
}

/* Non-finite numbers are written as {"__float__": "Infinity"}. The tree's depth bounds the
 * recursion. */
static bool tag_floats(lb_json *v, lb_arena *s, u32 depth) {
    LB_ASSERT(depth <= 2 * LB_JSON_DEPTH);
    for (lb_json *c = v->first; c; c = c->next) {
        if (c->type == LB_JARRAY || c->type == LB_JOBJECT) {
            if (!tag_floats(c, s, depth + 1))
                return false;
            continue;
        }
        if (c->type != LB_JNUMBER ||
            !(lb_str_eq_c(c->text, "NaN") || lb_str_ends(c->text, LB_STR("Infinity"))))
            continue;
        lb_json *name = lb_json_new_str(s, c->text);
        c->type = LB_JOBJECT;
        c->text = LB_STR_NONE;
        if (!lb_json_set(s, c, "__float__", name))
            return false;
    }
    return true;
}

static bool same_value(const lb_json *a, const lb_json *b) {
    double x, y;
    if (lb_json_as_f64(a, &x) && lb_json_as_f64(b, &y))
        return x == y;
    return a->type == b->type && a->truth == b->truth && a->n == b->n &&
           lb_str_eq(a->text, b->text);
}

static bool is_full(const lb_json *type) {
    lb_str s;
    return lb_json_as_str(type, &s) && lb_str_eq_c(s, "full_attention");
}

/* Whether every period-th layer is full, and no other. */
static bool is_period(const lb_json *types, u64 period) {
    u64 i = 0;
    for (const lb_json *t = types->first; t; t = t->next)
        if (is_full(t) != (++i % period == 0))
            return false;
    return period != 0;
}

/* The period of layer_types; 0: irregular. */
static u64 layer_period(const lb_json *types) {
    u64 p = 1;
    for (const lb_json *t = types->first; t && !is_full(t); t = t->next)
        p++;
    return is_period(types, p) ? p : 0;
}

/* Which layers are the other ones, as mlx-lm's class is told: by a period. Where that differs from
 * layer_types, which transformers goes by, it is corrected. */
static lb_status add_period(const lb_json *types, const lb_json *mlx, lb_json *config, lb_arena *s,
                            lb_err *err) {
    const lb_json *now = lb_json_get_str(config, mlx->key);
    u64 said, period = layer_period(types);
    lb_str key = lb_arena_str(s, mlx->key);
    if (lb_json_as_u64(now ? now : mlx, &said) && said && is_period(types, said))
        return LB_OK;
    if (!period)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: 'layer_types' is irregular: mlx-lm's class of the model has "
                       "no form for that");
    return key.ptr && lb_json_set(s, config, key.ptr, lb_json_new_u64(s, period)) ? LB_OK
                                                                                  : no_memory(err);
}

/* Whether letters, repeated, say which layers slide. */
static bool is_letters(const lb_json *types, lb_str letters) {
    u64 i = 0;
    for (const lb_json *t = types->first; t && letters.len; t = t->next)
        if (is_full(t) != (letters.ptr[i++ % letters.len] != 'L'))
            return false;
    return letters.len != 0;
}

static lb_json *letters_of(const lb_json *types, u64 n, lb_arena *s) {
    char *text = lb_arena_new(s, char, n);
    const lb_json *t = types->first;
    for (u64 i = 0; text && i < n; i++, t = t->next)
        text[i] = is_full(t) ? 'G' : 'L';
    return text ? lb_json_new_str(s, (lb_str){text, (size_t)n}) : NULL;
}

/* ... by letters ("LLLG"), which transformers reads beside layer_types only; null: none slides. */
static lb_status add_letters(const lb_json *types, const lb_json *window, lb_json *config,
                             lb_arena *s, lb_err *err) {
    static const char key[] = "sliding_window_pattern";
    const lb_json *now = lb_json_get(config, key);
    lb_str said;
    if (!window || window->type == LB_JNULL) {
        if (now && !is_truthy(now))
            return LB_OK;
        return lb_json_set(s, config, key, lb_json_new_null(s)) ? LB_OK : no_memory(err);
    }
    u64 period = layer_period(types);
    if (period == 1 || period > types->n)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: 'layer_types' names one kind of layers beside a sliding "
                       "window: mlx-lm's class of the model needs both");
    if (lb_json_as_str(now, &said) && is_letters(types, said))
        return LB_OK;
    lb_json *list = lb_json_copy(s, types);
    return lb_json_set(s, config, key, letters_of(types, period ? period : types->n, s)) &&
                   lb_json_set(s, config, "layer_types", list)
               ? LB_OK
               : no_memory(err);
}

/* The value that the config has under another name of the same number (num_experts,
 * num_local_experts). */
static const lb_json *other_name(const lb_arch *a, const lb_arch_normal *n, lb_str key) {
    for (u32 i = 0; i < lb_arch_common_n_kv + a->n_kv; i++) {
        const lb_arch_kv *row =
            i < lb_arch_common_n_kv ? &lb_arch_common_kv[i] : &a->kv[i - lb_arch_common_n_kv];
        const char *s = row->op == LB_KV_VALUE ? row->names : NULL;
        while (s && *s) {
            size_t len = strcspn(s, "|");
            if (lb_str_eq(key, (lb_str){s, len}))
                return lb_arch_pick(n, row->names);
            s += len + (s[len] == '|');
        }
    }
    return NULL;
}

/* The model's value under a key that mlx-lm reads; NULL: there is none to add. */
static const lb_json *model_value(const lb_arch *a, const lb_arch_normal *n, lb_str key,
                                  lb_arena *s) {
    const lb_arch_kv *dims = lb_arch_rope_dims_row(a);
    u64 dim;
    if (lb_str_eq_c(key, "rope_theta"))
        return lb_json_get(n->rope, "rope_theta");
    if (lb_str_eq_c(key, "rope_local_base_freq"))
        return lb_json_get(n->rope_local, "rope_theta");
    if (lb_str_eq_c(key, "rope_parameters"))
        return n->rope;
    if (lb_str_eq_c(key, "partial_rotary_factor"))
        return lb_json_get(n->rope, "partial_rotary_factor");
    const lb_json *v = lb_json_get_str(n->config, key);
    if (!v && lb_str_eq_c(key, "original_max_position_embeddings"))
        v = lb_json_get(n->rope, "original_max_position_embeddings");
    if (!v && dims && dims->of && lb_str_eq_c(key, dims->of) &&
        lb_arch_rope_dims(a, n, &dim, NULL) == LB_OK)
        v = lb_json_new_u64(s, dim);
    if (!v && lb_str_eq_c(key, "head_dim") && lb_arch_head_dim(n, &dim, NULL) == LB_OK)
        v = lb_json_new_u64(s, dim);
    return v ? v : other_name(a, n, key);
}

static bool add(lb_json *config, lb_str key, const lb_json *v, lb_arena *s) {
    lb_str name = lb_arena_str(s, key);
    return name.ptr && lb_json_set(s, config, name.ptr, lb_json_copy(s, v));
}

/* Rope scaling as transformers 4 had it, for a config that has only rope_parameters and a class
 * that does not read those. transformers 5 then takes the rest of rope_parameters for not said, so
 * that it stands beside, whatever the defaults of mlx-lm's class are. (Those of kinds of layers it
 * takes.) */
static bool add_scaling(lb_json *config, const lb_arch_normal *n, lb_arena *s) {
    static const char *const beside[] = {"rope_theta", "partial_rotary_factor"};
    lb_str type;
    if (lb_json_get(config, "rope_scaling") ||
        !lb_json_as_str(lb_json_get(n->rope, "rope_type"), &type) || lb_str_eq_c(type, "default"))
        return true;
    lb_json *scaling = lb_json_copy(s, n->rope);
    for (size_t i = 0; i < LB_LEN(beside); i++) {
        const lb_json *v = lb_json_get(lb_json_get(config, "rope_parameters"), beside[i]);
        if (v && !lb_json_get(config, beside[i]) && !add(config, lb_str_c(beside[i]), v, s))
            return false;
        lb_json_remove(scaling, beside[i]);
    }
    return lb_json_set(s, config, "rope_scaling", scaling);
}

/* The type under its older name, the only one that some classes know. */
static bool add_scaling_type(lb_json *config, const lb_json *mlx, lb_arena *s) {
    lb_json *scaling = lb_json_get(config, "rope_scaling");
    const lb_json *type = lb_json_get(scaling, "rope_type");
    if (!lb_json_get(mlx, "rope_scaling.type") || !type || lb_json_get(scaling, "type"))
        return true;
    return lb_json_set(s, scaling, "type", lb_json_copy(s, type));
}

/* mlx-lm has one rope base for all layers of a family whose config has no key for another. */
static lb_status check_bases(const lb_arch *a, const lb_json *config, const lb_arch_normal *n,
                             lb_err *err) {
    const lb_json *local = lb_json_get(
        lb_json_get(lb_json_get(config, "rope_parameters"), "sliding_attention"), "rope_theta");
    const lb_json *full = lb_json_get(n->rope, "rope_theta");
    if (!(a->flags & LB_ARCH_ROPE_BY_LAYER) || a->local_theta || (a->flags & LB_ARCH_LAYER_SIZES) ||
        !local || !full || same_value(local, full))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "config.json: two rope bases: mlx-lm's class of the model has no form for that");
}

/* A class that reads rope_parameters itself writes them so. */
static bool name_type(lb_json *config, lb_arena *s) {
    lb_json *rope = lb_json_get(config, "rope_parameters");
    const lb_json *type = lb_json_get(rope, "rope_type");
    if (!type || lb_json_get(rope, "type"))
        return true;
    lb_json *copy = lb_json_copy(s, type);
    lb_json_remove(rope, "rope_type");
    return lb_json_set(s, rope, "type", copy);
}

static lb_status table(const char *text, lb_arena *s, lb_json **out, lb_err *err) {
    *out = NULL;
    return text ? lb_json_parse(lb_str_c(text), "a table", s, out, err) : LB_OK;
}

/* Where the language model's config is one of several, mlx-lm's outer class has keys that override
 * it and defaults of its own. */
static lb_status complete_outer(const lb_arch_outer *o, const lb_arch *a, const lb_arch_normal *n,
                                lb_json *config, lb_json *mlx, lb_arena *s, lb_err *err) {
    lb_json *keys, *other;
    LB_TRY(table(o->mlx_keys, s, &keys, err));
    LB_TRY(table(o->mlx_text_keys, s, &other, err));
    for (const lb_json *d = keys ? keys->first : NULL; d; d = d->next) {
        const lb_json *has = lb_json_get_str(config, d->key);
        const lb_json *v = model_value(a, n, d->key, s);
        if (v && v->type != LB_JNULL && !same_value(v, has ? has : d) && !add(config, d->key, v, s))
            return no_memory(err);
    }
    for (const lb_json *d = other ? other->first : NULL; d; d = d->next)
        if (!add(mlx, d->key, d, s))
            return no_memory(err);
    return LB_OK;
}

/* The name of a key; whether it must be there, but may be null. */
static bool may_be_null(lb_str key, lb_str *name) {
    bool may = lb_str_ends(key, LB_STR("?"));
    *name = lb_str_sub(key, 0, key.len - (may || lb_str_ends(key, LB_STR("!"))));
    return may;
}

/* d: a key of the class in mlx-lm with its default. */
static lb_status add_key(const lb_arch *a, const lb_arch_normal *n, const lb_json *d, lb_json *text,
                         lb_arena *s, lb_err *err) {
    const lb_json *types = lb_json_get(n->config, "layer_types");
    lb_str key;
    (void)may_be_null(d->key, &key);
    if (lb_str_eq_c(key, "sliding_window_pattern") && types && types->type == LB_JARRAY)
        return a->window.letters
                   ? add_letters(types, lb_json_get(n->config, "sliding_window"), text, s, err)
                   : add_period(types, d, text, s, err);
    if (lb_str_eq_c(key, "full_attention_interval") && types && types->type == LB_JARRAY)
        return add_period(types, d, text, s, err);
    const lb_json *v = model_value(a, n, key, s);
    bool add_it = v && v->type != LB_JNULL && !same_value(v, d);
    if (add_it && lb_str_ends(d->key, LB_STR("!")))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: '%.*s': mlx-lm's class of '%s' knows another value only",
                       LB_FMT(key), a->family);
    if (lb_json_get_str(text, key))
        return LB_OK;
    return !add_it || add(text, key, v, s) ? LB_OK : no_memory(err);
}

/* mlx-lm goes by the language model's own config, transformers by the outer one. */
static bool agree_on_ties(const lb_arch_outer *o, const lb_arch_normal *n, lb_json *text,
                          lb_arena *s) {
    const lb_json *said = lb_json_get(text, "tie_word_embeddings");
    const lb_json *tied = lb_json_get(n->config, "tie_word_embeddings");
    if (!o || o->tied_by_tensors || !said || !tied || same_value(said, tied))
        return true;
    return add(text, LB_STR("tie_word_embeddings"), tied, s);
}

/* Keys without a value that the class asks for. */
static bool add_nulls(const lb_json *mlx, lb_json *text, lb_arena *s) {
    const lb_json null = {.type = LB_JNULL};
    lb_str key;
    for (const lb_json *d = mlx->first; d; d = d->next)
        if (may_be_null(d->key, &key) && !lb_json_get_str(text, key) && !add(text, key, &null, s))
            return false;
    return true;
}

/* A language model alone whose class mlx-lm has only as a part of another: as that one's part. */
static bool wrap(const lb_arch_outer *o, lb_json **config, lb_arena *s) {
    static const char *const both[] = {"dtype", "torch_dtype", "eos_token_id",
                                       "tie_word_embeddings"};
    lb_json *out = lb_json_new_object(s), *classes = lb_json_new_array(s);
    bool ok = out && lb_json_push(classes, lb_json_new_str(s, lb_str_c(o->classes[0]))) &&
              lb_json_set(s, out, "architectures", classes) &&
              lb_json_set(s, out, "model_type", lb_json_new_str(s, lb_str_c(o->model_types[0])));
    for (size_t i = 0; i < LB_LEN(both); i++) {
        const lb_json *v = lb_json_get(*config, both[i]);
        ok = ok && (!v || lb_json_set(s, out, both[i], lb_json_copy(s, v)));
    }
    ok = ok && lb_json_set(s, out, o->key, *config);
    *config = out;
    return ok;
}

/* Adds what mlx-lm would take from its own defaults; an unknown family is left as it is. */
static lb_status complete(lb_json **whole, lb_arena *s, lb_err *err) {
    lb_str type = LB_STR_NONE;
    lb_arch_normal n;
    lb_json *mlx = NULL, *config = *whole, *text = config;
    const lb_arch *a = NULL;
    const lb_arch_outer *o = lb_arch_outer_of(config, &a);
    lb_json_as_str(lb_json_get(config, "model_type"), &type);
    if (!o)
        a = type.ptr ? lb_arch_by_model_type(type) : NULL;
    if (!a || !a->mlx)
        return LB_OK;
    if (!o && a->mlx_outer) {
        o = a->outers;
        if (!wrap(o, whole, s))
            return no_memory(err);
        config = *whole;
    }
    LB_TRY(lb_arch_normalise(config, s, &n, err));
    LB_TRY(check_bases(a, config, &n, err));
    if (o && o->mlx_type &&
        !lb_json_set(s, config, "model_type", lb_json_new_str(s, lb_str_c(o->mlx_type))))
        return no_memory(err);
    if (a->flags & LB_ARCH_LAYER_SIZES)
        LB_TRY(lb_arch_check_layers(&n, err));
    LB_TRY(table(a->mlx, s, &mlx, err));
    if (o) {
        LB_TRY(complete_outer(o, a, &n, config, mlx, s, err));
        text = lb_json_get(config, o->key);
        if (!text || text->type != LB_JOBJECT) {
            text = lb_json_new_object(s);
            if (!lb_json_set(s, config, o->key, text))
                return no_memory(err);
        }
    }
    for (const lb_json *d = mlx->first; d; d = d->next)
        LB_TRY(add_key(a, &n, d, text, s, err));
    bool own_rope = lb_json_get(mlx, "rope_parameters") != NULL;
    bool scaled = (own_rope ? name_type(text, s) : add_scaling(text, &n, s)) &&
                  add_scaling_type(text, mlx, s) && agree_on_ties(o, &n, text, s);
    return scaled && add_nulls(mlx, text, s) ? LB_OK : no_memory(err);
}

static int by_key(const void *a, const void *b) {
    const lb_json *const *x = a, *const *y = b;
    return lb_str_cmp((*x)->key, (*y)->key);
}

/* Only the outer object: what it holds keeps its order. */
static bool sort_members(lb_json *object, lb_arena *s) {
    lb_json **list = lb_arena_new(s, lb_json *, object->n), **at = list;
    if (!list)
        return false;
    for (lb_json *c = object->first; c; c = c->next)
        *at++ = c;
    qsort(list, (size_t)object->n, sizeof *list, by_key);
    object->first = object->last = NULL;
    for (u64 i = 0; i < object->n; i++) {
        list[i]->next = NULL;
        if (object->last)
            object->last->next = list[i];
        else
            object->first = list[i];
        object->last = list[i];
    }
    return true;
}

void lb_arch_config_unquantize(lb_json *c) {
    static const char *const keys[] = {"quantization", "quantization_config", "compression_config"};
    for (size_t i = 0; i < LB_LEN(keys); i++)
        lb_json_remove(c, keys[i]);
    for (lb_json *part = c->first; part; part = part->next)
        if (part->type == LB_JOBJECT && lb_str_ends(part->key, LB_STR("_config")))
            for (size_t i = 0; i < LB_LEN(keys); i++)
                lb_json_remove(part, keys[i]);
}

lb_status lb_arch_config_to_mlx(lb_str config, const lb_json *generation,
                                const lb_json *quantization, lb_buf *out, lb_err *err) {
    lb_arena s = {.max_bytes = 64 * LB_MIB};
    lb_json *c = NULL;
    lb_status st = lb_json_parse(config, "config.json", &s, &c, err);
    const lb_json *eos = lb_json_get(generation, "eos_token_id");
    if (st == LB_OK && c->type != LB_JOBJECT)
        st = lb_fail(err, LB_E_FORMAT, "config.json: not an object");
    if (st != LB_OK)
        goto done;
    LB_TRY_DONE(st, complete(&c, &s, err));
    if (is_truthy(eos) && !lb_json_set(&s, c, "eos_token_id", lb_json_copy(&s, eos)))
        LB_TRY_DONE(st, no_memory(err));
    lb_json_remove(c, "_name_or_path");
    lb_json_remove(c, "vision_config");
    if (quantization && quantization->type == LB_JNULL) {
        lb_arch_config_unquantize(c);
    } else if (quantization &&
               !lb_json_set(&s, c, "quantization", lb_json_copy(&s, quantization))) {
        LB_TRY_DONE(st, no_memory(err));
    }
    quantization = lb_json_get(c, "quantization");
    if (quantization && !lb_json_set(&s, c, "quantization_config", lb_json_copy(&s, quantization)))
        LB_TRY_DONE(st, no_memory(err));
    if (!tag_floats(c, &s, 0) || !sort_members(c, &s))
        LB_TRY_DONE(st, no_memory(err));
    lb_json_write(out, c, (lb_json_style){.indent = 4, .ascii = true});
    st = lb_buf_status(out, err);
done:
    lb_arena_deinit(&s);
    return st;
}

/* ---- to HF ---- */

static bool is_removed(lb_str key) {
    return lb_str_eq_c(key, "quantization") || lb_str_eq_c(key, "quantization_config") ||
           lb_str_eq_c(key, "compression_config");
}

static bool is_dtype(lb_str key) {
    return lb_str_eq_c(key, "dtype") || lb_str_eq_c(key, "torch_dtype");
}

/* A vocabulary that lost its last rows (gemma3 in GGUF): the model is as large as they are. */
static bool is_other_vocab(lb_str key, lb_str value, u64 n_vocab) {
    u64 n;
    return n_vocab && lb_str_eq_c(key, "vocab_size") && lb_str_to_u64(value, &n) && n != n_vocab;
}

static size_t skip_space(lb_str s, size_t at) {
    while (at < s.len && strchr(" \t\r\n", s.ptr[at]) && s.ptr[at])
        at++;
    return at;
}

/* The first member that is kept has no comma before it. */
static size_t skip_comma(lb_str s, size_t at, size_t end) {
    const char *comma = memchr(s.ptr + at, ',', end - at);
    return comma ? (size_t)(comma - s.ptr) + 1 : at;
}

static void put_range(lb_buf *out, lb_str s, size_t from, size_t to) {
    lb_buf_put(out, s.ptr + from, to - from);
}

typedef struct hf_edit {
    lb_json_reader r;
    lb_str config;
    const char *dtype; /* with quotes */
    u64 n_vocab;
    lb_buf *out;
} hf_edit;

static bool is_part(lb_str key) {
    return lb_str_ends(key, LB_STR("_config"));
}

static lb_status edit_object(hf_edit *e, u32 depth, lb_err *err);

/* The value that comes next, from where it begins; nothing before it is copied. */
static lb_status edit_value(hf_edit *e, lb_str key, size_t value, u32 depth, lb_err *err) {
    bool part = is_part(key) && value < e->config.len && e->config.ptr[value] == '{';
    if (part) {
        lb_json_tok tok;
        LB_TRY(lb_json_next(&e->r, &tok, err));
        return edit_object(e, depth + 1, err);
    }
    LB_TRY(lb_json_skip(&e->r, err));
    lb_str old = lb_str_sub(e->config, value, e->r.pos);
    if (is_dtype(key) && !(depth && lb_str_eq_c(old, "null")))
        lb_buf_put_c(e->out, e->dtype);
    else if (depth == 0 && is_other_vocab(key, old, e->n_vocab))
        lb_buf_printf(e->out, "%llu", (unsigned long long)e->n_vocab);
    else
        lb_buf_put_str(e->out, old);
    return LB_OK;
}

/* Copies the text member by member, its brace and what follows; a removed one goes with the comma
 * and the white space before it. */
static lb_status edit_object(hf_edit *e, u32 depth, lb_err *err) {
    size_t end = e->r.pos; /* of the member before */
    lb_json_tok tok;
    bool any = false;
    lb_buf_put_c(e->out, "{");
    for (;;) {
        LB_TRY(lb_json_next(&e->r, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            break;
        lb_str key = e->r.raw;
        size_t start = (size_t)(key.ptr - e->config.ptr) - 1; /* the quote */
        size_t value = skip_space(e->config, e->r.pos);
        if (is_removed(key)) {
            LB_TRY(lb_json_skip(&e->r, err));
        } else {
            put_range(e->out, e->config, any ? end : skip_comma(e->config, end, start), value);
            LB_TRY(edit_value(e, key, value, depth, err));
            any = true;
        }
        end = e->r.pos;
    }
    put_range(e->out, e->config, end, e->r.pos);
    return LB_OK;
}

lb_status lb_arch_config_to_hf(lb_str config, lb_dtype dtype, u64 n_vocab, lb_buf *out,
                               lb_err *err) {
    hf_edit e = {.config = config, .n_vocab = n_vocab, .out = out};
    lb_json_tok tok;
    e.dtype = dtype == LB_F32 ? "\"float32\"" : dtype == LB_F16 ? "\"float16\"" : "\"bfloat16\"";
    lb_json_begin(&e.r, config);
    LB_TRY(lb_json_next(&e.r, &tok, err));
    if (tok != LB_JSON_OBJECT)
        return lb_fail(err, LB_E_FORMAT, "config.json: not an object");
    put_range(out, config, 0, e.r.pos - 1);
    LB_TRY(edit_object(&e, 0, err));
    size_t end = e.r.pos;
    LB_TRY(lb_json_next(&e.r, &tok, err)); /* nothing may follow */
    put_range(out, config, end, config.len);
    return lb_buf_status(out, err);
}

/* ---- a member more ---- */

/* Where it goes: after the member that ends there; the text's white space before its members. */
typedef struct place {
    size_t end;
    bool any;
    lb_str space; /* "\n  " */
} place;

static lb_status find_place(lb_str config, lb_str key, place *p, lb_err *err) {
    lb_json_reader r;
    lb_json_tok tok;
    bool sorted = true;
    size_t last = 0;
    lb_str before = LB_STR_NONE;
    lb_json_begin(&r, config);
    LB_TRY(lb_json_next(&r, &tok, err));
    if (tok != LB_JSON_OBJECT)
        return lb_fail(err, LB_E_FORMAT, "config.json: not an object");
    *p = (place){.end = r.pos};
    bool found = false;
    for (size_t from = last = r.pos;; last = from = r.pos) {
        LB_TRY(lb_json_next(&r, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            break;
        lb_str name = r.raw;
        size_t start = (size_t)(name.ptr - config.ptr) - 1;
        if (!p->space.ptr)
            p->space = lb_str_sub(config, from, start);
        sorted = sorted && lb_str_cmp(before, name) < 0;
        before = name;
        if (!found && lb_str_cmp(name, key) > 0) {
            *p = (place){.end = from, .any = p->any, .space = p->space};
            found = true;
        }
        LB_TRY(lb_json_skip(&r, err));
        if (!found)
            p->any = true;
    }
    if (!found || !sorted) {
        p->end = last;
        p->any = before.ptr != NULL;
    }
    return LB_OK;
}

/* The value, its lines as far in as the members are. */
static lb_status put_value(lb_buf *out, const lb_json *value, lb_str space, lb_err *err) {
    lb_buf text = {0};
    u32 indent = memchr(space.ptr ? space.ptr : "", '\n', space.len) ? (u32)space.len - 1 : 0;
    lb_json_write(&text, value, (lb_json_style){.indent = indent});
    lb_status st = lb_buf_status(&text, err);
    lb_str s = lb_buf_str(&text);
    for (size_t i = 0; i < s.len && st == LB_OK; i++) {
        lb_buf_put(out, s.ptr + i, 1);
        if (s.ptr[i] == '\n')
            lb_buf_put(out, space.ptr + 1, space.len - 1);
    }
    lb_buf_deinit(&text);
    return st;
}

lb_status lb_arch_config_add(lb_str config, const char *key, const lb_json *value, lb_buf *out,
                             lb_err *err) {
    place p = {0};
    LB_TRY(find_place(config, lb_str_c(key), &p, err));
    bool lines = p.space.len && p.space.ptr[0] == '\n' && p.space.len < 64;
    lb_str space = lines ? p.space : LB_STR_NONE;
    put_range(out, config, 0, p.end);
    if (p.any)
        lb_buf_put_c(out, lines ? "," : ", ");
    lb_buf_put_str(out, space);
    lb_buf_printf(out, "\"%s\": ", key);
    LB_TRY(put_value(out, value, space, err));
    bool more = p.end < config.len && config.ptr[skip_space(config, p.end)] == '"';
    if (more)
        lb_buf_put_c(out, lines ? "," : ", ");
    put_range(out, config, p.end, config.len);
    return lb_buf_status(out, err);
}
