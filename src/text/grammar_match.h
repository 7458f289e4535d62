/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_match.h: the trie and the automaton, for the files that make and use them. */
#ifndef LB_TEXT_GRAMMAR_MATCH_H
#define LB_TEXT_GRAMMAR_MATCH_H

#include "text/grammar_internal.h"

typedef struct lb_trie_node {
    u32 end;   /* first node that is not below this one */
    u32 depth; /* from 1 */
    u32 token; /* first of the tokens that end here, in `sorted` */
    u32 n_tokens : 24;
    u32 byte : 8;
} lb_trie_node;

struct lb_token_trie {
    lb_arena arena;
    u32 n_vocab, n_words;
    lb_str *pieces;
    u8 *flags;
    u64 *text, *ends; /* tokens with text, tokens that end it */
    u32 *sorted, n_sorted;
    lb_trie_node *nodes; /* preorder */
    u32 n_nodes, depth;
};

/* A place in a sentence: elements from `at` on, then those of the frame `parent`. Frames are made
 * once for each pair, so that equal stacks have equal numbers; 0 is the empty stack. */
typedef struct lb_gframe {
    u32 at, parent;
} lb_gframe;

/* A state is a set of configurations: a byte node (or LB_GCONF_TOKEN | element, or LB_GCONF_DONE)
 * above the frame that follows. Ascending, different. */
#define LB_GCONF_TOKEN 0x80000000u
#define LB_GCONF_DONE 0xffffffffu

typedef struct lb_gstate {
    u64 hash;
    u32 first, n; /* configurations */
    u32 *row;     /* by byte: 1 + the state that follows; 0: not known */
    u64 *mask;
    u32 newer, older; /* among the states with masks, 1 + state */
} lb_gstate;

struct lb_grammar_matcher {
    const lb_grammar *g;
    const lb_token_trie *trie;
    u64 limit, mask_bytes, row_bytes;
    lb_buf frames, configs, states; /* lb_gframe, u64, lb_gstate; state 0 is the dead one */
    u32 *frame_slots, n_frame_slots, *state_slots, n_state_slots;
    lb_buf todo, made; /* of a closure: lb_gframe, configurations */
    u64 *seen;         /* what the closure has been at */
    u32 *seen_turn, n_seen_slots, turn, n_seen;
    u32 newest, oldest; /* masks */
    u32 start;
    u32 *path; /* states on the way down the trie */
    struct lb_grammar_state *handles;
};

struct lb_grammar_state {
    lb_grammar_matcher *m;
    u32 id;
    struct lb_grammar_state *next, *prev;
};

static inline lb_gstate *lb_gstate_of(lb_grammar_matcher *m, u32 i) {
    return (lb_gstate *)(void *)m->states.ptr + i;
}

/* The state after one byte; 0: none. */
lb_status lb_gmatch_step(lb_grammar_matcher *m, u32 state, u8 byte, u32 *out, lb_err *err);
/* After the token, by references to tokens only. */
lb_status lb_gmatch_token(lb_grammar_matcher *m, u32 state, u32 also, u32 token, u32 *out,
                          lb_err *err);
bool lb_gmatch_is_complete(lb_grammar_matcher *m, u32 state);
/* When more is kept than the limit allows: only the states that handles hold are kept. */
lb_status lb_gmatch_trim(lb_grammar_matcher *m, lb_err *err);

#endif
