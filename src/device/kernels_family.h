/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_family.h: within device/: the families of kernels.c whose shapes stand in files of their
 * own, and what those files share. */
#ifndef LB_DEVICE_KERNELS_FAMILY_H
#define LB_DEVICE_KERNELS_FAMILY_H

#include "device/kernels.h"

/* What a launch needs, from its values; NULL, or what is wrong with them. type: as kernels.def has
 * it. groups begins as {0, 1, 1}. */
typedef const char *(lb_dev_shape_fn)(u32 type, const void *val, lb_dev_shape *s);

#define LB_DEV_TOO_LARGE "the shape is too large"
#define LB_DEV_ROW_THREADS 256u /* of kernels that go row by row */

/* Bytes of a b floats. */
bool lb_dev_float_bytes(u64 a, u64 b, u64 *out);
/* Bytes of [n_rows][first + n_cols] values, stride apart; of the last row no more than is there. */
const char *lb_dev_strided(u64 n_rows, u64 first, u64 n_cols, u64 stride, u64 *out);
/* A grid of n_cols values by n_rows. */
const char *lb_dev_map_grid(u64 n_cols, u32 n_rows, lb_dev_shape *s);
/* Bytes of the rows of all matrices, and of their scales, from argument 0 on. */
const char *lb_dev_rows_need(lb_dev_form form, u32 type, const lb_mv_args *a, lb_dev_shape *s);
/* Bytes of the rows of all matrices, with their scales from argument 0 on, and of x and y, which
 * stand at `at`. */
const char *lb_dev_product_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                 lb_dev_shape *s);

/* kernels.c */
lb_dev_shape_fn lb_dev_shape_kv_store, lb_dev_shape_attend;
/* kernels_flash.c */
lb_dev_shape_fn lb_dev_shape_flash, lb_dev_shape_few, lb_dev_shape_rope_store;
/* The same of a product that takes x as mv_* do: pre, x and y, pre stands at `at`. */
const char *lb_dev_vector_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                lb_dev_shape *s);

/* The same of experts: bytes of the rows of all matrices; routes, pre, x and y, routes stand at
 * `at`.
 */
const char *lb_dev_routed_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                lb_dev_shape *s);

/* Values of y that a product's rows make. */
static inline u32 lb_dev_mv_values(const lb_mv_args *a) {
    return a->act && a->gated ? a->n_rows / 2 : a->n_rows;
}

/* kernels_mt.c */
lb_dev_shape_fn lb_dev_shape_mt, lb_dev_shape_mt_mlx, lb_dev_shape_mte, lb_dev_shape_mte_mlx;
/* Bytes that a launch asks for beside what the text declares. */
u32 lb_dev_mt_ring(lb_dev_kernel k);
/* Of an lb_kv_args: where keys and values are, as the values of all kernels that attend say it. */
#define LB_DEV_KV_OF(a) \
    .n_heads = (a)->n_heads_kv, .k_dim = (a)->k_dim, .v_dim = (a)->v_dim, LB_DEV_KV_PLACES(a)

/* kernels_mm.c */
lb_dev_shape_fn lb_dev_shape_mm, lb_dev_shape_mm_mlx, lb_dev_shape_mm_scaled,
    lb_dev_shape_routes_group;
/* kernels_tiles.c */
lb_dev_shape_fn lb_dev_shape_unpack, lb_dev_shape_unpack_mlx, lb_dev_shape_unpack_scaled,
    lb_dev_shape_tile_rows, lb_dev_shape_gemm, lb_dev_shape_gemm_gated;
/* How a product of tiles is shared out by its weights' rows: threadgroups across, threads. */
const char *lb_dev_gemm_rows(u32 n_rows, bool gated, lb_dev_shape *s);
/* kernels_experts.c */
lb_dev_shape_fn lb_dev_shape_plan, lb_dev_shape_tile_routes, lb_dev_shape_gemm_experts,
    lb_dev_shape_gemm_experts_gated;
/* kernels_state.c */
lb_dev_shape_fn lb_dev_shape_route_two, lb_dev_shape_move, lb_dev_shape_times, lb_dev_shape_l2,
    lb_dev_shape_conv, lb_dev_shape_conv_keep, lb_dev_shape_gates, lb_dev_shape_delta;
/* kernels_sums.c */
lb_dev_shape_fn lb_dev_shape_column_sums;
/* kernels_sample.c */
lb_dev_shape_fn lb_dev_shape_top_chunks, lb_dev_shape_top_merge, lb_dev_shape_top_take;
/* kernels_wide.c */
lb_dev_shape_fn lb_dev_shape_put, lb_dev_shape_wide, lb_dev_shape_mix, lb_dev_shape_take,
    lb_dev_shape_move_rows;

#endif
