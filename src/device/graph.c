/* SPDX-License-Identifier: Apache-2.0 */
/* graph.c: launches that are kept and submitted again as they are. What an implementation has of
 * its own (cuda.c: a graph of the driver's) is made at the end of the recording; without one they
 * are submitted one by one, without another look at their arguments. */
#include "device/backend.h"

lb_status lb_dev_graph_begin(lb_dev_queue *q, lb_err *err) {
    LB_TRY(lb_dev_alive(q->dev, err));
    if (q->recording)
        return lb_fail(err, LB_E_USAGE, "%s: the queue is recording already", q->dev->info.id);
    lb_dev_graph *g = lb_alloc_zero(1, sizeof *g);
    if (!g)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a recording");
    g->dev = q->dev;
    g->next = q->dev->graphs;
    q->dev->graphs = g;
    q->recording = g;
    return LB_OK;
}

lb_status lb_dev_graph_end(lb_dev_queue *q, lb_dev_graph **out, lb_err *err) {
    lb_dev_graph *g = q->recording;
    *out = NULL;
    if (!g)
        return lb_fail(err, LB_E_USAGE, "%s: the queue does not record", q->dev->info.id);
    q->recording = NULL;
    lb_status st = lb_dev_alive(q->dev, err);
    if (st == LB_OK && g->n && q->dev->ops->graph_new)
        st = q->dev->ops->graph_new(g, err);
    *out = g;
    if (st != LB_OK)
        lb_dev_graph_free(out);
    return st;
}

void lb_dev_graph_cancel(lb_dev_queue *q) {
    lb_dev_graph *g = q->recording;
    q->recording = NULL;
    lb_dev_graph_free(&g);
}

void lb_dev_graph_free(lb_dev_graph **out) {
    lb_dev_graph *g = *out;
    lb_err ignored;
    *out = NULL;
    if (!g)
        return;
    (void)lb_dev_settle(g->dev, g->used_at, &ignored);
    for (lb_dev_graph **p = &g->dev->graphs; *p; p = &(*p)->next)
        if (*p == g) {
            *p = g->next;
            break;
        }
    if (g->impl)
        g->dev->ops->graph_free(g);
    lb_free(g->rec);
    lb_free(g);
}

/* A launch, or a barrier (l NULL). */
lb_status lb_dev_graph_add(lb_dev_graph *g, const lb_dev_launch *l, const lb_dev_shape *s,
                           lb_err *err) {
    if (g->n == g->cap) {
        const u32 cap = LB_MAX(64u, 2 * g->cap);
        lb_dev_record *more = lb_realloc(g->rec, cap * sizeof *more);
        if (!more)
            return lb_fail(err, LB_E_NOMEM, "out of memory for a recording");
        g->rec = more;
        g->cap = cap;
    }
    lb_dev_record *r = &g->rec[g->n++];
    *r = (lb_dev_record){.is_barrier = l == NULL};
    if (l) {
        r->launch = *l;
        r->shape = *s;
        memcpy(r->val, l->val, l->val_bytes);
        r->launch.val = NULL; /* r moves: see lb_dev_record_launch */
    }
    return LB_OK;
}

lb_dev_launch lb_dev_record_launch(const lb_dev_record *r) {
    lb_dev_launch l = r->launch;
    l.val = r->val;
    return l;
}

bool lb_dev_graph_equal(const lb_dev_graph *a, const lb_dev_graph *b) {
    bool same = a->n == b->n;
    for (u32 i = 0; same && i < a->n; i++) {
        const lb_dev_record *x = &a->rec[i], *y = &b->rec[i];
        same = x->is_barrier == y->is_barrier && x->launch.kernel == y->launch.kernel &&
               x->launch.n_bufs == y->launch.n_bufs &&
               memcmp(x->val, y->val, x->launch.val_bytes) == 0;
        for (u32 k = 0; same && k < x->launch.n_bufs; k++)
            same = x->launch.buf[k].buf == y->launch.buf[k].buf &&
                   x->launch.buf[k].off_bytes == y->launch.buf[k].off_bytes;
    }
    return same;
}

static lb_status one_by_one(lb_dev_queue *q, const lb_dev_graph *g, lb_err *err) {
    for (u32 i = 0; i < g->n; i++) {
        const lb_dev_record *r = &g->rec[i];
        const lb_dev_launch l = lb_dev_record_launch(r);
        LB_TRY(r->is_barrier ? q->dev->ops->barrier(q, err)
                             : q->dev->ops->launch(q, &l, &r->shape, err));
    }
    return LB_OK;
}

lb_status lb_dev_graph_run(lb_dev_queue *q, lb_dev_graph *g, lb_err *err) {
    LB_TRY(lb_dev_alive(q->dev, err));
    if (!g || g->dev != q->dev || q->recording)
        return lb_fail(err, LB_E_USAGE, "%s: a recording of another device, or while one is made",
                       q->dev->info.id);
    const lb_status st = g->impl ? q->dev->ops->graph_run(q, g, err) : one_by_one(q, g, err);
    for (u32 i = 0; i < g->n; i++) { /* the device is at it already */
        const lb_dev_launch *l = &g->rec[i].launch;
        for (u32 k = 0; k < l->n_bufs; k++)
            lb_dev_submitted(q, l->buf[k].buf, NULL);
        q->dev->stats.launches += !g->rec[i].is_barrier;
    }
    g->used_at = q->dev->submissions;
    q->dev->stats.graphs++;
    return st;
}
