/* SPDX-License-Identifier: Apache-2.0 */
/* angle.c: Taylor's series on an eighth of a turn (the first term left out is below 2^-58 of the
 * sum); the inverse by Newton's steps on the sine. */
#include "kernel/angle.h"
#include <math.h>

/* pi / 2 in two parts: the first has 20 low bits of zero, so that small multiples are exact. */
#define HALF_PI_HIGH 0x1.921fb544p+0
#define HALF_PI_LOW 0x1.0b4611a626331p-34

/* |x| <= pi / 4 */
static double sine(double x) {
    const double s = x * x;
    double sum = 0;
    for (int k = 17; k > 1; k -= 2) /* x - x^3/3! + x^5/5! ... from the innermost on */
        sum = -s / (k * (k - 1.0)) * (1 + sum);
    return x + x * sum;
}

static double cosine(double x) {
    const double s = x * x;
    double sum = 0;
    for (int k = 18; k > 0; k -= 2)
        sum = -s / (k * (k - 1.0)) * (1 + sum);
    return 1 + sum;
}

/* x = *rest + n pi / 2; returns n modulo 4. */
static int reduce(double x, double *rest) {
    const double n = floor(x / (HALF_PI_HIGH + HALF_PI_LOW) + 0.5);
    *rest = x - n * HALF_PI_HIGH - n * HALF_PI_LOW;
    return (int)(n - 4 * floor(n / 4));
}

static double of_quarter(int quarter, double rest) {
    switch (quarter & 3) {
    case 0:
        return sine(rest);
    case 1:
        return cosine(rest);
    case 2:
        return -sine(rest);
    default:
        return -cosine(rest);
    }
}

double lb_sin_f64(double x) {
    double rest;
    const int quarter = reduce(x, &rest);
    return of_quarter(quarter, rest);
}

double lb_cos_f64(double x) {
    double rest;
    const int quarter = reduce(x, &rest);
    return of_quarter(quarter + 1, rest);
}

/* cos a = 1 - 2 sin(a / 2)^2: near 1 nothing is lost. */
double lb_acos_f64(double x) {
    const double z = sqrt((1 - fabs(x)) / 2); /* at most sqrt(1/2) */
    double y = z * (1 + z * z / 6);
    for (int i = 0; i < 4; i++)
        y -= (sine(y) - z) / cosine(y);
    return x < 0 ? 2 * (HALF_PI_HIGH - y + HALF_PI_LOW) : 2 * y;
}
