/* SPDX-License-Identifier: Apache-2.0 */
/* task_arithmetic.h: the pipeline that task arithmetic and its kin share: differences to the base,
 * thinned out, weighted, those that agree in sign picked, added up, divided, scaled, added to the
 * base (generalized_task_arithmetic.py of mergekit 0.1.5). Layer merge only. */
#ifndef LB_MERGE_TASK_ARITHMETIC_H
#define LB_MERGE_TASK_ARITHMETIC_H

#include "merge/method.h"

/* How a method of the family does it. */
typedef struct lb_merge_task_way {
    bool consensus; /* only weighted differences of the sign that their sum has count */
    /* What is left of an input's difference *delta, which is replaced; NULL: all of it. */
    lb_status (*sparsify)(const lb_merge_method *m, const lb_merge_job *j, const lb_merge_input *in,
                          lb_node_id *delta, lb_err *err);
} lb_merge_task_way;

lb_status lb_merge_task_build(const lb_merge_method *m, const lb_merge_job *j,
                              const lb_merge_task_way *way, lb_node_id *out, lb_err *err);

/* Parameters that all of the family have, with the defaults of normalize and rescale. */
#define LB_MERGE_TASK_PARAMS(normalize_, rescale_)                               \
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .required = true},            \
        {.name = "density", .scope = LB_MERGE_NON_BASE, .initial = 1, .max = 1}, \
        {.name = "normalize", .kind = LB_MERGE_BOOL, .initial = (normalize_)},   \
        {.name = "rescale", .kind = LB_MERGE_BOOL, .initial = (rescale_)},       \
        {.name = "lambda", .initial = 1}, {                                      \
        .name = "int8_mask", .kind = LB_MERGE_BOOL                               \
    }

#endif
