/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan_quant.c: Hugging Face's quantizers through the engine and through the double: stacks of
 * matrices, every scope, rows and columns that are no whole blocks; the same bytes for every tile
 * size, thread count and interruption. What has no codes stops the run. */
#include "plan_double.h"
#include "plan_kit.h"
#include "test.h"
#include "plan/quant.h"
#include <math.h>
#include <stdlib.h>

#define N_MATS 3  /* of a stack */
#define N_KINDS 4 /* bf16, f32, q8_0 where its blocks go, transposed f16 */
#define TURNED 3

static lb_double_source src;
static u64 n_jobs_run, n_resumed;

static bool open_source(u64 rows, u64 cols) {
    static char path[300];
    static const lb_dtype types[N_KINDS] = {LB_BF16, LB_F32, LB_Q8_0, LB_F16};
    lb_double_decl decls[N_KINDS * N_MATS];
    for (u32 i = 0; i < LB_LEN(decls); i++) {
        lb_dtype t = types[i / N_MATS];
        if (t == LB_Q8_0 && cols % 32)
            t = LB_F16;
        decls[i] = (lb_double_decl){.dtype = t, .n_rows = rows, .n_cols = cols};
        if (i / N_MATS == TURNED)
            decls[i] = (lb_double_decl){.dtype = t, .n_rows = cols, .n_cols = rows};
    }
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    return lb_double_open(&src, decls, LB_LEN(decls), path);
}

/* One job: some quantizations of each matrix of a stack, and sometimes bf16. */
typedef struct job {
    const lb_quant *quants[2];
    u32 n_quants, n_roots, kind;
    bool floats, one;
} job;

static void segment_roots(lb_graph *g, const job *j, lb_node_id x, lb_node_id *root) {
    u32 n = 0;
    for (u32 q = 0; q < j->n_quants; q++)
        for (u32 k = 0; k < lb_quant_n_parts(j->quants[q]); k++)
            root[n++] = lb_expr_quant(g, x, j->quants[q], (lb_quant_part)k);
    if (j->floats)
        root[n++] = lb_expr_encode(g, x, LB_BF16);
}

static lb_node_id matrix(lb_graph *g, const job *j, u32 i) {
    lb_node_id x = lb_expr_decode(g, lb_expr_read(g, 0, &src.src->weights[j->kind * N_MATS + i]));
    return j->kind == TURNED ? lb_expr_transpose(g, x) : x;
}

static lb_plan *plan_of(const job *j, lb_err *err) {
    static lb_shape shape[LB_ROOTS_MAX];
    static lb_node_id roots[N_MATS][LB_ROOTS_MAX];
    const lb_source *s = src.src;
    lb_plan *p = NULL;
    lb_stream st[LB_ROOTS_MAX];
    u64 at = 0, n_mats = j->one ? 1 : N_MATS;
    if (lb_plan_new(&p, &s, 1, err) != LB_OK)
        return NULL;
    for (u32 i = 0; i < n_mats; i++)
        segment_roots(&p->graph, j, matrix(&p->graph, j, i), roots[i]);
    if (lb_graph_status(&p->graph, err) != LB_OK)
        return p;
    for (u32 k = 0; k < j->n_roots; k++) {
        const lb_node *n = lb_graph_node(&p->graph, roots[0][k]);
        shape[k] = (lb_shape){3, {n_mats, n->n_rows, n->n_cols}};
        st[k] =
            (lb_stream){.off_bytes = at,
                        .dtype = (lb_dtype)n->op,
                        .name = LB_STR("stack"),
                        .shape = &shape[k],
                        .size_bytes = lb_kit_bytes((lb_dtype)n->op, n_mats * n->n_rows, n->n_cols)};
        at += st[k].size_bytes + k;
    }
    (void)lb_plan_file(p, LB_STR(""), at);
    if (lb_plan_job(p, LB_STR("stack"), st, j->n_roots))
        for (u32 i = 0; i < n_mats; i++)
            lb_plan_segment(p, roots[i]);
    p->want_digests = true;
    return p;
}

/* Every stream of the plan's one job as the double has it: its segments' bytes. Freed by the
 * caller. */
static void make_expected(const lb_plan *p, u8 *want[LB_ROOTS_MAX]) {
    const lb_job *j = &p->jobs[0];
    for (u32 k = 0; k < j->n_streams; k++) {
        u64 at = 0;
        want[k] = malloc(j->streams[k].size_bytes + 1);
        for (u32 i = 0; i < j->n_segments; i++) {
            u64 len = 0;
            u8 *part = lb_double_bytes(&p->graph, j->segments[i].root[k], &len);
            if (at + len > j->streams[k].size_bytes)
                abort();
            memcpy(want[k] + at, part, len);
            at += len;
            free(part);
        }
        if (at != j->streams[k].size_bytes)
            abort();
    }
}

static bool file_is(const lb_plan *p, const char *path, u8 *const want[LB_ROOTS_MAX]) {
    FILE *f = fopen(path, "rb");
    const lb_job *j = &p->jobs[0];
    bool ok = f != NULL;
    for (u32 k = 0; k < j->n_streams && ok; k++) {
        u8 *got = malloc(j->streams[k].size_bytes + 1);
        ok = fseek(f, (long)j->streams[k].off_bytes, SEEK_SET) == 0 &&
             fread(got, 1, j->streams[k].size_bytes, f) == j->streams[k].size_bytes &&
             lb_hash_eq(j->streams[k].hash, lb_xxh128(got, j->streams[k].size_bytes)) &&
             memcmp(got, want[k], j->streams[k].size_bytes) == 0;
        free(got);
    }
    if (f)
        fclose(f);
    return ok;
}

static bool stop_after(void *left) {
    u32 *n = left;
    return *n == 0 || --*n == 0;
}

/* In pieces, each with tiles and threads of its own. */
static lb_status run_in_pieces(lb_plan *p, const char *out, lb_err *err) {
    static const u64 tiles[] = {1, 3000, 40000};
    (void)remove(out);
    for (u32 i = 0;; i++) {
        u32 polls = 2 + i;
        lb_plan_limits lim = {
            .memory_bytes = LB_GIB, .threads = 1 + i % 3, .tile_bytes = tiles[i % LB_LEN(tiles)]};
        lb_sink_options so = {.resume = true, .force = true, .sync_bytes = 100, .span_bytes = 500};
        LB_TRY(lb_plan_close(p, &lim, err));
        lb_status st = lb_kit_run(p, out, &so,
                                  &(lb_run_options){.stop = stop_after, .user = &polls}, NULL, err);
        if (st != LB_E_INTERRUPTED)
            return st;
        n_resumed++;
    }
}

static void run_job(const job *j, const char *what) {
    static const u64 tiles[] = {1, 700, 5000, 100000, 0};
    char out[320];
    lb_err err = {0};
    lb_plan *p = plan_of(j, &err);
    u8 *want[LB_ROOTS_MAX] = {0};
    snprintf(out, sizeof out, "%s/out.bin", lb_test_dir());
    if (!p || err.code != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
        lb_plan_free(&p);
        return;
    }
    make_expected(p, want);
    for (u32 i = 0; i <= LB_LEN(tiles); i++) {
        lb_run_report rep = {0};
        lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 1 + i % 4};
        lb_status st;
        if (i < LB_LEN(tiles)) {
            lim.tile_bytes = tiles[i];
            st = lb_plan_close(p, &lim, &err);
            st = st == LB_OK ? lb_kit_run(p, out, NULL, NULL, &rep, &err) : st;
        } else {
            st = run_in_pieces(p, out, &err);
        }
        if (st != LB_OK || !file_is(p, out, want))
            lb_test_fail(__FILE__, __LINE__, "%s, %u: %s", what, i,
                         st == LB_OK ? "other bytes" : err.msg);
        else if (i < LB_LEN(tiles) &&
                 (rep.bytes_read != p->read_bytes || rep.bytes_written != p->write_bytes))
            lb_test_fail(__FILE__, __LINE__, "%s, %u: other counts than planned", what, i);
        n_jobs_run++;
    }
    for (u32 k = 0; k < j->n_roots; k++)
        free(want[k]);
    lb_plan_free(&p);
}

static const lb_quant quants[] = {
    {.kind = LB_QUANT_F8, .scope = LB_SCOPE_CHANNEL, .round = LB_ROUND_BF16},
    {.kind = LB_QUANT_F8, .scope = LB_SCOPE_TENSOR, .round = LB_ROUND_BF16},
    {.kind = LB_QUANT_F8, .scope = LB_SCOPE_BLOCK, .band = 128, .group = 128},
    {.kind = LB_QUANT_I8, .scope = LB_SCOPE_CHANNEL, .round = LB_ROUND_F16},
    {.kind = LB_QUANT_I8, .scope = LB_SCOPE_CHANNEL, .round = LB_ROUND_BF16, .asym = true},
    {.kind = LB_QUANT_I8, .scope = LB_SCOPE_TENSOR, .round = LB_ROUND_NONE, .asym = true},
    {.kind = LB_QUANT_I8, .scope = LB_SCOPE_BLOCK, .band = 16, .group = 24, .asym = true},
    {.kind = LB_QUANT_FINE_F8, .scope = LB_SCOPE_BLOCK, .band = 128, .group = 128},
    {.kind = LB_QUANT_FINE_F8, .scope = LB_SCOPE_TENSOR},
    {.kind = LB_QUANT_FINE_F8, .scope = LB_SCOPE_CHANNEL},
    {.kind = LB_QUANT_PACKED, .bits = 4, .scope = LB_SCOPE_CHANNEL, .round = LB_ROUND_BF16},
    {.kind = LB_QUANT_PACKED, .bits = 4, .scope = LB_SCOPE_CHANNEL, .asym = true},
    {.kind = LB_QUANT_PACKED, .bits = 8, .scope = LB_SCOPE_CHANNEL, .asym = true},
    {.kind = LB_QUANT_PACKED, .bits = 4, .group = 32, .round = LB_ROUND_BF16},
    {.kind = LB_QUANT_PACKED, .bits = 4, .group = 32, .round = LB_ROUND_F16, .asym = true},
    {.kind = LB_QUANT_PACKED, .bits = 4, .group = 128, .round = LB_ROUND_BF16, .asym = true},
    {.kind = LB_QUANT_PACKED, .bits = 8, .group = 32, .round = LB_ROUND_BF16, .asym = true},
};

LB_TEST(stacks) {
    static const u64 shapes[][2] = {{128, 256}, {300, 264}, {17, 96},  {129, 513},
                                    {5, 33},    {1, 128},   {260, 640}};
    const u64 n_shapes = lb_test_cases(LB_LEN(shapes));
    const u32 step = lb_test_stride(2);
    for (u32 s = 0; s < n_shapes; s++) {
        CHECK(open_source(shapes[s][0], shapes[s][1]));
        for (u32 i = 0; i < LB_LEN(quants); i += step) {
            const lb_quant *q = &quants[i], *other = &quants[(i * 7 + s) % LB_LEN(quants)];
            job j = {
                .quants = {q, other}, .n_quants = 1, .kind = (i + s) % N_KINDS, .floats = i % 2};
            char what[100];
            snprintf(what, sizeof what, "quantizer %u of %llu x %llu", i,
                     (unsigned long long)shapes[s][0], (unsigned long long)shapes[s][1]);
            if (shapes[s][1] % lb_quant_cols(q))
                continue;
            if (other != q && shapes[s][1] % lb_quant_cols(other) == 0)
                j.n_quants = 2;
            for (u32 k = 0; k < j.n_quants; k++)
                j.n_roots += lb_quant_n_parts(j.quants[k]);
            j.n_roots += j.floats;
            j.one = i % 5 == 3;
            run_job(&j, what);
        }
        lb_double_close(&src);
    }
    fprintf(stderr, "%llu jobs, %llu interruptions\n", (unsigned long long)n_jobs_run,
            (unsigned long long)n_resumed);
    CHECK(n_jobs_run * step * LB_LEN(shapes) > 500 * n_shapes && n_resumed > n_jobs_run / 6);
}

/* ---- what has no codes, and what is almost none ---- */

static lb_status run_values(const lb_quant *q, u64 rows, u64 cols, const float *values,
                            u8 *const bytes[2], lb_err *err) {
    lb_plan *p = NULL;
    char out[320];
    lb_node_id root[LB_QUANT_PARTS];
    lb_stream st[LB_QUANT_PARTS];
    lb_shape shape[LB_QUANT_PARTS];
    u64 at = 0;
    snprintf(out, sizeof out, "%s/values.bin", lb_test_dir());
    (void)remove(out);
    LB_TRY(lb_plan_new(&p, NULL, 0, err));
    lb_node_id x = lb_expr_const(&p->graph, rows, cols, values);
    for (u32 k = 0; k < lb_quant_n_parts(q); k++) {
        root[k] = lb_expr_quant(&p->graph, x, q, (lb_quant_part)k);
        const lb_node *n = lb_graph_node(&p->graph, root[k]);
        shape[k] = (lb_shape){2, {n->n_rows, n->n_cols}};
        st[k] = (lb_stream){.off_bytes = at,
                            .dtype = (lb_dtype)n->op,
                            .name = k ? LB_STR("layer.scale") : LB_STR("layer.codes"),
                            .shape = &shape[k],
                            .size_bytes = lb_kit_bytes((lb_dtype)n->op, n->n_rows, n->n_cols)};
        at += st[k].size_bytes;
    }
    (void)lb_plan_file(p, LB_STR(""), at);
    if (lb_plan_job(p, LB_STR("layer"), st, lb_quant_n_parts(q)))
        lb_plan_segment(p, root);
    lb_status rc = lb_plan_close(p, &(lb_plan_limits){.memory_bytes = LB_GIB, .threads = 1}, err);
    if (rc == LB_OK)
        rc = lb_kit_run(p, out, NULL, NULL, NULL, err);
    FILE *f = rc == LB_OK && bytes ? fopen(out, "rb") : NULL;
    for (u32 k = 0; f && k < 2; k++)
        if (fread(bytes[k], 1, st[k].size_bytes, f) != st[k].size_bytes)
            rc = LB_E_IO;
    if (f)
        fclose(f);
    lb_plan_free(&p);
    return rc;
}

LB_TEST(no_codes) {
    static float values[160 * 256];
    for (u32 i = 0; i < LB_LEN(quants); i++) {
        const lb_quant *q = &quants[i];
        for (u32 k = 0; k < 4; k++) {
            lb_err err = {0};
            for (u32 v = 0; v < LB_LEN(values); v++)
                values[v] = lb_test_normal();
            values[150 * 256 + 130] = k == 0 ? NAN : k == 1 ? -INFINITY : k == 2 ? INFINITY : 0;
            lb_status st = run_values(q, 160, 256, values, NULL, &err);
            CHECK(k == 3 ? st == LB_OK : st == LB_E_FORMAT);
            CHECK(k == 3 || (strstr(err.msg, "layer.codes") && strstr(err.msg, "1 values")));
        }
    }
}

/* A scale that is too large for its type; the values are finite. */
LB_TEST(no_scale) {
    static const float values[64] = {-60000, 60000};
    static const lb_quant group = {
        .kind = LB_QUANT_PACKED, .bits = 4, .group = 32, .round = LB_ROUND_F16, .asym = true};
    static const lb_quant row = {.kind = LB_QUANT_PACKED,
                                 .bits = 4,
                                 .scope = LB_SCOPE_CHANNEL,
                                 .round = LB_ROUND_F16,
                                 .asym = true};
    lb_err err = {0};
    CHECK(run_values(&group, 1, 64, values, NULL, &err) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "layer.codes"));
    CHECK(run_values(&row, 1, 64, values, NULL, &err) == LB_E_FORMAT);
}

/* weight_shape: integers that no value becomes. */
LB_TEST(constants) {
    static const u64 want[3] = {248320, (u64)1 << 40, UINT64_MAX};
    static const lb_shape shape = {1, {3}};
    char out[320];
    u64 got[3] = {0};
    lb_plan *p = NULL, *other = NULL;
    lb_err err = {0};
    lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 2, .tile_bytes = 1};
    snprintf(out, sizeof out, "%s/constants.bin", lb_test_dir());
    for (u32 i = 0; i < 2; i++) {
        lb_plan **at = i ? &other : &p;
        CHECK_OK(lb_plan_new(at, NULL, 0, &err));
        lb_stream st = {
            .name = LB_STR("w.weight_shape"), .dtype = LB_I64, .shape = &shape, .size_bytes = 24};
        (void)lb_plan_file(*at, LB_STR(""), 24);
        lb_plan_output(*at, &st, lb_expr_bytes(&(*at)->graph, LB_I64, 3, i ? got : want));
        CHECK_OK(lb_plan_close(*at, &lim, &err));
    }
    CHECK(!lb_hash_eq(p->identity, other->identity));
    CHECK_OK(lb_kit_run(p, out, NULL, NULL, NULL, &err));
    FILE *f = fopen(out, "rb");
    CHECK(f && fread(got, 8, 3, f) == 3);
    fclose(f);
    CHECK(memcmp(got, want, sizeof want) == 0);
    CHECK(lb_hash_eq(p->jobs[0].streams[0].hash, lb_xxh128(want, sizeof want)));
    lb_plan_free(&p);
    lb_plan_free(&other);
}

/* transformers' factor 448 / max is infinite for what is this small: zeros instead of NaN. */
LB_TEST(tiny_block) {
    static const lb_quant q = {
        .kind = LB_QUANT_FINE_F8, .scope = LB_SCOPE_BLOCK, .band = 128, .group = 128};
    static float values[128 * 128], scale[1];
    static u8 codes[128 * 128];
    lb_err err = {0};
    values[5] = 1e-38f;
    CHECK_OK(run_values(&q, 128, 128, values, (u8 *[2]){codes, (u8 *)scale}, &err));
    CHECK(scale[0] == 1.0f && codes[5] == 0);
}

LB_TEST(refused) {
    lb_plan *p = NULL;
    lb_err err = {0};
    lb_node_id root[2];
    CHECK_OK(lb_plan_new(&p, NULL, 0, &err));
    lb_node_id x = lb_expr_fill(&p->graph, 8, 48, 1);
    root[0] = lb_expr_quant(&p->graph, x, &quants[13], LB_QUANT_CODES);
    CHECK(root[0] == LB_NODE_NONE && strstr(p->graph.err.msg, "whole groups of 32"));
    lb_plan_free(&p);
    CHECK_OK(lb_plan_new(&p, NULL, 0, &err));
    x = lb_expr_fill(&p->graph, 0, 64, 1);
    CHECK(lb_expr_quant(&p->graph, x, &quants[1], LB_QUANT_SCALES) == LB_NODE_NONE);
    lb_plan_free(&p);
    /* matrices of a stack of two sizes: their blocks have no places in common */
    CHECK_OK(lb_plan_new(&p, NULL, 0, &err));
    static const lb_shape shape[2] = {{2, {200, 128}}, {2, {3, 1}}};
    lb_stream st[2] = {
        {.name = LB_STR("w"), .dtype = LB_F8_E4M3, .shape = &shape[0], .size_bytes = 200 * 128},
        {.name = LB_STR("w.scale"),
         .off_bytes = 200 * 128,
         .dtype = LB_F32,
         .shape = &shape[1],
         .size_bytes = 12}};
    (void)lb_plan_file(p, LB_STR(""), 200 * 128 + 12);
    CHECK(lb_plan_job(p, LB_STR("w"), st, 2) != NULL);
    for (u32 i = 0; i < 2; i++) {
        x = lb_expr_fill(&p->graph, i ? 70 : 130, 128, 1);
        root[0] = lb_expr_quant(&p->graph, x, &quants[7], LB_QUANT_CODES);
        root[1] = lb_expr_quant(&p->graph, x, &quants[7], LB_QUANT_SCALES);
        lb_plan_segment(p, root);
    }
    lb_status rc = lb_plan_close(p, &(lb_plan_limits){.memory_bytes = LB_GIB, .threads = 1}, &err);
    CHECK(rc == LB_E_UNSUPPORTED && strstr(err.msg, "two kinds"));
    lb_plan_free(&p);
}

LB_TEST_MAIN("slow")
