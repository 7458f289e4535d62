/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.h: the `pre_tokenizer` of a tokenizer.json, compiled once, then read-only.
 *
 * Known: ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit,
 * Metaspace, BertPreTokenizer, FixedLength, Sequence. Others (UnicodeScripts...) are
 * LB_E_UNSUPPORTED by name. Semantics: tokenizers 0.23. */
#ifndef LB_TEXT_PRETOK_H
#define LB_TEXT_PRETOK_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

#define LB_PIECE_TEXT UINT32_MAX

/* GPT-2's pattern, which ByteLevel brings along (openai/gpt-2, encoder.py). */
#define LB_GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* A part of a text on its way to ids. */
typedef struct lb_piece {
    lb_str text;
    u32 id;     /* of an added token; LB_PIECE_TEXT: text still to be encoded */
    bool first; /* starts where the whole text starts */
} lb_piece;

typedef struct lb_pieces {
    lb_piece *v;
    u64 n, cap;
} lb_pieces;

lb_status lb_pieces_push(lb_pieces *p, lb_str text, u32 id, bool first, lb_err *err);
void lb_pieces_deinit(lb_pieces *p);

typedef struct lb_pretok lb_pretok;

/* json: the "pre_tokenizer" member; NULL and null give one that cuts nothing. */
lb_status lb_pretok_new(lb_pretok **out, const lb_json *json, lb_err *err);
void lb_pretok_free(lb_pretok **p);
/* Replaces the pieces that are text by their parts. New text (byte alphabet, Metaspace) goes to
 * scratch; the rest are views. LB_E_LIMIT: they are longer than 16 KiB and 16 times the text. */
lb_status lb_pretok_run(const lb_pretok *p, lb_pieces *pieces, lb_arena *scratch, lb_err *err);

/* The same one part after the other, each handed to `put` as soon as it is known: memory for none
 * but the one that is being cut. A part's text is valid until put returns. */
typedef struct lb_pretok_run_state lb_pretok_work;
typedef lb_status (*lb_piece_fn)(void *ctx, const lb_piece *part, lb_err *err);
lb_pretok_work *lb_pretok_work_new(const lb_pretok *p); /* NULL: out of memory */
void lb_pretok_work_free(lb_pretok_work **w);
/* raw: where the last step writes in the byte alphabet and does nothing else, it is left out:
 * lb_pretok_ends_in_bytes tells. */
lb_status lb_pretok_each(lb_pretok_work *w, lb_str text, bool first, bool raw, lb_piece_fn put,
                         void *ctx, lb_err *err);
bool lb_pretok_ends_in_bytes(const lb_pretok *p);
/* Whether it has no step at all. */
bool lb_pretok_is_empty(const lb_pretok *p);

#endif
