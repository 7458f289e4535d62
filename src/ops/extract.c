/* SPDX-License-Identifier: Apache-2.0 */
/* extract.c: the course of an extraction: both models, the factors' file, the adapter. */
#include "base/os.h"
#include "ops/extract_internal.h"
#include "ops/open.h"
#include <stdio.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for an adapter");
}

/* ---- the factors ---- */

typedef struct factoring {
    lb_extraction *x;
    lb_plan *plan;
    lb_merge_view base, tuned;
    lb_out_model model;
    u64 cap;
} factoring;

static lb_status push(factoring *f, lb_str name, lb_node_id values, lb_err *err) {
    const lb_node *n;
    lb_shape *shape = lb_arena_new(&f->plan->perm, lb_shape, 1);
    LB_TRY(lb_graph_status(&f->plan->graph, err));
    if (!name.ptr || !shape)
        return oom(err);
    n = lb_graph_node(&f->plan->graph, values);
    *shape = (lb_shape){.rank = 2, .dim = {n->n_rows, n->n_cols}};
    LB_ASSERT(f->model.n_tensors < f->cap);
    f->model.tensors[f->model.n_tensors++] =
        (lb_out_tensor){.name = name,
                        .dtype = LB_F32,
                        .shape = shape,
                        .node = lb_expr_encode(&f->plan->graph, values, LB_F32)};
    return LB_OK;
}

/* One number: the length of the difference. */
static lb_node_id norm_of(lb_graph *g, lb_node_id difference) {
    lb_scalar s = {.stat = lb_expr_stat(g, LB_STAT_DOT, difference, difference, 0),
                   .fn = LB_SCALAR_SQRT};
    return lb_expr_map1(g, LB_MAP_MUL_C, lb_expr_fill(g, 1, 1, 1), s);
}

static lb_status push_items(factoring *f, lb_err *err) {
    lb_extraction *x = f->x;
    lb_graph *g = &f->plan->graph;
    f->cap = 2 * (u64)x->n + 1;
    f->model.tensors = lb_alloc_zero((size_t)f->cap, sizeof *f->model.tensors);
    if (!f->model.tensors)
        return oom(err);
    for (u32 i = 0; i < x->n; i++) {
        const lb_extract_item *it = &x->items[i];
        bool matrix = it->kind == LB_EXTRACT_MATRIX, norm = lb_extract_wants_norm(x, it);
        if (!matrix && !norm)
            continue;
        lb_node_id d = lb_extract_difference(g, it, &f->base, &f->tuned);
        if (matrix)
            LB_TRY(push(f, lb_extract_factor_name(&f->plan->perm, it),
                        lb_extract_factors(g, x, it, d), err));
        if (norm)
            LB_TRY(push(f, lb_extract_norm_name(&f->plan->perm, it), norm_of(g, d), err));
    }
    return f->model.n_tensors
               ? LB_OK
               : lb_fail(err, LB_E_USAGE, "the patterns leave no tensor of the model");
}

static lb_status make_views(factoring *f, lb_err *err) {
    const lb_graph *g = &f->plan->graph;
    u32 tuned = 0;
    while (g->sources[tuned] != f->x->tuned)
        tuned++;
    LB_TRY(lb_computed_bind(f->plan, 0, err));
    LB_TRY(lb_computed_bind(f->plan, tuned, err));
    LB_TRY(lb_merge_view_make(f->plan, tuned, NULL, &f->tuned, err));
    return lb_merge_view_make(f->plan, 0, &f->tuned, &f->base, err);
}

/* What the factors follow from; options of the adapter beside them are in the operation. */
static lb_str describe(const lb_extraction *x, lb_arena *a) {
    const lb_extract_opts *o = x->opts;
    if (o->exact)
        return lb_arena_printf(a, "lora extract --exact --rank %u", o->rank);
    return lb_arena_printf(a, "lora extract --rank %u --power %u --seed %llu", o->rank, o->power,
                           (unsigned long long)o->seed);
}

static lb_status keep_digests(lb_extraction *x, const lb_plan *p, lb_err *err) {
    const lb_source *of[2] = {x->base, x->tuned};
    for (u32 k = 0; k < 2; k++)
        for (u32 i = 0; i < p->graph.n_sources; i++) {
            char hex[33];
            if (p->graph.sources[i] != of[k] || of[k]->n_inputs)
                continue;
            lb_hash_hex(p->src[i].digest, hex);
            x->digest[k] = lb_arena_str(&x->perm, lb_str_c(hex));
            if (!x->digest[k].ptr)
                return oom(err);
        }
    return LB_OK;
}

/* Everything of it is freed before the adapter is made. */
static lb_status run_factors(factoring *f, lb_buf *text, lb_out_report *report, lb_err *err) {
    lb_extraction *x = f->x;
    lb_writer_opts w = x->conv->w;
    const lb_source *sources[2] = {x->base, x->tuned};
    LB_TRY(lb_plan_new(&f->plan, sources, 2, err));
    LB_TRY(make_views(f, err));
    LB_TRY(lb_extract_list(x, &f->base, &f->tuned, err));
    LB_TRY(push_items(f, err));
    f->model.format = LB_FORMAT_SAFETENSORS;
    f->model.operation = describe(x, &f->plan->perm);
    f->model.all_memory = true;
    w.output = x->path;
    w.force = true;
    w.sha256 = w.lossless = false;
    if (!x->path)
        w.to = LB_TO_NONE;
    if (!f->model.operation.ptr)
        return oom(err);
    LB_TRY(lb_output_write(f->plan, &f->model, 1, &w, text, report, err));
    return report->dry_run || w.no_provenance ? LB_OK : keep_digests(x, f->plan, err);
}

static lb_status make_factors(lb_extraction *x, lb_buf *text, lb_out_report *report, lb_err *err) {
    factoring f = {.x = x};
    lb_status st = run_factors(&f, text, report, err);
    lb_free(f.model.tensors);
    lb_merge_view_deinit(&f.base);
    lb_merge_view_deinit(&f.tuned);
    lb_plan_free(&f.plan);
    return st;
}

/* ---- both ---- */

static lb_status check(const lb_extract_opts *o, lb_err *err) {
    if (o->rank == 0)
        return lb_fail(err, LB_E_USAGE, "--rank: at least 1");
    if (!(o->energy >= 0 && o->energy <= 1))
        return lb_fail(err, LB_E_USAGE, "--energy: from 0 to 1");
    if (!(o->epsilon >= 0))
        return lb_fail(err, LB_E_USAGE, "--sv-epsilon: at least 0");
    return o->exact || o->power ? LB_OK : lb_fail(err, LB_E_USAGE, "--power: at least 1");
}

static void add_reports(const lb_out_report *first, lb_out_report *all) {
    all->bytes_read += first->bytes_read;
    all->bytes_moved += first->bytes_moved;
    all->seconds += first->seconds;
    all->n_jobs_kept += first->n_jobs_kept;
}

static lb_status write_adapter(lb_extraction *x, lb_buf *text, lb_buf *remarks,
                               lb_out_report *report, lb_err *err) {
    lb_source *adapter = NULL;
    const lb_extract_opts *o = x->opts;
    lb_convert_opts c = *x->conv;
    lb_str verb =
        lb_arena_printf(&x->perm, "%.*s%s%s%s", LB_FMT(describe(x, &x->perm)),
                        o->distribute ? "" : " --no-distribute-scale",
                        o->embed ? " --embed-lora" : "", o->skip ? " --skip-undecomposable" : "");
    if (o->energy > 0 && verb.ptr)
        verb = lb_arena_printf(&x->perm, "%.*s --energy %.17g", LB_FMT(verb), o->energy);
    if (o->epsilon > 0 && verb.ptr)
        verb = lb_arena_printf(&x->perm, "%.*s --sv-epsilon %.17g", LB_FMT(verb), o->epsilon);
    if (!verb.ptr)
        return oom(err);
    c.verb = verb.ptr;
    c.w.resume = false; /* it is small; the factors are what took time */
    lb_status st = lb_open(&x->factors, x->path, err);
    if (st == LB_OK) /* provenance: whatever the output is called */
        x->factors->label = LB_STR("factors");
    if (st == LB_OK)
        st = lb_extract_decide(x, remarks, err);
    if (st == LB_OK)
        st = lb_extract_adapter(x, &adapter, err);
    if (st == LB_OK)
        st = lb_convert(adapter, &c, text, remarks, report, err);
    lb_source_close(&adapter);
    if (x->taken)
        x->factors = NULL;
    return st;
}

static lb_status run(lb_extraction *x, lb_buf *text, lb_buf *remarks, lb_out_report *report,
                     lb_err *err) {
    const lb_writer_opts *w = &x->conv->w;
    bool written = w->to != LB_TO_NONE && !w->no_write;
    lb_out_report first = {0};
    lb_fstat st;
    if (written) {
        lb_str path = lb_arena_printf(&x->perm, "%s.factors.safetensors", w->output);
        if (!path.ptr)
            return oom(err);
        x->path = path.ptr;
        if (!w->force && lb_os_stat(w->output, &st, NULL) == LB_OK)
            return lb_fail(err, LB_E_USAGE, "%s exists: --force replaces it", w->output);
    }
    LB_TRY(make_factors(x, text, &first, err));
    *report = first;
    if (w->dry_run || !written)
        return LB_OK;
    lb_status done = write_adapter(x, text, remarks, report, err);
    (void)lb_os_unlink(x->path, NULL);
    add_reports(&first, report);
    return done;
}

lb_status lb_extract(const lb_extract_opts *o, const lb_convert_opts *c, lb_buf *text,
                     lb_buf *remarks, lb_out_report *report, lb_err *err) {
    lb_extraction x = {.opts = o, .conv = c};
    lb_status st = check(o, err);
    if (st == LB_OK)
        st = lb_open_planned(&x.base, o->base, err);
    if (st == LB_OK)
        st = lb_open_planned(&x.tuned, o->tuned, err);
    if (st == LB_OK)
        st = run(&x, text, remarks, report, err);
    lb_source_close(&x.factors);
    lb_source_close(&x.tuned);
    lb_source_close(&x.base);
    lb_arena_deinit(&x.perm);
    return st;
}
