/* SPDX-License-Identifier: Apache-2.0 */
/* tokhelp.h: folders as sources without weights, and metadata as JSON text, for the tokenizer
 * tests. */
#ifndef LB_TESTS_TOKHELP_H
#define LB_TESTS_TOKHELP_H

#include "format/gguf_meta.h"
#include "tensor/source.h"

/* The files of a folder as a source without tensors; NULL with err set. */
lb_source *tok_source(const char *dir, lb_err *err);
/* Appends {"key": {"type": "u32", "value": 1}, ...}; arrays have an "elem" too. long_as_hash:
 * arrays of more than 16 entries as {"n": .., "sha256": ..} of their packed bytes (strings: each
 * with a length of 8 bytes before it, as in the file). */
void tok_dump(const lb_gguf_meta *meta, bool long_as_hash, lb_buf *out);

#endif
