/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c: threads with a planned stack, mutexes, conditions on the monotonic clock. */
#include "base/thread.h"
#include <errno.h>
#include <limits.h>
#include <time.h>

/* Sanitizers put red zones around locals and would not fit; no budget is measured under them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_FACTOR 8
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define STACK_FACTOR 8
#endif
#endif
#ifndef STACK_FACTOR
#define STACK_FACTOR 1
#endif

void lb_mutex_init(lb_mutex *m) {
    LB_ASSERT(pthread_mutex_init(m, NULL) == 0);
}

void lb_mutex_deinit(lb_mutex *m) {
    (void)pthread_mutex_destroy(m);
}

#if defined(__APPLE__)
void lb_cond_init(lb_cond *c) {
    LB_ASSERT(pthread_cond_init(c, NULL) == 0);
}

bool lb_wait_us(lb_cond *c, lb_mutex *m, u64 us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return pthread_cond_timedwait_relative_np(c, m, &t) != ETIMEDOUT;
}
#else
void lb_cond_init(lb_cond *c) {
    pthread_condattr_t attr;
    LB_ASSERT(pthread_condattr_init(&attr) == 0);
    LB_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    LB_ASSERT(pthread_cond_init(c, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

bool lb_wait_us(lb_cond *c, lb_mutex *m, u64 us) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    u64 ns = (u64)t.tv_nsec + us % 1000000 * 1000;
    t.tv_sec += (time_t)(us / 1000000 + ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return pthread_cond_timedwait(c, m, &t) != ETIMEDOUT;
}
#endif

void lb_cond_deinit(lb_cond *c) {
    (void)pthread_cond_destroy(c);
}

lb_status lb_thread_start_deep(lb_thread *t, void *(*run)(void *), void *arg, size_t stack_bytes,
                               lb_err *err) {
    pthread_attr_t attr;
    t->started = false;
    int e = pthread_attr_init(&attr);
    if (e == 0) {
        size_t stack = stack_bytes * STACK_FACTOR;
        e = pthread_attr_setstacksize(&attr, LB_MAX(stack, (size_t)PTHREAD_STACK_MIN));
        if (e == 0)
            e = pthread_create(&t->handle, &attr, run, arg);
        (void)pthread_attr_destroy(&attr);
    }
    if (e)
        return lb_fail(err, LB_E_NOMEM, "a thread could not be started: %s: use fewer threads (-t)",
                       strerror(e));
    t->started = true;
    return LB_OK;
}

lb_status lb_thread_start(lb_thread *t, void *(*run)(void *), void *arg, lb_err *err) {
    return lb_thread_start_deep(t, run, arg, LB_STACK_BYTES, err);
}

void lb_thread_join(lb_thread *t) {
    if (t->started)
        (void)pthread_join(t->handle, NULL);
    t->started = false;
}
