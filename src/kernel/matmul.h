/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.h: products of stored matrices with activations: the inner loop of inference.
 *
 * A matrix is used in the form in which it is stored: its rows lie where the file has them, and no
 * second copy is made. Quantized weights meet activations of eight bits (LB_ACT_Q8) in integer
 * products, floats meet f32. Few tokens: each row is read once, in the registers in which it is
 * unpacked. Many: a panel of rows is unpacked into the caller's scratch, which stays in the L2, and
 * meets all tokens. What no integer kernel has is decoded to f32 first, so every type works.
 * A result does not depend on how rows are split among calls. */
#ifndef LB_KERNEL_MATMUL_H
#define LB_KERNEL_MATMUL_H

#include "kernel/kernel.h"
#include "tensor/source.h"

/* Rows of a stored matrix (or of one expert of a stack). */
typedef struct lb_mat {
    u8 kind;              /* lb_enc_kind: PLAIN, MLX_AFFINE, MLX_MXFP4, MLX_MXFP8, MLX_NVFP4, FP8 */
    lb_dtype dtype;       /* PLAIN: a float or a GGUF block type; FP8: of the elements */
    u32 bits, group;      /* MLX; FP8: columns that share a scale (0: all) */
    u32 block_rows;       /* FP8: rows that share one (0: all) */
    lb_dtype scale_dtype; /* of scale and bias */
    float times;          /* multiplies every value; 1 but for a scale of the whole tensor */
    u64 n_rows, n_cols;
    const u8 *codes; /* [n_rows] rows, row_bytes apart, which may be more than a row has */
    u64 row_bytes;
    const u8 *scale, *bias; /* rows of groups, scale_bytes apart; NULL: none */
    u64 scale_bytes;
} lb_mat;

/* Activations of one token.
 * Q8: lb_q8_act of q8.h: codes of eight bits with a scale for each 32 elements and sums for the
 * minima of weights. */
typedef enum lb_act_form {
    LB_ACT_F32,
    LB_ACT_Q8,
    /* Q8, and for groups that are coarse beside the token's mean Q8 of what it leaves: sixteen
     * bits, in two products of eight. */
    LB_ACT_Q16,
    /* f32 again, of what activations are rounded to by llama.cpp on a CPU (act_ggml.c). */
    LB_ACT_GGML_Q8_0,
    LB_ACT_GGML_Q8_1, /* then, for each 32, what its sum is more in f16, which meets the minimum */
    LB_ACT_GGML_Q8_K,
    LB_ACT_GGML_F16,
    LB_ACT_GGML_BF16,
    LB_ACT_FORMS
} lb_act_form;

/* How activations are rounded for a product. */
typedef enum lb_act_mode {
    LB_ACTS_AUTO, /* where weights are quantized, to eight bits; to sixteen where they are uneven */
    LB_ACTS_FAST, /* where weights are quantized, to eight bits */
    LB_ACTS_EXACT, /* not at all */
    LB_ACTS_GGML   /* as llama.cpp does for GGUF's types (act_ggml.h), else not at all */
} lb_act_mode;

/* The form in which this matrix takes activations. */
lb_act_form lb_mat_act(const lb_mat *m, lb_act_mode mode);
/* Whether a mode has products of this form. */
bool lb_act_used(lb_act_form form, lb_act_mode mode);
/* Of one token, a multiple of 64. */
size_t lb_act_bytes(lb_act_form form, u64 n_cols);
void lb_act_make(const lb_kernels *k, lb_act_form form, u64 n_cols, void *out, const float *in);

/* Whether rows of this kind, type and length can be used at all, and why not. */
lb_status lb_mat_check(const lb_mat *m, lb_err *err);

typedef struct lb_matmul_in {
    const lb_mat *m;
    u64 row, n_rows; /* of m */
    size_t n_tokens;
    lb_act_form form;
    const void *act; /* [n_tokens], lb_act_bytes apart, aligned to 64 */
    float *out;      /* out[t * out_stride + r - row] */
    size_t out_stride;
} lb_matmul_in;

/* scratch: lb_matmul_scratch_bytes of the matrix, aligned to 64; of one thread. */
void lb_matmul(const lb_kernels *k, const lb_matmul_in *in, void *scratch);
size_t lb_matmul_scratch_bytes(const lb_mat *m, size_t n_tokens);
/* Rows that a thread should take at once. */
u64 lb_matmul_unit(const lb_mat *m, size_t n_tokens);
/* One row as f32 (embeddings): out [n_cols]; scratch as above. */
void lb_mat_row(const lb_kernels *k, const lb_mat *m, u64 row, float *out, void *scratch);

#endif
