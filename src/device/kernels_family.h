/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_family.h: within device/: the families of kernels.c whose shapes stand in files of their
 * own. */
#ifndef LB_DEVICE_KERNELS_FAMILY_H
#define LB_DEVICE_KERNELS_FAMILY_H

#include "device/kernels.h"

/* What a launch needs, from its values; NULL, or what is wrong with them. type: as kernels.def has
 * it. groups begins as {0, 1, 1}. */
typedef const char *(lb_dev_shape_fn)(u32 type, const void *val, lb_dev_shape *s);

/* Bytes of the rows of all matrices, with their scales from argument 0 on, and of x and y, which
 * stand at `at`. */
const char *lb_dev_product_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                 lb_dev_shape *s);

/* kernels_mm.c */
lb_dev_shape_fn lb_dev_shape_mm, lb_dev_shape_mm_mlx, lb_dev_shape_mm_scaled,
    lb_dev_shape_routes_group;

#endif
