/* SPDX-License-Identifier: Apache-2.0 */
/* refine_fp.c: groups of E2M1 and E4M3 codes whose scale is one byte: every byte near the
 * quantizer's, each with the nearest codes; and MLX's affine groups. */
#include "kernel/refine_fit.h"
#include "kernel/refine_iq.h"

static const float e2m1_values[15] = {-6,   -4, -3,   -2, -1.5f, -1, -0.5f, 0,
                                      0.5f, 1,  1.5f, 2,  3,     4,  6};
static const lb_levels e2m1 = {.lo = -6, .hi = 6, .table = e2m1_values, .n = 15};
static const lb_levels e4m3 = {.lo = -448, .hi = 448, .e4m3 = true};

static u8 e2m1_code(float y) {
    static const u8 codes[15] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7};
    u32 i = 0;
    while (e2m1_values[i] < y)
        i++;
    return codes[i];
}

static u8 e4m3_code(float y) {
    const u32 bits = lb_f32_bits(y), magnitude = bits & 0x7fffffffu, sign = bits >> 24 & 128;
    if (magnitude < 0x3c800000u)
        return (u8)(sign | (u32)(fabsf(y) * 512));
    return (u8)(sign | (magnitude - (120u << 23)) >> 20);
}

/* 2^(byte - 127) */
static float e8m0_value(u32 byte) {
    return lb_f32_from_bits(byte ? byte << 23 : 0x400000u);
}

static float ue4m3_value(u32 byte) {
    const u32 e = byte >> 3 & 15, m = byte & 7;
    return e ? lb_f32_from_bits((e + 120) << 23 | m << 20) : (float)m * 0x1p-9f;
}

/* The byte near `byte` whose codes lose least; y: the levels. */
static u8 best_byte(const lb_levels *l, size_t n, const float *x, const float *w, float unit,
                    bool mx, u8 byte, float *y) {
    const u32 reach = mx ? 2 : 8, top = mx ? 254 : 126;
    const u32 from = byte - LB_MIN((u32)byte, reach), to = LB_MIN(byte + reach, top);
    float least = INFINITY, trial[32];
    u8 best = byte;
    for (u32 b = from; b <= to; b++) {
        const float s = (mx ? e8m0_value(b) : ue4m3_value(b)) / unit;
        const float error = lb_fit_levels(l, n, x, w, s, 0, trial);
        if (error < least) {
            least = error;
            best = (u8)b;
            memcpy(y, trial, n * sizeof *y);
        }
    }
    return best;
}

void lb_refine_fp_block(lb_dtype t, const float *x, const float *w, float unit, u8 *block) {
    const bool mx = t == LB_MXFP4;
    const u32 n = mx ? 32 : 16, n_groups = mx ? 1 : 4;
    for (u32 j = 0; j < n_groups; j++) {
        float y[32] = {0};
        u8 *qs = block + n_groups + j * n / 2;
        block[j] = best_byte(&e2m1, n, x + n * j, w + n * j, unit, mx, block[j], y);
        for (u32 i = 0; i < n / 2; i++)
            qs[i] = (u8)(e2m1_code(y[i]) | e2m1_code(y[i + n / 2]) << 4);
    }
}

/* ---- MLX ---- */

static double distance(size_t n, const float *decoded, const float *x, const float *importance) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = (double)decoded[i] - (double)x[i];
        sum += (importance ? (double)importance[i] : 1) * e * e;
    }
    return sum;
}

static void weights_of(size_t n, const float *importance, float *w) {
    const float unit = importance ? lb_refine_unit(n, importance) : 1;
    for (size_t i = 0; i < n; i++)
        w[i] = importance ? importance[i] * unit : 1;
}

static bool is_less(double after, double before) {
    return after < before || (before != before && after == after);
}

static double fp_error(const lb_kernels *k, lb_refine_fp kind, size_t n, const u8 *codes,
                       const u8 *scale, const float *x, const float *importance) {
    float s, out[32];
    if (kind == LB_REFINE_NVFP4)
        k->decode_f32_f8_e4m3(1, &s, scale);
    else
        k->decode_f32_mlx_e8m0(1, &s, scale);
    if (kind == LB_REFINE_MXFP8)
        k->decode_f32_mlx_fp8(1, n, out, codes, &s);
    else
        k->decode_f32_mlx_fp4(1, n, out, codes, &s);
    return distance(n, out, x, importance);
}

void lb_refine_fp_groups(const lb_kernels *k, lb_refine_fp kind, size_t n_groups, u8 *codes,
                         u8 *scale, const float *in, const float *importance) {
    const bool mx = kind != LB_REFINE_NVFP4, eight = kind == LB_REFINE_MXFP8;
    const size_t n = mx ? 32 : 16, size = eight ? n : n / 2;
    for (size_t g = 0; g < n_groups; g++, codes += size, scale++, in += n) {
        const float unit = lb_refine_unit(n, in);
        const float *of = importance ? importance + g * n : NULL;
        float x[32], w[32], y[32] = {0};
        u8 trial[32], byte;
        weights_of(n, of, w);
        for (size_t i = 0; i < n; i++)
            x[i] = in[i] * unit;
        byte = best_byte(eight ? &e4m3 : &e2m1, n, x, w, 1 / unit, mx, *scale, y);
        for (size_t i = 0; i < n; i += 2)
            if (eight) {
                trial[i] = e4m3_code(y[i]);
                trial[i + 1] = e4m3_code(y[i + 1]);
            } else {
                trial[i / 2] = (u8)(e2m1_code(y[i]) | e2m1_code(y[i + 1]) << 4);
            }
        if (is_less(fp_error(k, kind, n, trial, &byte, in, of),
                    fp_error(k, kind, n, codes, scale, in, of))) {
            memcpy(codes, trial, size);
            *scale = byte;
        }
    }
}

typedef struct affine {
    size_t n;
    u32 bits;
    lb_round round;
} affine;

static float load_float(lb_round round, const u8 *p) {
    return round == LB_ROUND_NONE   ? lb_f32_from_bits(lb_load_u32(p))
           : round == LB_ROUND_BF16 ? lb_bf16_to_f32(lb_load_u16(p))
                                    : lb_f16_to_f32(lb_load_u16(p));
}

static void store_float(lb_round round, u8 *p, float x) {
    if (round == LB_ROUND_NONE)
        lb_store_u32(p, lb_f32_bits(x));
    else
        lb_store_u16(p, round == LB_ROUND_BF16 ? lb_bf16_from_f32(x) : lb_quant_f16(x));
}

static lb_stored_fn *stored_fn(lb_round round) {
    return round == LB_ROUND_NONE   ? lb_stored_f32
           : round == LB_ROUND_BF16 ? lb_stored_bf16
                                    : lb_stored_f16;
}

static u32 code_at(const u8 *codes, u32 bits, size_t i) {
    const size_t at = i * bits / 8, shift = i * bits % 8;
    u32 code = (u32)codes[at] >> shift;
    if (shift + bits > 8)
        code |= (u32)codes[at + 1] << (8 - shift);
    return code & ((1u << bits) - 1);
}

static void put_codes(const affine *a, const u8 *q, u8 *codes) {
    memset(codes, 0, a->n * a->bits / 8);
    for (size_t i = 0; i < a->n; i++) {
        const size_t at = i * a->bits / 8, shift = i * a->bits % 8;
        codes[at] |= (u8)(q[i] << shift);
        if (shift + a->bits > 8)
            codes[at + 1] |= (u8)(q[i] >> (8 - shift));
    }
}

/* The value as mlx decodes it. */
static float decoded(const affine *a, u32 q, float scale, float bias) {
    lb_stored_fn *round = stored_fn(a->round);
    return round(round((float)q * scale) + bias);
}

static double affine_error(const affine *a, const u8 *q, float scale, float bias, const float *x,
                           const float *importance) {
    float out[128];
    for (size_t i = 0; i < a->n; i++)
        out[i] = decoded(a, q[i], scale, bias);
    return distance(a->n, out, x, importance);
}

/* The nearest of the codes beside one by their values as they are rounded. */
static u8 settle(const affine *a, u32 q, float scale, float bias, float x) {
    u32 best = q;
    float least = fabsf(decoded(a, q, scale, bias) - x);
    for (u32 c = q ? q - 1 : 0; c <= q + 1 && c < 1u << a->bits; c++) {
        const float e = fabsf(decoded(a, c, scale, bias) - x);
        if (e < least) {
            least = e;
            best = c;
        }
    }
    return (u8)best;
}

static void refine_affine_group(const affine *a, u8 *codes, u8 *scale, u8 *bias, const float *in,
                                const float *importance) {
    const lb_levels levels = {.lo = 0, .hi = (float)((1u << a->bits) - 1)};
    const float unit = lb_refine_unit(a->n, in), s = load_float(a->round, scale);
    const float m = load_float(a->round, bias);
    float x[128], w[128];
    u8 old[128], new[128];
    weights_of(a->n, importance, w);
    for (size_t i = 0; i < a->n; i++) {
        x[i] = in[i] * unit;
        old[i] = (u8)code_at(codes, a->bits, i);
    }
    lb_group_fit g = {.levels = &levels,
                      .n = a->n,
                      .x = x,
                      .w = w,
                      .unit = 1 / unit,
                      .stored = stored_fn(a->round),
                      .affine = true,
                      .s = s * unit,
                      .off = -m * unit};
    g.error = lb_fit_levels(g.levels, g.n, x, w, g.s, g.off, g.y);
    if (!(g.error - g.error == 0))
        g.error = INFINITY;
    lb_refine_group(&g);
    const float s2 = g.s / unit, m2 = -g.off / unit;
    for (size_t i = 0; i < a->n; i++)
        new[i] = settle(a, (u32)g.y[i], s2, m2, in[i]);
    if (is_less(affine_error(a, new, s2, m2, in, importance),
                affine_error(a, old, s, m, in, importance))) {
        put_codes(a, new, codes);
        store_float(a->round, scale, s2);
        store_float(a->round, bias, m2);
    }
}

void lb_refine_affine(const lb_refine_affine_type *t, size_t n_groups, u8 *codes, u8 *scale,
                      u8 *bias, const float *in, const float *importance) {
    const affine a = {t->group_elems, t->bits, t->round};
    const size_t size = t->round == LB_ROUND_NONE ? 4 : 2;
    for (size_t g = 0; g < n_groups; g++)
        refine_affine_group(&a, codes + g * a.n * a.bits / 8, scale + g * size, bias + g * size,
                            in + g * a.n, importance ? importance + g * a.n : NULL);
}
