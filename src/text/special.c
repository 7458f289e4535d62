/* SPDX-License-Identifier: Apache-2.0 */
/* special.c: the reference's SpecialVocab, rule by rule.
 *
 * The rules are kept as they are, also where they guess (a leading special token of a template that
 * the config does not name becomes BOS and CLS): the keys must come out the same. A special token
 * in tokenizer_config.json may be a string or an object; compared with a template's name only a
 * string can be equal, so an object never is. */
#include "text/special.h"

#include "base/os.h"
#include <stdio.h>

enum { T_BOS, T_EOS, T_UNK, T_SEP, T_PAD, T_CLS, T_MASK, T_EOT, T_EOM, T_COUNT };
#define T_STANDARD T_EOT /* eot and eom only count when a template brings them */

static const struct {
    const char *name;    /* in tokenizer_config.json: NAME_token, add_NAME_token */
    const char *id_key;  /* NULL: has no key in GGUF */
    const char *add_key; /* NULL: the same */
} types[T_COUNT] = {
    [T_BOS] = {"bos", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"},
    [T_EOS] = {"eos", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token"},
    [T_UNK] = {"unk", "tokenizer.ggml.unknown_token_id", NULL},
    [T_SEP] = {"sep", "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token"},
    [T_PAD] = {"pad", "tokenizer.ggml.padding_token_id", NULL},
    [T_CLS] = {"cls", NULL, NULL},
    [T_MASK] = {"mask", "tokenizer.ggml.mask_token_id", NULL},
    [T_EOT] = {"eot", "tokenizer.ggml.eot_token_id", NULL},
    [T_EOM] = {"eom", "tokenizer.ggml.eom_token_id", NULL},
};

typedef enum tri { UNSET, OFF, ON } tri;

typedef struct state {
    lb_tok_folder *f;
    const lb_special_opts *opts;
    const lb_json *token[T_COUNT]; /* tokenizer_config's NAME_token, as changed by the rules */
    /* The locals of the rules: what bos, cls, eos, sep are held to be. */
    const lb_json *bos, *cls, *eos, *sep;
    bool has_config;
    u32 n_types; /* T_STANDARD, one or two more */
    u32 id_order[T_COUNT], n_ids;
    u64 id[T_COUNT];
    bool has_id[T_COUNT];
    u32 add_order[T_COUNT], n_adds;
    tri add[T_COUNT];
    tri lowercase, strip_accents;
} state;

/* The member BEFORE name AFTER, e.g. "add_bos_token". */
static const lb_json *member(const lb_json *object, const char *before, u32 type,
                             const char *after) {
    char key[32];
    (void)snprintf(key, sizeof key, "%s%s%s", before, types[type].name, after);
    return lb_json_get(object, key);
}

/* ---- Python's idea of values ---- */

static bool truthy(const lb_json *v) {
    if (!v)
        return false;
    switch (v->type) {
    case LB_JNULL:
        return false;
    case LB_JBOOL:
        return v->truth;
    case LB_JSTRING:
        return v->text.len > 0;
    case LB_JARRAY:
    case LB_JOBJECT:
        return v->n > 0;
    case LB_JNUMBER:
        return true;
    }
    return false;
}

static bool is_text(const lb_json *v, const lb_json *name) {
    return v && v->type == LB_JSTRING && name && lb_str_eq(v->text, name->text);
}

/* The string at path, if it is one that is not empty. */
static const lb_json *name_at(const lb_json *v, const char *path) {
    const lb_json *s = lb_json_path(v, path);
    return s && s->type == LB_JSTRING && s->text.len ? s : NULL;
}

static void set_add(state *s, u32 type, bool on) {
    if (s->add[type] == UNSET)
        s->add_order[s->n_adds++] = type;
    s->add[type] = on ? ON : OFF;
}

static void default_add(state *s, u32 type) {
    if (s->add[type] == UNSET)
        set_add(s, type, false);
}

/* ---- tokenizer.json ---- */

static void read_normalizer(state *s, const lb_json *n) {
    lb_str type = LB_STR_NONE;
    bool on;
    (void)lb_json_as_str(lb_json_get(n, "type"), &type);
    if (lb_str_eq_c(type, "Lowercase"))
        s->lowercase = ON;
    else if (lb_str_eq_c(type, "StripAccents"))
        s->strip_accents = ON;
    else if (lb_str_eq_c(type, "BertNormalizer")) {
        if (lb_json_get(n, "lowercase"))
            s->lowercase =
                lb_json_as_bool(lb_json_get(n, "lowercase"), &on) ? (on ? ON : OFF) : UNSET;
        if (lb_json_get(n, "strip_accents"))
            s->strip_accents =
                lb_json_as_bool(lb_json_get(n, "strip_accents"), &on) ? (on ? ON : OFF) : UNSET;
    } else if (lb_str_eq_c(type, "Sequence")) { /* recursion: as deep as the JSON */
        const lb_json *list = lb_json_get(n, "normalizers");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            read_normalizer(s, v);
    }
}

static void read_roberta(state *s, const lb_json *p) {
    set_add(s, T_BOS, true);
    set_add(s, T_EOS, true);
    set_add(s, T_SEP, true);
    const lb_json *cls = lb_json_get(p, "cls"), *sep = lb_json_get(p, "sep");
    if (!truthy(s->cls) && s->has_config)
        s->token[T_CLS] = s->cls = cls ? cls->first : s->bos;
    if (!truthy(s->sep) && s->has_config)
        s->token[T_SEP] = s->sep = sep ? sep->first : s->eos;
}

static void read_template_first(state *s, const lb_json *first) {
    if (!s->has_config) {
        s->bos = first;
    } else if (!is_text(s->bos, first) && !is_text(s->cls, first)) {
        if (!truthy(s->bos))
            s->token[T_BOS] = s->bos = first;
        if (!truthy(s->cls))
            s->token[T_CLS] = s->cls = first;
    }
    set_add(s, T_BOS, is_text(s->bos, first) || is_text(s->cls, first));
}

static void read_template_last(state *s, const lb_json *last) {
    if (!s->has_config) {
        s->eos = last;
    } else if (!is_text(s->eos, last)) {
        if (s->n_types < T_COUNT) /* first eot, then eom; then EOS is lost */
            s->token[s->n_types++] = s->eos;
        s->token[T_EOS] = s->eos = last;
    }
    set_add(s, T_EOS, true);
}

static bool is_separator(const state *s, const lb_json *name) {
    return is_text(s->sep, name) || is_text(s->eos, name);
}

/* "A [sep] [eos] B", with what the single template also has at its ends taken off. */
static void read_template_pair(state *s, const lb_json *pair, const lb_json *first,
                               const lb_json *last) {
    const lb_json *from = pair->first, *to = NULL; /* to: behind the last entry, or NULL */
    u64 n = pair->n;
    if (first && is_text(name_at(pair->first, "SpecialToken.id"), first)) {
        from = from->next;
        n--;
    }
    if (last && is_text(name_at(pair->last, "SpecialToken.id"), last)) {
        to = pair->last;
        n = n ? n - 1 : 0;
    }
    if (n == 0 || !from)
        return;
    const lb_json *end = from;
    while (end->next && end->next != to)
        end = end->next;
    const lb_json *a = name_at(from, "Sequence.id"), *b = name_at(end, "Sequence.id");
    if (!a || !b || !lb_str_eq_c(a->text, "A") || !lb_str_eq_c(b->text, "B") || n <= 2)
        return;
    const lb_json *one = name_at(from->next, "SpecialToken.id");
    const lb_json *two = n == 4 ? name_at(from->next->next, "SpecialToken.id") : NULL;
    bool add = (one && is_separator(s, one) && !last) || (two && is_separator(s, two));
    set_add(s, T_SEP, add);
    if (add && !truthy(s->sep) && s->has_config)
        s->token[T_SEP] = s->eos;
}

static void read_template(state *s, const lb_json *p) {
    const lb_json *single = lb_json_get(p, "single"), *pair = lb_json_get(p, "pair");
    const lb_json *first = NULL, *last = NULL;
    if (single && single->n > 1) {
        first = name_at(single->first, "SpecialToken.id");
        if (first)
            read_template_first(s, first);
        last = name_at(single->last, "SpecialToken.id");
        if (last)
            read_template_last(s, last);
    }
    if (pair && pair->n)
        read_template_pair(s, pair, first, last);
}

static void read_post_processor(state *s, const lb_json *post) {
    const lb_json *list = lb_json_get(post, "processors");
    const lb_json *p = list ? list->first : post;
    for (; p; p = list ? p->next : NULL) {
        lb_str type = LB_STR_NONE;
        (void)lb_json_as_str(lb_json_get(p, "type"), &type);
        if (lb_str_eq_c(type, "ByteLevel")) {
            default_add(s, T_BOS);
            default_add(s, T_EOS);
        } else if (lb_str_eq_c(type, "RobertaProcessing")) {
            read_roberta(s, p);
        } else if (lb_str_eq_c(type, "TemplateProcessing")) {
            read_template(s, p);
        }
    }
}

static void read_tokenizer(state *s) {
    const lb_json *rest = s->f->has_tokenizer && !s->f->made ? s->f->tok.rest : NULL;
    if (!rest)
        return;
    read_normalizer(s, lb_json_get(rest, "normalizer"));
    s->bos = s->token[T_BOS];
    s->cls = s->token[T_CLS];
    s->eos = s->token[T_EOS];
    s->sep = s->token[T_SEP];
    if (!truthy(s->bos) && truthy(s->cls))
        s->token[T_BOS] = s->bos = s->cls;
    if (!truthy(s->eos) && truthy(s->sep))
        s->token[T_EOS] = s->eos = s->sep;
    const lb_json *post = lb_json_get(rest, "post_processor");
    if (truthy(post))
        read_post_processor(s, post);
}

/* ---- ids ---- */

static lb_status set_id(state *s, u32 type, const lb_json *v, lb_err *err) {
    u64 id;
    i64 below = 0;
    if (!v || v->type != LB_JNUMBER || !lb_json_is_int(v) || (type == T_PAD && s->opts->no_pad))
        return LB_OK;
    /* -1: the first LLaMA's word for none, at which the reference stops */
    if (lb_json_as_i64(v, &below) && below == -1)
        return LB_OK;
    if (!lb_json_as_u64(v, &id) || id > UINT32_MAX)
        return lb_fail(err, LB_E_FORMAT, "%s_token_id: %.*s is no token id", types[type].name,
                       LB_FMT(v->text));
    if (s->has_id[type] || (s->opts->n_vocab && id >= s->opts->n_vocab))
        return LB_OK;
    s->has_id[type] = true;
    s->id[type] = id;
    s->id_order[s->n_ids++] = type;
    return LB_OK;
}

/* By the text of tokenizer_config's token: the number that tokenizer.json's list gives it. */
static lb_status id_by_text(state *s, u32 type, lb_err *err) {
    lb_str text;
    const lb_json *list =
        s->f->has_tokenizer && !s->f->made ? lb_json_get(s->f->tok.rest, "added_tokens") : NULL;
    if (!lb_tok_token_text(s->token[type], &text))
        return LB_OK;
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        lb_str content;
        if (lb_json_as_str(lb_json_get(o, "content"), &content) && lb_str_eq(content, text))
            return set_id(s, type, lb_json_get(o, "id"), err);
    }
    return LB_OK;
}

static lb_status read_ids(state *s, lb_err *err) {
    const lb_json *config = s->f->config, *text_config = lb_json_get(config, "text_config");
    for (u32 t = 0; s->has_config && t < s->n_types; t++) {
        bool on;
        if (lb_json_as_bool(member(s->f->tok_config, "add_", t, "_token"), &on) &&
            s->add[t] == UNSET)
            set_add(s, t, on);
        LB_TRY(id_by_text(s, t, err));
    }
    for (u32 t = 0; config && t < s->n_types; t++) {
        const lb_json *v = member(config, "", t, "_token_id");
        if (!v || v->type == LB_JNULL)
            v = member(text_config, "", t, "_token_id");
        LB_TRY(set_id(s, t, v, err));
    }
    return LB_OK;
}

/* A token that the tokenizer has not got is passed over. */
static void set_named(state *s, const lb_special_named *named) {
    const lb_hf_tok *tok = &s->f->tok;
    u32 t = 0;
    while (t < T_COUNT && strcmp(types[t].name, named->type) != 0)
        t++;
    LB_ASSERT(t < T_COUNT);
    for (u64 i = 0; i < tok->n_added && !s->has_id[t]; i++) {
        if (!lb_str_eq_c(tok->added[i].content, named->text))
            continue;
        s->has_id[t] = true;
        s->id[t] = tok->added[i].id;
        s->id_order[s->n_ids++] = t;
    }
}

/* ---- chat templates ---- */

/* Python reads these files as texts: CR LF and CR become LF. A view where there is none. */
static lb_status as_lines(lb_arena *a, lb_str *text, lb_err *err) {
    if (!memchr(text->len ? text->ptr : "", '\r', text->len))
        return LB_OK;
    char *out = lb_arena_push(a, text->len + 1, 1);
    size_t n = 0;
    if (!out)
        return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
    for (size_t i = 0; i < text->len; i++) {
        char c = text->ptr[i];
        if (c == '\n' && i && text->ptr[i - 1] == '\r')
            continue;
        out[n++] = c == '\r' ? '\n' : c;
    }
    *text = (lb_str){out, n};
    return LB_OK;
}

/* [{"name": "default", "template": text}, then the files of additional_chat_templates/] */
static lb_status add_more_templates(lb_tok_folder *f, lb_str text, lb_json **out, lb_err *err) {
    static const lb_str suffix = {".jinja", 6};
    lb_arena *a = &f->arena;
    lb_str *names = NULL;
    u64 n = 0, n_jinja = 0;
    const char *dir = lb_os_join(a, f->src->path, LB_STR("additional_chat_templates"));
    lb_json *list = lb_json_new_array(a);
    if (!dir || !list)
        return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
    lb_fstat info;
    if (lb_os_exists(dir) && lb_os_stat(dir, &info, NULL) == LB_OK && info.is_dir)
        LB_TRY(lb_os_list(dir, a, &names, &n, err));
    for (u64 i = 0; i <= n; i++) {
        lb_str name = LB_STR("default"), body = text;
        if (i) {
            if (!lb_str_ends(names[i - 1], suffix))
                continue;
            const char *path = lb_os_join(a, dir, names[i - 1]);
            if (!path)
                return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
            LB_TRY(lb_os_read_file(path, LB_TOK_FILE_MAX, a, &body, err));
            LB_TRY(as_lines(a, &body, err));
            name = lb_str_sub(names[i - 1], 0, names[i - 1].len - suffix.len);
            n_jinja++;
        }
        lb_json *o = lb_json_new_object(a);
        if (!o || !lb_json_set(a, o, "name", lb_json_new_str(a, name)) ||
            !lb_json_set(a, o, "template", lb_json_new_str(a, body)) || !lb_json_push(list, o))
            return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
    }
    *out = n_jinja ? list : lb_json_new_str(a, text);
    return *out ? LB_OK : lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
}

/* The template: a string, a list of named ones, or NULL. A member of tokenizer_config.json counts
 * before the files, also when it is null. */
static lb_status find_template(lb_tok_folder *f, const lb_json **out, lb_err *err) {
    lb_str text;
    bool found;
    lb_json *v = NULL;
    *out = lb_json_get(f->tok_config, "chat_template");
    if (*out)
        return LB_OK;
    LB_TRY(lb_tok_folder_read(f, "chat_template.jinja", &text, &found, err));
    if (found) {
        LB_TRY(as_lines(&f->arena, &text, err));
        LB_TRY(add_more_templates(f, text, &v, err));
    } else {
        LB_TRY(lb_tok_folder_json(f, "chat_template.json", &v, err));
        v = lb_json_get(v, "chat_template");
    }
    *out = v;
    return LB_OK;
}

static bool is_name_char(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Each code point that is no ASCII letter or digit becomes one '_'. */
static lb_status key_name(lb_arena *a, lb_str name, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    for (size_t i = 0; i < name.len; i++)
        if (((u8)name.ptr[i] & 0xc0) != 0x80)
            lb_buf_put_u8(&b, (u8)(is_name_char(name.ptr[i]) ? name.ptr[i] : '_'));
    lb_status st = lb_buf_status(&b, err);
    *out = lb_arena_str(a, lb_buf_str(&b));
    lb_buf_deinit(&b);
    if (st == LB_OK && !out->ptr)
        st = lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
    return st;
}

/* An empty string is not written (GGUFWriter.add_string). */
static lb_status put_text(lb_gguf_meta *meta, const char *key, lb_str v, lb_err *err) {
    if (!lb_str_is_utf8(v))
        return lb_fail(err, LB_E_FORMAT, "the chat template for %s is not UTF-8", key);
    return v.len ? lb_meta_set_str(meta, key, v, err) : LB_OK;
}

static lb_status put_named_templates(lb_tok_folder *f, const lb_json *list, lb_gguf_meta *meta,
                                     lb_err *err) {
    lb_str *names = lb_arena_new(&f->arena, lb_str, list->n), body, fallback = LB_STR_NONE;
    u64 n = 0;
    if (!names && list->n)
        return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
    for (const lb_json *o = list->first; o; o = o->next) {
        lb_str name = LB_STR_NONE;
        (void)lb_json_as_str(lb_json_get(o, "name"), &name);
        LB_TRY(key_name(&f->arena, name, &name, err));
        if (!name.len || !lb_json_as_str(lb_json_get(o, "template"), &body))
            continue;
        if (lb_str_eq_c(name, "default")) {
            fallback = body;
            continue;
        }
        lb_str key = lb_arena_printf(&f->arena, "tokenizer.chat_template.%.*s", LB_FMT(name));
        if (!key.ptr)
            return lb_fail(err, LB_E_NOMEM, "chat templates: out of memory");
        LB_TRY(put_text(meta, key.ptr, body, err));
        bool known = false;
        for (u64 i = 0; i < n; i++)
            known |= lb_str_eq(names[i], name);
        if (!known)
            names[n++] = name;
    }
    if (n)
        LB_TRY(lb_meta_set_array(meta, "tokenizer.chat_templates", LB_GGUF_STR, n, names, err));
    return put_text(meta, "tokenizer.chat_template", fallback, err);
}

static lb_status put_template(lb_tok_folder *f, lb_gguf_meta *meta, lb_err *err) {
    const lb_json *v;
    if (!truthy(f->tok_config))
        return LB_OK;
    LB_TRY(find_template(f, &v, err));
    if (v && v->type == LB_JSTRING)
        return put_text(meta, "tokenizer.chat_template", v->text, err);
    return v && v->type == LB_JARRAY ? put_named_templates(f, v, meta, err) : LB_OK;
}

/* ---- ---- */

static lb_status put_all(state *s, lb_gguf_meta *meta, lb_err *err) {
    if (s->opts->merges && s->opts->merges->n)
        LB_TRY(lb_meta_set_texts(meta, "tokenizer.ggml.merges", s->opts->merges, err));
    for (u32 i = 0; i < s->n_ids; i++) {
        u32 t = s->id_order[i];
        if (types[t].id_key)
            LB_TRY(lb_meta_set_u32(meta, types[t].id_key, (u32)s->id[t], err));
    }
    for (u32 i = 0; i < s->n_adds; i++) {
        u32 t = s->add_order[i];
        if (types[t].add_key)
            LB_TRY(lb_meta_set_bool(meta, types[t].add_key, s->add[t] == ON, err));
    }
    LB_TRY(put_template(s->f, meta, err));
    if (s->lowercase != UNSET)
        LB_TRY(
            lb_meta_set_bool(meta, "tokenizer.ggml.normalizer.lowercase", s->lowercase == ON, err));
    if (s->strip_accents != UNSET)
        LB_TRY(lb_meta_set_bool(meta, "tokenizer.ggml.normalizer.strip_accents",
                                s->strip_accents == ON, err));
    return LB_OK;
}

static void set_eos(state *s, u64 id) {
    if (!s->has_id[T_EOS])
        s->id_order[s->n_ids++] = T_EOS;
    s->has_id[T_EOS] = true;
    s->id[T_EOS] = id;
}

lb_status lb_special_put(lb_tok_folder *f, const lb_special_opts *opts, lb_gguf_meta *meta,
                         lb_err *err) {
    state s = {.f = f, .opts = opts, .n_types = T_STANDARD, .has_config = truthy(f->tok_config)};
    for (u32 t = 0; t < T_STANDARD; t++)
        s.token[t] = member(f->tok_config, "", t, "_token");
    read_tokenizer(&s);
    LB_TRY(read_ids(&s, err));
    if (opts->eos)
        set_eos(&s, *opts->eos);
    for (const lb_special_named *n = opts->named; n && n->type; n++)
        set_named(&s, n);
    return put_all(&s, meta, err);
}
