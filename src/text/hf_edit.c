/* SPDX-License-Identifier: Apache-2.0 */
/* hf_edit.c: see hf_edit.h. What is no vocabulary, merge or added token stays as it is written. */
#include "text/hf_edit.h"
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a tokenizer");
}

/* ---- added tokens ---- */

static int by_id(const void *a, const void *b) {
    u32 x = (*(const lb_hf_added *const *)a)->id, y = (*(const lb_hf_added *const *)b)->id;
    return (x > y) - (x < y);
}

static void put_flag(lb_buf *b, const char *name, bool on, bool last) {
    lb_buf_printf(b, "      \"%s\": %s%s\n", name, on ? "true" : "false", last ? "" : ",");
}

static lb_status put_added(const lb_hf_tok *t, u64 n_ids, lb_buf *b, lb_err *err) {
    const lb_hf_added **list = lb_alloc_zero((size_t)t->n_added + 1, sizeof *list);
    u64 n = 0;
    if (!list)
        return oom(err);
    for (u64 i = 0; i < t->n_added; i++)
        if (t->added[i].id < n_ids)
            list[n++] = &t->added[i];
    qsort(list, n, sizeof *list, by_id);
    lb_buf_put_c(b, "[");
    for (u64 i = 0; i < n; i++) {
        const lb_hf_added *a = list[i];
        lb_buf_printf(b, "%s\n    {\n      \"id\": %u,\n      \"content\": ", i ? "," : "", a->id);
        lb_json_write_str(b, a->content, false);
        lb_buf_put_c(b, ",\n");
        put_flag(b, "single_word", a->single_word, false);
        put_flag(b, "lstrip", a->lstrip, false);
        put_flag(b, "rstrip", a->rstrip, false);
        put_flag(b, "normalized", a->normalized, false);
        put_flag(b, "special", a->special, true);
        lb_buf_put_c(b, "    }");
    }
    lb_buf_put_c(b, n ? "\n  ]" : "]");
    lb_free(list);
    return lb_buf_status(b, err);
}

/* Where the value of "added_tokens" stands; behind the first bracket, if there is none. */
static lb_status find_added(lb_str text, size_t *from, size_t *to, lb_err *err) {
    lb_json_reader r;
    lb_json_tok tok;
    lb_json_begin(&r, text);
    LB_TRY(lb_json_next(&r, &tok, err));
    *from = *to = r.pos;
    while (r.depth) {
        LB_TRY(lb_json_next(&r, &tok, err));
        if (tok != LB_JSON_KEY)
            continue;
        bool is = lb_str_eq_c(r.raw, "added_tokens");
        size_t at = r.pos;
        LB_TRY(lb_json_skip(&r, err));
        if (!is)
            continue;
        while (at < r.pos && strchr(" \t\r\n:", text.ptr[at]))
            at++;
        *from = at;
        *to = r.pos;
        return LB_OK;
    }
    return LB_OK;
}

static lb_status new_skeleton(const lb_hf_tok *t, u64 n_ids, lb_buf *b, lb_err *err) {
    size_t from, to;
    LB_TRY(find_added(t->skeleton, &from, &to, err));
    lb_buf_put_str(b, lb_str_sub(t->skeleton, 0, from));
    if (from == to)
        lb_buf_put_c(b, "\"added_tokens\": ");
    LB_TRY(put_added(t, n_ids, b, err));
    if (from == to)
        lb_buf_put_c(b, ",");
    lb_buf_put_str(b, lb_str_sub(t->skeleton, to, t->skeleton.len));
    return lb_buf_status(b, err);
}

/* ---- what is cut off ---- */

typedef struct kept_merges {
    const lb_hf_tok *t;
    u64 at, n_ids;
    u64 prefix; /* bytes of the right part that are not in what a merge makes */
    lb_buf made;
} kept_merges;

static bool is_kept(kept_merges *k) {
    const u32 *m = &k->t->merge[2 * k->at];
    u64 id;
    if (m[0] >= k->n_ids || m[1] >= k->n_ids) /* a part that is no entry is above, too */
        return false;
    lb_str right = lb_hf_tok_part(k->t, k->at, 1);
    lb_buf_reset(&k->made);
    lb_buf_put_str(&k->made, lb_hf_tok_part(k->t, k->at, 0));
    lb_buf_put_str(&k->made, lb_str_sub(right, LB_MIN(k->prefix, right.len), right.len));
    return lb_texts_index_find(&k->t->id_of, &k->t->token, lb_buf_str(&k->made), &id) &&
           id < k->n_ids;
}

static lb_status next_kept(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    kept_merges *k = ctx;
    while (k->at < k->t->n_merges && !is_kept(k))
        k->at++;
    *more = k->at < k->t->n_merges;
    for (u32 side = 0; side < 2 && *more; side++)
        pair[side] = lb_hf_tok_part(k->t, k->at, side);
    k->at += *more;
    return lb_buf_status(&k->made, err);
}

/* Two merges must be left to show how they are set. */
static lb_status write_cut(const lb_hf_tok *t, u64 n_ids, lb_hf_parts *p, lb_out *out,
                           lb_err *err) {
    lb_texts token = {0};
    kept_merges k = {.t = t, .n_ids = n_ids};
    lb_str prefix;
    if (t->score)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokens beyond the embedding's rows cannot be cut from a Unigram tokenizer");
    if (lb_json_as_str(lb_json_get(t->model, "continuing_subword_prefix"), &prefix))
        k.prefix = prefix.len;
    lb_status st = lb_texts_copy(&token, &t->token, err);
    for (u64 i = n_ids; st == LB_OK && i < token.n; i++)
        lb_texts_unset(&token, i);
    p->token = &token;
    p->merges = (lb_hf_merges){next_kept, &k};
    if (st == LB_OK)
        st = lb_hf_write(p, out, err);
    lb_texts_deinit(&token);
    lb_buf_deinit(&k.made);
    return st;
}

lb_status lb_hf_tok_write(const lb_hf_tok *t, u64 n_ids, lb_out *out, lb_err *err) {
    lb_buf skeleton = {0};
    lb_hf_tok_iter it;
    lb_hf_parts p = {.token = &t->token, .score = t->score, .merges = lb_hf_tok_merges(&it, t)};
    lb_status st = new_skeleton(t, n_ids, &skeleton, err);
    p.skeleton = lb_buf_str(&skeleton);
    if (st == LB_OK)
        st = n_ids < t->n_ids ? write_cut(t, n_ids, &p, out, err) : lb_hf_write(&p, out, err);
    lb_buf_deinit(&skeleton);
    return st;
}

lb_status lb_hf_tok_text(const lb_hf_tok *t, u64 n_ids, lb_arena *perm, lb_str *text, lb_err *err) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_hf_tok_write(t, n_ids, &out, err);
    lb_status end = lb_out_end(&out, st == LB_OK ? err : NULL);
    if (st == LB_OK)
        st = end;
    if (st == LB_OK)
        st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *text = lb_arena_str(perm, lb_buf_str(&b));
        st = text->ptr ? LB_OK : oom(err);
    }
    lb_buf_deinit(&b);
    return st;
}
