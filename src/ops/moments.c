/* SPDX-License-Identifier: Apache-2.0 */
/* moments.c: see moments.h. */
#include "ops/moments.h"
#include "ops/graft.h"
#include "ops/work.h"

#define TILE LB_GEMM_LEAF
#define BAND 64 /* rows of the result that a worker takes */

lb_status lb_rows_mean(const lb_rows *r, const u32 *row, u64 n, double *mean, lb_err *err) {
    u64 d = r->n_cols, count = row ? n : r->n_rows;
    lb_carver c = {0};
    (void)lb_carve(&c, r->row_bytes);
    (void)lb_carve(&c, d * sizeof(float));
    c = (lb_carver){.at = lb_alloc((size_t)c.used)};
    if (!c.at)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a mean");
    u8 *stored = lb_carve(&c, r->row_bytes);
    float *x = lb_carve(&c, d * sizeof(float));
    lb_status st = LB_OK;
    memset(mean, 0, d * sizeof *mean);
    for (u64 i = 0; i < count && st == LB_OK; i++) {
        st = lb_rows_read(r, row ? row[i] : i, 1, stored, x, err);
        for (u64 k = 0; k < d && st == LB_OK; k++)
            mean[k] += (double)x[k];
    }
    for (u64 k = 0; k < d; k++)
        mean[k] /= (double)LB_MAX(count, 1);
    lb_free(c.at);
    return st;
}

typedef struct crossing {
    const lb_cross *c;
    u8 *stored;
    float *a, *turned, *b; /* [TILE, da], [da, TILE], [TILE, db] */
    float *band;           /* [threads, BAND, db] */
    double *out;
    u64 n; /* rows of the tile */
} crossing;

static u64 carve(crossing *x, u8 *memory) {
    const lb_cross *c = x->c;
    u64 da = c->a->n_cols, db = c->b->n_cols;
    lb_carver m = {.at = memory};
    x->stored = lb_carve(&m, TILE * LB_MAX(c->a->row_bytes, c->b->row_bytes));
    x->a = lb_carve(&m, TILE * da * sizeof(float));
    x->turned = lb_carve(&m, TILE * da * sizeof(float));
    x->b = lb_carve(&m, TILE * db * sizeof(float));
    x->band = lb_carve(&m, c->env->threads * BAND * db * sizeof(float));
    return m.used;
}

u64 lb_cross_bytes(const lb_cross *c) {
    return carve(&(crossing){.c = c}, NULL);
}

static void centre(float *x, u64 n, u64 d, const double *mean) {
    for (u64 i = 0; i < n; i++)
        for (u64 k = 0; k < d; k++)
            x[i * d + k] = (float)((double)x[i * d + k] - mean[k]);
}

static lb_status add_band(void *ctx, u32 worker, u64 item, lb_err *err) {
    const crossing *x = ctx;
    u64 da = x->c->a->n_cols, db = x->c->b->n_cols, first = item * BAND;
    u64 rows = LB_MIN(BAND, da - first);
    float *band = x->band + worker * BAND * db;
    double *out = x->out + first * db;
    (void)err;
    memset(band, 0, rows * db * sizeof *band);
    x->c->env->kernels->gemm_f32((size_t)rows, (size_t)db, (size_t)x->n, band,
                                 x->turned + first * x->n, (size_t)x->n, x->b);
    for (u64 i = 0; i < rows * db; i++)
        out[i] += (double)band[i];
    return LB_OK;
}

lb_status lb_cross_run(const lb_cross *c, double *out, lb_err *err) {
    crossing x = {.c = c, .out = out};
    u64 da = c->a->n_cols, db = c->b->n_cols;
    u8 *memory = lb_alloc((size_t)carve(&x, NULL));
    if (!memory)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a covariance");
    (void)carve(&x, memory);
    lb_status st = LB_OK;
    memset(out, 0, da * db * sizeof *out);
    for (u64 i = 0; i < c->n && st == LB_OK; i += x.n) {
        x.n = LB_MIN(TILE, c->n - i);
        LB_TRY_DONE(st, lb_rows_gather(c->a, c->a_row + i, x.n, x.stored, x.a, err));
        LB_TRY_DONE(st, lb_rows_gather(c->b, c->b_row + i, x.n, x.stored, x.b, err));
        centre(x.a, x.n, da, c->a_mean);
        centre(x.b, x.n, db, c->b_mean);
        c->env->kernels->transpose((size_t)x.n, (size_t)da, sizeof(float), x.turned, (size_t)x.n,
                                   x.a, (size_t)da);
        st = lb_work_run(c->env->threads, lb_ceil_div_u64(da, BAND), add_band, &x, err);
    }
done:
    lb_free(memory);
    return st;
}
