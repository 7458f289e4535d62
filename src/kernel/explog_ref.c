/* SPDX-License-Identifier: Apache-2.0 */
/* explog_ref.c: exp and log of floats, correctly rounded: the same bytes on every machine.
 *
 * Both are computed as a sum of two doubles whose relative error is below 2^-58 and rounded once to
 * float. That this is the rounding of the true value was checked for every float (2^32 inputs each)
 * against binary128. Constants: 2^(j/32) and parts of ln 2 from 300 bits. */
#include "kernel/exact.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

#define INF_BITS 0x7f800000u

/* 2^(j/32) = hi + lo. */
static const double power[32][2] = {
    {0x1p+0, 0},
    {0x1.059b0d3158574p+0, 0x1.d73e2a475b465p-55},
    {0x1.0b5586cf9890fp+0, 0x1.8a62e4adc610bp-54},
    {0x1.11301d0125b51p+0, -0x1.6c51039449b3ap-54},
    {0x1.172b83c7d517bp+0, -0x1.19041b9d78a76p-55},
    {0x1.1d4873168b9aap+0, 0x1.e016e00a2643cp-54},
    {0x1.2387a6e756238p+0, 0x1.9b07eb6c70573p-54},
    {0x1.29e9df51fdee1p+0, 0x1.612e8afad1255p-55},
    {0x1.306fe0a31b715p+0, 0x1.6f46ad23182e4p-55},
    {0x1.371a7373aa9cbp+0, -0x1.63aeabf42eae2p-54},
    {0x1.3dea64c123422p+0, 0x1.ada0911f09ebcp-55},
    {0x1.44e086061892dp+0, 0x1.89b7a04ef80d0p-59},
    {0x1.4bfdad5362a27p+0, 0x1.d4397afec42e2p-56},
    {0x1.5342b569d4f82p+0, -0x1.07abe1db13cadp-55},
    {0x1.5ab07dd485429p+0, 0x1.6324c054647adp-54},
    {0x1.6247eb03a5585p+0, -0x1.383c17e40b497p-54},
    {0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54},
    {0x1.71f75e8ec5f74p+0, -0x1.16e4786887a99p-55},
    {0x1.7a11473eb0187p+0, -0x1.41577ee04992fp-55},
    {0x1.82589994cce13p+0, -0x1.d4c1dd41532d8p-54},
    {0x1.8ace5422aa0dbp+0, 0x1.6e9f156864b27p-54},
    {0x1.93737b0cdc5e5p+0, -0x1.75fc781b57ebcp-57},
    {0x1.9c49182a3f090p+0, 0x1.c7c46b071f2bep-56},
    {0x1.a5503b23e255dp+0, -0x1.d2f6edb8d41e1p-54},
    {0x1.ae89f995ad3adp+0, 0x1.7a1cd345dcc81p-54},
    {0x1.b7f76f2fb5e47p+0, -0x1.5584f7e54ac3bp-56},
    {0x1.c199bdd85529cp+0, 0x1.11065895048ddp-55},
    {0x1.cb720dcef9069p+0, 0x1.503cbd1e949dbp-56},
    {0x1.d5818dcfba487p+0, 0x1.2ed02d75b3707p-55},
    {0x1.dfc97337b9b5fp+0, -0x1.1a5cd4f184b5cp-54},
    {0x1.ea4afa2a490dap+0, -0x1.e9c23179c2893p-54},
    {0x1.f50765b6e4540p+0, 0x1.9d3e12dd8a18bp-54},
};

static double scaled(double x, i64 exponent) {
    u64 bits = (u64)(exponent + 1023) << 52;
    double two;
    memcpy(&two, &bits, sizeof two);
    return x * two;
}

/* x = (32 e + j) ln2/32 + r with |r| < 0.011: exp(x) = 2^e 2^(j/32) exp(r). The first part of
 * ln2/32 has 40 bits, so that its multiples and r are exact but for the second part. */
static float exp_exact(float x) {
    if (x > 100.0f)
        return lb_f32_from_bits(INF_BITS);
    if (x < -110.0f) /* below half of the least float */
        return 0;
    const double t = (double)x * 0x1.71547652b82fep+5;
    const i64 k = (i64)(t < 0 ? t - 0.5 : t + 0.5), j = k & 31;
    const double r = (double)x - (double)k * 0x1.62e42fefa4000p-6;
    const double r_low = (double)k * 0x1.8432a1b0e2634p-48;
    const double y = r + r_low;
    const double tail = 1.0 / 6 + y * (1.0 / 24 + y * (1.0 / 120 + y * (1.0 / 720 + y / 5040)));
    const double rest = r_low + y * y * (0.5 + y * tail);
    const double hi = power[j][0], lo = power[j][1];
    return (float)scaled(lb_sum_odd(hi, hi * r + (hi * rest + (lo + lo * r))), (k - j) / 32);
}

/* x = 2^e m with m in [0.707, 1.415): log(x) = e ln2 + 2 atanh(s), s = (m - 1) / (m + 1) in two
 * parts, of which the second is the exact remainder's. */
static float log_exact(float x) {
    if (x < 0)
        return lb_f32_from_bits(LB_NAN_BITS);
    if (!(x > 0))
        return x == 0 ? lb_f32_from_bits(INF_BITS | 0x80000000u) : x;
    if (lb_f32_bits(x) == INF_BITS)
        return x;
    const double wide = (double)x;
    u64 bits;
    memcpy(&bits, &wide, sizeof bits);
    i64 e = (i64)(bits >> 52) - 1023;
    double m = scaled(wide, -e);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    const double a = m - 1, b = m + 1, s = a / b;
    const double s_high = (double)(float)s;
    const double s_low = ((a - s_high * b) - (s - s_high) * b) / b;
    const double q = s * s;
    double tail = 1.0 / 23;
    for (int n = 21; n >= 3; n -= 2)
        tail = 1.0 / n + q * tail;
    const double rest = 2 * (s_low + s * q * tail);
    const double e_high = (double)e * 0x1.62e42fefa3a00p-1;
    const double sum = e_high + 2 * s, part = sum - e_high;
    const double lost = (e_high - (sum - part)) + (2 * s - part);
    return (float)lb_sum_odd(sum, lost + ((double)e * -0x1.0ca86c3898d00p-49 + rest));
}

void lb_k_map_exp_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(exp_exact(a[i]));
}

void lb_k_map_log_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(log_exact(a[i]));
}
