/* SPDX-License-Identifier: Apache-2.0 */
/* select_avx2.c: what an exact selection counts and collects, with AVX2. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_select_avx2(lb_kernels *k);

/* Lanes count down, in 32 bits: so many vectors at a time. */
#define SPAN_ELEMS ((size_t)8 << 24)

static u64 sum_of(__m256i lanes) {
    i32 lane[8];
    u64 n = 0;
    _mm256_storeu_si256((__m256i *)lane, lanes);
    for (u32 i = 0; i < 8; i++)
        n += (u64) - (i64)lane[i];
    return n;
}

static u64 span(size_t n_elems, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                u64 count[3]) {
    const __m256i lo8 = _mm256_set1_epi32(lo), hi8 = _mm256_set1_epi32(hi);
    const __m256i mag = _mm256_set1_epi32(0x7fffffff);
    __m256i above = _mm256_setzero_si256(), on_hi = above, on_lo = above;
    u64 n = 0;
    size_t i = 0;
    for (; i + 8 <= n_elems; i += 8) {
        const __m256i bits = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(a + i)), mag);
        const __m256i gt = _mm256_cmpgt_epi32(bits, hi8), lt = _mm256_cmpgt_epi32(hi8, bits);
        const __m256i in = _mm256_and_si256(lt, _mm256_cmpgt_epi32(bits, lo8));
        above = _mm256_add_epi32(above, gt);
        on_hi = _mm256_add_epi32(on_hi, _mm256_cmpeq_epi32(bits, hi8));
        on_lo = _mm256_add_epi32(on_lo, _mm256_cmpeq_epi32(bits, lo8));
        u32 m = (u32)_mm256_movemask_ps(_mm256_castsi256_ps(in));
        if (m) {
            u32 part[8];
            _mm256_storeu_si256((__m256i *)part, bits);
            for (; m; m &= m - 1, n++)
                if (n < room)
                    list[n] = part[__builtin_ctz(m)];
        }
    }
    count[0] += sum_of(above);
    count[1] += sum_of(on_hi);
    count[2] += sum_of(on_lo);
    const u64 full = n < room ? n : room;
    return n + lb_k_select_f32_ref(n_elems - i, a + i, lo, hi, room ? list + full : list,
                                   room - full, count);
}

#include "kernel/select_tmpl.h"

void lb_kinit_select_avx2(lb_kernels *k) {
    k->select_f32 = select_f32;
}
