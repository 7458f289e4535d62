/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_sums.c: what a device adds up of the inputs of products is what the CPU's tap sees:
 * the same matrices, experts and counts, the same sums but for rounding; a second take has what
 * came since the first; layers of both; what is refused. */
#include "base/cpu.h"
#include "fake_model.h"
#include "model/resident.h"
#include "ops/load.h"
#include "ops/open.h"
#include "test.h"
#include <math.h>

#define N_PROMPT 19u
#define N_MORE 4u
#define BOUND 2e-4 /* of a column's sum, or of the matrix's largest by 1e-3 */

static lb_err err;
static lb_kernels kernels;

/* One matrix, or one of a stack. */
typedef struct entry {
    const lb_mweight *w;
    u32 expert;
    u64 n;
    double *sum; /* heap [w->n_cols] */
} entry;

typedef struct table {
    entry list[128];
    u32 n;
} table;

static entry *entry_of(table *t, const lb_mweight *w, u32 expert) {
    for (u32 i = 0; i < t->n; i++)
        if (t->list[i].w == w && t->list[i].expert == expert)
            return &t->list[i];
    LB_ASSERT(t->n < LB_LEN(t->list));
    entry *e = &t->list[t->n++];
    *e = (entry){w, expert, 0, lb_alloc_zero(w->n_cols, sizeof(double))};
    LB_ASSERT(e->sum);
    return e;
}

static void clear(table *t) {
    for (u32 i = 0; i < t->n; i++)
        lb_free(t->list[i].sum);
    t->n = 0;
}

static void tap(void *user, const lb_mweight *w, u32 expert, const float *x, size_t n_tokens,
                size_t stride) {
    entry *e = entry_of(user, w, expert);
    e->n += n_tokens;
    for (size_t t = 0; t < n_tokens; t++)
        for (u64 i = 0; i < w->n_cols; i++)
            e->sum[i] += (double)x[t * stride + i] * (double)x[t * stride + i];
}

static void add(void *user, const lb_mweight *w, u32 expert, const float *sums, u64 n_tokens) {
    entry *e = entry_of(user, w, expert);
    e->n += n_tokens;
    for (u64 i = 0; i < w->n_cols; i++)
        e->sum[i] += (double)sums[i];
}

static void check_same(table *want, table *got, const char *what) {
    if (want->n != got->n || !want->n)
        lb_test_fail(__FILE__, __LINE__, "%s: %u matrices, not %u", what, got->n, want->n);
    for (u32 i = 0; i < want->n; i++) {
        const entry *a = &want->list[i], *b = entry_of(got, a->w, a->expert);
        double most = 0;
        CHECK_U64(b->n, a->n);
        for (u64 k = 0; k < a->w->n_cols; k++)
            most = fmax(most, a->sum[k]);
        for (u64 k = 0; k < a->w->n_cols; k++)
            if (!(fabs(a->sum[k] - b->sum[k]) <= BOUND * (a->sum[k] + 1e-3 * most))) {
                lb_test_fail(__FILE__, __LINE__, "%s: %.*s: column %llu has %.9g, not %.9g", what,
                             LB_FMT(a->w->name), (unsigned long long)k, b->sum[k], a->sum[k]);
                break;
            }
    }
}

typedef struct scene {
    lb_source *source;
    lb_loaded *loaded;
    lb_dev *dev[2];
    lb_resident *resident;
    u32 ids[N_PROMPT + N_MORE];
} scene;

static bool open_scene(scene *s, fm_family family) {
    fm_spec spec = fm_tiny(family);
    *s = (scene){0};
    spec.hidden = 64;
    spec.ffn = 96;
    spec.n_heads = 4;
    spec.n_kv_heads = 2;
    spec.head_dim = 32;
    lb_kernels_init(&kernels, lb_cpu_isa());
    for (u32 i = 0; i < LB_LEN(s->ids); i++)
        s->ids[i] = (i * 37 + 11) % (u32)spec.vocab;
    return fm_write_hf(lb_test_dir(), &spec, &err) == LB_OK &&
           lb_open(&s->source, lb_test_dir(), &err) == LB_OK &&
           lb_load(&s->loaded, s->source,
                   &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = LB_MIB},
                   &err) == LB_OK;
}

static lb_context_opts options(const scene *s, table *t) {
    return (lb_context_opts){.n_ctx = 64,
                             .n_batch = 12,
                             .threads = 1,
                             .kv_type = LB_F32,
                             .acts = LB_ACTS_EXACT,
                             .tap = tap,
                             .tap_user = t,
                             .sums = s->resident != NULL,
                             .resident = s->resident};
}

static lb_status eval(lb_context *c, const u32 *ids, u32 n) {
    static float logits[4096];
    return lb_context_eval(c, &(lb_batch){.n = n, .id = ids}, logits, &err);
}

/* A prompt in batches; then tokens one by one, whose launches are recorded. */
static void run(const scene *s, table *prompt, table *more) {
    lb_context_opts o = options(s, prompt);
    lb_context *c = NULL;
    CHECK_OK(lb_context_new(&c, lb_loaded_model(s->loaded), &o, &err));
    CHECK_OK(eval(c, s->ids, N_PROMPT));
    CHECK_OK(lb_context_take_sums(c, add, prompt, &err));
    CHECK_OK(lb_context_take_sums(c, add, prompt, &err)); /* nothing is left */
    lb_context_free(&c);
    o.tap_user = more;
    CHECK_OK(lb_context_new(&c, lb_loaded_model(s->loaded), &o, &err));
    if (s->resident) {
        CHECK_OK(eval(c, s->ids, 3));
        CHECK_OK(lb_context_take_sums(c, NULL, NULL, &err)); /* as if it had not been */
        clear(more);                                         /* what the CPU's layers gave */
        CHECK(lb_context_cut(c, 0, 0));
    }
    for (u32 i = 0; i < N_MORE; i++)
        CHECK_OK(eval(c, s->ids + i, 1));
    CHECK_OK(lb_context_take_sums(c, add, more, &err));
    lb_context_free(&c);
}

static void close_devices(scene *s) {
    lb_resident_free(&s->resident);
    for (u32 i = 0; i < LB_LEN(s->dev); i++)
        lb_dev_close(&s->dev[i]);
}

static lb_resident_opts split_of(const scene *s, u32 n, u32 n_layers, bool ranks) {
    return (lb_resident_opts){
        .devices = s->dev,
        .n_devices = n,
        .n_layers = n_layers,
        .ranks = ranks,
        .session = {.n_ctx = 64, .threads = 1, .kv_type = LB_F32, .sums = true}};
}

/* Two devices, or one device and the CPU. */
static lb_status open_split(scene *s, u32 n, u32 n_layers, bool ranks) {
    lb_resident_plan plan;
    for (u32 i = 0; i < n; i++)
        LB_TRY(lb_dev_open(&s->dev[i], &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true}, &err));
    const lb_resident_opts o = split_of(s, n, n_layers, ranks);
    LB_TRY(lb_resident_plan_make(&plan, lb_loaded_model(s->loaded), &o, &err));
    return lb_resident_new_planned(&s->resident, lb_loaded_model(s->loaded), &o, &plan, &err);
}

static void one_family(fm_family family) {
    scene s;
    table want[2] = {{.n = 0}}, got[2] = {{.n = 0}};
    CHECK(open_scene(&s, family));
    run(&s, &want[0], &want[1]);
    static const u32 ways[][2] = {{1, LB_NO_INDEX}, {2, LB_NO_INDEX}, {1, 1}};
    for (u32 i = 0; i < LB_LEN(ways); i++) {
        CHECK_OK(open_split(&s, ways[i][0], ways[i][1], false));
        run(&s, &got[0], &got[1]);
        for (u32 k = 0; k < 2; k++) {
            check_same(&want[k], &got[k], fm_family_name(family));
            clear(&got[k]);
        }
        close_devices(&s);
    }
    clear(&want[0]);
    clear(&want[1]);
    lb_loaded_free(&s.loaded);
    lb_source_close(&s.source);
}

LB_TEST(sums_llama) {
    one_family(FM_LLAMA);
}
LB_TEST(sums_gemma3) {
    one_family(FM_GEMMA3);
}
LB_TEST(sums_qwen3_moe) {
    one_family(FM_QWEN3_MOE);
}

LB_TEST(sums_refused) {
    scene s;
    lb_context *c = NULL;
    table t = {.n = 0};
    CHECK(open_scene(&s, FM_LLAMA));
    CHECK(open_split(&s, 2, LB_NO_INDEX, true) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "--split-mode layer"));
    close_devices(&s);
    CHECK_OK(open_split(&s, 1, LB_NO_INDEX, false));
    lb_context_opts o = options(&s, &t);
    o.sums = false; /* a device does not show what it multiplies */
    CHECK(lb_context_new(&c, lb_loaded_model(s.loaded), &o, &err) == LB_E_UNSUPPORTED);
    close_devices(&s);
    lb_loaded_free(&s.loaded);
    lb_source_close(&s.source);
}

LB_TEST_MAIN("slow")
