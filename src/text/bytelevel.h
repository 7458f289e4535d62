/* SPDX-License-Identifier: Apache-2.0 */
/* bytelevel.h: the printable alphabet of byte-level BPE: one character stands for each byte.
 *
 * Bytes 33-126, 161-172 and 174-255 stand for themselves (as code points); the other 68 are
 * numbered upward from 256 (space is U+0120). Source: GPT-2's bytes_to_unicode; the same in
 * tokenizers and llama.cpp. */
#ifndef LB_TEXT_BYTELEVEL_H
#define LB_TEXT_BYTELEVEL_H

#include "base/base.h"
#include "base/mem.h"

u32 lb_bytelevel_char(u8 byte);
/* -1: the character is not in the alphabet. */
int lb_bytelevel_byte(u32 cp);
/* Appends text with each byte replaced by its character, in UTF-8 (at most two bytes each). */
void lb_bytelevel_encode(lb_buf *out, lb_str text);
/* Appends the bytes; false (out keeps what was appended) when a character is not in the alphabet.
 */
bool lb_bytelevel_decode(lb_buf *out, lb_str text);

/* Reads one code point at *pos of a text that lb_str_is_utf8 accepted (or WTF-8) and moves on;
 * bytes that start no character come as U+FFFD, one at a time. */
u32 lb_utf8_next(lb_str text, size_t *pos);
void lb_utf8_put(lb_buf *out, u32 cp);
/* Bytes as text: each longest part that could begin a character, but is none, becomes U+FFFD. */
void lb_utf8_put_lossy(lb_buf *out, lb_str text);

#endif
