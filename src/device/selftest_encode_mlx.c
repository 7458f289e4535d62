/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_encode_mlx.c: kernels that make MLX's groups, against the scalar quantizers of kernel/,
 * byte by byte: all widths, groups, types of values and of scales, both rules. */
#include "device/encode.h"
#include "device/selftest_cases.h"
#include "kernel/quant_mlx.h"
#include <stdio.h>

enum { PARTS = 3 /* codes, scales, biases */ };

typedef struct groups {
    bool affine;
    lb_encode_mlx_args a;
    u8 *in, *want[PARTS], *got[PARTS];
    u64 n_elems, in_bytes, bytes[PARTS];
} groups;

static lb_round round_of(u32 type) {
    return type == LB_DEV_F16 ? LB_ROUND_F16 : type == LB_DEV_BF16 ? LB_ROUND_BF16 : LB_ROUND_NONE;
}

/* Case i: its place among all widths and groups, with types and rule that go round beside it. */
static groups case_of(bool affine, u32 i, u32 n_groups) {
    static const u32 bits[] = {1, 2, 3, 4, 5, 6, 8}, kinds[][2] = {{32, 4}, {32, 8}, {16, 4}};
    groups g = {.affine = affine};
    g.a.n_groups = n_groups;
    if (affine) {
        g.a.bits = bits[i % LB_LEN(bits)];
        g.a.group = 32u << i / LB_LEN(bits) % 3;
        g.a.in_type = (i + i / 7) % 3;
        g.a.out_type = (i + i / 3) % 3;
        g.a.cpu_rule = i / 21 % 2;
    } else {
        g.a.group = kinds[i % 3][0];
        g.a.bits = kinds[i % 3][1];
        g.a.in_type = i / 3 % 3;
    }
    return g;
}

/* Within what scales of the type hold, where it is f16. */
static void fill(lb_selftest *t, groups *g) {
    const bool exact = lb_dev_encode_exact(lb_dev_info_get(t->dev)->kind);
    const bool narrow = g->a.in_type == LB_DEV_F16 || g->a.out_type == LB_DEV_F16;
    const u32 ways = exact ? LB_SELFTEST_WAYS : 10;
    for (u64 i = 0; i < g->n_elems; i++) {
        const u32 way = (u32)(i / 128) % ways;
        float x = lb_selftest_encode_value(t, way, (u32)(i % 256));
        if (way == LB_SELFTEST_HUGE && (narrow || !g->affine))
            x *= 0x1p-90f; /* of NVFP4 2688 is the largest */
        if (i % 1024 == 3)
            x = -0.0f;
        (void)lb_float_store(g->in, i, x, round_of(g->a.in_type));
    }
}

static lb_status make(lb_selftest *t, groups *g, lb_err *err) {
    const u32 unit = !g->affine ? 1 : g->a.out_type == LB_DEV_F32 ? 4 : 2;
    bool ok;
    g->n_elems = (u64)g->a.n_groups * g->a.group;
    g->in_bytes = g->n_elems * (g->a.in_type == LB_DEV_F32 ? 4 : 2);
    g->bytes[0] = g->n_elems * g->a.bits / 8;
    g->bytes[1] = g->bytes[2] = (u64)g->a.n_groups * unit;
    ok = (g->in = lb_arena_push(&t->arena, (size_t)g->in_bytes, 16)) != NULL;
    for (u32 k = 0; k < PARTS && ok; k++) {
        g->want[k] = lb_arena_push(&t->arena, (size_t)g->bytes[k], 16);
        g->got[k] = lb_arena_push(&t->arena, (size_t)g->bytes[k], 16);
        ok = g->want[k] && g->got[k];
    }
    if (!ok)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    fill(t, g);
    return LB_OK;
}

/* How many groups do not hold their values: none, or the case is wrong. */
static u64 reference(const groups *g) {
    const u32 how = LB_QUANT_HOW(round_of(g->a.in_type), round_of(g->a.out_type), g->a.bits) |
                    (g->a.cpu_rule ? LB_QUANT_CPU : 0);
    const u64 n = g->a.n_groups;
    lb_kernels k;
    lb_kernels_init(&k, 0);
    lb_k_quant_mlx_q4_fn *const affine[] = {NULL,           k.quant_mlx_q1, k.quant_mlx_q2,
                                            k.quant_mlx_q3, k.quant_mlx_q4, k.quant_mlx_q5,
                                            k.quant_mlx_q6, NULL,           k.quant_mlx_q8};
    if (g->affine)
        return affine[g->a.bits](n, g->a.group, g->want[0], g->want[1], g->want[2], g->in, how);
    if (g->a.group == 16)
        return k.quant_mlx_nvfp4(n, g->want[0], g->want[1], g->in, 0, how);
    if (g->a.bits == 8)
        return k.quant_mlx_mxfp8(n, g->want[0], g->want[1], g->in, 0, how);
    return k.quant_mlx_mxfp4(n, g->want[0], g->want[1], g->in, 0, how);
}

lb_status lb_selftest_encode_mlx(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const bool affine = t->row->kernel == LB_DK_enc_mlx_affine;
    const u32 n_cases = affine ? 42 : 9;
    groups g = case_of(affine, i, i < n_cases ? 5 + 53 * (i % 3) : 40000);
    const u32 n_parts = affine ? 3 : 2;
    *more = i + 1 < n_cases + (t->opts->large ? 1 : 0);
    (void)snprintf(t->where, sizeof t->where, "%u groups of %u, %u bits, types %u %u, rule %u",
                   g.a.n_groups, g.a.group, g.a.bits, g.a.in_type, g.a.out_type, g.a.cpu_rule);
    LB_TRY(make(t, &g, err));
    const u64 n_odd = reference(&g);
    if (n_odd)
        return lb_fail(err, LB_E_DIFFERENT, "%s: %llu groups do not hold their values", t->where,
                       (unsigned long long)n_odd);
    lb_selftest_data bufs[4] = {{g.in, g.in_bytes}};
    void *outs[LB_DEV_BUFS_MAX] = {NULL};
    for (u32 k = 0; k < n_parts; k++) {
        bufs[k + 1].size_bytes = g.bytes[k];
        outs[k + 1] = g.got[k];
    }
    LB_TRY(lb_selftest_launch_all(t, bufs, &g.a, outs, err));
    for (u32 k = 0; k < n_parts; k++)
        for (u64 n = 0; n < g.bytes[k]; n++)
            lb_selftest_compare(t, n, (float)g.got[k][n], (double)g.want[k][n], 0);
    return LB_OK;
}
