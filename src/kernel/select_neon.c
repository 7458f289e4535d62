/* SPDX-License-Identifier: Apache-2.0 */
/* select_neon.c: what an exact selection counts and collects, with Advanced SIMD. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/kernel.h"
#include <arm_neon.h>

void lb_kinit_select_neon(lb_kernels *k);

/* Lanes count in 32 bits: so many vectors at a time. */
#define SPAN_ELEMS ((size_t)4 << 24)

static u64 span(size_t n_elems, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                u64 count[3]) {
    const int32x4_t lo4 = vdupq_n_s32(lo), hi4 = vdupq_n_s32(hi);
    uint32x4_t above = vdupq_n_u32(0), on_hi = above, on_lo = above;
    u64 n = 0;
    size_t i = 0;
    for (; i + 4 <= n_elems; i += 4) {
        const int32x4_t bits = vreinterpretq_s32_f32(vabsq_f32(vld1q_f32(a + i)));
        const uint32x4_t in = vandq_u32(vcgtq_s32(bits, lo4), vcltq_s32(bits, hi4));
        above = vsubq_u32(above, vcgtq_s32(bits, hi4));
        on_hi = vsubq_u32(on_hi, vceqq_s32(bits, hi4));
        on_lo = vsubq_u32(on_lo, vceqq_s32(bits, lo4));
        if (vmaxvq_u32(in)) {
            u32 part[4], is[4];
            vst1q_u32(part, vreinterpretq_u32_s32(bits));
            vst1q_u32(is, in);
            for (u32 j = 0; j < 4; j++)
                if (is[j]) {
                    if (n < room)
                        list[n] = part[j];
                    n++;
                }
        }
    }
    count[0] += vaddlvq_u32(above);
    count[1] += vaddlvq_u32(on_hi);
    count[2] += vaddlvq_u32(on_lo);
    const u64 full = n < room ? n : room;
    return n + lb_k_select_f32_ref(n_elems - i, a + i, lo, hi, room ? list + full : list,
                                   room - full, count);
}

#include "kernel/select_tmpl.h"

void lb_kinit_select_neon(lb_kernels *k) {
    k->select_f32 = select_f32;
}
