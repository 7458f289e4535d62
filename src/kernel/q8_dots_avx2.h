/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dots_avx2.h: a row and some tokens by vpmaddubsw or vpdpbusd: two units at a time make eight
 * sums of 32 or sixteen of 16. */
#ifndef LB_KERNEL_Q8_DOTS_AVX2_H
#define LB_KERNEL_Q8_DOTS_AVX2_H

#if defined(__AVX2__)

#include "kernel/q8_madd_avx2.h"
#include "kernel/q8_unit_vec.h"

#define MT 2 /* tokens at once */

typedef struct sums {
    __m256 first[2], second[2]; /* lanes 0-7, 8-15 */
    u32 has;                    /* groups of 32 of any chunk with second parts */
} sums;

INLINE void clear(sums *s) {
    UNROLL for (int i = 0; i < 2; i++) s->first[i] = s->second[i] = _mm256_setzero_ps();
    s->has = 0;
}

/* Lanes of the lowest bits. halves: of groups of 32, two lanes each. */
INLINE __m256i lanes_of_bits(const bool halves, u32 bits) {
    const __m256i one = halves ? _mm256_setr_epi32(1, 1, 2, 2, 4, 4, 8, 8)
                               : _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((i32)bits), one), one);
}

INLINE __m256i get(const void *p) {
    return _mm256_loadu_si256(p);
}

/* Where eight groups stand. */
typedef struct eight {
    const float *scale, *min, *d, *m;
    const i32 *s;
} eight;

/* Adds eight groups to their lanes; which: those of these bits. */
INLINE void term(const u32 type, const u32 *which, __m256i sum, const eight *g, __m256 *acc) {
    const i32 off = lb_q8_off(type) - (NARROW && (type & LB_Q8_WIDE) ? 128 : 0);
    const __m256i q = (__m256i)((i32x8)sum - (i32x8)get(g->s) * off);
    const __m256 by = _mm256_mul_ps(_mm256_loadu_ps(g->scale), _mm256_loadu_ps(g->d));
    __m256 to = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q), by, *acc);
    if (type & LB_Q8_MIN)
        to = _mm256_fmadd_ps(_mm256_loadu_ps(g->min), _mm256_loadu_ps(g->m), to);
    if (which)
        to = _mm256_blendv_ps(*acc, to,
                              _mm256_castsi256_ps(lanes_of_bits(type & LB_Q8_HALVES, *which)));
    *acc = to;
}

/* Of registers of two groups each, 0-1 to 6-7: groups 0 2 4 6, 1 3 5 7. */
INLINE __m256i sums8(const __m256i p[4]) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(p[0], p[1]), _mm256_hadd_epi32(p[2], p[3]));
}

/* Two units, the v-th of a chunk; s, m: of the chunk. more: only groups of these bits. */
INLINE void pair(const u32 type, const u32 *more, const __m256i c[8], const float *s,
                 const float *m, const lb_q8_act *x, const int v, __m256 acc[2]) {
    const bool wide = type & LB_Q8_WIDE, halves = type & LB_Q8_HALVES;
    const __m256i zero = _mm256_setzero_si256();
    const i8 *q = x->q + 256 * v;
    __m256i a[4], b[4];
    UNROLL for (int i = 0; i < 4; i++) { /* of the unit i / 2, the i % 2-th two groups */
        const int at = i / 2 * 4 + i % 2;
        a[i] = quads(wide, zero, c[at], get(q + 32 * at));
        b[i] = quads(wide, halves ? zero : a[i], c[at + 2], get(q + 32 * at + 64));
    }
    const __m256i last = sums8(b);
    if (halves) {
        const __m256i first = sums8(a);
        UNROLL for (int i = 0; i < 2; i++) { /* groups of 32 4 i to 4 i + 3 */
            const __m256i y =
                i ? _mm256_unpackhi_epi32(first, last) : _mm256_unpacklo_epi32(first, last);
            const int at = 16 * v + 8 * i;
            const eight g = {s + at, m + at, x->d16 + at, x->m16 + at, x->s16 + at};
            const u32 bits = more ? *more >> (8 * v + 4 * i) : 0;
            term(type, more ? &bits : NULL, _mm256_permute4x64_epi64(y, 0xd8), &g, acc + i);
        }
    } else {
        const __m256i by = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const eight g = {s + 8 * v, m + 8 * v, x->d32 + 8 * v, x->m32 + 8 * v, x->s32 + 8 * v};
        const u32 bits = more ? *more >> 8 * v : 0;
        term(type, more ? &bits : NULL, _mm256_permutevar8x32_epi32(last, by), &g, acc + v);
    }
}

INLINE void add_pair(const u32 type, const int nt, const __m256i c[8], const float *s,
                     const lb_q8_act *x, const lb_q8_shape *shape, const int v, sums *sum) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    UNROLL for (int t = 0; t < nt; t++, x += shape->act_stride) {
        pair(type, NULL, c, s, s + 32, x, v, sum[t].first);
        if (x->more >> 8 * v & 255) {
            sum[t].has |= x->more;
            pair(type, &x->more, c, s, s + 32, x + n_chunks, v, sum[t].second);
        }
    }
}

INLINE void add_row_chunk(const u32 type, const int nt, const lb_q8_row *r, const lb_q8_act *x,
                          const lb_q8_shape *shape, sums *sum) {
    UNROLL for (int v = 0; v < 2; v++) {
        __m256i c[8];
        UNROLL for (int i = 0; i < 8; i++) c[i] =
            narrow(type & LB_Q8_WIDE, get(r->q + 256 * v + 32 * i));
        add_pair(type, nt, c, r->s, x, shape, v, sum);
    }
}

/* A stored one, or its first half: what is behind adds zeros, which a lane of -0 notices. */
INLINE void add_unit_chunk(const u32 type, const int nt, const int n_units, const packed *k,
                           const lb_q8_act *x, const lb_q8_shape *shape, sums *sum) {
    UNROLL for (int v = 0; v < 2; v++) {
        __m256i c[8];
        if (2 * v >= n_units) {
            const __m256 zero = _mm256_setzero_ps();
            UNROLL for (int t = 0; t < nt; t++) {
                if (type & LB_Q8_HALVES)
                    sum[t].first[0] = _mm256_add_ps(sum[t].first[0], zero);
                sum[t].first[1] = _mm256_add_ps(sum[t].first[1], zero);
            }
            continue;
        }
        UNROLL for (int i = 0; i < 8; i++) c[i] = narrow(
            type & LB_Q8_WIDE, (__m256i)k->unit(k->p, (size_t)(2 * v + i / 4), (size_t)i % 4));
        add_pair(type, nt, c, k->scales, x, shape, v, sum);
    }
}

INLINE float finish_row(const u32 type, const sums *s) {
    const bool halves = type & LB_Q8_HALVES;
    const u32 more = halves ? s->has | s->has >> 8 : s->has;
    __m256 v[2];
    UNROLL for (int i = 0; i < 2; i++) {
        const __m256i which = lanes_of_bits(halves, more >> (halves ? 4 : 8) * i);
        v[i] = _mm256_blendv_ps(s->first[i], _mm256_add_ps(s->first[i], s->second[i]),
                                _mm256_castsi256_ps(which));
    }
    const __m256 x = _mm256_add_ps(v[0], v[1]);
    const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return lb_canon_f32(_mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z))));
}

#endif
#endif
