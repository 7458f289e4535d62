/* SPDX-License-Identifier: Apache-2.0 */
/* gauss.c: see gauss.h. */
#include "merge/gauss.h"
#include <math.h>

/* S. Vigna's splitmix64 (public domain, prng.di.unimi.it). */
static u64 next(u64 *state) {
    u64 z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void lb_gauss_begin(lb_gauss *g, const lb_kernels *kernels, u64 seed, u64 place, u64 row) {
    u64 s = seed;
    *g = (lb_gauss){.kernels = kernels};
    s = next(&s) ^ place;
    s = next(&s) ^ row;
    g->state = next(&s);
}

/* In (-1, 1), a multiple of 2^-52. */
static double uniform(lb_gauss *g) {
    return (double)(i64)((next(&g->state) >> 11) * 2 + 1) * 0x1p-53 - 1;
}

float lb_gauss_next(lb_gauss *g) {
    if (g->has_other) {
        g->has_other = false;
        return g->other;
    }
    double u, v, s;
    do {
        u = uniform(g);
        v = uniform(g);
        s = u * u + v * v;
    } while (!(s < 1));
    float log_s, single = (float)s;
    g->kernels->map_log_f32(1, &log_s, &single);
    double f = sqrt(fmax(-2 * (double)log_s, 0) / s);
    g->other = (float)(v * f);
    g->has_other = true;
    return (float)(u * f);
}
