/* SPDX-License-Identifier: Apache-2.0 */
/* tok_from_gguf.c: the tokenizer files of a folder from the keys of a GGUF. */
#include "text/tokdata.h"

#include "io/json.h"
#include "text/hf_tok.h"
#include "text/tok_keep.h"

typedef struct list {
    const lb_gguf_meta *meta;
    lb_arena *perm;
    lb_tok_file *v;
    u64 n, cap;
    bool look; /* big files are not tried */
} list;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer files: out of memory");
}

static lb_status add(list *l, lb_str name, lb_str bytes, lb_err *err) {
    if (l->n == l->cap) {
        u64 cap = l->cap ? l->cap * 2 : 16;
        lb_tok_file *v = lb_arena_new(l->perm, lb_tok_file, cap);
        if (!v)
            return no_memory(err);
        if (l->n)
            memcpy(v, l->v, (size_t)l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = (lb_tok_file){.name = name, .bytes = bytes};
    return LB_OK;
}

/* ---- chat templates ---- */

/* Names come from a file: they become part of a path. */
static bool is_plain_name(lb_str s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return s.len > 0 && s.len <= 200;
}

static lb_status add_named(list *l, lb_str name, lb_str text, lb_err *err) {
    lb_str file = lb_arena_printf(l->perm, LB_CHAT_TEMPLATES_DIR "/%.*s.jinja", LB_FMT(name));
    return file.ptr ? add(l, file, text, err) : no_memory(err);
}

static lb_status add_default_template(list *l, lb_err *err) {
    lb_str text;
    return lb_kv_as_str(lb_meta_find(l->meta, "tokenizer.chat_template"), &text)
               ? add(l, LB_STR("chat_template.jinja"), text, err)
               : LB_OK;
}

static lb_status add_named_templates(list *l, lb_err *err) {
    static const lb_str prefix = {"tokenizer.chat_template.", 24};
    lb_str text;
    for (u64 i = 0; i < l->meta->n; i++) {
        const lb_gguf_kv *kv = &l->meta->kv[i];
        if (!lb_str_starts(kv->key, prefix) || !lb_kv_as_str(kv, &text))
            continue;
        lb_str name = lb_str_sub(kv->key, prefix.len, kv->key.len);
        if (!is_plain_name(name))
            return lb_fail(err, LB_E_FORMAT, "%.*s: a name of letters, digits, _ and - is expected",
                           LB_FMT(kv->key));
        LB_TRY(add_named(l, name, text, err));
    }
    return LB_OK;
}

static lb_status add_templates(list *l, lb_err *err) {
    LB_TRY(add_default_template(l, err));
    return add_named_templates(l, err);
}

/* The default of a list of {"name", "template"}; one is added where there is none. */
static bool set_default(lb_json *all, lb_str text, lb_arena *a) {
    lb_json *entry = NULL;
    lb_str name;
    for (lb_json *v = all->first; v && !entry; v = v->next)
        if (lb_json_as_str(lb_json_get(v, "name"), &name) && lb_str_eq_c(name, "default"))
            entry = v;
    if (!entry) {
        entry = lb_json_new_object(a);
        if (!lb_json_set(a, entry, "name", lb_json_new_str(a, LB_STR("default"))) ||
            !lb_json_push(all, entry))
            return false;
    }
    return lb_json_set(a, entry, "template", lb_json_new_str(a, text));
}

lb_status lb_tok_config_template(lb_str config, lb_str text, lb_arena *perm, lb_str *out,
                                 bool *listed, lb_err *err) {
    lb_arena scratch = {0};
    lb_buf b = {0};
    lb_json *tree, *had = NULL;
    *listed = false;
    *out = config;
    lb_status st = lb_json_parse(config, "tokenizer_config.json", &scratch, &tree, err);
    if (st == LB_OK)
        had = lb_json_get(tree, "chat_template");
    if (had) {
        *listed = text.ptr && had->type == LB_JARRAY;
        if (!*listed)
            lb_json_remove(tree, "chat_template");
        else if (!set_default(had, text, &scratch))
            st = no_memory(err);
        lb_json_write(&b, tree, (lb_json_style){.indent = 2});
        lb_buf_put_c(&b, "\n");
        if (st == LB_OK)
            st = lb_buf_status(&b, err);
        *out = lb_arena_str(perm, lb_buf_str(&b));
        if (st == LB_OK && !out->ptr)
            st = no_memory(err);
    }
    lb_buf_deinit(&b);
    lb_arena_deinit(&scratch);
    return st;
}

/* Those that lbrx kept with their own names; false: none. */
static lb_status add_kept_templates(list *l, bool *found, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(l->meta, "lbrx.hf.chat_templates");
    *found = kv && kv->type == LB_GGUF_ARRAY && kv->elem == LB_GGUF_STR;
    for (u64 i = 0; *found && i + 1 < kv->n; i += 2) {
        lb_str name, text;
        if (!lb_kv_elem_str(kv, i, &name) || !lb_kv_elem_str(kv, i + 1, &text) ||
            !lb_str_is_file_name(name))
            return lb_fail(err, LB_E_FORMAT, "lbrx.hf.chat_templates: no name of a file");
        LB_TRY(add_named(l, name, text, err));
    }
    return LB_OK;
}

/* ---- made files ---- */

static lb_status make_json(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, bool *is,
                           lb_err *err) {
    *is = true;
    return lb_tok_kept(a->meta) ? lb_tok_restore_json(a, put, ctx, is, err)
                                : lb_tok_rebuild_json(a, put, ctx, err);
}

static lb_status write_parts(void *ctx, const lb_hf_parts *p, lb_err *err) {
    return lb_hf_write(p, ctx, err);
}

static lb_status make(const lb_tok_file *f, const lb_tok_arrays *a, lb_out *out, bool *is,
                      lb_err *err) {
    *is = true;
    if (f->made == LB_TOK_MADE_JSON)
        return make_json(a, write_parts, out, is, err);
    return lb_tok_kept(f->meta) ? lb_tok_restore_spm(a, out, is, err)
                                : lb_tok_rebuild_spm(a, out, err);
}

static lb_status index_arrays(lb_tok_arrays *a, lb_err *err) {
    return lb_tok_kept(a->meta) ? LB_OK : lb_tok_arrays_index(a, err);
}

lb_status lb_tok_file_write(const lb_tok_file *f, lb_out *out, lb_err *err) {
    lb_tok_arrays a;
    lb_arena scratch = {0};
    bool is;
    if (!f->meta) {
        lb_buf_put_str(&out->buf, f->bytes);
        lb_out_spill(out);
        return LB_OK;
    }
    lb_status st = lb_tok_arrays_read(&a, f->meta, &scratch, err);
    if (st == LB_OK)
        st = index_arrays(&a, err);
    if (st == LB_OK)
        st = make(f, &a, out, &is, err);
    lb_tok_arrays_deinit(&a);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_tok_put_json(const lb_gguf_meta *meta, lb_hf_put *put, void *ctx, lb_err *err) {
    lb_tok_arrays a;
    lb_arena scratch = {0};
    bool is;
    lb_status st = lb_tok_arrays_read(&a, meta, &scratch, err);
    if (st == LB_OK)
        st = index_arrays(&a, err);
    if (st == LB_OK)
        st = make_json(&a, put, ctx, &is, err);
    lb_tok_arrays_deinit(&a);
    lb_arena_deinit(&scratch);
    return st;
}

/* Makes it once to nowhere. *is = false: there is none. */
static lb_status try_made(const lb_tok_arrays *a, const lb_tok_file *f, bool *is, lb_err *err) {
    lb_out nowhere = {0};
    lb_status st = make(f, a, &nowhere, is, err);
    lb_status end = lb_out_end(&nowhere, st == LB_OK ? err : NULL);
    return st == LB_OK ? end : st;
}

/* By its keys alone. */
static lb_status look_made(const lb_tok_arrays *a, const lb_tok_file *f, bool *is, lb_err *err) {
    *is = true;
    if (!lb_tok_kept(f->meta))
        return lb_tok_check_form(a, err);
    *is = f->made == LB_TOK_MADE_JSON ? lb_meta_find(f->meta, "lbrx.hf.tokenizer") &&
                                            lb_meta_find(f->meta, "lbrx.hf.tokenizer_form")
                                      : lb_meta_find(f->meta, "lbrx.hf.tokenizer_model") != NULL;
    return LB_OK;
}

static lb_status add_made(list *l, const lb_tok_arrays *a, const lb_tok_file *f, bool *is,
                          lb_err *err) {
    LB_TRY(l->look ? look_made(a, f, is, err) : try_made(a, f, is, err));
    if (!*is)
        return LB_OK;
    LB_TRY(add(l, f->name, LB_STR_NONE, err));
    l->v[l->n - 1] = *f;
    return LB_OK;
}

/* ---- rebuilding ---- */

static lb_status add_copy(list *l, const char *name, lb_str text, lb_err *err) {
    if (!text.ptr)
        return LB_OK;
    lb_str copy = lb_arena_str(l->perm, text);
    return copy.ptr ? add(l, lb_str_c(name), copy, err) : no_memory(err);
}

/* A whole tokenizer.json that the GGUF has: *is = false where there is none. */
static lb_status add_whole(list *l, bool *is, lb_err *err) {
    static const char key[] = "tokenizer.huggingface.json";
    lb_str json;
    lb_hf_tok t;
    lb_arena scratch = {0};
    *is = lb_kv_as_str(lb_meta_find(l->meta, key), &json);
    if (!*is)
        return LB_OK;
    if (l->look)
        return add(l, LB_STR("tokenizer.json"), json, err);
    lb_status st = lb_hf_tok_parse(&t, json, key, &scratch, err);
    if (st == LB_OK)
        lb_hf_tok_deinit(&t);
    lb_arena_deinit(&scratch);
    return st == LB_OK ? add(l, LB_STR("tokenizer.json"), json, err) : st;
}

static lb_status rebuild(list *l, lb_tok_arrays *a, lb_err *err) {
    lb_tok_texts small = {0};
    lb_tok_file made = {.name = LB_STR("tokenizer.json"), .meta = l->meta};
    bool is;
    if (!l->look)
        LB_TRY(lb_tok_arrays_index(a, err));
    LB_TRY(add_whole(l, &is, err));
    if (!is)
        LB_TRY(add_made(l, a, &made, &is, err));
    LB_TRY(lb_tok_rebuild_config(a, &small, err));
    LB_TRY(add_copy(l, "tokenizer_config.json", small.config, err));
    LB_TRY(add_copy(l, "special_tokens_map.json", small.map, err));
    LB_TRY(add_copy(l, "added_tokens.json", small.added, err));
    made =
        (lb_tok_file){.name = LB_STR("tokenizer.model"), .meta = l->meta, .made = LB_TOK_MADE_SPM};
    if (lb_tok_is_unigram(a) || (lb_tok_is_spm(a) && a->has_scores && !a->flat_scores))
        LB_TRY(add_made(l, a, &made, &is, err));
    return add_templates(l, err);
}

/* ---- what lbrx kept ---- */

/* templates: those of the files are the model's; else they stay out, of the config as well. */
static lb_status add_small_files(list *l, bool templates, bool *has_template, lb_err *err) {
    const char *name, *key;
    lb_str text;
    bool listed;
    for (u32 i = 0; lb_tok_small_file(i, &name, &key); i++) {
        bool is_template = strncmp(name, "chat_template", 13) == 0;
        if (!lb_kv_as_str(lb_meta_find(l->meta, key), &text) || (is_template && !templates))
            continue;
        if (!templates && strcmp(name, "tokenizer_config.json") == 0)
            LB_TRY(lb_tok_config_template(text, LB_STR_NONE, l->perm, &text, &listed, err));
        LB_TRY(add(l, lb_str_c(name), text, err));
        *has_template |= is_template;
    }
    return LB_OK;
}

static lb_status config_has_template(list *l, bool *has_template, lb_err *err) {
    lb_str text;
    lb_json *config;
    lb_arena scratch = {0};
    if (!lb_kv_as_str(lb_meta_find(l->meta, "lbrx.hf.tokenizer_config"), &text))
        return LB_OK;
    lb_status st = lb_json_parse(text, "lbrx.hf.tokenizer_config", &scratch, &config, err);
    if (st == LB_OK)
        *has_template |= lb_json_get(config, "chat_template") != NULL;
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status restore_templates(list *l, bool has_template, lb_err *err) {
    bool named;
    LB_TRY(config_has_template(l, &has_template, err));
    LB_TRY(add_kept_templates(l, &named, err));
    if (has_template)
        return LB_OK;
    return named ? add_default_template(l, err) : add_templates(l, err);
}

static lb_status restore(list *l, const lb_tok_arrays *a, lb_err *err) {
    bool has_template = false, templates = lb_tok_templates_kept(l->meta), is;
    lb_tok_file made = {.name = LB_STR("tokenizer.json"), .meta = l->meta};
    LB_TRY(add_made(l, a, &made, &is, err));
    if (!is)
        LB_TRY(add_whole(l, &is, err));
    made =
        (lb_tok_file){.name = LB_STR("tokenizer.model"), .meta = l->meta, .made = LB_TOK_MADE_SPM};
    LB_TRY(add_made(l, a, &made, &is, err));
    LB_TRY(add_small_files(l, templates, &has_template, err));
    return templates ? restore_templates(l, has_template, err) : add_templates(l, err);
}

static lb_status list_files(const lb_gguf_meta *meta, bool look, lb_arena *perm,
                            lb_tok_file **files, u64 *n_files, lb_err *err) {
    list l = {.meta = meta, .perm = perm, .look = look};
    lb_tok_arrays a;
    lb_arena scratch = {0};
    lb_status st = lb_tok_arrays_read(&a, meta, &scratch, err);
    if (st == LB_OK)
        st = lb_tok_kept(meta) ? restore(&l, &a, err) : rebuild(&l, &a, err);
    lb_tok_arrays_deinit(&a);
    lb_arena_deinit(&scratch);
    *files = l.v;
    *n_files = l.n;
    return st;
}

lb_status lb_tok_files_from_meta(const lb_gguf_meta *meta, lb_arena *perm, lb_tok_file **files,
                                 u64 *n_files, lb_err *err) {
    return list_files(meta, false, perm, files, n_files, err);
}

lb_status lb_tok_files_look(const lb_gguf_meta *meta, lb_arena *perm, lb_tok_file **files,
                            u64 *n_files, lb_err *err) {
    return list_files(meta, true, perm, files, n_files, err);
}
