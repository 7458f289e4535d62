/* SPDX-License-Identifier: Apache-2.0 */
/* outline.c: the tensors of a merge: modules and slices walked as mergekit 0.1.5's plan.py does.
 *
 * Before the layers: the first slice; behind them: the last one (of which mergekit takes no more
 * sources than the first has); there and in a slice of one layer's gradients t is 0 and 1. */
#include "merge/outline.h"
#include "merge/outline_internal.h"
#include "merge/settings.h"
#include <stdio.h>
#include <stdlib.h>

lb_status lb_merge_method_of(const lb_merge_config *c, const lb_merge_method **out, lb_err *err) {
    const char *names[64];
    u32 n = 0;
    const lb_merge_method *m;
    if ((*out = lb_merge_method_find(c->method)))
        return LB_OK;
    while (n + 1 < LB_LEN(names) && (m = lb_merge_method_at(n)))
        names[n++] = m->name;
    names[n] = NULL;
    const char *near = lb_merge_nearest(c->method, names);
    return lb_fail(err, LB_E_FORMAT, "%.*s: line %u: merge_method: there is no '%.*s'%s%s%s",
                   LB_FMT(c->what), c->method_line, LB_FMT(c->method),
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* ---- slices ---- */

static lb_str model_name(const lb_merge_maker *k, u32 model) {
    return k->config->models[model].text;
}

static u64 first_layer(const lb_merge_source *s) {
    return s->all ? 0 : s->first;
}

static u64 length(const lb_merge_maker *k, const lb_merge_source *s, u32 part) {
    return s->all ? k->world->models[s->model].n_layers[part] : s->end - s->first;
}

/* The first that counts: a model may lack a part (a vision tower) that others have. */
static const lb_merge_source *measure_of(const lb_merge_maker *k, const lb_merge_slice *s,
                                         u32 part) {
    for (u32 i = 0; i < s->n_sources; i++)
        if (!s->sources[i].all || length(k, &s->sources[i], part))
            return &s->sources[i];
    return &s->sources[0];
}

static u64 slice_length(const lb_merge_maker *k, const lb_merge_slice *s, u32 part) {
    return length(k, measure_of(k, s, part), part);
}

/* Ranges lie in their models and are equally long; no model comes twice; the method takes them. */
static lb_status check_slice(const lb_merge_maker *k, const lb_merge_slice *s, u32 part) {
    const lb_merge_config *c = k->config;
    u32 *seen = lb_alloc_zero(c->n_models, sizeof *seen);
    lb_status st = seen ? LB_OK : lb_merge_maker_no_memory(k);
    u64 n = slice_length(k, s, part);
    for (u32 i = 0; st == LB_OK && i < s->n_sources; i++) {
        const lb_merge_source *x = &s->sources[i], *y = measure_of(k, s, part);
        u64 has = k->world->models[x->model].n_layers[part];
        if (seen[x->model]++)
            st = lb_fail(k->err, LB_E_FORMAT, "%.*s: line %u: %.*s: model %.*s stands twice",
                         LB_FMT(c->what), x->line, LB_FMT(s->where),
                         LB_FMT(model_name(k, x->model)));
        else if (!x->all && x->end > has)
            st =
                lb_fail(k->err, LB_E_FORMAT,
                        "%.*s: line %u: %.*s: layer_range [%llu, %llu]: model %.*s has %llu layers",
                        LB_FMT(c->what), x->line, LB_FMT(s->where), (unsigned long long)x->first,
                        (unsigned long long)x->end, LB_FMT(model_name(k, x->model)),
                        (unsigned long long)has);
        else if (length(k, x, part) != n && !(x->all && has == 0))
            st = lb_fail(k->err, LB_E_FORMAT,
                         "%.*s: line %u: %.*s: %llu layers of %.*s, but %llu of %.*s: the sources "
                         "need the same number%s",
                         LB_FMT(c->what), x->line, LB_FMT(s->where), (unsigned long long)n,
                         LB_FMT(model_name(k, y->model)), (unsigned long long)length(k, x, part),
                         LB_FMT(model_name(k, x->model)),
                         x->all ? ": say which with `slices` and layer_range" : "");
    }
    lb_free(seen);
    return st == LB_OK ? lb_merge_contract(k, s, NULL, LB_STR_NONE) : st;
}

/* ---- modules ---- */

/* One group: place(first layer, i) is where it stands in each source. */
static lb_status add_group(lb_merge_maker *k, lb_merge_group *g, u64 (*place)(u64 first, u64 i),
                           u64 i) {
    const lb_merge_slice *s = g->slice;
    u64 *places = lb_alloc_zero(s->n_sources, sizeof *places);
    if (!places)
        return lb_merge_maker_no_memory(k);
    for (u32 j = 0; j < s->n_sources; j++)
        places[j] = place(first_layer(&s->sources[j]), i);
    g->place = places;
    lb_status st = lb_merge_group_add(k, g);
    lb_free(places);
    return st;
}

static u64 place_before(u64 first, u64 i) {
    (void)first, (void)i;
    return LB_PLACE_BEFORE;
}
static u64 place_behind(u64 first, u64 i) {
    (void)first, (void)i;
    return LB_PLACE_BEHIND;
}
static u64 place_layer(u64 first, u64 i) {
    return LB_PLACE_LAYER(first + i);
}
static u64 place_extra(u64 first, u64 i) {
    (void)first;
    return LB_PLACE_EXTRA(i);
}

static lb_status add_slice(lb_merge_maker *k, lb_merge_group g, lb_merge_part *part) {
    u64 n = slice_length(k, g.slice, g.part);
    const lb_merge_source *donor = &g.slice->sources[0];
    for (u32 i = 0; i < g.slice->n_sources; i++)
        if (g.slice->sources[i].model == 0)
            donor = &g.slice->sources[i];
    for (u64 i = 0; i < n; i++) {
        g.t = n > 1 ? (double)i / (double)(n - 1) : 1;
        g.layer = (u32)part->n_layers;
        part->from[part->n_layers++] =
            (lb_merge_layer){donor->model, (u32)(first_layer(donor) + i)};
        u64 before = k->n_met;
        LB_TRY(add_group(k, &g, place_layer, i));
        if (k->n_met == before && !donor->all) /* of all layers: those that there are */
            return lb_fail(
                k->err, LB_E_FORMAT, "%.*s: line %u: %.*s: model %.*s has no tensor of layer %llu",
                LB_FMT(k->config->what), g.slice->line, LB_FMT(g.slice->where),
                LB_FMT(model_name(k, donor->model)), (unsigned long long)(first_layer(donor) + i));
    }
    return LB_OK;
}

/* The next of them that a source has, from *i on. */
static bool next_extra(const lb_merge_maker *k, const lb_merge_group *g, u64 *i) {
    u64 next = UINT64_MAX;
    for (u32 s = 0; s < g->slice->n_sources; s++) {
        u32 m = g->slice->sources[s].model, n = k->world->models[m].n_facts, first, end;
        const lb_merge_entry *list = k->entries[m];
        lb_merge_entries_at(list, n, g->part, LB_PLACE_EXTRA(*i), &first, &end);
        if (first < n && list[first].module == g->part)
            next = LB_MIN(next, list[first].place - LB_PLACE_EXTRA(0));
    }
    *i = next;
    return next != UINT64_MAX;
}

/* Layers behind those that are counted, from the last slice. */
static lb_status add_extra(lb_merge_maker *k, lb_merge_group g, u64 n_layers) {
    g.t = 0;
    for (u64 i = 0; next_extra(k, &g, &i); i++) {
        if (n_layers + i >= LB_NO_LAYER)
            return lb_fail(k->err, LB_E_LIMIT, "%.*s: more than 2^32 layers",
                           LB_FMT(k->config->what));
        g.layer = (u32)(n_layers + i);
        LB_TRY(add_group(k, &g, place_extra, i));
    }
    return LB_OK;
}

static lb_status add_module(lb_merge_maker *k, const lb_merge_module *m, u32 part) {
    lb_merge_part *p = &k->out->parts[part];
    u64 n = 0;
    for (u32 i = 0; i < m->n_slices; i++) {
        LB_TRY(check_slice(k, &m->slices[i], part));
        n += slice_length(k, &m->slices[i], part);
    }
    if (n >= LB_NO_LAYER)
        return lb_fail(k->err, LB_E_LIMIT, "%.*s: more than 2^32 layers", LB_FMT(k->config->what));
    if (!(p->from = lb_arena_new(k->perm, lb_merge_layer, n + 1)))
        return lb_merge_maker_no_memory(k);
    lb_merge_group g = {.module = m, .part = part, .layer = LB_NO_LAYER, .slice = &m->slices[0]};
    LB_TRY(add_group(k, &g, place_before, 0));
    for (u32 i = 0; i < m->n_slices; i++) {
        g.slice = &m->slices[i];
        LB_TRY(add_slice(k, g, p));
    }
    LB_TRY(add_group(k, &g, place_behind, 0));
    return add_extra(k, g, p->n_layers);
}

static lb_status find_part(const lb_merge_maker *k, const lb_merge_module *m, u32 *out) {
    const lb_merge_world *w = k->world;
    lb_buf names = {0};
    for (u32 i = 0; i < w->n_modules; i++)
        if (lb_str_eq(w->modules[i], m->name) ||
            (w->n_modules == 1 && lb_str_eq_c(m->name, "default"))) {
            *out = i;
            return LB_OK;
        }
    for (u32 i = 0; i < w->n_modules; i++)
        lb_buf_printf(&names, "%s%.*s", i ? ", " : "",
                      LB_FMT(w->modules[i].len ? w->modules[i] : LB_STR("default")));
    lb_status st = lb_fail(
        k->err, LB_E_FORMAT, "%.*s: line %u: modules: the models have no '%.*s', they have %.*s",
        LB_FMT(k->config->what), m->line, LB_FMT(m->name), LB_FMT(lb_buf_str(&names)));
    lb_buf_deinit(&names);
    return st;
}

/* `models` of the whole file: each part in the same way. `slices` count the layers of one. */
static lb_status add_whole(lb_merge_maker *k, const lb_merge_module *m) {
    const lb_merge_world *w = k->world;
    if (w->n_modules > 1 && !m->slices[0].sources[0].all)
        return lb_fail(
            k->err, LB_E_FORMAT,
            "%.*s: line %u: slices: the models have several parts (%.*s, %.*s...): say of "
            "each what to do with `modules`",
            LB_FMT(k->config->what), m->line, LB_FMT(w->modules[0]), LB_FMT(w->modules[1]));
    for (u32 i = 0; i < w->n_modules; i++)
        LB_TRY(add_module(k, m, i));
    return LB_OK;
}

static lb_status add_named(lb_merge_maker *k) {
    const lb_merge_config *c = k->config;
    const lb_merge_world *w = k->world;
    bool *seen = lb_arena_new(k->perm, bool, w->n_modules);
    if (!seen)
        return lb_merge_maker_no_memory(k);
    for (u32 i = 0; i < c->n_modules; i++) {
        u32 part = 0;
        LB_TRY(find_part(k, &c->modules[i], &part));
        if (seen[part])
            return lb_fail(k->err, LB_E_FORMAT, "%.*s: line %u: modules: '%.*s' stands twice",
                           LB_FMT(c->what), c->modules[i].line, LB_FMT(w->modules[part]));
        seen[part] = true;
        LB_TRY(add_module(k, &c->modules[i], part));
    }
    for (u32 i = 0; i < w->n_modules; i++)
        for (u32 m = 0; !seen[i] && m < c->n_models; m++)
            for (u32 f = 0; f < w->models[m].n_facts; f++)
                if (w->models[m].facts[f].module == i)
                    return lb_fail(k->err, LB_E_FORMAT,
                                   "%.*s: line %u: modules: nothing is said of %.*s, and its "
                                   "tensors would be lost ('%.*s'...)",
                                   LB_FMT(c->what), c->modules[0].line, LB_FMT(w->modules[i]),
                                   LB_FMT(w->models[m].facts[f].name));
    return LB_OK;
}

/* ---- what is left ---- */

static bool is_input(const lb_merge_config *c, u32 model) {
    for (u32 i = 0; i < c->n_modules; i++)
        for (u32 s = 0; s < c->modules[i].n_slices; s++)
            for (u32 j = 0; j < c->modules[i].slices[s].n_sources; j++)
                if (c->modules[i].slices[s].sources[j].model == model)
                    return true;
    return false;
}

static lb_status list_skipped(lb_merge_maker *k) {
    lb_merge_outline *o = k->out;
    const lb_merge_world *w = k->world;
    u64 n = 0;
    for (u32 m = 0; m < k->config->n_models; m++)
        for (u32 f = 0; f < w->models[m].n_facts; f++)
            n += k->use[m][f] != LB_USE_TAKEN;
    if (!(o->skipped = lb_arena_new(k->perm, lb_merge_skip, n + 1)))
        return lb_merge_maker_no_memory(k);
    for (u32 m = 0; m < k->config->n_models; m++) {
        bool input = is_input(k->config, m);
        for (u32 i = 0; i < w->models[m].n_facts; i++) {
            const lb_merge_fact *f = &w->models[m].facts[i];
            bool of_layer = f->layer != LB_NO_LAYER && f->layer < w->models[m].n_layers[f->module];
            if (k->use[m][i] == LB_USE_TAKEN || f->same_as != LB_NO_FACT)
                continue;
            o->skipped[o->n_skipped++] =
                (lb_merge_skip){m, i,
                                k->use[m][i] == LB_USE_DROPPED ? LB_SKIP_METHOD
                                : !input                       ? LB_SKIP_DONOR
                                : of_layer                     ? LB_SKIP_LAYER
                                                               : LB_SKIP_ENDS};
        }
    }
    return LB_OK;
}

/* ---- order ---- */

typedef struct ordered {
    lb_str label;
    u64 at;
} ordered;

static int order_cmp(const void *x, const void *y) {
    const ordered *a = x, *b = y;
    int c = lb_str_cmp(a->label, b->label);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

/* Tasks run by the greatest of the names that they load (group_label in mergekit's io/tasks.py),
 * else as they were planned. */
static lb_status put_in_order(lb_merge_maker *k) {
    lb_merge_outline *o = k->out;
    ordered *list = lb_alloc_zero(o->n_tensors + 1, sizeof *list);
    lb_merge_tensor *sorted = lb_arena_new(k->perm, lb_merge_tensor, o->n_tensors + 1);
    if (!list || !sorted) {
        lb_free(list);
        return lb_merge_maker_no_memory(k);
    }
    for (u64 i = 0; i < o->n_tensors; i++) {
        const lb_merge_tensor *t = &o->tensors[i];
        list[i].at = i;
        for (u32 s = 0; s < t->n_slots; s++) {
            lb_str name = k->world->models[t->slots[s].model].facts[t->slots[s].fact].name;
            if (lb_str_cmp(name, list[i].label) > 0)
                list[i].label = name;
        }
    }
    qsort(list, o->n_tensors, sizeof *list, order_cmp);
    for (u64 i = 0; i < o->n_tensors; i++)
        sorted[i] = o->tensors[list[i].at];
    o->tensors = sorted;
    lb_free(list);
    return LB_OK;
}

lb_status lb_merge_files_of(const lb_merge_config *config, lb_arena *perm, lb_merge_files *out,
                            lb_err *err) {
    const lb_merge_method *m;
    LB_TRY(lb_merge_method_of(config, &m, err));
    return lb_merge_settings_files(config, m, perm, out, err);
}

static lb_status make(lb_merge_maker *k) {
    const lb_merge_config *c = k->config;
    const lb_merge_world *w = k->world;
    k->entries = lb_arena_new(k->perm, lb_merge_entry *, c->n_models);
    k->use = lb_arena_new(k->perm, u8 *, c->n_models);
    k->out->parts = lb_arena_new(k->perm, lb_merge_part, w->n_modules);
    k->out->notes = lb_arena_new(k->perm, lb_str, (u64)lb_merge_settings_count(c) + 1);
    LB_TRY(lb_merge_settings_files(c, k->method, k->perm, &k->out->files, k->err));
    if (!k->entries || !k->use || !k->out->parts || !k->out->notes)
        return lb_merge_maker_no_memory(k);
    LB_TRY(lb_merge_settings_check(c, k->method, k->perm, k->out->notes, &k->out->n_notes, k->err));
    for (u32 i = 0; i < c->n_models; i++) {
        LB_TRY(lb_merge_entries_make(&w->models[i], w->n_modules, model_name(k, i), k->perm,
                                     &k->entries[i], k->err));
        if (!(k->use[i] = lb_arena_new(k->perm, u8, (u64)w->models[i].n_facts + 1)))
            return lb_merge_maker_no_memory(k);
    }
    if (c->modules[0].name.len == 0)
        LB_TRY(add_whole(k, &c->modules[0]));
    else
        LB_TRY(add_named(k));
    LB_TRY(list_skipped(k));
    return put_in_order(k);
}

lb_status lb_merge_outline_make(const lb_merge_config *config, const lb_merge_method *method,
                                const lb_merge_world *world, lb_arena *perm, lb_merge_outline *out,
                                lb_err *err) {
    *out = (lb_merge_outline){0};
    if (!method)
        LB_TRY(lb_merge_method_of(config, &method, err));
    out->method = method;
    lb_merge_maker k = {
        .config = config, .method = method, .world = world, .perm = perm, .err = err, .out = out};
    return make(&k);
}
