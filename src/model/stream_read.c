/* SPDX-License-Identifier: Apache-2.0 */
/* stream_read.c: threads that fill units from their files, a piece at a time, in the order of a
 * queue. Who waits for a unit reads pieces too. */
#include "model/stream_internal.h"

#define PIECE_BYTES LB_MIB

void lb_reading_init(lb_reading *r, const lb_span *spans) {
    *r = (lb_reading){.spans = spans};
    lb_mutex_init(&r->lock);
    lb_cond_init(&r->work);
    lb_cond_init(&r->done);
}

void lb_reading_deinit(lb_reading *r) {
    lb_cond_deinit(&r->work);
    lb_cond_deinit(&r->done);
    lb_mutex_deinit(&r->lock);
}

static void take_out(lb_reading *r, lb_unit *u) {
    lb_unit **at = &r->first;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    u->queued = false;
}

static void put_in(lb_reading *r, lb_unit *u, bool now) {
    lb_unit **at = &r->first;
    while (!now && *at)
        at = &(*at)->next;
    u->next = *at;
    *at = u;
    u->queued = true;
}

/* Reads the next piece of the queue, if there is one; the lock is held before and after. */
static bool read_piece(lb_reading *r) {
    lb_unit *u = r->first;
    lb_err err = {0};
    if (!u)
        return false;
    const lb_span *s = &r->spans[u->first_span + u->span];
    u64 off = u->off, n = LB_MIN(s->n - off, PIECE_BYTES);
    u->off += n;
    if (u->off == s->n) {
        u->off = 0;
        if (++u->span == u->n_spans)
            take_out(r, u);
    }
    u->flying++;
    lb_unlock(&r->lock);
    lb_status st =
        lb_mapped_read(s->file, u->to + s->at + off, (u64)(s->from - s->file->base) + off, n, &err);
    lb_lock(&r->lock);
    u->flying--;
    u->left -= n;
    r->read_bytes += n;
    if (st != LB_OK && !r->failed) {
        r->failed = true;
        r->err = err;
    }
    if (!u->left || !u->flying || r->failed)
        lb_wake_all(&r->done);
    return true;
}

static void *reader_main(void *arg) {
    lb_reading *r = arg;
    lb_lock(&r->lock);
    while (!r->quit)
        if (!read_piece(r))
            lb_wait(&r->work, &r->lock);
    lb_unlock(&r->lock);
    return NULL;
}

lb_status lb_reading_start(lb_reading *r, lb_err *err) {
    lb_status st = LB_OK;
    r->quit = r->failed = false;
    for (u32 i = 0; i < LB_READERS && st == LB_OK; i++)
        st = lb_thread_start(&r->thread[i], reader_main, r, err);
    if (st != LB_OK)
        lb_reading_stop(r);
    return st;
}

void lb_reading_stop(lb_reading *r) {
    lb_lock(&r->lock);
    r->quit = true;
    while (r->first)
        take_out(r, r->first);
    lb_wake_all(&r->work);
    lb_unlock(&r->lock);
    for (u32 i = 0; i < LB_READERS; i++)
        lb_thread_join(&r->thread[i]);
}

static u64 bytes_of(const lb_reading *r, const lb_unit *u) {
    u64 n = 0;
    for (u32 i = 0; i < u->n_spans; i++)
        n += r->spans[u->first_span + i].n;
    return n;
}

void lb_reading_add(lb_reading *r, lb_unit *u, bool now) {
    if (!u->n_spans)
        return;
    lb_lock(&r->lock);
    u->span = 0;
    u->off = 0;
    u->left = bytes_of(r, u);
    put_in(r, u, now);
    lb_wake_all(&r->work);
    lb_unlock(&r->lock);
}

static lb_status failure(const lb_reading *r, lb_err *err) {
    if (err && r->failed)
        *err = r->err;
    return r->failed ? r->err.code : LB_OK;
}

lb_status lb_reading_status(lb_reading *r, lb_err *err) {
    lb_lock(&r->lock);
    lb_status st = failure(r, err);
    lb_unlock(&r->lock);
    return st;
}

lb_status lb_reading_wait(lb_reading *r, lb_unit *u, lb_err *err) {
    lb_lock(&r->lock);
    if (u->queued && r->first != u) {
        take_out(r, u);
        put_in(r, u, true);
    }
    while (u->left && !r->failed)
        if (!u->queued || !read_piece(r)) /* what others have begun */
            lb_wait(&r->done, &r->lock);
    lb_status st = failure(r, err);
    lb_unlock(&r->lock);
    return st;
}

void lb_reading_cancel(lb_reading *r, lb_unit *u) {
    lb_lock(&r->lock);
    if (u->queued)
        take_out(r, u);
    while (u->flying)
        lb_wait(&r->done, &r->lock);
    u->left = 0;
    lb_unlock(&r->lock);
}
