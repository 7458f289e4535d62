/* SPDX-License-Identifier: Apache-2.0 */
/* select_nm.h: which n of m neighbours are kept, by magnitude: n:m pruning that takes what others
 * have not taken. The same on every machine: comparisons only. */
#ifndef LB_KERNEL_SELECT_NM_H
#define LB_KERNEL_SELECT_NM_H

#include "base/base.h"

#define LB_NM_MAX 4096 /* neighbours */

/* Of each `of` neighbours of x [n_elems] (the last group may be shorter, and keeps its share,
 * rounded up) `keep` get a 1 in out, the others a 0: the largest of those that are not claimed; if
 * these are fewer, all of them, and the largest of the claimed ones. Zeros are never kept; of equal
 * magnitudes the first; NaN is larger than all. claimed: NULL, or not 0 where it is. out may be one
 * of the inputs. */
void lb_select_nm(size_t n_elems, u32 keep, u32 of, float *out, const float *x,
                  const float *claimed);

#endif
