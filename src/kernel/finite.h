/* SPDX-License-Identifier: Apache-2.0 */
/* finite.h: whether stored values are numbers. */
#ifndef LB_KERNEL_FINITE_H
#define LB_KERNEL_FINITE_H

#include "tensor/dtype.h"

/* How many blocks (of floats: values) of n_bytes whole blocks have a scale or minimum that is NaN
 * or infinite: of f32, f16, bf16 and GGUF's blocks. Other types: 0. What it counts is what
 * ggml_validate_row_data of llama-cpp-python 0.3.36 refuses. */
u64 lb_blocks_not_finite(lb_dtype t, u64 n_bytes, const u8 *bytes);

/* The largest magnitude of n values of f16 or bf16, as its bits: at most 0x7bff or 0x7f7f where all
 * are numbers. */
u32 lb_halves_most(size_t n, const u8 *values);

#endif
