/* SPDX-License-Identifier: Apache-2.0 */
/* What quantizers lose, measured by the engine, against sums over whole matrices that know nothing
 * of tiles: for every tile size and number of threads the same doubles. */
#include "plan_double.h"
#include "test.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "kernel/half.h"
#include "ops/measure.h"
#include <math.h>
#include <stdlib.h>

#define COLS_MAX 40960

enum { SMALL, TALL, WIDE, CODES, ODD, N_DECL };
static const lb_double_decl decls[N_DECL] = {
    [SMALL] = {.dtype = LB_BF16, .n_rows = 48, .n_cols = 512},
    [TALL] = {.dtype = LB_F16, .n_rows = 700, .n_cols = 256},
    [WIDE] = {.dtype = LB_F32, .n_rows = 3, .n_cols = COLS_MAX},
    [CODES] = {.dtype = LB_Q8_0, .n_rows = 64, .n_cols = 768},
    [ODD] = {.dtype = LB_F32, .n_rows = 5, .n_cols = 96}};

static float importance[COLS_MAX];
static lb_quant quants[9];
static const lb_quant *list[LB_LEN(quants)], *short_list[3];
static lb_double_source src;
static lb_kernels ref;

static void set_up(void) {
    const lb_quant q[LB_LEN(quants)] = {
        {.kind = LB_QUANT_BLOCKS, .dtype = LB_Q8_0},
        {.kind = LB_QUANT_BLOCKS, .dtype = LB_Q4_0, .importance = importance},
        {.kind = LB_QUANT_AFFINE, .bits = 4, .group = 32},
        {.kind = LB_QUANT_BLOCKS, .dtype = LB_Q4_K},
        {.kind = LB_QUANT_BLOCKS, .dtype = LB_IQ4_XS, .importance = importance},
        {.kind = LB_QUANT_BLOCKS, .dtype = LB_Q2_K, .importance = importance},
        {.kind = LB_QUANT_MXFP4},
        {.kind = LB_QUANT_MXFP8},
        {.kind = LB_QUANT_NVFP4, .round = LB_ROUND_BF16, .cpu_rule = true}};
    for (u32 i = 0; i < COLS_MAX; i++)
        importance[i] = 0.25f + (float)(i * 2654435761u >> 24) / 64.0f;
    for (u32 i = 0; i < LB_LEN(quants); i++) {
        quants[i] = q[i];
        list[i] = &quants[i];
    }
    for (u32 i = 0; i < LB_LEN(short_list); i++)
        short_list[i] = &quants[i];
    lb_kernels_init(&ref, 0);
}

/* E2M1, E4M3 and E8M0 from their definitions. */
static double e2m1(u32 c) {
    static const double v[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return c & 8 ? -v[c & 7] : v[c & 7];
}

static double e4m3(u32 c) {
    double v = c >> 3 & 15 ? ldexp(8 + (c & 7), (int)(c >> 3 & 15) - 10) : ldexp(c & 7, -9);
    return c & 128 ? -v : v;
}

/* The value of element i of a row's codes. */
static double decoded(const lb_quant *q, u8 *const part[], u64 i, const float *blocks) {
    const u8 *codes = part[0];
    switch (q->kind) {
    case LB_QUANT_BLOCKS:
        return (double)blocks[i];
    case LB_QUANT_AFFINE: {
        float scale, bias;
        memcpy(&scale, part[1] + i / 32 * 4, 4);
        memcpy(&bias, part[2] + i / 32 * 4, 4);
        return (double)((float)(codes[i / 2] >> i % 2 * 4 & 15) * scale + bias);
    }
    case LB_QUANT_MXFP4:
        return ldexp(e2m1(codes[i / 2] >> i % 2 * 4 & 15), part[1][i / 32] - 127);
    case LB_QUANT_MXFP8:
        return ldexp(e4m3(codes[i]), part[1][i / 32] - 127);
    case LB_QUANT_NVFP4:
        return e2m1(codes[i / 2] >> i % 2 * 4 & 15) * e4m3(part[1][i / 16]);
    default: /* a target chooses from none of Hugging Face's */
        return NAN;
    }
    return NAN;
}

/* Rows for which (row / 32) % k == 0, each quantized by itself. */
static double expected(const float *x, u64 rows, u64 cols, u64 k, const lb_quant *q,
                       const float *w) {
    double sum = 0, measured = 0;
    u8 *part[LB_QUANT_PARTS] = {malloc(cols * 4), malloc(cols * 4), malloc(cols * 4)};
    float *blocks = malloc(cols * sizeof *blocks);
    for (u64 r = 0; r < rows; r++) {
        if (r / 32 % k)
            continue;
        measured++;
        if (lb_quant_run(q, &ref, cols, 0, x + r * cols, part))
            abort();
        if (q->kind == LB_QUANT_BLOCKS)
            lb_kernels_decode(&ref, q->dtype)(cols, blocks, part[0]);
        for (u64 i = 0; i < cols; i++) {
            double d = decoded(q, part, i, blocks) - (double)x[r * cols + i];
            sum += d * d * (w ? (double)w[i] : 1);
        }
    }
    for (u32 i = 0; i < LB_QUANT_PARTS; i++)
        free(part[i]);
    free(blocks);
    return sum * (double)rows / measured;
}

typedef struct setting {
    u64 tile_bytes;
    u32 threads;
    u64 memory;
} setting;
static const setting settings[] = {{0, 1, LB_GIB},           {1, 3, LB_GIB},
                                   {9000, 2, LB_GIB},        {70000, 7, LB_GIB},
                                   {300000, 2, 24 * LB_MIB}, {0, 5, 40 * LB_MIB}};

/* Segments of one matrix each, in two orders of rows, with and without weights. */
LB_TEST(every_tiling) {
    char path[300];
    lb_err err = {0};
    lb_plan *p = NULL;
    set_up();
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    CHECK(lb_double_open(&src, decls, N_DECL, path));
    const lb_source *one = src.src;
    CHECK_OK(lb_plan_new(&p, &one, 1, &err));
    lb_graph *g = &p->graph;
    lb_measure_part part[N_DECL][3];
    lb_measure_tensor tensors[N_DECL];
    double error[N_DECL][LB_LEN(quants)], want[N_DECL][LB_LEN(quants)] = {{0}};
    u64 largest = 0;
    const u64 elems_max = 100000;
    for (u32 i = 0; i < N_DECL; i++) {
        lb_node_id x = lb_expr_read(g, 0, &one->weights[i]), y = lb_expr_decode(g, x);
        u64 rows = decls[i].n_rows, cols = decls[i].n_cols, n_quants = i == ODD ? 3 : 9;
        if (i == CODES)
            y = lb_expr_heads(g, y, 4, false);
        if (i == SMALL)
            y = lb_expr_map1(g, LB_MAP_MUL_C, y, LB_CONST(0.375));
        u32 n_parts = i == TALL ? 3 : 1;
        for (u32 j = 0; j < n_parts; j++) {
            lb_node_id v = i != TALL ? y : lb_expr_rows(g, y, j * 200, 1, j == 2 ? 300 : 200);
            part[i][j] = (lb_measure_part){.values = i == WIDE ? x : v,
                                           .quants = i == ODD ? short_list : list,
                                           .importance = i % 2 == 0 || j == 1 ? importance : NULL};
            u64 len, n_rows = lb_graph_node(g, v)->n_rows;
            u64 k = lb_ceil_div_u64(rows * cols, elems_max);
            float *values = (float *)(void *)lb_double_bytes(g, lb_expr_encode(g, v, LB_F32), &len);
            for (u32 q = 0; q < n_quants; q++)
                want[i][q] +=
                    expected(values, n_rows, cols, k, part[i][j].quants[q], part[i][j].importance);
            free(values);
        }
        tensors[i] = (lb_measure_tensor){.name = LB_STR("tensor"),
                                         .parts = part[i],
                                         .n_parts = n_parts,
                                         .n_quants = (u32)n_quants,
                                         .error = error[i]};
        largest = LB_MAX(largest, rows * cols);
    }
    CHECK_OK(lb_graph_status(g, &err));
    u32 n_nodes = g->n;
    double first[N_DECL][LB_LEN(quants)];
    for (u32 s = 0; s < LB_LEN(settings); s += lb_test_full() ? 1 : 1 + lb_test_stride(2))
        for (u32 isa = 0; isa < 2; isa++) {
            lb_kernels k;
            lb_kernels_init(&k, isa ? lb_cpu_isa() : 0);
            lb_measure_opts o = {.elems_max = elems_max,
                                 .memory_bytes = lb_test_emulated()
                                                     ? LB_GIB /* the emulator's own counts */
                                                     : settings[s].memory,
                                 .threads = settings[s].threads,
                                 .tile_bytes = settings[s].tile_bytes,
                                 .kernels = &k};
            lb_run_report rep = {0};
            u64 bytes;
            CHECK_OK(lb_measure_bytes(p, tensors, N_DECL, &o, &bytes, &err));
            CHECK_OK(lb_measure_tensors(p, tensors, N_DECL, &o, &rep, &err));
            CHECK_U64(rep.bytes_read, bytes);
            CHECK_U64(g->n, n_nodes);
            if (s == 0 && isa == 0)
                memcpy(first, error, sizeof first);
            for (u32 i = 0; i < N_DECL; i++)
                for (u32 q = 0; q < tensors[i].n_quants; q++) {
                    if (!(fabs(error[i][q] - want[i][q]) <= 1e-5 * want[i][q]) || want[i][q] <= 0)
                        lb_test_fail(__FILE__, __LINE__, "tensor %u type %u: %.9g, expected %.9g",
                                     i, q, error[i][q], want[i][q]);
                    CHECK(error[i][q] == first[i][q]);
                }
        }
    /* 1 of 2 bands; all of those that are small enough */
    CHECK_U64(tensors[SMALL].n_measured, 48 * 512);
    CHECK_U64(tensors[TALL].n_measured, (104 + 104 + 160) * 256);
    lb_plan_free(&p);
    lb_double_close(&src);
}

/* Nothing can be said of values that have no codes; shapes are refused when they are planned. */
LB_TEST(refusals) {
    char path[300];
    lb_err err = {0};
    lb_plan *p = NULL;
    set_up();
    snprintf(path, sizeof path, "%s/bad.bin", lb_test_dir());
    CHECK(lb_double_open(&src, decls, N_DECL, path));
    const lb_source *one = src.src;
    CHECK_OK(lb_plan_new(&p, &one, 1, &err));
    lb_graph *g = &p->graph;
    double error[LB_LEN(quants)];
    lb_node_id x = lb_expr_decode(g, lb_expr_read(g, 0, &one->weights[SMALL]));
    lb_measure_part part = {.values = lb_expr_map1(g, LB_MAP_MUL_C, x, LB_CONST(NAN)),
                            .quants = list};
    lb_measure_tensor t = {
        .name = LB_STR("layer.0"), .parts = &part, .n_parts = 1, .n_quants = 9, .error = error};
    lb_measure_opts o = {.memory_bytes = LB_GIB, .threads = 2, .kernels = &ref};
    CHECK_U64(lb_measure_tensors(p, &t, 1, &o, NULL, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "layer.0") && strstr(err.msg, "NaN"));
    part.values = lb_expr_read(g, 0, &one->weights[ODD]);
    CHECK_U64(lb_measure_tensors(p, &t, 1, &o, NULL, &err), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "layer.0") && strstr(err.msg, "96 columns"));
    CHECK_OK(lb_graph_status(g, &err)); /* the plan itself is as it was */
    part.values = x;
    o.memory_bytes = LB_MIB;
    CHECK_U64(lb_measure_tensors(p, &t, 1, &o, NULL, &err), LB_E_LIMIT);
    lb_plan_free(&p);
    lb_double_close(&src);
}

LB_TEST_MAIN("fast")
