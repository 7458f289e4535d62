/* SPDX-License-Identifier: Apache-2.0 */
/* team.c: see team.h.
 *
 * A job is published by raising `epoch`; items are claimed from `next`, several at a time. A job's
 * number is part of `next`, so that a thread that comes late from the last job claims nothing of
 * this one with the old function. The caller waits until as many items are done as there are. */
#include "model/team.h"
#include "base/mem.h"
#include "base/thread.h"
#include <stdatomic.h>

#define SPINS 2000 /* of some nanoseconds: 10 to 40 us */
/* A claim is what is left for a thread, divided by this: neighbours at first, which are read as one
 * stream of memory, single items at the end. */
#define RUNS 4
#define ITEM_BITS 40 /* of `next`; above them the job's number */
#define ITEM_MASK (((u64)1 << ITEM_BITS) - 1)

typedef struct worker {
    lb_team *team;
    lb_thread thread;
    void *scratch;
} worker;

struct lb_team {
    _Atomic u64 next; /* job's number << ITEM_BITS | items claimed */
    _Atomic u64 done;
    _Atomic u64 epoch; /* of the job that stands below */
    lb_team_fn *_Atomic fn;
    void *_Atomic ctx;
    _Atomic u64 n_items;
    _Atomic u32 sleeping; /* workers that wait for `wake` */
    _Atomic u32 waiting;  /* the caller waits for `finished` */
    _Atomic bool quit;
    lb_mutex lock;
    lb_cond wake, finished;
    u32 n_workers; /* beside the caller */
    void *memory, *scratch;
    worker workers[];
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes items of the job `epoch` until there are none. */
static void work(lb_team *t, u64 epoch, void *scratch) {
    for (;;) {
        u64 at = atomic_load_explicit(&t->next, memory_order_acquire);
        u64 n = atomic_load_explicit(&t->n_items, memory_order_acquire);
        if (at >> ITEM_BITS != (epoch & (UINT64_MAX >> ITEM_BITS)) || (at & ITEM_MASK) >= n)
            return;
        lb_team_fn *fn = atomic_load_explicit(&t->fn, memory_order_acquire);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_acquire);
        u64 first = at & ITEM_MASK, some = (n - first) / (RUNS * (t->n_workers + 1));
        some = LB_MAX(some, (u64)1);
        if (!atomic_compare_exchange_weak_explicit(&t->next, &at, at + some, memory_order_acq_rel,
                                                   memory_order_relaxed))
            continue;
        for (u64 i = first; i < first + some; i++)
            fn(ctx, i, scratch);
        if (atomic_fetch_add_explicit(&t->done, some, memory_order_acq_rel) + some == n &&
            atomic_load(&t->waiting)) {
            lb_lock(&t->lock);
            lb_wake_all(&t->finished);
            lb_unlock(&t->lock);
        }
    }
}

/* Waits for a job after `seen`. */
static u64 next_epoch(lb_team *t, u64 seen) {
    u64 e;
    for (int i = 0; i < SPINS; i++) {
        if ((e = atomic_load_explicit(&t->epoch, memory_order_acquire)) != seen ||
            atomic_load(&t->quit))
            return e;
        pause_cpu();
    }
    lb_lock(&t->lock);
    atomic_fetch_add(&t->sleeping, 1);
    while ((e = atomic_load(&t->epoch)) == seen && !atomic_load(&t->quit))
        lb_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->sleeping, 1);
    lb_unlock(&t->lock);
    return e;
}

static void *worker_main(void *arg) {
    worker *w = arg;
    u64 seen = 0;
    for (;;) {
        seen = next_epoch(w->team, seen);
        if (atomic_load(&w->team->quit))
            return NULL;
        work(w->team, seen, w->scratch);
    }
}

static void wait_done(lb_team *t, u64 n) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&t->done, memory_order_acquire) == n)
            return;
        pause_cpu();
    }
    lb_lock(&t->lock);
    atomic_store(&t->waiting, 1);
    while (atomic_load(&t->done) != n)
        lb_wait(&t->finished, &t->lock);
    atomic_store(&t->waiting, 0);
    lb_unlock(&t->lock);
}

void lb_team_alone(lb_team *t, u64 n_items, lb_team_fn *fn, void *ctx) {
    for (u64 i = 0; i < n_items; i++)
        fn(ctx, i, t->scratch);
}

void lb_team_run(lb_team *t, u64 n_items, lb_team_fn *fn, void *ctx) {
    if (n_items <= 1 || !t->n_workers) {
        lb_team_alone(t, n_items, fn, ctx);
        return;
    }
    u64 epoch = atomic_load_explicit(&t->epoch, memory_order_relaxed) + 1;
    /* nobody claims while the fields change: who has read one of the new fails to raise `next` */
    atomic_store(&t->next, epoch << ITEM_BITS | ITEM_MASK);
    atomic_store(&t->fn, fn);
    atomic_store(&t->ctx, ctx);
    atomic_store(&t->done, 0);
    atomic_store(&t->n_items, n_items);
    atomic_store_explicit(&t->next, epoch << ITEM_BITS, memory_order_release);
    atomic_store(&t->epoch, epoch);
    if (atomic_load(&t->sleeping)) {
        lb_lock(&t->lock);
        lb_wake_all(&t->wake);
        lb_unlock(&t->lock);
    }
    work(t, epoch, t->scratch);
    wait_done(t, n_items);
}

lb_status lb_team_new(lb_team **out, u32 n_threads, size_t scratch_bytes, lb_err *err) {
    *out = NULL;
    u32 n = n_threads ? n_threads - 1 : 0;
    size_t each = (scratch_bytes + 127) & ~(size_t)63;
    lb_team *t = lb_alloc_zero(1, sizeof *t + n * sizeof(worker));
    if (!t)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
    lb_mutex_init(&t->lock);
    lb_cond_init(&t->wake);
    lb_cond_init(&t->finished);
    *out = t;
    t->memory = lb_alloc((n + 1) * each + 64);
    lb_status st = t->memory ? LB_OK
                             : lb_fail(err, LB_E_NOMEM,
                                       "out of memory for the buffers of %u threads", n_threads);
    u8 *at = (u8 *)(((uintptr_t)t->memory + 63) & ~(uintptr_t)63);
    t->scratch = at;
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        t->workers[i] = (worker){.team = t, .scratch = at + (i + 1) * each};
        st = lb_thread_start(&t->workers[i].thread, worker_main, &t->workers[i], err);
        t->n_workers += st == LB_OK;
    }
    if (st != LB_OK)
        lb_team_free(out);
    return st;
}

void lb_team_free(lb_team **tp) {
    lb_team *t = *tp;
    if (!t)
        return;
    lb_lock(&t->lock);
    atomic_store(&t->quit, true);
    lb_wake_all(&t->wake);
    lb_unlock(&t->lock);
    for (u32 i = 0; i < t->n_workers; i++)
        lb_thread_join(&t->workers[i].thread);
    lb_cond_deinit(&t->wake);
    lb_cond_deinit(&t->finished);
    lb_mutex_deinit(&t->lock);
    lb_free(t->memory);
    lb_free(t);
    *tp = NULL;
}

u32 lb_team_threads(const lb_team *t) {
    return t->n_workers + 1;
}
