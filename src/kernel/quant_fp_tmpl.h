/* SPDX-License-Identifier: Apache-2.0 */
/* quant_fp_tmpl.h: MLX's quantizers to mxfp4, mxfp8 and nvfp4 in the words of quant_<isa>.h; see
 * quant_tmpl.h. */
#ifndef LB_KERNEL_QUANT_FP_TMPL_H
#define LB_KERNEL_QUANT_FP_TMPL_H
#include "kernel/quant_tmpl.h"

V_INLINE void amax_groups_as(batch *b, const u8 *in, lb_round type) {
    float *v = b->v;
    for (size_t g = 0; g < b->n; g++) {
        vint top = vi_set(0);
        for (size_t i = 0; i < b->group; i += V_LANES) {
            const vec x = v_load_as(in, i, type);
            v_put(v + i, x);
            top = vi_max(top, v_bits(v_abs(x)));
        }
        const u32 bits = (u32)vi_reduce_max(top);
        b->hi[g] = lb_f32_from_bits(bits);
        b->redo |= (u32)(bits > 0x7f7fffffu) << g;
        in += b->group * lb_float_bytes(type);
        v += b->group;
    }
}

/* Values and largest magnitudes, the latter in hi. */
static void amax_groups(batch *b, const u8 *in, lb_round type) {
    b->redo = 0;
    if (type == LB_ROUND_NONE)
        amax_groups_as(b, in, LB_ROUND_NONE);
    else if (type == LB_ROUND_BF16)
        amax_groups_as(b, in, LB_ROUND_BF16);
    else
        amax_groups_as(b, in, LB_ROUND_F16);
    batch_end(b);
}

enum { MODE_MXFP4, MODE_MXFP8, MODE_NVFP4 };

/* The byte of the smallest power of two not below t, and its reciprocal. Subnormals: 2^-127 is
 * 0x400000. The CPU keeps e + 127 whatever it is: t = 0 has e = 0, subnormals go to the reference.
 */
V_INLINE vec mx_batch_scale(vec t, vint *byte, u32 *redo, bool cpu) {
    const vint bits = v_bits(t);
    vint e = vi_srl(vi_add(bits, vi_set(0x7fffff)), 23);
    if (cpu) {
        const vmask none = vi_gt(vi_set(1), bits);
        *redo = v_mask_bits(vi_gt(vi_set(0x800000), vi_pick(none, vi_set(0x800000), bits)));
        e = vi_pick(none, vi_set(127), e);
    } else {
        e = vi_pick(vi_gt(bits, vi_set(0x400000)), e, vi_set(0));
    }
    *byte = e;
    return v_floats(vi_sll(vi_sub(vi_set(254), e), 23));
}

/* The byte of E4M3 nearest to t and its value. */
V_INLINE vec nv_batch_scale(vec t, vint *byte) {
    const vint code = e4m3_codes(t);
    const vec low = v_mul(v_floats(vi_add(code, vi_set(0x4b000000))), v_set(0x1p-9f));
    const vint high = vi_add(vi_sll(code, 20), vi_set(120u << 23));
    *byte = code;
    return v_pick(vi_gt(vi_set(8), code), v_sub(low, v_set(0x1p14f)), v_floats(high));
}

/* scale[]: what values are multiplied by, or, nvfp4 on the CPU, divided by. */
V_INLINE void fp_batch_params(batch *b, u8 *out, int mode, float encode, lb_round type, bool cpu) {
    float bytes_at[BATCH]; /* their bits are the bytes */
    for (size_t i = 0; i < BATCH; i += V_LANES) {
        vint byte;
        vec t = v_div(v_load(b->hi + i), v_set(mode == MODE_MXFP8 ? 448.0f : 6.0f));
        u32 redo = 0;
        t = cpu ? v_round_as(t, type) : t;
        if (mode == MODE_NVFP4) {
            t = v_mul(t, v_set(encode));
            const vec s = nv_batch_scale(t, &byte), zero = v_set(0);
            redo = v_mask_bits(v_gt(t, v_set(448)));
            redo |= cpu ? v_mask_bits(v_eq(s, zero)) : 0;
            v_put(b->scale + i, cpu ? s : v_pick(v_eq(s, zero), zero, v_div(v_set(encode), s)));
        } else {
            v_put(b->scale + i, mx_batch_scale(t, &byte, &redo, cpu));
            if (cpu && type == LB_ROUND_F16) /* 2^16 is none of its values */
                redo |= v_mask_bits(v_gt(t, v_set(32768)));
        }
        v_put(bytes_at + i, v_floats(byte));
        b->redo |= redo << i;
    }
    for (size_t g = 0; g < b->n; g++)
        out[g] = (u8)lb_f32_bits(bytes_at[g]);
}

/* Thresholds in terms of floor(4 x) + ceil(4 x), which says on which side of a whole number 4 x is:
 * to the nearest, ties to the even code (Metal) or to the smaller (CPU). */
V_INLINE bytes64 e2m1_64(const vec q[N_VEC], bool cpu) {
    static const i8 even[7] = {3, 6, 11, 14, 21, 28, 41}, lower[7] = {3, 7, 11, 15, 21, 29, 41};
    vint k[N_VEC], sign[N_VEC];
#pragma GCC unroll 16
    for (size_t i = 0; i < N_VEC; i++) {
        const vec x = v_min(v_mul(v_abs(q[i]), v_set(4)), v_set(48));
        k[i] = v_to_int(v_add(v_floor(x), v_ceil(x)));
        sign[i] = v_bits(q[i]);
    }
    return b_sign4(b_count(b_signed(k), cpu ? lower : even), b_signed(sign), cpu);
}

V_INLINE void fp_batch_codes(const batch *b, u8 *codes, int mode, float encode, lb_round type,
                             bool cpu) {
    const u32 shift = mode == MODE_NVFP4 ? 4 : 5, bits = mode == MODE_MXFP8 ? 8 : 4;
    const chunks end = {.n_elems = b->n * b->group};
    for (chunks c = end; c.at < c.n_elems; c.at += 64) {
        vec q[N_VEC];
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++) {
            const size_t e = c.at + k * V_LANES;
            const vec x = v_load(b->v + e),
                      s = v_set(b->scale[LB_MIN(e >> shift, (size_t)BATCH - 1)]);
            if (mode == MODE_NVFP4 && cpu)
                q[k] = v_mul(v_round_as(v_div(x, s), type), v_set(encode));
            else
                q[k] = cpu ? v_round_as(v_mul(x, s), type) : v_mul(x, s);
        }
        bytes64 out;
        if (mode == MODE_MXFP8) {
            vint code[N_VEC];
#pragma GCC unroll 16
            for (size_t k = 0; k < N_VEC; k++)
                code[k] = e4m3_signed(q[k]);
            out = b_unsigned(code);
        } else {
            out = e2m1_64(q, cpu);
        }
        if (c.n_elems - c.at >= 64) {
            b_pack(codes + c.at / 8 * bits, out, bits);
        } else {
            u8 cut[64];
            b_pack(cut, out, bits);
            memcpy(codes + c.at / 8 * bits, cut, (c.n_elems - c.at) / 8 * bits);
        }
    }
}

V_INLINE void fp_batch(batch *b, u8 *codes, u8 *scale, int mode, float encode, u32 how) {
    const lb_round type = lb_quant_round(how);
    if (how & LB_QUANT_CPU) {
        fp_batch_params(b, scale, mode, encode, type, true);
        fp_batch_codes(b, codes, mode, encode, type, true);
    } else {
        fp_batch_params(b, scale, mode, encode, type, false);
        fp_batch_codes(b, codes, mode, encode, type, false);
    }
}

V_INLINE u64 quant_fp(size_t n_groups, void *codes, void *scale, const void *in, float global,
                      u32 how, int mode, lb_k_quant_mlx_mxfp4_fn *ref) {
    const size_t group = mode == MODE_NVFP4 ? 16 : 32;
    const size_t in_bytes = group * lb_float_bytes(lb_quant_in(how));
    const size_t code_bytes = mode == MODE_MXFP8 ? group : group / 2;
    const float encode = global > 0 ? 2688.0f / global : 1.0f;
    batch b;
    u64 n_odd = 0;
    batch_init(&b, group);
    for (size_t g = 0; g < n_groups; g += b.n) {
        const u8 *p = (const u8 *)in + g * in_bytes;
        u8 *out = (u8 *)codes + g * code_bytes, *s = (u8 *)scale + g;
        b.n = LB_MIN(n_groups - g, (size_t)BATCH);
        amax_groups(&b, p, lb_quant_in(how));
        fp_batch(&b, out, s, mode, encode, how);
        for (size_t i = 0; b.redo >> i && i < b.n; i++)
            if (b.redo >> i & 1)
                n_odd += ref(1, out + i * code_bytes, s + i, p + i * in_bytes, global, how);
    }
    return n_odd;
}

static u64 quant_mxfp4(size_t n_groups, void *codes, void *scale, const void *in,
                       float global_scale, u32 how) {
    return quant_fp(n_groups, codes, scale, in, global_scale, how, MODE_MXFP4,
                    lb_k_quant_mlx_mxfp4_ref);
}

static u64 quant_mxfp8(size_t n_groups, void *codes, void *scale, const void *in,
                       float global_scale, u32 how) {
    return quant_fp(n_groups, codes, scale, in, global_scale, how, MODE_MXFP8,
                    lb_k_quant_mlx_mxfp8_ref);
}

static u64 quant_nvfp4(size_t n_groups, void *codes, void *scale, const void *in,
                       float global_scale, u32 how) {
    return quant_fp(n_groups, codes, scale, in, global_scale, how, MODE_NVFP4,
                    lb_k_quant_mlx_nvfp4_ref);
}

#endif
