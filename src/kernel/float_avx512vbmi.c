/* SPDX-License-Identifier: Apache-2.0 */
/* float_avx512vbmi.c: 8- and 6-bit floats to f32 by the byte tables of f8_avx512vbmi.h, 64 a step;
 * rests under masks. */
#ifndef __AVX512VBMI__
#error "compile with -mavx512vbmi"
#endif
#include "kernel/f8_avx512vbmi.h"
#include "kernel/kernel.h"

void lb_kinit_float_avx512vbmi(lb_kernels *k);

static inline void put64(float *out, size_t n, __m512i low, __m512i high) {
    __m512 v[4];
    lb_f8_spread(low, high, v);
    if (n >= 64) {
        _mm512_storeu_ps(out, v[0]);
        _mm512_storeu_ps(out + 16, v[1]);
        _mm512_storeu_ps(out + 32, v[2]);
        _mm512_storeu_ps(out + 48, v[3]);
        return;
    }
    const u64 m = ((u64)1 << n) - 1;
    _mm512_mask_storeu_ps(out, (__mmask16)m, v[0]);
    _mm512_mask_storeu_ps(out + 16, (__mmask16)(m >> 16), v[1]);
    _mm512_mask_storeu_ps(out + 32, (__mmask16)(m >> 32), v[2]);
    _mm512_mask_storeu_ps(out + 48, (__mmask16)(m >> 48), v[3]);
}

/* Up to 64 bytes, dealt. */
static inline __m512i codes64(const u8 *p, size_t n) {
    if (n >= 64)
        return lb_deal64(lb_load64(p));
    return lb_deal64(_mm512_maskz_loadu_epi8(((u64)1 << n) - 1, p));
}

static void decode_f8_e4m3(size_t n_elems, float *out, const void *in) {
    const u8 *p = in;
    const lb_f8_table t = lb_e4m3_table();
    __m512i low, high;
    for (size_t i = 0; i < n_elems; i += 64) {
        lb_f8_bytes(&t, codes64(p + i, n_elems - i), &low, &high);
        put64(out + i, n_elems - i, low, high);
    }
}

/* The FNUZ formats have no -0: 0x80 is NaN. */
static inline void decode_fnuz(size_t n_elems, float *out, const u8 *p, int man_bits, int bias) {
    const lb_f8_table t = lb_f8_table_of(man_bits, bias);
    __m512i low, high;
    for (size_t i = 0; i < n_elems; i += 64) {
        const __m512i c = codes64(p + i, n_elems - i);
        const __mmask64 nan = _mm512_cmpeq_epi8_mask(c, _mm512_set1_epi8((char)0x80));
        lb_f8_bytes(&t, c, &low, &high);
        low = _mm512_mask_mov_epi8(low, nan, _mm512_set1_epi8((char)(LB_NAN_BITS >> 16 & 255)));
        high = _mm512_mask_mov_epi8(high, nan, _mm512_set1_epi8((char)(LB_NAN_BITS >> 24)));
        put64(out + i, n_elems - i, low, high);
    }
}

static void decode_f8_e4m3fnuz(size_t n_elems, float *out, const void *in) {
    decode_fnuz(n_elems, out, in, 3, 8);
}

static void decode_f8_e5m2fnuz(size_t n_elems, float *out, const void *in) {
    decode_fnuz(n_elems, out, in, 2, 16);
}

/* 64 codes of 48 bytes: three bytes are four codes, a dword of the dealt order; vpmultishiftqb cuts
 * eight of them from each six bytes, the next code's bits above them, which vpermb does not see. */
static inline void decode_f6(size_t n_elems, float *out, const u8 *p, int man_bits, int bias) {
    const __m512i minus = _mm512_set1_epi32(INT32_MIN);
    const __m512i mag0 = lb_magnitudes(0, man_bits, bias), mag1 = lb_magnitudes(1, man_bits, bias);
    const __m512i cut = _mm512_set1_epi64(0x2a241e18120c0600);
    const __m512i six = _mm512_setr_epi64(
        0x00000e0d0c020100, 0x00002625241a1918, 0x000011100f050403, 0x00002928271d1c1b,
        0x0000141312080706, 0x00002c2b2a201f1e, 0x00001716150b0a09, 0x00002f2e2d232221);
    __m512i table_low, table_high;
    lb_top_bytes(mag0, mag1, _mm512_or_si512(mag0, minus), _mm512_or_si512(mag1, minus), &table_low,
                 &table_high);
    for (size_t i = 0; i < n_elems; i += 64, p += 48) {
        const size_t n = LB_MIN(n_elems - i, (size_t)64);
        const __m512i bytes = _mm512_maskz_loadu_epi8(((u64)1 << (n / 4 * 3)) - 1, p);
        const __m512i c = _mm512_multishift_epi64_epi8(cut, _mm512_permutexvar_epi8(six, bytes));
        put64(out + i, n, _mm512_permutexvar_epi8(c, table_low),
              _mm512_permutexvar_epi8(c, table_high));
    }
}

static void decode_f6_e2m3(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 3, 1);
}

static void decode_f6_e3m2(size_t n_elems, float *out, const void *in) {
    decode_f6(n_elems, out, in, 2, 3);
}

void lb_kinit_float_avx512vbmi(lb_kernels *k) {
    k->decode_f32_f8_e4m3 = decode_f8_e4m3;
    k->decode_f32_f8_e4m3fnuz = decode_f8_e4m3fnuz;
    k->decode_f32_f8_e5m2fnuz = decode_f8_e5m2fnuz;
    k->decode_f32_f6_e2m3 = decode_f6_e2m3;
    k->decode_f32_f6_e3m2 = decode_f6_e3m2;
}
