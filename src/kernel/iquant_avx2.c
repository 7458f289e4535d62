/* SPDX-License-Identifier: Apache-2.0 */
/* iquant_avx2.c: IQ-quant blocks to f32 with AVX2.
 *
 * Codebook points are plain 64- and 32-bit loads (no gathers); signs are applied to 32 bytes at
 * once by a compare with bit masks; the bytes are spread and scaled as spread_avx2.h says. Scales
 * and packed signs of a block are unpacked for all its groups before. Same bits as the reference:
 * every scale is exact in f32 (an f16 scale times at most 6 bits), so taking 2^-24 out of it
 * changes no product. Blocks whose scale is Inf or NaN go to the reference. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/blocks_k.h"
#include "kernel/iq_fields_avx2.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx2.h"

void lb_kinit_iquant_avx2(lb_kernels *k);

/* Four points of 8 values, dealt. */
static inline __m256i points8(u64 p0, u64 p1, u64 p2, u64 p3) {
    const __m128i a = _mm_set_epi64x((i64)p1, (i64)p0), b = _mm_set_epi64x((i64)p3, (i64)p2);
    return lb_deal(_mm256_setr_m128i(a, b));
}

/* Bytes of v where the mask has ff, negated. */
static inline __m256i negate(__m256i v, __m256i mask) {
    return _mm256_sub_epi8(_mm256_xor_si256(v, mask), mask);
}

/* 32 signs (bit i: value i is negative) to the masks of dealt bytes. */
static inline __m256i sign_mask(const u8 signs[4]) {
    const __m256i at =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
    const __m256i bit =
        _mm256_setr_m128i(_mm_set1_epi32(0x08040201), _mm_set1_epi32((int)0x80402010u));
    const __m256i s = _mm256_set1_epi32((int)lb_load_u32(signs));
    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(s, at), bit), bit);
}

static void decode_iq2_xxs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xxs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_xxs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[8];
        alignas(32) u8 signs[32];
        lb_iq2_xxs_fields(b, _cvtsh_ss(hd) * 0x1p-26f, dl, signs);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 8 * g;
            const __m256i v = points8(lb_iq2xxs_grid[q[0]], lb_iq2xxs_grid[q[1]],
                                      lb_iq2xxs_grid[q[2]], lb_iq2xxs_grid[q[3]]);
            lb_put_scaled(out, negate(v, sign_mask(signs + 4 * g)), dl + g, 0);
        }
    }
}

static void decode_iq2_xs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_xs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[16];
        alignas(32) u8 signs[32];
        lb_iq2_xs_fields(b, _cvtsh_ss(hd) * 0x1p-26f, dl, signs);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 8 * g;
            const __m256i v = points8(
                lb_iq2xs_grid[lb_load_u16(q) & 511], lb_iq2xs_grid[lb_load_u16(q + 2) & 511],
                lb_iq2xs_grid[lb_load_u16(q + 4) & 511], lb_iq2xs_grid[lb_load_u16(q + 6) & 511]);
            lb_put_scaled(out, negate(v, sign_mask(signs + 4 * g)), dl + 2 * g, 1);
        }
    }
}

static void decode_iq2_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq2_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[16];
        lb_iq_scales_nibbles(dl, b->scales, _cvtsh_ss(hd) * 0x1p-26f);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 4 * g;
            const u32 h = b->qh[g];
            const __m256i v = points8(
                lb_iq2s_grid[q[0] | (h << 8 & 0x300)], lb_iq2s_grid[q[1] | (h << 6 & 0x300)],
                lb_iq2s_grid[q[2] | (h << 4 & 0x300)], lb_iq2s_grid[q[3] | (h << 2 & 0x300)]);
            lb_put_scaled(out, negate(v, sign_mask(b->signs + 4 * g)), dl + 2 * g, 1);
        }
    }
}

static void decode_iq3_xxs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_xxs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq3_xxs_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[8];
        alignas(32) u8 signs[32];
        lb_iq3_xxs_fields(b, _cvtsh_ss(hd) * 0x1p-25f, dl, signs);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 8 * g;
            const u32 *t = lb_iq3xxs_grid;
            const __m256i v =
                _mm256_setr_epi32((int)t[q[0]], (int)t[q[2]], (int)t[q[4]], (int)t[q[6]],
                                  (int)t[q[1]], (int)t[q[3]], (int)t[q[5]], (int)t[q[7]]);
            lb_put_scaled(out, negate(v, sign_mask(signs + 4 * g)), dl + g, 0);
        }
    }
}

static void decode_iq3_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq3_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[8];
        lb_iq3_s_scales(b, _cvtsh_ss(hd) * 0x1p-23f, dl); /* 1 + 2 sc = 2 (0.5 + sc) */
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 8 * g;
            const u32 *t = lb_iq3s_grid, h = b->qh[g];
            const __m256i v =
                _mm256_setr_epi32((int)t[q[0] | (h << 8 & 256)], (int)t[q[2] | (h << 6 & 256)],
                                  (int)t[q[4] | (h << 4 & 256)], (int)t[q[6] | (h << 2 & 256)],
                                  (int)t[q[1] | (h << 7 & 256)], (int)t[q[3] | (h << 5 & 256)],
                                  (int)t[q[5] | (h << 3 & 256)], (int)t[q[7] | (h << 1 & 256)]);
            lb_put_scaled(out, negate(v, sign_mask(b->signs + 4 * g)), dl + g, 0);
        }
    }
}

/* 8 g + delta for dealt bytes g = -1, 0, 1: the value times 8. */
static inline __m256i ternary(__m256i g, __m256i delta) {
    const __m256i g8 = _mm256_and_si256(_mm256_slli_epi16(g, 3), _mm256_set1_epi8((char)0xf8));
    return _mm256_add_epi8(g8, delta);
}

static void decode_iq1_s(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq1_s_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[8];
        lb_iq1_s_scales(b, _cvtsh_ss(hd) * 0x1p-26f, dl); /* 2 (0.5 + sc) / 8 */
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 4 * g;
            const u32 h = lb_load_u16(b->qh + 2 * g);
            const __m256i v = points8(
                lb_iq1s_grid[q[0] | (h << 8 & 0x700)], lb_iq1s_grid[q[1] | (h << 5 & 0x700)],
                lb_iq1s_grid[q[2] | (h << 2 & 0x700)], lb_iq1s_grid[q[3] | (h >> 1 & 0x700)]);
            const __m256i delta = _mm256_set1_epi8((char)(1 - (int)(h >> 14 & 2)));
            lb_put_scaled(out, ternary(v, delta), dl + g, 0);
        }
    }
}

static void decode_iq1_m(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_m *b = in;
    const __m256i bit = _mm256_broadcastsi128_si256(_mm_setr_epi32(8, 0x80, 0x800, 0x8000));
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const u16 hd = lb_iq1m_d(b->scales);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq1_m_ref(LB_QK, out, b);
            out += LB_QK;
            continue;
        }
        alignas(32) float dl[16];
        lb_iq1_m_scales(b, _cvtsh_ss(hd) * 0x1p-26f, dl);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const u8 *q = b->qs + 4 * g;
            const u32 h = lb_load_u16(b->qh + 2 * g);
            const __m256i v = points8(
                lb_iq1s_grid[q[0] | (h << 8 & 0x700)], lb_iq1s_grid[q[1] | (h << 4 & 0x700)],
                lb_iq1s_grid[q[2] | (h & 0x700)], lb_iq1s_grid[q[3] | (h >> 4 & 0x700)]);
            const __m256i minus = _mm256_and_si256(_mm256_set1_epi32((int)h), bit);
            const __m256i delta =
                _mm256_or_si256(_mm256_cmpeq_epi32(minus, bit), _mm256_set1_epi8(1)); /* +-1 */
            lb_put_scaled(out, ternary(v, delta), dl + 2 * g, 1);
        }
    }
}

/* 16 bytes: 16 codes in the low nibbles, then 16 in the high ones; their values, dealt. */
static inline __m256i nonlinear(const u8 qs[16]) {
    const __m256i values = _mm256_broadcastsi128_si256(lb_load16((const u8 *)lb_iq4_values));
    const __m256i q = _mm256_broadcastsi128_si256(lb_load16(qs));
    const __m256i nibbles = _mm256_srlv_epi64(q, _mm256_setr_epi64x(0, 0, 4, 4));
    return lb_deal(_mm256_shuffle_epi8(values, _mm256_and_si256(nibbles, _mm256_set1_epi8(15))));
}

static void decode_iq4_nl(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_nl *b = in;
    for (size_t i = 0; i < n_elems; i += 32, b++, out += 32) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq4_nl_ref(32, out, b);
            continue;
        }
        const float d = _cvtsh_ss(hd) * 0x1p-24f;
        lb_put_scaled(out, nonlinear(b->qs), &d, 0);
    }
}

static void decode_iq4_xs(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_xs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const u16 hd = lb_load_u16(b->d);
        if (!lb_f16_is_finite(hd)) {
            lb_k_decode_f32_iq4_xs_ref(LB_QK, out, b);
            continue;
        }
        alignas(32) float dl[8];
        lb_iq4_xs_scales(b, _cvtsh_ss(hd) * 0x1p-24f, dl);
        for (unsigned g = 0; g < 8; g++)
            lb_put_scaled(out + 32 * g, nonlinear(b->qs + 16 * g), dl + g, 0);
    }
}

void lb_kinit_iquant_avx2(lb_kernels *k) {
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
