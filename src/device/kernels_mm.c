/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_mm.c: the families of products for many tokens, and of the plan by which those of experts
 * take their tokens (kern/args.h). Tiles of tokens are the first axis of the grid, so that
 * threadgroups that run side by side read the same rows. */
#include "device/kernels_family.h"

enum { MM_THREADS = 128, GROUP_THREADS = 256, PLAN_TILE_BYTES = 16 };

static const char too_large[] = "the shape is too large";

static u64 plan_tiles(u32 n_tokens, u32 n_mats) {
    return (u64)n_tokens / LB_DEV_MM_TOKENS + n_mats + 1;
}

static u64 plan_bytes(u32 n_tokens, u32 n_mats) {
    return plan_tiles(n_tokens, n_mats) * PLAN_TILE_BYTES + (u64)n_tokens * 4;
}

/* n_forms: buffers of the rows. */
static const char *shape_mm(lb_dev_form form, u32 n_forms, u32 type, const lb_mv_args *a,
                            lb_dev_shape *s) {
    const char *bad = lb_dev_product_needs(form, type, a, n_forms + 1, s);
    const u64 row_tiles = lb_ceil_div_u64(a->n_rows, LB_DEV_MM_ROWS);
    const u64 tiles = a->n_mats ? plan_tiles(a->n_tokens, a->n_mats)
                                : lb_ceil_div_u64(a->n_tokens, LB_DEV_MM_TOKENS);
    if (bad)
        return bad;
    if (a->n_mats > LB_DEV_EXPERTS_MAX)
        return "a stack of more than 1024 matrices";
    if (row_tiles > LB_DEV_GRID_Y_MAX)
        return too_large;
    s->need_bytes[n_forms] = a->n_mats ? plan_bytes(a->n_tokens, a->n_mats) : 0;
    s->groups[0] = a->n_tokens ? (u32)tiles : 0;
    s->groups[1] = (u32)row_tiles;
    s->n_threads = MM_THREADS;
    return NULL;
}

const char *lb_dev_shape_mm(u32 type, const void *val, lb_dev_shape *s) {
    return shape_mm(LB_DEV_BLOCKS, 1, type, val, s);
}

const char *lb_dev_shape_mm_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_mm(LB_DEV_AFFINE, 3, bits, val, s);
}

const char *lb_dev_shape_mm_scaled(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_mm(LB_DEV_SCALED, 2, bits, val, s);
}

const char *lb_dev_shape_routes_group(u32 type, const void *val, lb_dev_shape *s) {
    const lb_group_args *a = val;
    (void)type;
    if (!a->n_mats || a->n_mats > LB_DEV_EXPERTS_MAX || a->n_routes > INT32_MAX)
        return "routes of no matrices, or of more than 1024";
    s->need_bytes[0] = (u64)a->n_routes * 8;
    s->need_bytes[1] = plan_bytes(a->n_routes, a->n_mats);
    s->groups[0] = a->n_mats + 1;
    s->n_threads = GROUP_THREADS;
    return NULL;
}
