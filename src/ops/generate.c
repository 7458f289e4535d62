/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c: see generate.h. */
#include "ops/generate.h"
#include "base/mem.h"
#include "base/os.h"

typedef struct run {
    lb_context *c;
    const lb_generate_opts *o;
    lb_generated *out;
    lb_answer *answer;
    float *logits;
} run;

/* Whether the answer ends with this token, which is no part of it. */
static bool is_end(const run *r, u32 id) {
    for (u32 i = 0; i < r->o->n_stop_ids; i++)
        if (r->o->stop_ids[i] == id)
            return true;
    return r->o->encoder && !(r->o->ignore_end && !r->o->constraint) &&
           lb_encoder_is_end(r->o->encoder, id);
}

/* The token that the logits give, accepted by all that has a say. *stopped: it ends the answer, and
 * is none of its ids. */
static lb_status choose(const run *r, const float *logits, u32 *id, bool *stopped, lb_err *err) {
    const u64 *mask = NULL;
    if (r->o->constraint)
        LB_TRY(lb_constraint_mask(r->o->constraint, &mask, err));
    LB_TRY(lb_sampler_sample(r->o->sampler, logits, mask, id, err));
    lb_sampler_accept(r->o->sampler, *id);
    *stopped = is_end(r, *id);
    return r->o->constraint && !*stopped ? lb_constraint_accept(r->o->constraint, *id, err) : LB_OK;
}

static lb_status check_over(const run *r, bool *stopped, lb_err *err) {
    return r->o->constraint && !*stopped ? lb_constraint_is_over(r->o->constraint, stopped, err)
                                         : LB_OK;
}

/* The token stands in the answer. *stopped: with it the answer is done. */
static lb_status put_token(run *r, u32 id, bool *stopped, lb_err *err) {
    lb_buf_put_u32(&r->out->ids, id);
    LB_TRY(lb_buf_status(&r->out->ids, err));
    if (r->answer)
        LB_TRY(lb_answer_put(r->answer, id, stopped, err));
    return check_over(r, stopped, err);
}

static lb_status go_on(run *r, u32 n_ctx, lb_err *err) {
    bool *stopped = &r->out->stopped;
    LB_TRY(check_over(r, stopped, err));
    for (u32 i = 0; i < r->o->n_max && !*stopped; i++) {
        u32 id;
        if (r->o->stop && r->o->stop(r->o->user))
            return LB_OK;
        LB_TRY(choose(r, r->logits, &id, stopped, err));
        if (!*stopped)
            LB_TRY(put_token(r, id, stopped, err));
        if (*stopped || i + 1 == r->o->n_max || lb_context_length(r->c, 0) >= n_ctx)
            return LB_OK;
        LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = 1, .id = &id}, r->logits, err));
    }
    return LB_OK;
}

static lb_status generate(run *r, const u32 *prompt, u32 n, lb_err *err) {
    u32 n_ctx = lb_context_n_ctx(r->c);
    u64 begin = lb_os_now_us();
    if (n > n_ctx)
        return lb_fail(err, LB_E_LIMIT,
                       "the prompt has %u tokens, the context room for %u: use a larger --ctx", n,
                       n_ctx);
    for (u32 i = 0; i < n; i++)
        lb_sampler_accept(r->o->sampler, prompt[i]);
    u32 kept = lb_context_keep(r->c, 0, prompt, n - 1);
    r->out->n_prompt_computed = n - kept;
    LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = n - kept, .id = prompt + kept}, r->logits, err));
    u64 ready = lb_os_now_us();
    r->out->prompt_us = ready - begin;
    lb_status st = r->o->n_max ? go_on(r, n_ctx, err) : LB_OK;
    r->out->generate_us = lb_os_now_us() - ready;
    return st;
}

/* What is certain by then is given out also when something failed. */
static lb_status end_answer(run *r, lb_status st, lb_err *err) {
    bool stopped = false;
    if (!r->answer)
        return st;
    lb_status ended = lb_answer_end(r->answer, &stopped, st == LB_OK ? err : NULL);
    r->out->stopped |= stopped;
    r->out->text = lb_answer_take(r->answer);
    lb_answer_free(&r->answer);
    return st == LB_OK ? ended : st;
}

lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err) {
    run r = {.c = c, .o = o, .out = out};
    *out = (lb_generated){0};
    if (!n)
        return lb_fail(err, LB_E_USAGE, "the prompt is empty: there is no token to begin with");
    r.logits = lb_alloc((size_t)lb_model_n_vocab(lb_context_model(c)) * sizeof(float));
    lb_status st = r.logits ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    if (st == LB_OK && o->encoder)
        st = lb_answer_begin(&r.answer,
                             &(lb_answer_opts){.encoder = o->encoder,
                                               .constraint = o->constraint,
                                               .stops = o->stops,
                                               .n_stops = o->n_stops,
                                               .text = o->text,
                                               .user = o->user},
                             err);
    if (st == LB_OK)
        st = generate(&r, prompt, n, err);
    st = end_answer(&r, st, err);
    lb_free(r.logits);
    return st;
}

void lb_generated_deinit(lb_generated *g) {
    lb_buf_deinit(&g->ids);
    lb_buf_deinit(&g->text);
    *g = (lb_generated){0};
}
