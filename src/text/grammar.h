/* SPDX-License-Identifier: Apache-2.0 */
/* grammar.h: GBNF grammars that constrain what a model writes.
 *
 * The language is llama.cpp's (src/llama-grammar.cpp in llama-cpp-python 0.3.36,
 * grammars/README.md); docs/grammars.md lists it, its limits and the few differences. A grammar is
 * compiled once to rules over bytes (character classes become UTF-8 sequences, so that a token may
 * end within a character) and is then read-only. A matcher makes a deterministic automaton of it
 * while it is used: states, steps and the tokens admissible in a state are kept, up to a limit of
 * memory. */
#ifndef LB_TEXT_GRAMMAR_H
#define LB_TEXT_GRAMMAR_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_grammar lb_grammar;

typedef struct lb_grammar_opts {
    const char *root; /* NULL: "root" */
    /* The one token that a text is, for <text> in the grammar; NULL: such references are refused.
     */
    bool (*token)(void *data, lb_str text, u32 *id);
    void *data;
} lb_grammar_opts;

/* o may be NULL. LB_E_FORMAT: "grammar:LINE:COLUMN: what is wrong"; LB_E_LIMIT: it is too large or
 * too deep; LB_E_UNSUPPORTED: left recursion. */
lb_status lb_grammar_compile(lb_grammar **out, lb_str text, const lb_grammar_opts *o, lb_err *err);
void lb_grammar_free(lb_grammar **g);

/* ---- the vocabulary, as a trie of bytes: read-only, shared ---- */

#define LB_PIECE_HIDDEN 1 /* no text: never admissible but by <[id]> in the grammar */
#define LB_PIECE_END 2    /* ends the text: admissible exactly where the grammar is complete */

typedef struct lb_token_trie lb_token_trie;
/* pieces: the bytes of each token as they are written out. flags: one byte a token, or NULL. */
lb_status lb_token_trie_new(lb_token_trie **out, const lb_str *pieces, const u8 *flags, u32 n_vocab,
                            lb_err *err);
void lb_token_trie_free(lb_token_trie **t);

/* ---- matching: one thread at a time for a matcher and its states ---- */

typedef struct lb_grammar_matcher lb_grammar_matcher;
typedef struct lb_grammar_state lb_grammar_state;

/* trie may be NULL where only bytes are matched. memory_bytes: for states, steps and masks (0:
 * 64 MiB); what is beyond is forgotten and made again, the oldest masks first. */
lb_status lb_grammar_matcher_new(lb_grammar_matcher **out, const lb_grammar *g,
                                 const lb_token_trie *trie, u64 memory_bytes, lb_err *err);
void lb_grammar_matcher_free(lb_grammar_matcher **m); /* after its states */

/* At the begin of the text. */
lb_status lb_grammar_state_new(lb_grammar_state **out, lb_grammar_matcher *m, lb_err *err);
lb_status lb_grammar_state_clone(lb_grammar_state **out, const lb_grammar_state *s, lb_err *err);
void lb_grammar_state_free(lb_grammar_state **s);
void lb_grammar_state_reset(lb_grammar_state *s);

/* The text goes on with these bytes. *ok = false: it may not; the state stays. LB_E_LIMIT: the text
 * nests too deep, or the grammar is too ambiguous. */
lb_status lb_grammar_accept(lb_grammar_state *s, lb_str bytes, bool *ok, lb_err *err);
/* With this token of the trie; an end token: *ok where the grammar is complete. */
lb_status lb_grammar_accept_token(lb_grammar_state *s, u32 token, bool *ok, lb_err *err);
/* Whether the text may end here. */
bool lb_grammar_is_complete(const lb_grammar_state *s);
/* The admissible tokens: bit i of the words says whether token i may come. Valid until the next
 * call on the matcher. */
lb_status lb_grammar_mask(lb_grammar_state *s, const u64 **mask, lb_err *err);

#endif
