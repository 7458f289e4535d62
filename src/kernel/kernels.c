/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c: fills the kernel table: references first, then each family's faster files. */
#include "kernel/kernel.h"
#include "base/cpu.h"

#define LB_FAMILY(family, isa) void lb_kinit_##family##_##isa(lb_kernels *k);
#include "kernel/families.def"
#undef LB_FAMILY

#if defined(__x86_64__) && !defined(LB_NO_SIMD)
#define LB_HAS_avx2 1
#define LB_HAS_avxvnni 1
#define LB_HAS_avx512 1
#define LB_HAS_avx512vnni 1
#define LB_HAS_avx512vbmi 1
#define LB_HAS_neon 0
#define LB_HAS_dotprod 0
#define LB_HAS_i8mm 0
#elif defined(__aarch64__) && !defined(LB_NO_SIMD)
#define LB_HAS_avx2 0
#define LB_HAS_avxvnni 0
#define LB_HAS_avx512 0
#define LB_HAS_avx512vnni 0
#define LB_HAS_avx512vbmi 0
#define LB_HAS_neon 1
#define LB_HAS_dotprod 1
#define LB_HAS_i8mm 1
#else
#define LB_HAS_avx2 0
#define LB_HAS_avxvnni 0
#define LB_HAS_avx512 0
#define LB_HAS_avx512vnni 0
#define LB_HAS_avx512vbmi 0
#define LB_HAS_neon 0
#define LB_HAS_dotprod 0
#define LB_HAS_i8mm 0
#endif
#define LB_BIT_avx2 LB_ISA_AVX2
#define LB_BIT_avxvnni LB_ISA_AVXVNNI
#define LB_BIT_avx512 LB_ISA_AVX512
#define LB_BIT_avx512vnni LB_ISA_AVX512VNNI
#define LB_BIT_avx512vbmi LB_ISA_AVX512VBMI
#define LB_BIT_neon LB_ISA_NEON
#define LB_BIT_dotprod LB_ISA_DOTPROD
#define LB_BIT_i8mm LB_ISA_I8MM

/* Selects its second or third argument by a 0/1 macro, so that a family file that is not compiled
 * on this platform is never referenced. */
#define LB_IF_1(yes) yes
#define LB_IF_0(yes)
#define LB_IF_(flag, yes) LB_IF_##flag(yes)
#define LB_IF(flag, yes) LB_IF_(flag, yes)

void lb_kernels_init(lb_kernels *k, u32 isa_mask) {
#define LB_KERNEL(name, ret, args, cmp) k->name = lb_k_##name##_ref;
#include "kernel/kernel.def"
#undef LB_KERNEL
    (void)isa_mask;
#define LB_FAMILY(family, isa) \
    LB_IF(LB_HAS_##isa, if (isa_mask & LB_BIT_##isa) lb_kinit_##family##_##isa(k);)
#include "kernel/families.def"
#undef LB_FAMILY
}

lb_decode_fn *lb_kernels_decode(const lb_kernels *k, lb_dtype t) {
    switch (t) {
#define CASE(id, name) \
    case LB_##id:      \
        return k->decode_f32_##name;
        CASE(F32, f32)
        CASE(F16, f16)
        CASE(BF16, bf16)
        CASE(F64, f64)
        CASE(F8_E4M3, f8_e4m3)
        CASE(F8_E5M2, f8_e5m2)
        CASE(F8_E8M0, f8_e8m0)
        CASE(F8_E4M3FNUZ, f8_e4m3fnuz)
        CASE(F8_E5M2FNUZ, f8_e5m2fnuz)
        CASE(F6_E2M3, f6_e2m3)
        CASE(F6_E3M2, f6_e3m2)
        CASE(F4, f4)
        CASE(Q4_0, q4_0)
        CASE(Q4_1, q4_1)
        CASE(Q5_0, q5_0)
        CASE(Q5_1, q5_1)
        CASE(Q8_0, q8_0)
        CASE(Q8_1, q8_1)
        CASE(Q2_K, q2_k)
        CASE(Q3_K, q3_k)
        CASE(Q4_K, q4_k)
        CASE(Q5_K, q5_k)
        CASE(Q6_K, q6_k)
        CASE(Q8_K, q8_k)
        CASE(IQ2_XXS, iq2_xxs)
        CASE(IQ2_XS, iq2_xs)
        CASE(IQ3_XXS, iq3_xxs)
        CASE(IQ1_S, iq1_s)
        CASE(IQ4_NL, iq4_nl)
        CASE(IQ3_S, iq3_s)
        CASE(IQ2_S, iq2_s)
        CASE(IQ4_XS, iq4_xs)
        CASE(IQ1_M, iq1_m)
        CASE(TQ1_0, tq1_0)
        CASE(TQ2_0, tq2_0)
        CASE(MXFP4, mxfp4)
        CASE(NVFP4, nvfp4)
        CASE(Q1_0, q1_0)
        CASE(Q2_0, q2_0)
#undef CASE
    default:
        return NULL;
    }
}

lb_encode_fn *lb_kernels_encode(const lb_kernels *k, lb_dtype t) {
    switch (t) {
    case LB_F32:
        return k->encode_f32_f32;
    case LB_F16:
        return k->encode_f16_f32;
    case LB_BF16:
        return k->encode_bf16_f32;
    default:
        return NULL;
    }
}

lb_quant_fn *lb_kernels_quant(const lb_kernels *k, lb_dtype t) {
    switch (t) {
#define CASE(id, name) \
    case LB_##id:      \
        return k->quant_##name##_f32;
        CASE(Q4_0, q4_0)
        CASE(Q4_1, q4_1)
        CASE(Q5_0, q5_0)
        CASE(Q5_1, q5_1)
        CASE(Q8_0, q8_0)
        CASE(Q2_K, q2_k)
        CASE(Q3_K, q3_k)
        CASE(Q4_K, q4_k)
        CASE(Q5_K, q5_k)
        CASE(Q6_K, q6_k)
        CASE(IQ4_NL, iq4_nl)
        CASE(IQ4_XS, iq4_xs)
        CASE(TQ1_0, tq1_0)
        CASE(TQ2_0, tq2_0)
        CASE(MXFP4, mxfp4)
        CASE(NVFP4, nvfp4)
        CASE(Q1_0, q1_0)
        CASE(Q2_0, q2_0)
        CASE(IQ1_S, iq1_s)
        CASE(IQ1_M, iq1_m)
        CASE(IQ2_XXS, iq2_xxs)
        CASE(IQ2_XS, iq2_xs)
        CASE(IQ2_S, iq2_s)
        CASE(IQ3_XXS, iq3_xxs)
        CASE(IQ3_S, iq3_s)
#undef CASE
    default:
        return NULL;
    }
}

bool lb_quant_needs_importance(lb_dtype t) {
    return t == LB_IQ2_XXS || t == LB_IQ2_XS || t == LB_IQ1_S;
}
