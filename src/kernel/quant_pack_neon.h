/* SPDX-License-Identifier: Apache-2.0 */
/* quant_pack_neon.h: the words of quant_tmpl.h for 64 codes: to bytes, thresholds, signs, bits.
 *
 * Neighbours are joined by shifts that insert, bytes to words to dwords to qwords; a table look-up
 * then moves the bytes that hold bits together. */
#ifndef LB_KERNEL_QUANT_PACK_NEON_H
#define LB_KERNEL_QUANT_PACK_NEON_H
#ifdef __aarch64__
#include "kernel/quant_neon.h"

typedef uint8x16x4_t bytes64;

/* 64 integers to bytes without and with sign, saturated. */
static inline bytes64 b_unsigned(const vint c[16]) {
    bytes64 b;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const uint16x8_t x = vqmovun_high_s32(vqmovun_s32(c[4 * i]), c[4 * i + 1]);
        const uint16x8_t y = vqmovun_high_s32(vqmovun_s32(c[4 * i + 2]), c[4 * i + 3]);
        b.val[i] = vqmovn_high_u16(vqmovn_u16(x), y);
    }
    return b;
}
static inline bytes64 b_signed(const vint c[16]) {
    bytes64 b;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int16x8_t x = vqmovn_high_s32(vqmovn_s32(c[4 * i]), c[4 * i + 1]);
        const int16x8_t y = vqmovn_high_s32(vqmovn_s32(c[4 * i + 2]), c[4 * i + 3]);
        b.val[i] = vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(x), y));
    }
    return b;
}
static inline void b_store(u8 *p, bytes64 c) {
    for (int i = 0; i < 4; i++)
        vst1q_u8(p + 16 * i, c.val[i]);
}
/* How many of the seven thresholds each byte reaches. */
static inline bytes64 b_count(bytes64 k, const i8 t[7]) {
    bytes64 n;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        n.val[i] = vdupq_n_u8(0);
#pragma GCC unroll 7
        for (int j = 0; j < 7; j++)
            n.val[i] =
                vsubq_u8(n.val[i], vcgeq_s8(vreinterpretq_s8_u8(k.val[i]), vdupq_n_s8(t[j])));
    }
    return n;
}
/* Codes with 8 where the byte of `sign` is negative; if only_nonzero, not where the code is 0. */
static inline bytes64 b_sign4(bytes64 code, bytes64 sign, bool only_nonzero) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        uint8x16_t m = vcltzq_s8(vreinterpretq_s8_u8(sign.val[i]));
        if (only_nonzero)
            m = vandq_u8(m, vtstq_u8(code.val[i], code.val[i]));
        code.val[i] = vorrq_u8(code.val[i], vandq_u8(m, vdupq_n_u8(8)));
    }
    return code;
}

/* Two, four, eight codes of b bits to the lowest bits of a word, dword, qword. */
#define TWO(x, b) vsliq_n_u16(vreinterpretq_u16_u8(x), vshrq_n_u16(vreinterpretq_u16_u8(x), 8), b)
#define FOUR(x, b)                                \
    vsliq_n_u32(vreinterpretq_u32_u16(TWO(x, b)), \
                vshrq_n_u32(vreinterpretq_u32_u16(TWO(x, b)), 16), 2 * (b))
#define EIGHT(x, b)                                                     \
    vreinterpretq_u8_u64(vsliq_n_u64(vreinterpretq_u64_u32(FOUR(x, b)), \
                                     vshrq_n_u64(vreinterpretq_u64_u32(FOUR(x, b)), 32), 4 * (b)))

/* The lowest b bytes of each qword, n of them. */
static inline void store_low(u8 *p, bytes64 x, u32 b) {
    static const u8 at[4][64] = {
        {0, 8, 16, 24, 32, 40, 48, 56},
        {0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25, 26, 32, 33, 34, 40, 41, 42, 48, 49, 50, 56, 57, 58},
        {0,  1,  2,  3,  4,  8,  9,  10, 11, 12, 16, 17, 18, 19, 20, 24, 25, 26, 27, 28,
         32, 33, 34, 35, 36, 40, 41, 42, 43, 44, 48, 49, 50, 51, 52, 56, 57, 58, 59, 60},
        {0,  1,  2,  3,  4,  5,  8,  9,  10, 11, 12, 13, 16, 17, 18, 19,
         20, 21, 24, 25, 26, 27, 28, 29, 32, 33, 34, 35, 36, 37, 40, 41,
         42, 43, 44, 45, 48, 49, 50, 51, 52, 53, 56, 57, 58, 59, 60, 61},
    };
    const u8 *i = at[b == 1 ? 0 : b == 3 ? 1 : b == 5 ? 2 : 3];
    u32 done = 0;
    for (; done + 16 <= 8 * b; done += 16)
        vst1q_u8(p + done, vqtbl4q_u8(x, vld1q_u8(i + done)));
    if (done < 8 * b)
        vst1_u8(p + done, vget_low_u8(vqtbl4q_u8(x, vld1q_u8(i + done))));
}

/* 64 codes of b bits to 8 b bytes. */
static inline void b_pack(u8 *p, bytes64 c, u32 b) {
    const uint8x16_t v0 = c.val[0], v1 = c.val[1], v2 = c.val[2], v3 = c.val[3];
    switch (b) {
    case 1:
        store_low(p, (bytes64){{EIGHT(v0, 1), EIGHT(v1, 1), EIGHT(v2, 1), EIGHT(v3, 1)}}, 1);
        break;
    case 2: {
        const uint16x8_t x = vmovn_high_u32(vmovn_u32(FOUR(v0, 2)), FOUR(v1, 2));
        const uint16x8_t y = vmovn_high_u32(vmovn_u32(FOUR(v2, 2)), FOUR(v3, 2));
        vst1q_u8(p, vmovn_high_u16(vmovn_u16(x), y));
        break;
    }
    case 3:
        store_low(p, (bytes64){{EIGHT(v0, 3), EIGHT(v1, 3), EIGHT(v2, 3), EIGHT(v3, 3)}}, 3);
        break;
    case 4:
        vst1q_u8(p, vmovn_high_u16(vmovn_u16(TWO(v0, 4)), TWO(v1, 4)));
        vst1q_u8(p + 16, vmovn_high_u16(vmovn_u16(TWO(v2, 4)), TWO(v3, 4)));
        break;
    case 5:
        store_low(p, (bytes64){{EIGHT(v0, 5), EIGHT(v1, 5), EIGHT(v2, 5), EIGHT(v3, 5)}}, 5);
        break;
    case 6:
        store_low(p, (bytes64){{EIGHT(v0, 6), EIGHT(v1, 6), EIGHT(v2, 6), EIGHT(v3, 6)}}, 6);
        break;
    default:
        b_store(p, c);
    }
}

#endif
#endif
