/* SPDX-License-Identifier: Apache-2.0 */
/* spread_avx512.h: codes to f32 sixteen at a time, in the two ways that block decoders have.
 *
 * Look up: a code of up to four bits stands anywhere at the bottom of a dword; vpermps (16 values)
 * and vpermilps (4) look at no other bits, so nothing is masked off, and the scaled values of a
 * sub-block are computed once. lb_dwords16 brings 16 bytes there.
 * Convert: 64 codes in bytes are dealt, so that four byte shuffles spread them in order, as in
 * spread_avx2.h: lane L of the dealt bytes holds dwords L, L + 4, L + 8, L + 12. */
#ifndef LB_KERNEL_SPREAD_AVX512_H
#define LB_KERNEL_SPREAD_AVX512_H
#ifdef __AVX512BW__

#include "kernel/spread_avx2.h"

/* Hides that x is a constant. gcc 12 makes constants of repeated dwords anew wherever they are
 * used, through a general register, where a call in the loop keeps it from holding them. */
static inline __m512i lb_keep(__m512i x) {
    __asm__("" : "+v"(x));
    return x;
}

static inline __m512i lb_load64(const u8 *p) {
    return _mm512_loadu_si512(p);
}

/* 32 bytes in both halves. */
static inline __m512i lb_load32_twice(const u8 *p) {
    return _mm512_broadcast_i64x4(lb_load32(p));
}

static inline __m512i lb_dwords16(const u8 *p) {
    return _mm512_cvtepu8_epi32(lb_load16(p));
}

/* 16 signed bytes to f32. */
static inline __m512 lb_signed16(const u8 *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(lb_load16(p)));
}

/* 8 bytes: 16 nibbles, low first, at the bottom of dwords with other bits above. */
static inline __m512i lb_nibbles16(const u8 *p) {
    const __m512i at = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i eight = _mm512_broadcastq_epi64(lb_load8(p));
    return _mm512_srlv_epi32(_mm512_shuffle_epi8(eight, at), _mm512_set1_epi64((i64)4 << 32));
}

static inline __m512i lb_deal64(__m512i bytes) {
    const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(at, bytes);
}

/* Bytes 16k .. 16k+15 of dealt bytes, unsigned. */
static inline __m512 lb_low16(__m512i dealt, u32 k) {
    const u32 z = 0x80808000u + 4 * k; /* an index with bit 7 set gives zero */
    const __m128i at = _mm_setr_epi32((int)z, (int)(z + 1), (int)(z + 2), (int)(z + 3));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(dealt, _mm512_broadcast_i32x4(at)));
}

/* Bytes 16k .. 16k+15 of dealt bytes, signed, times 2^24. */
static inline __m512 lb_high16(__m512i dealt, u32 k) {
    const u32 z = 0x00808080u + (k << 26), one = 1u << 24;
    const __m128i at =
        _mm_setr_epi32((int)z, (int)(z + one), (int)(z + 2 * one), (int)(z + 3 * one));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(dealt, _mm512_broadcast_i32x4(at)));
}

#endif
#endif
