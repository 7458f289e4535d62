/* SPDX-License-Identifier: Apache-2.0 */
/* device_bench.c: how long products on a device take, by its own clock.
 *
 *   device_bench DEVICE KERNEL N_ROWS N_COLS N_TOKENS...    DEVICE: cuda:0, metal, cpu
 *
 * KERNEL is gemm, or one of mv_*, mt_* and mm_* of a type of the table; rows and x are random bits,
 * x between -1 and 1. One line for each number of tokens: the kernel, microseconds of a launch (the
 * least of 5 rounds of launches that follow each other, of a recording), billions of products and
 * sums a second, GB of rows a second. Launches take matrices of 512 MiB in turn, so that no cache
 * holds them. PARTS (mt_*, gemm), PER (mt_*), SIMDGROUPS, SPLIT (mv_*) in the environment: how a
 * product is shared out, otherwise as the program does. */
#include "base/mem.h"
#include "device/device.h"
#include "tensor/dtype.h"
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, LAUNCHES = 40 };
#define ROWS_BYTES (512ull << 20)

typedef struct bench {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_event *from, *to;
    lb_dev_buf *w, *x, *y, *join;
} bench;

static lb_status fill(const bench *b, lb_dev_buf *to, bool is_float, lb_err *err) {
    const u64 n = LB_MIN(lb_dev_buf_bytes(to), ROWS_BYTES);
    u8 *bytes = lb_alloc_zero(1, (size_t)n);
    if (!bytes)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    u32 r = 1;
    for (u64 i = 0; i + 4 <= n; i += 4) {
        r = r * 1664525u + 1013904223u;
        lb_store_u32(bytes + i, is_float ? lb_f32_bits((float)(i32)r * 0x1p-31f) : r ^ r >> 15);
    }
    lb_status st = lb_dev_queue_write(b->q, to, 0, bytes, n, err);
    if (st == LB_OK)
        st = lb_dev_queue_wait(b->q, err);
    lb_free(bytes);
    return st;
}

/* What threadgroups of mt_* leave for each other: zeros. */
static lb_status join_of(bench *b, u64 bytes, lb_err *err) {
    u8 *zeros = lb_alloc_zero(1, (size_t)bytes);
    if (!zeros)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_status st = lb_dev_buf_new(b->d, LB_DEV_OWN, bytes, &b->join, err);
    if (st == LB_OK)
        st = lb_dev_queue_write(b->q, b->join, 0, zeros, bytes, err);
    if (st == LB_OK)
        st = lb_dev_queue_wait(b->q, err);
    lb_free(zeros);
    return st;
}

/* copies: of the rows, step bytes apart, which are buffer w_at. */
static lb_status record(const bench *b, lb_dev_launch l, u32 w_at, u64 copies, u64 step,
                        lb_dev_graph **out, lb_err *err) {
    LB_TRY(lb_dev_graph_begin(b->q, err));
    for (u32 i = 0; i < LAUNCHES; i++) {
        l.buf[w_at].off_bytes = i % copies * step;
        LB_TRY(lb_dev_queue_launch(b->q, &l, err));
        LB_TRY(lb_dev_queue_barrier(b->q, err));
    }
    return lb_dev_graph_end(b->q, out, err);
}

static lb_status one_round(const bench *b, lb_dev_graph *g, double *t_us, lb_err *err) {
    LB_TRY(lb_dev_event_record(b->from, b->q, err));
    LB_TRY(lb_dev_graph_run(b->q, g, err));
    LB_TRY(lb_dev_event_record(b->to, b->q, err));
    LB_TRY(lb_dev_queue_wait(b->q, err));
    return lb_dev_event_us(b->from, b->to, t_us, err);
}

/* A launch, and where its stored rows, x and y are among its buffers; join stands behind y. */
typedef struct job {
    lb_dev_kernel k;
    const void *val;
    u32 n_rows, n_cols, n_tokens, w_at, x_at, y_at;
    u64 join_bytes;
} job;

static lb_status measure(bench *b, const job *j, lb_err *err) {
    lb_dev_shape s;
    lb_dev_graph *g = NULL;
    double best = 0;
    LB_TRY(lb_dev_kernel_shape(j->k, j->val, &s, err));
    lb_dev_launch l = {.kernel = j->k,
                       .n_bufs = (u32)strlen(lb_dev_kernel_signature(j->k)) - 1,
                       .val = j->val,
                       .val_bytes = lb_dev_kernel_val_bytes(j->k)};
    const u64 bytes = s.need_bytes[j->w_at], step = lb_round_up(bytes, LB_DEV_ALIGN);
    const u64 copies = LB_MAX(ROWS_BYTES / step, 1u);
    LB_TRY(lb_dev_buf_new(b->d, LB_DEV_OWN, copies * step, &b->w, err));
    LB_TRY(lb_dev_buf_new(b->d, LB_DEV_OWN, s.need_bytes[j->x_at], &b->x, err));
    LB_TRY(lb_dev_buf_new(b->d, LB_DEV_OWN, s.need_bytes[j->y_at], &b->y, err));
    LB_TRY(join_of(b, j->join_bytes, err));
    LB_TRY(fill(b, b->w, false, err));
    LB_TRY(fill(b, b->x, true, err));
    for (u32 i = 0; i < l.n_bufs; i++)
        l.buf[i].buf = i == j->x_at ? b->x : i == j->y_at ? b->y : i > j->y_at ? b->join : b->w;
    LB_TRY(record(b, l, j->w_at, copies, step, &g, err));
    for (u32 i = 0; i < ROUNDS; i++) {
        double t_us = 0;
        LB_TRY(one_round(b, g, &t_us, err));
        best = i == 0 || t_us < best ? t_us : best;
    }
    best /= LAUNCHES;
    printf("%-12s %6u x %6u, %4u tokens: %9.1f us %9.2f Gflop/s %8.1f GB/s\n",
           lb_dev_kernel_name(j->k), j->n_rows, j->n_cols, j->n_tokens, best,
           2e-3 * j->n_rows * j->n_cols * j->n_tokens / best, (double)bytes * 1e-3 / best);
    lb_dev_graph_free(&g);
    lb_dev_buf_free(&b->w);
    lb_dev_buf_free(&b->x);
    lb_dev_buf_free(&b->y);
    lb_dev_buf_free(&b->join);
    return LB_OK;
}

static lb_status run(bench *b, lb_dev_kernel k, lb_mv_args a, lb_err *err) {
    const bool mt = lb_dev_kernel_needs(k) == LB_DEV_NEEDS_RING;
    const char *parts = getenv("PARTS"), *per = getenv("PER"); /* of mt_* */
    if (mt)
        lb_dev_mt_share(lb_dev_info_get(b->d), k, true, &a);
    if (mt && parts) {
        const u32 n = LB_MAX((u32)atoi(parts), 1u);
        a.per = LB_MAX(a.per * a.parts / n, 1u);
        a.parts = n;
    }
    if (mt && per)
        a.per = (u32)atoi(per);
    const u32 n_bufs = (u32)strlen(lb_dev_kernel_signature(k)) - 1, y_at = n_bufs - (mt ? 2 : 1);
    const u64 join = lb_dev_mt_join_bytes(a.n_rows, a.n_tokens, LB_MAX(a.parts, 1u));
    return measure(b, &(job){k, &a, a.n_rows, a.n_cols, a.n_tokens, 0, y_at - 1, y_at, join}, err);
}

/* gemm, of tiles. */
static lb_status run_tiles(bench *b, const lb_mv_args *m, lb_err *err) {
    const lb_dev_info *d = lb_dev_info_get(b->d);
    const char *parts = getenv("PARTS");
    lb_gemm_args a = {.n_tokens = m->n_tokens,
                      .n_rows = m->n_rows,
                      .n_cols = m->n_cols,
                      .y_stride = m->n_rows,
                      .times = 1,
                      .a_scale = 1};
    a.parts = parts ? (u32)atoi(parts) : lb_dev_gemm_parts(d, &a);
    const u64 join = LB_MAX(lb_dev_gemm_join_bytes(&a), (u64)LB_DEV_ALIGN);
    return measure(b, &(job){LB_DK_gemm, &a, a.n_rows, a.n_cols, a.n_tokens, 2, 0, 3, join}, err);
}

static lb_status bench_all(bench *b, char **args, lb_err *err) {
    lb_dev_choice c;
    lb_dev_kernel k;
    const char *simdgroups = getenv("SIMDGROUPS"), *split = getenv("SPLIT"); /* of mv_* */
    LB_TRY(lb_dev_choice_parse(args[1], &c, err));
    if (!lb_dev_kernel_find(lb_str_c(args[2]), &k))
        return lb_fail(err, LB_E_USAGE, "no kernel is called '%s'", args[2]);
    LB_TRY(lb_dev_open(&b->d, &(lb_dev_opts){.kind = c.kind, .index = c.index}, err));
    LB_TRY(lb_dev_queue_new(b->d, &b->q, err));
    LB_TRY(lb_dev_event_new(b->d, &b->from, err));
    LB_TRY(lb_dev_event_new(b->d, &b->to, err));
    for (char **n = args + 5; *n; n++) {
        const lb_mv_args a = {.n_rows = (u32)atoi(args[3]),
                              .n_cols = (u32)atoi(args[4]),
                              .n_tokens = (u32)atoi(*n),
                              .simdgroups = simdgroups ? (u32)atoi(simdgroups) : 16,
                              .split = split ? (u32)atoi(split) : 1,
                              .times = 1,
                              .group_elems = 64, /* of MLX, as its scales are */
                              .scale_type = LB_DEV_BF16};
        LB_TRY(k == LB_DK_gemm ? run_tiles(b, &a, err) : run(b, k, a, err));
    }
    return LB_OK;
}

int main(int n_args, char **args) {
    bench b = {0};
    lb_err err = {0};
    if (n_args < 6) {
        (void)fprintf(stderr, "device_bench DEVICE KERNEL N_ROWS N_COLS N_TOKENS...\n");
        return 2;
    }
    const lb_status st = bench_all(&b, args, &err);
    if (st != LB_OK)
        (void)fprintf(stderr, "device_bench: %s\n", err.msg);
    lb_dev_close(&b.d);
    return st != LB_OK;
}
