/* SPDX-License-Identifier: Apache-2.0 */
/* kquant_ref.c: K-quant blocks to f32, the scalar definition.
 *
 * Each value is what ggml's dequantize_row_* gives in plain f32 arithmetic: scale times code first,
 * every operation rounded (no contraction). A NaN, which only an Inf or NaN block scale can make,
 * is written in its one form (half.h). Source of the arithmetic: ggml/src/ggml-quants.c of
 * llama-cpp-python 0.3.36. */
#include "kernel/blocks_k.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

void lb_k_decode_f32_q2_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q2_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        const float dmin = lb_f16_to_f32(lb_load_u16(b->dmin));
        for (unsigned j = 0; j < LB_QK; j++) {
            const unsigned sc = b->scales[j / 16];
            const unsigned q = b->qs[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3;
            const float dl = d * (float)(sc & 15), ml = dmin * (float)(sc >> 4);
            out[j] = lb_canon_f32(dl * (float)q - ml);
        }
    }
}

void lb_k_decode_f32_q3_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q3_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        u8 sc[16];
        lb_k3_scales(b->scales, sc);
        for (unsigned j = 0; j < LB_QK; j++) {
            const int low = b->qs[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3;
            const int q = low + (b->hmask[j % 32] >> (j / 32) & 1) * 4 - 4;
            const float dl = d * (float)(sc[j / 16] - 32);
            out[j] = lb_canon_f32(dl * (float)q);
        }
    }
}

void lb_k_decode_f32_q4_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q4_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        const float dmin = lb_f16_to_f32(lb_load_u16(b->dmin));
        u8 sc[8], m[8];
        lb_k4_scales(b->scales, sc, m);
        for (unsigned j = 0; j < LB_QK; j++) {
            const unsigned q = b->qs[j / 64 * 32 + j % 32] >> (j / 32 % 2 * 4) & 15;
            const float dl = d * (float)sc[j / 32], ml = dmin * (float)m[j / 32];
            out[j] = lb_canon_f32(dl * (float)q - ml);
        }
    }
}

void lb_k_decode_f32_q5_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q5_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        const float dmin = lb_f16_to_f32(lb_load_u16(b->dmin));
        u8 sc[8], m[8];
        lb_k4_scales(b->scales, sc, m);
        for (unsigned j = 0; j < LB_QK; j++) {
            const unsigned low = b->qs[j / 64 * 32 + j % 32] >> (j / 32 % 2 * 4) & 15;
            const unsigned q = low + ((unsigned)b->qh[j % 32] >> (j / 32) & 1) * 16;
            const float dl = d * (float)sc[j / 32], ml = dmin * (float)m[j / 32];
            out[j] = lb_canon_f32(dl * (float)q - ml);
        }
    }
}

void lb_k_decode_f32_q6_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q6_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f16_to_f32(lb_load_u16(b->d));
        for (unsigned j = 0; j < LB_QK; j++) {
            const int low = b->ql[j / 128 * 64 + j % 64] >> (j / 64 % 2 * 4) & 15;
            const int high = b->qh[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3;
            const float dl = d * (float)(i8)b->scales[j / 16];
            out[j] = lb_canon_f32(dl * (float)((low | high << 4) - 32));
        }
    }
}

void lb_k_decode_f32_q8_k_ref(size_t n_elems, float *out, const void *in) {
    const lb_block_q8_k *b = in;
    for (size_t i = 0; i < n_elems; i += LB_QK, b++, out += LB_QK) {
        const float d = lb_f32_from_bits(lb_load_u32(b->d));
        for (unsigned j = 0; j < LB_QK; j++)
            out[j] = lb_canon_f32(d * (float)(i8)b->qs[j]);
    }
}
