/* SPDX-License-Identifier: Apache-2.0 */
/* variance.c: see variance.h. Blocks of one size, so that the compiler makes vectors of them; a
 * division by a power of two is a product. */
#include "kernel/variance.h"
#include "kernel/half.h"
#include <string.h>

#define BLOCK 64

/* v[i] divided by k, for all of a block. */
#define DIVIDE(type, v, k)                     \
    do {                                       \
        if (((k) & ((k)-1)) == 0)              \
            for (size_t i = 0; i < BLOCK; i++) \
                (v)[i] *= (type)1 / (type)(k); \
        else                                   \
            for (size_t i = 0; i < BLOCK; i++) \
                (v)[i] /= (type)(k);           \
    } while (0)

/* Of n elements from `at` on, at most a block. The first value is its own mean; its square is 0, or
 * NaN where it is not finite. */
#define BLOCK_OF(type)                                                                           \
    static void block_##type(size_t n, u32 n_in, float *out, const float *const *x, size_t at) { \
        type mean[BLOCK], square[BLOCK], delta[BLOCK], step[BLOCK];                              \
        float a[BLOCK] = {0};                                                                    \
        memcpy(a, x[0] + at, n * sizeof *a);                                                     \
        for (size_t i = 0; i < BLOCK; i++) {                                                     \
            mean[i] = a[i];                                                                      \
            square[i] = mean[i] - mean[i];                                                       \
        }                                                                                        \
        for (u32 k = 1; k < n_in; k++) {                                                         \
            memcpy(a, x[k] + at, n * sizeof *a);                                                 \
            for (size_t i = 0; i < BLOCK; i++)                                                   \
                step[i] = delta[i] = (type)a[i] - mean[i];                                       \
            DIVIDE(type, step, k + 1);                                                           \
            for (size_t i = 0; i < BLOCK; i++) {                                                 \
                mean[i] += step[i];                                                              \
                square[i] += delta[i] * ((type)a[i] - mean[i]);                                  \
            }                                                                                    \
        }                                                                                        \
        DIVIDE(type, square, n_in);                                                              \
        for (size_t i = 0; i < BLOCK; i++)                                                       \
            a[i] = lb_canon_f32((float)square[i]);                                               \
        memcpy(out + at, a, n * sizeof *a);                                                      \
    }

BLOCK_OF(double)
BLOCK_OF(float)

void lb_variance_f32(size_t n_elems, u32 n_in, float *out, const float *const *x, bool in_f32) {
    for (size_t at = 0; at < n_elems; at += BLOCK) {
        size_t n = LB_MIN(n_elems - at, (size_t)BLOCK);
        if (in_f32)
            block_float(n, n_in, out, x, at);
        else
            block_double(n, n_in, out, x, at);
    }
}
