/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_stream.c: a model whose weights are read while it runs: the same logits as where they
 * are mapped, with reads that fail at every place, stop short or are interrupted. */
#include "base/cpu.h"
#include "fake_model.h"
#include "model/partial.h"
#include "ops/load.h"
#include "ops/open.h"
#include "seam.h"
#include "test.h"
#include <errno.h>
#include <stdlib.h>

#define N_TOKENS 21u

static lb_err err;
static lb_kernels kernels;

typedef struct scene {
    lb_source *source;
    lb_loaded *loaded;
    const lb_model *m;
    float *want, *got; /* [n_vocab] */
    u64 least_bytes;   /* a limit with which it runs */
} scene;

static void close_scene(scene *s) {
    lb_loaded_free(&s->loaded);
    lb_source_close(&s->source);
    free(s->want);
    free(s->got);
}

static lb_status session(const scene *s, lb_context **c) {
    lb_context_opts o = {.n_ctx = 64, .n_batch = 8, .threads = 2, .kv_type = LB_F16};
    return lb_context_new(c, s->m, &o, &err);
}

/* Prompt and a few more: the last logits. */
static lb_status run(const scene *s, float *logits) {
    lb_context *c = NULL;
    u32 ids[N_TOKENS];
    lb_status st = session(s, &c);
    for (u32 i = 0; i < N_TOKENS; i++)
        ids[i] = (i * 37 + 11) % lb_model_n_vocab(s->m);
    if (st == LB_OK)
        st = lb_context_eval(c, &(lb_batch){.n = N_TOKENS - 4, .id = ids}, logits, &err);
    for (u32 i = N_TOKENS - 4; i < N_TOKENS && st == LB_OK; i++)
        st = lb_context_eval(c, &(lb_batch){.n = 1, .id = &ids[i]}, logits, &err);
    lb_context_free(&c);
    return st;
}

static void limit(const scene *s, u64 bytes) {
    lb_model_limit(s->m, &(lb_stream_limit){.total_bytes = bytes});
}

static bool is_on(const scene *s) {
    lb_stream_figures f;
    lb_stream_tell(lb_model_stream(s->m), &f);
    return f.streamed;
}

static bool open_scene(scene *s, fm_family family) {
    fm_spec spec = fm_tiny(family);
    lb_arena arena = {0};
    const char *path;
    *s = (scene){0};
    spec.n_layers = 6;
    lb_kernels_init(&kernels, lb_cpu_isa());
    bool ok =
        fm_write_gguf(lb_test_dir(), fm_family_name(family), &spec, &arena, &path, &err) == LB_OK &&
        lb_open(&s->source, path, &err) == LB_OK &&
        lb_load(&s->loaded, s->source,
                &(lb_load_opts){.kernels = &kernels, .threads = 2, .memory_bytes = LB_MIB},
                &err) == LB_OK;
    lb_arena_deinit(&arena);
    if (!ok)
        return false;
    s->m = lb_loaded_model(s->loaded);
    s->want = calloc(lb_model_n_vocab(s->m), sizeof(float));
    s->got = calloc(lb_model_n_vocab(s->m), sizeof(float));
    return s->want && s->got && run(s, s->want) == LB_OK && !is_on(s);
}

/* The least limit in steps of 64 KiB with which it runs; below it, it is refused. */
static bool find_least(scene *s) {
    for (u64 step = 1; step < 1024; step++) {
        s->least_bytes = step * 64 * LB_KIB;
        limit(s, s->least_bytes);
        lb_status st = run(s, s->got);
        if (st == LB_OK)
            return is_on(s);
        if (st != LB_E_LIMIT || !strstr(err.msg, "at least"))
            return false;
    }
    return false;
}

static bool same(const scene *s) {
    return memcmp(s->want, s->got, lb_model_n_vocab(s->m) * sizeof(float)) == 0;
}

static void every_limit(fm_family family) {
    scene s;
    lb_stream_figures f;
    CHECK(open_scene(&s, family) && find_least(&s) && same(&s));
    lb_stream_tell(lb_model_stream(s.m), &f);
    const u64 step = lb_test_full() ? 1 : 4;
    for (u64 more = 0; more < 20; more += step) {
        limit(&s, s.least_bytes + more * f.weights_bytes / 16);
        CHECK_OK(run(&s, s.got));
        CHECK(same(&s));
        if (!is_on(&s))
            break;
    }
    CHECK(!is_on(&s)); /* with enough, they stay where they are mapped */
    close_scene(&s);
}

LB_TEST(dense_under_every_limit) {
    every_limit(FM_LLAMA);
}

LB_TEST(experts_under_every_limit) {
    every_limit(FM_QWEN3_MOE);
}

/* All threads that read have ended, also those that read ahead of what was never asked for: the
 * seam may change. */
static void still(const scene *s) {
    lb_context *c = NULL;
    limit(s, 0);
    if (session(s, &c) == LB_OK)
        (void)lb_context_begin(c, &err);
    lb_context_free(&c);
}

/* A session under the least limit, with a seam. */
static lb_status run_with(const scene *s, const seam *sm) {
    still(s);
    seam_set(sm);
    limit(s, s->least_bytes);
    lb_status st = run(s, s->got);
    lb_err why = err;
    still(s);
    seam_set(&(seam){0});
    err = why;
    return st;
}

/* All weights copied, within a limit and without one; with one byte less they are refused. */
static void copies(fm_family family) {
    scene s;
    lb_stream_figures f;
    u64 low = 0, high = 64 * LB_MIB;
    CHECK(open_scene(&s, family));
    lb_model_limit(s.m, &(lb_stream_limit){.copy = true});
    CHECK_OK(run(&s, s.got));
    lb_stream_tell(lb_model_stream(s.m), &f);
    CHECK(f.copied && !f.pass_bytes && f.n_expert_slots == f.n_experts && same(&s));
    const u64 near = lb_test_full() ? 1 : 64 * LB_KIB * lb_test_stride(8);
    while (high - low > near) {
        u64 mid = low + (high - low) / 2;
        limit(&s, 0);
        CHECK_OK(run(&s, s.got)); /* from the map again */
        CHECK(!is_on(&s) && same(&s));
        lb_model_limit(s.m, &(lb_stream_limit){.total_bytes = mid, .copy = true});
        if (run(&s, s.got) == LB_OK) {
            CHECK(same(&s));
            high = mid;
        } else {
            CHECK(err.code == LB_E_LIMIT && strstr(err.msg, "--repack"));
            low = mid;
        }
    }
    CHECK(high > f.weights_bytes + 1);
    close_scene(&s);
}

LB_TEST(dense_copied) {
    copies(FM_LLAMA);
}

LB_TEST(experts_copied) {
    copies(FM_QWEN3_MOE);
}

static void every_read(fm_family family) {
    scene s;
    u64 n_failed = 0, n = 1;
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return;
    }
    CHECK(open_scene(&s, family) && find_least(&s) && run_with(&s, &(seam){0}) == LB_OK);
    for (;; n += 1 + lb_test_rand_below(n)) {
        lb_status st = run_with(&s, &(seam){.kinds = SEAM_READ, .at = n, .error = EIO});
        if (st == LB_OK)
            break;
        CHECK(st == LB_E_IO);
        CHECK(strstr(err.msg, lb_test_dir()) && strstr(err.msg, strerror(EIO)));
        n_failed++;
        CHECK_OK(run_with(&s, &(seam){0})); /* the disk is well again */
        CHECK(same(&s));
    }
    CHECK(n_failed > 4 && same(&s));
    CHECK_OK(run_with(&s, &(seam){.kinds = SEAM_READ, .short_io = true}));
    CHECK(same(&s));
    close_scene(&s);
}

LB_TEST(dense_reads_fail) {
    every_read(FM_LLAMA);
}

LB_TEST(reads_of_experts_fail) {
    every_read(FM_QWEN3_MOE);
}

/* Layers alone, in any order, and products of single matrices. */
LB_TEST(parts_of_a_model) {
    scene s;
    lb_context *c[2] = {0};
    float *x[2], *y[2];
    u32 ids[5] = {3, 1, 4, 1, 5};
    CHECK(open_scene(&s, FM_QWEN3_MOE) && find_least(&s));
    u32 n_embd = lb_model_n_embd(s.m), n_layers = lb_model_n_layers(s.m);
    const lb_mweights *w = lb_loaded_weights(s.loaded);
    for (u32 k = 0; k < 2; k++) {
        limit(&s, k ? s.least_bytes + LB_MIB / 4 : 0);
        x[k] = calloc(5ull * n_embd, sizeof(float));
        y[k] = calloc(5ull * 4096, sizeof(float));
        CHECK(x[k] && y[k] && session(&s, &c[k]) == LB_OK);
        CHECK_OK(lb_context_layers(c[k], 5, ids, 0, 4, x[k], &err));
        CHECK(is_on(&s) == (k == 1));
        CHECK(lb_context_cut(c[k], 0, 0));
        CHECK_OK(lb_context_layers(c[k], 5, ids, 1, 3, x[k], &err));
        CHECK(lb_context_cut(c[k], 0, 0));
        CHECK_OK(lb_context_layers(c[k], 5, ids, 0, n_layers, x[k], &err));
        CHECK_OK(lb_context_head(c[k], 1, x[k], y[k], &err));
        lb_context_free(&c[k]);
    }
    CHECK(memcmp(x[0], x[1], 5ull * n_embd * sizeof(float)) == 0);
    CHECK(memcmp(y[0], y[1], lb_model_n_vocab(s.m) * sizeof(float)) == 0);
    for (u64 i = 0; i < w->n; i++) {
        const lb_mweight *one = &w->list[i];
        if (!one->mats || one->n_rows / one->n_stack > 4096 ||
            lb_str_ends(one->name, LB_STR("embd.weight")))
            continue;
        for (u32 k = 0; k < 2; k++) {
            limit(&s, k ? s.least_bytes + LB_MIB / 4 : 0);
            CHECK_OK(session(&s, &c[k]));
            float *in = calloc(one->n_cols, sizeof(float));
            CHECK(in);
            for (u64 j = 0; j < one->n_cols; j++)
                in[j] = (float)(j % 7) - 3;
            CHECK_OK(lb_context_product(c[k], one, (u32)one->n_stack - 1, in, 1, y[k], &err));
            CHECK_OK(lb_context_product(c[k], one, 0, in, 1, y[k] + 4096, &err));
            free(in);
            lb_context_free(&c[k]);
        }
        CHECK(memcmp(y[0], y[1], 2 * 4096 * sizeof(float)) == 0);
    }
    for (u32 k = 0; k < 2; k++) {
        free(x[k]);
        free(y[k]);
    }
    close_scene(&s);
}

LB_TEST_MAIN("fast")
