/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_sample.c: families of sample.k: the first of a row of logits. */
#include "device/kernels_family.h"

#define TOP_THREADS 256u /* LBK_TOP_THREADS */

static const char *k_fits(const lb_top_args *a) {
    return !a->k || a->k > LB_DEV_TOP_MAX ? "not 1 to 1024 of the largest are asked for"
           : a->n_cols > INT32_MAX        ? LB_DEV_TOO_LARGE
                                          : NULL;
}

const char *lb_dev_shape_top_chunks(u32 type, const void *val, lb_dev_shape *s) {
    const lb_top_args *a = val;
    const u64 n = lb_ceil_div_u64(a->n_cols, LB_DEV_TOP_CHUNK);
    (void)type;
    s->need_bytes[0] = 4ull * a->n_cols;
    s->need_bytes[1] = 8 * n * a->k;
    s->groups[0] = (u32)n;
    s->n_threads = TOP_THREADS;
    return k_fits(a);
}

const char *lb_dev_shape_top_merge(u32 type, const void *val, lb_dev_shape *s) {
    const lb_top_args *a = val;
    const u64 n = lb_ceil_div_u64(a->n_lists, LB_DEV_TOP_WAYS);
    const char *bad = k_fits(a);
    (void)type;
    s->need_bytes[0] = 8ull * a->n_lists * a->k;
    s->need_bytes[1] = 8 * n * a->k;
    s->groups[0] = (u32)lb_ceil_div_u64((u64)LB_DEV_TOP_WAYS * a->k, TOP_THREADS);
    s->groups[1] = (u32)n;
    s->n_threads = TOP_THREADS;
    return bad ? bad : n > LB_DEV_GRID_Y_MAX ? LB_DEV_TOO_LARGE : NULL;
}

const char *lb_dev_shape_top_take(u32 type, const void *val, lb_dev_shape *s) {
    const lb_top_args *a = val;
    (void)type;
    s->need_bytes[0] = 4ull * a->n_cols;
    s->need_bytes[1] = s->need_bytes[2] = 4ull * a->k;
    s->groups[0] = (u32)lb_ceil_div_u64(a->k, TOP_THREADS);
    s->n_threads = TOP_THREADS;
    return k_fits(a);
}
