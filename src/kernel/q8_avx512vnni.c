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

#include "kernel/q8_dots_avx512vnni.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx512vnni(lb_kernels *k);

void lb_kinit_q8_avx512vnni(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
