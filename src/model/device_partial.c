/* SPDX-License-Identifier: Apache-2.0 */
/* device_partial.c: partial.h of a session that one device computes alone: some layers, states to
 * logits, a tensor in another form. What stands for a tensor is copied there and takes its place in
 * the part's layers, until it is taken back. */
#include "model/device_layers.h"
#include "model/device_parts.h"

lb_status lb_device_can_part(const lb_context *c, lb_err *err) {
    const lb_resident *r = c->parts->r;
    const char *why = !r->embeds || !r->ends || r->n_ranks > 1
                          ? "it lies on other devices or the CPU, too"
                      : c->m->layer_embd ? "they have inputs of their own"
                                         : NULL;
    return why ? lb_fail(err, LB_E_UNSUPPORTED,
                         "%s: layers of the model are not run one by one: %s: use --device cpu",
                         lb_resident_device(r)->id, why)
               : LB_OK;
}

/* What was submitted reads and writes the caller's memory. */
static lb_status settled(lb_context *c, lb_status st, lb_err *err) {
    lb_err ignored;
    const lb_status waited = lb_device_settle(c, st == LB_OK ? err : &ignored);
    return st == LB_OK ? waited : st;
}

static lb_status run_part(lb_context *c, u32 first, u32 end, float *x, lb_err *err) {
    const lb_dcontext *d = c->device;
    const u64 bytes = 4ull * c->n * c->m->p.n_embd;
    LB_TRY(lb_device_put_batch(c, c->want, err));
    LB_TRY(lb_device_try(c, err));
    if (first)
        LB_TRY(lb_dev_queue_write(d->r->q, d->buf[LB_DBUF_X], 0, x, bytes, err));
    else
        LB_TRY(lb_device_first(c, err));
    LB_TRY(lb_device_run_layers(c, first, end, err));
    return lb_dev_queue_read(d->r->q, x, d->buf[LB_DBUF_X], 0, bytes, err);
}

lb_status lb_device_layers(lb_context *c, u32 first, u32 end, float *x, lb_err *err) {
    memset(c->want, 0, c->n);
    return settled(c, run_part(c, first, end, x, err), err);
}

static lb_status run_head(lb_context *c, const float *x, float *logits, lb_err *err) {
    lb_dcontext *d = c->device;
    const u64 meta = lb_device_lay_out(c, c->n, c->n);
    for (u32 t = 0; t < c->n; t++)
        lb_device_section(c, LB_DMETA_WANT)[t] = t;
    d->n_want = c->n;
    LB_TRY(lb_device_send(c, meta, err));
    LB_TRY(lb_device_try(c, err));
    LB_TRY(lb_dev_queue_write(d->r->q, d->buf[LB_DBUF_X], 0, x, 4ull * c->n * c->m->p.n_embd, err));
    LB_TRY(lb_device_last(c, err));
    return lb_device_read_logits(c, logits, err);
}

lb_status lb_device_head(lb_context *c, u32 n, const float *x, float *logits, lb_err *err) {
    c->n = n;
    LB_TRY(settled(c, run_head(c, x, logits, err), err));
    lb_device_take_row(c->device, c->m->p.n_vocab, logits);
    return LB_OK;
}

/* ---- a tensor in another form ---- */

static void take_back(lb_dcontext *d) {
    lb_resident *r = d->r;
    for (u32 i = 0; i < d->n_swaps; i++)
        *d->swap[i].at = d->swap[i].was;
    if (d->n_swaps)
        r->embd = d->embd_was;
    d->n_swaps = 0;
    lb_resident_drop(r, d->n_bufs);
}

static lb_dlinear *linear_of(const lb_resident *r, const lb_mweight *w) {
    lb_dlinear *l;
    for (u32 i = r->first; i < r->end; i++)
        for (u32 k = 0; (l = lb_resident_linear(r, i, k)) != NULL; k++)
            if (l->w == w)
                return l;
    return NULL;
}

static lb_status put_one(lb_dcontext *d, const lb_model *m, const lb_swap *s, bool halves,
                         lb_err *err) {
    lb_resident *r = d->r;
    lb_dlinear *at = s->from == m->output.w ? &r->output : linear_of(r, s->from), to = {0};
    LB_ASSERT(d->n_swaps < LB_LEN(d->swap));
    if (!at && s->from != m->embd && halves)
        return LB_OK; /* of a tensor in two halves, which follow */
    if (!at && s->from != m->embd)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s' is no matrix of %s",
                       LB_FMT(s->from->name), lb_resident_device(r)->id);
    LB_TRY(lb_resident_put(r, &s->to, &to, err));
    if (s->from == m->embd) /* the table, which may be the head, too */
        r->embd = to.parts[0];
    if (!at || at->parts == &r->embd)
        at = &d->unused;
    to.bias = at->bias;
    to.w = at->w;
    to.sums_at = at->sums_at;
    d->swap[d->n_swaps].at = at;
    d->swap[d->n_swaps++].was = *at;
    *at = to;
    return LB_OK;
}

lb_status lb_device_swap(lb_context *c, lb_err *err) {
    lb_dcontext *d = c->device;
    lb_status st = LB_OK;
    if (d->n_swaps)
        take_back(d);
    d->n_bufs = d->r->n_bufs;
    d->embd_was = d->r->embd;
    for (u32 i = 0; i < c->n_swaps && st == LB_OK; i++)
        st = put_one(d, c->m, &c->swap[i], i == 0 && c->n_swaps > 1, err);
    if (st != LB_OK)
        take_back(d);
    return st;
}
