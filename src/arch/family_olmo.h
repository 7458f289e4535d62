/* SPDX-License-Identifier: Apache-2.0 */
/* family_olmo.h: what olmo2 and olmo3 share. For their tables only. */
#ifndef LB_ARCH_FAMILY_OLMO_H
#define LB_ARCH_FAMILY_OLMO_H

#include "arch/family_rows.h"

/* OLMo 2 and 3: norms behind attention and feed-forward, and on q and k as a whole. */
#define LB_ROWS_OLMO2                                                              \
    LB_ROWS_ENDS, LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE), LB_ROW_Q_NORM(LB_RL_NONE), \
        LB_ROW_K_NORM(LB_RL_NONE), LB_ROW_ATTN_POST_NORM(LB_RL_NONE), LB_ROWS_FFN, \
        LB_ROW_FFN_POST_NORM(LB_RL_NONE), LB_ROWS_INV_FREQ

#endif
