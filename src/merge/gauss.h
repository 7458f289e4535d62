/* SPDX-License-Identifier: Apache-2.0 */
/* gauss.h: normal random numbers that follow from a seed and two places (a matrix and a row, say):
 * each stream by itself, so that threads need no order. Generator: splitmix64; the normal pair by
 * G. Marsaglia's polar method, with the correctly rounded logarithm of the kernels. */
#ifndef LB_MERGE_GAUSS_H
#define LB_MERGE_GAUSS_H

#include "kernel/kernel.h"

typedef struct lb_gauss {
    const lb_kernels *kernels;
    u64 state;
    float other;
    bool has_other;
} lb_gauss;

void lb_gauss_begin(lb_gauss *g, const lb_kernels *kernels, u64 seed, u64 place, u64 row);
float lb_gauss_next(lb_gauss *g);

#endif
