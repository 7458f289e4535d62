/* SPDX-License-Identifier: Apache-2.0 */
/* merge_view.h: an input of a merge as tensors in Hugging Face's form, whatever it is stored as:
 * names, shapes, types, and the nodes of their values in a plan. */
#ifndef LB_OPS_MERGE_VIEW_H
#define LB_OPS_MERGE_VIEW_H

#include "merge/outline.h"
#include "ops/assemble.h"

/* Names of the table that begin so are stored with another beginning. */
typedef struct lb_merge_prefix {
    lb_str table, stored;
} lb_merge_prefix;
#define LB_MERGE_PREFIXES_MAX 8

typedef struct lb_merge_view {
    lb_ctensors canon;
    lb_merge_prefix prefix[LB_MERGE_PREFIXES_MAX]; /* the model's own way with names */
    u32 n_prefixes;
    lb_merge_fact *facts; /* [n] sorted by name; in the plan's arena */
    lb_node_id *nodes;    /* [n] of their values: f32, or as stored */
    u32 n;
    u64 n_layers;
    u32 counted; /* a fact of the layers that these are; n: none is */
} lb_merge_view;

/* Of the plan's source. like: whose way with names is taken (a class around the language model, a
 * missing "model."); NULL: its own. *v is to be deinitialised in any case. */
lb_status lb_merge_view_make(lb_plan *p, u32 source_index, const lb_merge_view *like,
                             lb_merge_view *v, lb_err *err);
/* The same in two steps: in between canon may be told what adapters change. */
lb_status lb_merge_view_begin(lb_plan *p, u32 source_index, lb_merge_view *v, lb_err *err);
lb_status lb_merge_view_finish(lb_plan *p, const lb_merge_view *like, lb_merge_view *v,
                               lb_err *err);
/* The same without a family: tensors by the names that they are stored under. */
lb_status lb_merge_view_raw(lb_plan *p, u32 source_index, lb_merge_view *v, lb_err *err);
void lb_merge_view_deinit(lb_merge_view *v);

/* Whether two tensors of integers hold the same; reads both. Computed ones differ. */
lb_status lb_merge_view_same(const lb_graph *g, lb_node_id a, lb_node_id b, bool *same,
                             lb_err *err);

#endif
