/* SPDX-License-Identifier: Apache-2.0 */
/* method_importance.c: means weighted by what each model's columns are used for. */
#include "merge/method.h"
#include <math.h>

/* y[:, c] = sum_i w_i d_i[c] x_i[:, c] / sum_i w_i d_i[c]; d_i the mean square of what comes in at
 * column c of the model's matrix, as an importance matrix has it. That is RegMean (Jin et al.,
 * arXiv 2212.09849) with the Gram matrices of the inputs cut down to their diagonals, and Fisher
 * merging (Matena and Raffel, arXiv 2111.09832) with a diagonal Fisher that is taken to be the same
 * for all rows. Columns that no model uses, and tensors of which the files say nothing: the mean by
 * the w_i alone. In f32, one rounding. */

static lb_node_id times(const lb_merge_job *j, lb_node_id a, lb_node_id b) {
    return lb_expr_map2(j->g, LB_MAP_MUL, a, b, LB_CONST(0));
}

static lb_status all_or_none(const lb_merge_method *m, const lb_merge_job *j, lb_err *err) {
    u32 n = 0;
    double total = 0;
    for (u32 i = 0; i < j->n_in; i++) {
        n += j->in[i].importance != LB_NODE_NONE;
        total += lb_merge_of(m, &j->in[i], "weight");
    }
    if (n != 0 && n != j->n_in)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s': %u of %u importance files have it: all or none must",
                       LB_FMT(j->name), n, j->n_in);
    if (total == 0)
        return lb_fail(err, LB_E_USAGE, "tensor '%.*s': all weights are zero", LB_FMT(j->name));
    return LB_OK;
}

/* c[i]: the part of each model, of each column; they add up to 1. */
static void shares(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *c) {
    lb_graph *g = j->g;
    lb_node_id sum = LB_NODE_NONE;
    for (u32 i = 0; i < j->n_in; i++) {
        double w = lb_merge_of(m, &j->in[i], "weight");
        sum = i ? lb_expr_map2(g, LB_MAP_FMA_C, j->in[i].importance, sum, LB_CONST(w))
                : lb_expr_map1(g, LB_MAP_MUL_C, j->in[0].importance, LB_CONST(w));
    }
    /* 1 where no model uses the column, so that all count by their weights */
    lb_node_id unused = lb_expr_map1(g, LB_MAP_ABOVE_C, sum, LB_CONST(0));
    unused = lb_expr_map1(g, LB_MAP_MUL_C, unused, LB_CONST(-1));
    unused = lb_expr_map1(g, LB_MAP_ADD_C, unused, LB_CONST(1));
    sum = LB_NODE_NONE;
    for (u32 i = 0; i < j->n_in; i++) {
        double w = lb_merge_of(m, &j->in[i], "weight");
        c[i] = lb_expr_map2(g, LB_MAP_ADD, j->in[i].importance, unused, LB_CONST(0));
        c[i] = lb_expr_map1(g, LB_MAP_MUL_C, c[i], LB_CONST(w));
        sum = i ? lb_expr_map2(g, LB_MAP_ADD, sum, c[i], LB_CONST(0)) : c[0];
    }
    for (u32 i = 0; i < j->n_in; i++)
        c[i] = lb_expr_map2(g, LB_MAP_DIV, c[i], sum, LB_CONST(0));
}

static lb_status build_importance(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                  lb_err *err) {
    lb_node_id *c = lb_arena_new(j->perm, lb_node_id, j->n_in);
    double total = 0;
    if (!c)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    LB_TRY(all_or_none(m, j, err));
    bool plain = j->in[0].importance == LB_NODE_NONE;
    if (!plain)
        shares(m, j, c);
    for (u32 i = 0; i < j->n_in; i++)
        total += lb_merge_of(m, &j->in[i], "weight");
    for (u32 i = 0; i < j->n_in; i++) {
        lb_node_id x = lb_merge_values(j, j->in[i].x);
        double w = lb_merge_of(m, &j->in[i], "weight") / total;
        if (plain)
            *out = i ? lb_expr_map2(j->g, LB_MAP_FMA_C, x, *out, LB_CONST(w))
                     : lb_expr_map1(j->g, LB_MAP_MUL_C, x, LB_CONST(w));
        else
            *out = i ? lb_expr_map2(j->g, LB_MAP_ADD, *out, times(j, x, c[i]), LB_CONST(0))
                     : times(j, x, c[0]);
    }
    return lb_graph_status(j->g, err);
}

static const lb_merge_param importance_params[] = {
    {.name = "importance",
     .scope = LB_MERGE_INPUT,
     .kind = LB_MERGE_FILE,
     .required = true,
     .initial = NAN},
    {.name = "weight", .scope = LB_MERGE_INPUT, .initial = 1, .min = 0, .max = 1e30},
};

const lb_merge_method lb_merge_importance = {
    .name = "importance",
    .title = "Importance-weighted mean (diagonal RegMean)",
    .source = "https://arxiv.org/abs/2212.09849",
    .params = importance_params,
    .n_params = LB_LEN(importance_params),
    .min_in = 1,
    .build = build_importance,
};
