/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3_neon.h: eight bytes of an 8-bit float with four exponent bits, as f16 and as f32. */
#ifndef LB_KERNEL_E4M3_NEON_H
#define LB_KERNEL_E4M3_NEON_H
#ifdef __aarch64__

#include "kernel/half.h"
#include <arm_neon.h>

/* S.EEEE.MMM moved to the f16 S.0EEEE.MMM0000000 is the value times 2^(bias - 15), subnormals
 * included. Adding the sign bit to itself carries it one place up, over the exponent's new top bit.
 */
static inline uint16x8_t lb_e4m3_as_f16(uint8x8_t bytes) {
    const uint16x8_t w = vmovl_u8(bytes);
    return vshlq_n_u16(vaddq_u16(w, vandq_u16(w, vdupq_n_u16(0x80))), 7);
}

static inline float32x4_t lb_low_f16(uint16x8_t h) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h)));
}

static inline float32x4_t lb_high_f16(uint16x8_t h) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(h)));
}

/* OFP8 E4M3: bias 7, S.1111.111 is NaN; its f16 0x3f80 becomes 0x7e00, which becomes LB_NAN_BITS.
 * The values are the results times 2^8. */
static inline uint16x8_t lb_e4m3_f16(uint8x8_t bytes) {
    const uint16x8_t h = lb_e4m3_as_f16(bytes);
    const uint16x8_t mag = vandq_u16(h, vdupq_n_u16(0x7fff));
    const uint16x8_t nan = vceqq_u16(mag, vdupq_n_u16(0x3f80));
    return veorq_u16(h, vandq_u16(nan, vdupq_n_u16(0x3f80 ^ 0x7e00)));
}

#endif
#endif
