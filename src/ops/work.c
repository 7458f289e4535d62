/* SPDX-License-Identifier: Apache-2.0 */
/* work.c: a counter that threads draw from. */
#include "ops/work.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/thread.h"
#include <stdatomic.h>

typedef struct work {
    lb_work_fn *run;
    void *ctx;
    u64 n_items;
    atomic_ullong next;
    atomic_bool stop;
    lb_mutex lock; /* of the two below */
    u64 failed_item;
    lb_status st;
    lb_err err;
} work;

typedef struct worker {
    work *w;
    u32 index;
    lb_thread thread;
} worker;

static void note_failure(work *w, u64 item, lb_status st, const lb_err *err) {
    lb_lock(&w->lock);
    if (w->st == LB_OK || item < w->failed_item) {
        w->failed_item = item;
        w->st = st;
        w->err = *err;
    }
    lb_unlock(&w->lock);
    atomic_store(&w->stop, true);
}

static void *work_loop(void *arg) {
    worker *me = arg;
    work *w = me->w;
    while (!atomic_load(&w->stop)) {
        lb_err err = {0};
        u64 item = atomic_fetch_add(&w->next, 1);
        if (item >= w->n_items)
            break;
        lb_status st = lb_interrupt_check(&err);
        if (st == LB_OK)
            st = w->run(w->ctx, me->index, item, &err);
        if (st != LB_OK)
            note_failure(w, item, st, &err);
    }
    return NULL;
}

lb_status lb_work_run(u32 n_threads, u64 n_items, lb_work_fn *run, void *ctx, lb_err *err) {
    u32 n = (u32)LB_MIN((u64)LB_MIN(n_threads, LB_WORK_THREADS_MAX), n_items);
    work w = {.run = run, .ctx = ctx, .n_items = n_items};
    worker *workers = lb_alloc_zero(LB_MAX(n, 1u), sizeof *workers);
    if (!workers)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n);
    lb_mutex_init(&w.lock);
    for (u32 i = 0; i < n; i++)
        workers[i] = (worker){.w = &w, .index = i};
    for (u32 i = 1; i < n; i++) {
        lb_err start_err = {0};
        lb_status st = lb_thread_start(&workers[i].thread, work_loop, &workers[i], &start_err);
        if (st != LB_OK) /* items not yet drawn are not done: this is the first of them */
            note_failure(&w, n_items, st, &start_err);
    }
    if (n)
        (void)work_loop(&workers[0]);
    for (u32 i = 1; i < n; i++)
        lb_thread_join(&workers[i].thread);
    if (w.st != LB_OK && err)
        *err = w.err;
    lb_mutex_deinit(&w.lock);
    lb_free(workers);
    return w.st;
}
