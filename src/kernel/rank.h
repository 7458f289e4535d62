/* SPDX-License-Identifier: Apache-2.0 */
/* rank.h: places of values by magnitude. */
#ifndef LB_KERNEL_RANK_H
#define LB_KERNEL_RANK_H

#include "kernel/kernel.h"

/* Words of scratch for n values. */
#define LB_RANK_SCRATCH(n) (4 * (n))

/* out[i] = how many come before x[i] in ascending order of |x|: equals in the order of their
 * indices, NaN behind all. n < 2^32; beyond 2^24 places are rounded to f32. scratch: aligned to 8.
 * 1.3 ns a value that was bf16, 5 of f32 (EPYC, rows of 4096). */
void lb_rank_abs_f32(const lb_kernels *k, size_t n, float *out, const float *x, u32 *scratch);

#endif
