/* SPDX-License-Identifier: Apache-2.0 */
/* method_linear.c: passthrough and linear. */
#include "merge/method.h"
#include <math.h>

/* ---- passthrough ---- */

/* result = scale * x; without a scale the input as it is stored. Of torch's products only the
 * result is rounded, not the number. */
static lb_status build_passthrough(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                   lb_err *err) {
    double scale = lb_merge_of(m, &j->in[0], "scale");
    *out = j->in[0].x;
    if (scale == scale) { /* NaN: none was given */
        lb_node_id x = lb_merge_typed(j, &j->in[0]);
        x = lb_expr_map1(j->g, LB_MAP_MUL_C, x, LB_CONST(scale));
        *out = lb_merge_round(j, x);
    }
    return lb_graph_status(j->g, err);
}

static const lb_merge_param passthrough_params[] = {
    {.name = "scale", .scope = LB_MERGE_INPUT, .initial = NAN},
};

const lb_merge_method lb_merge_passthrough = {
    .name = "passthrough",
    .title = "Passthrough",
    .source = "merge_methods/passthrough.py of mergekit 0.1.5",
    .params = passthrough_params,
    .n_params = LB_LEN(passthrough_params),
    .min_in = 1,
    .max_in = 1,
    .build = build_passthrough,
};

/* ---- linear ---- */

/* result = sum w_i x_i, divided by sum w_i where they are normalized; fused multiply-adds in f32 in
 * the order of the file, one rounding (linear.py of mergekit 0.1.5, where that is to the work type
 * and the sum begins with +0). */
static lb_status build_linear(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                              lb_err *err) {
    lb_node_id sum = LB_NODE_NONE;
    float *weight = lb_arena_new(j->perm, float, j->n_in + 1), total;
    if (!weight)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < j->n_in; i++) {
        float w = (float)lb_merge_of(m, &j->in[i], "weight");
        lb_node_id x = lb_merge_typed(j, &j->in[i]);
        weight[i] = w;
        sum = i ? lb_expr_map2(j->g, LB_MAP_FMA_C, x, sum, LB_CONST(w))
                : lb_expr_map1(j->g, LB_MAP_MUL_C, x, LB_CONST(w));
        if (i == 0 && j->rounding == LB_MERGE_MERGEKIT)
            sum = lb_expr_map1(j->g, LB_MAP_ADD_C, sum, LB_CONST(0));
    }
    total = lb_merge_total(LB_F32, weight, j->n_in);
    if (lb_merge_shared(m, j, "normalize") != 0) {
        if (total == 0)
            return lb_fail(err, LB_E_USAGE,
                           "tensor '%.*s': the weights add up to zero: they cannot be normalized",
                           LB_FMT(j->name));
        if (total != 1)
            sum = lb_expr_map1(j->g, LB_MAP_DIV_C, sum, LB_CONST(total));
    }
    *out = lb_merge_round(j, sum);
    return lb_graph_status(j->g, err);
}

static const lb_merge_param linear_params[] = {
    {.name = "weight", .scope = LB_MERGE_INPUT, .required = true},
    {.name = "normalize", .scope = LB_MERGE_SHARED, .kind = LB_MERGE_BOOL, .initial = 1},
};

const lb_merge_method lb_merge_linear = {
    .name = "linear",
    .title = "Linear",
    .source = "https://arxiv.org/abs/2203.05482",
    .params = linear_params,
    .n_params = LB_LEN(linear_params),
    .min_in = 1,
    .build = build_linear,
};
