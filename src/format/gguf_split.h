/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_split.h: names of the files of a split GGUF model.
 *
 * `<stem>-00001-of-00003.gguf`: numbers from 1, at least five digits, as llama_split_path
 * (llama.cpp src/llama.cpp) writes them. Inside a file the number (split.no) counts from 0. */
#ifndef LB_FORMAT_GGUF_SPLIT_H
#define LB_FORMAT_GGUF_SPLIT_H

#include "base/base.h"
#include "base/mem.h"

/* Most files of a split: split.count is a u16. */
#define LB_GGUF_SPLIT_MAX 65535

/* The name (or path) of file no, from 0, of count; ptr is NULL when out of memory. */
lb_str lb_gguf_split_format(lb_arena *perm, lb_str stem, u32 no, u32 count);

/* The stem of a name that is that of file no of count; false for any other name. */
bool lb_gguf_split_parse(lb_str name, u32 no, u32 count, lb_str *stem);

/* Whether a name is that of some part of some split with this stem. */
bool lb_gguf_split_is_part(lb_str name, lb_str stem, u32 *no, u32 *count);

/* Where a list of tensors is cut into files. padded_bytes[i] is tensor i's size rounded up; file[i]
 * gets its file's number. A file is closed when the next tensor would bring the sum of its tensors
 * above max_bytes (llama-gguf-split --split-max-size); a tensor above the limit stands alone. first
 * is the number of the first file with tensors. Returns the number of files, also when it is above
 * LB_GGUF_SPLIT_MAX. */
u64 lb_gguf_split_cut(const u64 *padded_bytes, u64 n, u64 max_bytes, u32 first, u32 *file);

#endif
