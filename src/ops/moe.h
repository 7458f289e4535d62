/* SPDX-License-Identifier: Apache-2.0 */
/* moe.h: a file of mergekit-moe as a model that is computed: a dense base whose feed-forward
 * layers are those of several models, behind a router. */
#ifndef LB_OPS_MOE_H
#define LB_OPS_MOE_H

#include "merge/moe_result.h"
#include "ops/computed.h"
#include "ops/merge.h"
#include "ops/moe_gates.h"

typedef struct lb_moe_opts {
    u64 seed;
    bool all_same;                 /* experts may be one model */
    const lb_merge_around *around; /* NULL but for one within another file */
    lb_moe_limits limits;          /* of running the base */
} lb_moe_opts;

/* Whether the file at path is one: named .yml or .yaml, with experts. */
bool lb_moe_is_file(const char *path);
/* Opens the file and its models, as lb_merge_open does. For the mode cheap_embed the rows of the
 * embedding that the prompts name are read, to see whether they tell the experts apart; for the
 * modes by states the base runs on the prompts. */
lb_status lb_moe_open(lb_source **out, const char *path, const lb_moe_opts *o, lb_err *err);

#endif
