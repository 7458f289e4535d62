/* SPDX-License-Identifier: Apache-2.0 */
/* folder.h: Hugging Face and MLX model folders as a lb_source.
 *
 * Which it is comes from content: __metadata__.format of the weights and config.json's
 * quantization. Which files are the weights follows transformers 5.23: model.safetensors, else the
 * index, else model*.safetensors (as mlx-lm), else the same of pytorch_model*.bin, else
 * weights*.npz (MLX); what was decided or left aside is said in lb_source.notes. Only headers are
 * read. Folders quantized by other tools and folders with weights of other formats are refused by
 * the method's or the file's name. */
#ifndef LB_FORMAT_FOLDER_H
#define LB_FORMAT_FOLDER_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/source.h"

#define LB_INDEX_NAME "model.safetensors.index.json"
#define LB_PT_INDEX_NAME "pytorch_model.bin.index.json"
#define LB_INDEX_MAX ((u64)256 * 1000 * 1000) /* bytes of an index file */
#define LB_CONFIG_MAX ((u64)16 * 1000 * 1000) /* bytes of a config.json */

/* Opens path (a folder): format HF or MLX, weights combined, sides listed. */
lb_status lb_folder_open(lb_source **out, const char *path, lb_err *err);

/* The weight map of an index file. */
typedef struct lb_index_entry {
    lb_str tensor;
    u32 shard; /* index into lb_index.shards */
} lb_index_entry;

typedef struct lb_index {
    lb_index_entry *entries; /* in file order; names are unique */
    u64 n_entries;
    lb_str *shards; /* plain file names with the ending asked for, sorted, unique */
    u32 n_shards;
} lb_index;

/* Parses the bytes of an index whose shards end in `ending` (".safetensors", ".bin"). what names
 * the text in errors. */
lb_status lb_index_parse(lb_str text, const char *what, const char *ending, lb_arena *perm,
                         lb_index *out, lb_err *err);

#endif
