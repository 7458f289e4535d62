/* SPDX-License-Identifier: Apache-2.0 */
/* guard.c: buffers between inaccessible pages, canaries, and calls that survive a fault. */
#include "checkkern.h"
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CANARY_BYTES 512

void area_init(area *a, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bytes = (bytes + page - 1) / page * page;
    u8 *p = mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, bytes, PROT_READ | PROT_WRITE) != 0) {
        perror("checkkern: mmap");
        exit(1);
    }
    a->lo = p + page;
    a->bytes = bytes;
}

/* A different value at each address, so that no kernel writes it by chance over a run of them. */
static u8 canary(const u8 *at) {
    return (u8)(((uintptr_t)at * 0x9e3779b1u) >> 13);
}

u8 *area_place(const area *a, size_t bytes, u32 place, size_t step) {
    u8 *p = a->lo;
    LB_ASSERT(bytes + 3 * CANARY_BYTES <= a->bytes);
    if (place == PLACE_ROOMY)
        p = a->lo + 2 * CANARY_BYTES;
    else if (place == PLACE_END)
        p = a->lo + a->bytes - bytes;
    else if (place == PLACE_SHIFTED)
        p = a->lo + CANARY_BYTES + step;
    u8 *const hi = a->lo + a->bytes;
    for (u8 *q = p - LB_MIN(CANARY_BYTES, (size_t)(p - a->lo)); q < p; q++)
        *q = canary(q);
    for (u8 *q = p + bytes; q < hi && q < p + bytes + CANARY_BYTES; q++)
        *q = canary(q);
    return p;
}

bool area_intact(const area *a, const u8 *p, size_t bytes) {
    const u8 *const hi = a->lo + a->bytes;
    for (const u8 *q = p - LB_MIN(CANARY_BYTES, (size_t)(p - a->lo)); q < p; q++)
        if (*q != canary(q))
            return false;
    for (const u8 *q = p + bytes; q < hi && q < p + bytes + CANARY_BYTES; q++)
        if (*q != canary(q))
            return false;
    return true;
}

static sigjmp_buf fault_jump;
static volatile sig_atomic_t is_armed;

/* A fault outside a guarded call is checkkern's own: it ends the program as usual. */
static void on_fault(int number) {
    if (is_armed)
        siglongjmp(fault_jump, 1);
    signal(number, SIG_DFL);
}

bool guarded(void (*fn)(void *), void *arg) {
    static bool installed;
    if (!installed) {
        struct sigaction sa = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
        sigaction(SIGSEGV, &sa, NULL);
        sigaction(SIGBUS, &sa, NULL);
        installed = true;
    }
    if (sigsetjmp(fault_jump, 0)) {
        is_armed = 0;
        return false;
    }
    is_armed = 1;
    fn(arg);
    is_armed = 0;
    return true;
}
