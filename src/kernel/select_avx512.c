/* SPDX-License-Identifier: Apache-2.0 */
/* select_avx512.c: what an exact selection counts and collects, with AVX-512, the rest under a
 * mask.
 */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/kernel.h"
#include <immintrin.h>

void lb_kinit_select_avx512(lb_kernels *k);

static inline u32 count_of(__mmask16 m) {
    return (u32)__builtin_popcount(m);
}

static u64 select_f32(size_t n_elems, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                      u64 count[3]) {
    const __m512i lo16 = _mm512_set1_epi32(lo), hi16 = _mm512_set1_epi32(hi);
    const __m512i mag = _mm512_set1_epi32(0x7fffffff);
    u64 n = 0, above = 0, on_hi = 0, on_lo = 0;
    for (size_t i = 0; i < n_elems; i += 16) {
        const size_t left = n_elems - i;
        const __mmask16 some = left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
        const __m512i bits = _mm512_and_si512(_mm512_maskz_loadu_epi32(some, a + i), mag);
        const __mmask16 lt = _mm512_mask_cmplt_epi32_mask(some, bits, hi16);
        const __mmask16 in = _mm512_mask_cmpgt_epi32_mask(lt, bits, lo16);
        above += count_of(_mm512_mask_cmpgt_epi32_mask(some, bits, hi16));
        on_hi += count_of(_mm512_mask_cmpeq_epi32_mask(some, bits, hi16));
        on_lo += count_of(_mm512_mask_cmpeq_epi32_mask(some, bits, lo16));
        if (in) {
            const __m512i packed = _mm512_maskz_compress_epi32(in, bits);
            const u32 m = count_of(in);
            if (n < room) {
                const u64 fit = room - n < m ? room - n : m;
                _mm512_mask_storeu_epi32(list + n, (__mmask16)((1u << fit) - 1), packed);
            }
            n += m;
        }
    }
    count[0] += above;
    count[1] += on_hi;
    count[2] += on_lo;
    return n;
}

void lb_kinit_select_avx512(lb_kernels *k) {
    k->select_f32 = select_f32;
}
