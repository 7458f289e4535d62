/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_cpu.h: the dialect as C11: a kernel is one function over a fiber (device/cpu_fiber.h),
 * which all macros that ask for the thread's place, for memory of the threadgroup or for another
 * thread take from the hidden first argument `lbk_`. */
#ifndef LB_DEVICE_KERN_DIALECT_CPU_H
#define LB_DEVICE_KERN_DIALECT_CPU_H

#include "base/base.h"
#include "device/cpu_fiber.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

#define LBK_HAS_DOUBLE 1
#define LBK_GLOBAL
#define LBK_THREAD
#define LBK_TG_MEM
#define LBK_FN static inline
#define LBK_FAR_FN static
#define LBK_IN(i, T, n) const T *n
#define LBK_OUT(i, T, n) T *n
#define LBK_VAL(i, T, n) const T n
#define LBK_IN_USE(i, T, n) (const T *)args_[i]
#define LBK_OUT_USE(i, T, n) (T *)args_[i]
#define LBK_VAL_USE(i, T, n) *(const T *)args_[i]
#define LBK_IN_SIGN(i, T, n) 'i'
#define LBK_OUT_SIGN(i, T, n) 'o'
#define LBK_VAL_SIGN(i, T, n) 'v'
#define LBK_NO_BYTES(i, T, n) 0
#define LBK_VAL_BYTES(i, T, n) sizeof(T)
#define LBK_PLUS +
#define LBK_KERNEL(name, ARGS)                                                                    \
    static void LBK_CAT(name, _body)(lb_fiber * lbk_, ARGS(LBK_IN, LBK_OUT, LBK_VAL, LBK_COMMA)); \
    static void LBK_CAT(name, _call)(lb_fiber * lbk_, void *const *args_) {                       \
        LBK_CAT(name, _body)                                                                      \
        (lbk_, ARGS(LBK_IN_USE, LBK_OUT_USE, LBK_VAL_USE, LBK_COMMA));                            \
    }                                                                                             \
    const lb_cpu_kernel LBK_CAT(lb_dk_, name) = {                                                 \
        LBK_CAT(name, _call),                                                                     \
        {ARGS(LBK_IN_SIGN, LBK_OUT_SIGN, LBK_VAL_SIGN, LBK_COMMA), 0},                            \
        (u32)(ARGS(LBK_NO_BYTES, LBK_NO_BYTES, LBK_VAL_BYTES, LBK_PLUS))};                        \
    static void LBK_CAT(name, _body)(LB_UNUSED lb_fiber * lbk_,                                   \
                                     ARGS(LBK_IN, LBK_OUT, LBK_VAL, LBK_COMMA))
#define LBK_KERNEL_EARLY LBK_KERNEL
#define LBK_AFTER()
#define LBK_SELF_ARG lb_fiber *lbk_,
#define LBK_SELF lbk_,
#define LBK_TG_X (lbk_->group[0])
#define LBK_TG_Y (lbk_->group[1])
#define LBK_TG_Z (lbk_->group[2])
#define LBK_TID (lbk_->thread)
#define LBK_LANE (lbk_->thread & 31u)
#define LBK_SG (lbk_->thread >> 5)
#define LBK_SHARED(T, n, cnt) T *n = (T *)lb_fiber_shared(lbk_, sizeof(T) * (cnt))
#define LBK_TABLE(T, n, cnt) static const T n[cnt]
#define LBK_BARRIER() lb_fiber_barrier(lbk_, __LINE__)
#define LBK_UNROLL
#define LBK_UNROLL_BY(n)
#define LBK_SIMD_SUM(x) lb_fiber_simd(lbk_, LB_FIBER_SUM, x, __LINE__)
#define LBK_SIMD_MAX(x) lb_fiber_simd(lbk_, LB_FIBER_MAX, x, __LINE__)
#define LBK_F16(bits) lb_f16_to_f32((u16)(bits))
#define LBK_BF16(bits) lb_bf16_to_f32((u16)(bits))
#define LBK_BITS(bits) lb_f32_from_bits(bits)
#define LBK_FLOAT_BITS(x) lb_f32_bits(x)
#define LBK_TO_F16(x) ((u32)lb_f16_from_f32(x))
#define LBK_FMA(a, b, c) fmaf(a, b, c)
#define LBK_EXP(x) lbk_exp(x)
#define LBK_TANH(x) lbk_tanh(x)
#define LBK_RSQRT(x) (1.0f / sqrtf(x))
#define LBK_SQRT(x) sqrtf(x)
#define LBK_NAN lb_f32_from_bits(LB_NAN_BITS)
#define LBK_LOWEST (-(float)INFINITY)

typedef struct lbk_f4 {
    float x, y, z, w;
} lbk_f4;
typedef struct lbk_u2 {
    u32 x, y;
} lbk_u2;
typedef struct lbk_u4 {
    u32 x, y, z, w;
} lbk_u4;

/* Through a cast of p's own, so that the undefined-behaviour sanitizer sees a wrong alignment. */
#define LBK_PREFETCH(p) (void)(p)
#define LBK_LDF4(p) (*lbk_aligned_f4(p))
#define LBK_LDU2(p) (*lbk_aligned_u2(p))
#define LBK_LDU4(p) (*lbk_aligned_u4(p))

static inline const lbk_f4 *lbk_aligned_f4(const void *p) {
    LB_ASSERT((uintptr_t)p % 16 == 0);
    return p;
}
static inline const lbk_u2 *lbk_aligned_u2(const void *p) {
    LB_ASSERT((uintptr_t)p % 8 == 0);
    return p;
}
static inline const lbk_u4 *lbk_aligned_u4(const void *p) {
    LB_ASSERT((uintptr_t)p % 16 == 0);
    return p;
}

static inline float lbk_exp(float x) {
    float out;
    lb_k_exp_f32_ref(1, &out, &x);
    return out;
}

static inline float lbk_tanh(float x) {
    float out;
    lb_k_tanh_f32_ref(1, &out, &x);
    return out;
}

#endif
