/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_match.c: a pushdown automaton made deterministic while it runs.
 *
 * A state is the set of all places in the grammar where the text may be, each with the stack of
 * what follows it. Stacks share their frames, and a reference at the end of an alternative pushes
 * none: repetitions leave the stack as it was, and their states come again. */
#include "text/grammar_match.h"
#include <stdlib.h>

#define CLOSURE_MAX (1u << 18) /* places that one step may look at */
#define FRAMES_MAX (1u << 24)

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "a grammar's states: out of memory");
}

static u64 mix(u64 x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static u32 n_frames(const lb_grammar_matcher *m) {
    return (u32)(m->frames.len / sizeof(lb_gframe));
}

static lb_gframe frame_at(const lb_grammar_matcher *m, u32 i) {
    return ((const lb_gframe *)(const void *)m->frames.ptr)[i];
}

static u64 frame_key(lb_gframe f) {
    return (u64)f.at << 32 | f.parent;
}

static bool grow_frame_slots(lb_grammar_matcher *m) {
    u32 n = m->n_frame_slots ? 2 * m->n_frame_slots : 1024;
    u32 *slots = lb_alloc_zero(n, sizeof *slots);
    if (!slots)
        return false;
    for (u32 i = 1; i < n_frames(m); i++) {
        u64 at = mix(frame_key(frame_at(m, i)));
        while (slots[at & (n - 1)])
            at++;
        slots[at & (n - 1)] = i;
    }
    lb_free(m->frame_slots);
    m->frame_slots = slots;
    m->n_frame_slots = n;
    return true;
}

static lb_status intern_frame(lb_grammar_matcher *m, lb_gframe f, u32 *out, lb_err *err) {
    if (2 * n_frames(m) >= m->n_frame_slots && !grow_frame_slots(m))
        return no_memory(err);
    u64 at = mix(frame_key(f));
    for (u32 i; (i = m->frame_slots[at & (m->n_frame_slots - 1)]); at++)
        if (frame_key(frame_at(m, i)) == frame_key(f)) {
            *out = i;
            return LB_OK;
        }
    if (n_frames(m) >= FRAMES_MAX)
        return lb_fail(err, LB_E_LIMIT, "the grammar's stacks are more than %u words", FRAMES_MAX);
    *out = n_frames(m);
    m->frame_slots[at & (m->n_frame_slots - 1)] = *out;
    lb_buf_put(&m->frames, &f, sizeof f);
    return lb_buf_status(&m->frames, err);
}

/* ---- closures: from places between elements to places before a byte ---- */

static lb_status begin_closure(lb_grammar_matcher *m, lb_err *err) {
    m->todo.len = m->made.len = 0;
    m->n_seen = 0;
    if (!m->n_seen_slots) {
        m->n_seen_slots = 1024;
        m->seen = lb_alloc_zero(m->n_seen_slots, sizeof *m->seen);
        m->seen_turn = lb_alloc_zero(m->n_seen_slots, sizeof *m->seen_turn);
        if (!m->seen || !m->seen_turn)
            return no_memory(err);
    }
    if (++m->turn == 0) {
        memset(m->seen_turn, 0, m->n_seen_slots * sizeof *m->seen_turn);
        m->turn = 1;
    }
    return LB_OK;
}

static bool grow_seen(lb_grammar_matcher *m) {
    u32 n = 2 * m->n_seen_slots;
    u64 *seen = lb_alloc_zero(n, sizeof *seen);
    u32 *turn = lb_alloc_zero(n, sizeof *turn);
    if (!seen || !turn) {
        lb_free(seen);
        lb_free(turn);
        return false;
    }
    for (u32 i = 0; i < m->n_seen_slots; i++) {
        if (m->seen_turn[i] != m->turn)
            continue;
        u64 at = mix(m->seen[i]);
        while (turn[at & (n - 1)] == m->turn)
            at++;
        seen[at & (n - 1)] = m->seen[i];
        turn[at & (n - 1)] = m->turn;
    }
    lb_free(m->seen);
    lb_free(m->seen_turn);
    m->seen = seen;
    m->seen_turn = turn;
    m->n_seen_slots = n;
    return true;
}

static lb_status push_place(lb_grammar_matcher *m, lb_gframe f, lb_err *err) {
    if (2 * m->n_seen >= m->n_seen_slots && !grow_seen(m))
        return no_memory(err);
    u64 key = frame_key(f), at = mix(key);
    const u32 mask = m->n_seen_slots - 1;
    for (; m->seen_turn[at & mask] == m->turn; at++)
        if (m->seen[at & mask] == key)
            return LB_OK;
    if (++m->n_seen > CLOSURE_MAX)
        return lb_fail(err, LB_E_LIMIT,
                       "the grammar is in more than %u places at once: it is too ambiguous",
                       CLOSURE_MAX);
    m->seen[at & mask] = key;
    m->seen_turn[at & mask] = m->turn;
    lb_buf_put(&m->todo, &f, sizeof f);
    return lb_buf_status(&m->todo, err);
}

static void put_config(lb_grammar_matcher *m, u32 node, u32 frame) {
    u64 c = (u64)node << 32 | frame;
    lb_buf_put(&m->made, &c, sizeof c);
}

/* A frame is at its begin. */
static lb_status enter(lb_grammar_matcher *m, u32 frame, lb_err *err) {
    if (frame)
        return push_place(m, frame_at(m, frame), err);
    put_config(m, LB_GCONF_DONE, 0);
    return LB_OK;
}

/* What follows element `at` in a rule above `parent`. */
static lb_status behind(lb_grammar_matcher *m, u32 at, u32 parent, u32 *out, lb_err *err) {
    if (lb_gelem_is_end(m->g->elems[at + 1])) {
        *out = parent;
        return LB_OK;
    }
    return intern_frame(m, (lb_gframe){at + 1, parent}, out, err);
}

static lb_status push_rule(lb_grammar_matcher *m, u32 rule, u32 frame, lb_err *err) {
    const lb_gelem *e = m->g->elems;
    for (u32 i = m->g->rules[rule];; i++) {
        LB_TRY(push_place(m, (lb_gframe){i, frame}, err));
        while (!lb_gelem_is_end(e[i]))
            i++;
        if (e[i].type == LB_GELEM_END)
            return LB_OK;
    }
}

static lb_status run_closure(lb_grammar_matcher *m, lb_err *err) {
    while (m->todo.len) {
        lb_gframe f;
        u32 frame;
        m->todo.len -= sizeof f;
        memcpy(&f, m->todo.ptr + m->todo.len, sizeof f);
        lb_gelem e = m->g->elems[f.at];
        if (lb_gelem_is_end(e)) {
            LB_TRY(enter(m, f.parent, err));
            continue;
        }
        LB_TRY(behind(m, f.at, f.parent, &frame, err));
        if (e.type == LB_GELEM_REF)
            LB_TRY(push_rule(m, e.value, frame, err));
        else
            put_config(m, e.type == LB_GELEM_SET ? e.value : LB_GCONF_TOKEN | f.at, frame);
    }
    return lb_buf_status(&m->made, err);
}

static int by_value(const void *a, const void *b) {
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

static bool grow_state_slots(lb_grammar_matcher *m) {
    u32 n = m->n_state_slots ? 2 * m->n_state_slots : 1024;
    u32 *slots = lb_alloc_zero(n, sizeof *slots);
    if (!slots)
        return false;
    for (u32 i = 1; i < m->states.len / sizeof(lb_gstate); i++) {
        u64 at = lb_gstate_of(m, i)->hash;
        while (slots[at & (n - 1)])
            at++;
        slots[at & (n - 1)] = i;
    }
    lb_free(m->state_slots);
    m->state_slots = slots;
    m->n_state_slots = n;
    return true;
}

/* The state of the configurations in m->made. */
static lb_status end_closure(lb_grammar_matcher *m, u32 *out, lb_err *err) {
    u64 *c = (u64 *)(void *)m->made.ptr, hash = 0;
    u32 n = (u32)(m->made.len / sizeof *c), k = 0;
    *out = 0;
    if (!n)
        return LB_OK;
    if (n > 1)
        qsort(c, n, sizeof *c, by_value);
    for (u32 i = 0; i < n; i++)
        if (!k || c[k - 1] != c[i]) {
            c[k++] = c[i];
            hash = mix(hash + c[i]);
        }
    const u32 n_states = (u32)(m->states.len / sizeof(lb_gstate));
    if (2 * n_states >= m->n_state_slots && !grow_state_slots(m))
        return no_memory(err);
    u64 at = hash;
    for (u32 i; (i = m->state_slots[at & (m->n_state_slots - 1)]); at++) {
        const lb_gstate *s = lb_gstate_of(m, i);
        if (s->hash == hash && s->n == k &&
            !memcmp((u64 *)(void *)m->configs.ptr + s->first, c, k * sizeof *c)) {
            *out = i;
            return LB_OK;
        }
    }
    lb_gstate s = {.hash = hash, .first = (u32)(m->configs.len / sizeof *c), .n = k};
    lb_buf_put(&m->configs, c, k * sizeof *c);
    lb_buf_put(&m->states, &s, sizeof s);
    LB_TRY(lb_buf_status(&m->configs, err));
    LB_TRY(lb_buf_status(&m->states, err));
    m->state_slots[at & (m->n_state_slots - 1)] = n_states;
    *out = n_states;
    return LB_OK;
}

/* ---- steps ---- */

static u64 bytes_held(const lb_grammar_matcher *m) {
    return m->frames.cap + m->configs.cap + m->states.cap + m->row_bytes + m->mask_bytes +
           4 * ((u64)m->n_frame_slots + m->n_state_slots) + 12 * (u64)m->n_seen_slots;
}

static u64 config_at(const lb_grammar_matcher *m, u32 i) {
    return ((const u64 *)(const void *)m->configs.ptr)[i];
}

lb_status lb_gmatch_step(lb_grammar_matcher *m, u32 state, u8 byte, u32 *out, lb_err *err) {
    lb_gstate *s = lb_gstate_of(m, state);
    if (s->row && s->row[byte]) {
        *out = s->row[byte] - 1;
        return LB_OK;
    }
    const u32 first = s->first, n = s->n;
    LB_TRY(begin_closure(m, err));
    for (u32 i = 0; i < n; i++) {
        u64 c = config_at(m, first + i);
        u32 node = (u32)(c >> 32), frame = (u32)c;
        if (node & LB_GCONF_TOKEN)
            continue;
        const lb_byte_node *b = &m->g->nodes[node];
        for (u32 j = 0; j < b->n; j++) {
            lb_byte_edge e = m->g->edges[b->first + j];
            if (byte < e.lo || byte > e.hi)
                continue;
            if (e.next == LB_BYTE_END)
                LB_TRY(enter(m, frame, err));
            else
                put_config(m, e.next, frame);
        }
    }
    LB_TRY(run_closure(m, err));
    LB_TRY(end_closure(m, out, err));
    if (bytes_held(m) > 4 * m->limit + 4 * LB_MIB)
        return lb_fail(err, LB_E_LIMIT, "one step of the grammar makes more states than memory");
    s = lb_gstate_of(m, state);
    if (!s->row) {
        s->row = lb_alloc_zero(256, sizeof *s->row);
        if (!s->row)
            return no_memory(err);
        m->row_bytes += 256 * sizeof *s->row;
    }
    s->row[byte] = *out + 1;
    return LB_OK;
}

lb_status lb_gmatch_token(lb_grammar_matcher *m, u32 state, u32 also, u32 token, u32 *out,
                          lb_err *err) {
    const lb_gstate *s = lb_gstate_of(m, state), *other = lb_gstate_of(m, also);
    const u32 first = s->first, n = s->n, first_other = other->first, n_other = other->n;
    const bool plain = !m->trie->flags[token] && m->trie->pieces[token].len;
    LB_TRY(begin_closure(m, err));
    for (u32 i = 0; i < n; i++) {
        u64 c = config_at(m, first + i);
        u32 node = (u32)(c >> 32);
        if (!(node & LB_GCONF_TOKEN) || node == LB_GCONF_DONE)
            continue;
        lb_gelem e = m->g->elems[node & ~LB_GCONF_TOKEN];
        if (e.type == LB_GELEM_TOKEN ? e.value == token : plain && e.value != token)
            LB_TRY(enter(m, (u32)c, err));
    }
    LB_TRY(run_closure(m, err));
    for (u32 i = 0; i < n_other; i++) {
        u64 c = config_at(m, first_other + i);
        lb_buf_put(&m->made, &c, sizeof c);
    }
    LB_TRY(lb_buf_status(&m->made, err));
    return end_closure(m, out, err);
}

bool lb_gmatch_is_complete(lb_grammar_matcher *m, u32 state) {
    const lb_gstate *s = lb_gstate_of(m, state);
    return s->n && config_at(m, s->first + s->n - 1) >> 32 == LB_GCONF_DONE;
}

/* ---- what is kept ---- */

static void free_rows(lb_grammar_matcher *m) {
    for (u32 i = 0; i < m->states.len / sizeof(lb_gstate); i++) {
        lb_free(lb_gstate_of(m, i)->row);
        lb_free(lb_gstate_of(m, i)->mask);
    }
    m->row_bytes = m->mask_bytes = 0;
    m->newest = m->oldest = 0;
}

/* Empty but for the dead state, the empty stack and the first state. */
static lb_status make_empty(lb_grammar_matcher *m, lb_err *err) {
    lb_gframe none = {0, 0};
    lb_gstate dead = {0};
    lb_buf_put(&m->frames, &none, sizeof none);
    lb_buf_put(&m->states, &dead, sizeof dead);
    LB_TRY(lb_buf_status(&m->frames, err));
    LB_TRY(lb_buf_status(&m->states, err));
    LB_TRY(begin_closure(m, err));
    LB_TRY(push_rule(m, m->g->root, 0, err));
    LB_TRY(run_closure(m, err));
    return end_closure(m, &m->start, err);
}

/* A stack of `from` as one of m; `chain` is room. */
static lb_status move_stack(lb_grammar_matcher *m, const lb_grammar_matcher *from, u32 frame,
                            lb_buf *chain, u32 *out, lb_err *err) {
    chain->len = 0;
    for (u32 f = frame; f; f = frame_at(from, f).parent)
        lb_buf_put_u32(chain, frame_at(from, f).at);
    LB_TRY(lb_buf_status(chain, err));
    *out = 0;
    for (size_t i = chain->len; i >= 4; i -= 4)
        LB_TRY(intern_frame(m, (lb_gframe){lb_load_u32(chain->ptr + i - 4), *out}, out, err));
    return LB_OK;
}

static lb_status move_state(lb_grammar_matcher *m, const lb_grammar_matcher *from, u32 state,
                            lb_buf *chain, u32 *out, lb_err *err) {
    const lb_gstate *s = (const lb_gstate *)(const void *)from->states.ptr + state;
    m->made.len = 0;
    for (u32 i = 0; i < s->n; i++) {
        u64 c = config_at(from, s->first + i);
        u32 frame;
        LB_TRY(move_stack(m, from, (u32)c, chain, &frame, err));
        put_config(m, (u32)(c >> 32), frame);
    }
    LB_TRY(lb_buf_status(&m->made, err));
    return end_closure(m, out, err);
}

static void deinit_tables(lb_grammar_matcher *m) {
    free_rows(m);
    lb_buf_deinit(&m->frames);
    lb_buf_deinit(&m->configs);
    lb_buf_deinit(&m->states);
    lb_free(m->frame_slots);
    lb_free(m->state_slots);
}

lb_status lb_gmatch_trim(lb_grammar_matcher *m, lb_err *err) {
    if (bytes_held(m) <= m->limit)
        return LB_OK;
    lb_grammar_matcher old = *m;
    lb_buf chain = {0};
    m->frames = m->configs = m->states = (lb_buf){0};
    m->frame_slots = m->state_slots = NULL;
    m->n_frame_slots = m->n_state_slots = 0;
    m->row_bytes = m->mask_bytes = 0;
    m->newest = m->oldest = 0;
    lb_status st = make_empty(m, err);
    for (lb_grammar_state *h = m->handles; h && st == LB_OK; h = h->next)
        st = move_state(m, &old, h->id, &chain, &h->id, err);
    for (lb_grammar_state *h = m->handles; h && st != LB_OK; h = h->next)
        h->id = 0; /* they are lost: nothing goes on from there */
    lb_buf_deinit(&chain);
    deinit_tables(&old);
    if (st == LB_OK && bytes_held(m) > m->limit)
        st = lb_fail(err, LB_E_LIMIT,
                     "the text nests too deep for the grammar's memory (%llu bytes)",
                     (unsigned long long)m->limit);
    return st;
}

lb_status lb_grammar_matcher_new(lb_grammar_matcher **out, const lb_grammar *g,
                                 const lb_token_trie *trie, u64 memory_bytes, lb_err *err) {
    lb_grammar_matcher *m = lb_alloc_zero(1, sizeof *m);
    *out = NULL;
    if (!m)
        return no_memory(err);
    m->g = g;
    m->trie = trie;
    m->limit = memory_bytes ? memory_bytes : 64 * LB_MIB;
    m->path = lb_alloc_zero(trie ? (size_t)trie->depth + 1 : 1, sizeof *m->path);
    lb_status st = m->path ? make_empty(m, err) : no_memory(err);
    if (st != LB_OK)
        lb_grammar_matcher_free(&m);
    *out = m;
    return st;
}

void lb_grammar_matcher_free(lb_grammar_matcher **m) {
    if (!*m)
        return;
    LB_ASSERT(!(*m)->handles);
    deinit_tables(*m);
    lb_buf_deinit(&(*m)->todo);
    lb_buf_deinit(&(*m)->made);
    lb_free((*m)->seen);
    lb_free((*m)->seen_turn);
    lb_free((*m)->path);
    lb_free(*m);
    *m = NULL;
}
