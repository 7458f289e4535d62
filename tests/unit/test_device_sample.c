/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_sample.c: generating where a device gives back what the sampler needs of the logits,
 * against the same with all of them: the same tokens, for greedy and other chains. */
#include "base/cpu.h"
#include "fake_model.h"
#include "model/device_graph.h"
#include "model/resident.h"
#include "ops/generate.h"
#include "ops/load.h"
#include "ops/open.h"
#include "test.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define N_PROMPT 5u
#define N_MORE 6u

static lb_err err;
static lb_kernels kernels;

typedef struct scene {
    lb_source *source;
    lb_loaded *loaded;
    const lb_model *m;
    lb_dev *dev;
    lb_resident *resident;
    u32 prompt[N_PROMPT];
} scene;

static void close_scene(scene *s) {
    lb_resident_free(&s->resident);
    lb_dev_close(&s->dev);
    lb_loaded_free(&s->loaded);
    lb_source_close(&s->source);
}

static bool open_scene(scene *s, u32 n_vocab) {
    fm_spec spec = fm_tiny(FM_LLAMA);
    spec.hidden = 64;
    spec.ffn = 96;
    spec.n_heads = 4;
    spec.n_kv_heads = 2;
    spec.head_dim = 32;
    spec.vocab = n_vocab;
    *s = (scene){0};
    lb_kernels_init(&kernels, lb_cpu_isa());
    for (u32 i = 0; i < N_PROMPT; i++)
        s->prompt[i] = (i * 37 + 11) % n_vocab;
    const bool ok =
        fm_write_hf(lb_test_dir(), &spec, &err) == LB_OK &&
        lb_open(&s->source, lb_test_dir(), &err) == LB_OK &&
        lb_load(&s->loaded, s->source,
                &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = LB_MIB},
                &err) == LB_OK;
    if (ok)
        s->m = lb_loaded_model(s->loaded);
    return ok;
}

static lb_status open_device(scene *s, const lb_dev_opts *o) {
    LB_TRY(lb_dev_open(&s->dev, o, &err));
    return lb_resident_new(&s->resident, s->m, s->dev, &err);
}

/* *few: the device has chosen. */
static lb_status generate(const scene *s, const lb_sample_opts *so, bool all, lb_generated *out,
                          bool *few) {
    lb_context *c = NULL;
    lb_sampler *sampler = NULL;
    const lb_context_opts o = {.n_ctx = 64,
                               .n_batch = 4, /* a prompt in parts */
                               .threads = 1,
                               .kv_type = LB_F16,
                               .acts = LB_ACTS_EXACT,
                               .resident = s->resident};
    *out = (lb_generated){0};
    lb_status st = lb_context_new(&c, s->m, &o, &err);
    if (st == LB_OK)
        st = lb_sampler_new(&sampler, lb_model_n_vocab(s->m), so, &kernels, &err);
    if (st == LB_OK)
        st = lb_generate(
            c, s->prompt, N_PROMPT,
            &(lb_generate_opts){.n_max = N_MORE, .sampler = sampler, .all_logits = all}, out, &err);
    *few = c && c->first;
    lb_sampler_free(&sampler);
    lb_context_free(&c);
    return st;
}

static void check_same(const scene *s, const lb_sample_opts *so, bool by_device, const char *what) {
    lb_generated a, b;
    bool few;
    CHECK_OK(generate(s, so, true, &a, &few));
    CHECK(!few);
    CHECK_OK(generate(s, so, false, &b, &few));
    if (few != by_device)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, few ? "few logits" : "all logits");
    if (a.ids.len != N_MORE * 4 || a.ids.len != b.ids.len ||
        memcmp(a.ids.ptr, b.ids.ptr, a.ids.len) != 0)
        lb_test_fail(__FILE__, __LINE__, "%s: other tokens", what);
    lb_generated_deinit(&a);
    lb_generated_deinit(&b);
}

static void check_chains(const scene *s, u32 step, const char *what) {
    static const lb_logit_bias bias[] = {{5, 3}, {11, -INFINITY}, {77, 1.5f}};
    char text[96];
    for (u32 i = 0; i < 7; i += step) {
        lb_sample_opts o = lb_sample_defaults();
        o.seed = 1;
        o.temperature = i == 0 || i == 3 ? 0 : i == 1 ? 0.8f : 4; /* flat: many come */
        o.penalty_repeat = i == 2 || i == 3 ? 1.4f : 1;
        o.dry_multiplier = i == 4 ? 0.9f : 0;
        o.dry_allowed_length = 1;
        o.top_k = i == 5 ? 0 : i == 2 ? 700 : 40;
        o.min_p = i == 2 ? 0 : 0.01f;
        o.bias = bias;
        o.n_bias = i == 4 ? LB_LEN(bias) : 0;
        o.mirostat = i == 6 ? 2 : 0;
        (void)snprintf(text, sizeof text, "%s, chain %u", what, i);
        check_same(s, &o, i < 5, text);
    }
}

/* Every step-th chain. */
static void check_vocab(u32 n_vocab, u32 step, const lb_dev_opts *o) {
    scene s;
    if (open_scene(&s, n_vocab) && open_device(&s, o) == LB_OK)
        check_chains(&s, step, o->kind == LB_DEV_CUDA ? "CUDA" : "fibers");
    else
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    close_scene(&s);
}

/* Of several chunks of top_chunks, the last of them short. */
LB_TEST(candidates) {
    check_vocab(2100, 2, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true, .schedule = 3});
}

/* Fewer tokens than a chain keeps. */
LB_TEST(candidates_of_few) {
    check_vocab(300, 1, &(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true});
}

LB_TEST(candidates_through_pinned_memory) {
    const char *path = getenv("LB_TEST_STUB_CUDA");
    static void *library;
    if (!library && path && *path)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        lb_test_skip("no stand-in for the CUDA driver (LB_TEST_STUB_CUDA)");
        return;
    }
    (void)setenv("STUB_CUDA_MEMORY", "268435456", 1);
    check_vocab(300, 3, &(lb_dev_opts){.kind = LB_DEV_CUDA});
}

LB_TEST_MAIN("slow")
