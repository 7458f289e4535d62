/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h: the tokenizer of an opened model: text -> ids, as the tokenizers library does it with
 * the model's files. (Classes of transformers 5 may build another pipeline than their
 * tokenizer.json has: LlamaTokenizer takes a blank at the beginning for its own prefix,
 * SentencePiece does not.)
 *
 * From tokenizer.json (with what the files beside it add), vocab.json and merges.txt, a file of
 * tiktoken, tokenizer.model (SentencePiece BPE), or a GGUF's keys. Read-only once it is open:
 * threads share it. Unigram, WordPiece and steps that norm.h, pretok.h or hf_encode.h do not know
 * are LB_E_UNSUPPORTED by name. */
#ifndef LB_TEXT_ENCODE_H
#define LB_TEXT_ENCODE_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/source.h"

typedef struct lb_encoder lb_encoder;

/* s must outlive it. LB_E_NOT_FOUND: the model has no tokenizer; LB_E_FORMAT, LB_E_LIMIT,
 * LB_E_UNSUPPORTED, LB_E_NOMEM: file and what of it. */
lb_status lb_encoder_open(lb_encoder **out, const lb_source *s, lb_err *err);
void lb_encoder_close(lb_encoder **e);

/* Appends the ids (u32 each) of valid UTF-8. special: with what the tokenizer puts around a text.
 * Special tokens in the text are such. */
lb_status lb_encoder_encode(const lb_encoder *e, lb_str text, bool special, lb_buf *ids,
                            lb_err *err);
/* "bos_token", "eos_token"... as the files name it, or the tokenizer's class; empty: none. */
lb_str lb_encoder_special(const lb_encoder *e, const char *key);

#endif
