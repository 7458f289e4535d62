/* SPDX-License-Identifier: Apache-2.0 */
/* constraint.h: a grammar over the tokens of a model: which of them may come next in one answer.
 *
 * Before a token lb_constraint_mask, after it lb_constraint_accept: it never goes back. Tokens
 * without a text (special, unknown, numbers beyond the tokenizer's) never come, those that end an
 * answer only where the grammar is complete. One thread at a time for a constraint and its clones,
 * which share the masks that were made. */
#ifndef LB_TEXT_CONSTRAINT_H
#define LB_TEXT_CONSTRAINT_H

#include "text/encode.h"
#include "text/grammar.h"

/* The bytes of each token in the arena, n_vocab of them (the model's; those that the tokenizer does
 * not have are empty). */
lb_status lb_token_pieces(const lb_encoder *e, u32 n_vocab, lb_arena *perm, lb_str **out,
                          lb_err *err);
/* The vocabulary that constraints of a model share. */
lb_status lb_token_trie_of(lb_token_trie **out, const lb_encoder *e, u32 n_vocab, lb_err *err);

typedef struct lb_constraint lb_constraint;

/* grammar: GBNF (lb_json_schema_grammar makes it of a schema); what names it in errors. e and trie
 * outlive it. The errors of lb_grammar_compile; LB_E_NOT_FOUND: no token can begin its text. */
lb_status lb_constraint_new(lb_constraint **out, const lb_encoder *e, const lb_token_trie *trie,
                            lb_str grammar, const char *what, lb_err *err);
/* Another answer under the same grammar, at the place where c is. */
lb_status lb_constraint_clone(lb_constraint **out, const lb_constraint *c, lb_err *err);
void lb_constraint_free(lb_constraint **c);
void lb_constraint_reset(lb_constraint *c); /* at the begin of the text */

/* Bit i says whether token i may come; valid until the next call. LB_E_NOT_FOUND: none may, and the
 * grammar is not complete: the vocabulary has no token for what it wants. */
lb_status lb_constraint_mask(lb_constraint *c, const u64 **mask, lb_err *err);
/* A token of the mask. */
lb_status lb_constraint_accept(lb_constraint *c, u32 token, lb_err *err);
/* *over: the grammar is complete and nothing can follow but the end. */
lb_status lb_constraint_is_over(lb_constraint *c, bool *over, lb_err *err);
/* What a token of the mask adds to the text: bytes, not always whole characters. */
lb_str lb_constraint_piece(const lb_constraint *c, u32 token);

#endif
