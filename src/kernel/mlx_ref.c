/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_ref.c: scalar references of MLX's quantized groups.
 *
 * Format: a row is a little-endian stream of u32 words; element i has bits b i .. b i + b - 1 of
 * it, so groups (32, 64 or 128 elements) start at byte limits. Arithmetic as mx.dequantize of mlx
 * 0.32.4 on the CPU gives it (docs/facts.md): the product is rounded to the type of the scales,
 * then the sum. */
#include "kernel/half.h"
#include "kernel/kernel.h"

static float round_to(float x, u32 type) {
    if (type == LB_ROUND_BF16)
        return lb_bf16_to_f32(lb_bf16_from_f32(x));
    if (type == LB_ROUND_F16)
        return lb_f16_to_f32(lb_f16_from_f32(x));
    return x;
}

/* One group a step: bits of a code <= 8, so a code touches at most two bytes; the second is read
 * only where the code reaches into it, never past the group's end. */
static void decode_affine(size_t n_groups, size_t group_elems, float *out, const void *codes,
                          const float *scale, const float *bias, u32 round, u32 bits) {
    const u8 *p = codes;
    const u32 mask = (1u << bits) - 1;
    for (size_t g = 0; g < n_groups; g++, p += group_elems * bits / 8) {
        for (size_t i = 0; i < group_elems; i++) {
            const size_t at = i * bits / 8;
            const u32 shift = (u32)(i * bits % 8);
            u32 code = (u32)p[at] >> shift;
            if (shift + bits > 8)
                code |= (u32)p[at + 1] << (8 - shift);
            const float product = round_to((float)(code & mask) * scale[g], round & 15);
            *out++ = lb_canon_f32(round_to(product + bias[g], round >> 4));
        }
    }
}

void lb_k_decode_f32_mlx_q1_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 1);
}

void lb_k_decode_f32_mlx_q2_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 2);
}

void lb_k_decode_f32_mlx_q3_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 3);
}

void lb_k_decode_f32_mlx_q4_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 4);
}

void lb_k_decode_f32_mlx_q5_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 5);
}

void lb_k_decode_f32_mlx_q6_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 6);
}

void lb_k_decode_f32_mlx_q8_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                const float *scale, const float *bias, u32 round) {
    decode_affine(n_groups, group_elems, out, codes, scale, bias, round, 8);
}

void lb_k_decode_f32_mlx_fp4_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                 const float *scale) {
    const u8 *p = codes;
    for (size_t g = 0; g < n_groups; g++, p += group_elems / 2, out += group_elems) {
        lb_k_decode_f32_f4_ref(group_elems, out, p);
        for (size_t i = 0; i < group_elems; i++)
            out[i] = lb_canon_f32(out[i] * scale[g]);
    }
}

void lb_k_decode_f32_mlx_fp8_ref(size_t n_groups, size_t group_elems, float *out, const void *codes,
                                 const float *scale) {
    const u8 *p = codes;
    for (size_t g = 0; g < n_groups; g++, p += group_elems, out += group_elems) {
        lb_k_decode_f32_f8_e4m3_ref(group_elems, out, p);
        for (size_t i = 0; i < group_elems; i++)
            out[i] = lb_canon_f32(out[i] * scale[g]);
    }
}
