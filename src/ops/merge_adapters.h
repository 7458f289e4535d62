/* SPDX-License-Identifier: Apache-2.0 */
/* merge_adapters.h: inputs of a merge that are its base with adapters on it: checked, and what they
 * add to each tensor. */
#ifndef LB_OPS_MERGE_ADAPTERS_H
#define LB_OPS_MERGE_ADAPTERS_H

#include "merge/method.h"
#include "ops/merge_view.h"

/* The models of the file, as they were opened. LB_E_FORMAT names one that is something else than
 * the base (whatever it is stored as) and one adapter or more. */
lb_status lb_merge_adapters_check(lb_source *const *models, const lb_merge_config *c, lb_err *err);
/* Fills in[].terms of a tensor's inputs. */
lb_status lb_merge_adapters_terms(const lb_graph *g, lb_merge_input *in, u32 n, lb_arena *perm,
                                  lb_err *err);
/* A line for people where tensors of the result have no factors in some input: how many, and the
 * first. views: of the models, in the plan of g. */
lb_status lb_merge_adapters_note(const lb_graph *g, const lb_merge_outline *outline,
                                 const lb_merge_view *views, lb_arena *perm, lb_buf *notes,
                                 lb_err *err);

#endif
