/* SPDX-License-Identifier: Apache-2.0 */
/* merge_importance.h: importance matrices as inputs of a merge: how much each column of a matrix
 * counts, as nodes of the plan over the file's sums. */
#ifndef LB_OPS_MERGE_IMPORTANCE_H
#define LB_OPS_MERGE_IMPORTANCE_H

#include "ops/merge_view.h"

/* Every value is read once and checked: NaN, infinite or negative ones are LB_E_FORMAT. */
lb_status lb_merge_importance_open(lb_source **out, const char *path, lb_err *err);
/* Of fact `fact` of a view from the plan's source `file`: 1 x columns; rows x 1 where Hugging Face
 * stores inputs times outputs; one row for each of a stack of matrices. LB_NODE_NONE: the file says
 * nothing of it. LB_E_FORMAT: it is of another size. */
lb_status lb_merge_importance_make(lb_plan *p, u32 file, const lb_merge_view *v, u32 fact,
                                   lb_node_id *out, lb_err *err);

#endif
