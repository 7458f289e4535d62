/* SPDX-License-Identifier: Apache-2.0 */
/* quant_legacy_tmpl.h: the quantizers of q4_0, q4_1, q5_0, q5_1 and q8_0 (quant_legacy_ref.c)
 * without importance (with it: quant_legacy_lanes.h), written once in the words of quant_<isa>.h,
 * quant_pack_<isa>.h and quant_rows_<isa>.h.
 *
 * Of the batch of sixteen blocks (quant_batch_tmpl.h) two at a time get their codes. Every
 * operation is the reference's, but:
 * - the largest magnitude's sign comes from the larger of -min and max; where both are equal, the
 *   block is searched for the first of them, and so it is for the sign of a minimum of zero;
 * - half away from zero is trunc(x + 0.49999997 with the sign of x): the sum rounds up to the next
 *   whole number exactly from the middle on. */
#ifndef LB_KERNEL_QUANT_LEGACY_TMPL_H
#define LB_KERNEL_QUANT_LEGACY_TMPL_H
#include "kernel/quant_batch_tmpl.h"
#include "kernel/quant_legacy_lanes.h"

typedef enum legacy_form { FORM_SYMMETRIC, FORM_AFFINE, FORM_SIGNED } legacy_form;

/* A constant for each type. */
typedef struct legacy_type {
    legacy_form form;
    u32 bits;
    size_t bytes; /* of a block */
} legacy_type;

/* The first of the elements whose magnitude is `most`; 0, not -0. */
static float first_extreme(const float *x, float most) {
    size_t j = 0;
    while (j < 31 && fabsf(x[j]) < most)
        j++;
    return most > 0 ? x[j] : 0;
}

V_INLINE void batch_scales_symmetric(batch *b, float half) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        const vec high = v_load(b->high + g), low = v_load(b->low + g), up = v_negated(low);
        float *extreme = b->high + g;
        v_put(extreme, v_pick(v_gt(up, high), low, high));
        u32 ties = v_mask_bits(v_eq(up, high)) & ~(b->odd >> g);
        for (; ties; ties &= ties - 1) {
            const size_t k = (size_t)__builtin_ctz(ties);
            extreme[k] = first_extreme(b->x + 32 * (g + k), fabsf(extreme[k]));
        }
        batch_scale(b, g, v_div(v_load(extreme), v_set(-half)));
    }
}

/* The first zero. */
static float first_zero(const float *x) {
    size_t j = 0;
    while (j < 31 && x[j] != 0)
        j++;
    return x[j];
}

V_INLINE void batch_scales_affine(batch *b, float q_max) {
    for (size_t g = 0; g < BATCH; g += V_LANES) {
        float *low = b->low + g;
        u32 zeros = v_mask_bits(v_eq(v_load(low), v_set(0))) & ~(b->odd >> g);
        for (; zeros; zeros &= zeros - 1) {
            const size_t k = (size_t)__builtin_ctz(zeros);
            low[k] = first_zero(b->x + 32 * (g + k));
        }
        /* 0 - 0 may be -0 here and is not there */
        const vec range = v_magnitude(v_sub(v_load(b->high + g), v_load(low)));
        v_put_f16(b->m + 2 * g, v_load(low));
        batch_scale(b, g, v_div(range, v_set(q_max)));
    }
}

/* ---- codes ---- */

V_INLINE bytes64 batch_codes(const batch *b, size_t g, const legacy_type *type) {
    vint c[N_VEC];
#pragma GCC unroll 16
    for (size_t k = 0; k < N_VEC; k++) {
        const size_t i = g + k / (N_VEC / 2);
        const vec x = v_load(b->x + 32 * g + k * V_LANES);
        const vec inverse = v_set(b->inverse[i]);
        vec t;
        if (type->form == FORM_AFFINE) {
            t = v_add(v_mul(v_sub(x, v_set(b->low[i])), inverse), v_set(0.5f));
        } else if (type->form == FORM_SYMMETRIC) {
            t = v_add(v_mul(x, inverse), v_set((float)(1 << (type->bits - 1)) + 0.5f));
        } else {
            t = v_mul(x, inverse);
            t = v_add(t, v_copy_sign(v_set(0x1.fffffep-2f), t));
        }
        c[k] = v_to_int_trunc(t);
    }
    if (type->form == FORM_SIGNED)
        return b_signed(c);
    return type->form == FORM_SYMMETRIC ? b_min(b_unsigned(c), (u8)((1 << type->bits) - 1))
                                        : b_unsigned(c);
}

/* Blocks g and g + 1 at y. */
V_INLINE void batch_put(const batch *b, size_t g, u8 *y, const legacy_type *type) {
    const bytes64 c = batch_codes(b, g, type);
    u8 *z = y + type->bytes;
    memcpy(y, b->d + 2 * g, 2);
    memcpy(z, b->d + 2 * g + 2, 2);
    y += 2;
    z += 2;
    if (type->form == FORM_AFFINE) {
        memcpy(y, b->m + 2 * g, 2);
        memcpy(z, b->m + 2 * g + 2, 2);
        y += 2;
        z += 2;
    }
    if (type->bits == 5) {
        u8 high[8];
        b_pack(high, b_upper(c), 1);
        memcpy(y, high, 4);
        memcpy(z, high + 4, 4);
        y += 4;
        z += 4;
    }
    if (type->bits == 8)
        b_put_bytes(y, z, c);
    else
        b_put_nibbles(y, z, c);
}

V_INLINE void legacy_batch(batch *b, const legacy_type *type) {
    if (type->form == FORM_SIGNED) {
        batch_magnitudes(b);
        for (size_t g = 0; g < BATCH; g += V_LANES)
            batch_scale(b, g, v_div(v_load(b->high + g), v_set(127)));
    } else {
        batch_ranges(b);
        if (type->form == FORM_SYMMETRIC)
            batch_scales_symmetric(b, (float)(1 << (type->bits - 1)));
        else
            batch_scales_affine(b, (float)((1 << type->bits) - 1));
    }
    for (size_t g = 0; g < BATCH; g += 2)
        batch_put(b, g, b->y + g * type->bytes, type);
}

#define LEGACY(name, form, bits, bytes)                                                           \
    V_INLINE void batch_##name(batch *b) {                                                        \
        static const legacy_type type = {form, bits, bytes};                                      \
        legacy_batch(b, &type);                                                                   \
    }                                                                                             \
    static void quant_##name(size_t n_elems, void *out, const float *in, const float *importance, \
                             const void *tables) {                                                \
        static const batch_type type = {32, 32, bytes, lb_k_quant_##name##_f32_ref};              \
        (void)tables;                                                                             \
        if (importance && (form) != FORM_SIGNED)                                                  \
            quant_legacy_weighted(                                                                \
                (legacy_weighted){(form) == FORM_AFFINE,                                          \
                                  (form) == FORM_AFFINE ? (1 << (bits)) - 1 : 1 << ((bits)-1),    \
                                  bytes, in, importance, 0},                                      \
                n_elems, out);                                                                    \
        else                                                                                      \
            quant_batches(n_elems, out, in, &type, batch_##name);                                 \
    }
LEGACY(q4_0, FORM_SYMMETRIC, 4, 18)
LEGACY(q4_1, FORM_AFFINE, 4, 20)
LEGACY(q5_0, FORM_SYMMETRIC, 5, 22)
LEGACY(q5_1, FORM_AFFINE, 5, 24)
LEGACY(q8_0, FORM_SIGNED, 8, 34)
#undef LEGACY

#endif
