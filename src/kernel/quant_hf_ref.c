/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf_ref.c: scalar references of the quantizers of compressed-tensors' and DeepSeek's types:
 * E4M3 and integers with one scale a tensor, channel, group or block; packed groups.
 *
 * Sources: compressed-tensors 0.20 (calculate_range, calculate_qparams, _quantize, pack_to_int32):
 * every operation is rounded to the type of the weights, integers are rounded to nearest even after
 * clamping, and pack_to_int32's words are the little-endian stream of code + 2^(bits - 1).
 * transformers 5.24 Fp8Quantize: f32, the factor 448 / amax, the stored scale its reciprocal. */
#include "kernel/fold.h"
#include "kernel/quant_mlx.h"

static u64 range_of(size_t n_elems, const void *a, float minmax[2], lb_round type) {
    i32 lo = INT32_MAX, hi = INT32_MIN;
    u64 n_odd = 0;
    for (size_t i = 0; i < n_elems; i++)
        n_odd += lb_fold_range_one(lb_float_load(a, i, type), &lo, &hi);
    lb_fold_range_put(lo, hi, minmax);
    return n_odd;
}

u64 lb_k_fold_range_f16_ref(size_t n_elems, const void *a, float minmax[2]) {
    return range_of(n_elems, a, minmax, LB_ROUND_F16);
}

u64 lb_k_fold_range_bf16_ref(size_t n_elems, const void *a, float minmax[2]) {
    return range_of(n_elems, a, minmax, LB_ROUND_BF16);
}

/* ---- scales and zero points ---- */

/* What stands for a scale of zero: the type's epsilon. */
static float least_scale(lb_round type) {
    return type == LB_ROUND_NONE ? 0x1p-23f : type == LB_ROUND_BF16 ? 0x1p-7f : 0x1p-10f;
}

typedef struct params {
    float scale;
    float second; /* zero point or factor */
} params;

/* 0 is always within the range. A zero point that 0 / 0 has made is 0. */
static params ct_params(float lo, float hi, u32 how) {
    const lb_round type = lb_quant_round(how);
    const u32 bits = lb_quant_bits(how);
    const float steps = (float)((1u << bits) - 1), q_min = -(float)(1u << bits) / 2;
    params p = {0};
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    if (how & LB_QUANT_ASYM) {
        p.scale = lb_float_round(lb_float_round(hi - lo, type) / steps, type);
        const float z = lb_float_round(q_min - lb_float_round(lo / p.scale, type), type);
        p.second = lb_rint_f32(z > q_min ? LB_MIN(z, -q_min - 1) : q_min);
        if (z != z)
            p.second = 0;
    } else {
        const float top = how & LB_QUANT_FLOAT ? 448.0f : steps / 2;
        p.scale = lb_float_round(LB_MAX(-lo, hi) / top, type);
    }
    if (!(p.scale > 0))
        p.scale = least_scale(type);
    return p;
}

static params times_params(float lo, float hi) {
    const float amax = LB_MAX(lb_f32_abs(lo), lb_f32_abs(hi));
    params p = {1, 1};
    if (amax > 0) {
        p.second = 1.0f / amax * 448.0f; /* torch divides a number by a tensor so */
        p.scale = 1.0f / p.second;
    }
    return p;
}

u64 lb_k_quant_params_ref(size_t n, float *scale, float *second, const float *lo, const float *hi,
                          u32 how) {
    u64 n_odd = 0;
    for (size_t i = 0; i < n; i++) {
        const params p =
            how & LB_QUANT_TIMES ? times_params(lo[i], hi[i]) : ct_params(lo[i], hi[i], how);
        scale[i] = lb_canon_f32(p.scale);
        second[i] = lb_canon_f32(p.second);
        n_odd += !lb_f32_is_finite(scale[i]) || !lb_f32_is_finite(second[i]);
    }
    return n_odd;
}

/* ---- codes ---- */

void lb_k_quant_f8_e4m3_ref(size_t n_elems, void *out, const void *in, float scale, u32 how) {
    u8 *p = out;
    for (size_t i = 0; i < n_elems; i++) {
        const float x = lb_float_load(in, i, lb_quant_in(how));
        const float q =
            lb_float_round(how & LB_QUANT_TIMES ? x * scale : x / scale, lb_quant_round(how));
        u32 sign = lb_f32_bits(q == q ? q : x) >> 31;
        if (!(how & LB_QUANT_TIMES) && !(q < 0 || q > 0)) /* the zero point is added: no -0 */
            sign = 0;
        p[i] = (u8)(lb_e4m3_from_abs(lb_f32_abs(q)) | sign << 7);
    }
}

/* NaN becomes 0. */
static i8 int_code(float x, float scale, float zero, u32 how) {
    const lb_round type = lb_quant_round(how);
    const float half = (float)(1u << lb_quant_bits(how)) / 2;
    float q = lb_float_round(x / scale, type);
    if (how & LB_QUANT_ASYM)
        q = lb_float_round(q + zero, type);
    if (q != q)
        return 0;
    return (i8)lb_rint_f32(q > -half ? LB_MIN(q, half - 1) : -half);
}

void lb_k_quant_i8_ref(size_t n_elems, void *out, const void *in, float scale, float zero,
                       u32 how) {
    i8 *p = out;
    for (size_t i = 0; i < n_elems; i++)
        p[i] = int_code(lb_float_load(in, i, lb_quant_in(how)), scale, zero, how);
}

/* Packs codes of `bits` bits into words; the last is filled up with zeros. */
typedef struct packer {
    u8 *out;
    size_t stride; /* from word to word, in bytes */
    u64 have;      /* collected, at the bottom of word */
    u64 word;
} packer;

static void pack(packer *p, u32 code, u32 bits) {
    p->word |= (u64)code << p->have;
    p->have += bits;
    if (p->have >= 32) {
        lb_store_u32(p->out, (u32)p->word);
        p->out += p->stride;
        p->word >>= 32;
        p->have -= 32;
    }
}

static void pack_end(packer *p) {
    if (p->have)
        lb_store_u32(p->out, (u32)p->word);
}

void lb_k_pack_codes_ref(size_t n_elems, u32 bits, void *out, size_t out_stride, const void *in,
                         size_t in_stride) {
    packer p = {.out = out, .stride = 4 * out_stride};
    const i8 *code = in;
    for (size_t i = 0; i < n_elems; i++)
        pack(&p, (u32)(code[i * in_stride] + (1 << (bits - 1))) & ((1u << bits) - 1), bits);
    pack_end(&p);
}

u64 lb_k_quant_groups_ref(size_t n_groups, size_t group_elems, void *codes, void *scale, void *zero,
                          const void *in, u32 how) {
    const u32 bits = lb_quant_bits(how);
    packer p = {.out = codes, .stride = 4};
    u64 n_odd = 0;
    for (size_t g = 0; g < n_groups; g++) {
        const size_t first = g * group_elems;
        float lo = 0, hi = 0;
        bool odd = false;
        for (size_t i = first; i < first + group_elems; i++) {
            const float x = lb_float_load(in, i, lb_quant_in(how));
            odd = odd || !lb_f32_is_finite(x);
            lo = x < lo ? x : lo;
            hi = x > hi ? x : hi;
        }
        const params q = ct_params(lo, hi, how);
        const i8 z = (i8)q.second;
        for (size_t i = first; i < first + group_elems; i++) {
            const float x = lb_float_load(in, i, lb_quant_in(how));
            pack(&p, (u32)(int_code(x, q.scale, q.second, how) + (1 << (bits - 1))), bits);
        }
        if (how & LB_QUANT_ASYM)
            memcpy((u8 *)zero + g, &z, 1);
        odd = !lb_float_store(scale, g, q.scale, lb_quant_round(how)) || odd;
        n_odd += odd;
    }
    pack_end(&p);
    return n_odd;
}
