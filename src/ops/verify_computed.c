/* SPDX-License-Identifier: Apache-2.0 */
/* verify_computed.c: the values of a model that is computed (a merge file...), without writing it:
 * a survey with one job a tensor. Its inputs' sums are theirs. */
#include "base/interrupt.h"
#include "ops/computed.h"
#include "ops/verify_internal.h"
#include "plan/run.h"

/* tensors: [n_jobs] of the plan. */
static lb_status plan_all(lb_plan *p, const lb_source *s, u64 *tensors, lb_err *err) {
    LB_TRY(lb_computed_bind(p, 0, err));
    lb_plan_reserve(p, s->n_weights);
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        if (lb_dtype_get(s->tensors[w->part[0]].dtype)->cls != LB_CLASS_FLOAT)
            continue;
        lb_node_id x = lb_expr_decode(&p->graph, lb_expr_read(&p->graph, 0, w));
        lb_node_id root = lb_expr_stat(&p->graph, LB_STAT_RANGE, x, LB_NODE_NONE, 0);
        lb_status st = lb_graph_status(&p->graph, err);
        if (st != LB_OK) {
            lb_err_context(err, "tensor '%.*s'", LB_FMT(w->name));
            return st;
        }
        tensors[p->n_jobs] = i;
        if (lb_plan_job(p, w->name, NULL, 0))
            lb_plan_segment(p, &root);
    }
    return LB_OK;
}

static lb_status run(lb_plan *p, const lb_verify_options *o, lb_verify *v, lb_err *err) {
    lb_plan_limits limits = {.memory_bytes = o->memory_bytes, .threads = LB_MAX(o->n_threads, 1u)};
    lb_run_options ro = {
        .kernels = o->kernels, .stop = lb_interrupt_stop, .progress = o->progress, .user = o->user};
    lb_run_report report = {0};
    LB_TRY(lb_plan_close(p, &limits, err));
    LB_TRY(lb_run(p, &ro, &report, err));
    v->bytes_read = report.bytes_read;
    return LB_OK;
}

lb_status lb_verify_computed(lb_verify *v, const lb_source *s, const lb_verify_options *o,
                             lb_arena *perm, lb_err *err) {
    lb_plan *p = NULL;
    LB_TRY(lb_plan_new(&p, &s, 1, err));
    u64 *tensors = lb_arena_new(&p->perm, u64, s->n_weights + 1);
    lb_status st =
        tensors ? plan_all(p, s, tensors, err) : lb_fail(err, LB_E_NOMEM, "out of memory");
    if (st == LB_OK)
        st = run(p, o, v, err);
    for (u64 j = 0; st == LB_OK && j < p->n_jobs; j++) {
        const lb_weight *w = &s->weights[tensors[j]];
        u64 n = 0, bad = (u64)p->jobs[j].stat[2];
        if (lb_shape_elems(&w->shape, &n))
            v->n_values += n;
        v->n_nan += bad;
        if (bad)
            st = lb_verify_add(v, lb_arena_str(perm, w->name),
                               lb_arena_printf(perm, "%llu value%s NaN or infinite",
                                               (unsigned long long)bad,
                                               bad == 1 ? " that is" : "s that are"),
                               perm, err);
    }
    lb_plan_free(&p);
    return st;
}
