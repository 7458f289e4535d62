/* SPDX-License-Identifier: Apache-2.0 */
/* iq_fields_avx2.h: packed signs and scales of an IQ-quant block, unpacked for all its groups.
 *
 * d is the block's scale with the powers of two that the caller's values need; every product of it
 * with a scale is exact. dl: 8 or 16 scales, signs: bit i % 8 of byte i / 8 for value i. */
#ifndef LB_KERNEL_IQ_FIELDS_AVX2_H
#define LB_KERNEL_IQ_FIELDS_AVX2_H
#ifdef __AVX2__

#include "kernel/blocks_k.h"
#include "kernel/spread_avx2.h"

/* 7 signs in each byte (bit 7 zero): bit 7 becomes their parity. */
static inline __m256i lb_iq_add_parity(__m256i s) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i parity =
        _mm256_broadcastsi128_si256(/* of 0..15, at bit 7 */
                                    _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0,
                                                  -128, 0, -128, -128, 0));
    const __m256i x = _mm256_xor_si256(s, _mm256_srli_epi16(s, 4));
    return _mm256_or_si256(s, _mm256_shuffle_epi8(parity, _mm256_and_si256(x, nibble)));
}

/* Eight u32 of four packed signs each (28 bits) to 32 sign bytes. */
static inline __m256i lb_iq_unpack_signs(__m256i aux) {
    const __m256i a = _mm256_and_si256(aux, _mm256_set1_epi32(0x7f));
    const __m256i b = _mm256_and_si256(_mm256_slli_epi32(aux, 1), _mm256_set1_epi32(0x7f00));
    const __m256i c = _mm256_and_si256(_mm256_slli_epi32(aux, 2), _mm256_set1_epi32(0x7f0000));
    const __m256i d = _mm256_and_si256(_mm256_slli_epi32(aux, 3), _mm256_set1_epi32(0x7f000000));
    return lb_iq_add_parity(_mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)));
}

/* d (sc + half) for eight sc. */
static inline __m256 lb_iq_scales8(float d, __m256i sc, float half) {
    return _mm256_mul_ps(_mm256_set1_ps(d),
                         _mm256_add_ps(_mm256_cvtepi32_ps(sc), _mm256_set1_ps(half)));
}

/* 8 bytes of two nibbles, low first: 16 scales d (0.5 + sc). */
static inline void lb_iq_scales_nibbles(float *out, const u8 packed[8], float d) {
    const __m128i v = lb_load8(packed), nibble = _mm_set1_epi8(15);
    const __m128i sc =
        _mm_unpacklo_epi8(_mm_and_si128(v, nibble), _mm_and_si128(_mm_srli_epi16(v, 4), nibble));
    _mm256_store_ps(out, lb_iq_scales8(d, _mm256_cvtepu8_epi32(sc), 0.5f));
    _mm256_store_ps(out + 8, lb_iq_scales8(d, _mm256_cvtepu8_epi32(_mm_srli_si128(sc, 8)), 0.5f));
}

/* dl[g] = d (0.5 + sc). */
static inline void lb_iq2_xxs_fields(const lb_block_iq2_xxs *b, float d, float dl[8],
                                     u8 signs[32]) {
    /* The second dword of each group of 8 bytes, as lanes 0 1 4 5 2 3 6 7 and back in order. */
    const __m256i aux = _mm256_permute4x64_epi64(
        _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(lb_load32(b->qs)),
                                              _mm256_castsi256_ps(lb_load32(b->qs + 32)), 0xdd)),
        0xd8);
    _mm256_store_ps(dl, lb_iq_scales8(d, _mm256_srli_epi32(aux, 28), 0.5f));
    _mm256_store_si256((__m256i *)(void *)signs, lb_iq_unpack_signs(aux));
}

/* dl[i / 16] = d (0.5 + sc). */
static inline void lb_iq2_xs_fields(const lb_block_iq2_xs *b, float d, float dl[16], u8 signs[32]) {
    lb_iq_scales_nibbles(dl, b->scales, d);
    /* vpackuswb works within lanes: 64-bit quarters 0 2 1 3 restore the order. */
    const __m256i s = _mm256_packus_epi16(_mm256_srli_epi16(lb_load32(b->qs), 9),
                                          _mm256_srli_epi16(lb_load32(b->qs + 32), 9));
    _mm256_store_si256((__m256i *)(void *)signs,
                       lb_iq_add_parity(_mm256_permute4x64_epi64(s, 0xd8)));
}

/* dl[g] = d (0.5 + sc). */
static inline void lb_iq3_xxs_fields(const lb_block_iq3_xxs *b, float d, float dl[8],
                                     u8 signs[32]) {
    const __m256i aux = lb_load32(b->aux);
    _mm256_store_ps(dl, lb_iq_scales8(d, _mm256_srli_epi32(aux, 28), 0.5f));
    _mm256_store_si256((__m256i *)(void *)signs, lb_iq_unpack_signs(aux));
}

/* dl[g] = d (0.5 + sc). */
static inline void lb_iq3_s_scales(const lb_block_iq3_s *b, float d, float dl[8]) {
    const __m256i nibbles = _mm256_srlv_epi32(_mm256_set1_epi32((int)lb_load_u32(b->scales)),
                                              _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const __m256i sc = _mm256_and_si256(nibbles, _mm256_set1_epi32(15));
    _mm256_store_ps(dl, lb_iq_scales8(d, sc, 0.5f));
}

/* dl[g] = d (0.5 + sc). */
static inline void lb_iq1_s_scales(const lb_block_iq1_s *b, float d, float dl[8]) {
    const __m128i high = lb_load16(b->qh);
    const __m128i sc = _mm_and_si128(_mm_srli_epi16(high, 12), _mm_set1_epi16(7));
    _mm256_store_ps(dl, lb_iq_scales8(d, _mm256_cvtepu16_epi32(sc), 0.5f));
}

/* dl[i / 16] = d (0.5 + sc). */
static inline void lb_iq1_m_scales(const lb_block_iq1_m *b, float d, float dl[16]) {
    for (unsigned j = 0; j < 2; j++) {
        const int s0 = lb_load_u16(b->scales + 4 * j), s1 = lb_load_u16(b->scales + 4 * j + 2);
        const __m256i s = _mm256_srlv_epi32(_mm256_setr_epi32(s0, s0, s0, s0, s1, s1, s1, s1),
                                            _mm256_setr_epi32(0, 3, 6, 9, 0, 3, 6, 9));
        const __m256i sc = _mm256_and_si256(s, _mm256_set1_epi32(7));
        _mm256_store_ps(dl + 8 * j, lb_iq_scales8(d, sc, 0.5f));
    }
}

/* dl[g] = d (sc - 32). */
static inline void lb_iq4_xs_scales(const lb_block_iq4_xs *b, float d, float dl[8]) {
    const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)lb_load_u32(b->scales_l)),
                                          _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    /* bits 4-5 of the scales: up by 4 first, so that every shift is to the right */
    const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(lb_load_u16(b->scales_h) << 4),
                                           _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    const __m256i sc = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                                       _mm256_and_si256(high, _mm256_set1_epi32(48)));
    _mm256_store_ps(dl, lb_iq_scales8(d, sc, -32.0f));
}

#endif
#endif
