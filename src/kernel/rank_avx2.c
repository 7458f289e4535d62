/* SPDX-License-Identifier: Apache-2.0 */
/* rank_avx2.c: as rank_ref.c, eight at a time. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_rank_avx2(lb_kernels *k);

static inline __m256i magnitude(const float *x) {
    const __m256i m =
        _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x)), _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpgt_epi32(m, _mm256_set1_epi32(0x7f800000));
    return _mm256_blendv_epi8(m, _mm256_set1_epi32(0x7fc00000), nan);
}

static void magnitudes(size_t n_elems, u32 out[3], const float *in) {
    __m256i all = _mm256_setzero_si256(), max = all, min = _mm256_set1_epi32(-1);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i m = magnitude(in + i);
        all = _mm256_or_si256(all, m);
        max = _mm256_max_epu32(max, m);
        min = _mm256_min_epu32(min, _mm256_sub_epi32(m, _mm256_set1_epi32(1)));
    }
    u32 a[8], b[8], c[8];
    _mm256_storeu_si256((__m256i *)(void *)a, all);
    _mm256_storeu_si256((__m256i *)(void *)b, max);
    _mm256_storeu_si256((__m256i *)(void *)c, min);
    lb_k_magnitudes_f32_ref(n_elems - i, out, in + i);
    out[2]--;
    for (u32 j = 0; j < 8; j++) {
        out[0] |= a[j];
        out[1] = LB_MAX(out[1], b[j]);
        out[2] = LB_MIN(out[2], c[j]);
    }
    out[2]++;
}

static void bins(size_t n_elems, u32 *out, const float *in, u32 low, u32 below) {
    const __m128i shift = _mm_cvtsi32_si128((int)low);
    const __m256i least = _mm256_set1_epi32((int)below);
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i m = _mm256_srl_epi32(magnitude(in + i), shift);
        _mm256_storeu_si256((__m256i *)(void *)(out + i),
                            _mm256_sub_epi32(_mm256_max_epu32(m, least), least));
    }
    lb_k_magnitude_bins_f32_ref(n_elems - i, out + i, in + i, low, below);
}

static u32 sums(size_t n_elems, u32 *out, const u32 *in) {
    __m256i before = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(in + i));
        __m256i s = _mm256_add_epi32(x, _mm256_slli_si256(x, 4));
        s = _mm256_add_epi32(s, _mm256_slli_si256(s, 8));
        /* the lower half's sum goes to all of the upper one */
        const __m256i low = _mm256_permute2x128_si256(s, s, 0x08);
        s = _mm256_add_epi32(s, _mm256_shuffle_epi32(low, 0xff));
        _mm256_storeu_si256((__m256i *)(void *)(out + i),
                            _mm256_add_epi32(_mm256_sub_epi32(s, x), before));
        before = _mm256_add_epi32(before, _mm256_permutevar8x32_epi32(s, _mm256_set1_epi32(7)));
    }
    u32 sum = (u32)_mm256_extract_epi32(before, 0);
    for (; i < n_elems; i++) {
        const u32 x = in[i];
        out[i] = sum;
        sum += x;
    }
    return sum;
}

void lb_kinit_rank_avx2(lb_kernels *k) {
    k->magnitudes_f32 = magnitudes;
    k->magnitude_bins_f32 = bins;
    k->sums_u32 = sums;
}
