/* SPDX-License-Identifier: Apache-2.0 */
/* method_della.c: della and della_linear: task arithmetic of differences of which elements are
 * dropped at random, the smaller ones of a row rather than the greater (della_magprune in
 * sparsify.py of mergekit 0.1.5). */
#include "kernel/half.h"
#include "merge/sparsify.h"
#include "merge/task_arithmetic.h"
#include <math.h>

/* mergekit's arithmetic, whatever the rounding: which elements are kept hangs on it. */
typedef struct odds {
    lb_graph *g;
    bool bf16; /* else f32 */
} odds;

static lb_node_id step(const odds *o, lb_map_op op, lb_node_id x, double c) {
    x = lb_expr_map1(o->g, op, x, LB_CONST(c));
    return o->bf16 ? lb_expr_map1(o->g, LB_MAP_ROUND_BF16, x, LB_CONST(0)) : x;
}

static float rounded(const odds *o, float x) {
    return o->bf16 ? lb_bf16_to_f32(lb_bf16_from_f32(x)) : x;
}

/* (density - epsilon) + 2 epsilon (rank - 1) / (n - 1), where the ranks of a row go from 1 to n;
 * in bf16 they are rounded, and so is each step; of torch's numbers those that are added. */
static lb_node_id probabilities(const odds *o, lb_node_id delta, u64 n, double density,
                                double epsilon) {
    lb_node_id x = lb_expr_row(o->g, LB_ROW_RANK, delta);
    float last = rounded(o, rounded(o, (float)(n - 1)) + 1);
    if (o->bf16) { /* from 0, as it is in f32 */
        x = lb_expr_map1(o->g, LB_MAP_ROUND_BF16, x, LB_CONST(0));
        x = step(o, LB_MAP_ADD_C, x, 1);
        x = step(o, LB_MAP_ADD_C, x, -1);
    }
    x = step(o, LB_MAP_DIV_C, x, rounded(o, last - 1));
    x = lb_expr_map1(o->g, LB_MAP_MUL_C, x, LB_CONST(2));
    x = step(o, LB_MAP_MUL_C, x, epsilon);
    return step(o, LB_MAP_ADD_C, x, (double)rounded(o, (float)(density - epsilon)));
}

/* The difference as mergekit has it: what it ranks. */
static lb_node_id ranked(const lb_merge_job *j, const lb_merge_input *in, lb_node_id delta) {
    const lb_merge_input *base = lb_merge_base_of(j);
    lb_merge_job typed = *j;
    if (j->rounding == LB_MERGE_MERGEKIT)
        return delta;
    typed.rounding = LB_MERGE_MERGEKIT;
    if (in->dtype != j->work || base->dtype != j->work)
        delta = lb_expr_map2(j->g, LB_MAP_SUB, lb_merge_typed(&typed, in),
                             lb_merge_typed(&typed, base), LB_CONST(0));
    return lb_merge_round(&typed, delta);
}

static lb_node_id mask_of(const lb_merge_job *j, lb_node_id delta, double density, double epsilon) {
    const lb_node *d = lb_graph_node(j->g, delta);
    odds o = {j->g, j->work == LB_BF16};
    if (d->n_cols == 1) /* first and last of its row: the mean */
        return lb_expr_bernoulli(j->g, d->n_rows, 1, rounded(&o, (float)density), j->carry);
    lb_node_id u = lb_expr_uniform(j->g, d->n_rows, d->n_cols, j->carry);
    lb_node_id p = probabilities(&o, delta, d->n_cols, density, epsilon);
    return lb_expr_map2(j->g, LB_MAP_BELOW, u, p, LB_CONST(0));
}

static lb_status prune(const lb_merge_method *m, const lb_merge_job *j, const lb_merge_input *in,
                       lb_node_id *delta, lb_err *err) {
    double density = lb_merge_of(m, in, "density"), epsilon = lb_merge_of(m, in, "epsilon");
    const lb_node *d = lb_graph_node(j->g, *delta);
    if (density >= 1 || !d)
        return lb_graph_status(j->g, err);
    if (density <= 0) {
        *delta = lb_expr_fill(j->g, d->n_rows, d->n_cols, 0);
        return lb_graph_status(j->g, err);
    }
    if (density + fabs(epsilon) >= 1 || density - fabs(epsilon) <= 0)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s': density %g and epsilon %g: density - epsilon must be above "
                       "0, density + epsilon below 1",
                       LB_FMT(j->name), density, epsilon);
    lb_node_id mask = mask_of(j, ranked(j, in, *delta), density, epsilon);
    lb_node_id kept = lb_expr_map2(j->g, LB_MAP_MUL, *delta, mask, LB_CONST(0));
    if (lb_merge_shared(m, j, "rescale") != 0)
        kept = lb_merge_rescale(j, j->work == LB_BF16 ? LB_BF16 : LB_F32, *delta, kept);
    *delta = kept;
    return lb_graph_status(j->g, err);
}

static lb_status build_della(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                             lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.consensus = true, .sparsify = prune},
                               out, err);
}

static lb_status build_della_linear(const lb_merge_method *m, const lb_merge_job *j,
                                    lb_node_id *out, lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.sparsify = prune}, out, err);
}

#define EPSILON \
    { .name = "epsilon", .scope = LB_MERGE_NON_BASE, .initial = 0.15 }
static const lb_merge_param della_params[] = {LB_MERGE_TASK_PARAMS(1, 1), EPSILON};
static const lb_merge_param della_linear_params[] = {LB_MERGE_TASK_PARAMS(0, 1), EPSILON};

const lb_merge_method lb_merge_della = {
    .name = "della",
    .title = "DELLA",
    .source = "https://arxiv.org/abs/2406.11617",
    .params = della_params,
    .n_params = LB_LEN(della_params),
    .base = LB_BASE_REQUIRED,
    .draws = true,
    .build = build_della,
};

const lb_merge_method lb_merge_della_linear = {
    .name = "della_linear",
    .title = "Linear DELLA",
    .source = "https://arxiv.org/abs/2406.11617",
    .params = della_linear_params,
    .n_params = LB_LEN(della_linear_params),
    .base = LB_BASE_REQUIRED,
    .draws = true,
    .build = build_della_linear,
};
