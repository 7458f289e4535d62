/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h: the tokenizer of an opened model: text -> ids, as the tokenizers library does it with
 * the model's files. (Classes of transformers 5 may build another pipeline than their
 * tokenizer.json has: LlamaTokenizer takes a blank at the beginning for its own prefix,
 * SentencePiece does not.) The way back is decode.h.
 *
 * From tokenizer.json (with what the files beside it add), vocab.json and merges.txt, a file of
 * tiktoken, tokenizer.model (SentencePiece), or a GGUF's keys: BPE, Unigram, WordPiece, WordLevel.
 * Read-only once it is open: threads share it, each with a work of its own. Steps that norm.h,
 * pretok.h, hf_encode.h or decode_steps.h do not know are LB_E_UNSUPPORTED by name. */
#ifndef LB_TEXT_ENCODE_H
#define LB_TEXT_ENCODE_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/source.h"

typedef struct lb_encoder lb_encoder;
struct lb_decode_steps;

/* s must outlive it. LB_E_NOT_FOUND: the model has no tokenizer; LB_E_FORMAT, LB_E_LIMIT,
 * LB_E_UNSUPPORTED, LB_E_NOMEM: file and what of it. */
lb_status lb_encoder_open(lb_encoder **out, const lb_source *s, lb_err *err);
void lb_encoder_close(lb_encoder **e);

/* ---- text -> ids ---- */

enum {
    LB_ENCODE_ADD = 1,  /* with what the tokenizer puts around a text: BOS, EOS, [CLS]... */
    LB_ENCODE_PLAIN = 2 /* texts of special tokens in it are text as any other */
};

/* Buffers, and the ids of words that came before: for one thread at a time. */
typedef struct lb_encode_work lb_encode_work;
lb_status lb_encode_work_new(lb_encode_work **out, const lb_encoder *e, lb_err *err);
void lb_encode_work_free(lb_encode_work **w);
/* Appends the ids (u32 each). What is not UTF-8 is U+FFFD, one for the longest part that could
 * begin a character. Time is linear in the text but for one word without end (n log n). LB_E_LIMIT:
 * a pattern that explodes on this text. LB_E_FORMAT: a word that the vocabulary has no id for. */
lb_status lb_encode_run(lb_encode_work *w, lb_str text, u32 flags, lb_buf *ids, lb_err *err);
/* The same, once. special: LB_ENCODE_ADD. */
lb_status lb_encoder_encode(const lb_encoder *e, lb_str text, bool special, lb_buf *ids,
                            lb_err *err);

/* ---- tokens ---- */

/* "bos_token", "eos_token"... as the files name it, or the tokenizer's class; empty: none. */
lb_str lb_encoder_special(const lb_encoder *e, const char *key);
/* Its number; LB_NO_ID: none. */
#define LB_NO_ID UINT32_MAX
u32 lb_encoder_special_id(const lb_encoder *e, const char *key);
/* Of a token's text as the vocabulary, or the list of added tokens, writes it; LB_NO_ID. */
u32 lb_encoder_find(const lb_encoder *e, lb_str text);

typedef enum lb_token_kind {
    LB_TOKEN_NONE, /* no token has this number */
    LB_TOKEN_NORMAL,
    LB_TOKEN_CONTROL, /* special: shapes a conversation, is no text */
    LB_TOKEN_USER,    /* added, but text: matched as a whole */
    LB_TOKEN_BYTE,    /* "<0xNN>" */
    LB_TOKEN_UNKNOWN,
    LB_TOKEN_UNUSED
} lb_token_kind;

/* 1 + the largest number. */
u64 lb_encoder_n_vocab(const lb_encoder *e);
/* text (may be NULL): as the vocabulary writes it. */
lb_token_kind lb_encoder_token(const lb_encoder *e, u32 id, lb_str *text);
/* The text that its decoder gets: an added token that is matched in the normalized text stands
 * there in that form, as the library keeps it. */
lb_str lb_encoder_decoded(const lb_encoder *e, u32 id);
/* Appends the bytes that it stands for behind other text (a blank for U+2581 or U+0120, a byte for
 * <0xNN>); a special token's own text. They need not be whole characters. */
lb_status lb_encoder_bytes(const lb_encoder *e, u32 id, lb_buf *out, lb_err *err);

/* Ids, in order, that end an answer: EOS; what generation_config.json and config.json list
 * (eos_token_id); GGUF's eot and eom; and special tokens whose text is known to (<|im_end|>,
 * <|eot_id|>, <end_of_turn>...), as llama.cpp takes them. */
const u32 *lb_encoder_ends(const lb_encoder *e, u64 *n);
bool lb_encoder_is_end(const lb_encoder *e, u32 id);
/* Whether LB_ENCODE_ADD puts the BOS token first. */
bool lb_encoder_adds_bos(const lb_encoder *e);

/* For decode.h. */
const struct lb_decode_steps *lb_encoder_decoder(const lb_encoder *e);

#endif
