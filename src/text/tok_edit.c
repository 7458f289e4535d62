/* SPDX-License-Identifier: Apache-2.0 */
/* tok_edit.c: see tok_edit.h. */
#include "text/tok_edit.h"
#include "tensor/source.h"
#include <stdio.h>
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tokenizer's files");
}

static const char *const files[] = {"tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "chat_template.jinja",
                                    "chat_template.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "vocab.txt",
                                    "tokenizer.model",
                                    "spiece.model",
                                    "sentencepiece.bpe.model",
                                    "tokenizer.model.v3",
                                    "tekken.json"};

static bool is_chat_folder(lb_str name) {
    return lb_str_starts(name, LB_STR(LB_CHAT_TEMPLATES_DIR "/"));
}

bool lb_tok_is_file(lb_str name) {
    for (u32 i = 0; i < LB_LEN(files); i++)
        if (lb_str_eq_c(name, files[i]))
            return true;
    return lb_str_ends(name, LB_STR(".tiktoken")) || is_chat_folder(name) ||
           (lb_str_starts(name, LB_STR("tokenization_")) && lb_str_ends(name, LB_STR(".py")));
}

bool lb_tok_is_stale(lb_str name, bool cut) {
    bool plain = lb_str_eq_c(name, "vocab.json") || lb_str_eq_c(name, "merges.txt") ||
                 lb_str_eq_c(name, "vocab.txt");
    return (plain && cut) || lb_str_ends(name, LB_STR(".model")) ||
           lb_str_ends(name, LB_STR(".tiktoken")) || lb_str_eq_c(name, "tokenizer.model.v3") ||
           lb_str_eq_c(name, "tekken.json");
}

/* ---- the list of added tokens ---- */

static int by_id(const void *a, const void *b) {
    u32 x = (*(const lb_hf_added *const *)a)->id, y = (*(const lb_hf_added *const *)b)->id;
    return (x > y) - (x < y);
}

static const lb_hf_added **sorted(const lb_hf_tok *t, lb_arena *a) {
    const lb_hf_added **list = lb_arena_new(a, const lb_hf_added *, t->n_added + 1);
    for (u64 i = 0; list && i < t->n_added; i++)
        list[i] = &t->added[i];
    if (list)
        qsort(list, (size_t)t->n_added, sizeof *list, by_id);
    return list;
}

static lb_json *entry_of(const lb_hf_added *x, lb_arena *a) {
    lb_json *o = lb_json_new_object(a);
    bool ok = o && lb_json_set(a, o, "content", lb_json_new_str(a, x->content)) &&
              lb_json_set(a, o, "lstrip", lb_json_new_bool(a, x->lstrip)) &&
              lb_json_set(a, o, "normalized", lb_json_new_bool(a, x->normalized)) &&
              lb_json_set(a, o, "rstrip", lb_json_new_bool(a, x->rstrip)) &&
              lb_json_set(a, o, "single_word", lb_json_new_bool(a, x->single_word)) &&
              lb_json_set(a, o, "special", lb_json_new_bool(a, x->special));
    return ok ? o : NULL;
}

static lb_status set_decoder(lb_json *root, const lb_hf_tok *t, lb_arena *a, lb_err *err) {
    lb_json *fresh = lb_json_new_object(a);
    const lb_hf_added **list = sorted(t, a);
    if (!fresh || !list)
        return oom(err);
    for (u64 i = 0; i < t->n_added; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%u", list[i]->id);
        if (!lb_json_set(a, fresh, key, entry_of(list[i], a)))
            return oom(err);
    }
    return lb_json_set(a, root, "added_tokens_decoder", fresh) ? LB_OK : oom(err);
}

/* ---- special tokens ---- */

static bool is_known(const lb_hf_tok *t, const lb_json *v) {
    lb_str text;
    u32 id;
    return !(lb_json_as_str(v, &text) || lb_json_as_str(lb_json_get(v, "content"), &text)) ||
           !text.len || lb_hf_tok_id(t, text, &id);
}

static lb_status keep_known(lb_json *list, const lb_hf_tok *t, lb_arena *a, lb_err *err) {
    lb_json *fresh = lb_json_new_array(a);
    for (const lb_json *v = list->first; fresh && v; v = v->next) {
        lb_json *copy = is_known(t, v) ? lb_json_copy(a, v) : NULL;
        if (is_known(t, v) && (!copy || !lb_json_push(fresh, copy)))
            return oom(err);
    }
    if (!fresh)
        return oom(err);
    list->first = fresh->first;
    list->last = fresh->last;
    list->n = fresh->n;
    return LB_OK;
}

static lb_status drop_unknown(lb_json *root, const lb_hf_tok *t, lb_arena *a, lb_buf *left,
                              lb_err *err) {
    for (lb_json *v = root->first, *next; v; v = next) {
        next = v->next;
        if (v->type == LB_JARRAY && lb_str_ends(v->key, LB_STR("special_tokens")))
            LB_TRY(keep_known(v, t, a, err));
        if (!lb_str_ends(v->key, LB_STR("_token")) || is_known(t, v))
            continue;
        if (left)
            lb_buf_printf(left, "%s%.*s", left->len ? ", " : "", LB_FMT(v->key));
        lb_str key = lb_arena_str(a, v->key);
        if (!key.ptr)
            return oom(err);
        lb_json_remove(root, key.ptr);
    }
    return LB_OK;
}

lb_status lb_tok_edit_config(lb_str text, const char *what, const lb_hf_tok *t, lb_arena *perm,
                             lb_str *out, lb_buf *left, lb_err *err) {
    lb_arena scratch = {0};
    lb_json *root;
    lb_status st = lb_json_parse(text, what, &scratch, &root, err);
    if (st == LB_OK && root->type != LB_JOBJECT)
        st = lb_fail(err, LB_E_FORMAT, "%s: an object ({...}) expected", what);
    if (st == LB_OK && lb_json_get(root, "added_tokens_decoder"))
        st = set_decoder(root, t, &scratch, err);
    if (st == LB_OK)
        st = drop_unknown(root, t, &scratch, left, err);
    if (st == LB_OK)
        st = lb_json_file(root, perm, out, err);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_tok_edit_added(const lb_hf_tok *t, lb_arena *perm, lb_str *out, lb_err *err) {
    lb_arena scratch = {0};
    lb_json *root = lb_json_new_object(&scratch);
    const lb_hf_added **list = sorted(t, &scratch);
    bool ok = root && list;
    for (u64 i = 0; ok && i < t->n_added; i++) {
        lb_str key = lb_arena_str(&scratch, list[i]->content);
        ok = list[i]->in_vocab || (key.ptr && lb_json_set(&scratch, root, key.ptr,
                                                          lb_json_new_u64(&scratch, list[i]->id)));
    }
    lb_status st = ok ? lb_json_file(root, perm, out, err) : oom(err);
    lb_arena_deinit(&scratch);
    return st;
}
