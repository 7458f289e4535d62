/* SPDX-License-Identifier: Apache-2.0 */
/* team.c: see team.h.
 *
 * A job is published by raising `epoch`. Its items are divided among the threads; each claims its
 * own part from the front, several at a time, then what is left of the others' parts. How much of a
 * part is claimed stands in one word with the job's number, so that nobody has to clear it. A
 * thread that comes late from the last job finds all of it claimed. The caller waits until as many
 * items are done as there are. */
#include "model/team.h"
#include "base/mem.h"
#include "base/thread.h"
#include <stdatomic.h>

#define SPINS 2000 /* of some nanoseconds: 10 to 40 us */
/* A claim is what is left of a part, divided by this: single items at the end. */
#define RUNS 4
#define ITEM_BITS 24 /* of a part's `claimed`; above them the job's number */
#define ITEM_MASK (((u64)1 << ITEM_BITS) - 1)

typedef struct part {
    _Atomic u64 claimed; /* job's number << ITEM_BITS | items */
    u8 apart[56];        /* a cache line each */
} part;

typedef struct worker {
    lb_team *team;
    lb_thread thread;
    u32 number; /* from 1; the caller is 0 */
    void *scratch;
} worker;

struct lb_team {
    _Atomic u64 done;
    _Atomic u64 begun; /* the job of which something stands below */
    _Atomic u64 epoch; /* that of which all does */
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
    part *parts; /* [n_workers + 1] */
    worker workers[];
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* What a job is; the same until all of its items are done. */
typedef struct job {
    u64 epoch, n_items;
    lb_team_fn *fn;
    void *ctx;
} job;

/* False: another one has begun. */
static bool read_job(lb_team *t, u64 epoch, job *j) {
    *j = (job){epoch, atomic_load_explicit(&t->n_items, memory_order_acquire),
               atomic_load_explicit(&t->fn, memory_order_acquire),
               atomic_load_explicit(&t->ctx, memory_order_acquire)};
    return atomic_load_explicit(&t->begun, memory_order_acquire) == epoch;
}

/* Some items of a thread's part. */
static bool claim(lb_team *t, const job *j, u64 number, u64 *first, u64 *end) {
    const u64 n_threads = (u64)t->n_workers + 1;
    const u64 from = j->n_items * number / n_threads, to = j->n_items * (number + 1) / n_threads;
    _Atomic u64 *claimed = &t->parts[number].claimed;
    u64 was = atomic_load_explicit(claimed, memory_order_acquire);
    for (;;) {
        u64 taken = was >> ITEM_BITS == j->epoch ? was & ITEM_MASK : 0;
        if (was >> ITEM_BITS > j->epoch || taken == to - from)
            return false;
        u64 some = LB_MAX((to - from - taken) / RUNS, (u64)1);
        if (atomic_compare_exchange_weak_explicit(claimed, &was,
                                                  j->epoch << ITEM_BITS | (taken + some),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            *first = from + taken;
            *end = *first + some;
            return true;
        }
    }
}

/* Takes items of the job `epoch` until there are none. */
static void work(lb_team *t, u64 epoch, u32 number, void *scratch) {
    const u32 n_threads = t->n_workers + 1;
    job j;
    if (!read_job(t, epoch, &j))
        return;
    for (u32 k = 0; k < n_threads; k++) {
        u64 first, end;
        while (claim(t, &j, (number + k) % n_threads, &first, &end)) {
            for (u64 i = first; i < end; i++)
                j.fn(j.ctx, i, scratch);
            if (atomic_fetch_add_explicit(&t->done, end - first, memory_order_acq_rel) + end -
                        first ==
                    j.n_items &&
                atomic_load(&t->waiting)) {
                lb_lock(&t->lock);
                lb_wake_all(&t->finished);
                lb_unlock(&t->lock);
            }
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
        work(w->team, seen, w->number, w->scratch);
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
    LB_ASSERT(n_items <= ITEM_MASK);
    u64 epoch = atomic_load_explicit(&t->epoch, memory_order_relaxed) + 1;
    atomic_store(&t->begun, epoch); /* who reads one of the new fields sees that, too */
    atomic_store(&t->fn, fn);
    atomic_store(&t->ctx, ctx);
    atomic_store(&t->done, 0);
    atomic_store(&t->n_items, n_items);
    atomic_store(&t->epoch, epoch);
    if (atomic_load(&t->sleeping)) {
        lb_lock(&t->lock);
        lb_wake_all(&t->wake);
        lb_unlock(&t->lock);
    }
    work(t, epoch, 0, t->scratch);
    wait_done(t, n_items);
}

lb_status lb_team_new(lb_team **out, u32 n_threads, size_t scratch_bytes, lb_err *err) {
    *out = NULL;
    u32 n = n_threads ? n_threads - 1 : 0;
    size_t each = (scratch_bytes + 127) & ~(size_t)63, parts = (n + 1) * sizeof(part);
    lb_team *t = lb_alloc_zero(1, sizeof *t + n * sizeof(worker));
    if (!t)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
    lb_mutex_init(&t->lock);
    lb_cond_init(&t->wake);
    lb_cond_init(&t->finished);
    *out = t;
    t->memory = lb_alloc(parts + (n + 1) * each + 64);
    lb_status st = t->memory ? LB_OK
                             : lb_fail(err, LB_E_NOMEM,
                                       "out of memory for the buffers of %u threads", n_threads);
    u8 *at = (u8 *)(((uintptr_t)t->memory + 63) & ~(uintptr_t)63);
    t->parts = (part *)(void *)at;
    for (u32 i = 0; i <= n && st == LB_OK; i++)
        atomic_init(&t->parts[i].claimed, 0);
    at += parts;
    t->scratch = at;
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        t->workers[i] = (worker){.team = t, .number = i + 1, .scratch = at + (i + 1) * each};
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
