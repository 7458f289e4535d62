/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c: processor features by CPUID and XGETBV (Intel SDM vol. 1, 13.3 and 14.3); on Arm what the
 * system says.
 *
 * Needs base.h alone: checkkern links it without the rest of base. */
#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

#define XCR0_AVX 0x06u    /* XMM and YMM state are saved by the system */
#define XCR0_AVX512 0xe6u /* and opmask, the upper halves of ZMM0-15, ZMM16-31 */

static u32 xgetbv0(void) {
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

static bool has_all(u32 reg, u32 bits) {
    return (reg & bits) == bits;
}

u32 lb_cpu_isa(void) {
    u32 a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    u32 c1 = c;
    /* Leaf 1 ECX: FMA 12, OSXSAVE 27, AVX 28, F16C 29. */
    if (!has_all(c1, 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29))
        return 0;
    u32 xcr0 = xgetbv0();
    if (!has_all(xcr0, XCR0_AVX) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    /* Leaf 7 EBX: AVX2 5, BMI2 8, AVX512F 16, DQ 17, BW 30, VL 31. */
    if (!has_all(b, 1u << 5 | 1u << 8))
        return 0;
    u32 mask = LB_ISA_AVX2;
    if (has_all(b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) && has_all(xcr0, XCR0_AVX512))
        mask |= LB_ISA_AVX512;
    /* Leaf 7 ECX: AVX512_VNNI 11, AVX512_VBMI 1. */
    if ((mask & LB_ISA_AVX512) && has_all(c, 1u << 11))
        mask |= LB_ISA_AVX512VNNI;
    if ((mask & LB_ISA_AVX512) && has_all(c, 1u << 1))
        mask |= LB_ISA_AVX512VBMI;
    return mask;
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
#include <sys/sysctl.h>

static bool has(const char *name) {
    int yes = 0;
    size_t size = sizeof yes;
    return sysctlbyname(name, &yes, &size, NULL, 0) == 0 && yes;
}

static bool has_dotprod(void) {
    return has("hw.optional.arm.FEAT_DotProd");
}

static bool has_i8mm(void) {
    return has("hw.optional.arm.FEAT_I8MM");
}
#elif defined(__linux__)
#include <sys/auxv.h>

/* Bits of the auxiliary vector (Linux, arch/arm64/include/uapi/asm/hwcap.h), which an older libc
 * has no names for. */
static bool has_dotprod(void) {
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
}

static bool has_i8mm(void) {
    return getauxval(AT_HWCAP2) >> 13 & 1; /* HWCAP2_I8MM */
}
#else
static bool has_dotprod(void) {
    return false;
}

static bool has_i8mm(void) {
    return false;
}
#endif

u32 lb_cpu_isa(void) {
    u32 mask = LB_ISA_NEON; /* part of the base architecture of every system we build for */
    if (has_dotprod())
        mask |= LB_ISA_DOTPROD;
    if (has_dotprod() && has_i8mm())
        mask |= LB_ISA_I8MM;
    return mask;
}
#else
u32 lb_cpu_isa(void) {
    return LB_ISA_REF;
}
#endif

typedef struct isa_row {
    const char *name;
    lb_isa isa;
    u32 mask; /* this family and those below it */
} isa_row;

static const isa_row rows[] = {
    {"ref", LB_ISA_REF, 0},
    {"avx2", LB_ISA_AVX2, LB_ISA_AVX2},
    {"avx512", LB_ISA_AVX512, LB_ISA_AVX2 | LB_ISA_AVX512},
    {"avx512vnni", LB_ISA_AVX512VNNI, LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI},
    {"avx512vbmi", LB_ISA_AVX512VBMI,
     LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI},
    {"neon", LB_ISA_NEON, LB_ISA_NEON},
    {"dotprod", LB_ISA_DOTPROD, LB_ISA_NEON | LB_ISA_DOTPROD},
    {"i8mm", LB_ISA_I8MM, LB_ISA_NEON | LB_ISA_DOTPROD | LB_ISA_I8MM},
};

const char *lb_isa_name(lb_isa i) {
    for (size_t k = 0; k < LB_LEN(rows); k++)
        if (rows[k].isa == i)
            return rows[k].name;
    return "unknown";
}

bool lb_isa_parse(lb_str name, u32 *mask) {
    for (size_t k = 0; k < LB_LEN(rows); k++) {
        if (lb_str_eq_c(name, rows[k].name)) {
            *mask = rows[k].mask;
            return true;
        }
    }
    return false;
}
