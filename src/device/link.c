/* SPDX-License-Identifier: Apache-2.0 */
/* link.c: see link.h. The source's queue waits for the end of each copy: what it writes to the
 * buffer next, and whoever waits for it to free that buffer, comes after. */
#include "device/link.h"
#include "device/backend.h"

struct lb_dev_link {
    lb_dev_queue *from, *to;
    lb_dev_event *ready, *done; /* of the source's device, of the target's */
    lb_dev_buf *between;        /* the source's, pinned; NULL: not needed */
    u64 max_bytes;
};

lb_status lb_dev_link_new(lb_dev_link **out, lb_dev_queue *from, lb_dev_queue *to, u64 max_bytes,
                          lb_err *err) {
    bool direct = false;
    *out = NULL;
    LB_TRY(lb_dev_peer(to->dev, from->dev, &direct, err));
    lb_dev_link *l = lb_alloc_zero(1, sizeof *l);
    if (!l)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a link between devices");
    *l = (lb_dev_link){.from = from, .to = to, .max_bytes = max_bytes};
    lb_status st = lb_dev_event_new(from->dev, &l->ready, err);
    if (st == LB_OK)
        st = lb_dev_event_new(to->dev, &l->done, err);
    if (st == LB_OK && !direct)
        st = lb_dev_buf_new(from->dev, LB_DEV_HOST, max_bytes, &l->between, err);
    if (st == LB_OK)
        *out = l;
    else
        lb_dev_link_free(&l);
    return st;
}

void lb_dev_link_free(lb_dev_link **out) {
    lb_dev_link *l = *out;
    lb_err ignored;
    if (!l)
        return;
    if (l->between)
        (void)lb_dev_queue_wait(l->to, &ignored); /* it may still read what the source owns */
    lb_dev_buf_free(&l->between);
    lb_dev_event_free(&l->ready);
    lb_dev_event_free(&l->done);
    lb_free(l);
    *out = NULL;
}

static lb_status move(const lb_dev_link *l, lb_dev_arg to, lb_dev_arg from, u64 bytes,
                      lb_err *err) {
    if (l->between)
        LB_TRY(lb_dev_queue_read(l->from, lb_dev_buf_host(l->between), from.buf, from.off_bytes,
                                 bytes, err));
    LB_TRY(lb_dev_event_record(l->ready, l->from, err));
    LB_TRY(lb_dev_event_await(l->ready, l->to, err));
    LB_TRY(l->between ? lb_dev_queue_write(l->to, to.buf, to.off_bytes, lb_dev_buf_host(l->between),
                                           bytes, err)
                      : lb_dev_queue_copy_peer(l->to, to, from, bytes, err));
    LB_TRY(lb_dev_event_record(l->done, l->to, err));
    return lb_dev_event_await(l->done, l->from, err);
}

lb_status lb_dev_link_copy(lb_dev_link *l, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                           lb_err *err) {
    if (size_bytes > l->max_bytes)
        return lb_fail(err, LB_E_USAGE, "%s: a copy of %llu bytes over a link for %llu",
                       l->to->dev->info.id, (unsigned long long)size_bytes,
                       (unsigned long long)l->max_bytes);
    if (!from.buf || from.buf->dev != l->from->dev)
        return lb_fail(err, LB_E_USAGE, "%s: a copy of a buffer of another device",
                       l->from->dev->info.id);
    /* the source's queue is what its buffer waits for (pool.c) */
    lb_dev_submitted(l->from, from.buf, NULL);
    return size_bytes ? move(l, to, from, size_bytes, err) : LB_OK;
}

bool lb_dev_link_is_direct(const lb_dev_link *l) {
    return l->between == NULL;
}
