/* SPDX-License-Identifier: Apache-2.0 */
/* Whether stored values are numbers: of random blocks what their decoding says. */
#include "kernel/finite.h"
#include "kernel/kernel.h"
#include "test.h"
#include <math.h>

static bool decodes(const lb_kernels *k, lb_dtype t, const u8 *block) {
    float v[256];
    u32 n = lb_dtype_get(t)->block_elems;
    lb_kernels_decode(k, t)(n, v, block);
    for (u32 i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

static void check_type(const lb_kernels *k, lb_dtype t) {
    const lb_dtype_info *d = lb_dtype_get(t);
    u8 b[3 * 512] = {0};
    u64 n_bad = 0;
    CHECK_U64(lb_blocks_not_finite(t, 3 * d->block_bytes, b), 0);
    for (u32 round = 0; round < 2000; round++) {
        u64 bad = 0;
        for (u32 i = 0; i < 3 * d->block_bytes; i++) { /* every exponent, often the largest */
            u64 r = lb_test_rand() >> 40;
            b[i] = (u8)((r & 256) ? 0x7f | (r & 0x80) : (r & 512) ? 0xff : r);
        }
        for (u32 i = 0; i < 3; i++)
            bad += !decodes(k, t, b + i * d->block_bytes);
        CHECK_U64(lb_blocks_not_finite(t, 3 * d->block_bytes, b), bad);
        n_bad += bad;
    }
    CHECK(n_bad > 0);
}

LB_TEST(as_decoded) {
    static const lb_dtype types[] = {
        LB_F32,   LB_F16,    LB_BF16,   LB_Q4_0,    LB_Q4_1,   LB_Q5_0,  LB_Q5_1,
        LB_Q8_0,  LB_Q2_K,   LB_Q3_K,   LB_Q4_K,    LB_Q5_K,   LB_Q6_K,  LB_Q1_0,
        LB_Q2_0,  LB_IQ1_S,  LB_IQ1_M,  LB_IQ2_XXS, LB_IQ2_XS, LB_IQ2_S, LB_IQ3_XXS,
        LB_IQ3_S, LB_IQ4_NL, LB_IQ4_XS, LB_TQ1_0,   LB_TQ2_0};
    lb_kernels k;
    lb_kernels_init(&k, 0);
    for (u32 i = 0; i < LB_LEN(types); i++)
        check_type(&k, types[i]);
}

/* ggml takes the largest exponent for no scale, and every E4M3 for one. */
LB_TEST(others) {
    u8 b[34] = {0};
    b[0] = 0xff;
    CHECK_U64(lb_blocks_not_finite(LB_MXFP4, 34, b), 1);
    b[17] = 0xff;
    CHECK_U64(lb_blocks_not_finite(LB_MXFP4, 34, b), 2);
    memset(b, 0xff, sizeof b);
    CHECK_U64(lb_blocks_not_finite(LB_I8, 34, b), 0);
    CHECK_U64(lb_blocks_not_finite(LB_F32, 32, b), 8);
    CHECK_U64(lb_blocks_not_finite(LB_F32, 0, b), 0);
}

/* Of all lengths and places, from any address. */
LB_TEST(largest_half) {
    u8 b[2 * 67 + 1] = {0};
    CHECK_U64(lb_halves_most(0, b), 0);
    for (u32 round = 0; round < 2000; round++) {
        const size_t n = (size_t)(1 + lb_test_rand() % 67), skew = round % 2;
        u32 want = 0;
        for (size_t i = 0; i < n; i++) {
            const u16 v = (u16)(lb_test_rand() >> 20 & 0xffffu);
            memcpy(b + skew + 2 * i, &v, sizeof v);
            want = LB_MAX(want, (u32)v & 0x7fffu);
        }
        CHECK_U64(lb_halves_most(n, b + skew), want);
    }
}
LB_TEST_MAIN("fast")
