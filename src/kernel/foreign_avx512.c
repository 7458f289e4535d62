/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_avx512.c: codes of other tools' encodings to f32 with AVX-512, sixteen at a time; the
 * last ones under a mask. */
#if !defined(__AVX512F__) || !defined(__AVX512VL__)
#error "compile with -mavx512f -mavx512vl"
#endif
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_foreign_avx512(lb_kernels *k);

static inline __m512 canon(__m512 x) {
    const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(LB_NAN_BITS));
    return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), nan);
}

static inline __mmask16 lanes(size_t n) {
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

static void decode_i8(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 16) {
        const __mmask16 m = lanes(n_elems - i);
        const __m512i x = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p + i));
        _mm512_mask_storeu_ps(out + i, m, _mm512_cvtepi32_ps(x));
    }
}

/* The sixteen products are made once and looked up. */
static void decode_lut4(size_t n_elems, size_t first, bool upper, float *out, const void *in,
                        const float value[16], float scale) {
    const u8 *p = in;
    const __m512 v = canon(_mm512_mul_ps(_mm512_loadu_ps(value), _mm512_set1_ps(scale)));
    const __m512i shift =
        upper ? _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24)
              : _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    size_t i = 0;
    if (first % 2 == 1 && n_elems > 0) {
        lb_k_decode_f32_lut4_ref(1, first, upper, out, p, value, scale);
        i = 1;
    }
    for (; i < n_elems; i += 16) {
        const size_t n = n_elems - i;
        const __m128i bytes = _mm_maskz_loadu_epi8(
            n >= 16 ? 0xff : (__mmask16)((1u << ((n + 1) / 2)) - 1), p + (first + i) / 2);
        /* each of the two words to eight lanes */
        const __m512i words = _mm512_permutexvar_epi32(
            _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
            _mm512_castsi128_si512(bytes));
        const __m512i q = _mm512_srlv_epi32(words, shift);
        _mm512_mask_storeu_ps(out + i, lanes(n), _mm512_permutexvar_ps(q, v));
    }
}

static inline __m512 value(__m512i code, __m512 zero, __m512 scale) {
    return canon(_mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(code), zero), scale));
}

/* Sixteen places at a time, all columns of them: words, zero points and scales are loaded once. */
static void decode_words(size_t n_elems, size_t n_cols, u32 shift_bits, float *out, const void *in,
                         size_t stride_bytes, const float *zero, const float *scale) {
    const u32 bits = shift_bits >> 8;
    const __m512i mask = _mm512_set1_epi32((1 << bits) - 1);
    for (size_t i = 0; n_cols && i < n_elems; i += 16) {
        const __mmask16 m = lanes(n_elems - i);
        const __m512 z = _mm512_maskz_loadu_ps(m, zero + i),
                     s = _mm512_maskz_loadu_ps(m, scale + i);
        const u8 *q = (const u8 *)in + 4 * i;
        __m512i word = _mm512_maskz_loadu_epi32(m, q);
        u32 shift = shift_bits & 255;
        for (size_t c = 0; c < n_cols; c++, shift += bits) {
            __m512i code;
            if (shift >= 32) {
                shift -= 32;
                q += stride_bytes;
                word = _mm512_maskz_loadu_epi32(m, q);
            }
            code = _mm512_srl_epi32(word, _mm_cvtsi32_si128((int)shift));
            if (shift + bits > 32)
                code = _mm512_or_si512(
                    code, _mm512_sll_epi32(_mm512_maskz_loadu_epi32(m, q + stride_bytes),
                                           _mm_cvtsi32_si128((int)(32 - shift))));
            _mm512_mask_storeu_ps(out + c * n_elems + i, m,
                                  value(_mm512_and_si512(code, mask), z, s));
        }
    }
}

static void decode_awq(size_t n_elems, size_t n_cols, float *out, const void *in,
                       size_t stride_bytes, const float *zero, const float *scale) {
    const __m512i shift =
        _mm512_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28, 0, 16, 4, 20, 8, 24, 12, 28);
    const __m512i mask = _mm512_set1_epi32(15);
    /* each of the two words to eight lanes */
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    for (size_t i = 0; i < n_elems; i += 16) {
        const size_t n = n_elems - i;
        const __mmask16 m = lanes(n), bytes = n >= 16 ? 0xff : 0xf;
        const __m512 z = _mm512_maskz_loadu_ps(m, zero + i),
                     s = _mm512_maskz_loadu_ps(m, scale + i);
        const u8 *p = (const u8 *)in + i / 2;
        for (size_t c = 0; c < n_cols; c++) {
            const __m512i words = _mm512_permutexvar_epi32(
                spread, _mm512_castsi128_si512(_mm_maskz_loadu_epi8(bytes, p + c * stride_bytes)));
            const __m512i code = _mm512_and_si512(_mm512_srlv_epi32(words, shift), mask);
            _mm512_mask_storeu_ps(out + c * n_elems + i, m, value(code, z, s));
        }
    }
}

void lb_kinit_foreign_avx512(lb_kernels *k) {
    k->decode_f32_i8 = decode_i8;
    k->decode_f32_lut4 = decode_lut4;
    k->decode_f32_words = decode_words;
    k->decode_f32_awq = decode_awq;
}
