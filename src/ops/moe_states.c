/* SPDX-License-Identifier: Apache-2.0 */
/* moe_states.c: see moe_gates.h. Source: get_hidden_states in moe/router.py of mergekit 0.1.5,
 * which runs the base in bf16 on prompts that are padded to one length. Here it runs as it is
 * stored, one prompt after the other: padding is no part of a mean. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/thread.h"
#include "ops/load.h"
#include "ops/moe_gates.h"
#include <math.h>

#define BUFFERS_BYTES (128 * LB_MIB)

typedef struct watch {
    u64 n_cols, n_layers, n_tokens; /* of the prompt */
    bool average;
    double *prompt; /* [n_layers, n_cols] of the prompt that is being read */
    double *list;   /* the same: the sum of a list's prompts */
} watch;

static void on_layer(void *user, u32 layer, const float *x, size_t n_tokens) {
    watch *w = user;
    double *to = w->prompt + layer * w->n_cols;
    if (!w->average) { /* parts of a long prompt come one after the other: the last counts */
        x += (n_tokens - 1) * w->n_cols;
        for (u64 i = 0; i < w->n_cols; i++)
            to[i] = x[i];
        return;
    }
    for (size_t t = 0; t < n_tokens; t++, x += w->n_cols)
        for (u64 i = 0; i < w->n_cols; i++)
            to[i] += x[i] / (double)w->n_tokens;
}

static lb_status read_prompt(lb_context *c, watch *w, const u32 *ids, u64 n, lb_err *err) {
    u8 *none = lb_alloc_zero(n ? n : 1, 1);
    if (!none)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a prompt");
    w->n_tokens = n;
    memset(w->prompt, 0, w->n_layers * w->n_cols * sizeof *w->prompt);
    (void)lb_context_cut(c, 0, 0);
    lb_status st =
        n ? lb_context_eval(c, &(lb_batch){.n = (u32)n, .id = ids, .want = none}, NULL, err)
          : lb_fail(err, LB_E_USAGE, "a prompt without tokens has no state");
    for (u64 i = 0; st == LB_OK && i < w->n_layers * w->n_cols; i++)
        w->list[i] += w->prompt[i];
    lb_free(none);
    return st;
}

/* out [n_layers, n_cols] += factor times the mean of the list's prompts. */
static lb_status read_list(lb_context *c, watch *w, const lb_moe_lists *l, u64 list, double factor,
                           double *out, lb_err *err) {
    const u64 first = list ? l->list_ends[list - 1] : 0, n = l->list_ends[list] - first;
    memset(w->list, 0, w->n_layers * w->n_cols * sizeof *w->list);
    for (u64 i = first; i < first + n; i++) {
        u64 from = i ? l->prompt_ends[i - 1] : 0;
        LB_TRY(read_prompt(c, w, l->ids + from, l->prompt_ends[i] - from, err));
    }
    for (u64 i = 0; n && i < w->n_layers * w->n_cols; i++)
        out[i] += factor * w->list[i] / (double)n;
    return LB_OK;
}

/* To length 1, as torch does it: a length below 1e-8 counts as that. */
static void put_gate(const lb_moe_gates *shape, u64 gate, const double *from, float *out) {
    for (u64 layer = 0; layer < shape->n_layers; layer++, from += shape->n_cols) {
        double sum = 0;
        float *to = out + (layer * shape->n_gates + gate) * shape->n_cols;
        for (u64 i = 0; i < shape->n_cols; i++)
            sum += from[i] * from[i];
        const double length = fmax(sqrt(sum), 1e-8);
        for (u64 i = 0; i < shape->n_cols; i++)
            to[i] = (float)(from[i] / length);
    }
}

static lb_status read_gates(lb_context *c, watch *w, const lb_moe_lists *l,
                            const lb_moe_gates *shape, double *gate, float *out, lb_err *err) {
    for (u64 g = 0; g < shape->n_gates; g++) {
        memset(gate, 0, w->n_layers * w->n_cols * sizeof *gate);
        LB_TRY(read_list(c, w, l, 2 * g, 1, gate, err));
        LB_TRY(read_list(c, w, l, 2 * g + 1, -1, gate, err));
        put_gate(shape, g, gate, out);
    }
    return LB_OK;
}

static u64 longest(const lb_moe_lists *l) {
    u64 most = 1;
    for (u64 i = 0; i < l->n_prompts; i++)
        most = LB_MAX(most, l->prompt_ends[i] - (i ? l->prompt_ends[i - 1] : 0));
    return most;
}

static u32 threads_of(const lb_moe_states_in *in) {
    return in->limits.threads ? in->limits.threads : lb_cpu_count();
}

static lb_status run(const lb_model *m, const lb_moe_lists *l, const lb_moe_states_in *in,
                     float *out, lb_err *err) {
    const lb_moe_gates *shape = in->shape;
    const u64 n = shape->n_layers * shape->n_cols;
    lb_context *c = NULL;
    watch w = {.n_cols = shape->n_cols,
               .n_layers = shape->n_layers,
               .average = in->mode == LB_MOE_HIDDEN_AVG};
    if (lb_model_n_layers(m) != shape->n_layers || lb_model_n_embd(m) != shape->n_cols)
        return lb_fail(err, LB_E_UNSUPPORTED, "the base runs with %u layers of %u",
                       lb_model_n_layers(m), lb_model_n_embd(m));
    double *room = lb_alloc(3 * n * sizeof *room);
    lb_status st = room ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for the routers");
    if (st == LB_OK)
        st = lb_context_new(&c, m,
                            &(lb_context_opts){.n_ctx = (u32)LB_MIN(longest(l), (u64)1 << 26),
                                               .threads = threads_of(in),
                                               .kv_type = LB_F32,
                                               .acts = LB_ACTS_EXACT,
                                               .on_layer = on_layer,
                                               .layer_user = &w},
                            err);
    if (st == LB_OK) {
        w.prompt = room;
        w.list = room + n;
        st = read_gates(c, &w, l, shape, room + 2 * n, out, err);
    }
    lb_context_free(&c);
    lb_free(room);
    return st;
}

lb_status lb_moe_states_read(const lb_moe_lists *l, const lb_moe_states_in *in, lb_arena *perm,
                             float **out, lb_err *err) {
    const lb_moe_gates *shape = in->shape;
    const u64 buffers = in->limits.buffers_bytes, base = lb_run_base_bytes(),
              process_bytes = base - LB_MIN(base, lb_mem_used());
    lb_kernels kernels;
    lb_loaded *loaded = NULL;
    *out = lb_arena_new(perm, float, shape->n_layers * shape->n_gates * shape->n_cols);
    if (!*out)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the routers");
    lb_kernels_init(&kernels, lb_sys_isa());
    lb_status st = lb_load(
        &loaded, in->base,
        &(lb_load_opts){.kernels = &kernels,
                        .threads = threads_of(in),
                        .memory_bytes = buffers ? LB_MIN(buffers, BUFFERS_BYTES) : BUFFERS_BYTES},
        err);
    if (st == LB_OK)
        lb_model_limit(lb_loaded_model(loaded),
                       &(lb_stream_limit){.total_bytes = in->limits.memory_bytes,
                                          .process_bytes = process_bytes});
    if (st == LB_OK)
        st = run(lb_loaded_model(loaded), l, in, *out, err);
    lb_loaded_free(&loaded);
    if (st != LB_OK)
        lb_err_context(err, "gate_mode %s: the base", lb_moe_gate_name(in->mode));
    return st;
}
