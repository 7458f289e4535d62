/* SPDX-License-Identifier: Apache-2.0 */
/* random_neon.c: the Mersenne Twister, four words at a time. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_random_neon(lb_kernels *k);

#define W 4

static inline uint32x4_t mix(const u32 *now, const u32 *far) {
    const uint32x4_t low = vld1q_u32(now + 1);
    const uint32x4_t y = vbslq_u32(vdupq_n_u32(0x80000000u), vld1q_u32(now), low);
    const uint32x4_t a = vandq_u32(vtstq_u32(low, vdupq_n_u32(1)), vdupq_n_u32(0x9908b0dfu));
    return veorq_u32(veorq_u32(vld1q_u32(far), vshrq_n_u32(y, 1)), a);
}

static inline void put(u32 *out, uint32x4_t v) {
    vst1q_u32(out, v);
}

#include "kernel/random_tmpl.h"

static inline uint32x4_t low24(uint32x4_t y) {
    y = veorq_u32(y, vshrq_n_u32(y, 11));
    y = veorq_u32(y, vandq_u32(vshlq_n_u32(y, 7), vdupq_n_u32(0x9d2c5680u)));
    y = veorq_u32(y, vandq_u32(vshlq_n_u32(y, 15), vdupq_n_u32(0xefc60000u)));
    y = veorq_u32(y, vshrq_n_u32(y, 18));
    return vandq_u32(y, vdupq_n_u32(0xffffff));
}

static void mask(size_t n_elems, void *out, const u32 *in, u32 below) {
    static const u32 low_bits[4] = {1, 2, 4, 8}, high_bits[4] = {16, 32, 64, 128};
    const uint32x4_t limit = vdupq_n_u32(below), low = vld1q_u32(low_bits),
                     high = vld1q_u32(high_bits);
    u8 *bits = out;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const uint32x4_t a = vandq_u32(vcltq_u32(low24(vld1q_u32(in + i)), limit), low);
        const uint32x4_t b = vandq_u32(vcltq_u32(low24(vld1q_u32(in + i + 4)), limit), high);
        *bits++ = (u8)vaddvq_u32(vorrq_u32(a, b));
    }
    lb_k_mt_mask_ref(n_elems - i, bits, in + i, below);
}

static void uniform(size_t n_elems, float *out, const u32 *in) {
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4)
        vst1q_f32(out + i, vmulq_n_f32(vcvtq_f32_u32(low24(vld1q_u32(in + i))), 0x1p-24f));
    lb_k_mt_uniform_f32_ref(n_elems - i, out + i, in + i);
}

void lb_kinit_random_neon(lb_kernels *k) {
    k->mt_blocks = blocks;
    k->mt_mask = mask;
    k->mt_uniform_f32 = uniform;
}
