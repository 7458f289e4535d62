/* SPDX-License-Identifier: Apache-2.0 */
/* finite.c: scales of blocks by their places. Source: ggml-common.h of llama-cpp-python 0.3.36. */
#include "kernel/finite.h"
#include "kernel/half.h"

static u64 count_f32(u64 n, const u8 *p) {
    u64 bad = 0;
    for (u64 i = 0; i < n; i++)
        bad += (lb_load_u32(p + 4 * i) & 0x7f800000u) == 0x7f800000u;
    return bad;
}

static u64 count_u16(u64 n, const u8 *p, u32 exponent) {
    u64 bad = 0;
    for (u64 i = 0; i < n; i++)
        bad += (lb_load_u16(p + 2 * i) & exponent) == exponent;
    return bad;
}

/* One scale of 16 bits in the upper halves of four words. */
static bool iq1_m_is_finite(const u8 *block) {
    const u8 *s = block + 48;
    u32 h = (u32)lb_load_u16(s) >> 12 | (lb_load_u16(s + 2) >> 8 & 0xf0u) |
            (lb_load_u16(s + 4) >> 4 & 0xf00u) | (lb_load_u16(s + 6) & 0xf000u);
    return lb_f16_is_finite((u16)h);
}

/* Where a block has its scales in f16; n 0: nowhere. */
typedef struct scales {
    u8 off, n;
} scales;

static scales scales_of(lb_dtype t) {
    switch (t) {
    case LB_Q4_1:
    case LB_Q5_1:
    case LB_Q8_1:
    case LB_Q4_K:
    case LB_Q5_K:
        return (scales){0, 2};
    case LB_Q2_K:
        return (scales){80, 2};
    case LB_Q3_K:
        return (scales){108, 1};
    case LB_Q6_K:
        return (scales){208, 1};
    case LB_TQ1_0:
        return (scales){52, 1};
    case LB_TQ2_0:
        return (scales){64, 1};
    case LB_Q1_0:
    case LB_Q2_0:
    case LB_Q4_0:
    case LB_Q5_0:
    case LB_Q8_0:
    case LB_IQ1_S:
    case LB_IQ2_XXS:
    case LB_IQ2_XS:
    case LB_IQ2_S:
    case LB_IQ3_XXS:
    case LB_IQ3_S:
    case LB_IQ4_NL:
    case LB_IQ4_XS:
        return (scales){0, 1};
    default:
        return (scales){0, 0};
    }
}

static bool block_is_finite(lb_dtype t, scales s, const u8 *block) {
    for (u32 k = 0; k < s.n; k++)
        if (!lb_f16_is_finite(lb_load_u16(block + s.off + 2 * k)))
            return false;
    switch (t) {
    case LB_MXFP4: /* E8M0 */
        return block[0] != 0xff;
    case LB_IQ1_M:
        return iq1_m_is_finite(block);
    case LB_Q8_K:
        return count_f32(1, block) == 0;
    default:
        return true;
    }
}

u64 lb_blocks_not_finite(lb_dtype t, u64 n_bytes, const u8 *bytes) {
    const lb_dtype_info *d = lb_dtype_get(t);
    scales s = scales_of(t);
    u64 bad = 0;
    if (t == LB_F32)
        return count_f32(n_bytes / 4, bytes);
    if (t == LB_F16 || t == LB_BF16)
        return count_u16(n_bytes / 2, bytes, t == LB_F16 ? 0x7c00u : 0x7f80u);
    for (u64 at = 0; d->cls == LB_CLASS_BLOCK && at < n_bytes; at += d->block_bytes)
        bad += !block_is_finite(t, s, bytes + at);
    return bad;
}

/* Sixteen side by side: compilers make two vectors of them. */
u32 lb_halves_most(size_t n, const u8 *values) {
    i16 most[16] = {0};
    i16 all = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) {
            const i16 v = (i16)(lb_load_u16(values + 2 * (i + j)) & 0x7fffu);
            most[j] = v > most[j] ? v : most[j];
        }
    for (; i < n; i++) {
        const i16 v = (i16)(lb_load_u16(values + 2 * i) & 0x7fffu);
        all = v > all ? v : all;
    }
    for (size_t j = 0; j < 16; j++)
        all = most[j] > all ? most[j] : all;
    return (u32)all;
}
