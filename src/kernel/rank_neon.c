/* SPDX-License-Identifier: Apache-2.0 */
/* rank_neon.c: as rank_ref.c, four at a time. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_rank_neon(lb_kernels *k);

static inline uint32x4_t magnitude(const float *x) {
    const uint32x4_t m = vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x)), vdupq_n_u32(0x7fffffffu));
    return vbslq_u32(vcgtq_u32(m, vdupq_n_u32(0x7f800000u)), vdupq_n_u32(0x7fc00000u), m);
}

static void magnitudes(size_t n_elems, u32 out[3], const float *in) {
    uint32x4_t all = vdupq_n_u32(0), max = all, min = vdupq_n_u32(UINT32_MAX);
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const uint32x4_t m = magnitude(in + i);
        all = vorrq_u32(all, m);
        max = vmaxq_u32(max, m);
        min = vminq_u32(min, vsubq_u32(m, vdupq_n_u32(1)));
    }
    u32 a[4];
    vst1q_u32(a, all);
    lb_k_magnitudes_f32_ref(n_elems - i, out, in + i);
    out[0] |= a[0] | a[1] | a[2] | a[3];
    out[1] = LB_MAX(out[1], vmaxvq_u32(max));
    out[2] = LB_MIN(out[2] - 1, vminvq_u32(min)) + 1;
}

static void bins(size_t n_elems, u32 *out, const float *in, u32 low, u32 below) {
    const int32x4_t shift = vdupq_n_s32(-(i32)low);
    const uint32x4_t least = vdupq_n_u32(below);
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const uint32x4_t m = vshlq_u32(magnitude(in + i), shift);
        vst1q_u32(out + i, vsubq_u32(vmaxq_u32(m, least), least));
    }
    lb_k_magnitude_bins_f32_ref(n_elems - i, out + i, in + i, low, below);
}

static u32 sums(size_t n_elems, u32 *out, const u32 *in) {
    const uint32x4_t zero = vdupq_n_u32(0);
    u32 sum = 0;
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const uint32x4_t x = vld1q_u32(in + i);
        uint32x4_t s = vaddq_u32(x, vextq_u32(zero, x, 3));
        s = vaddq_u32(s, vextq_u32(zero, s, 2));
        vst1q_u32(out + i, vaddq_u32(vsubq_u32(s, x), vdupq_n_u32(sum)));
        sum += vgetq_lane_u32(s, 3);
    }
    for (; i < n_elems; i++) {
        const u32 x = in[i];
        out[i] = sum;
        sum += x;
    }
    return sum;
}

void lb_kinit_rank_neon(lb_kernels *k) {
    k->magnitudes_f32 = magnitudes;
    k->magnitude_bins_f32 = bins;
    k->sums_u32 = sums;
}
