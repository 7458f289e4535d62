/* SPDX-License-Identifier: Apache-2.0 */
/* sample_candidates.c: what a sampler needs of the logits, and sampling from that alone.
 *
 * A chain whose first step that drops candidates is top-k chooses among k of them. Steps before it
 * change logits of tokens that are known beforehand: those of the windows, those that have a bias.
 * So the k best are among these tokens and the first k of all others, which are among the first
 * k + (number of these tokens) of all. A chain that takes the largest logit needs one. */
#include "model/sample_internal.h"
#include <float.h>
#include <math.h>

#define NONE UINT64_MAX

static bool changes(const lb_sampler *s, lb_sample_step step) {
    return step == LB_SAMPLE_PENALTIES ? lb_sample_penalizes(&s->o)
                                       : step == LB_SAMPLE_DRY && s->dry_window;
}

/* Whether a step may do anything but change logits of known tokens, take the k largest, or the
 * largest. */
static bool looks_at_all(const lb_sample_opts *o, lb_sample_step step) {
    switch (step) {
    case LB_SAMPLE_TOP_N_SIGMA:
        return o->top_n_sigma > 0;
    case LB_SAMPLE_TYPICAL:
        return o->typical < 1;
    case LB_SAMPLE_TOP_P:
        return o->top_p < 1;
    case LB_SAMPLE_MIN_P:
        return o->min_p > 0;
    case LB_SAMPLE_XTC:
        return o->xtc_probability > 0 && o->xtc_threshold <= 0.5f;
    case LB_SAMPLE_TEMPERATURE:
        return true;
    default:
        return false;
    }
}

/* Whether the chain takes the largest logit: no step drops it, and none changes logits once others
 * are dropped. */
static bool takes_largest(const lb_sampler *s) {
    const lb_sample_opts *o = &s->o;
    bool dropped = false, last = false;
    for (u32 i = 0; i < o->n_order; i++) {
        const lb_sample_step step = (lb_sample_step)o->order[i];
        if ((dropped && changes(s, step)) ||
            ((step == LB_SAMPLE_TYPICAL || step == LB_SAMPLE_XTC) && looks_at_all(o, step)))
            return false;
        dropped |= looks_at_all(o, step) || (step == LB_SAMPLE_TOP_K && o->top_k > 0);
        last |= step == LB_SAMPLE_TEMPERATURE;
    }
    return last && o->temperature <= 0 && o->dynatemp_range <= 0;
}

/* How many of the largest the chain needs; 0: all. */
static u32 n_needed(const lb_sampler *s) {
    const lb_sample_opts *o = &s->o;
    if (o->mirostat)
        return 0;
    if (takes_largest(s))
        return 1;
    for (u32 i = 0; i < o->n_order; i++) {
        if (o->order[i] == LB_SAMPLE_TOP_K && o->top_k > 0)
            return LB_MIN((u32)o->top_k, s->n_vocab);
        if (looks_at_all(o, (lb_sample_step)o->order[i]))
            return 0;
    }
    return 0;
}

/* Each of n tokens once; false: they are too many. */
static bool touch(lb_sampler *s, const u32 *tokens, u32 n) {
    for (u32 i = 0; i < n; i++) {
        u64 *mark = &s->keys[tokens[i]];
        if (*mark != NONE)
            continue;
        if (s->n_touched == LB_SAMPLE_TOUCHED_MAX)
            return false;
        *mark = s->n_touched;
        s->touched[s->n_touched++] = tokens[i];
    }
    return true;
}

/* Tokens whose logits the chain may change; false: too many to name. */
static bool find_touched(lb_sampler *s) {
    bool penalties = false, dry = false;
    const lb_sample_opts *o = &s->o;
    for (u32 i = 0; i < o->n_order; i++) {
        penalties |= o->order[i] == LB_SAMPLE_PENALTIES && changes(s, LB_SAMPLE_PENALTIES);
        dry |= o->order[i] == LB_SAMPLE_DRY && changes(s, LB_SAMPLE_DRY);
    }
    const u32 n = penalties ? s->window_n : 0, n_dry = dry ? s->dry_n : 0;
    s->n_touched = 0;
    for (u32 i = 0; i < o->n_bias; i++)
        s->keys[o->bias[i].token] = NONE;
    for (u32 i = 0; i < n; i++)
        s->keys[s->window[i]] = NONE;
    for (u32 i = 0; i < n_dry; i++)
        s->keys[s->dry_window[i]] = NONE;
    for (u32 i = 0; i < o->n_bias; i++)
        if (!touch(s, &o->bias[i].token, 1))
            return false;
    return touch(s, s->window, n) && touch(s, s->dry_window, n_dry);
}

bool lb_sampler_need(lb_sampler *s, lb_sample_need *out) {
    const u32 k = n_needed(s);
    *out = (lb_sample_need){0};
    if (!k || !find_touched(s))
        return false;
    *out = (lb_sample_need){LB_MIN(k + s->n_touched, s->n_vocab), s->n_touched, s->touched};
    return true;
}

static void put(lb_sampler *s, u32 id, float logit) {
    s->id[s->n] = id;
    s->logit[s->n++] = lb_sample_logit(logit);
}

/* As the dense load: bias in the order of the list. */
static bool load(lb_sampler *s, const lb_candidates *c) {
    s->n = 0;
    s->sorted = s->dense = false;
    for (u32 i = 0; i < c->n; i++)
        s->keys[c->id[i]] = NONE;
    for (u32 i = 0; i < s->n_touched; i++)
        s->keys[s->touched[i]] = i;
    for (u32 i = 0; i < s->n_touched; i++)
        put(s, s->touched[i], c->touched[i]);
    for (u32 i = 0; i < c->n; i++)
        if (s->keys[c->id[i]] == NONE)
            put(s, c->id[i], c->logit[i]);
    for (u32 i = 0; i < s->o.n_bias; i++) {
        float *l = &s->logit[s->keys[s->o.bias[i].token]];
        if (*l > -INFINITY)
            *l = lb_sample_logit(*l + s->o.bias[i].bias);
    }
    for (u32 i = 0; i < s->n; i++)
        if (s->logit[i] > -INFINITY)
            return true;
    return false;
}

lb_status lb_sampler_sample_from(lb_sampler *s, const lb_candidates *c, u32 *token, lb_err *err) {
    if (!load(s, c))
        return lb_fail(err, LB_E_NOT_FOUND,
                       "no token may come here: all logits are -inf or not numbers");
    lb_sample_run(s);
    *token = s->id[s->selected];
    return LB_OK;
}
