/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over pages against the formula in double: every type, few and many queries, ranges,
 * softcap, sinks, values within keys, pages of odd lengths. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/attend.h"
#include <math.h>
#include <stdlib.h>

typedef struct shape {
    lb_dtype type;
    size_t n_queries, k_dim, v_dim, n_rows, page;
    float softcap, sink; /* sink: NAN for none */
    bool inside;         /* values are the beginnings of keys */
    u32 ranges;          /* 0: all rows; 1: causal; 2: windows; 3: some see none */
} shape;

typedef struct data {
    u8 *k, *v; /* stored */
    float *kf, *vf, *q, *acc, *max, *sum;
    i32 *from, *to, *page_from, *page_to;
    size_t k_bytes, v_bytes;
} data;

static void *zeros(size_t n, size_t size) {
    void *const p = calloc(n + 16, size);
    LB_ASSERT(p);
    return p;
}

/* n rows of normal values, stored as `t`; x: what they are read back as. */
static u8 *store(const lb_kernels *k, lb_dtype t, size_t n, size_t dim, float *x) {
    const lb_dtype_info *info = lb_dtype_get(t);
    const size_t row_bytes = dim / info->block_elems * info->block_bytes;
    u8 *const rows = zeros(n, row_bytes);
    u64 counts[2] = {0};
    for (size_t i = 0; i < n * dim; i++)
        x[i] = lb_test_normal();
    for (size_t r = 0; r < n; r++) {
        if (lb_kernels_encode(k, t))
            lb_kernels_encode(k, t)(dim, rows + r * row_bytes, x + r * dim, counts);
        else
            lb_kernels_quant(k, t)(dim, rows + r * row_bytes, x + r * dim, NULL, NULL);
        lb_kernels_decode(k, t)(dim, x + r * dim, rows + r * row_bytes);
    }
    return rows;
}

static void set_range(const shape *s, size_t q, i32 *from, i32 *to) {
    const i32 n = (i32)s->n_rows, at = (i32)(q * s->n_rows / s->n_queries);
    *from = s->ranges == 2 ? LB_MAX(at - 7, 0) : 0;
    *to = s->ranges == 0 ? n : LB_MIN(at + 1, n);
    if (s->ranges == 3 && q % 2)
        *to = *from;
}

static data make(const lb_kernels *k, const shape *s) {
    data d = {0};
    d.kf = zeros(s->n_rows * s->k_dim, sizeof(float));
    d.vf = zeros(s->n_rows * s->v_dim, sizeof(float));
    d.k = store(k, s->type, s->n_rows, s->k_dim, d.kf);
    d.v = store(k, s->type, s->n_rows, s->v_dim, d.vf);
    d.k_bytes = s->k_dim / lb_dtype_get(s->type)->block_elems * lb_dtype_get(s->type)->block_bytes;
    d.v_bytes = s->v_dim / lb_dtype_get(s->type)->block_elems * lb_dtype_get(s->type)->block_bytes;
    for (size_t r = 0; s->inside && r < s->n_rows; r++)
        memcpy(d.vf + r * s->v_dim, d.kf + r * s->k_dim, s->v_dim * sizeof(float));
    d.q = zeros(s->n_queries * (s->k_dim + 3), sizeof(float));
    for (size_t i = 0; i < s->n_queries * (s->k_dim + 3); i++)
        d.q[i] = 2 * lb_test_normal();
    d.acc = zeros(s->n_queries * (s->v_dim + 5), sizeof(float));
    d.max = zeros(s->n_queries, sizeof(float));
    d.sum = zeros(s->n_queries, sizeof(float));
    d.from = zeros(s->n_queries, sizeof(i32));
    d.to = zeros(s->n_queries, sizeof(i32));
    d.page_from = zeros(s->n_queries, sizeof(i32));
    d.page_to = zeros(s->n_queries, sizeof(i32));
    for (size_t q = 0; q < s->n_queries; q++) {
        d.max[q] = isnan(s->sink) ? -INFINITY : s->sink;
        d.sum[q] = isnan(s->sink) ? 0.0f : 1.0f;
        set_range(s, q, &d.from[q], &d.to[q]);
    }
    return d;
}

static void drop(data *d) {
    void *all[] = {d->k,   d->v,   d->kf,   d->vf, d->q,         d->acc,
                   d->max, d->sum, d->from, d->to, d->page_from, d->page_to};
    for (size_t i = 0; i < LB_LEN(all); i++)
        free(all[i]);
}

/* Ranges are given relative to each page, so that many lie before or behind it. */
static void run(const lb_kernels *k, const shape *s, data *d) {
    for (size_t at = 0; at < s->n_rows; at += s->page) {
        lb_attend a = {.n_queries = s->n_queries,
                       .k_dim = s->k_dim,
                       .v_dim = s->v_dim,
                       .n_rows = LB_MIN(s->page, s->n_rows - at),
                       .type = s->type,
                       .q = d->q,
                       .q_stride = s->k_dim + 3,
                       .k = d->k + at * d->k_bytes,
                       .v = s->inside ? d->k + at * d->k_bytes : d->v + at * d->v_bytes,
                       .k_bytes = d->k_bytes,
                       .v_bytes = s->inside ? d->k_bytes : d->v_bytes,
                       .scale = 0.2f,
                       .softcap = s->softcap,
                       .from = d->page_from,
                       .to = d->page_to,
                       .max = d->max,
                       .sum = d->sum,
                       .acc = d->acc,
                       .acc_stride = s->v_dim + 5};
        for (size_t q = 0; q < s->n_queries; q++) {
            d->page_from[q] = d->from[q] - (i32)at;
            d->page_to[q] = d->to[q] - (i32)at;
        }
        a.scratch = aligned_alloc(64, (lb_attend_scratch_bytes(&a) + 63) / 64 * 64);
        LB_ASSERT(a.scratch);
        lb_attend_page(k, &a);
        free(a.scratch);
    }
}

static double score(const shape *s, const data *d, size_t q, size_t row) {
    double x = 0;
    for (size_t i = 0; i < s->k_dim; i++)
        x += (double)d->q[q * (s->k_dim + 3) + i] * (double)d->kf[row * s->k_dim + i];
    x *= (double)0.2f;
    return s->softcap != 0 ? (double)s->softcap * tanh(x / (double)s->softcap) : x;
}

/* The largest difference from the formula. */
static double error_of(const shape *s, const data *d) {
    double *const p = zeros(s->n_rows, sizeof(double)), worst = 0;
    for (size_t q = 0; q < s->n_queries; q++) {
        double max = isnan(s->sink) ? -INFINITY : (double)s->sink, sum;
        for (i32 r = d->from[q]; r < d->to[q]; r++)
            max = fmax(max, p[r] = score(s, d, q, (size_t)r));
        sum = isnan(s->sink) ? 0 : exp((double)s->sink - max);
        for (i32 r = d->from[q]; r < d->to[q]; r++)
            sum += p[r] = exp(p[r] - max);
        for (size_t j = 0; j < s->v_dim; j++) {
            double want = 0;
            const float *const acc = d->acc + q * (s->v_dim + 5);
            for (i32 r = d->from[q]; r < d->to[q]; r++)
                want += p[r] * (double)d->vf[(size_t)r * s->v_dim + j];
            if (sum == 0) /* nothing seen: as it was */
                worst = fmax(worst, acc[j] != 0 || d->sum[q] != 0 ? 1 : 0);
            else
                worst = fmax(worst, fabs((double)acc[j] / (double)d->sum[q] - want / sum));
            if (acc[j] != acc[j])
                worst = INFINITY;
        }
    }
    free(p);
    return worst;
}

LB_TEST(attend_formula) {
    static const lb_dtype types[] = {LB_F32, LB_F16, LB_Q8_0, LB_Q4_0};
    static const u32 masks[] = {0, UINT32_MAX};
    static const struct {
        size_t n_queries, k_dim, v_dim, n_rows, page;
        bool inside;
    } sizes[] = {
        {1, 64, 64, 100, 33, false},  {4, 128, 128, 70, 512, false}, {8, 96, 32, 600, 600, false},
        {9, 64, 64, 200, 97, false},  {70, 32, 96, 150, 64, false},  {130, 64, 64, 130, 256, false},
        {16, 192, 128, 50, 50, true}, {3, 192, 160, 20, 7, true},
    };
    /* a third has every size, type and rest of them */
    const size_t step = lb_test_full() ? 1 : 3;
    for (size_t i = 0; i < LB_LEN(sizes) * LB_LEN(types) * 8; i += step) {
        const size_t z = i % LB_LEN(sizes), v = i / LB_LEN(sizes) / LB_LEN(types);
        const shape s = {types[i / LB_LEN(sizes) % LB_LEN(types)],
                         sizes[z].n_queries,
                         sizes[z].k_dim,
                         sizes[z].v_dim,
                         sizes[z].n_rows,
                         sizes[z].page,
                         v % 2 ? 5.0f : 0.0f,
                         v / 2 % 2 ? 1.5f : NAN,
                         sizes[z].inside,
                         (u32)(v + z) % 4};
        for (size_t m = 0; m < LB_LEN(masks); m++) {
            lb_kernels k;
            lb_kernels_init(&k, masks[m] & lb_cpu_isa());
            data d = make(&k, &s);
            run(&k, &s, &d);
            const double e = error_of(&s, &d);
            if (!(e < 2e-5))
                printf("case %zu: %g\n", i, e);
            drop(&d);
            CHECK(e < 2e-5);
        }
    }
}

/* Odd dims are for rows of floats. */
LB_TEST(attend_odd) {
    for (size_t i = 0; i < 60; i++) {
        lb_kernels k;
        lb_kernels_init(&k, lb_cpu_isa());
        const shape s = {i % 2 ? LB_F16 : LB_F32,
                         1 + i % 12,
                         1 + i % 37,
                         1 + i * 7 % 41,
                         1 + i % 50,
                         1 + i % 19,
                         0,
                         NAN,
                         false,
                         1};
        data d = make(&k, &s);
        run(&k, &s, &d);
        const double e = error_of(&s, &d);
        drop(&d);
        CHECK(e < 1e-5);
    }
}

/* The last n queries of s alone have the bytes that they have among the others. */
static bool same_alone(const lb_kernels *k, const shape *s, const data *all, size_t n) {
    const size_t q0 = s->n_queries - n, q_stride = s->k_dim + 3, stride = s->v_dim + 5;
    shape part = *s;
    data e = *all;
    part.n_queries = n;
    e.q = all->q + q0 * q_stride;
    e.from = all->from + q0;
    e.to = all->to + q0;
    e.acc = zeros(n * stride, sizeof(float));
    e.max = zeros(n, sizeof(float));
    e.sum = zeros(n, sizeof(float));
    for (size_t i = 0; i < n; i++)
        e.max[i] = -INFINITY;
    run(k, &part, &e);
    const bool same = !memcmp(e.acc, all->acc + q0 * stride, n * stride * sizeof(float)) &&
                      !memcmp(e.sum, all->sum + q0, n * sizeof(float)) &&
                      !memcmp(e.max, all->max + q0, n * sizeof(float));
    free(e.acc);
    free(e.max);
    free(e.sum);
    return same;
}

/* A query's bytes do not depend on its neighbours, be they many or few. */
LB_TEST(attend_alone) {
    static const size_t counts[] = {1, 3, 8, 9, 20, 64, 70}, pages[] = {64, 512};
    static const lb_dtype types[] = {LB_F32, LB_F16, LB_Q8_0, LB_Q4_0};
    static const u32 masks[] = {0, UINT32_MAX};
    const size_t step = lb_test_full() ? 1 : 5; /* every type, page and mask */
    for (size_t i = 0; i < LB_LEN(types) * LB_LEN(pages) * LB_LEN(masks) * 3; i += step) {
        lb_kernels k;
        lb_kernels_init(&k, masks[i / 8 % 2] & lb_cpu_isa());
        const size_t dim = i / 16 == 1 ? 96 : 64;
        const shape s = {types[i % 4],     80, dim, dim,   500,
                         pages[i / 4 % 2], 0,  NAN, false, 1 + (u32)(i / 16)};
        data d = make(&k, &s);
        run(&k, &s, &d);
        for (size_t c = 0; c < LB_LEN(counts); c++)
            CHECK(same_alone(&k, &s, &d, counts[c]));
        drop(&d);
    }
}

LB_TEST_MAIN("fast")
