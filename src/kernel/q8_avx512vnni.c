/* SPDX-License-Identifier: Apache-2.0 */
/* q8_avx512vnni.c: products of eight bits by vpdpbusd, which adds four products to a lane of 32
 * bits. Rows by themselves: 256 codes make four registers, whose lanes are added within 128 bits as
 * a transposition of 4 x 4. Panels: a lane is a row, so nothing is added across lanes. */
#ifndef __AVX512VNNI__
#error "compile with -mavx512vnni"
#endif
#include <immintrin.h>

#define NT 12
#define NARROW 0
#include "kernel/q8_tmpl.h"

#define load(p) _mm512_loadu_si512((const void *)(p))

INLINE __m512i quad(i32 x) {
    return _mm512_set1_epi32(x);
}

/* ---- panels ---- */

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const int t,
                   const job *j, lanes_of lane) {
    const int quads = halves ? 4 : 8;
    const u8 *p = j->panel, *x = j->tile;
    (void)wide;
    for (int l = 0; l < LANES; l++) {
        __m512 acc[NT];
        UNROLL for (int i = 0; i < nt; i++) acc[i] = _mm512_setzero_ps();
        for (size_t k = 0; k < j->n_groups; k++) {
            __m512i sum[NT];
            const i8(*q)[NT][4] = (const i8(*)[NT][4])(const void *)x;
            const float *d = (const float *)(const void *)(x + quads * NT * 4);
            const float *m = d + NT;
            const i32 *less = (const i32 *)(const void *)(m + NT);
            UNROLL for (int i = 0; i < nt; i++) sum[i] = _mm512_setzero_si512();
            UNROLL for (int c = 0; c < quads; c++) {
                const __m512i w = load(p + 64 * c);
                UNROLL for (int i = 0; i < nt; i++) {
                    i32 a;
                    memcpy(&a, q[c][t + i], 4);
                    sum[i] = _mm512_dpbusd_epi32(sum[i], w, quad(a));
                }
            }
            const __m512 s = _mm512_loadu_ps((const void *)(p + 64 * quads));
            const __m512 mn = _mm512_loadu_ps((const void *)(p + 64 * quads + 64));
            UNROLL for (int i = 0; i < nt; i++) {
                const __m512 f = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[i], quad(less[t + i])));
                acc[i] = _mm512_fmadd_ps(f, _mm512_mul_ps(s, _mm512_set1_ps(d[t + i])), acc[i]);
                if (min)
                    acc[i] = _mm512_fmadd_ps(mn, _mm512_set1_ps(m[t + i]), acc[i]);
            }
            p += 64 * (quads + 2);
            x += halves ? sizeof(tile16) : sizeof(tile32);
        }
        UNROLL for (int i = 0; i < nt; i++) _mm512_storeu_ps(lane[l][t + i], acc[i]);
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const second *x, float sum[16]) {
    const int quads = halves ? 4 : 8;
    __m512i s = _mm512_set1_epi32(-x->less);
    __m512 acc = _mm512_load_ps(sum);
    (void)wide;
    UNROLL for (int c = 0; c < quads; c++) {
        i32 a;
        memcpy(&a, x->q + 4 * c, 4);
        s = _mm512_dpbusd_epi32(s, load(group + 64 * c), quad(a));
    }
    group += 64 * quads;
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s),
                          _mm512_mul_ps(_mm512_loadu_ps(group), _mm512_set1_ps(x->d)), acc);
    if (min)
        acc = _mm512_fmadd_ps(_mm512_loadu_ps(group + 64), _mm512_set1_ps(x->m), acc);
    _mm512_store_ps(sum, acc);
}

/* ---- rows by themselves ---- */

/* Of four registers: lane 4 l + c = the sum of 128 bits l of register c. */
INLINE __m512i sums4(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i x = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i y = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
}

#define MT 4 /* tokens at once */

INLINE __m512i four(const __m512i *w, const i8 *q) {
    __m512i p[4];
    UNROLL for (int i = 0; i < 4; i++) p[i] =
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[i], load(q + 64 * i));
    return sums4(p[0], p[1], p[2], p[3]);
}

/* Of sixteen groups: scales and minima of a row, scales, minima and sums of a token. */
typedef struct sixteen_of {
    const float *scale, *min, *d, *m;
    const i32 *s;
} sixteen_of;

/* Adds sixteen groups to their lanes, those of `which`. */
INLINE __m512 term(const bool min, const __mmask16 which, __m512i sum, __m128i shift,
                   const sixteen_of *g, __m512 acc) {
    const __m512i less = _mm512_sll_epi32(load(g->s), shift);
    const __m512 f = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, less));
    const __m512 by = _mm512_mul_ps(_mm512_loadu_ps(g->scale), _mm512_loadu_ps(g->d));
    acc = _mm512_mask3_fmadd_ps(f, by, acc, which);
    return min ? _mm512_mask3_fmadd_ps(_mm512_loadu_ps(g->min), _mm512_loadu_ps(g->m), acc, which)
               : acc;
}

/* Bits of groups of 32 as those of their halves. */
INLINE __mmask16 both(u32 more) {
    const __m512i bit = _mm512_setr_epi32(1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128);
    return _mm512_test_epi32_mask(quad((i32)more), bit);
}

/* A chunk of a token: sums of 16 stand in lanes 4 l + c for groups 4 c + l, sums of 32 in 4 l + c
 * for 8 (l / 2) + 2 c + l % 2. */
INLINE __m512 chunk(const bool halves, const bool min, const u32 which, const __m512i c[8],
                    const lb_q8_row *w, const lb_q8_act *x, __m128i shift, __m512 acc) {
    const __m512i by16 = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i by32 = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m512i r0 = four(c, x->q), r1 = four(c + 4, x->q + 256);
    if (halves) {
        const sixteen_of lo = {w->s, w->m, x->d16, x->m16, x->s16};
        const sixteen_of hi = {w->s + 16, w->m + 16, x->d16 + 16, x->m16 + 16, x->s16 + 16};
        acc = term(min, both(which), _mm512_permutexvar_epi32(by16, r0), shift, &lo, acc);
        return term(min, both(which >> 8), _mm512_permutexvar_epi32(by16, r1), shift, &hi, acc);
    }
    const sixteen_of g = {w->s, w->m, x->d32, x->m32, x->s32};
    const __m512i sum =
        _mm512_add_epi32(_mm512_shuffle_i64x2(r0, r1, 0x88), _mm512_shuffle_i64x2(r0, r1, 0xdd));
    return term(min, (__mmask16)which, _mm512_permutexvar_epi32(by32, sum), shift, &g, acc);
}

INLINE void dots(const bool halves, const bool min, const int nt, const lb_q8_shape *shape,
                 float *out, const lb_q8_row *w, const lb_q8_act *a) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    const u32 log2_off = shape->type >> 8;
    /* A shift of 32 or more leaves nothing: no offset. */
    const __m128i shift = _mm_cvtsi32_si128(log2_off == LB_Q8_NO_OFF ? 32 : (int)log2_off);
    __m512 acc[MT], rest[MT];
    u32 has[MT] = {0};
    UNROLL for (int t = 0; t < nt; t++) acc[t] = rest[t] = _mm512_setzero_ps();
    for (size_t k = 0; k < n_chunks; k++, w++, a++) {
        __m512i c[8];
        UNROLL for (int i = 0; i < 8; i++) c[i] = load(w->q + 64 * i);
        UNROLL for (int t = 0; t < nt; t++) {
            const lb_q8_act *x = a + (size_t)t * shape->act_stride;
            acc[t] = chunk(halves, min, 0xffff, c, w, x, shift, acc[t]);
            if (x->more) {
                has[t] |= x->more;
                rest[t] = chunk(halves, min, x->more, c, w, x + n_chunks, shift, rest[t]);
            }
        }
    }
    UNROLL for (int t = 0; t < nt; t++) {
        const __mmask16 more = halves ? both(has[t] | has[t] >> 8) : (__mmask16)has[t];
        const __m512 sum = _mm512_mask_add_ps(acc[t], more, acc[t], rest[t]);
        const __m256 x = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
        const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
        out[(size_t)t * shape->out_stride] =
            lb_canon_f32(_mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z))));
    }
}

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx512vnni(lb_kernels *k);

void lb_kinit_q8_avx512vnni(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
