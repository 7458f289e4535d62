/* SPDX-License-Identifier: Apache-2.0 */
/* device.c: what is the same on every device: checks of arguments, counts, what belongs to whom. */
#include "device/device.h"
#include "device/backend.h"
#include <stdio.h>

static const struct {
    const char *name;
    const lb_dev_ops *ops;
} kinds[LB_DEV_KINDS] = {
    [LB_DEV_CPU] = {"cpu", &lb_dev_ops_cpu},
    [LB_DEV_CUDA] = {"cuda", &lb_dev_ops_cuda},
    [LB_DEV_METAL] = {"metal", &lb_dev_ops_metal},
};

const char *lb_dev_kind_name(lb_dev_kind kind) {
    return kinds[kind].name;
}

u32 lb_dev_list(lb_dev_kind kind, lb_dev_info *out, u32 max, lb_err *why) {
    lb_err ignored;
    return kinds[kind].ops->list(out, max, why ? why : &ignored);
}

static bool one_of_list(lb_str s, lb_dev_choice *out) {
    u64 index = 0;
    const bool emulated = lb_str_eq_c(s, "emulated");
    if (out->n == LB_DEV_LIST_MAX || (out->n && out->emulated != emulated))
        return false;
    if (!emulated && !(lb_str_starts(s, LB_STR("cuda:")) &&
                       lb_str_to_u64(lb_str_sub(s, 5, s.len), &index) && index < 1024))
        return false;
    for (u32 i = 0; i < out->n && !emulated; i++)
        if (out->list[i] == (u32)index)
            return false;
    out->emulated = emulated;
    out->kind = emulated ? LB_DEV_CPU : LB_DEV_CUDA;
    out->list[out->n++] = (u32)index;
    return true;
}

lb_status lb_dev_choice_parse(const char *text, lb_dev_choice *out, lb_err *err) {
    lb_str s = lb_str_c(text);
    size_t end;
    *out =
        (lb_dev_choice){.is_auto = lb_str_eq_c(s, "auto"), .emulated = lb_str_eq_c(s, "emulated")};
    if (out->is_auto || out->emulated || lb_str_eq_c(s, "cpu"))
        return LB_OK;
    out->kind = lb_str_eq_c(s, "metal") ? LB_DEV_METAL : LB_DEV_CUDA;
    if (lb_str_eq_c(s, "cuda") || lb_str_eq_c(s, "metal"))
        return LB_OK;
    for (bool more = true, ok = true; more && ok;) {
        more = lb_str_find(s, LB_STR(","), &end);
        ok = one_of_list(more ? lb_str_sub(s, 0, end) : s, out);
        if (more)
            s = lb_str_sub(s, end + 1, s.len);
        else if (ok) {
            out->index = out->list[0];
            return LB_OK;
        }
    }
    return lb_fail(err, LB_E_USAGE,
                   "--device: '%s' is not one of auto|cpu|cuda[:N]|metal, or cuda:A,cuda:B, each "
                   "once",
                   text);
}

lb_status lb_dev_alive(const lb_dev *d, lb_err *err) {
    return d->lost[0] ? lb_fail(err, LB_E_IO, "%s: the device was lost: %s", d->info.id, d->lost)
                      : LB_OK;
}

lb_status lb_dev_open(lb_dev **out, const lb_dev_opts *opts, lb_err *err) {
    *out = NULL;
    lb_dev *d = lb_alloc_zero(1, sizeof *d);
    if (!d)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a device's record");
    d->ops = kinds[opts->kind].ops;
    d->opts = *opts;
    const lb_status st = d->ops->open(d, err);
    if (st != LB_OK) {
        d->ops->close(d);
        lb_free(d);
        return st;
    }
    *out = d;
    return LB_OK;
}

void lb_dev_close(lb_dev **out) {
    lb_dev *d = out ? *out : NULL;
    lb_err ignored;
    if (!d)
        return;
    (void)lb_dev_settle(d, d->submissions, &ignored);
    while (d->bufs) {
        lb_dev_buf *b = d->bufs;
        lb_dev_buf_free(&b);
    }
    lb_dev_pool_trim(d);
    while (d->graphs) {
        lb_dev_graph *g = d->graphs;
        lb_dev_graph_free(&g);
    }
    while (d->events) {
        lb_dev_event *e = d->events;
        lb_dev_event_free(&e);
    }
    while (d->queues) {
        lb_dev_queue *q = d->queues;
        lb_dev_queue_free(&q);
    }
    d->ops->close(d);
    lb_free(d);
    *out = NULL;
}

const lb_dev_info *lb_dev_info_get(const lb_dev *d) {
    return &d->info;
}

bool lb_dev_has(const lb_dev *d, lb_dev_kernel k) {
    const bool metal = d->info.kind == LB_DEV_METAL, matrix = d->info.tuning.mm_small > 0;
    if (d->proof[k] == LB_PROOF_REFUSED)
        return false;
    switch (lb_dev_kernel_needs(k)) {
    case LB_DEV_NEEDS_MATRIX:
        return matrix;
    case LB_DEV_NEEDS_FLASH:
        return matrix && !metal;
    case LB_DEV_NEEDS_RING:
        return matrix && !metal && d->info.shared_bytes_most >= lb_dev_mt_shared(k);
    case LB_DEV_NEEDS_TILES: /* of CUDA a text of its own, not for all generations */
        return d->info.kind != LB_DEV_CUDA || d->info.tuning.gemm > 0;
    case LB_DEV_NEEDS_DOUBLE:
        return !metal;
    default:
        return true;
    }
}

void lb_dev_refuse(lb_dev *d, lb_dev_kernel k, const char *why) {
    d->proof[k] = LB_PROOF_REFUSED;
    if (!d->refusal[0])
        (void)snprintf(d->refusal, sizeof d->refusal, "%s", why);
}

bool lb_dev_launched(const lb_dev *d, lb_dev_kernel k) {
    return (u32)k < LB_DEV_KERNEL_COUNT && d->launched[k];
}

void lb_dev_stats_get(const lb_dev *d, lb_dev_stats *out) {
    *out = d->stats;
}

u64 lb_dev_budget(const lb_dev *d) {
    return d->opts.memory_bytes;
}

/* ---- buffers ---- */

lb_status lb_dev_buf_new(lb_dev *d, lb_dev_place place, u64 size_bytes, lb_dev_buf **out,
                         lb_err *err) {
    *out = NULL;
    LB_TRY(lb_dev_alive(d, err));
    if (size_bytes == 0)
        return lb_fail(err, LB_E_USAGE, "%s: a buffer of no bytes", d->info.id);
    return lb_dev_pool_take(d, place, size_bytes, out, err);
}

lb_status lb_dev_buf_map(lb_dev *d, const void *base, u64 size_bytes, lb_dev_buf **out,
                         lb_err *err) {
    *out = NULL;
    LB_TRY(lb_dev_alive(d, err));
    if (size_bytes == 0)
        return lb_fail(err, LB_E_USAGE, "%s: a buffer of no bytes", d->info.id);
    lb_dev_buf *b = lb_alloc_zero(1, sizeof *b);
    if (!b)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a buffer's record");
    b->dev = d;
    b->place = LB_DEV_HOST;
    b->mapped = true;
    b->size_bytes = b->room_bytes = size_bytes;
    const lb_status st = d->ops->buf_map(b, base, err);
    if (st != LB_OK) {
        lb_free(b);
        return st;
    }
    lb_dev_buf_link(&d->bufs, b);
    *out = b;
    return LB_OK;
}

void lb_dev_buf_free(lb_dev_buf **b) {
    if (*b)
        lb_dev_pool_give(*b);
    *b = NULL;
}

u64 lb_dev_buf_bytes(const lb_dev_buf *b) {
    return b->size_bytes;
}

void *lb_dev_buf_host(lb_dev_buf *b) {
    return b->host;
}

/* ---- queues ---- */

lb_status lb_dev_queue_new(lb_dev *d, lb_dev_queue **out, lb_err *err) {
    *out = NULL;
    LB_TRY(lb_dev_alive(d, err));
    lb_dev_queue *q = lb_alloc_zero(1, sizeof *q);
    if (!q)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a queue");
    q->dev = d;
    const lb_status st = d->ops->queue_new(q, err);
    if (st != LB_OK) {
        lb_free(q);
        return st;
    }
    q->next = d->queues;
    d->queues = q;
    *out = q;
    return LB_OK;
}

void lb_dev_queue_free(lb_dev_queue **out) {
    lb_dev_queue *q = *out;
    lb_err ignored;
    if (!q)
        return;
    lb_dev *d = q->dev;
    lb_dev_graph_cancel(q);
    (void)lb_dev_queue_wait(q, &ignored);
    for (lb_dev_event *e = d->events; e; e = e->next)
        if (e->queue == q)
            e->queue = NULL;
    for (lb_dev_queue **p = &d->queues; *p; p = &(*p)->next)
        if (*p == q) {
            *p = q->next;
            break;
        }
    d->ops->queue_free(q);
    lb_free(q);
    *out = NULL;
}

void lb_dev_submitted(lb_dev_queue *q, lb_dev_buf *a, lb_dev_buf *b) {
    const u64 number = ++q->dev->submissions;
    if (!q->pending_from)
        q->pending_from = number;
    if (a)
        a->used_at = number;
    if (b)
        b->used_at = number;
}

/* What is no kernel and no barrier. */
static lb_status may_submit(const lb_dev_queue *q, lb_err *err) {
    LB_TRY(lb_dev_alive(q->dev, err));
    return q->recording ? lb_fail(err, LB_E_USAGE, "%s: no kernel, while the queue is recording",
                                  q->dev->info.id)
                        : LB_OK;
}

static lb_status in_range(const lb_dev_queue *q, const lb_dev_buf *b, u64 off, u64 bytes,
                          lb_err *err) {
    LB_TRY(may_submit(q, err));
    if (!b || b->dev != q->dev)
        return lb_fail(err, LB_E_USAGE, "%s: a copy of a buffer of another device",
                       q->dev->info.id);
    if (off > b->size_bytes || bytes > b->size_bytes - off)
        return lb_fail(err, LB_E_USAGE, "%s: a copy of %llu bytes at %llu of a buffer of %llu",
                       q->dev->info.id, (unsigned long long)bytes, (unsigned long long)off,
                       (unsigned long long)b->size_bytes);
    return LB_OK;
}

static lb_status writable(const lb_dev_queue *q, const lb_dev_buf *b, lb_err *err) {
    return b->mapped ? lb_fail(err, LB_E_USAGE, "%s: a copy into a mapped file", q->dev->info.id)
                     : LB_OK;
}

lb_status lb_dev_queue_write(lb_dev_queue *q, lb_dev_buf *to, u64 off_bytes, const void *from,
                             u64 size_bytes, lb_err *err) {
    LB_TRY(in_range(q, to, off_bytes, size_bytes, err));
    LB_TRY(writable(q, to, err));
    if (size_bytes == 0)
        return LB_OK;
    lb_dev_submitted(q, to, NULL);
    q->dev->stats.copies++;
    return q->dev->ops->write(q, (lb_dev_arg){to, off_bytes}, from, size_bytes, err);
}

lb_status lb_dev_queue_read(lb_dev_queue *q, void *to, lb_dev_buf *from, u64 off_bytes,
                            u64 size_bytes, lb_err *err) {
    LB_TRY(in_range(q, from, off_bytes, size_bytes, err));
    if (size_bytes == 0)
        return LB_OK;
    lb_dev_submitted(q, from, NULL);
    q->dev->stats.copies++;
    return q->dev->ops->read(q, to, (lb_dev_arg){from, off_bytes}, size_bytes, err);
}

/* Whether two ranges of buffers share a byte; not empty, within their buffers. */
static bool overlap(lb_dev_arg a, u64 a_bytes, lb_dev_arg b, u64 b_bytes) {
    return a.buf == b.buf && a.off_bytes < b.off_bytes + b_bytes &&
           b.off_bytes < a.off_bytes + a_bytes;
}

lb_status lb_dev_queue_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                            lb_err *err) {
    LB_TRY(in_range(q, to.buf, to.off_bytes, size_bytes, err));
    LB_TRY(in_range(q, from.buf, from.off_bytes, size_bytes, err));
    LB_TRY(writable(q, to.buf, err));
    if (size_bytes == 0)
        return LB_OK;
    if (overlap(to, size_bytes, from, size_bytes))
        return lb_fail(err, LB_E_USAGE, "%s: a copy that overlaps itself", q->dev->info.id);
    lb_dev_submitted(q, to.buf, from.buf);
    q->dev->stats.copies++;
    return q->dev->ops->copy(q, to, from, size_bytes, err);
}

lb_status lb_dev_peer(lb_dev *to, lb_dev *from, bool *direct, lb_err *err) {
    bool unused;
    LB_TRY(lb_dev_alive(to, err));
    LB_TRY(lb_dev_alive(from, err));
    if (to->ops != from->ops)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s and %s: no copies between devices of two kinds",
                       from->info.id, to->info.id);
    if (!to->ops->peer || to == from)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: there is no second device to copy from",
                       to->info.id);
    return to->ops->peer(to, from, direct ? direct : &unused, err);
}

lb_status lb_dev_queue_copy_peer(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                                 lb_err *err) {
    LB_TRY(in_range(q, to.buf, to.off_bytes, size_bytes, err));
    LB_TRY(writable(q, to.buf, err));
    if (!from.buf || from.buf->dev == q->dev || from.buf->dev->ops != q->dev->ops ||
        !q->dev->ops->copy_peer)
        return lb_fail(err, LB_E_USAGE, "%s: a copy from no other device of its kind",
                       q->dev->info.id);
    LB_TRY(lb_dev_alive(from.buf->dev, err));
    if (from.off_bytes > from.buf->size_bytes || size_bytes > from.buf->size_bytes - from.off_bytes)
        return lb_fail(err, LB_E_USAGE, "%s: a copy of %llu bytes at %llu of a buffer of %llu",
                       from.buf->dev->info.id, (unsigned long long)size_bytes,
                       (unsigned long long)from.off_bytes,
                       (unsigned long long)from.buf->size_bytes);
    if (size_bytes == 0)
        return LB_OK;
    lb_dev_submitted(q, to.buf, NULL);
    q->dev->stats.copies++;
    return q->dev->ops->copy_peer(q, to, from, size_bytes, err);
}

static lb_status check_arg(const lb_dev_queue *q, const lb_dev_launch *l, u32 i, u64 need,
                           lb_err *err) {
    const lb_dev_arg *a = &l->buf[i];
    const char *name = lb_dev_kernel_name(l->kernel);
    if (!a->buf || a->buf->dev != q->dev)
        return lb_fail(err, LB_E_USAGE, "kernel %s: argument %u is no buffer of %s", name, i,
                       q->dev->info.id);
    if (a->off_bytes % LB_DEV_ALIGN || (a->buf->mapped && a->buf->address % LB_DEV_ALIGN))
        return lb_fail(err, LB_E_USAGE, "kernel %s: argument %u is not aligned to %u bytes", name,
                       i, LB_DEV_ALIGN);
    if (a->off_bytes > a->buf->size_bytes || need > a->buf->size_bytes - a->off_bytes)
        return lb_fail(err, LB_E_USAGE,
                       "kernel %s: argument %u needs %llu bytes at %llu of a buffer of %llu", name,
                       i, (unsigned long long)need, (unsigned long long)a->off_bytes,
                       (unsigned long long)a->buf->size_bytes);
    return LB_OK;
}

static lb_status check_outputs(const lb_dev_launch *l, const char *signature, const lb_dev_shape *s,
                               lb_err *err) {
    const char *name = lb_dev_kernel_name(l->kernel);
    for (u32 i = 0; i < l->n_bufs; i++) {
        if (signature[i] != 'o')
            continue;
        if (l->buf[i].buf->mapped)
            return lb_fail(err, LB_E_USAGE, "kernel %s: argument %u is written, and a mapped file",
                           name, i);
        for (u32 j = 0; j < l->n_bufs; j++)
            if (j != i && s->need_bytes[i] && s->need_bytes[j] &&
                overlap(l->buf[i], s->need_bytes[i], l->buf[j], s->need_bytes[j]))
                return lb_fail(err, LB_E_USAGE,
                               "kernel %s: argument %u is written and overlaps argument %u", name,
                               i, j);
    }
    return LB_OK;
}

/* Why the device does not have it. */
static lb_status lacks(const lb_dev *d, lb_dev_kernel k, lb_err *err) {
    const char *name = lb_dev_kernel_name(k);
    if (d->proof[k] == LB_PROOF_REFUSED)
        return lb_fail(err, LB_E_UNSUPPORTED, "kernel %s: it cannot be used: %s", name, d->refusal);
    return lb_fail(err, LB_E_UNSUPPORTED, "kernel %s: %s (%s) has no %s for it", name, d->info.id,
                   d->info.generation,
                   lb_dev_kernel_needs(k) == LB_DEV_NEEDS_DOUBLE ? "double" : "matrix units");
}

lb_status lb_dev_queue_launch(lb_dev_queue *q, const lb_dev_launch *l, lb_err *err) {
    lb_dev_shape s;
    LB_TRY(lb_dev_alive(q->dev, err));
    if ((u32)l->kernel >= LB_DEV_KERNEL_COUNT)
        return lb_fail(err, LB_E_USAGE, "%s: no kernel has number %u", q->dev->info.id,
                       (u32)l->kernel);
    const char *name = lb_dev_kernel_name(l->kernel);
    const char *signature = lb_dev_kernel_signature(l->kernel);
    const u32 n_bufs = (u32)strlen(signature) - 1, val_bytes = lb_dev_kernel_val_bytes(l->kernel);
    if (l->n_bufs != n_bufs)
        return lb_fail(err, LB_E_USAGE, "kernel %s: %u buffers given, it takes %u", name, l->n_bufs,
                       n_bufs);
    if (!l->val || l->val_bytes != val_bytes)
        return lb_fail(err, LB_E_USAGE, "kernel %s: %u bytes of values given, it takes %u", name,
                       l->val ? l->val_bytes : 0, val_bytes);
    if (!lb_dev_has(q->dev, l->kernel))
        return lacks(q->dev, l->kernel, err);
    LB_TRY(lb_dev_kernel_shape(l->kernel, l->val, &s, err));
    for (u32 i = 0; i < n_bufs; i++)
        LB_TRY(check_arg(q, l, i, s.need_bytes[i], err));
    LB_TRY(check_outputs(l, signature, &s, err));
    if (s.groups[0] == 0 || s.groups[1] == 0)
        return LB_OK;
    q->dev->launched[l->kernel] = true;
    if (q->recording)
        return lb_dev_graph_add(q->recording, l, &s, err);
    for (u32 i = 0; i < n_bufs; i += 2)
        lb_dev_submitted(q, l->buf[i].buf, i + 1 < n_bufs ? l->buf[i + 1].buf : NULL);
    q->dev->stats.launches++;
    return q->dev->ops->launch(q, l, &s, err);
}

lb_status lb_dev_queue_barrier(lb_dev_queue *q, lb_err *err) {
    LB_TRY(lb_dev_alive(q->dev, err));
    return q->recording ? lb_dev_graph_add(q->recording, NULL, NULL, err)
                        : q->dev->ops->barrier(q, err);
}

lb_status lb_dev_queue_wait(lb_dev_queue *q, lb_err *err) {
    q->pending_from = 0; /* also of a device that is lost: nothing can be waited for */
    LB_TRY(lb_dev_alive(q->dev, err));
    return q->dev->ops->wait(q, err);
}

/* ---- events ---- */

lb_status lb_dev_event_new(lb_dev *d, lb_dev_event **out, lb_err *err) {
    *out = NULL;
    LB_TRY(lb_dev_alive(d, err));
    lb_dev_event *e = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return lb_fail(err, LB_E_NOMEM, "out of memory for an event");
    e->dev = d;
    const lb_status st = d->ops->event_new(e, err);
    if (st != LB_OK) {
        lb_free(e);
        return st;
    }
    e->next = d->events;
    d->events = e;
    *out = e;
    return LB_OK;
}

void lb_dev_event_free(lb_dev_event **out) {
    lb_dev_event *e = *out;
    if (!e)
        return;
    for (lb_dev_event **p = &e->dev->events; *p; p = &(*p)->next)
        if (*p == e) {
            *p = e->next;
            break;
        }
    e->dev->ops->event_free(e);
    lb_free(e);
    *out = NULL;
}

static lb_status same_device(const lb_dev_event *e, const lb_dev *d, lb_err *err) {
    LB_TRY(lb_dev_alive(d, err));
    return e->dev == d ? LB_OK
                       : lb_fail(err, LB_E_USAGE, "%s: an event of another device", d->info.id);
}

static lb_status was_recorded(const lb_dev_event *e, lb_err *err) {
    return e->recorded
               ? LB_OK
               : lb_fail(err, LB_E_USAGE, "%s: an event that was never recorded", e->dev->info.id);
}

lb_status lb_dev_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    LB_TRY(may_submit(q, err));
    LB_TRY(same_device(e, q->dev, err));
    LB_TRY(e->dev->ops->event_record(e, q, err));
    e->recorded = true;
    e->queue = q;
    return LB_OK;
}

lb_status lb_dev_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    LB_TRY(may_submit(q, err));
    LB_TRY(lb_dev_alive(q->dev, err));
    LB_TRY(lb_dev_alive(e->dev, err));
    if (e->dev->ops != q->dev->ops)
        return lb_fail(err, LB_E_USAGE, "%s: an event of another kind of device", q->dev->info.id);
    LB_TRY(was_recorded(e, err));
    return q->dev->ops->event_await(e, q, err);
}

lb_status lb_dev_event_wait(lb_dev_event *e, lb_err *err) {
    LB_TRY(lb_dev_alive(e->dev, err));
    LB_TRY(was_recorded(e, err));
    if (!e->queue) /* its end was waited for */
        return LB_OK;
    return e->dev->ops->event_wait ? e->dev->ops->event_wait(e, err)
                                   : lb_dev_queue_wait(e->queue, err);
}

lb_status lb_dev_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err) {
    LB_TRY(same_device(from, to->dev, err));
    LB_TRY(was_recorded(from, err));
    LB_TRY(was_recorded(to, err));
    return from->dev->ops->event_us(from, to, t_us, err);
}
