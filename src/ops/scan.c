/* SPDX-License-Identifier: Apache-2.0 */
/* scan.c: see scan.h. A worker reads a tile of rows, turns it and multiplies all queries with it.
 */
#include "ops/scan.h"
#include "ops/work.h"

/* A worker's part of the memory. */
typedef struct areas {
    u64 stored, rows, turned, dot, all; /* where they begin; all: bytes */
} areas;

static u64 aligned(u64 n) {
    return (n + 63) / 64 * 64;
}

static areas areas_of(const lb_scan *s) {
    u64 values = aligned(LB_SCAN_TILE * s->rows->n_cols * sizeof(float));
    areas a = {0};
    a.rows = aligned(LB_SCAN_TILE * s->rows->row_bytes);
    a.turned = a.rows + values;
    a.dot = a.turned + values;
    a.all = a.dot + aligned(s->n_queries_max * LB_SCAN_TILE * sizeof(float));
    return a;
}

u64 lb_scan_bytes(const lb_scan *s) {
    return s->threads * areas_of(s).all;
}

typedef struct scanning {
    const lb_scan *s;
    const float *query;
    u64 n_queries;
    areas a;
} scanning;

static lb_status scan_tile(void *ctx, u32 worker, u64 item, lb_err *err) {
    const scanning *x = ctx;
    const lb_scan *s = x->s;
    u8 *own = s->memory + worker * x->a.all;
    float *rows = (float *)(void *)(own + x->a.rows);
    float *turned = (float *)(void *)(own + x->a.turned);
    float *dot = (float *)(void *)(own + x->a.dot);
    u64 d = s->rows->n_cols, first = item * LB_SCAN_TILE, n = LB_MIN(LB_SCAN_TILE, s->n - first);
    LB_TRY(lb_rows_gather(s->rows, s->row + first, n, own, rows, err));
    s->kernels->transpose((size_t)n, (size_t)d, sizeof(float), turned, (size_t)n, rows, (size_t)d);
    memset(dot, 0, x->n_queries * n * sizeof(float));
    for (u64 k = 0; k < d; k += LB_GEMM_LEAF)
        s->kernels->gemm_f32((size_t)x->n_queries, (size_t)n, (size_t)LB_MIN(LB_GEMM_LEAF, d - k),
                             dot, x->query + k, (size_t)d, turned + k * n);
    s->tile(s->ctx, &(lb_scan_tile){worker, first, n, rows, dot});
    return LB_OK;
}

lb_status lb_scan_run(const lb_scan *s, const float *query, u64 n_queries, lb_err *err) {
    scanning x = {s, query, n_queries, areas_of(s)};
    return lb_work_run(s->threads, lb_ceil_div_u64(s->n, LB_SCAN_TILE), scan_tile, &x, err);
}
