/* SPDX-License-Identifier: Apache-2.0 */
/* legacy_ref.c: scalar references of ggml's small block types: one or two f16 scales (or one 8-bit
 * scale) for 32 to 256 codes.
 *
 * Formats: ggml/src/ggml-common.h (block_*) and dequantize_row_* of ggml/src/ggml-quants.c as of
 * llama-cpp-python 0.3.36; product and sum are rounded separately, as gguf-py's quants.py does.
 * Fields stand in a block in the order of the comment above each decoder; 16-bit fields are
 * little-endian. "halves": the low nibbles of 16 bytes are elements 0..15, the high nibbles 16..31.
 */
#include "kernel/half.h"
#include "kernel/kernel.h"

/* Twice the E2M1 value, as ggml keeps it; code 8 (-0) is +0 there. */
static const i8 fp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float scaled(i32 q, float d) {
    return lb_canon_f32((float)q * d);
}

static float affine(i32 q, float d, float m) {
    return lb_canon_f32((float)q * d + m);
}

/* 32 elements: f16 d; u8 qs[16] halves. (q - 8) d */
void lb_k_decode_f32_q4_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 18) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        for (size_t j = 0; j < 16; j++) {
            out[i + j] = scaled((p[2 + j] & 15) - 8, d);
            out[i + j + 16] = scaled((p[2 + j] >> 4) - 8, d);
        }
    }
}

/* 32 elements: f16 d, m; u8 qs[16] halves. q d + m */
void lb_k_decode_f32_q4_1_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 20) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        const float m = lb_f16_to_f32(lb_load_u16(p + 2));
        for (size_t j = 0; j < 16; j++) {
            out[i + j] = affine(p[4 + j] & 15, d, m);
            out[i + j + 16] = affine(p[4 + j] >> 4, d, m);
        }
    }
}

/* 32 elements: f16 d; u32 qh, bit i = fifth bit of element i; u8 qs[16] halves. (q - 16) d */
void lb_k_decode_f32_q5_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 22) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        const u32 qh = lb_load_u32(p + 2);
        for (size_t j = 0; j < 16; j++) {
            const u32 lo = (p[6 + j] & 15u) | (qh >> j & 1) << 4;
            const u32 hi = (u32)p[6 + j] >> 4 | (qh >> (j + 16) & 1) << 4;
            out[i + j] = scaled((i32)lo - 16, d);
            out[i + j + 16] = scaled((i32)hi - 16, d);
        }
    }
}

/* 32 elements: f16 d, m; u32 qh; u8 qs[16] halves. q d + m */
void lb_k_decode_f32_q5_1_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 24) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        const float m = lb_f16_to_f32(lb_load_u16(p + 2));
        const u32 qh = lb_load_u32(p + 4);
        for (size_t j = 0; j < 16; j++) {
            const u32 lo = (p[8 + j] & 15u) | (qh >> j & 1) << 4;
            const u32 hi = (u32)p[8 + j] >> 4 | (qh >> (j + 16) & 1) << 4;
            out[i + j] = affine((i32)lo, d, m);
            out[i + j + 16] = affine((i32)hi, d, m);
        }
    }
}

static void decode_i8(size_t n_elems, float *out, const u8 *p, size_t head_bytes) {
    for (size_t i = 0; i < n_elems; i += 32, p += head_bytes + 32) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        for (size_t j = 0; j < 32; j++)
            out[i + j] = scaled((i8)p[head_bytes + j], d);
    }
}

/* 32 elements: f16 d; i8 qs[32]. q d */
void lb_k_decode_f32_q8_0_ref(size_t n_elems, float *out, const void *in) {
    decode_i8(n_elems, out, in, 2);
}

/* 32 elements: f16 d, s = d times the sum of qs (not needed here); i8 qs[32]. q d */
void lb_k_decode_f32_q8_1_ref(size_t n_elems, float *out, const void *in) {
    decode_i8(n_elems, out, in, 4);
}

/* 128 elements: f16 d; u8 qs[16], lowest bit first. Bit 1: d, bit 0: -d */
void lb_k_decode_f32_q1_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 128, p += 18) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        for (size_t j = 0; j < 128; j++)
            out[i + j] = lb_canon_f32(p[2 + j / 8] >> (j % 8) & 1 ? d : -d);
    }
}

/* 64 elements: f16 d; u8 qs[16], lowest two bits first. (q - 1) d */
void lb_k_decode_f32_q2_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 64, p += 18) {
        const float d = lb_f16_to_f32(lb_load_u16(p));
        for (size_t j = 0; j < 64; j++)
            out[i + j] = scaled((p[2 + j / 4] >> (2 * (j % 4)) & 3) - 1, d);
    }
}

/* 32 elements: u8 e (E8M0, 255 = 2^128 as any other exponent); u8 qs[16] halves. Doubled E2M1 times
 * 2^(e-128), which is subnormal for e < 2. */
void lb_k_decode_f32_mxfp4_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 32, p += 17) {
        const float d = lb_f32_from_bits(p[0] < 2 ? 0x200000u << p[0] : (u32)(p[0] - 1) << 23);
        for (size_t j = 0; j < 16; j++) {
            out[i + j] = scaled(fp4_doubled[p[1 + j] & 15], d);
            out[i + j + 16] = scaled(fp4_doubled[p[1 + j] >> 4], d);
        }
    }
}

/* Half the E4M3 value, for doubled codes. 0x7f is 0; bit 7 is ignored, so that 0xff is 480 / 2. */
static float nvfp4_scale(u8 x) {
    const u32 e = x >> 3 & 15, m = x & 7;
    if (x == 0x7f)
        return 0;
    if (e == 0)
        return (float)m * 0x1p-10f;
    return lb_f32_from_bits((e + 127 - 8) << 23 | m << 20);
}

/* 64 elements: u8 d[4] (E4M3), one for each 16 elements; u8 qs[32]: of each 8 bytes the low nibbles
 * are elements 0..7, the high ones 8..15 of the sixteen. */
void lb_k_decode_f32_nvfp4_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 64, p += 36) {
        for (size_t s = 0; s < 4; s++) {
            const float d = nvfp4_scale(p[s]);
            const u8 *qs = p + 4 + 8 * s;
            for (size_t j = 0; j < 8; j++) {
                out[i + 16 * s + j] = scaled(fp4_doubled[qs[j] & 15], d);
                out[i + 16 * s + j + 8] = scaled(fp4_doubled[qs[j] >> 4], d);
            }
        }
    }
}

/* Digit n of a byte that holds five base-3 digits as the fraction byte / 256, first digit highest.
 */
static i32 trit(u8 byte, u32 n) {
    static const u8 pow3[5] = {1, 3, 9, 27, 81};
    return (u8)(byte * pow3[n]) * 3 >> 8;
}

/* 256 elements: u8 qs[48]: five digits a byte (bytes 0..31: elements 32 n + m; bytes 32..47:
 * elements 160 + 16 n + m); u8 qh[4]: four digits (elements 240 + 4 n + m); f16 d. (digit - 1) d */
void lb_k_decode_f32_tq1_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 256, p += 54) {
        const float d = lb_f16_to_f32(lb_load_u16(p + 52));
        for (u32 n = 0; n < 5; n++) {
            for (size_t m = 0; m < 32; m++)
                out[i + 32 * n + m] = scaled(trit(p[m], n) - 1, d);
            for (size_t m = 0; m < 16; m++)
                out[i + 160 + 16 * n + m] = scaled(trit(p[32 + m], n) - 1, d);
        }
        for (u32 n = 0; n < 4; n++)
            for (size_t m = 0; m < 4; m++)
                out[i + 240 + 4 * n + m] = scaled(trit(p[48 + m], n) - 1, d);
    }
}

/* 256 elements: u8 qs[64]: of each 32 bytes, bits 2n..2n+1 of byte m are element 32 n + m of the
 * 128; f16 d. (q - 1) d */
void lb_k_decode_f32_tq2_0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 256, p += 66) {
        const float d = lb_f16_to_f32(lb_load_u16(p + 64));
        for (size_t j = 0; j < 2; j++)
            for (size_t n = 0; n < 4; n++)
                for (size_t m = 0; m < 32; m++)
                    out[i + 128 * j + 32 * n + m] = scaled((p[32 * j + m] >> (2 * n) & 3) - 1, d);
    }
}
