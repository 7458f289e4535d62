/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c: the device interface over the kernels as C11: for tests and the self-test. Inference on
 * the CPU has kernels of its own (kernel/).
 *
 * A queue holds launches until a barrier, a copy or a wait; then they run, with an odd schedule
 * last to first, so that a missing barrier between two kernels shows. */
#include "base/cpu.h"
#include "base/os.h"
#include "base/sysinfo.h"
#include "base/thread.h"
#include "device/backend.h"
#include "device/cpu_kernels.h"
#include <stdio.h>

#define LB_CPU_QUEUE_MAX 256u /* launches that are held; a full queue runs */

typedef struct held {
    lb_dev_kernel kernel;
    void *buf[LB_DEV_BUFS_MAX];
    u8 val[LB_DEV_VAL_BYTES_MAX];
    lb_dev_shape shape;
    u32 n_bufs;
} held;

typedef struct cpu_queue {
    u32 n;
    held at[LB_CPU_QUEUE_MAX];
} cpu_queue;

static void describe(lb_dev_info *out) {
    static const lb_isa isas[] = {LB_ISA_AVX2,       LB_ISA_AVXVNNI,    LB_ISA_AVX512,
                                  LB_ISA_AVX512VNNI, LB_ISA_AVX512VBMI, LB_ISA_NEON};
    const u32 mask = lb_cpu_isa();
    size_t at = 0;
    *out = (lb_dev_info){.kind = LB_DEV_CPU, .id = "cpu"};
    (void)lb_sys_cpu_name(out->name, sizeof out->name);
    for (u32 i = 0; i < LB_LEN(isas); i++)
        if (mask & (u32)isas[i] && at < sizeof out->generation)
            at += (size_t)snprintf(out->generation + at, sizeof out->generation - at, "%s%s",
                                   at ? " " : "", lb_isa_name(isas[i]));
    out->memory_bytes = lb_sys_memory_bytes();
    out->n_units = lb_cpu_count();
    out->simd_threads = LB_FIBER_SIMD;
    out->threads_max = LB_FIBER_THREADS_MAX;
    out->shared_bytes_max = LB_FIBER_SHARED_BYTES;
    out->shared_bytes_most = LB_FIBER_SHARED_MOST;
    out->unified = out->maps_files = true;
    out->tuning = lb_dev_tuning_find(LB_DEV_CPU, 0, 0);
}

static u32 cpu_list(lb_dev_info *out, u32 max, lb_err *why) {
    (void)why;
    if (max)
        describe(out);
    return 1;
}

static lb_status cpu_open(lb_dev *d, lb_err *err) {
    describe(&d->info);
    if (d->opts.index != 0)
        return lb_fail(err, LB_E_NOT_FOUND, "cpu:%u: there is one device cpu", d->opts.index);
    lb_fibers *f;
    LB_TRY(lb_fibers_new(&f, err));
    d->impl = f;
    return LB_OK;
}

static void cpu_close(lb_dev *d) {
    lb_fibers *f = d->impl;
    lb_fibers_free(&f);
    d->impl = NULL;
}

/* Heap blocks are aligned to 16 bytes; those of devices to 256. The exact ones end where they end,
 * so that a sanitizer sees the first byte beyond. */
static lb_status cpu_buf_new(lb_dev_buf *b, lb_err *err) {
    const size_t lead = b->dev->opts.exact ? 0 : 256;
    b->impl = b->room_bytes <= SIZE_MAX - lead ? lb_alloc((size_t)b->room_bytes + lead) : NULL;
    if (!b->impl)
        return lb_fail(err, LB_E_NOMEM, "cpu: out of memory for a buffer of %llu bytes",
                       (unsigned long long)b->room_bytes);
    b->host = (u8 *)b->impl;
    if (lead)
        b->host = (u8 *)b->impl + (lb_round_up((uintptr_t)b->impl, 256) - (uintptr_t)b->impl);
    b->address = (u64)(uintptr_t)b->host;
    return LB_OK;
}

/* Kernels do not write it: the cast takes nothing away that device.c has not checked. */
static lb_status cpu_buf_map(lb_dev_buf *b, const void *base, lb_err *err) {
    (void)err;
    b->address = (u64)(uintptr_t)base;
    b->host = (void *)(uintptr_t)b->address;
    return LB_OK;
}

static void cpu_buf_free(lb_dev_buf *b) {
    if (!b->mapped)
        lb_free(b->impl);
}

static lb_status cpu_queue_new(lb_dev_queue *q, lb_err *err) {
    q->impl = lb_alloc_zero(1, sizeof(cpu_queue));
    return q->impl ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a queue");
}

static void cpu_queue_free(lb_dev_queue *q) {
    lb_free(q->impl);
}

static lb_status run_one(lb_dev *d, const held *h, lb_err *err) {
    void *args[LB_DEV_BUFS_MAX + 1];
    union {
        const void *from;
        void *to;
    } val = {.from = h->val};
    for (u32 i = 0; i < h->n_bufs; i++)
        args[i] = h->buf[i];
    args[h->n_bufs] = val.to;
    lb_fiber_grid grid = {.n_threads = h->shape.n_threads, .schedule = d->opts.schedule};
    memcpy(grid.groups, h->shape.groups, sizeof grid.groups);
    return lb_fibers_run(d->impl, lb_dev_kernel_name(h->kernel), lb_cpu_kernel_get(h->kernel), args,
                         &grid, err);
}

/* All that is held; none is left, also when one fails. */
static lb_status run_held(lb_dev_queue *q, lb_err *err) {
    cpu_queue *c = q->impl;
    const u32 n = c->n;
    c->n = 0;
    for (u32 i = 0; i < n; i++) {
        const u32 at = q->dev->opts.schedule % 2 ? n - 1 - i : i;
        LB_TRY(run_one(q->dev, &c->at[at], err));
    }
    return LB_OK;
}

static u8 *at(lb_dev_arg a) {
    return (u8 *)a.buf->host + a.off_bytes;
}

static lb_status cpu_write(lb_dev_queue *q, lb_dev_arg to, const void *from, u64 bytes,
                           lb_err *err) {
    LB_TRY(run_held(q, err));
    memcpy(at(to), from, (size_t)bytes);
    return LB_OK;
}

static lb_status cpu_read(lb_dev_queue *q, void *to, lb_dev_arg from, u64 bytes, lb_err *err) {
    LB_TRY(run_held(q, err));
    memcpy(to, at(from), (size_t)bytes);
    return LB_OK;
}

static lb_status cpu_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes, lb_err *err) {
    LB_TRY(run_held(q, err));
    memcpy(at(to), at(from), (size_t)bytes);
    return LB_OK;
}

static lb_status cpu_peer(lb_dev *to, lb_dev *from, bool *direct, lb_err *err) {
    (void)to;
    (void)from;
    (void)err;
    *direct = true;
    return LB_OK;
}

static lb_status cpu_launch(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                            lb_err *err) {
    cpu_queue *c = q->impl;
    if (c->n == LB_CPU_QUEUE_MAX)
        LB_TRY(run_held(q, err));
    held *h = &c->at[c->n++];
    *h = (held){.kernel = l->kernel, .shape = *s, .n_bufs = l->n_bufs};
    for (u32 i = 0; i < l->n_bufs; i++)
        h->buf[i] = at(l->buf[i]);
    memcpy(h->val, l->val, l->val_bytes);
    return LB_OK;
}

static lb_status cpu_event_new(lb_dev_event *e, lb_err *err) {
    (void)e;
    (void)err;
    return LB_OK;
}

static void cpu_event_free(lb_dev_event *e) {
    (void)e;
}

static lb_status cpu_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    LB_TRY(run_held(q, err));
    e->t_us = lb_os_now_us();
    return LB_OK;
}

/* What was recorded has run already. */
static lb_status cpu_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    (void)e;
    return run_held(q, err);
}

static lb_status cpu_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err) {
    (void)err;
    *t_us = (double)(i64)(to->t_us - from->t_us);
    return LB_OK;
}

const lb_dev_ops lb_dev_ops_cpu = {
    .list = cpu_list,
    .open = cpu_open,
    .close = cpu_close,
    .buf_new = cpu_buf_new,
    .buf_map = cpu_buf_map,
    .buf_free = cpu_buf_free,
    .queue_new = cpu_queue_new,
    .queue_free = cpu_queue_free,
    .write = cpu_write,
    .read = cpu_read,
    .copy = cpu_copy,
    .peer = cpu_peer,
    .copy_peer = cpu_copy,
    .launch = cpu_launch,
    .barrier = run_held,
    .wait = run_held,
    .event_new = cpu_event_new,
    .event_free = cpu_event_free,
    .event_record = cpu_event_record,
    .event_await = cpu_event_await,
    .event_us = cpu_event_us,
};
