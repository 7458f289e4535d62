/* SPDX-License-Identifier: Apache-2.0 */
/* norm.h: the `normalizer` of a tokenizer.json, compiled once, then read-only.
 *
 * Known: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, ByteLevel,
 * BertNormalizer, Precompiled, Nmt, Sequence; others are LB_E_UNSUPPORTED by name. Semantics:
 * tokenizers 0.23; Unicode data: utf8proc. */
#ifndef LB_TEXT_NORM_H
#define LB_TEXT_NORM_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

typedef struct lb_norm lb_norm;

/* Not of the library: a member of "Precompiled" that lbrx sets where the file was made of what
 * SentencePiece itself, or llama.cpp, reads: the longest entry counts (charsmap.h). */
#define LB_NORM_LONGEST "lbrx_longest"

/* json: the "normalizer" member; NULL and null give one that changes nothing. */
lb_status lb_norm_new(lb_norm **out, const lb_json *json, lb_err *err);
void lb_norm_free(lb_norm **n);
/* out is replaced by the normal form of in (valid UTF-8). LB_E_LIMIT: one that is longer than 1 MiB
 * and 256 times the text. */
lb_status lb_norm_run(const lb_norm *n, lb_str in, lb_buf *out, lb_err *err);

/* Whether it changes nothing. */
bool lb_norm_is_empty(const lb_norm *n);

/* White_Space of Unicode, as Rust's char::is_whitespace. */
bool lb_cp_is_space(u32 cp);

#endif
