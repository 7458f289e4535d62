/* SPDX-License-Identifier: Apache-2.0 */
/* quant.h: what the quantizers share: rounding, and the searches for a group's scale.
 *
 * Every float operation is rounded to f32 in the order written; that order, ties and all, is what
 * makes the bytes those of ggml's quantizers on x86-64 (ggml/src/ggml-quants.c as of
 * llama-cpp-python 0.3.36, built as upstream builds it: gcc -O3 -std=gnu11 without -march, so
 * without fused operations; llama-quantize quantizes in that library on every x86-64 machine).
 * Sums run over a group from its first element to its last.
 *
 * Where ggml's C leaves a conversion undefined (NaN, out of range), the result here is that of the
 * instruction which x86-64 has for it, on every machine. A NaN scale is stored in one form. */
#ifndef LB_KERNEL_QUANT_H
#define LB_KERNEL_QUANT_H

#include "kernel/half.h"
#include <math.h> /* sqrtf, which IEEE 754 rounds exactly */

/* Below it a group counts as zero. */
#define LB_QUANT_TINY 1e-15f

/* To the nearest integer, ties to even, for |x| <= 2^22; the low 23 bits of the sum's pattern
 * beyond, as ggml's nearest_int has them; 0 of a NaN. */
static inline i32 lb_nearest(float x) {
    const float shifted = x + 12582912.0f; /* 1.5 * 2^23: the sum's last bit weighs 1 */
    if (shifted != shifted)
        return 0;
    return (i32)(lb_f32_bits(shifted) & 0x7fffffu) - 0x400000;
}

static inline i32 lb_clamp(i32 q, i32 lo, i32 hi) {
    return q > hi ? hi : q < lo ? lo : q;
}

/* Towards zero; INT32_MIN where x has no i32, as cvttss2si. */
static inline i32 lb_truncate(float x) {
    return x >= -0x1p31f && x < 0x1p31f ? (i32)x : INT32_MIN;
}

/* Halves away from zero; INT32_MIN where the result has no i32. */
static inline i32 lb_round_away(float x) {
    if (!(x >= -0x1p31f && x < 0x1p31f))
        return INT32_MIN;
    const i32 q = (i32)x;
    const float rest = x - (float)q; /* exact */
    return q + (rest >= 0.5f) - (rest <= -0.5f);
}

/* A block's scale: f16, a NaN as 0x7e00. Beyond 65504 it is infinite, as in ggml. */
static inline u16 lb_quant_f16(float x) {
    return lb_f16_from_f32(lb_canon_f32(x));
}

static inline float lb_sum_squares(const float *x, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* The weight of each squared error, given importance: importance[i] * sqrt(sigma2 + x[i]^2), where
 * sigma2 is a mean square of the surroundings. */
static inline void lb_quant_weights(float *w, const float *importance, const float *x, size_t n,
                                    float sigma2) {
    for (size_t i = 0; i < n; i++)
        w[i] = importance[i] * sqrtf(sigma2 + x[i] * x[i]);
}

/* ---- quant_fit_ref.c: scales that make the weighted error of a group of n <= 32 small ---- */

/* value = scale * (q - q_max), q in 0..2 q_max - 1. Tries 19 scales; q and the least-squares scale
 * of the best. w == NULL: x[i]^2. */
float lb_fit_symmetric(size_t n, i32 q_max, const float *x, const float *w, u8 *q);

/* The same form without importance, by moving single codes while that helps (q3_k). */
float lb_fit_by_codes(size_t n, i32 q_max, const float *x, u8 *q);

/* value = scale * q - *minus, q in 0..q_max. The k-th trial, k = 0..n_steps, cuts the range of x
 * into (first + step * k + q_max) parts. absolute: sums |error| instead of squares. */
typedef struct lb_affine_search {
    i32 q_max;
    float first, step;
    i32 n_steps;
    bool absolute;
} lb_affine_search;
float lb_fit_affine(const lb_affine_search *s, size_t n, const float *x, const float *w, u8 *q,
                    float *minus);

/* value = scale * q, q in 0..q_max, for x that are positive (q of a negative one is its low 8
 * bits). */
float lb_fit_positive(size_t n, i32 q_max, const float *x, const float *w, u8 *q);

#endif
