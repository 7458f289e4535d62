/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_sums.c: sums of squares of columns, added to what is there. */
#include "device/selftest_cases.h"
#include <stdio.h>

/* n_rows, n_cols, stride, per, n_mats */
static const lb_sums_args cases[] = {{37, 70, 72, 0, 1},    {90, 33, 40, 3, 5},
                                     {1, 1, 1, 0, 1},       {16, 64, 64, 1, 16},
                                     {700, 300, 300, 0, 1}, {515, 96, 96, 5, 9}};
static const lb_sums_args large[] = {{2048, 5632, 5632, 0, 1}, {2048, 2048, 2048, 8, 128}};

/* Some routes name no matrix. */
static u32 *some_routes(lb_selftest *t, const lb_sums_args *a) {
    u32 *r = lb_arena_new(&t->arena, u32, 2ull * a->n_rows + 1);
    for (u64 i = 0; r && i < a->n_rows; i++) {
        r[2 * i] = lb_selftest_u32(t) % (a->n_mats + 1);
        r[2 * i + 1] = lb_f32_bits(1);
    }
    return r;
}

typedef struct sums_case {
    const lb_sums_args *a;
    float *x, *was, *got;
    u32 *routes, *was_n, *got_n;
    double *want;
    u32 *want_n;
} sums_case;

static void expect(const sums_case *c) {
    const lb_sums_args *a = c->a;
    for (u64 i = 0; i < (u64)a->n_mats * a->n_cols; i++)
        c->want[i] = (double)c->was[i];
    memcpy(c->want_n, c->was_n, a->n_mats * sizeof *c->want_n);
    for (u32 r = 0; r < a->n_rows; r++) {
        const u32 mat = a->per ? c->routes[2 * (u64)r] : 0;
        const float *x = c->x + (u64)(a->per ? r / a->per : r) * a->stride;
        if (mat >= a->n_mats)
            continue;
        for (u32 i = 0; i < a->n_cols; i++)
            c->want[(u64)mat * a->n_cols + i] += (double)x[i] * (double)x[i];
        c->want_n[mat]++;
    }
}

/* All terms are positive: a rounding of the square, of each sum of a simdgroup, of the 16 of these
 * and of what was there, each of at most the whole. */
static void compare(lb_selftest *t, const sums_case *c) {
    const lb_sums_args *a = c->a;
    const double n = a->n_rows / 16.0 + 19;
    for (u64 i = 0; i < (u64)a->n_mats * a->n_cols; i++)
        lb_selftest_compare(t, i, c->got[i], c->want[i],
                            n * LB_SELFTEST_ULP * c->want[i] + LB_SELFTEST_TINY);
    for (u32 i = 0; i < a->n_mats; i++)
        lb_selftest_compare(t, i, (float)c->got_n[i], c->want_n[i], 0);
}

lb_status lb_selftest_sums(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const u32 n_small = LB_LEN(cases), n = n_small + (t->opts->large ? LB_LEN(large) : 0);
    const lb_sums_args *a = i < n_small ? &cases[i] : &large[i - n_small];
    const u64 n_x = (u64)a->n_rows * a->stride, n_sums = (u64)a->n_mats * a->n_cols;
    sums_case c = {.a = a,
                   .x = lb_selftest_floats(t, n_x, 2),
                   .was = lb_selftest_floats(t, n_sums, 1),
                   .got = lb_arena_new(&t->arena, float, n_sums),
                   .routes = some_routes(t, a),
                   .was_n = lb_arena_new(&t->arena, u32, a->n_mats),
                   .got_n = lb_arena_new(&t->arena, u32, a->n_mats),
                   .want = lb_arena_new(&t->arena, double, n_sums),
                   .want_n = lb_arena_new(&t->arena, u32, a->n_mats)};
    *more = i + 1 < n;
    (void)snprintf(t->where, sizeof t->where, "%u rows of %u, %u matrices", a->n_rows, a->n_cols,
                   a->n_mats);
    if (!c.x || !c.was || !c.got || !c.routes || !c.was_n || !c.got_n || !c.want || !c.want_n)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    for (u64 k = 0; k < n_sums; k++)
        c.was[k] = c.was[k] < 0 ? -c.was[k] : c.was[k];
    for (u32 k = 0; k < a->n_mats; k++)
        c.was_n[k] = 7 * k;
    const u64 x_rows = a->per ? lb_ceil_div_u64(a->n_rows, a->per) : a->n_rows;
    const lb_selftest_data bufs[] = {{c.x, ((x_rows - 1) * a->stride + a->n_cols) * 4},
                                     {c.routes, a->per ? 8ull * a->n_rows : 4},
                                     {c.was, n_sums * 4},
                                     {c.was_n, 4ull * a->n_mats}};
    void *const outs[] = {NULL, NULL, c.got, c.got_n};
    LB_TRY(lb_selftest_launch_all(t, bufs, a, outs, err));
    expect(&c);
    compare(t, &c);
    return LB_OK;
}
