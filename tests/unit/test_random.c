/* SPDX-License-Identifier: Apache-2.0 */
/* Any part of a generator's stream, against drawing all of it. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/mt19937.h"
#include <stdlib.h>

/* Matsumoto and Nishimura's generator, a number at a time. */
typedef struct serial {
    u32 state[624], at;
} serial;

static void serial_init(serial *m, u32 seed) {
    for (u32 i = 0; i < 624; i++)
        m->state[i] = i ? 1812433253u * (m->state[i - 1] ^ m->state[i - 1] >> 30) + i : seed;
    m->at = 624;
}

static u32 serial_next(serial *m) {
    if (m->at == 624) {
        for (u32 i = 0; i < 624; i++) {
            u32 y = (m->state[i] & 0x80000000u) | (m->state[(i + 1) % 624] & 0x7fffffffu);
            m->state[i] = m->state[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    u32 y = m->state[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static lb_kernels kernels;

static const lb_kernels *made(void) {
    lb_kernels_init(&kernels, lb_cpu_isa());
    return &kernels;
}

LB_TEST(numbers_of_torch) {
    const lb_kernels *k = made();
    /* python3 -c 'import torch; torch.manual_seed(42); print([int(x * 2**24) for x in
     * torch.rand(4)])' */
    static const u32 want[] = {14802022, 15351219, 6423388, 16094478};
    float u[LB_LEN(want)];
    lb_mt19937 m;
    lb_mt19937_init(&m, k, 42);
    lb_mt19937_uniform(&m, k, LB_LEN(want), u);
    for (u32 i = 0; i < LB_LEN(want); i++)
        CHECK(u[i] == (float)want[i] / 16777216.0f);
}

LB_TEST(stretches_from_anywhere) {
    const lb_kernels *k = made();
    enum { N = 30000000, LONG = 3000 };
    serial s;
    serial_init(&s, 0xfedcba98u);
    u32 *want = malloc((size_t)N * sizeof *want);
    CHECK(want != NULL);
    for (u32 i = 0; i < N; i++)
        want[i] = serial_next(&s) & 0xffffffu;
    lb_mt19937 m;
    lb_mt19937_init(&m, k, 0x12345678fedcba98u); /* torch keeps the low half */
    for (u32 round = 0; round < 200; round++) {
        static const u32 spans[] = {700, 40000, N - LONG};
        u64 at = lb_test_rand_below(spans[round % 3]);
        u64 n = lb_test_rand_below(LONG);
        float u[LONG];
        u8 bits[LONG / 8 + 1];
        u32 below = (u32)lb_test_rand_below((1u << 24) + 1);
        lb_mt19937_seek(&m, k, at);
        lb_mt19937_mask(&m, k, n, below, bits);
        CHECK(m.at == at + n);
        for (u64 i = 0; i < n; i++)
            CHECK((bits[i / 8] >> i % 8 & 1) == (want[at + i] < below));
        lb_mt19937_seek(&m, k, at);
        lb_mt19937_uniform(&m, k, n, u);
        for (u64 i = 0; i < n; i++)
            CHECK(u[i] == (float)want[at + i] / 16777216.0f);
    }
    free(want);
}

/* Where no test can walk to: a jump and as many steps again are a jump over the sum. */
LB_TEST(jumps_add_up) {
    const lb_kernels *k = made();
    static const u64 from[] = {(u64)1 << 24, 123456789012, (u64)1 << 40, 999999999999999};
    for (u32 i = 0; i < LB_LEN(from); i++) {
        lb_mt19937 a, b;
        float x[1000], y[1000];
        u64 more = 5000000 + i;
        lb_mt19937_init(&a, k, i);
        lb_mt19937_init(&b, k, i);
        lb_mt19937_seek(&a, k, from[i]);
        lb_mt19937_seek(&a, k, from[i] + more); /* by steps */
        lb_mt19937_seek(&b, k, from[i] + more); /* by another jump */
        lb_mt19937_uniform(&a, k, LB_LEN(x), x);
        lb_mt19937_uniform(&b, k, LB_LEN(y), y);
        CHECK(memcmp(x, y, sizeof x) == 0);
    }
}

LB_TEST(probabilities) {
    CHECK_U64(lb_mt19937_below(0), 0);
    CHECK_U64(lb_mt19937_below(1), 1 << 24);
    CHECK_U64(lb_mt19937_below(0.5f), 1 << 23);
    CHECK_U64(lb_mt19937_below(0x1p-24f), 1);   /* 0 alone is below it */
    CHECK_U64(lb_mt19937_below(0x1p-30f), 1);   /* likewise */
    CHECK_U64(lb_mt19937_below(0x1.8p-23f), 3); /* 0, 1 and 2 */
    CHECK_U64(lb_mt19937_below(0x1.4p-23f), 3); /* between 2 and 3 */
}

LB_TEST_MAIN("fast")
