/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h: reading safetensors files: header bytes to lb_tensor, one file to lb_source.
 *
 * Accepts what the Rust crate safetensors 0.8.0 accepts when run (safetensors/src/tensor.rs:
 * read_metadata, Metadata::validate; white space around the JSON is its documented tolerance) and
 * refuses more where a second parser could see something else: names and metadata keys that stand
 * twice, an entry written as an array or its dtype as an object, nesting beyond LB_JSON_DEPTH.
 * Files need no alignment (mlx writes unpadded headers). Tensor bytes are not read.
 * Limits: header 100,000,000 bytes (as the crate), rank LB_RANK_MAX. */
#ifndef LB_FORMAT_SAFETENSORS_H
#define LB_FORMAT_SAFETENSORS_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/source.h"

#define LB_ST_HEADER_MAX ((u64)100000000)

/* What one header says. Tensors are ordered by offset and cover the data part exactly. */
typedef struct lb_st_dir {
    lb_tensor *tensors; /* file is 0; off_bytes counts from the start of the file */
    u64 n_tensors;
    lb_str metadata; /* raw JSON object of __metadata__ (checked: string -> string); may be empty */
    u64 data_off_bytes; /* where the data part begins: 8 + header length */
} lb_st_dir;

/* Parses the JSON text of a header (the 8 length bytes not included) of a file of size_bytes.
 * Pure: reads no file. Memory is bounded by a small multiple of header.len.
 *   perm     owns the names and the metadata;  scratch  owns out->tensors itself.
 * Errors: LB_E_FORMAT (off = place in the file), LB_E_UNSUPPORTED (unknown dtype), LB_E_LIMIT
 * (rank), LB_E_NOMEM. */
lb_status lb_st_parse(lb_str header, u64 size_bytes, lb_arena *perm, lb_arena *scratch,
                      lb_st_dir *out, lb_err *err);

/* Adds the file and its tensors to s; s->st_metadata is set from the first file that is added.
 * name: plain name inside the model's folder. */
lb_status lb_st_read(lb_source *s, const char *path, lb_str name, lb_err *err);

/* A single .safetensors file as a model: format SAFETENSORS, one plain weight a tensor. MLX's
 * packed tensors stay integers of their own: without a config nothing says more. Tensors that only
 * other tools' quantization has are refused (foreign.h). */
lb_status lb_st_open(lb_source **out, const char *path, lb_err *err);

/* The value of key in a raw __metadata__ object, decoded; false if absent or out of memory. */
bool lb_st_metadata_find(lb_str metadata, lb_str key, lb_arena *perm, lb_str *out);

#endif
