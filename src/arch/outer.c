/* SPDX-License-Identifier: Apache-2.0 */
/* outer.c: classes that hold a language model beside a vision tower and the like: whose config they
 * nest, how names and parts are told, and the language model by itself.
 *
 * Source: conversion/base.py (get_model_architecture, TextModel.__init__, filter_tensors) of
 * llama-cpp-python 0.3.36; transformers 5.24 (conversion_mapping.py: the names that checkpoints had
 * before); mlx-lm 0.32.2 (sanitize of each model). */
#include "arch/arch_internal.h"

static bool is_object(const lb_json *v) {
    return v && v->type == LB_JOBJECT;
}

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

/* ---- configs ---- */

lb_str lb_arch_first_class(const lb_json *config) {
    const lb_json *classes = lb_json_get(config, "architectures");
    lb_str name = LB_STR_NONE;
    lb_json_as_str(classes && classes->type == LB_JARRAY ? classes->first : NULL, &name);
    return name;
}

/* transformers goes by model_type, the converter by the class and by whether a config is nested. */
static bool is_of(const lb_arch_outer *o, const lb_json *config, lb_str type, lb_str class_name) {
    return (type.ptr && lb_arch_in_list(o->model_types, type)) ||
           (class_name.ptr && lb_arch_in_list(o->classes, class_name) &&
            is_object(lb_json_get(config, o->key)));
}

const lb_json *lb_arch_outer_text(const lb_arch_outer *o, const lb_json *config) {
    const lb_json *text = lb_json_get(config, o->key);
    return is_object(text) ? text : NULL;
}

lb_str lb_arch_outer_type(const lb_arch_outer *o, const lb_json *text) {
    lb_str type = lb_str_c(o->text_type);
    lb_json_as_str(lb_json_get(text, "model_type"), &type);
    return o->old_type && lb_str_eq_c(type, o->old_type) ? lb_str_c(o->text_type) : type;
}

/* One class may hold language models of several families. */
const lb_arch_outer *lb_arch_outer_of(const lb_json *config, const lb_arch **family) {
    lb_str type = LB_STR_NONE, class_name = lb_arch_first_class(config);
    const lb_arch *a;
    const lb_arch_outer *first = NULL;
    lb_json_as_str(lb_json_get(config, "model_type"), &type);
    for (u32 i = 0; (a = lb_arch_at(i, NULL)) != NULL; i++)
        for (u32 k = 0; k < a->n_outers; k++) {
            const lb_arch_outer *o = &a->outers[k];
            if (!is_of(o, config, type, class_name))
                continue;
            bool right = lb_arch_in_list(a->model_types,
                                         lb_arch_outer_type(o, lb_arch_outer_text(o, config)));
            if (family && (!first || right))
                *family = a;
            first = !first || right ? o : first;
            if (right)
                return o;
        }
    return first;
}

/* The family of a language model's config: by its class, else by its model_type. */
static const lb_arch *family_of(const lb_json *config) {
    lb_str name = lb_arch_first_class(config);
    const lb_arch *a = name.ptr ? lb_arch_by_class(name) : NULL;
    if (!name.ptr && lb_json_as_str(lb_json_get(config, "model_type"), &name))
        a = lb_arch_by_model_type(name);
    return a;
}

lb_status lb_arch_unknown_class(const lb_json *config, lb_str class_name, lb_err *err) {
    lb_str type = LB_STR_NONE;
    const lb_arch *a;
    class_name = lb_str_sub(class_name, 0, 100);
    for (const lb_json *m = config->first; m; m = m->next)
        if (is_object(m) && (a = family_of(m)) != NULL)
            return lb_fail(
                err, LB_E_UNSUPPORTED,
                "config.json: the class '%.*s' is not a known architecture, but the "
                "language model in its '%.*s' is one (%s): save that alone to convert it",
                LB_FMT(class_name), LB_FMT(lb_str_sub(m->key, 0, 40)), a->family);
    lb_json_as_str(lb_json_get(config, "model_type"), &type);
    if ((a = lb_arch_by_model_type(type)) != NULL)
        return lb_fail(
            err, LB_E_UNSUPPORTED,
            "config.json: the class '%.*s' is not a known class of %s: GGUF has no place "
            "for another head; where it computes the same, name %s in 'architectures'",
            LB_FMT(class_name), a->family, a->classes[0]);
    return lb_arch_unknown(err, "config.json: the class", class_name);
}

/* Keys that say what the outer class is, not what its language model is. */
static bool is_outer_key(const lb_arch_outer *o, const lb_json *defaults, const lb_json *member) {
    static const char *const own[] = {"architectures", "model_type"};
    lb_str key = member->key;
    for (size_t i = 0; i < LB_LEN(own); i++)
        if (lb_str_eq_c(key, own[i]))
            return true;
    if (member->type == LB_JOBJECT) /* other parts' configs, how codes are stored */
        return true;
    if (lb_str_eq_c(key, "tie_word_embeddings"))
        return o->tied_by_tensors;
    for (const lb_json *d = defaults->first; d; d = d->next) {
        bool optional, number;
        if (lb_str_eq(key, lb_arch_field_name(d->key, &optional, &number)))
            return true;
    }
    return false;
}

static bool put(lb_json *to, const lb_json *member, lb_arena *s) {
    lb_str key = lb_arena_str(s, member->key);
    return key.ptr && lb_json_set(s, to, key.ptr, lb_json_copy(s, member));
}

static bool put_names(lb_json *to, const lb_arch_outer *o, const lb_arch *a, lb_arena *s) {
    lb_str type = lb_arch_outer_type(o, to);
    const lb_arch *own = lb_arch_by_model_type(type);
    lb_json *classes = lb_json_new_array(s);
    own = own ? own : a;
    if (!lb_json_set(s, to, "model_type", lb_json_new_str(s, type)))
        return false;
    return is_set(lb_json_get(to, "architectures")) ||
           (lb_json_push(classes, lb_json_new_str(s, lb_str_c(own->classes[0]))) &&
            lb_json_set(s, to, "architectures", classes));
}

/* The outer class's value counts for ties; else the language model's own config does. */
static bool fill_text(lb_json *to, const lb_arch_outer *o, const lb_json *config,
                      const lb_json *defaults, lb_arena *s) {
    const lb_json *tied = lb_json_get(config, "tie_word_embeddings");
    tied = is_set(tied) ? tied : lb_json_get(defaults, "tie_word_embeddings");
    tied = tied ? tied : lb_json_get(defaults, "tie_word_embeddings?");
    if (tied && !o->tied_by_tensors &&
        !lb_json_set(s, to, "tie_word_embeddings", lb_json_copy(s, tied)))
        return false;
    for (const lb_json *m = config->first; m; m = m->next)
        if (!is_outer_key(o, defaults, m) && !is_set(lb_json_get_str(to, m->key)) && !put(to, m, s))
            return false;
    return true;
}

static lb_status write_text(lb_json *c, lb_buf *out, lb_err *err) {
    lb_json_sort_keys(c);
    lb_json_write(out, c, (lb_json_style){.indent = 2, .ascii = true});
    lb_buf_put_u8(out, '\n');
    return lb_buf_status(out, err);
}

lb_status lb_arch_config_text(lb_str config, lb_buf *out, lb_err *err) {
    lb_arena s = {.max_bytes = 64 * LB_MIB};
    lb_json *c = NULL, *defaults = NULL;
    const lb_arch *a = NULL;
    lb_status st = lb_json_parse(config, "config.json", &s, &c, err);
    const lb_arch_outer *o = st == LB_OK ? lb_arch_outer_of(c, &a) : NULL;
    if (st == LB_OK && !o) {
        lb_buf_put_str(out, config);
        st = lb_buf_status(out, err);
    } else if (st == LB_OK) {
        const lb_json *text = lb_arch_outer_text(o, c);
        lb_json *to = text ? lb_json_copy(&s, text) : lb_json_new_object(&s);
        st = lb_json_parse(lb_str_c(o->defaults), "a table", &s, &defaults, err);
        if (st == LB_OK && (!to || !fill_text(to, o, c, defaults, &s) || !put_names(to, o, a, &s)))
            st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
        if (st == LB_OK)
            st = write_text(to, out, err);
    }
    lb_arena_deinit(&s);
    return st;
}

/* Sets a member of an object that may not be there. */
static bool set_tied(lb_json *object, lb_arena *s) {
    return lb_json_set(s, object, "tie_word_embeddings", lb_json_new_bool(s, true));
}

lb_status lb_arch_config_tied(lb_str config, const lb_hparams *hp, lb_arena *perm, lb_str *out,
                              lb_err *err) {
    lb_json *c = NULL;
    lb_buf b = {0};
    *out = config;
    if (!hp->outer || !hp->may_tie || !hp->tied)
        return LB_OK;
    LB_TRY(lb_json_parse(config, "config.json", perm, &c, err));
    lb_json *text = lb_json_get(c, hp->outer->key);
    lb_status st = LB_OK;
    if (!is_object(text)) {
        text = lb_json_new_object(perm);
        if (!lb_json_set(perm, c, hp->outer->key, text))
            st = LB_E_NOMEM;
    }
    if (st == LB_OK && set_tied(text, perm))
        lb_json_write(&b, c, (lb_json_style){.indent = 2, .ascii = true});
    *out = lb_arena_str(perm, lb_buf_str(&b));
    if (st != LB_OK || !out->ptr || !out->len)
        st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    lb_buf_deinit(&b);
    return st;
}

/* ---- names ---- */

lb_extra lb_arch_find_extra(const lb_hparams *hp, lb_str name) {
    if (!hp->outer)
        return LB_EXTRA_NONE;
    if (lb_str_starts(name, LB_STR("model.")))
        name = lb_str_sub(name, 6, name.len);
    for (u32 i = 0; i < hp->outer->n_extras; i++)
        if (lb_str_starts(name, hp->outer->extras[i].prefix))
            return hp->outer->extras[i].kind;
    return LB_EXTRA_NONE;
}

static lb_str joined(lb_str a, lb_str b, lb_arena *perm) {
    return lb_arena_printf(perm, "%.*s%.*s", LB_FMT(a), LB_FMT(b));
}

lb_str lb_arch_inner_name(const lb_hparams *hp, lb_str name, lb_arena *perm) {
    static const lb_str part = LB_N("language_model.");
    size_t at;
    if (!hp->outer || !lb_str_find(name, part, &at))
        return name;
    return joined(lb_str_sub(name, 0, at), lb_str_sub(name, at + part.len, name.len), perm);
}

lb_str lb_arch_outer_name(const lb_hparams *hp, lb_world world, lb_str name, lb_arena *perm) {
    const lb_arch_outer *o = hp->outer ? hp->outer : hp->mlx_outer;
    const lb_arch_prefix *p = o ? &o->mlx : NULL;
    if (!p || world != LB_WORLD_MLX || !lb_str_starts(name, p->row))
        return name;
    return joined(p->stored, lb_str_sub(name, p->row.len, name.len), perm);
}
