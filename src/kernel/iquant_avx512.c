/* SPDX-License-Identifier: Apache-2.0 */
/* iquant_avx512.c: IQ-quant blocks to f32 with AVX-512.
 *
 * Two points of a codebook (four of iq3) are 16 bytes, which widen to 16 dwords. The few values
 * that a codebook has differ in their lowest bits, so vpermilps (iq1: -1, 0, 1; iq2: 8, 25, 43) or
 * vpermps (iq3_s: odd 1 .. 15; iq4: any 16) turns them into scaled values without a conversion.
 * Signs are bits and go to mask registers as they stand. Indices of
 * more than eight bits are put together for the whole block. Same bits as the reference: the tables
 * hold its own products; scales are exact in f32. Blocks whose scale is Inf or NaN go to the
 * reference. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/blocks_avx512.h"
#include "kernel/iq_fields_avx2.h"
#include "kernel/iq_tables.h"

void lb_kinit_iquant_avx512(lb_kernels *k);

#define DECODE(type)                                                                             \
    static void decode_##type(size_t n_elems, float *out, const void *in) {                      \
        lb_decode_blocks(n_elems, out, in, sizeof(lb_block_##type), fields_##type, block_##type, \
                         lb_k_decode_f32_##type##_ref);                                          \
    }

/* Two points of 8 values as dwords. */
static inline __m512i points8(u64 p0, u64 p1) {
    return _mm512_cvtepu8_epi32(_mm_set_epi64x((i64)p1, (i64)p0));
}

/* Four points of 4 values. */
static inline __m512i points4(u32 p0, u32 p1, u32 p2, u32 p3) {
    return _mm512_cvtepu8_epi32(_mm_setr_epi32((int)p0, (int)p1, (int)p2, (int)p3));
}

/* 32 bytes as words. */
static inline __m512i words32(const u8 *p) {
    return _mm512_cvtepu8_epi16(lb_load32(p));
}

/* Indices of a block's points, for scalar loads. */
static inline void store32(u16 at[32], __m512i v) {
    _mm512_store_si512(at, v);
}

/* v with the signs of 16 bits turned. */
static inline __m512 with_signs(__m512 v, const u8 signs[2]) {
    return _mm512_mask_xor_ps(v, (__mmask16)lb_load_u16(signs), v, _mm512_set1_ps(-0.0f));
}

/* out[0..16) = scale * magnitude of iq2's points, with signs. */
static inline void put_iq2(float *out, __m512i points, float scale, const u8 signs[2]) {
    const __m512 values = _mm512_broadcast_f32x4(_mm_setr_ps(8, 25, 0, 43));
    const __m512 v = _mm512_mul_ps(values, _mm512_set1_ps(scale));
    _mm512_storeu_ps(out, with_signs(_mm512_permutevar_ps(v, points), signs));
}

static inline void fields_iq2_xxs(lb_block_fields *f, const void *block) {
    const lb_block_iq2_xxs *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq2_xxs_fields(b, _cvtsh_ss(hd) * 0.25f, f->d, f->signs);
}

static inline void block_iq2_xxs(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq2_xxs *const b = block;
    const u64 *const t = lb_iq2xxs_grid;
    for (unsigned g = 0; g < 8; g++, out += 32) {
        const u8 *q = b->qs + 8 * g;
        put_iq2(out, points8(t[q[0]], t[q[1]]), f->d[g], f->signs + 4 * g);
        put_iq2(out + 16, points8(t[q[2]], t[q[3]]), f->d[g], f->signs + 4 * g + 2);
    }
}

DECODE(iq2_xxs)

static inline void fields_iq2_xs(lb_block_fields *f, const void *block) {
    const lb_block_iq2_xs *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq2_xs_fields(b, _cvtsh_ss(hd) * 0.25f, f->d, f->signs);
    store32(f->at, _mm512_and_si512(lb_load64(b->qs), _mm512_set1_epi16(511)));
}

static inline void block_iq2_xs(float *out, const void *block, const lb_block_fields *f) {
    const u64 *const t = lb_iq2xs_grid;
    (void)block;
    for (unsigned s = 0; s < 16; s++, out += 16)
        put_iq2(out, points8(t[f->at[2 * s]], t[f->at[2 * s + 1]]), f->d[s], f->signs + 2 * s);
}

DECODE(iq2_xs)

/* Indices of iq2_s: bits 8-9 of point i are bits 2 (i % 4) of byte i / 4. */
static inline __m512i iq2_s_indices(const lb_block_iq2_s *b) {
    const __m512i at = _mm512_setr_epi64(0x0080008000800080, 0x0180018001800180, 0x0280028002800280,
                                         0x0380038003800380, 0x0480048004800480, 0x0580058005800580,
                                         0x0680068006800680, 0x0780078007800780);
    const __m512i h = _mm512_shuffle_epi8(_mm512_set1_epi64((i64)lb_load_u64(b->qh)), at);
    const __m512i right = _mm512_set1_epi64(0x0006000400020000);
    return _mm512_ternarylogic_epi32(words32(b->qs), _mm512_srlv_epi16(h, right),
                                     _mm512_set1_epi16(0x300), 0xf8); /* a | (b & c) */
}

static inline void fields_iq2_s(lb_block_fields *f, const void *block) {
    const lb_block_iq2_s *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq_scales_nibbles(f->d, b->scales, _cvtsh_ss(hd) * 0.25f);
    store32(f->at, iq2_s_indices(b));
}

static inline void block_iq2_s(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq2_s *const b = block;
    const u64 *const t = lb_iq2s_grid;
    for (unsigned s = 0; s < 16; s++, out += 16)
        put_iq2(out, points8(t[f->at[2 * s]], t[f->at[2 * s + 1]]), f->d[s], b->signs + 2 * s);
}

DECODE(iq2_s)

static inline void fields_iq3_xxs(lb_block_fields *f, const void *block) {
    const lb_block_iq3_xxs *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq3_xxs_fields(b, _cvtsh_ss(hd) * 0.5f, f->d, f->signs);
}

static inline void block_iq3_xxs(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq3_xxs *const b = block;
    const u32 *const t = lb_iq3xxs_grid;
    for (unsigned g = 0; g < 8; g++, out += 32) {
        const u8 *q = b->qs + 8 * g;
        const __m512 d = _mm512_set1_ps(f->d[g]);
        const __m512i p = points4(t[q[0]], t[q[1]], t[q[2]], t[q[3]]);
        const __m512i r = points4(t[q[4]], t[q[5]], t[q[6]], t[q[7]]);
        const __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(p));
        const __m512 w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(r));
        _mm512_storeu_ps(out, with_signs(v, f->signs + 4 * g));
        _mm512_storeu_ps(out + 16, with_signs(w, f->signs + 4 * g + 2));
    }
}

DECODE(iq3_xxs)

static inline void fields_iq3_s(lb_block_fields *f, const void *block) {
    const lb_block_iq3_s *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq3_s_scales(b, _cvtsh_ss(hd) * 2.0f, f->d); /* 1 + 2 sc = 2 (0.5 + sc) */
    const __m512i bit8 = _mm512_set1_epi16(256);
    const __m512i i0 = words32(b->qs), i1 = words32(b->qs + 32);
    store32(f->at, _mm512_mask_add_epi16(i0, lb_load_u32(b->qh), i0, bit8));
    store32(f->at + 32, _mm512_mask_add_epi16(i1, lb_load_u32(b->qh + 4), i1, bit8));
}

static inline void block_iq3_s(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq3_s *const b = block;
    const __m512 values = _mm512_setr_ps(0, 1, 0, 3, 0, 5, 0, 7, 0, 9, 0, 11, 0, 13, 0, 15);
    const u32 *const t = lb_iq3s_grid;
    for (unsigned g = 0; g < 8; g++, out += 32) {
        const u16 *q = f->at + 8 * g;
        const __m512i p = points4(t[q[0]], t[q[1]], t[q[2]], t[q[3]]);
        const __m512i r = points4(t[q[4]], t[q[5]], t[q[6]], t[q[7]]);
        const __m512 v = _mm512_mul_ps(values, _mm512_set1_ps(f->d[g]));
        _mm512_storeu_ps(out, with_signs(_mm512_permutexvar_ps(p, v), b->signs + 4 * g));
        _mm512_storeu_ps(out + 16, with_signs(_mm512_permutexvar_ps(r, v), b->signs + 4 * g + 2));
    }
}

DECODE(iq3_s)

/* g + 0.125 and g - 0.125 at the low two bits of g = 0, 1, -1. */
#define PLUS 0.125f, 1.125f, 0, -0.875f
#define MINUS -0.125f, 0.875f, 0, -1.125f

/* Indices of iq1_s: bits 8-10 of point i are bits 3 (i % 4) of u16 i / 4. */
static inline __m512i iq1_s_indices(const lb_block_iq1_s *b) {
    const __m512i at = _mm512_setr_epi64(0x0100010001000100, 0x0302030203020302, 0x0504050405040504,
                                         0x0706070607060706, 0x0908090809080908, 0x0b0a0b0a0b0a0b0a,
                                         0x0d0c0d0c0d0c0d0c, 0x0f0e0f0e0f0e0f0e);
    const __m512i h = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(lb_load16(b->qh)), at);
    const __m512i left = _mm512_sllv_epi16(h, _mm512_set1_epi64(0x0000000200050008));
    const __m512i high = _mm512_srlv_epi16(left, _mm512_set1_epi64(0x0001000000000000));
    return _mm512_ternarylogic_epi32(words32(b->qs), high, _mm512_set1_epi16(0x700), 0xf8);
}

static inline void fields_iq1_s(lb_block_fields *f, const void *block) {
    const lb_block_iq1_s *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq1_s_scales(b, _cvtsh_ss(hd) * 2.0f, f->d);
    store32(f->at, iq1_s_indices(b));
}

static inline void block_iq1_s(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq1_s *const b = block;
    const __m512 plus = _mm512_broadcast_f32x4(_mm_setr_ps(PLUS));
    const __m512 minus = _mm512_broadcast_f32x4(_mm_setr_ps(MINUS));
    const u64 *const t = lb_iq1s_grid;
    for (unsigned g = 0; g < 8; g++, out += 32) {
        const u16 *q = f->at + 4 * g;
        const u32 h = lb_load_u16(b->qh + 2 * g);
        const __m512i p = points8(t[q[0]], t[q[1]]), r = points8(t[q[2]], t[q[3]]);
        const __mmask16 is_minus = (__mmask16)(0u - (h >> 15));
        const __m512 v =
            _mm512_mul_ps(_mm512_mask_blend_ps(is_minus, plus, minus), _mm512_set1_ps(f->d[g]));
        _mm512_storeu_ps(out, _mm512_permutevar_ps(v, p));
        _mm512_storeu_ps(out + 16, _mm512_permutevar_ps(v, r));
    }
}

DECODE(iq1_s)

/* Indices of iq1_m: bits 8-10 of points 2i and 2i + 1 are bits 0-2 and 4-6 of byte i. */
static inline __m512i iq1_m_indices(const lb_block_iq1_m *b) {
    const __m512i h = lb_dwords16(b->qh);
    const __m512i both = _mm512_or_si512(_mm512_slli_epi32(h, 8), _mm512_slli_epi32(h, 20));
    return _mm512_ternarylogic_epi32(words32(b->qs), both, _mm512_set1_epi16(0x700), 0xf8);
}

/* By bits 3 and 7 of a byte of qh: minus 0.125 in the first and the second eight of 16 values. */
alignas(64) static const float iq1_m_values[4][16] = {{PLUS, PLUS, PLUS, PLUS},
                                                      {MINUS, MINUS, PLUS, PLUS},
                                                      {PLUS, PLUS, MINUS, MINUS},
                                                      {MINUS, MINUS, MINUS, MINUS}};

static inline void fields_iq1_m(lb_block_fields *f, const void *block) {
    const lb_block_iq1_m *const b = block;
    const u16 hd = lb_iq1m_d(b->scales);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq1_m_scales(b, _cvtsh_ss(hd) * 2.0f, f->d);
    store32(f->at, iq1_m_indices(b));
}

static inline void block_iq1_m(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq1_m *const b = block;
    const u64 *const t = lb_iq1s_grid;
    for (unsigned s = 0; s < 16; s++, out += 16) {
        const u32 h = b->qh[s];
        const __m512i p = points8(t[f->at[2 * s]], t[f->at[2 * s + 1]]);
        const float *const values = iq1_m_values[(h >> 3 & 1) | (h >> 6 & 2)];
        const __m512 v = _mm512_mul_ps(_mm512_load_ps(values), _mm512_set1_ps(f->d[s]));
        _mm512_storeu_ps(out, _mm512_permutevar_ps(v, p));
    }
}

DECODE(iq1_m)

/* 16 bytes: 16 codes in the low nibbles, then 16 in the high ones. */
static inline void put_iq4(float *out, const u8 qs[16], __m512 values, float scale) {
    const __m512i q = lb_dwords16(qs);
    const __m512 v = _mm512_mul_ps(values, _mm512_set1_ps(scale));
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(q, v));
    _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), v));
}

static void decode_iq4_nl(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_nl *b = in;
    const __m512 values = lb_signed16((const u8 *)lb_iq4_values);
    for (size_t i = 0; i < n_elems; i += 32, b++, out += 32) {
        const u16 hd = lb_load_u16(b->d);
        if (lb_f16_is_finite(hd))
            put_iq4(out, b->qs, values, _cvtsh_ss(hd));
        else
            lb_k_decode_f32_iq4_nl_ref(32, out, b);
    }
}

static inline void fields_iq4_xs(lb_block_fields *f, const void *block) {
    const lb_block_iq4_xs *const b = block;
    const u16 hd = lb_load_u16(b->d);
    f->is_finite = lb_f16_is_finite(hd);
    lb_iq4_xs_scales(b, _cvtsh_ss(hd), f->d);
}

static inline void block_iq4_xs(float *out, const void *block, const lb_block_fields *f) {
    const lb_block_iq4_xs *const b = block;
    const __m512 values = lb_signed16((const u8 *)lb_iq4_values);
    for (unsigned g = 0; g < 8; g++)
        put_iq4(out + 32 * g, b->qs + 16 * g, values, f->d[g]);
}

DECODE(iq4_xs)

void lb_kinit_iquant_avx512(lb_kernels *k) {
    k->decode_f32_iq2_xxs = decode_iq2_xxs;
    k->decode_f32_iq2_xs = decode_iq2_xs;
    k->decode_f32_iq2_s = decode_iq2_s;
    k->decode_f32_iq3_xxs = decode_iq3_xxs;
    k->decode_f32_iq3_s = decode_iq3_s;
    k->decode_f32_iq1_s = decode_iq1_s;
    k->decode_f32_iq1_m = decode_iq1_m;
    k->decode_f32_iq4_nl = decode_iq4_nl;
    k->decode_f32_iq4_xs = decode_iq4_xs;
}
