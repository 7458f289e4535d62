/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c: options, state and the chain of a sampler. */
#include "model/sample_internal.h"
#include <float.h>
#include <math.h>

#define WINDOW_MAX (1u << 27) /* tokens of a window */

/* llama.cpp's names (--samplers), and a second spelling that it takes too. */
static const char *const names[LB_SAMPLE_STEPS][2] = {
    [LB_SAMPLE_PENALTIES] = {"penalties", "penalties"},
    [LB_SAMPLE_DRY] = {"dry", "dry"},
    [LB_SAMPLE_TOP_N_SIGMA] = {"top_n_sigma", "top-n-sigma"},
    [LB_SAMPLE_TOP_K] = {"top_k", "top-k"},
    [LB_SAMPLE_TYPICAL] = {"typ_p", "typical"},
    [LB_SAMPLE_TOP_P] = {"top_p", "top-p"},
    [LB_SAMPLE_MIN_P] = {"min_p", "min-p"},
    [LB_SAMPLE_XTC] = {"xtc", "xtc"},
    [LB_SAMPLE_TEMPERATURE] = {"temperature", "temp"},
};

const char *lb_sample_step_name(lb_sample_step s) {
    return names[s][0];
}

lb_sample_opts lb_sample_defaults(void) {
    return (lb_sample_opts){
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical = 1,
        .top_n_sigma = -1,
        .xtc_threshold = 0.1f,
        .temperature = 0.8f,
        .dynatemp_exponent = 1,
        .penalty_last_n = 64,
        .penalty_repeat = 1,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_last_n = 64,
        .mirostat_tau = 5,
        .mirostat_eta = 0.1f,
        .order = {LB_SAMPLE_PENALTIES, LB_SAMPLE_DRY, LB_SAMPLE_TOP_N_SIGMA, LB_SAMPLE_TOP_K,
                  LB_SAMPLE_TYPICAL, LB_SAMPLE_TOP_P, LB_SAMPLE_MIN_P, LB_SAMPLE_XTC,
                  LB_SAMPLE_TEMPERATURE},
        .n_order = LB_SAMPLE_STEPS,
    };
}

lb_status lb_sample_order_parse(lb_str text, lb_sample_opts *o, lb_err *err) {
    o->n_order = 0;
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        u32 step = 0;
        while (end < text.len && text.ptr[end] != ';' && text.ptr[end] != ',')
            end++;
        lb_str word = lb_str_sub(text, at, end);
        while (step < LB_SAMPLE_STEPS && !lb_str_eq_c(word, names[step][0]) &&
               !lb_str_eq_c(word, names[step][1]))
            step++;
        if (step == LB_SAMPLE_STEPS)
            return lb_fail(err, LB_E_USAGE,
                           "\"%.*s\" is no step of sampling: penalties, dry, top_n_sigma, top_k, "
                           "typ_p, top_p, min_p, xtc, temperature",
                           (int)LB_MIN(word.len, (size_t)40), word.ptr);
        if (o->n_order == LB_SAMPLE_STEPS)
            return lb_fail(err, LB_E_USAGE, "more than %d steps of sampling", LB_SAMPLE_STEPS);
        o->order[o->n_order++] = (u8)step;
        at = end + 1;
    }
    return LB_OK;
}

static lb_status check_opts(const lb_sample_opts *o, u32 n_vocab, lb_err *err) {
    const struct {
        const char *name;
        float value;
    } finite[] = {{"top-p", o->top_p},
                  {"min-p", o->min_p},
                  {"typical", o->typical},
                  {"top-n-sigma", o->top_n_sigma},
                  {"xtc-probability", o->xtc_probability},
                  {"xtc-threshold", o->xtc_threshold},
                  {"temperature", o->temperature},
                  {"dynatemp-range", o->dynatemp_range},
                  {"dynatemp-exponent", o->dynatemp_exponent},
                  {"repeat-penalty", o->penalty_repeat},
                  {"frequency-penalty", o->penalty_freq},
                  {"presence-penalty", o->penalty_present},
                  {"dry-multiplier", o->dry_multiplier},
                  {"dry-base", o->dry_base},
                  {"mirostat-tau", o->mirostat_tau},
                  {"mirostat-eta", o->mirostat_eta}};
    for (u32 i = 0; i < LB_LEN(finite); i++)
        if (!isfinite(finite[i].value))
            return lb_fail(err, LB_E_USAGE, "%s is not a finite number", finite[i].name);
    if (!(o->penalty_repeat > 0) || !isfinite(1.0f / o->penalty_repeat))
        return lb_fail(err, LB_E_USAGE, "repeat-penalty must be above 0");
    if (o->mirostat && o->mirostat != 2)
        return lb_fail(err, LB_E_USAGE, "mirostat %u is not known: 0 or 2", o->mirostat);
    if (o->penalty_last_n > WINDOW_MAX || o->dry_last_n > WINDOW_MAX)
        return lb_fail(err, LB_E_USAGE, "a window of more than %u tokens", WINDOW_MAX);
    for (u32 i = 0; i < o->n_order; i++)
        if (o->order[i] >= LB_SAMPLE_STEPS)
            return lb_fail(err, LB_E_USAGE, "step %u of sampling is not known", o->order[i]);
    for (u32 i = 0; i < o->n_bias; i++)
        if (o->bias[i].token >= n_vocab || isnan(o->bias[i].bias))
            return lb_fail(err, LB_E_USAGE, "bias of token %u: %s", o->bias[i].token,
                           o->bias[i].token >= n_vocab ? "no such token" : "not a number");
    for (u32 i = 0; i < o->n_breakers; i++)
        for (u32 j = 0; j < LB_MAX(o->breakers[i].n, 1); j++)
            if (!o->breakers[i].n || o->breakers[i].tokens[j] >= n_vocab)
                return lb_fail(err, LB_E_USAGE, "sequence breaker %u: %s", i,
                               o->breakers[i].n ? "no such token" : "empty");
    return n_vocab ? LB_OK : lb_fail(err, LB_E_USAGE, "an empty vocabulary");
}

static bool has_dry(const lb_sample_opts *o) {
    return o->dry_multiplier != 0 && o->dry_base >= 1 && o->dry_last_n && !o->mirostat;
}

/* Arrays of a sampler; false: out of memory. */
static bool make_arrays(lb_sampler *s) {
    lb_arena *a = &s->perm;
    const u32 n = s->n_vocab;
    s->id = lb_arena_new(a, u32, n);
    s->logit = lb_arena_new(a, float, n);
    s->p = lb_arena_new(a, float, n);
    s->keys = lb_arena_new(a, u64, n);
    s->spare = lb_arena_new(a, u64, n);
    s->touched = lb_arena_new(a, u32, LB_SAMPLE_TOUCHED_MAX);
    if (!s->id || !s->logit || !s->p || !s->keys || !s->spare || !s->touched)
        return false;
    if (s->o.penalty_last_n) {
        s->count = lb_arena_new(a, u32, n);
        s->window = lb_arena_new(a, u32, s->o.penalty_last_n);
        if (!s->count || !s->window)
            return false;
    }
    if (has_dry(&s->o)) {
        s->dry_window = lb_arena_new(a, u32, s->o.dry_last_n);
        s->dry_len = lb_arena_new(a, u32, s->o.dry_last_n);
        s->dry_touched = lb_arena_new(a, u32, s->o.dry_last_n);
        s->dry_longest = lb_arena_new(a, u32, n);
        if (!s->dry_window || !s->dry_len || !s->dry_touched || !s->dry_longest)
            return false;
    }
    return true;
}

static bool copy_lists(lb_sampler *s) {
    lb_arena *a = &s->perm;
    lb_logit_bias *bias = lb_arena_new(a, lb_logit_bias, s->o.n_bias + 1);
    lb_dry_breaker *list = lb_arena_new(a, lb_dry_breaker, s->o.n_breakers + 1);
    if (!bias || !list)
        return false;
    if (s->o.n_bias)
        memcpy(bias, s->o.bias, s->o.n_bias * sizeof *bias);
    s->o.bias = bias;
    if (!has_dry(&s->o))
        s->o.n_breakers = 0;
    if (s->o.n_breakers) {
        s->first_breaker = lb_arena_new(a, u32, s->n_vocab);
        s->next_breaker = lb_arena_new(a, u32, s->o.n_breakers);
        if (!s->first_breaker || !s->next_breaker)
            return false;
    }
    for (u32 i = 0; i < s->o.n_breakers; i++) {
        const lb_dry_breaker *from = &s->o.breakers[i];
        u32 *tokens = lb_arena_new(a, u32, from->n);
        if (!tokens)
            return false;
        memcpy(tokens, from->tokens, from->n * sizeof *tokens);
        list[i] = (lb_dry_breaker){tokens, from->n};
        s->next_breaker[i] = s->first_breaker[tokens[0]];
        s->first_breaker[tokens[0]] = i + 1;
    }
    s->o.breakers = list;
    return true;
}

lb_status lb_sampler_new(lb_sampler **out, u32 n_vocab, const lb_sample_opts *o,
                         const lb_kernels *k, lb_err *err) {
    *out = NULL;
    LB_TRY(check_opts(o, n_vocab, err));
    lb_sampler *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "a sampler: out of memory");
    s->o = *o;
    s->k = k;
    s->n_vocab = n_vocab;
    if (!make_arrays(s) || !copy_lists(s)) {
        lb_sampler_free(&s);
        return lb_fail(err, LB_E_NOMEM, "a sampler of %u tokens: out of memory", n_vocab);
    }
    lb_sampler_reset(s);
    *out = s;
    return LB_OK;
}

lb_status lb_sampler_clone(lb_sampler **out, const lb_sampler *s, lb_err *err) {
    LB_TRY(lb_sampler_new(out, s->n_vocab, &s->o, s->k, err));
    lb_sampler *c = *out;
    if (s->count) {
        memcpy(c->count, s->count, s->n_vocab * sizeof *s->count);
        memcpy(c->window, s->window, s->o.penalty_last_n * sizeof *s->window);
    }
    if (s->dry_window)
        memcpy(c->dry_window, s->dry_window, s->o.dry_last_n * sizeof *s->dry_window);
    c->window_n = s->window_n;
    c->window_at = s->window_at;
    c->dry_n = s->dry_n;
    c->dry_at = s->dry_at;
    c->rng = s->rng;
    c->xtc_rng = s->xtc_rng;
    c->mu = s->mu;
    return LB_OK;
}

void lb_sampler_free(lb_sampler **s) {
    if (!*s)
        return;
    lb_arena_deinit(&(*s)->perm);
    lb_free(*s);
    *s = NULL;
}

void lb_sampler_reset(lb_sampler *s) {
    if (s->count)
        memset(s->count, 0, s->n_vocab * sizeof *s->count);
    s->window_n = s->window_at = s->dry_n = s->dry_at = 0;
    s->n = 0;
    s->mu = 2 * s->o.mirostat_tau;
    lb_sampler_seed(s, s->o.seed);
}

void lb_sampler_seed(lb_sampler *s, u64 seed) {
    s->o.seed = seed;
    lb_mt19937_init(&s->rng, s->k, seed);
    lb_mt19937_init(&s->xtc_rng, s->k, seed);
}

void lb_sampler_accept(lb_sampler *s, u32 token) {
    LB_ASSERT(token < s->n_vocab);
    if (s->window) {
        const u32 cap = s->o.penalty_last_n;
        if (s->window_n == cap)
            s->count[s->window[s->window_at]]--;
        else
            s->window_n++;
        s->window[s->window_at] = token;
        s->window_at = (s->window_at + 1) % cap;
        s->count[token]++;
    }
    if (s->dry_window) {
        s->dry_window[s->dry_at] = token;
        s->dry_at = (s->dry_at + 1) % s->o.dry_last_n;
        s->dry_n = LB_MIN(s->dry_n + 1, s->o.dry_last_n);
    }
}

/* All tokens as candidates. False: all are at -inf. */
static bool load(lb_sampler *s, const float *logits, const u64 *allowed) {
    s->n = s->n_vocab;
    s->sorted = false;
    s->dense = true;
    for (u32 i = 0; i < s->n; i++) {
        s->id[i] = i;
        s->logit[i] = lb_sample_logit(logits[i]);
    }
    for (u32 i = 0; allowed && i < s->n; i++)
        if (!(allowed[i / 64] >> (i % 64) & 1))
            s->logit[i] = -INFINITY;
    for (u32 i = 0; i < s->o.n_bias; i++) {
        float *l = &s->logit[s->o.bias[i].token];
        if (*l > -INFINITY)
            *l = lb_sample_logit(*l + s->o.bias[i].bias);
    }
    for (u32 i = 0; i < s->n; i++)
        if (s->logit[i] > -INFINITY)
            return true;
    return false;
}

static void run_step(lb_sampler *s, lb_sample_step step) {
    switch (step) {
    case LB_SAMPLE_PENALTIES:
        lb_sample_penalties(s);
        break;
    case LB_SAMPLE_DRY:
        if (s->dry_window)
            lb_sample_dry(s);
        break;
    case LB_SAMPLE_TOP_N_SIGMA:
        lb_sample_top_n_sigma(s);
        break;
    case LB_SAMPLE_TOP_K:
        lb_sample_top_k(s);
        break;
    case LB_SAMPLE_TYPICAL:
        lb_sample_typical(s);
        break;
    case LB_SAMPLE_TOP_P:
        lb_sample_top_p(s);
        break;
    case LB_SAMPLE_MIN_P:
        lb_sample_min_p(s);
        break;
    case LB_SAMPLE_XTC:
        lb_sample_xtc(s);
        break;
    case LB_SAMPLE_TEMPERATURE:
        lb_sample_temperature(s, true);
        break;
    case LB_SAMPLE_STEPS:
        break;
    }
}

void lb_sample_run(lb_sampler *s) {
    if (s->o.mirostat) {
        lb_sample_temperature(s, false);
        lb_sample_mirostat(s);
        return;
    }
    for (u32 i = 0; i < s->o.n_order; i++) {
        run_step(s, (lb_sample_step)s->o.order[i]);
        /* Penalties may take a logit beyond all numbers. */
        for (u32 j = 0; j < s->n && s->o.order[i] <= LB_SAMPLE_DRY; j++)
            if (!(s->logit[j] <= FLT_MAX && s->logit[j] >= -FLT_MAX))
                s->logit[j] = s->logit[j] > 0 ? FLT_MAX : -INFINITY;
    }
    lb_sample_draw(s);
}

lb_status lb_sampler_sample(lb_sampler *s, const float *logits, const u64 *allowed, u32 *token,
                            lb_err *err) {
    if (!load(s, logits, allowed))
        return lb_fail(err, LB_E_NOT_FOUND, "no token may come here: %s",
                       allowed ? "the grammar and the logits leave none"
                               : "all logits are -inf or not numbers");
    lb_sample_run(s);
    *token = s->id[s->selected];
    return LB_OK;
}

lb_sampled lb_sampler_last(const lb_sampler *s) {
    return (lb_sampled){s->n, s->selected, s->id, s->logit, s->p};
}
