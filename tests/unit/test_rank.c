/* SPDX-License-Identifier: Apache-2.0 */
/* Places by magnitude, against a sort by another algorithm. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/rank.h"
#include <math.h>
#include <stdlib.h>

static const float *values;

static int before(const void *a, const void *b) {
    u32 i = *(const u32 *)a, j = *(const u32 *)b;
    float x = fabsf(values[i]), y = fabsf(values[j]);
    bool x_nan = x != x, y_nan = y != y;
    if (x_nan != y_nan)
        return x_nan ? 1 : -1;
    if (!x_nan && x != y)
        return x < y ? -1 : 1;
    return i < j ? -1 : i > j;
}

enum { NORMAL, BF16, FEW, ZEROS, EQUAL, WIDE, ODD, N_KINDS };

static float one(u32 kind, size_t i) {
    float x = lb_test_normal();
    switch (kind) {
    case BF16:
        return lb_f32_from_bits(lb_f32_bits(x) & 0xffff0000u);
    case FEW:
        return (float)(int)(x * 3) * 0.25f;
    case ZEROS:
        return i % 3 ? (i % 2 ? 0.0f : -0.0f) : x;
    case EQUAL:
        return i % 2 ? 1.5f : -1.5f;
    case WIDE:
        return lb_f32_from_bits((u32)lb_test_rand() & 0xbfffffffu);
    case ODD: {
        static const u32 odd[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0x7f800000, 0xff800000,
                                  1,          0x80000001, 0x7f7fffff, 0,          0x80000000};
        u64 k = lb_test_rand_below(2 * LB_LEN(odd));
        return k < LB_LEN(odd) ? lb_f32_from_bits(odd[k]) : x;
    }
    default:
        return x;
    }
}

LB_TEST(places_by_magnitude) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    static const size_t sizes[] = {0,   1,    2,    3,    7,    64,    255,  256,
                                   257, 1000, 4095, 4096, 5000, 20000, 70000};
    for (u32 s = 0; s < LB_LEN(sizes); s++)
        for (u32 kind = 0; kind < N_KINDS; kind++) {
            size_t n = sizes[s];
            float *x = malloc((n + 1) * sizeof *x), *out = malloc((n + 1) * sizeof *out);
            u32 *order = malloc((n + 1) * sizeof *order);
            float *by_rank = malloc((n + 1) * sizeof *by_rank);
            u32 *scratch = malloc((LB_RANK_SCRATCH(n) + 1) * sizeof *scratch);
            CHECK(x && out && order && by_rank && scratch);
            for (size_t i = 0; i < n; i++) {
                x[i] = one(kind, i);
                order[i] = (u32)i;
            }
            values = x;
            out[n] = 77;
            scratch[LB_RANK_SCRATCH(n)] = 0xabcdef;
            qsort(order, n, sizeof *order, before);
            for (size_t i = 0; i < n; i++)
                by_rank[i] = (float)i;
            lb_rank_abs_f32(&k, n, out, x, by_rank, scratch);
            u64 n_bad = 0;
            for (size_t i = 0; i < n; i++)
                n_bad += out[order[i]] != (float)i;
            CHECK_U64(n_bad, 0);
            CHECK(out[n] == 77 && scratch[LB_RANK_SCRATCH(n)] == 0xabcdef);
            free(x);
            free(out);
            free(order);
            free(by_rank);
            free(scratch);
        }
}

LB_TEST_MAIN("fast")
