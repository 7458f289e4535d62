/* SPDX-License-Identifier: Apache-2.0 */
/* divergence.h: how far the softmax of one vector is from that of another. */
#ifndef LB_KERNEL_DIVERGENCE_H
#define LB_KERNEL_DIVERGENCE_H

#include "kernel/kernel.h"

typedef enum lb_kl_how {
    LB_KL_DOUBLE, /* all in double */
    LB_KL_F16,    /* every step is rounded to the type */
    LB_KL_BF16
} lb_kl_how;

/* Words of scratch for n values. */
#define LB_KL_SCRATCH(n) (4 * (n))

/* sum p log(p / q), p = softmax(x) + 1e-8, q = softmax(y) + 1e-8 (Kullback and Leibler). Sums are
 * in double, in the order of the elements. scratch: aligned to 8. About 60 ns a value in double
 * (EPYC). */
float lb_kl_f32(const lb_kernels *k, size_t n, const float *x, const float *y, lb_kl_how how,
                float *scratch);

#endif
