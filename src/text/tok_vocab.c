/* SPDX-License-Identifier: Apache-2.0 */
/* tok_vocab.c: see tok_vocab.h. What is no tokenizer.json is made into one, as a conversion would:
 * from the keys of a GGUF, those of a tokenizer.model first. */
#include "text/tok_vocab.h"
#include "text/tok_folder.h"

struct lb_tok_vocab {
    lb_arena arena;
    lb_source *made; /* with the files as sides; NULL: src's own are read */
    lb_tok_folder f;
    bool is_open;
};

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a vocabulary");
}

/* ---- files made of keys ---- */

static lb_status bytes_of(lb_tok_vocab *v, const lb_tok_file *f, lb_str *text, lb_err *err) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_tok_file_write(f, &out, err);
    lb_status end = lb_out_end(&out, st == LB_OK ? err : NULL);
    if (st == LB_OK)
        st = end == LB_OK ? lb_buf_status(&b, err) : end;
    if (st == LB_OK) {
        *text = lb_arena_str(&v->arena, lb_buf_str(&b));
        st = text->ptr ? LB_OK : oom(err);
    }
    lb_buf_deinit(&b);
    return st;
}

static bool is_wanted(lb_str name) {
    return lb_str_eq_c(name, "tokenizer.json") || lb_str_eq_c(name, "tokenizer_config.json") ||
           lb_str_eq_c(name, "special_tokens_map.json") ||
           lb_str_eq_c(name, "chat_template.jinja") || lb_str_eq_c(name, "added_tokens.json");
}

static lb_status make_files(lb_tok_vocab *v, const lb_source *src, const lb_gguf_meta *meta,
                            lb_err *err) {
    lb_tok_file *files;
    u64 n;
    LB_TRY(lb_tok_files_from_meta(meta, &v->arena, &files, &n, err));
    v->made = lb_source_new(LB_FORMAT_HF, src->path);
    lb_side_file *sides = lb_arena_new(&v->arena, lb_side_file, n + 1);
    if (!v->made || !sides)
        return oom(err);
    for (u64 i = 0; i < n; i++) {
        if (!is_wanted(files[i].name))
            continue;
        lb_str text;
        LB_TRY(bytes_of(v, &files[i], &text, err));
        u64 at = v->made->n_sides++;
        for (; at > 0 && lb_str_cmp(sides[at - 1].name, files[i].name) > 0; at--)
            sides[at] = sides[at - 1];
        sides[at] = (lb_side_file){.name = files[i].name, .bytes = text, .size_bytes = text.len};
    }
    v->made->sides = sides;
    v->made->config = src->format == LB_FORMAT_GGUF ? LB_STR_NONE : src->config;
    return LB_OK;
}

static lb_status from_model_file(lb_tok_vocab *v, const lb_source *src, const lb_tok_opts *opts,
                                 lb_err *err) {
    lb_gguf_meta meta;
    lb_tok *t = NULL;
    lb_meta_init(&meta, &v->arena);
    lb_status st = lb_tok_open(&t, src, err);
    if (st == LB_OK)
        st = lb_tok_to_meta(t, opts, &meta, NULL, err);
    if (st == LB_OK)
        st = make_files(v, src, &meta, err);
    lb_meta_deinit(&meta);
    lb_tok_close(&t);
    return st;
}

/* ---- opening ---- */

static lb_status open_folder(lb_tok_vocab *v, const lb_source *src, lb_err *err) {
    LB_TRY(lb_tok_folder_open(&v->f, src, err));
    v->is_open = true;
    return LB_OK;
}

static lb_status open_any(lb_tok_vocab *v, const lb_source *src, const lb_tok_opts *opts,
                          lb_err *err) {
    if (src->format == LB_FORMAT_GGUF)
        LB_TRY(make_files(v, src, src->gguf, err));
    LB_TRY(open_folder(v, v->made ? v->made : src, err));
    if (!lb_tok_folder_has(&v->f, "tokenizer.json") && !lb_tok_has_legacy(&v->f) &&
        lb_tok_folder_has(&v->f, "tokenizer.model")) {
        LB_TRY(from_model_file(v, src, opts, err));
        lb_tok_folder_close(&v->f);
        v->is_open = false;
        LB_TRY(open_folder(v, v->made, err));
    }
    return LB_OK;
}

lb_status lb_tok_vocab_open(lb_tok_vocab **out, const lb_source *src, const lb_tok_opts *opts,
                            lb_err *err) {
    lb_tok_vocab *v = *out = lb_alloc_zero(1, sizeof **out);
    if (!v)
        return oom(err);
    lb_status st = open_any(v, src, opts, err);
    if (st != LB_OK)
        lb_tok_vocab_close(out);
    return st;
}

void lb_tok_vocab_close(lb_tok_vocab **v) {
    if (!*v)
        return;
    if ((*v)->is_open)
        lb_tok_folder_close(&(*v)->f);
    lb_source_close(&(*v)->made);
    lb_arena_deinit(&(*v)->arena);
    lb_free(*v);
    *v = NULL;
}

lb_status lb_tok_vocab_load(lb_tok_vocab *v, lb_hf_tok **out, lb_err *err) {
    if (!v->f.has_arrays) {
        LB_TRY(lb_tok_folder_tokenizer(&v->f, true, err));
        LB_TRY(lb_tok_folder_add_configured(&v->f, err));
    }
    *out = &v->f.tok;
    return LB_OK;
}

const lb_source *lb_tok_vocab_files(const lb_tok_vocab *v) {
    return v->f.src;
}

lb_status lb_tok_vocab_replace(lb_tok_vocab *v, lb_str text, lb_err *err) {
    lb_hf_tok_deinit(&v->f.tok);
    v->f.has_tokenizer = false;
    LB_TRY(lb_hf_tok_parse(&v->f.tok, text, "tokenizer.json", &v->f.arena, err));
    v->f.has_tokenizer = true;
    return LB_OK;
}

lb_status lb_tok_vocab_template(lb_tok_vocab *v, lb_arena *perm, lb_str *out, lb_err *err) {
    lb_str text = LB_STR_NONE;
    bool found;
    *out = LB_STR_NONE;
    LB_TRY(lb_tok_folder_read(&v->f, "chat_template.jinja", &text, &found, err));
    const lb_json *own = lb_json_get(v->f.tok_config, "chat_template");
    if (!found && !lb_json_as_str(own, &text)) {
        for (const lb_json *o = own && own->type == LB_JARRAY ? own->first : NULL; o; o = o->next) {
            lb_str name;
            if (lb_json_as_str(lb_json_get(o, "name"), &name) && lb_str_eq_c(name, "default") &&
                lb_json_as_str(lb_json_get(o, "template"), &text))
                break;
        }
    }
    if (!text.ptr)
        return LB_OK;
    *out = lb_arena_str(perm, text);
    return out->ptr ? LB_OK : oom(err);
}
