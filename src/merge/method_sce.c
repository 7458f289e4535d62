/* SPDX-License-Identifier: Apache-2.0 */
/* method_sce.c: sce: select, calculate, erase: the differences where the models differ most,
 * weighted by their energy, those that agree in sign with their sum (sce.py of mergekit 0.1.5). */
#include "merge/sphere.h"
#include <math.h>

/* norm: sums of squares. param: type, elements. out: the weights. */
static const char *sce_formula(const lb_formula *f, const double *norm, u32 n, double *out) {
    double type = f->param[0], sum = 0;
    float mean[LB_GRAM_MAX];
    for (u32 i = 0; i < n; i++) {
        out[i] = lb_merge_typed_number(type, norm[i] / f->param[1]);
        mean[i] = (float)out[i];
        sum += out[i];
    }
    if (type != 0) {
        lb_dtype t = (lb_dtype)((int)type - 1);
        sum = lb_merge_typed_number(type, (double)lb_merge_total(t, mean, n));
    }
    for (u32 i = 0; i < n; i++)
        out[i] = lb_merge_typed_number(type, fabs(sum) < 1e-6 ? 1.0 / n : out[i] / sum);
    return NULL;
}

/* What is left of the differences where their variance is among the largest: of int(topk k)
 * elements of the k in which it is not 0. */
static void select_most(const lb_merge_job *j, lb_merge_points *p, double topk) {
    lb_graph *g = j->g;
    lb_node_id mask = LB_NODE_NONE;
    if (topk > 0) {
        mask = lb_merge_round(j, lb_expr_variance(g, p->point, p->n));
        mask = lb_expr_keep(g, lb_expr_select_nonzero(g, mask, topk));
        mask = lb_expr_map1(g, LB_MAP_ABOVE_C, mask, LB_CONST(0));
    }
    for (u32 i = 0; i < p->n; i++)
        p->point[i] = topk > 0 ? lb_expr_map2(g, LB_MAP_MUL, p->point[i], mask, LB_CONST(0))
                               : lb_expr_map1(g, LB_MAP_MUL_C, p->point[i], LB_CONST(0));
}

/* Their weights: mean squares, divided by the sum of all. */
static lb_node_id energies(const lb_merge_method *m, const lb_merge_job *j,
                           const lb_merge_points *p) {
    const lb_node *n = lb_graph_node(j->g, p->base);
    double param[2] = {lb_merge_number_type(j), (double)n->n_rows * (double)n->n_cols};
    lb_formula f = {
        .name = m->name, .run = sce_formula, .param = param, .n_params = 2, .n_out = p->n};
    if (j->rounding != LB_MERGE_MERGEKIT)
        return lb_expr_norms(j->g, LB_STAT_NORMS2, p->point, p->n, &f);
    lb_node_id square[LB_GRAM_MAX];
    for (u32 i = 0; i < p->n; i++)
        square[i] = lb_merge_map2(j, LB_MAP_MUL, p->point[i], p->point[i]);
    return lb_expr_norms(j->g, LB_STAT_NORMS1, square, p->n, &f);
}

static lb_status build_sce(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                           lb_err *err) {
    lb_graph *g = j->g;
    lb_merge_points p;
    lb_node_id weight[LB_GRAM_MAX], term[LB_GRAM_MAX];
    double topk = lb_merge_shared(m, j, "select_topk");
    LB_TRY(lb_merge_points_make(m, j, false, &p, err));
    LB_TRY(lb_graph_status(g, err));
    const lb_node *base = lb_graph_node(g, p.base);
    *out = p.base;
    if (p.n == 0 || base->n_rows == 0 || base->n_cols == 0)
        return LB_OK;
    if (topk < 1)
        select_most(j, &p, topk);
    lb_node_id all = lb_merge_sum(j, p.point, p.n), energy = energies(m, j, &p);
    for (u32 i = 0; i < p.n; i++) {
        weight[i] = lb_expr_map2(g, LB_MAP_AGREE, p.point[i], all, LB_CONST(0));
        weight[i] =
            lb_expr_map1(g, LB_MAP_MUL_C, weight[i], (lb_scalar){.stat = energy, .result = i});
        term[i] = lb_merge_map2(j, LB_MAP_MUL, p.point[i], weight[i]);
    }
    lb_node_id total = lb_expr_map1(g, LB_MAP_MAX_C, lb_merge_sum(j, weight, p.n),
                                    LB_CONST(lb_merge_round_number(j, 1e-6)));
    lb_node_id mean = lb_merge_map2(j, LB_MAP_DIV, lb_merge_sum(j, term, p.n), total);
    *out = lb_merge_map2(j, LB_MAP_ADD, p.base, mean);
    return lb_graph_status(g, err);
}

static const lb_merge_param sce_params[] = {
    {.name = "select_topk", .initial = 1},
    {.name = "int8_mask", .kind = LB_MERGE_BOOL},
};

const lb_merge_method lb_merge_sce = {
    .name = "sce",
    .title = "SCE",
    .source = "https://arxiv.org/abs/2408.07990",
    .params = sce_params,
    .n_params = LB_LEN(sce_params),
    .base = LB_BASE_REQUIRED,
    .build = build_sce,
};
