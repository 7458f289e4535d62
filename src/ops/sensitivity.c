/* SPDX-License-Identifier: Apache-2.0 */
/* sensitivity.c: see sensitivity.h. The states before one layer are kept for all tokens and go
 * forward layer by layer; each tensor of the layer is measured from there. */
#include "ops/sensitivity.h"
#include "base/os.h"
#include "model/logprob.h"
#include "ops/imatrix.h"
#include "ops/sensitivity_internal.h"
#include "quant/recipe.h"
#include <math.h>
#include <stdlib.h>

#define ROWS_BYTES_MAX (32 * LB_MIB) /* of logits at a time */
#define ANCHOR_BITS 4.5   /* of a value: the type that one of the anchors is nearest to */
#define CRITICAL_BITS 6.0 /* embeddings and head have no fewer: ops/quantize_gguf.c */

typedef struct target {
    const lb_mweight *w;
    u32 layer;  /* it is used from there on; n_layers: behind all */
    bool inner; /* in a layer: its inputs are recorded */
} target;

struct lb_sensor {
    lb_sensitivity *s;
    const lb_mweights *weights;
    const lb_kernels *k;
    lb_sensitivity_opts o;
    target *targets; /* [s->n_tensors], as s->tensors: by layer */
    lb_recording in;
    lb_recast cast;
    void *tables[LB_DTYPE_COUNT];
    lb_arena *perm;
    /* while it runs */
    lb_context *c, *runs; /* runs: may be on a device; else the same */
    const lb_model *m;
    u32 *ids;      /* [n_chunks, n_ctx] with BOS in place */
    u32 *next;     /* [n_chunks, n_scored] the tokens that are to be predicted */
    u32 n_part;    /* tokens at a time */
    u32 n_scored;  /* of a chunk */
    bool whole;    /* runs begin at the first layer */
    lb_room x;     /* [n_chunks, n_ctx, n_embd] states before the layer */
    lb_room base;  /* [n_chunks, n_scored, n_vocab] logits of the model as it is */
    float *part;   /* [n_part, n_embd] */
    float *logits; /* [n_rows, n_vocab]; also products */
    u32 n_rows;
    lb_logprob_pair *pair; /* [n_rows] */
    bool *bad;             /* [n_rows] no likeliest token */
    u64 done, total;
};

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for measuring");
}

static double bits_of(lb_dtype t) {
    const lb_dtype_info *d = lb_dtype_get(t);
    return 8.0 * d->block_bytes / d->block_elems;
}

/* ---- which tensors ---- */

static bool layer_of(lb_str name, u32 *layer) {
    u64 n = 0;
    size_t i = 4;
    if (!lb_str_starts(name, LB_STR("blk.")))
        return false;
    for (; i < name.len && name.ptr[i] >= '0' && name.ptr[i] <= '9'; i++)
        n = 10 * n + (u64)(name.ptr[i] - '0');
    *layer = (u32)n;
    return true;
}

/* Those that a recipe of llama-quantize would quantize. */
static lb_status quantized(const lb_sensor *s, const lb_gguf_meta *meta, bool *out, lb_err *err) {
    const lb_mweights *w = s->weights;
    lb_arena scratch = {0};
    lb_recipe_tensor *t = lb_arena_new(&scratch, lb_recipe_tensor, w->n + 1);
    lb_recipe_choice *ch = lb_arena_new(&scratch, lb_recipe_choice, w->n + 1);
    lb_recipe_model model;
    lb_recipe_opts o = {.recipe = LB_RECIPE_Q8_0, .requantize = true};
    lb_status st = t && ch ? lb_recipe_model_from_meta(meta, &model, err) : oom(err);
    for (u64 i = 0; i < w->n && st == LB_OK; i++)
        t[i] = (lb_recipe_tensor){
            .name = w->list[i].name, .shape = w->list[i].shape, .stored = LB_F32};
    if (st == LB_OK)
        st = lb_recipe_choose(&(lb_recipe_job){&o, &model, w->n, t}, ch, &scratch, err);
    for (u64 i = 0; i < w->n && st == LB_OK; i++)
        out[i] = ch[i].why != LB_WHY_KEPT && w->list[i].mats;
    lb_arena_deinit(&scratch);
    return st;
}

/* By layer, first those in front of all; then by name. */
static int by_place(const void *a, const void *b) {
    const target *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->inner != y->inner)
        return x->inner ? 1 : -1;
    return lb_str_cmp(x->w->name, y->w->name);
}

static lb_status list_targets(lb_sensor *s, const lb_gguf_meta *meta, lb_err *err) {
    const lb_mweights *w = s->weights;
    bool *is = lb_arena_new(s->perm, bool, w->n + 1);
    u64 n = 0;
    s->targets = lb_arena_new(s->perm, target, w->n + 1);
    if (!is || !s->targets)
        return oom(err);
    LB_TRY(quantized(s, meta, is, err));
    for (u64 i = 0; i < w->n; i++) {
        target t = {.w = &w->list[i]};
        if (!is[i] || (s->o.wanted && !s->o.wanted(s->o.user, t.w->name)))
            continue;
        t.inner = layer_of(t.w->name, &t.layer);
        if (lb_str_eq_c(t.w->name, "output.weight"))
            t.layer = UINT32_MAX;
        s->targets[n++] = t;
    }
    if (!n)
        return lb_fail(err, LB_E_USAGE, "no tensor of the model is to be measured");
    qsort(s->targets, n, sizeof *s->targets, by_place);
    s->s->n_tensors = n;
    return LB_OK;
}

static bool may_have(const lb_sensor *s, const target *t, lb_dtype d) {
    u64 n_mats;
    bool weighted =
        lb_quant_needs_importance(d) || d == LB_IQ3_XXS || d == LB_IQ2_S || d == LB_IQ1_M;
    return t->w->n_cols % lb_dtype_get(d)->block_elems == 0 &&
           (t->inner || bits_of(d) >= CRITICAL_BITS) &&
           (!weighted || (s->o.importance &&
                          lb_importance_of(s->o.importance, t->w->name, &t->w->shape, &n_mats)));
}

static lb_status make_results(lb_sensor *s, lb_err *err) {
    lb_sensitivity *r = s->s;
    r->tensors = lb_arena_new(s->perm, lb_sensitivity_tensor, r->n_tensors);
    for (u64 i = 0; r->tensors && i < r->n_tensors; i++) {
        lb_sensitivity_tensor *t = &r->tensors[i];
        *t = (lb_sensitivity_tensor){.name = s->targets[i].w->name,
                                     .shape = s->targets[i].w->shape,
                                     .kl = lb_arena_new(s->perm, double, r->n_types),
                                     .error = lb_arena_new(s->perm, double, r->n_types),
                                     .run = lb_arena_new(s->perm, bool, r->n_types)};
        if (!t->kl || !t->error || !t->run)
            return oom(err);
        for (u32 k = 0; k < r->n_types; k++)
            t->kl[k] = t->error[k] = (double)NAN;
    }
    return r->tensors ? LB_OK : oom(err);
}

lb_status lb_sensor_new(lb_sensor **out, lb_sensitivity *r, const lb_sensitivity_opts *o,
                        lb_arena *perm, lb_err *err) {
    lb_sensor *s = *out = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return oom(err);
    *s = (lb_sensor){.s = r, .weights = o->weights, .k = o->kernels, .o = *o, .perm = perm};
    s->in = (lb_recording){.weights = o->weights, .temp_dir = o->temp_dir};
    s->cast = (lb_recast){.k = o->kernels, .encoder = o->encoder, .temp_dir = o->temp_dir};
    lb_status st = list_targets(s, o->meta, err);
    if (st == LB_OK)
        st = make_results(s, err);
    if (st != LB_OK)
        lb_sensor_free(out);
    return st;
}

void lb_sensor_free(lb_sensor **sp) {
    lb_sensor *s = *sp;
    if (!s)
        return;
    lb_room_deinit(&s->in.rows);
    lb_free(s->in.list);
    lb_free(s->in.scale);
    lb_recast_deinit(&s->cast);
    lb_room_deinit(&s->x);
    lb_room_deinit(&s->base);
    lb_free(s->ids);
    lb_free(s->next);
    lb_free(s->part);
    lb_free(s->logits);
    lb_free(s->pair);
    lb_free(s->bad);
    lb_free(s);
    *sp = NULL;
}

void lb_sensor_tap(void *user, const lb_mweight *w, u32 expert, const float *x, size_t n_tokens,
                   size_t stride) {
    lb_sensor *s = user;
    if (s->in.of)
        lb_recording_take(&s->in, w, expert, x, n_tokens, stride);
}

u64 lb_sensor_scratch_bytes(const lb_sensor *s, u32 n_batch) {
    size_t n = 0;
    for (u64 i = 0; i < s->s->n_tensors; i++)
        for (u32 k = 0; k < s->s->n_types; k++)
            if (may_have(s, &s->targets[i], s->s->types[k]))
                n = LB_MAX(n, lb_recast_scratch_bytes(s->targets[i].w, s->s->types[k], n_batch));
    return n;
}

/* ---- runs ---- */

static void tell(lb_sensor *s, u64 more) {
    s->done += more;
    if (s->o.progress)
        s->o.progress(s->o.user, s->done, s->total);
}

static float *states(const lb_sensor *s, u32 chunk, u32 token) {
    return (float *)s->x.ptr + ((u64)chunk * s->o.n_ctx + token) * lb_model_n_embd(s->m);
}

/* What is done with the states of a part behind the last layer that was run. */
typedef lb_status part_fn(lb_sensor *s, u32 chunk, u32 at, u32 n, void *arg, lb_err *err);

/* All chunks through layers [first, end), from the states that are kept. */
static lb_status run_layers(lb_sensor *s, u32 first, u32 end, part_fn *fn, void *arg, lb_err *err) {
    lb_context *c = s->in.of ? s->c : s->runs; /* the CPU's shows what products read */
    u64 n_embd = lb_model_n_embd(s->m);
    for (u32 chunk = 0; chunk < s->o.n_chunks; chunk++) {
        (void)lb_context_cut(c, 0, 0);
        for (u32 at = 0, n; at < s->o.n_ctx; at += n) {
            n = lb_imatrix_part(s->n_part, s->o.n_ctx - at);
            if (first)
                memcpy(s->part, states(s, chunk, at), n * n_embd * sizeof(float));
            LB_TRY(lb_context_layers(c, n, s->ids + (u64)chunk * s->o.n_ctx + at, first, end,
                                     s->part, err));
            LB_TRY(s->in.err.code == LB_OK ? LB_OK : (*err = s->in.err).code);
            if (fn)
                LB_TRY(fn(s, chunk, at, n, arg, err));
        }
    }
    return LB_OK;
}

static lb_status keep_states(lb_sensor *s, u32 chunk, u32 at, u32 n, void *arg, lb_err *err) {
    (void)arg;
    (void)err;
    memcpy(states(s, chunk, at), s->part, (u64)n * lb_model_n_embd(s->m) * sizeof(float));
    return LB_OK;
}

/* Rows of logits of a part's scored tokens, some at a time. */
typedef lb_status rows_fn(lb_sensor *s, u64 row, u32 n, void *arg, lb_err *err);

static lb_status each_rows(lb_sensor *s, u32 chunk, u32 at, u32 n, rows_fn *fn, void *arg,
                           lb_err *err) {
    u32 first = s->o.n_ctx / 2, end = s->o.n_ctx - 1;
    u32 from = LB_MAX(at, first), to = LB_MIN(at + n, end);
    for (u32 k; from < to; from += k) {
        k = LB_MIN(to - from, s->n_rows);
        const float *x = s->part + (u64)(from - at) * lb_model_n_embd(s->m);
        LB_TRY(lb_context_head(s->runs, k, x, s->logits, err));
        LB_TRY(fn(s, (u64)chunk * s->n_scored + from - first, k, arg, err));
    }
    return LB_OK;
}

static float *base_row(const lb_sensor *s, u64 row) {
    return (float *)s->base.ptr + row * lb_model_n_vocab(s->m);
}

static lb_status keep_rows(lb_sensor *s, u64 row, u32 n, void *arg, lb_err *err) {
    u32 vocab = lb_model_n_vocab(s->m);
    (void)arg;
    memcpy(base_row(s, row), s->logits, (u64)n * vocab * sizeof(float));
    for (u32 i = 0; i < n; i++) {
        const float *l = s->logits + (u64)i * vocab;
        double nll = lb_log_sum_exp(s->k, l, vocab) - (double)l[s->next[row + i]];
        if (!isfinite(nll))
            return lb_fail(err, LB_E_FORMAT, "the model's logits are not finite");
        s->s->nll += nll;
        s->s->n_scored++;
    }
    return LB_OK;
}

static lb_status keep_logits(lb_sensor *s, u32 chunk, u32 at, u32 n, void *arg, lb_err *err) {
    return each_rows(s, chunk, at, n, keep_rows, arg, err);
}

typedef struct compare_job {
    lb_sensor *s;
    u64 row;
} compare_job;

static void compare_row(void *ctx, u64 item, void *scratch) {
    const compare_job *j = ctx;
    lb_sensor *s = j->s;
    u32 vocab = lb_model_n_vocab(s->m);
    (void)scratch;
    s->bad[item] = !lb_logprob_compare(base_row(s, j->row + item), s->logits + item * vocab, vocab,
                                       s->next[j->row + item], &s->pair[item]);
}

/* arg: the sum of the divergences. */
static lb_status compare_rows(lb_sensor *s, u64 row, u32 n, void *arg, lb_err *err) {
    compare_job j = {s, row};
    double *sum = arg;
    (void)err;
    lb_context_each(s->c, n, compare_row, &j);
    for (u32 i = 0; i < n; i++)
        *sum += s->bad[i] ? (double)INFINITY : s->pair[i].kl;
    return LB_OK;
}

static lb_status compare_part(lb_sensor *s, u32 chunk, u32 at, u32 n, void *arg, lb_err *err) {
    return each_rows(s, chunk, at, n, compare_rows, arg, err);
}

/* ---- one tensor ---- */

/* Where a run with the tensor in another form begins. */
static u32 first_layer(const lb_sensor *s, const target *t) {
    if (s->whole || (!t->inner && t->layer == 0))
        return 0;
    return t->inner ? t->layer : lb_model_n_layers(s->m);
}

/* The divergence with the type of s->cast in the tensor's place. */
static lb_status run_type(lb_sensor *s, const target *t, double *kl, lb_err *err) {
    u32 n_layers = lb_model_n_layers(s->m);
    double sum = 0;
    LB_TRY(lb_context_swap(s->runs, t->w, s->cast.mats, err));
    lb_status st = run_layers(s, first_layer(s, t), n_layers, compare_part, &sum, err);
    (void)lb_context_swap(s->runs, NULL, NULL, NULL);
    LB_TRY(st);
    *kl = isfinite(sum) ? sum / (double)s->s->n_scored : (double)NAN;
    tell(s, n_layers - first_layer(s, t) + 1);
    return LB_OK;
}

/* Which of the tensor's types are run: by bits, the one with the fewest, the one nearest to
 * ANCHOR_BITS, and between them and above it so many more. */
static u32 choose_anchors(const lb_sensor *s, const target *t, bool *run) {
    const lb_sensitivity *r = s->s;
    u32 order[LB_SENSITIVITY_TYPES_MAX], n = 0, near = 0, want;
    for (u32 k = 0; k < r->n_types; k++) {
        run[k] = false;
        if (!may_have(s, t, r->types[k]))
            continue;
        u32 at = n++;
        for (; at > 0 && bits_of(r->types[order[at - 1]]) > bits_of(r->types[k]); at--)
            order[at] = order[at - 1];
        order[at] = k;
    }
    want = !s->o.n_anchors || !t->inner ? n : LB_MIN(s->o.n_anchors, n);
    for (u32 i = 1; i < n; i++)
        if (fabs(bits_of(r->types[order[i]]) - ANCHOR_BITS) <
            fabs(bits_of(r->types[order[near]]) - ANCHOR_BITS))
            near = i;
    if (want == 1 && n)
        run[order[near]] = true;
    else if (want == 2)
        run[order[0]] = run[order[near ? near : n - 1]] = true;
    else
        for (u32 i = 0; i < want; i++)
            run[order[want > 1 ? (u64)i * (n - 1) / (want - 1) : 0]] = true;
    return want;
}

/* KL of the types that were not run, from those that were. */
static void fill_between(const lb_sensitivity *r, lb_sensitivity_tensor *t) {
    for (u32 k = 0; k < r->n_types; k++) {
        double e = t->error[k];
        u32 low = UINT32_MAX, high = UINT32_MAX; /* anchors around it */
        if (t->run[k] || !(e >= 0))
            continue;
        for (u32 a = 0; a < r->n_types; a++) {
            if (!t->run[a] || !(t->kl[a] > 0) || !(t->error[a] > 0))
                continue;
            if (t->error[a] <= e && (low == UINT32_MAX || t->error[a] > t->error[low]))
                low = a;
            if (t->error[a] >= e && (high == UINT32_MAX || t->error[a] < t->error[high]))
                high = a;
        }
        u32 one = low == UINT32_MAX ? high : low;
        if (e == 0 || one == UINT32_MAX) {
            t->kl[k] = e == 0 ? 0 : t->kl[k];
        } else if (low == UINT32_MAX || high == UINT32_MAX || t->error[low] == t->error[high]) {
            t->kl[k] = t->kl[one] * (e / t->error[one]);
        } else {
            double x0 = lb_log_f64(t->error[low]), x1 = lb_log_f64(t->error[high]);
            double y0 = lb_log_f64(t->kl[low]), y1 = lb_log_f64(t->kl[high]);
            t->kl[k] = lb_exp_f64(y0 + (y1 - y0) * (lb_log_f64(e) - x0) / (x1 - x0));
        }
    }
}

static lb_status record(lb_sensor *s, const target *t, lb_err *err) {
    s->in.of = t->w;
    s->in.n = s->in.n_rows = 0;
    lb_status st = run_layers(s, s->whole ? 0 : t->layer, t->layer + 1, NULL, NULL, err);
    s->in.of = NULL;
    tell(s, 1);
    return st;
}

static lb_status measure(lb_sensor *s, u64 i, lb_err *err) {
    const target *t = &s->targets[i];
    lb_sensitivity_tensor *r = &s->s->tensors[i];
    u64 n_tokens = (u64)s->o.n_chunks * s->o.n_ctx;
    s->cast.n_mats = 1;
    s->cast.importance = s->o.importance ? lb_importance_of(s->o.importance, t->w->name,
                                                            &t->w->shape, &s->cast.n_mats)
                                         : NULL;
    (void)choose_anchors(s, t, r->run);
    if (t->inner) {
        LB_TRY(record(s, t, err));
        LB_TRY(lb_recast_scales(&s->cast, t->w, &s->in, err));
    }
    for (u32 k = 0; k < s->s->n_types; k++) {
        lb_dtype d = s->s->types[k];
        if (!may_have(s, t, d))
            continue;
        LB_TRY(lb_recast_begin(&s->cast, t->w, d, s->o.refine, s->tables, s->perm, err));
        const bool codes = r->run[k] || lb_recast_is_there(&s->cast);
        lb_status st = codes ? lb_recast_codes(&s->cast, err) : LB_OK;
        if (st == LB_OK && r->run[k])
            st = run_type(s, t, &r->kl[k], err);
        if (st == LB_OK && t->inner)
            st = lb_recast_error(&s->cast, &s->in, &r->error[k], err);
        lb_recast_end(&s->cast);
        LB_TRY(st);
        r->error[k] /= (double)n_tokens;
        tell(s, 1);
    }
    fill_between(s->s, r);
    return LB_OK;
}

/* ---- all of it ---- */

static u64 units(const lb_sensor *s, u32 n_layers) {
    u64 n = 2ull * n_layers;
    for (u64 i = 0; i < s->s->n_tensors; i++) {
        bool run[LB_SENSITIVITY_TYPES_MAX];
        n += choose_anchors(s, &s->targets[i], run) *
             (u64)(n_layers - first_layer(s, &s->targets[i]) + 1);
        n += s->targets[i].inner;
        for (u32 k = 0; k < s->s->n_types; k++)
            n += may_have(s, &s->targets[i], s->s->types[k]);
    }
    return n;
}

static u64 largest_matrix_rows(const lb_sensor *s) {
    u64 n = 0;
    for (u64 i = 0; i < s->s->n_tensors; i++)
        n = LB_MAX(n, s->targets[i].w->n_rows / s->targets[i].w->n_stack);
    return n;
}

static lb_status make_rooms(lb_sensor *s, lb_err *err) {
    u64 n_embd = lb_model_n_embd(s->m), vocab = lb_model_n_vocab(s->m);
    u64 n_tokens = (u64)s->o.n_chunks * s->o.n_ctx, n_rows = (u64)s->o.n_chunks * s->n_scored;
    s->n_part = LB_MIN(lb_context_n_batch(s->c), lb_context_n_batch(s->runs));
    s->n_part = LB_MIN(s->n_part, s->o.n_ctx);
    s->n_rows =
        (u32)LB_MIN(LB_MAX(ROWS_BYTES_MAX / (vocab * sizeof(float)), (u64)1), (u64)s->n_part);
    LB_TRY(lb_room_need(&s->x, n_tokens * n_embd * sizeof(float), 0, s->o.temp_dir, err));
    LB_TRY(lb_room_need(&s->base, n_rows * vocab * sizeof(float), 0, s->o.temp_dir, err));
    s->ids = lb_alloc(n_tokens * sizeof *s->ids);
    s->next = lb_alloc(n_rows * sizeof *s->next);
    s->part = lb_alloc(s->n_part * n_embd * sizeof *s->part);
    u64 floats = LB_MAX((u64)s->n_rows * vocab, largest_matrix_rows(s));
    s->logits = lb_alloc(floats * sizeof *s->logits);
    s->cast.c = s->c;
    s->cast.out = s->logits;
    s->cast.n_out = floats;
    s->pair = lb_alloc(s->n_rows * sizeof *s->pair);
    s->bad = lb_alloc(s->n_rows * sizeof *s->bad);
    return s->ids && s->next && s->part && s->logits && s->pair && s->bad ? LB_OK : oom(err);
}

static void take_text(lb_sensor *s, const u32 *ids) {
    u32 n_ctx = s->o.n_ctx, first = n_ctx / 2;
    memcpy(s->ids, ids, (u64)s->o.n_chunks * n_ctx * sizeof *ids);
    for (u32 i = 0; i < s->o.n_chunks; i++) {
        for (u32 k = 0; k < s->n_scored; k++)
            s->next[(u64)i * s->n_scored + k] = ids[(u64)i * n_ctx + first + k + 1];
        if (s->o.bos != LB_NO_INDEX)
            s->ids[(u64)i * n_ctx] = s->o.bos;
    }
}

static lb_status run_all(lb_sensor *s, lb_err *err) {
    u32 n_layers = lb_model_n_layers(s->m);
    u64 at = 0, n = s->s->n_tensors;
    LB_TRY(run_layers(s, 0, n_layers, keep_logits, NULL, err));
    tell(s, n_layers);
    for (u32 layer = 0; layer <= n_layers; layer++) {
        for (; at < n && (s->targets[at].layer == layer || layer == n_layers); at++)
            LB_TRY(measure(s, at, err));
        if (layer == n_layers || at == n)
            break;
        if (!s->whole)
            LB_TRY(run_layers(s, layer, layer + 1, keep_states, NULL, err));
        tell(s, 1);
    }
    return LB_OK;
}

lb_status lb_sensor_run(lb_sensor *s, lb_context *c, lb_context *run, const u32 *ids, u64 n,
                        lb_err *err) {
    u64 chunks = n / s->o.n_ctx;
    s->c = c;
    s->runs = run;
    s->m = lb_context_model(c);
    s->whole = lb_model_shares_keys(s->m);
    s->n_scored = s->o.n_ctx - 1 - s->o.n_ctx / 2;
    if (chunks < 1)
        return lb_fail(err, LB_E_USAGE,
                       "the text has %llu tokens: at least one chunk of --ctx %u is needed",
                       (unsigned long long)n, s->o.n_ctx);
    s->o.n_chunks = (u32)LB_MIN(chunks, (u64)LB_MAX(s->o.n_chunks, 1u));
    s->s->n_ctx = s->o.n_ctx;
    s->s->n_chunks = s->o.n_chunks;
    s->s->refine = s->o.refine;
    LB_TRY(make_rooms(s, err));
    take_text(s, ids);
    s->total = units(s, lb_model_n_layers(s->m));
    return run_all(s, err);
}
