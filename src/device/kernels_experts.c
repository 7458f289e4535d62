/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_experts.c: the families of experts' products in tiles of f16 (kern/args_tiles.h). How
 * many tiles there are only the device knows: grids are for as many as there can be. */
#include "device/kernels_family.h"

enum {
    PLAN_THREADS = 256, /* LBK_PLAN_THREADS */
    COPY_THREADS = 256
};

static const char too_large[] = LB_DEV_TOO_LARGE;

u32 lb_dev_plan_tiles(u32 n_routes, u32 n_mats) {
    return n_routes / LB_DEV_TILE_ROWS + n_mats + 1;
}

static u64 plan_bytes(u32 n_routes, u32 n_mats) {
    const u64 firsts = lb_round_up(2ull * (n_mats + 2ull), 4);
    return 4 * (firsts + 4ull * lb_dev_plan_tiles(n_routes, n_mats) + n_routes + n_mats + 1);
}

static const char *check(u32 n_routes, u32 n_mats) {
    return !n_mats || n_mats > LB_DEV_EXPERTS_MAX || n_routes > INT32_MAX
               ? "routes of no matrices, or of more than 1024"
               : NULL;
}

const char *lb_dev_shape_plan(u32 type, const void *val, lb_dev_shape *s) {
    const lb_group_args *a = val;
    const char *bad = check(a->n_routes, a->n_mats);
    (void)type;
    if (bad)
        return bad;
    s->need_bytes[0] = 8ull * a->n_routes;
    s->need_bytes[1] = plan_bytes(a->n_routes, a->n_mats);
    s->groups[0] = a->n_mats + 1;
    s->n_threads = PLAN_THREADS;
    return NULL;
}

/* Bytes of all tiles of a plan. */
static bool tiles_fit(u32 n_tiles, u32 n_cols, u64 *out) {
    *out = lb_dev_tile_bytes(n_tiles * LB_DEV_TILE_ROWS, n_cols, LB_DEV_TILE_ROWS);
    return (u64)n_tiles * LB_DEV_TILE_ROWS <= INT32_MAX && *out != UINT64_MAX;
}

const char *lb_dev_shape_tile_routes(u32 type, const void *val, lb_dev_shape *s) {
    const lb_tile_routes_args *a = val;
    const char *bad = check(a->n_routes, a->n_mats);
    (void)type;
    if (bad)
        return bad;
    if (!a->per || a->n_routes % a->per)
        return "routes are not of whole tokens";
    const u32 n_tokens = a->n_routes / a->per, n_tiles = lb_dev_plan_tiles(a->n_routes, a->n_mats);
    const u64 across = lb_ceil_div_u64(a->n_cols, LB_DEV_TILE_COLS);
    s->need_bytes[0] = lb_dev_tile_bytes(n_tokens, a->n_cols, LB_DEV_TILE_ROWS);
    s->need_bytes[1] = 4 * lb_round_up(n_tokens, LB_DEV_TILE_ROWS);
    s->need_bytes[2] = plan_bytes(a->n_routes, a->n_mats);
    s->need_bytes[4] = 4ull * n_tiles * LB_DEV_TILE_ROWS;
    if (!tiles_fit(n_tiles, a->n_cols, &s->need_bytes[3]) || across > LB_DEV_GRID_Y_MAX)
        return too_large;
    s->groups[0] = n_tiles;
    s->groups[1] = (u32)across;
    s->n_threads = COPY_THREADS;
    return NULL;
}

/* What both products read; n_bs operands of b. */
static const char *operands(const lb_gemm_experts_args *a, u32 n_bs, lb_dev_shape *s) {
    const char *bad = check(a->n_routes, a->n_mats);
    const u32 n_tiles = bad ? 0 : lb_dev_plan_tiles(a->n_routes, a->n_mats);
    if (bad)
        return bad;
    if (!a->n_b || a->first_mat >= a->n_mats || a->n_b > a->n_mats - a->first_mat)
        return "there are no such matrices";
    s->need_bytes[1] = a->a_scale != 0 ? 0 : 4ull * n_tiles * LB_DEV_TILE_ROWS;
    s->need_bytes[2] = plan_bytes(a->n_routes, a->n_mats);
    const u64 each = lb_dev_tile_bytes(a->n_rows, a->n_cols, LB_DEV_TILE_PAD);
    if (!tiles_fit(n_tiles, a->n_cols, &s->need_bytes[0]) || each == UINT64_MAX ||
        !lb_mul_u64(each, (u64)n_bs * a->n_b, &s->need_bytes[3]))
        return too_large;
    for (u32 i = 0; i < n_bs; i++)
        s->need_bytes[4 + i] = a->has_bias ? 4ull * a->n_mats * a->n_rows : 0;
    s->groups[0] = a->n_routes && a->n_rows ? n_tiles : 0;
    return NULL;
}

const char *lb_dev_shape_gemm_experts(u32 type, const void *val, lb_dev_shape *s) {
    const lb_gemm_experts_args *a = val;
    const char *bad = operands(a, 1, s);
    (void)type;
    if (!bad && !lb_dev_float_bytes(a->n_routes, a->n_rows, &s->need_bytes[5]))
        bad = too_large;
    return bad ? bad : lb_dev_gemm_rows(a->n_rows, false, s);
}

const char *lb_dev_shape_gemm_experts_gated(u32 type, const void *val, lb_dev_shape *s) {
    const lb_gemm_experts_args *a = val;
    const char *bad = operands(a, 2, s);
    (void)type;
    if (a->act <= LB_DEV_PRE_NORM || a->act > LB_DEV_PRE_OAI)
        return "gates are of no activation that there is";
    if (!bad && !tiles_fit(lb_dev_plan_tiles(a->n_routes, a->n_mats), a->n_rows, &s->need_bytes[6]))
        bad = too_large;
    return bad ? bad : lb_dev_gemm_rows(a->n_rows, true, s);
}
