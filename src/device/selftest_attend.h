/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_attend.h: cases of attention, and what they should give as sums in double: of
 * selftest_attend.c and selftest_flash.c. */
#ifndef LB_DEVICE_SELFTEST_ATTEND_H
#define LB_DEVICE_SELFTEST_ATTEND_H

#include "device/selftest_cases.h"

typedef struct lb_selftest_att_case {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, n_table, window, split_rows, type;
    float softcap;
    bool hole; /* a page that the table does not have */
} lb_selftest_att_case;

typedef struct lb_selftest_att {
    lb_attend_args a;
    const float *q;
    const u8 *cache;
    const u32 *table, *tokens;
} lb_selftest_att;

/* Sums of a token's head over positions [from, end), and how far they may be off. */
typedef struct lb_selftest_att_sums {
    double max, sum, bound_score;
    double value[LB_DEV_HEAD_MAX], size[LB_DEV_HEAD_MAX];
    bool nan;
} lb_selftest_att_sums;

/* What a token's head sees of a split. */
typedef struct lb_selftest_view {
    u32 token, head, from, end;
} lb_selftest_view;

/* Queries, a cache, tables and tokens; tile: all positions at once, else in splits. False: out of
 * memory. */
bool lb_selftest_att_make(lb_selftest *t, const lb_selftest_att_case *k, bool tile,
                          lb_selftest_att *x);
/* weight [positions of the view]: room for the scores. */
void lb_selftest_att_sum(const lb_selftest_att *x, const lb_selftest_view *w, float *weight,
                         lb_selftest_att_sums *s);

#endif
