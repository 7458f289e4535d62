/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_family.h: within device/: what files of families share. A shape function computes of the
 * values what the buffers must have and the grid; NULL, or what is wrong with the values. */
#ifndef LB_DEVICE_KERNELS_FAMILY_H
#define LB_DEVICE_KERNELS_FAMILY_H

#include "device/kernels.h"

typedef const char *(lb_dev_shape_fn)(u32 type, const void *val, lb_dev_shape *s);

#define LB_DEV_TOO_LARGE "the shape is too large"
#define LB_DEV_MAP_THREADS 256u /* of kernels that go value by value */
#define LB_DEV_ROW_THREADS 256u /* of those that go row by row */

/* Bytes of a b floats. */
bool lb_dev_float_bytes(u64 a, u64 b, u64 *out);
/* Bytes of [n_rows][first + n_cols] values, stride apart; of the last row no more than is there. */
const char *lb_dev_strided(u64 n_rows, u64 first, u64 n_cols, u64 stride, u64 *out);
/* A grid of n_cols values by n_rows. */
const char *lb_dev_map_grid(u64 n_cols, u32 n_rows, lb_dev_shape *s);

/* ---- kernels_state.c ---- */
lb_dev_shape_fn lb_dev_shape_route_two, lb_dev_shape_move, lb_dev_shape_times, lb_dev_shape_l2,
    lb_dev_shape_conv, lb_dev_shape_conv_keep, lb_dev_shape_gates, lb_dev_shape_delta;
/* ---- kernels_wide.c ---- */
lb_dev_shape_fn lb_dev_shape_put, lb_dev_shape_wide, lb_dev_shape_mix, lb_dev_shape_take,
    lb_dev_shape_move_rows;

#endif
