/* SPDX-License-Identifier: Apache-2.0 */
/* method_dare.c: dare_linear and dare_ties: task arithmetic of differences of which elements are
 * dropped at random (bernoulli in sparsify.py of mergekit 0.1.5). */
#include "kernel/half.h"
#include "merge/sparsify.h"
#include "merge/task_arithmetic.h"

/* Of each element one number u is drawn; kept where u < density. bf16 models: density as bf16 has
 * it. The same in both roundings: which elements are kept does not depend on how they are computed
 * with. Nothing is drawn where all is kept. */
static lb_status drop(const lb_merge_method *m, const lb_merge_job *j, const lb_merge_input *in,
                      lb_node_id *delta, lb_err *err) {
    double density = lb_merge_of(m, in, "density");
    const lb_node *d = lb_graph_node(j->g, *delta);
    lb_dtype type = j->work == LB_BF16 ? LB_BF16 : LB_F32;
    float p = (float)density;
    if (density >= 1 || !d)
        return lb_graph_status(j->g, err);
    if (type == LB_BF16)
        p = lb_bf16_to_f32(lb_bf16_from_f32(p));
    lb_node_id mask = lb_expr_bernoulli(j->g, d->n_rows, d->n_cols, p, j->carry);
    lb_node_id kept = lb_expr_map2(j->g, LB_MAP_MUL, *delta, mask, LB_CONST(0));
    if (lb_merge_shared(m, j, "rescale") != 0)
        kept = lb_merge_rescale(j, type, *delta, kept);
    *delta = kept;
    return lb_graph_status(j->g, err);
}

static lb_status build_dare_linear(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                   lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.sparsify = drop}, out, err);
}

static lb_status build_dare_ties(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                 lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.consensus = true, .sparsify = drop}, out,
                               err);
}

static const lb_merge_param params[] = {LB_MERGE_TASK_PARAMS(0, 1)};

const lb_merge_method lb_merge_dare_linear = {
    .name = "dare_linear",
    .title = "Linear DARE",
    .source = "https://arxiv.org/abs/2311.03099",
    .params = params,
    .n_params = LB_LEN(params),
    .base = LB_BASE_REQUIRED,
    .draws = true,
    .build = build_dare_linear,
};

const lb_merge_method lb_merge_dare_ties = {
    .name = "dare_ties",
    .title = "DARE TIES",
    .source = "https://arxiv.org/abs/2311.03099",
    .params = params,
    .n_params = LB_LEN(params),
    .base = LB_BASE_REQUIRED,
    .draws = true,
    .build = build_dare_ties,
};
