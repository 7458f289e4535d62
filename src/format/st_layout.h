/* SPDX-License-Identifier: Apache-2.0 */
/* st_layout.h: where everything stands in safetensors output: shards, headers, offsets, the index.
 *
 * Plans only; the engine writes tensor bytes at the planned places. Headers are written as the
 * crate does (compact JSON, __metadata__ first, tensors by offset, padded with spaces), the index
 * as transformers 5.23 (HF: only for more than one shard) or mlx-lm 0.32.2 (MLX: always) writes it.
 */
#ifndef LB_FORMAT_ST_LAYOUT_H
#define LB_FORMAT_ST_LAYOUT_H

#include "base/base.h"
#include "base/mem.h"
#include "io/out.h"
#include "tensor/source.h"

/* How shards are cut and the index is written. */
typedef enum lb_st_style {
    LB_ST_HF, /* huggingface_hub's split: a tensor above the limit stands alone, the open shard goes
                 on */
    LB_ST_MLX /* mlx-lm's make_shards: a new shard when the next tensor does not fit */
} lb_st_style;

/* One output tensor. name, dtype and shape are the caller's; the rest is filled by the layout. */
typedef struct lb_st_item {
    lb_str name; /* strict UTF-8; unique */
    lb_dtype dtype;
    lb_shape shape;
    u32 shard;      /* filled: index into lb_st_layout.shards */
    u64 off_bytes;  /* filled: absolute, in that shard's file */
    u64 size_bytes; /* filled */
} lb_st_item;

/* One string of __metadata__. field_len > 0: value is ignored; the header holds that many spaces
 * and lb_st_shard.field_off says where, to be overwritten later (plain ASCII without quote or
 * backslash). */
typedef struct lb_st_meta {
    lb_str key, value;
    u32 field_len;
} lb_st_meta;

typedef struct lb_st_layout_opts {
    lb_st_style style;
    u64 max_shard_bytes; /* of tensor data a shard; 0: one shard */
    u64 data_align; /* data part begins at a multiple of it: 8 as the crate, 16384 for mapping: then
                       tensors of whole pages come first, the rest by the width of its elements */
    const lb_st_meta *meta; /* [n_meta], written to every shard in this order */
    u64 n_meta;
    u64 n_parameters;  /* for the index; transformers and mlx-lm write it as total_parameters */
    const char *stem;  /* NULL: "model" */
    bool index_of_one; /* an index for one shard, too; mlx-lm's style always has it */
    bool later; /* headers and index are not built but written by lb_st_layout_write and _index:
                   items and meta must stay as they are */
} lb_st_layout_opts;

typedef struct lb_st_shard {
    lb_str name;   /* "model.safetensors" or "model-00001-of-00003.safetensors" */
    lb_str header; /* first bytes of the file: 8 length bytes, JSON, spaces; data follow. later: ptr
                      is NULL */
    u64 size_bytes; /* of the whole file */
    u64 n_items;
    u64 *field_off; /* [n_meta]: file offset of a field's first byte; 0 for a fixed value */
} lb_st_shard;

typedef struct lb_st_layout {
    lb_st_shard *shards;
    u32 n_shards;
    u64 total_bytes;   /* of all tensors: the index's total_size */
    lb_str index_name; /* "model.safetensors.index.json", or empty: none is written */
    lb_str index;      /* its bytes; later: empty */
    const struct lb_st_writer *writer;
} lb_st_layout;

/* Places items (data stand in their order, but see data_align) and builds headers and index in the
 * arena. Errors: LB_E_UNSUPPORTED (a type that safetensors cannot hold, by name), LB_E_FORMAT (a
 * name twice, not UTF-8, "__metadata__"; elements that do not fill bytes), LB_E_LIMIT (header above
 * LB_ST_HEADER_MAX: smaller shards needed), LB_E_NOMEM. */
lb_status lb_st_layout_plan(lb_st_item *items, u64 n_items, const lb_st_layout_opts *opts,
                            lb_arena *perm, lb_st_layout *out, lb_err *err);
/* Append a file's header, and the index (LB_E_NOMEM: it is sorted); out's own status tells of its
 * failures. */
void lb_st_layout_write(const lb_st_layout *l, u32 shard, lb_out *out);
lb_status lb_st_layout_index(const lb_st_layout *l, lb_out *out, lb_err *err);

#endif
