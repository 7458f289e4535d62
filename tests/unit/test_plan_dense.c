/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan_dense.c: factorisations as nodes: the bytes of every tile size, number of threads and
 * instruction set are those of whole matrices; what they are held in is what the plan says. */
#include "plan_double.h"
#include "plan_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static lb_double_source src;
static char path[300], out_path[300];

/* The difference of weights a and a + 1, turned over or not. */
static lb_node_id difference(lb_graph *g, u32 a, bool turned) {
    lb_node_id x =
        lb_expr_map2(g, LB_MAP_SUB, lb_expr_decode(g, lb_expr_read(g, 0, &src.src->weights[a + 1])),
                     lb_expr_decode(g, lb_expr_read(g, 0, &src.src->weights[a])), LB_CONST(0));
    return turned ? lb_expr_transpose(g, x) : x;
}

/* As `lbrx lora extract` does it. */
static lb_node_id factors(lb_graph *g, u32 a, bool turned, bool exact, u64 l) {
    lb_node_id x = difference(g, a, turned), xt = difference(g, a, !turned), q;
    u64 n = lb_graph_node(g, x)->n_cols;
    if (exact) {
        q = lb_expr_dense(g, LB_DENSE_EIGEN, x, LB_NODE_NONE, (double)l);
    } else {
        q = lb_expr_product(g, x, lb_expr_normal(g, n, l, 42));
        q = lb_expr_dense(g, LB_DENSE_ORTH, q, LB_NODE_NONE, 0);
        q = lb_expr_dense(g, LB_DENSE_ORTH, lb_expr_product(g, xt, q), LB_NODE_NONE, 0);
    }
    return lb_expr_dense(g, LB_DENSE_SVD, lb_expr_product(g, x, q), q, 0);
}

/* As merge methods do it: all singular values alike, the largest alone, the polar factor. */
static lb_node_id reshaped(lb_graph *g, u32 a, bool turned, u32 how) {
    lb_node_id x = difference(g, a, turned);
    if (how == 0)
        return lb_expr_product(g, x, lb_expr_dense(g, LB_DENSE_FLAT, x, LB_NODE_NONE, 0));
    if (how == 1)
        return lb_expr_product(g, x, lb_expr_dense(g, LB_DENSE_TOP, x, LB_NODE_NONE, 0.4));
    x = lb_graph_node(g, x)->n_rows < lb_graph_node(g, x)->n_cols ? lb_expr_transpose(g, x) : x;
    return lb_expr_dense(g, LB_DENSE_POLAR, x, LB_NODE_NONE, 0);
}

static bool open_source(u64 r, u64 c) {
    static const lb_dtype types[] = {LB_F32, LB_BF16, LB_Q4_K, LB_F16};
    lb_double_decl d[4];
    for (u32 i = 0; i < 4; i++)
        d[i] = (lb_double_decl){.dtype = types[i], .n_rows = r, .n_cols = c};
    snprintf(path, sizeof path, "%s/in.bin", lb_test_dir());
    snprintf(out_path, sizeof out_path, "%s/out.bin", lb_test_dir());
    return lb_double_open(&src, d, 4, path);
}

/* The plan of one output, closed. */
typedef struct way {
    u32 a; /* the first of the two weights */
    bool turned, exact;
    u64 l; /* 0: reshaped, how: exact and whether it is the last weight */
} way;

static lb_status make_plan(lb_plan **out, const way *w, const lb_plan_limits *lim, lb_err *err) {
    const lb_source *s = src.src;
    lb_status st = lb_plan_new(out, &s, 1, err);
    if (st != LB_OK)
        return st;
    lb_graph *g = &(*out)->graph;
    lb_node_id x = w->l ? factors(g, w->a, w->turned, w->exact, w->l)
                        : reshaped(g, w->a, w->turned, w->a == 2 ? 2 : w->exact);
    if (lb_graph_status(g, err) != LB_OK)
        return err->code;
    const lb_node *n = lb_graph_node(g, x);
    lb_shape shape = {2, {n->n_rows, n->n_cols}};
    u64 bytes = n->n_rows * n->n_cols * sizeof(float);
    u32 file = lb_plan_file(*out, LB_STR(""), bytes);
    lb_stream stream = {
        .file = file, .dtype = LB_F32, .name = LB_STR("f"), .size_bytes = bytes, .shape = &shape};
    lb_plan_output(*out, &stream, lb_expr_encode(g, x, LB_F32));
    return lb_plan_close(*out, lim, err);
}

static bool is_file(const char *name, const u8 *bytes, u64 len) {
    u8 *got = malloc(len + 1);
    FILE *f = fopen(name, "rb");
    bool same = f && fread(got, 1, len + 1, f) == len && memcmp(got, bytes, len) == 0;
    if (f)
        fclose(f);
    free(got);
    return same;
}

static lb_status run_once(const way *w, u64 tile, u32 threads, u32 isa, lb_err *err) {
    lb_plan *p = NULL;
    lb_kernels k;
    lb_kernels_init(&k, isa);
    lb_plan_limits lim = {.memory_bytes = 512 * LB_MIB, .threads = threads, .tile_bytes = tile};
    lb_status st = make_plan(&p, w, &lim, err);
    lb_run_options ro = {.kernels = &k};
    lb_sink_options so = {.path = out_path, .force = true};
    lb_run_report rep = {0};
    u64 planned = p ? p->read_bytes : 0;
    if (st == LB_OK)
        st = lb_kit_run(p, out_path, &so, &ro, &rep, err);
    if (st == LB_OK && rep.bytes_read != planned)
        st = lb_fail(err, LB_E_IO, "%llu bytes read, %llu planned",
                     (unsigned long long)rep.bytes_read, (unsigned long long)planned);
    lb_plan_free(&p);
    return st;
}

LB_TEST(same_bytes) {
    static const u64 shapes[][2] = {{64, 256}, {96, 512}, {300, 256}};
    static const u64 tiles[] = {4096, 20000, 1 << 20};
    lb_err err = {0};
    for (u32 s = 0; s < lb_test_cases(LB_LEN(shapes)); s++) {
        CHECK(open_source(shapes[s][0], shapes[s][1]));
        for (u32 i = 0; i < (s == 0 ? 24 : 12); i++) {
            if ((i + i / 2 + i / 4) % lb_test_stride(2))
                continue;
            way w = {i % 12 / 4, i % 2, i / 2 % 2, i < 12 ? 1 + lb_test_rand_below(20) : 0};
            u64 len;
            lb_plan *p = NULL;
            lb_plan_limits lim = {.memory_bytes = 512 * LB_MIB, .threads = 1};
            CHECK_OK(make_plan(&p, &w, &lim, &err));
            u8 *want = lb_double_bytes(&p->graph, p->jobs[0].segments[0].root[0], &len);
            lb_plan_free(&p);
            for (u32 t = 0; t < LB_LEN(tiles); t++) {
                CHECK_OK(run_once(&w, tiles[t], 1 + t, t == 1 ? 0 : lb_cpu_isa(), &err));
                CHECK(is_file(out_path, want, len));
            }
            free(want);
        }
        lb_double_close(&src);
    }
}

/* What is left of the matrix beside the factors: no more than of the best ones. */
LB_TEST(exact_is_best) {
    lb_err err = {0};
    u64 l = 8, m = 64, n = 256, len;
    lb_plan *p = NULL;
    lb_plan_limits lim = {.memory_bytes = 512 * LB_MIB, .threads = 1};
    CHECK(open_source(m, n));
    for (u32 turned = 0; turned < 2; turned++) {
        double captured[2] = {0};
        for (u32 full = 0; full < 2; full++) {
            u64 k = full ? m : l;
            CHECK_OK(make_plan(&p, &(way){0, turned, true, k}, &lim, &err));
            u8 *bytes = lb_double_bytes(&p->graph, p->jobs[0].segments[0].root[0], &len);
            const float *sigma = (const float *)(const void *)bytes + (turned ? n : m) * k;
            for (u64 i = 0; i < l; i++)
                captured[full] += (double)sigma[i] * (double)sigma[i];
            free(bytes);
            lb_plan_free(&p);
        }
        CHECK(!(fabs(captured[0] - captured[1]) > 1e-6 * captured[1]));
    }
    lb_double_close(&src);
}

/* X times FLAT has equal singular values: its Gram matrix is a multiple of 1. */
LB_TEST(flat) {
    lb_err err = {0};
    lb_plan_limits lim = {.memory_bytes = 512 * LB_MIB, .threads = 1};
    lb_plan *p = NULL;
    u64 m = 256, n = 64, len;
    double one = 0, off = 0;
    CHECK(open_source(n, m));
    CHECK_OK(make_plan(&p, &(way){0, true, false, 0}, &lim, &err));
    u8 *bytes = lb_double_bytes(&p->graph, p->jobs[0].segments[0].root[0], &len);
    const float *f = (const float *)(const void *)bytes;
    for (u64 i = 0; i < n; i++)
        for (u64 j = 0; j < n; j++) {
            double v = 0;
            for (u64 r = 0; r < m; r++)
                v += (double)f[r * n + i] * (double)f[r * n + j];
            if (i == 0 && j == 0)
                one = v;
            off = fmax(off, fabs(v - (i == j ? one : 0)));
        }
    CHECK(one > 0 && !(off > 1e-4 * one));
    free(bytes);
    lb_plan_free(&p);
    lb_double_close(&src);
}

/* Values that are no numbers have no factors. */
LB_TEST(not_finite) {
    lb_err err = {0};
    CHECK(open_source(64, 256));
    FILE *f = fopen(path, "r+b");
    float bad[2] = {INFINITY, NAN};
    CHECK(f && fseek(f, (long)src.src->tensors[0].off_bytes + 400, SEEK_SET) == 0 &&
          fwrite(bad, sizeof bad, 1, f) == 1 && fclose(f) == 0);
    lb_fstat st;
    CHECK_OK(lb_os_stat(path, &st, &err));
    src.src->files[0].mtime_ns = st.mtime_ns;
    for (u32 exact = 0; exact < 2; exact++) {
        CHECK(run_once(&(way){0, false, exact, 4}, 0, 2, lb_cpu_isa(), &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "tensor 'f'") && strstr(err.msg, "NaN"));
    }
    lb_double_close(&src);
}

LB_TEST_MAIN("slow")
