/* SPDX-License-Identifier: Apache-2.0 */
/* tok_cuts.c: see tok_cuts.h. Tokens are sorted and not their cuts: of 262,144 tokens with 560,000
 * cuts that is 2 MB, and the cuts of one score are made when their turn comes. */
#include "text/tok_cuts.h"

#include "text/spm.h"
#include <stdlib.h>

/* The vocabularies there are give about twice their text. */
#define MERGES_RATIO 32u
#define MERGES_FREE_BYTES ((u64)16 << 20)

struct lb_tok_scored {
    float score;
    u32 id;
};

typedef struct cut {
    u32 left, right, order; /* order: place before sorting */
    u16 left_chars, right_chars;
} cut;

static int by_score(const void *x, const void *y) {
    const struct lb_tok_scored *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int by_ids(const void *x, const void *y) {
    const cut *a = x, *b = y;
    if (a->left != b->left)
        return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

static int by_chars(const void *x, const void *y) {
    const cut *a = x, *b = y;
    if (a->left_chars != b->left_chars)
        return a->left_chars > b->left_chars ? -1 : 1;
    if (a->right_chars != b->right_chars)
        return a->right_chars > b->right_chars ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

lb_status lb_tok_mark_lengths(const lb_texts *token, lb_buf *out, lb_err *err) {
    size_t longest = 0;
    for (u64 i = 0; i < token->n; i++)
        longest = LB_MAX(longest, lb_texts_get(token, i).len);
    lb_buf_put_zeros(out, longest + 1);
    for (u64 i = 0; i < token->n && !out->oom; i++)
        out->ptr[lb_texts_get(token, i).len] = 1;
    return lb_buf_status(out, err);
}

lb_status lb_tok_cuts_begin(lb_tok_cuts *c, const lb_tok_pieces *p, bool by_length, lb_err *err) {
    *c = (lb_tok_cuts){.p = *p, .by_length = by_length};
    c->order = lb_alloc_zero((size_t)p->token->n, sizeof *c->order);
    if (!c->order)
        return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
    bool sorted = true; /* as most vocabularies stand */
    for (u64 i = 0; i < p->token->n; i++) {
        if (!lb_texts_has(p->token, i))
            continue;
        bool plain = i < p->n_known && (p->type[i] == LB_SPM_NORMAL || p->type[i] == LB_SPM_BYTE);
        c->order[c->n] = (struct lb_tok_scored){plain ? p->score[i] : 0.0f, (u32)i};
        sorted = sorted && (c->n == 0 || by_score(&c->order[c->n - 1], &c->order[c->n]) < 0);
        c->n++;
    }
    if (!sorted)
        qsort(c->order, (size_t)c->n, sizeof *c->order, by_score);
    return lb_tok_mark_lengths(p->token, &c->lengths, err);
}

bool lb_tok_cuts_token(const lb_tok_cuts *c, u64 i, u32 *id) {
    *id = c->order[i].id;
    return i && c->order[i].score == c->order[i - 1].score;
}

void lb_tok_cuts_end(lb_tok_cuts *c) {
    lb_free(c->order);
    lb_buf_deinit(&c->lengths);
    lb_buf_deinit(&c->group);
    *c = (lb_tok_cuts){0};
}

u16 lb_tok_cuts_chars(lb_str s) {
    u64 n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((u8)s.ptr[i] & 0xc0) != 0x80;
    return (u16)LB_MIN(n, (u64)UINT16_MAX);
}

/* All ways to cut one token into two others, ordered by their ids. */
static lb_status cut_token(lb_tok_cuts *c, u32 id, lb_err *err) {
    lb_str t = lb_texts_get(c->p.token, id);
    lb_buf *out = &c->group;
    size_t first = out->len;
    const u8 *has_length = c->lengths.ptr;
    u64 left, right;
    for (size_t i = 1; i < t.len; i++) {
        if (!has_length[i] || !has_length[t.len - i] || ((u8)t.ptr[i] & 0xc0) == 0x80)
            continue;
        lb_str l = lb_str_sub(t, 0, i), r = lb_str_sub(t, i, t.len);
        if (!lb_texts_index_find(c->p.id_of, c->p.token, l, &left) ||
            !lb_texts_index_find(c->p.id_of, c->p.token, r, &right))
            continue;
        cut m = {.left = (u32)left, .right = (u32)right};
        if (c->by_length) {
            m.left_chars = lb_tok_cuts_chars(l);
            m.right_chars = lb_tok_cuts_chars(r);
        }
        lb_buf_put(out, &m, sizeof m);
    }
    LB_TRY(lb_buf_status(out, err));
    size_t n = (out->len - first) / sizeof(cut);
    if (n > 1)
        qsort(out->ptr + first, n, sizeof(cut), by_ids);
    c->vocab_bytes += t.len;
    c->merge_bytes += n * t.len;
    if (c->merge_bytes <= MERGES_FREE_BYTES + MERGES_RATIO * c->vocab_bytes)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "tokenizer: the first %llu tokens give %llu bytes of merges: more than %u times "
                   "their text is not made",
                   (unsigned long long)c->at, (unsigned long long)c->merge_bytes, MERGES_RATIO);
}

/* The cuts of the next token, or of all tokens of its score. */
static lb_status next_group(lb_tok_cuts *c, lb_err *err) {
    lb_buf_reset(&c->group);
    c->group_at = 0;
    u64 first = c->at;
    while (c->at < c->n &&
           (c->at == first || (c->by_length && c->order[c->at].score == c->order[first].score)))
        LB_TRY(cut_token(c, c->order[c->at++].id, err));
    u64 n = c->group.len / sizeof(cut);
    cut *v = (cut *)(void *)c->group.ptr;
    if (n > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "tokenizer: more than 2^32 merges");
    if (!c->by_length || n < 2)
        return LB_OK;
    for (u64 i = 0; i < n; i++)
        v[i].order = (u32)i;
    qsort(v, (size_t)n, sizeof *v, by_chars);
    return LB_OK;
}

lb_status lb_tok_cuts_next(lb_tok_cuts *c, u32 pair[2], bool *more, lb_err *err) {
    while (c->group_at == c->group.len / sizeof(cut)) {
        *more = c->at < c->n;
        if (!*more)
            return LB_OK;
        LB_TRY(next_group(c, err));
    }
    const cut *m = (const cut *)(const void *)c->group.ptr + c->group_at++;
    pair[0] = m->left;
    pair[1] = m->right;
    *more = true;
    return LB_OK;
}

static lb_status next_texts(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    lb_tok_cuts *c = ctx;
    u32 id[2];
    LB_TRY(lb_tok_cuts_next(c, id, more, err));
    for (u32 i = 0; i < 2 && *more; i++)
        pair[i] = lb_texts_get(c->p.token, id[i]);
    return LB_OK;
}

lb_hf_merges lb_tok_cuts_merges(lb_tok_cuts *c) {
    c->at = 0;
    c->group_at = 0;
    c->vocab_bytes = c->merge_bytes = 0;
    lb_buf_reset(&c->group);
    return (lb_hf_merges){next_texts, c};
}
