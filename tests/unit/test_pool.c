/* SPDX-License-Identifier: Apache-2.0 */
/* test_pool.c: size classes, the hard limit, reuse, giving back, threads. */
#include "test.h"
#include "base/os.h"
#include "base/thread.h"
#include "plan/run.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const u64 sizes[] = {0,           1,          4095,        4096,         4097,
                            8191,        8192,       8193,        12288,        12289,
                            16384,       16385,      24576,       24577,        65536,
                            100000,      LB_MIB,     LB_MIB + 1,  3 * LB_MIB,   5 * LB_MIB / 3,
                            77 * LB_MIB, LB_GIB - 1, LB_GIB + 99, 700 * LB_GIB, (u64)1 << 46};

LB_TEST(size_classes) {
    u64 last = 0;
    for (u32 i = 0; i < LB_LEN(sizes); i++) {
        u64 c = lb_pool_class(sizes[i]);
        CHECK(c >= sizes[i]);
        CHECK_U64(c % 4096, 0);
        CHECK_U64(lb_pool_class(c), c);
        if (sizes[i] >= 8192) /* powers of two and one and a half times: never half as much again */
            CHECK(c - sizes[i] < sizes[i] / 2);
        /* what lies below a class does not need it */
        CHECK(c <= 8192 || lb_pool_class(c / 3 * 2) < c);
    }
    for (u64 n = 1; n < 200000; n += 311) {
        CHECK(lb_pool_class(n) >= last);
        last = lb_pool_class(n);
    }
}

/* Checks the three figures that must agree at any time. */
static bool stats_are(lb_pool *p, u64 allocations, u64 reuses, u64 outstanding) {
    lb_pool_stats s;
    lb_pool_read_stats(p, &s);
    return s.allocations == allocations && s.reuses == reuses && s.outstanding == outstanding;
}

LB_TEST(hard_limit) {
    lb_err err = {0};
    lb_pool *p = NULL;
    lb_pool_stats s;
    CHECK_OK(lb_pool_new(&p, LB_MIB, &err));
    CHECK(lb_pool_take(p, LB_MIB + 1) == NULL);
    CHECK(lb_pool_take(p, UINT64_MAX) == NULL);
    CHECK(stats_are(p, 0, 0, 0));
    void *a = lb_pool_take(p, 512 * LB_KIB), *b = lb_pool_take(p, 300 * LB_KIB); /* 384 KiB */
    CHECK(a && b && a != b);
    CHECK(lb_pool_take(p, 129 * LB_KIB) == NULL); /* 192 KiB do not fit into 128 */
    void *c = lb_pool_take(p, 128 * LB_KIB);
    CHECK(c);
    CHECK(lb_pool_take(p, 1) == NULL);
    CHECK(stats_are(p, 3, 0, LB_MIB));
    lb_pool_give(p, b, 300 * LB_KIB);
    b = lb_pool_take(p, 380 * LB_KIB); /* the class counts, not the size */
    CHECK(b);
    CHECK(stats_are(p, 3, 1, LB_MIB));
    lb_pool_give(p, a, 512 * LB_KIB);
    lb_pool_give(p, b, 380 * LB_KIB);
    lb_pool_give(p, c, 128 * LB_KIB);
    lb_pool_give(p, NULL, 99);
    lb_pool_read_stats(p, &s);
    CHECK_U64(s.peak_bytes, LB_MIB);
    CHECK_U64(s.outstanding, 0);
    lb_pool_free(&p);
    CHECK(p == NULL);
    lb_pool_free(&p);
    CHECK_OK(lb_pool_new(&p, 0, &err));
    CHECK(lb_pool_take(p, 1) == NULL);
    lb_pool_free(&p);
    CHECK_OK(lb_pool_new(&p, 4095, &err));
    CHECK(lb_pool_take(p, 1) == NULL);
    lb_pool_free(&p);
}

LB_TEST(reuse_is_counted) {
    lb_err err = {0};
    lb_pool *p = NULL;
    CHECK_OK(lb_pool_new(&p, 64 * LB_MIB, &err));
    u8 *first = lb_pool_take(p, 100000);
    CHECK(first && ((uintptr_t)first & (lb_os_page_size() - 1)) == 0);
    memset(first, 7, lb_pool_class(100000)); /* all of the class may be used */
    lb_pool_give(p, first, 100000);
    for (u32 i = 0; i < 1000; i++) {
        u8 *q = lb_pool_take(p, 99000 + i);
        CHECK(q == first); /* the one that is warm in the cache */
        q[lb_pool_class(100000) - 1] = (u8)i;
        lb_pool_give(p, q, 99000 + i);
    }
    CHECK(stats_are(p, 1, 1000, 0));
    lb_pool_free(&p);
}

LB_TEST(spare_buffers_make_room) {
    lb_err err = {0};
    lb_pool *p = NULL;
    lb_pool_stats s;
    void *small[8], *big[2];
    u64 before = lb_run_base_bytes();
    CHECK_OK(lb_pool_new(&p, LB_MIB, &err));
    for (u32 i = 0; i < LB_LEN(small); i++)
        CHECK((small[i] = lb_pool_take(p, 96 * LB_KIB)) != NULL);
    for (u32 i = 0; i < LB_LEN(small); i++)
        lb_pool_give(p, small[i], 96 * LB_KIB);
    /* 768 KiB lie spare: 512 more fit only if some of them go back to the system */
    CHECK((big[0] = lb_pool_take(p, 512 * LB_KIB)) != NULL);
    lb_pool_read_stats(p, &s);
    CHECK(s.peak_bytes <= LB_MIB);
    CHECK(lb_run_base_bytes() <= before + LB_MIB); /* the system has them back */
    CHECK((big[1] = lb_pool_take(p, 512 * LB_KIB)) != NULL);
    CHECK(lb_pool_take(p, 1) == NULL);
    lb_pool_give(p, big[0], 512 * LB_KIB);
    lb_pool_give(p, big[1], 512 * LB_KIB);
    /* a large spare one goes for many small ones */
    for (u32 i = 0; i < LB_LEN(small); i++)
        CHECK((small[i] = lb_pool_take(p, 128 * LB_KIB)) != NULL);
    CHECK(lb_pool_take(p, 1) == NULL);
    lb_pool_read_stats(p, &s);
    CHECK_U64(s.outstanding, LB_MIB);
    CHECK_U64(s.peak_bytes, LB_MIB);
    for (u32 i = 0; i < LB_LEN(small); i++)
        lb_pool_give(p, small[i], 128 * LB_KIB);
    lb_pool_free(&p);
    CHECK(lb_run_base_bytes() <= before + 64 * LB_KIB);
}

/* ---- threads ---- */

#define N_THREADS 6
#define N_HELD 5

typedef struct shared {
    lb_pool *pool;
    u64 limit;
    u32 seed;
    u64 n_taken, n_refused;
    bool bad;
    lb_thread thread;
} shared;

static u32 next(u32 *s) {
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

/* Writes its own mark over what it holds: two owners of one buffer would see each other's. */
static void *take_and_give(void *arg) {
    shared *w = arg;
    u8 *held[N_HELD] = {0};
    u64 len[N_HELD] = {0};
    u32 s = w->seed;
    for (u32 i = 0; i < 4000; i++) {
        u32 k = next(&s) % N_HELD;
        if (held[k]) {
            for (u64 j = 0; j < len[k]; j += 509)
                w->bad |= held[k][j] != (u8)(w->seed + k);
            lb_pool_give(w->pool, held[k], len[k]);
            held[k] = NULL;
            continue;
        }
        len[k] = 1 + next(&s) % 60000;
        held[k] = lb_pool_take(w->pool, len[k]);
        w->n_taken += held[k] != NULL;
        w->n_refused += held[k] == NULL;
        for (u64 j = 0; held[k] && j < len[k]; j += 509)
            held[k][j] = (u8)(w->seed + k);
        lb_pool_stats st;
        lb_pool_read_stats(w->pool, &st);
        w->bad |= st.outstanding > w->limit || st.peak_bytes > w->limit;
    }
    for (u32 k = 0; k < N_HELD; k++)
        lb_pool_give(w->pool, held[k], len[k]);
    return NULL;
}

LB_TEST(threads) {
    static const u64 limits[] = {200 * LB_KIB, 600 * LB_KIB, 64 * LB_MIB};
    for (u32 l = 0; l < LB_LEN(limits); l++) {
        lb_err err = {0};
        lb_pool *p = NULL;
        lb_pool_stats s;
        shared w[N_THREADS] = {0};
        u64 taken = 0, refused = 0;
        bool bad = false;
        CHECK_OK(lb_pool_new(&p, limits[l], &err));
        for (u32 i = 0; i < N_THREADS; i++) {
            w[i] = (shared){.pool = p, .limit = limits[l], .seed = 16 * i + 1};
            CHECK_OK(lb_thread_start(&w[i].thread, take_and_give, &w[i], &err));
        }
        for (u32 i = 0; i < N_THREADS; i++) {
            lb_thread_join(&w[i].thread);
            taken += w[i].n_taken;
            refused += w[i].n_refused;
            bad |= w[i].bad;
        }
        lb_pool_read_stats(p, &s);
        lb_pool_free(&p);
        CHECK(!bad);
        CHECK_U64(s.outstanding, 0);
        CHECK_U64(s.allocations + s.reuses, taken);
        /* one thread alone meets the smallest limit; the middle one only if several run at once */
        CHECK(limits[l] != 64 * LB_MIB || refused == 0);
        CHECK(limits[l] != 200 * LB_KIB || refused > 0);
        CHECK(limits[l] != 64 * LB_MIB || s.reuses > s.allocations);
    }
}

/* The system may say no before the limit does. */
LB_TEST(system_refuses) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__linux__)
    lb_test_skip("needs RLIMIT_DATA as Linux counts it, without a sanitizer");
#else
    if (lb_test_emulated()) {
        lb_test_skip("the emulator does not apply RLIMIT_DATA");
        return;
    }
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        lb_pool *p = NULL;
        lb_pool_stats s;
        struct rlimit r = {16 * LB_MIB, 16 * LB_MIB};
        bool ok = lb_pool_new(&p, LB_GIB, NULL) == LB_OK && setrlimit(RLIMIT_DATA, &r) == 0;
        ok = ok && lb_pool_take(p, 32 * LB_MIB) == NULL;
        lb_pool_read_stats(p, &s);
        ok = ok && s.outstanding == 0 && s.peak_bytes == 0 && s.allocations == 0;
        void *q = lb_pool_take(p, LB_MIB);
        ok = ok && q;
        lb_pool_give(p, q, LB_MIB);
        lb_pool_free(&p);
        _exit(ok ? 0 : 1);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

LB_TEST_MAIN("fast")
