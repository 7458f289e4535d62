/* SPDX-License-Identifier: Apache-2.0 */
/* merge_adapters.c: see merge_adapters.h. */
#include "ops/merge_adapters.h"
#include "ops/lora.h"

/* The same files read in the same way. */
static bool same_source(const lb_source *a, const lb_source *b) {
    if (a->n_files != b->n_files || a->n_inputs != b->n_inputs || a->n_weights != b->n_weights ||
        !a->computed != !b->computed || (a->computed && a->computed->bind != b->computed->bind))
        return false;
    for (u64 i = 0; i < a->n_files; i++)
        if (a->files[i].dev != b->files[i].dev || a->files[i].ino != b->files[i].ino)
            return false;
    for (u32 i = 0; i < a->n_inputs; i++)
        if (!same_source(a->inputs[i], b->inputs[i]))
            return false;
    return true;
}

static lb_status bad_model(const lb_merge_config *c, u32 i, const char *what, lb_err *err) {
    lb_str base = c->models[c->base].text;
    return lb_fail(
        err, LB_E_FORMAT,
        "%.*s: line %u: merge_method %.*s merges adapters of base_model ('%.*s+ADAPTER'): "
        "'%.*s' is %s",
        LB_FMT(c->what), c->models[i].line ? c->models[i].line : c->method_line, LB_FMT(c->method),
        LB_FMT(base), LB_FMT(c->models[i].text), what);
}

lb_status lb_merge_adapters_check(lb_source *const *models, const lb_merge_config *c, lb_err *err) {
    if (c->base == LB_NO_MODEL) /* the outline says so */
        return LB_OK;
    for (u32 i = 0; i < c->n_models; i++) {
        const lb_source *s = models[i];
        if (i == c->base)
            continue;
        if (!lb_lora_is(s))
            return bad_model(c, i, "a model without one", err);
        do
            s = s->inputs[0];
        while (lb_lora_is(s) && !same_source(s, models[c->base]));
        if (!same_source(s, models[c->base]))
            return bad_model(c, i, "one of another model", err);
    }
    return LB_OK;
}

lb_status lb_merge_adapters_terms(const lb_graph *g, lb_merge_input *in, u32 n, lb_arena *perm,
                                  lb_err *err) {
    lb_node_id base = LB_NODE_NONE;
    for (u32 i = 0; i < n; i++)
        if (in[i].is_base)
            base = in[i].x;
    for (u32 i = 0; i < n && base != LB_NODE_NONE; i++) {
        lb_terms *t = NULL;
        if (!in[i].is_base)
            LB_TRY(lb_expr_terms(g, in[i].x, base, perm, &t, err));
        in[i].terms = t;
    }
    return LB_OK;
}

/* Whether all inputs of the tensor have factors. */
static lb_status has_terms(const lb_graph *g, const lb_merge_tensor *t, const lb_merge_view *views,
                           lb_arena *perm, bool *all, lb_err *err) {
    lb_merge_input *in = lb_arena_new(perm, lb_merge_input, t->n_slots);
    if (!in)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the terms of adapters");
    for (u32 i = 0; i < t->n_slots; i++)
        in[i] = (lb_merge_input){.x = views[t->slots[i].model].nodes[t->slots[i].fact],
                                 .is_base = t->slots[i].is_base};
    LB_TRY(lb_merge_adapters_terms(g, in, t->n_slots, perm, err));
    *all = true;
    for (u32 i = 0; i < t->n_slots; i++)
        *all &= in[i].is_base || in[i].terms;
    return LB_OK;
}

lb_status lb_merge_adapters_note(const lb_graph *g, const lb_merge_outline *outline,
                                 const lb_merge_view *views, lb_arena *perm, lb_buf *notes,
                                 lb_err *err) {
    const lb_merge_tensor *first = NULL;
    u64 n = 0;
    for (u64 i = 0; i < outline->n_tensors; i++) {
        const lb_merge_tensor *t = &outline->tensors[i];
        bool all = true;
        if (t->method && t->method->of_adapters)
            LB_TRY(has_terms(g, t, views, perm, &all, err));
        first = all || first ? first : t;
        n += !all;
    }
    if (n)
        lb_buf_printf(notes,
                      "%llu tensors are more than the base and low-rank terms in some input (whole "
                      "tensors, biases, DoRA): the inner method merges their differences as they "
                      "are; the first is %.*s\n",
                      (unsigned long long)n, LB_FMT(first->name));
    return lb_buf_status(notes, err);
}
