/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_shift.c: keys and values that a device has, shifted without the kernels for it: the
 * bytes of a shift of the CPU's cache with the same keys and values, in every type, over several
 * pages and pieces, beside devices that have the kernels and layers of the CPU; one warning. */
#include "base/cpu.h"
#include "device/device.h"
#include "fake_model.h"
#include "model/resident.h"
#include "model/saved.h"
#include "ops/load.h"
#include "ops/open.h"
#include "test.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#define N_CTX 400u
#define N_MAX 330u
#define DEVICES 2u

static lb_err err;
static lb_kernels kernels;

typedef struct scene {
    lb_source *source;
    lb_loaded *loaded;
    const lb_model *m;
    lb_dev *dev[DEVICES];
    lb_resident *resident;
    lb_dtype type;
    lb_kv_rotate rotate;
    u32 ids[N_MAX], n_vocab, n_warnings, threads;
    char warning[256];
} scene;

static void close_device(scene *s) {
    lb_resident_free(&s->resident);
    for (u32 i = 0; i < DEVICES; i++)
        lb_dev_close(&s->dev[i]);
}

static void close_scene(scene *s) {
    close_device(s);
    lb_loaded_free(&s->loaded);
    lb_source_close(&s->source);
}

static bool open_scene(scene *s, const fm_spec *spec) {
    lb_arena arena = {0};
    const char *path = NULL;
    *s = (scene){.type = LB_F16, .threads = 2};
    lb_kernels_init(&kernels, lb_cpu_isa());
    const bool ok =
        fm_write_gguf(lb_test_dir(), "m", spec, &arena, &path, &err) == LB_OK &&
        lb_open(&s->source, path, &err) == LB_OK &&
        lb_load(&s->loaded, s->source,
                &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = 8 * LB_MIB},
                &err) == LB_OK;
    lb_arena_deinit(&arena);
    if (!ok)
        return false;
    s->m = lb_loaded_model(s->loaded);
    s->n_vocab = lb_model_n_vocab(s->m);
    for (u32 i = 0; i < N_MAX; i++)
        s->ids[i] = (i * i + 7 * i) % s->n_vocab;
    return true;
}

/* The last n_layers of them on n devices; without `lacks` on the first. */
static lb_status open_device(scene *s, lb_dev_kind kind, u32 n, u32 n_layers,
                             const lb_dev_kernel *lacks) {
    lb_resident_plan plan;
    for (u32 i = 0; i < n; i++)
        LB_TRY(lb_dev_open(&s->dev[i],
                           &(lb_dev_opts){.kind = kind,
                                          .index = kind == LB_DEV_CUDA ? i : 0,
                                          .exact = kind == LB_DEV_CPU,
                                          .schedule = 1},
                           &err));
    if (lacks)
        lb_dev_refuse(s->dev[0], *lacks, "a test");
    const lb_resident_opts o = {.devices = s->dev,
                                .n_devices = n,
                                .n_layers = n_layers,
                                .session = {.n_ctx = N_CTX, .n_batch = 64}};
    LB_TRY(lb_resident_plan_make(&plan, s->m, &o, &err));
    if (plan.placing.n_devices != n)
        return lb_fail(&err, LB_E_LIMIT, "the devices do not share the layers");
    return lb_resident_new_planned(&s->resident, s->m, &o, &plan, &err);
}

static void count_warning(void *user, const char *text) {
    scene *s = user;
    s->n_warnings++;
    (void)snprintf(s->warning, sizeof s->warning, "%s", text);
}

static lb_status open_context(scene *s, bool device, lb_context **c) {
    const lb_context_opts o = {.n_ctx = N_CTX,
                               .n_batch = 64,
                               .threads = s->threads,
                               .kv_type = s->type,
                               .kv_rotate = s->rotate,
                               .acts = LB_ACTS_EXACT,
                               .warn = count_warning,
                               .warn_user = s,
                               .resident = device ? s->resident : NULL};
    return lb_context_new(c, s->m, &o, &err);
}

/* All positions, as a saved session has them. */
static lb_status save(const scene *s, const lb_context *c, lb_buf *to) {
    lb_session_file f;
    lb_out out = {.put = lb_out_to_buf, .ctx = to};
    lb_xxh hash;
    lb_context_describe(c, &f);
    f.n_ids = f.n_held = lb_context_length(c, 0);
    f.flags = 0; /* of either */
    lb_session_file_begin(&f, s->ids, &hash, &out);
    LB_TRY(lb_context_save(c, 0, &hash, &out, &err));
    lb_session_file_end(&hash, &out);
    return lb_out_end(&out, &err);
}

static lb_status load(const scene *s, lb_context *c, const lb_buf *from) {
    lb_session_file f;
    lb_session_body body;
    lb_cur cur;
    u32 ids[N_MAX];
    lb_cur_mem(&cur, "a session", from->ptr, from->len);
    LB_TRY(lb_session_file_parse(&cur, &f, &err));
    LB_TRY(lb_session_file_ids(&cur, &f, ids, &err));
    lb_session_body_begin(&body, &cur, &f, ids);
    const lb_status st = lb_context_load(c, 0, &body, &f, s->ids, f.n_held, &err);
    lb_cur_close(&cur);
    return st;
}

/* The CPU reads n tokens; what it keeps of them. */
static void read_text(scene *s, u32 n, lb_buf *out) {
    lb_context *c = NULL;
    float *logits = calloc(s->n_vocab, sizeof *logits);
    CHECK(logits != NULL);
    CHECK_OK(open_context(s, false, &c));
    CHECK_OK(lb_context_eval(c, &(lb_batch){.n = n, .id = s->ids}, logits, &err));
    CHECK_OK(save(s, c, out));
    lb_context_free(&c);
    free(logits);
}

typedef struct cut {
    u32 keep, drop;
} cut;

/* Such keys and values, cut twice; what is left, and logits of one more token. */
static void shift(scene *s, bool device, const lb_buf *text, const cut *cuts, lb_buf *left,
                  float *logits) {
    lb_context *c = NULL;
    CHECK_OK(open_context(s, device, &c));
    CHECK_OK(load(s, c, text));
    for (u32 i = 0; i < 2; i++)
        CHECK_OK(lb_context_shift(c, 0, cuts[i].keep, cuts[i].drop, &err));
    CHECK_OK(save(s, c, left));
    CHECK_OK(lb_context_eval(c, &(lb_batch){.n = 1, .id = s->ids}, logits, &err));
    lb_context_free(&c);
}

static u64 n_launches(const scene *s, u32 device) {
    lb_dev_stats stats;
    lb_dev_stats_get(s->dev[device], &stats);
    return stats.launches;
}

/* Both ways; the bytes are the same, or near where `near` says that kernels turned them. */
static void compare(scene *s, u32 n, const cut *cuts, bool near, const char *what) {
    lb_buf text = {0}, want = {0}, got = {0};
    float *logits = calloc(2 * (size_t)s->n_vocab, sizeof *logits), *own = logits + s->n_vocab;
    double most = 0, size = 0;
    CHECK(logits != NULL);
    read_text(s, n, &text);
    shift(s, false, &text, cuts, &want, logits);
    shift(s, true, &text, cuts, &got, own);
    CHECK(want.len > 1000 && want.len == got.len);
    const bool same = memcmp(want.ptr, got.ptr, want.len) == 0;
    if (!same && !near)
        lb_test_fail(__FILE__, __LINE__, "%s: other bytes", what);
    for (u32 i = 0; i < s->n_vocab; i++) {
        most = fmax(most, fabs((double)own[i] - (double)logits[i]));
        size = fmax(size, fabs((double)logits[i]));
    }
    if (!(most <= (s->type == LB_F32 ? 2e-5 : near ? 2e-2 : 1e-3) * size))
        lb_test_fail(__FILE__, __LINE__, "%s: logits are off by %.3g", what, most / size);
    lb_buf_deinit(&text);
    lb_buf_deinit(&want);
    lb_buf_deinit(&got);
    free(logits);
}

static fm_spec small(fm_family family) {
    fm_spec spec = fm_tiny(family);
    spec.hidden = 64;
    spec.ffn = 96;
    spec.n_heads = 4;
    spec.n_kv_heads = 2;
    spec.head_dim = 32;
    return spec;
}

/* Fewer rows leave than stay, less than a page and more; then from the beginning on. */
static const cut few[] = {{5, 9}, {0, 70}}, many[] = {{3, 101}, {70, 20}};

/* Every type, each without another kernel, and with all. */
LB_TEST(device_shift_types) {
    static const struct {
        lb_dtype type;
        lb_kv_rotate rotate;
        lb_dev_kernel lacks;
    } kinds[] = {
        {LB_F16, LB_KV_ROTATE_OFF, LB_DK_kv_move},  {LB_F32, LB_KV_ROTATE_OFF, LB_DK_rope},
        {LB_Q8_0, LB_KV_ROTATE_OFF, LB_DK_kv_take}, {LB_Q4_0, LB_KV_ROTATE_OFF, LB_DK_kv_move},
        {LB_F16, LB_KV_ROTATE_ON, LB_DK_kv_take},   {LB_F32, LB_KV_ROTATE_ON, LB_DK_kv_move},
        {LB_Q8_0, LB_KV_ROTATE_ON, LB_DK_kv_move},  {LB_Q4_0, LB_KV_ROTATE_ON, LB_DK_kv_take}};
    static const fm_family families[] = {FM_LLAMA, FM_GEMMA3}; /* pairs; halves, two kinds */
    for (u32 f = 0; f < LB_LEN(families); f++) {
        fm_spec spec = small(families[f]);
        scene s;
        CHECK(open_scene(&s, &spec));
        for (u32 k = f; k < LB_LEN(kinds); k += lb_test_full() ? 1 : 2) {
            s.type = kinds[k].type;
            s.rotate = kinds[k].rotate;
            for (u32 with = 0; with < 2; with++) {
                CHECK_OK(
                    open_device(&s, LB_DEV_CPU, 1, LB_NO_INDEX, with ? NULL : &kinds[k].lacks));
                compare(&s, 200, with ? few : many, with, fm_family_name(families[f]));
                CHECK(lb_dev_launched(s.dev[0], LB_DK_kv_move) == (with != 0));
                CHECK(lb_dev_launched(s.dev[0], LB_DK_kv_take) == (with != 0));
                close_device(&s);
            }
        }
        CHECK_U64(s.n_warnings, 0);
        close_scene(&s);
    }
}

/* Rows that come in several pieces. */
LB_TEST(device_shift_pieces) {
    const lb_dev_kernel lacks = LB_DK_kv_move;
    fm_spec spec = small(FM_LLAMA);
    scene s;
    spec.n_layers = 1;
    spec.n_heads = spec.n_kv_heads = 8;
    spec.head_dim = 256;
    CHECK(open_scene(&s, &spec));
    s.type = LB_F32;
    CHECK_OK(open_device(&s, LB_DEV_CPU, 1, LB_NO_INDEX, &lacks));
    compare(&s, N_MAX, few, false, "pieces");
    close_scene(&s);
}

/* Keys as long as heads may be, on one thread, which has one scratch. */
LB_TEST(device_shift_wide) {
    const lb_dev_kernel lacks = LB_DK_kv_move;
    fm_spec spec = small(FM_LLAMA);
    scene s;
    spec.n_layers = 1;
    spec.n_heads = spec.n_kv_heads = 1;
    spec.head_dim = 512;
    CHECK(open_scene(&s, &spec));
    s.threads = 1;
    CHECK_OK(open_device(&s, LB_DEV_CPU, 1, LB_NO_INDEX, &lacks));
    compare(&s, 200, few, false, "wide");
    close_scene(&s);
}

/* One of two devices lacks a kernel, and the CPU has a layer. */
LB_TEST(device_shift_split) {
    const lb_dev_kernel lacks = LB_DK_kv_take;
    fm_spec spec = small(FM_LLAMA);
    scene s;
    spec.n_layers = 5;
    CHECK(open_scene(&s, &spec));
    s.type = LB_F32;
    CHECK_OK(open_device(&s, LB_DEV_CPU, 2, 4, &lacks));
    compare(&s, 200, many, true, "split");
    CHECK(!lb_dev_launched(s.dev[0], LB_DK_kv_move) && lb_dev_launched(s.dev[1], LB_DK_kv_move));
    close_device(&s);
    CHECK_OK(open_device(&s, LB_DEV_CPU, 2, 4, &lacks));
    lb_dev_refuse(s.dev[1], LB_DK_kv_move, "a test");
    const u64 before = n_launches(&s, 1);
    compare(&s, 200, few, false, "split, neither");
    CHECK(!lb_dev_launched(s.dev[1], LB_DK_kv_move) && n_launches(&s, 1) > before);
    close_scene(&s);
}

/* Kernels that a GPU's driver or its test refuse: one line, and the bytes are the CPU's. */
LB_TEST(device_shift_warns) {
    static const char *const bad[] = {"jit:kv_take", "launch:kv_move", "wrong:kv_take"};
    static const char *const says[] = {
        "cuda:0: kernel kv_take fails its test: ", "cuda:0: kernel kv_move fails its test: ",
        "cuda:0: kernel kv_take fails its test: "};
    const char *path = getenv("LB_TEST_STUB_CUDA");
    if (!path || !*path || !dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
        lb_test_skip("no stand-in for the CUDA driver (LB_TEST_STUB_CUDA)");
        return;
    }
    fm_spec spec = small(FM_LLAMA);
    scene s;
    spec.n_layers = 4;
    CHECK(open_scene(&s, &spec));
    (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        s.n_warnings = 0;
        (void)setenv("STUB_CUDA_BAD", bad[i], 1);
        CHECK_OK(open_device(&s, LB_DEV_CUDA, 2, LB_NO_INDEX, NULL));
        compare(&s, 120, few, false, bad[i]);
        CHECK_U64(s.n_warnings, 1);
        CHECK(strstr(s.warning, says[i]) == s.warning && strstr(s.warning, "others do its work"));
        close_device(&s);
    }
    (void)unsetenv("STUB_CUDA_BAD");
    s.n_warnings = 0;
    CHECK_OK(open_device(&s, LB_DEV_CUDA, 2, LB_NO_INDEX, NULL));
    compare(&s, 120, few, true, "all kernels");
    CHECK(s.n_warnings == 0 && lb_dev_launched(s.dev[1], LB_DK_kv_move));
    close_scene(&s);
}

LB_TEST_MAIN("slow")
