/* SPDX-License-Identifier: Apache-2.0 */
/* q8_avx512vnni.c: products of eight bits by vpdpbusd, which adds four products to a lane of 32
 * bits. Rows by themselves: 256 codes make four registers, whose lanes are added within 128 bits as
 * a transposition of 4 x 4. Panels: a lane is a row, so nothing is added across lanes. */
#ifndef __AVX512VNNI__
#error "compile with -mavx512vnni"
#endif
#include <immintrin.h>

#define NT 6
#define PANELS 2
#define NARROW 0
#include "kernel/q8_gemm_tmpl.h"

#define load(p) _mm512_loadu_si512((const void *)(p))

INLINE __m512i quad(i32 x) {
    return _mm512_set1_epi32(x);
}

/* ---- panels ---- */

/* One group of each panel with nt tokens. */
INLINE void group_of(const int quads, const bool min, const int nt, const block *b, const place at,
                     __m512 acc[PANELS][NT]) {
    __m512i sum[PANELS][NT];
    const u8 *const p[PANELS] = {b->panel[0] + at.panel, b->panel[1] + at.panel};
    UNROLL for (int i = 0; i < nt; i++) sum[0][i] = sum[1][i] = quad(b->less[at.chunk][i][at.g]);
    UNROLL for (int q = 0; q < quads; q++) {
        const __m512i w0 = load(p[0] + 64 * q), w1 = load(p[1] + 64 * q);
        UNROLL for (int i = 0; i < nt; i++) {
            const __m512i a = quad(quad_at(b->act[i] + at.chunk, at.at, q));
            sum[0][i] = _mm512_dpbusd_epi32(sum[0][i], w0, a);
            sum[1][i] = _mm512_dpbusd_epi32(sum[1][i], w1, a);
        }
    }
    UNROLL for (int j = 0; j < PANELS; j++) {
        const __m512 s = _mm512_loadu_ps((const void *)(p[j] + 64 * quads));
        const __m512 mn = _mm512_loadu_ps((const void *)(p[j] + 64 * quads + 64));
        UNROLL for (int i = 0; i < nt; i++) {
            const lb_q8_act *a = b->act[i] + at.chunk;
            const __m512 d = _mm512_set1_ps((quads == 4 ? a->d16 : a->d32)[at.g]);
            acc[j][i] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j][i]), _mm512_mul_ps(s, d), acc[j][i]);
            if (min)
                acc[j][i] = _mm512_fmadd_ps(
                    mn, _mm512_set1_ps((quads == 4 ? a->m16 : a->m32)[at.g]), acc[j][i]);
        }
    }
}

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const block *b,
                   lanes_of lane) {
    size_t p = 0;
    (void)wide;
    for (size_t l = 0; l < LANES; l++) {
        __m512 acc[PANELS][NT];
        const size_t at = lb_q8_at((halves ? 16 : 32) * l);
        UNROLL for (int i = 0; i < nt; i++) acc[0][i] = acc[1][i] = _mm512_setzero_ps();
        fetch_next(b, l);
        for (size_t c = 0; c < b->n_chunks; c++) {
            group_of(halves ? 4 : 8, min, nt, b, (place){p, c, at, l}, acc);
            p += GROUP_BYTES(halves);
            if (halves) {
                group_of(4, min, nt, b, (place){p, c, at + 256, l + 16}, acc);
                p += GROUP_BYTES(halves);
            }
        }
        UNROLL for (int j = 0; j < PANELS; j++) UNROLL for (int i = 0; i < nt; i++)
            _mm512_store_ps(lane[l][j][i], acc[j][i]);
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const lb_q8_act *a, size_t g, i32 less, float sum[16]) {
    const int quads = halves ? 4 : 8;
    const size_t at = lb_q8_at((halves ? 16 : 32) * g);
    __m512i s = quad(less);
    __m512 acc = _mm512_load_ps(sum);
    (void)wide;
    UNROLL for (int q = 0; q < quads; q++) s =
        _mm512_dpbusd_epi32(s, load(group + 64 * q), quad(quad_at(a, at, q)));
    group += 64 * quads;
    acc = _mm512_fmadd_ps(
        _mm512_cvtepi32_ps(s),
        _mm512_mul_ps(_mm512_loadu_ps(group), _mm512_set1_ps((halves ? a->d16 : a->d32)[g])), acc);
    if (min)
        acc = _mm512_fmadd_ps(_mm512_loadu_ps(group + 64),
                              _mm512_set1_ps((halves ? a->m16 : a->m32)[g]), acc);
    _mm512_store_ps(sum, acc);
}

INLINE void finish16(const float *lane, const size_t step, size_t n_rows, float *out) {
    __m512 x[8];
    UNROLL for (size_t i = 0; i < 8; i++) x[i] =
        _mm512_add_ps(_mm512_load_ps(lane + i * step), _mm512_load_ps(lane + (i + 8) * step));
    UNROLL for (size_t i = 0; i < 4; i++) x[i] = _mm512_add_ps(x[i], x[i + 4]);
    const __m512 y = _mm512_add_ps(_mm512_add_ps(x[0], x[2]), _mm512_add_ps(x[1], x[3]));
    const __mmask16 nan = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
    const __m512 nan_form = _mm512_castsi512_ps(quad((i32)LB_NAN_BITS));
    _mm512_mask_storeu_ps(out, (__mmask16)((1u << n_rows) - 1),
                          _mm512_mask_mov_ps(y, nan, nan_form));
}

INLINE void turn16(size_t n_rows, const u8 *in, size_t in_stride, u8 *out, size_t out_stride) {
    __m512i x[16], y[16];
    UNROLL for (size_t i = 0; i < 16; i++) x[i] =
        i < n_rows ? load(in + i * in_stride) : _mm512_setzero_si512();
    UNROLL for (size_t i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLL for (size_t i = 0; i < 16; i += 4) UNROLL for (size_t j = 0; j < 2; j++) {
        x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + j + 2]);
        x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + j + 2]);
    }
    /* x[4 a + b]: of rows 4 a and on, word b of each 128 bits */
    UNROLL for (size_t b = 0; b < 4; b++) {
        const __m512i lo0 = _mm512_shuffle_i32x4(x[b], x[4 + b], 0x88);
        const __m512i lo1 = _mm512_shuffle_i32x4(x[8 + b], x[12 + b], 0x88);
        const __m512i hi0 = _mm512_shuffle_i32x4(x[b], x[4 + b], 0xdd);
        const __m512i hi1 = _mm512_shuffle_i32x4(x[8 + b], x[12 + b], 0xdd);
        _mm512_storeu_si512(out + b * out_stride, _mm512_shuffle_i32x4(lo0, lo1, 0x88));
        _mm512_storeu_si512(out + (4 + b) * out_stride, _mm512_shuffle_i32x4(hi0, hi1, 0x88));
        _mm512_storeu_si512(out + (8 + b) * out_stride, _mm512_shuffle_i32x4(lo0, lo1, 0xdd));
        _mm512_storeu_si512(out + (12 + b) * out_stride, _mm512_shuffle_i32x4(hi0, hi1, 0xdd));
    }
}

#include "kernel/q8_dots_avx512vnni.h"

#include "kernel/q8_dots_tmpl.h"

void lb_kinit_q8_avx512vnni(lb_kernels *k);

void lb_kinit_q8_avx512vnni(lb_kernels *k) {
    k->dots_q8 = dots_q8;
    k->panel_q8 = panel_q8;
    k->gemm_q8 = gemm_q8;
}
