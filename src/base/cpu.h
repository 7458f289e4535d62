/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h: which SIMD families this processor and operating system can run. */
#ifndef LB_BASE_CPU_H
#define LB_BASE_CPU_H

#include "base/base.h"

typedef enum lb_isa {
    LB_ISA_REF = 0,
    LB_ISA_AVX2 = 1u << 0,       /* AVX2 + FMA + F16C + BMI2 */
    LB_ISA_AVX512 = 1u << 1,     /* F + BW + DQ + VL */
    LB_ISA_NEON = 1u << 2,       /* Armv8-A Advanced SIMD */
    LB_ISA_AVX512VBMI = 1u << 3, /* AVX-512 with byte permutations (Ice Lake, Zen 4 and later) */
    LB_ISA_AVX512VNNI =
        1u << 4,              /* AVX-512 with products of bytes (Cascade Lake, Zen 4 and later) */
    LB_ISA_DOTPROD = 1u << 5, /* Armv8.2-A with FEAT_DotProd (sdot) */
    LB_ISA_I8MM = 1u << 6,    /* and FEAT_I8MM (usmmla) */
    LB_ISA_AVXVNNI = 1u << 7, /* AVX2 with products of bytes (Alder Lake, Zen 5 and later) */
} lb_isa;

u32 lb_cpu_isa(void); /* mask of what runs here, operating system support included */
/* "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512vbmi", "neon", "dotprod", "i8mm" */
const char *lb_isa_name(lb_isa i);
/* Such a name -> the mask of that family and of what it implies (ref = 0). */
bool lb_isa_parse(lb_str name, u32 *mask);

/* What an x86-64 processor says: CPUID's leaf 1 (ECX), leaf 7 (EBX, ECX) and its subleaf 1 (EAX),
 * 0 where there is none, and XGETBV(0), 0 where the system has no XSAVE. */
typedef struct lb_cpuid {
    u32 c1, b7, c7, a71, xcr0;
} lb_cpuid;
u32 lb_isa_of_cpuid(const lb_cpuid *r);

#endif
