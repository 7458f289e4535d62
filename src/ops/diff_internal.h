/* SPDX-License-Identifier: Apache-2.0 */
/* diff_internal.h: shared by the files of diff. */
#ifndef LB_OPS_DIFF_INTERNAL_H
#define LB_OPS_DIFF_INTERNAL_H

#include "ops/diff.h"
#include "plan/compare.h"

/* Figures of n values. */
void lb_diff_fill(lb_diff_row *row, const lb_compare *sum, u64 n, double tolerance);
/* A row that is finished: into the counts and totals. */
void lb_diff_count(lb_diff *d, const lb_diff_row *row);
/* Names that the result keeps, in the arena. */
lb_status lb_diff_keep_names(lb_diff *d, lb_arena *perm, lb_err *err);
/* Of models of which at least one is computed: tensors in Hugging Face's form, a plan's survey. */
lb_status lb_diff_computed(lb_diff *out, const lb_source *a, const lb_source *b,
                           const lb_diff_options *o, lb_arena *perm, lb_err *err);

#endif
