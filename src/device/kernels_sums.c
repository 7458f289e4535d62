/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_sums.c: the family of sums.k. */
#include "device/kernels_family.h"

enum { COLS = 32, SIMDGROUPS = 16 /* of a threadgroup */ };

const char *lb_dev_shape_column_sums(u32 type, const void *val, lb_dev_shape *s) {
    const lb_sums_args *a = val;
    const u64 n_x = a->per ? lb_ceil_div_u64(a->n_rows, a->per) : a->n_rows;
    (void)type;
    if (!a->per && a->n_mats != 1)
        return "without routes there is one matrix";
    if (a->n_mats > LB_DEV_GRID_Y_MAX || a->n_rows > INT32_MAX ||
        !lb_dev_float_bytes(a->n_mats, a->n_cols, &s->need_bytes[2]))
        return LB_DEV_TOO_LARGE;
    s->need_bytes[1] = a->per ? 8ull * a->n_rows : 0;
    s->need_bytes[3] = 4ull * a->n_mats;
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_cols, COLS);
    s->groups[1] = a->n_mats;
    s->n_threads = COLS * SIMDGROUPS;
    return lb_dev_strided(n_x, 0, a->n_cols, a->stride, &s->need_bytes[0]);
}
