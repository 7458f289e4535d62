/* SPDX-License-Identifier: Apache-2.0 */
/* variance.c: see variance.h. Two pairs of elements at a time in the compiler's vectors, of 16
 * bytes, which stay in registers; a division by a power of two is a product. */
#include "kernel/variance.h"
#include "kernel/half.h"
#include <string.h>

typedef float f32x2 __attribute__((vector_size(2 * sizeof(float))));
typedef double f64x2 __attribute__((vector_size(2 * sizeof(double))));

static float variance_at(u32 n_in, const float *const *x, size_t at) {
    double mean = 0, square = 0;
    for (u32 k = 0; k < n_in; k++) {
        double delta = (double)x[k][at] - mean;
        mean += delta / (double)(k + 1);
        square += delta * ((double)x[k][at] - mean);
    }
    return lb_canon_f32((float)(square / (double)n_in));
}

static inline f64x2 pair_at(const float *a) {
    f32x2 v;
    memcpy(&v, a, sizeof v);
    return __builtin_convertvector(v, f64x2);
}

static inline f64x2 divided(f64x2 v, u32 k) {
    if (k & (k - 1))
        return v / (double)k;
    u64 bits = (u64)(1023 - (u32)__builtin_ctz(k)) << 52; /* of 1 / k */
    double reciprocal;
    memcpy(&reciprocal, &bits, sizeof reciprocal);
    return v * reciprocal;
}

typedef struct moments {
    f64x2 mean, square;
} moments;

/* The first value is its own mean; its square is 0, or NaN where it is not finite. */
static inline moments first(f64x2 v) {
    return (moments){v, v - v};
}

static inline moments next(moments m, f64x2 v, u32 k) {
    f64x2 delta = v - m.mean;
    m.mean += divided(delta, k);
    m.square += delta * (v - m.mean);
    return m;
}

static void variances_at(u32 n_in, float *out, const float *const *x, size_t at) {
    moments a = first(pair_at(x[0] + at)), b = first(pair_at(x[0] + at + 2));
    for (u32 k = 1; k < n_in; k++) {
        a = next(a, pair_at(x[k] + at), k + 1);
        b = next(b, pair_at(x[k] + at + 2), k + 1);
    }
    f64x2 v = divided(a.square, n_in), w = divided(b.square, n_in);
    out[at] = lb_canon_f32((float)v[0]);
    out[at + 1] = lb_canon_f32((float)v[1]);
    out[at + 2] = lb_canon_f32((float)w[0]);
    out[at + 3] = lb_canon_f32((float)w[1]);
}

void lb_variance_f32(size_t n_elems, u32 n_in, float *out, const float *const *x) {
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4)
        variances_at(n_in, out, x, i);
    for (; i < n_elems; i++)
        out[i] = variance_at(n_in, x, i);
}
