/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_avx2.c: codes of other tools' encodings to f32 with AVX2, eight at a time. What does not
 * fill eight is left to the reference, so that nothing is read beyond the codes. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_foreign_avx2(lb_kernels *k);

static inline __m256 canon(__m256 x) {
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(LB_NAN_BITS));
    return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline __m256i load_words(const u8 *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static void decode_i8(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)(p + i));
        _mm256_storeu_ps(out + i, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)));
    }
    lb_k_decode_f32_i8_ref(n_elems - i, out + i, p + i);
}

/* Eight codes are `bits` bytes; read as eight bytes, and so only where there are as many. */
static inline __m256i eight_codes(u64 bytes, __m256i low, __m256i high) {
    const __m256i all = _mm256_set1_epi64x((long long)bytes);
    const __m256 a = _mm256_castsi256_ps(_mm256_srlv_epi64(all, low)),
                 b = _mm256_castsi256_ps(_mm256_srlv_epi64(all, high));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)), 0xd8);
}

static void decode_codes(size_t n_elems, size_t first, u32 bits, float *out, const void *in) {
    const u8 *p = in;
    const size_t head = LB_MIN((8 - first % 8) % 8, n_elems);
    const long long b = bits;
    const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);
    const __m256i low = _mm256_setr_epi64x(0, b, 2 * b, 3 * b),
                  high = _mm256_setr_epi64x(4 * b, 5 * b, 6 * b, 7 * b);
    const __m256i nibbles = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    size_t i = head;
    lb_k_decode_f32_codes_ref(head, first, bits, out, p);
    for (; i + 8 <= n_elems; i += 8) {
        const u8 *q = p + (first + i) / 8 * bits;
        __m256i code;
        if (bits == 4)
            code = _mm256_srlv_epi32(_mm256_set1_epi32((int)lb_load_u32(q)), nibbles);
        else if (bits == 8)
            code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)q));
        else if ((n_elems - i) * bits >= 64)
            code = eight_codes(lb_load_u64(q), low, high);
        else
            break;
        _mm256_storeu_ps(out + i, _mm256_cvtepi32_ps(_mm256_and_si256(code, mask)));
    }
    lb_k_decode_f32_codes_ref(n_elems - i, first + i, bits, out + i, p);
}

/* The sixteen products are made once; a code's upper bit chooses between two halves of a table. */
static void decode_lut4(size_t n_elems, size_t first, bool upper, float *out, const void *in,
                        const float value[16], float scale) {
    const u8 *p = in;
    const __m256 s = _mm256_set1_ps(scale);
    const __m256 low = canon(_mm256_mul_ps(_mm256_loadu_ps(value), s));
    const __m256 high = canon(_mm256_mul_ps(_mm256_loadu_ps(value + 8), s));
    const __m256i shift = upper ? _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24)
                                : _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    size_t i = 0;
    if (first % 2 == 1 && n_elems > 0) {
        lb_k_decode_f32_lut4_ref(1, first, upper, out, p, value, scale);
        i = 1;
    }
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i word = _mm256_set1_epi32((int)lb_load_u32(p + (first + i) / 2));
        const __m256i q = _mm256_srlv_epi32(word, shift);
        const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(q, 28));
        _mm256_storeu_ps(out + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, q),
                                                   _mm256_permutevar8x32_ps(high, q), bit3));
    }
    lb_k_decode_f32_lut4_ref(n_elems - i, first + i, upper, out + i, p, value, scale);
}

static inline __m256 value(__m256i code, __m256 zero, __m256 scale) {
    return canon(_mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(code), zero), scale));
}

/* Eight places at a time, all columns of them: words, zero points and scales are loaded once. */
static void decode_words(size_t n_elems, size_t n_cols, u32 shift_bits, float *out, const void *in,
                         size_t stride_bytes, const float *zero, const float *scale) {
    const u8 *p = in;
    const u32 bits = shift_bits >> 8;
    const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);
    size_t i = 0;
    for (; n_cols && i + 8 <= n_elems; i += 8) {
        const __m256 z = _mm256_loadu_ps(zero + i), s = _mm256_loadu_ps(scale + i);
        const u8 *q = p + 4 * i;
        __m256i word = load_words(q);
        u32 shift = shift_bits & 255;
        for (size_t c = 0; c < n_cols; c++, shift += bits) {
            __m256i code;
            if (shift >= 32) {
                shift -= 32;
                q += stride_bytes;
                word = load_words(q);
            }
            code = _mm256_srl_epi32(word, _mm_cvtsi32_si128((int)shift));
            if (shift + bits > 32)
                code =
                    _mm256_or_si256(code, _mm256_sll_epi32(load_words(q + stride_bytes),
                                                           _mm_cvtsi32_si128((int)(32 - shift))));
            _mm256_storeu_ps(out + c * n_elems + i, value(_mm256_and_si256(code, mask), z, s));
        }
    }
    for (size_t c = 0; i < n_elems && c < n_cols; c++) {
        const u32 at = (shift_bits & 255) + (u32)c * bits;
        lb_k_decode_f32_words_ref(n_elems - i, 1, LB_WORD_BITS(at % 32, bits),
                                  out + c * n_elems + i, p + at / 32 * stride_bytes + 4 * i,
                                  stride_bytes, zero + i, scale + i);
    }
}

static void decode_awq(size_t n_elems, size_t n_cols, float *out, const void *in,
                       size_t stride_bytes, const float *zero, const float *scale) {
    const __m256i shift = _mm256_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28);
    const __m256i mask = _mm256_set1_epi32(15);
    for (size_t i = 0; i < n_elems; i += 8) {
        const __m256 z = _mm256_loadu_ps(zero + i), s = _mm256_loadu_ps(scale + i);
        const u8 *p = (const u8 *)in + i / 2;
        for (size_t c = 0; c < n_cols; c++) {
            const __m256i word = _mm256_set1_epi32((int)lb_load_u32(p + c * stride_bytes));
            _mm256_storeu_ps(out + c * n_elems + i,
                             value(_mm256_and_si256(_mm256_srlv_epi32(word, shift), mask), z, s));
        }
    }
}

void lb_kinit_foreign_avx2(lb_kernels *k) {
    k->decode_f32_i8 = decode_i8;
    k->decode_f32_codes = decode_codes;
    k->decode_f32_lut4 = decode_lut4;
    k->decode_f32_words = decode_words;
    k->decode_f32_awq = decode_awq;
}
