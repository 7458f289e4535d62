/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c: freed buffers by size class, the budget, what to do when memory is out. */
#include "device/backend.h"
#include "io/size.h"

#define LB_DEV_ROUND 256u
#define ROUND_MAX (2 * LB_MIB)

void lb_dev_buf_link(lb_dev_buf **list, lb_dev_buf *b) {
    b->prev = NULL;
    b->next = *list;
    if (*list)
        (*list)->prev = b;
    *list = b;
}

void lb_dev_buf_unlink(lb_dev_buf **list, lb_dev_buf *b) {
    if (b->prev)
        b->prev->next = b->next;
    else
        *list = b->next;
    if (b->next)
        b->next->prev = b->prev;
    b->next = b->prev = NULL;
}

lb_status lb_dev_settle(lb_dev *d, u64 used_at, lb_err *err) {
    for (lb_dev_queue *q = d->queues; q; q = q->next)
        if (q->pending_from && q->pending_from <= used_at)
            LB_TRY(lb_dev_queue_wait(q, err));
    return LB_OK;
}

/* An eighth of the size's power of two, so that at most an eighth is lost; 256 bytes at least, 2
 * MiB at most. */
static bool room_of(const lb_dev *d, u64 size_bytes, u64 *room) {
    u64 step = LB_DEV_ROUND;
    if (d->opts.exact) {
        *room = size_bytes;
        return true;
    }
    while (step < ROUND_MAX && step * 16 <= size_bytes)
        step *= 2;
    return lb_align_u64(size_bytes, step, room);
}

static void drop(lb_dev *d, lb_dev_buf *b) {
    lb_dev_buf_unlink(&d->pool, b);
    d->stats.pool_bytes -= b->room_bytes;
    d->ops->buf_free(b);
    lb_free(b);
}

void lb_dev_pool_trim(lb_dev *d) {
    lb_err ignored;
    (void)lb_dev_settle(d, d->submissions, &ignored);
    while (d->pool)
        drop(d, d->pool);
}

static lb_dev_buf *find(lb_dev *d, lb_dev_place place, u64 room_bytes) {
    for (lb_dev_buf *b = d->pool; b; b = b->next)
        if (b->place == place && b->room_bytes == room_bytes)
            return b;
    return NULL;
}

static void count_peak(lb_dev *d) {
    d->stats.peak_bytes = LB_MAX(d->stats.peak_bytes, d->stats.used_bytes + d->stats.pool_bytes);
}

/* What is in use of the memory that a budget is for: pinned memory is the host's. */
static u64 own_used(const lb_dev *d) {
    return d->stats.used_bytes - (d->info.unified ? 0 : d->host_bytes);
}

static lb_status make(lb_dev *d, lb_dev_place place, u64 room_bytes, lb_dev_buf **out,
                      lb_err *err) {
    lb_err why = {0};
    lb_dev_buf *b = lb_alloc_zero(1, sizeof *b);
    if (!b)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a buffer's record");
    b->dev = d;
    b->place = place;
    b->room_bytes = room_bytes;
    lb_status st = d->ops->buf_new(b, &why);
    if (st == LB_E_NOMEM && d->pool) {
        lb_dev_pool_trim(d);
        st = d->ops->buf_new(b, &why);
    }
    if (st != LB_OK) {
        lb_free(b);
        if (err)
            *err = why;
        return st;
    }
    d->stats.allocations++;
    *out = b;
    return LB_OK;
}

lb_status lb_dev_pool_take(lb_dev *d, lb_dev_place place, u64 size_bytes, lb_dev_buf **out,
                           lb_err *err) {
    const u64 budget = d->opts.memory_bytes;
    const bool limited = budget && (place == LB_DEV_OWN || d->info.unified);
    u64 room;
    if (!room_of(d, size_bytes, &room))
        return lb_fail(err, LB_E_USAGE, "%s: a buffer of %llu bytes", d->info.id,
                       (unsigned long long)size_bytes);
    lb_dev_buf *b = find(d, place, room);
    if (b) {
        LB_TRY(lb_dev_settle(d, b->used_at, err));
        lb_dev_buf_unlink(&d->pool, b);
        d->stats.pool_bytes -= room;
        d->stats.reuses++;
    } else {
        if (limited && (room > budget || own_used(d) > budget - room)) {
            char want[LB_SIZE_TEXT], used[LB_SIZE_TEXT], all[LB_SIZE_TEXT];
            return lb_fail(err, LB_E_LIMIT,
                           "%s: %s more than the %s in use do not fit --device-memory %s",
                           d->info.id, lb_size_text(room, want), lb_size_text(own_used(d), used),
                           lb_size_text(budget, all));
        }
        if (limited && own_used(d) + d->stats.pool_bytes > budget - room)
            lb_dev_pool_trim(d);
        LB_TRY(make(d, place, room, &b, err));
    }
    b->size_bytes = size_bytes;
    d->stats.used_bytes += room;
    d->host_bytes += place == LB_DEV_HOST ? room : 0;
    count_peak(d);
    lb_dev_buf_link(&d->bufs, b);
    *out = b;
    return LB_OK;
}

void lb_dev_pool_give(lb_dev_buf *b) {
    lb_dev *d = b->dev;
    lb_err ignored;
    lb_dev_buf_unlink(&d->bufs, b);
    if (!b->mapped) {
        d->stats.used_bytes -= b->room_bytes;
        d->host_bytes -= b->place == LB_DEV_HOST ? b->room_bytes : 0;
    }
    if (b->mapped || d->opts.exact || d->lost[0]) {
        (void)lb_dev_settle(d, b->used_at, &ignored);
        d->ops->buf_free(b);
        lb_free(b);
        return;
    }
    d->stats.pool_bytes += b->room_bytes;
    lb_dev_buf_link(&d->pool, b);
}
