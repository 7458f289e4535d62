/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h: threads, mutexes and conditions over pthreads, with a planned stack size; CPU counts.
 *
 * Stacks are 256 KiB (LB_STACK_BYTES): they count against the memory budget. Recursion is bounded
 * everywhere, and nothing large lives on a stack. */
#ifndef LB_BASE_THREAD_H
#define LB_BASE_THREAD_H

#include "base/base.h"
#include <pthread.h>

#define LB_STACK_BYTES ((size_t)256 << 10)

typedef pthread_mutex_t lb_mutex;
typedef pthread_cond_t lb_cond;
typedef struct lb_thread {
    pthread_t handle;
    bool started;
} lb_thread;

void lb_mutex_init(lb_mutex *m);
void lb_mutex_deinit(lb_mutex *m);
static inline void lb_lock(lb_mutex *m) {
    (void)pthread_mutex_lock(m);
}
static inline void lb_unlock(lb_mutex *m) {
    (void)pthread_mutex_unlock(m);
}
void lb_cond_init(lb_cond *c);
void lb_cond_deinit(lb_cond *c);
static inline void lb_wait(lb_cond *c, lb_mutex *m) {
    (void)pthread_cond_wait(c, m);
}
bool lb_wait_us(lb_cond *c, lb_mutex *m, u64 us); /* false on time-out */
static inline void lb_wake_one(lb_cond *c) {
    (void)pthread_cond_signal(c);
}
static inline void lb_wake_all(lb_cond *c) {
    (void)pthread_cond_broadcast(c);
}

lb_status lb_thread_start(lb_thread *t, void *(*run)(void *), void *arg, lb_err *err);
/* With a stack of another size: for what calls libraries of others. */
lb_status lb_thread_start_deep(lb_thread *t, void *(*run)(void *), void *arg, size_t stack_bytes,
                               lb_err *err);
void lb_thread_join(lb_thread *t); /* a thread that was not started is fine */

/* CPUs this process may use: affinity and cgroup quota respected; at least 1. */
u32 lb_cpu_count(void);
/* The part of it that the control group decides; UINT32_MAX: no limit. root: "" (tests: a copy of
 * /proc/self/cgroup and /sys/fs/cgroup under another folder). */
u32 lb_cpu_quota(const char *root);
#define LB_CGROUP_PATH_MAX 1024

#endif
