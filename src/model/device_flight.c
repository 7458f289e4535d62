/* SPDX-License-Identifier: Apache-2.0 */
/* device_flight.c: batches of a long prompt behind one another on the devices. Queues keep their
 * order, links between parts wait by events, and so what a batch needs of the one before, its keys
 * and states, is there: while the second device has a batch the first one computes the next. The
 * host alone must not write what is still to be copied: each batch in flight has its own memory
 * there, which is taken again when all parts have copied it. */
#include "model/device_graph.h"
#include "model/device_parts.h"

/* Each part computes one, one waits for each of them, and the host makes another. */
static u32 n_places(const lb_context *c) {
    u32 n = 2;
    for (const lb_dcontext *d = c->parts; d; d = d->next)
        n++;
    return LB_MIN(n, LB_DFLIGHT);
}

bool lb_device_may_fly(const lb_context *c, const u8 *want) {
    bool any = !c->parts->r->embeds; /* the CPU's layers have one place for what they give */
    for (u32 t = 0; t < c->n && !any; t++)
        any = want[t] != 0;
    return !any;
}

bool lb_device_in_flight(const lb_context *c) {
    return c->device && c->parts->n_flying;
}

lb_status lb_device_land(lb_context *c, lb_err *err) {
    return lb_device_in_flight(c) ? lb_device_settle(c, err) : LB_OK;
}

lb_status lb_device_next_host(lb_context *c, lb_err *err) {
    lb_dcontext *first = c->parts;
    const u32 next = (first->host_at + 1) % n_places(c);
    lb_err why = {0};
    if (!first->n_flying)
        return LB_OK;
    if (!first->hosts[next]) {
        const lb_status st = lb_dev_buf_new(first->r->d, LB_DEV_HOST, lb_dev_buf_bytes(first->host),
                                            &first->hosts[next], &why);
        if (st == LB_E_NOMEM || st == LB_E_LIMIT) /* then one place is for all */
            return lb_device_settle(c, err);
        if (st != LB_OK && err)
            *err = why;
        LB_TRY(st);
    }
    for (const lb_dcontext *d = first; d; d = d->next)
        if (d->sent[next])
            LB_TRY(lb_dev_event_wait(d->sent[next], err));
    first->host_at = next;
    first->host = first->hosts[next];
    return LB_OK;
}

lb_status lb_device_sent(const lb_context *c, lb_dcontext *to, lb_err *err) {
    lb_dev_event **e = &to->sent[c->parts->host_at];
    if (!c->parts->flies)
        return LB_OK;
    if (!*e)
        LB_TRY(lb_dev_event_new(to->r->d, e, err));
    return lb_dev_event_record(*e, to->r->q, err);
}

void lb_device_flight_end(lb_dcontext *d) {
    for (u32 i = 0; i < LB_DFLIGHT; i++) {
        lb_dev_buf_free(&d->hosts[i]);
        lb_dev_event_free(&d->sent[i]);
    }
    d->host = NULL;
}
