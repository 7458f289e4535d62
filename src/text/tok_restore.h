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

/* model.vocab by id as the arrays and the list of added tokens tell it. */
lb_status lb_tok_guess_vocab(const lb_tok_arrays *a, const lb_json *added, u64 n_ids, lb_texts *out,
                             lb_err *err);

#endif
