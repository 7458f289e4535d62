/* SPDX-License-Identifier: Apache-2.0 */
/* The Metal implementation against a stand-in for Metal (tests/metal): every kernel's text as Metal
 * gets it, order by fences, barriers and events, objects counted, a missing and an old GPU, a text
 * that does not compile, memory that is out, a device that is lost; and that the stand-in stops for
 * what Metal's validation stops for. LB_TEST_STUB_METAL names it. */
#include "test.h"
#include "base/os.h"
#include "device/device.h"
#include "device/metal_api.h"
#include "device/selftest.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static lb_err err;
static void *library;     /* the stand-in */
static u32 (*live)(void); /* objects that were not released */

static bool stubbed(void) {
    const char *path = getenv("LB_TEST_STUB_METAL");
    if (!library && path && *path) {
        (void)setenv("LBRX_TEST_METAL", path, 1);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        void *at = library ? dlsym(library, "lb_fake_metal_live") : NULL;
        memcpy(&live, &at, sizeof at);
    }
    if (library)
        return true;
    lb_test_skip("no stand-in for Metal (LB_TEST_STUB_METAL): it needs clang");
    return false;
}

/* What the stand-in is: pairs of a variable and its value, NULL last; all others are as they come.
 */
static void stub(const char *const pairs[][2]) {
    static const char *const names[] = {
        "STUB_METAL",      "STUB_METAL_FAMILY", "STUB_METAL_ARCH",    "STUB_METAL_MEMORY",
        "STUB_METAL_LOST", "STUB_METAL_FULL",   "STUB_METAL_SCHEDULE"};
    for (u32 i = 0; i < LB_LEN(names); i++)
        (void)unsetenv(names[i]);
    for (u32 i = 0; pairs && pairs[i][0]; i++)
        (void)setenv(pairs[i][0], pairs[i][1], 1);
    err = (lb_err){0};
}

static void stub_one(const char *name, const char *value) {
    const char *const pairs[][2] = {{name, value}, {NULL, NULL}};
    stub(pairs);
}

static bool says(const char *text) {
    size_t at;
    return lb_str_find(lb_str_c(err.msg), lb_str_c(text), &at) && !strchr(err.msg, '\n');
}

static const lb_dev_opts metal = {.kind = LB_DEV_METAL};

static lb_status sum_at(lb_dev_queue *q, lb_dev_arg x, lb_dev_arg y, lb_dev_arg out, u32 n) {
    const lb_map_args a = {n};
    return lb_dev_queue_launch(
        q,
        &(lb_dev_launch){
            .kernel = LB_DK_add, .buf = {x, y, out}, .n_bufs = 3, .val = &a, .val_bytes = sizeof a},
        &err);
}

static lb_status sum_of(lb_dev_queue *q, lb_dev_buf *x, lb_dev_buf *out) {
    return sum_at(q, (lb_dev_arg){x, 0}, (lb_dev_arg){x, 64}, (lb_dev_arg){out, 0}, 16);
}

LB_TEST(metal_list) {
    static const struct {
        const char *family, *arch, *text;
        u32 mm_small, mm_large, launches; /* of tuning.def */
    } chips[] = {
        {"7", "applegpu_g13g", "M1, Apple7 (applegpu_g13g)", 14, 6, 40},
        {"8", "applegpu_g14d", "M2, Apple8 (applegpu_g14d)", 32, 12, 50},
        {"9", "applegpu_g15s", "M3, Apple9 (applegpu_g15s)", 18, 10, 50},
        {"9", "applegpu_g16p", "M4, Apple9 (applegpu_g16p)", 18, 10, 20},
        {"10", "applegpu_g17g", "M5, Apple10 (applegpu_g17g)", 18, 10, 40},
        {"9", "another", "M3 or M4, Apple9 (another)", 18, 10, 40},
        {"12", "applegpu_g23d", "Apple12 (applegpu_g23d)", 32, 12, 50},
    };
    lb_dev_info info[2];
    if (!stubbed())
        return;
    for (u32 i = 0; i < LB_LEN(chips); i++) {
        const char *const pairs[][2] = {{"STUB_METAL_FAMILY", chips[i].family},
                                        {"STUB_METAL_ARCH", chips[i].arch},
                                        {NULL, NULL}};
        stub(pairs);
        CHECK_U64(lb_dev_list(LB_DEV_METAL, info, 2, &err), 1);
        CHECK_STR(lb_str_c(info[0].generation), chips[i].text);
        CHECK_U64(info[0].tuning.mm_small, chips[i].mm_small);
        CHECK_U64(info[0].tuning.mm_large, chips[i].mm_large);
        CHECK_U64(info[0].tuning.launches, chips[i].launches);
    }
    CHECK_STR(lb_str_c(info[0].id), "metal");
    CHECK_STR(lb_str_c(info[0].driver), "Metal 4");
    CHECK_U64(info[0].memory_bytes, 64 * LB_MIB);
    CHECK_U64(info[0].free_bytes, 64 * LB_MIB);
    CHECK_U64(info[0].threads_max, 1024);
    CHECK(info[0].maps_files && info[0].unified);
    stub_one("STUB_METAL", "old"); /* macOS 13 */
    CHECK_U64(lb_dev_list(LB_DEV_METAL, info, 2, &err), 1);
    CHECK_STR(lb_str_c(info[0].generation), "M2, Apple8");
    CHECK_U64(info[0].tuning.mm_small, 14);
    CHECK_STR(lb_str_c(info[0].driver), "Metal 3");
    stub_one("STUB_METAL", "nodefault");
    CHECK_U64(lb_dev_list(LB_DEV_METAL, NULL, 0, &err), 1);
    stub_one("STUB_METAL", "none");
    CHECK_U64(lb_dev_list(LB_DEV_METAL, info, 2, &err), 0);
    CHECK(says("metal: the system has no GPU for this program"));
    CHECK_U64(live(), 0);
}

LB_TEST(metal_absent) {
    const char *path = getenv("LB_TEST_STUB_METAL");
    lb_dev *d;
    (void)setenv("LBRX_TEST_METAL", "./no-such-library", 1);
    CHECK_U64(lb_dev_list(LB_DEV_METAL, NULL, 0, &err), 0);
    CHECK(says("metal: ./no-such-library cannot be opened"));
    CHECK_U64(lb_dev_open(&d, &metal, &err), LB_E_NOT_FOUND);
#if !defined(__APPLE__)
    (void)unsetenv("LBRX_TEST_METAL");
    CHECK_U64(lb_dev_open(&d, &metal, &err), LB_E_NOT_FOUND);
    CHECK(says("metal: this system has none: Metal is a part of macOS"));
#endif
    if (path)
        (void)setenv("LBRX_TEST_METAL", path, 1);
}

LB_TEST(metal_refused) {
    lb_dev *d;
    if (!stubbed())
        return;
    stub_one("STUB_METAL", "none");
    CHECK_U64(lb_dev_open(&d, &metal, &err), LB_E_NOT_FOUND);
    CHECK(d == NULL && says("metal: the system has no GPU for this program"));
    stub_one("STUB_METAL_FAMILY", "6");
    CHECK_U64(lb_dev_open(&d, &metal, &err), LB_E_UNSUPPORTED);
    CHECK(says("is no GPU of Apple silicon, kernels need an M1 or later"));
    stub(NULL);
    CHECK_U64(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_METAL, .index = 1}, &err),
              LB_E_NOT_FOUND);
    CHECK(says("there is one device metal"));
    CHECK_U64(live(), 0);
}

/* What only shows at the first launch; the device goes on. */
LB_TEST(metal_kernels_refused) {
    static const struct {
        const char *mode, *text;
    } cases[] = {
        {"broken", "metal: the system does not compile the kernels: program_source:"},
        {"missing", "metal: the kernels have no add"},
        {"nopipeline", "metal: kernel add: the function uses too much of everything"},
        {"slow", "metal: kernel add: the GPU takes threadgroups of 64 threads, it needs 256"},
    };
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y;
    if (!stubbed())
        return;
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        stub_one("STUB_METAL", cases[i].mode);
        CHECK_OK(lb_dev_open(&d, &metal, &err));
        CHECK_OK(lb_dev_queue_new(d, &q, &err));
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
        for (u32 again = 0; again < 2; again++) {
            CHECK_U64(sum_of(q, x, y), LB_E_UNSUPPORTED);
            if (!says(cases[i].text))
                lb_test_fail(__FILE__, __LINE__, "%s: '%s'", cases[i].mode, err.msg);
        }
        if (i == 0)
            CHECK(says("error: not today"));
        CHECK_OK(lb_dev_queue_wait(q, &err));
        lb_dev_close(&d);
        CHECK_U64(live(), 0);
    }
}

static void all_kernels(void) {
    const lb_selftest_opts opts = {0};
    lb_dev *d;
    lb_dev_stats s;
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++) {
        const lb_dev_kernel kernel = (lb_dev_kernel)k;
        lb_selftest_row row;
        CHECK_OK(lb_dev_selftest(d, kernel, &opts, &row, &err));
        const bool has = lb_dev_has(d, kernel); /* not what needs double, or CUDA's matrix units */
        const lb_dev_needs needs = lb_dev_kernel_needs(kernel);
        CHECK(has != (needs == LB_DEV_NEEDS_DOUBLE || needs == LB_DEV_NEEDS_FLASH ||
                      needs == LB_DEV_NEEDS_RING));
        if (row.status != (has ? LB_OK : LB_E_UNSUPPORTED))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", lb_dev_kernel_name((lb_dev_kernel)k),
                         row.why);
    }
    lb_dev_stats_get(d, &s);
    CHECK(s.reuses > s.allocations);
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
}

LB_TEST(metal_kernels) {
    if (!stubbed())
        return;
    stub_one("STUB_METAL_SCHEDULE", "1"); /* threads backward */
    all_kernels();
    stub_one("STUB_METAL", "old"); /* a compiler without math modes; threads in a random order */
    all_kernels();
}

LB_TEST(metal_memory) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *a, *b, *c;
    lb_dev_stats s;
    if (!stubbed())
        return;
    const char *const pairs[][2] = {
        {"STUB_METAL_MEMORY", "1048576"}, {"STUB_METAL_FULL", "2"}, {NULL, NULL}};
    stub(pairs);
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 700000, &a, &err));
    CHECK_U64(lb_dev_buf_new(d, LB_DEV_OWN, 500000, &b, &err), LB_E_NOMEM);
    CHECK(says("metal: a buffer of") && says("that the GPU may use"));
    CHECK_U64(lb_dev_buf_new(d, LB_DEV_OWN, 900000, &b, &err), LB_E_NOMEM);
    if (!says("the GPU's longest has 786 kB"))
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    /* What the pool keeps is given back first. */
    lb_dev_buf_free(&a);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 500000, &b, &err));
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.pool_bytes, 0);
    CHECK(lb_dev_buf_host(b) != NULL); /* memory is one */
    /* A command buffer that runs out of memory says so; the device is not lost. */
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_HOST, 64, &c, &err));
    CHECK_OK(sum_of(q, b, c));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    CHECK_OK(sum_of(q, b, c));
    CHECK_U64(lb_dev_queue_wait(q, &err), LB_E_NOMEM);
    CHECK(says("metal: the GPU has not enough memory for its work: Insufficient Memory"));
    CHECK_OK(sum_of(q, b, c));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
}

LB_TEST(metal_lost) {
    lb_dev *d;
    lb_dev_queue *q, *q2;
    lb_dev_buf *x, *y, *z;
    float got[16];
    if (!stubbed())
        return;
    stub_one("STUB_METAL_LOST", "2");
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_queue_new(d, &q2, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(sum_of(q, x, y));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    CHECK_OK(sum_of(q2, x, y)); /* under way when the other queue's work fails */
    CHECK_OK(sum_of(q, x, y));
    CHECK_U64(lb_dev_queue_read(q, got, y, 0, 64, &err), LB_E_IO);
    CHECK(says("metal: the device was lost: Caused GPU Address Fault Error"));
    CHECK(says("(3)"));
    CHECK_U64(sum_of(q, x, y), LB_E_IO);
    CHECK_U64(lb_dev_buf_new(d, LB_DEV_OWN, 64, &z, &err), LB_E_IO);
    CHECK_U64(lb_dev_queue_wait(q2, &err), LB_E_IO);
    CHECK(says("the device was lost"));
    lb_dev_buf_free(&x);
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
    stub(NULL); /* a fresh start works */
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    lb_dev_close(&d);
}

/* Pages of a mapped file from an odd place on; what Metal refuses, and what is too long. */
LB_TEST(metal_map) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *m, *y, *none;
    float got[16];
    const size_t page = lb_os_page_size();
    if (!stubbed())
        return;
    stub(NULL);
    float *file = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(file != MAP_FAILED);
    for (u32 i = 0; i < 2 * page / 4; i++)
        file[i] = (float)i;
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_map(d, file + 16, page, &m, &err));
    CHECK(lb_dev_buf_host(m) == file + 16);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(sum_of(q, m, y));
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    for (u32 i = 0; i < 16; i++)
        CHECK(got[i] == (float)(16 + i + 32 + i));
    CHECK_OK(lb_dev_queue_copy(q, (lb_dev_arg){y, 0}, (lb_dev_arg){m, 8}, 56, &err));
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    for (u32 i = 0; i < 14; i++)
        CHECK(got[i] == (float)(18 + i));
    lb_dev_buf_free(&m);
    CHECK_U64(lb_dev_buf_map(d, file, 60 * LB_MIB, &none, &err), LB_E_UNSUPPORTED);
    CHECK(says("metal: a mapped file of 62.9 MB: the GPU's longest buffer has"));
    stub_one("STUB_METAL", "nomap");
    CHECK_U64(lb_dev_buf_map(d, file, page, &none, &err), LB_E_UNSUPPORTED);
    CHECK(says("is refused"));
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
    (void)munmap(file, 2 * page);
}

/* n steps, each of which reads what the one before wrote: with copies between them, across command
 * buffers; the stand-in runs what may run in any order backwards. */
LB_TEST(metal_order) {
    enum { STEPS = 150 };
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y;
    float one[16], got[16], want = 1;
    if (!stubbed())
        return;
    stub(NULL);
    for (u32 i = 0; i < 16; i++)
        one[i] = 1;
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 256, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &y, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 0, one, 64, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 64, one, 64, &err));
    for (u32 i = 0; i < STEPS; i++) { /* x = 2 x + 1 by two kernels, or x + 1 and copies in parts */
        want = i % 3 ? want + 1 : 2 * want + 1;
        CHECK_OK(
            sum_at(q, (lb_dev_arg){x, 0}, (lb_dev_arg){x, i % 3 ? 64 : 0}, (lb_dev_arg){y, 0}, 16));
        if (i % 3 == 0) {
            CHECK_OK(lb_dev_queue_barrier(q, &err));
            CHECK_OK(sum_at(q, (lb_dev_arg){y, 0}, (lb_dev_arg){x, 64}, (lb_dev_arg){x, 0}, 16));
            CHECK_OK(lb_dev_queue_barrier(q, &err));
            continue;
        }
        CHECK_OK(lb_dev_queue_copy(q, (lb_dev_arg){x, 0}, (lb_dev_arg){y, 0}, 32, &err));
        CHECK_OK(lb_dev_queue_copy(q, (lb_dev_arg){x, 32}, (lb_dev_arg){y, 32},
                                   i % 50 == 1 ? 31 : 32, &err));
        if (i % 50 == 1) /* no whole number of words */
            CHECK_OK(lb_dev_queue_copy(q, (lb_dev_arg){x, 63}, (lb_dev_arg){y, 63}, 1, &err));
    }
    CHECK_OK(lb_dev_queue_read(q, got, x, 0, 64, &err));
    for (u32 i = 0; i < 16; i++)
        CHECK(got[i] == want);
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
}

/* Two kernels without a barrier between them do run in another order here. */
LB_TEST(metal_missing_barrier) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y, *z;
    float one[32], got[16];
    if (!stubbed())
        return;
    stub(NULL);
    for (u32 i = 0; i < 32; i++)
        one[i] = 1;
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &y, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &z, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 0, one, 128, &err));
    CHECK_OK(sum_of(q, x, y));
    CHECK_OK(sum_at(q, (lb_dev_arg){y, 0}, (lb_dev_arg){x, 0}, (lb_dev_arg){z, 0}, 16));
    CHECK_OK(lb_dev_queue_read(q, got, z, 0, 64, &err));
    CHECK(got[0] != 3);
    lb_dev_close(&d);
}

LB_TEST(metal_events) {
    lb_dev *d;
    lb_dev_queue *q, *q2;
    lb_dev_buf *x, *y;
    lb_dev_event *from, *to;
    float one[32], got[16];
    double t_us = -1;
    if (!stubbed())
        return;
    stub(NULL);
    for (u32 i = 0; i < 32; i++)
        one[i] = (float)i;
    CHECK_OK(lb_dev_open(&d, &metal, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_queue_new(d, &q2, &err));
    CHECK_OK(lb_dev_event_new(d, &from, &err));
    CHECK_OK(lb_dev_event_new(d, &to, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(lb_dev_event_record(from, q, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 0, one, 128, &err));
    CHECK_OK(sum_of(q, x, y));
    CHECK_OK(lb_dev_event_record(to, q, &err));
    CHECK_OK(lb_dev_event_await(to, q2, &err));
    CHECK_OK(lb_dev_queue_copy(q2, (lb_dev_arg){x, 0}, (lb_dev_arg){y, 0}, 64, &err));
    /* And back: the same event again, now of the other queue, that has work alone of copies. */
    CHECK_OK(lb_dev_event_record(from, q2, &err));
    CHECK_OK(lb_dev_event_await(from, q, &err));
    CHECK_OK(sum_of(q, x, y));
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    CHECK_OK(lb_dev_queue_wait(q2, &err));
    CHECK_OK(lb_dev_event_us(to, from, &t_us, &err));
    CHECK(t_us >= 0);
    for (u32 i = 0; i < 16; i++)
        CHECK(got[i] == (float)(2 * i + 16 + 16 + i));
    lb_dev_event_free(&from);
    lb_dev_close(&d);
    CHECK_U64(live(), 0);
}

/* ---- the stand-in's own checks: each fault in a process that must end with its message ---- */

typedef struct kit {
    lb_metal_api a;
    void *device, *queue, *buffer, *library, *pipeline, *cb, *encoder;
} kit;

static void open_kit(kit *k) {
    const lb_metal_api *a = &k->a;
    void *error = NULL;
    if (lb_metal_api_open(&k->a, &err) != LB_OK)
        _exit(3);
    (void)a->objc_autoreleasePoolPush();
    k->device = a->MTLCreateSystemDefaultDevice();
    k->queue = LB_SEND0(a, new_queue, k->device);
    k->buffer = LB_SEND(a, new_buffer, k->device, 64ul, (unsigned long)LB_MTL_SHARED_UNTRACKED);
    void *options = LB_SEND0(a, make, a->objc_getClass("MTLCompileOptions"));
    LB_SEND(a, math_mode, options, (long)LB_MTL_MATH_SAFE);
    LB_SEND(a, language, options, (unsigned long)LB_MTL_LANGUAGE_3_0);
    void *string = a->objc_getClass("NSString");
    k->library = LB_SEND(a, new_library, k->device, LB_SEND(a, string, string, lb_metal_msl),
                         options, &error);
    void *function =
        LB_SEND(a, new_function, k->library, LB_SEND(a, string, string, (const char *)"add"));
    k->pipeline = LB_SEND(a, new_pipeline, k->device, function, &error);
    k->cb = LB_SEND0(a, command_buffer, k->queue);
    k->encoder = LB_SEND(a, compute, k->cb, (unsigned long)LB_MTL_CONCURRENT);
}

static void bind_all(kit *k, u32 n) {
    const lb_metal_api *a = &k->a;
    const lb_map_args values = {16};
    LB_SEND(a, set_pipeline, k->encoder, k->pipeline);
    for (u32 i = 0; i < n; i++)
        LB_SEND(a, set_buffer, k->encoder, k->buffer, 0ul, (unsigned long)i);
    LB_SEND(a, set_bytes, k->encoder, &values, (unsigned long)sizeof values, 3ul);
}

static void dispatch(kit *k, unsigned long n) {
    const lb_mtl_size groups = {1, 1, 1}, threads = {n, 1, 1};
    LB_SEND(&k->a, dispatch, k->encoder, groups, threads);
}

typedef enum fault {
    UNKNOWN_SELECTOR,
    OVER_RELEASE,
    USE_AFTER_FREE,
    NO_POOL,
    LEAK,
    FAST_MATH,
    NOT_PAGES,
    BEYOND_BUFFER,
    BAD_INDEX,
    LONG_BYTES,
    NO_PIPELINE,
    NOT_BOUND,
    FEW_BYTES,
    NOT_ALIGNED,
    MANY_THREADS,
    AFTER_END,
    OPEN_ENCODER,
    TWO_ENCODERS,
    COMMIT_TWICE,
    NOT_COMMITTED,
    NEVER_SIGNALLED,
    FAULTS
} fault;

static void plant_objects(kit *k, fault f) {
    const lb_metal_api *a = &k->a;
    switch (f) {
    case UNKNOWN_SELECTOR:
        (void)LB_SEND0(a, contents, k->device);
        break;
    case OVER_RELEASE:
        LB_SEND0(a, release, k->buffer);
        LB_SEND0(a, release, k->buffer);
        break;
    case NO_POOL:
        LB_SEND0(a, end, k->encoder);
        a->objc_autoreleasePoolPop((void *)1);
        (void)LB_SEND0(a, name, k->device);
        break;
    case LEAK:
        lb_metal_api_close(&k->a); /* with all that was made */
        (void)dlclose(library);
        break;
    case FAST_MATH: {
        void *options = LB_SEND0(a, make, a->objc_getClass("MTLCompileOptions")), *error;
        (void)LB_SEND(a, new_library, k->device, NULL, options, &error);
        break;
    }
    case NOT_PAGES:
        (void)LB_SEND(a, new_mapped, k->device, (u8 *)k + 1, 4096ul,
                      (unsigned long)LB_MTL_SHARED_UNTRACKED, NULL);
        break;
    default:
        break;
    }
}

static void plant_bindings(kit *k, fault f) {
    const lb_metal_api *a = &k->a;
    static const u8 many[5000];
    switch (f) {
    case USE_AFTER_FREE:
        bind_all(k, 3);
        dispatch(k, 256);
        LB_SEND0(a, end, k->encoder);
        LB_SEND0(a, commit, k->cb);
        LB_SEND0(a, release, k->buffer);
        LB_SEND0(a, wait, k->cb);
        break;
    case BEYOND_BUFFER:
        LB_SEND(a, set_buffer, k->encoder, k->buffer, 64ul, 0ul);
        break;
    case BAD_INDEX:
        LB_SEND(a, set_buffer, k->encoder, k->buffer, 0ul, 31ul);
        break;
    case LONG_BYTES:
        LB_SEND(a, set_bytes, k->encoder, many, 4097ul, 0ul);
        break;
    case NO_PIPELINE:
        dispatch(k, 32);
        break;
    case NOT_BOUND:
        bind_all(k, 2);
        dispatch(k, 256);
        break;
    case FEW_BYTES:
        bind_all(k, 3);
        LB_SEND(a, set_bytes, k->encoder, many, 3ul, 3ul);
        dispatch(k, 256);
        break;
    case NOT_ALIGNED:
        bind_all(k, 3);
        LB_SEND(a, set_buffer, k->encoder, k->buffer, 2ul, 1ul);
        dispatch(k, 256);
        break;
    case MANY_THREADS:
        bind_all(k, 3);
        dispatch(k, 513);
        break;
    default:
        break;
    }
}

static void plant_order(kit *k, fault f) {
    const lb_metal_api *a = &k->a;
    void *other = LB_SEND0(a, command_buffer, k->queue);
    switch (f) {
    case AFTER_END:
        LB_SEND0(a, end, k->encoder);
        bind_all(k, 3);
        break;
    case OPEN_ENCODER:
        LB_SEND0(a, commit, k->cb);
        break;
    case TWO_ENCODERS:
        (void)LB_SEND0(a, blit, k->cb);
        break;
    case COMMIT_TWICE:
        LB_SEND0(a, commit, other);
        LB_SEND0(a, commit, other);
        break;
    case NOT_COMMITTED:
        LB_SEND0(a, wait, other);
        break;
    case NEVER_SIGNALLED:
        LB_SEND(a, await, other, LB_SEND0(a, new_event, k->device), (uint64_t)1);
        LB_SEND0(a, commit, other);
        LB_SEND0(a, wait, other);
        break;
    default:
        break;
    }
}

static void plant(fault f) {
    kit k;
    open_kit(&k);
    plant_objects(&k, f);
    plant_bindings(&k, f);
    plant_order(&k, f);
    _exit(0);
}

LB_TEST(metal_validation) {
    static const char *const text[FAULTS] = {
        [UNKNOWN_SELECTOR] = "-[MTLDevice contents]: unrecognized selector",
        [OVER_RELEASE] = "-[MTLBuffer release] was sent to a released object",
        [USE_AFTER_FREE] = "a command's buffer: a released MTLBuffer is used",
        [NO_POOL] = "a NSString is autoreleased and there is no pool",
        [LEAK] = "objects were never released",
        [FAST_MATH] = "without exact arithmetic",
        [NOT_PAGES] = "not whole pages",
        [BEYOND_BUFFER] = "setBuffer: offset 64 of a buffer of 64 bytes",
        [BAD_INDEX] = "index 31: there are 31",
        [LONG_BYTES] = "setBytes: 4097 bytes",
        [NO_PIPELINE] = "the pipeline is nil",
        [NOT_BOUND] = "kernel add: nothing is bound at index 2",
        [FEW_BYTES] = "kernel add: fewer bytes than the 4 of index 3",
        [NOT_ALIGNED] = "kernel add: offset 2 of index 1 is not aligned to 4",
        [MANY_THREADS] = "of 513 threads",
        [AFTER_END] = "a command after endEncoding",
        [OPEN_ENCODER] = "commit with an open encoder",
        [TWO_ENCODERS] = "the command buffer's last encoder is still open",
        [COMMIT_TWICE] = "a command buffer is committed twice",
        [NOT_COMMITTED] = "waitUntilCompleted of a command buffer that was not committed",
        [NEVER_SIGNALLED] = "a command buffer waits for what does not come",
    };
    if (!stubbed())
        return;
    stub(NULL);
    for (u32 f = 0; f < FAULTS; f++) {
        char got[512] = "";
        int fds[2], status = 0;
        size_t n = 0;
        CHECK(pipe(fds) == 0);
        (void)fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            (void)dup2(fds[1], 2);
            plant((fault)f);
        }
        (void)close(fds[1]);
        for (ssize_t more;
             n < sizeof got - 1 && (more = read(fds[0], got + n, sizeof got - 1 - n)) > 0;)
            n += (size_t)more;
        (void)close(fds[0]);
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFSIGNALED(status) || !strstr(got, text[f]))
            lb_test_fail(__FILE__, __LINE__, "fault %u: status %d, '%s'", f, status, got);
    }
}

LB_TEST_MAIN("fast")
