/* SPDX-License-Identifier: Apache-2.0 */
/* mt_cpu.h: the words of dialect.k for products of few tokens as C11. A multiplication of tiles is
 * one of the simdgroup: each lane brings its words, all meet, and each makes its four sums of what
 * the others brought (lb_fiber_words).
 *
 * Lane 4 g + t has of the rows' tile the columns 4 t .. and 16 + 4 t .. of rows g and g + 8, of the
 * other's the same columns of line g, and makes the sums of rows g, g + 8 with lines 2 t, 2 t + 1.
 * Of halves it is two columns in place of four. Their sums are made in f64 and rounded. */
#ifndef LB_DEVICE_KERN_MT_CPU_H
#define LB_DEVICE_KERN_MT_CPU_H

#include "device/cpu_fiber.h"
#include "device/kern/args.h"
#include "kernel/half.h"

#define LBK_HAS_MT 1
#define LBK_MT_KERNEL LBK_KERNEL
#define LBK_MTE_KERNEL LBK_KERNEL
#define LBK_MT_SHARED(T, n, cnt) T *n = (T *)lb_fiber_shared_more(lbk_, sizeof(T) * (cnt))
#define LBK_MT_RING(n, cnt) LBK_MT_SHARED(u8, n, cnt)
#define LBK_RING_PUT16(to, from) memcpy(to, lbk_aligned_u4(from), 16)
#define LBK_RING_PUT8(to, from) memcpy(to, from, 8)
#define LBK_RING_PUT4(to, from) memcpy(to, from, 4)
#define LBK_RING_AT u8 *
#define LBK_RING_ADDRESS(p) (p)
#define LBK_RING_END()
#define LBK_RING_WAIT(n)
#define LBK_SIMD_BARRIER() ((void)lb_fiber_simd(lbk_, LB_FIBER_SUM, 0, __LINE__))
#define LBK_ROUND_INT(x) ((i32)lrintf(x))
#define LBK_PERMUTE(a, b, which) lbk_permute(a, b, which)
#define LBK_SIMD_TOP(v) ((u32)LBK_SIMD_MAX((float)(v)))
#define LBK_SIMD_XOR(v, m) lbk_simd_xor(lbk_, v, m, __LINE__)
#define LBK_DOT4(c, a, b) lbk_dot4(c, a, b)
#define LBK_KEEP(x)
#define LBK_COUNT(counter) ((*(counter))++)
#define LBK_MMA_U8(c, a0, a1, a2, a3, b0, b1) \
    lbk_mma(lbk_, c, (const u32[]){a0, a1, a2, a3, b0, b1}, lbk_mma_u8, __LINE__)
#define LBK_MMA_I8(c, a0, a1, a2, a3, b0, b1) \
    lbk_mma(lbk_, c, (const u32[]){a0, a1, a2, a3, b0, b1}, lbk_mma_i8, __LINE__)
#define LBK_MMA_F16(c, a0, a1, a2, a3, b0, b1) \
    lbk_mma(lbk_, c, (const u32[]){a0, a1, a2, a3, b0, b1}, lbk_mma_f16, __LINE__)
#define LBK_MMA_BF16(c, a0, a1, a2, a3, b0, b1) \
    lbk_mma(lbk_, c, (const u32[]){a0, a1, a2, a3, b0, b1}, lbk_mma_bf16, __LINE__)

/* Bytes of a (0 to 3) and b (4 to 7), by the four hexadecimal digits of which. */
static inline u32 lbk_permute(u32 a, u32 b, u32 which) {
    const u64 all = a | (u64)b << 32;
    u32 r = 0;
    for (u32 i = 0; i < 4; i++)
        r |= (u32)(all >> 8 * (which >> 4 * i & 7u) & 255u) << 8 * i;
    return r;
}

static inline float lbk_simd_xor(lb_fiber *f, float v, u32 mask, int line) {
    u32 word;
    float r;
    memcpy(&word, &v, 4);
    memcpy(&r, &lb_fiber_words(f, &word, 1, line)[(f->thread & 31u) ^ mask][0], 4);
    return r;
}

static inline i32 lbk_dot4(i32 c, u32 a, u32 b) {
    for (u32 i = 0; i < 4; i++)
        c += (i8)(a >> 8 * i & 255u) * (i8)(b >> 8 * i & 255u);
    return c;
}

static inline double lbk_mma_u8(u32 a, u32 b) {
    i32 sum = 0;
    for (u32 i = 0; i < 4; i++)
        sum += (i32)(a >> 8 * i & 255u) * (i8)(b >> 8 * i & 255u);
    return sum;
}
static inline double lbk_mma_i8(u32 a, u32 b) {
    i32 sum = 0;
    for (u32 i = 0; i < 4; i++)
        sum += (i8)(a >> 8 * i & 255u) * (i8)(b >> 8 * i & 255u);
    return sum;
}
static inline double lbk_mma_f16(u32 a, u32 b) {
    return (double)lb_f16_to_f32((u16)a) * (double)lb_f16_to_f32((u16)b) +
           (double)lb_f16_to_f32((u16)(a >> 16)) * (double)lb_f16_to_f32((u16)(b >> 16));
}
static inline double lbk_mma_bf16(u32 a, u32 b) {
    return (double)lb_bf16_to_f32((u16)a) * (double)lb_bf16_to_f32((u16)b) +
           (double)lb_bf16_to_f32((u16)(a >> 16)) * (double)lb_bf16_to_f32((u16)(b >> 16));
}

/* c: i32 [4] or, of halves, float [4] */
static inline void lbk_mma(lb_fiber *f, void *c, const u32 *words, double (*dot)(u32, u32),
                           int line) {
    const bool whole = dot == lbk_mma_u8 || dot == lbk_mma_i8;
    const u32 lane = f->thread & 31u, g = lane / 4, t = lane % 4;
    const u32(*all)[LB_FIBER_WORDS] = lb_fiber_words(f, words, 6, line);
    for (u32 i = 0; i < 4; i++) {
        const u32 half = i / 2, column = 2 * t + i % 2;
        double sum = 0;
        for (u32 k = 0; k < 4; k++) {
            const u32 *a = all[4 * g + k], *b = all[4 * column + k];
            sum += dot(a[half], b[4]) + dot(a[2 + half], b[5]);
        }
        if (whole)
            ((i32 *)c)[i] += (i32)sum;
        else
            ((float *)c)[i] = (float)((double)((float *)c)[i] + sum);
    }
}

#endif
