/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_ref.c: codes of other tools' encodings to f32; scales and zeros are applied by map_
 * kernels, in the order of the maker's code (plan/codec_foreign.c). */
#include "kernel/half.h"
#include "kernel/kernel.h"

void lb_k_decode_f32_i8_ref(size_t n_elems, float *out, const void *in) {
    const i8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = (float)p[i];
}

void lb_k_decode_f32_codes_ref(size_t n_elems, size_t first, u32 bits, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const size_t at = (first + i) * bits, shift = at % 8;
        u32 v = p[at / 8];
        if (shift + bits > 8)
            v |= (u32)p[at / 8 + 1] << 8;
        out[i] = (float)(v >> shift & ((1u << bits) - 1));
    }
}

void lb_k_decode_f32_lut4_ref(size_t n_elems, size_t first, bool upper, float *out, const void *in,
                              const float value[16], float scale) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const size_t at = first + i;
        const u32 code = (at % 2 == 1) != upper ? p[at / 2] >> 4 : p[at / 2] & 15u;
        out[i] = lb_canon_f32(value[code] * scale);
    }
}

void lb_k_decode_f32_words_ref(size_t n_elems, size_t n_cols, u32 shift_bits, float *out,
                               const void *in, size_t stride_bytes, const float *zero,
                               const float *scale) {
    const u32 bits = shift_bits >> 8, mask = (1u << bits) - 1;
    for (size_t c = 0; c < n_cols; c++) {
        const size_t at = (shift_bits & 255) + c * bits, shift = at % 32;
        const u8 *p = (const u8 *)in + at / 32 * stride_bytes;
        for (size_t i = 0; i < n_elems; i++) {
            u32 code = lb_load_u32(p + 4 * i) >> shift;
            if (shift + bits > 32)
                code |= lb_load_u32(p + stride_bytes + 4 * i) << (32 - shift);
            out[c * n_elems + i] = lb_canon_f32(((float)(code & mask) - zero[i]) * scale[i]);
        }
    }
}

/* nibble[i]: where the value at place i of a word's eight stands. */
void lb_k_decode_f32_awq_ref(size_t n_elems, size_t n_cols, float *out, const void *in,
                             size_t stride_bytes, const float *zero, const float *scale) {
    static const u8 nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    for (size_t c = 0; c < n_cols; c++) {
        const u8 *p = (const u8 *)in + c * stride_bytes;
        for (size_t i = 0; i < n_elems; i++) {
            const u32 code = lb_load_u32(p + i / 8 * 4) >> (4 * nibble[i % 8]) & 15;
            out[c * n_elems + i] = lb_canon_f32(((float)code - zero[i]) * scale[i]);
        }
    }
}
