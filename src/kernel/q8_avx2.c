/* SPDX-License-Identifier: Apache-2.0 */
/* q8_avx2.c: products of eight bits by vpmaddubsw, whose pairs do not saturate while codes are at
 * most 128: wider ones get a sign first, and the activation that of the code. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include <immintrin.h>

#define NT 4
#define NARROW 1
#include "kernel/q8_tmpl.h"

#define load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))

INLINE __m256i quad(i32 x) {
    return _mm256_set1_epi32(x);
}

/* Sums of four products. w: codes; signed ones: with the sign's bit turned. */
INLINE __m256i quads(const bool wide, __m256i w, __m256i a) {
    if (wide) {
        a = _mm256_sign_epi8(a, w);
        w = _mm256_abs_epi8(w);
    }
    return _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1));
}

INLINE __m256i codes(const bool wide, const u8 *p) {
    return wide ? _mm256_xor_si256(load(p), _mm256_set1_epi8(-128)) : load(p);
}

/* ---- panels: eight rows at a time ---- */

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const int t,
                   const job *j, lanes_of lane) {
    const int n_quads = halves ? 4 : 8;
    const u8 *p = j->panel, *x = j->tile;
    for (int l = 0; l < 2 * LANES; l++) {
        const int h = l % 2;
        const u8 *from = p, *y = x;
        __m256 acc[NT];
        UNROLL for (int i = 0; i < nt; i++) acc[i] = _mm256_setzero_ps();
        for (size_t k = 0; k < j->n_groups; k++) {
            __m256i sum[NT];
            const i8(*q)[NT][4] = (const i8(*)[NT][4])(const void *)y;
            const float *d = (const float *)(const void *)(y + n_quads * NT * 4);
            const float *m = d + NT;
            const i32 *less = (const i32 *)(const void *)(m + NT);
            UNROLL for (int i = 0; i < nt; i++) sum[i] = _mm256_setzero_si256();
            UNROLL for (int c = 0; c < n_quads; c++) {
                const __m256i w = codes(wide, from + 64 * c + 32 * h);
                UNROLL for (int i = 0; i < nt; i++) {
                    i32 a;
                    memcpy(&a, q[c][t + i], 4);
                    sum[i] = _mm256_add_epi32(sum[i], quads(wide, w, quad(a)));
                }
            }
            const float *s = (const float *)(const void *)(from + 64 * n_quads) + 8 * h;
            UNROLL for (int i = 0; i < nt; i++) {
                const __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[i], quad(less[t + i])));
                acc[i] = _mm256_fmadd_ps(
                    f, _mm256_mul_ps(_mm256_loadu_ps(s), _mm256_set1_ps(d[t + i])), acc[i]);
                if (min)
                    acc[i] =
                        _mm256_fmadd_ps(_mm256_loadu_ps(s + 16), _mm256_set1_ps(m[t + i]), acc[i]);
            }
            from += 64 * (n_quads + 2);
            y += halves ? sizeof(tile16) : sizeof(tile32);
        }
        UNROLL for (int i = 0; i < nt; i++) _mm256_storeu_ps(lane[l / 2][t + i] + 8 * h, acc[i]);
        if (h) {
            p = from;
            x = y;
        }
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const second *x, float sum[16]) {
    const int n_quads = halves ? 4 : 8;
    const float *s = (const float *)(const void *)(group + 64 * n_quads);
    for (int h = 0; h < 2; h++, group += 32, s += 8, sum += 8) {
        __m256i q = quad(-x->less);
        __m256 acc = _mm256_load_ps(sum);
        UNROLL for (int c = 0; c < n_quads; c++) {
            i32 a;
            memcpy(&a, x->q + 4 * c, 4);
            q = _mm256_add_epi32(q, quads(wide, codes(wide, group + 64 * c), quad(a)));
        }
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q),
                              _mm256_mul_ps(_mm256_loadu_ps(s), _mm256_set1_ps(x->d)), acc);
        if (min)
            acc = _mm256_fmadd_ps(_mm256_loadu_ps(s + 16), _mm256_set1_ps(x->m), acc);
        _mm256_store_ps(sum, acc);
    }
}

/* ---- rows by themselves ---- */

#define MT 2 /* tokens at once */

/* Of 128 codes, sums of 16: lane 4 l + c = bits 128 l of register c, group 2 c + l. */
INLINE __m256i eight(const bool wide, const u8 *w, const i8 *q) {
    __m256i p[4];
    UNROLL for (int i = 0; i < 4; i++) p[i] =
        quads(wide, codes(wide, w + 32 * i), load(q + 32 * i));
    return _mm256_hadd_epi32(_mm256_hadd_epi32(p[0], p[1]), _mm256_hadd_epi32(p[2], p[3]));
}

typedef struct sum16 {
    __m256 v[2]; /* lanes 0-7, 8-15 */
} sum16;

/* Lanes of the lowest bits. halves: of groups of 32, two lanes each. */
INLINE __m256i lanes(const bool halves, u32 bits) {
    const __m256i one = halves ? _mm256_setr_epi32(1, 1, 2, 2, 4, 4, 8, 8)
                               : _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(quad((i32)bits), one), one);
}

/* Where eight groups stand. */
typedef struct eight_of {
    const float *scale, *min, *d, *m;
    const i32 *s;
} eight_of;

/* Adds eight groups to their lanes; masked: those of `which`. */
INLINE __m256 term(const bool min, const bool masked, __m256i which, __m256i sum, __m256i off,
                   const eight_of *g, __m256 acc) {
    const __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_mullo_epi32(load(g->s), off)));
    const __m256 by = _mm256_mul_ps(_mm256_loadu_ps(g->scale), _mm256_loadu_ps(g->d));
    __m256 to = _mm256_fmadd_ps(f, by, acc);
    if (min)
        to = _mm256_fmadd_ps(_mm256_loadu_ps(g->min), _mm256_loadu_ps(g->m), to);
    return masked ? _mm256_blendv_ps(acc, to, _mm256_castsi256_ps(which)) : to;
}

/* All groups, or a second part of those that have one. */
typedef struct which_groups {
    bool masked;
    u32 more;
} which_groups;

INLINE void chunk(const bool halves, const bool min, const bool wide, const which_groups of,
                  const lb_q8_row *w, const lb_q8_act *x, __m256i off, sum16 *acc) {
    const __m256i by16 = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    UNROLL for (int h = 0; h < 4; h++) { /* 128 codes each: 8 sums of 16 */
        if (!halves && h % 2)
            continue;
        __m256i sum = eight(wide, w->q + 128 * h, x->q + 128 * h);
        const int at = halves ? 8 * h : 4 * h;
        eight_of g = {w->s + at, w->m + at, x->d32 + at, x->m32 + at, x->s32 + at};
        __m256 *to = acc->v + (halves ? h % 2 : h / 2);
        if (halves) {
            sum = _mm256_permutevar8x32_epi32(sum, by16);
            g.d = x->d16 + at, g.m = x->m16 + at, g.s = x->s16 + at;
        } else {
            /* Both halves of a group lie 128 bits apart: groups 0-3 of one, of the other. */
            const __m256i u = eight(wide, w->q + 128 * h + 128, x->q + 128 * h + 128);
            sum = _mm256_add_epi32(_mm256_permute2x128_si256(sum, u, 0x20),
                                   _mm256_permute2x128_si256(sum, u, 0x31));
        }
        *to = term(min, of.masked, lanes(halves, of.more >> 4 * h), sum, off, &g, *to);
    }
}

INLINE void dots_as(const bool halves, const bool min, const bool wide, const int nt,
                    const lb_q8_shape *shape, float *out, const lb_q8_row *w, const lb_q8_act *a) {
    const size_t n_chunks = lb_q8_chunks(shape->n_cols);
    const __m256i off = quad(off_of(shape->type));
    sum16 acc[MT], rest[MT];
    u32 has[MT] = {0};
    UNROLL for (int t = 0; t < nt; t++) UNROLL for (int i = 0; i < 2; i++) acc[t].v[i] =
        rest[t].v[i] = _mm256_setzero_ps();
    for (size_t k = 0; k < n_chunks; k++)
        UNROLL for (int t = 0; t < nt; t++) {
            const lb_q8_act *x = a + (size_t)t * shape->act_stride + k;
            chunk(halves, min, wide, (which_groups){0}, w + k, x, off, acc + t);
            if (x->more) {
                has[t] |= x->more;
                chunk(halves, min, wide, (which_groups){true, x->more}, w + k, x + n_chunks, off,
                      rest + t);
            }
        }
    UNROLL for (int t = 0; t < nt; t++) {
        const u32 more = halves ? has[t] | has[t] >> 8 : has[t];
        UNROLL for (int i = 0; i < 2; i++) {
            const __m256i which = lanes(halves, more >> (halves ? 4 : 8) * i);
            acc[t].v[i] = _mm256_blendv_ps(acc[t].v[i], _mm256_add_ps(acc[t].v[i], rest[t].v[i]),
                                           _mm256_castsi256_ps(which));
        }
        const __m256 x = _mm256_add_ps(acc[t].v[0], acc[t].v[1]);
        const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
        out[(size_t)t * shape->out_stride] =
            lb_canon_f32(_mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z))));
    }
}

INLINE void dots(const bool halves, const bool min, const int nt, const lb_q8_shape *shape,
                 float *out, const lb_q8_row *w, const lb_q8_act *a) {
    if (!halves && (shape->type & LB_Q8_WIDE))
        dots_as(halves, min, true, nt, shape, out, w, a);
    else
        dots_as(halves, min, false, nt, shape, out, w, a);
}

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx2(lb_kernels *k);

void lb_kinit_q8_avx2(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
