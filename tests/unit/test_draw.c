/* SPDX-License-Identifier: Apache-2.0 */
/* test_draw.c: random values by place: torch's, Philox's known answers, any part for itself, what
 * a normal value is. */
#include "plan/draw.h"
#include "test.h"
#include <math.h>

static lb_arena arena;
static lb_kernels ref;

static const lb_draw *torch(lb_draw_kind kind, u64 seed, u64 first, u64 total) {
    static lb_mt19937 m;
    lb_kernels_init(&ref, 0);
    lb_mt19937_init(&m, &ref, seed);
    return lb_draw_torch(kind, first, total, &m, &ref, &arena);
}

static void near(float got, double want) {
    float w = (float)want;
    if (!(fabs((double)got - want) <= 3 * (double)(nextafterf(fabsf(w), INFINITY) - fabsf(w))))
        lb_test_fail(__FILE__, __LINE__, "%a for %a", (double)got, want);
}

/* torch 2.15.0+cpu on AVX2: torch.manual_seed(SEED); torch.randn(N)[[0, 1, 7, 8, 15, N - 16, N - 9,
 * N - 1]]; then torch.rand(N)[[0, N - 1]] after the same seed. */
LB_TEST(torch_values) {
    static const struct {
        u64 seed, n;
        double normal[8], uniform[2];
    } t[] = {{0,
              16,
              {-0x1.20370ap+0, -0x1.270114p+0, -0x1.0ebf82p+1, 0x1.4a027p-2, -0x1.fa6cf8p-3,
               -0x1.20370ap+0, -0x1.0ebf82p+1, -0x1.fa6cf8p-3},
              {0x1.fc2abp-2, 0x1.097bbp-1}},
             {7,
              40,
              {-0x1.a3e8acp-1, 0x1.95205p-2, -0x1.c98d34p-1, 0x1.da63d8p-1, 0x1.17151p+0,
               -0x1.155ffp-3, -0x1.10bdfcp+0, -0x1.77827ap-4},
              {0x1.11e15ep-1, 0x1.8fe38p-3}},
             {42,
              37,
              {0x1.ed4a52p+0, 0x1.7cbea6p+0, -0x1.9acb74p+0, -0x1.8117ep-1, 0x1.865f3ep-1,
               -0x1.b2b51ap-2, 0x1.4ff364p+0, 0x1.2dcfbap+0},
              {0x1.c3b8ccp-1, 0x1.27e5d6p-1}}};
    for (u32 i = 0; i < LB_LEN(t); i++) {
        const u64 n = t[i].n, at[] = {0, 1, 7, 8, 15, n - 16, n - 9, n - 1};
        const lb_draw *d = torch(LB_DRAW_TORCH_NORMAL, t[i].seed, 0, n);
        float v[64];
        lb_draw_fill(d, &ref, 0, n, v);
        for (u32 k = 0; k < LB_LEN(at); k++)
            near(v[at[k]], t[i].normal[k]);
        lb_draw_fill(torch(LB_DRAW_TORCH_UNIFORM, t[i].seed, 0, n), &ref, 0, n, v);
        CHECK(v[0] == (float)t[i].uniform[0] && v[n - 1] == (float)t[i].uniform[1]);
    }
}

/* torch.manual_seed(1); torch.randn(3, 4, 5)[2].flatten()[[0, 4, 15, 19]]: the last 16 of 60 are
 * drawn anew. */
LB_TEST(a_part_of_a_call) {
    const lb_draw *d = torch(LB_DRAW_TORCH_NORMAL, 1, 40, 60);
    float v[20];
    lb_draw_fill(d, &ref, 0, 20, v);
    near(v[0], -0x1.c6bcbap-4);
    near(v[4], 0x1.d021f8p-2);
    near(v[15], 0x1.9c3dc6p+0);
    near(v[19], -0x1.a99a4ap-1);
}

LB_TEST(any_part_is_the_same) {
    enum { N = 1003 };
    static float all[N], part[N];
    lb_draw own = {.kind = LB_DRAW_NORMAL, .seed = 5, .stream = 9};
    for (u32 kind = 0; kind < 3; kind++) {
        const lb_draw *d = kind == 2 ? &own : torch((lb_draw_kind)kind, 11, 21, 21 + N);
        lb_draw_fill(d, &ref, 0, N, all);
        for (u32 i = 0; i < 300; i++) {
            u64 from = lb_test_rand_below(N), n = lb_test_rand_below(N - from + 1);
            lb_draw_fill(d, &ref, from, n, part);
            if (memcmp(part, all + from, n * sizeof *part))
                lb_test_fail(__FILE__, __LINE__, "kind %u: [%llu, +%llu)", kind,
                             (unsigned long long)from, (unsigned long long)n);
        }
    }
}

/* kat_vectors of Random123 1.14 */
LB_TEST(philox) {
    static const u32 t[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (u32 i = 0; i < LB_LEN(t); i++) {
        u32 out[4];
        lb_philox(t[i], t[i] + 4, out);
        CHECK(memcmp(out, t[i] + 6, sizeof out) == 0);
    }
}

/* Moments of 400,000 values, within five standard errors. */
LB_TEST(normal_is_normal) {
    enum { N = 400000 };
    static float v[N];
    lb_draw d = {.kind = LB_DRAW_NORMAL, .seed = 1};
    double m1 = 0, m2 = 0, m4 = 0, cross = 0;
    lb_kernels_init(&ref, 0);
    lb_draw_fill(&d, &ref, 0, N, v);
    for (u32 i = 0; i < N; i++) {
        double x = (double)v[i], s = x * x;
        m1 += x;
        m2 += s;
        m4 += s * s;
        cross += i ? x * (double)v[i - 1] : 0;
    }
    CHECK(fabs(m1 / N) < 5 / sqrt(N));
    CHECK(fabs(m2 / N - 1) < 5 * sqrt(2.0 / N));
    CHECK(fabs(m4 / N - 3) < 5 * sqrt(96.0 / N));
    CHECK(fabs(cross / N) < 5 / sqrt(N));
    float other[16];
    d.stream = 1;
    lb_draw_fill(&d, &ref, 0, 16, other);
    CHECK(memcmp(other, v, sizeof other) != 0);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
