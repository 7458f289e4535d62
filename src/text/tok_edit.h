/* SPDX-License-Identifier: Apache-2.0 */
/* tok_edit.h: the small files beside a tokenizer.json whose tokens have changed. */
#ifndef LB_TEXT_TOK_EDIT_H
#define LB_TEXT_TOK_EDIT_H

#include "text/hf_tok.h"

/* tokenizer_config.json or special_tokens_map.json: its list of added tokens, if it has one, made
 * anew; special tokens that t has not are left out, one name each in *left (may be NULL). */
lb_status lb_tok_edit_config(lb_str text, const char *what, const lb_hf_tok *t, lb_arena *perm,
                             lb_str *out, lb_buf *left, lb_err *err);
/* added_tokens.json */
lb_status lb_tok_edit_added(const lb_hf_tok *t, lb_arena *perm, lb_str *out, lb_err *err);
/* A file of the tokenizer, by its name; of them, one that is of no use, or misleads, once
 * tokenizer.json has other tokens (cut: fewer). */
bool lb_tok_is_file(lb_str name);
bool lb_tok_is_stale(lb_str name, bool cut);

#endif
