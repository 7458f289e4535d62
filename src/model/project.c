/* SPDX-License-Identifier: Apache-2.0 */
/* project.c: products of matrices with the activations of a batch, several matrices at once, their
 * rows shared out among the threads. */
#include "model/graph.h"

typedef struct acts_job {
    lb_context *c;
    const lb_acts *a;
    lb_act_form form;
    u8 *out;
} acts_job;

static size_t source_row(const lb_acts *a, size_t row) {
    return a->first + a->of[row] / a->per;
}

static void make_row(void *ctx, u64 item, void *scratch) {
    const acts_job *j = ctx;
    const lb_acts *a = j->a;
    size_t bytes = lb_act_bytes(j->form, a->n_cols);
    u8 *out = j->out + item * bytes;
    (void)scratch;
    if (a->from)
        memcpy(out, a->from->row[j->form] + source_row(a, item) * bytes, bytes);
    else
        lb_act_make(j->c->m->k, j->form, a->n_cols, out, a->x + item * a->stride);
}

void lb_acts_make(lb_acts *a, const float *x, size_t stride, u64 n_cols, size_t n, u32 into) {
    *a = (lb_acts){.n_cols = n_cols, .n = n, .x = x, .stride = stride, .into = into};
}

/* The rows in the form that the matrix wants; made once. */
static const u8 *acts_of(lb_context *c, lb_acts *a, lb_act_form form) {
    if (a->row[form])
        return a->row[form];
    if (a->from)
        (void)acts_of(c, a->from, form);
    acts_job j = {c, a, form, (a->into ? c->act2 : c->act)[form]};
    if (a->n * a->n_cols < 16384)
        for (size_t i = 0; i < a->n; i++)
            make_row(&j, i, NULL);
    else
        lb_team_run(c->team, a->n, make_row, &j);
    return a->row[form] = j.out;
}

static void push(lb_context *c, const lb_mat *m, lb_acts *a, const lb_some_rows *some, float *out,
                 size_t out_stride) {
    const lb_stream *stream = c->m->stream;
    lb_act_form form = lb_mat_act(m, c->o.acts);
    const u8 *act = acts_of(c, a, form) + some->first * lb_act_bytes(form, a->n_cols);
    LB_ASSERT(c->n_slices < c->cap_slices && m->n_cols == a->n_cols);
    u64 unit = lb_matmul_unit(m, some->n);
    lb_slice *s = &c->slices[c->n_slices++];
    *s = (lb_slice){.m = lb_stream_is_on(stream) ? lb_stream_mat(stream, m, c->unit, some->matrix)
                                                 : *m,
                    .n_tokens = some->n,
                    .form = form,
                    .act = act,
                    .out = out,
                    .out_stride = out_stride,
                    .unit = unit,
                    .first_item = c->n_items,
                    .n_items = (m->n_rows + unit - 1) / unit};
    c->n_items += s->n_items;
}

static void push_stack(lb_context *c, const lb_linear *l, lb_acts *a, const lb_some_rows *some,
                       float *out, size_t out_stride) {
    const lb_mweight *w = lb_swapped(c, l->w);
    u32 per = w->n_mats / (u32)w->n_stack;
    for (u32 i = 0; i < per; i++) {
        const lb_mat *m = &w->mats[some->matrix * per + i];
        push(c, m, a, some, out, out_stride);
        out += m->n_rows;
    }
}

void lb_project(lb_context *c, const lb_linear *l, lb_acts *a, float *out, size_t out_stride) {
    if (c->o.tap)
        c->o.tap(c->o.tap_user, l->w, LB_NO_INDEX, a->x, a->n, a->stride);
    push_stack(c, l, a, &(lb_some_rows){0, 0, a->n}, out, out_stride);
}

static void tap_some(const lb_context *c, const lb_linear *l, const lb_acts *a,
                     const lb_some_rows *rows) {
    const lb_acts *x = a->from ? a->from : a;
    if (!a->from)
        c->o.tap(c->o.tap_user, l->w, rows->matrix, x->x + rows->first * x->stride, rows->n,
                 x->stride);
    for (size_t i = 0; a->from && i < rows->n; i++)
        c->o.tap(c->o.tap_user, l->w, rows->matrix,
                 x->x + source_row(a, rows->first + i) * x->stride, 1, x->stride);
}

void lb_project_some(lb_context *c, const lb_linear *l, lb_acts *a, const lb_some_rows *rows,
                     float *out, size_t out_stride) {
    if (c->o.tap)
        tap_some(c, l, a, rows);
    push_stack(c, l, a, rows, out, out_stride);
}

static void run_item(void *ctx, u64 item, void *scratch) {
    const lb_context *c = ctx;
    u32 low = 0, high = c->n_slices;
    while (high - low > 1) {
        u32 mid = (low + high) / 2;
        if (c->slices[mid].first_item <= item)
            low = mid;
        else
            high = mid;
    }
    const lb_slice *s = &c->slices[low];
    u64 row = (item - s->first_item) * s->unit;
    lb_matmul_in in = {.m = &s->m,
                       .row = row,
                       .n_rows = LB_MIN(s->unit, s->m.n_rows - row),
                       .n_tokens = s->n_tokens,
                       .form = s->form,
                       .act = s->act,
                       .out = s->out + row,
                       .out_stride = s->out_stride};
    lb_matmul(c->m->k, &in, scratch);
}

void lb_project_run(lb_context *c) {
    lb_team_run(c->team, c->n_items, run_item, c);
    c->n_slices = 0;
    c->n_items = 0;
}

void lb_add_bias(lb_context *c, const lb_linear *l, float *out, size_t out_stride, size_t n) {
    if (!l->bias)
        return;
    for (size_t i = 0; i < n; i++)
        c->m->k->map_add_f32(l->w->n_rows / l->w->n_stack, out + i * out_stride,
                             out + i * out_stride, l->bias);
}
