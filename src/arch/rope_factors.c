/* SPDX-License-Identifier: Apache-2.0 */
/* rope_factors.c: llama3's rope scaling: config.json <-> rope_freqs.weight; longrope's factor on
 * cosine and sine.
 *
 * Forward: conversion/llama.py (generate_extra_tensors) of llama-cpp-python 0.3.36, whose
 * arithmetic is torch's on float32 scalars: a Python number divided by a tensor is reciprocal times
 * number, numbers are rounded to float32 before they meet a tensor. The power alone is not defined
 * to the last bit there (it differs between torch's vector code paths, on 0.7 % of 165,000 values
 * by one unit); here it is the correctly rounded one, which gave the same factors on all three code
 * paths for the bases and head sizes of published models. Back: the factors fix (low, high,
 * original length) only up to a common scale, and often not even that; low is taken as 1 first, as
 * in all published models, and only parameters that reproduce every factor bit for bit are
 * returned. */
#include "arch/arch_internal.h"
#include <math.h>

#define HEAD_DIM_MAX 1024

/* ---- power: no libm, the same bits on every machine ---- */

/* ln x by x = m * 2^k, ln m = 2 atanh z, z = (m - 1) / (m + 1), |z| <= 0.1716: the first term left
 * out is 2 z^33 / 33 < 1e-26. */
static double ln_f64(double x) {
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752440) {
        m *= 2;
        k--;
    }
    double z = (m - 1) / (m + 1), z2 = z * z, sum = 0;
    for (int i = 31; i >= 1; i -= 2)
        sum = sum * z2 + 1.0 / i;
    return 2 * z * sum + k * 0.69314718055994530942;
}

/* e^x by x = n ln 2 + r, |r| <= 0.347: r^20 / 20! < 3e-28. */
static double exp_f64(double x) {
    double n = rint(x / 0.69314718055994530942);
    double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double sum = 1;
    for (int i = 19; i >= 1; i--)
        sum = 1 + r / i * sum;
    return ldexp(sum, (int)n);
}

static float power(float base, float e) {
    return e == 0 ? 1.0f : (float)exp_f64((double)e * ln_f64((double)base));
}

/* ---- forward ---- */

double lb_rope_long_mscale(double scale, double orig) {
    return scale > 1 ? sqrt(1 + ln_f64(scale) / ln_f64(orig)) : 1;
}

void lb_rope_llama3_factors(const lb_rope_llama3 *p, u64 head_dim, float *out) {
    const float tau = (float)(2 * 3.14159265358979323846), orig = (float)p->orig;
    const float low_wavelen = (float)(p->orig / p->low), high_wavelen = (float)(p->orig / p->high);
    const float low = (float)p->low, span = (float)(p->high - p->low), factor = (float)p->factor;
    for (u64 i = 0; i < head_dim / 2; i++) {
        float e = (float)(2 * i) / (float)head_dim;
        float freq = 1.0f / power((float)p->theta, e);
        float wavelen = 1.0f / freq * tau;
        if (wavelen < high_wavelen) {
            out[i] = 1;
        } else if (wavelen > low_wavelen) {
            out[i] = factor;
        } else {
            float smooth = (1.0f / wavelen * orig - low) / span;
            out[i] = 1.0f / ((1.0f - smooth) / factor + smooth);
        }
    }
}

/* ---- back ---- */

typedef struct solver {
    lb_rope_llama3 *p;
    u64 head_dim;
    const float *factors;
    double tolerance; /* relative; one unit of the power becomes at most two of a factor */
    float work[HEAD_DIM_MAX / 2];
} solver;

static bool reproduces(solver *s) {
    const lb_rope_llama3 *p = s->p;
    if (!(p->low > 0) || !(p->high > p->low) || !(p->orig >= 1) || !(p->orig < 1e9))
        return false;
    lb_rope_llama3_factors(p, s->head_dim, s->work);
    for (u64 i = 0; i < s->head_dim / 2; i++) {
        double want = (double)s->factors[i];
        if (!(fabs((double)s->work[i] - want) <= want * s->tolerance))
            return false;
    }
    return true;
}

/* Rounds to the nearest multiple of step. */
static double to_step(double x, double step) {
    return rint(x / step) * step;
}

static double inverse_wavelen(const solver *q, u64 i) {
    double e = (double)(2 * i) / (double)q->head_dim;
    return exp_f64(-e * ln_f64(q->p->theta)) / (2 * 3.14159265358979323846);
}

/* Between two smooth factors, s = (orig / wavelen - low) / (high - low) is linear in 1 / wavelen:
 * slope = orig / (high - low), -intercept = low / (high - low). With low chosen the rest follows.
 */
static bool solve_smooth(solver *q) {
    lb_rope_llama3 *p = q->p;
    static const double steps[] = {1, 0.5, 0.25, 0.125, 0.1, 0.01};
    static const double lows[] = {1, 2, 0.5, 0.25, 4, 3, 8, 1.5};
    double x[2] = {0}, s[2] = {0};
    int n = 0;
    for (u64 i = 0; i < q->head_dim / 2; i++) {
        double f = (double)q->factors[i];
        if (f == 1 || f >= p->factor)
            continue;
        int at = n == 0 ? 0 : 1;
        x[at] = inverse_wavelen(q, i);
        s[at] = (1 / f - 1 / p->factor) / (1 - 1 / p->factor);
        n++;
    }
    if (n < 2 || x[0] == x[1])
        return false;
    double slope = (s[0] - s[1]) / (x[0] - x[1]), shift = slope * x[0] - s[0];
    for (size_t l = 0; l < LB_LEN(lows); l++) {
        double span = lows[l] / shift;
        for (size_t i = 0; i < LB_LEN(steps); i++) {
            p->low = lows[l];
            p->high = to_step(lows[l] + span, steps[i]);
            double orig = slope * (p->high - p->low);
            for (double step = 1024; step >= 1; step /= 2) {
                p->orig = to_step(orig, step);
                if (reproduces(q))
                    return true;
            }
        }
    }
    return false;
}

/* The published form: low 1, high 4, a power of two. Needs no smooth factor at all. */
static bool solve_usual(solver *q) {
    lb_rope_llama3 *p = q->p;
    static const double highs[] = {4, 2, 8, 1.5, 3, 16, 32};
    for (size_t h = 0; h < LB_LEN(highs); h++) {
        p->low = 1;
        p->high = highs[h];
        for (u32 bit = 13; bit != 12; bit = bit == 24 ? 6 : bit + 1) { /* 8192 first */
            p->orig = (double)((u32)1 << bit);
            if (reproduces(q))
                return true;
        }
        p->orig = 4096;
        if (reproduces(q))
            return true;
    }
    return false;
}

/* One smooth factor: with low and the length chosen, high follows; it need not be round. */
static bool solve_one(solver *q, u64 at) {
    lb_rope_llama3 *p = q->p;
    static const double steps[] = {1, 0.5, 0.25, 0.125, 0.1, 0.01, 0};
    static const double lows[] = {1, 2, 0.5, 4, 3, 8};
    double f = (double)q->factors[at], x = inverse_wavelen(q, at);
    double s = (1 / f - 1 / p->factor) / (1 - 1 / p->factor);
    for (size_t l = 0; l < LB_LEN(lows); l++)
        for (u32 bit = 13; bit != 12; bit = bit == 29 ? 0 : bit + 1) {
            p->low = lows[l];
            p->orig = (double)((u32)1 << bit);
            double high = p->low + (p->orig * x - p->low) / s;
            for (size_t i = 0; i < LB_LEN(steps); i++) {
                p->high = steps[i] > 0 ? to_step(high, steps[i]) : high;
                if (reproduces(q))
                    return true;
            }
        }
    return false;
}

/* No smooth factor: the wavelengths jump over the whole span. first: the first one scaled in full.
 */
static bool solve_jump(solver *q, u64 first) {
    lb_rope_llama3 *p = q->p;
    static const double highs[] = {4, 2, 1.5, 1.25, 1.1, 1.01, 1.001};
    double beyond = 1 / inverse_wavelen(q, first);
    for (size_t h = 0; h < LB_LEN(highs); h++) {
        p->low = 1;
        p->high = highs[h];
        for (p->orig = 512 * 1024 * 1024; p->orig >= 1; p->orig /= 2)
            if (reproduces(q))
                return true;
        p->orig = rint(beyond - 1);
        if (reproduces(q))
            return true;
    }
    return false;
}

static bool solve_few(solver *q) {
    u64 n = q->head_dim / 2, first = n, smooth = 0, at = 0;
    for (u64 i = 0; i < n; i++) {
        double f = (double)q->factors[i];
        if (f > 1 && f < q->p->factor) {
            smooth++;
            at = i;
        }
        if (f >= q->p->factor)
            first = LB_MIN(first, i);
    }
    return smooth == 1 ? solve_one(q, at) : smooth == 0 && first < n && solve_jump(q, first);
}

/* Whether p->factor can be the rule's: then the others are found. */
static bool solve_with(lb_rope_llama3 *p, u64 head_dim, const float *factors) {
    static const double tolerances[] = {0, 3e-7};
    if (!(p->factor > 1) || !(p->factor < 1e6))
        return false;
    solver q = {.p = p, .head_dim = head_dim, .factors = factors};
    for (size_t i = 0; i < LB_LEN(tolerances); i++) {
        q.tolerance = tolerances[i];
        if (solve_usual(&q) || solve_smooth(&q) || solve_few(&q))
            return true;
    }
    return false;
}

bool lb_rope_llama3_solve(lb_rope_llama3 *p, u64 head_dim, const float *factors) {
    static const double others[] = {8, 32, 4, 16, 2, 64};
    u64 n = head_dim / 2;
    if (n == 0 || head_dim > HEAD_DIM_MAX || !(p->theta > 1) || !(p->theta < 1e30))
        return false;
    /* The lowest frequency is the one that is scaled in full. */
    p->factor = (double)factors[n - 1];
    for (u64 i = 0; i < n; i++)
        if (!(factors[i] >= 1) || !((double)factors[i] <= p->factor))
            return false;
    if (solve_with(p, head_dim, factors))
        return true;
    /* Or it is none of them: no wavelength is long enough. */
    for (size_t i = 0; i < LB_LEN(others); i++) {
        p->factor = others[i];
        if (others[i] > (double)factors[n - 1] && solve_with(p, head_dim, factors))
            return true;
    }
    return false;
}

/* ---- NTK with a fixed alpha ---- */

double lb_rope_ntk_base(double base, double alpha, u64 dim) {
    return base * exp_f64((double)dim / (double)(dim - 2) * ln_f64(alpha));
}

bool lb_rope_ntk_solve(float scaled, double base, u64 dim, double *alpha) {
    if (dim <= 2 || !((double)scaled > 0) || !(scaled < 1e30f))
        return false;
    double x = exp_f64((double)(dim - 2) / (double)dim * ln_f64((double)scaled / base));
    for (double unit = 1e9; unit >= 1e-9; unit /= 10) {
        double a = unit >= 1 ? rint(x / unit) * unit : rint(x * rint(1 / unit)) / rint(1 / unit);
        if (a > 0 && (float)lb_rope_ntk_base(base, a, dim) == scaled) {
            *alpha = a;
            return true;
        }
    }
    return false;
}
