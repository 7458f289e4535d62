/* SPDX-License-Identifier: Apache-2.0 */
/* report_codes.c: how often each code of a type is used, and its scales by size.
 *
 * Layouts of blocks are those that kernel/ decodes (its scalar references); the order of values
 * within a block does not matter here. A scale is what a code is multiplied with: of types with
 * sub-blocks the product of both, in f32 as in decoding. */
#include "kernel/blocks_k.h"
#include "kernel/half.h"
#include "ops/report_internal.h"
#include <math.h>

/* ---- magnitudes ---- */

u32 lb_report_log_bin(float magnitude) {
    u32 bits = lb_f32_bits(magnitude), e = bits >> 23, m = bits & 0x7fffffu;
    if (e == 0) { /* subnormal: m * 2^-149 */
        u32 top = 31 - (u32)__builtin_clz(m);
        e = top; /* 2^(top - 149) */
        m = top < 23 ? m << (23 - top) & 0x7fffffu : 0;
    } else {
        e += 22; /* 2^(e - 127) = 2^(e + 22 - 149) */
    }
    return 2 * e + (m > 0x3504f3u); /* the fraction of the last f32 below the root of 2 */
}

void lb_report_logs_add(lb_report_logs *l, float x) {
    if (x == 0)
        l->n_zero++;
    else if (isfinite(x))
        l->n[lb_report_log_bin(fabsf(x))]++;
    else
        l->n_bad++;
}

/* ---- types ---- */

typedef struct code_kind {
    lb_dtype dtype;
    u32 n_codes;
    i32 zero;
    bool signed_magnitude, points;
} code_kind;

static const code_kind kinds[] = {
    {LB_Q4_0, 16, 8, false, false},    {LB_Q4_1, 16, 0, false, false},
    {LB_Q5_0, 32, 16, false, false},   {LB_Q5_1, 32, 0, false, false},
    {LB_Q8_0, 256, 128, false, false}, {LB_Q8_1, 256, 128, false, false},
    {LB_Q8_K, 256, 128, false, false}, {LB_Q2_K, 4, 0, false, false},
    {LB_Q3_K, 8, 4, false, false},     {LB_Q4_K, 16, 0, false, false},
    {LB_Q5_K, 32, 0, false, false},    {LB_Q6_K, 64, 32, false, false},
    {LB_IQ4_NL, 16, 8, false, false},  {LB_IQ4_XS, 16, 8, false, false},
    {LB_TQ1_0, 3, 1, false, false},    {LB_TQ2_0, 4, 1, false, false},
    {LB_Q1_0, 2, 0, false, false},     {LB_Q2_0, 4, 1, false, false},
    {LB_MXFP4, 16, 8, true, false},    {LB_NVFP4, 16, 8, true, false},
    {LB_IQ2_XXS, 256, 0, false, true}, {LB_IQ2_XS, 512, 0, false, true},
    {LB_IQ2_S, 1024, 0, false, true},  {LB_IQ3_XXS, 256, 0, false, true},
    {LB_IQ3_S, 512, 0, false, true},   {LB_IQ1_S, 2048, 0, false, true},
    {LB_IQ1_M, 2048, 0, false, true},
};

bool lb_report_codes_of(lb_dtype t, lb_report_hist *h) {
    for (u32 i = 0; i < LB_LEN(kinds); i++)
        if (kinds[i].dtype == t) {
            h->n_codes = kinds[i].n_codes;
            h->zero = kinds[i].zero;
            h->signed_magnitude = kinds[i].signed_magnitude;
            h->points = kinds[i].points;
            return true;
        }
    return false;
}

/* ---- pieces of blocks ---- */

static void scale(lb_report_hist *h, float x) {
    lb_report_logs_add(&h->scales, x);
}

static float f16_at(const u8 *p) {
    return lb_f16_to_f32(lb_load_u16(p));
}

static void nibbles(const u8 *p, u32 n, u64 *codes) {
    for (u32 i = 0; i < n; i++) {
        codes[p[i] & 15]++;
        codes[p[i] >> 4]++;
    }
}

static void crumbs(const u8 *p, u32 n, u64 *codes) {
    for (u32 i = 0; i < n; i++)
        for (u32 k = 0; k < 8; k += 2)
            codes[p[i] >> k & 3]++;
}

static void bytes(const u8 *p, u32 n, u64 *codes) {
    for (u32 i = 0; i < n; i++)
        codes[p[i] ^ 128]++; /* i8, the least first */
}

/* E2M1 with the sign in bit 3, in order of value: -6 ... -0, 0 ... 6. */
static void fp4(const u8 *p, u32 n, u64 *codes) {
    for (u32 i = 0; i < n; i++)
        for (u32 k = 0; k < 8; k += 4) {
            u32 c = p[i] >> k & 15;
            codes[c < 8 ? 8 + c : 15 - c]++;
        }
}

/* 32 values: low nibbles in qs, the fifth bits in qh. */
static void five(const u8 *qs, u32 qh, u64 *codes) {
    for (u32 j = 0; j < 16; j++) {
        codes[(qs[j] & 15u) | (qh >> j & 1) << 4]++;
        codes[(u32)qs[j] >> 4 | (qh >> (j + 16) & 1) << 4]++;
    }
}

static void tq1(const u8 *p, u32 n, u32 digits, u64 *codes) {
    static const u8 pow3[5] = {1, 3, 9, 27, 81};
    for (u32 i = 0; i < n; i++)
        for (u32 k = 0; k < digits; k++)
            codes[(u8)(p[i] * pow3[k]) * 3 >> 8]++;
}

/* ---- small blocks ---- */

/* As kernel/legacy_ref.c has it: half of E4M3, for doubled codes; here the whole. */
static float nvfp4_scale(u8 x) {
    const u32 e = x >> 3 & 15, m = x & 7;
    if (x == 0x7f)
        return 0;
    return e == 0 ? (float)m * 0x1p-9f : lb_f32_from_bits((e + 127 - 7) << 23 | m << 20);
}

static float e8m0(u8 x) {
    return lb_f32_from_bits(x == 0 ? 0x400000u : (u32)x << 23);
}

static void legacy_block(lb_dtype t, const u8 *p, lb_report_hist *h) {
    u64 *c = h->codes;
    if (t == LB_MXFP4) {
        scale(h, e8m0(p[0]));
        fp4(p + 1, 16, c);
        return;
    }
    if (t == LB_NVFP4) {
        for (u32 i = 0; i < 4; i++)
            scale(h, nvfp4_scale(p[i]));
        fp4(p + 4, 32, c);
        return;
    }
    scale(h, f16_at(t == LB_TQ1_0 ? p + 52 : t == LB_TQ2_0 ? p + 64 : p));
    if (t == LB_Q4_0 || t == LB_IQ4_NL)
        nibbles(p + 2, 16, c);
    else if (t == LB_Q4_1)
        nibbles(p + 4, 16, c);
    else if (t == LB_Q5_0)
        five(p + 6, lb_load_u32(p + 2), c);
    else if (t == LB_Q5_1)
        five(p + 8, lb_load_u32(p + 4), c);
    else if (t == LB_Q8_0)
        bytes(p + 2, 32, c);
    else if (t == LB_Q8_1)
        bytes(p + 4, 32, c);
    else if (t == LB_Q1_0)
        lb_report_count_bits(p + 2, 128, 1, h);
    else if (t == LB_Q2_0)
        crumbs(p + 2, 16, c);
    else if (t == LB_TQ2_0)
        crumbs(p, 64, c);
    else {
        tq1(p, 48, 5, c);
        tq1(p + 48, 4, 4, c);
    }
}

/* ---- 256 values ---- */

static void q2_k(const lb_block_q2_k *b, lb_report_hist *h) {
    for (u32 i = 0; i < 16; i++)
        scale(h, f16_at(b->d) * (float)(b->scales[i] & 15));
    crumbs(b->qs, 64, h->codes);
}

static void q3_k(const lb_block_q3_k *b, lb_report_hist *h) {
    u8 sc[16];
    lb_k3_scales(b->scales, sc);
    for (u32 i = 0; i < 16; i++)
        scale(h, f16_at(b->d) * (float)(sc[i] - 32));
    for (u32 j = 0; j < LB_QK; j++) {
        u32 low = b->qs[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3;
        h->codes[low | ((u32)b->hmask[j % 32] >> (j / 32) & 1) << 2]++;
    }
}

static void q4_q5_k(const u8 *d, const u8 scales[12], const u8 *qh, const u8 *qs,
                    lb_report_hist *h) {
    u8 sc[8], m[8];
    lb_k4_scales(scales, sc, m);
    for (u32 i = 0; i < 8; i++)
        scale(h, f16_at(d) * (float)sc[i]);
    if (!qh) {
        nibbles(qs, 128, h->codes);
        return;
    }
    for (u32 j = 0; j < LB_QK; j++) {
        u32 low = qs[j / 64 * 32 + j % 32] >> (j / 32 % 2 * 4) & 15;
        h->codes[low | ((u32)qh[j % 32] >> (j / 32) & 1) << 4]++;
    }
}

static void q6_k(const lb_block_q6_k *b, lb_report_hist *h) {
    for (u32 i = 0; i < 16; i++)
        scale(h, f16_at(b->d) * (float)(i8)b->scales[i]);
    for (u32 j = 0; j < LB_QK; j++) {
        u32 low = b->ql[j / 128 * 64 + j % 64] >> (j / 64 % 2 * 4) & 15;
        h->codes[low | (b->qh[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3u) << 4]++;
    }
}

static void iq4_xs(const lb_block_iq4_xs *b, lb_report_hist *h) {
    u32 high = lb_load_u16(b->scales_h);
    for (u32 g = 0; g < 8; g++) {
        u32 low = b->scales_l[g / 2] >> (g % 2 * 4) & 15;
        scale(h, f16_at(b->d) * (float)((i32)(low | (high >> 2 * g & 3) << 4) - 32));
    }
    nibbles(b->qs, 128, h->codes);
}

/* ---- codebooks: a code is a point of 8 or 4 values ---- */

static void iq2_xxs(const lb_block_iq2_xxs *b, lb_report_hist *h) {
    for (const u8 *q = b->qs; q < b->qs + 64; q += 8) {
        scale(h, f16_at(b->d) * (0.5f + (float)(lb_load_u32(q + 4) >> 28)) * 0.25f);
        for (u32 l = 0; l < 4; l++)
            h->codes[q[l]]++;
    }
}

static void iq2_scales(const u8 d[2], const u8 scales[8], lb_report_hist *h) {
    for (u32 i = 0; i < 16; i++)
        scale(h, f16_at(d) * (0.5f + (float)(scales[i / 2] >> (i % 2 * 4) & 15)) * 0.25f);
}

static void iq2_xs(const lb_block_iq2_xs *b, lb_report_hist *h) {
    iq2_scales(b->d, b->scales, h);
    for (u32 p = 0; p < 32; p++)
        h->codes[lb_load_u16(b->qs + 2 * p) & 511]++;
}

static void iq2_s(const lb_block_iq2_s *b, lb_report_hist *h) {
    iq2_scales(b->d, b->scales, h);
    for (u32 p = 0; p < 32; p++)
        h->codes[b->qs[p] | ((u32)b->qh[p / 4] >> (p % 4 * 2) & 3) << 8]++;
}

static void iq3_xxs(const lb_block_iq3_xxs *b, lb_report_hist *h) {
    for (u32 g = 0; g < 8; g++)
        scale(h, f16_at(b->d) * (0.5f + (float)(lb_load_u32(b->aux + 4 * g) >> 28)) * 0.5f);
    for (u32 i = 0; i < 64; i++)
        h->codes[b->qs[i]]++;
}

static void iq3_s(const lb_block_iq3_s *b, lb_report_hist *h) {
    for (u32 g = 0; g < 8; g++)
        scale(h, f16_at(b->d) * (float)(1 + 2 * (b->scales[g / 2] >> (g % 2 * 4) & 15)));
    for (u32 i = 0; i < 64; i++)
        h->codes[b->qs[i] | ((u32)b->qh[i / 8] >> (i % 8) & 1) << 8]++;
}

static void iq1_s(const lb_block_iq1_s *b, lb_report_hist *h) {
    for (u32 g = 0; g < 8; g++) {
        u32 qh = lb_load_u16(b->qh + 2 * g);
        scale(h, f16_at(b->d) * (float)(2 * (qh >> 12 & 7) + 1));
        for (u32 l = 0; l < 4; l++)
            h->codes[b->qs[4 * g + l] | (qh >> (3 * l) & 7) << 8]++;
    }
}

static void iq1_m(const lb_block_iq1_m *b, lb_report_hist *h) {
    float d = lb_f16_to_f32(lb_iq1m_d(b->scales));
    for (u32 i = 0; i < 16; i++) {
        u32 sc = (u32)lb_load_u16(b->scales + i / 4 * 2) >> (i % 4 * 3) & 7;
        scale(h, d * (float)(2 * sc + 1));
    }
    for (u32 p = 0; p < 32; p++)
        h->codes[b->qs[p] | ((u32)b->qh[p / 2] >> (p % 2 * 4) & 7) << 8]++;
}

static void block(lb_dtype t, const void *p, lb_report_hist *h) {
    const lb_block_q4_k *q4 = p;
    const lb_block_q5_k *q5 = p;
    const lb_block_q8_k *q8 = p;
    switch (t) {
    case LB_Q2_K:
        q2_k(p, h);
        break;
    case LB_Q3_K:
        q3_k(p, h);
        break;
    case LB_Q4_K:
        q4_q5_k(q4->d, q4->scales, NULL, q4->qs, h);
        break;
    case LB_Q5_K:
        q4_q5_k(q5->d, q5->scales, q5->qh, q5->qs, h);
        break;
    case LB_Q6_K:
        q6_k(p, h);
        break;
    case LB_Q8_K:
        scale(h, lb_f32_from_bits(lb_load_u32(q8->d)));
        bytes(q8->qs, 256, h->codes);
        break;
    case LB_IQ4_XS:
        iq4_xs(p, h);
        break;
    case LB_IQ2_XXS:
        iq2_xxs(p, h);
        break;
    case LB_IQ2_XS:
        iq2_xs(p, h);
        break;
    case LB_IQ2_S:
        iq2_s(p, h);
        break;
    case LB_IQ3_XXS:
        iq3_xxs(p, h);
        break;
    case LB_IQ3_S:
        iq3_s(p, h);
        break;
    case LB_IQ1_S:
        iq1_s(p, h);
        break;
    case LB_IQ1_M:
        iq1_m(p, h);
        break;
    default:
        legacy_block(t, p, h);
        break;
    }
}

void lb_report_count_blocks(lb_dtype t, const u8 *blocks, u64 n, lb_report_hist *h) {
    u32 size = lb_dtype_get(t)->block_bytes;
    for (u64 i = 0; i < n; i++)
        block(t, blocks + i * size, h);
}

void lb_report_count_bits(const u8 *p, u64 n, u32 bits, lb_report_hist *h) {
    u32 have = 0, hold = 0, mask = (1u << bits) - 1;
    for (u64 i = 0; i < n; i++) {
        if (have < bits) {
            hold |= (u32)*p++ << have;
            have += 8;
        }
        h->codes[hold & mask]++;
        hold >>= bits;
        have -= bits;
    }
}
