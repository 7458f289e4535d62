/* SPDX-License-Identifier: Apache-2.0 */
/* float_ref.c: scalar references of the plain float types: decode to f32, encode from f32.
 *
 * Formats: IEEE 754 binary16/32/64; bfloat16 = the top half of binary32; OCP 8-bit floating point
 * (OFP8 1.0: E4M3 without Inf, NaN = S.1111.111; E5M2 with Inf and NaN); OCP Microscaling (MX 1.0:
 * E2M1, E2M3, E3M2 without Inf and NaN; E8M0 = 2^(e-127), 0xff = NaN); the FNUZ variants of
 * "8-bit Numerical Formats for Deep Neural Networks" (arXiv 2206.02915: bias one higher, 0x80 =
 * NaN, no Inf, no -0), as torch 2 and ml_dtypes have them. F4 holds its first element in the low
 * nibble (torch float4_e2m1fn_x2); F6 is a little-endian bit stream: element i of four at bits
 * 6i..6i+5 of 24. */
#include "kernel/half.h"
#include "kernel/kernel.h"

/* Sign, exponent, mantissa without special codes; exact, since f32 holds each such value normally.
 */
static float small_float(u32 code, u32 exp_bits, u32 man_bits, u32 bias) {
    const u32 sign = code >> (exp_bits + man_bits) & 1;
    const u32 e = code >> man_bits & ((1u << exp_bits) - 1);
    const u32 m = code & ((1u << man_bits) - 1);
    float mag;
    if (e)
        mag = lb_f32_from_bits((e + 127 - bias) << 23 | m << (23 - man_bits));
    else
        mag = (float)m * lb_f32_from_bits((128 - bias - man_bits) << 23);
    return lb_f32_from_bits(lb_f32_bits(mag) | sign << 31);
}

void lb_k_decode_f32_f32_ref(size_t n_elems, float *out, const void *in) {
    if (n_elems)
        memcpy(out, in, n_elems * sizeof(float));
}

void lb_k_decode_f32_f16_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_f16_to_f32(lb_load_u16(p + 2 * i));
}

void lb_k_decode_f32_bf16_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_bf16_to_f32(lb_load_u16(p + 2 * i));
}

void lb_k_decode_f32_f64_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const u64 bits = lb_load_u64(p + 8 * i);
        double d;
        memcpy(&d, &bits, sizeof d);
        if (d == d)
            out[i] = (float)d;
        else
            out[i] = lb_f32_from_bits((u32)(bits >> 32 & 0x80000000u) | LB_NAN_BITS |
                                      (u32)(bits >> 29 & 0x3fffffu));
    }
}

void lb_k_decode_f32_f8_e4m3_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const u32 sign = (u32)(p[i] & 0x80u) << 24;
        out[i] = (p[i] & 0x7f) == 0x7f ? lb_f32_from_bits(sign | LB_NAN_BITS)
                                       : small_float(p[i], 4, 3, 7);
    }
}

/* E5M2 is binary16 cut to its first byte. */
void lb_k_decode_f32_f8_e5m2_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_f16_to_f32((u16)(p[i] << 8));
}

void lb_k_decode_f32_f8_e8m0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const u32 bits = p[i] ? (u32)p[i] << 23 : 0x400000u; /* 2^-127 is subnormal in f32 */
        out[i] = lb_f32_from_bits(p[i] == 0xff ? LB_NAN_BITS : bits);
    }
}

void lb_k_decode_f32_mlx_e8m0_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_f32_from_bits(p[i] ? (u32)p[i] << 23 : 0x400000u);
}

void lb_k_decode_f32_f8_e4m3fnuz_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = p[i] == 0x80 ? lb_f32_from_bits(LB_NAN_BITS) : small_float(p[i], 4, 3, 8);
}

void lb_k_decode_f32_f8_e5m2fnuz_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = p[i] == 0x80 ? lb_f32_from_bits(LB_NAN_BITS) : small_float(p[i], 5, 2, 16);
}

static void decode_f6(size_t n_elems, float *out, const u8 *p, u32 exp_bits, u32 man_bits,
                      u32 bias) {
    for (size_t i = 0; i < n_elems; i += 4, p += 3) {
        const u32 four = (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16;
        for (size_t j = 0; j < 4; j++)
            out[i + j] = small_float(four >> (6 * j) & 63, exp_bits, man_bits, bias);
    }
}

void lb_k_decode_f32_f6_e2m3_ref(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 2, 3, 1);
}

void lb_k_decode_f32_f6_e3m2_ref(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 3, 2, 3);
}

void lb_k_decode_f32_f4_ref(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i += 2) {
        out[i] = small_float(p[i / 2] & 15, 2, 1, 1);
        out[i + 1] = small_float(p[i / 2] >> 4, 2, 1, 1);
    }
}

/* ---- encode ---- */

static void count(u64 counts[2], float x, float back) {
    const u32 inf = 0x7f800000u;
    const u32 a = lb_f32_bits(x) & 0x7fffffffu;
    counts[0] += a <= inf && x != back;
    counts[1] += a < inf && (lb_f32_bits(back) & 0x7fffffffu) == inf;
}

void lb_k_encode_f32_f32_ref(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    (void)counts;
    if (n_elems)
        memcpy(out, in, n_elems * sizeof(float));
}

void lb_k_encode_f16_f32_ref(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    for (size_t i = 0; i < n_elems; i++) {
        const u16 h = lb_f16_from_f32(in[i]);
        count(counts, in[i], lb_f16_to_f32(h));
        lb_store_u16(p + 2 * i, h);
    }
}

void lb_k_encode_bf16_f32_ref(size_t n_elems, void *out, const float *in, u64 counts[2]) {
    u8 *p = out;
    for (size_t i = 0; i < n_elems; i++) {
        const u16 h = lb_bf16_from_f32(in[i]);
        count(counts, in[i], lb_bf16_to_f32(h));
        lb_store_u16(p + 2 * i, h);
    }
}
