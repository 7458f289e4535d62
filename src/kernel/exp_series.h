/* SPDX-License-Identifier: Apache-2.0 */
/* exp_series.h: e^x in double, x = k ln 2 + r: the terms of e^r from r^14 / 14! down, which for |r|
 * < 0.35 are enough, and ln 2 in two parts, of which the first has 32 bits: its multiples by k are
 * exact. */
#ifndef LB_KERNEL_EXP_SERIES_H
#define LB_KERNEL_EXP_SERIES_H

#define LB_EXP_LOG2_E 0x1.71547652b82fep+0
#define LB_EXP_LN2_HIGH 0x1.62e42feep-1
#define LB_EXP_LN2_LOW 0x1.a39ef35793c76p-33

static const double lb_exp_series[] = {1.0 / 87178291200,
                                       1.0 / 6227020800,
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

#endif
