/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_cases.h: what the files of the self-test share: one run of a kernel, random data, how
 * far a result is off. */
#ifndef LB_DEVICE_SELFTEST_CASES_H
#define LB_DEVICE_SELFTEST_CASES_H

#include "base/mem.h"
#include "base/thread.h"
#include "device/selftest.h"

#define LB_SELFTEST_ULP 0x1p-24   /* one rounding, of the value's size */
#define LB_SELFTEST_TINY 0x1p-120 /* below it relative errors mean nothing */

typedef struct lb_selftest {
    lb_dev *dev;
    lb_mutex *lock; /* of the device, which other kernels' tests use, too */
    lb_dev_queue *queue;
    lb_arena arena; /* of one case */
    lb_arena kept;  /* of all cases of a kernel */
    void *kept_at;
    const lb_selftest_opts *opts;
    lb_selftest_row *row;
    u32 random;
    u64 at;         /* of the case's elements, for messages */
    char where[96]; /* the shape of the case, for messages */
} lb_selftest;

typedef struct lb_selftest_data {
    const void *ptr; /* NULL: nothing there yet */
    u64 size_bytes;
} lb_selftest_data;

/* bufs: one an argument in the order of the signature; that which is written gets its bytes first
 * (NULL: 0xff) and comes back in out, of its size. Fails when bytes beyond it were written. */
lb_status lb_selftest_launch(lb_selftest *t, const lb_selftest_data *bufs, const void *val,
                             void *out, lb_err *err);
/* The same of a kernel that writes several: outs, one an argument. */
lb_status lb_selftest_launch_all(lb_selftest *t, const lb_selftest_data *bufs, const void *val,
                                 void *const *outs, lb_err *err);
/* The same of another kernel: what the one under test is to do as well. */
lb_status lb_selftest_launch_of(lb_selftest *t, lb_dev_kernel k, const lb_selftest_data *bufs,
                                const void *val, void *const *outs, lb_err *err);

u32 lb_selftest_u32(lb_selftest *t);
/* Between -1 and 1. */
float lb_selftest_float(lb_selftest *t);
/* n of them, in the case's arena; NULL when out of memory. */
float *lb_selftest_floats(lb_selftest *t, u64 n, float scale);
/* got against want; records the worst. bound 0: the same value, or NaN both. */
void lb_selftest_compare(lb_selftest *t, u64 i, float got, double want, double bound);

/* Element i of a block in one of the ways that quantizers branch on; from LB_SELFTEST_HUGE on
 * squares overflow, then numbers are subnormal. */
#define LB_SELFTEST_HUGE 8u
#define LB_SELFTEST_WAYS 13u
float lb_selftest_encode_value(lb_selftest *t, u32 way, u32 i);

#define LB_SELFTEST_ALPHA 1.702f /* of swiglu_oai */
#define LB_SELFTEST_LIMIT 7.0f
/* What a feed-forward does (act: LB_DK_act_*) to gates and their partners (NULL: none); by how much
 * a device's may differ from it. */
void lb_selftest_act(lb_dev_kernel act, u32 n, float *out, const float *gate, const float *up);
double lb_selftest_act_bound(lb_dev_kernel act, float gate, float want);

/* Where a value of a matrix lies among its tiles (kern/args.h), in halves. */
u64 lb_selftest_tile_at(u32 n_cols, u32 row, u32 col);
/* Random halves of rows as tiles, and as rows [n_rows, n_cols]; NULL when out of memory. */
u16 *lb_selftest_make_tiles(lb_selftest *t, u32 n_rows, u32 n_cols, u32 pad, float size,
                            float **rows);
/* times the sum of products of n halves, which are exact, added in any order; by how much a
 * device's may differ. */
double lb_selftest_dot(const float *a, const float *b, u32 n, double times, double *off);
/* A value of gemm_gated's tiles, of a gate and its partner; act: LB_DEV_PRE_* behind NORM. */
typedef struct lb_selftest_sum {
    float v;
    double off; /* by how much a device's may differ */
} lb_selftest_sum;
void lb_selftest_compare_gated(lb_selftest *t, u32 act, float got, lb_selftest_sum gate,
                               lb_selftest_sum up);

/* One case of a family; i counts them, *more says whether there is one after it. */
lb_status lb_selftest_weights(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_others(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_maps(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_attend(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_flash(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_experts(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_encode(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_encode_mlx(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_heads(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_state(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_delta(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_sample(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_tiles(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_grouped(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_sums(lb_selftest *t, u32 i, bool *more, lb_err *err);
lb_status lb_selftest_wide(lb_selftest *t, u32 i, bool *more, lb_err *err);

#endif
