/* SPDX-License-Identifier: Apache-2.0 */
/* quant_mlx_ref.c: scalar references of the quantizers of MLX's types: affine groups, mxfp4, mxfp8,
 * nvfp4, by both rules that mlx has.
 *
 * Sources: mlx 0.32.4: backend/cpu/quantized.cpp quantize() and ops.cpp fp_quantize()'s graph (the
 * CPU rule, compared with mx.quantize); backend/metal/kernels/quantized.h affine_quantize,
 * fp_quantized.h fp_quantize, fp4.h, fp8.h (the Metal rule, compared with that text compiled for
 * the host; the CUDA backend has the same). Metal's kernels are built with -fno-fast-math: division
 * is IEEE, min and max are fmin and fmax. What a GPU makes of NaN in simd_min and simd_max and of
 * subnormal f32 (it may read them as zero) no text says: NaN is passed over here as fmin does it,
 * and subnormals count. */
#include "kernel/quant_mlx.h"

/* To the nearest integer: ties to even (CPU) or away from zero (Metal). */
static float round_by(float x, bool cpu) {
    const float a = lb_f32_abs(x);
    if (!(a < 0x1p23f)) /* whole, infinite or NaN */
        return x;
    float r = (float)(i32)a;
    if (cpu ? a - r > 0.5f || (a - r == 0.5f && ((i32)a & 1)) : a - r >= 0.5f)
        r += 1;
    return lb_f32_from_bits(lb_f32_bits(r) | (lb_f32_bits(x) & 0x80000000u));
}

/* std::max keeps a NaN that stands first, fmax does not. */
static float at_least(float x, float eps, bool cpu) {
    return cpu ? (x < eps ? eps : x) : (x > eps ? x : eps);
}

typedef struct affine {
    float scale, bias;
    bool odd; /* a value of the group is not finite */
} affine;

/* The minimum is the first of equals: the bias of one bit shows the sign of zero. */
static affine affine_params(const void *in, size_t first, size_t n, u32 bits, u32 how) {
    const bool cpu = how & LB_QUANT_CPU;
    const float inf = lb_f32_from_bits(0x7f800000u), eps = 1e-7f;
    const float n_bins = (float)((1u << bits) - 1);
    float lo = inf, hi = cpu ? -inf : 0.0f;
    affine a = {0};
    for (size_t i = first; i < first + n; i++) {
        const float x = lb_float_load(in, i, lb_quant_in(how));
        a.odd = a.odd || !lb_f32_is_finite(x);
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
    }
    if (bits == 1) {
        a.scale = at_least(hi - lo, eps, cpu);
        a.bias = lo;
        return a;
    }
    const bool side = lb_f32_abs(lo) > lb_f32_abs(hi);
    a.scale = at_least((hi - lo) / n_bins, eps, cpu);
    a.scale = side ? a.scale : -a.scale;
    const float edge = side ? lo : hi;
    const float q0 = round_by(edge / a.scale, cpu);
    if (q0 < 0 || q0 > 0 || q0 != q0) {
        a.scale = edge / q0;
        a.bias = edge;
    }
    return a;
}

/* NaN becomes 0 on the CPU (a conversion that x86 and Arm agree on) and n on Metal (fmin). */
static u32 affine_code(float x, affine a, float n_bins, bool cpu) {
    const float q = round_by((x - a.bias) / a.scale, cpu);
    if (cpu)
        return q > 0 ? (u32)(q < n_bins ? q : n_bins) : 0;
    return q < n_bins ? (u32)(q > 0 ? q : 0) : (u32)n_bins;
}

static u64 quant_affine(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                        const void *in, u32 how, u32 bits) {
    const float n_bins = (float)((1u << bits) - 1);
    u8 *p = codes;
    u64 n_odd = 0;
    for (size_t g = 0; g < n_groups; g++) {
        affine a = affine_params(in, g * group_elems, group_elems, bits, how);
        if (how & LB_QUANT_STORED) {
            a.scale = lb_float_round(a.scale, lb_quant_round(how));
            a.bias = lb_float_round(a.bias, lb_quant_round(how));
        }
        u32 have = 0, word = 0; /* bits collected, at the bottom of word */
        for (size_t i = g * group_elems; i < (g + 1) * group_elems; i++) {
            const float x = lb_float_load(in, i, lb_quant_in(how));
            word |= affine_code(x, a, n_bins, how & LB_QUANT_CPU) << have;
            for (have += bits; have >= 8; have -= 8, word >>= 8)
                *p++ = (u8)word;
        }
        const bool scale_fits = lb_float_store(scale, g, a.scale, lb_quant_round(how));
        const bool bias_fits = lb_float_store(bias, g, a.bias, lb_quant_round(how));
        n_odd += a.odd || !scale_fits || !bias_fits;
    }
    return n_odd;
}

u64 lb_k_quant_mlx_q1_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 1);
}

u64 lb_k_quant_mlx_q2_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 2);
}

u64 lb_k_quant_mlx_q3_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 3);
}

u64 lb_k_quant_mlx_q4_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 4);
}

u64 lb_k_quant_mlx_q5_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 5);
}

u64 lb_k_quant_mlx_q6_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 6);
}

u64 lb_k_quant_mlx_q8_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, 8);
}

/* ---- floating modes ---- */

/* The exponent of the smallest power of two that is not below t; t > 0, finite. */
static i32 ceil_log2(float t) {
    u32 bits = lb_f32_bits(t);
    i32 extra = 0;
    if (bits < 0x800000u) { /* subnormal: exact times 2^23 */
        bits = lb_f32_bits(t * 0x1p23f);
        extra = -23;
    }
    return (i32)(bits >> 23) - 127 + extra + ((bits & 0x7fffffu) != 0);
}

static float power_of_2(i32 e) {
    return e >= -126 ? lb_f32_from_bits((u32)(e + 127) << 23) : lb_f32_from_bits(1u << (e + 149));
}

/* What the codes of one group need: its scale's byte and how a value is brought to the codes'
 * range. */
typedef struct fp_group {
    u8 byte;
    float scale;  /* CPU: the value is divided by it, rounded to the type of the weights, */
    float factor; /* then multiplied by this; Metal: multiplied by this */
    bool odd;
} fp_group;

/* The CPU keeps e + 127 in a byte whatever it is: below 2^-127 the byte means another scale, which
 * counts as odd. A group with NaN or Inf has gone through conversions of infinity to integers,
 * which x86 makes these bytes of. */
static void mx_params_cpu(fp_group *g, float amax, float top, lb_round type) {
    const float t = lb_float_round(amax / top, type);
    i32 e = 0;
    g->factor = 1;
    if (!lb_f32_is_finite(t)) {
        g->byte = type == LB_ROUND_NONE ? 128 : 0;
        return;
    }
    if (t > 0)
        e = ceil_log2(t);
    g->byte = (u8)(e + 127);
    g->scale = lb_float_round(power_of_2(e), type);
    g->odd = g->odd || e < -127;
}

static void mx_params_metal(fp_group *g, float amax, float top) {
    const float t = amax / top;
    if (!lb_f32_is_finite(t)) {
        g->byte = 0xff; /* read as Inf */
        return;
    }
    const i32 e = t > 0 ? LB_MAX(ceil_log2(t), -127) : -127;
    g->byte = (u8)(e + 127);
    g->factor = 1.0f / power_of_2(e);
}

/* A scale beyond 448 counts as odd: the group's largest values are cut. */
static void nv_params(fp_group *g, float amax, float global, u32 how) {
    const bool cpu = how & LB_QUANT_CPU;
    const float encode = global > 0 ? 2688.0f / global : 1.0f; /* 448 * 6 */
    const float t = (cpu ? lb_float_round(amax / 6.0f, lb_quant_round(how)) : amax / 6.0f) * encode;
    g->byte = LB_MIN(lb_e4m3_from_abs(t), (u8)0x7e);
    g->scale = lb_e4m3_to_f32(g->byte);
    g->factor = cpu ? encode : g->scale > 0 ? encode / g->scale : 0;
    g->odd = g->odd || t > 448;
}

static fp_group fp_params(const void *in, size_t first, size_t n, float global, u32 how) {
    const bool cpu = how & LB_QUANT_CPU;
    const float top = lb_quant_bits(how) == 8 ? 448.0f : 6.0f;
    fp_group g = {0};
    float amax = 0;
    for (size_t i = first; i < first + n; i++) {
        const float a = lb_f32_abs(lb_float_load(in, i, lb_quant_in(how)));
        g.odd = g.odd || !lb_f32_is_finite(a);
        amax = a > amax || (cpu && a != a) ? a : amax; /* the CPU's maximum keeps NaN */
    }
    if (n == 16)
        nv_params(&g, amax, global, how);
    else if (cpu)
        mx_params_cpu(&g, amax, top, lb_quant_round(how));
    else
        mx_params_metal(&g, amax, top);
    return g;
}

/* The nearest code is the first of the smallest differences, in f32 (nvfp4) or the type of the
 * weights, where small and large values may tie: so -0 and what is nearest to it have code 0. */
static u8 e2m1_cpu(float q, lb_round type) {
    static const float value[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    u8 best = 0;
    float least = lb_float_round(lb_f32_abs(q), type);
    for (u8 c = 1; c < 16; c++) {
        const float d = lb_float_round(lb_f32_abs(q - value[c]), type);
        if (d < least) {
            least = d;
            best = c;
        }
    }
    return best;
}

static u8 fp_code(float x, const fp_group *g, bool is_nv, u32 how) {
    const bool cpu = how & LB_QUANT_CPU, is_8 = lb_quant_bits(how) == 8;
    const lb_round type = lb_quant_round(how);
    float q = x * g->factor;
    if (cpu)
        q = lb_float_round(x / g->scale, type) * g->factor;
    if (cpu && !is_8)
        return e2m1_cpu(q, is_nv ? LB_ROUND_NONE : type);
    const u8 sign = (u8)(lb_f32_bits(x) >> 31);
    if (cpu && !(x < 0 || x > 0) && !(g->scale > 0) && x == x) /* 0 / 0, as x86 signs it */
        return 0xfe;
    if (is_8)
        return (u8)(LB_MIN(lb_e4m3_from_abs(lb_f32_abs(q)), (u8)0x7e) | sign << 7);
    return q == q ? (u8)(lb_e2m1_from_abs(lb_f32_abs(q)) | (lb_f32_bits(q) >> 31) << 3) : 7;
}

static u64 quant_fp(size_t n_groups, size_t group_elems, void *codes, void *scale, const void *in,
                    float global, u32 how) {
    const bool is_nv = group_elems == 16;
    u8 *p = codes, *s = scale;
    u64 n_odd = 0;
    for (size_t g = 0; g < n_groups; g++) {
        const fp_group f = fp_params(in, g * group_elems, group_elems, global, how);
        s[g] = f.byte;
        n_odd += f.odd;
        for (size_t i = g * group_elems; i < (g + 1) * group_elems; i++) {
            const u8 c = fp_code(lb_float_load(in, i, lb_quant_in(how)), &f, is_nv, how);
            if (lb_quant_bits(how) == 8)
                p[i] = c;
            else if (i % 2)
                p[i / 2] = (u8)(p[i / 2] | c << 4);
            else
                p[i / 2] = c;
        }
    }
    return n_odd;
}

/* `how` with the bits of a code in their place. */
static u32 with_bits(u32 how, u32 bits) {
    return (how & ~(15u << 8)) | bits << 8;
}

u64 lb_k_quant_mlx_mxfp4_ref(size_t n_groups, void *codes, void *scale, const void *in,
                             float global_scale, u32 how) {
    (void)global_scale;
    return quant_fp(n_groups, 32, codes, scale, in, 0, with_bits(how, 4));
}

u64 lb_k_quant_mlx_mxfp8_ref(size_t n_groups, void *codes, void *scale, const void *in,
                             float global_scale, u32 how) {
    (void)global_scale;
    return quant_fp(n_groups, 32, codes, scale, in, 0, with_bits(how, 8));
}

u64 lb_k_quant_mlx_nvfp4_ref(size_t n_groups, void *codes, void *scale, const void *in,
                             float global_scale, u32 how) {
    return quant_fp(n_groups, 16, codes, scale, in, global_scale, with_bits(how, 4));
}
