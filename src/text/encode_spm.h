/* SPDX-License-Identifier: Apache-2.0 */
/* encode_spm.h: what of a tokenizer.model the way over GGUF's keys does not carry: Unigram in
 * folders of any architecture, and SentencePiece's normalizer before BPE. Internal to text/. */
#ifndef LB_TEXT_ENCODE_SPM_H
#define LB_TEXT_ENCODE_SPM_H

#include "format/gguf_meta.h"
#include "io/json.h"
#include "text/spm.h"
#include "text/tok_folder.h"

/* The keys ("t5") of a Unigram model. f: the folder, for its class. LB_E_UNSUPPORTED: blanks at the
 * ends of words (treat_whitespace_as_suffix). */
lb_status lb_spm_unigram_keys(const lb_spm *m, const lb_tok_folder *f, lb_gguf_meta *meta,
                              lb_err *err);
/* Puts the model's table of characters and its treatment of blanks before the normalizer of a
 * tokenizer.json (`rest`) that was made without them. */
lb_status lb_spm_put_normalizer(const lb_spm *m, lb_json *rest, lb_arena *arena, lb_err *err);

#endif
