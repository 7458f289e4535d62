/* SPDX-License-Identifier: Apache-2.0 */
/* sphere.h: methods whose result is a linear combination of the inputs (or of their differences to
 * a base) with coefficients made from all dot products among them. Layer merge only. */
#ifndef LB_MERGE_SPHERE_H
#define LB_MERGE_SPHERE_H

#include "merge/method.h"

/* Inputs without the base; differences to it where there is one. */
typedef struct lb_merge_points {
    lb_node_id base;   /* LB_NODE_NONE */
    lb_node_id *point; /* [n] */
    const lb_merge_input **in;
    u32 n;
} lb_merge_points;

/* with_base: the base is a point like the others, and there are no differences. LB_E_LIMIT: more
 * than LB_GRAM_MAX points. */
lb_status lb_merge_points_make(const lb_merge_method *m, const lb_merge_job *j, bool with_base,
                               lb_merge_points *out, lb_err *err);
/* sum result[i] * x_i of the stat, added to start (LB_NODE_NONE: nothing): fused in f32. */
lb_node_id lb_merge_mix(const lb_merge_job *j, const lb_node_id *x, u32 n, lb_node_id stat,
                        lb_node_id start);
/* a op result[i] of a stat, rounded to the work type with mergekit's rounding. */
lb_node_id lb_merge_by(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id stat,
                       u32 result);
/* a + b or another map of two, rounded likewise. */
lb_node_id lb_merge_map2(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id b);

/* First parameter of formulas: how their numbers are rounded: 0: not, else an lb_dtype + 1. */
double lb_merge_number_type(const lb_merge_job *j);
double lb_merge_typed_number(double type, double x);

#endif
