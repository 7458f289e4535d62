/* SPDX-License-Identifier: Apache-2.0 */
/* charsmap.h: SentencePiece's table of characters (precompiled_charsmap): what parts of a text turn
 * into, NFKC and more.
 *
 * Bytes: u32 size, that many bytes of a double array (Darts-clone, units of u32, little-endian),
 * then texts that end in a zero byte, which its values point to. Source: sentencepiece's
 * normalizer.cc (0.2); for the library's reading, crate spm_precompiled 0.1. */
#ifndef LB_TEXT_CHARSMAP_H
#define LB_TEXT_CHARSMAP_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_charsmap {
    const u8 *unit; /* [n_units] u32; a view of the bytes */
    u64 n_units;
    lb_str texts;
} lb_charsmap;

/* bytes must outlive it; empty: changes nothing. LB_E_FORMAT. */
lb_status lb_charsmap_init(lb_charsmap *m, lb_str bytes, lb_err *err);
/* Appends what a valid UTF-8 text turns into. longest: the longest part with an entry is replaced,
 * as SentencePiece does it; else as the tokenizers library: a grapheme of less than six bytes at
 * once by its shortest entry, then each character. */
void lb_charsmap_run(const lb_charsmap *m, lb_str in, bool longest, lb_buf *out);
/* Appends the bytes of a base64 text. False: it is none. */
bool lb_base64_decode(lb_str text, lb_buf *out);
void lb_base64_encode(lb_str bytes, lb_buf *out);

#endif
