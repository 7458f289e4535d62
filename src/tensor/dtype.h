/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.h: the tensor-type table: what a stored element or block is, its size and its names.
 *
 * Does not know how to decode (kernel/) nor in which file a type may stand beyond its name
 * there. */
#ifndef LB_TENSOR_DTYPE_H
#define LB_TENSOR_DTYPE_H

#include "base/base.h"

typedef enum lb_dtype {
#define LB_DTYPE(id, name, st, ggml, n_elems, n_bytes, cls) LB_##id,
#include "tensor/dtype.def"
#undef LB_DTYPE
    LB_DTYPE_COUNT
} lb_dtype;

typedef enum lb_dtype_class {
    LB_CLASS_FLOAT,
    LB_CLASS_INT,
    LB_CLASS_BLOCK,
    LB_CLASS_OPAQUE
} lb_dtype_class;

typedef struct lb_dtype_info {
    const char *name;        /* "q4_k" */
    const char *safetensors; /* "BF16", NULL: cannot stand in a safetensors file */
    i32 ggml;                /* ggml_type, -1: cannot stand in a GGUF file */
    u32 block_elems;         /* elements that are stored together, along the last axis */
    u32 block_bytes;
    lb_dtype_class cls;
} lb_dtype_info;

const lb_dtype_info *lb_dtype_get(lb_dtype t);

bool lb_dtype_find(lb_str name, lb_dtype *out);             /* by our name, any case */
bool lb_dtype_find_safetensors(lb_str name, lb_dtype *out); /* exact */
bool lb_dtype_find_ggml(u32 id, lb_dtype *out);
/* Text for an id that ggml once had ("Q4_2, removed in 2023"), else NULL. */
const char *lb_dtype_ggml_removed(u32 id);

/* Bytes of n_elems elements that start at a block limit; false if they end inside a block or
 * overflow. */
bool LB_MUST_CHECK lb_dtype_bytes(lb_dtype t, u64 n_elems, u64 *out);

#endif
