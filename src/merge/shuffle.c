/* SPDX-License-Identifier: Apache-2.0 */
/* shuffle.c: see shuffle.h. Source: scripts/layershuffle.py of mergekit 0.1.5; Python's random.py
 * and _randommodule.c (3.11) for the draws. */
#include "merge/shuffle.h"
#include "base/sysinfo.h"
#include "io/yaml.h"
#include "kernel/mt19937.h"
#include "merge/config_internal.h"
#include <math.h>

#define LAYERS_MAX 100000 /* of the result */

/* ---- Python's generator ---- */

typedef struct python {
    lb_kernels k;
    lb_mt19937 m;
} python;

/* random.seed(n): the key is n in 32-bit digits, the lowest first (init_by_array). */
static void seed_python(python *p, u64 n) {
    const u32 key[2] = {(u32)n, (u32)(n >> 32)}, len = key[1] ? 2 : 1;
    u32 s[LB_MT_WORDS], i = 1, j = 0;
    lb_mt19937_words(19650218, s);
    for (u32 k = 0; k < 624; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + j;
        j = (j + 1) % len;
        if (++i == 624) {
            s[0] = s[623];
            i = 1;
        }
    }
    for (u32 k = 0; k < 623; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - i;
        if (++i == 624) {
            s[0] = s[623];
            i = 1;
        }
    }
    s[0] = 0x80000000u;
    lb_kernels_init(&p->k, lb_sys_isa());
    lb_mt19937_begin(&p->m, &p->k, s);
}

static u32 next(python *p) {
    return lb_mt19937_next(&p->m, &p->k);
}

/* [0, 1) with 53 bits */
static double draw_unit(python *m) {
    u32 a = next(m) >> 5, b = next(m) >> 6;
    return (a * 67108864.0 + b) / 9007199254740992.0;
}

/* [0, n), n from 1 to 2^31: bits are drawn until they are below n. */
static u32 draw_below(python *m, u32 n) {
    u32 bits = 0, r;
    while (n >> bits)
        bits++;
    do
        r = next(m) >> (32 - bits);
    while (r >= n);
    return r;
}

/* ---- the file ---- */

static lb_status read_model(lb_merge_reader *r, const lb_json *v, lb_shuffle_model *out) {
    static const char *const keys[] = {"model", "weight", NULL};
    u32 index, before = r->path_len;
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *model = lb_merge_get(v, "model"), *weight = lb_merge_get(v, "weight");
    *out = (lb_shuffle_model){.weight = 1, .line = v->line};
    if (!model)
        return lb_merge_bad(r, v, "`model` is missing");
    lb_merge_enter(r, model->key);
    LB_TRY(lb_merge_read_ref(r, model, true, &index));
    out->text = r->config->models[index].text;
    lb_merge_leave(r, before);
    if (weight) {
        lb_merge_enter(r, weight->key);
        if (!lb_merge_as_float(weight, &out->weight))
            return lb_merge_bad(r, weight, "a number is needed");
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

static lb_status read_models(lb_merge_reader *r, const lb_json *list, lb_shuffle *out) {
    u32 before = lb_merge_enter(r, list->key);
    if (list->type != LB_JARRAY || list->n == 0)
        return lb_merge_bad(r, list, "a list of models is needed");
    if (!(out->models = lb_arena_new(r->perm, lb_shuffle_model, list->n)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = list->first; m; m = m->next) {
        u32 inner = lb_merge_enter_at(r, out->n_models);
        LB_TRY(read_model(r, m, &out->models[out->n_models++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_root(lb_merge_reader *r, const lb_json *root, lb_shuffle *out) {
    static const char *const keys[] = {"models", "full_random", "dtype", "random_seed", NULL};
    lb_merge_config *c = r->config;
    i64 seed = 0;
    if (root->type != LB_JOBJECT)
        return lb_merge_bad(r, root, "a mapping with the keys models, full_random... is needed");
    LB_TRY(lb_merge_keys(r, root, keys));
    const lb_json *models = lb_merge_get(root, "models"), *full = lb_merge_get(root, "full_random");
    const lb_json *s = lb_merge_get(root, "random_seed"), *dtype = lb_merge_get(root, "dtype");
    if (!models)
        return lb_merge_bad(r, root, "`models` is missing");
    LB_TRY(read_models(r, models, out));
    LB_TRY(lb_merge_read_dtype(r, root, "dtype", &c->has_dtype, &c->dtype));
    if (c->has_dtype)
        LB_TRY(lb_merge_text(r, dtype, &out->dtype));
    if (full && !lb_merge_as_bool(full, &out->full_random)) {
        lb_merge_enter(r, full->key);
        return lb_merge_bad(r, full, "true or false is needed");
    }
    if (s && (!lb_merge_as_int(s, &seed) || seed < 0)) {
        lb_merge_enter(r, s->key);
        return lb_merge_bad(r, s, "a whole number from 0 is needed");
    }
    out->has_seed = s != NULL;
    out->seed = (u64)seed;
    return LB_OK;
}

lb_status lb_shuffle_parse(lb_str text, const char *what, lb_arena *perm, lb_shuffle *out,
                           lb_err *err) {
    lb_merge_config config = {.what = lb_arena_str(perm, lb_str_c(what))};
    lb_merge_reader r = {.what = config.what, .perm = perm, .err = err, .config = &config};
    lb_json *root;
    *out = (lb_shuffle){0};
    if (!r.what.ptr)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", what);
    LB_TRY(lb_yaml_parse(text, what, 0, perm, &root, err));
    lb_status st = read_root(&r, root, out);
    lb_map_deinit(&r.refs);
    return st;
}

/* ---- the merge ---- */

typedef struct slice {
    u32 model;
    u64 first, end;
} slice;

typedef struct slices {
    lb_buf list; /* of slice */
    u64 n;
} slices;

static void push(slices *s, u32 model, u64 layer) {
    slice x = {model, layer, layer + 1};
    lb_buf_put(&s->list, (const char *)&x, sizeof x);
    s->n++;
}

/* random.choices: the first whose sum of weights up to it is above the draw. */
static void draw_models(const lb_shuffle *s, python *m, double total, slices *out) {
    for (u64 layer = 0; layer < s->models[0].n_layers; layer++) {
        double at = draw_unit(m) * total, sum = s->models[0].weight;
        u32 k = 0;
        while (k + 1 < s->n_models && !(at < sum))
            sum += s->models[++k].weight;
        push(out, k, layer);
    }
}

/* Of each model its share of layers, any of them at any place. (mergekit draws from as many of the
 * first layers as it takes, so that of half a model the last half never comes.) */
static void draw_layers(const lb_shuffle *s, python *m, slices *out) {
    for (u32 k = 0; k < s->n_models; k++) {
        u64 n = (u64)((double)s->models[k].n_layers * s->models[k].weight);
        for (u64 i = 0; i < n; i++)
            push(out, k, draw_below(m, (u32)s->models[k].n_layers));
    }
    slice *list = (slice *)(void *)out->list.ptr;
    for (u64 i = out->n; !out->list.oom && i-- > 1;) {
        u64 j = draw_below(m, (u32)i + 1);
        slice x = list[i];
        list[i] = list[j];
        list[j] = x;
    }
}

/* Where a model is to blame. */
static lb_status bad_model(const lb_shuffle_model *m, const char *why, lb_err *err) {
    if (m->line)
        return lb_fail(err, LB_E_FORMAT, "line %u: '%.*s': %s", m->line, LB_FMT(m->text), why);
    return lb_fail(err, LB_E_FORMAT, "'%.*s': %s", LB_FMT(m->text), why);
}

static lb_status check(const lb_shuffle *s, double *total, lb_err *err) {
    double n_layers = 0;
    *total = 0;
    for (u32 i = 0; i < s->n_models; i++) {
        const lb_shuffle_model *m = &s->models[i];
        if (!(m->weight >= 0 && m->weight <= LAYERS_MAX))
            return bad_model(m, "its weight is below 0 or no number", err);
        if (m->n_layers == 0 || m->n_layers > LAYERS_MAX)
            return bad_model(m, "it has no layers that are known", err);
        if (!s->full_random && m->weight > 0 && m->n_layers < s->models[0].n_layers)
            return bad_model(m, "it has fewer layers than the first model", err);
        *total += m->weight;
        n_layers += floor((double)m->n_layers * m->weight);
    }
    if (!(*total > 0))
        return lb_fail(err, LB_E_FORMAT, "the sum of the weights is 0: no model can be drawn");
    if (s->full_random && n_layers < 1)
        return lb_fail(err, LB_E_FORMAT,
                       "no layer is taken: full_random takes weight x layers of each model");
    if (s->full_random && n_layers > LAYERS_MAX)
        return lb_fail(err, LB_E_LIMIT, "more than %d layers", LAYERS_MAX);
    return LB_OK;
}

static void write_yaml(const lb_shuffle *s, const slices *all, lb_buf *out) {
    const slice *list = (const slice *)(const void *)all->list.ptr;
    lb_buf_put_c(out, "merge_method: passthrough\n");
    if (s->dtype.len)
        lb_buf_printf(out, "dtype: %.*s\n", LB_FMT(s->dtype));
    lb_buf_put_c(out, "slices:\n");
    for (u64 i = 0; i < all->n; i++) {
        slice x = list[i];
        while (i + 1 < all->n && list[i + 1].model == x.model && list[i + 1].first == x.end) {
            x.end++;
            i++;
        }
        lb_json name = {.type = LB_JSTRING, .text = s->models[x.model].text};
        lb_buf_put_c(out, "- sources:\n  - model: ");
        lb_json_write(out, &name, (lb_json_style){0}); /* which YAML reads as well */
        lb_buf_printf(out, "\n    layer_range: [%llu, %llu]\n", (unsigned long long)x.first,
                      (unsigned long long)x.end);
    }
}

lb_status lb_shuffle_make(const lb_shuffle *s, u64 seed, lb_buf *yaml, lb_err *err) {
    slices all = {0};
    python m;
    double total;
    LB_TRY(check(s, &total, err));
    seed_python(&m, seed);
    if (s->full_random)
        draw_layers(s, &m, &all);
    else
        draw_models(s, &m, total, &all);
    lb_status st = lb_buf_status(&all.list, err);
    if (st == LB_OK) {
        write_yaml(s, &all, yaml);
        st = lb_buf_status(yaml, err);
    }
    lb_buf_deinit(&all.list);
    return st;
}
