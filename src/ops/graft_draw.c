/* SPDX-License-Identifier: Apache-2.0 */
/* graft_draw.c: rows that know nothing of the token: the mean of the model's, zeros, normal noise,
 * and draws with the mean and the covariance of the model's rows (john_hewitt).
 *
 * The last needs no covariance and no root of it: with z of independent normal numbers
 * sum_i z_i (row_i - mean) / sqrt(n) has exactly the covariance of the rows, also where that has no
 * inverse. J. Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021. */
#include "merge/gauss.h"
#include "ops/graft.h"
#include "ops/work.h"
#include <math.h>

#define TILE_ROWS LB_GEMM_LEAF
#define GROUP_MAX                                                                  \
    256 /* tokens that one worker draws at a time: the model is read once for them \
         */

static u64 aligned(u64 n) {
    return (n + 63) / 64 * 64;
}

/* mean [n_cols] over all rows, in their order; memory: a tile as stored and as f32. */
static lb_status mean_of(const lb_graft *g, u8 *memory, double *mean, lb_err *err) {
    const lb_rows *m = g->model;
    float *x = (float *)(void *)(memory + aligned(TILE_ROWS * m->row_bytes));
    memset(mean, 0, m->n_cols * sizeof *mean);
    for (u64 r = 0, n; r < m->n_rows; r += n) {
        n = LB_MIN(TILE_ROWS, m->n_rows - r);
        LB_TRY(lb_rows_read(m, r, n, memory, x, err));
        for (u64 i = 0; i < n; i++)
            for (u64 c = 0; c < m->n_cols; c++)
                mean[c] += (double)x[i * m->n_cols + c];
    }
    for (u64 c = 0; c < m->n_cols; c++)
        mean[c] /= (double)m->n_rows;
    return LB_OK;
}

static u64 tile_bytes(const lb_graft *g) {
    return aligned(TILE_ROWS * g->model->row_bytes) +
           aligned(TILE_ROWS * g->model->n_cols * sizeof(float));
}

lb_status lb_graft_mean(const lb_graft *g, lb_err *err) {
    u64 d = g->model->n_cols, tile = tile_bytes(g);
    u8 *memory;
    LB_TRY(lb_graft_memory(g, tile + d * (sizeof(double) + sizeof(float)), &memory, err));
    double *mean = (double *)(void *)(memory + tile);
    float *out = (float *)(void *)(mean + d);
    lb_status st = mean_of(g, memory, mean, err);
    for (u64 i = 0; i < g->align->n_fresh && st == LB_OK; i++) {
        for (u64 c = 0; c < d; c++)
            out[c] = (float)mean[c];
        st = lb_graft_put(g, g->align->fresh[i], out, err);
    }
    lb_free(memory);
    lb_graft_progress(g, g->align->n_fresh);
    return st;
}

/* Zeros, or normal numbers. */
static lb_status fill(const lb_graft *g, bool drawn, lb_err *err) {
    u64 d = g->model->n_cols;
    lb_gauss r;
    u8 *memory;
    LB_TRY(lb_graft_memory(g, d * sizeof(float), &memory, err));
    float *out = (float *)(void *)memory;
    lb_status st = LB_OK;
    for (u64 i = 0; i < g->align->n_fresh && st == LB_OK; i++) {
        lb_gauss_begin(&r, g->env->kernels, g->o->seed, g->is_head, g->align->fresh[i]);
        for (u64 c = 0; c < d; c++)
            out[c] = drawn ? lb_gauss_next(&r) : 0;
        st = lb_graft_put(g, g->align->fresh[i], out, err);
    }
    lb_free(memory);
    lb_graft_progress(g, g->align->n_fresh);
    return st;
}

lb_status lb_graft_zero(const lb_graft *g, lb_err *err) {
    return fill(g, false, err);
}

lb_status lb_graft_randn(const lb_graft *g, lb_err *err) {
    return fill(g, true, err);
}

/* ---- john_hewitt ---- */

typedef struct drawing {
    const lb_graft *g;
    u64 group; /* tokens a worker */
    u8 *memory;
    u64 own_bytes;
    double *mean;
} drawing;

/* A worker's: a tile, its random numbers, the sums of its tokens, their generators. */
typedef struct hand {
    u8 *tile;
    float *x, *z, *sum;
    double *z_sum;
    lb_gauss *r;
} hand;

static u64 place_hand(const drawing *x, u8 *memory, hand *h) {
    u64 d = x->g->model->n_cols;
    lb_carver c = {.at = memory};
    h->tile = lb_carve(&c, TILE_ROWS * x->g->model->row_bytes);
    h->x = lb_carve(&c, TILE_ROWS * d * sizeof(float));
    h->z = lb_carve(&c, x->group * TILE_ROWS * sizeof(float));
    h->sum = lb_carve(&c, x->group * d * sizeof(float));
    h->z_sum = lb_carve(&c, x->group * sizeof(double));
    h->r = lb_carve(&c, x->group * sizeof(lb_gauss));
    return c.used;
}

static lb_status draw_group(void *ctx, u32 worker, u64 item, lb_err *err) {
    const drawing *x = ctx;
    const lb_graft *g = x->g;
    const lb_kernels *kernels = g->env->kernels;
    const u32 *token = g->align->fresh + item * x->group;
    u64 n_tokens = LB_MIN(x->group, g->align->n_fresh - item * x->group), d = g->model->n_cols;
    hand h;
    (void)place_hand(x, x->memory + worker * x->own_bytes, &h);
    for (u64 t = 0; t < n_tokens; t++)
        lb_gauss_begin(&h.r[t], kernels, g->o->seed, g->is_head, token[t]);
    memset(h.z_sum, 0, n_tokens * sizeof *h.z_sum);
    memset(h.sum, 0, n_tokens * d * sizeof *h.sum);
    for (u64 r = 0, n; r < g->model->n_rows; r += n) {
        n = LB_MIN(TILE_ROWS, g->model->n_rows - r);
        LB_TRY(lb_rows_read(g->model, r, n, h.tile, h.x, err));
        for (u64 t = 0; t < n_tokens; t++)
            for (u64 i = 0; i < n; i++) {
                h.z[t * n + i] = lb_gauss_next(&h.r[t]);
                h.z_sum[t] += (double)h.z[t * n + i];
            }
        kernels->gemm_f32((size_t)n_tokens, (size_t)d, (size_t)n, h.sum, h.z, (size_t)n, h.x);
    }
    double by = 1 / sqrt((double)g->model->n_rows);
    for (u64 t = 0; t < n_tokens; t++) {
        float *out = h.sum + t * d;
        for (u64 c = 0; c < d; c++)
            out[c] = (float)(x->mean[c] + by * ((double)out[c] - h.z_sum[t] * x->mean[c]));
        LB_TRY(lb_graft_put(g, token[t], out, err));
    }
    return LB_OK;
}

lb_status lb_graft_like(const lb_graft *g, lb_err *err) {
    drawing x = {.g = g, .group = LB_MIN(GROUP_MAX, g->align->n_fresh)};
    u64 d = g->model->n_cols, threads = g->env->threads, need;
    hand none;
    do {
        x.own_bytes = place_hand(&x, NULL, &none);
        need = threads * x.own_bytes + d * sizeof(double);
    } while (need > g->env->memory_bytes && (x.group /= 2) > 0);
    x.group = LB_MAX(x.group, 1);
    LB_TRY(lb_graft_memory(g, need, &x.memory, err));
    x.mean = (double *)(void *)(x.memory + threads * x.own_bytes);
    lb_status st = mean_of(g, x.memory, x.mean, err);
    if (st == LB_OK)
        st = lb_work_run(g->env->threads, lb_ceil_div_u64(g->align->n_fresh, x.group), draw_group,
                         &x, err);
    lb_free(x.memory);
    lb_graft_progress(g, g->align->n_fresh);
    return st;
}
