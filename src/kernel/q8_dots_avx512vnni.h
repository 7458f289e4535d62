/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dots_avx512vnni.h: a row and some tokens by vpdpbusd: a unit's two registers of codes make one
 * of sums, of which four are added within 128 bits as a transposition of 4 x 4. */
#ifndef LB_KERNEL_Q8_DOTS_AVX512VNNI_H
#define LB_KERNEL_Q8_DOTS_AVX512VNNI_H

#if defined(__AVX512VNNI__)

#include "kernel/q8_scales_avx512.h"

#define MT 4 /* tokens at once */
#define AT_ONCE 4
#define LEAST_UNITS 1
#define REGISTERS /* scales do not pass through memory */

/* A chunk of a row: codes in the order of units. */
typedef struct row_chunk {
    __m512i c[8];
    chunk_scales by;
} row_chunk;

typedef struct sums {
    __m512 first, second;
    u32 has; /* groups of 32 of any chunk with second parts */
} sums;

/* Of four registers: lane 4 l + c = the sum of 128 bits l of register c. */
INLINE __m512i sums4(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i x = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i y = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
}

/* The same of fewer: of two, lanes 4 l and 4 l + 1; of one, lane 4 l. */
INLINE __m512i sums_of(const int n, const __m512i p[4]) {
    if (n > 2)
        return sums4(p[0], p[1], p[2], p[3]);
    const __m512i b = n > 1 ? p[1] : p[0];
    const __m512i x =
        _mm512_add_epi32(_mm512_unpacklo_epi32(p[0], b), _mm512_unpackhi_epi32(p[0], b));
    return _mm512_add_epi32(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC));
}

INLINE __m512i dp(__m512i sum, __m512i w, const i8 *q) {
    return _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512((const void *)q));
}

/* Adds sixteen groups to their lanes, those of `which`. */
INLINE __m512 term(const bool min, const __mmask16 which, __m512i sum, const __m512 w[2],
                   const __m512 x[2], __m512 acc) {
    acc = _mm512_mask3_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(w[0], x[0]), acc, which);
    return min ? _mm512_mask3_fmadd_ps(w[1], x[1], acc, which) : acc;
}

/* Bits of groups of 32 as those of their halves. */
INLINE __mmask16 both(u32 more) {
    const __m512i bit = _mm512_setr_epi32(1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128);
    return _mm512_test_epi32_mask(_mm512_set1_epi32((i32)more), bit);
}

typedef i32 i32x16 __attribute__((vector_size(64)));

/* Without off: a multiplication by a power of two that is a shift where the type is known. */
INLINE __m512i without(__m512i sum, const i32 *s, const u32 type) {
    return (__m512i)((i32x16)sum - (i32x16)_mm512_loadu_si512((const void *)s) * lb_q8_off(type));
}

/* Behind the units' groups nothing but zero is added, which a lane of -0 notices. */
INLINE __m512 chunk(const u32 type, const int n_units, const u32 which, const row_chunk *w,
                    const lb_q8_act *x, __m512 acc) {
    const bool halves = type & LB_Q8_HALVES, min = type & LB_Q8_MIN;
    const __m512i zero = _mm512_setzero_si512();
    const chunk_scales *by = &w->by;
    __m512i p[4], h[4];
    UNROLL for (int u = 0; u < 4; u++) {
        p[u] = h[u] = zero;
        if (u >= n_units)
            continue;
        p[u] = dp(zero, w->c[2 * u], x->q + 128 * u);
        h[u] = dp(halves ? zero : p[u], w->c[2 * u + 1], x->q + 128 * u + 64);
    }
    if (halves) {
        const __m512i lo =
            _mm512_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28, 1, 17, 5, 21, 9, 25, 13, 29);
        const __m512i hi =
            _mm512_setr_epi32(2, 18, 6, 22, 10, 26, 14, 30, 3, 19, 7, 23, 11, 27, 15, 31);
        const __m512i a = sums_of(n_units, p), b = sums_of(n_units, h);
        const __m512i s0 = _mm512_permutex2var_epi32(a, lo, b);
        const __m512i s1 = _mm512_permutex2var_epi32(a, hi, b);
        const __m512 w0[2] = {by->s[0], by->m[0]}, w1[2] = {by->s[1], by->m[1]};
        const __m512 x0[2] = {_mm512_loadu_ps(x->d16), _mm512_loadu_ps(x->m16)};
        const __m512 x1[2] = {_mm512_loadu_ps(x->d16 + 16), _mm512_loadu_ps(x->m16 + 16)};
        acc = term(min, both(which), without(s0, x->s16, type), w0, x0, acc);
        if (n_units <= 2)
            return which == 0xffff ? _mm512_add_ps(acc, _mm512_setzero_ps()) : acc;
        return term(min, both(which >> 8), without(s1, x->s16 + 16, type), w1, x1, acc);
    }
    const __m512i by32 = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __mmask16 there = (__mmask16)(0xffff >> (16 - 4 * n_units));
    const __m512i s = _mm512_maskz_permutexvar_epi32(there, by32, sums_of(n_units, h));
    const __m512 w0[2] = {by->s[0], by->m[0]};
    const __m512 x0[2] = {_mm512_loadu_ps(x->d32), _mm512_loadu_ps(x->m32)};
    return term(min, (__mmask16)which, without(s, x->s32, type), w0, x0, acc);
}

/* x: of the first token; n_chunks: of a token. */
INLINE void add_chunk(const u32 type, const int nt, const int n_units, const row_chunk *w,
                      const lb_q8_act *x, const lb_q8_shape *shape, sums *sum) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    UNROLL for (int t = 0; t < nt; t++, x += shape->act_stride) {
        sum[t].first = chunk(type, n_units, 0xffff, w, x, sum[t].first);
        if (x->more) {
            sum[t].has |= x->more;
            sum[t].second = chunk(type, n_units, x->more, w, x + n_chunks, sum[t].second);
        }
    }
}

INLINE __m512 all_parts(const u32 type, const sums *s) {
    const __mmask16 more = type & LB_Q8_HALVES ? both(s->has | s->has >> 8) : (__mmask16)s->has;
    return _mm512_mask_add_ps(s->first, more, s->first, s->second);
}

INLINE float finish_row(const u32 type, const sums *s) {
    const __m512 sum = all_parts(type, s);
    const __m256 x = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return lb_canon_f32(_mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z))));
}

/* Lanes of two rows, added at a distance of 8: of each row 8, side by side. */
INLINE __m512 eights(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

/* Four rows. */
INLINE void finish_rows(const u32 type, const sums *s, float *out) {
    const __m512 a = eights(all_parts(type, s), all_parts(type, s + 1));
    const __m512 b = eights(all_parts(type, s + 2), all_parts(type, s + 3));
    const __m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88),
                                   _mm512_shuffle_f32x4(a, b, 0xdd)); /* a row in 128 bits */
    const __m512 y = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
    const __m512 z = _mm512_add_ps(y, _mm512_permute_ps(y, 0xb1));
    const __m512 canon =
        _mm512_mask_mov_ps(z, _mm512_cmp_ps_mask(z, z, _CMP_UNORD_Q),
                           _mm512_castsi512_ps(_mm512_set1_epi32((i32)LB_NAN_BITS)));
    const __m512i of = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(of, canon)));
}

/* Written in two halves, and read so: a store is not forwarded to a load of more. */
INLINE __m512 get16(const float *p) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(p + 8),
                              1);
}

/* Of 8 or 16 groups of 32; the others are zero. */
INLINE void get_scales(const u32 type, const int n_units, chunk_scales *w, const float *s) {
    const float *const from[2] = {s, s + 32};
    UNROLL for (int j = 0; j < 2; j++) {
        __m512 *const to = j ? w->m : w->s;
        to[0] = to[1] = _mm512_setzero_ps();
        if (j && !(type & LB_Q8_MIN))
            continue;
        if (type & LB_Q8_HALVES) {
            to[0] = get16(from[j]);
            if (n_units == 4)
                to[1] = get16(from[j] + 16);
        } else {
            to[0] =
                n_units == 4 ? get16(from[j]) : _mm512_zextps256_ps512(_mm256_loadu_ps(from[j]));
        }
    }
}

/* The chunk of a row in memory. */
INLINE void add_row_chunk(const u32 type, const int nt, const lb_q8_row *r, const lb_q8_act *x,
                          const lb_q8_shape *shape, sums *sum) {
    row_chunk w;
    UNROLL for (int i = 0; i < 8; i++) w.c[i] = _mm512_loadu_si512((const void *)(r->q + 64 * i));
    get_scales(type, 4, &w.by, r->s);
    add_chunk(type, nt, 4, &w, x, shape, sum);
}

/* A stored one, or its first units. */
INLINE void add_unit_chunk(const u32 type, const int nt, const int n_units, const packed *k,
                           const lb_q8_act *x, const lb_q8_shape *shape, sums *sum) {
    row_chunk w;
    UNROLL for (int i = 0; i < 8; i++) w.c[i] =
        i < 2 * n_units ? (__m512i)k->unit(k->p, (size_t)i / 2, (size_t)i % 2)
                        : _mm512_setzero_si512();
    w.by = *(const chunk_scales *)k->scales;
    add_chunk(type, nt, n_units, &w, x, shape, sum);
}

/* Of the first groups; the others become zero. */
INLINE void first_scales(const u32 type, const size_t n, chunk_scales *by) {
    const u32 which = n < 32 ? (1u << n) - 1 : ~0u;
    UNROLL for (int i = 0; i < 2; i++) {
        const __mmask16 m = (__mmask16)(which >> 16 * i);
        by->s[i] = _mm512_maskz_mov_ps(m, by->s[i]);
        if (type & LB_Q8_MIN)
            by->m[i] = _mm512_maskz_mov_ps(m, by->m[i]);
    }
}

INLINE void clear(sums *s) {
    s->first = s->second = _mm512_setzero_ps();
    s->has = 0;
}

#endif
#endif
