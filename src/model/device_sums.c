/* SPDX-License-Identifier: Apache-2.0 */
/* device_sums.c: of the input of every matrix the sum of squares of each column, where products are
 * a device's: a kernel beside the product adds them to LB_DBUF_SUMS, from where the host fetches
 * them when it asks. A matrix has a place there: counts [n_mats] of u32, then sums [n_mats, n_cols]
 * of f32, each at a multiple of LB_DEV_ALIGN; places follow each other as lb_resident_linear counts
 * them. What products read must stand in memory as it is: norms and activations are kernels of
 * their own in such a session. */
#include "model/device_parts.h"

#define WINDOW_BYTES (8 * LB_MIB) /* of places that are fetched at once, unless one is larger */

static u64 counts_bytes(const lb_dlinear *l) {
    return lb_round_up(4ull * l->n_mats, LB_DEV_ALIGN);
}

u64 lb_dsums_bytes(const lb_dlinear *l) {
    return counts_bytes(l) + lb_round_up(4ull * l->n_mats * l->n_cols, LB_DEV_ALIGN);
}

/* Of part r, number i; *end: there are no more. NULL: it has none. */
static const lb_dlinear *linear_at(const lb_resident *r, u32 layer, u32 k, bool *end) {
    const lb_dlinear *l = layer < r->end      ? lb_resident_linear(r, layer, k)
                          : k == 0 && r->ends ? &r->output
                                              : NULL;
    *end = !l;
    return l && l->w ? l : NULL;
}

lb_status lb_dsums_add(const lb_context *c, const lb_dproduct *p, u32 per, lb_dev_arg routes,
                       lb_err *err) {
    const lb_dlinear *l = p->l;
    const lb_sums_args a = {.n_rows = p->n,
                            .n_cols = l->n_cols,
                            .stride = p->in.stride ? p->in.stride : l->n_cols,
                            .per = per,
                            .n_mats = per ? l->n_mats : 1};
    lb_dev_buf *b = c->device->buf[LB_DBUF_SUMS];
    if (!c->o.sums || !l->w)
        return LB_OK;
    LB_ASSERT(p->in.pre == LB_DEV_PRE_NONE);
    const lb_dev_arg buf[] = {p->in.x,
                              per ? routes : c->device->r->zeros,
                              {b, l->sums_at + counts_bytes(l)},
                              {b, l->sums_at}};
    return lb_dlaunch(c, LB_DK_column_sums, buf, &a, err);
}

/* ---- to the host ---- */

typedef struct taking {
    lb_dcontext *d;
    lb_sums_fn *fn;
    void *user;
    const lb_dlinear *list[64]; /* of the window */
    u32 n;
    u64 from, end; /* bytes of LB_DBUF_SUMS */
} taking;

static void give(const taking *t, const lb_dlinear *l) {
    const u8 *at = (const u8 *)lb_dev_buf_host(t->d->sums) + (l->sums_at - t->from);
    const u32 *counts = (const u32 *)(const void *)at;
    const float *sums = (const float *)(const void *)(at + counts_bytes(l));
    for (u32 i = 0; i < l->n_mats; i++)
        if (counts[i])
            t->fn(t->user, l->w, l->n_mats == 1 ? LB_NO_INDEX : i, sums + (u64)i * l->n_cols,
                  counts[i]);
}

/* The window's places, and zeros in their place. */
static lb_status flush(taking *t, lb_err *err) {
    lb_dcontext *d = t->d;
    lb_dev_queue *q = d->r->q;
    u8 *host = lb_dev_buf_host(d->sums);
    const u64 n = t->end - t->from;
    if (!n)
        return LB_OK;
    if (t->fn) {
        LB_TRY(lb_dev_queue_read(q, host, d->buf[LB_DBUF_SUMS], t->from, n, err));
        LB_TRY(lb_dev_queue_wait(q, err));
        for (u32 i = 0; i < t->n; i++)
            give(t, t->list[i]);
    }
    t->n = 0;
    memset(host, 0, (size_t)n);
    return lb_dev_queue_write(q, d->buf[LB_DBUF_SUMS], t->from, host, n, err);
}

static lb_status take(lb_dcontext *d, lb_sums_fn *fn, void *user, lb_err *err) {
    taking t = {.d = d, .fn = fn, .user = user};
    const lb_resident *r = d->r;
    for (u32 layer = r->first; layer <= r->end; layer++) {
        bool end = false;
        for (u32 k = 0; !end; k++) {
            const lb_dlinear *l = linear_at(r, layer, k, &end);
            if (!l)
                continue;
            const u64 to = l->sums_at + lb_dsums_bytes(l);
            LB_ASSERT(l->sums_at >= t.end);
            if (to - t.from > lb_dev_buf_bytes(d->sums) || t.n == LB_LEN(t.list)) {
                LB_TRY(flush(&t, err));
                t.from = l->sums_at;
            }
            t.list[t.n++] = l;
            t.end = to;
        }
    }
    LB_TRY(flush(&t, err));
    return lb_dev_queue_wait(r->q, err);
}

lb_status lb_dsums_begin(lb_context *c, lb_err *err) {
    lb_dcontext *d = c->device;
    u64 most = LB_MIN(d->r->sums_bytes, (u64)WINDOW_BYTES);
    if (!c->o.sums)
        return LB_OK;
    for (u32 layer = d->r->first; layer <= d->r->end; layer++) {
        bool end = false;
        for (u32 k = 0; !end; k++) {
            const lb_dlinear *l = linear_at(d->r, layer, k, &end);
            most = l ? LB_MAX(most, lb_dsums_bytes(l)) : most;
        }
    }
    LB_TRY(lb_dev_buf_new(d->r->d, LB_DEV_HOST, LB_MAX(most, (u64)LB_DEV_ALIGN), &d->sums, err));
    return take(d, NULL, NULL, err);
}

lb_status lb_context_take_sums(lb_context *c, lb_sums_fn *fn, void *user, lb_err *err) {
    lb_status st = LB_OK;
    for (lb_dcontext *d = c->o.sums ? c->parts : NULL; d && st == LB_OK; d = d->next)
        st = take(d, fn, user, err);
    return st;
}
