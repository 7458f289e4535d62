/* SPDX-License-Identifier: Apache-2.0 */
/* quant_pack_avx2.h: the words of quant_tmpl.h for 64 codes: to bytes, thresholds, signs, bits.
 *
 * Neighbours are joined by multiply-adds, two bytes to a word, two words to a dword; then the bytes
 * that hold bits are moved together. */
#ifndef LB_KERNEL_QUANT_PACK_AVX2_H
#define LB_KERNEL_QUANT_PACK_AVX2_H
#ifdef __AVX2__
#include "kernel/quant_avx2.h"

typedef struct bytes64 {
    __m256i a, b;
} bytes64;

static inline __m256i bytes_in_order(__m256i x) {
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
/* 64 integers to bytes without and with sign, saturated. */
static inline bytes64 b_unsigned(const vint c[8]) {
    return (bytes64){bytes_in_order(_mm256_packus_epi16(_mm256_packus_epi32(c[0], c[1]),
                                                        _mm256_packus_epi32(c[2], c[3]))),
                     bytes_in_order(_mm256_packus_epi16(_mm256_packus_epi32(c[4], c[5]),
                                                        _mm256_packus_epi32(c[6], c[7])))};
}
static inline bytes64 b_signed(const vint c[8]) {
    return (bytes64){bytes_in_order(_mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]),
                                                       _mm256_packs_epi32(c[2], c[3]))),
                     bytes_in_order(_mm256_packs_epi16(_mm256_packs_epi32(c[4], c[5]),
                                                       _mm256_packs_epi32(c[6], c[7])))};
}
static inline void store32(u8 *p, __m256i x) {
    _mm256_storeu_si256((__m256i *)(void *)p, x);
}
static inline void store16(u8 *p, __m128i x) {
    _mm_storeu_si128((__m128i *)(void *)p, x);
}
static inline void store8(u8 *p, __m128i x) {
    _mm_storel_epi64((__m128i *)(void *)p, x);
}
static inline void b_store(u8 *p, bytes64 c) {
    store32(p, c.a);
    store32(p + 32, c.b);
}
/* How many of the seven thresholds each byte reaches. */
static inline bytes64 b_count(bytes64 k, const i8 t[7]) {
    bytes64 n = {_mm256_setzero_si256(), _mm256_setzero_si256()};
#pragma GCC unroll 7
    for (int i = 0; i < 7; i++) {
        const __m256i below = _mm256_set1_epi8((char)(t[i] - 1));
        n.a = _mm256_sub_epi8(n.a, _mm256_cmpgt_epi8(k.a, below));
        n.b = _mm256_sub_epi8(n.b, _mm256_cmpgt_epi8(k.b, below));
    }
    return n;
}
static inline __m256i sign4(__m256i code, __m256i sign, bool only_nonzero) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i m = _mm256_cmpgt_epi8(zero, sign);
    if (only_nonzero)
        m = _mm256_andnot_si256(_mm256_cmpeq_epi8(code, zero), m);
    return _mm256_or_si256(code, _mm256_and_si256(m, _mm256_set1_epi8(8)));
}
/* Codes with 8 where the byte of `sign` is negative; if only_nonzero, not where the code is 0. */
static inline bytes64 b_sign4(bytes64 code, bytes64 sign, bool only_nonzero) {
    return (bytes64){sign4(code.a, sign.a, only_nonzero), sign4(code.b, sign.b, only_nonzero)};
}

/* Four codes of b bits to a dword's lowest 4 b bits. */
static inline __m256i four(__m256i x, int b) {
    const __m256i two = _mm256_maddubs_epi16(x, _mm256_set1_epi16((short)(1 | 256 << b)));
    return _mm256_madd_epi16(two, _mm256_set1_epi32(1 | 65536 << 2 * b));
}
/* Two vectors of dwords below 2^16 to words. */
static inline __m256i words_of(__m256i x, __m256i y) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(x, y), 0xd8);
}
/* Three bytes of each dword to 24 bytes. */
static inline void store_three_of_four(u8 *p, __m256i x) {
    const __m256i at = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    x = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(x, at),
                                    _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    store16(p, _mm256_castsi256_si128(x));
    store8(p + 16, _mm256_extracti128_si256(x, 1));
}
/* 32 codes of five bits: a qword has 40 bits, five words of each half are stored. */
static inline void store_fives(u8 *p, __m256i x) {
    const __m256i at = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 8, 9, 10, 11, 12, -1, -1, -1, -1, -1, -1));
    x = _mm256_srli_epi64(_mm256_sllv_epi32(four(x, 5), _mm256_set1_epi64x(12)), 12);
    x = _mm256_shuffle_epi8(x, at);
    const __m128i lo = _mm256_castsi256_si128(x), hi = _mm256_extracti128_si256(x, 1);
    store8(p, lo);
    lb_store_u16(p + 8, (u16)_mm_extract_epi16(lo, 4));
    store8(p + 10, hi);
    lb_store_u16(p + 18, (u16)_mm_extract_epi16(hi, 4));
}

/* 64 codes of b bits to 8 b bytes. */
static inline void b_pack(u8 *p, bytes64 c, u32 b) {
    const __m256i nibbles = _mm256_set1_epi16(0x1001);
    __m256i x;
    switch (b) {
    case 1:
        lb_store_u32(p, (u32)_mm256_movemask_epi8(_mm256_slli_epi16(c.a, 7)));
        lb_store_u32(p + 4, (u32)_mm256_movemask_epi8(_mm256_slli_epi16(c.b, 7)));
        break;
    case 2:
        x = words_of(four(c.a, 2), four(c.b, 2));
        store16(p, _mm_packus_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
        break;
    case 3:
        x = words_of(four(c.a, 3), four(c.b, 3));
        store_three_of_four(p, _mm256_madd_epi16(x, _mm256_set1_epi32(1 | 4096 << 16)));
        break;
    case 4:
        x = _mm256_packus_epi16(_mm256_maddubs_epi16(c.a, nibbles),
                                _mm256_maddubs_epi16(c.b, nibbles));
        store32(p, _mm256_permute4x64_epi64(x, 0xd8));
        break;
    case 5:
        store_fives(p, c.a);
        store_fives(p + 20, c.b);
        break;
    case 6:
        store_three_of_four(p, four(c.a, 6));
        store_three_of_four(p + 24, four(c.b, 6));
        break;
    default:
        b_store(p, c);
    }
}

#endif
#endif
