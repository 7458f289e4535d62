/* SPDX-License-Identifier: Apache-2.0 */
/* quant_affine_tmpl.h: MLX's affine quantizers in the words of quant_<isa>.h; see quant_tmpl.h. */
#ifndef LB_KERNEL_QUANT_AFFINE_TMPL_H
#define LB_KERNEL_QUANT_AFFINE_TMPL_H
#include "kernel/quant_tmpl.h"

/* Scales and biases of a batch. One bit: the bias is the minimum, whose sign the order of a group's
 * zeros decides. */
V_INLINE void affine_batch_params(batch *b, u32 bits, u32 how, bool cpu) {
    const vec n_bins = v_set((float)((1u << bits) - 1)), eps = v_set(1e-7f);
    u32 redo = 0;
    for (size_t i = 0; i < BATCH; i += V_LANES) {
        const vec lo = v_load(b->lo + i), zero = v_set(0);
        const vec hi = cpu ? v_load(b->hi + i) : v_max(v_load(b->hi + i), zero);
        vec scale, bias;
        if (bits == 1) {
            scale = v_max(v_sub(hi, lo), eps);
            bias = lo;
            redo |= v_mask_bits(v_eq(lo, zero)) << i;
        } else {
            const vmask side = v_gt(v_abs(lo), v_abs(hi));
            const vec edge = v_pick(side, lo, hi);
            scale = v_max(v_div(v_sub(hi, lo), n_bins), eps);
            scale = v_pick(side, scale, v_neg(scale));
            const vec q = v_div(edge, scale), away = round_away(v_abs(q));
            const vint sign = vi_and(v_bits(q), vi_set(0x80000000u));
            const vec q0 = cpu ? v_rint(q) : v_floats(vi_or(v_bits(away), sign));
            const vmask at_zero = v_eq(q0, zero);
            scale = v_pick(at_zero, scale, v_div(edge, q0));
            bias = v_pick(at_zero, zero, edge);
        }
        if (how & LB_QUANT_STORED) {
            scale = v_round_as(scale, lb_quant_round(how));
            bias = v_round_as(bias, lb_quant_round(how));
        }
        v_put(b->scale + i, scale);
        v_put(b->bias + i, bias);
    }
    b->redo |= redo;
}

/* A quotient is >= 0 but for a rounded bias, and NaN where the scale has become 0: that is 0 on the
 * CPU, else n_bins. */
V_INLINE vint affine_codes(vec x, vec scale, vec bias, vec n_bins, bool cpu) {
    const vec q = v_div(v_sub(x, bias), scale);
    if (cpu)
        return v_to_int(v_min(v_max(q, v_set(0)), n_bins));
    return v_to_int_trunc(v_add(v_max(v_min(q, n_bins), v_set(0)), v_set(0x1.fffffep-2f)));
}

V_INLINE void affine_batch_codes(const batch *b, u8 *codes, u32 bits, bool cpu) {
    const vec n_bins = v_set((float)((1u << bits) - 1));
    chunks c = chunks_of(b);
    for (bool more = chunks_next(&c, true); more; more = chunks_next(&c, false)) {
        const vec scale[2] = {v_set(b->scale[c.group[0]]), v_set(b->scale[c.group[1]])};
        const vec bias[2] = {v_set(b->bias[c.group[0]]), v_set(b->bias[c.group[1]])};
        vint q[N_VEC];
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++)
            q[k] = affine_codes(v_load(b->v + c.at + k * V_LANES), scale[k / (N_VEC / 2)],
                                bias[k / (N_VEC / 2)], n_bins, cpu);
        put_chunk(codes, &c, b_unsigned(q), bits);
    }
}

V_INLINE lb_k_quant_mlx_q4_fn *affine_ref(u32 bits) {
    return bits == 1   ? lb_k_quant_mlx_q1_ref
           : bits == 2 ? lb_k_quant_mlx_q2_ref
           : bits == 3 ? lb_k_quant_mlx_q3_ref
           : bits == 4 ? lb_k_quant_mlx_q4_ref
           : bits == 5 ? lb_k_quant_mlx_q5_ref
           : bits == 6 ? lb_k_quant_mlx_q6_ref
                       : lb_k_quant_mlx_q8_ref;
}

V_INLINE u64 quant_affine(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how, u32 bits) {
    const lb_round round = lb_quant_round(how);
    const size_t in_bytes = group_elems * lb_float_bytes(lb_quant_in(how));
    const size_t code_bytes = group_elems / 8 * bits, unit = lb_float_bytes(round);
    const bool cpu = how & LB_QUANT_CPU;
    batch b;
    u64 n_odd = 0;
    batch_init(&b, group_elems);
    for (size_t g = 0; g < n_groups; g += b.n) {
        const u8 *p = (const u8 *)in + g * in_bytes;
        u8 *out = (u8 *)codes + g * code_bytes;
        u8 *s = (u8 *)scale + g * unit, *t = (u8 *)bias + g * unit;
        b.n = LB_MIN(n_groups - g, (size_t)BATCH);
        range_groups(&b, p, lb_quant_in(how));
        if (cpu) {
            affine_batch_params(&b, bits, how, true);
            affine_batch_codes(&b, out, bits, true);
        } else {
            affine_batch_params(&b, bits, how, false);
            affine_batch_codes(&b, out, bits, false);
        }
        b.redo |= store_rounded(s, b.n, b.scale, round) | store_rounded(t, b.n, b.bias, round);
        for (size_t i = 0; b.redo >> i && i < b.n; i++)
            if (b.redo >> i & 1)
                n_odd += affine_ref(bits)(1, group_elems, out + i * code_bytes, s + i * unit,
                                          t + i * unit, p + i * in_bytes, how);
    }
    return n_odd;
}

#define QUANT_AFFINE(b)                                                                  \
    static u64 quant_q##b(size_t n_groups, size_t group_elems, void *codes, void *scale, \
                          void *bias, const void *in, u32 how) {                         \
        return quant_affine(n_groups, group_elems, codes, scale, bias, in, how, b);      \
    }
QUANT_AFFINE(1)
QUANT_AFFINE(2)
QUANT_AFFINE(3)
QUANT_AFFINE(4)
QUANT_AFFINE(5)
QUANT_AFFINE(6)
QUANT_AFFINE(8)

#endif
