/* SPDX-License-Identifier: Apache-2.0 */
/* fold_ref.c: scalar references of the folds, in the order of fold.h. */
#include "kernel/fold.h"
#include "kernel/kernel.h"

double lb_k_fold_sum_f32_ref(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LB_FOLD_LANES] += (double)a[i];
    return lb_fold_lanes(lane);
}

double lb_k_fold_sumabs_f32_ref(size_t n_elems, const float *a) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LB_FOLD_LANES] += (double)lb_f32_from_bits(lb_f32_bits(a[i]) & 0x7fffffffu);
    return lb_fold_lanes(lane);
}

/* Each product is exact in double, so a fused multiply-add gives the same. */
double lb_k_fold_dot_f32_ref(size_t n_elems, const float *a, const float *b) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n_elems; i++)
        lane[i % LB_FOLD_LANES] += (double)a[i] * (double)b[i];
    return lb_fold_lanes(lane);
}

u64 lb_k_fold_range_f32_ref(size_t n_elems, const float *a, float minmax[2]) {
    i32 lo = INT32_MAX, hi = INT32_MIN;
    u64 n_odd = 0;
    for (size_t i = 0; i < n_elems; i++)
        n_odd += lb_fold_range_one(a[i], &lo, &hi);
    lb_fold_range_put(lo, hi, minmax);
    return n_odd;
}
