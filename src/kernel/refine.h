/* SPDX-License-Identifier: Apache-2.0 */
/* refine.h: less error in the same format: blocks and groups that a quantizer has made, improved in
 * place.
 *
 * What is made small is the sum of importance * (x - decoded)^2. Codes are chosen again by the
 * scales as they are stored, scales (and minimums) around the quantizer's and around those of a
 * least-squares fit are tried, and both in turn until nothing is gained. A block is replaced only
 * if, decoded by the type's decoder, its error (a double sum in the order of the values) is smaller
 * than before: never worse, block by block.
 *
 * Plain C, the same on every machine: the bytes follow from the arguments. Speed: refine_*.c. */
#ifndef LB_KERNEL_REFINE_H
#define LB_KERNEL_REFINE_H

#include "kernel/kernel.h"

/* Whether there is a refinement for the type. */
bool lb_refine_has(lb_dtype t);
/* n_elems values and the blocks that t's quantizer made of them. importance: [n_elems] or NULL (1).
 * Values are finite. */
void lb_refine_blocks(const lb_kernels *k, lb_dtype t, size_t n_elems, void *blocks,
                      const float *in, const float *importance);

/* MLX affine groups; scale and bias in the type `round` (LB_ROUND_NONE: f32). */
typedef struct lb_refine_affine_type {
    size_t group_elems;
    u32 bits;
    lb_round round;
} lb_refine_affine_type;
void lb_refine_affine(const lb_refine_affine_type *t, size_t n_groups, u8 *codes, u8 *scale,
                      u8 *bias, const float *in, const float *importance);

/* MLX groups of E2M1 or E4M3 codes with a scale byte. */
typedef enum lb_refine_fp { LB_REFINE_MXFP4, LB_REFINE_MXFP8, LB_REFINE_NVFP4 } lb_refine_fp;
void lb_refine_fp_groups(const lb_kernels *k, lb_refine_fp kind, size_t n_groups, u8 *codes,
                         u8 *scale, const float *in, const float *importance);

#endif
