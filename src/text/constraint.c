/* SPDX-License-Identifier: Apache-2.0 */
/* constraint.c: see constraint.h. */
#include "text/constraint.h"
#include "text/grammar_match.h"

#define TEXT_SHOWN 60 /* bytes of the text that an error shows */

/* What all answers under a grammar share. */
typedef struct rules {
    const lb_token_trie *trie;
    lb_grammar *grammar;
    lb_grammar_matcher *matcher;
    const char *what;
    u32 n_users;
} rules;

struct lb_constraint {
    rules *r;
    lb_grammar_state *state;
    u64 n_accepted;
    char tail[TEXT_SHOWN]; /* the text's end, for errors */
    u32 n_tail;
};

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
}

/* ---- the vocabulary ---- */

lb_status lb_token_pieces(const lb_encoder *e, u32 n_vocab, lb_arena *perm, lb_str **out,
                          lb_err *err) {
    lb_str *list = *out = lb_arena_new(perm, lb_str, (u64)n_vocab + 1);
    lb_buf piece = {0};
    lb_status st = list ? LB_OK : no_memory(err);
    for (u32 i = 0; i < n_vocab && st == LB_OK; i++) {
        lb_buf_reset(&piece);
        st = lb_encoder_bytes(e, i, &piece, err);
        if (st == LB_OK && !(list[i] = lb_arena_str(perm, lb_buf_str(&piece))).ptr)
            st = no_memory(err);
    }
    lb_buf_deinit(&piece);
    return st;
}

static u8 flags_of(const lb_encoder *e, u32 id) {
    switch (lb_encoder_token(e, id, NULL)) {
    case LB_TOKEN_NORMAL:
    case LB_TOKEN_USER:
    case LB_TOKEN_BYTE:
        return 0;
    default:
        return LB_PIECE_HIDDEN;
    }
}

lb_status lb_token_trie_of(lb_token_trie **out, const lb_encoder *e, u32 n_vocab, lb_err *err) {
    lb_arena a = {0};
    lb_str *pieces;
    u64 n_ends;
    const u32 *ends = lb_encoder_ends(e, &n_ends);
    u8 *flags = lb_arena_new(&a, u8, (u64)n_vocab + 1);
    *out = NULL;
    lb_status st = flags ? lb_token_pieces(e, n_vocab, &a, &pieces, err) : no_memory(err);
    for (u32 i = 0; i < n_vocab && st == LB_OK; i++)
        flags[i] = flags_of(e, i);
    for (u64 i = 0; i < n_ends && st == LB_OK; i++)
        if (ends[i] < n_vocab)
            flags[ends[i]] |= LB_PIECE_END;
    if (st == LB_OK)
        st = lb_token_trie_new(out, pieces, flags, n_vocab, err);
    lb_arena_deinit(&a);
    return st;
}

/* <text> in a grammar: a token whose text is that. */
static bool find_token(void *data, lb_str text, u32 *id) {
    *id = lb_encoder_find(data, text);
    return *id != LB_NO_ID;
}

/* ---- making one ---- */

static void release(rules *r) {
    if (!r || --r->n_users)
        return;
    lb_grammar_matcher_free(&r->matcher);
    lb_grammar_free(&r->grammar);
    lb_free(r);
}

static lb_status begin(lb_constraint *c, lb_err *err) {
    const u64 *mask;
    LB_TRY(lb_grammar_state_new(&c->state, c->r->matcher, err));
    return lb_constraint_mask(c, &mask, err);
}

lb_status lb_constraint_new(lb_constraint **out, const lb_encoder *e, const lb_token_trie *trie,
                            lb_str grammar, const char *what, lb_err *err) {
    lb_constraint *c = *out = lb_alloc_zero(1, sizeof *c);
    rules *r = lb_alloc_zero(1, sizeof *r);
    lb_grammar_opts o = {.token = find_token, .data = (void *)(uintptr_t)e};
    lb_status st;
    if (!c || !r) {
        lb_free(r);
        lb_constraint_free(out);
        return no_memory(err);
    }
    *r = (rules){.trie = trie, .what = what, .n_users = 1};
    c->r = r;
    LB_TRY_DONE(st, lb_grammar_compile(&r->grammar, grammar, &o, err));
    LB_TRY_DONE(st, lb_grammar_matcher_new(&r->matcher, r->grammar, trie, 0, err));
    LB_TRY_DONE(st, begin(c, err));
done:
    if (st != LB_OK) {
        lb_err_context(err, "%s", what);
        lb_constraint_free(out);
    }
    return st;
}

lb_status lb_constraint_clone(lb_constraint **out, const lb_constraint *c, lb_err *err) {
    lb_constraint *n = *out = lb_alloc_zero(1, sizeof *n);
    if (!n)
        return no_memory(err);
    *n = *c;
    n->state = NULL;
    n->r->n_users++;
    lb_status st = lb_grammar_state_clone(&n->state, c->state, err);
    if (st != LB_OK)
        lb_constraint_free(out);
    return st;
}

void lb_constraint_free(lb_constraint **c) {
    if (!*c)
        return;
    lb_grammar_state_free(&(*c)->state);
    release((*c)->r);
    lb_free(*c);
    *c = NULL;
}

void lb_constraint_reset(lb_constraint *c) {
    lb_grammar_state_reset(c->state);
    c->n_accepted = 0;
    c->n_tail = 0;
}

/* ---- one token after the other ---- */

static bool is_any(const lb_token_trie *t, const u64 *mask, bool with_ends) {
    for (u32 w = 0; w < t->n_words; w++)
        if (with_ends ? mask[w] : mask[w] & ~t->ends[w])
            return true;
    return false;
}

lb_status lb_constraint_mask(lb_constraint *c, const u64 **mask, lb_err *err) {
    LB_TRY(lb_grammar_mask(c->state, mask, err));
    if (is_any(c->r->trie, *mask, true) || lb_grammar_is_complete(c->state))
        return LB_OK;
    if (!c->n_accepted)
        return lb_fail(err, LB_E_NOT_FOUND,
                       "no token of the model can begin a text of this grammar");
    return lb_fail(err, LB_E_NOT_FOUND,
                   "no token of the model can go on as the grammar wants behind \"%.*s\"",
                   (int)c->n_tail, c->tail);
}

static void keep_tail(lb_constraint *c, lb_str piece) {
    u32 n = (u32)LB_MIN(piece.len, (size_t)TEXT_SHOWN), keep = LB_MIN(c->n_tail, TEXT_SHOWN - n);
    memmove(c->tail, c->tail + c->n_tail - keep, keep);
    if (n)
        memcpy(c->tail + keep, piece.ptr + piece.len - n, n);
    c->n_tail = keep + n;
}

lb_status lb_constraint_accept(lb_constraint *c, u32 token, lb_err *err) {
    bool ok = false;
    LB_TRY(lb_grammar_accept_token(c->state, token, &ok, err));
    if (!ok)
        return lb_fail(err, LB_E_USAGE, "token %u is none that the grammar lets come", token);
    keep_tail(c, lb_constraint_piece(c, token));
    c->n_accepted++;
    return LB_OK;
}

lb_status lb_constraint_is_over(lb_constraint *c, bool *over, lb_err *err) {
    const u64 *mask;
    *over = lb_grammar_is_complete(c->state);
    if (!*over)
        return LB_OK;
    LB_TRY(lb_constraint_mask(c, &mask, err));
    *over = !is_any(c->r->trie, mask, false);
    return LB_OK;
}

lb_str lb_constraint_piece(const lb_constraint *c, u32 token) {
    const lb_token_trie *t = c->r->trie;
    return token < t->n_vocab && !t->flags[token] ? t->pieces[token] : LB_STR_NONE;
}
