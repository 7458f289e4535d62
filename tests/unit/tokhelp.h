/* SPDX-License-Identifier: Apache-2.0 */
/* tokhelp.h: folders as sources without weights, and metadata as JSON text, for the tokenizer
 * tests. */
#ifndef LB_TESTS_TOKHELP_H
#define LB_TESTS_TOKHELP_H

#include "format/gguf_meta.h"
#include "tensor/source.h"
#include "text/tokdata.h"

/* The files of a folder as a source without tensors; NULL with err set. */
lb_source *tok_source(const char *dir, lb_err *err);
/* The keys of its tokenizer; with opts->keep what its files come back from, too. */
lb_status tok_keys(const lb_source *s, const lb_tok_opts *opts, lb_gguf_meta *meta, lb_err *err);
/* All of a file's bytes; ptr is NULL when it cannot be made. */
lb_str tok_bytes(const lb_tok_file *f, lb_arena *a, lb_err *err);
/* Appends {"key": {"type": "u32", "value": 1}, ...}; arrays have an "elem" too. long_as_hash:
 * arrays of more than 16 entries as {"n": .., "sha256": ..} of their packed bytes (strings: each
 * with a length of 8 bytes before it, as in the file). */
void tok_dump(const lb_gguf_meta *meta, bool long_as_hash, lb_buf *out);

#endif
