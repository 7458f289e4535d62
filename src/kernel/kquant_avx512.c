/* SPDX-License-Identifier: Apache-2.0 */
/* kquant_avx512.c: K-quant blocks to f32 with AVX-512.
 *
 * q2_k and q4_k look values up: the 4 or 16 values of a sub-block are one fused multiply-subtract.
 * The others convert 64 codes a step (spread_avx512.h); a block's second run of 32 bytes goes
 * beside its first, or the same 32 bytes stand in both halves, shifted by different counts. Same
 * bits as the reference for the reasons in kquant_avx2.c. Blocks whose scale is Inf or NaN go to
 * the reference. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/blocks_avx512.h"

void lb_kinit_kquant_avx512(lb_kernels *k);

#define DECODE(type)                                                                             \
    static void decode_##type(size_t n_elems, float *out, const void *in) {                      \
        lb_decode_blocks(n_elems, out, in, sizeof(lb_block_##type), fields_##type, block_##type, \
                         lb_k_decode_f32_##type##_ref);                                          \
    }

static inline __m512i set8(int x) {
    return _mm512_set1_epi8((char)x);
}

static inline __m128 two_f16(u32 a, u32 b) {
    return _mm_cvtph_ps(_mm_cvtsi32_si128((int)(a | b << 16)));
}

/* `low` for the first 32 bytes, `high` for the others, as counts of 16-bit shifts. */
static inline __m512i counts(short low, short high) {
    return _mm512_inserti64x4(_mm512_set1_epi16(low), _mm256_set1_epi16(high), 1);
}

/* out[0..16) = d q - m, q in the low two bits of each dword. */
static inline void put4(float *out, __m512i q, const float *d, const float *m) {
    const __m512 code = _mm512_broadcast_f32x4(_mm_setr_ps(0, 1, 2, 3));
    const __m512 v = _mm512_fmsub_ps(_mm512_set1_ps(*d), code, _mm512_set1_ps(*m));
    _mm512_storeu_ps(out, _mm512_permutevar_ps(v, q));
}

static inline void fields_q2_k(lb_block_fields *f, const void *block) {
    const lb_block_q2_k *const b = block;
    const u16 hd = lb_load_u16(b->d), hm = lb_load_u16(b->dmin);
    const __m128 both = two_f16(hd, hm);
    const __m512i s = lb_dwords16(b->scales);
    const __m512 sc = _mm512_cvtepi32_ps(_mm512_and_si512(s, _mm512_set1_epi32(15)));
    const __m512 m = _mm512_cvtepi32_ps(_mm512_srli_epi32(s, 4));
    f->is_finite = lb_f16_is_finite(hd) && lb_f16_is_finite(hm);
    _mm512_store_ps(f->d, _mm512_mul_ps(_mm512_broadcastss_ps(both), sc));
    _mm512_store_ps(f->m, _mm512_mul_ps(_mm512_broadcastss_ps(_mm_movehdup_ps(both)), m));
}

static inline void block_q2_k(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_q2_k *const b = block;
    for (unsigned c = 0; c < 4; c++) { /* 16 bytes: a quarter of the codes */
        const __m512i q = lb_dwords16(b->qs + 16 * c);
        const unsigned s = c / 2 * 8 + c % 2;
        put4(out + 16 * s, q, f->d + s, f->m + s);
        put4(out + 16 * s + 32, _mm512_srli_epi32(q, 2), f->d + s + 2, f->m + s + 2);
        put4(out + 16 * s + 64, _mm512_srli_epi32(q, 4), f->d + s + 4, f->m + s + 4);
        put4(out + 16 * s + 96, _mm512_srli_epi32(q, 6), f->d + s + 6, f->m + s + 6);
    }
}

DECODE(q2_k)

/* out[0..16) and out[16..32) = d[0] q and d[1] q for codes at 16k, `far` on: d[8] and d[9]. */
static inline void put_pair(float *out, __m512i dealt, const float *d, size_t next, size_t far,
                            size_t far_d) {
    const __m512 a = lb_high16(dealt, 0), b = lb_high16(dealt, 1);
    const __m512 x = lb_high16(dealt, 2), y = lb_high16(dealt, 3);
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(d[0]), a));
    _mm512_storeu_ps(out + 16, _mm512_mul_ps(_mm512_set1_ps(d[next]), b));
    _mm512_storeu_ps(out + far, _mm512_mul_ps(_mm512_set1_ps(d[far_d]), x));
    _mm512_storeu_ps(out + far + 16, _mm512_mul_ps(_mm512_set1_ps(d[far_d + next]), y));
}

/* The 16 scales of q3_k, -32 .. 31: lb_k3_scales in one register, without a way through memory
 * (4-byte stores that a 16-byte load waits for). */
static inline __m512 scales_k3(const u8 packed[12]) {
    const u32 a = lb_load_u32(packed), b = lb_load_u32(packed + 4), c = lb_load_u32(packed + 8);
    const __m128i ab = _mm_setr_epi32((int)a, (int)b, (int)(a >> 4), (int)(b >> 4));
    const __m128i high = _mm_sllv_epi32(_mm_set1_epi32((int)c), _mm_setr_epi32(4, 2, 0, 0));
    const __m128i c4 = _mm_srlv_epi32(high, _mm_setr_epi32(0, 0, 0, 2));
    const __m128i sc =
        _mm_or_si128(_mm_and_si128(ab, _mm_set1_epi8(15)), _mm_and_si128(c4, _mm_set1_epi8(48)));
    const __m512i x = _mm512_cvtepi8_epi32(_mm_sub_epi8(sc, _mm_set1_epi8(32)));
    return _mm512_cvtepi32_ps(x);
}

/* 64 codes q - 4 in the top three bits of their bytes: low bits at 5-6, the inverted high bit at 7.
 */
static inline __m512i code_q3_k(__m512i qs_moved, __m512i not_high_moved) {
    return _mm512_ternarylogic_epi32(_mm512_and_si512(qs_moved, set8(0x60)), not_high_moved,
                                     set8(0x80), 0xf8); /* a | (b & c) */
}

static inline void fields_q3_k(lb_block_fields *f, const void *block) {
    const lb_block_q3_k *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    const __m512 d = _mm512_set1_ps(_cvtsh_ss(hd) * 0x1p-29f);
    _mm512_store_ps(f->d, _mm512_mul_ps(d, scales_k3(b->scales)));
}

static inline void block_q3_k(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_q3_k *const b = block;
    /* Bits 0-3 of the planes for the first half of the block, 4-7 for the second. */
    const __m512i h = _mm512_srlv_epi16(lb_load32_twice(b->hmask), counts(0, 4));
    __m512i nh = lb_deal64(_mm512_slli_epi16(_mm512_xor_si512(h, set8(-1)), 4));
    __m512i q = lb_deal64(lb_load64(b->qs));
    for (unsigned p = 4; p-- > 0;) { /* the highest plane first: shifts to the left keep all bits */
        put_pair(out + 32 * p, code_q3_k(_mm512_srli_epi16(q, 1), nh), f->d + 2 * p, 1, 128, 8);
        q = _mm512_slli_epi16(q, 2);
        nh = _mm512_slli_epi16(nh, 1);
    }
}

DECODE(q3_k)

/* Scales of q4_k and q5_k, d sc and dmin m: lb_k4_scales in registers. */
static inline void scales_k4(lb_block_fields *f, const u8 packed[12], u16 hd, u16 hm) {
    const u32 a = lb_load_u32(packed), b = lb_load_u32(packed + 4), c = lb_load_u32(packed + 8);
    const u32 sc4 = (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u);
    const u32 m4 = (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u);
    const __m128i sc = _mm_cvtsi64_si128((i64)((u64)sc4 << 32 | (a & 0x3f3f3f3fu)));
    const __m128i m = _mm_cvtsi64_si128((i64)((u64)m4 << 32 | (b & 0x3f3f3f3fu)));
    const __m128 both = two_f16(hd, hm);
    const __m256 d = _mm256_broadcastss_ps(both),
                 dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(both));
    f->is_finite = lb_f16_is_finite(hd) && lb_f16_is_finite(hm);
    _mm256_store_ps(f->d, _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sc))));
    _mm256_store_ps(f->m, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(m))));
}

static inline void fields_q4_k(lb_block_fields *f, const void *block) {
    const lb_block_q4_k *const b = block;
    scales_k4(f, b->scales, lb_load_u16(b->d), lb_load_u16(b->dmin));
}

static inline void block_q4_k(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_q4_k *const b = block;
    const __m512 code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (unsigned j = 0; j < 8; j += 2) {
        const __m512i q0 = lb_dwords16(b->qs + 16 * j), q1 = lb_dwords16(b->qs + 16 * j + 16);
        const __m512 v = _mm512_fmsub_ps(_mm512_set1_ps(f->d[j]), code, _mm512_set1_ps(f->m[j]));
        const __m512 w =
            _mm512_fmsub_ps(_mm512_set1_ps(f->d[j + 1]), code, _mm512_set1_ps(f->m[j + 1]));
        float *const o = out + 32 * j;
        _mm512_storeu_ps(o, _mm512_permutexvar_ps(q0, v));
        _mm512_storeu_ps(o + 16, _mm512_permutexvar_ps(q1, v));
        _mm512_storeu_ps(o + 32, _mm512_permutexvar_ps(_mm512_srli_epi32(q0, 4), w));
        _mm512_storeu_ps(o + 48, _mm512_permutexvar_ps(_mm512_srli_epi32(q1, 4), w));
    }
}

DECODE(q4_k)

static inline void fields_q5_k(lb_block_fields *f, const void *block) {
    const lb_block_q5_k *const b = block;
    scales_k4(f, b->scales, lb_load_u16(b->d), lb_load_u16(b->dmin));
}

static inline void block_q5_k(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_q5_k *const b = block;
    __m512i high = lb_deal64(_mm512_srlv_epi16(lb_load32_twice(b->qh), counts(0, 1)));
    for (unsigned j = 0; j < 8; j += 2) {
        const __m512i low = _mm512_srlv_epi16(lb_load32_twice(b->qs + 16 * j), counts(0, 4));
        const __m512i q = _mm512_ternarylogic_epi32(_mm512_and_si512(lb_deal64(low), set8(15)),
                                                    _mm512_slli_epi16(high, 4), set8(16), 0xf8);
        const __m512 d0 = _mm512_set1_ps(f->d[j]), m0 = _mm512_set1_ps(f->m[j]);
        const __m512 d1 = _mm512_set1_ps(f->d[j + 1]), m1 = _mm512_set1_ps(f->m[j + 1]);
        float *const o = out + 32 * j;
        _mm512_storeu_ps(o, _mm512_fmsub_ps(d0, lb_low16(q, 0), m0));
        _mm512_storeu_ps(o + 16, _mm512_fmsub_ps(d0, lb_low16(q, 1), m0));
        _mm512_storeu_ps(o + 32, _mm512_fmsub_ps(d1, lb_low16(q, 2), m1));
        _mm512_storeu_ps(o + 48, _mm512_fmsub_ps(d1, lb_low16(q, 3), m1));
        high = _mm512_srli_epi16(high, 2);
    }
}

DECODE(q5_k)

/* 64 codes (q - 32) * 4: bits 0-3 at bits 2-5, bits 4-5 (their upper one inverted) at the top. */
static inline __m512i code_q6_k(__m512i low_moved, __m512i high_moved) {
    return _mm512_ternarylogic_epi32(_mm512_and_si512(low_moved, set8(0x3c)), high_moved,
                                     set8(0xc0), 0xf8);
}

static inline void fields_q6_k(lb_block_fields *f, const void *block) {
    const lb_block_q6_k *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    const __m512 d = _mm512_set1_ps(_cvtsh_ss(hd) * 0x1p-26f);
    _mm512_store_ps(f->d, _mm512_mul_ps(d, lb_signed16(b->scales)));
}

static inline void block_q6_k(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_q6_k *const b = block;
    for (unsigned h = 0; h < 2; h++) {
        const __m512i low = lb_deal64(lb_load64(b->ql + 64 * h));
        __m512i high = _mm512_xor_si512(lb_load32_twice(b->qh + 32 * h), set8(0xaa));
        high = lb_deal64(_mm512_srlv_epi16(high, counts(0, 2)));
        const __m512i q0 = code_q6_k(_mm512_slli_epi16(low, 2), _mm512_slli_epi16(high, 6));
        const __m512i q1 = code_q6_k(_mm512_srli_epi16(low, 2), _mm512_slli_epi16(high, 2));
        put_pair(out + 128 * h, q0, f->d + 8 * h, 1, 32, 2);
        put_pair(out + 128 * h + 64, q1, f->d + 8 * h + 4, 1, 32, 2);
    }
}

DECODE(q6_k)

/* The scale is an f32 and may be subnormal, so nothing is taken out of it: the reference's product.
 */
static void decode_q8_k(size_t n_elems, float *out, const void *in) {
    const lb_block_q8_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u32 bits_d = lb_load_u32(b->d);
        if ((bits_d & 0x7f800000u) == 0x7f800000u) {
            lb_k_decode_f32_q8_k_ref(LB_QK, out, b);
            continue;
        }
        const __m512 d = _mm512_set1_ps(lb_f32_from_bits(bits_d));
        for (unsigned j = 0; j < LB_QK; j += 64) {
            _mm512_storeu_ps(out + j, _mm512_mul_ps(d, lb_signed16(b->qs + j)));
            _mm512_storeu_ps(out + j + 16, _mm512_mul_ps(d, lb_signed16(b->qs + j + 16)));
            _mm512_storeu_ps(out + j + 32, _mm512_mul_ps(d, lb_signed16(b->qs + j + 32)));
            _mm512_storeu_ps(out + j + 48, _mm512_mul_ps(d, lb_signed16(b->qs + j + 48)));
        }
    }
}

void lb_kinit_kquant_avx512(lb_kernels *k) {
    k->decode_f32_q2_k = decode_q2_k;
    k->decode_f32_q3_k = decode_q3_k;
    k->decode_f32_q4_k = decode_q4_k;
    k->decode_f32_q5_k = decode_q5_k;
    k->decode_f32_q6_k = decode_q6_k;
    k->decode_f32_q8_k = decode_q8_k;
}
