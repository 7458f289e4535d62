/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_avx2.c: matrix transpose in register tiles of 8 x 8 elements (8 bytes: 4 x 4), loaded
 * by rows, transposed by unpacks and stored. A buffer between, for strides of a power of two, was
 * slower (AMD Zen 4, 4096 x 4096). */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/kernel.h"
#include "kernel/transpose_tiles.h"
#include <immintrin.h>

void lb_kinit_transpose_avx2(lb_kernels *k);

static inline __m128i load128(const u8 *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline void store128(u8 *p, __m128i v) {
    _mm_storeu_si128((__m128i *)(void *)p, v);
}

static inline void store256(u8 *p, __m256d v) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_castpd_si256(v));
}

static inline __m128i load64(const u8 *p) {
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

static inline void store_halves(u8 *low, u8 *high, __m128i v) {
    _mm_storel_epi64((__m128i *)(void *)low, v);
    _mm_storel_epi64((__m128i *)(void *)high, _mm_unpackhi_epi64(v, v));
}

static void tile_1(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const u8 *const low = in + 4 * in_stride;
    const __m128i r01 = _mm_unpacklo_epi8(load64(in), load64(in + in_stride));
    const __m128i r23 = _mm_unpacklo_epi8(load64(in + 2 * in_stride), load64(in + 3 * in_stride));
    const __m128i r45 = _mm_unpacklo_epi8(load64(low), load64(low + in_stride));
    const __m128i r67 = _mm_unpacklo_epi8(load64(low + 2 * in_stride), load64(low + 3 * in_stride));
    const __m128i a03 = _mm_unpacklo_epi16(r01, r23), b03 = _mm_unpackhi_epi16(r01, r23);
    const __m128i a47 = _mm_unpacklo_epi16(r45, r67), b47 = _mm_unpackhi_epi16(r45, r67);
    store_halves(out, out + out_stride, _mm_unpacklo_epi32(a03, a47));
    store_halves(out + 2 * out_stride, out + 3 * out_stride, _mm_unpackhi_epi32(a03, a47));
    store_halves(out + 4 * out_stride, out + 5 * out_stride, _mm_unpacklo_epi32(b03, b47));
    store_halves(out + 6 * out_stride, out + 7 * out_stride, _mm_unpackhi_epi32(b03, b47));
}

static void tile_2(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const __m128i r0 = load128(in), r1 = load128(in + in_stride);
    const __m128i r2 = load128(in + 2 * in_stride), r3 = load128(in + 3 * in_stride);
    const __m128i r4 = load128(in + 4 * in_stride), r5 = load128(in + 5 * in_stride);
    const __m128i r6 = load128(in + 6 * in_stride), r7 = load128(in + 7 * in_stride);
    /* aij: rows i and j interleaved, low columns; bij: high columns */
    const __m128i a01 = _mm_unpacklo_epi16(r0, r1), b01 = _mm_unpackhi_epi16(r0, r1);
    const __m128i a23 = _mm_unpacklo_epi16(r2, r3), b23 = _mm_unpackhi_epi16(r2, r3);
    const __m128i a45 = _mm_unpacklo_epi16(r4, r5), b45 = _mm_unpackhi_epi16(r4, r5);
    const __m128i a67 = _mm_unpacklo_epi16(r6, r7), b67 = _mm_unpackhi_epi16(r6, r7);
    const __m128i c01 = _mm_unpacklo_epi32(a01, a23), d01 = _mm_unpacklo_epi32(a45, a67);
    const __m128i c23 = _mm_unpackhi_epi32(a01, a23), d23 = _mm_unpackhi_epi32(a45, a67);
    const __m128i c45 = _mm_unpacklo_epi32(b01, b23), d45 = _mm_unpacklo_epi32(b45, b67);
    const __m128i c67 = _mm_unpackhi_epi32(b01, b23), d67 = _mm_unpackhi_epi32(b45, b67);
    store128(out, _mm_unpacklo_epi64(c01, d01));
    store128(out + out_stride, _mm_unpackhi_epi64(c01, d01));
    store128(out + 2 * out_stride, _mm_unpacklo_epi64(c23, d23));
    store128(out + 3 * out_stride, _mm_unpackhi_epi64(c23, d23));
    store128(out + 4 * out_stride, _mm_unpacklo_epi64(c45, d45));
    store128(out + 5 * out_stride, _mm_unpackhi_epi64(c45, d45));
    store128(out + 6 * out_stride, _mm_unpacklo_epi64(c67, d67));
    store128(out + 7 * out_stride, _mm_unpackhi_epi64(c67, d67));
}

/* Four columns of row r in the low half, of row r + 4 in the high half: the halves need no
 * crossing. */
static inline __m256 rows_f32(const u8 *in, size_t in_stride, size_t r) {
    const __m256i low = _mm256_castsi128_si256(load128(in + r * in_stride));
    return _mm256_castsi256_ps(_mm256_inserti128_si256(low, load128(in + (r + 4) * in_stride), 1));
}

/* Four columns of eight rows to four rows of eight. */
static inline void half_tile_4(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const __m256 r04 = rows_f32(in, in_stride, 0), r15 = rows_f32(in, in_stride, 1);
    const __m256 r26 = rows_f32(in, in_stride, 2), r37 = rows_f32(in, in_stride, 3);
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r04, r15));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r04, r15));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r26, r37));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r26, r37));
    store256(out, _mm256_unpacklo_pd(a, c));
    store256(out + out_stride, _mm256_unpackhi_pd(a, c));
    store256(out + 2 * out_stride, _mm256_unpacklo_pd(b, d));
    store256(out + 3 * out_stride, _mm256_unpackhi_pd(b, d));
}

static void tile_4(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    half_tile_4(out, out_stride, in, in_stride);
    half_tile_4(out + 4 * out_stride, out_stride, in + 16, in_stride);
}

static inline __m256i rows_u64(const u8 *in, size_t in_stride, size_t r) {
    const __m256i low = _mm256_castsi128_si256(load128(in + r * in_stride));
    return _mm256_inserti128_si256(low, load128(in + (r + 2) * in_stride), 1);
}

static void tile_8(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    for (size_t h = 0; h < 2; h++, in += 16, out += 2 * out_stride) {
        const __m256d r02 = _mm256_castsi256_pd(rows_u64(in, in_stride, 0));
        const __m256d r13 = _mm256_castsi256_pd(rows_u64(in, in_stride, 1));
        store256(out, _mm256_unpacklo_pd(r02, r13));
        store256(out + out_stride, _mm256_unpackhi_pd(r02, r13));
    }
}

static void transpose(size_t n_rows, size_t n_cols, size_t elem_bytes, void *out, size_t out_stride,
                      const void *in, size_t in_stride) {
    static lb_tile_fn *const tiles[9] = {NULL, tile_1, tile_2, NULL,  tile_4,
                                         NULL, NULL,   NULL,   tile_8};
    const lb_tile_walk w = {.out = out,
                            .in = in,
                            .out_stride = out_stride * elem_bytes,
                            .in_stride = in_stride * elem_bytes,
                            .elem_bytes = elem_bytes,
                            .tile = tiles[elem_bytes],
                            .side = elem_bytes == 8 ? 4 : 8};
    lb_tile_all(&w, n_rows, n_cols);
}

void lb_kinit_transpose_avx2(lb_kernels *k) {
    k->transpose = transpose;
}
