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

#define INLINE __attribute__((always_inline)) static inline

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

/* Zero points and scales of sixteen places. */
typedef struct group {
    __m512 zero, scale;
    __mmask16 lanes;
} group;

/* Whether no product can be NaN, and all places are there. */
static inline bool is_plain(const group *g) {
    const __m512 x = _mm512_add_ps(_mm512_sub_ps(g->zero, g->zero),
                                   _mm512_sub_ps(g->scale, g->scale)); /* 0, or NaN */
    return g->lanes == 0xffff && _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) == 0;
}

static inline group load_group(size_t n, const float *zero, const float *scale) {
    group g = {.lanes = lanes(n)};
    g.zero = _mm512_maskz_loadu_ps(g.lanes, zero);
    g.scale = _mm512_maskz_loadu_ps(g.lanes, scale);
    return g;
}

INLINE void put(const group *g, bool plain, float *out, __m512i code) {
    const __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(code), g->zero), g->scale);
    if (plain)
        _mm512_storeu_ps(out, x);
    else
        _mm512_mask_storeu_ps(out, g->lanes, canon(x));
}

/* Codes that fill words, from the lowest of one on: as many words as are full. Returns how many. */
INLINE size_t whole_words(const group *g, bool plain, size_t n_cols, u32 bits, float *out,
                          size_t out_stride, const u8 *in, size_t stride_bytes) {
    const __m512i mask = _mm512_set1_epi32((1 << bits) - 1);
    const u32 n = 32 / bits;
    size_t c = 0;
    for (; c + n <= n_cols; c += n, in += stride_bytes) {
        const __m512i word = _mm512_maskz_loadu_epi32(g->lanes, in);
        for (u32 k = 0; k < n; k++, out += out_stride)
            put(g, plain, out, _mm512_and_si512(_mm512_srli_epi32(word, k * bits), mask));
    }
    return c;
}

INLINE size_t words_of(const group *g, size_t n_cols, u32 bits, float *out, size_t out_stride,
                       const u8 *in, size_t stride_bytes) {
    if (n_cols < 32 / bits)
        return 0;
    return is_plain(g) ? whole_words(g, true, n_cols, bits, out, out_stride, in, stride_bytes)
                       : whole_words(g, false, n_cols, bits, out, out_stride, in, stride_bytes);
}

/* The codes that begin at bit `shift` of the words at `in`. */
INLINE __m512i codes_at(__mmask16 m, __m512i word, u32 shift, u32 bits, const u8 *in,
                        size_t stride_bytes) {
    __m512i code = _mm512_srl_epi32(word, _mm_cvtsi32_si128((int)shift));
    if (shift + bits > 32)
        code =
            _mm512_or_si512(code, _mm512_sll_epi32(_mm512_maskz_loadu_epi32(m, in + stride_bytes),
                                                   _mm_cvtsi32_si128((int)(32 - shift))));
    return _mm512_and_si512(code, _mm512_set1_epi32((1 << bits) - 1));
}

/* Any codes; in: the row of words of the first. */
INLINE void any_words(const group *g, size_t n_cols, u32 shift, u32 bits, float *out,
                      size_t out_stride, const u8 *in, size_t stride_bytes) {
    __m512i word = _mm512_maskz_loadu_epi32(g->lanes, in);
    for (size_t c = 0; c < n_cols; c++, shift += bits, out += out_stride) {
        if (shift >= 32) {
            shift -= 32;
            in += stride_bytes;
            word = _mm512_maskz_loadu_epi32(g->lanes, in);
        }
        put(g, false, out, codes_at(g->lanes, word, shift, bits, in, stride_bytes));
    }
}

/* One column: of an order of its own, each is. */
static void one_column(size_t n_elems, u32 shift, u32 bits, float *out, const u8 *in,
                       size_t stride_bytes, const float *zero, const float *scale) {
    for (size_t i = 0; i < n_elems; i += 16) {
        const group g = load_group(n_elems - i, zero + i, scale + i);
        const __m512i word = _mm512_maskz_loadu_epi32(g.lanes, in + 4 * i);
        put(&g, false, out + i, codes_at(g.lanes, word, shift, bits, in + 4 * i, stride_bytes));
    }
}

/* Sixteen places at a time, all columns of them: words, zero points and scales are loaded once. */
static void decode_words(size_t n_elems, size_t n_cols, u32 shift_bits, float *out, const void *in,
                         size_t stride_bytes, const float *zero, const float *scale) {
    const u32 bits = shift_bits >> 8, shift = shift_bits & 255;
    if (n_cols == 1) {
        one_column(n_elems, shift, bits, out, in, stride_bytes, zero, scale);
        return;
    }
    for (size_t i = 0; n_cols && i < n_elems; i += 16) {
        const group g = load_group(n_elems - i, zero + i, scale + i);
        const u8 *p = (const u8 *)in + 4 * i;
        size_t done = 0;
        if (shift == 0 && bits == 4)
            done = words_of(&g, n_cols, 4, out + i, n_elems, p, stride_bytes);
        else if (shift == 0 && bits == 8)
            done = words_of(&g, n_cols, 8, out + i, n_elems, p, stride_bytes);
        else if (shift == 0 && bits == 2)
            done = words_of(&g, n_cols, 2, out + i, n_elems, p, stride_bytes);
        if (done < n_cols)
            any_words(&g, n_cols - done, shift, bits, out + done * n_elems + i, n_elems,
                      p + done * bits / 32 * stride_bytes, stride_bytes);
    }
}

INLINE void awq_places(const group *g, bool plain, size_t n_cols, float *out, size_t out_stride,
                       const u8 *in, size_t stride_bytes) {
    const __m512i shift =
        _mm512_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28, 0, 16, 4, 20, 8, 24, 12, 28);
    const __m512i mask = _mm512_set1_epi32(15);
    /* each of the two words to eight lanes */
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __mmask16 bytes = g->lanes == 0xffff ? 0xff : 0xf;
    for (size_t c = 0; c < n_cols; c++, in += stride_bytes, out += out_stride) {
        const __m128i two = plain ? _mm_loadl_epi64((const __m128i *)(const void *)in)
                                  : _mm_maskz_loadu_epi8(bytes, in);
        const __m512i words = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(two));
        put(g, plain, out, _mm512_and_si512(_mm512_srlv_epi32(words, shift), mask));
    }
}

static void decode_awq(size_t n_elems, size_t n_cols, float *out, const void *in,
                       size_t stride_bytes, const float *zero, const float *scale) {
    for (size_t i = 0; i < n_elems; i += 16) {
        const group g = load_group(n_elems - i, zero + i, scale + i);
        const u8 *p = (const u8 *)in + i / 2;
        if (is_plain(&g))
            awq_places(&g, true, n_cols, out + i, n_elems, p, stride_bytes);
        else
            awq_places(&g, false, n_cols, out + i, n_elems, p, stride_bytes);
    }
}

void lb_kinit_foreign_avx512(lb_kernels *k) {
    k->decode_f32_i8 = decode_i8;
    k->decode_f32_lut4 = decode_lut4;
    k->decode_f32_words = decode_words;
    k->decode_f32_awq = decode_awq;
}
