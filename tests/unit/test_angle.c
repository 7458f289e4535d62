/* SPDX-License-Identifier: Apache-2.0 */
/* test_angle.c: sine, cosine and inverse cosine against libm's long double. */
#include "test.h"
#include "kernel/angle.h"
#include <math.h>

static double unit(void) {
    return (double)(lb_test_rand() >> 11) * 0x1p-53;
}

static bool near(double got, long double want, long double size) {
    return !(fabsl((long double)got - want) > 0x1p-50L * size);
}

LB_TEST(near_libm) {
    for (u32 i = 0; i < lb_test_cases(200000); i++) {
        double x = (unit() - 0.5) * (i % 3 ? 7 : 60), c = 2 * unit() - 1;
        if (i % 5 == 0)
            x *= 1e-6;
        if (i % 7 == 0)
            c = 1 - ldexp(unit(), -(int)lb_test_rand_below(50));
        CHECK(near(lb_sin_f64(x), sinl((long double)x), fabs(x) < 1 ? fabsl((long double)x) : 1));
        CHECK(near(lb_cos_f64(x), cosl((long double)x), 1));
        CHECK(near(lb_acos_f64(c), acosl((long double)c), fabsl(acosl((long double)c))));
    }
}

LB_TEST(ends) {
    CHECK(lb_sin_f64(0) == 0 && lb_cos_f64(0) == 1 && lb_acos_f64(1) == 0);
    CHECK(lb_acos_f64(-1) == M_PI && lb_acos_f64(0) == M_PI / 2);
    CHECK(lb_sin_f64(NAN) != lb_sin_f64(NAN) && lb_acos_f64(NAN) != lb_acos_f64(NAN));
}

LB_TEST_MAIN("fast")
