/* SPDX-License-Identifier: Apache-2.0 */
/* method_della.c: della and della_linear: task arithmetic of differences of which elements are
 * dropped at random, the smaller ones of a row rather than the greater (della_magprune in
 * sparsify.py of mergekit 0.1.5). */
#include "merge/sparsify.h"
#include "merge/task_arithmetic.h"
#include <math.h>

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

/* mergekit's arithmetic of probabilities, whatever the rounding: which elements are kept hangs on
 * it. */
static lb_node_id mask_of(const lb_merge_job *j, lb_node_id delta, double density, double epsilon) {
    const lb_node *d = lb_graph_node(j->g, delta);
    lb_odds o = {density, epsilon, j->work == LB_BF16};
    if (d->n_cols == 1) /* first and last of its row: the mean */
        return lb_expr_bernoulli(j->g, d->n_rows, 1, density, j->carry);
    lb_node_id u = lb_expr_uniform(j->g, d->n_rows, d->n_cols, j->carry);
    return lb_expr_map2(j->g, LB_MAP_BELOW, u, lb_expr_row_odds(j->g, delta, &o), LB_CONST(0));
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
