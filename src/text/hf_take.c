/* SPDX-License-Identifier: Apache-2.0 */
/* hf_take.c: see hf_take.h. A vocabulary of 262,144 tokens has 560,000 cuts; a prompt asks for a
 * few hundred of them. */
#include "text/hf_take.h"

#include "text/tok_cuts.h"

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

/* ---- merges that are cuts ---- */

static lb_status take_order(lb_hf_tok *t, const lb_tok_cuts *c, lb_err *err) {
    lb_cut_order *o = t->cuts = lb_alloc_zero(1, sizeof *o);
    if (!o)
        return no_memory(err);
    o->of = lb_alloc_zero((size_t)t->token.n + 1, sizeof *o->of);
    o->has_length = lb_alloc_zero(c->lengths.len, 1);
    if (!o->of || !o->has_length)
        return no_memory(err);
    memcpy(o->has_length, c->lengths.ptr, c->lengths.len);
    o->longest = c->lengths.len - 1;
    o->by_length = c->by_length;
    u32 score = 0;
    for (u64 i = 0; i < c->n; i++) {
        u32 id;
        bool same = lb_tok_cuts_token(c, i, &id);
        score += !same;
        if (id < t->token.n)
            o->of[id] = (struct lb_cut_place){(u32)i, score};
    }
    return LB_OK;
}

void lb_cut_order_free(lb_cut_order **out) {
    lb_cut_order *o = *out;
    if (!o)
        return;
    lb_free(o->of);
    lb_free(o->has_length);
    lb_free(o);
    *out = NULL;
}

bool lb_cut_find(const lb_hf_tok *t, u32 left, u32 right, lb_buf *scratch, u32 *joined,
                 lb_cut_rank *rank) {
    const lb_cut_order *o = t->cuts;
    lb_str l = lb_texts_get(&t->token, left), r = lb_texts_get(&t->token, right);
    u64 id;
    if (l.len + r.len > o->longest || !o->has_length[l.len + r.len])
        return false;
    lb_buf_reset(scratch);
    lb_buf_put_str(scratch, l);
    lb_buf_put_str(scratch, r);
    if (scratch->oom || !lb_texts_index_find(&t->id_of, &t->token, lb_buf_str(scratch), &id))
        return false;
    const struct lb_cut_place *p = &o->of[id];
    *joined = (u32)id;
    if (o->by_length) /* longer parts first */
        *rank = (lb_cut_rank){(u64)p->score << 32 | (u64)(UINT16_MAX - lb_tok_cuts_chars(l)) << 16 |
                                  (u64)(UINT16_MAX - lb_tok_cuts_chars(r)),
                              (u64)p->place << 32 | left};
    else
        *rank = (lb_cut_rank){p->place, left};
    return true;
}

bool lb_cut_is_joined(const lb_hf_tok *t, u32 id) {
    lb_str s = lb_texts_get(&t->token, id);
    u64 part;
    for (size_t i = 1; i < s.len; i++)
        if (((u8)s.ptr[i] & 0xc0) != 0x80 &&
            lb_texts_index_find(&t->id_of, &t->token, lb_str_sub(s, 0, i), &part) &&
            lb_texts_index_find(&t->id_of, &t->token, lb_str_sub(s, i, s.len), &part))
            return true;
    return false;
}

/* ---- parts ---- */

static lb_status take_tokens(lb_hf_tok *t, const lb_hf_parts *p, lb_err *err) {
    u64 end = p->token->n;
    LB_TRY(lb_texts_copy(&t->token, p->token, err));
    while (end && !lb_texts_has(&t->token, end - 1))
        end--;
    LB_TRY(lb_texts_resize(&t->token, end, err));
    t->n_ids = end;
    for (u64 i = 0; i < end; i++)
        t->n_vocab += lb_texts_has(&t->token, i);
    if (p->score) {
        lb_buf_put(&t->scores, p->score, (size_t)end * sizeof *p->score);
        LB_TRY(lb_buf_status(&t->scores, err));
        t->score = (float *)(void *)t->scores.ptr;
    }
    if (p->id_of)
        return lb_names_copy(&t->id_of, p->id_of, err);
    u64 i;
    LB_TRY(lb_texts_index_fill(&t->id_of, &t->token, &i, err));
    if (i == end)
        return LB_OK;
    lb_str text = lb_texts_get(&t->token, i);
    return lb_fail(err, LB_E_FORMAT, "model.vocab: \"%.*s\" given twice",
                   (int)LB_MIN(text.len, (size_t)80), text.ptr);
}

static void put_merge(lb_hf_tok *t, const u32 id[3]) {
    for (u32 k = 0; k < 3; k++)
        if (id[k] >= LB_HF_FOREIGN || !lb_texts_has(&t->token, id[k]))
            return;
    lb_buf_put(&t->merges, id, 2 * sizeof *id);
    lb_buf_put(&t->joins, id + 2, sizeof *id);
    t->n_merges++;
}

/* Of texts. A prefix that tokens inside a word have is not part of what they give. */
static lb_status take_texts(lb_hf_tok *t, const lb_hf_merges *m, lb_err *err) {
    lb_buf joined = {0};
    lb_str pair[2], prefix = LB_STR_NONE;
    bool more = true;
    lb_status st = LB_OK;
    (void)lb_json_as_str(lb_json_get(t->model, "continuing_subword_prefix"), &prefix);
    while (st == LB_OK && (st = m->next(m->ctx, pair, &more, err)) == LB_OK && more) {
        u64 id[3] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
        lb_buf_reset(&joined);
        lb_buf_put_str(&joined, pair[0]);
        lb_buf_put_str(&joined, lb_str_sub(pair[1], LB_MIN(prefix.len, pair[1].len), pair[1].len));
        st = lb_buf_status(&joined, err);
        (void)lb_texts_index_find(&t->id_of, &t->token, pair[0], &id[0]);
        (void)lb_texts_index_find(&t->id_of, &t->token, pair[1], &id[1]);
        (void)lb_texts_index_find(&t->id_of, &t->token, lb_buf_str(&joined), &id[2]);
        put_merge(t, (u32[3]){(u32)id[0], (u32)id[1], (u32)id[2]});
    }
    lb_buf_deinit(&joined);
    return st;
}

static lb_status take_merges(lb_hf_tok *t, const lb_hf_parts *p, lb_err *err) {
    if (p->cuts)
        return take_order(t, p->cuts, err);
    if (!p->merge_id && p->merges.next)
        LB_TRY(take_texts(t, &p->merges, err));
    for (u64 i = 0; p->merge_id && i < p->n_merge_ids; i++)
        put_merge(t, p->merge_id + 3 * i);
    t->merge = (u32 *)(void *)t->merges.ptr;
    t->joined = (u32 *)(void *)t->joins.ptr;
    LB_TRY(lb_buf_status(&t->merges, err));
    return lb_buf_status(&t->joins, err);
}

lb_status lb_hf_tok_take(lb_hf_tok *t, const lb_hf_parts *p, const char *what, lb_arena *arena,
                         lb_err *err) {
    *t = (lb_hf_tok){0};
    lb_status st = lb_hf_tok_rest(t, p->skeleton, what, arena, err);
    if (st == LB_OK)
        st = take_tokens(t, p, err);
    if (st == LB_OK && t->kind == LB_HF_BPE)
        st = take_merges(t, p, err);
    if (st == LB_OK)
        st = lb_hf_tok_rest_added(t, arena, err);
    if (st != LB_OK)
        lb_hf_tok_deinit(t);
    return st;
}
