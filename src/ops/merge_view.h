/* SPDX-License-Identifier: Apache-2.0 */
/* merge_view.h: an input of a merge as tensors in Hugging Face's form, whatever it is stored as:
 * names, shapes, types, and the nodes of their values in a plan. */
#ifndef LB_OPS_MERGE_VIEW_H
#define LB_OPS_MERGE_VIEW_H

#include "merge/outline.h"
#include "ops/assemble.h"

typedef struct lb_merge_view {
    lb_ctensors canon;
    lb_merge_fact *facts; /* [n] sorted by name; in the plan's arena */
    lb_node_id *nodes;    /* [n] of their values: f32, or as stored; NONE: of several parts */
    u32 n;
    u64 n_layers;
} lb_merge_view;

/* Of the plan's source. *v is to be deinitialised in any case. */
lb_status lb_merge_view_make(lb_plan *p, u32 source_index, lb_merge_view *v, lb_err *err);
void lb_merge_view_deinit(lb_merge_view *v);

#endif
