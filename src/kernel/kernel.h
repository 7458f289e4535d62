/* SPDX-License-Identifier: Apache-2.0 */
/* kernel.h: the kernel table: pure arithmetic on the caller's buffers, scalar reference and SIMD.
 *
 * kernel.def lists every kernel with its comparison class. lb_kernels_init fills all slots with the
 * references, then overrides upward by the ISA mask: no slot is ever NULL, no `if (avx2)`
 * elsewhere. Kernels never allocate, never do I/O, and give the same bytes on every machine. */
#ifndef LB_KERNEL_KERNEL_H
#define LB_KERNEL_KERNEL_H

#include "base/base.h"
#include "tensor/dtype.h"

/* To what a kernel rounds an f32 result before it goes on; part of LB_MLX_ROUND. */
typedef enum lb_round { LB_ROUND_NONE, LB_ROUND_BF16, LB_ROUND_F16 } lb_round;
static inline lb_round lb_round_of(lb_dtype t) {
    return t == LB_BF16 ? LB_ROUND_BF16 : t == LB_F16 ? LB_ROUND_F16 : LB_ROUND_NONE;
}
#define LB_MLX_ROUND(product, sum) ((u32)(product) | (u32)(sum) << 4)

/* What a quantizer reads (lb_round of its input), the type to which the rule rounds (see each
 * kernel), the bits of a code where the kernel's name does not say them, and flags. */
#define LB_QUANT_HOW(in, round, bits) ((u32)(in) | (u32)(round) << 4 | (u32)(bits) << 8)
#define LB_QUANT_CPU (1u << 12)  /* MLX: the rule of mlx on the CPU, else that of Metal and CUDA */
#define LB_QUANT_ASYM (1u << 13) /* with zero points */
#define LB_QUANT_TIMES \
    (1u << 14) /* the value is multiplied by its factor, else divided by its scale */
#define LB_QUANT_FLOAT (1u << 15) /* quant_params: E4M3 instead of integers */
#define LB_QUANT_STORED \
    (1u << 16) /* MLX affine: codes for scale and bias as stored, not as mlx had them */

/* The bit of a word in which a code begins, and its length. */
#define LB_WORD_BITS(shift, bits) ((u32)(shift) | (u32)(bits) << 8)

/* dots_<type>: columns of a row; strides in floats, that of f16 and bf16 rows in bytes. scratch: of
 * more than LB_DOTS_SOME tokens LB_DOTS_SCRATCH bytes, aligned to 64. */
typedef struct lb_dots {
    size_t n_cols, out_stride, w_stride, x_stride;
    void *scratch;
} lb_dots;
enum {
    LB_DOTS_SOME = 16,
    /* Blocks of a product of many tokens: the columns of a tile's rows as floats (24 KiB), and the
     * 16 lanes of each row and token, of which there are so many that the tokens' part (256 KiB)
     * is read a few times for each time that it comes into the L2. Measured on Zen 5: 64 tokens of
     * 1,024 columns 225 to 244 GFLOP/s, 32 of 512 196 to 230. */
    LB_DOTS_TILE_ROWS = 6,
    LB_DOTS_COLS = 1024,
    LB_DOTS_ROWS = 48,
    LB_DOTS_TOKENS = 64,
    LB_DOTS_SCRATCH = 4 * (LB_DOTS_TILE_ROWS * LB_DOTS_COLS + 16 * LB_DOTS_ROWS * LB_DOTS_TOKENS)
};
/* delta_steps_f32: of the first token; those of the next are `stride` floats on, its out
 * out_stride. */
typedef struct lb_delta {
    const float *q, *k, *v, *decay, *beta;
    size_t stride, out_stride;
} lb_delta;
typedef struct lb_q8_shape lb_q8_shape; /* kernel/q8.h */
typedef struct lb_q8_rows lb_q8_rows;

#define LB_KERNEL(name, ret, args, cmp) typedef ret(lb_k_##name##_fn) args;
#include "kernel/kernel.def"
#undef LB_KERNEL

#define LB_KERNEL(name, ret, args, cmp) lb_k_##name##_fn lb_k_##name##_ref;
#include "kernel/kernel.def"
#undef LB_KERNEL

typedef struct lb_kernels {
#define LB_KERNEL(name, ret, args, cmp) lb_k_##name##_fn *name;
#include "kernel/kernel.def"
#undef LB_KERNEL
} lb_kernels;

/* isa_mask: lb_cpu_isa() or less (LB_CPU masks). */
void lb_kernels_init(lb_kernels *k, u32 isa_mask);

typedef void(lb_decode_fn)(size_t n_elems, float *out, const void *in);
typedef void(lb_encode_fn)(size_t n_elems, void *out, const float *in, u64 counts[2]);
/* NULL where the type does not decode to f32 (integers, c64) or has no encoder. */
lb_decode_fn *lb_kernels_decode(const lb_kernels *k, lb_dtype t);
lb_encode_fn *lb_kernels_encode(const lb_kernels *k, lb_dtype t);

typedef void(lb_quant_fn)(size_t n_elems, void *out, const float *in, const float *importance,
                          const void *tables);
/* NULL where the type has no quantizer. */
lb_quant_fn *lb_kernels_quant(const lb_kernels *k, lb_dtype t);
/* Whether the type can be quantized with an importance only. */
bool lb_quant_needs_importance(lb_dtype t);
/* The search tables of the iq1, iq2 and iq3 types: bytes (0 for other types, at most 1.5 MiB) and
 * their making, 10 to 100 ms once, in memory of any use later but aligned to 8 and not moved.
 * Read-only afterwards, so that all threads share them. */
size_t lb_quant_tables_bytes(lb_dtype t);
void lb_quant_tables_init(lb_dtype t, void *memory);

#define LB_FOLD_LEAF 16384 /* elements; a leaf never crosses a row */
#define LB_GEMM_LEAF 256   /* of an inner dimension */

#endif
