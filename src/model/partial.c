/* SPDX-License-Identifier: Apache-2.0 */
/* partial.c: see partial.h. */
#include "model/partial.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "model/device_parts.h"
#include "model/graph.h"

const lb_mweight *lb_swapped(const lb_context *c, const lb_mweight *w) {
    for (u32 i = 0; i < c->n_swaps; i++)
        if (c->swap[i].from == w)
            return &c->swap[i].to;
    return w;
}

static void put_swap(lb_context *c, const lb_mweight *from, const lb_mat *mats, u32 n_mats) {
    lb_swap *s = &c->swap[c->n_swaps++];
    *s = (lb_swap){from, *from};
    s->to.mats = mats;
    s->to.n_mats = n_mats;
}

/* Gate and up are halves of one tensor: each gets its half of the matrices that stand for it. */
static void swap_halves(lb_context *c, const lb_layer *l, const lb_mweight *w, const lb_mat *mats) {
    const lb_mweight *const parts[] = {l->gate_exps.w, l->up_exps.w};
    bool apart = w->n_mats == 2 * w->n_stack;
    for (u32 half = 0; half < 2; half++) {
        const lb_mweight *p = parts[half];
        lb_mat *to = c->halves + half * w->n_stack;
        u64 rows = p->mats[0].n_rows;
        for (u64 e = 0; e < w->n_stack; e++)
            to[e] = apart ? mats[2 * e + half] : lb_mat_part(&mats[e], half * rows, rows);
        put_swap(c, p, to, (u32)w->n_stack);
    }
}

static bool is_half(const lb_mweight *part, const lb_mweight *w) {
    return part && part != w && lb_str_eq(part->name, w->name);
}

lb_status lb_context_swap(lb_context *c, const lb_mweight *w, const lb_mat *mats, lb_err *err) {
    c->n_swaps = 0;
    lb_free(c->halves);
    c->halves = NULL;
    if (w)
        put_swap(c, w, mats, w->n_mats);
    for (u32 i = 0; w && i < c->m->p.n_layers; i++) {
        const lb_layer *l = &c->m->layer[i];
        if (!is_half(l->gate_exps.w, w) || !is_half(l->up_exps.w, w))
            continue;
        c->halves = lb_alloc(2 * (size_t)w->n_stack * sizeof *c->halves);
        if (!c->halves)
            return lb_fail(err, LB_E_NOMEM, "out of memory for experts");
        swap_halves(c, l, w, mats);
        break;
    }
    return c->device ? lb_device_swap(c, err) : LB_OK;
}

lb_status lb_context_can_part(const lb_context *c, lb_err *err) {
    return c->device ? lb_device_can_part(c, err) : LB_OK;
}

lb_status lb_context_layers(lb_context *c, u32 n, const u32 *ids, u32 first, u32 end, float *x,
                            lb_err *err) {
    lb_batch b = {.n = n, .id = ids};
    size_t bytes = (size_t)n * c->m->p.n_embd * sizeof *x;
    LB_ASSERT(n <= c->o.n_batch && first <= end && end <= c->m->p.n_layers);
    LB_TRY(lb_interrupt_check(err));
    LB_TRY(lb_context_check(c, &b, err));
    c->n = n;
    LB_TRY(lb_context_place(c, &b, 0, err));
    c->id = ids;
    if (c->device)
        return lb_device_layers(c, first, end, x, err);
    LB_TRY(lb_context_begin(c, err));
    LB_TRY(lb_forward_begin(c, err)); /* angles and layers' own inputs, whatever x holds */
    if (first)
        memcpy(c->x, x, bytes);
    LB_TRY(lb_forward_layers(c, first, end, err));
    memcpy(x, c->x, bytes);
    return LB_OK;
}

lb_status lb_context_head(lb_context *c, u32 n, const float *x, float *logits, lb_err *err) {
    LB_ASSERT(n <= c->o.n_batch);
    if (c->device)
        return lb_device_head(c, n, x, logits, err);
    LB_TRY(lb_context_begin(c, err));
    memcpy(c->x, x, (size_t)n * c->m->p.n_embd * sizeof *x);
    return lb_forward_head(c, n, logits, err);
}

/* Where weights are read from their files: that matrix is in memory. A dense one stays for the next
 * product; *layer: of an expert, which is to be dropped. */
static lb_status hold_matrix(lb_context *c, const lb_mweight *w, u32 matrix, u32 *layer,
                             lb_err *err) {
    lb_stream *s = c->m->stream;
    u32 unit = lb_stream_is_on(s) ? lb_stream_unit(s, w, matrix) : LB_UNIT_NONE;
    *layer = LB_NO_INDEX;
    if (unit == LB_UNIT_NONE)
        return LB_OK;
    if (!lb_stream_is_expert(s, unit, layer))
        return lb_hold_unit(c, unit, err);
    lb_drop_unit(c);
    LB_TRY(lb_stream_hold(s, *layer, &matrix, 1, err));
    c->unit = lb_stream_layer(s, *layer); /* where its experts are looked for */
    return LB_OK;
}

static void drop_matrix(lb_context *c, u32 matrix, u32 layer) {
    if (layer == LB_NO_INDEX)
        return;
    c->unit = LB_UNIT_NONE;
    lb_stream_drop(c->m->stream, layer, &matrix, 1);
}

void lb_context_let_go(lb_context *c, const lb_mweight *w) {
    lb_stream_let_go(c->m->stream, w);
}

lb_status lb_context_product(lb_context *c, const lb_mweight *w, u32 matrix, const float *x, u32 n,
                             float *out, lb_err *err) {
    u64 rows = w->n_rows / w->n_stack;
    u32 layer;
    lb_acts a;
    LB_ASSERT(!c->device && n <= c->o.n_batch);
    LB_TRY(lb_context_begin(c, err));
    LB_TRY(hold_matrix(c, w, matrix, &layer, err));
    lb_acts_make(&a, x, w->n_cols, w->n_cols, n, 0);
    lb_tap_fn *tap = c->o.tap;
    c->o.tap = NULL;
    lb_project_some(c, &(lb_linear){.w = w}, &a, &(lb_some_rows){matrix, 0, n}, out, rows);
    lb_project_run(c);
    c->o.tap = tap;
    drop_matrix(c, matrix, layer);
    return LB_OK;
}

const lb_mweight *lb_model_head(const lb_model *m) {
    return m->output.w;
}

const lb_mweight *lb_model_embeddings(const lb_model *m) {
    return m->embd;
}

bool lb_model_shares_keys(const lb_model *m) {
    for (u32 i = 0; i < m->p.n_layers; i++)
        if (!m->p.layer[i].recurrent && m->p.layer[i].kv_layer != i)
            return true;
    return false;
}

u64 lb_context_rows_bytes(const lb_context *c) {
    return c->device ? 512 * LB_MIB : 64 * LB_MIB;
}

void lb_context_each(lb_context *c, u64 n_items, void (*fn)(void *ctx, u64 item, void *scratch),
                     void *ctx) {
    lb_err ignored;
    if (!c->team)
        (void)lb_team_new(&c->team, c->o.threads, c->o.scratch_bytes, &ignored);
    if (c->team)
        lb_team_run(c->team, n_items, fn, ctx);
    for (u64 i = 0; i < n_items && !c->team; i++)
        fn(ctx, i, NULL);
}
