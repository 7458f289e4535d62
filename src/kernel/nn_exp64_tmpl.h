/* SPDX-License-Identifier: Apache-2.0 */
/* nn_exp64_tmpl.h: e^x of doubles for nn_<isa>.c and nn_ref.c, in words as nn_math_tmpl.h's: of
 * vd, a register of doubles,
 *
 *   vd_max(a, b), vd_min(a, b)  a > b ? a : b, a < b ? a : b: of NaN, b
 *   vd_powers(t, &a, &b)        k = t - 0.5 without its fraction, -2^30 < t <= 0, as doubles; a b =
 * 2^k, both above 2^-1022 vd_above(x, lo, e)          x > lo ? e : 0
 *
 * ln 2 in two parts: the first has 32 bits, so that its multiples are exact. */
#ifndef LB_KERNEL_NN_EXP64_TMPL_H
#define LB_KERNEL_NN_EXP64_TMPL_H

/* x = k ln 2 + r, -0.35 < r < 0.35 or so, and the series of e^r to r^14; what is above 0 as 0; 0 of
 * NaN. */
LB_NN_INLINE vd nn_exp64_of(vd x) {
    static const double c[] = {1.0 / 6227020800,
                               1.0 / 479001600,
                               1.0 / 39916800,
                               1.0 / 3628800,
                               1.0 / 362880,
                               1.0 / 40320,
                               1.0 / 5040,
                               1.0 / 720,
                               1.0 / 120,
                               1.0 / 24,
                               1.0 / 6,
                               0.5,
                               1.0,
                               1.0};
    const vd least = vd_set(-745.0), y = vd_max(vd_min(x, vd_set(0.0)), least);
    vd a, b;
    const vd k = vd_powers(vd_mul(y, vd_set(0x1.71547652b82fep+0)), &a, &b);
    vd r = vd_fma(k, vd_set(-0x1.62e42feep-1), y);
    r = vd_fma(k, vd_set(-0x1.a39ef35793c76p-33), r);
    vd sum = vd_set(1.0 / 87178291200);
    for (u32 i = 0; i < LB_LEN(c); i++)
        sum = vd_fma(sum, r, vd_set(c[i]));
    return vd_above(x, least, vd_mul(vd_mul(sum, a), b));
}

#endif
