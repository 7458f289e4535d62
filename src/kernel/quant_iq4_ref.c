/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq4_ref.c: f32 to iq4_nl and iq4_xs, the scalar definition (quant.h). */
#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "kernel/quant.h"

/* The code whose value is nearest to x; of two equally near ones the upper. */
static u8 nearest_code(float x) {
    if (x <= (float)lb_iq4_values[0])
        return 0;
    if (x >= (float)lb_iq4_values[15])
        return 15;
    u8 below = 0, above = 15;
    while (above - below > 1) {
        const u8 middle = (u8)((below + above) / 2);
        if (x < (float)lb_iq4_values[middle])
            above = middle;
        else
            below = middle;
    }
    return x - (float)lb_iq4_values[above - 1] < (float)lb_iq4_values[above] - x ? (u8)(above - 1)
                                                                                 : above;
}

typedef struct sums {
    float xq, qq;
} sums;

static sums sums_of(const float *x, const float *w, float inverse) {
    sums s = {0, 0};
    for (size_t j = 0; j < 32; j++) {
        const float q = (float)lb_iq4_values[nearest_code(inverse * x[j])];
        s.xq += w[j] * q * x[j];
        s.qq += w[j] * q * q;
    }
    return s;
}

/* The scale of 32 values: least squares for the best of 16 cuts. sigma2: as for lb_quant_weights;
 * importance == NULL: weights x^2. */
static float fit(const float *x, const float *importance, float sigma2) {
    float w[32], magnitude = 0, most = 0;
    if (importance)
        lb_quant_weights(w, importance, x, 32, sigma2);
    for (size_t j = 0; j < 32; j++) {
        w[j] = importance ? w[j] : x[j] * x[j];
        if (fabsf(x[j]) > magnitude) {
            magnitude = fabsf(x[j]);
            most = x[j];
        }
    }
    if (magnitude < LB_QUANT_TINY)
        return 0;
    const float first = (float)lb_iq4_values[0];
    sums s = sums_of(x, w, 1 / (-most / first));
    float scale = s.qq > 0 ? s.xq / s.qq : 0;
    float best = scale * s.xq;
    for (i32 k = -7; k <= 7; k++) {
        s = sums_of(x, w, ((float)k + first) / most);
        if (s.qq > 0 && s.xq * s.xq > best * s.qq) {
            scale = s.xq / s.qq;
            best = scale * s.xq;
        }
    }
    return scale;
}

static void put_codes(u8 *qs, const float *x, float inverse) {
    for (size_t j = 0; j < 16; j++)
        qs[j] = (u8)(nearest_code(inverse * x[j]) | nearest_code(inverse * x[j + 16]) << 4);
}

void lb_k_quant_iq4_nl_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    (void)tables;
    lb_block_iq4_nl *y = out;
    for (size_t at = 0; at < n_elems; at += 32, y++) {
        const float sigma2 = importance ? lb_sum_squares(in + at, 32) * (2.0f / 32) : 0;
        const float scale = fit(in + at, importance ? importance + at : NULL, sigma2);
        lb_store_u16(y->d, lb_quant_f16(scale));
        put_codes(y->qs, in + at, scale != 0 ? 1 / scale : 0);
    }
}

void lb_k_quant_iq4_xs_f32_ref(size_t n_elems, void *out, const float *in, const float *importance,
                               const void *tables) {
    (void)tables;
    lb_block_iq4_xs *y = out;
    for (size_t at = 0; at < n_elems; at += LB_QK, y++) {
        const float *x = in + at;
        const float sigma2 = importance ? lb_sum_squares(x, LB_QK) * (2.0f / LB_QK) : 0;
        float scale[8], most = 0, magnitude = 0;
        for (size_t g = 0; g < 8; g++) {
            scale[g] = fit(x + 32 * g, importance ? importance + at + 32 * g : NULL, sigma2);
            if (fabsf(scale[g]) > magnitude) {
                magnitude = fabsf(scale[g]);
                most = scale[g];
            }
        }
        const float d = -most / 32;
        const float inverse = d != 0 ? 1 / d : 0;
        u32 high = 0;
        lb_store_u16(y->d, lb_quant_f16(d));
        memset(y->scales_l, 0, sizeof y->scales_l);
        for (size_t g = 0; g < 8; g++) {
            const i32 sc = lb_clamp(lb_nearest(inverse * scale[g]), -32, 31);
            const float dl = d * (float)sc; /* by the scale before it was rounded to f16 */
            put_codes(y->qs + 16 * g, x + 32 * g, dl != 0 ? 1 / dl : 0);
            y->scales_l[g / 2] |= (u8)(((sc + 32) & 15) << g % 2 * 4);
            high |= (u32)(sc + 32) >> 4 << 2 * g;
        }
        lb_store_u16(y->scales_h, (u16)high);
    }
}
