/* SPDX-License-Identifier: Apache-2.0 */
/* interrupt.c: the flag behind interrupt.h. A signal handler can reach nothing but a static object:
 * this is one of the few allowed to change (tools/check_names.sh lists them). */
#include "base/interrupt.h"
#include <signal.h>
#include <stdatomic.h>

static atomic_bool interrupted;

static void on_signal(int sig) {
    (void)sig;
    atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

void lb_interrupt_install(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    /* RESETHAND: the second signal has its default effect. No SA_RESTART: a read that waits for a
     * terminal or a pipe returns. */
    sa.sa_flags = (int)SA_RESETHAND;
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    /* A file that may not grow further (ulimit -f) is an error of the write, as a full disk is. */
    sa.sa_handler = SIG_IGN;
    sa.sa_flags = 0;
    (void)sigaction(SIGXFSZ, &sa, NULL);
}

bool lb_interrupted(void) {
    return atomic_load_explicit(&interrupted, memory_order_relaxed);
}

bool lb_interrupt_stop(void *unused) {
    (void)unused;
    return lb_interrupted();
}

lb_status lb_interrupt_check(lb_err *err) {
    return lb_interrupted() ? lb_fail(err, LB_E_INTERRUPTED, "interrupted") : LB_OK;
}

void lb_interrupt_set(void) {
    atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

void lb_interrupt_clear(void) {
    atomic_store_explicit(&interrupted, false, memory_order_relaxed);
}
