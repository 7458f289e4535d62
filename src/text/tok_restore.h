/* SPDX-License-Identifier: Apache-2.0 */
/* tok_restore.h: the parts that keeping and restoring a tokenizer.json share. Internal to text/. */
#ifndef LB_TEXT_TOK_RESTORE_H
#define LB_TEXT_TOK_RESTORE_H

#include "io/json.h"
#include "text/hf_write.h"
#include "text/tok_keep.h"

/* Ids of tokenizer.json may go this far beyond the GGUF's tokens (a config that cuts the
 * vocabulary). */
#define LB_TOK_IDS_BEYOND ((u64)1 << 20)

/* model.vocab by id as the arrays and the list of added tokens tell it; ptr NULL: a hole. */
lb_status lb_tok_guess_vocab(const lb_tok_arrays *a, const lb_json *added, u64 n_ids, lb_str **out,
                             lb_err *err);
/* Merges made from the scores for this vocabulary. */
lb_status lb_tok_made_merges(const lb_tok_arrays *a, const lb_str *token, u64 n_ids, bool by_length,
                             lb_str **out, u64 *n_out, lb_err *err);

#endif
