/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c: one survey job for each part of each tensor. */
#include "ops/measure.h"

typedef struct survey {
    lb_plan *plan;
    lb_measure **part; /* of all tensors, in order */
    double *scale;
} survey;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for measuring");
}

static u64 elems_of(const lb_graph *g, const lb_measure_tensor *t) {
    u64 n = 0;
    for (u32 i = 0; i < t->n_parts; i++) {
        const lb_node *x = lb_graph_node(g, t->parts[i].values);
        n += x->n_rows * x->n_cols; /* of what a file has: no overflow */
    }
    return n;
}

/* Every k-th band of rows; *scale: by how much there are more. */
static lb_node_id sample(lb_graph *g, lb_node_id x, u64 k, double *scale) {
    const lb_node *n = lb_graph_node(g, x);
    u64 step = k * LB_MEASURE_BAND, rows = n->n_rows;
    *scale = 1;
    if (k == 1 || rows <= LB_MEASURE_BAND)
        return x;
    u64 last = (rows - 1) / step;
    u64 read = last * LB_MEASURE_BAND + LB_MIN(rows - last * step, LB_MEASURE_BAND);
    *scale = (double)rows / (double)read;
    return lb_expr_runs(g, x, 0, LB_MEASURE_BAND, step, read);
}

static lb_status add_part(survey *s, const lb_measure_tensor *t, u32 i, u64 k, u64 at,
                          lb_err *err) {
    lb_graph *g = &s->plan->graph;
    lb_measure *m = lb_arena_new(&s->plan->perm, lb_measure, 1);
    double *error = lb_arena_new(&s->plan->perm, double, t->n_quants + 1);
    if (!m || !error)
        return oom(err);
    *m = (lb_measure){t->parts[i].quants, t->n_quants, t->parts[i].importance, error};
    s->part[at] = m;
    lb_node_id x = sample(g, lb_expr_decode(g, t->parts[i].values), k, &s->scale[at]);
    lb_node_id root = x == LB_NODE_NONE ? x : lb_expr_measure(g, x, m);
    lb_status st = lb_graph_status(g, err);
    if (st != LB_OK) {
        lb_err_context(err, "tensor '%.*s'", LB_FMT(t->name));
        return st;
    }
    if (lb_plan_job(s->plan, t->name, NULL, 0))
        lb_plan_segment(s->plan, &root);
    return LB_OK;
}

static lb_status plan(survey *s, const lb_plan *of, lb_measure_tensor *t, u64 n,
                      const lb_measure_opts *o, lb_err *err) {
    u64 n_parts = 0, at = 0;
    LB_TRY(lb_plan_survey(&s->plan, of, err));
    for (u64 i = 0; i < n; i++)
        n_parts += t[i].n_parts;
    s->part = lb_arena_new(&s->plan->perm, lb_measure *, n_parts + 1);
    s->scale = lb_arena_new(&s->plan->perm, double, n_parts + 1);
    if (!s->part || !s->scale)
        return oom(err);
    lb_plan_reserve(s->plan, n_parts);
    for (u64 i = 0; i < n; i++) {
        u64 elems = elems_of(&of->graph, &t[i]);
        u64 k = o->elems_max ? LB_MAX(lb_ceil_div_u64(elems, o->elems_max), (u64)1) : 1;
        for (u32 j = 0; j < t[i].n_parts; j++)
            LB_TRY(add_part(s, &t[i], j, k, at++, err));
    }
    lb_plan_limits limits = {
        .memory_bytes = o->memory_bytes, .threads = o->threads, .tile_bytes = o->tile_bytes};
    return lb_plan_close(s->plan, &limits, err);
}

static void collect(const survey *s, lb_measure_tensor *t, u64 n) {
    u64 at = 0;
    for (u64 i = 0; i < n; i++) {
        memset(t[i].error, 0, t[i].n_quants * sizeof t[i].error[0]);
        t[i].n_measured = 0;
        for (u32 j = 0; j < t[i].n_parts; j++, at++) {
            const lb_node *root =
                lb_graph_node(&s->plan->graph, s->plan->jobs[at].segments[0].root[0]);
            const lb_node *x = lb_graph_node(&s->plan->graph, root->in[0]);
            t[i].n_measured += x->n_rows * x->n_cols;
            for (u32 q = 0; q < t[i].n_quants; q++)
                t[i].error[q] += s->part[at]->error[q] * s->scale[at];
        }
    }
}

lb_status lb_measure_tensors(const lb_plan *of, lb_measure_tensor *tensors, u64 n,
                             const lb_measure_opts *o, lb_run_report *report, lb_err *err) {
    survey s = {0};
    lb_run_options ro = {
        .kernels = o->kernels, .stop = o->stop, .progress = o->progress, .user = o->user};
    lb_status st = plan(&s, of, tensors, n, o, err);
    if (st == LB_OK)
        st = lb_run(s.plan, &ro, report, err);
    if (st == LB_OK)
        collect(&s, tensors, n);
    lb_plan_free(&s.plan);
    return st;
}

lb_status lb_measure_bytes(const lb_plan *of, lb_measure_tensor *tensors, u64 n,
                           const lb_measure_opts *o, u64 *read_bytes, lb_err *err) {
    survey s = {0};
    lb_status st = plan(&s, of, tensors, n, o, err);
    *read_bytes = st == LB_OK ? s.plan->read_bytes : 0;
    lb_plan_free(&s.plan);
    return st;
}
