/* SPDX-License-Identifier: Apache-2.0 */
/* rank_ref.c: what ranking by magnitude (rank.c) does over and over. */
#include "kernel/kernel.h"

void lb_k_magnitudes_f32_ref(size_t n_elems, u32 out[3], const float *in) {
    u32 all = 0, max = 0, min = UINT32_MAX;
    for (size_t i = 0; i < n_elems; i++) {
        u32 m = lb_f32_bits(in[i]) & 0x7fffffffu;
        if (m > 0x7f800000u)
            m = 0x7fc00000u;
        all |= m;
        max = LB_MAX(max, m);
        min = LB_MIN(min, m - 1); /* 0 becomes the greatest */
    }
    out[0] = all;
    out[1] = max;
    out[2] = min + 1;
}

void lb_k_magnitude_bins_f32_ref(size_t n_elems, u32 *out, const float *in, u32 low, u32 below) {
    for (size_t i = 0; i < n_elems; i++) {
        u32 m = lb_f32_bits(in[i]) & 0x7fffffffu;
        m = (m > 0x7f800000u ? 0x7fc00000u : m) >> low;
        out[i] = LB_MAX(m, below) - below;
    }
}

u32 lb_k_sums_u32_ref(size_t n_elems, u32 *out, const u32 *in) {
    u32 sum = 0;
    for (size_t i = 0; i < n_elems; i++) {
        u32 x = in[i];
        out[i] = sum;
        sum += x;
    }
    return sum;
}
