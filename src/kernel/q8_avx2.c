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
#include "kernel/q8_madd_avx2.h"

#define load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))

INLINE __m256i quad(i32 x) {
    return _mm256_set1_epi32(x);
}

INLINE __m256i codes(const bool wide, const u8 *p) {
    return narrow(wide, load(p));
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

#include "kernel/q8_dots_avx2.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx2(lb_kernels *k);

void lb_kinit_q8_avx2(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
