/* SPDX-License-Identifier: Apache-2.0 */
/* exp and log of floats against correctly rounded values (tests/golden/kern/make_explog.py), the
 * hardest of all floats among them. */
#include "golden.h"
#include "test.h"
#include "base/cpu.h"
#include "kernel/divergence.h"
#include "kernel/half.h"
#include <math.h>
#include <stdlib.h>

static void check_record(const golden_record *r) {
    static const u32 masks[] = {0, UINT32_MAX};
    bool log = !strcmp(r->name, "log");
    float *x = malloc(r->n_bytes + 1), *out = malloc(r->n_bytes + 1);
    CHECK(x && out && r->n_bytes == 4 * r->n_elems && (log || !strcmp(r->name, "exp")));
    for (size_t i = 0; x && out && i < LB_LEN(masks); i++) {
        lb_kernels k;
        lb_kernels_init(&k, masks[i] & lb_cpu_isa());
        memcpy(x, r->raw, r->n_bytes);
        (log ? k.map_log_f32 : k.map_exp_f32)(r->n_elems, out, x);
        CHECK(golden_same(r, r->name, out));
    }
    free(x);
    free(out);
}

LB_TEST(explog_golden) {
    u8 *data;
    size_t size, at = 0, n = 0;
    golden_record r;
    if (!golden_open("explog.bin", &data, &size))
        return;
    for (; golden_next(data, size, &at, &r); n++) {
        check_record(&r);
        CHECK(r.n_elems > 1000);
        golden_record_free(&r);
    }
    CHECK_U64(n, 2);
    golden_close(data);
}

/* What goes through log and back, or the other way, comes back near itself; order is kept. */
LB_TEST(explog_inverse) {
    lb_kernels k;
    lb_kernels_init(&k, 0);
    float last = -1;
    for (u32 i = 0; i < 20000; i++) {
        float x = (float)i * 0.001f - 10, e, back;
        k.map_exp_f32(1, &e, &x);
        k.map_log_f32(1, &back, &e);
        CHECK(e > last);
        CHECK(back - x < 1e-6f && x - back < 1e-6f);
        last = e;
    }
}

/* Against the same in long double, with libm; rows of differing spread, and what is not finite. */
LB_TEST(divergence) {
    static float x[1000], y[1000];
    static double scratch[2000];
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 i = 0; i < 60; i++) {
        u32 n = 1 + (u32)lb_test_rand_below(1000);
        float spread = i % 3 == 0 ? 0.02f : i % 3 == 1 ? 3.0f : 200.0f;
        long double most[2] = {-1e9L, -1e9L}, all[2] = {0, 0}, want = 0;
        for (u32 j = 0; j < n; j++) {
            x[j] = lb_test_normal() * spread;
            y[j] = x[j] + lb_test_normal() * spread * (i % 2 ? 1.0f : 0.05f);
            most[0] = fmaxl(most[0], (long double)x[j]);
            most[1] = fmaxl(most[1], (long double)y[j]);
        }
        for (u32 j = 0; j < n; j++) {
            all[0] += expl((long double)x[j] - most[0]);
            all[1] += expl((long double)y[j] - most[1]);
        }
        for (u32 j = 0; j < n; j++) {
            long double p = expl((long double)x[j] - most[0]) / all[0] + 1e-8L;
            long double q = expl((long double)y[j] - most[1]) / all[1] + 1e-8L;
            want += p * logl(p / q);
        }
        float got = lb_kl_f32(&k, n, x, y, LB_KL_DOUBLE, (float *)(void *)scratch);
        float half = lb_kl_f32(&k, n, x, y, LB_KL_F16, (float *)(void *)scratch);
        CHECK(fabsl((long double)got - want) <= 1e-7L * fabsl(want) + 1e-13L);
        /* f16 has no 1e-8, and divides by 0 where a softmax is less */
        CHECK(i % 3 || fabsl((long double)half - want) <= 0.05L * fabsl(want) + 0.02L);
        x[n / 2] = i % 2 ? INFINITY : NAN;
        got = lb_kl_f32(&k, n, x, y, LB_KL_DOUBLE, (float *)(void *)scratch);
        CHECK(got != got);
    }
}

LB_TEST(order_of_halves) {
    float last = -1;
    u32 before = 0;
    for (u32 i = 0; i <= 0xff00u; i++) {
        u32 h = i < 0x7f80u ? 0xff80u - i : i - 0x7f80u; /* bf16 from -infinity to +infinity */
        float x = lb_bf16_to_f32((u16)h), o = lb_order_of(x);
        if (h < 0x7f00u || h > 0x8000u) /* beyond are NaN, in order as integers */
            CHECK(o > last);
        CHECK(lb_f32_bits(o) > before);
        CHECK(x == lb_order_value(o));
        before = lb_f32_bits(o);
        last = o;
    }
    CHECK(lb_f32_bits(lb_order_of(NAN)) > lb_f32_bits(lb_order_of(INFINITY)));
}

LB_TEST_MAIN("fast")
