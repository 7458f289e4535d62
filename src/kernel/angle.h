/* SPDX-License-Identifier: Apache-2.0 */
/* angle.h: sine, cosine and inverse cosine in double, the same bits on every machine (libm's are
 * not): additions, multiplications, divisions and roots only, in one order. For angles of a few
 * turns; within 2^-50 of the exact value. */
#ifndef LB_KERNEL_ANGLE_H
#define LB_KERNEL_ANGLE_H

double lb_sin_f64(double x);
double lb_cos_f64(double x);
double lb_acos_f64(double x); /* x in [-1, 1] */

#endif
