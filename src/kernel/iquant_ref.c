/* SPDX-License-Identifier: Apache-2.0 */
/* iquant_ref.c: IQ-quant blocks to f32, the scalar definition.
 *
 * Codebook points come from iq_tables.c. Each value is what ggml's dequantize_row_* gives in plain
 * f32 arithmetic, every operation rounded in the order written; a NaN is written in its one form
 * (half.h). Source of the arithmetic: ggml/src/ggml-quants.c of llama-cpp-python 0.3.36. */
#include "kernel/blocks_k.h"
#include "kernel/half.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"

/* n codebook bytes with their signs (bit j of signs: minus) times scale. */
static void put_signed(float *out, const u8 *grid, unsigned n, unsigned signs, float scale) {
    for (unsigned j = 0; j < n; j++) {
        const float v = scale * (float)grid[j];
        out[j] = lb_canon_f32(signs >> j & 1 ? -v : v);
    }
}

/* 8 values of a codebook of u64. */
static void put8(float *out, u64 point, unsigned signs, float scale) {
    u8 grid[8];
    lb_store_u64(grid, point);
    put_signed(out, grid, 8, signs, scale);
}

/* 4 + 4 values of a codebook of u32. */
static void put4x2(float *out, u32 point0, u32 point1, unsigned signs, float scale) {
    put8(out, (u64)point1 << 32 | point0, signs, scale);
}

void lb_k_decode_f32_iq2_xxs_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xxs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (const u8 *q = b->qs; q < b->qs + 64; q += 8) {
            const u32 aux = lb_load_u32(q + 4);
            const float scale = d * (0.5f + (float)(aux >> 28)) * 0.25f;
            for (unsigned l = 0; l < 4; l++, out += 8)
                put8(out, lb_iq2xxs_grid[q[l]], lb_iq_signs[aux >> 7 * l & 127], scale);
        }
    }
}

void lb_k_decode_f32_iq2_xs_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_xs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const unsigned q = lb_load_u16(b->qs + 2 * p);
            const unsigned sc = b->scales[p / 4] >> (p / 2 % 2 * 4) & 15;
            const float scale = d * (0.5f + (float)sc) * 0.25f;
            put8(out, lb_iq2xs_grid[q & 511], lb_iq_signs[q >> 9], scale);
        }
    }
}

void lb_k_decode_f32_iq2_s_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq2_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const unsigned q = b->qs[p] | ((unsigned)b->qh[p / 4] >> (p % 4 * 2) & 3) << 8;
            const unsigned sc = b->scales[p / 4] >> (p / 2 % 2 * 4) & 15;
            const float scale = d * (0.5f + (float)sc) * 0.25f;
            put8(out, lb_iq2s_grid[q], b->signs[p], scale);
        }
    }
}

void lb_k_decode_f32_iq3_xxs_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_xxs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const u32 aux = lb_load_u32(b->aux + p / 4 * 4);
            const float scale = d * (0.5f + (float)(aux >> 28)) * 0.5f;
            put4x2(out, lb_iq3xxs_grid[b->qs[2 * p]], lb_iq3xxs_grid[b->qs[2 * p + 1]],
                   lb_iq_signs[aux >> (p % 4 * 7) & 127], scale);
        }
    }
}

void lb_k_decode_f32_iq3_s_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq3_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const unsigned high = (unsigned)b->qh[p / 4] >> (p % 4 * 2);
            const unsigned q0 = b->qs[2 * p] | (high & 1) << 8;
            const unsigned q1 = b->qs[2 * p + 1] | (high >> 1 & 1) << 8;
            const unsigned sc = b->scales[p / 8] >> (p / 4 % 2 * 4) & 15;
            put4x2(out, lb_iq3s_grid[q0], lb_iq3s_grid[q1], b->signs[p], d * (float)(1 + 2 * sc));
        }
    }
}

/* 8 values: scale * (grid +- 0.125), grid one of -1, 0, 1. */
static void put_ternary(float *out, u64 point, bool minus, float scale) {
    const float delta = minus ? -0.125f : 0.125f;
    for (unsigned j = 0; j < 8; j++)
        out[j] = lb_canon_f32(scale * ((float)(i8)(point >> 8 * j & 255) + delta));
}

void lb_k_decode_f32_iq1_s_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_s *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const unsigned qh = lb_load_u16(b->qh + p / 4 * 2);
            const unsigned q = b->qs[p] | (qh >> (p % 4 * 3) & 7) << 8;
            const float scale = d * (float)(2 * (qh >> 12 & 7) + 1);
            put_ternary(out, lb_iq1s_grid[q], qh & 0x8000, scale);
        }
    }
}

void lb_k_decode_f32_iq1_m_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq1_m *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_iq1m_d(b->scales));
        for (unsigned p = 0; p < 32; p++, out += 8) {
            const unsigned qh = (unsigned)b->qh[p / 2] >> (p % 2 * 4);
            const unsigned q = b->qs[p] | (qh & 7) << 8;
            const unsigned scales = lb_load_u16(b->scales + p / 8 * 2);
            const unsigned sc = scales >> (p / 2 % 4 * 3) & 7;
            put_ternary(out, lb_iq1s_grid[q], qh & 8, d * (float)(2 * sc + 1));
        }
    }
}

/* 16 bytes: 16 values in the low nibbles, then 16 in the high ones. */
static void put_nonlinear(float *out, const u8 *qs, float scale) {
    for (unsigned j = 0; j < 16; j++) {
        out[j] = lb_canon_f32(scale * (float)lb_iq4_values[qs[j] & 15]);
        out[j + 16] = lb_canon_f32(scale * (float)lb_iq4_values[qs[j] >> 4]);
    }
}

void lb_k_decode_f32_iq4_nl_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_nl *b = in;
    for (size_t i = 0; i < n_elems; i += 32, b++, out += 32)
        put_nonlinear(out, b->qs, lb_f16_to_f32(lb_load_u16(b->d)));
}

void lb_k_decode_f32_iq4_xs_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_iq4_xs *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        const unsigned high = lb_load_u16(b->scales_h);
        for (unsigned g = 0; g < 8; g++, out += 32) {
            const unsigned low = b->scales_l[g / 2] >> (g % 2 * 4) & 15;
            const int sc = (int)(low | (high >> 2 * g & 3) << 4) - 32;
            put_nonlinear(out, b->qs + 16 * g, d * (float)sc);
        }
    }
}
