/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.c: a trie over the vocabulary, and the best path through a text. */
#include "text/unigram.h"

#include "text/bpe.h"
#include "text/bytelevel.h"
#include <stdio.h>
#include <stdlib.h>

/* What a character without a token costs below the least score: SentencePiece's kUnkPenalty. */
#define UNK_PENALTY 10.0

struct lb_trie_node {
    u32 id;    /* LB_NO_TOKEN: no token ends here */
    u32 first; /* of its children */
    u16 n_children;
    u8 byte; /* that leads here */
};

/* ---- the trie ---- */

typedef struct entry {
    lb_str text;
    u32 id;
} entry;

static int by_text(const void *a, const void *b) {
    const entry *x = a, *y = b;
    int c = lb_str_cmp(x->text, y->text);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

/* Tokens [lo, hi) share their first `depth` bytes: one node of the queue. */
typedef struct span {
    u32 lo, hi;
} span;

static lb_status put_node(lb_buf *nodes, lb_buf *spans, u8 byte, u32 lo, u32 hi, lb_err *err) {
    struct lb_trie_node n = {LB_NO_TOKEN, 0, 0, byte};
    span s = {lo, hi};
    lb_buf_put(nodes, &n, sizeof n);
    lb_buf_put(spans, &s, sizeof s);
    LB_TRY(lb_buf_status(nodes, err));
    LB_TRY(lb_buf_status(spans, err));
    return nodes->len / sizeof n < UINT32_MAX
               ? LB_OK
               : lb_fail(err, LB_E_LIMIT, "model.vocab: a trie of more than 2^32 nodes");
}

/* Level by level: the children of node i go behind all nodes that are there. depth [n_nodes] is
 * known from where a level begins. */
static lb_status grow(const entry *v, lb_buf *nodes, lb_buf *spans, lb_err *err) {
    size_t depth = 0, level_end = 1;
    for (size_t i = 0; i < nodes->len / sizeof(struct lb_trie_node); i++) {
        if (i == level_end) {
            depth++;
            level_end = nodes->len / sizeof(struct lb_trie_node);
        }
        span s = ((const span *)(const void *)spans->ptr)[i];
        u32 at = s.lo, id = LB_NO_TOKEN;
        for (; at < s.hi && v[at].text.len == depth; at++)
            id = v[at].id; /* the last of equal ones, as the library's table keeps it */
        size_t first = nodes->len / sizeof(struct lb_trie_node);
        while (at < s.hi) {
            u32 from = at;
            u8 byte = (u8)v[at].text.ptr[depth];
            while (at < s.hi && (u8)v[at].text.ptr[depth] == byte)
                at++;
            LB_TRY(put_node(nodes, spans, byte, from, at, err));
        }
        struct lb_trie_node *n = (struct lb_trie_node *)(void *)nodes->ptr + i;
        n->id = id;
        n->first = (u32)first;
        n->n_children = (u16)(nodes->len / sizeof *n - first);
    }
    return LB_OK;
}

static lb_status build(lb_unigram *u, lb_err *err) {
    const lb_hf_tok *t = u->tok;
    lb_buf nodes = {0}, spans = {0};
    u64 n = 0;
    entry *v = lb_alloc_zero(t->n_ids ? (size_t)t->n_ids : 1, sizeof *v);
    lb_status st = v ? LB_OK : lb_fail(err, LB_E_NOMEM, "model.vocab: out of memory");
    for (u64 i = 0; i < t->n_ids && v; i++) {
        lb_str text = lb_texts_get(&t->token, i);
        if (text.len)
            v[n++] = (entry){text, (u32)i};
    }
    if (n)
        qsort(v, (size_t)n, sizeof *v, by_text);
    if (st == LB_OK)
        st = put_node(&nodes, &spans, 0, 0, (u32)n, err);
    if (st == LB_OK)
        st = grow(v, &nodes, &spans, err);
    lb_free(v);
    lb_buf_deinit(&spans);
    u->node = (struct lb_trie_node *)(void *)nodes.ptr;
    u->n_nodes = nodes.len / sizeof *u->node;
    if (st != LB_OK)
        return st;
    for (u32 i = 0; i < u->node[0].n_children; i++)
        u->root[u->node[u->node[0].first + i].byte] = u->node[0].first + i;
    return LB_OK;
}

/* 0: none. */
static u32 child(const lb_unigram *u, u32 at, u8 byte) {
    if (!at)
        return u->root[byte];
    const struct lb_trie_node *n = &u->node[at];
    u32 lo = n->first, hi = n->first + n->n_children;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        if (u->node[mid].byte < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n->first + n->n_children && u->node[lo].byte == byte ? lo : 0;
}

static double score_of(const lb_hf_tok *tok, u64 id) {
    return tok->exact ? tok->exact[id] : (double)tok->score[id];
}

lb_status lb_unigram_init(lb_unigram *u, const lb_hf_tok *tok, lb_err *err) {
    *u = (lb_unigram){.tok = tok, .unk = LB_NO_TOKEN};
    if (tok->kind != LB_HF_UNIGRAM)
        return lb_fail(err, LB_E_UNSUPPORTED, "the model is no Unigram");
    u64 id;
    double least = 1e300;
    if (lb_json_as_u64(lb_json_get(tok->model, "unk_id"), &id)) {
        if (id >= tok->n_ids)
            return lb_fail(err, LB_E_FORMAT, "model.unk_id: no token has this number");
        u->unk = (u32)id;
    }
    (void)lb_json_as_bool(lb_json_get(tok->model, "byte_fallback"), &u->byte_fallback);
    for (u64 i = 0; i < tok->n_ids; i++)
        if (lb_texts_has(&tok->token, i) && score_of(tok, i) < least)
            least = score_of(tok, i);
    u->unk_score = least - UNK_PENALTY;
    for (u32 i = 0; i < 256; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", i);
        bool there = lb_texts_index_find(&tok->id_of, &tok->token, (lb_str){name, (size_t)n}, &id);
        u->byte_token[i] = there ? (u32)id : LB_NO_TOKEN;
    }
    lb_status st = build(u, err);
    if (st != LB_OK)
        lb_unigram_deinit(u);
    return st;
}

void lb_unigram_deinit(lb_unigram *u) {
    lb_free(u->node);
    u->node = NULL;
}

/* ---- one text ---- */

typedef struct place { /* the best path that ends here */
    double score;
    u32 id, from; /* from UINT32_MAX: none yet */
} place;

static void offer(place *p, double score, u32 id, u32 from) {
    if (p->from == UINT32_MAX || score > p->score)
        *p = (place){score, id, from};
}

static lb_status walk(const lb_unigram *u, place *v, lb_str text, lb_err *err) {
    for (size_t at = 0; at < text.len;) {
        size_t next = at;
        (void)lb_utf8_next(text, &next);
        double score = v[at].score;
        bool single = false;
        u32 node = 0;
        for (size_t end = at; end < text.len;) {
            node = child(u, node, (u8)text.ptr[end++]);
            if (!node)
                break;
            u32 id = u->node[node].id;
            if (id == LB_NO_TOKEN)
                continue;
            offer(&v[end], score_of(u->tok, id) + score, id, (u32)at);
            single |= end == next;
        }
        if (!single && u->unk == LB_NO_TOKEN)
            return lb_fail(err, LB_E_FORMAT,
                           "a character that the vocabulary has not, and model.unk_id names no "
                           "token for it");
        if (!single)
            offer(&v[next], u->unk_score + score, u->unk, (u32)at);
        at = next;
    }
    return LB_OK;
}

/* A part of the path: a token, or characters without one. */
static void put_part(const lb_unigram *u, lb_str part, u32 id, lb_buf *ids) {
    u64 known;
    if (id != u->unk) {
        lb_buf_put_u32(ids, id);
        return;
    }
    if (lb_texts_index_find(&u->tok->id_of, &u->tok->token, part, &known)) {
        lb_buf_put_u32(ids, (u32)known);
        return;
    }
    bool bytes = u->byte_fallback;
    for (size_t i = 0; i < part.len && bytes; i++)
        bytes = u->byte_token[(u8)part.ptr[i]] != LB_NO_TOKEN;
    for (size_t i = 0; i < part.len && bytes; i++)
        lb_buf_put_u32(ids, u->byte_token[(u8)part.ptr[i]]);
    if (!bytes)
        lb_buf_put_u32(ids, u->unk);
}

lb_status lb_unigram_encode(const lb_unigram *u, lb_unigram_work *w, lb_str text, lb_buf *ids,
                            lb_err *err) {
    if (!text.len)
        return LB_OK;
    if (text.len > UINT32_MAX / 32)
        return lb_fail(err, LB_E_LIMIT, "a text of %zu bytes between two tokens: at most 128 MiB",
                       text.len);
    lb_buf_reset(&w->best);
    if (!lb_buf_reserve(&w->best, (text.len + 1) * sizeof(place)))
        return lb_fail(err, LB_E_NOMEM, "Unigram: out of memory");
    place *v = (place *)(void *)w->best.ptr;
    for (size_t i = 0; i <= text.len; i++)
        v[i] = (place){0, 0, UINT32_MAX};
    LB_TRY(walk(u, v, text, err));
    lb_buf_reset(&w->path); /* ends of the parts, from the last */
    for (size_t end = text.len; end;) {
        u32 id = v[end].id, from = v[end].from;
        lb_buf_put_u32(&w->path, (u32)end);
        while (id == u->unk && from && v[from].id == u->unk) /* one unknown part */
            from = v[from].from;
        end = from;
    }
    LB_TRY(lb_buf_status(&w->path, err));
    const u32 *ends = (const u32 *)(const void *)w->path.ptr;
    size_t from = 0;
    for (size_t i = w->path.len / 4; i-- > 0;) {
        put_part(u, lb_str_sub(text, from, ends[i]), v[ends[i]].id, ids);
        from = ends[i];
    }
    return lb_buf_status(ids, err);
}

void lb_unigram_work_deinit(lb_unigram_work *w) {
    lb_buf_deinit(&w->best);
    lb_buf_deinit(&w->path);
}

bool lb_unigram_cuts_at(const lb_unigram *u, lb_str mark) {
    const lb_hf_tok *t = u->tok;
    u64 id;
    if (!lb_texts_index_find(&t->id_of, &t->token, mark, &id) || id == u->unk)
        return false;
    for (u64 i = 0; i < t->n_ids; i++)
        if (lb_has_mark_inside(lb_texts_get(&t->token, i), mark))
            return false;
    return true;
}
