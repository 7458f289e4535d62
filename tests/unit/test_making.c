/* SPDX-License-Identifier: Apache-2.0 */
/* test_making.c: sources whose bytes a run makes; rows of a file, and dot products with them. */
#include "plan_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include "ops/scan.h"
#include "plan/making.h"
#include <math.h>
#include <stdlib.h>

enum { ROWS = 150, COLS = 24 };

typedef struct maker {
    lb_making making;
    u32 n_calls;
    u64 memory_bytes, memory_max_bytes;
    bool fails;
} maker;

static lb_status make(lb_making *m, const lb_making_env *env, int fd, lb_err *err) {
    maker *x = (maker *)(void *)m;
    float row[COLS];
    x->n_calls++;
    x->memory_bytes = env->memory_bytes;
    x->memory_max_bytes = env->memory_max_bytes;
    if (x->fails)
        return lb_fail(err, LB_E_FORMAT, "the maker has no rows");
    for (u32 i = 0; i < ROWS; i++) {
        for (u32 c = 0; c < COLS; c++)
            row[c] = (float)(i * COLS + c);
        LB_TRY(lb_os_pwrite(fd, "made", row, sizeof row, i * sizeof row, err));
    }
    return LB_OK;
}

/* One tensor that is made. */
static lb_source *source(maker *m, const char *identity) {
    lb_err err = {0};
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, "rows");
    lb_tensor t = {.name = LB_STR("a"), .dtype = LB_F32, .size_bytes = ROWS * COLS * 4};
    t.shape = (lb_shape){.rank = 2, .dim = {ROWS, COLS}};
    *m = (maker){.making = {.make = make, .identity = lb_str_c(identity)}};
    if (!s || lb_making_file(s, &m->making, t.size_bytes, &err) != LB_OK ||
        lb_source_add_tensor(s, &t, &err) != LB_OK || lb_source_add_all_plain(s, &err) != LB_OK)
        abort();
    return s;
}

static lb_plan *plan_of(const lb_source *s, u64 memory_bytes) {
    lb_err err = {0};
    lb_plan *p = lb_kit_plan(s, false, 1, &err);
    lb_plan_limits l = {.memory_bytes = memory_bytes, .threads = 2};
    if (!p || lb_plan_close(p, &l, &err) != LB_OK)
        abort();
    return p;
}

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", lb_test_dir(), name);
    return path;
}

LB_TEST(is_made_once) {
    maker m;
    lb_err err = {0};
    u64 open = lb_kit_open_files();
    lb_source *s = source(&m, "one");
    for (u32 i = 0; i < 2; i++) {
        lb_plan *p = plan_of(s, 600 * LB_MIB);
        CHECK_OK(lb_kit_run(p, path_of("out"), NULL, NULL, NULL, &err));
        lb_plan_free(&p);
        CHECK_U64(m.n_calls, 1);
    }
    CHECK(m.memory_bytes > 256 * LB_MIB && m.memory_bytes < 512 * LB_MIB);
    CHECK_U64(m.memory_max_bytes - m.memory_bytes, 88 * LB_MIB);
    float got[ROWS * COLS];
    int fd;
    CHECK_OK(lb_os_open_read(path_of("out"), &fd, &err));
    CHECK_OK(lb_os_pread(fd, "out", got, sizeof got, 0, &err));
    lb_os_close(&fd);
    for (u32 i = 0; i < ROWS * COLS; i++)
        CHECK(got[i] == (float)i);
    lb_source_close(&s);
    CHECK_U64(lb_kit_open_files(), open);
}

LB_TEST(into_a_descriptor) {
    maker m;
    lb_err err = {0};
    lb_source *s = source(&m, "one");
    lb_plan *p = plan_of(s, 64 * LB_MIB);
    float got[COLS];
    int fd = -1;
    CHECK_OK(lb_os_open_temp(NULL, &fd, &err));
    lb_run_options o = {.raw_fd = &fd};
    CHECK_OK(lb_kit_run(p, NULL, NULL, &o, NULL, &err));
    CHECK(m.memory_bytes > 0 && m.memory_bytes < 64 * LB_MIB);
    CHECK_OK(lb_os_pread(fd, "out", got, sizeof got, (ROWS - 1) * sizeof got, &err));
    CHECK(got[0] == (ROWS - 1) * COLS && got[COLS - 1] == ROWS * COLS - 1);
    lb_os_close(&fd);
    lb_plan_free(&p);
    lb_source_close(&s);
}

LB_TEST(what_fails) {
    maker m;
    lb_err err = {0};
    u64 open = lb_kit_open_files();
    lb_source *s = source(&m, "one");
    lb_plan *p = plan_of(s, 64 * LB_MIB);
    m.fails = true;
    CHECK_U64(lb_kit_run(p, path_of("fails"), NULL, NULL, NULL, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "the maker has no rows"));
    CHECK(!lb_os_exists(path_of("fails")));
    lb_plan_free(&p);
    lb_source_close(&s);
    CHECK_U64(lb_kit_open_files(), open);
}

/* A journal's plan is the same one when the same is made again, whatever file it was in. */
LB_TEST(identity) {
    maker a, b, c;
    lb_source *s[] = {source(&a, "one"), source(&b, "one"), source(&c, "two")};
    lb_hash128 h[3];
    for (u32 i = 0; i < 3; i++) {
        lb_plan *p = plan_of(s[i], 64 * LB_MIB);
        h[i] = p->identity;
        lb_plan_free(&p);
        lb_source_close(&s[i]);
    }
    CHECK(memcmp(&h[0], &h[1], sizeof h[0]) == 0 && memcmp(&h[0], &h[2], sizeof h[0]) != 0);
    CHECK(a.n_calls + b.n_calls + c.n_calls == 0);
}

/* ---- rows and products ---- */

enum { WIDE = 300, QUERIES = 7, MANY = 230 };

static float table[MANY][WIDE], query[QUERIES][WIDE];
static float product[QUERIES][MANY];

static void keep(void *ctx, const lb_scan_tile *t) {
    (void)ctx;
    for (u32 q = 0; q < QUERIES; q++)
        for (u64 i = 0; i < t->n; i++)
            product[q][t->first + i] = t->dot[q * t->n + i];
}

LB_TEST(products_with_rows) {
    lb_err err = {0};
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    lb_rows r = {.path = "x", .n_rows = MANY, .n_cols = WIDE, .row_bytes = WIDE * 4};
    r.off_bytes = 12;
    r.decode = k.decode_f32_f32;
    u32 list[MANY];
    for (u32 i = 0; i < MANY; i++) {
        list[i] = i < 200 ? (i * 7 + 3) % MANY : i; /* scattered, then one after the other */
        for (u32 c = 0; c < WIDE; c++)
            table[i][c] = lb_test_normal();
    }
    for (u32 q = 0; q < QUERIES; q++)
        for (u32 c = 0; c < WIDE; c++)
            query[q][c] = lb_test_normal();
    CHECK_OK(lb_os_open_temp(NULL, &r.fd, &err));
    CHECK_OK(lb_os_pwrite(r.fd, "x", table, sizeof table, 12, &err));
    float first[QUERIES][MANY];
    for (u32 threads = 1; threads <= 3; threads++) {
        lb_scan s = {.rows = &r, .row = list, .n = MANY, .n_queries_max = QUERIES};
        s.kernels = &k;
        s.threads = threads;
        s.tile = keep;
        s.memory = malloc((size_t)lb_scan_bytes(&s));
        CHECK_OK(lb_scan_run(&s, query[0], QUERIES, &err));
        free(s.memory);
        if (threads == 1)
            memcpy(first, product, sizeof first);
        CHECK(memcmp(first, product, sizeof first) == 0);
    }
    for (u32 q = 0; q < QUERIES; q++)
        for (u32 i = 0; i < MANY; i++) {
            double want = 0;
            for (u32 c = 0; c < WIDE; c++)
                want += (double)query[q][c] * (double)table[list[i]][c];
            CHECK(fabs(want - (double)product[q][i]) < 1e-4);
        }
    lb_rows_close(&r);
}

LB_TEST_MAIN("fast")
