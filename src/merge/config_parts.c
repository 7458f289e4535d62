/* SPDX-License-Identifier: Apache-2.0 */
/* config_parts.c: the parts of a merge file that stand in several places: references to models,
 * parameters, the tokenizer's rules. */
#include "merge/config_internal.h"

/* ---- references ---- */

/* "PATH[@REVISION]" */
static lb_status split_revision(lb_merge_reader *r, const lb_json *v, lb_str s, lb_str *path,
                                lb_str *revision) {
    size_t at = s.len;
    while (at && s.ptr[at - 1] != '@')
        at--;
    *path = at ? lb_str_sub(s, 0, at - 1) : s;
    *revision = at ? lb_str_sub(s, at, s.len) : LB_STR_NONE;
    if (path->len == 0)
        return lb_merge_bad(r, v, "the name of a model is empty in '%.*s'", LB_FMT(s));
    if (at && revision->len == 0)
        return lb_merge_bad(r, v, "a revision is missing behind '@' in '%.*s'", LB_FMT(s));
    return LB_OK;
}

static lb_status ref_of_text(lb_merge_reader *r, const lb_json *v, lb_merge_ref *out) {
    lb_str s = v->text;
    size_t plus = s.len;
    out->text = s;
    if (r->config->raw) {
        out->path = s;
        return s.len ? LB_OK : lb_merge_bad(r, v, "the name of a file is empty");
    }
    while (plus && s.ptr[plus - 1] != '+')
        plus--;
    if (plus) {
        LB_TRY(split_revision(r, v, lb_str_sub(s, plus, s.len), &out->lora, &out->lora_revision));
        s = lb_str_sub(s, 0, plus - 1);
    }
    return split_revision(r, v, s, &out->path, &out->revision);
}

/* A text, or {path, revision}. */
static lb_status read_path(lb_merge_reader *r, const lb_json *v, lb_str *path, lb_str *revision) {
    static const char *const keys[] = {"path", "revision", NULL};
    if (v->type == LB_JSTRING)
        return split_revision(r, v, v->text, path, revision);
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *p = lb_merge_get(v, "path"), *rev = lb_merge_get(v, "revision");
    if (!p)
        return lb_merge_bad(r, v, "`path` is missing");
    u32 before = lb_merge_enter(r, p->key);
    LB_TRY(lb_merge_text(r, p, path));
    if (path->len == 0)
        return lb_merge_bad(r, p, "the name of a model is empty");
    lb_merge_leave(r, before);
    if (rev) {
        lb_merge_enter(r, rev->key);
        LB_TRY(lb_merge_text(r, rev, revision));
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

static lb_status ref_of_mapping(lb_merge_reader *r, const lb_json *v, lb_merge_ref *out) {
    static const char *const keys[] = {"model", "lora", "override_architecture", NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *m = lb_merge_get(v, "model"), *l = lb_merge_get(v, "lora");
    const lb_json *a = lb_merge_get(v, "override_architecture");
    if (!m)
        return lb_merge_bad(r, v, "`model` is missing");
    u32 before = lb_merge_enter(r, m->key);
    LB_TRY(read_path(r, m, &out->path, &out->revision));
    lb_merge_leave(r, before);
    if (l) {
        lb_merge_enter(r, l->key);
        LB_TRY(read_path(r, l, &out->lora, &out->lora_revision));
        lb_merge_leave(r, before);
    }
    if (a) {
        lb_merge_enter(r, a->key);
        LB_TRY(lb_merge_text(r, a, &out->override_architecture));
        lb_merge_leave(r, before);
    }
    const char *plus = out->lora.len ? "+" : "";
    out->text = lb_arena_printf(r->perm, "%.*s%s%.*s%s%.*s%s%.*s", LB_FMT(out->path),
                                out->revision.len ? "@" : "", LB_FMT(out->revision), plus,
                                LB_FMT(out->lora), out->lora_revision.len ? "@" : "",
                                LB_FMT(out->lora_revision));
    return out->text.ptr ? LB_OK : lb_merge_no_memory(r);
}

static lb_status grow_refs(lb_merge_reader *r) {
    lb_merge_config *c = r->config;
    if (c->n_refs < r->refs_cap)
        return LB_OK;
    u32 cap = r->refs_cap ? 2 * r->refs_cap : 8;
    lb_merge_ref *refs = lb_arena_new(r->perm, lb_merge_ref, cap);
    bool *merged = lb_arena_new(r->perm, bool, cap);
    if (!refs || !merged)
        return lb_merge_no_memory(r);
    if (c->n_refs) {
        memcpy(refs, c->models, c->n_refs * sizeof *refs);
        memcpy(merged, r->merged, c->n_refs * sizeof *merged);
    }
    c->models = refs;
    r->merged = merged;
    r->refs_cap = cap;
    return LB_OK;
}

lb_status lb_merge_read_ref(lb_merge_reader *r, const lb_json *v, bool merged, u32 *out) {
    lb_merge_config *c = r->config;
    lb_merge_ref ref = {.merge = LB_NO_MERGE, .line = v->line};
    if (v->type == LB_JSTRING)
        LB_TRY(ref_of_text(r, v, &ref));
    else if (v->type == LB_JOBJECT && !c->raw)
        LB_TRY(ref_of_mapping(r, v, &ref));
    else
        return lb_merge_bad(
            r, v, "the name of a model is needed%s",
            v->type == LB_JNUMBER || v->type == LB_JBOOL ? ": put it into quotation marks" : "");
    /* NUL ends no text of YAML that libyaml takes unescaped; an escaped one only joins two models
     * that nobody can open. */
    lb_str key = lb_arena_printf(r->perm, "%.*s%c%.*s%c%.*s%c%.*s%c%.*s", LB_FMT(ref.path), 1,
                                 LB_FMT(ref.revision), 1, LB_FMT(ref.lora), 1,
                                 LB_FMT(ref.lora_revision), 1, LB_FMT(ref.override_architecture));
    u64 at;
    if (!key.ptr)
        return lb_merge_no_memory(r);
    if (!lb_map_find(&r->refs, key, &at)) {
        at = c->n_refs;
        LB_TRY(grow_refs(r));
        LB_TRY(lb_map_put(&r->refs, key, at, NULL, r->err));
        c->models[c->n_refs++] = ref;
    }
    *out = (u32)at;
    r->merged[at] |= merged;
    return LB_OK;
}

/* ---- parameters ---- */

static bool is_scalar(const lb_json *v) {
    return v->type == LB_JBOOL || v->type == LB_JNUMBER || v->type == LB_JSTRING;
}

static lb_status check_value(lb_merge_reader *r, const lb_json *v) {
    if (is_scalar(v))
        return LB_OK;
    if (v->type != LB_JARRAY)
        return lb_merge_bad(r, v, "a value or a list of values is needed");
    for (const lb_json *e = v->first; e; e = e->next)
        if (!is_scalar(e))
            return lb_merge_bad(r, e, "a list may hold values only%s",
                                e->type == LB_JOBJECT ? ", or only mappings with `value`" : "");
    return LB_OK;
}

static lb_status read_choice(lb_merge_reader *r, const lb_json *v, lb_merge_choice *out) {
    static const char *const keys[] = {"filter", "value", NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *filter = lb_merge_get(v, "filter"), *value = lb_json_get(v, "value");
    if (!value)
        return lb_merge_bad(r, v, "`value` is missing");
    out->any = !filter;
    if (filter) {
        u32 before = lb_merge_enter(r, filter->key);
        LB_TRY(lb_merge_text(r, filter, &out->filter));
        lb_merge_leave(r, before);
        out->any = lb_str_eq_c(out->filter, "*");
    }
    u32 before = lb_merge_enter(r, value->key);
    LB_TRY(check_value(r, value));
    lb_merge_leave(r, before);
    out->value = value;
    return LB_OK;
}

static lb_status read_setting(lb_merge_reader *r, const lb_json *v, lb_merge_setting *out) {
    bool list = v->type == LB_JARRAY && v->first && v->first->type == LB_JOBJECT;
    u32 n = list ? (u32)v->n : 1;
    lb_merge_choice *c = lb_arena_new(r->perm, lb_merge_choice, n);
    if (!c)
        return lb_merge_no_memory(r);
    *out = (lb_merge_setting){.name = v->key, .line = v->line, .choices = c, .n_choices = n};
    if (v->type == LB_JOBJECT)
        return read_choice(r, v, c);
    if (!list) {
        c->any = true;
        c->value = v;
        return v->type == LB_JNULL ? lb_merge_bad(r, v, "has no value") : check_value(r, v);
    }
    u32 i = 0;
    for (const lb_json *e = v->first; e; e = e->next) {
        u32 before = lb_merge_enter_at(r, i);
        if (e->type != LB_JOBJECT)
            return lb_merge_bad(r, e, "a list may hold values only, or only mappings with `value`");
        LB_TRY(read_choice(r, e, &c[i++]));
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

lb_status lb_merge_read_settings(lb_merge_reader *r, const lb_json *object,
                                 lb_merge_settings *out) {
    const lb_json *p = lb_merge_get(object, "parameters");
    *out = (lb_merge_settings){0};
    if (!p)
        return LB_OK;
    u32 before = lb_merge_enter(r, p->key);
    if (p->type != LB_JOBJECT)
        return lb_merge_bad(r, p, "a mapping of parameters is needed");
    lb_merge_setting *list = lb_arena_new(r->perm, lb_merge_setting, p->n);
    lb_str where = lb_arena_str(r->perm, (lb_str){r->path, r->path_len});
    if (!list || !where.ptr)
        return lb_merge_no_memory(r);
    *out = (lb_merge_settings){.where = where, .list = list};
    for (const lb_json *m = p->first; m; m = m->next) {
        u32 inner = lb_merge_enter(r, m->key);
        LB_TRY(read_setting(r, m, &list[out->n++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

/* ---- tokenizer ---- */

static lb_status read_vocab(lb_merge_reader *r, const lb_json *v) {
    lb_merge_config *c = r->config;
    if (v->type == LB_JSTRING && lb_str_eq_c(v->text, "union")) {
        c->vocab = LB_VOCAB_UNION;
        return LB_OK;
    }
    if (v->type == LB_JSTRING && lb_str_eq_c(v->text, "base")) {
        c->vocab = LB_VOCAB_BASE;
        return LB_OK;
    }
    c->vocab = LB_VOCAB_MODEL;
    return lb_merge_read_ref(r, v, false, &c->vocab_model);
}

static lb_status read_token_row(lb_merge_reader *r, const lb_json *v, lb_merge_token *out) {
    static const char *const keys[] = {"kind", "model", "token", "token_id", NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *model = lb_merge_get(v, "model"), *text = lb_merge_get(v, "token");
    const lb_json *id = lb_merge_get(v, "token_id");
    i64 n = 0;
    if (!model)
        return lb_merge_bad(r, v, "`model` is missing");
    if (!text == !id)
        return lb_merge_bad(r, v, "one of `token` and `token_id` is needed%s",
                            text ? ", not both" : "");
    u32 before = lb_merge_enter(r, model->key);
    LB_TRY(lb_merge_read_ref(r, model, false, &out->model));
    lb_merge_leave(r, before);
    lb_merge_enter(r, text ? text->key : id->key);
    out->from = text ? LB_TOKEN_TEXT : LB_TOKEN_ID;
    if (text)
        LB_TRY(lb_merge_text(r, text, &out->text));
    else if (!lb_merge_as_int(id, &n) || n < 0)
        return lb_merge_bad(r, id, "the number of a token, from 0, is needed");
    out->id = (u64)n;
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_token_source(lb_merge_reader *r, const lb_json *v, lb_merge_token *out) {
    static const char *const kinds[] = {"model_token", "zero", NULL};
    static const char *const zero_keys[] = {"kind", NULL};
    const lb_json *kind = lb_merge_get(v, "kind");
    if (!kind) {
        out->from = LB_TOKEN_MODEL;
        return lb_merge_read_ref(r, v, false, &out->model);
    }
    if (lb_str_eq_c(kind->text, "zero") && kind->type == LB_JSTRING) {
        out->from = LB_TOKEN_ZERO;
        return lb_merge_keys(r, v, zero_keys);
    }
    if (lb_str_eq_c(kind->text, "model_token") && kind->type == LB_JSTRING)
        return read_token_row(r, v, out);
    lb_merge_enter(r, kind->key);
    const char *near = lb_merge_nearest(kind->text, kinds);
    return lb_merge_bad(r, kind, "model_token or zero is needed%s%s%s",
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static lb_status read_token(lb_merge_reader *r, const lb_json *v, lb_merge_token *out) {
    static const char *const keys[] = {"source", "force", NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *source = lb_merge_get(v, "source"), *force = lb_json_get(v, "force");
    out->token = v->key;
    out->line = v->line;
    u32 before = r->path_len;
    if (source) {
        lb_merge_enter(r, source->key);
        LB_TRY(read_token_source(r, source, out));
        lb_merge_leave(r, before);
    }
    if (force) {
        lb_merge_enter(r, force->key);
        if (!lb_merge_as_bool(force, &out->force))
            return lb_merge_bad(r, force, "true or false is needed");
        if (out->force && !source)
            return lb_merge_bad(r, force, "`source` is missing: nothing says what to force");
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

static lb_status read_tokens(lb_merge_reader *r, const lb_json *v) {
    lb_merge_config *c = r->config;
    if (v->type != LB_JOBJECT)
        return lb_merge_bad(r, v, "a mapping of tokens is needed");
    if (!(c->tokens = lb_arena_new(r->perm, lb_merge_token, v->n)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = v->first; m; m = m->next) {
        u32 before = lb_merge_enter(r, m->key);
        LB_TRY(read_token(r, m, &c->tokens[c->n_tokens++]));
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

lb_status lb_merge_read_tokenizer(lb_merge_reader *r, const lb_json *root) {
    static const char *const keys[] = {"source", "tokens", "pad_to_multiple_of", NULL};
    const lb_json *legacy = lb_merge_get(root, "tokenizer_source");
    const lb_json *v = lb_merge_get(root, "tokenizer");
    i64 n = 0;
    u32 before = r->path_len;
    if (legacy) {
        lb_merge_enter(r, legacy->key);
        if (v)
            return lb_merge_bad(r, legacy, "stands beside `tokenizer` (line %u): one of them",
                                v->line);
        LB_TRY(read_vocab(r, legacy));
        lb_merge_leave(r, before);
    }
    if (!v)
        return LB_OK;
    lb_merge_enter(r, v->key);
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *source = lb_json_get(v, "source"), *tokens = lb_merge_get(v, "tokens");
    const lb_json *pad = lb_merge_get(v, "pad_to_multiple_of");
    u32 inner = r->path_len;
    r->config->vocab = LB_VOCAB_UNION;
    if (source) {
        lb_merge_enter(r, source->key);
        LB_TRY(read_vocab(r, source));
        lb_merge_leave(r, inner);
    }
    if (tokens) {
        lb_merge_enter(r, tokens->key);
        LB_TRY(read_tokens(r, tokens));
        lb_merge_leave(r, inner);
    }
    if (pad) {
        lb_merge_enter(r, pad->key);
        if (!lb_merge_as_int(pad, &n) || n < 0)
            return lb_merge_bad(r, pad, "a whole number from 1 is needed");
        r->config->pad_to_multiple_of = (u64)n;
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}
