/* SPDX-License-Identifier: Apache-2.0 */
/* task_arithmetic.c: see task_arithmetic.h; and task arithmetic itself.
 *
 * With mergekit's rounding weights, differences, products and sums are rounded to the work type
 * (sums once, from +0 on), lambda is not; else sums are fused multiply-adds in f32. */
#include "merge/task_arithmetic.h"
#include <math.h>

/* The differences, thinned out, and their weights. */
typedef struct task_terms {
    lb_node_id *delta;
    float *w;
    u32 n;
} task_terms;

static lb_status list_terms(const lb_merge_method *m, const lb_merge_job *j,
                            const lb_merge_task_way *way, lb_node_id base, task_terms *t,
                            lb_err *err) {
    t->delta = lb_arena_new(j->perm, lb_node_id, j->n_in + 1);
    t->w = lb_arena_new(j->perm, float, j->n_in + 1);
    t->n = 0;
    if (!t->delta || !t->w)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < j->n_in; i++) {
        if (j->in[i].is_base)
            continue;
        lb_node_id x = lb_merge_typed(j, &j->in[i]);
        lb_node_id *d = &t->delta[t->n];
        *d = lb_merge_round(j, lb_expr_map2(j->g, LB_MAP_SUB, x, base, LB_CONST(0)));
        if (way->sparsify)
            LB_TRY(way->sparsify(m, j, &j->in[i], d, err));
        t->w[t->n++] = lb_merge_round_number(j, lb_merge_of(m, &j->in[i], "weight"));
    }
    return LB_OK;
}

/* divisor: 0 where all of the sum has one, *total. */
static lb_node_id add_up(const lb_merge_job *j, const task_terms *t, float *total) {
    lb_node_id *term = t->delta, sum = LB_NODE_NONE;
    for (u32 i = 0; i < t->n; i++) {
        if (j->rounding == LB_MERGE_MERGEKIT)
            term[i] =
                lb_merge_round(j, lb_expr_map1(j->g, LB_MAP_MUL_C, t->delta[i], LB_CONST(t->w[i])));
        else
            sum = i ? lb_expr_map2(j->g, LB_MAP_FMA_C, t->delta[i], sum, LB_CONST(t->w[i]))
                    : lb_expr_map1(j->g, LB_MAP_MUL_C, t->delta[i], LB_CONST(t->w[i]));
    }
    *total = lb_merge_round_number(j, lb_merge_total(j->work, t->w, t->n));
    return j->rounding == LB_MERGE_MERGEKIT ? lb_merge_sum(j, term, t->n) : sum;
}

/* Those whose sign is that of the sum of all, and the sum of their weights (1 where none agrees).
 */
static lb_node_id agreeing(const lb_merge_job *j, const task_terms *t, lb_node_id *divisor) {
    lb_graph *g = j->g;
    lb_node_id *weighted = t->delta, all, mixed = LB_NODE_NONE;
    for (u32 i = 0; i < t->n; i++)
        weighted[i] =
            lb_merge_round(j, lb_expr_map1(g, LB_MAP_MUL_C, t->delta[i], LB_CONST(t->w[i])));
    all = lb_merge_sum(j, weighted, t->n);
    for (u32 i = 0; i < t->n; i++) {
        lb_node_id agrees = lb_expr_map2(g, LB_MAP_AGREE, weighted[i], all, LB_CONST(0));
        *divisor = i ? lb_expr_map2(g, LB_MAP_FMA_C, agrees, *divisor, LB_CONST(t->w[i]))
                     : lb_expr_map1(g, LB_MAP_MUL_C, agrees, LB_CONST(t->w[i]));
        weighted[i] = lb_expr_map2(g, LB_MAP_MUL, weighted[i], agrees, LB_CONST(0));
    }
    mixed = lb_merge_sum(j, weighted, t->n);
    *divisor = lb_expr_map1(g, LB_MAP_OR_ONE, lb_merge_round(j, *divisor), LB_CONST(0));
    return mixed;
}

lb_status lb_merge_task_build(const lb_merge_method *m, const lb_merge_job *j,
                              const lb_merge_task_way *way, lb_node_id *out, lb_err *err) {
    lb_graph *g = j->g;
    lb_node_id base = lb_merge_typed(j, lb_merge_base_of(j)), mixed, divisor = LB_NODE_NONE;
    bool normalize = lb_merge_shared(m, j, "normalize") != 0;
    double lambda = lb_merge_shared(m, j, "lambda");
    task_terms t;
    float total = 0;
    LB_TRY(list_terms(m, j, way, base, &t, err));
    *out = base;
    if (t.n == 0)
        return lb_graph_status(g, err);
    mixed = way->consensus ? agreeing(j, &t, &divisor) : add_up(j, &t, &total);
    if (normalize && way->consensus)
        mixed = lb_merge_round(j, lb_expr_map2(g, LB_MAP_DIV, mixed, divisor, LB_CONST(0)));
    else if (normalize && fabs((double)total) >= 1e-8 && total != 1)
        mixed = lb_merge_round(j, lb_expr_map1(g, LB_MAP_DIV_C, mixed, LB_CONST(total)));
    if (lambda != 1)
        mixed = lb_merge_round(j, lb_expr_map1(g, LB_MAP_MUL_C, mixed, LB_CONST(lambda)));
    *out = lb_merge_round(j, lb_expr_map2(g, LB_MAP_ADD, base, mixed, LB_CONST(0)));
    return lb_graph_status(g, err);
}

/* ---- task arithmetic ---- */

static lb_status build_task_arithmetic(const lb_merge_method *m, const lb_merge_job *j,
                                       lb_node_id *out, lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){0}, out, err);
}

static const lb_merge_param task_arithmetic_params[] = {LB_MERGE_TASK_PARAMS(0, 0)};

const lb_merge_method lb_merge_task_arithmetic = {
    .name = "task_arithmetic",
    .title = "Task Arithmetic",
    .source = "https://arxiv.org/abs/2212.04089",
    .params = task_arithmetic_params,
    .n_params = LB_LEN(task_arithmetic_params),
    .base = LB_BASE_REQUIRED,
    .build = build_task_arithmetic,
};
