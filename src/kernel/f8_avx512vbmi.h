/* SPDX-License-Identifier: Apache-2.0 */
/* f8_avx512vbmi.h: small floats to f32 by byte tables.
 *
 * The f32 of an 8- or 6-bit float ends in 16 zero bits, so two bytes say all: vpermi2b looks them
 * up for 64 codes at once (it looks at seven bits of a code: the magnitude; vpermb at six), and
 * byte and word unpacks put them into dwords. Tables are made at the start of a call. */
#ifndef LB_KERNEL_F8_AVX512VBMI_H
#define LB_KERNEL_F8_AVX512VBMI_H
#ifdef __AVX512VBMI__

#include "kernel/half.h"
#include "kernel/spread_avx512.h"

static inline __m512i lb_first_bytes(void) { /* 0 .. 63 */
    const __m512i low = _mm512_setr_epi64(0, 8, 16, 24, 32, 40, 48, 56);
    const __m512i each = _mm512_shuffle_epi8(low, _mm512_set4_epi32(0x08080808, 0x08080808, 0, 0));
    return _mm512_add_epi8(each, _mm512_set1_epi64(0x0706050403020100));
}

/* Magnitudes 16 from .. 16 from + 15 as f32 bits: normal codes by moving the bits, those with
 * exponent 0 as an integer times the smallest step. */
static inline __m512i lb_magnitudes(int from, int man_bits, int bias) {
    const __m512i n = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i mag = _mm512_add_epi32(n, _mm512_set1_epi32(16 * from));
    const __m512i bits = _mm512_sllv_epi32(mag, _mm512_set1_epi32(23 - man_bits));
    const __m512i normal = _mm512_add_epi32(bits, _mm512_set1_epi32((127 - bias) << 23));
    const __m512i step = _mm512_set1_epi32((128 - bias - man_bits) << 23);
    const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(mag), _mm512_castsi512_ps(step));
    const __mmask16 is_low = _mm512_cmplt_epi32_mask(mag, _mm512_set1_epi32(1 << man_bits));
    return _mm512_mask_mov_epi32(normal, is_low, _mm512_castps_si512(low));
}

/* Bits 16-23 and 24-31 of 64 dwords. */
static inline void lb_top_bytes(__m512i a, __m512i b, __m512i c, __m512i d, __m512i *low,
                                __m512i *high) {
    const __m512i n = lb_first_bytes();
    const __m512i odd =
        _mm512_add_epi16(_mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(n)), 1),
                         _mm512_set1_epi16(1));
    const __m512i even = _mm512_add_epi8(n, n);
    const __m512i ab = _mm512_permutex2var_epi16(a, odd, b);
    const __m512i cd = _mm512_permutex2var_epi16(c, odd, d);
    *low = _mm512_permutex2var_epi8(ab, even, cd);
    *high = _mm512_permutex2var_epi8(ab, _mm512_add_epi8(even, _mm512_set1_epi8(1)), cd);
}

/* Bytes 2 and 3 of the f32 of 128 magnitudes. */
typedef struct lb_f8_table {
    __m512i low0, low1, high0, high1;
} lb_f8_table;

static inline lb_f8_table lb_f8_table_of(int man_bits, int bias) {
    lb_f8_table t;
    lb_top_bytes(lb_magnitudes(0, man_bits, bias), lb_magnitudes(1, man_bits, bias),
                 lb_magnitudes(2, man_bits, bias), lb_magnitudes(3, man_bits, bias), &t.low0,
                 &t.high0);
    lb_top_bytes(lb_magnitudes(4, man_bits, bias), lb_magnitudes(5, man_bits, bias),
                 lb_magnitudes(6, man_bits, bias), lb_magnitudes(7, man_bits, bias), &t.low1,
                 &t.high1);
    return t;
}

/* OFP8 E4M3: S.1111.111 is NaN: LB_NAN_BITS with the sign. */
static inline lb_f8_table lb_e4m3_table(void) {
    lb_f8_table t = lb_f8_table_of(3, 7);
    const __mmask64 last = (__mmask64)1 << 63;
    t.low1 = _mm512_mask_mov_epi8(t.low1, last, _mm512_set1_epi8((char)0xc0));
    t.high1 = _mm512_mask_mov_epi8(t.high1, last, _mm512_set1_epi8(0x7f));
    return t;
}

/* 64 dealt codes: bytes 2 and 3, with the codes' signs. */
static inline void lb_f8_bytes(const lb_f8_table *t, __m512i codes, __m512i *low, __m512i *high) {
    const __m512i mag = _mm512_permutex2var_epi8(t->high0, codes, t->high1);
    *low = _mm512_permutex2var_epi8(t->low0, codes, t->low1);
    *high =
        _mm512_ternarylogic_epi32(mag, codes, _mm512_set1_epi8((char)0x80), 0xf8); /* a | (b & c) */
}

/* Bytes 2 and 3 of 64 dealt f32 to the f32 in order. */
static inline void lb_f8_spread(__m512i low, __m512i high, __m512 out[4]) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a = _mm512_unpacklo_epi8(low, high), b = _mm512_unpackhi_epi8(low, high);
    out[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, a));
    out[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, a));
    out[2] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, b));
    out[3] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, b));
}

#endif
#endif
