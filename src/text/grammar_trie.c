/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_trie.c: the bytes of a vocabulary as a trie in preorder: a walk goes through one array
 * and jumps over what a dead end begins with. */
#include "text/grammar_match.h"

static void sort_pieces(u32 *ids, u32 *spare, u32 n, const lb_str *pieces) {
    for (u32 width = 1; width < n; width *= 2) {
        for (u32 at = 0; at < n; at += 2 * width) {
            u32 mid = LB_MIN(n, at + width), end = LB_MIN(n, at + 2 * width);
            u32 i = at, j = mid, k = at;
            while (i < mid || j < end) {
                bool left =
                    j >= end || (i < mid && lb_str_cmp(pieces[ids[i]], pieces[ids[j]]) <= 0);
                spare[k++] = left ? ids[i++] : ids[j++];
            }
        }
        memcpy(ids, spare, n * sizeof *ids);
    }
}

static u32 common(lb_str a, lb_str b) {
    u32 n = 0;
    while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n])
        n++;
    return n;
}

/* Counts the nodes (t->nodes NULL) or writes them. path: nodes from the root to the last one. */
static void make_nodes(lb_token_trie *t, u32 *path) {
    u32 depth = 0, n = 0;
    lb_str last = LB_STR_NONE;
    for (u32 i = 0; i < t->n_sorted; i++) {
        lb_str piece = t->pieces[t->sorted[i]];
        u32 keep = common(last, piece);
        for (; depth > keep; depth--)
            if (t->nodes)
                t->nodes[path[depth - 1]].end = n;
        for (; depth < piece.len; depth++, n++) {
            path[depth] = n;
            if (t->nodes)
                t->nodes[n] = (lb_trie_node){.depth = depth + 1, .byte = (u8)piece.ptr[depth]};
        }
        if (t->nodes) {
            lb_trie_node *node = &t->nodes[path[depth - 1]];
            if (!node->n_tokens)
                node->token = i;
            node->n_tokens++;
        }
        last = piece;
    }
    for (; t->nodes && depth > 0; depth--)
        t->nodes[path[depth - 1]].end = n;
    t->n_nodes = n;
}

lb_status lb_token_trie_new(lb_token_trie **out, const lb_str *pieces, const u8 *flags, u32 n_vocab,
                            lb_err *err) {
    lb_token_trie *t = lb_alloc_zero(1, sizeof *t);
    u32 *spare = lb_alloc_zero((size_t)n_vocab + 1, sizeof *spare), *path = NULL;
    lb_status st = LB_OK;
    *out = NULL;
    if (!t || !spare)
        goto no_memory;
    t->n_vocab = n_vocab;
    t->n_words = n_vocab / 64 + 1;
    t->pieces = lb_arena_new(&t->arena, lb_str, (u64)n_vocab + 1);
    t->flags = lb_arena_new(&t->arena, u8, (u64)n_vocab + 1);
    t->text = lb_arena_new(&t->arena, u64, t->n_words);
    t->ends = lb_arena_new(&t->arena, u64, t->n_words);
    t->sorted = lb_arena_new(&t->arena, u32, (u64)n_vocab + 1);
    if (!t->pieces || !t->flags || !t->text || !t->ends || !t->sorted)
        goto no_memory;
    for (u32 i = 0; i < n_vocab; i++) {
        t->flags[i] = flags ? flags[i] : 0;
        t->pieces[i] = lb_arena_str(&t->arena, pieces[i]);
        if (!t->pieces[i].ptr)
            goto no_memory;
        if (t->flags[i] & LB_PIECE_END) {
            t->ends[i / 64] |= (u64)1 << i % 64;
        } else if (!(t->flags[i] & LB_PIECE_HIDDEN) && pieces[i].len) {
            t->text[i / 64] |= (u64)1 << i % 64;
            t->sorted[t->n_sorted++] = i;
            t->depth = (u32)LB_MAX(t->depth, pieces[i].len);
        }
    }
    sort_pieces(t->sorted, spare, t->n_sorted, t->pieces);
    path = lb_alloc_zero((size_t)t->depth + 1, sizeof *path);
    if (!path)
        goto no_memory;
    make_nodes(t, path);
    t->nodes = lb_arena_new(&t->arena, lb_trie_node, (u64)t->n_nodes + 1);
    if (!t->nodes)
        goto no_memory;
    make_nodes(t, path);
    *out = t;
    t = NULL;
    goto done;
no_memory:
    st = lb_fail(err, LB_E_NOMEM, "a vocabulary of %u tokens: out of memory", n_vocab);
done:
    lb_free(spare);
    lb_free(path);
    lb_token_trie_free(&t);
    return st;
}

void lb_token_trie_free(lb_token_trie **t) {
    if (!*t)
        return;
    lb_arena_deinit(&(*t)->arena);
    lb_free(*t);
    *t = NULL;
}
