/* SPDX-License-Identifier: Apache-2.0 */
/* quant_hf_tmpl.h: the quantizers of Hugging Face's types in the words of quant_<isa>.h; see
 * quant_tmpl.h. Rows are walked in chunks of 64; one whose quotients are not all finite, and the
 * rest, goes to the reference. */
#ifndef LB_KERNEL_QUANT_MLX_HF_TMPL_H
#define LB_KERNEL_QUANT_MLX_HF_TMPL_H
#include "kernel/fold.h"
#include "kernel/quant_tmpl.h"

/* ---- ranges ---- */

enum { RANGE_BLOCK = 512 };

/* Blocks of finite values by their ordered images; any other value by value. */
V_INLINE u64 range_as(size_t n_elems, const u8 *a, float minmax[2], lb_round type) {
    i32 lo = INT32_MAX, hi = INT32_MIN;
    u64 n_odd = 0;
    for (size_t i = 0; i < n_elems;) {
        const size_t end = LB_MIN(n_elems, i + RANGE_BLOCK), begin = i;
        vint l = vi_set(INT32_MAX), h = vi_set(0x80000000u), top = vi_set(0);
        for (; i + V_LANES <= end; i += V_LANES) {
            const vint x = v_bits(v_load_as(a, i, type));
            const vint v = vi_xor(x, vi_srl(vi_sra(x, 31), 1));
            top = vi_max(top, vi_and(x, vi_set(0x7fffffff)));
            l = vi_min(l, v);
            h = vi_max(h, v);
        }
        if (vi_reduce_max(top) >= 0x7f800000) {
            i = begin;
        } else {
            lo = LB_MIN(lo, -1 - vi_reduce_max(vi_sub(vi_set(UINT32_MAX), l)));
            hi = LB_MAX(hi, vi_reduce_max(h));
        }
        for (; i < end; i++)
            n_odd += lb_fold_range_one(lb_float_load(a, i, type), &lo, &hi);
    }
    lb_fold_range_put(lo, hi, minmax);
    return n_odd;
}

static u64 range_f16(size_t n_elems, const void *a, float minmax[2]) {
    return range_as(n_elems, a, minmax, LB_ROUND_F16);
}

static u64 range_bf16(size_t n_elems, const void *a, float minmax[2]) {
    return range_as(n_elems, a, minmax, LB_ROUND_BF16);
}

/* ---- rows with one scale ---- */

/* 64 values times or over the scale, rounded; false if one has not become finite. */
V_INLINE bool scaled_64(vec q[N_VEC], const u8 *in, lb_round type, lb_round round, vec scale,
                        bool times) {
    vec odd = v_set(0);
#pragma GCC unroll 16
    for (size_t k = 0; k < N_VEC; k++) {
        const vec x = v_load_as(in, k * V_LANES, type);
        q[k] = v_round_as(times ? v_mul(x, scale) : v_div(x, scale), round);
        odd = v_fma(q[k], v_set(0), odd);
    }
    return !v_any_nan(odd);
}

V_INLINE void quant_f8_as(size_t n_elems, u8 *out, const u8 *in, float scale, u32 how,
                          lb_round type, bool times) {
    const size_t unit = lb_float_bytes(type);
    const vec s = v_set(scale);
    for (size_t i = 0; i < n_elems; i += 64) {
        vec q[N_VEC];
        vint code[N_VEC];
        if (n_elems - i < 64 || !scaled_64(q, in + i * unit, type, lb_quant_round(how), s, times)) {
            lb_k_quant_f8_e4m3_ref(LB_MIN(n_elems - i, (size_t)64), out + i, in + i * unit, scale,
                                   how);
            continue;
        }
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++) /* the sum has no -0 */
            code[k] = e4m3_signed(times ? q[k] : v_add(q[k], v_set(0)));
        b_store(out + i, b_unsigned(code));
    }
}

static void quant_f8_e4m3(size_t n_elems, void *out, const void *in, float scale, u32 how) {
    const lb_round type = lb_quant_in(how);
    const bool times = how & LB_QUANT_TIMES;
    if (type == LB_ROUND_NONE && times)
        quant_f8_as(n_elems, out, in, scale, how, LB_ROUND_NONE, true);
    else if (type == LB_ROUND_NONE)
        quant_f8_as(n_elems, out, in, scale, how, LB_ROUND_NONE, false);
    else if (type == LB_ROUND_BF16 && times)
        quant_f8_as(n_elems, out, in, scale, how, LB_ROUND_BF16, true);
    else if (type == LB_ROUND_BF16)
        quant_f8_as(n_elems, out, in, scale, how, LB_ROUND_BF16, false);
    else
        quant_f8_as(n_elems, out, in, scale, how, LB_ROUND_F16, times);
}

/* Quotients plus zero, clamped to half - 1 above and -half below. */
V_INLINE vec int_clamped(vec q, vec zero, vec half, lb_round round, bool asym) {
    if (asym)
        q = v_round_as(v_add(q, zero), round);
    return v_max(v_min(q, v_sub(half, v_set(1))), v_neg(half));
}

static void quant_i8(size_t n_elems, void *out, const void *in, float scale, float zero, u32 how) {
    const lb_round type = lb_quant_in(how), round = lb_quant_round(how);
    const size_t unit = lb_float_bytes(type);
    const vec s = v_set(scale), z = v_set(zero),
              half = v_set((float)(1u << lb_quant_bits(how)) / 2);
    for (size_t i = 0; i < n_elems; i += 64) {
        u8 *to = (u8 *)out + i;
        const u8 *from = (const u8 *)in + i * unit;
        vec q[N_VEC];
        vint code[N_VEC];
        bool fine = n_elems - i >= 64;
        if (fine && type == LB_ROUND_NONE)
            fine = scaled_64(q, from, LB_ROUND_NONE, round, s, false);
        else if (fine && type == LB_ROUND_BF16)
            fine = scaled_64(q, from, LB_ROUND_BF16, round, s, false);
        else if (fine)
            fine = scaled_64(q, from, LB_ROUND_F16, round, s, false);
        if (!fine) {
            lb_k_quant_i8_ref(LB_MIN(n_elems - i, (size_t)64), to, from, scale, zero, how);
            continue;
        }
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++)
            code[k] = v_to_int(int_clamped(q[k], z, half, round, how & LB_QUANT_ASYM));
        b_store(to, b_signed(code));
    }
}

/* ---- packed groups ---- */

/* Scales, and zero points in bias. */
V_INLINE void int_batch_params(batch *b, u32 bits, lb_round round, bool asym) {
    const float steps = (float)((1u << bits) - 1), half = (float)(1u << bits) / 2;
    const vec zero = v_set(0);
    const vec least = v_set(round == LB_ROUND_NONE   ? 0x1p-23f
                            : round == LB_ROUND_BF16 ? 0x1p-7f
                                                     : 0x1p-10f);
    for (size_t i = 0; i < BATCH; i += V_LANES) {
        const vec lo = v_min(v_load(b->lo + i), zero), hi = v_max(v_load(b->hi + i), zero);
        vec scale, z = zero;
        if (asym) {
            scale = v_round_as(v_div(v_round_as(v_sub(hi, lo), round), v_set(steps)), round);
            z = v_sub(v_set(-half), v_round_as(v_div(lo, scale), round));
            z = v_max(v_min(v_round_as(z, round), v_set(half - 1)), v_set(-half));
            z = v_pick(v_eq(scale, zero), v_pick(v_eq(lo, zero), zero, z), v_rint(z));
        } else {
            scale = v_round_as(v_div(v_max(v_neg(lo), hi), v_set(steps / 2)), round);
        }
        v_put(b->scale + i, v_pick(v_gt(scale, zero), scale, least));
        v_put(b->bias + i, z);
    }
}

V_INLINE void int_batch_codes(const batch *b, u8 *codes, u32 bits, lb_round round, bool asym) {
    const vec half = v_set((float)(1u << bits) / 2);
    chunks c = chunks_of(b);
    for (bool more = chunks_next(&c, true); more; more = chunks_next(&c, false)) {
        const vec scale[2] = {v_set(b->scale[c.group[0]]), v_set(b->scale[c.group[1]])};
        const vec zero[2] = {v_set(b->bias[c.group[0]]), v_set(b->bias[c.group[1]])};
        vint code[N_VEC];
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++) {
            const size_t h = k / (N_VEC / 2);
            const vec x = v_load(b->v + c.at + k * V_LANES);
            const vec q = v_round_as(v_div(x, scale[h]), round);
            const vint n = v_to_int(int_clamped(q, zero[h], half, round, asym));
            code[k] = vi_add(n, vi_set(1u << (bits - 1)));
        }
        put_chunk(codes, &c, b_unsigned(code), bits);
    }
}

V_INLINE void int_batch(batch *b, u8 *codes, u32 how, u32 bits, lb_round round) {
    if (how & LB_QUANT_ASYM) {
        int_batch_params(b, bits, round, true);
        int_batch_codes(b, codes, bits, round, true);
    } else {
        int_batch_params(b, bits, round, false);
        int_batch_codes(b, codes, bits, round, false);
    }
}

static void int_batch_any(batch *b, u8 *codes, u32 how) {
    const u32 bits = lb_quant_bits(how);
    const lb_round round = lb_quant_round(how);
    if (bits == 4 && round == LB_ROUND_BF16)
        int_batch(b, codes, how, 4, LB_ROUND_BF16);
    else if (bits == 4 && round == LB_ROUND_F16)
        int_batch(b, codes, how, 4, LB_ROUND_F16);
    else if (bits == 8 && round == LB_ROUND_BF16)
        int_batch(b, codes, how, 8, LB_ROUND_BF16);
    else
        int_batch(b, codes, how, bits, round);
}

static u64 quant_groups(size_t n_groups, size_t group_elems, void *codes, void *scale, void *zero,
                        const void *in, u32 how) {
    const u32 bits = lb_quant_bits(how);
    const lb_round round = lb_quant_round(how);
    const size_t in_bytes = group_elems * lb_float_bytes(lb_quant_in(how));
    const size_t code_bytes = group_elems / 8 * bits, unit = lb_float_bytes(round);
    const bool asym = how & LB_QUANT_ASYM;
    batch b;
    u64 n_odd = 0;
    if (group_elems % 32 || group_elems == 0 || group_elems > BATCH_ELEMS || bits == 7)
        return lb_k_quant_groups_ref(n_groups, group_elems, codes, scale, zero, in, how);
    batch_init(&b, group_elems);
    for (size_t g = 0; g < n_groups; g += b.n) {
        const u8 *p = (const u8 *)in + g * in_bytes;
        u8 *out = (u8 *)codes + g * code_bytes, *s = (u8 *)scale + g * unit;
        u8 *z = asym ? (u8 *)zero + g : NULL;
        b.n = LB_MIN(n_groups - g, LB_MIN((size_t)BATCH, BATCH_ELEMS / group_elems));
        range_groups(&b, p, lb_quant_in(how));
        int_batch_any(&b, out, how);
        b.redo |= store_rounded(s, b.n, b.scale, round);
        for (size_t i = 0; asym && i < b.n; i++)
            z[i] = (u8)(i8)b.bias[i];
        for (size_t i = 0; b.redo >> i && i < b.n; i++)
            if (b.redo >> i & 1)
                n_odd += lb_k_quant_groups_ref(1, group_elems, out + i * code_bytes, s + i * unit,
                                               asym ? z + i : NULL, p + i * in_bytes, how);
    }
    return n_odd;
}

static void quant_hf_bind(lb_kernels *k) {
    k->fold_range_f16 = range_f16;
    k->fold_range_bf16 = range_bf16;
    k->quant_f8_e4m3 = quant_f8_e4m3;
    k->quant_i8 = quant_i8;
    k->quant_groups = quant_groups;
}

#endif
