/* SPDX-License-Identifier: Apache-2.0 */
/* rope.c: see rope.h. */
#include "merge/rope.h"
#include "kernel/angle.h"
#include <math.h>

#define PI 0x1.921fb54442d18p+1

static double power(double x, u64 n) {
    double y = 1;
    for (; n; n >>= 1, x *= x)
        y *= n & 1 ? x : 1;
    return y;
}

/* The n-th root of x in (0, 1], by halving: the same on every machine, which libm's pow is not. */
static double root(double x, u64 n) {
    double low = 0, high = 1;
    for (u32 i = 0; i < 64; i++) {
        double middle = low + (high - low) / 2;
        if (power(middle, n) < x)
            low = middle;
        else
            high = middle;
    }
    return high;
}

void lb_rope_init(lb_rope *r, u64 d, u64 n_heads, double base, double *frequency) {
    u64 half = d / n_heads / 2;
    double step = base > 1 ? root(1 / base, half) : 1;
    for (u64 i = 0; i < half; i++)
        frequency[i] = i ? frequency[i - 1] * step : 1;
    *r = (lb_rope){n_heads, half, frequency};
}

/* The angle of (x, y) in [-pi, pi]. */
static double angle(double y, double x) {
    double h = sqrt(x * x + y * y);
    if (!(h > 0))
        return 0;
    if (fabs(y) > fabs(x))
        return y < 0 ? -lb_acos_f64(x / h) : lb_acos_f64(x / h);
    double small = PI / 2 - lb_acos_f64(y / h); /* within an eighth of a turn of the axis */
    return x > 0 ? small : y < 0 ? -PI - small : PI - small;
}

double lb_rope_position(const lb_rope *r, const float *x, const float *y) {
    double sum = 0, sum_minus = 0, square = 0;
    for (u64 h = 0; h < r->n_heads; h++)
        for (u64 i = 0; i < r->half; i++) {
            u64 at = h * 2 * r->half + i, pair = at + r->half;
            double along = (double)x[at] * (double)y[at] + (double)x[pair] * (double)y[pair];
            double across = (double)x[at] * (double)y[pair] - (double)x[pair] * (double)y[at];
            sum += angle(across, along) * r->frequency[i];
            sum_minus += angle(-across, -along) * r->frequency[i];
        }
    for (u64 i = 0; i < r->half; i++)
        square += r->frequency[i] * r->frequency[i];
    /* the projection on the frequencies of all heads, twice divided by their length */
    double length = sqrt((double)r->n_heads * square) + 1e-8;
    double plus = sum / length / length, minus = sum_minus / length / length;
    return fabs(plus) < fabs(minus) ? plus : minus;
}

void lb_rope_turn(const lb_rope *r, double position, float *x) {
    for (u64 i = 0; i < r->half; i++) {
        double c = lb_cos_f64(position * r->frequency[i]);
        double s = lb_sin_f64(position * r->frequency[i]);
        for (u64 h = 0; h < r->n_heads; h++) {
            float *a = x + h * 2 * r->half + i, *b = a + r->half;
            double u = (double)*a, v = (double)*b;
            *a = (float)(u * c - v * s);
            *b = (float)(v * c + u * s);
        }
    }
}
