/* SPDX-License-Identifier: Apache-2.0 */
/* metal_queue.c: what is submitted to a GPU of Apple's: command buffers, encoders, copies, events.
 *
 * Buffers are not tracked by the system: all order is made here. Kernels of one encoder may run in
 * any order but for barriers; each encoder waits for the fence that the one before it updates, so
 * encoders of a queue follow each other. A command buffer is committed when it is waited for,
 * marked by an event, or has as many launches as tuning.def says, so that the GPU begins while the
 * host goes on; those that are under way are kept until they have been waited for, since an error
 * is theirs.
 * Copies from and to the host are the host's: memory is one. */
#include "device/metal.h"
#include <stdio.h>

enum { SENT_MAX = 32 }; /* command buffers under way; a queue of Metal's takes 64 */

typedef struct metal_queue {
    void *queue, *fence;
    bool fence_used;
    void *buffer;   /* the command buffer that is being written, NULL: none */
    void *encoder;  /* of it, NULL: none open */
    bool is_blit;   /* which kind of encoder */
    u32 n_encoders; /* of the command buffer */
    u32 n_launches;
    u32 n_sent;
    void *sent[SENT_MAX]; /* committed, the oldest first */
} metal_queue;

typedef struct metal_event {
    void *event;
    u64 value;  /* of the last mark */
    void *mark; /* the command buffer whose end it is */
} metal_event;

static const lb_metal_api *api_of(const lb_dev *d) {
    const lb_metal *m = d->impl;
    return &m->api;
}

/* ---- command buffers ---- */

static lb_status failed(lb_dev *d, void *buffer, lb_err *err) {
    const lb_metal_api *a = api_of(d);
    void *error = LB_SEND0(a, error, buffer);
    const long code = error ? LB_SEND0(a, code, error) : 0;
    char text[192];
    lb_metal_error(a, error, text, sizeof text);
    if (code == LB_MTL_ERROR_OUT_OF_MEMORY)
        return lb_fail(err, LB_E_NOMEM, "metal: the GPU has not enough memory for its work: %s",
                       text);
    (void)snprintf(d->lost, sizeof d->lost, "%s (%ld)", text, code);
    return lb_fail(err, LB_E_IO, "metal: the device was lost: %s", d->lost);
}

static lb_status complete(lb_dev *d, void *buffer, lb_err *err) {
    const lb_metal_api *a = api_of(d);
    LB_SEND0(a, wait, buffer);
    return LB_SEND0(a, status, buffer) == LB_MTL_STATUS_COMPLETED ? LB_OK : failed(d, buffer, err);
}

/* The oldest n of those under way; the first error of them. */
static lb_status collect(lb_dev_queue *q, u32 n, lb_err *err) {
    metal_queue *mq = q->impl;
    lb_status first = LB_OK;
    lb_err later;
    for (u32 i = 0; i < n; i++) {
        const lb_status st = complete(q->dev, mq->sent[i], first == LB_OK ? err : &later);
        first = first == LB_OK ? st : first;
        lb_metal_release(api_of(q->dev), mq->sent[i]);
    }
    mq->n_sent -= n;
    memmove(mq->sent, mq->sent + n, mq->n_sent * sizeof *mq->sent);
    return first;
}

static void end_encoder(lb_dev_queue *q) {
    metal_queue *mq = q->impl;
    const lb_metal_api *a = api_of(q->dev);
    if (!mq->encoder)
        return;
    LB_SEND(a, update_fence, mq->encoder, mq->fence);
    LB_SEND0(a, end, mq->encoder);
    lb_metal_release(a, mq->encoder);
    mq->encoder = NULL;
    mq->fence_used = true;
}

static lb_status commit(lb_dev_queue *q, lb_err *err) {
    metal_queue *mq = q->impl;
    if (!mq->buffer)
        return LB_OK;
    end_encoder(q);
    LB_SEND0(api_of(q->dev), commit, mq->buffer);
    mq->sent[mq->n_sent++] = mq->buffer;
    mq->buffer = NULL;
    mq->n_encoders = mq->n_launches = 0;
    return mq->n_sent == SENT_MAX ? collect(q, 1, err) : LB_OK;
}

static lb_status begin_buffer(lb_dev_queue *q, lb_err *err) {
    metal_queue *mq = q->impl;
    const lb_metal_api *a = api_of(q->dev);
    if (mq->buffer)
        return LB_OK;
    void *made = LB_SEND0(a, command_buffer, mq->queue);
    if (!made)
        return lb_fail(err, LB_E_NOMEM, "metal: out of memory for a command buffer");
    mq->buffer = LB_SEND0(a, retain, made);
    return LB_OK;
}

static lb_status begin_encoder(lb_dev_queue *q, bool blit, lb_err *err) {
    metal_queue *mq = q->impl;
    const lb_metal_api *a = api_of(q->dev);
    LB_TRY(begin_buffer(q, err));
    if (mq->encoder && mq->is_blit == blit)
        return LB_OK;
    end_encoder(q);
    void *made = blit ? LB_SEND0(a, blit, mq->buffer)
                      : LB_SEND(a, compute, mq->buffer, (unsigned long)LB_MTL_CONCURRENT);
    if (!made)
        return lb_fail(err, LB_E_NOMEM, "metal: out of memory for an encoder");
    mq->encoder = LB_SEND0(a, retain, made);
    mq->is_blit = blit;
    mq->n_encoders++;
    if (mq->fence_used)
        LB_SEND(a, wait_fence, mq->encoder, mq->fence);
    return LB_OK;
}

static lb_status finish(lb_dev_queue *q, lb_err *err) {
    const metal_queue *mq = q->impl;
    lb_err later;
    const lb_status st = commit(q, err);
    const lb_status rest = collect(q, mq->n_sent, st == LB_OK ? err : &later);
    return st == LB_OK ? rest : st;
}

/* What a call makes of objects that it does not keep goes with its pool. */
static void *enter(const lb_dev *d) {
    return api_of(d)->objc_autoreleasePoolPush();
}

static lb_status leave(const lb_dev *d, void *pool, lb_status st) {
    api_of(d)->objc_autoreleasePoolPop(pool);
    return st;
}

lb_status lb_metal_wait(lb_dev_queue *q, lb_err *err) {
    void *pool = enter(q->dev);
    return leave(q->dev, pool, finish(q, err));
}

void lb_metal_drain(lb_dev *d) {
    lb_err ignored;
    for (lb_dev_queue *q = d->queues; q; q = q->next)
        while (((metal_queue *)q->impl)->buffer || ((metal_queue *)q->impl)->n_sent)
            (void)lb_metal_wait(q, &ignored);
}

/* ---- queues ---- */

lb_status lb_metal_queue_new(lb_dev_queue *q, lb_err *err) {
    const lb_metal *m = q->dev->impl;
    metal_queue *mq = lb_alloc_zero(1, sizeof *mq);
    if (!mq)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a queue");
    mq->queue = LB_SEND0(&m->api, new_queue, m->device);
    mq->fence = LB_SEND0(&m->api, new_fence, m->device);
    q->impl = mq;
    if (mq->queue && mq->fence)
        return LB_OK;
    lb_metal_release(&m->api, mq->queue);
    lb_metal_release(&m->api, mq->fence);
    lb_free(mq);
    return lb_fail(err, LB_E_NOMEM, "metal: out of memory for a command queue");
}

/* device.c has taken it from the list; a lost device's has not been waited for. */
void lb_metal_queue_free(lb_dev_queue *q) {
    metal_queue *mq = q->impl;
    lb_err ignored;
    while (mq->buffer || mq->n_sent)
        (void)lb_metal_wait(q, &ignored);
    lb_metal_release(api_of(q->dev), mq->fence);
    lb_metal_release(api_of(q->dev), mq->queue);
    lb_free(mq);
}

static u8 *at(lb_dev_arg a) {
    return (u8 *)a.buf->host + a.off_bytes;
}

lb_status lb_metal_write(lb_dev_queue *q, lb_dev_arg to, const void *from, u64 bytes, lb_err *err) {
    LB_TRY(lb_metal_wait(q, err));
    memcpy(at(to), from, (size_t)bytes);
    return LB_OK;
}

lb_status lb_metal_read(lb_dev_queue *q, void *to, lb_dev_arg from, u64 bytes, lb_err *err) {
    LB_TRY(lb_metal_wait(q, err));
    memcpy(to, at(from), (size_t)bytes);
    return LB_OK;
}

static unsigned long offset_of(lb_dev_arg a) {
    return lb_metal_lead(a.buf) + (unsigned long)a.off_bytes;
}

/* The GPU copies words; what is no whole number of them the host does. */
lb_status lb_metal_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes, lb_err *err) {
    const metal_queue *mq = q->impl;
    const unsigned long to_off = offset_of(to), from_off = offset_of(from);
    if ((to_off | from_off | bytes) % 4) {
        LB_TRY(lb_metal_wait(q, err));
        memcpy(at(to), at(from), (size_t)bytes);
        return LB_OK;
    }
    void *pool = enter(q->dev);
    /* Copies of one encoder may overlap each other in time: each has its own. */
    end_encoder(q);
    const lb_status st = begin_encoder(q, true, err);
    if (st == LB_OK)
        LB_SEND(api_of(q->dev), copy, mq->encoder, from.buf->impl, from_off, to.buf->impl, to_off,
                (unsigned long)bytes);
    return leave(q->dev, pool, st);
}

static lb_status launch(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                        lb_err *err) {
    metal_queue *mq = q->impl;
    const lb_metal_api *a = api_of(q->dev);
    void *pipeline = NULL;
    LB_TRY(lb_metal_pipeline(q->dev, l->kernel, s->n_threads, &pipeline, err));
    LB_TRY(begin_encoder(q, false, err));
    LB_SEND(a, set_pipeline, mq->encoder, pipeline);
    for (u32 i = 0; i < l->n_bufs; i++)
        LB_SEND(a, set_buffer, mq->encoder, l->buf[i].buf->impl, offset_of(l->buf[i]),
                (unsigned long)i);
    LB_SEND(a, set_bytes, mq->encoder, l->val, (unsigned long)l->val_bytes,
            (unsigned long)l->n_bufs);
    const lb_mtl_size groups = {s->groups[0], s->groups[1], s->groups[2]};
    const lb_mtl_size threads = {s->n_threads, 1, 1};
    LB_SEND(a, dispatch, mq->encoder, groups, threads);
    return ++mq->n_launches == q->dev->info.tuning.launches ? commit(q, err) : LB_OK;
}

lb_status lb_metal_launch(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                          lb_err *err) {
    void *pool = enter(q->dev);
    return leave(q->dev, pool, launch(q, l, s, err));
}

/* Between two encoders the fence is the barrier. */
lb_status lb_metal_barrier(lb_dev_queue *q, lb_err *err) {
    const metal_queue *mq = q->impl;
    (void)err;
    if (mq->encoder && !mq->is_blit)
        LB_SEND(api_of(q->dev), barrier, mq->encoder, (unsigned long)LB_MTL_SCOPE_BUFFERS);
    return LB_OK;
}

/* ---- events ---- */

lb_status lb_metal_event_new(lb_dev_event *e, lb_err *err) {
    const lb_metal *m = e->dev->impl;
    metal_event *me = lb_alloc_zero(1, sizeof *me);
    e->impl = me;
    if (me)
        me->event = LB_SEND0(&m->api, new_event, m->device);
    if (me && me->event)
        return LB_OK;
    lb_free(me);
    return lb_fail(err, LB_E_NOMEM, "metal: out of memory for an event");
}

/* Command buffers that wait for it do not hold it. */
void lb_metal_event_free(lb_dev_event *e) {
    metal_event *me = e->impl;
    lb_metal_drain(e->dev);
    lb_metal_release(api_of(e->dev), me->mark);
    lb_metal_release(api_of(e->dev), me->event);
    lb_free(me);
}

/* The mark is the end of a command buffer, for its time; one that has no work yet gets some, which
 * comes after all before it by the fence. */
static lb_status record(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    metal_event *me = e->impl;
    metal_queue *mq = q->impl;
    const lb_metal *m = q->dev->impl;
    LB_TRY(begin_buffer(q, err));
    if (mq->n_encoders == 0) {
        LB_TRY(begin_encoder(q, true, err));
        LB_SEND(&m->api, fill, mq->encoder, m->scratch, ((lb_mtl_range){0, 16}), (uint8_t)0);
    }
    end_encoder(q);
    LB_SEND(&m->api, signal, mq->buffer, me->event, ++me->value);
    lb_metal_release(&m->api, me->mark);
    me->mark = LB_SEND0(&m->api, retain, mq->buffer);
    return commit(q, err);
}

lb_status lb_metal_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    void *pool = enter(q->dev);
    return leave(q->dev, pool, record(e, q, err));
}

static lb_status await(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    const metal_event *me = e->impl;
    const metal_queue *mq = q->impl;
    LB_TRY(begin_buffer(q, err));
    end_encoder(q);
    LB_SEND(api_of(q->dev), await, mq->buffer, me->event, me->value);
    return LB_OK;
}

lb_status lb_metal_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    void *pool = enter(q->dev);
    return leave(q->dev, pool, await(e, q, err));
}

lb_status lb_metal_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err) {
    const metal_event *a = from->impl, *b = to->impl;
    const lb_metal_api *api = api_of(from->dev);
    void *pool = enter(from->dev);
    lb_status st = complete(from->dev, a->mark, err);
    if (st == LB_OK)
        st = complete(from->dev, b->mark, err);
    if (st == LB_OK)
        *t_us = (LB_SEND0(api, ended, b->mark) - LB_SEND0(api, ended, a->mark)) * 1e6;
    return leave(from->dev, pool, st);
}
