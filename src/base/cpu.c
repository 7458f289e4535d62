/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c: processor features by CPUID and XGETBV (Intel SDM vol. 1, 13.3 and 14.3); on Arm what the
 * system says.
 *
 * Needs base.h alone: checkkern links it without the rest of base. */
#include "base/cpu.h"

#define OSXSAVE (1u << 27) /* of leaf 1 ECX: XGETBV is there */
#define XCR0_AVX 0x06u     /* XMM and YMM state are saved by the system */
#define XCR0_AVX512 0xe6u  /* and opmask, the upper halves of ZMM0-15, ZMM16-31 */

static bool has_all(u32 reg, u32 bits) {
    return (reg & bits) == bits;
}

u32 lb_isa_of_cpuid(const lb_cpuid *r) {
    /* Leaf 1 ECX: FMA 12, OSXSAVE 27, AVX 28, F16C 29. Leaf 7 EBX: AVX2 5, BMI2 8. */
    if (!has_all(r->c1, 1u << 12 | OSXSAVE | 1u << 28 | 1u << 29) || !has_all(r->xcr0, XCR0_AVX) ||
        !has_all(r->b7, 1u << 5 | 1u << 8))
        return 0;
    u32 mask = LB_ISA_AVX2;
    /* Leaf 7.1 EAX: AVX-VNNI 4. */
    if (has_all(r->a71, 1u << 4))
        mask |= LB_ISA_AVXVNNI;
    /* Leaf 7 EBX: AVX512F 16, DQ 17, BW 30, VL 31. */
    if (!has_all(r->b7, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) ||
        !has_all(r->xcr0, XCR0_AVX512))
        return mask;
    mask |= LB_ISA_AVX512;
    /* Leaf 7 ECX: AVX512_VNNI 11, AVX512_VBMI 1. */
    if (has_all(r->c7, 1u << 11))
        mask |= LB_ISA_AVX512VNNI;
    if (has_all(r->c7, 1u << 1))
        mask |= LB_ISA_AVX512VBMI;
    return mask;
}

#if defined(__x86_64__)
#include <cpuid.h>

static u32 xgetbv0(void) {
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

u32 lb_cpu_isa(void) {
    u32 a, b, c, d, n_sub;
    lb_cpuid r = {0};
    if (!__get_cpuid(1, &a, &b, &r.c1, &d))
        return 0;
    if (r.c1 & OSXSAVE)
        r.xcr0 = xgetbv0();
    if (__get_cpuid_count(7, 0, &n_sub, &r.b7, &r.c7, &d) && n_sub >= 1)
        (void)__get_cpuid_count(7, 1, &r.a71, &b, &c, &d);
    return lb_isa_of_cpuid(&r);
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
    u32 mask; /* this family and what it implies */
} isa_row;

static const isa_row rows[] = {
    {"ref", LB_ISA_REF, 0},
    {"avx2", LB_ISA_AVX2, LB_ISA_AVX2},
    {"avxvnni", LB_ISA_AVXVNNI, LB_ISA_AVX2 | LB_ISA_AVXVNNI},
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
