/* SPDX-License-Identifier: Apache-2.0 */
/* test_work.c: items over threads, and the tiles and layouts of ops/values.h. */
#include "base/interrupt.h"
#include "base/os.h"
#include "ops/values.h"
#include "ops/work.h"
#include "test.h"
#include <math.h>
#include <stdatomic.h>

#define ITEMS 1000

typedef struct job {
    atomic_uint runs[ITEMS];
    atomic_uint max_worker;
    u64 fail_from; /* items from here on fail */
} job;

static lb_status run_item(void *ctx, u32 worker, u64 item, lb_err *err) {
    job *j = ctx;
    atomic_fetch_add(&j->runs[item], 1);
    if (worker > atomic_load(&j->max_worker))
        atomic_store(&j->max_worker, worker);
    if (item >= j->fail_from)
        return lb_fail(err, LB_E_FORMAT, "item %llu", (unsigned long long)item);
    return LB_OK;
}

static job state;

static void reset(u64 fail_from) {
    memset(&state, 0, sizeof state);
    state.fail_from = fail_from;
}

LB_TEST(every_item_once) {
    static const u32 threads[] = {0, 1, 2, 7, 300};
    for (u32 t = 1; t < LB_LEN(threads); t++) {
        lb_err err = {0};
        reset(UINT64_MAX);
        CHECK_OK(lb_work_run(threads[t], ITEMS, run_item, &state, &err));
        for (u32 i = 0; i < ITEMS; i++)
            CHECK_U64(state.runs[i], 1);
        CHECK(atomic_load(&state.max_worker) < LB_MIN(threads[t], (u32)LB_WORK_THREADS_MAX));
    }
    lb_err err = {0};
    CHECK_OK(lb_work_run(4, 0, run_item, &state, &err));
}

LB_TEST(the_lowest_failure_is_told) {
    for (u32 round = 0; round < 20; round++) {
        lb_err err = {0};
        reset(37);
        CHECK(lb_work_run(4, ITEMS, run_item, &state, &err) == LB_E_FORMAT);
        CHECK_STR(lb_str_c(err.msg), "item 37");
        CHECK(err.code == LB_E_FORMAT);
        u32 n = 0;
        for (u32 i = 0; i < ITEMS; i++)
            n += atomic_load(&state.runs[i]);
        CHECK(n < ITEMS); /* the rest is left */
        CHECK(lb_work_run(3, ITEMS, run_item, &state, NULL) == LB_E_FORMAT);
    }
}

/* ---- tiles ---- */

static void fake(lb_values *v, u64 n_rows, u64 n_cols, u64 head_rows, u64 mat_rows) {
    memset(v, 0, sizeof *v);
    v->n_rows = n_rows;
    v->n_cols = n_cols;
    v->head_rows = head_rows;
    v->codec.rows_per_mat = mat_rows;
    v->codec.unit_elems = 1;
}

/* Tiles follow each other in storage order and cover every element once. */
static bool covers(const lb_values_cut *c, u64 head_rows, u64 mat_rows) {
    u64 next = 0;
    for (u64 i = 0; i < c->n_tiles; i++) {
        lb_values_tile t = lb_values_cut_get(c, i);
        if (t.nr == 0 || t.nc == 0 || t.r0 * c->n_cols + t.c0 != next)
            return false;
        if (t.nr > 1 && t.nc != c->n_cols)
            return false;
        if (head_rows && (t.r0 % head_rows || t.nr % head_rows))
            return false;
        if (mat_rows > 1 && t.r0 / mat_rows != (t.r0 + t.nr - 1) / mat_rows)
            return false;
        next += t.nr * t.nc;
    }
    return next == c->n_rows * c->n_cols;
}

LB_TEST(tiles_cover) {
    for (u32 i = 0; i < 3000; i++) {
        u64 head = lb_test_rand_below(3) ? 0 : 2 * (1 + lb_test_rand_below(64));
        u64 mat = head || lb_test_rand_below(2) ? 1 : 1 + lb_test_rand_below(500);
        u64 rows = (head ? head : mat) * lb_test_rand_below(40);
        u64 cols = lb_test_rand_below(4) ? lb_test_rand_below(3000) : lb_test_rand_below(300000);
        lb_values a, b;
        lb_values_cut c;
        fake(&a, rows, cols, head, mat);
        lb_values_cut_init(&c, &a, NULL);
        CHECK(covers(&c, head, mat));
        fake(&b, rows, cols, 0, 1); /* the partner's needs are kept too */
        lb_values_cut_init(&c, &b, &a);
        CHECK(covers(&c, head, mat));
    }
}

/* ---- layouts ---- */

static lb_source *one_tensor(lb_dtype dtype, u64 n_rows, u64 n_cols, const void *data,
                             lb_err *err) {
    static char path[512];
    u64 size = 0;
    int fd = -1;
    (void)snprintf(path, sizeof path, "%s/tensor", lb_test_dir());
    (void)lb_os_unlink(path, NULL);
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    lb_tensor t = {.name = LB_STR("x"),
                   .dtype = dtype,
                   .shape = {.rank = 2, .dim = {n_rows, n_cols}},
                   .n_elems = n_rows * n_cols};
    lb_weight w = {.name = t.name, .shape = t.shape, .n_parts = 1};
    if (!s || !lb_dtype_bytes(dtype, t.n_elems, &size))
        return NULL;
    t.size_bytes = size;
    bool ok = lb_os_open_write(path, true, &fd, err) == LB_OK &&
              lb_os_pwrite(fd, path, data, size, 0, err) == LB_OK;
    lb_os_close(&fd);
    ok = ok && lb_source_add_file(s, path, LB_STR("tensor"), &t.file, err) == LB_OK &&
         lb_source_add_tensor(s, &t, err) == LB_OK && lb_source_add_weight(s, &w, err) == LB_OK;
    if (!ok)
        lb_source_close(&s);
    return s;
}

LB_TEST(heads_come_apart) {
    enum { HEADS = 3, HALF = 5, COLS = 7, ROWS = HEADS * 2 * HALF };
    lb_err err = {0};
    float stored[ROWS][COLS], got[ROWS][COLS];
    static lb_kernels k;
    alignas(64) static u8 scratch[65536];
    lb_kernels_init(&k, 0);
    /* GGUF's row 2i+h of a head holds what HF has in row h*half+i. */
    for (u64 head = 0; head < HEADS; head++)
        for (u64 h = 0; h < 2; h++)
            for (u64 i = 0; i < HALF; i++)
                for (u64 c = 0; c < COLS; c++)
                    stored[head * 2 * HALF + 2 * i + h][c] =
                        (float)((head * 2 * HALF + h * HALF + i) * COLS + c);
    lb_source *s = one_tensor(LB_F32, ROWS, COLS, stored, &err);
    CHECK(s != NULL);
    lb_values v;
    lb_values_cut cut;
    lb_fds *fds = NULL;
    CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 4, &err));
    CHECK_OK(lb_values_init(&v, s, s->weights, &err));
    CHECK(lb_values_heads(&v, 4, &err) == LB_E_FORMAT);
    CHECK_OK(lb_values_init(&v, s, s->weights, &err));
    CHECK_OK(lb_values_heads(&v, HEADS, &err));
    lb_values_cut_init(&cut, &v, NULL);
    CHECK_U64(cut.n_tiles, 1);
    CHECK(lb_values_scratch_bytes(&v, &cut) <= sizeof scratch);
    lb_values_tile t = lb_values_cut_get(&cut, 0);
    lb_values_io io = {fds, &k, scratch};
    CHECK_OK(lb_values_read(&v, &io, &t, &got[0][0], &err));
    for (u64 i = 0; i < ROWS * COLS; i++)
        CHECK((&got[0][0])[i] == (float)i);
    lb_fds_free(&fds);
    lb_source_close(&s);
}

LB_TEST(plus_one_as_gguf_stores_it) {
    /* f16: 0.0002 + 1 rounds to 1 in f16, to 1.0002 in f32 */
    static const u16 half[] = {0x0a8e, 0x3c00, 0xbc00, 0x8000};
    static const float want[] = {1.0f, 2.0f, 0.0f, 1.0f};
    static lb_kernels k;
    alignas(64) static u8 scratch[4096];
    float got[4];
    lb_err err = {0};
    lb_values v;
    lb_values_cut cut;
    lb_fds *fds = NULL;
    lb_kernels_init(&k, 0);
    lb_source *s = one_tensor(LB_F16, 1, 4, half, &err);
    CHECK(s != NULL);
    CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 4, &err));
    CHECK_OK(lb_values_init(&v, s, s->weights, &err));
    v.add_one = true;
    v.round = LB_F16;
    lb_values_cut_init(&cut, &v, NULL);
    lb_values_tile t = lb_values_cut_get(&cut, 0);
    lb_values_io io = {fds, &k, scratch};
    CHECK_OK(lb_values_read(&v, &io, &t, got, &err));
    for (u32 i = 0; i < 4; i++)
        CHECK(got[i] == want[i]);
    u64 len;
    const u8 *part = lb_values_part(&v, &io, &t, 0, &len);
    CHECK(len == sizeof half && memcmp(part, half, sizeof half) == 0);
    lb_fds_free(&fds);
    lb_source_close(&s);
}

/* Last: the flag stays set. */
LB_TEST(z_interrupted) {
    lb_err err = {0};
    reset(UINT64_MAX);
    lb_interrupt_set();
    CHECK(lb_work_run(2, ITEMS, run_item, &state, &err) == LB_E_INTERRUPTED);
    CHECK(lb_status_exit(LB_E_INTERRUPTED) == 130);
}

LB_TEST_MAIN("fast")
