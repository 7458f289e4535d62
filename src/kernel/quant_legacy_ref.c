/* SPDX-License-Identifier: Apache-2.0 */
/* quant_legacy_ref.c: f32 to ggml's small block types, the scalar definition (quant.h). Blocks are
 * laid out as legacy_ref.c describes. */
#include "kernel/kernel.h"
#include "kernel/quant.h"

/* The element of the largest magnitude of a block, the first of equals. */
static float extreme(const float *x, size_t n, float *magnitude) {
    float most = 0, at = 0;
    for (size_t j = 0; j < n; j++)
        if (most < fabsf(x[j])) {
            most = fabsf(x[j]);
            at = x[j];
        }
    *magnitude = most;
    return at;
}

/* A NaN makes the search start anew behind it. */
static float largest(const float *x, size_t n) {
    float most = 0;
    for (size_t j = 0; j < n; j++)
        most = most > fabsf(x[j]) ? most : fabsf(x[j]);
    return most;
}

static float inverse_of(float d) {
    return d != 0 ? 1.0f / d : 0;
}

/* 32 codes of five bits (or four, whose fifth is zero): low halves as 16 bytes, then the fifth
 * bits. */
static u32 pack_halves(u8 *qs, const u8 *q) {
    u32 high = 0;
    for (size_t j = 0; j < 16; j++) {
        qs[j] = (u8)((q[j] & 15) | (q[j + 16] & 15) << 4);
        high |= (u32)(q[j] >> 4 & 1) << j | (u32)(q[j + 16] >> 4 & 1) << (j + 16);
    }
    return high;
}

/* ---- one scale: q4_0, q5_0: codes 0..2 half - 1, the extreme at 0 ---- */

static u16 quant_symmetric(i32 half, const float *x, u8 *q) {
    float magnitude;
    const float d = extreme(x, 32, &magnitude) / (float)-half;
    const float inverse = inverse_of(d);
    for (size_t j = 0; j < 32; j++) {
        const i32 code = (i8)lb_truncate(x[j] * inverse + ((float)half + 0.5f));
        q[j] = (u8)LB_MIN(2 * half - 1, code);
    }
    return lb_quant_f16(d);
}

static u16 quant_symmetric_weighted(i32 half, const float *x, const float *importance, float sigma2,
                                    u8 *q) {
    float w[32];
    lb_quant_weights(w, importance, x, 32, sigma2);
    return lb_quant_f16(lb_fit_symmetric(32, half, x, w, q));
}

void lb_k_quant_q4_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    const float sigma2 = importance ? lb_sum_squares(in, n_elems) / (float)n_elems : 0;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 18) {
        u8 q[32];
        lb_store_u16(y, importance
                            ? quant_symmetric_weighted(8, in + at, importance + at, sigma2, q)
                            : quant_symmetric(8, in + at, q));
        for (size_t j = 0; j < 16; j++)
            y[2 + j] = (u8)(q[j] | q[j + 16] << 4);
    }
}

void lb_k_quant_q5_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    const float sigma2 = importance ? lb_sum_squares(in, n_elems) / (float)n_elems : 0;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 22) {
        u8 q[32];
        lb_store_u16(y, importance
                            ? quant_symmetric_weighted(16, in + at, importance + at, sigma2, q)
                            : quant_symmetric(16, in + at, q));
        lb_store_u32(y + 2, pack_halves(y + 6, q));
    }
}

/* ---- scale and minimum: q4_1, q5_1 ---- */

/* limit: the largest code that a conversion may give, 255 where ggml does not limit it. */
static void quant_affine(u8 *head, i32 q_max, i32 limit, const float *x, u8 *q) {
    float min = 0x1.fffffep127f, max = -0x1.fffffep127f;
    for (size_t j = 0; j < 32; j++) {
        min = x[j] < min ? x[j] : min;
        max = x[j] > max ? x[j] : max;
    }
    const float d = (max - min) / (float)q_max;
    const float inverse = inverse_of(d);
    for (size_t j = 0; j < 32; j++) {
        const i32 code = lb_truncate((x[j] - min) * inverse + 0.5f);
        q[j] = (u8)(limit == 255 ? code : LB_MIN(limit, (i8)code));
    }
    lb_store_u16(head, lb_quant_f16(d));
    lb_store_u16(head + 2, lb_quant_f16(min));
}

static void quant_affine_weighted(u8 *head, i32 q_max, const float *x, const float *importance,
                                  float sigma2, u8 *q) {
    const lb_affine_search search = {q_max, -0.9f, 0.05f, 36, false};
    float w[32], minus;
    lb_quant_weights(w, importance, x, 32, sigma2);
    const float d = lb_fit_affine(&search, 32, x, w, q, &minus);
    lb_store_u16(head, lb_quant_f16(d));
    lb_store_u16(head + 2, lb_quant_f16(-minus));
}

void lb_k_quant_q4_1_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    const float sigma2 = importance ? lb_sum_squares(in, n_elems) / (float)n_elems : 0;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 20) {
        u8 q[32];
        if (importance)
            quant_affine_weighted(y, 15, in + at, importance + at, sigma2, q);
        else
            quant_affine(y, 15, 15, in + at, q);
        for (size_t j = 0; j < 16; j++)
            y[4 + j] = (u8)(q[j] | q[j + 16] << 4);
    }
}

void lb_k_quant_q5_1_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)tables;
    const float sigma2 = importance ? lb_sum_squares(in, n_elems) / (float)n_elems : 0;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 24) {
        u8 q[32];
        if (importance)
            quant_affine_weighted(y, 31, in + at, importance + at, sigma2, q);
        else
            quant_affine(y, 31, 255, in + at, q);
        lb_store_u32(y + 4, pack_halves(y + 8, q));
    }
}

/* ---- q8_0 and the types of one and two bits: importance changes nothing ---- */

void lb_k_quant_q8_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 34) {
        const float d = largest(in + at, 32) / 127;
        const float inverse = inverse_of(d);
        lb_store_u16(y, lb_quant_f16(d));
        for (size_t j = 0; j < 32; j++)
            y[2 + j] = (u8)lb_round_away(in[at + j] * inverse);
    }
}

void lb_k_quant_q1_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 128, y += 18) {
        float sum = 0;
        memset(y, 0, 18);
        for (size_t j = 0; j < 128; j++) {
            sum += fabsf(in[at + j]);
            y[2 + j / 8] |= (u8)((in[at + j] >= 0) << j % 8);
        }
        lb_store_u16(y, lb_quant_f16(sum / 128));
    }
}

void lb_k_quant_q2_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 64, y += 18) {
        float d;
        extreme(in + at, 64, &d);
        const float inverse = inverse_of(d);
        memset(y, 0, 18);
        lb_store_u16(y, lb_quant_f16(d));
        for (size_t j = 0; j < 64; j++) {
            const i32 q = lb_clamp(lb_round_away(in[at + j] * inverse), -1, 2) + 1;
            y[2 + j / 4] |= (u8)(q << 2 * (j % 4));
        }
    }
}

/* ---- ternary: codes 0, 1, 2 of -d, 0, d ---- */

/* The low 32 bits of a 64-bit rounding, as lroundf's result is used. */
static u32 ternary(float x) {
    if (!(x >= -0x1p63f && x < 0x1p63f))
        return 1;
    if (fabsf(x) >= 0x1p31f)
        return (u32)(i64)x + 1;
    return (u32)lb_round_away(x) + 1;
}

/* n_digits base-3 digits, stride apart, as the fraction byte / 256 rounded up; shift: one more
 * digit of zero. */
static u8 pack_trits(const float *x, size_t stride, size_t n_digits, bool shift, float inverse) {
    u8 q = 0;
    for (size_t n = 0; n < n_digits; n++)
        q = (u8)((u8)(q * 3) + ternary(x[n * stride] * inverse));
    if (shift)
        q = (u8)(q * 3);
    return (u8)(((u32)q * 256 + 242) / 243);
}

void lb_k_quant_tq1_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 256, y += 54) {
        const float *x = in + at;
        const float d = largest(x, 256);
        const float inverse = inverse_of(d);
        for (size_t m = 0; m < 32; m++)
            y[m] = pack_trits(x + m, 32, 5, false, inverse);
        for (size_t m = 0; m < 16; m++)
            y[32 + m] = pack_trits(x + 160 + m, 16, 5, false, inverse);
        for (size_t m = 0; m < 4; m++)
            y[48 + m] = pack_trits(x + 240 + m, 4, 4, true, inverse);
        lb_store_u16(y + 52, lb_quant_f16(d));
    }
}

void lb_k_quant_tq2_0_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 256, y += 66) {
        const float *x = in + at;
        const float d = largest(x, 256);
        const float inverse = inverse_of(d);
        for (size_t j = 0; j < 64; j++) {
            const float *p = x + j / 32 * 128 + j % 32;
            y[j] = 0;
            for (u32 n = 0; n < 4; n++)
                y[j] |= (u8)((ternary(p[32 * n] * inverse) & 3) << 2 * n);
        }
        lb_store_u16(y + 64, lb_quant_f16(d));
    }
}

/* ---- E2M1 codes: mxfp4, nvfp4 ---- */

/* Twice the E2M1 value of a code, as in decoding. */
static const i8 fp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* The code whose value times scale is nearest to x, the first of equals. */
static u8 nearest_fp4(float x, float scale) {
    u8 best = 0;
    float best_error = fabsf(0 * scale - x);
    for (u8 q = 1; q < 16; q++) {
        const float error = fabsf((float)fp4_doubled[q] * scale - x);
        if (error < best_error) {
            best = q;
            best_error = error;
        }
    }
    return best;
}

/* floor(log2f(x)) of a finite x > 0. As log2f rounds to f32, the values just below 2^e come out as
 * e: the last n of 24 bits below, n / 2^24 / ln 2 being half the distance of e's f32 neighbours.
 * glibc's log2f gives these values for every f32 (seen by trying them all). */
static i32 floor_log2f(float x) {
    u32 bits = lb_f32_bits(x);
    i32 e = (i32)(bits >> 23) - 127;
    bits &= 0x7fffffu;
    if (e == -127) { /* subnormal */
        while (!(bits & 0x800000u)) {
            bits <<= 1;
            e--;
        }
        e++;
        bits &= 0x7fffffu;
    }
    const i32 up = e + 1;
    i32 k = 0; /* half the distance below `up` is 2^(k - 24) for |up| in (2^k, 2^(k+1)], [ if
                  negative */
    while (up > 0 ? up > 2 << k : -up >= 2 << k)
        k++;
    const float n = 0.69314718f * (float)(1 << k);
    return up != 0 && up != 1 && (float)(0x800000u - bits) <= n ? up : e;
}

/* 32 elements: u8 e (E8M0), u8 qs[16]. The exponent is what the largest value has, less that of 4.
 */
void lb_k_quant_mxfp4_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y += 17) {
        float magnitude;
        extreme(in + at, 32, &magnitude);
        /* below 2^-125 the byte wraps around, and for Inf it is 0 */
        y[0] = magnitude > 0 && magnitude < 0x1p128 ? (u8)(floor_log2f(magnitude) + 125) : 0;
        const float d = lb_f32_from_bits(y[0] < 2 ? 0x200000u << y[0] : (u32)(y[0] - 1) << 23);
        for (size_t j = 0; j < 16; j++)
            y[1 + j] = (u8)(nearest_fp4(in[at + j], d) | nearest_fp4(in[at + j + 16], d) << 4);
    }
}

/* E4M3 without a sign, halves away from zero, 0x7e (448) at most. */
static u8 ue4m3_from_f32(float x) {
    if (!(x > 0))
        return 0;
    if (x > 448)
        x = 448;
    const u32 bits = lb_f32_bits(x);
    const i32 e = (i32)(bits >> 23) - 120;
    if (e <= 0) {
        const i32 m = (i32)(x * 512 + 0.5f);
        return (u8)LB_MIN(m, 7);
    }
    if (e >= 15)
        return 0x7e;
    const u32 code = ((u32)e << 3 | (bits >> 20 & 7)) + (bits >> 19 & 1);
    return (u8)(code >= 15 << 3 ? 0x7e : code);
}

/* Half the value. */
static float ue4m3_half(u8 x) {
    const u32 e = x >> 3, m = x & 7;
    return e == 0 ? (float)m * 0x1p-10f : lb_f32_from_bits((e + 127 - 8) << 23 | m << 20);
}

/* 64 elements: u8 d[4] (E4M3), u8 qs[32]. */
void lb_k_quant_nvfp4_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables) {
    (void)importance;
    (void)tables;
    u8 *y = out;
    for (size_t at = 0; at < n_elems; at += 64, y += 36) {
        for (size_t s = 0; s < 4; s++) {
            const float *x = in + at + 16 * s;
            float magnitude;
            extreme(x, 16, &magnitude);
            y[s] = ue4m3_from_f32(magnitude / 6);
            const float d = ue4m3_half(y[s]);
            for (size_t j = 0; j < 8; j++)
                y[4 + 8 * s + j] = (u8)(nearest_fp4(x[j], d) | nearest_fp4(x[j + 8], d) << 4);
        }
    }
}
