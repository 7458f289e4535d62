/* SPDX-License-Identifier: Apache-2.0 */
/* graft.c: see graft.h. */
#include "ops/graft.h"
#include "base/os.h"
#include "io/size.h"
#include "merge/gauss.h"
#include "ops/work.h"

#define COPY_ROWS 64
#define MADE "temporary file"

lb_status lb_graft_need(const lb_graft *g, u64 bytes, lb_err *err) {
    char need[LB_SIZE_TEXT], have[LB_SIZE_TEXT];
    if (bytes <= g->env->memory_max_bytes)
        return LB_OK;
    return lb_fail(err, LB_E_LIMIT,
                   "%s: --approximation-method %s needs at least %s for its buffers, the budget "
                   "leaves %s (--memory)",
                   g->name, lb_approx_names[g->o->method], lb_size_text(bytes, need),
                   lb_size_text(g->env->memory_max_bytes, have));
}

lb_status lb_graft_memory(const lb_graft *g, u64 bytes, u8 **out, lb_err *err) {
    *out = NULL;
    LB_TRY(lb_graft_need(g, bytes, err));
    *out = lb_alloc((size_t)bytes);
    return *out ? LB_OK : lb_fail(err, LB_E_NOMEM, "%s: out of memory", g->name);
}

static lb_status write_rows(const lb_graft *g, u64 first, u64 n, const float *values, lb_err *err) {
    u64 row_bytes = g->model->n_cols * sizeof(float);
    return lb_os_pwrite(g->fd, MADE, values, n * row_bytes, g->off_bytes + first * row_bytes, err);
}

lb_status lb_graft_put(const lb_graft *g, u32 row, float *values, lb_err *err) {
    lb_gauss r;
    lb_gauss_begin(&r, g->env->kernels, g->o->seed, g->is_head ? 3 : 2, row);
    for (u64 i = 0; g->o->noise != 0 && i < g->model->n_cols; i++)
        values[i] = (float)((double)values[i] + g->o->noise * (double)lb_gauss_next(&r));
    for (u64 i = 0; g->o->scale != 0 && i < g->model->n_cols; i++)
        values[i] = (float)((double)values[i] * g->o->scale);
    return write_rows(g, row, 1, values, err);
}

void lb_graft_progress(const lb_graft *g, u64 n) {
    u64 row_bytes = g->model->n_cols * sizeof(float);
    *g->done += n;
    if (g->env->progress)
        g->env->progress(g->env->user, *g->done * row_bytes, g->total * row_bytes);
}

u64 lb_graft_mix_bytes(const lb_graft *g) {
    u64 stored = (g->model->row_bytes + 63) / 64 * 64;
    return stored + g->model->n_cols * (sizeof(float) + sizeof(double));
}

lb_status lb_graft_mix(const lb_graft *g, const u32 *row, const double *weight, u64 n, u8 *scratch,
                       float *out, lb_err *err) {
    u64 d = g->model->n_cols, stored = (g->model->row_bytes + 63) / 64 * 64;
    double *sum = (double *)(void *)(scratch + stored);
    float *x = (float *)(void *)(sum + d);
    memset(sum, 0, d * sizeof *sum);
    for (u64 i = 0; i < n; i++) {
        LB_TRY(lb_rows_read(g->model, row[i], 1, scratch, x, err));
        for (u64 k = 0; k < d; k++)
            sum[k] += weight[i] * (double)x[k];
    }
    for (u64 k = 0; k < d; k++)
        out[k] = (float)sum[k];
    return LB_OK;
}

/* ---- rows that the model has ---- */

typedef struct copying {
    const lb_graft *g;
    u8 *memory;
    u64 worker_bytes, stored_bytes;
} copying;

static lb_status copy_tile(void *ctx, u32 worker, u64 item, lb_err *err) {
    const copying *c = ctx;
    const lb_graft *g = c->g;
    u64 d = g->model->n_cols, from = item * COPY_ROWS;
    u64 to = LB_MIN(from + COPY_ROWS, g->align->n_rows);
    u8 *stored = c->memory + worker * c->worker_bytes;
    float *x = (float *)(void *)(stored + c->stored_bytes);
    memset(x, 0, (to - from) * d * sizeof *x);
    for (u64 i = from, k; i < to; i = k) {
        u32 row = g->align->from[i];
        for (k = i + 1; k < to && row < LB_ALIGN_NEW && g->align->from[k] == row + (k - i);)
            k++;
        if (row < LB_ALIGN_NEW)
            LB_TRY(lb_rows_read(g->model, row, k - i, stored, x + (i - from) * d, err));
    }
    return write_rows(g, from, to - from, x, err);
}

static lb_status copy_rows(const lb_graft *g, lb_err *err) {
    copying c = {.g = g};
    c.stored_bytes = (COPY_ROWS * g->model->row_bytes + 63) / 64 * 64;
    c.worker_bytes = (c.stored_bytes + COPY_ROWS * g->model->n_cols * sizeof(float) + 63) / 64 * 64;
    LB_TRY(lb_graft_memory(g, g->env->threads * c.worker_bytes, &c.memory, err));
    lb_status st = lb_work_run(g->env->threads, lb_ceil_div_u64(g->align->n_rows, COPY_ROWS),
                               copy_tile, &c, err);
    lb_free(c.memory);
    return st;
}

lb_status lb_graft_run(lb_graft *g, lb_err *err) {
    static lb_status (*const methods[LB_APPROX_COUNT])(const lb_graft *, lb_err *) = {
        [LB_APPROX_OMP] = lb_graft_omp,          [LB_APPROX_INTERPOLATION] = lb_graft_near,
        [LB_APPROX_SUBWORD] = lb_graft_subword,  [LB_APPROX_MEAN] = lb_graft_mean,
        [LB_APPROX_ZERO] = lb_graft_zero,        [LB_APPROX_RANDN] = lb_graft_randn,
        [LB_APPROX_JOHN_HEWITT] = lb_graft_like, [LB_APPROX_MP_ROPE] = lb_graft_rope,
        [LB_APPROX_LANDMARK_PCA] = lb_graft_pca, [LB_APPROX_STB] = lb_graft_stb,
    };
    LB_TRY(copy_rows(g, err));
    lb_graft_progress(g, g->align->n_rows - g->align->n_fresh);
    return g->align->n_fresh ? methods[g->o->method](g, err) : LB_OK;
}
