/* SPDX-License-Identifier: Apache-2.0 */
/* exact.h: sums in double that are rounded once, to float. */
#ifndef LB_KERNEL_EXACT_H
#define LB_KERNEL_EXACT_H

#include "base/base.h"

/* p + q rounded to odd in double: a later rounding to float (53 >= 2 * 24 + 2 bits) is that of the
 * exact sum (S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums", 2008). */
static inline double lb_sum_odd(double p, double q) {
    double s = p + q;
    const double q_part = s - p;
    const double rest = (p - (s - q_part)) + (q - q_part); /* TwoSum: p + q = s + rest */
    if (rest < 0 || rest > 0) { /* false where s is Inf or NaN: rest is NaN then */
        u64 bits;
        memcpy(&bits, &s, sizeof bits);
        if (!(bits & 1))
            bits = (rest > 0) == (s > 0) ? bits + 1 : bits - 1;
        memcpy(&s, &bits, sizeof s);
    }
    return s;
}

#endif
