/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c: the table of merges and the merging of one word with a heap of candidates. */
#include "text/bpe.h"

#include "text/bytelevel.h"
#include "text/hf_take.h"
#include <stdio.h>

typedef struct symbol {
    u32 id, prev, next; /* prev, next: indices; LB_NO_TOKEN at the ends */
    bool dead;
} symbol;

typedef struct candidate {
    lb_cut_rank rank;
    u32 at, left, right, merged;
} candidate;

/* ---- the table ---- */

static u64 pair_hash(u32 left, u32 right) { /* ids are dense and not chosen: one multiplication */
    u64 h = ((u64)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* The slot of a pair, or the free one where it belongs. */
static u32 *find_slot(const lb_bpe *b, u32 left, u32 right) {
    for (u64 i = pair_hash(left, right) & (b->cap - 1);; i = (i + 1) & (b->cap - 1)) {
        u32 *p = &b->slots[i];
        if (!*p)
            return p;
        const u32 *pair = &b->tok->merge[2 * ((u64)*p - 1)];
        if (pair[0] == left && pair[1] == right)
            return p;
    }
}

/* False: the two are not merged. */
static bool find_pair(const lb_bpe *b, lb_bpe_work *w, u32 left, u32 right, candidate *c) {
    if (b->tok->cuts)
        return lb_cut_find(b->tok, left, right, &w->text, &c->merged, &c->rank);
    u32 slot = b->cap ? *find_slot(b, left, right) : 0;
    if (!slot)
        return false;
    c->rank = (lb_cut_rank){slot - 1, 0};
    c->merged = b->merged[slot - 1];
    return true;
}

static lb_status unknown(lb_str text, u64 i, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "model.merges: entry %llu: \"%.*s\" is not in the vocabulary",
                   (unsigned long long)i, (int)LB_MIN(text.len, (size_t)80), text.ptr);
}

static lb_status add_merges(lb_bpe *b, lb_err *err) {
    const lb_hf_tok *t = b->tok;
    lb_buf joined = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; i < t->n_merges && st == LB_OK; i++) {
        const u32 *pair = &t->merge[2 * i];
        u64 id = t->joined && !b->prefix.len ? t->joined[i] : UINT32_MAX;
        if (id != UINT32_MAX && !((pair[0] | pair[1]) & LB_HF_FOREIGN)) {
            b->merged[i] = (u32)id;
            *find_slot(b, pair[0], pair[1]) = (u32)i + 1;
            continue;
        }
        lb_str left = lb_hf_tok_part(t, i, 0), right = lb_hf_tok_part(t, i, 1);
        if ((pair[0] | pair[1]) & LB_HF_FOREIGN) {
            st = unknown(pair[0] & LB_HF_FOREIGN ? left : right, i, err);
            break;
        }
        lb_buf_reset(&joined);
        lb_buf_put_str(&joined, left);
        lb_buf_put_str(&joined, lb_str_sub(right, LB_MIN(b->prefix.len, right.len), right.len));
        st = lb_buf_status(&joined, err);
        if (st == LB_OK && !lb_texts_index_find(&t->id_of, &t->token, lb_buf_str(&joined), &id))
            st = unknown(lb_buf_str(&joined), i, err);
        if (st != LB_OK)
            break;
        b->merged[i] = (u32)id;
        *find_slot(b, pair[0], pair[1]) = (u32)i + 1;
    }
    lb_buf_deinit(&joined);
    return st;
}

static void read_options(lb_bpe *b) {
    const lb_json *model = b->tok->model;
    lb_str unk;
    (void)lb_json_as_bool(lb_json_get(model, "byte_fallback"), &b->byte_fallback);
    (void)lb_json_as_bool(lb_json_get(model, "fuse_unk"), &b->fuse_unk);
    (void)lb_json_as_bool(lb_json_get(model, "ignore_merges"), &b->ignore_merges);
    (void)lb_json_as_str(lb_json_get(model, "continuing_subword_prefix"), &b->prefix);
    (void)lb_json_as_str(lb_json_get(model, "end_of_word_suffix"), &b->suffix);
    b->unk = LB_NO_TOKEN;
    u64 id;
    if (lb_json_as_str(lb_json_get(model, "unk_token"), &unk) &&
        lb_texts_index_find(&b->tok->id_of, &b->tok->token, unk, &id))
        b->unk = (u32)id;
    for (u32 i = 0; i < 256; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", i);
        bool there =
            lb_texts_index_find(&b->tok->id_of, &b->tok->token, (lb_str){name, (size_t)n}, &id);
        b->byte_token[i] = there ? (u32)id : LB_NO_TOKEN;
        lb_buf c = {0};
        lb_utf8_put(&c, lb_bytelevel_char((u8)i));
        there = lb_texts_index_find(&b->tok->id_of, &b->tok->token, lb_buf_str(&c), &id);
        b->level[i] = there ? (u32)id : LB_NO_TOKEN;
        lb_buf_deinit(&c);
    }
}

lb_status lb_bpe_init(lb_bpe *b, const lb_hf_tok *tok, lb_err *err) {
    *b = (lb_bpe){.tok = tok};
    if (tok->kind != LB_HF_BPE)
        return lb_fail(err, LB_E_UNSUPPORTED, "the model is no BPE");
    read_options(b);
    b->cap = 16;
    while (b->cap / 4 * 3 < tok->n_merges) /* n_merges is bounded by the file */
        b->cap *= 2;
    b->slots = lb_alloc_zero((size_t)b->cap, sizeof *b->slots);
    b->merged = lb_alloc_zero((size_t)tok->n_merges, sizeof *b->merged);
    lb_status st = b->slots && b->merged ? add_merges(b, err)
                                         : lb_fail(err, LB_E_NOMEM, "out of memory for %llu merges",
                                                   (unsigned long long)tok->n_merges);
    if (st != LB_OK)
        lb_bpe_deinit(b);
    return st;
}

void lb_bpe_deinit(lb_bpe *b) {
    lb_free(b->slots);
    lb_free(b->merged);
    b->slots = b->merged = NULL;
    b->cap = 0;
}

/* ---- the heap: smallest rank first, then leftmost ---- */

static bool before(const candidate *a, const candidate *b) {
    if (a->rank.high != b->rank.high)
        return a->rank.high < b->rank.high;
    return a->rank.low != b->rank.low ? a->rank.low < b->rank.low : a->at < b->at;
}

static void heap_push(lb_buf *heap, candidate c) {
    size_t i = heap->len / sizeof c;
    lb_buf_put(heap, &c, sizeof c);
    if (heap->oom)
        return;
    candidate *v = (candidate *)(void *)heap->ptr;
    while (i && before(&c, &v[(i - 1) / 2])) {
        v[i] = v[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    v[i] = c;
}

static candidate heap_pop(lb_buf *heap) {
    candidate *v = (candidate *)(void *)heap->ptr, top = v[0];
    heap->len -= sizeof top;
    size_t n = heap->len / sizeof top, i = 0;
    candidate c = v[n];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(&v[child + 1], &v[child]))
            child++;
        if (!before(&v[child], &c))
            break;
        v[i] = v[child];
        i = child;
    }
    v[i] = c;
    return top;
}

/* ---- one word ---- */

static void push_symbol(lb_bpe_work *w, u32 id) {
    u32 n = (u32)(w->symbols.len / sizeof(symbol));
    symbol s = {id, n ? n - 1 : LB_NO_TOKEN, n + 1, false};
    lb_buf_put(&w->symbols, &s, sizeof s);
}

/* The characters of a word as symbols. */
static void push_chars(const lb_bpe *b, lb_bpe_work *w, lb_str word) {
    bool last_unk = false;
    for (size_t i = 0; i < word.len;) {
        size_t from = i;
        (void)lb_utf8_next(word, &i);
        lb_str c = lb_str_sub(word, from, i);
        if ((from && b->prefix.len) || (i == word.len && b->suffix.len)) {
            lb_buf_reset(&w->text);
            if (from)
                lb_buf_put_str(&w->text, b->prefix);
            lb_buf_put_str(&w->text, c);
            if (i == word.len)
                lb_buf_put_str(&w->text, b->suffix);
            c = lb_buf_str(&w->text);
        }
        u64 id;
        if (lb_texts_index_find(&b->tok->id_of, &b->tok->token, c, &id)) {
            push_symbol(w, (u32)id);
            last_unk = false;
            continue;
        }
        bool bytes = b->byte_fallback;
        for (size_t j = 0; j < c.len && bytes; j++)
            bytes = b->byte_token[(u8)c.ptr[j]] != LB_NO_TOKEN;
        if (bytes) {
            for (size_t j = 0; j < c.len; j++)
                push_symbol(w, b->byte_token[(u8)c.ptr[j]]);
            last_unk = false;
        } else if (b->unk != LB_NO_TOKEN) {
            if (!(b->fuse_unk && last_unk))
                push_symbol(w, b->unk);
            last_unk = true;
        }
    }
}

static void consider(const lb_bpe *b, lb_bpe_work *w, u32 at) {
    const symbol *v = (const symbol *)(const void *)w->symbols.ptr;
    if (at == LB_NO_TOKEN || v[at].next == LB_NO_TOKEN)
        return;
    candidate c = {.at = at, .left = v[at].id, .right = v[v[at].next].id};
    if (find_pair(b, w, c.left, c.right, &c))
        heap_push(&w->heap, c);
}

static void merge_all(const lb_bpe *b, lb_bpe_work *w) {
    u32 n = (u32)(w->symbols.len / sizeof(symbol));
    symbol *v = (symbol *)(void *)w->symbols.ptr;
    v[n - 1].next = LB_NO_TOKEN;
    lb_buf_reset(&w->heap);
    for (u32 i = 0; i + 1 < n; i++)
        consider(b, w, i);
    while (w->heap.len && !w->heap.oom) {
        candidate c = heap_pop(&w->heap);
        symbol *s = &v[c.at];
        if (s->dead || s->next == LB_NO_TOKEN)
            continue;
        symbol *right = &v[s->next];
        candidate now = c;
        bool same = s->id == c.left && right->id == c.right;
        if (!same && (!find_pair(b, w, s->id, right->id, &now) || now.merged != c.merged))
            continue; /* one of the two was merged meanwhile */
        s->id = c.merged;
        right->dead = true;
        s->next = right->next;
        if (s->next != LB_NO_TOKEN)
            v[s->next].prev = c.at;
        consider(b, w, s->prev);
        consider(b, w, c.at);
    }
}

static lb_status merge_symbols(const lb_bpe *b, lb_bpe_work *w, lb_buf *ids, lb_err *err) {
    LB_TRY(lb_buf_status(&w->symbols, err));
    LB_TRY(lb_buf_status(&w->text, err));
    if (w->symbols.len == 0)
        return LB_OK;
    merge_all(b, w);
    LB_TRY(lb_buf_status(&w->heap, err));
    LB_TRY(lb_buf_status(&w->text, err));
    const symbol *v = (const symbol *)(const void *)w->symbols.ptr;
    for (u32 i = 0; i != LB_NO_TOKEN; i = v[i].next)
        lb_buf_put_u32(ids, v[i].id);
    return lb_buf_status(ids, err);
}

static lb_status check_word(lb_str word, lb_err *err) {
    return word.len <= UINT32_MAX / 4
               ? LB_OK
               : lb_fail(err, LB_E_LIMIT, "a word of %zu bytes: at most 1 GiB is taken", word.len);
}

lb_status lb_bpe_encode(const lb_bpe *b, lb_bpe_work *w, lb_str word, lb_buf *ids, lb_err *err) {
    u64 whole;
    if (word.len == 0)
        return LB_OK;
    LB_TRY(check_word(word, err));
    if (b->ignore_merges && lb_texts_index_find(&b->tok->id_of, &b->tok->token, word, &whole)) {
        lb_buf_put_u32(ids, (u32)whole);
        return lb_buf_status(ids, err);
    }
    lb_buf_reset(&w->symbols);
    push_chars(b, w, word);
    return merge_symbols(b, w, ids, err);
}

lb_status lb_bpe_encode_bytes(const lb_bpe *b, lb_bpe_work *w, lb_str word, lb_buf *ids,
                              lb_err *err) {
    bool plain = !b->prefix.len && !b->suffix.len && !b->ignore_merges;
    LB_TRY(check_word(word, err));
    lb_buf_reset(&w->symbols);
    for (size_t i = 0; i < word.len && plain; i++) {
        u32 id = b->level[(u8)word.ptr[i]];
        plain = id != LB_NO_TOKEN;
        if (plain)
            push_symbol(w, id);
    }
    if (plain)
        return merge_symbols(b, w, ids, err);
    lb_buf_reset(&w->level);
    lb_bytelevel_encode(&w->level, word);
    LB_TRY(lb_buf_status(&w->level, err));
    return lb_bpe_encode(b, w, lb_buf_str(&w->level), ids, err);
}

bool lb_bpe_cuts_at(const lb_bpe *b, lb_str mark) {
    const lb_hf_tok *t = b->tok;
    u64 id;
    if (b->ignore_merges || b->prefix.len || b->suffix.len ||
        !lb_texts_index_find(&t->id_of, &t->token, mark, &id))
        return false;
    for (u64 i = 0; i < t->n_merges; i++)
        if (lb_has_mark_inside(lb_texts_get(&t->token, b->merged[i]), mark))
            return false;
    for (u64 i = 0; t->cuts && i < t->n_ids; i++)
        if (lb_has_mark_inside(lb_texts_get(&t->token, i), mark) && lb_cut_is_joined(t, (u32)i))
            return false;
    return true;
}

bool lb_has_mark_inside(lb_str text, lb_str mark) {
    bool other = false;
    for (size_t i = 0; i < text.len;) {
        bool is = lb_str_starts(lb_str_sub(text, i, text.len), mark);
        if (is && other)
            return true;
        other |= !is;
        i += is ? mark.len : 1;
    }
    return false;
}

void lb_bpe_work_deinit(lb_bpe_work *w) {
    lb_buf_deinit(&w->symbols);
    lb_buf_deinit(&w->heap);
    lb_buf_deinit(&w->text);
    lb_buf_deinit(&w->level);
}
