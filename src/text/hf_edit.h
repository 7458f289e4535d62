/* SPDX-License-Identifier: Apache-2.0 */
/* hf_edit.h: a tokenizer.json of a tokenizer that was changed in memory: tokens added
 * (lb_hf_tok_add), or cut off at its end. */
#ifndef LB_TEXT_HF_EDIT_H
#define LB_TEXT_HF_EDIT_H

#include "io/out.h"
#include "text/hf_tok.h"

/* The file with t's added tokens, and without tokens of ids from n_ids on (UINT64_MAX: with all)
 * and the merges that need or make them. Unigram models are not cut (LB_E_UNSUPPORTED). */
lb_status lb_hf_tok_write(const lb_hf_tok *t, u64 n_ids, lb_out *out, lb_err *err);
/* The same as text. */
lb_status lb_hf_tok_text(const lb_hf_tok *t, u64 n_ids, lb_arena *perm, lb_str *out, lb_err *err);

#endif
