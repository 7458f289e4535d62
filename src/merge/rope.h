/* SPDX-License-Identifier: Apache-2.0 */
/* rope.h: vectors turned by the angles of a position, as rotary embeddings turn queries: which
 * position turns one vector nearest to another (mergekit 0.1.5's mp_rope). In double, but for the
 * vectors themselves. */
#ifndef LB_MERGE_ROPE_H
#define LB_MERGE_ROPE_H

#include "base/base.h"

/* Each of n_heads heads has two halves, whose i-th elements turn by frequency[i]. */
typedef struct lb_rope {
    u64 n_heads, half;
    const double *frequency; /* [half] base^(-i / half) */
} lb_rope;

/* frequency: [d / n_heads / 2], filled. d / n_heads is even. */
void lb_rope_init(lb_rope *r, u64 d, u64 n_heads, double base, double *frequency);
/* Of x, so that it becomes like y or like -y: the one that is nearer to 0. */
double lb_rope_position(const lb_rope *r, const float *x, const float *y);
void lb_rope_turn(const lb_rope *r, double position, float *x);

#endif
