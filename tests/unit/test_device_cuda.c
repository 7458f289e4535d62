/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA implementation against a stand-in for the driver (tests/stub/libcuda.c): every kernel by
 * the very calls that a GPU gets, a missing and an old driver, memory that is out, a device that is
 * lost. LB_TEST_STUB_CUDA names the stand-in, which is opened before: the library's own dlopen
 * finds it by its name. */
#include "device/cuda_text.h"
#include "device/cuda_driver.h"
#include "test.h"
#include "base/os.h"
#include "device/device.h"
#include "device/group.h"
#include "device/link.h"
#include "device/selftest.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>

static lb_err err;

static bool stubbed(void) {
    const char *path = getenv("LB_TEST_STUB_CUDA");
    static void *library;
    if (!library && path && *path)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library)
        return true;
    lb_test_skip("no stand-in for the CUDA driver (LB_TEST_STUB_CUDA)");
    return false;
}

static void mode(const char *what, const char *memory, const char *lost) {
    (void)setenv("STUB_CUDA", what, 1);
    (void)setenv("STUB_CUDA_MEMORY", memory ? memory : "67108864", 1);
    (void)setenv("STUB_CUDA_LOST", lost ? lost : "0", 1);
    err = (lb_err){0};
}

static bool says(const char *text) {
    size_t at;
    return lb_str_find(lb_str_c(err.msg), lb_str_c(text), &at) && !strchr(err.msg, '\n');
}

static const lb_dev_opts first = {.kind = LB_DEV_CUDA};

LB_TEST(cuda_list) {
    lb_dev_info info[4];
    if (!stubbed())
        return;
    mode("", NULL, NULL);
    CHECK_U64(lb_dev_list(LB_DEV_CUDA, info, 4, &err), 2);
    CHECK_STR(lb_str_c(info[1].id), "cuda:1");
    CHECK_STR(lb_str_c(info[1].generation), "compute capability 9.0");
    CHECK_STR(lb_str_c(info[0].driver), "CUDA 12.4");
    CHECK_U64(info[0].memory_bytes, 64 * LB_MIB);
    CHECK(info[0].maps_files && !info[0].unified);
    CHECK_U64(lb_dev_list(LB_DEV_CUDA, info, 1, NULL), 2);
    CHECK_U64(lb_dev_list(LB_DEV_CPU, info, 4, NULL), 1);
    CHECK_STR(lb_str_c(info[0].id), "cpu");
}

/* Before compute capability 8.0 products for many tokens are not there, and all else is. */
LB_TEST(cuda_without_matrix_units) {
    const lb_selftest_opts opts = {0};
    lb_selftest_row row;
    lb_dev *d;
    if (!stubbed())
        return;
    mode("cc75", NULL, NULL);
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_U64(lb_dev_info_get(d)->tuning.mm_small, 0);
    CHECK(!lb_dev_has(d, LB_DK_mm_q4_0) && lb_dev_has(d, LB_DK_mv_q4_0));
    CHECK_OK(lb_dev_selftest(d, LB_DK_mv_q4_0, &opts, &row, &err));
    CHECK_U64(row.status, LB_OK);
    CHECK_OK(lb_dev_selftest(d, LB_DK_mm_q4_0, &opts, &row, &err));
    CHECK_U64(row.status, LB_E_UNSUPPORTED);
    CHECK(strstr(row.why, "kernel mm_q4_0: cuda:0 (compute capability 7.5) has no matrix units"));
    lb_dev_close(&d);
    mode("", NULL, NULL);
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK(lb_dev_has(d, LB_DK_mm_q4_0));
    lb_dev_close(&d);
}

LB_TEST(cuda_refused) {
    static const struct {
        const char *mode, *text;
        lb_status code;
    } cases[] = {
        {"none", "cuda: the driver sees no GPU", LB_E_NOT_FOUND},
        {"old", "too old, of CUDA 10.2, kernels need 11.0", LB_E_UNSUPPORTED},
        {"noinit", "cuda: the driver does not start: unknown error (999)", LB_E_UNSUPPORTED},
        {"cc70", "has compute capability 7.0, kernels need 7.5", LB_E_UNSUPPORTED},
        {"ptx", "does not take the kernels: update NVIDIA's driver", LB_E_UNSUPPORTED},
        {"jit", "does not compile the kernels: ptxas: line 7", LB_E_UNSUPPORTED},
    };
    lb_dev *d;
    if (!stubbed())
        return;
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        mode(cases[i].mode, NULL, NULL);
        CHECK_U64(lb_dev_open(&d, &first, &err), cases[i].code);
        CHECK(d == NULL);
        if (!says(cases[i].text))
            lb_test_fail(__FILE__, __LINE__, "%s: '%s'", cases[i].mode, err.msg);
    }
    mode("", NULL, NULL);
    CHECK_U64(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CUDA, .index = 2}, &err),
              LB_E_NOT_FOUND);
    CHECK(says("cuda:2: there is no such GPU, they are 0 to 1"));
}

LB_TEST(cuda_kernels) {
    const lb_selftest_opts opts = {0};
    lb_dev *d;
    lb_dev_stats s;
    if (!stubbed())
        return;
    mode("", NULL, NULL);
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CUDA, .index = 1}, &err));
    CHECK_STR(lb_str_c(lb_dev_info_get(d)->id), "cuda:1");
    const u32 step = (u32)(LB_DEV_KERNEL_COUNT / lb_test_cases(LB_DEV_KERNEL_COUNT));
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k += step) {
        lb_selftest_row row;
        if (lb_dev_kernel_needs((lb_dev_kernel)k) == LB_DEV_NEEDS_TILES &&
            !lb_dev_has(d, (lb_dev_kernel)k))
            continue;
        CHECK_OK(lb_dev_selftest(d, (lb_dev_kernel)k, &opts, &row, &err));
        if (row.status != LB_OK)
            lb_test_fail(__FILE__, __LINE__, "%s: %s", lb_dev_kernel_name((lb_dev_kernel)k),
                         row.why);
    }
    lb_dev_stats_get(d, &s);
    CHECK(s.reuses > s.allocations);
    lb_dev_close(&d);
}

/* Bytes that a kernel's text declares of a threadgroup's memory. */
static void declared(lb_dev_kernel k, u32 *most) {
    lb_cuda_common common;
    lb_buf text = {0};
    u32 sum = 0;
    CHECK_OK(lb_cuda_common_of(lb_cuda_ptx_mm, &common, &err));
    CHECK_OK(lb_cuda_text_of(lb_cuda_ptx_mm, &common, lb_dev_kernel_name(k), &text, &err));
    size_t at, open, end;
    lb_str s = lb_buf_str(&text);
    while (lb_str_find(s, LB_STR(".shared .align "), &at)) {
        u64 n = 0;
        s = lb_str_sub(s, at + 1, s.len);
        CHECK(lb_str_find(s, LB_STR("["), &open) && lb_str_find(s, LB_STR("]"), &end));
        if (end > open + 1) /* the ring's is a launch's to say */
            CHECK(lb_str_to_u64(lb_str_sub(s, open + 1, end), &n));
        sum += (u32)n;
    }
    lb_buf_deinit(&text);
    lb_cuda_common_deinit(&common);
    *most = LB_MAX(*most, sum);
}

/* Products of few tokens are for every GPU that has the memory of a threadgroup which they take. */
LB_TEST(cuda_rings) {
    static const struct {
        const char *mode;
        lb_dev_kernel k;
        bool has;
    } cases[] = {{"", LB_DK_mt_q4_k, true},      {"cc80", LB_DK_mt_q4_k, true},
                 {"cc80", LB_DK_mt_bf16, true},  {"cc80", LB_DK_gemm, false},
                 {"cc86", LB_DK_mt_q5_k, false}, {"cc86", LB_DK_mt_bf16, false},
                 {"cc86", LB_DK_mt_q4_k, true},  {"cc75", LB_DK_mt_q4_k, false}};
    u32 most = 0;
    for (u32 k = LB_DK_mt_q4_k; k <= LB_DK_mt_mlx_q8; k++)
        declared((lb_dev_kernel)k, &most);
    CHECK(most <= LB_DEV_MT_DECLARED && most + 16 >= LB_DEV_MT_DECLARED); /* and what aligns */
    for (u32 i = 0; i < LB_LEN(cases) && stubbed(); i++) {
        const lb_selftest_opts opts = {.quick = true};
        lb_selftest_row row;
        lb_dev *d;
        mode(cases[i].mode, NULL, NULL);
        CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CUDA}, &err));
        CHECK(lb_dev_has(d, cases[i].k) == cases[i].has);
        CHECK_OK(lb_dev_selftest(d, cases[i].k, &opts, &row, &err));
        CHECK(row.status == (cases[i].has ? LB_OK : LB_E_UNSUPPORTED));
        lb_dev_close(&d);
    }
}

/* A kernel that fails is tried once and refused from then on. */
LB_TEST(cuda_not_right) {
    static const char *const bad[] = {"jit:gemm_gated", "launch:gemm_gated", "wrong:gemm_gated"};
    for (u32 i = 0; i < LB_LEN(bad) && stubbed(); i++) {
        lb_dev *d;
        bool right = true;
        mode("", NULL, NULL);
        CHECK(setenv("STUB_CUDA_BAD", bad[i], 1) == 0);
        CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CUDA}, &err));
        CHECK(lb_dev_has(d, LB_DK_gemm_gated));
        CHECK_OK(lb_dev_prove(d, LB_DK_gemm_gated, &right, &err));
        CHECK(!right && !lb_dev_has(d, LB_DK_gemm_gated) && lb_dev_has(d, LB_DK_gemm));
        CHECK(strstr(err.msg, "kernel gemm_gated fails its test: ") != NULL);
        CHECK(unsetenv("STUB_CUDA_BAD") == 0);
        CHECK_OK(lb_dev_prove(d, LB_DK_gemm_gated, &right, &err));
        CHECK(!right && strstr(err.msg, "it cannot be used") != NULL);
        CHECK_OK(lb_dev_prove(d, LB_DK_gemm, &right, &err));
        CHECK(right);
        lb_dev_close(&d);
    }
}

/* Copies of what is read once, and only those, tell the cache so. */
LB_TEST(cuda_once) {
    lb_buf text = {0};
    bool waits;
    lb_buf_put_str(&text, LB_STR("\t//lbk begin\n\tcp.async.cg.shared.global [%r1], [%rd2], 16;\n"
                                 "\tcp.async.cg.shared.global [%r1+16], [%rd2], 16; //lbk once\n"
                                 "\tcp.async.ca.shared.global [%r3], [%rd4], 8; //lbk once\n"));
    CHECK_OK(lb_cuda_text_hopper(&text, &waits, &err));
    CHECK_STR(lb_buf_str(&text),
              "griddepcontrol.launch_dependents;\n.reg .b64 %lbk_once;\n"
              "createpolicy.fractional.L2::evict_first.b64 %lbk_once, 1.0;\n"
              "\tcp.async.cg.shared.global [%r1], [%rd2], 16;\n"
              "cp.async.cg.shared.global.L2::cache_hint [%r1+16], [%rd2], 16, %lbk_once;\n"
              "cp.async.ca.shared.global.L2::cache_hint [%r3], [%rd4], 8, %lbk_once;\n");
    lb_buf_deinit(&text);
}

/* The words at which a kernel of a recording may begin early, and must wait. */
LB_TEST(cuda_words) {
    lb_buf text = {0};
    bool waits;
    lb_buf_put_str(&text, LB_STR(".version 7.0\n.target sm_75\n\t//lbk begin\n\tld one;\n"));
    CHECK_OK(lb_cuda_text_hopper(&text, &waits, &err));
    CHECK(!waits);
    CHECK_STR(lb_buf_str(&text), ".version 7.8\n.target sm_90\n"
                                 "griddepcontrol.launch_dependents;\n\tld one;\n");
    lb_buf_put_str(&text, LB_STR("\t//lbk after"));
    CHECK_OK(lb_cuda_text_hopper(&text, &waits, &err));
    CHECK(waits && lb_str_ends(lb_buf_str(&text), LB_STR("one;\ngriddepcontrol.wait;\n")));
    lb_buf_deinit(&text);
}

/* A chain of three sums, recorded: with kernels that begin early, by a driver that takes no such,
 * on a GPU that has none. */
LB_TEST(cuda_recording) {
    static const char *const modes[] = {"", "noearly", "cc75"};
    const lb_map_args a = {64};
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x;
    lb_dev_graph *g;
    float v[64];
    if (!stubbed())
        return;
    for (u32 m = 0; m < LB_LEN(modes); m++) {
        mode(modes[m], NULL, NULL);
        CHECK_OK(lb_dev_open(&d, &first, &err));
        CHECK_OK(lb_dev_queue_new(d, &q, &err));
        CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 1024, &x, &err));
        CHECK_OK(lb_dev_graph_begin(q, &err));
        for (u32 i = 0; i < 3; i++) {
            const lb_dev_launch l = {.kernel = LB_DK_add,
                                     .buf = {{x, 256 * i}, {x, 256 * i}, {x, 256 * (i + 1)}},
                                     .n_bufs = 3,
                                     .val = &a,
                                     .val_bytes = sizeof a};
            CHECK_OK(lb_dev_queue_launch(q, &l, &err));
            CHECK_OK(lb_dev_queue_barrier(q, &err));
        }
        CHECK_OK(lb_dev_graph_end(q, &g, &err));
        for (u32 i = 0; i < 64; i++)
            v[i] = (float)i;
        CHECK_OK(lb_dev_queue_write(q, x, 0, v, 256, &err));
        CHECK_OK(lb_dev_graph_run(q, g, &err));
        CHECK_OK(lb_dev_queue_read(q, v, x, 768, 256, &err));
        CHECK_OK(lb_dev_queue_wait(q, &err));
        for (u32 i = 0; i < 64; i++)
            CHECK(v[i] == 8 * (float)i);
        lb_dev_graph_free(&g);
        lb_dev_buf_free(&x);
        lb_dev_queue_free(&q);
        lb_dev_close(&d);
    }
}

/* Memory of the device is out: what the pool keeps is given back first; then a refusal in words. */
/* A kernel with the tables that it names, and no other kernel. */
LB_TEST(cuda_one_kernel) {
    const char ptx[] =
        "// lbrx kernels 0\n.version 7.0\n.target sm_75\n.address_size 64\n"
        ".const .align 4 .b8 one[8] = {1};\n.global .align 4 .b8 two[8] = {2};\n"
        ".const .align 4 .b8 three[8] = {3};\n.func f()\n{\n\tld three;\n}\n"
        ".visible .entry a(\n)\n{\n\tld one;\n}\n.visible .entry b(\n)\n{\n\tld two;\n}\n"
        ".func g()\n{\n}\n.visible .entry ab(\n)\n{\n}\n";
    lb_cuda_common c;
    CHECK_OK(lb_cuda_common_of(ptx, &c, &err));
    lb_buf text = {0};
    CHECK_OK(lb_cuda_text_of(ptx, &c, "b", &text, &err));
    CHECK_STR(
        lb_str_c((const char *)text.ptr),
        "// lbrx kernels 0\n.version 7.0\n.target sm_75\n.address_size 64\n"
        ".global .align 4 .b8 two[8] = {2};\n.const .align 4 .b8 three[8] = {3};\n"
        ".func f()\n{\n\tld three;\n}\n.func g()\n{\n}\n.visible .entry b(\n)\n{\n\tld two;\n}\n");
    lb_buf_deinit(&text);
    CHECK(lb_cuda_text_of(ptx, &c, "c", &text, &err) == LB_E_FORMAT);
    CHECK_STR(lb_str_c(err.msg), "the kernels' text has no c");
    lb_buf_deinit(&text);
    lb_cuda_common_deinit(&c);
}

LB_TEST(cuda_memory) {
    lb_dev *d;
    lb_dev_buf *a, *b, *c;
    lb_dev_stats s;
    if (!stubbed())
        return;
    mode("", "1048576", NULL);
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 700000, &a, &err));
    CHECK_U64(lb_dev_buf_new(d, LB_DEV_OWN, 500000, &b, &err), LB_E_NOMEM);
    CHECK(says("cuda:0: a buffer of") && says("out of memory (2)"));
    lb_dev_buf_free(&a);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 500000, &b, &err));
    lb_dev_stats_get(d, &s);
    CHECK_U64(s.pool_bytes, 0);
    CHECK(lb_dev_buf_host(b) == NULL);
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_HOST, 5000, &c, &err));
    CHECK(lb_dev_buf_host(c) != NULL);
    lb_dev_close(&d);
}

static lb_status sum_of(lb_dev *d, lb_dev_queue *q, lb_dev_buf *x, lb_dev_buf *out) {
    const lb_map_args a = {16};
    (void)d;
    return lb_dev_queue_launch(q,
                               &(lb_dev_launch){.kernel = LB_DK_add,
                                                .buf = {{x, 0}, {x, 64}, {out, 0}},
                                                .n_bufs = 3,
                                                .val = &a,
                                                .val_bytes = sizeof a},
                               &err);
}

LB_TEST(cuda_lost) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *x, *y, *z;
    float got[16];
    if (!stubbed())
        return;
    mode("", NULL, "2");
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(sum_of(d, q, x, y));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    CHECK_OK(sum_of(d, q, x, y)); /* the fault shows at the wait */
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    CHECK_U64(lb_dev_queue_wait(q, &err), LB_E_IO);
    CHECK(says("cuda:0: the device was lost: wait: unspecified launch failure (719)"));
    /* From here on everything says so, and nothing crashes. */
    CHECK_U64(sum_of(d, q, x, y), LB_E_IO);
    CHECK_U64(lb_dev_buf_new(d, LB_DEV_OWN, 64, &z, &err), LB_E_IO);
    CHECK_U64(lb_dev_queue_wait(q, &err), LB_E_IO);
    CHECK(says("the device was lost"));
    lb_dev_buf_free(&x);
    lb_dev_close(&d);
    mode("", NULL, NULL); /* a fresh start works */
    CHECK_OK(lb_dev_open(&d, &first, &err));
    lb_dev_close(&d);
}

/* Pages of a mapped file, from an odd place on; twice the same pages is refused by the driver. */
LB_TEST(cuda_map) {
    lb_dev *d;
    lb_dev_queue *q;
    lb_dev_buf *m, *again, *y;
    float got[16];
    const size_t page = lb_os_page_size();
    if (!stubbed())
        return;
    mode("", NULL, NULL);
    float *file = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(file != MAP_FAILED);
    for (u32 i = 0; i < 64; i++)
        file[i] = (float)i;
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_buf_map(d, file + 16, page, &m, &err));
    CHECK_U64(lb_dev_buf_map(d, file, 64, &again, &err), LB_E_UNSUPPORTED);
    CHECK(says("cuda:0: a mapped file of"));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(sum_of(d, q, m, y));
    CHECK_OK(lb_dev_queue_read(q, got, y, 0, 64, &err));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    for (u32 i = 0; i < 16; i++)
        CHECK(got[i] == (float)(16 + i + 32 + i));
    lb_dev_buf_free(&m);
    CHECK_OK(lb_dev_buf_map(d, file, 64, &again, &err));
    lb_dev_close(&d);
    (void)munmap(file, 2 * page);
}

LB_TEST(cuda_events) {
    lb_dev *d;
    lb_dev_queue *q, *q2;
    lb_dev_buf *x, *y;
    lb_dev_event *from, *to;
    float one[32], got[16];
    double t_us = -1;
    if (!stubbed())
        return;
    mode("", NULL, NULL);
    for (u32 i = 0; i < 32; i++)
        one[i] = (float)i;
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_OK(lb_dev_queue_new(d, &q, &err));
    CHECK_OK(lb_dev_queue_new(d, &q2, &err));
    CHECK_OK(lb_dev_event_new(d, &from, &err));
    CHECK_OK(lb_dev_event_new(d, &to, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 128, &x, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &y, &err));
    CHECK_OK(lb_dev_event_record(from, q, &err));
    CHECK_OK(lb_dev_queue_write(q, x, 0, one, 128, &err));
    CHECK_OK(sum_of(d, q, x, y));
    CHECK_OK(lb_dev_event_record(to, q, &err));
    CHECK_OK(lb_dev_event_await(to, q2, &err));
    CHECK_OK(lb_dev_queue_copy(q2, (lb_dev_arg){x, 0}, (lb_dev_arg){y, 0}, 64, &err));
    CHECK_OK(lb_dev_queue_read(q2, got, x, 0, 64, &err));
    CHECK_OK(lb_dev_queue_wait(q2, &err));
    CHECK_OK(lb_dev_queue_wait(q, &err));
    CHECK_OK(lb_dev_event_us(from, to, &t_us, &err));
    CHECK(t_us > 0);
    for (u32 i = 0; i < 16; i++)
        CHECK(got[i] == (float)(2 * i + 16));
    lb_dev_close(&d);
}

/* From GPU to GPU, over a link and through the host: the target's kernel sees what the source's has
 * written, and the source does not write again before it is copied. */
static void between(const char *how, bool direct, u32 waits_first) {
    lb_dev *d[2];
    lb_dev_queue *q[2];
    lb_dev_buf *x[2], *y[2];
    lb_dev_link *l;
    float one[32], got[16], far[16];
    mode(how, NULL, NULL);
    for (u32 i = 0; i < 32; i++)
        one[i] = (float)i;
    for (u32 i = 0; i < 2; i++) {
        CHECK_OK(lb_dev_open(&d[i], &(lb_dev_opts){.kind = LB_DEV_CUDA, .index = i}, &err));
        CHECK_OK(lb_dev_queue_new(d[i], &q[i], &err));
        CHECK_OK(lb_dev_buf_new(d[i], LB_DEV_OWN, 128, &x[i], &err));
        CHECK_OK(lb_dev_buf_new(d[i], LB_DEV_OWN, 64, &y[i], &err));
        CHECK_OK(lb_dev_queue_write(q[i], x[i], 0, one, 128, &err));
    }
    CHECK_OK(lb_dev_link_new(&l, q[0], q[1], 64, &err));
    CHECK(lb_dev_link_is_direct(l) == direct);
    CHECK_OK(sum_of(d[0], q[0], x[0], y[0])); /* 2 i + 16 */
    CHECK_OK(lb_dev_link_copy(l, (lb_dev_arg){x[1], 64}, (lb_dev_arg){y[0], 0}, 64, &err));
    CHECK_OK(lb_dev_queue_write(q[0], y[0], 0, one, 64, &err));
    CHECK_OK(sum_of(d[1], q[1], x[1], y[1])); /* i + 2 i + 16 */
    CHECK_OK(lb_dev_queue_read(q[1], got, y[1], 0, 64, &err));
    CHECK_OK(lb_dev_queue_read(q[0], far, y[0], 0, 64, &err));
    CHECK_OK(lb_dev_queue_wait(q[waits_first], &err));
    CHECK_OK(lb_dev_queue_wait(q[1 - waits_first], &err));
    for (u32 i = 0; i < 16; i++) {
        CHECK(got[i] == (float)(3 * i + 16));
        CHECK(far[i] == (float)i);
    }
    CHECK_U64(lb_dev_link_copy(l, (lb_dev_arg){x[1], 0}, (lb_dev_arg){y[0], 0}, 65, &err),
              LB_E_USAGE);
    CHECK_U64(lb_dev_link_copy(l, (lb_dev_arg){x[1], 0}, (lb_dev_arg){y[1], 0}, 64, &err),
              LB_E_USAGE);
    CHECK(says("cuda:0: a copy of a buffer of another device"));
    if (direct) {
        CHECK_U64(
            lb_dev_queue_copy_peer(q[1], (lb_dev_arg){x[1], 100}, (lb_dev_arg){y[0], 0}, 64, &err),
            LB_E_USAGE);
        CHECK_U64(
            lb_dev_queue_copy_peer(q[1], (lb_dev_arg){x[1], 0}, (lb_dev_arg){y[0], 16}, 64, &err),
            LB_E_USAGE);
        CHECK_U64(
            lb_dev_queue_copy_peer(q[1], (lb_dev_arg){x[1], 0}, (lb_dev_arg){y[1], 0}, 64, &err),
            LB_E_USAGE);
        CHECK(says("a copy from no other device of its kind"));
    }
    lb_dev_link_free(&l);
    lb_dev_close(&d[0]);
    lb_dev_close(&d[1]);
}

LB_TEST(cuda_between) {
    lb_dev *d, *c;
    bool direct = false;
    if (!stubbed())
        return;
    for (u32 i = 0; i < 2; i++) {
        between("", true, i);
        between("nopeer", false, i);
    }
    mode("", NULL, NULL);
    CHECK_OK(lb_dev_open(&d, &first, &err));
    CHECK_OK(lb_dev_open(&c, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    CHECK_U64(lb_dev_peer(d, c, &direct, &err), LB_E_UNSUPPORTED);
    CHECK(says("cpu and cuda:0: no copies between devices of two kinds") && !direct);
    CHECK_U64(lb_dev_peer(d, d, &direct, &err), LB_E_UNSUPPORTED);
    CHECK(says("cuda:0: there is no second device to copy from"));
    lb_dev_close(&d);
    lb_dev_close(&c);
}

/* NCCL's stand-in is found by its name once it is open; it lies beside that of the driver. */
static bool open_nccl(void) {
    static void *library;
    char path[4096];
    const char *cuda = getenv("LB_TEST_STUB_CUDA"), *slash = cuda ? strrchr(cuda, '/') : NULL;
    if (slash && !library) {
        (void)snprintf(path, sizeof path, "%.*s/libnccl.so.2", (int)(slash - cuda), cuda);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return library != NULL;
}

enum { GPUS = 3, N_SUM = 100 };

typedef struct trio {
    lb_dev *d[GPUS];
    lb_dev_queue *q[GPUS];
    lb_dev_buf *x[GPUS];
    lb_dev_group *g;
} trio;

static bool open_trio(trio *t, const char *nccl) {
    (void)setenv("STUB_NCCL", nccl, 1);
    bool ok = true;
    for (u32 i = 0; i < GPUS && ok; i++)
        ok =
            lb_dev_open(&t->d[i], &(lb_dev_opts){.kind = LB_DEV_CUDA, .index = i}, &err) == LB_OK &&
            lb_dev_queue_new(t->d[i], &t->q[i], &err) == LB_OK &&
            lb_dev_buf_new(t->d[i], LB_DEV_OWN, 4 * N_SUM + 16, &t->x[i], &err) == LB_OK;
    return ok && lb_dev_group_new(&t->g, t->q, GPUS, N_SUM, &err) == LB_OK;
}

static void close_trio(trio *t) {
    lb_dev_group_free(&t->g);
    for (u32 i = 0; i < GPUS; i++)
        lb_dev_close(&t->d[i]);
}

/* Each has a vector of its own, all have the sum, twice in turn, and go on with it. */
static void sums(const char *nccl, bool has_nccl) {
    trio t = {.g = NULL};
    float one[N_SUM], got[N_SUM];
    CHECK(open_trio(&t, nccl));
    CHECK(lb_dev_group_has_nccl(t.g) == has_nccl);
    lb_dev_arg at[GPUS];
    for (u32 first_wait = 0; first_wait < GPUS; first_wait++) {
        for (u32 i = 0; i < GPUS; i++) {
            at[i] = (lb_dev_arg){t.x[i], 16};
            for (u32 k = 0; k < N_SUM; k++)
                one[k] = (float)(k + 1000 * i);
            CHECK_OK(lb_dev_queue_write(t.q[i], t.x[i], 16, one, 4 * N_SUM, &err));
            CHECK_OK(lb_dev_queue_wait(t.q[i], &err));
        }
        CHECK_OK(lb_dev_group_sum(t.g, at, N_SUM, &err));     /* 3 k + 3000 */
        CHECK_OK(lb_dev_group_sum(t.g, at, N_SUM - 1, &err)); /* three times that */
        for (u32 i = 0; i < GPUS; i++) {
            const u32 which = (first_wait + i) % GPUS;
            CHECK_OK(lb_dev_queue_read(t.q[which], got, t.x[which], 16, 4 * N_SUM, &err));
            CHECK_OK(lb_dev_queue_wait(t.q[which], &err));
            for (u32 k = 0; k < N_SUM; k++)
                CHECK(got[k] == (float)((3 * k + 3000) * (k == N_SUM - 1 ? 1 : 3)));
        }
    }
    CHECK_OK(lb_dev_group_share(t.g, at, N_SUM, &err));
    for (u32 i = 0; i < GPUS; i++) {
        CHECK_OK(lb_dev_queue_read(t.q[i], i ? got : one, t.x[i], 16, 4 * N_SUM, &err));
        CHECK_OK(lb_dev_queue_wait(t.q[i], &err));
        CHECK(!i || memcmp(one, got, sizeof one) == 0);
    }
    at[1] = (lb_dev_arg){t.x[0], 16};
    CHECK_U64(lb_dev_group_sum(t.g, at, N_SUM, &err), LB_E_USAGE);
    at[1] = (lb_dev_arg){t.x[1], 32};
    CHECK_U64(lb_dev_group_sum(t.g, at, N_SUM, &err), LB_E_USAGE);
    CHECK(says("cuda:1: a sum over devices of 100 values"));
    close_trio(&t);
}

LB_TEST(cuda_sums) {
    trio t = {.g = NULL};
    if (!stubbed())
        return;
    mode("", NULL, NULL);
    (void)setenv("STUB_CUDA_GPUS", "3", 1);
    CHECK(open_nccl()); /* before one that the machine may have is found */
    sums("none", false);
    sums("", true);
    sums("old", false);
    sums("noinit", false);
    (void)setenv("STUB_NCCL_LOST", "1", 1);
    CHECK(open_trio(&t, ""));
    lb_dev_arg at[GPUS] = {{t.x[0], 0}, {t.x[1], 0}, {t.x[2], 0}};
    CHECK_U64(lb_dev_group_sum(t.g, at, N_SUM, &err), LB_E_IO);
    CHECK(says("nccl: a sum over 3 GPUs failed (2)"));
    close_trio(&t);
    (void)setenv("STUB_NCCL_LOST", "0", 1);
    (void)setenv("STUB_NCCL", "none", 1);
    (void)setenv("STUB_CUDA_GPUS", "2", 1);
}

LB_TEST(device_choice) {
    static const struct {
        const char *text;
        lb_status st;
        bool is_auto;
        lb_dev_kind kind;
        u32 index, n;
    } cases[] = {
        {"cuda:0,cuda:1", LB_OK, false, LB_DEV_CUDA, 0, 2},
        {"cuda:3,cuda:1,cuda:2", LB_OK, false, LB_DEV_CUDA, 3, 3},
        {"emulated,emulated", LB_OK, false, LB_DEV_CPU, 0, 2},
        {"cuda:1,cuda:1", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda:0,", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {",cuda:0", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda:0,emulated", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda:0,metal", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda,cuda:1", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"auto", LB_OK, true, LB_DEV_CPU, 0, 0},
        {"cpu", LB_OK, false, LB_DEV_CPU, 0, 0},
        {"cuda", LB_OK, false, LB_DEV_CUDA, 0, 0},
        {"cuda:0", LB_OK, false, LB_DEV_CUDA, 0, 1},
        {"cuda:12", LB_OK, false, LB_DEV_CUDA, 12, 1},
        {"cuda:", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda:-1", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda:99999", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"metal:0", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"cuda0", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"metal", LB_OK, false, LB_DEV_METAL, 0, 0},
        {"CPU", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
        {"", LB_E_USAGE, false, LB_DEV_CPU, 0, 0},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_dev_choice c;
        CHECK_U64(lb_dev_choice_parse(cases[i].text, &c, &err), cases[i].st);
        if (cases[i].st != LB_OK)
            continue;
        CHECK(c.is_auto == cases[i].is_auto);
        CHECK_U64(c.kind, cases[i].kind);
        CHECK_U64(c.index, cases[i].index);
        CHECK_U64(c.n, cases[i].n);
    }
}

LB_TEST_MAIN("fast")
