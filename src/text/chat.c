/* SPDX-License-Identifier: Apache-2.0 */
/* chat.c: templates of a model, and the conversation as variables. Behaviour: transformers 5.24
 * (tokenization_utils_base.py, utils/chat_template_utils.py). */
#include "text/chat.h"
#include "text/tok_folder.h"
#include "text/tokdata.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct named {
    lb_str name;
    lb_template *t;
    struct named *next;
} named;

typedef struct token {
    const char *key;
    lb_str text;
} token;

#define N_SPECIAL 7

struct lb_chat {
    lb_arena arena;
    named *list;
    bool is_model;
    bool own; /* its one template was given from outside */
    token special[N_SPECIAL];
};

static const char *const special_keys[N_SPECIAL] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "chat template: out of memory");
}

/* ---- templates ---- */

static lb_status add(lb_chat *c, lb_str name, lb_str text, const char *what, lb_err *err) {
    named *n = lb_arena_new(&c->arena, named, 1), **tail = &c->list;
    if (!n)
        return no_memory(err);
    n->name = lb_arena_str(&c->arena, name);
    if (!n->name.ptr)
        return no_memory(err);
    LB_TRY(lb_template_new(&n->t, text, what, err));
    while (*tail)
        tail = &(*tail)->next;
    *tail = n;
    return LB_OK;
}

static const named *find(const lb_chat *c, const char *name) {
    for (const named *n = c->list; n; n = n->next)
        if (lb_str_eq_c(n->name, name))
            return n;
    return NULL;
}

static lb_status add_files(lb_chat *c, lb_tok_folder *f, lb_err *err) {
    static const lb_str dir = {LB_CHAT_TEMPLATES_DIR "/", sizeof LB_CHAT_TEMPLATES_DIR},
                        suffix = {".jinja", 6};
    lb_str text;
    bool found;
    LB_TRY(lb_tok_folder_read(f, "chat_template.jinja", &text, &found, err));
    if (found)
        LB_TRY(add(c, LB_STR("default"), text, "chat_template.jinja", err));
    for (u64 i = 0; i < f->src->n_sides; i++) {
        lb_str name = f->src->sides[i].name;
        if (!lb_str_starts(name, dir) || !lb_str_ends(name, suffix))
            continue;
        lb_str file = lb_arena_str(&f->arena, name);
        if (!file.ptr)
            return no_memory(err);
        LB_TRY(lb_tok_folder_read(f, file.ptr, &text, &found, err));
        if (found)
            LB_TRY(add(c, lb_str_sub(name, dir.len, name.len - suffix.len), text, file.ptr, err));
    }
    return LB_OK;
}

/* chat_template of a config: a text, [{"name", "template"}], or an object of them. */
static lb_status add_member(lb_chat *c, const lb_json *config, const char *file, lb_err *err) {
    const lb_json *v = lb_json_get(config, "chat_template");
    lb_str text, name;
    char what[256];
    if (v && v->type == LB_JSTRING) {
        (void)snprintf(what, sizeof what, "%s: chat_template", file);
        return add(c, LB_STR("default"), v->text, what, err);
    }
    if (!v || (v->type != LB_JARRAY && v->type != LB_JOBJECT))
        return LB_OK;
    for (const lb_json *e = v->first; e; e = e->next) {
        bool listed = v->type == LB_JARRAY;
        name = e->key;
        if (listed ? !lb_json_as_str(lb_json_get(e, "name"), &name) ||
                         !lb_json_as_str(lb_json_get(e, "template"), &text)
                   : !lb_json_as_str(e, &text))
            return lb_fail(err, LB_E_FORMAT,
                           "%s: chat_template: a name and a template are expected", file);
        (void)snprintf(what, sizeof what, "%s: chat_template %.*s", file,
                       (int)LB_MIN(name.len, 100), name.ptr);
        LB_TRY(add(c, name, text, what, err));
    }
    return LB_OK;
}

/* ---- special tokens ---- */

static lb_status find_special(lb_chat *c, lb_tok_folder *f, lb_err *err) {
    lb_json *map = NULL;
    if (lb_tok_folder_has(f, "tokenizer.json"))
        LB_TRY(lb_tok_folder_tokenizer(f, false, err));
    LB_TRY(lb_tok_folder_map(f, &map, err));
    for (u32 i = 0; i < N_SPECIAL; i++) {
        const char *key = special_keys[i];
        lb_str text = LB_STR_NONE;
        const lb_json *v = lb_json_get(map, key);
        v = v ? v : lb_json_get(f->tok_config, key);
        if (v)
            (void)lb_tok_token_text(v, &text);
        for (const lb_tok_default *d = lb_tok_class_defaults(f); !v && d->key; d++)
            if (strcmp(d->key, key) == 0)
                text = lb_str_c(d->text);
        c->special[i].key = key;
        if (text.ptr && !(c->special[i].text = lb_arena_str(&c->arena, text)).ptr)
            return no_memory(err);
    }
    return LB_OK;
}

lb_str lb_chat_special(const lb_chat *c, const char *key) {
    for (u32 i = 0; i < N_SPECIAL; i++)
        if (c->special[i].key && strcmp(c->special[i].key, key) == 0)
            return c->special[i].text;
    return LB_STR_NONE;
}

/* ---- opening ---- */

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const lb_side_file *)a)->name, ((const lb_side_file *)b)->name);
}

/* The small files that a GGUF's keys stand for; the vocabulary is not made. */
static lb_status files_of_gguf(const lb_source *s, lb_source **out, lb_err *err) {
    lb_tok_file *files;
    u64 n;
    lb_source *r = *out = lb_source_new(LB_FORMAT_HF, "tokenizer");
    if (!r)
        return no_memory(err);
    LB_TRY(lb_tok_files_look(s->gguf, &r->perm, &files, &n, err));
    if (!(r->sides = lb_arena_new(&r->perm, lb_side_file, n + 1)))
        return no_memory(err);
    for (u64 i = 0; i < n; i++)
        if (!files[i].meta)
            r->sides[r->n_sides++] = (lb_side_file){
                .name = files[i].name, .bytes = files[i].bytes, .size_bytes = files[i].bytes.len};
    if (r->n_sides)
        qsort(r->sides, r->n_sides, sizeof *r->sides, by_name);
    return LB_OK;
}

/* A GGUF whose tokenizer has no form in Hugging Face's files: what its keys say. */
static lb_status open_keys(lb_chat *c, const lb_gguf_meta *m, lb_err *err) {
    static const char *const ids[N_SPECIAL] = {
        "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.padding_token_id", "tokenizer.ggml.cls_token_id",
        "tokenizer.ggml.mask_token_id"};
    static const lb_str prefix = {"tokenizer.chat_template", 23};
    const lb_gguf_kv *tokens = lb_meta_find(m, "tokenizer.ggml.tokens");
    lb_str text, name;
    for (u64 i = 0; i < m->n && !c->own; i++) {
        name = m->kv[i].key;
        if (!lb_str_starts(name, prefix) || !lb_kv_as_str(&m->kv[i], &text))
            continue;
        name = lb_str_sub(name, prefix.len, name.len);
        if (name.len && name.ptr[0] != '.')
            continue;
        LB_TRY(add(c, name.len ? lb_str_sub(name, 1, name.len) : LB_STR("default"), text,
                   "tokenizer.chat_template", err));
    }
    for (u32 i = 0; i < N_SPECIAL; i++) {
        u64 id;
        c->special[i].key = special_keys[i];
        if (!tokens || tokens->type != LB_GGUF_ARRAY ||
            !lb_kv_as_u64(lb_meta_find(m, ids[i]), &id) || !lb_kv_elem_str(tokens, id, &text) ||
            !lb_str_is_utf8(text))
            continue;
        if (!(c->special[i].text = lb_arena_str(&c->arena, text)).ptr)
            return no_memory(err);
    }
    return c->list ? LB_OK
                   : lb_fail(err, LB_E_NOT_FOUND,
                             "the model has no chat template: give one as FILE.jinja");
}

static lb_status open_folder(lb_chat *c, lb_tok_folder *f, lb_err *err) {
    lb_json *processor = NULL;
    if (!c->own)
        LB_TRY(add_files(c, f, err));
    if (!c->list)
        LB_TRY(add_member(c, f->tok_config, "tokenizer_config.json", err));
    if (!c->list) {
        LB_TRY(lb_tok_folder_json(f, "chat_template.json", &processor, err));
        LB_TRY(add_member(c, processor, "chat_template.json", err));
    }
    if (!c->list)
        return lb_fail(err, LB_E_NOT_FOUND,
                       "the model has no chat template: give one as FILE.jinja");
    return find_special(c, f, err);
}

static lb_status open_model(lb_chat **out, const lb_source *s, const lb_str *own, const char *what,
                            lb_err *err) {
    lb_chat *c = *out = lb_alloc_zero(1, sizeof *c);
    lb_source *made = NULL;
    lb_tok_folder f = {0};
    lb_status st;
    if (!c)
        return no_memory(err);
    c->is_model = true;
    c->own = own != NULL;
    if (own)
        LB_TRY_DONE(st, add(c, LB_STR("default"), *own, what, err));
    st = s->gguf ? files_of_gguf(s, &made, err) : LB_OK;
    if (st == LB_E_UNSUPPORTED || st == LB_E_NOT_FOUND || st == LB_E_FORMAT) {
        st = open_keys(c, s->gguf, err);
        goto done;
    }
    if (st == LB_OK)
        st = lb_tok_folder_open(&f, made ? made : s, err);
    if (st == LB_OK)
        st = open_folder(c, &f, err);
done:
    lb_tok_folder_close(&f);
    lb_source_close(&made);
    if (st != LB_OK) {
        if (!own)
            lb_err_context(err, "%s", s->path);
        lb_chat_close(out);
    }
    return st;
}

lb_status lb_chat_open(lb_chat **out, const lb_source *s, lb_err *err) {
    return open_model(out, s, NULL, NULL, err);
}

lb_status lb_chat_open_with(lb_chat **out, const lb_source *s, lb_str text, const char *what,
                            lb_err *err) {
    return open_model(out, s, &text, what, err);
}

lb_status lb_chat_from_text(lb_chat **out, lb_str text, const char *what, lb_err *err) {
    lb_chat *c = *out = lb_alloc_zero(1, sizeof *c);
    if (!c)
        return no_memory(err);
    lb_status st = add(c, LB_STR("default"), text, what, err);
    if (st != LB_OK)
        lb_chat_close(out);
    return st;
}

void lb_chat_close(lb_chat **out) {
    lb_chat *c = *out;
    if (!c)
        return;
    for (named *n = c->list; n; n = n->next)
        lb_template_free(&n->t);
    lb_arena_deinit(&c->arena);
    lb_free(c);
    *out = NULL;
}

/* ---- the conversation ---- */

static bool is_null(const lb_json *v) {
    return !v || v->type == LB_JNULL;
}

/* `thinking` becomes the first member, as in {"thinking": ..., **message}: with its own value, or v
 * where it has none. */
static bool put_first(lb_arena *a, lb_json *message, const lb_json *v) {
    const lb_json *own = lb_json_get(message, "thinking");
    lb_json *copy = lb_json_copy(a, own ? own : v), *rest;
    if (!copy)
        return false;
    lb_json_remove(message, "thinking");
    rest = message->first;
    message->first = message->last = NULL;
    message->n = 0;
    if (!lb_json_set(a, message, "thinking", copy))
        return false;
    for (lb_json *m = rest, *next; m; m = next) {
        next = m->next;
        m->next = NULL;
        message->last->next = m;
        message->last = m;
        message->n++;
    }
    return true;
}

/* A message with its reasoning under each of its names. */
static bool alias_reasoning(lb_arena *a, lb_json *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const lb_json *v = NULL;
    for (size_t i = 0; i < LB_LEN(names) && is_null(v); i++)
        v = lb_json_get(message, names[i]);
    if (is_null(v))
        return true;
    lb_json *content = lb_json_copy(a, v);
    return content && put_first(a, message, v) &&
           lb_json_set(a, message, "reasoning_content", content);
}

static lb_status normal_messages(const lb_chat *c, const lb_json *messages, lb_arena *a,
                                 lb_json **out, lb_err *err) {
    u64 i = 0;
    if (!messages || messages->type != LB_JARRAY)
        return lb_fail(err, LB_E_FORMAT, "messages: an array of objects is expected");
    if (c->is_model && messages->n == 0)
        return lb_fail(err, LB_E_FORMAT, "messages: the conversation is empty");
    if (!(*out = lb_json_copy(a, messages)))
        return no_memory(err);
    for (lb_json *m = (*out)->first; m; m = m->next, i++) {
        if (m->type != LB_JOBJECT)
            return lb_fail(err, LB_E_FORMAT, "messages: number %llu is no object",
                           (unsigned long long)i);
        for (lb_json *v = m->first, *next; v && c->is_model; v = next) {
            lb_str key = v->key;
            next = v->next;
            if (v->type == LB_JNULL) {
                key = lb_arena_str(a, key); /* NUL-terminated */
                if (!key.ptr)
                    return no_memory(err);
                lb_json_remove(m, key.ptr);
            }
        }
        if (!alias_reasoning(a, m))
            return no_memory(err);
    }
    return LB_OK;
}

/* tools and documents: arrays of objects, or null. */
static lb_status set_list(lb_json *vars, const char *key, const lb_json *list, lb_arena *a,
                          lb_err *err) {
    lb_json *copy = is_null(list) ? lb_json_new_null(a) : lb_json_copy(a, list);
    if (!is_null(list) && list->type != LB_JARRAY)
        return lb_fail(err, LB_E_FORMAT, "%s: an array of objects is expected", key);
    for (const lb_json *v = is_null(list) ? NULL : list->first; v; v = v->next)
        if (v->type != LB_JOBJECT)
            return lb_fail(err, LB_E_FORMAT, "%s: an array of objects is expected", key);
    return copy && lb_json_set(a, vars, key, copy) ? LB_OK : no_memory(err);
}

static lb_status make_vars(const lb_chat *c, const lb_chat_input *in, lb_arena *a, lb_json **out,
                           lb_err *err) {
    lb_json *vars = *out = lb_json_new_object(a), *messages = NULL;
    if (!vars)
        return no_memory(err);
    for (u32 i = 0; i < N_SPECIAL; i++)
        if (c->special[i].text.ptr &&
            !lb_json_set(a, vars, c->special[i].key, lb_json_new_str(a, c->special[i].text)))
            return no_memory(err);
    for (const lb_json *v = in->kwargs ? in->kwargs->first : NULL; v; v = v->next) {
        lb_str key = lb_arena_str(a, v->key);
        if (!key.ptr || memchr(key.ptr, '\0', key.len))
            return key.ptr ? lb_fail(err, LB_E_FORMAT, "a variable's name has a NUL")
                           : no_memory(err);
        if (!lb_json_set(a, vars, key.ptr, lb_json_copy(a, v)))
            return no_memory(err);
    }
    LB_TRY(normal_messages(c, in->messages, a, &messages, err));
    if (!lb_json_set(a, vars, "messages", messages) ||
        !lb_json_set(a, vars, "add_generation_prompt", lb_json_new_bool(a, in->generation_prompt)))
        return no_memory(err);
    LB_TRY(set_list(vars, "tools", in->tools, a, err));
    return set_list(vars, "documents", in->documents, a, err);
}

static lb_status choose(const lb_chat *c, const lb_chat_input *in, const named **out, lb_err *err) {
    *out = in->name ? find(c, in->name) : NULL;
    if (in->name && !*out)
        return lb_fail(err, LB_E_NOT_FOUND, "the model has no chat template named %s", in->name);
    if (!*out && !is_null(in->tools))
        *out = find(c, "tool_use");
    if (!*out)
        *out = find(c, "default");
    return *out ? LB_OK
                : lb_fail(err, LB_E_NOT_FOUND,
                          "the model has several chat templates and none of them is the default");
}

lb_status lb_chat_render(const lb_chat *c, const lb_chat_input *in, const lb_template_opts *opts,
                         lb_buf *out, lb_err *err) {
    lb_arena a = {0};
    const named *n = NULL;
    lb_json *vars = NULL;
    lb_status st = choose(c, in, &n, err);
    if (st == LB_OK)
        st = make_vars(c, in, &a, &vars, err);
    if (st == LB_OK)
        st = lb_template_render(n->t, vars, opts, out, err);
    lb_arena_deinit(&a);
    return st;
}

/* ---- a request ---- */

static lb_status merge_into(lb_json *to, const lb_json *from, lb_arena *a, lb_err *err) {
    for (const lb_json *v = from->first; v; v = v->next) {
        lb_str key = lb_arena_str(a, v->key);
        if (!key.ptr || !lb_json_set(a, to, key.ptr, lb_json_copy(a, v)))
            return no_memory(err);
    }
    return LB_OK;
}

lb_status lb_chat_input_from_json(const lb_json *request, lb_arena *perm, lb_chat_input *out,
                                  lb_err *err) {
    lb_json *kwargs = lb_json_new_object(perm);
    *out = (lb_chat_input){.kwargs = kwargs, .generation_prompt = true};
    if (!kwargs)
        return no_memory(err);
    if (!request || request->type != LB_JOBJECT)
        return lb_fail(err, LB_E_FORMAT, "an object with \"messages\" is expected");
    for (const lb_json *v = request->first; v; v = v->next) {
        lb_str key = lb_arena_str(perm, v->key);
        if (!key.ptr)
            return no_memory(err);
        if (lb_str_eq_c(key, "messages")) {
            out->messages = v;
        } else if (lb_str_eq_c(key, "tools")) {
            out->tools = v;
        } else if (lb_str_eq_c(key, "documents")) {
            out->documents = v;
        } else if (lb_str_eq_c(key, "add_generation_prompt")) {
            if (!lb_json_as_bool(v, &out->generation_prompt))
                return lb_fail(err, LB_E_FORMAT,
                               "add_generation_prompt: true or false is expected");
        } else if (lb_str_eq_c(key, "chat_template_kwargs")) {
            if (v->type != LB_JOBJECT)
                return lb_fail(err, LB_E_FORMAT, "chat_template_kwargs: an object is expected");
            LB_TRY(merge_into(kwargs, v, perm, err));
        } else if (!lb_json_set(perm, kwargs, key.ptr, lb_json_copy(perm, v))) {
            return no_memory(err);
        }
    }
    return out->messages ? LB_OK : lb_fail(err, LB_E_FORMAT, "\"messages\" is missing");
}

lb_status lb_chat_input_add(lb_chat_input *in, const lb_json *kwargs, lb_arena *perm, lb_err *err) {
    lb_json *all = in->kwargs ? lb_json_copy(perm, in->kwargs) : lb_json_new_object(perm);
    if (!all)
        return no_memory(err);
    in->kwargs = all;
    return merge_into(all, kwargs, perm, err);
}
