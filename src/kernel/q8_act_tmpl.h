/* SPDX-License-Identifier: Apache-2.0 */
/* q8_act_tmpl.h: activations as codes (q8.h); part of q8_codes_tmpl.h. */
#ifndef LB_KERNEL_Q8_ACT_TMPL_H
#define LB_KERNEL_Q8_ACT_TMPL_H

#include "kernel/q8_vec.h"

#if defined(__AVX2__)
/* The bits of the largest magnitude of 32. */
INLINE u32 most_of(const float *x) {
    const __m256i mag = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_setzero_si256();
    UNROLL for (int j = 0; j < 32; j += 8) m =
        _mm256_max_epu32(m, _mm256_and_si256(mag, _mm256_loadu_si256((const void *)(x + j))));
    __m128i y = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    y = _mm_max_epu32(y, _mm_shuffle_epi32(y, 0x4e));
    return (u32)_mm_cvtsi128_si32(_mm_max_epu32(y, _mm_shuffle_epi32(y, 0xb1)));
}

/* Codes of 32 by the sum with 1.5 * 2^23, and the sums of their halves. */
INLINE void put_codes(i8 *const q[2], i32 sum[2], const float *x, float times) {
    const __m256 big = _mm256_set1_ps(12582912.0f);
    const __m256i bits = _mm256_castps_si256(big);
    __m256i c[4];
    UNROLL for (int j = 0; j < 4; j++) {
        const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), _mm256_set1_ps(times));
        c[j] = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(v, big)), bits);
    }
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i all = _mm256_permutevar8x32_epi32(
        _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3])), order);
    _mm_storeu_si128((void *)q[0], _mm256_castsi256_si128(all));
    _mm_storeu_si128((void *)q[1], _mm256_extracti128_si256(all, 1));
    __m256i s =
        _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), all), _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xb1));
    sum[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(s));
    sum[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(s, 1));
}
#else
INLINE u32 most_of(const float *x) {
    u32 most = 0;
    for (size_t j = 0; j < 32; j++) {
        const u32 mag = lb_f32_bits(x[j]) & 0x7fffffffu;
        most = mag > most ? mag : most;
    }
    return most;
}

/* Rounds to nearest even by the sum with 1.5 * 2^23, |x| < 2^22. */
INLINE i32 nearest(float x) {
    return (i32)(lb_f32_bits(x + 12582912.0f) - 0x4b400000u);
}

INLINE void put_codes(i8 *const q[2], i32 sum[2], const float *x, float times) {
    i32 code[32];
    for (size_t j = 0; j < 32; j++)
        code[j] = nearest(x[j] * times);
    for (size_t j = 0; j < 16; j++) {
        q[0][j] = (i8)code[j];
        q[1][j] = (i8)code[j + 16];
    }
    for (size_t j = 0; j < 16; j++) {
        sum[0] += code[j];
        sum[1] += code[j + 16];
    }
}
#endif

INLINE void act32(lb_q8_act *a, const size_t g, const float *x) {
    const u32 most = most_of(x);
    i8 *const q[2] = {a->q + lb_q8_at(32 * g), a->q + lb_q8_at(32 * g) + 64};
    i32 sum[2] = {0, 0};
    float d = 0;
    if (most >= 0x7f800000u) {
        d = lb_f32_from_bits(LB_NAN_BITS);
        memset(q[0], 0, 16), memset(q[1], 0, 16);
    } else if (most < (127u - 100) << 23) {
        memset(q[0], 0, 16), memset(q[1], 0, 16);
    } else {
        const float top = lb_f32_from_bits(most);
        d = top / 127.0f;
        put_codes(q, sum, x, 127.0f / top);
    }
    a->d32[g] = a->d16[2 * g] = a->d16[2 * g + 1] = d;
    a->s16[2 * g] = sum[0];
    a->s16[2 * g + 1] = sum[1];
    a->s32[g] = sum[0] + sum[1];
}

/* m of n groups of a chunk. */
INLINE void minima_of(const size_t n, float *m, const float *d, const i32 *s) {
    for (size_t g = 0; g < n; g += 8) {
        f32x8 scale;
        i32x8 sum;
        memcpy(&scale, d + g, sizeof scale);
        memcpy(&sum, s + g, sizeof sum);
        put_canon(m + g, scale * __builtin_convertvector(sum, f32x8));
    }
}

INLINE void minima(lb_q8_act *a) {
    minima_of(16, a->m32, a->d32, a->s32);
    minima_of(32, a->m16, a->d16, a->s16);
}

/* 32 elements from the g-th group of a row on; zeros behind its end. */
INLINE const float *group32(size_t n_elems, size_t g, const float *in, float x[32]) {
    const size_t at = 32 * g;
    if (at + 32 <= n_elems)
        return in + at;
    memset(x, 0, 32 * sizeof *x);
    if (at < n_elems)
        memcpy(x, in + at, (n_elems - at) * sizeof *x);
    return x;
}

static void act_q8(size_t n_elems, void *out, const float *in) {
    lb_q8_act *a = out;
    float x[32];
    for (size_t c = 0; c < lb_q8_chunks(n_elems); c++, a++) {
        for (size_t g = 0; g < 16; g++)
            act32(a, g, group32(n_elems, 16 * c + g, in, x));
        minima(a);
        a->more = 0;
        memset(a->unused, 0, sizeof a->unused);
    }
}

/* The largest magnitude of a group that has no second part: of sums in 16 lanes, as of products. */
static float coarse(size_t n_elems, const float *in) {
    f32x8 sum[2] = {{0}, {0}};
    float x[32], lane[16];
    for (size_t g = 0; 32 * g < n_elems; g++) {
        const float *from = group32(n_elems, g, in, x);
        for (size_t j = 0; j < 32; j += 8) {
            i32x8 v;
            memcpy(&v, from + j, sizeof v);
            sum[j / 8 % 2] += (f32x8)(v & 0x7fffffff);
        }
    }
    memcpy(lane, sum, sizeof lane);
    for (size_t n = 8; n; n /= 2)
        for (size_t i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lane[0] * (LB_Q8_COARSE / (float)n_elems);
}

/* What the codes of a group leave, as codes of a second part. */
static void second32(lb_q8_act *to, const lb_q8_act *a, size_t g, const float *x) {
    float rest[32];
    for (size_t j = 0; j < 32; j++)
        rest[j] = x[j] - a->d32[g] * (float)a->q[lb_q8_at(32 * g) + lb_q8_at(j)];
    act32(to, g, rest);
}

static void act_q16(size_t n_elems, void *out, const float *in) {
    const size_t n = lb_q8_chunks(n_elems);
    lb_q8_act *a = out;
    float x[32];
    act_q8(n_elems, out, in);
    const float most = coarse(n_elems, in);
    for (size_t c = 0; c < n; c++, a++) {
        for (size_t g = 0; g < 16; g++) /* false where either is no number */
            a->more |= (u32)(a->d32[g] * 127.0f > most) << g;
        if (!a->more)
            continue;
        memset(a + n, 0, sizeof *a);
        for (size_t g = 0; g < 16; g++)
            if (a->more >> g & 1)
                second32(a + n, a, g, group32(n_elems, 16 * c + g, in, x));
        minima(a + n);
    }
}

#endif
