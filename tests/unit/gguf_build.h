/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_build.h: GGUF bytes piece by piece, right or wrong, and a text dump of what was read. */
#ifndef LB_TESTS_GGUF_BUILD_H
#define LB_TESTS_GGUF_BUILD_H

#include "base/mem.h"
#include "format/gguf.h"

void gb_head(lb_buf *b, u32 version, u64 n_tensors, u64 n_kv);
void gb_str(lb_buf *b, const char *s);
void gb_key(lb_buf *b, const char *key, u32 type);          /* the value follows */
void gb_array(lb_buf *b, const char *key, u32 elem, u64 n); /* the elements follow */
void gb_kv_u32(lb_buf *b, const char *key, u32 v);
void gb_kv_str(lb_buf *b, const char *key, const char *v);
void gb_kv_split(lb_buf *b, u32 no, u32 count, i32 n_tensors); /* three pairs */
/* ne: fastest first */
void gb_info(lb_buf *b, const char *name, u32 rank, const u64 *ne, u32 type, u64 off);
void gb_pad(lb_buf *b, size_t align);
/* Writes the buffer to dir/name and returns the path (in a static buffer, four at a time). */
const char *gb_save(const lb_buf *b, const char *dir, const char *name);

/* The form that tests/golden/gguf/make_gguf.py describes. */
void gb_dump_meta(lb_buf *out, const lb_gguf_meta *m);
void gb_dump_tensors(lb_buf *out, const lb_tensor *t, u64 n);

#endif
