/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_avx512vbmi.c: MLX's groups where byte permutations help: fp8 by the tables of
 * f8_avx512vbmi.h, sixteen codes of three bits cut by one
 * vpmultishiftqb. Codes of four bits were no faster so. */
#ifndef __AVX512VBMI__
#error "compile with -mavx512vbmi"
#endif
#include "kernel/f8_avx512vbmi.h"
#include "kernel/mlx_avx512.h"

void lb_kinit_mlx_avx512vbmi(lb_kernels *k);

/* Sixteen codes of three bits from bit `first` of eight bytes: to the bottom of dwords, other bits
 * above. */
static inline __m512i cut16(const u8 *p, int first) {
    const __m512i at = _mm512_setr_epi64(0x0000000300000000, 0x0000000900000006, 0x0000000f0000000c,
                                         0x0000001500000012, 0x0000001b00000018, 0x000000210000001e,
                                         0x0000002700000024, 0x0000002d0000002a);
    return _mm512_multishift_epi64_epi8(_mm512_add_epi8(at, _mm512_set1_epi32(first)),
                                        _mm512_broadcastq_epi64(lb_load8(p)));
}

static inline void put_q3(float *out, const u8 *p, size_t group_elems, float scale, float bias,
                          u32 round, const lb_mlx_const *c) {
    const __m512 v8 = lb_mlx_values(scale, bias, round, c);
    const __m512 v = _mm512_shuffle_f32x4(v8, v8, 0x44); /* bit 3 of an index is the next code's */
    for (size_t i = 0; i < group_elems; i += 32, p += 12, out += 32) {
        _mm512_storeu_ps(out, _mm512_permutexvar_ps(cut16(p, 0), v));
        _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(cut16(p + 4, 16), v));
    }
}
LB_MLX_DECODE(3, put_q3)

static inline void put_scaled(float *out, __m512 x, const float *scale) {
    _mm512_storeu_ps(out, lb_mlx_canon(_mm512_mul_ps(x, _mm512_set1_ps(*scale))));
}

static void decode_fp8(size_t n_groups, size_t group_elems, float *out, const void *codes,
                       const float *scale) {
    const u8 *p = codes;
    const lb_f8_table t = lb_e4m3_table();
    const u32 halves = group_elems == 32; /* sixteen elements a step, of groups of 16 or 32 */
    const size_t n = n_groups << halves;
    __m512i low, high;
    __m512 v[4];
    size_t i = 0;
    for (; i + 4 <= n; i += 4, p += 64, out += 64) {
        lb_f8_bytes(&t, lb_deal64(lb_load64(p)), &low, &high);
        lb_f8_spread(low, high, v);
        put_scaled(out, v[0], scale + (i >> halves));
        put_scaled(out + 16, v[1], scale + ((i + 1) >> halves));
        put_scaled(out + 32, v[2], scale + ((i + 2) >> halves));
        put_scaled(out + 48, v[3], scale + ((i + 3) >> halves));
    }
    for (; i < n; i++, p += 16, out += 16) {
        const __m512i sixteen = _mm512_castsi128_si512(lb_load16(p));
        lb_f8_bytes(&t, lb_deal64(sixteen), &low, &high);
        lb_f8_spread(low, high, v);
        put_scaled(out, v[0], scale + (i >> halves));
    }
}

void lb_kinit_mlx_avx512vbmi(lb_kernels *k) {
    k->decode_f32_mlx_q3 = decode_q3;
    k->decode_f32_mlx_fp8 = decode_fp8;
}
