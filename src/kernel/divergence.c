/* SPDX-License-Identifier: Apache-2.0 */
/* divergence.c: see divergence.h. exp and log are series in double without libm, so that every
 * machine has the same numbers; both are good to about 2^-51. */
#include "kernel/divergence.h"
#include "kernel/half.h"

#define EPS 1e-8
#define LN2_HIGH 0x1.62e42fefa3a00p-1
#define LN2_LOW (-0x1.0ca86c3898d00p-49)

/* 2^e for -1022 <= e. */
static double power_of_2(i64 e) {
    const u64 bits = (u64)(e + 1023) << 52;
    double p;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* x <= 0; below -690 it is taken for 0. */
static double exp_of(double x) {
    if (!(x > -690))
        return x == x ? 0 : x;
    const i64 e = (i64)(x * 1.4426950408889634 - 0.5);
    const double r = (x - (double)e * LN2_HIGH) - (double)e * LN2_LOW;
    double sum = 1;
    for (int n = 15; n >= 1; n--)
        sum = 1 + r / n * sum;
    return sum * power_of_2(e);
}

/* x > 0, normal. */
static double log_of(double x) {
    u64 bits;
    memcpy(&bits, &x, sizeof bits);
    i64 e = (i64)(bits >> 52) - 1023;
    double m = x * power_of_2(-e);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1) / (m + 1), q = s * s;
    double tail = 1.0 / 23;
    for (int n = 21; n >= 3; n -= 2)
        tail = 1.0 / n + q * tail;
    return (double)e * LN2_HIGH + (2 * s + (2 * s * q * tail + (double)e * LN2_LOW));
}

/* NaN where one is. */
static float largest(size_t n, const float *x) {
    float most = x[0];
    for (size_t i = 1; i < n; i++)
        most = x[i] > most || x[i] != x[i] ? x[i] : most;
    return most;
}

/* e: [n]; returns the sum. */
static double exps_of(size_t n, const float *x, double *e) {
    const double most = (double)largest(n, x);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        e[i] = exp_of((double)x[i] - most);
        sum += e[i];
    }
    return sum;
}

static double kl_double(size_t n, const float *x, const float *y, double *scratch) {
    double *p = scratch, *q = scratch + n, sum = 0;
    const double all_p = exps_of(n, x, p), all_q = exps_of(n, y, q);
    for (size_t i = 0; i < n; i++) {
        const double a = p[i] / all_p + EPS, b = q[i] / all_q + EPS;
        if (!(a == a && b == b))
            return a + b;
        sum += a * log_of(a / b);
    }
    return sum;
}

static void round_to(const lb_kernels *k, size_t n, float *x, lb_kl_how how) {
    if (how == LB_KL_F16)
        k->map_round_f16_f32(n, x, x);
    else
        k->map_round_bf16_f32(n, x, x);
}

/* softmax + EPS as torch has it: f32 within, then rounded. */
static void softmax(const lb_kernels *k, size_t n, const float *x, float *p, lb_kl_how how) {
    double sum = 0;
    k->map_addc_f32(n, p, x, -largest(n, x));
    k->map_exp_f32(n, p, p);
    for (size_t i = 0; i < n; i++)
        sum += (double)p[i];
    k->map_divc_f32(n, p, p, (float)sum);
    round_to(k, n, p, how);
    k->map_addc_f32(n, p, p, (float)EPS);
    round_to(k, n, p, how);
}

static double kl_typed(const lb_kernels *k, size_t n, const float *x, const float *y, lb_kl_how how,
                       float *scratch) {
    float *p = scratch, *q = scratch + n;
    double sum = 0;
    softmax(k, n, x, p, how);
    softmax(k, n, y, q, how);
    k->map_div_f32(n, q, p, q);
    round_to(k, n, q, how);
    k->map_log_f32(n, q, q);
    round_to(k, n, q, how);
    k->map_mul_f32(n, q, q, p);
    round_to(k, n, q, how);
    for (size_t i = 0; i < n; i++)
        sum += (double)q[i];
    return sum;
}

float lb_kl_f32(const lb_kernels *k, size_t n, const float *x, const float *y, lb_kl_how how,
                float *scratch) {
    if (n == 0)
        return 0;
    float v = (float)(how == LB_KL_DOUBLE ? kl_double(n, x, y, (double *)(void *)scratch)
                                          : kl_typed(k, n, x, y, how, scratch));
    v = lb_canon_f32(v);
    if (how != LB_KL_DOUBLE)
        round_to(k, 1, &v, how);
    return v;
}
