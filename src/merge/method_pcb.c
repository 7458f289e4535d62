/* SPDX-License-Identifier: Apache-2.0 */
/* method_pcb.c: parameter competition balancing (Du et al., arXiv 2410.02396, section 3). In f32,
 * one rounding, whatever --rounding says: mergekit 0.1.5 has no such method.
 *
 * Of the differences d_i of N models to the base, over one tensor:
 *     intra_i = softmax(N Norm(d_i d_i))            what weighs in its own model
 *     inter_i = sum_j softmax(Norm(d_i d_j))        what models have in common
 *     beta_i  = intra_i inter_i, of which the largest `density` are kept, the others 0
 *     y = base + lambda sum_i w_i beta_i d_i / sum_i beta_i
 * Norm(x) = (x - min) / (max - min), as the authors' pcb-merging.py has it; the paper takes the
 * whole model as one vector. Needs ranges, sums of exponentials and a selection: three readings
 * before the last. */
#include "merge/method.h"

#define MODELS_MAX 8 /* pairs of them: ranges and sums of 36 products */

typedef struct pcb {
    lb_node_id base, delta[MODELS_MAX];
    lb_node_id part[MODELS_MAX][MODELS_MAX]; /* exp(Norm(d_i d_j)) */
    lb_node_id beta[MODELS_MAX];
    const lb_merge_input *in[MODELS_MAX];
    u32 n;
} pcb;

static lb_node_id map2(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id b) {
    return lb_expr_map2(j->g, op, a, b, LB_CONST(0));
}

static lb_node_id stat_of(const lb_merge_job *j, lb_stat_op op, lb_node_id x) {
    return lb_expr_stat(j->g, op, x, LB_NODE_NONE, 0);
}

/* exp(z) but for a factor that softmax takes away, z from 0 to 1: Taylor's polynomial of exp((z -
 * 1/2) / 4), whose remainder is below 2^-27, to the fourth. Products and sums in f32, the same
 * everywhere; an exp that rounds correctly takes twenty times as long. */
static lb_node_id exp_of(const lb_merge_job *j, lb_node_id z) {
    static const double next[] = {1.0 / 24, 1.0 / 6, 0.5, 1};
    lb_graph *g = j->g;
    lb_node_id x = lb_expr_map1(g, LB_MAP_MUL_C, z, LB_CONST(0.25));
    x = lb_expr_map1(g, LB_MAP_ADD_C, x, LB_CONST(-0.125));
    lb_node_id p = lb_expr_map1(g, LB_MAP_MUL_C, x, LB_CONST(1.0 / 120));
    for (u32 i = 0; i < LB_LEN(next); i++)
        p = map2(j, LB_MAP_MUL, lb_expr_map1(g, LB_MAP_ADD_C, p, LB_CONST(next[i])), x);
    p = lb_expr_map1(g, LB_MAP_ADD_C, p, LB_CONST(1));
    p = map2(j, LB_MAP_MUL, p, p);
    return map2(j, LB_MAP_MUL, p, p);
}

static lb_node_id over_sum(const lb_merge_job *j, lb_node_id x) {
    return lb_expr_map1(j->g, LB_MAP_MUL_C, x,
                        (lb_scalar){.stat = stat_of(j, LB_STAT_SUM, x), .fn = LB_SCALAR_INV});
}

/* exp(Norm(x)), likewise. */
static lb_node_id exp_norm(const lb_merge_job *j, lb_node_id x) {
    lb_node_id range = stat_of(j, LB_STAT_RANGE, x);
    x = lb_expr_map1(j->g, LB_MAP_ADD_C, x, (lb_scalar){.stat = range, .fn = LB_SCALAR_NEG});
    return exp_of(j, lb_expr_map1(j->g, LB_MAP_MUL_C, x,
                                  (lb_scalar){.stat = range, .fn = LB_SCALAR_INV_SPAN}));
}

static lb_status prepare(const lb_merge_job *j, pcb *p, lb_err *err) {
    *p = (pcb){.base = lb_merge_values(j, lb_merge_base_of(j)->x)};
    for (u32 i = 0; i < j->n_in; i++) {
        if (j->in[i].is_base)
            continue;
        if (p->n == MODELS_MAX)
            return lb_fail(err, LB_E_LIMIT,
                           "tensor '%.*s': pcb takes up to %d models beside the base",
                           LB_FMT(j->name), MODELS_MAX);
        p->in[p->n] = &j->in[i];
        p->delta[p->n++] = map2(j, LB_MAP_SUB, lb_merge_values(j, j->in[i].x), p->base);
    }
    return LB_OK;
}

/* The largest int(density n) of x, at least one. */
static lb_node_id largest(const lb_merge_job *j, lb_node_id x, double density) {
    if (x == LB_NODE_NONE || density >= 1)
        return x;
    const lb_node *n = lb_graph_node(j->g, x);
    double all = (double)(n->n_rows * n->n_cols);
    u64 k = LB_MAX((u64)(density * all), 1);
    return lb_expr_keep(j->g, lb_expr_select(j->g, x, &k, 1, NULL));
}

static void compete(const lb_merge_method *m, const lb_merge_job *j, pcb *p) {
    for (u32 i = 0; i < p->n; i++)
        for (u32 k = 0; k <= i; k++)
            p->part[i][k] = p->part[k][i] =
                exp_norm(j, map2(j, LB_MAP_MUL, p->delta[i], p->delta[k]));
    for (u32 i = 0; i < p->n; i++) {
        lb_node_id inter = over_sum(j, p->part[i][0]), intra = p->part[i][i];
        for (u32 k = 1; k < p->n; k++) {
            inter = map2(j, LB_MAP_ADD, inter, over_sum(j, p->part[i][k]));
            intra = map2(j, LB_MAP_MUL, intra, p->part[i][i]); /* exp(N z) */
        }
        intra = over_sum(j, intra);
        p->beta[i] =
            largest(j, map2(j, LB_MAP_MUL, intra, inter), lb_merge_of(m, p->in[i], "density"));
    }
}

static lb_status build_pcb(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                           lb_err *err) {
    pcb p;
    lb_node_id sum = LB_NODE_NONE, by = LB_NODE_NONE;
    LB_TRY(prepare(j, &p, err));
    *out = p.base;
    if (p.n == 0)
        return lb_graph_status(j->g, err);
    compete(m, j, &p);
    for (u32 i = 0; i < p.n; i++) {
        lb_node_id x = map2(j, LB_MAP_MUL, p.delta[i], p.beta[i]);
        double w = lb_merge_of(m, p.in[i], "weight");
        sum = i ? lb_expr_map2(j->g, LB_MAP_FMA_C, x, sum, LB_CONST(w))
                : lb_expr_map1(j->g, LB_MAP_MUL_C, x, LB_CONST(w));
        by = i ? map2(j, LB_MAP_ADD, by, p.beta[i]) : p.beta[0];
    }
    by = lb_expr_map1(j->g, LB_MAP_OR_ONE, by, LB_CONST(0));
    sum = map2(j, LB_MAP_DIV, sum, by);
    *out = lb_expr_map2(j->g, LB_MAP_FMA_C, sum, p.base, LB_CONST(lb_merge_shared(m, j, "lambda")));
    return lb_graph_status(j->g, err);
}

static const lb_merge_param pcb_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "density", .scope = LB_MERGE_NON_BASE, .initial = 0.1, .max = 1},
    {.name = "lambda", .initial = 1},
};

const lb_merge_method lb_merge_pcb = {
    .name = "pcb",
    .title = "PCB-Merging",
    .source = "https://arxiv.org/abs/2410.02396",
    .params = pcb_params,
    .n_params = LB_LEN(pcb_params),
    .base = LB_BASE_REQUIRED,
    .build = build_pcb,
};
