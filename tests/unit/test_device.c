/* SPDX-License-Identifier: Apache-2.0 */
/* The device interface on the cpu personality: every kernel against its reference in several
 * schedules, what a wrong launch says, the pool, the budget, order of queues. */
#include "test.h"
#include "base/mem.h"
#include "device/cpu_fiber.h"
#include "device/cpu_kernels.h"
#include "device/device.h"
#include "device/kern/mt_args.h"
#include "device/selftest.h"
#include <math.h>

static lb_err err;

static bool says(const char *text) {
    size_t at;
    return lb_str_find(lb_str_c(err.msg), lb_str_c(text), &at);
}

#define CHECK_FAILS(call, code, text)                                                \
    do {                                                                             \
        err = (lb_err){0};                                                           \
        lb_status st_ = (call);                                                      \
        if (st_ != (code) || !says(text)) {                                          \
            lb_test_fail(__FILE__, __LINE__, "%s -> %s: '%s', expected '%s'", #call, \
                         lb_status_text(st_), err.msg, text);                        \
            return;                                                                  \
        }                                                                            \
    } while (0)

/* The table of the host and the text of the kernels agree on arguments. */
LB_TEST(device_table) {
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++) {
        const lb_cpu_kernel *c = lb_cpu_kernel_get((lb_dev_kernel)k);
        lb_dev_kernel found;
        CHECK_STR(lb_str_c(c->signature), lb_dev_kernel_signature((lb_dev_kernel)k));
        CHECK_U64(c->val_bytes, lb_dev_kernel_val_bytes((lb_dev_kernel)k));
        CHECK(c->val_bytes <= LB_DEV_VAL_BYTES_MAX);
        CHECK(strlen(c->signature) - 1 <= LB_DEV_BUFS_MAX);
        CHECK(lb_dev_kernel_find(lb_str_c(lb_dev_kernel_name((lb_dev_kernel)k)), &found));
        CHECK_U64(found, k);
    }
    lb_dev_kernel none;
    CHECK(!lb_dev_kernel_find(LB_STR("mv_q4"), &none));
}

static void kernels_in(u32 schedule) {
    const lb_selftest_opts opts = {0};
    lb_dev *d;
    CHECK_OK(lb_dev_open(
        &d, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true, .schedule = schedule}, &err));
    /* A sanitizer takes a third of them in each schedule: all of them together; an emulator an
     * eighth: half of them. */
    const u32 step = lb_test_emulated() ? 8 : lb_test_full() ? 1 : 3;
    for (u32 k = schedule % step; k < LB_DEV_KERNEL_COUNT; k += step) {
        lb_selftest_row row;
        CHECK_OK(lb_dev_selftest(d, (lb_dev_kernel)k, &opts, &row, &err));
        if (row.status != LB_OK)
            lb_test_fail(__FILE__, __LINE__, "%s, schedule %u: %s",
                         lb_dev_kernel_name((lb_dev_kernel)k), schedule, row.why);
        CHECK(row.n_cases >= 4);
        CHECK(row.worst <= 1);
    }
    lb_dev_stats s;
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.used_bytes, 0);
    CHECK(s.launches > LB_DEV_KERNEL_COUNT / step);
    lb_dev_close(&d);
}

LB_TEST(device_kernels_forward) {
    kernels_in(LB_FIBER_FORWARD);
}
LB_TEST(device_kernels_backward) {
    kernels_in(LB_FIBER_BACKWARD);
}
LB_TEST(device_kernels_random) {
    kernels_in(2);
    if (lb_test_full() || lb_test_emulated())
        kernels_in(3);
}

/* The comparison sees one turned bit of any kernel's result. */
LB_TEST(device_selftest_sees) {
    const lb_selftest_opts opts = {.damage = true};
    lb_dev *d;
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    const u32 step = lb_test_full() ? 1 : 4; /* under sanitizers it is the same code */
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k += step) {
        lb_selftest_row row;
        CHECK_OK(lb_dev_selftest(d, (lb_dev_kernel)k, &opts, &row, &err));
        if (row.status != LB_E_DIFFERENT || row.worst <= 1)
            lb_test_fail(__FILE__, __LINE__, "%s: damage was not seen",
                         lb_dev_kernel_name((lb_dev_kernel)k));
    }
    lb_dev_close(&d);
}

/* Several kernels at a time give the rows that each gives by itself. */
LB_TEST(device_selftest_threads) {
    static const lb_dev_kernel few[] = {
        LB_DK_rms_norm,  LB_DK_mv_q4_k,  LB_DK_rows_iq3_s, LB_DK_rope,       LB_DK_enc_q4_k,
        LB_DK_softmax,   LB_DK_mm_q8_0,  LB_DK_kv_put,     LB_DK_top_chunks, LB_DK_enc_mlx_float,
        LB_DK_conv_keep, LB_DK_act_silu, LB_DK_route};
    lb_selftest_opts opts = {.threads = 3};
    lb_selftest_row one, all[LB_LEN(few)];
    for (u32 damage = 0; damage < 2; damage++) {
        lb_dev *d;
        opts.damage = damage != 0;
        CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}, &err));
        CHECK_OK(lb_dev_selftest_all(d, few, LB_LEN(few), &opts, all, &err));
        for (u32 i = 0; i < LB_LEN(few); i++) {
            CHECK_OK(lb_dev_selftest(d, few[i], &opts, &one, &err));
            CHECK(one.kernel == few[i] && all[i].kernel == few[i]);
            CHECK(one.status == (damage ? LB_E_DIFFERENT : LB_OK) && all[i].status == one.status);
            CHECK_U64(all[i].n_cases, one.n_cases);
            CHECK(all[i].worst == one.worst && strcmp(all[i].why, one.why) == 0);
        }
        lb_dev_close(&d);
    }
}

/* ---- kernels with a fault that a GPU may not show ---- */

static void no_barrier(lb_fiber *f, void *const *args) {
    float *part = lb_fiber_shared(f, 64 * sizeof *part), *out = args[0];
    part[f->thread] = (float)f->thread;
    out[f->thread] = part[63 - f->thread];
}
static void with_barrier(lb_fiber *f, void *const *args) {
    float *part = lb_fiber_shared(f, 64 * sizeof *part), *out = args[0];
    part[f->thread] = (float)f->thread;
    lb_fiber_barrier(f, __LINE__);
    out[f->thread] = part[63 - f->thread];
}
static void barrier_of_some(lb_fiber *f, void *const *args) {
    (void)args;
    if (f->thread < 40)
        lb_fiber_barrier(f, __LINE__);
}
static void sum_of_some(lb_fiber *f, void *const *args) {
    float *out = args[0];
    out[f->thread] = 0;
    if (f->thread != 5)
        out[f->thread] = lb_fiber_simd(f, LB_FIBER_SUM, 1, __LINE__);
}
static void large_shared(lb_fiber *f, void *const *args) {
    (void)args;
    (void)lb_fiber_shared(f, LB_FIBER_SHARED_BYTES - 8);
    (void)lb_fiber_shared(f, 16);
}

LB_TEST(device_fibers) {
    float out[64];
    void *args[] = {out};
    const lb_cpu_kernel bad = {no_barrier, "o", 0}, good = {with_barrier, "o", 0},
                        some = {barrier_of_some, "o", 0}, sum = {sum_of_some, "o", 0},
                        big = {large_shared, "o", 0};
    lb_fibers *f;
    CHECK_OK(lb_fibers_new(&f, &err));
    for (u32 schedule = 0; schedule < 6; schedule++) {
        const lb_fiber_grid grid = {{1, 1, 1}, 64, schedule};
        u32 wrong = 0;
        CHECK_OK(lb_fibers_run(f, "bad", &bad, args, &grid, &err));
        for (u32 i = 0; i < 64; i++)
            wrong += !(out[i] == (float)(63 - i));
        CHECK(wrong > 0);
        CHECK_OK(lb_fibers_run(f, "good", &good, args, &grid, &err));
        for (u32 i = 0; i < 64; i++)
            CHECK(out[i] == (float)(63 - i));
        CHECK_FAILS(lb_fibers_run(f, "some", &some, args, &grid, &err), LB_E_FORMAT,
                    "kernel some: a barrier that thread");
        CHECK_FAILS(lb_fibers_run(f, "sum", &sum, args, &grid, &err), LB_E_FORMAT,
                    "kernel sum: simdgroup operation in divergent flow");
        CHECK_FAILS(lb_fibers_run(f, "big", &big, args, &grid, &err), LB_E_FORMAT,
                    "kernel big: more than 32768 bytes");
    }
    lb_fibers_free(&f);
    CHECK(f == NULL);
}

/* ---- wrong launches ---- */

typedef struct rig {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *w, *x, *y;
} rig;

/* mv_q4_0 of [8, 64]: 288 bytes of weights, 256 of x, 32 of y. */
static lb_status rig_open(rig *r, lb_dev_opts opts) {
    *r = (rig){0};
    LB_TRY(lb_dev_open(&r->d, &opts, &err));
    LB_TRY(lb_dev_queue_new(r->d, &r->q, &err));
    LB_TRY(lb_dev_buf_new(r->d, LB_DEV_OWN, 288, &r->w, &err));
    LB_TRY(lb_dev_buf_new(r->d, LB_DEV_OWN, 256, &r->x, &err));
    return lb_dev_buf_new(r->d, LB_DEV_OWN, 32, &r->y, &err);
}

/* Whatever the device has, up to eight tokens of a long product fit its counters. */
LB_TEST(device_shared_columns) {
    static const u32 units[] = {0, 1, 2, 66, 108, 132, 148, 170, 1000};
    static const u32 n_rows[] = {16, 4096, 8192, 65536};
    for (u32 i = 0; i < LB_LEN(units) * LB_LEN(n_rows); i++)
        for (u32 n = 8 * 8; n--;) {
            lb_dev_info info = {.n_units = units[i / LB_LEN(n_rows)]};
            lb_mv_args a = {
                .n_rows = n_rows[i % LB_LEN(n_rows)], .n_cols = 14336, .n_tokens = 1 + n % 8};
            lb_dev_shape s;
            info.tuning.mt_parts = n / 8;
            lb_dev_mt_share(&info, LB_DK_mt_q4_k, true, &a);
            CHECK_U64(a.parts, LB_MAX(LB_MIN(n / 8, 7), 1u)); /* 56 blocks, 8 simdgroups */
            CHECK_OK(lb_dev_kernel_shape(LB_DK_mt_q4_k, &a, &s, &err));
            CHECK_U64(s.groups[2], a.parts);
            CHECK(a.parts == 1 || s.groups[0] * s.groups[1] <= 1024);
            lb_dev_mt_share(&info, LB_DK_mt_q4_k, false, &a);
            CHECK_U64(a.parts, 1);
        }
}

/* Threadgroups of a product: by kernel, rows, tokens and what the device has. */
LB_TEST(device_groups) {
    enum { ADD = 1, GATED };
    static const struct {
        lb_dev_kernel k;
        u32 units, n_rows, n_tokens, how, per, groups;
    } cases[] = {
        {LB_DK_mt_mlx_q4, 132, 1024, 1, 0, 264, 64},    /* fewer tiles than multiprocessors */
        {LB_DK_mt_mlx_q4, 132, 2560, 1, 0, 264, 160},   /* one round of two, not two of one */
        {LB_DK_mt_mlx_q4, 132, 4096, 1, ADD, 132, 132}, /* 256 tiles: two full rounds */
        {LB_DK_mt_mlx_q4, 132, 4224, 1, ADD, 132, 132},
        {LB_DK_mt_mlx_q4, 132, 4240, 1, ADD, 264, 264}, /* one more */
        {LB_DK_mt_q4_k, 132, 5120, 1, 0, 160, 160},     /* 320 tiles in two rounds */
        {LB_DK_mt_q8_0, 132, 6144, 1, 0, 192, 192},
        {LB_DK_mt_q8_0, 132, 6128, 1, 0, 192, 192}, /* 383 */
        {LB_DK_mt_q4_k, 132, 8448, 1, 0, 264, 264}, /* 528 */
        {LB_DK_mt_q4_k, 132, 6144, 1, GATED, 264, 264},
        {LB_DK_mt_q4_k, 132, 128256, 1, 0, 264, 264},
        {LB_DK_mt_bf16, 132, 4096, 1, ADD, 264, 256}, /* floats: always two */
        {LB_DK_mt_f16, 132, 6144, 1, 0, 264, 264},
        {LB_DK_mt_mlx_q8, 132, 4096, 2, ADD, 264, 256},  /* several tokens */
        {LB_DK_mt_mlx_q4, 0, 4096, 1, 0, 0, 256},        /* not known: as there are rows */
        {LB_DK_mte_mlx_q4, 132, 1536, 8, GATED, 33, 33}, /* of experts: of each row */
        {LB_DK_mte_q4_k, 132, 2048, 8, 0, 33, 33},
        {LB_DK_mte_q8_0, 132, 2048, 512, 0, 4, 4}, /* many rows */
        {LB_DK_mte_bf16, 0, 2048, 8, 0, 0, 128},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_dev_info info = {.n_units = cases[i].units};
        lb_mv_args a = {.n_rows = cases[i].n_rows, .n_cols = 4096, .n_tokens = cases[i].n_tokens};
        lb_dev_shape s;
        a.n_mats = a.per_x = 8; /* of experts */
        a.add = cases[i].how == ADD;
        a.gated = cases[i].how == GATED;
        a.act = a.gated ? LB_DEV_PRE_SILU : 0;
        a.group_elems = 64;
        lb_dev_mt_share(&info, cases[i].k, true, &a);
        CHECK_U64(a.per, cases[i].per);
        CHECK_OK(lb_dev_kernel_shape(cases[i].k, &a, &s, &err));
        CHECK_U64(s.groups[0], cases[i].groups);
    }
}

LB_TEST(device_wrong_launch) {
    rig r, other;
    lb_mv_args a = {.n_rows = 8, .n_cols = 64, .n_tokens = 1, .simdgroups = 8, .split = 1};
    CHECK_OK(rig_open(&r, (lb_dev_opts){.kind = LB_DEV_CPU}));
    CHECK_OK(rig_open(&other, (lb_dev_opts){.kind = LB_DEV_CPU}));
    const lb_dev_launch good = {.kernel = LB_DK_mv_q4_0,
                                .buf = {{r.w, 0}, {r.x, 0}, {r.x, 0}, {r.y, 0}},
                                .n_bufs = 4,
                                .val = &a,
                                .val_bytes = sizeof a};
    lb_dev_launch l = good;
    CHECK_OK(lb_dev_queue_launch(r.q, &l, &err));
    l.n_bufs = 3;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "3 buffers given, it takes 4");
    l = good;
    l.val_bytes = 4;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE,
                "4 bytes of values given, it takes 104");
    l = good;
    l.buf[2].buf = NULL;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "argument 2 is no buffer of cpu");
    l.buf[2].buf = other.x;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "argument 2 is no buffer of cpu");
    l = good;
    l.buf[2].off_bytes = 8;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE,
                "argument 2 is not aligned to 16 bytes");
    l.buf[2].off_bytes = 16;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE,
                "argument 2 needs 256 bytes at 16 of a buffer of 256");
    l.buf[2].off_bytes = UINT64_MAX - 15;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "argument 2 needs 256 bytes at");
    l = good;
    l.buf[3] = (lb_dev_arg){r.x, 0};
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE,
                "argument 3 is written and overlaps argument 2");
    l = good;
    a.n_rows = 9;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "argument 0 needs 324 bytes");
    a = (lb_mv_args){.n_rows = 8, .n_cols = 48, .n_tokens = 1, .simdgroups = 8, .split = 1};
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE,
                "the number of columns is not one of whole blocks");
    a = (lb_mv_args){.n_rows = 8, .n_cols = 64, .n_tokens = 65536, .simdgroups = 8, .split = 1};
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "more than 65535 tokens");
    a = (lb_mv_args){.n_rows = UINT32_MAX, .n_cols = UINT32_MAX - 31, .n_tokens = 65535};
    CHECK(lb_dev_queue_launch(r.q, &l, &err) == LB_E_USAGE);
    l.kernel = LB_DEV_KERNEL_COUNT;
    CHECK_FAILS(lb_dev_queue_launch(r.q, &l, &err), LB_E_USAGE, "no kernel has number");
    CHECK_FAILS(lb_dev_queue_write(r.q, r.y, 16, &a, 20, &err), LB_E_USAGE,
                "a copy of 20 bytes at 16 of a buffer of 32");
    CHECK_FAILS(lb_dev_queue_copy(r.q, (lb_dev_arg){r.x, 0}, (lb_dev_arg){r.x, 16}, 32, &err),
                LB_E_USAGE, "overlaps itself");
    CHECK_FAILS(lb_dev_queue_read(r.q, &a, other.y, 0, 4, &err), LB_E_USAGE, "another device");
    lb_dev_close(&r.d);
    lb_dev_close(&other.d);
    CHECK(r.d == NULL);
}

/* What products may make of their sums, and what of x beside it. */
LB_TEST(device_acted_shapes) {
    const lb_mv_args good = {.n_rows = 64,
                             .n_cols = 256,
                             .n_tokens = 2,
                             .simdgroups = LB_DEV_MT_SIMDGROUPS,
                             .split = 1,
                             .y_stride = 40,
                             .act = LB_DEV_PRE_SILU,
                             .gated = 1};
    lb_mv_args a = good;
    lb_dev_shape s;
    CHECK_OK(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err));
    CHECK_U64(s.need_bytes[0], 64 * 144);
    CHECK_U64(s.need_bytes[3], (40 + 32) * 4); /* half as many values as rows */
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mv_q4_0, &a, &s, &err), LB_E_USAGE,
                "an activation of sums, which mt_* alone have");
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mm_q4_0, &a, &s, &err), LB_E_USAGE,
                "take and give rows as they are");
    a.n_rows = 65;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err), LB_E_USAGE,
                "an odd number of rows");
    a.n_rows = 30; /* 15 pairs */
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err), LB_E_USAGE, "fewer than 16 rows");
    /* Rows of 1 MiB: of 4,088 pairs the last 8 of the last tile end 4 GiB behind its first. */
    a = good;
    a.n_cols = 1 << 19;
    a.n_tokens = 1;
    a.y_stride = 0;
    a.n_rows = 2 * 4086;
    CHECK_OK(lb_dev_kernel_shape(LB_DK_mt_bf16, &a, &s, &err));
    a.n_rows = 2 * 4088;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_bf16, &a, &s, &err), LB_E_USAGE, "too large");
    a.act = LB_DEV_PRE_NONE;
    a.gated = 0;
    CHECK_OK(lb_dev_kernel_shape(LB_DK_mt_bf16, &a, &s, &err));
    a = good;
    a.pre = LB_DEV_PRE_GELU;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err), LB_E_USAGE,
                "none of the ways there are");
    a = good;
    a.act = LB_DEV_PRE_NORM;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err), LB_E_USAGE,
                "none of the ways there are");
    a = good;
    a.act = LB_DEV_PRE_OAI;
    a.gated = 0;
    a.y_stride = 64;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_mt_q4_0, &a, &s, &err), LB_E_USAGE,
                "none of the ways there are");
}

/* What attention of one token may do beside. */
LB_TEST(device_put_shapes) {
    lb_few_args good = {.at = {.n_tokens = 1,
                               .n_heads = 4,
                               .n_heads_kv = 2,
                               .k_dim = 64,
                               .v_dim = 32,
                               .stride = 512,
                               .v_off = 16384,
                               .k_bytes = 128,
                               .v_bytes = 64,
                               .page_bytes = 24576,
                               .n_pages = 3,
                               .type = LB_DEV_F16,
                               .n_seqs = 1,
                               .n_table = 3,
                               .split_rows = 64,
                               .n_splits = 2,
                               .scale = 1}};
    lb_few_args a = good;
    lb_dev_shape s;
    CHECK_OK(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err));
    CHECK_U64(s.need_bytes[0], 256 * 4);
    CHECK_U64(s.need_bytes[1], 0);
    good.put = (lb_rope_store_args){.n_tokens = 1,
                                    .n_heads = 4,
                                    .n_heads_kv = 2,
                                    .k_dim = 64,
                                    .v_dim = 32,
                                    .n_rot = 48,
                                    .k_first = 256,
                                    .v_first = 384,
                                    .stride = 512,
                                    LB_DEV_KV_PLACES(&good.at),
                                    .q_norm = 1,
                                    .k_norm = 1,
                                    .k_w_stride = 64};
    a = good;
    CHECK_OK(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err));
    CHECK_U64(s.need_bytes[0], 448 * 4); /* keys and values, too */
    CHECK_U64(s.need_bytes[1], 24 * 4);
    CHECK_U64(s.need_bytes[2], 24 * 4);
    CHECK_U64(s.need_bytes[3], 64 * 4);
    CHECK_U64(s.need_bytes[4], 128 * 4);
    CHECK_U64(s.need_bytes[8], 3 * 24576);
    const char *not_its_own = "what is put is not of the one token that is attended to";
    a.at.n_tokens = a.put.n_tokens = 2;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err), LB_E_USAGE, not_its_own);
    a = good;
    a.at.n_tokens = 2;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err), LB_E_USAGE, not_its_own);
    a = good;
    a.put.v_off += 16;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err), LB_E_USAGE, not_its_own);
    a = good;
    a.at.first = 4;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err), LB_E_USAGE, not_its_own);
    a = good;
    a.put.n_rot = 66;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_attend_few_64, &a, &s, &err), LB_E_USAGE,
                "the turned part of a head");
}

/* No shape may need more than a u64 says, or launch with a grid that was cut. */
LB_TEST(device_shapes_fuzz) {
    static const u32 some[] = {0,
                               1,
                               2,
                               31,
                               32,
                               64,
                               128,
                               255,
                               256,
                               4096,
                               65535,
                               65536,
                               1u << 20,
                               UINT32_MAX - 255,
                               UINT32_MAX - 31,
                               UINT32_MAX - 3,
                               UINT32_MAX};
    const u64 n = lb_test_cases(20000);
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++)
        for (u64 i = 0; i < n; i++) {
            u32 val[LB_DEV_VAL_BYTES_MAX / 4];
            lb_dev_shape s;
            for (u32 j = 0; j < LB_LEN(val); j++)
                val[j] = some[lb_test_rand_below(LB_LEN(some))];
            if (lb_dev_kernel_shape((lb_dev_kernel)k, val, &s, &err) != LB_OK)
                continue;
            const char *sign = lb_dev_kernel_signature((lb_dev_kernel)k);
            CHECK(s.n_threads <= LB_FIBER_THREADS_MAX);
            CHECK(s.groups[1] <= LB_DEV_GRID_Y_MAX && s.groups[2] == 1);
            CHECK(s.groups[0] <= INT32_MAX);
            for (u32 j = 0; sign[j] != 'v' && s.groups[0] && s.groups[1]; j++)
                CHECK(s.need_bytes[j] > 0 || val[0] == 0 || sign[j] == 'i' ||
                      (k == LB_DK_gemm && j == 4 && /* join, where nothing is shared */
                       ((const lb_gemm_args *)(const void *)val)->parts <= 1));
        }
}

/* Parts of gemm's columns: as many as leave no unit without, of at least eight tiles of columns,
 * and what they leave is counted. */
LB_TEST(device_gemm_parts) {
    static const struct {
        u32 units, n_tokens, n_rows, n_cols, parts, join;
    } some[] = {{132, 16, 4096, 14336, 4, 4096 + (64 << 17)},
                {132, 128, 4096, 14336, 4, 4096 + (64 << 17)},
                {132, 129, 4096, 14336, 2, 4096 + (64 << 17)},
                {132, 16, 28672, 4096, 1, 0},
                {132, 16, 1024, 4096, 8, 4096 + (32 << 17)},
                {132, 16, 1024, 1500, 3, 4096 + (12 << 17)},
                {132, 16, 1024, 448, 1, 0},
                {132, 4096, 4096, 4096, 1, 0},
                {1, 16, 1024, 4096, 1, 0}};
    lb_dev_info d = {.kind = LB_DEV_CUDA};
    for (u32 i = 0; i < LB_LEN(some); i++) {
        lb_gemm_args a = {.n_tokens = some[i].n_tokens,
                          .n_rows = some[i].n_rows,
                          .n_cols = some[i].n_cols,
                          .y_stride = some[i].n_rows};
        lb_dev_shape s;
        d.kind = LB_DEV_CUDA;
        d.n_units = some[i].units;
        a.parts = lb_dev_gemm_parts(&d, &a);
        CHECK_U64(a.parts, some[i].parts);
        CHECK_OK(lb_dev_kernel_shape(LB_DK_gemm, &a, &s, &err));
        CHECK_U64(s.need_bytes[4], some[i].join);
        CHECK_U64(lb_dev_gemm_join_bytes(&a), some[i].join);
        CHECK(s.need_bytes[4] <= lb_dev_gemm_join_most(&d));
        d.kind = LB_DEV_CPU;
        CHECK_U64(lb_dev_gemm_parts(&d, &a), 1);
        a.parts = (u32)lb_ceil_div_u64(a.n_cols, LB_DEV_TILE_COLS) + 1;
        CHECK_FAILS(lb_dev_kernel_shape(LB_DK_gemm, &a, &s, &err), LB_E_USAGE, "whole tiles");
    }
    lb_gemm_args many = {
        .n_tokens = 16, .n_rows = 65792, .n_cols = 4096, .y_stride = 65792, .parts = 2};
    lb_dev_shape s;
    CHECK_FAILS(lb_dev_kernel_shape(LB_DK_gemm, &many, &s, &err), LB_E_USAGE, "too large");
}

/* ---- memory ---- */

LB_TEST(device_pool) {
    lb_dev *d;
    lb_dev_buf *a, *b, *c;
    lb_dev_stats s;
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU, .memory_bytes = 4096}, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 1000, &a, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 1020, &b, &err));
    CHECK_U64(lb_dev_buf_bytes(a), 1000);
    CHECK((uintptr_t)lb_dev_buf_host(a) % 256 == 0);
    CHECK_FAILS(lb_dev_buf_new(d, LB_DEV_OWN, 2049, &c, &err), LB_E_LIMIT, "--device-memory");
    CHECK(c == NULL);
    lb_dev_buf_free(&a);
    CHECK(a == NULL);
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.pool_bytes, 1024);
    CHECK_U64(s.used_bytes, 1024);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 900, &a, &err)); /* the same class */
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.reuses, 1);
    CHECK_U64(s.allocations, 2);
    lb_dev_buf_free(&a);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 3000, &c, &err)); /* the pool gives way */
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.pool_bytes, 0);
    CHECK_U64(s.peak_bytes, 4096);
    CHECK_FAILS(lb_dev_buf_new(d, LB_DEV_OWN, UINT64_MAX - 8, &a, &err), LB_E_USAGE, "bytes");
    CHECK_FAILS(lb_dev_buf_new(d, LB_DEV_OWN, 0, &a, &err), LB_E_USAGE, "no bytes");
    lb_dev_close(&d); /* frees b and c */
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    CHECK_FAILS(lb_dev_buf_new(d, LB_DEV_OWN, (u64)1 << 63, &a, &err), LB_E_NOMEM, "out of memory");
    lb_mem_fail_at(1);
    CHECK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &a, &err) == LB_E_NOMEM);
    lb_mem_fail_at(2);
    CHECK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &a, &err) == LB_E_NOMEM);
    lb_mem_fail_at(0);
    lb_dev_close(&d);
    u32 n_failed = 0; /* of the record and the stacks; counting processors does without */
    for (u64 n = 1; n <= 12; n++) {
        lb_mem_fail_at(n);
        const lb_status st = lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        CHECK((d == NULL) == (st != LB_OK));
        n_failed += st != LB_OK;
        lb_dev_close(&d);
    }
    CHECK_U64(n_failed, 3);
    lb_mem_fail_at(0);
}

/* A buffer that a queue still uses is not handed out before the queue is done with it. */
LB_TEST(device_reuse_waits) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y, *sum, *next;
    float one[64], two[64], got[64];
    const lb_map_args a = {64};
    for (u32 i = 0; i < 64; i++) {
        one[i] = (float)i;
        two[i] = 100;
    }
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &y, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 512, &sum, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 0, one, 256, &err));
    CHECK_OK(lb_dev_queue_write(q, y, 0, two, 256, &err));
    CHECK_OK(lb_dev_queue_launch(q,
                                 &(lb_dev_launch){.kernel = LB_DK_add,
                                                  .buf = {{x, 0}, {y, 0}, {sum, 0}},
                                                  .n_bufs = 3,
                                                  .val = &a,
                                                  .val_bytes = sizeof a},
                                 &err));
    lb_dev_buf_free(&x);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &next, &err)); /* the memory of x */
    memset(lb_dev_buf_host(next), 0xff, 256);
    CHECK_OK(lb_dev_queue_read(q, got, sum, 0, 256, &err));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    for (u32 i = 0; i < 64; i++)
        CHECK(got[i] == (float)(100 + i));
    lb_dev_close(&d);
}

/* Kernels between two barriers may run in any order; copies, barriers and events keep theirs. */
LB_TEST(device_order) {
    for (u32 schedule = 0; schedule < 2; schedule++) {
        lb_dev *d;
        lb_dev_queue *q, *q2;
        lb_dev_buf *x, *y, *z;
        lb_dev_event *from, *to;
        float one[64], got[64];
        double t_us = -1;
        const lb_map_args a = {64};
        for (u32 i = 0; i < 64; i++)
            one[i] = 1;
        CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU, .schedule = schedule}, &err));
        CHECK_OK(lb_dev_queue_new(d, &q, &err));
        CHECK_OK(lb_dev_queue_new(d, &q2, &err));
        CHECK_OK(lb_dev_event_new(d, &from, &err));
        CHECK_OK(lb_dev_event_new(d, &to, &err));
        CHECK_FAILS(lb_dev_event_us(from, to, &t_us, &err), LB_E_USAGE, "never recorded");
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &x, &err));
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &y, &err));
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_HOST, 256, &z, &err));
        CHECK_OK(lb_dev_queue_write(q, x, 0, one, 256, &err));
        CHECK_OK(lb_dev_event_record(from, q, &err));
        const lb_dev_launch l1 = {.kernel = LB_DK_add,
                                  .buf = {{x, 0}, {x, 0}, {y, 0}},
                                  .n_bufs = 3,
                                  .val = &a,
                                  .val_bytes = sizeof a};
        lb_dev_launch l2 = l1;
        l2.buf[0].buf = l2.buf[1].buf = y;
        l2.buf[2].buf = z;
        CHECK_OK(lb_dev_queue_launch(q, &l1, &err));
        CHECK_OK(lb_dev_queue_barrier(q, &err));
        CHECK_OK(lb_dev_queue_launch(q, &l2, &err));
        CHECK_OK(lb_dev_event_record(to, q, &err));
        CHECK_OK(lb_dev_event_await(to, q2, &err));
        CHECK_OK(lb_dev_queue_copy(q2, (lb_dev_arg){x, 0}, (lb_dev_arg){z, 0}, 256, &err));
        CHECK_OK(lb_dev_queue_read(q2, got, x, 0, 256, &err));
        CHECK_OK(lb_dev_queue_wait(q2, &err));
        for (u32 i = 0; i < 64; i++)
            CHECK(got[i] == 4);
        CHECK_OK(lb_dev_event_us(from, to, &t_us, &err));
        CHECK(t_us >= 0);
        lb_dev_close(&d);
    }
}

/* y = x + x, then z = y + y, again and again; x is written in between. */
static void run_recording(lb_dev_kind kind) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y, *z;
    lb_dev_graph *g = NULL, *same = NULL, *none = NULL;
    lb_dev_stats s;
    float in[64], out[64];
    const lb_map_args a = {64};
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = kind}, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &y, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &z, &err));
    const lb_dev_launch first = {.kernel = LB_DK_add,
                                 .buf = {{x, 0}, {x, 0}, {y, 0}},
                                 .n_bufs = 3,
                                 .val = &a,
                                 .val_bytes = sizeof a};
    lb_dev_launch second = first, wrong = first;
    second.buf[0].buf = second.buf[1].buf = y;
    second.buf[2].buf = z;
    wrong.n_bufs = 2;
    CHECK_FAILS(lb_dev_graph_end(q, &none, &err), LB_E_USAGE, "does not record");
    for (u32 i = 0; i < 2; i++) {
        lb_dev_graph **to = i ? &same : &g;
        CHECK_OK(lb_dev_graph_begin(q, &err));
        CHECK_FAILS(lb_dev_graph_begin(q, &err), LB_E_USAGE, "recording already");
        CHECK_OK(lb_dev_queue_launch(q, &first, &err));
        CHECK_FAILS(lb_dev_queue_launch(q, &wrong, &err), LB_E_USAGE, "2 buffers given");
        CHECK_OK(lb_dev_queue_barrier(q, &err));
        CHECK_FAILS(lb_dev_queue_read(q, out, z, 0, 256, &err), LB_E_USAGE,
                    "no kernel, while the queue is recording");
        CHECK_OK(lb_dev_queue_launch(q, &second, &err));
        CHECK_OK(lb_dev_graph_end(q, to, &err));
    }
    CHECK(lb_dev_graph_equal(g, same));
    lb_dev_stats_get(d, &s);
    CHECK(s.launches == 0);
    for (u32 round = 1; round < 4; round++) {
        for (u32 i = 0; i < 64; i++)
            in[i] = (float)(round * i);
        CHECK_OK(lb_dev_queue_write(q, x, 0, in, 256, &err));
        CHECK_OK(lb_dev_graph_run(q, round == 2 ? same : g, &err));
        CHECK_OK(lb_dev_queue_read(q, out, z, 0, 256, &err));
        CHECK_OK(lb_dev_queue_wait(q, &err));
        for (u32 i = 0; i < 64; i++)
            CHECK(out[i] == 4 * in[i]);
    }
    lb_dev_stats_get(d, &s);
    CHECK(s.launches == 6 && s.graphs == 3);
    lb_dev_graph_free(&same);
    CHECK(same == NULL);
    CHECK_OK(lb_dev_graph_begin(q, &err)); /* other arguments, and one that is given up */
    second.buf[2].buf = x;
    CHECK_OK(lb_dev_queue_launch(q, &second, &err));
    CHECK_OK(lb_dev_graph_end(q, &same, &err));
    CHECK(!lb_dev_graph_equal(g, same));
    CHECK_OK(lb_dev_graph_begin(q, &err));
    CHECK_OK(lb_dev_queue_launch(q, &first, &err));
    lb_dev_graph_cancel(q);
    CHECK_OK(lb_dev_queue_write(q, x, 0, in, 256, &err));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    lb_dev_close(&d); /* frees those that are left */
}

LB_TEST(device_recording) {
    run_recording(LB_DEV_CPU);
}

LB_TEST(device_map) {
    static const _Alignas(64) float file[64 + 1] = {3, 4};
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *m, *y;
    float got[16];
    const lb_map_args a = {16};
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_map(d, file, 128, &m, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    lb_dev_launch l = {.kernel = LB_DK_add,
                       .buf = {{m, 0}, {m, 64}, {y, 0}},
                       .n_bufs = 3,
                       .val = &a,
                       .val_bytes = sizeof a};
    CHECK_OK(lb_dev_queue_launch(q, &l, &err));
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    CHECK(got[0] == 3 && got[1] == 4 && got[2] == 0);
    l.buf[0].buf = y;
    l.buf[1] = (lb_dev_arg){m, 0};
    l.buf[2].buf = m;
    l.buf[2].off_bytes = 64;
    CHECK_FAILS(lb_dev_queue_launch(q, &l, &err), LB_E_USAGE, "is written, and a mapped file");
    CHECK_FAILS(lb_dev_queue_write(q, m, 0, got, 4, &err), LB_E_USAGE, "into a mapped file");
    lb_dev_buf_free(&m);
    CHECK_OK(lb_dev_buf_map(d, (const u8 *)file + 4, 128, &m, &err));
    l.buf[0] = l.buf[1] = (lb_dev_arg){m, 0};
    l.buf[2] = (lb_dev_arg){y, 0};
    CHECK_FAILS(lb_dev_queue_launch(q, &l, &err), LB_E_USAGE, "not aligned");
    lb_dev_stats s;
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.used_bytes, 256); /* mapped pages are not counted */
    lb_dev_close(&d);
}

LB_TEST_MAIN("fast")
