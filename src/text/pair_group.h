/* SPDX-License-Identifier: Apache-2.0 */
/* pair_group.h: the numbers of merges that are given as texts: left, right and what they give.
 * There are half a million of them, so they are looked up some at a time
 * (lb_texts_index_find_many). Internal to text/. */
#ifndef LB_TEXT_PAIR_GROUP_H
#define LB_TEXT_PAIR_GROUP_H

#include "base/texts.h"

#define LB_PAIR_GROUP (LB_TEXTS_SEARCHES / 3)

typedef struct lb_pair_group {
    lb_buf texts; /* left, right, one pair behind the other */
    u32 len[LB_PAIR_GROUP][2];
    u32 n;
    bool too_long; /* a part of more than 4 GiB */
} lb_pair_group;

/* Copies the pair; n must be below LB_PAIR_GROUP. */
void lb_pair_group_add(lb_pair_group *g, const lb_str pair[2]);
/* Empties the group: s [3 * n] left, right, joined, good until the next lb_pair_group_add; id [3 *
 * n]: UINT32_MAX: no token. Both have room for 3 * LB_PAIR_GROUP. */
lb_status lb_pair_group_find(lb_pair_group *g, const lb_texts_index *id_of, const lb_texts *token,
                             lb_str *s, u32 *id, lb_err *err);
void lb_pair_group_deinit(lb_pair_group *g);

#endif
