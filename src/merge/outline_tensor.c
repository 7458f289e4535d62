/* SPDX-License-Identifier: Apache-2.0 */
/* outline_tensor.c: one tensor of the result: which inputs have it, whether the method takes them,
 * whether their shapes agree, what its parameters are (plan_tensor of mergekit 0.1.5's plan.py,
 * task_adapter.py, validate_ids of merge_methods/base.py). */
#include "merge/outline_internal.h"
#include "merge/settings.h"
#include <stdio.h>

lb_status lb_merge_maker_no_memory(const lb_merge_maker *k) {
    return lb_fail(k->err, LB_E_NOMEM, "%.*s: out of memory", LB_FMT(k->config->what));
}

static lb_str model_name(const lb_merge_maker *k, u32 model) {
    return k->config->models[model].text;
}

/* LB_NO_MODEL for methods that know none. */
static u32 base_of(const lb_merge_maker *k, const lb_merge_slice *s) {
    return k->method->base == LB_BASE_IGNORED ? LB_NO_MODEL : s->base;
}

static lb_status bad(const lb_merge_maker *k, const lb_merge_slice *s, lb_str name,
                     const char *text) {
    return lb_fail(k->err, LB_E_FORMAT, "%.*s: line %u: %.*s: %s%.*s%s%s", LB_FMT(k->config->what),
                   s->line, LB_FMT(s->where), name.len ? "tensor '" : "", LB_FMT(name),
                   name.len ? "': " : "", text);
}

/* "a, b and 3 more" */
static const char *name_list(const lb_merge_maker *k, const lb_merge_slice *s, const bool *there,
                             bool want, char *out, size_t cap) {
    size_t at = 0;
    u32 n = 0;
    out[0] = 0;
    for (u32 i = 0; i < s->n_sources; i++) {
        if (there && there[i] != want)
            continue;
        lb_str m = model_name(k, s->sources[i].model);
        if (n++ < 3 && at < cap)
            at += (size_t)snprintf(out + at, cap - at, "%s%.*s", n > 1 ? ", " : "",
                                   (int)LB_MIN(m.len, 100), m.ptr);
    }
    if (n > 3 && at < cap)
        (void)snprintf(out + at, cap - at, " and %u more", n - 3);
    return out;
}

static lb_status count_fault(const lb_merge_maker *k, const lb_merge_slice *s, const bool *there,
                             lb_str name, const char *what, const u32 limits[3]) {
    char text[700], list[400];
    u32 min = limits[0], max = limits[1], n = limits[2], limit = n < min ? min : max;
    (void)snprintf(text, sizeof text, "%s takes %s%u model%s%s; %s %u (%s)", k->method->name,
                   min == max ? ""
                   : n < min  ? "at least "
                              : "at most ",
                   limit, limit == 1 ? "" : "s", what, name.len ? "it is in" : "here are", n,
                   name_list(k, s, there, true, list, sizeof list));
    return bad(k, s, name, text);
}

lb_status lb_merge_contract(const lb_merge_maker *k, const lb_merge_slice *s, const bool *there,
                            lb_str name) {
    const lb_merge_method *m = k->method;
    u32 base = base_of(k, s), n = 0, n_base = 0;
    char text[400];
    for (u32 i = 0; i < s->n_sources; i++) {
        n += !there || there[i];
        n_base += (!there || there[i]) && s->sources[i].model == base;
    }
    if (base != LB_NO_MODEL && !n_base) {
        lb_str b = model_name(k, base);
        (void)snprintf(text, sizeof text,
                       name.len ? "is missing in the base, %.*s"
                                : "base_model %.*s is none of the sources",
                       (int)LB_MIN(b.len, 200), b.ptr);
        return bad(k, s, name, text);
    }
    if (m->base == LB_BASE_REQUIRED && !n_base) {
        (void)snprintf(text, sizeof text, "merge_method %s needs a base_model", m->name);
        return bad(k, s, name, text);
    }
    if (n < m->min_in || (m->max_in && n > m->max_in))
        return count_fault(k, s, there, name, "", (u32[]){m->min_in, m->max_in, n});
    if (n - n_base < m->min_non_base || (m->max_non_base && n - n_base > m->max_non_base))
        return count_fault(k, s, there, name, " beside the base",
                           (u32[]){m->min_non_base, m->max_non_base, n - n_base});
    return LB_OK;
}

/* ---- parameters ---- */

static const double *keep(lb_merge_maker *k, const double *values) {
    u32 n = k->method->n_params;
    if (k->last_param && memcmp(k->last_param, values, n * sizeof *values) == 0)
        return k->last_param;
    double *copy = lb_arena_new(k->perm, double, (u64)n + 1);
    if (copy && n)
        memcpy(copy, values, n * sizeof *values);
    return k->last_param = copy;
}

static lb_status resolve(lb_merge_maker *k, const lb_merge_group *g, const lb_merge_source *source,
                         lb_str name, const double **out) {
    double values[LB_MERGE_PARAMS_MAX] = {0};
    bool shared = source == NULL;
    lb_merge_place at = {.config = k->config,
                         .files = &k->out->files,
                         .levels = {source ? &source->settings : NULL, &g->slice->settings,
                                    &g->module->settings, &k->config->settings},
                         .tensor = name,
                         .t = g->t};
    if (source) {
        lb_str m = model_name(k, source->model);
        at.model = m.ptr;
        at.model_len = (int)m.len;
        at.implied = source->implied;
    }
    for (u32 i = 0; i < k->method->n_params; i++) {
        const lb_merge_param *p = &k->method->params[i];
        if ((p->scope == LB_MERGE_SHARED) != shared ||
            (p->scope == LB_MERGE_NON_BASE && source->model == base_of(k, g->slice)))
            continue;
        LB_TRY(lb_merge_setting_value(&at, p, &values[i], k->err));
    }
    *out = keep(k, values);
    return *out ? LB_OK : lb_merge_maker_no_memory(k);
}

/* ---- one tensor ---- */

typedef struct candidate {
    const lb_merge_group *g;
    const lb_merge_entry *kind;
    lb_str name;      /* of the result */
    const u32 *facts; /* [n_sources] LB_NO_FACT: it has none */
    const bool *there;
    u32 n_there, only; /* only: a source that has it */
    bool optional, vocab, buffer;
} candidate;

static const lb_merge_fact *fact_of(const lb_merge_maker *k, const candidate *c, u32 source) {
    const lb_merge_model *m = &k->world->models[c->g->slice->sources[source].model];
    const lb_merge_fact *f = &m->facts[c->facts[source]];
    return f->same_as == LB_NO_FACT ? f : &m->facts[f->same_as];
}

static lb_status shapes_differ(const lb_merge_maker *k, const candidate *c, u32 i, u32 j) {
    char text[700], a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
    const lb_merge_source *s = c->g->slice->sources;
    lb_str x = model_name(k, s[i].model), y = model_name(k, s[j].model);
    const lb_merge_fact *f = fact_of(k, c, i), *h = fact_of(k, c, j);
    bool types = lb_shape_eq(&f->shape, &h->shape);
    const char *hint = "";
    bool rows =
        f->shape.rank == h->shape.rank && f->shape.rank == 2 && f->shape.dim[1] == h->shape.dim[1];
    if (c->vocab && rows && k->config->vocab == LB_VOCAB_KEPT)
        hint = ": rows are tokens: say how they are joined (tokenizer_source: union or base)";
    (void)snprintf(text, sizeof text, "is %s in %.*s and %s in %.*s%s",
                   types ? lb_dtype_get(f->dtype)->name : lb_shape_text(&f->shape, a),
                   (int)LB_MIN(x.len, 100), x.ptr,
                   types ? lb_dtype_get(h->dtype)->name : lb_shape_text(&h->shape, b),
                   (int)LB_MIN(y.len, 100), y.ptr, hint);
    return bad(k, c->g->slice, c->name, text);
}

/* Rows of tokens are put in the same order first, where the file says how. */
static bool shapes_agree(const lb_merge_maker *k, const candidate *c, const lb_shape *a,
                         const lb_shape *b) {
    u32 free_dims = c->vocab && k->config->vocab != LB_VOCAB_KEPT && a->rank > 0;
    if (a->rank != b->rank)
        return false;
    for (u32 i = free_dims; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

static lb_status check_shapes(const lb_merge_maker *k, const candidate *c) {
    u32 first = LB_NO_FACT;
    for (u32 i = 0; i < c->g->slice->n_sources; i++) {
        if (!c->there[i])
            continue;
        if (first == LB_NO_FACT) {
            first = i;
            continue;
        }
        const lb_merge_fact *f = fact_of(k, c, first), *h = fact_of(k, c, i);
        if (!shapes_agree(k, c, &f->shape, &h->shape) ||
            (c->buffer && (f->dtype != h->dtype || f->is_buffer != h->is_buffer)))
            return shapes_differ(k, c, first, i);
    }
    return LB_OK;
}

static bool fits_donor(const lb_merge_maker *k, const candidate *c, u64 place,
                       const lb_shape *shape, const lb_merge_fact **seen) {
    const lb_merge_model *m = &k->world->models[0];
    const lb_merge_entry *e =
        lb_merge_entry_find(k->entries[0], m->n_facts, c->g->part, place, c->kind);
    if (!e)
        return false;
    const lb_merge_fact *f = &m->facts[e->fact];
    *seen = f->same_as == LB_NO_FACT ? f : &m->facts[f->same_as];
    if ((*seen)->shape.rank != shape->rank)
        return false;
    for (u32 i = c->vocab; i < shape->rank; i++)
        if ((*seen)->shape.dim[i] != shape->dim[i])
            return false;
    return true;
}

/* The result has the donor's config: what the donor has, in some layer, must have this shape there.
 * A stack of layers from models of two sizes is none that can run. */
static lb_status check_donor(const lb_merge_maker *k, const candidate *c) {
    const lb_merge_slice *s = c->g->slice;
    const lb_merge_fact *f = fact_of(k, c, c->only), *seen = NULL;
    u64 n = k->world->models[0].n_layers[c->g->part], own = c->g->place[c->only];
    char text[700], a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
    for (u32 i = 0; i < s->n_sources; i++)
        if (c->there[i] && s->sources[i].model == 0)
            return LB_OK;
    if (k->config->raw || fits_donor(k, c, own, &f->shape, &seen))
        return LB_OK;
    for (u64 i = 0; c->g->layer != LB_NO_LAYER && i < n; i++)
        if (fits_donor(k, c, LB_PLACE_LAYER(i), &f->shape, &seen))
            return LB_OK;
    if (!seen)
        return LB_OK;
    lb_str x = model_name(k, s->sources[c->only].model), y = model_name(k, 0);
    (void)snprintf(text, sizeof text, "is %s in %.*s and %s in %.*s, whose config the result has",
                   lb_shape_text(&f->shape, a), (int)LB_MIN(x.len, 100), x.ptr,
                   lb_shape_text(&seen->shape, b), (int)LB_MIN(y.len, 100), y.ptr);
    return bad(k, s, c->name, text);
}

static lb_status grow(lb_merge_maker *k) {
    lb_merge_outline *o = k->out;
    if (o->n_tensors < k->cap)
        return LB_OK;
    u64 cap = k->cap ? 2 * k->cap : 256;
    lb_merge_tensor *more = lb_arena_new(k->perm, lb_merge_tensor, cap);
    if (!more)
        return lb_merge_maker_no_memory(k);
    if (k->cap)
        memcpy(more, o->tensors, o->n_tensors * sizeof *more);
    o->tensors = more;
    k->cap = cap;
    return LB_OK;
}

static void mark(lb_merge_maker *k, const candidate *c, lb_merge_use use) {
    for (u32 i = 0; i < c->g->slice->n_sources; i++) {
        u32 model = c->g->slice->sources[i].model;
        if (!c->there[i])
            continue;
        u8 *at = &k->use[model][fact_of(k, c, i) - k->world->models[model].facts];
        *at = LB_MAX(*at, (u8)use); /* a layer may stand in several slices */
    }
}

/* method: NULL where the tensor is copied. */
static lb_status add_tensor(lb_merge_maker *k, const candidate *c, const lb_merge_method *method) {
    const lb_merge_group *g = c->g;
    LB_TRY(check_donor(k, c));
    LB_TRY(grow(k));
    lb_merge_tensor *t = &k->out->tensors[k->out->n_tensors];
    *t = (lb_merge_tensor){.name = c->name,
                           .module = g->part,
                           .layer = g->layer,
                           .method = method,
                           .equal = !method && c->buffer && c->n_there > 1,
                           .is_vocab = c->vocab,
                           .base = g->slice->base,
                           .slots = lb_arena_new(k->perm, lb_merge_slot, c->n_there)};
    if (!t->slots)
        return lb_merge_maker_no_memory(k);
    for (u32 i = 0; i < g->slice->n_sources; i++) {
        const lb_merge_source *s = &g->slice->sources[i];
        if (!c->there[i])
            continue;
        const lb_merge_model *m = &k->world->models[s->model];
        lb_merge_slot *slot = &t->slots[t->n_slots++];
        slot->model = s->model;
        slot->fact = (u32)(fact_of(k, c, i) - m->facts);
        slot->is_base = s->model == base_of(k, g->slice);
        /* Filters see the name that was asked for, also where a tied matrix stands in. */
        if (method)
            LB_TRY(resolve(k, g, s, m->facts[c->facts[i]].name, &slot->param));
    }
    if (method)
        LB_TRY(resolve(k, g, NULL, c->name, &t->param));
    k->out->n_tensors++;
    mark(k, c, LB_USE_TAKEN);
    return LB_OK;
}

/* Some inputs lack the tensor. *done: it was copied or left out. */
static lb_status on_lack(lb_merge_maker *k, const candidate *c, bool *done) {
    const lb_merge_slice *s = c->g->slice;
    const lb_merge_method *m = k->method;
    char text[600], list[400];
    bool base_alone = c->n_there == 1 && s->sources[c->only].model == base_of(k, s);
    if (!c->optional) {
        (void)snprintf(text, sizeof text, "is missing in %s",
                       name_list(k, s, c->there, false, list, sizeof list));
        return bad(k, s, c->name, text);
    }
    if ((m->lack == LB_LACK_COPY_ONE && c->n_there == 1) ||
        (m->lack == LB_LACK_COPY_BASE && base_alone) ||
        (m->lack == LB_LACK_BASE_OR_NOTHING && c->n_there < m->min_in && base_alone)) {
        *done = true;
        return add_tensor(k, c, NULL);
    }
    if (m->lack == LB_LACK_BASE_OR_NOTHING && c->n_there < m->min_in) {
        *done = true;
        mark(k, c, LB_USE_DROPPED);
    }
    return LB_OK;
}

static lb_status add_candidate(lb_merge_maker *k, const candidate *c) {
    bool done = false;
    if (c->n_there < c->g->slice->n_sources)
        LB_TRY(on_lack(k, c, &done));
    if (done)
        return LB_OK;
    LB_TRY(lb_merge_contract(k, c->g->slice, c->there, c->name));
    LB_TRY(check_shapes(k, c));
    return add_tensor(k, c, c->buffer ? NULL : k->method);
}

/* What comes before the layers is of the same models as what comes behind them: a matrix that is
 * tied in all of them is tied in the result. */
static bool same_ends(const lb_merge_group *g) {
    const lb_merge_slice *a = &g->module->slices[0], *b = g->slice;
    bool same = a->n_sources == b->n_sources;
    for (u32 i = 0; same && a != b && i < a->n_sources; i++)
        same = a->sources[i].model == b->sources[i].model;
    return same;
}

/* What the sources say of the tensor, and its name in the result. */
static lb_status describe(lb_merge_maker *k, const lb_merge_group *g, const lb_merge_entry *e,
                          const u32 *facts, bool *there, candidate *c) {
    bool own = g->layer == LB_NO_LAYER && !same_ends(g);
    *c = (candidate){.g = g, .kind = e, .name = e->head, .facts = facts, .there = there};
    for (u32 i = 0; i < g->slice->n_sources; i++) {
        const lb_merge_model *m = &k->world->models[g->slice->sources[i].model];
        there[i] = facts[i] != LB_NO_FACT;
        if (!there[i])
            continue;
        const lb_merge_fact *f = &m->facts[facts[i]];
        own |= f->same_as == LB_NO_FACT;
        c->n_there++;
        c->only = i;
        c->optional |= f->is_optional;
        c->vocab |= f->is_vocab;
        c->buffer |= fact_of(k, c, i)->is_buffer;
    }
    if (!own)
        c->n_there = 0;
    if (g->layer == LB_NO_LAYER)
        return LB_OK;
    c->name = lb_arena_printf(k->perm, "%.*s%u%.*s", LB_FMT(e->head), g->layer, LB_FMT(e->tail));
    return c->name.ptr ? LB_OK : lb_merge_maker_no_memory(k);
}

/* The sorted lists of the sources side by side: what stands first in one of them comes next. */
static lb_status walk(lb_merge_maker *k, const lb_merge_group *g, u32 *at, const u32 *end,
                      u32 *facts, bool *there) {
    const lb_merge_slice *s = g->slice;
    for (;;) {
        const lb_merge_entry *next = NULL;
        candidate c;
        for (u32 i = 0; i < s->n_sources; i++) {
            const lb_merge_entry *e = &k->entries[s->sources[i].model][at[i]];
            if (at[i] < end[i] && (!next || lb_merge_entry_cmp(e, next) < 0))
                next = e;
        }
        if (!next)
            return LB_OK;
        for (u32 i = 0; i < s->n_sources; i++) {
            const lb_merge_entry *e = &k->entries[s->sources[i].model][at[i]];
            bool has = at[i] < end[i] && lb_merge_entry_cmp(e, next) == 0;
            facts[i] = has ? e->fact : LB_NO_FACT;
            at[i] += has;
        }
        LB_TRY(describe(k, g, next, facts, there, &c));
        k->n_met++;
        if (c.n_there)
            LB_TRY(add_candidate(k, &c));
    }
}

lb_status lb_merge_group_add(lb_merge_maker *k, const lb_merge_group *g) {
    const lb_merge_slice *s = g->slice;
    lb_status st;
    u32 *at = lb_alloc_zero(3 * (size_t)s->n_sources, sizeof *at);
    bool *there = lb_alloc_zero(s->n_sources, sizeof *there);
    st = at && there ? LB_OK : lb_merge_maker_no_memory(k);
    if (st == LB_OK) {
        u32 *end = at + s->n_sources, *facts = end + s->n_sources;
        for (u32 i = 0; i < s->n_sources; i++) {
            u32 m = s->sources[i].model;
            lb_merge_entries_at(k->entries[m], k->world->models[m].n_facts, g->part, g->place[i],
                                &at[i], &end[i]);
        }
        st = walk(k, g, at, end, facts, there);
    }
    lb_free(at);
    lb_free(there);
    return st;
}
