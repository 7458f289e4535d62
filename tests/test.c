/* SPDX-License-Identifier: Apache-2.0 */
/* test.c: the runner behind test.h. */
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static lb_test_case *first_case, *last_case;
static const char *running;
static int n_failed, n_skipped, n_passed;
static bool case_failed, case_skipped;
static u64 rng_state, rng_seed;
static char scratch[256];
static char golden[512];

void lb_test_register(lb_test_case *c) {
    if (last_case)
        last_case->next = c;
    else
        first_case = c;
    last_case = c;
}

void lb_test_fail(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s:%d: %s: ", file, line, running);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, " (seed %llu)\n", (unsigned long long)rng_seed);
    va_end(ap);
    case_failed = true;
}

void lb_test_skip(const char *reason) {
    fprintf(stderr, "skip: %s: %s\n", running, reason);
    if (getenv("NOSKIP"))
        case_failed = true;
    else
        case_skipped = true;
}

const char *lb_test_dir(void) {
    if (!scratch[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%s/lbrx-test-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(scratch)) {
            perror(scratch);
            exit(1);
        }
    }
    return scratch;
}

const char *lb_test_golden(const char *name) {
    const char *root = getenv("LB_TEST_GOLDEN");
    snprintf(golden, sizeof golden, "%s/%s", root ? root : "tests/golden", name);
    return golden;
}

u64 lb_test_cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

bool lb_test_timed(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
    return false;
#else
    return getenv("LB_TEST_NO_TIMING") == NULL;
#endif
}

bool lb_test_emulated(void) {
    return getenv("LB_TEST_EMULATED") != NULL;
}

u64 lb_test_cases(u64 n) {
    const char *share = getenv("LB_TEST_CASES");
    u64 percent = share ? strtoull(share, NULL, 10) : 100;
    return LB_MAX(n * LB_MIN(percent, 100) / 100, 1);
}

bool lb_test_full(void) {
    return lb_test_cases(100) == 100;
}

u32 lb_test_stride(u32 n) {
    return lb_test_cases(100) < 20 ? n : 1;
}

/* splitmix64 */
u64 lb_test_rand(void) {
    u64 z = (rng_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

u64 lb_test_rand_below(u64 n) {
    return n ? lb_test_rand() % n : 0;
}

float lb_test_normal(void) {
    double u = ((double)(lb_test_rand() >> 11) + 0.5) * 0x1p-53;
    double v = ((double)(lb_test_rand() >> 11) + 0.5) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

int lb_test_main(int argc, char **argv, const char *cost) {
    const char *only = argc > 1 ? argv[1] : NULL;
    const char *seed = getenv("LB_TEST_SEED");
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (lb_test_case *c = first_case; c; c = c->next) {
        if (only && !strstr(c->name, only))
            continue;
        running = c->name;
        case_failed = case_skipped = false;
        rng_seed = rng_state = seed ? strtoull(seed, NULL, 0) : 42;
        const u64 t0 = lb_test_cpu_us();
        c->run();
        if (getenv("LB_TEST_TIMES"))
            printf("%9.3f s  %s\n", (double)(lb_test_cpu_us() - t0) * 1e-6, c->name);
        if (case_failed)
            n_failed++;
        else if (case_skipped)
            n_skipped++;
        else
            n_passed++;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (scratch[0] && !n_failed) {
        char cmd[300];
        snprintf(cmd, sizeof cmd, "rm -rf '%s'", scratch);
        if (system(cmd) != 0)
            fprintf(stderr, "cannot remove %s\n", scratch);
    }
    const char *base = strrchr(argv[0], '/');
    printf("%s: %d passed, %d failed, %d skipped [cost: %s] %.1f s\n", base ? base + 1 : argv[0],
           n_passed, n_failed, n_skipped, cost,
           (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    return n_failed ? 1 : 0;
}
