/* SPDX-License-Identifier: Apache-2.0 */
/* nn_exp64_tmpl.h: e^x of doubles for nn_<isa>.c and nn_ref.c, in words as nn_math_tmpl.h's: of
 * vd, a register of doubles,
 *
 *   vd_max(a, b), vd_min(a, b)  a > b ? a : b, a < b ? a : b: of NaN, b
 *   vd_powers(t, &a, &b)        k = t - 0.5 without its fraction, -2^30 < t <= 0, as doubles;
 *                               a b = 2^k, both above 2^-1022
 *   vd_above(x, lo, e)          x > lo ? e : 0 */
#ifndef LB_KERNEL_NN_EXP64_TMPL_H
#define LB_KERNEL_NN_EXP64_TMPL_H
#include "kernel/exp_series.h"

/* e^x by exp_series.h; what is above 0 as 0; 0 of NaN. */
LB_NN_INLINE vd nn_exp64_of(vd x) {
    const vd least = vd_set(-745.0), y = vd_max(vd_min(x, vd_set(0.0)), least);
    vd a, b;
    const vd k = vd_powers(vd_mul(y, vd_set(LB_EXP_LOG2_E)), &a, &b);
    vd r = vd_fma(k, vd_set(-LB_EXP_LN2_HIGH), y);
    r = vd_fma(k, vd_set(-LB_EXP_LN2_LOW), r);
    vd sum = vd_set(lb_exp_series[0]);
    for (u32 i = 1; i < LB_LEN(lb_exp_series); i++)
        sum = vd_fma(sum, r, vd_set(lb_exp_series[i]));
    return vd_above(x, least, vd_mul(vd_mul(sum, a), b));
}

#endif
