/* SPDX-License-Identifier: Apache-2.0 */
/* q8_scales_avx512.h: scales and minima of a chunk of stored blocks in registers, for products of a
 * row (q8_rows_tmpl.h). They are what scales_<type> writes, but for NaN's one form, which a product
 * gets at its end. All of a chunk is read. */
#ifndef LB_KERNEL_Q8_SCALES_AVX512_H
#define LB_KERNEL_Q8_SCALES_AVX512_H

#if defined(__AVX512BW__)

#include "kernel/q8_k_tmpl.h"

/* Of 16 groups of 32, or of 32 of 16. */
typedef struct chunk_scales {
    __m512 s[2], m[2];
} chunk_scales;

INLINE __m512i get64(const u8 *p) {
    return _mm512_loadu_si512((const void *)p);
}

INLINE __m128i get128(const u8 *p) {
    return _mm_loadu_si128((const void *)p);
}

INLINE __m512 f16s(__m256i x) {
    return _mm512_cvtph_ps(x);
}

/* ---- 16 blocks of 32 ---- */

/* Words of two registers: four of each, `n` apart, for 16 places in the same order; `from`: the
 * first. */
#define FOUR(n, from) (from), (n) + (from), 2 * (n) + (from), 3 * (n) + (from)
#define EIGHT(n, from) FOUR(n, from), FOUR(n, 32 + (from))
#define SIXTEEN(n, from) EIGHT(n, from), EIGHT(n, from)
/* Three of each. The last place is that of a block which ends with its register. */
#define SIX(n, from) \
    (from), (n) + (from), 2 * (n) + (from), 32 + (from), 32 + (n) + (from), 32 + 2 * (n) + (from)
#define FIFTEEN(n, from) SIX(n, from), SIX(n, from), (from), (n) + (from), 2 * (n) + (from)

typedef i16 words32 __attribute__((vector_size(64)));

/* Of the words of 16 blocks, that which `of` picks of each four of them, or of three. */
INLINE __m512i of_fours(const u8 *p, const size_t bytes, const words32 of) {
    const __m512i x = _mm512_permutex2var_epi16(get64(p), (__m512i)of, get64(p + 4 * bytes));
    const __m512i y =
        _mm512_permutex2var_epi16(get64(p + 8 * bytes), (__m512i)of, get64(p + 12 * bytes));
    return _mm512_mask_blend_epi32(0xf0f0, x, y);
}

INLINE __m512i of_threes(const u8 *p, const size_t bytes, const words32 of) {
    const __m512i x = _mm512_permutex2var_epi16(get64(p), (__m512i)of, get64(p + 3 * bytes));
    const __m512i y =
        _mm512_permutex2var_epi16(get64(p + 6 * bytes), (__m512i)of, get64(p + 9 * bytes));
    const __m512i z =
        _mm512_permutex2var_epi16(get64(p + 12 * bytes), (__m512i)of, get64(p + 16 * bytes - 64));
    return _mm512_mask_blend_epi32(0xc0c0, _mm512_mask_blend_epi32(0x3838, x, y), z);
}

INLINE __m256i of_twos(const u8 *p, const size_t bytes) {
    const i16 n = (i16)(bytes / 2), o = (i16)(n + 32);
    const __m512i of = (__m512i)(words32){0, n, 32, o, 0, n, 32, o, 0, n, 32, o, 0, n, 32, o};
    __m256i x[4];
    UNROLL for (int i = 0; i < 4; i++, p += 4 * bytes) x[i] =
        _mm512_castsi512_si256(_mm512_permutex2var_epi16(get64(p), of, get64(p + 2 * bytes)));
    return _mm256_blend_epi32(_mm256_blend_epi32(x[0], x[1], 0x0c),
                              _mm256_blend_epi32(x[2], x[3], 0xc0), 0xf0);
}

INLINE void regs_q4_0(chunk_scales *r, const u8 *p) {
    const words32 of = {SIXTEEN(9, 0)};
    r->s[0] = f16s(_mm512_castsi512_si256(of_fours(p, 18, of)));
}

INLINE void regs_of_two(chunk_scales *r, __m512i x) {
    r->s[0] = f16s(_mm512_castsi512_si256(x));
    r->m[0] = f16s(_mm512_extracti64x4_epi64(x, 1));
}

INLINE void regs_q4_1(chunk_scales *r, const u8 *p) {
    const words32 of = {SIXTEEN(10, 0), SIXTEEN(10, 1)};
    regs_of_two(r, of_fours(p, 20, of));
}

INLINE void regs_q5_0(chunk_scales *r, const u8 *p) {
    const words32 of = {FIFTEEN(11, 0), 32 + 21};
    r->s[0] = f16s(_mm512_castsi512_si256(of_threes(p, 22, of)));
}

INLINE void regs_q5_1(chunk_scales *r, const u8 *p) {
    const words32 of = {FIFTEEN(12, 0), 32 + 20, FIFTEEN(12, 1), 32 + 21};
    regs_of_two(r, of_threes(p, 24, of));
}

INLINE void regs_q8_0(chunk_scales *r, const u8 *p) {
    r->s[0] = f16s(of_twos(p, 34));
}

INLINE void regs_q8_1(chunk_scales *r, const u8 *p) {
    r->s[0] = f16s(of_twos(p, 36));
}

INLINE void regs_mxfp4(chunk_scales *r, const u8 *p) {
    u8 e[16];
    UNROLL for (size_t i = 0; i < 16; i++) e[i] = p[17 * i];
    const __m512i x = _mm512_cvtepu8_epi32(get128(e)), two = _mm512_set1_epi32(2);
    const __m512i y = _mm512_slli_epi32(_mm512_sub_epi32(x, _mm512_set1_epi32(1)), 23);
    r->s[0] = _mm512_castsi512_ps(
        _mm512_mask_sllv_epi32(y, _mm512_cmplt_epi32_mask(x, two), _mm512_set1_epi32(0x200000), x));
}

/* ---- blocks of 256 ---- */

/* The first eight or all of 16 floats: x of the first block, y of the second. */
INLINE __m512 halves_of(float x, float y) {
    return _mm512_mask_broadcastss_ps(_mm512_set1_ps(x), 0xff00, _mm_set_ss(y));
}

INLINE float f16_of(const u8 *p) {
    return _cvtsh_ss(lb_load_u16(p));
}

INLINE __m512 signed_bytes(__m128i x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
}

INLINE void regs_tq2_0(chunk_scales *r, const u8 *p) {
    r->s[0] = halves_of(f16_of(p + 64), f16_of(p + 66 + 64));
}

INLINE void regs_q8_k(chunk_scales *r, const u8 *p) {
    r->s[0] = halves_of(lb_f32_from_bits(lb_load_u32(p)), lb_f32_from_bits(lb_load_u32(p + 292)));
}

INLINE void regs_q2_k(chunk_scales *r, const u8 *p) {
    UNROLL for (int n = 0; n < 2; n++) {
        const lb_block_q2_k *b = (const lb_block_q2_k *)(const void *)p + n;
        const __m512i x = _mm512_cvtepu8_epi32(get128(b->scales));
        r->s[n] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_and_si512(x, _mm512_set1_epi32(15))),
                                _mm512_set1_ps(f16_of(b->d)));
        r->m[n] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32(x, 4)),
                                _mm512_set1_ps(-f16_of(b->dmin)));
    }
}

/* lb_k3_scales: four bits of each in eight bytes, two more in the four behind. */
INLINE void regs_q3_k(chunk_scales *r, const u8 *p) {
    UNROLL for (int n = 0; n < 2; n++) {
        const lb_block_q3_k *b = (const lb_block_q3_k *)(const void *)p + n;
        const __m128i low = _mm_srlv_epi64(_mm_set1_epi64x((i64)lb_load_u64(b->scales)),
                                           _mm_setr_epi32(0, 0, 4, 0));
        const __m128i high = _mm_rolv_epi32(_mm_set1_epi32((i32)lb_load_u32(b->scales + 8)),
                                            _mm_setr_epi32(4, 2, 0, 30));
        const __m128i x = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)),
                                       _mm_and_si128(high, _mm_set1_epi8(48)));
        r->s[n] = _mm512_mul_ps(signed_bytes(_mm_sub_epi8(x, _mm_set1_epi8(32))),
                                _mm512_set1_ps(f16_of(b->d)));
    }
}

/* Of q4_k and q5_k, lb_k4_scales: bytes 4 to 7 have scales 0 to 3, 8 to 11 minima 0 to 3, 12 to 15
 * four bits of all others, whose upper two are in the first eight. */
INLINE void regs_k4(chunk_scales *r, const u8 *p, const size_t bytes) {
    const __m256i x =
        _mm256_inserti128_si256(_mm256_castsi128_si256(get128(p)), get128(p + bytes), 1);
    const __m256i of = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m256i of_high = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11));
    const __m256i low = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_shuffle_epi8(x, of), _mm256_setr_epi32(0, 0, 0, 4, 0, 0, 0, 4)),
        _mm256_set1_epi64x(0x0f0f0f0f3f3f3f3f));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi32(_mm256_shuffle_epi8(x, of_high), 2),
                                          _mm256_set1_epi8(0x30));
    const __m256i y = _mm256_permute4x64_epi64(_mm256_or_si256(low, high), 0xd8);
    const __m512 d = _mm512_castps128_ps512(
        _mm_cvtph_ps(_mm_unpacklo_epi32(get128(p), get128(p + bytes)))); /* s, m, s, m */
    const __m512i of_s = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
    const __m512i of_m = _mm512_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3);
    r->s[0] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(y))),
                            _mm512_permutexvar_ps(of_s, d));
    const __m512 m =
        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(y, 1))),
                      _mm512_permutexvar_ps(of_m, d));
    r->m[0] = _mm512_xor_ps(m, _mm512_set1_ps(-0.0f));
}

INLINE void regs_q6_k(chunk_scales *r, const u8 *p) {
    UNROLL for (int n = 0; n < 2; n++) {
        const lb_block_q6_k *b = (const lb_block_q6_k *)(const void *)p + n;
        r->s[n] = _mm512_mul_ps(signed_bytes(get128(b->scales)), _mm512_set1_ps(f16_of(b->d)));
    }
}

INLINE void regs_iq4_xs(chunk_scales *r, const u8 *p) {
    const lb_block_iq4_xs *b = (const void *)p;
    u64 x[2];
    UNROLL for (int n = 0; n < 2; n++) x[n] =
        _pdep_u64(lb_load_u32(b[n].scales_l), 0x0f0f0f0f0f0f0f0f) |
        _pdep_u64(lb_load_u16(b[n].scales_h), 0x3030303030303030);
    const __m128i y = _mm_sub_epi8(_mm_set_epi64x((i64)x[1], (i64)x[0]), _mm_set1_epi8(32));
    r->s[0] = _mm512_mul_ps(signed_bytes(y), halves_of(f16_of(b[0].d), f16_of(b[1].d)));
}

/* Those of a type; false: it has none. The choice is made when the function is inlined. */
INLINE bool regs_of(scales_fn *of, chunk_scales *r, const u8 *p) {
#define CASE(t)             \
    if (of == scales_##t) { \
        regs_##t(r, p);     \
        return true;        \
    }
    CASE(q4_0)
    CASE(q4_1)
    CASE(q5_0)
    CASE(q5_1)
    CASE(q8_0)
    CASE(q8_1)
    CASE(mxfp4)
    CASE(tq2_0)
    CASE(q2_k)
    CASE(q3_k)
    CASE(q6_k)
    CASE(q8_k)
    CASE(iq4_xs)
#undef CASE
    if (of == scales_iq4_nl) {
        regs_q4_0(r, p);
        return true;
    }
    if (of == scales_q4_k || of == scales_q5_k) {
        regs_k4(r, p, of == scales_q4_k ? sizeof(lb_block_q4_k) : sizeof(lb_block_q5_k));
        return true;
    }
    return false;
}

#undef FOUR
#undef EIGHT
#undef SIXTEEN
#undef SIX
#undef FIFTEEN

#endif
#endif
