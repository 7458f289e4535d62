/* SPDX-License-Identifier: Apache-2.0 */
/* diff_computed.c: models of which at least one is computed (a merge file...), compared without
 * being written: a survey with one job a tensor. Integers, which have no values in an expression,
 * are compared by the hash of their bytes. */
#include "base/interrupt.h"
#include "ops/computed.h"
#include "ops/diff_internal.h"
#include "ops/merge_view.h"
#include "plan/run.h"
#include <math.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a comparison");
}

typedef struct pair {
    u64 row;       /* of the result */
    u64 job;       /* of the plan; UINT64_MAX: none */
    lb_compare *c; /* NULL: two streams */
    u64 n_values;
} pair;

typedef struct comparison {
    lb_plan *plan;
    lb_merge_view a, b;
    lb_diff *out;
    lb_arena *perm;
    pair *pairs;
    u64 n_pairs;
} comparison;

static lb_status view(comparison *x, u32 source, const lb_merge_view *like, lb_merge_view *v,
                      lb_err *err) {
    LB_TRY(lb_computed_bind(x->plan, source, err));
    lb_status st = lb_merge_view_make(x->plan, source, like, v, err);
    if (st != LB_OK)
        lb_err_context(err, "%s", x->plan->graph.sources[source]->path);
    return st;
}

/* A stand-in for a tensor that the model does not have is none of its. */
static u32 next(const lb_merge_view *v, u32 i) {
    while (i < v->n && v->facts[i].same_as != LB_NO_FACT)
        i++;
    return i;
}

static lb_status push_name(lb_str **list, u64 *n, const lb_merge_view *v, lb_str name,
                           lb_arena *perm, lb_err *err) {
    if (!*list && !(*list = lb_arena_new(perm, lb_str, v->n + 1)))
        return oom(err);
    (*list)[(*n)++] = name;
    return LB_OK;
}

/* Two streams that nobody writes: their hashes are wanted. */
static lb_status add_bytes(comparison *x, const lb_merge_fact *f, lb_node_id a, lb_node_id b,
                           lb_err *err) {
    lb_graph *g = &x->plan->graph;
    lb_stream s[2] = {{.name = f->name, .dtype = f->dtype, .shape = &f->shape}};
    u64 n = 0;
    if (!lb_shape_elems(&f->shape, &n) || !lb_dtype_bytes(f->dtype, n, &s[0].size_bytes))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is too large", LB_FMT(f->name));
    s[1] = s[0];
    s[0].file = lb_plan_file(x->plan, LB_STR("a"), s[0].size_bytes);
    s[1].file = lb_plan_file(x->plan, LB_STR("b"), s[1].size_bytes);
    const lb_node_id roots[2] = {lb_expr_encode(g, a, f->dtype), lb_expr_encode(g, b, f->dtype)};
    LB_TRY(lb_graph_status(g, err));
    if (lb_plan_job(x->plan, f->name, s, 2))
        lb_plan_segment(x->plan, roots);
    return LB_OK;
}

static lb_status add_values(comparison *x, pair *p, lb_str name, lb_node_id a, lb_node_id b,
                            lb_err *err) {
    lb_graph *g = &x->plan->graph;
    p->c = lb_arena_new(&x->plan->perm, lb_compare, 1);
    if (!p->c)
        return oom(err);
    *p->c = (lb_compare){0};
    lb_node_id root = lb_expr_compare(g, lb_expr_decode(g, a), lb_expr_decode(g, b), p->c);
    LB_TRY(lb_graph_status(g, err));
    if (lb_plan_job(x->plan, name, NULL, 0))
        lb_plan_segment(x->plan, &root);
    return LB_OK;
}

static lb_status add_pair(comparison *x, u32 i, u32 k, lb_err *err) {
    const lb_merge_fact *a = &x->a.facts[i], *b = &x->b.facts[k];
    pair *p = &x->pairs[x->n_pairs++];
    lb_diff_row *row = &x->out->rows[x->out->n_rows];
    *p = (pair){.row = x->out->n_rows++, .job = UINT64_MAX};
    *row = (lb_diff_row){.name = a->name,
                         .shape_a = a->shape,
                         .shape_b = b->shape,
                         .same_shape = lb_shape_eq(&a->shape, &b->shape)};
    if (!row->same_shape || !lb_shape_elems(&a->shape, &p->n_values))
        return LB_OK;
    if (a->is_buffer != b->is_buffer || (a->is_buffer && a->dtype != b->dtype))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': integers of one type and another are not compared",
                       LB_FMT(a->name));
    p->job = x->plan->n_jobs;
    return a->is_buffer ? add_bytes(x, a, x->a.nodes[i], x->b.nodes[k], err)
                        : add_values(x, p, a->name, x->a.nodes[i], x->b.nodes[k], err);
}

/* Both lists are sorted by name. */
static lb_status pair_all(comparison *x, lb_err *err) {
    lb_diff *d = x->out;
    d->rows = lb_arena_new(x->perm, lb_diff_row, x->a.n + 1);
    x->pairs = lb_arena_new(&x->plan->perm, pair, x->a.n + 1);
    if (!d->rows || !x->pairs)
        return oom(err);
    lb_plan_reserve(x->plan, x->a.n);
    u32 i = next(&x->a, 0), k = next(&x->b, 0);
    while (i < x->a.n || k < x->b.n) {
        int c = i == x->a.n   ? 1
                : k == x->b.n ? -1
                              : lb_str_cmp(x->a.facts[i].name, x->b.facts[k].name);
        if (c < 0)
            LB_TRY(
                push_name(&d->only_in_a, &d->n_only_in_a, &x->a, x->a.facts[i].name, x->perm, err));
        else if (c > 0)
            LB_TRY(
                push_name(&d->only_in_b, &d->n_only_in_b, &x->b, x->b.facts[k].name, x->perm, err));
        else
            LB_TRY(add_pair(x, i, k, err));
        i = c <= 0 ? next(&x->a, i + 1) : i;
        k = c >= 0 ? next(&x->b, k + 1) : k;
    }
    return LB_OK;
}

static lb_status run(comparison *x, const lb_diff_options *o, lb_err *err) {
    lb_plan_limits limits = {.memory_bytes = o->memory_bytes, .threads = LB_MAX(o->n_threads, 1u)};
    lb_run_options ro = {
        .kernels = o->kernels, .stop = lb_interrupt_stop, .progress = o->progress, .user = o->user};
    lb_run_report report = {0};
    LB_TRY(lb_plan_close(x->plan, &limits, err));
    LB_TRY(lb_run(x->plan, &ro, &report, err));
    x->out->bytes_read = report.bytes_read;
    return LB_OK;
}

static void collect(comparison *x, double tolerance) {
    lb_diff *d = x->out;
    for (u64 i = 0; i < x->n_pairs; i++) {
        const pair *p = &x->pairs[i];
        lb_diff_row *row = &d->rows[p->row];
        lb_compare bytes = {0};
        if (p->job != UINT64_MAX && !p->c) {
            const lb_stream *s = x->plan->jobs[p->job].streams;
            bytes.n_different = bytes.n_infinite = !lb_hash_eq(s[0].hash, s[1].hash);
        }
        if (row->same_shape)
            lb_diff_fill(row, p->c ? p->c : &bytes, p->n_values, tolerance);
        lb_diff_count(d, row);
    }
    d->identical = d->n_different == 0 && d->n_only_in_a == 0 && d->n_only_in_b == 0;
}

lb_status lb_diff_computed(lb_diff *out, const lb_source *a, const lb_source *b,
                           const lb_diff_options *o, lb_arena *perm, lb_err *err) {
    const lb_source *both[2] = {a, b};
    comparison x = {.out = out, .perm = perm};
    LB_TRY(lb_plan_new(&x.plan, both, 2, err));
    lb_status st = view(&x, 0, NULL, &x.a, err);
    if (st == LB_OK)
        st = view(&x, lb_computed_span(a), &x.a, &x.b, err);
    if (st == LB_OK)
        st = pair_all(&x, err);
    if (st == LB_OK)
        st = run(&x, o, err);
    if (st == LB_OK)
        collect(&x, o->tolerance);
    if (st == LB_OK)
        st = lb_diff_keep_names(out, perm, err);
    lb_merge_view_deinit(&x.a);
    lb_merge_view_deinit(&x.b);
    lb_plan_free(&x.plan);
    return st;
}
