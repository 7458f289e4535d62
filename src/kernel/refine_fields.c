/* SPDX-License-Identifier: Apache-2.0 */
/* refine_fields.c: where scales and codes lie in the blocks (layouts: legacy_ref.c, blocks_k.h). */
#include "kernel/refine_blocks.h"
#include "kernel/iq_tables.h"
#include "kernel/quant_k.h"

static float half_at(const u8 *p) {
    return lb_f16_to_f32(lb_load_u16(p));
}

static void put_half(u8 *p, float x) {
    lb_store_u16(p, lb_quant_f16(x));
}

static float level_of(const lb_form *f, u32 code) {
    return f->levels.table ? f->levels.table[code] : f->levels.lo + (float)code;
}

static u8 code_of(const lb_form *f, float y) {
    u8 code = 0;
    if (!f->levels.table)
        return (u8)(i32)(y - f->levels.lo);
    while (code + 1u < f->levels.n && f->levels.table[code] < y)
        code++;
    return code;
}

static void to_levels(const lb_form *f, const u8 *q, lb_parts *p) {
    for (u32 i = 0; i < f->n; i++)
        p->y[i] = level_of(f, q[i]);
}

static void to_codes(const lb_form *f, const lb_parts *p, u8 *q) {
    for (u32 i = 0; i < f->n; i++)
        q[i] = code_of(f, p->y[i]);
}

static void no_codes(lb_parts *p) {
    for (u32 i = 0; i < 16; i++)
        p->sc[i] = p->m[i] = 1;
    p->dmin = 0;
}

/* ---- one scale: q4_0, q4_1, q5_0, q5_1, iq4_nl ---- */

/* f16 d; with an offset f16 m; of five bits u32; 16 bytes of nibbles in halves. */
static void open_small(const lb_form *f, const u8 *b, lb_parts *p) {
    const bool five = f->dtype == LB_Q5_0 || f->dtype == LB_Q5_1;
    u8 q[32];
    no_codes(p);
    p->d = half_at(b);
    if (f->offset)
        p->dmin = -half_at(b + 2);
    b += f->offset ? 4 : 2;
    const u32 high = five ? lb_load_u32(b) : 0;
    b += five ? 4 : 0;
    for (u32 i = 0; i < 16; i++) {
        q[i] = (u8)((b[i] & 15) | (high >> i & 1) << 4);
        q[i + 16] = (u8)(b[i] >> 4 | (high >> (i + 16) & 1) << 4);
    }
    to_levels(f, q, p);
}

static void close_small(const lb_form *f, const lb_parts *p, u8 *b) {
    const bool five = f->dtype == LB_Q5_0 || f->dtype == LB_Q5_1;
    u8 q[32];
    u32 high = 0;
    to_codes(f, p, q);
    put_half(b, p->d);
    if (f->offset)
        put_half(b + 2, -p->dmin);
    b += f->offset ? 4 : 2;
    for (u32 i = 0; i < 32; i++)
        high |= (u32)(q[i] >> 4) << i;
    if (five)
        lb_store_u32(b, high);
    b += five ? 4 : 0;
    for (u32 i = 0; i < 16; i++)
        b[i] = (u8)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

/* q8_0: f16 d, i8. */
static void open_q8(const lb_form *f, const u8 *b, lb_parts *p) {
    no_codes(p);
    p->d = half_at(b);
    for (u32 i = 0; i < f->n; i++)
        p->y[i] = (float)(i8)b[2 + i];
}

static void close_q8(const lb_form *f, const lb_parts *p, u8 *b) {
    put_half(b, p->d);
    for (u32 i = 0; i < f->n; i++)
        b[2 + i] = (u8)(i8)p->y[i];
}

/* q1_0, q2_0: f16 d, codes from the lowest bits on. */
static void open_bits(const lb_form *f, const u8 *b, lb_parts *p) {
    const u32 bits = f->dtype == LB_Q1_0 ? 1 : 2, each = 8 / bits;
    no_codes(p);
    p->d = half_at(b);
    for (u32 i = 0; i < f->n; i++)
        p->y[i] = level_of(f, b[2 + i / each] >> i % each * bits & ((1u << bits) - 1));
}

static void close_bits(const lb_form *f, const lb_parts *p, u8 *b) {
    const u32 bits = f->dtype == LB_Q1_0 ? 1 : 2, each = 8 / bits;
    put_half(b, p->d);
    memset(b + 2, 0, f->n / each);
    for (u32 i = 0; i < f->n; i++)
        b[2 + i / each] |= (u8)(code_of(f, p->y[i]) << i % each * bits);
}

/* tq2_0: as q2_k's qs, then f16 d. */
static void unpack_2bit(const u8 *qs, u8 *q) {
    for (u32 i = 0; i < LB_QK; i++)
        q[i] = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

static void open_tq2(const lb_form *f, const u8 *b, lb_parts *p) {
    u8 q[LB_QK];
    no_codes(p);
    p->d = half_at(b + 64);
    unpack_2bit(b, q);
    to_levels(f, q, p);
}

static void close_tq2(const lb_form *f, const lb_parts *p, u8 *b) {
    u8 q[LB_QK];
    to_codes(f, p, q);
    lb_pack_2bit(b, q);
    put_half(b + 64, p->d);
}

/* tq1_0: where element i is: digit `n` of byte `at`. */
static u32 trit_at(u32 i, u32 *n) {
    if (i < 160) {
        *n = i / 32;
        return i % 32;
    }
    if (i < 240) {
        *n = (i - 160) / 16;
        return 32 + (i - 160) % 16;
    }
    *n = (i - 240) / 4;
    return 48 + (i - 240) % 4;
}

static const u8 pow3[5] = {81, 27, 9, 3, 1};

static void open_tq1(const lb_form *f, const u8 *b, lb_parts *p) {
    static const u8 power[5] = {1, 3, 9, 27, 81};
    no_codes(p);
    p->d = half_at(b + 52);
    for (u32 i = 0; i < f->n; i++) {
        u32 n;
        const u8 byte = b[trit_at(i, &n)];
        p->y[i] = (float)(((u8)(byte * power[n]) * 3 >> 8) - 1);
    }
}

static void close_tq1(const lb_form *f, const lb_parts *p, u8 *b) {
    u32 sum[52] = {0};
    for (u32 i = 0; i < f->n; i++) {
        u32 n, at = trit_at(i, &n);
        sum[at] += code_of(f, p->y[i]) * pow3[n];
    }
    for (u32 i = 0; i < 52; i++)
        b[i] = (u8)((sum[i] * 256 + 242) / 243);
    put_half(b + 52, p->d);
}

/* ---- scales with codes of their own ---- */

static void open_q2k(const lb_form *f, const u8 *block, lb_parts *p) {
    const lb_block_q2_k *b = (const void *)block;
    u8 q[LB_QK];
    p->d = half_at(b->d);
    p->dmin = half_at(b->dmin);
    for (u32 j = 0; j < 16; j++) {
        p->sc[j] = b->scales[j] & 15;
        p->m[j] = b->scales[j] >> 4;
    }
    unpack_2bit(b->qs, q);
    to_levels(f, q, p);
}

static void close_q2k(const lb_form *f, const lb_parts *p, u8 *block) {
    lb_block_q2_k *b = (void *)block;
    u8 q[LB_QK];
    to_codes(f, p, q);
    put_half(b->d, p->d);
    put_half(b->dmin, p->dmin);
    for (u32 j = 0; j < 16; j++)
        b->scales[j] = (u8)(p->sc[j] | p->m[j] << 4);
    lb_pack_2bit(b->qs, q);
}

static void open_q3k(const lb_form *f, const u8 *block, lb_parts *p) {
    const lb_block_q3_k *b = (const void *)block;
    u8 q[LB_QK], sc[16];
    p->d = half_at(b->d);
    p->dmin = 0;
    lb_k3_scales(b->scales, sc);
    for (u32 j = 0; j < 16; j++) {
        p->sc[j] = sc[j] - 32;
        p->m[j] = 0;
    }
    unpack_2bit(b->qs, q);
    for (u32 i = 0; i < LB_QK; i++)
        q[i] = (u8)(q[i] | (b->hmask[i % 32] >> (i / 32) & 1) << 2);
    to_levels(f, q, p);
}

static void close_q3k(const lb_form *f, const lb_parts *p, u8 *block) {
    lb_block_q3_k *b = (void *)block;
    u8 q[LB_QK], low[LB_QK], sc[16];
    to_codes(f, p, q);
    for (u32 j = 0; j < 16; j++)
        sc[j] = (u8)(p->sc[j] + 32);
    for (u32 i = 0; i < LB_QK; i++)
        low[i] = q[i] & 3;
    put_half(b->d, p->d);
    lb_put_k3_scales(b->scales, sc);
    lb_pack_2bit(b->qs, low);
    lb_pack_1bit(b->hmask, q, 2);
}

static void open_q45k(const lb_form *f, const u8 *block, lb_parts *p) {
    const bool five = f->dtype == LB_Q5_K;
    const u8 *high = block + 16, *qs = block + (five ? 48 : 16);
    u8 q[LB_QK], sc[8], m[8];
    p->d = half_at(block);
    p->dmin = half_at(block + 2);
    lb_k4_scales(block + 4, sc, m);
    for (u32 j = 0; j < 8; j++) {
        p->sc[j] = sc[j];
        p->m[j] = m[j];
    }
    for (u32 i = 0; i < LB_QK; i++) {
        q[i] = qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
        if (five)
            q[i] = (u8)(q[i] | (high[i % 32] >> (i / 32) & 1) << 4);
    }
    to_levels(f, q, p);
}

static void close_q45k(const lb_form *f, const lb_parts *p, u8 *block) {
    const bool five = f->dtype == LB_Q5_K;
    lb_k_fit fit;
    to_codes(f, p, fit.q);
    for (u32 j = 0; j < 8; j++) {
        fit.sc[j] = (u8)p->sc[j];
        fit.m[j] = (u8)p->m[j];
    }
    put_half(block, p->d);
    put_half(block + 2, p->dmin);
    lb_put_k4_scales(block + 4, &fit, 63);
    if (five)
        lb_pack_1bit(block + 16, fit.q, 4);
    lb_pack_4bit(block + (five ? 48 : 16), fit.q);
}

static void open_q6k(const lb_form *f, const u8 *block, lb_parts *p) {
    const lb_block_q6_k *b = (const void *)block;
    u8 q[LB_QK];
    p->d = half_at(b->d);
    p->dmin = 0;
    for (u32 j = 0; j < 16; j++) {
        p->sc[j] = (i8)b->scales[j];
        p->m[j] = 0;
    }
    for (u32 i = 0; i < LB_QK; i++)
        q[i] = (u8)((b->ql[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15) |
                    (b->qh[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) << 4);
    to_levels(f, q, p);
}

static void close_q6k(const lb_form *f, const lb_parts *p, u8 *block) {
    lb_block_q6_k *b = (void *)block;
    u8 q[LB_QK];
    to_codes(f, p, q);
    put_half(b->d, p->d);
    for (u32 j = 0; j < 16; j++)
        b->scales[j] = (u8)(i8)p->sc[j];
    lb_pack_q6(b, q);
}

static void open_iq4xs(const lb_form *f, const u8 *block, lb_parts *p) {
    const lb_block_iq4_xs *b = (const void *)block;
    const u32 high = lb_load_u16(b->scales_h);
    u8 q[LB_QK];
    p->d = half_at(b->d);
    p->dmin = 0;
    for (u32 j = 0; j < 8; j++) {
        p->sc[j] = (i32)((b->scales_l[j / 2] >> (j % 2 * 4) & 15u) | (high >> 2 * j & 3) << 4) - 32;
        p->m[j] = 0;
    }
    for (u32 i = 0; i < LB_QK; i++)
        q[i] = b->qs[i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
    to_levels(f, q, p);
}

static void close_iq4xs(const lb_form *f, const lb_parts *p, u8 *block) {
    lb_block_iq4_xs *b = (void *)block;
    u8 q[LB_QK];
    u32 high = 0;
    to_codes(f, p, q);
    put_half(b->d, p->d);
    memset(b->scales_l, 0, sizeof b->scales_l);
    for (u32 j = 0; j < 8; j++) {
        const u32 sc = (u32)(p->sc[j] + 32);
        b->scales_l[j / 2] |= (u8)((sc & 15) << j % 2 * 4);
        high |= sc >> 4 << 2 * j;
    }
    lb_store_u16(b->scales_h, (u16)high);
    for (u32 i = 0; i < LB_QK / 2; i++)
        b->qs[i] = (u8)(q[i / 16 * 32 + i % 16] | q[i / 16 * 32 + i % 16 + 16] << 4);
}

/* ---- the table ---- */

static const float two_values[2] = {-1, 1};
static const float iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
#define WHOLE(a, b) \
    { .lo = (a), .hi = (b) }
#define IQ4 \
    { .lo = -127, .hi = 113, .table = iq4_values, .n = 16 }

static const lb_form forms[] = {
    {LB_Q4_0, 32, 32, WHOLE(-8, 7), 1, 1, 0, false, open_small, close_small},
    {LB_Q4_1, 32, 32, WHOLE(0, 15), 1, 1, 0, true, open_small, close_small},
    {LB_Q5_0, 32, 32, WHOLE(-16, 15), 1, 1, 0, false, open_small, close_small},
    {LB_Q5_1, 32, 32, WHOLE(0, 31), 1, 1, 0, true, open_small, close_small},
    {LB_IQ4_NL, 32, 32, IQ4, 1, 1, 0, false, open_small, close_small},
    {LB_Q8_0, 32, 32, WHOLE(-127, 127), 1, 1, 0, false, open_q8, close_q8},
    {LB_Q1_0,
     128,
     128,
     {.lo = -1, .hi = 1, .table = two_values, .n = 2},
     1,
     1,
     0,
     false,
     open_bits,
     close_bits},
    {LB_Q2_0, 64, 64, WHOLE(-1, 2), 1, 1, 0, false, open_bits, close_bits},
    {LB_TQ1_0, LB_QK, LB_QK, WHOLE(-1, 1), 1, 1, 0, false, open_tq1, close_tq1},
    {LB_TQ2_0, LB_QK, LB_QK, WHOLE(-1, 1), 1, 1, 0, false, open_tq2, close_tq2},
    {LB_Q2_K, LB_QK, 16, WHOLE(0, 3), 0, 15, 15, false, open_q2k, close_q2k},
    {LB_Q3_K, LB_QK, 16, WHOLE(-4, 3), -32, 31, 0, false, open_q3k, close_q3k},
    {LB_Q4_K, LB_QK, 32, WHOLE(0, 15), 0, 63, 63, false, open_q45k, close_q45k},
    {LB_Q5_K, LB_QK, 32, WHOLE(0, 31), 0, 63, 63, false, open_q45k, close_q45k},
    {LB_Q6_K, LB_QK, 16, WHOLE(-32, 31), -128, 127, 0, false, open_q6k, close_q6k},
    {LB_IQ4_XS, LB_QK, 32, IQ4, -32, 31, 0, false, open_iq4xs, close_iq4xs},
};

const lb_form *lb_form_of(lb_dtype t) {
    for (size_t i = 0; i < LB_LEN(forms); i++)
        if (forms[i].dtype == t)
            return &forms[i];
    return NULL;
}
