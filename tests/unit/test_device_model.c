/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_model.c: a session on a device gives the logits of the CPU's graph: on the kernels as
 * C11 in several schedules, and through the stand-in for the CUDA driver (LB_TEST_STUB_CUDA).
 * size: all of it needs a small model, its CPU's logits and its device.
 * The CPU's session is exact with the same type of keys and values. A difference is given as a part
 * of the largest logit of its row. */
#include "base/cpu.h"
#include "fake_model.h"
#include "model/device_graph.h"
#include "model/device_rows.h"
#include "model/resident.h"
#include "ops/load.h"
#include "ops/open.h"
#include "test.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#define BOUND 2e-5 /* of f32 sums in another order, over two layers */
#define N_PROMPT 21u
#define N_MORE 4u
#define N_TOKENS (N_PROMPT + N_MORE)

static lb_err err;
static lb_kernels kernels;
static u32 ids[4 * N_TOKENS];

#define DEVICES_MAX 3u

typedef struct scene {
    lb_source *source;
    lb_loaded *loaded;
    const lb_model *m;
    lb_dev *dev;
    lb_dev *more[DEVICES_MAX]; /* of splits */
    lb_resident *resident;
    u32 n_vocab;
    float *want, *got; /* [N_TOKENS, n_vocab] */
} scene;

static void close_device(scene *s) {
    lb_resident_free(&s->resident);
    lb_dev_close(&s->dev);
    for (u32 i = 0; i < DEVICES_MAX; i++)
        lb_dev_close(&s->more[i]);
}

static void close_scene(scene *s) {
    close_device(s);
    lb_loaded_free(&s->loaded);
    lb_source_close(&s->source);
    free(s->want);
    free(s->got);
}

static bool says(const char *text) {
    return strstr(err.msg, text) != NULL && !strchr(err.msg, '\n');
}

static lb_context_opts options(const scene *s, bool device) {
    return (lb_context_opts){.n_ctx = 160,
                             .n_seqs = 2,
                             .n_batch = 16,
                             .threads = 1,
                             .kv_type = LB_F32,
                             .acts = LB_ACTS_EXACT,
                             .resident = device ? s->resident : NULL};
}

/* Logits after each of n tokens from `first` on, `step` of them at a time. */
static lb_status eval(const scene *s, lb_context *c, u32 first, u32 n, u32 step, float *out) {
    u8 want[N_TOKENS];
    memset(want, 1, sizeof want);
    for (u32 at = 0; at < n; at += step)
        LB_TRY(lb_context_eval(
            c, &(lb_batch){.n = LB_MIN(step, n - at), .id = ids + first + at, .want = want},
            out + (size_t)at * s->n_vocab, &err));
    return LB_OK;
}

/* A prompt in batches, then token by token. */
static lb_status run(const scene *s, const lb_context_opts *o, u32 step, float *out) {
    lb_context *c = NULL;
    lb_status st = lb_context_new(&c, s->m, o, &err);
    if (st == LB_OK)
        st = eval(s, c, 0, N_PROMPT, step, out);
    if (st == LB_OK)
        st = eval(s, c, N_PROMPT, N_MORE, 1, out + (size_t)N_PROMPT * s->n_vocab);
    lb_context_free(&c);
    return st;
}

/* The largest difference of n rows, each as a part of its largest logit. */
static double off(const scene *s, const float *a, const float *b, u32 n) {
    double worst = 0;
    for (u32 r = 0; r < n; r++) {
        double most = 0, size = 0;
        for (u32 i = 0; i < s->n_vocab; i++) {
            const size_t at = (size_t)r * s->n_vocab + i;
            const double d = fabs((double)a[at] - (double)b[at]);
            most = d <= most ? most : d; /* also a NaN */
            size = fmax(size, fabs((double)b[at]));
        }
        worst = most / size <= worst ? worst : most / size;
    }
    return worst;
}

static bool open_scene(scene *s, const fm_spec *spec, bool gguf) {
    lb_arena arena = {0};
    const char *path = lb_test_dir();
    *s = (scene){0};
    lb_kernels_init(&kernels, lb_cpu_isa());
    for (u32 i = 0; i < LB_LEN(ids); i++)
        ids[i] = (i * 37 + 11) % (u32)spec->vocab;
    bool ok = gguf ? fm_write_gguf(path, "m", spec, &arena, &path, &err) == LB_OK
                   : fm_write_hf(path, spec, &err) == LB_OK;
    ok = ok && lb_open(&s->source, path, &err) == LB_OK &&
         lb_load(&s->loaded, s->source,
                 &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = LB_MIB},
                 &err) == LB_OK;
    lb_arena_deinit(&arena);
    if (!ok)
        return false;
    s->m = lb_loaded_model(s->loaded);
    s->n_vocab = lb_model_n_vocab(s->m);
    s->want = calloc((size_t)N_TOKENS * s->n_vocab, sizeof(float));
    s->got = calloc((size_t)N_TOKENS * s->n_vocab, sizeof(float));
    const lb_context_opts o = options(s, false);
    return s->want && s->got && run(s, &o, N_PROMPT, s->want) == LB_OK;
}

static lb_status open_device(scene *s, const lb_dev_opts *o) {
    LB_TRY(lb_dev_open(&s->dev, o, &err));
    return lb_resident_new(&s->resident, s->m, s->dev, &err);
}

static void check_near(const scene *s, const char *what, u32 n) {
    const double d = off(s, s->got, s->want, n);
    if (!(d <= BOUND))
        lb_test_fail(__FILE__, __LINE__, "%s: logits are off by %.3g", what, d);
}

/* All ways of one model on one device. */
static void check_runs(scene *s, const lb_dev_opts *dev, const char *what) {
    err = (lb_err){0};
    if (open_device(s, dev) != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
        return;
    }
    const lb_context_opts o = options(s, true);
    static const u32 steps[] = {7, 1};
    const u32 n_ways = dev->kind == LB_DEV_CPU && dev->schedule == 0 ? LB_LEN(steps) : 1;
    for (u32 i = 0; i < n_ways; i++) {
        CHECK_OK(run(s, &o, steps[i], s->got));
        check_near(s, what, N_TOKENS);
    }
    close_device(s);
}

static bool stubbed(void) {
    const char *path = getenv("LB_TEST_STUB_CUDA");
    static void *library, *nccl;
    char beside[4096];
    if (!library && path && *path) {
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        (void)snprintf(beside, sizeof beside, "%.*s/libnccl.so.2",
                       (int)(strlen(path) - strlen("/libcuda.so.1")), path);
        nccl = dlopen(beside, RTLD_NOW | RTLD_LOCAL); /* before one that the machine may have */
    }
    if (!library || !nccl)
        lb_test_skip("no stand-in for the CUDA driver (LB_TEST_STUB_CUDA)");
    return library && nccl;
}

/* ---- several devices, and the CPU ---- */

typedef struct split {
    u32 n_devices, n_layers; /* on devices */
    const double *share;
    lb_dev_kind kind;
    bool ranks;
} split;

static lb_resident_opts split_opts(const scene *s, const split *how) {
    return (lb_resident_opts){.devices = s->more,
                              .n_devices = how->n_devices,
                              .share = how->share,
                              .ranks = how->ranks,
                              .n_layers = how->n_layers,
                              .session = options(s, false)};
}

static lb_status open_split(scene *s, const split *how, lb_resident_plan *plan) {
    for (u32 i = 0; i < how->n_devices; i++)
        LB_TRY(lb_dev_open(&s->more[i],
                           &(lb_dev_opts){.kind = how->kind,
                                          .index = how->kind == LB_DEV_CUDA ? i : 0,
                                          .exact = how->kind == LB_DEV_CPU},
                           &err));
    const lb_resident_opts o = split_opts(s, how);
    LB_TRY(lb_resident_plan_make(plan, s->m, &o, &err));
    if (!plan->placing.n_devices)
        return lb_fail(&err, LB_E_LIMIT, "it does not fit");
    return lb_resident_new_planned(&s->resident, s->m, &o, plan, &err);
}

/* Where the layers begin that each device has. */
static bool ends_are(const lb_resident_plan *plan, u32 n_host, const u32 *end, u32 n) {
    bool ok = plan->placing.n_host == n_host && plan->placing.n_devices == n;
    for (u32 i = 0; i < n && ok; i++)
        ok = plan->placing.end[i] == end[i];
    return ok;
}

static void check_split(scene *s, const split *how, u32 n_host, const u32 *end, const char *what) {
    lb_resident_plan plan;
    err = (lb_err){0};
    if (open_split(s, how, &plan) != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
        close_device(s);
        return;
    }
    if (!ends_are(&plan, n_host, end, how->n_devices))
        lb_test_fail(__FILE__, __LINE__, "%s: layers lie elsewhere: %u, %u", what,
                     plan.placing.n_host, plan.placing.end[0]);
    u64 weights = 0;
    for (u32 i = 0; i < plan.placing.n_devices; i++)
        weights += plan.weights[i];
    if (!how->ranks)
        CHECK_U64(lb_resident_bytes(s->resident), weights);
    const lb_context_opts o = options(s, true);
    CHECK_OK(run(s, &o, 7, s->got));
    check_near(s, what, N_TOKENS);
    close_device(s);
}

/* Small, so that fibers are done with it soon; heads of 32. */
static fm_spec small(fm_family family) {
    fm_spec spec = fm_tiny(family);
    spec.hidden = 64;
    spec.ffn = 96;
    spec.n_heads = 4;
    spec.n_kv_heads = 2;
    spec.head_dim = 32;
    return spec;
}

static void one_family(fm_family family, lb_dtype dtype, bool gguf) {
    static const u32 schedules[] = {0, 3};
    fm_spec spec = small(family);
    char what[64];
    scene s;
    if (dtype != LB_DTYPE_COUNT)
        spec.dtype = dtype;
    if (!open_scene(&s, &spec, gguf)) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", fm_family_name(family), err.msg);
        return;
    }
    for (u32 i = 0; i < (lb_test_full() ? LB_LEN(schedules) : 1u); i++) {
        (void)snprintf(what, sizeof what, "%s, schedule %u", fm_family_name(family), schedules[i]);
        check_runs(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true, .schedule = schedules[i]},
                   what);
    }
    if (stubbed()) {
        (void)snprintf(what, sizeof what, "%s, CUDA", fm_family_name(family));
        (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
        check_runs(&s, &(lb_dev_opts){.kind = LB_DEV_CUDA}, what);
    }
    close_scene(&s);
}

LB_TEST(device_llama) {
    one_family(FM_LLAMA, LB_DTYPE_COUNT, false);
}
LB_TEST(device_qwen2) {
    one_family(FM_QWEN2, LB_DTYPE_COUNT, false);
}
LB_TEST(device_qwen3) {
    one_family(FM_QWEN3, LB_Q8_0, true);
}
LB_TEST(device_gemma3) {
    one_family(FM_GEMMA3, LB_DTYPE_COUNT, true);
}
LB_TEST(device_qwen3_moe) {
    one_family(FM_QWEN3_MOE, LB_DTYPE_COUNT, false);
}

/* Launches of one token; 0: an error. */
static u64 launches_of(scene *s, lb_dtype kv_type) {
    lb_context *c = NULL;
    lb_context_opts o = options(s, true);
    o.kv_type = kv_type;
    lb_dev_stats before = {0}, after = {0};
    lb_status st = lb_context_new(&c, s->m, &o, &err);
    if (st == LB_OK)
        st = eval(s, c, 0, 1, 1, s->got);
    lb_dev_stats_get(s->dev, &before);
    if (st == LB_OK)
        st = eval(s, c, 1, 1, 1, s->got);
    lb_dev_stats_get(s->dev, &after);
    lb_context_free(&c);
    return st == LB_OK ? after.launches - before.launches : 0;
}

/* Over keys and values of f16, whose last bit may be another. */
static void at_once(scene *s, const char *what) {
    lb_context_opts o = options(s, false);
    o.kv_type = LB_F16;
    CHECK_OK(run(s, &o, N_PROMPT, s->want));
    o.resident = s->resident;
    CHECK_OK(run(s, &o, 1, s->got));
    const double d = off(s, s->got, s->want, N_TOKENS);
    if (!(d <= 1e-3))
        lb_test_fail(__FILE__, __LINE__, "%s: logits are off by %.3g over f16", what, d);
    o = options(s, false); /* as it was */
    CHECK_OK(run(s, &o, N_PROMPT, s->want));
}

/* Rows long enough for products of few tokens by tensor cores: q, k and v are one launch there, and
 * so are gate and up with what is done to them. */
static void few_family(fm_family family, lb_dtype dtype, bool gguf, u64 n_layer) {
    fm_spec spec = small(family);
    scene s;
    spec.hidden = 256;
    spec.ffn = 512;
    spec.n_heads = 8;
    spec.dtype = dtype;
    if (!open_scene(&s, &spec, gguf)) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", fm_family_name(family), err.msg);
        return;
    }
    const lb_dev_opts o = {.kind = LB_DEV_CPU, .exact = true};
    CHECK_OK(open_device(&s, &o));
    const lb_dlayer *l = &s.resident->layer[0];
    CHECK(lb_dev_kernel_needs(l->down.parts
                                  ? l->down.parts[0].kernel[LB_DEV_MT]
                                  : l->down_exps.parts[0].kernel[LB_DEV_MTE]) == LB_DEV_NEEDS_RING);
    CHECK_U64(launches_of(&s, LB_F32), 3 + n_layer * s.m->p.n_layers);
    /* over f16 no join, and of one token what is in front of attention is its kernel's */
    CHECK_U64(launches_of(&s, LB_F16), 3 + (n_layer - 2) * s.m->p.n_layers);
    at_once(&s, fm_family_name(family));
    close_device(&s);
    check_runs(&s, &o, fm_family_name(family));
    close_scene(&s);
}

LB_TEST(device_few) {
    /* q, k and v; rope_store; attend and its join; o; gate and up; down */
    if (lb_test_full())
        few_family(FM_LLAMA, LB_Q8_0, true, 7);
    few_family(FM_LLAMA, LB_BF16, false, 7);
    few_family(FM_QWEN3, LB_Q8_0, true, 7);
    /* the router and its choice; gate and up of the chosen experts; down; their sum to the stream
     */
    few_family(FM_QWEN3_MOE, LB_Q8_0, true, 10);
    few_family(FM_QWEN3_MOE, LB_BF16, false, 10);
}

/* Experts' products go row by row up to so many rows of each: of codes below eight bits more. */
static void rows_of(lb_dtype dtype, u32 planned) {
    fm_spec spec = small(FM_QWEN3_MOE);
    lb_context *c = NULL;
    scene s;
    spec.hidden = 256;
    spec.ffn = 512;
    spec.n_heads = 8;
    spec.dtype = dtype;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}));
    const lb_context_opts o = options(&s, true);
    CHECK_OK(lb_context_new(&c, s.m, &o, &err));
    lb_dmat m = s.resident->layer[0].gate_exps.parts[0];
    const u32 n = m.args.n_mats * planned;
    CHECK(lb_dmat_has(c, &m, LB_DEV_MTE) && !lb_dmat_has(c, &m, LB_DEV_MT));
    CHECK(lb_dmat_by_rows(c, &m, n - 1) && !lb_dmat_by_rows(c, &m, n));
    m.kernel[LB_DEV_MTE] = m.kernel[LB_DEV_MVE];
    CHECK(!lb_dmat_has(c, &m, LB_DEV_MTE) && !lb_dmat_by_rows(c, &m, 1));
    lb_context_free(&c);
    close_device(&s);
    close_scene(&s);
}

LB_TEST(device_expert_rows) {
    rows_of(LB_Q8_0, 5);
    rows_of(LB_BF16, 5);
    rows_of(LB_Q4_0, 8);
}

/* Columns of down so many that threadgroups share them: what these leave is added up by the last
 * one, for one token and for several. */
LB_TEST(device_few_shared) {
    fm_spec spec = small(FM_LLAMA);
    const lb_dev_opts o = {.kind = LB_DEV_CPU, .exact = true};
    lb_mv_args a;
    scene s;
    spec.hidden = 256;
    spec.ffn = 17 * 256;
    spec.n_layers = 2;
    spec.n_heads = 8;
    spec.dtype = LB_Q8_0;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &o));
    a = s.resident->layer[1].down.parts[0].args;
    lb_dev_mt_share(lb_dev_info_get(s.resident->d), LB_DK_mt_q8_0, true, &a);
    CHECK_U64(a.parts, 2);
    at_once(&s, "shared columns");
    close_device(&s);
    close_scene(&s);
}

/* Logits come to the session's own row as they come anywhere else. */
LB_TEST(device_row) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    lb_context *c = NULL;
    CHECK(open_scene(&s, &spec, true));
    lb_context_opts o = options(&s, false);
    CHECK_OK(lb_context_new(&c, s.m, &o, &err));
    CHECK(!lb_context_row(c));
    lb_context_free(&c);
    if (stubbed()) {
        CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CUDA}));
        o = options(&s, true);
        CHECK_OK(lb_context_new(&c, s.m, &o, &err));
        float *row = lb_context_row(c);
        CHECK(row != NULL);
        CHECK_OK(eval(&s, c, 0, 3, 1, s.got));
        CHECK(lb_context_cut(c, 0, 2));
        memset(row, 0, s.n_vocab * sizeof *row);
        CHECK_OK(eval(&s, c, 2, 1, 1, row));
        CHECK(memcmp(row, s.got + (size_t)2 * s.n_vocab, s.n_vocab * sizeof *row) == 0);
        lb_context_free(&c);
        close_device(&s);
    }
    close_scene(&s);
}

/* Two sequences in a batch (tiles of tokens of both), one that shares pages with another and goes
 * on differently, one that is cut back. */
LB_TEST(device_sequences) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    lb_context *c[2] = {NULL};
    enum { EACH = 7 }; /* of a sequence: together more than are split over positions */
    u32 seq[2 * EACH], mixed[2 * EACH];
    u8 want[2 * EACH];
    float *rows[2];
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true, .schedule = 1}));
    memset(want, 1, sizeof want);
    for (u32 i = 0; i < 2 * EACH; i++) {
        seq[i] = i / EACH;
        mixed[i] = ids[40 + i];
    }
    for (u32 d = 0; d < 2; d++) {
        lb_context_opts o = options(&s, d);
        rows[d] = d ? s.got : s.want;
        CHECK_OK(lb_context_new(&c[d], s.m, &o, &err));
        CHECK_OK(eval(&s, c[d], 0, 20, 20, rows[d]));
        CHECK_OK(lb_context_copy(c[d], 0, 1, 13, &err));
        const lb_batch b = {.n = 2 * EACH, .id = mixed, .seq = seq, .want = want};
        CHECK_OK(lb_context_eval(c[d], &b, rows[d], &err));
    }
    check_near(&s, "two sequences", 2 * EACH);
    for (u32 d = 0; d < 2; d++) {
        CHECK(lb_context_cut(c[d], 0, 9));
        CHECK_U64(lb_context_keep(c[d], 1, ids, 13), 13);
        CHECK_OK(eval(&s, c[d], 60, 3, 3, rows[d]));
        CHECK(lb_context_cache_bytes(c[d]) > 0);
    }
    check_near(&s, "cut back", 3);
    for (u32 d = 0; d < 2; d++) { /* pages that are shared, rows that lie in both */
        CHECK_OK(lb_context_copy(c[d], 0, 1, 12, &err));
        CHECK_OK(lb_context_shift(c[d], 0, 2, 3, &err));
        CHECK_U64(lb_context_length(c[d], 0), 9);
        const lb_batch b = {.n = 2, .id = ids + 70, .seq = (u32[]){0, 1}, .want = want};
        CHECK_OK(lb_context_eval(c[d], &b, rows[d], &err));
    }
    check_near(&s, "shifted", 2);
    lb_context_free(&c[0]);
    lb_context_free(&c[1]);
    close_scene(&s);
}

/* Layers on two devices and on three, the first ones on the CPU, in all ways that devices are
 * joined: the results are those of the CPU. */
LB_TEST(device_split) {
    static const double shares[] = {1, 8};
    const split cpu = {.n_devices = 2, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CPU};
    split how = cpu;
    fm_spec spec = small(FM_LLAMA);
    scene s;
    spec.n_layers = 4;
    CHECK(open_scene(&s, &spec, true));
    how.share = shares;
    check_split(&s, &how, 0, (u32[]){1, 4}, "emulated, one layer and three");
    how.share = NULL;
    how.n_layers = 3;
    check_split(&s, &how, 1, (u32[]){3, 4}, "emulated, beside the CPU");
    how.n_devices = 1;
    how.n_layers = 1;
    check_split(&s, &how, 3, (u32[]){4}, "emulated, one layer");
    if (stubbed()) {
        (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
        (void)setenv("STUB_CUDA_GPUS", "3", 1);
        how = (split){.n_devices = 3, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CUDA};
        check_split(&s, &how, 0, (u32[]){1, 3, 4}, "three GPUs");
        (void)setenv("STUB_CUDA", "nopeer", 1);
        how.n_devices = 2;
        how.n_layers = 3;
        check_split(&s, &how, 1, (u32[]){3, 4}, "GPUs that do not reach each other, and the CPU");
        (void)setenv("STUB_CUDA", "", 1);
        (void)setenv("STUB_CUDA_GPUS", "2", 1);
    }
    close_scene(&s);
}

/* ---- batches in flight ---- */

static void *stub(const char *name) {
    void *library = dlopen(getenv("LB_TEST_STUB_CUDA"), RTLD_NOW | RTLD_LOCAL);
    return library ? dlsym(library, name) : NULL;
}

/* Waits of the host, and how much was submitted at a time, since the last call. */
static void counts(u32 *waits, u32 *held_most) {
    void (*get)(u32 *, u32 *) = NULL;
    void *at = stub("stub_cuda_counts");
    CHECK(at != NULL);
    memcpy(&get, &at, sizeof at);
    get(waits, held_most);
}

enum { FLIGHT_BATCH = 9, FLIGHT_PROMPT = 6 * FLIGHT_BATCH };

/* A prompt of n tokens, as one call or a call for each batch; then two tokens more: logits of its
 * last one and of them, [3, n_vocab]. */
static void fly(const scene *s, u32 n, bool together, u32 *waits, u32 *held_most) {
    lb_context *c = NULL;
    lb_context_opts o = options(s, true);
    u8 want[FLIGHT_PROMPT] = {0};
    const u32 step = together ? n : FLIGHT_BATCH;
    o.n_batch = FLIGHT_BATCH;
    CHECK_OK(lb_context_new(&c, s->m, &o, &err));
    counts(waits, held_most);
    for (u32 at = 0; at < n; at += step) {
        want[step - 1] = at + step == n;
        const lb_batch b = {.n = step, .id = ids + at, .want = want};
        CHECK_OK(lb_context_eval(c, &b, s->got, &err));
    }
    counts(waits, held_most);
    for (u32 i = 0; i < 2; i++)
        CHECK_OK(lb_context_eval(c, &(lb_batch){.n = 1, .id = ids + i},
                                 s->got + (size_t)(i + 1) * s->n_vocab, &err));
    CHECK_U64(lb_context_length(c, 0), n + 2);
    lb_context_free(&c);
}

/* n devices: the bits of one device (s->want) however it is submitted, and what waits for what. */
static void check_flight(scene *s, u32 n_devices, const char *mode) {
    const split how = {.n_devices = n_devices, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CUDA};
    const size_t bytes = 3 * (size_t)s->n_vocab * sizeof(float);
    lb_resident_plan plan;
    u32 waits, one, held;
    (void)setenv("STUB_CUDA", mode, 1);
    CHECK_OK(open_split(s, &how, &plan));
    CHECK_U64(plan.placing.n_devices, n_devices);
    if (n_devices == 2 && !mode[0]) {
        fly(s, FLIGHT_BATCH, true, &waits, &one);
        fly(s, (n_devices + 2) * FLIGHT_BATCH, true, &waits, &held);
        CHECK_U64(waits, n_devices);         /* at the end alone */
        CHECK(held > (n_devices + 1) * one); /* all were submitted before the first one's end */
    }
    fly(s, FLIGHT_PROMPT, true, &waits, &held);
    CHECK(memcmp(s->got, s->want, bytes) == 0);
    close_device(s);
    (void)setenv("STUB_CUDA", "", 1);
}

/* A device is lost while batches are in flight: nothing of them is held. */
static void check_lost(scene *s) {
    const split how = {.n_devices = 2, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CUDA};
    lb_resident_plan plan;
    lb_context *c = NULL;
    u8 want[FLIGHT_PROMPT] = {0};
    lb_context_opts o = options(s, true);
    (void)setenv("STUB_CUDA_LOST", "100", 1);
    CHECK_OK(open_split(s, &how, &plan));
    o.resident = s->resident;
    o.n_batch = FLIGHT_BATCH;
    CHECK_OK(lb_context_new(&c, s->m, &o, &err));
    const lb_batch b = {.n = FLIGHT_PROMPT, .id = ids, .want = want};
    CHECK(lb_context_eval(c, &b, NULL, &err) == LB_E_IO && says("the device was lost"));
    CHECK_U64(lb_context_length(c, 0), 0);
    lb_context_free(&c);
    close_device(s);
    (void)setenv("STUB_CUDA_LOST", "", 1);
}

/* Batches of a long prompt follow each other over the devices without the host. */
LB_TEST(device_flight) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    u32 waits, held;
    if (!stubbed())
        return;
    spec.n_layers = 3;
    CHECK(open_scene(&s, &spec, true));
    (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
    (void)setenv("STUB_CUDA_GPUS", "3", 1);
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CUDA}));
    fly(&s, FLIGHT_PROMPT, false, &waits, &held);
    memcpy(s.want, s.got, 3 * (size_t)s.n_vocab * sizeof(float));
    CHECK_U64(waits, 6); /* after each call */
    fly(&s, FLIGHT_PROMPT, true, &waits, &held);
    CHECK(memcmp(s.got, s.want, 3 * (size_t)s.n_vocab * sizeof(float)) == 0);
    close_device(&s);
    check_flight(&s, 2, "");
    check_flight(&s, 3, "");
    check_flight(&s, 2, "nopeer");
    check_lost(&s);
    (void)setenv("STUB_CUDA_GPUS", "2", 1);
    close_scene(&s);
}

/* Every layer shared by two devices: heads and columns, biases, joined matrices, blocks. */
static void one_shared(fm_family family, lb_dtype dtype) {
    fm_spec spec = small(family);
    split how = {.n_devices = 2, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CPU, .ranks = true};
    char what[64];
    scene s;
    spec.dtype = dtype;
    CHECK(open_scene(&s, &spec, true));
    (void)snprintf(what, sizeof what, "%s, shared", fm_family_name(family));
    check_split(&s, &how, 0, (u32[]){2, 2}, what);
    if (stubbed()) {
        (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
        how.kind = LB_DEV_CUDA;
        how.n_layers = 1; /* and one on the CPU */
        check_split(&s, &how, 1, (u32[]){2, 2}, what);
    }
    close_scene(&s);
}

LB_TEST(device_shared) {
    if (lb_test_full()) {
        one_shared(FM_LLAMA, LB_F32);
        one_shared(FM_QWEN3, LB_Q8_0);
    }
    one_shared(FM_QWEN2, LB_BF16);
    one_shared(FM_GEMMA3, LB_F16);
}

/* Layers' own inputs go along; layers that read an earlier one's keys stay with it. */
LB_TEST(device_split_inputs) {
    split how = {.n_devices = 2, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CPU};
    fm_spec spec = small(FM_GEMMA3);
    scene s;
    spec.n_layers = 6;
    CHECK(open_scene(&s, &spec, true));
    check_split(&s, &how, 0, (u32[]){3, 6}, "windows");
    how.n_layers = 4;
    check_split(&s, &how, 2, (u32[]){4, 6}, "windows, beside the CPU");
    close_scene(&s);
}

/* As many layers as fit, and the sequences of a cache that lies in two places. */
LB_TEST(device_fits) {
    fm_spec spec = small(FM_LLAMA);
    split how = {.n_devices = 1, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CUDA};
    lb_resident_plan plan;
    scene s;
    char text[32];
    if (!stubbed())
        return;
    spec.n_layers = 4;
    CHECK(open_scene(&s, &spec, true));
    (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
    CHECK_OK(open_split(&s, &how, &plan));
    CHECK(plan.placing.n_host == 0 && plan.placing.bytes[0] == plan.all);
    const u64 all = plan.all, layer = (plan.weights[0] + plan.kv[0]) / 8;
    close_device(&s);
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)(all - layer) * 33 / 32);
    (void)setenv("STUB_CUDA_MEMORY", text, 1);
    CHECK_OK(open_split(&s, &how, &plan));
    CHECK(plan.placing.n_host > 0 && plan.placing.n_host < 4 && plan.host_weights > 0);
    lb_context_opts o = options(&s, true);
    CHECK_OK(run(&s, &o, 7, s.got));
    check_near(&s, "as many layers as fit", N_TOKENS);
    lb_context *c[2] = {NULL};
    for (u32 d = 0; d < 2; d++) {
        float *to = d ? s.got : s.want;
        o = options(&s, d);
        CHECK_OK(lb_context_new(&c[d], s.m, &o, &err));
        CHECK_OK(eval(&s, c[d], 0, 20, 20, to));
        CHECK_OK(lb_context_copy(c[d], 0, 1, 13, &err));
        CHECK_OK(eval(&s, c[d], 40, 5, 5, to)); /* writes to a shared page */
        const u32 more[] = {3, 4, 5}, seq[] = {1, 1, 1};
        CHECK_OK(lb_context_eval(c[d], &(lb_batch){.n = 3, .id = more, .seq = seq},
                                 to + 5 * (size_t)s.n_vocab, &err));
    }
    check_near(&s, "shared pages in two places", 6);
    for (u32 d = 0; d < 2; d++) {
        float *to = d ? s.got : s.want;
        CHECK_OK(lb_context_shift(c[d], 0, 3, 7, &err));
        CHECK_OK(eval(&s, c[d], 50, 2, 2, to));
    }
    check_near(&s, "shifted in two places", 2);
    CHECK_U64(lb_context_cache_bytes(c[1]) + lb_context_rest_bytes(c[1]),
              lb_context_cache_bytes(c[0]) + lb_context_rest_bytes(c[0]));
    lb_context_free(&c[0]);
    lb_context_free(&c[1]);
    close_device(&s);
    (void)setenv("STUB_CUDA_MEMORY", "20000", 1);
    CHECK(open_split(&s, &how, &plan) == LB_E_LIMIT && says("it does not fit"));
    close_scene(&s);
}

/* A token's attention is as many splits as its positions need, and recordings hold as long as that
 * stays: of each number of splits one. */
LB_TEST(device_splits) {
    static const struct {
        u32 n, splits; /* tokens before the next one */
    } at[] = {{20, 2}, {253, 2}, {256, 4}, {300, 4}, {600, 8}};
    enum { MORE = 3, MOST = 604 };
    fm_spec spec = small(FM_LLAMA);
    u32 text[MOST];
    scene s;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU}));
    lb_dev_info *info = (lb_dev_info *)(uintptr_t)lb_dev_info_get(s.dev);
    info->n_units = 16; /* whatever this machine has: room for eight splits */
    for (u32 i = 0; i < MOST; i++)
        text[i] = (i * i + 5 * i) % s.n_vocab;
    for (u32 d = 0; d < 2; d++) {
        lb_context *c = NULL;
        lb_context_opts o = options(&s, d);
        float *to = d ? s.got : s.want;
        u32 n = 0, n_kept = 0;
        o.n_ctx = 700;
        o.n_batch = 256;
        o.kv_type = LB_F16;
        CHECK_OK(lb_context_new(&c, s.m, &o, &err));
        for (u32 k = 0; k < LB_LEN(at); n = at[k++].n + MORE) {
            if (at[k].n > n)
                CHECK_OK(
                    lb_context_eval(c, &(lb_batch){.n = at[k].n - n, .id = text + n}, to, &err));
            for (u32 i = 0; i < MORE; i++) {
                const u32 pos = at[k].n + i;
                CHECK_OK(lb_context_eval(c, &(lb_batch){.n = 1, .id = text + pos},
                                         to + k * (size_t)s.n_vocab, &err));
                if (d && i == 0)
                    CHECK_U64(c->device->n_splits, at[k].splits);
            }
        }
        for (u32 i = 0; d && i < LB_DRECORDS; i++)
            n_kept += c->device->record[i].graph != NULL;
        if (d)
            CHECK_U64(n_kept, 3);
        lb_context_free(&c);
    }
    const double d = off(&s, s.got, s.want, LB_LEN(at));
    if (!(d <= 1e-3))
        lb_test_fail(__FILE__, __LINE__, "splits: logits are off by %.3g", d);
    close_scene(&s);
}

/* Positions over several pages and splits, with a window; keys and values of all types. */
LB_TEST(device_long) {
    enum { LONG = 330 };
    /* a stored value may be rounded the other way after a sum in another order */
    static const struct {
        lb_dtype type;
        lb_kv_rotate rotate;
        double bound;
        u32 n;
    } kinds[] = {{LB_F16, LB_KV_ROTATE_AUTO, 1e-3, LONG},
                 {LB_F32, LB_KV_ROTATE_AUTO, BOUND, LONG},
                 {LB_F32, LB_KV_ROTATE_ON, BOUND, 90},
                 {LB_Q8_0, LB_KV_ROTATE_OFF, 5e-3, 90},
                 {LB_Q4_0, LB_KV_ROTATE_AUTO, 3e-2, 90}};
    fm_spec spec = small(FM_GEMMA3);
    scene s;
    u32 text[LONG];
    spec.n_layers = 6;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU}));
    for (u32 i = 0; i < LONG; i++)
        text[i] = (i * i + 7 * i) % s.n_vocab;
    for (u32 k = 0; k < LB_LEN(kinds); k++) {
        for (u32 d = 0; d < 2; d++) {
            lb_context *c = NULL;
            lb_context_opts o = options(&s, d);
            o.n_ctx = 700;
            o.n_batch = 256;
            o.kv_type = kinds[k].type;
            o.kv_rotate = kinds[k].rotate;
            CHECK_OK(lb_context_new(&c, s.m, &o, &err));
            float *to = d ? s.got : s.want;
            /* the longest once */
            const u32 n = (k && !lb_test_full() ? LB_MIN(kinds[k].n, 90) : kinds[k].n) - 1;
            CHECK_OK(lb_context_eval(c, &(lb_batch){.n = n, .id = text}, to, &err));
            CHECK_OK(lb_context_eval(c, &(lb_batch){.n = 1, .id = text + n}, to + s.n_vocab, &err));
            /* fewer rows leave than move up */
            CHECK_OK(lb_context_shift(c, 0, 5, n / 3, &err));
            CHECK_OK(lb_context_eval(c, &(lb_batch){.n = 1, .id = text}, to + 2 * s.n_vocab, &err));
            lb_context_free(&c);
        }
        const double d = off(&s, s.got, s.want, 3);
        if (!(d <= kinds[k].bound))
            lb_test_fail(__FILE__, __LINE__, "a long text, kind %u: logits are off by %.3g", k, d);
    }
    close_scene(&s);
}

/* What a device cannot do is said by name. */
/* ---- products of tiles of f16 ---- */

#define N_TILED 40u    /* more than tuning.def has for the kernels as C */
#define TILED_OFF 5e-3 /* of values of 11 bits, over two layers */

/* Logits of n tokens at once; *slot: bytes of the session's scratch for matrices as tiles. */
static bool run_once(const scene *s, const lb_context_opts *o, u32 n, float *out, u64 *slot) {
    lb_context *c = NULL;
    u8 want[N_TILED];
    memset(want, 1, sizeof want);
    bool ok = lb_context_new(&c, s->m, o, &err) == LB_OK;
    *slot = ok ? c->device->slot_bytes : 0;
    ok = ok && lb_context_eval(c, &(lb_batch){.n = n, .id = ids, .want = want}, out, &err) == LB_OK;
    lb_context_free(&c);
    return ok;
}

static u64 launches(const scene *s) {
    lb_dev_stats now;
    lb_dev_stats_get(s->dev, &now);
    return now.launches;
}

/* Near what f32 products come to, and not those. */
static void check_tiled(scene *s, const char *what) {
    float *exact = calloc((size_t)N_TILED * s->n_vocab, sizeof *exact);
    float *tiled = calloc((size_t)N_TILED * s->n_vocab, sizeof *tiled);
    lb_context_opts o = options(s, true);
    u64 slot, n[3];
    CHECK(exact && tiled);
    o.n_batch = N_TILED;
    n[0] = launches(s);
    CHECK(run_once(s, &o, N_TILED, exact, &slot) && slot == 0);
    n[1] = launches(s);
    o.acts = LB_ACTS_AUTO;
    CHECK(run_once(s, &o, N_TILED, tiled, &slot) && slot > 0);
    n[2] = launches(s);
    CHECK(n[2] - n[1] != n[1] - n[0]);
    const double d = off(s, tiled, exact, N_TILED);
    if (!(d > 1e-6 && d <= TILED_OFF))
        lb_test_fail(__FILE__, __LINE__, "%s: logits are off by %.3g", what, d);
    CHECK(run_once(s, &o, 23, tiled, &slot)); /* too few tokens */
    o.acts = LB_ACTS_EXACT;
    CHECK(run_once(s, &o, 23, exact, &slot));
    CHECK(memcmp(tiled, exact, 23 * s->n_vocab * sizeof *tiled) == 0);
    free(exact);
    free(tiled);
}

/* Parts with biases, norms behind a half, experts, rows that follow each other in one product (q of
 * 256 rows), an output of more rows than the scratch has. */
LB_TEST(device_tiles) {
    static const struct {
        fm_family family;
        lb_dtype dtype;
        bool gguf;
    } cases[] = {{FM_LLAMA, LB_Q8_0, true},
                 {FM_LLAMA, LB_BF16, false},
                 {FM_QWEN2, LB_F16, true},
                 {FM_GEMMA3, LB_Q4_0, true},
                 {FM_QWEN3_MOE, LB_Q8_0, true}};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        fm_spec spec = small(cases[i].family);
        scene s;
        spec.n_heads = 8;
        spec.dtype = cases[i].dtype;
        CHECK(open_scene(&s, &spec, cases[i].gguf));
        CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}));
        check_tiled(&s, fm_family_name(cases[i].family));
        close_scene(&s);
    }
}

/* What is stored as f32 stays so. */
LB_TEST(device_tiles_not_of_f32) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    u64 slot;
    spec.dtype = LB_F32;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}));
    lb_context_opts o = options(&s, true);
    o.acts = LB_ACTS_AUTO;
    o.n_batch = N_TILED;
    CHECK(run_once(&s, &o, 21, s.got, &slot) && slot == 0);
    close_scene(&s);
}

/* Memory that is too short for them, then for large batches. */
LB_TEST(device_tiles_without_room) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    lb_dev_stats used;
    lb_context *c;
    spec.dtype = LB_Q8_0;
    CHECK(open_scene(&s, &spec, true));
    for (u32 way = 0; way < 3; way++) {
        static const u32 n_batch[] = {N_TILED, 0, 256};
        u64 bytes[2];
        for (u32 k = 0; k < 2; k++) { /* what it takes without tiles; with so much */
            lb_dev_opts d = {.kind = LB_DEV_CPU, .exact = true};
            d.memory_bytes = k ? bytes[0] + 64 : 0;
            CHECK_OK(open_device(&s, &d));
            lb_context_opts o = options(&s, true);
            o.acts = k ? LB_ACTS_AUTO : LB_ACTS_EXACT;
            o.n_ctx = 600;
            o.n_batch = k ? n_batch[way] : way ? 256 : N_TILED;
            CHECK_OK(lb_context_new(&c, s.m, &o, &err));
            lb_dev_stats_get(s.dev, &used);
            bytes[k] = used.peak_bytes;
            CHECK(c->device->slot_bytes == 0);
            CHECK_U64(lb_context_n_batch(c), way ? 256 : N_TILED);
            lb_context_free(&c);
            close_device(&s);
        }
        CHECK(bytes[1] <= bytes[0] + 64);
    }
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}));
    lb_context_opts o = options(&s, true);
    o.acts = LB_ACTS_AUTO;
    o.n_ctx = 600;
    o.n_batch = 0;
    CHECK_OK(lb_context_new(&c, s.m, &o, &err));
    CHECK(c->device->slot_bytes > 0);
    CHECK_U64(lb_context_n_batch(c), 600);
    lb_context_free(&c);
    close_scene(&s);
}

/* Tokens of a batch where nobody says: by what the device has, how many there are, what is wanted.
 */
static u32 batch_of_plan(const scene *s, const split *how, const lb_context_opts *session) {
    lb_resident_plan plan = {0};
    lb_resident_opts o = split_opts(s, how);
    o.session = *session;
    return lb_resident_plan_make(&plan, s->m, &o, &err) == LB_OK &&
                   plan.placing.n_devices == how->n_devices
               ? plan.n_batch
               : 0;
}

/* Bytes that a session of batches of n takes, 0: of as many as it has then. */
static u64 bytes_of_session(scene *s, lb_context_opts o, u32 n, u32 *n_batch) {
    lb_context *c = NULL;
    lb_dev_stats used = {0};
    o.n_batch = n;
    lb_dev_pool_trim(s->more[0]);
    *n_batch = lb_context_new(&c, s->m, &o, &err) == LB_OK ? lb_context_n_batch(c) : 0;
    lb_dev_stats_get(s->more[0], &used);
    lb_context_free(&c);
    return used.used_bytes;
}

static void set_memory(u64 bytes) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    (void)setenv("STUB_CUDA_MEMORY", text, 1);
}

LB_TEST(device_batches) {
    split how = {.n_devices = 2, .n_layers = LB_NO_INDEX, .kind = LB_DEV_CUDA};
    fm_spec spec = small(FM_LLAMA);
    lb_resident_plan plan;
    scene s;
    u32 n = 0;
    if (!stubbed())
        return;
    CHECK(open_scene(&s, &spec, true));
    lb_context_opts o = options(&s, false), other;
    o.n_ctx = 8192;
    o.n_batch = 0;
    o.acts = LB_ACTS_AUTO;
    set_memory(4096ull * LB_MIB);
    CHECK_OK(open_split(&s, &how, &plan));
    CHECK_U64(batch_of_plan(&s, &how, &o), 2048);
    close_device(&s);
    how.n_devices = 1;
    (void)setenv("STUB_CUDA", "cc80", 1);
    CHECK_OK(open_split(&s, &how, &plan));
    CHECK_U64(batch_of_plan(&s, &how, &o), 2048);
    close_device(&s);
    (void)setenv("STUB_CUDA", "", 1);
    set_memory(256ull * LB_MIB);
    CHECK_OK(open_split(&s, &how, &plan));
    CHECK_U64(batch_of_plan(&s, &how, &o), 2048);
    close_device(&s);
    set_memory(4096ull * LB_MIB);
    CHECK_OK(open_split(&s, &how, &plan));
    other = o;
    other.acts = LB_ACTS_EXACT;
    CHECK_U64(batch_of_plan(&s, &how, &other), 2048);
    other = o;
    other.sums = true;
    CHECK_U64(batch_of_plan(&s, &how, &other), 2048);
    CHECK_U64(batch_of_plan(&s, &how, &o), 4096);
    /* the session has what the plan says; where memory has gone meanwhile, less */
    o.resident = s.resident;
    s.resident->n_batch = 4096;
    u64 bytes = bytes_of_session(&s, o, 0, &n);
    CHECK_U64(n, 4096);
    for (u32 want = 2048; want >= 256; want /= 8) {
        const u64 less = bytes_of_session(&s, o, want, &n);
        CHECK(less < bytes && n == want);
        lb_dev_pool_trim(s.more[0]);
        set_memory(less + (bytes - less) / 2);
        CHECK(bytes_of_session(&s, o, 0, &n) == less && n == want);
        bytes = less;
        set_memory(4096ull * LB_MIB);
    }
    close_device(&s);
    close_scene(&s);
}

LB_TEST(device_refusals) {
    fm_spec spec = small(FM_LLAMA);
    scene s;
    lb_context *c;
    CHECK(open_scene(&s, &spec, true));
    CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CPU}));
    lb_context_opts o = options(&s, true);
    o.acts = LB_ACTS_FAST;
    CHECK(lb_context_new(&c, s.m, &o, &err) == LB_E_UNSUPPORTED && says("--fast"));
    CHECK(c == NULL);
    close_device(&s);
    if (stubbed()) {
        (void)setenv("STUB_CUDA_MEMORY", "131072", 1);
        CHECK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CUDA}) == LB_E_NOMEM);
        if (!says("do not fit its free memory of 131 kB"))
            lb_test_fail(__FILE__, __LINE__, "'%s'", err.msg);
        close_device(&s);
        (void)setenv("STUB_CUDA_MEMORY", "8388608", 1);
        CHECK_OK(open_device(&s, &(lb_dev_opts){.kind = LB_DEV_CUDA}));
        o = options(&s, true);
        o.n_ctx = 1 << 20;
        CHECK(lb_context_new(&c, s.m, &o, &err) == LB_E_NOMEM);
        CHECK(says("no room for a session of 1048576 positions") && c == NULL);
        close_device(&s);
    }
    close_scene(&s);
}

LB_TEST_MAIN("slow")
