/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: collects what a report shows: types, places, sums, histograms, errors; writes the file.
 */
#include "ops/report_internal.h"
#include "base/interrupt.h"
#include "plan/sink.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a report");
}

/* ---- types ---- */

static void put_group(char out[LB_REPORT_LABEL], const char *name, const lb_enc *e) {
    if (e->block_rows > 1)
        (void)snprintf(out, LB_REPORT_LABEL, "%s/%ux%u", name, e->block_rows, e->group_size);
    else if (e->group_size)
        (void)snprintf(out, LB_REPORT_LABEL, "%s/%u", name, e->group_size);
    else
        (void)snprintf(out, LB_REPORT_LABEL, "%s", name);
}

/* As users name types on the command line, and the group behind it where it is a choice. */
static void type_label(const lb_source *s, const lb_weight *w, char out[LB_REPORT_LABEL]) {
    const lb_enc *e = &w->enc;
    const char *name = lb_dtype_get(s->tensors[w->part[0]].dtype)->name;
    char text[24];
    switch (e->kind) {
    case LB_ENC_PLAIN:
    case LB_ENC_VIEW:
    case LB_ENC_GGUF_SCALED:
        (void)snprintf(out, LB_REPORT_LABEL, "%s", name);
        return;
    case LB_ENC_MLX_MXFP4:
        (void)snprintf(out, LB_REPORT_LABEL, "mlx-mxfp4");
        return;
    case LB_ENC_MLX_MXFP8:
        (void)snprintf(out, LB_REPORT_LABEL, "mlx-mxfp8");
        return;
    case LB_ENC_MLX_NVFP4:
        (void)snprintf(out, LB_REPORT_LABEL, "mlx-nvfp4");
        return;
    case LB_ENC_MLX_AFFINE:
        (void)snprintf(text, sizeof text, "mlx-q%u", e->bits);
        break;
    case LB_ENC_FP8:
        (void)snprintf(text, sizeof text, "fp8");
        break;
    case LB_ENC_INT8:
        (void)snprintf(text, sizeof text, "int8");
        break;
    case LB_ENC_PACKED:
        (void)snprintf(text, sizeof text, "w%u", e->bits);
        break;
    case LB_ENC_FP4:
    case LB_ENC_FP4_INVERSE:
        (void)snprintf(text, sizeof text, "fp4");
        break;
    case LB_ENC_BNB_NF4:
        (void)snprintf(text, sizeof text, "bnb-nf4");
        break;
    case LB_ENC_BNB_FP4:
        (void)snprintf(text, sizeof text, "bnb-fp4");
        break;
    case LB_ENC_BNB_INT8:
        (void)snprintf(text, sizeof text, "bnb-int8");
        break;
    case LB_ENC_GPTQ:
        (void)snprintf(text, sizeof text, "gptq-q%u", e->bits);
        break;
    case LB_ENC_AWQ:
        (void)snprintf(text, sizeof text, "awq-q4");
        break;
    }
    put_group(out, text, e);
}

static double type_bpw(const lb_report_type *t) {
    return t->n_params ? (double)t->size_bytes * 8 / (double)t->n_params : 0;
}

static int by_bits(const void *a, const void *b) {
    const lb_report_type *x = a, *y = b;
    double p = type_bpw(x), q = type_bpw(y);
    if (p != q)
        return p < q ? -1 : 1;
    return strcmp(x->label, y->label);
}

static u32 find_type(const lb_report *r, const char *label) {
    for (u32 i = 0; i < r->n_types; i++)
        if (strcmp(r->types[i].label, label) == 0)
            return i;
    return r->n_types;
}

static u64 weight_bytes(const lb_source *s, const lb_weight *w) {
    u64 n = 0;
    for (u32 p = 0; p < w->n_parts; p++)
        n += s->tensors[w->part[p]].size_bytes; /* below the sum of file sizes */
    return n;
}

static lb_status find_types(lb_report *r, lb_err *err) {
    for (u32 m = 0; m < r->n_models; m++) {
        const lb_source *s = r->models[m].source;
        for (u64 i = 0; i < s->n_weights; i++) {
            char label[LB_REPORT_LABEL];
            type_label(s, &s->weights[i], label);
            u32 k = find_type(r, label);
            if (k == r->n_types && k == LB_REPORT_TYPES_MAX)
                k--;
            else if (k == r->n_types) {
                (void)snprintf(r->types[k].label, sizeof r->types[k].label, "%s",
                               k == LB_REPORT_TYPES_MAX - 1 ? "all others" : label);
                r->n_types++;
            }
            r->types[k].n_params += r->models[m].items[i].n_params;
            r->types[k].size_bytes += r->models[m].bytes[i];
        }
        LB_TRY(lb_interrupt_check(err));
    }
    qsort(r->types, r->n_types, sizeof *r->types, by_bits);
    for (u32 i = 0; i < r->n_types; i++)
        r->types[i].color =
            r->n_types == 1 ? 7
            : r->n_types > LB_REPORT_COLORS
                ? i % LB_REPORT_COLORS
                : (i * (LB_REPORT_COLORS - 1) + (r->n_types - 1) / 2) / (r->n_types - 1);
    return LB_OK;
}

static u32 type_of(const lb_report *r, const lb_source *s, const lb_weight *w) {
    char label[LB_REPORT_LABEL];
    type_label(s, w, label);
    u32 k = find_type(r, label);
    return k < r->n_types ? k : find_type(r, "all others");
}

/* ---- sums ---- */

/* The type of most parameters of each cell. */
static lb_status find_main_types(const lb_report *r, lb_report_model *m, lb_err *err) {
    lb_arena scratch = {0};
    u64 n = (u64)m->axis.n_slots * m->axis.n_roles;
    u64 *of_type = lb_arena_new(&scratch, u64, n + 1);
    for (u32 t = 0; t < r->n_types && of_type; t++) {
        memset(of_type, 0, n * sizeof *of_type);
        for (u64 i = 0; i < m->source->n_weights; i++)
            if (m->types[i] == t)
                of_type[(u64)m->items[i].role * m->axis.n_slots + m->items[i].slot] +=
                    m->items[i].n_params;
        for (u64 i = 0; i < n; i++) {
            lb_report_cell *c = &m->cells[i];
            c->mixed |= of_type[i] != 0 && of_type[i] != c->n_params;
            if (of_type[i] > c->main_params) {
                c->main_params = of_type[i];
                c->type = t;
            }
        }
    }
    lb_arena_deinit(&scratch);
    return of_type ? LB_OK : oom(err);
}

static lb_status sum_up(lb_report *r, lb_report_model *m, lb_arena *perm, lb_err *err) {
    u32 n_slots = m->axis.n_slots;
    m->sum = lb_arena_new(perm, lb_report_sum, r->n_types + 1);
    m->slot_bytes = lb_arena_new(perm, u64, (u64)n_slots * r->n_types + 1);
    m->cells = lb_arena_new(perm, lb_report_cell, (u64)n_slots * m->axis.n_roles + 1);
    m->types = lb_arena_new(perm, u32, m->source->n_weights + 1);
    if (!m->sum || !m->slot_bytes || !m->cells || !m->types)
        return oom(err);
    for (u64 i = 0; i < m->source->n_weights; i++) {
        const lb_report_item *it = &m->items[i];
        u32 t = m->types[i] = type_of(r, m->source, &m->source->weights[i]);
        lb_report_cell *c = &m->cells[(u64)it->role * n_slots + it->slot];
        c->type = c->n_weights ? c->type : t;
        c->n_weights++;
        c->n_params += it->n_params;
        c->size_bytes += m->bytes[i];
        m->sum[t].n_weights++;
        m->sum[t].n_params += it->n_params;
        m->sum[t].size_bytes += m->bytes[i];
        m->slot_bytes[(u64)it->slot * r->n_types + t] += m->bytes[i];
    }
    return find_main_types(r, m, err);
}

static lb_status list_weights(lb_report_model *m, lb_arena *perm, lb_err *err) {
    const lb_source *s = m->source;
    m->items = lb_arena_new(perm, lb_report_item, s->n_weights + 1);
    m->bytes = lb_arena_new(perm, u64, s->n_weights + 1);
    if (!m->items || !m->bytes)
        return oom(err);
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        u64 n = 0;
        if (!lb_shape_elems(&w->shape, &n))
            return lb_fail(err, LB_E_FORMAT, "weight '%.*s': too many elements", LB_FMT(w->name));
        m->items[i] = (lb_report_item){.name = w->name, .n_params = n};
        m->bytes[i] = weight_bytes(s, w);
    }
    return lb_report_axis_build(&m->axis, m->items, s->n_weights, perm, err);
}

/* ---- errors ---- */

typedef struct ranked {
    double rel;
    u64 row;
} ranked;

static int by_error(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->rel != y->rel)
        return x->rel < y->rel ? 1 : -1;
    return x->row < y->row ? -1 : 1;
}

static lb_status rank_rows(lb_report_model *m, lb_arena *perm, lb_err *err) {
    const lb_diff *d = &m->diff;
    lb_arena scratch = {0};
    ranked *list = lb_arena_new(&scratch, ranked, d->n_rows + 1);
    m->pair.worst = lb_arena_new(perm, u64, d->n_rows + 1);
    if (!list || !m->pair.worst) {
        lb_arena_deinit(&scratch);
        return oom(err);
    }
    for (u64 i = 0; i < d->n_rows; i++)
        if (d->rows[i].same_shape)
            list[m->pair.n_worst++] = (ranked){d->rows[i].rel, i};
    qsort(list, m->pair.n_worst, sizeof *list, by_error);
    for (u64 i = 0; i < m->pair.n_worst; i++)
        m->pair.worst[i] = list[i].row;
    lb_arena_deinit(&scratch);
    return LB_OK;
}

static void pass_on(void *user, u64 done, u64 total) {
    const lb_report_job *j = user;
    if (j->o->progress)
        j->o->progress(j->o->user, j->done_bytes + done, j->done_bytes + total);
}

/* A model that cannot be compared is still shown: not one that cannot be read. */
static lb_status compare(lb_report *r, lb_report_model *m, lb_report_job *j, lb_arena *perm,
                         lb_err *err) {
    lb_err why = {0};
    lb_diff_options o = {.kernels = r->kernels,
                         .n_threads = j->o->n_threads,
                         .memory_bytes = j->o->memory_bytes,
                         .progress = pass_on,
                         .user = j};
    lb_status st = lb_diff_run(&m->diff, r->models[0].source, m->source, &o, perm, &why);
    if (st != LB_OK && st != LB_E_UNSUPPORTED) {
        if (err)
            *err = why;
        return st;
    }
    if (st == LB_OK && m->diff.total.n_rows == 0)
        (void)lb_fail(&why, LB_E_UNSUPPORTED,
                      "no tensor of the first model has its name and shape here");
    if (why.code != LB_OK) {
        m->why_not = lb_arena_str(perm, lb_str_c(why.msg));
        return m->why_not.ptr ? LB_OK : oom(err);
    }
    j->done_bytes += m->diff.bytes_read;
    m->compared = true;
    u64 n = m->diff.n_rows;
    m->pair.items = lb_arena_new(perm, lb_report_item, n + 1);
    m->pair.types = lb_arena_new(perm, u32, n + 1);
    if (!m->pair.items || !m->pair.types)
        return oom(err);
    for (u64 i = 0; i < n; i++) {
        const lb_diff_row *row = &m->diff.rows[i];
        m->pair.items[i] = (lb_report_item){.name = row->name, .n_params = row->n_values};
        m->pair.types[i] = type_of(r, m->source, row->b);
    }
    LB_TRY(lb_report_axis_build(&m->pair.axis, m->pair.items, n, perm, err));
    return rank_rows(m, perm, err);
}

lb_status lb_report_run(lb_report **out, const lb_source *const *models, u32 n_models,
                        const lb_report_options *o, lb_arena *perm, lb_err *err) {
    lb_report *r = lb_arena_new(perm, lb_report, 1);
    lb_report_job job = {.o = o};
    *out = r;
    if (!r)
        return oom(err);
    r->kernels = o->kernels;
    r->n_models = n_models;
    r->models = lb_arena_new(perm, lb_report_model, n_models + 1);
    r->types = lb_arena_new(perm, lb_report_type, LB_REPORT_TYPES_MAX + 1);
    if (!r->models || !r->types)
        return oom(err);
    for (u32 i = 0; i < n_models; i++) {
        lb_report_model *m = &r->models[i];
        m->source = models[i];
        m->letter[0] = (char)('A' + i);
        LB_TRY(lb_inspect_run(&m->inspect, m->source, perm, err));
        LB_TRY(list_weights(m, perm, err));
    }
    LB_TRY(find_types(r, err));
    for (u32 i = 0; i < n_models; i++) {
        LB_TRY(sum_up(r, &r->models[i], perm, err));
        LB_TRY(lb_report_sample(r, &r->models[i], &job, perm, err));
        if (i > 0)
            LB_TRY(compare(r, &r->models[i], &job, perm, err));
    }
    return LB_OK;
}

/* ---- the file ---- */

static lb_sink_options sink_options(const lb_report_target *t) {
    return (lb_sink_options){.path = t->path, .force = t->force, .sync = !t->no_sync};
}

lb_status lb_report_check(const lb_source *const *models, u32 n_models, const char *path,
                          bool force, lb_err *err) {
    lb_plan *plan = NULL;
    lb_report_target t = {.path = path, .force = force};
    lb_sink_options so = sink_options(&t);
    LB_TRY(lb_plan_new(&plan, models, n_models, err));
    lb_status st = lb_sink_check(plan, &so, err);
    lb_plan_free(&plan);
    return st;
}

typedef struct writing {
    const lb_report *r;
    u64 size_bytes;
} writing;

static lb_status make_page(void *ctx, lb_out *out, lb_err *err) {
    writing *w = ctx;
    LB_TRY(lb_report_page(w->r, out, err));
    w->size_bytes = lb_out_pos(out);
    return LB_OK;
}

/* The sink of models, with a plan that has one file and no tensor: the page is its head. */
lb_status lb_report_write(const lb_report *r, const lb_report_target *t, u64 *size_bytes,
                          lb_err *err) {
    const lb_source *sources[LB_REPORT_MODELS_MAX] = {0};
    lb_plan *plan = NULL;
    lb_sink *sink = NULL;
    writing w = {.r = r};
    lb_status st;
    lb_sink_options so = sink_options(t);
    lb_sink_head head = {.make = make_page, .ctx = &w};
    for (u32 i = 0; i < r->n_models; i++)
        sources[i] = r->models[i].source;
    LB_TRY(lb_plan_new(&plan, sources, r->n_models, err));
    (void)lb_plan_file(plan, LB_STR_NONE, 0);
    LB_TRY_DONE(st, plan->err.code == LB_OK ? LB_OK : oom(err));
    LB_TRY_DONE(st, lb_sink_open(&sink, plan, &so, err));
    LB_TRY_DONE(st, lb_sink_finish(sink, &(lb_sink_ending){.heads = &head}, err));
    *size_bytes = w.size_bytes;
done:
    lb_sink_close(&sink, NULL);
    lb_plan_free(&plan);
    return st;
}
