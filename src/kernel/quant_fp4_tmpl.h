/* SPDX-License-Identifier: Apache-2.0 */
/* quant_fp4_tmpl.h: the quantizers of mxfp4 and nvfp4 (quant_legacy_ref.c) in the words of
 * quant_batch_tmpl.h.
 *
 * The reference takes the code with the least error |value * scale - x|, the first of equals. Near
 * the middle between two values both differences are exact (x is within a factor of two of them,
 * or is the error itself, beside 0), so this is to count the middles that |x| exceeds, and no sign
 * for a code of 0. Values times scale are exact: those of E2M1 have two bits, scales at most four.
 */
#ifndef LB_KERNEL_QUANT_FP4_TMPL_H
#define LB_KERNEL_QUANT_FP4_TMPL_H
#include "kernel/quant_batch_tmpl.h"

V_INLINE bytes64 fp4_codes(const vint steps[N_VEC], const float *x, const i8 *thresholds) {
    vint sign[N_VEC];
#pragma GCC unroll 16
    for (size_t k = 0; k < N_VEC; k++)
        sign[k] = v_bits(v_load(x + k * V_LANES));
    const bytes64 n = b_signed(steps);
    return b_sign4(thresholds ? b_count(n, thresholds) : n, b_signed(sign), true);
}

/* ---- mxfp4: a power of two for 32 ---- */

/* inverse: 2 / scale, so that middles are whole numbers. The reference's exponent comes from a
 * rounded logarithm, which just below a power of two is that power's: such a block is odd. */
V_INLINE void mxfp4_scales(batch *b, u8 *byte) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        const vint bits = v_bits(v_load(b->high + g)), e = vi_srl(bits, 23);
        const vmask zero = vi_gt(vi_set(1), bits);
        const vint low = vi_pick(zero, vi_set(0x3f800000), bits);
        b->odd |= v_mask_bits(vi_gt(vi_set(27u << 23), low)) << g;
        b->odd |= v_mask_bits(vi_gt(vi_and(bits, vi_set(0x7fffff)), vi_set(0x7fff00))) << g;
        v_put(b->inverse + g, v_floats(vi_sll(vi_sub(vi_set(258), e), 23)));
        v_put(b->low + g, v_floats(vi_pick(zero, vi_set(0), vi_sub(e, vi_set(2)))));
    }
    for (size_t g = 0; g < BATCH; g++)
        byte[g] = (u8)lb_f32_bits(b->low[g]);
}

V_INLINE void batch_mxfp4(batch *b) {
    static const i8 above[7] = {2, 4, 6, 8, 11, 15, 21}; /* 1, 3, 5, 7, 10, 14, 20 exceeded */
    u8 byte[BATCH];
    batch_magnitudes(b);
    mxfp4_scales(b, byte);
    for (size_t g = 0; g < BATCH; g += 2) {
        const float *x = b->x + 32 * g;
        u8 *y = b->y + 17 * g;
        vint steps[N_VEC];
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++) {
            const vec a = v_magnitude(v_load(x + k * V_LANES));
            steps[k] = v_to_int(v_ceil(v_mul(a, v_set(b->inverse[g + k / (N_VEC / 2)]))));
        }
        y[0] = byte[g];
        y[17] = byte[g + 1];
        b_put_nibbles(y + 1, y + 18, fp4_codes(steps, x, above));
    }
}

static void quant_mxfp4_blocks(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    static const batch_type type = {32, 32, 17, lb_k_quant_mxfp4_f32_ref};
    (void)importance;
    (void)tables;
    quant_batches(n_elems, out, in, &type, batch_mxfp4);
}

/* ---- nvfp4: E4M3 for 16, a block of four ---- */

/* Scales of doubled values, infinite for 0, whose codes are 0. Where |x| is so large beside 448
 * that errors round to equals, the block is odd. */
V_INLINE void nvfp4_scales(batch *b, u8 *byte) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        const vec high = v_load(b->high + g), t = v_div(high, v_set(6));
        const vint bits = v_bits(t);
        vint code = vi_srl(vi_add(vi_srl(bits, 19), vi_set(1)), 1); /* half away from zero */
        code = vi_sub(code, vi_set(960));
        code = vi_pick(vi_gt(code, vi_set(119)), vi_set(126), code);
        const vec small = v_add(v_mul(t, v_set(512)), v_set(0.5f));
        const vint low = v_to_int_trunc(v_min(small, v_set(7)));
        code = vi_pick(vi_gt(vi_set(121u << 23), bits), low, code);
        const vec half = v_mul(v_sub(v_floats(vi_add(code, vi_set(0x4b000000))), v_set(0x1p23f)),
                               v_set(0x1p-10f));
        vec d = v_floats(vi_add(vi_sll(code, 20), vi_set(119u << 23)));
        d = v_pick(vi_gt(vi_set(8), code), half, d);
        d = v_pick(v_eq(d, v_set(0)), v_floats(vi_set(0x7f800000)), d);
        v_put(b->inverse + g, d);
        v_put(b->low + g, v_floats(code));
        b->odd |= v_mask_bits(vi_gt(v_bits(high), vi_set(0x49800000))) << g;
    }
    for (size_t g = 0; g < BATCH; g++)
        byte[g] = (u8)lb_f32_bits(b->low[g]);
}

V_INLINE void batch_nvfp4(batch *b) {
    static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    u8 byte[BATCH];
    batch_magnitudes(b);
    nvfp4_scales(b, byte);
    for (size_t g = 0; g < BATCH; g += 4) {
        const float *x = b->x + 16 * g;
        u8 *y = b->y + 9 * g;
        vint steps[N_VEC];
#pragma GCC unroll 16
        for (size_t k = 0; k < N_VEC; k++) {
            const vec a = v_magnitude(v_load(x + k * V_LANES));
            const vec d = v_set(b->inverse[g + k * V_LANES / 16]);
            vint n = vi_set(0);
#pragma GCC unroll 7
            for (int i = 0; i < 7; i++)
                n = vi_count(n, v_gt(a, v_mul(v_set(middles[i]), d)));
            steps[k] = n;
        }
        memcpy(y, byte + g, 4);
        b_put_nibbles_16(y + 4, fp4_codes(steps, x, NULL));
    }
}

static void quant_nvfp4_blocks(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    static const batch_type type = {16, 64, 36, lb_k_quant_nvfp4_f32_ref};
    (void)importance;
    (void)tables;
    quant_batches(n_elems, out, in, &type, batch_nvfp4);
}

#endif
