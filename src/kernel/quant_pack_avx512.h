/* SPDX-License-Identifier: Apache-2.0 */
/* quant_pack_avx512.h: the words of quant_tmpl.h for 64 codes: to bytes, thresholds, signs, bits.
 *
 * Neighbours are joined by multiply-adds, two bytes to a word, two words to a dword; then the bytes
 * that hold bits are moved together. */
#ifndef LB_KERNEL_QUANT_PACK_AVX512_H
#define LB_KERNEL_QUANT_PACK_AVX512_H
#ifdef __AVX512BW__
#include "kernel/quant_avx512.h"

typedef struct bytes64 {
    __m512i x;
} bytes64;

static inline __m512i bytes_in_order(__m512i x) {
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
/* 64 integers to bytes without and with sign, saturated. */
static inline bytes64 b_unsigned(const vint c[4]) {
    return (bytes64){bytes_in_order(
        _mm512_packus_epi16(_mm512_packus_epi32(c[0], c[1]), _mm512_packus_epi32(c[2], c[3])))};
}
static inline bytes64 b_signed(const vint c[4]) {
    return (bytes64){bytes_in_order(
        _mm512_packs_epi16(_mm512_packs_epi32(c[0], c[1]), _mm512_packs_epi32(c[2], c[3])))};
}
static inline void b_store(u8 *p, bytes64 b) {
    _mm512_storeu_si512(p, b.x);
}
/* How many of the seven thresholds each byte reaches. */
static inline bytes64 b_count(bytes64 k, const i8 t[7]) {
    __m512i n = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi8(1);
#pragma GCC unroll 7
    for (int i = 0; i < 7; i++)
        n = _mm512_mask_add_epi8(n, _mm512_cmpge_epi8_mask(k.x, _mm512_set1_epi8(t[i])), n, one);
    return (bytes64){n};
}
/* Codes with 8 where the byte of `sign` is negative; if only_nonzero, not where the code is 0. */
static inline bytes64 b_sign4(bytes64 code, bytes64 sign, bool only_nonzero) {
    __mmask64 m = _mm512_movepi8_mask(sign.x);
    if (only_nonzero)
        m = _mm512_mask_test_epi8_mask(m, code.x, code.x);
    return (bytes64){_mm512_mask_add_epi8(code.x, m, code.x, _mm512_set1_epi8(8))};
}

static inline void store24(u8 *p, __m256i x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(x));
    _mm_storel_epi64((__m128i *)(void *)(p + 16), _mm256_extracti128_si256(x, 1));
}
/* Four codes of b bits to a dword's lowest 4 b bits. */
static inline __m512i four(__m512i x, int b) {
    const __m512i two = _mm512_maddubs_epi16(x, _mm512_set1_epi16((short)(1 | 256 << b)));
    return _mm512_madd_epi16(two, _mm512_set1_epi32(1 | 65536 << 2 * b));
}
/* Three bytes of each dword: 12 a lane, then the lanes together. */
static inline __m512i three_of_four(__m512i x) {
    const __m512i at = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15),
        _mm512_shuffle_epi8(x, at));
}

/* 64 codes of b bits to 8 b bytes. */
static inline void b_pack(u8 *p, bytes64 c, u32 b) {
    __m512i x;
    u64 m;
    switch (b) {
    case 1:
        m = _mm512_movepi8_mask(_mm512_slli_epi16(c.x, 7));
        memcpy(p, &m, 8);
        break;
    case 2:
        _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(four(c.x, 2)));
        break;
    case 3:
        x = _mm512_castsi256_si512(_mm256_madd_epi16(_mm512_cvtepi32_epi16(four(c.x, 3)),
                                                     _mm256_set1_epi32(1 | 4096 << 16)));
        store24(p, _mm512_castsi512_si256(three_of_four(x)));
        break;
    case 4:
        x = _mm512_maddubs_epi16(c.x, _mm512_set1_epi16(0x1001));
        _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi16_epi8(x));
        break;
    case 5: /* a qword's 40 bits, then five words of each lane */
        x = _mm512_sllv_epi32(four(c.x, 5), _mm512_set1_epi64(12));
        x = _mm512_srli_epi64(x, 12);
        x = _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_setr_epi8(
                                       0, 1, 2, 3, 4, 8, 9, 10, 11, 12, -1, -1, -1, -1, -1, -1)));
        x = _mm512_permutexvar_epi16(_mm512_setr_epi32(0x10000, 0x30002, 0x80004, 0xa0009, 0xc000b,
                                                       0x110010, 0x130012, 0x180014, 0x1a0019,
                                                       0x1c001b, 0, 0, 0, 0, 0, 0),
                                     x);
        _mm256_storeu_si256((__m256i *)(void *)p, _mm512_castsi512_si256(x));
        _mm_storel_epi64((__m128i *)(void *)(p + 32), _mm512_extracti32x4_epi32(x, 2));
        break;
    case 6:
        x = three_of_four(four(c.x, 6));
        _mm256_storeu_si256((__m256i *)(void *)p, _mm512_castsi512_si256(x));
        _mm_storeu_si128((__m128i *)(void *)(p + 32), _mm512_extracti32x4_epi32(x, 2));
        break;
    default:
        b_store(p, c);
    }
}

#endif
#endif
