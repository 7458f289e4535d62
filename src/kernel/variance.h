/* SPDX-License-Identifier: Apache-2.0 */
/* variance.h: how far the values of several matrices lie apart, element by element. */
#ifndef LB_KERNEL_VARIANCE_H
#define LB_KERNEL_VARIANCE_H

#include "base/base.h"

/* Population variance of x[0][i] .. x[n_in - 1][i], in Welford's order as torch.var has it: with
 * steps in double (for 16-bit types too). out may be one of the inputs. */
void lb_variance_f32(size_t n_elems, u32 n_in, float *out, const float *const *x);

#endif
