/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c: XXH3-128 by the xxHash library, compiled in (0.8.x; format stable since 0.8.0). */
#include "base/hash_isa.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wshadow"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

_Static_assert(sizeof(XXH3_state_t) <= sizeof(lb_xxh), "the state of xxHash has grown");
_Static_assert(_Alignof(XXH3_state_t) <= _Alignof(lb_xxh),
               "the state of xxHash needs more alignment");

static lb_hash128 from_xxh(XXH128_hash_t h) {
    return (lb_hash128){.lo = h.low64, .hi = h.high64};
}

lb_hash128 lb_xxh128(const void *ptr, size_t len) {
    return from_xxh(XXH3_128bits(ptr, len));
}

/* Cleared first: states are stored in journals, whose bytes must not depend on what was there
 * before. */
void lb_xxh_init(lb_xxh *h) {
    memset(h, 0, sizeof *h);
    (void)XXH3_128bits_reset((XXH3_state_t *)(void *)h->opaque);
}

/* What the compiler's library knows of the processor since the program began: no CPUID here. */
void lb_xxh_update(lb_xxh *h, const void *ptr, size_t len) {
    if (len == 0)
        return;
#if defined(__x86_64__) && !defined(LB_NO_SIMD)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        lb_xxh_update_avx512(h, ptr, len);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma")) {
        lb_xxh_update_avx2(h, ptr, len);
        return;
    }
#endif
    (void)XXH3_128bits_update((XXH3_state_t *)(void *)h->opaque, ptr, len);
}

lb_hash128 lb_xxh_digest(const lb_xxh *h) {
    return from_xxh(XXH3_128bits_digest((const XXH3_state_t *)(const void *)h->opaque));
}

bool lb_hash_eq(lb_hash128 a, lb_hash128 b) {
    return a.lo == b.lo && a.hi == b.hi;
}

void lb_hash_hex(lb_hash128 h, char out[33]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        out[i] = digits[h.hi >> (60 - 4 * i) & 15];
        out[16 + i] = digits[h.lo >> (60 - 4 * i) & 15];
    }
    out[32] = 0;
}

bool lb_hash_parse(lb_str hex, lb_hash128 *out) {
    u64 half[2] = {0, 0};
    if (hex.len != 32)
        return false;
    for (size_t i = 0; i < 32; i++) {
        char c = hex.ptr[i];
        u64 v;
        if (c >= '0' && c <= '9')
            v = (u64)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = (u64)(c - 'a') + 10;
        else
            return false;
        half[i / 16] = half[i / 16] << 4 | v;
    }
    *out = (lb_hash128){.lo = half[1], .hi = half[0]};
    return true;
}
