/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_state.c: a sequence's place in a grammar, and the tokens that may come there. */
#include "text/grammar_match.h"

static lb_status new_handle(lb_grammar_state **out, lb_grammar_matcher *m, u32 id, lb_err *err) {
    lb_grammar_state *s = lb_alloc_zero(1, sizeof *s);
    *out = s;
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "a grammar's state: out of memory");
    *s = (lb_grammar_state){.m = m, .id = id, .next = m->handles};
    if (s->next)
        s->next->prev = s;
    m->handles = s;
    return LB_OK;
}

lb_status lb_grammar_state_new(lb_grammar_state **out, lb_grammar_matcher *m, lb_err *err) {
    return new_handle(out, m, m->start, err);
}

lb_status lb_grammar_state_clone(lb_grammar_state **out, const lb_grammar_state *s, lb_err *err) {
    return new_handle(out, s->m, s->id, err);
}

void lb_grammar_state_free(lb_grammar_state **s) {
    if (!*s)
        return;
    if ((*s)->prev)
        (*s)->prev->next = (*s)->next;
    else
        (*s)->m->handles = (*s)->next;
    if ((*s)->next)
        (*s)->next->prev = (*s)->prev;
    lb_free(*s);
    *s = NULL;
}

void lb_grammar_state_reset(lb_grammar_state *s) {
    s->id = s->m->start;
}

static lb_status run_bytes(lb_grammar_matcher *m, u32 from, lb_str bytes, u32 *out, lb_err *err) {
    *out = from;
    for (size_t i = 0; i < bytes.len && *out; i++)
        LB_TRY(lb_gmatch_step(m, *out, (u8)bytes.ptr[i], out, err));
    return LB_OK;
}

lb_status lb_grammar_accept(lb_grammar_state *s, lb_str bytes, bool *ok, lb_err *err) {
    /* In pieces, so that what is forgotten between them may be long. */
    const u32 piece = 4096;
    lb_grammar_state *at = NULL;
    LB_TRY(new_handle(&at, s->m, s->id, err));
    lb_status st = LB_OK;
    for (size_t i = 0; i < bytes.len && at->id && st == LB_OK; i += piece) {
        u32 to = 0;
        st = lb_gmatch_trim(s->m, err);
        if (st == LB_OK)
            st = run_bytes(s->m, at->id, lb_str_sub(bytes, i, i + piece), &to, err);
        at->id = to;
    }
    *ok = st == LB_OK && at->id;
    if (*ok)
        s->id = at->id;
    lb_grammar_state_free(&at);
    return st;
}

lb_status lb_grammar_accept_token(lb_grammar_state *s, u32 token, bool *ok, lb_err *err) {
    lb_grammar_matcher *m = s->m;
    LB_ASSERT(m->trie && token < m->trie->n_vocab);
    const u8 flags = m->trie->flags[token];
    u32 to = 0;
    *ok = false;
    if (flags & LB_PIECE_END) {
        *ok = lb_grammar_is_complete(s);
        return LB_OK;
    }
    LB_TRY(lb_gmatch_trim(m, err));
    if (!(flags & LB_PIECE_HIDDEN) && m->trie->pieces[token].len)
        LB_TRY(run_bytes(m, s->id, m->trie->pieces[token], &to, err));
    if (m->g->has_tokens)
        LB_TRY(lb_gmatch_token(m, s->id, to, token, &to, err));
    *ok = to != 0;
    if (to)
        s->id = to;
    return LB_OK;
}

bool lb_grammar_is_complete(const lb_grammar_state *s) {
    return lb_gmatch_is_complete(s->m, s->id);
}

/* ---- masks ---- */

static void unlink_mask(lb_grammar_matcher *m, u32 state) {
    lb_gstate *s = lb_gstate_of(m, state);
    if (s->newer)
        lb_gstate_of(m, s->newer - 1)->older = s->older;
    else
        m->newest = s->older;
    if (s->older)
        lb_gstate_of(m, s->older - 1)->newer = s->newer;
    else
        m->oldest = s->newer;
}

static void link_newest(lb_grammar_matcher *m, u32 state) {
    lb_gstate *s = lb_gstate_of(m, state);
    s->newer = 0;
    s->older = m->newest;
    if (m->newest)
        lb_gstate_of(m, m->newest - 1)->newer = state + 1;
    else
        m->oldest = state + 1;
    m->newest = state + 1;
}

static void put_token_refs(lb_grammar_matcher *m, u32 state, u64 *mask) {
    const lb_token_trie *t = m->trie;
    const lb_gstate *s = lb_gstate_of(m, state);
    for (u32 i = 0; m->g->has_tokens && i < s->n; i++) {
        u32 node = (u32)(((const u64 *)(const void *)m->configs.ptr)[s->first + i] >> 32);
        if (!(node & LB_GCONF_TOKEN) || node == LB_GCONF_DONE)
            continue;
        lb_gelem e = m->g->elems[node & ~LB_GCONF_TOKEN];
        const u64 bit = (u64)1 << e.value % 64;
        bool inside = e.value < t->n_vocab;
        if (e.type == LB_GELEM_TOKEN) {
            if (inside && !(t->flags[e.value] & LB_PIECE_END))
                mask[e.value / 64] |= bit;
            continue;
        }
        for (u32 w = 0; w < t->n_words; w++)
            mask[w] |= inside && w == e.value / 64 ? t->text[w] & ~bit : t->text[w];
    }
}

static lb_status fill_mask(lb_grammar_matcher *m, u32 state, u64 *mask, lb_err *err) {
    const lb_token_trie *t = m->trie;
    m->path[0] = state;
    for (u32 i = 0; i < t->n_nodes;) {
        const lb_trie_node *n = &t->nodes[i];
        const u32 from = m->path[n->depth - 1], *row = lb_gstate_of(m, from)->row;
        u32 to = row ? row[n->byte] : 0;
        if (to)
            to--;
        else
            LB_TRY(lb_gmatch_step(m, from, (u8)n->byte, &to, err));
        if (!to) {
            i = n->end;
            continue;
        }
        m->path[n->depth] = to;
        for (u32 j = 0; j < n->n_tokens; j++) {
            u32 token = t->sorted[n->token + j];
            mask[token / 64] |= (u64)1 << token % 64;
        }
        i++;
    }
    put_token_refs(m, state, mask);
    for (u32 w = 0; lb_gmatch_is_complete(m, state) && w < t->n_words; w++)
        mask[w] |= t->ends[w];
    return LB_OK;
}

lb_status lb_grammar_mask(lb_grammar_state *s, const u64 **mask, lb_err *err) {
    lb_grammar_matcher *m = s->m;
    LB_ASSERT(m->trie);
    *mask = lb_gstate_of(m, s->id)->mask;
    if (*mask) {
        unlink_mask(m, s->id);
        link_newest(m, s->id);
        return LB_OK;
    }
    LB_TRY(lb_gmatch_trim(m, err));
    const u64 bytes = m->trie->n_words * sizeof(u64);
    while (m->oldest && m->mask_bytes + bytes > m->limit / 2) {
        u32 old = m->oldest - 1;
        unlink_mask(m, old);
        lb_free(lb_gstate_of(m, old)->mask);
        lb_gstate_of(m, old)->mask = NULL;
        m->mask_bytes -= bytes;
    }
    u64 *made = lb_alloc_zero(m->trie->n_words, sizeof *made);
    if (!made)
        return lb_fail(err, LB_E_NOMEM, "a mask of tokens: out of memory");
    lb_status st = fill_mask(m, s->id, made, err);
    if (st != LB_OK) {
        lb_free(made);
        return st;
    }
    lb_gstate_of(m, s->id)->mask = made;
    m->mask_bytes += bytes;
    link_newest(m, s->id);
    *mask = made;
    return LB_OK;
}
