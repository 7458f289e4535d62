/* SPDX-License-Identifier: Apache-2.0 */
/* rank.h: what a value's place among the magnitudes of its row says of it. */
#ifndef LB_KERNEL_RANK_H
#define LB_KERNEL_RANK_H

#include "kernel/kernel.h"

/* Words of scratch for n values, at most 2^32. */
#define LB_RANK_SCRATCH(n) (5 * (n))

/* out[i] = by_rank[how many come before x[i] in ascending order of |x|]: equals in the order of
 * their indices, NaN behind all. scratch: aligned to 8. 1.2 ns a value that was bf16, 5 of f32
 * (EPYC, rows of 4096). */
void lb_rank_abs_f32(const lb_kernels *k, size_t n, float *out, const float *x,
                     const float *by_rank, u32 *scratch);

/* Probabilities that grow with the rank: (density - epsilon) + 2 epsilon (rank - 1) / (n - 1),
 * where ranks go from 1 to n, computed as mergekit 0.1.5 does (della_magprune in sparsify.py): in
 * f32, or in bf16, where ranks are rounded, and so is each step. n >= 2. */
typedef struct lb_odds {
    double density, epsilon;
    bool bf16;
} lb_odds;
void lb_odds_by_rank(const lb_odds *o, const lb_kernels *k, size_t n, float *out);

#endif
