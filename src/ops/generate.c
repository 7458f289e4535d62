/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c: see generate.h.
 *
 * A step reads what the context has not read of the sequence (the last token; with recurrent layers
 * also those of a guess that was right in part) and a guess of what follows, in one batch. Then
 * each position is sampled in its turn, as if it had come alone, until one gives another token than
 * was guessed; behind it the context is cut. */
#include "ops/generate_internal.h"
#include "base/mem.h"
#include "base/os.h"

/* ---- one answer ---- */

/* Whether the answer ends with this token, which is no part of it. */
static bool is_end(const lb_running *r, u32 id) {
    for (u32 i = 0; i < r->o->n_stop_ids; i++)
        if (r->o->stop_ids[i] == id)
            return true;
    return r->o->encoder && !(r->o->ignore_end && !r->o->constraint) &&
           lb_encoder_is_end(r->o->encoder, id);
}

/* The token that the logits give, accepted by all that has a say. *stopped: it ends the answer, and
 * is none of its ids. */
static lb_status choose(const lb_running *r, const float *logits, u32 *id, bool *stopped,
                        lb_err *err) {
    const u64 *mask = NULL;
    if (r->o->constraint)
        LB_TRY(lb_constraint_mask(r->o->constraint, &mask, err));
    LB_TRY(lb_sampler_sample(r->o->sampler, logits, mask, id, err));
    lb_sampler_accept(r->o->sampler, *id);
    *stopped = is_end(r, *id);
    return r->o->constraint && !*stopped ? lb_constraint_accept(r->o->constraint, *id, err) : LB_OK;
}

static lb_status check_over(lb_running *r, lb_err *err) {
    bool *stopped = &r->out->stopped;
    if (r->o->constraint && !*stopped)
        LB_TRY(lb_constraint_is_over(r->o->constraint, stopped, err));
    r->over |= *stopped || r->n_chosen >= r->o->n_max;
    return LB_OK;
}

lb_status lb_running_begin(lb_running *r, const u32 *prompt, u32 n, u32 n_vocab, lb_err *err) {
    for (u32 i = 0; i < n; i++) {
        if (prompt[i] >= n_vocab)
            return lb_fail(err, LB_E_FORMAT,
                           "token %u of the prompt: the model's vocabulary has %u", prompt[i],
                           n_vocab);
        lb_sampler_accept(r->o->sampler, prompt[i]);
        lb_buf_put_u32(&r->out->sequence, prompt[i]);
    }
    LB_TRY(lb_buf_status(&r->out->sequence, err));
    if (r->o->encoder)
        LB_TRY(lb_answer_begin(&r->answer,
                               &(lb_answer_opts){.encoder = r->o->encoder,
                                                 .constraint = r->o->constraint,
                                                 .stops = r->o->stops,
                                                 .n_stops = r->o->n_stops,
                                                 .shown_ids = r->o->shown_ids,
                                                 .n_shown_ids = r->o->n_shown_ids,
                                                 .text = r->o->text,
                                                 .user = r->o->user},
                               err));
    return check_over(r, err);
}

lb_status lb_running_take(lb_running *r, const float *logits, u32 *id, bool *put, lb_err *err) {
    bool *stopped = &r->out->stopped;
    *put = false;
    if (r->o->stop && r->o->stop(r->o->user)) {
        r->over = true;
        return LB_OK;
    }
    LB_TRY(choose(r, logits, id, stopped, err));
    if (!*stopped) {
        *put = true;
        r->n_chosen++;
        lb_buf_put_u32(&r->out->ids, *id);
        lb_buf_put_u32(&r->out->sequence, *id);
        LB_TRY(lb_buf_status(&r->out->ids, err));
        LB_TRY(lb_buf_status(&r->out->sequence, err));
        if (r->answer)
            LB_TRY(lb_answer_put(r->answer, *id, stopped, err));
    }
    return check_over(r, err);
}

lb_status lb_running_check(const lb_running *r, const lb_context *c, lb_err *err) {
    if (!r->o->shift)
        return LB_OK;
    LB_TRY(lb_model_can_shift(lb_context_model(c), err));
    if (r->o->n_keep >= lb_context_n_ctx(c))
        return lb_fail(err, LB_E_LIMIT,
                       "%u tokens are to be kept, and the context has %u: nothing can leave it",
                       r->o->n_keep, lb_context_n_ctx(c));
    return LB_OK;
}

/* llama.cpp's rule: half of what is behind the tokens that are kept. */
lb_status lb_running_room(lb_running *r, lb_context *c, u32 seq, bool *full, lb_err *err) {
    lb_buf *ids = &r->out->sequence;
    u32 length = lb_context_length(c, seq), keep = r->o->n_keep;
    *full = ids->len / sizeof(u32) > lb_context_n_ctx(c);
    if (!*full || !r->o->shift)
        return LB_OK;
    LB_ASSERT(keep < length);
    u32 drop = LB_MAX((length - keep) / 2, 1u);
    LB_TRY(lb_context_shift(c, seq, keep, drop, err));
    size_t at = keep * sizeof(u32), gone = drop * sizeof(u32);
    memmove(ids->ptr + at, ids->ptr + at + gone, ids->len - at - gone);
    ids->len -= gone;
    r->out->n_shifts++;
    *full = false;
    return LB_OK;
}

lb_status lb_running_end(lb_running *r, lb_status st, lb_err *err) {
    bool stopped = false;
    if (!r->answer)
        return st;
    lb_status ended = lb_answer_end(r->answer, &stopped, st == LB_OK ? err : NULL);
    r->out->stopped |= stopped;
    r->out->text = lb_answer_take(r->answer);
    lb_answer_free(&r->answer);
    return st == LB_OK ? ended : st;
}

void lb_generated_deinit(lb_generated *g) {
    lb_buf_deinit(&g->ids);
    lb_buf_deinit(&g->text);
    lb_buf_deinit(&g->sequence);
    *g = (lb_generated){0};
}

/* ---- of one sequence ---- */

typedef struct run {
    lb_context *c;
    lb_running r;
    float *logits; /* [n_guess_max + 1, n_vocab] */
    u32 *ids;      /* [n_ids_max] of a batch */
    u8 *want;      /* the same */
    u32 n_guess_max, n_ids_max;
    u32 first,
        n_guess; /* of the last batch: the guess stands behind `first` tokens of the context */
} run;

static const u32 *sequence_of(const run *r) {
    return (const u32 *)(const void *)r->r.out->sequence.ptr;
}

static u32 n_sequence(const run *r) {
    return (u32)(r->r.out->sequence.len / sizeof(u32));
}

/* Samples where the last batch has logits. */
static lb_status sample(run *r, lb_err *err) {
    u32 k = 0, id = 0, n_vocab = lb_model_n_vocab(lb_context_model(r->c));
    for (bool put = true;; k++) {
        LB_TRY(lb_running_take(&r->r, r->logits + (size_t)k * n_vocab, &id, &put, err));
        if (r->r.over || k == r->n_guess || !put || id != r->ids[r->first + k])
            break;
    }
    r->r.out->n_accepted += k;
    if (r->r.o->draft)
        lb_draft_learn(r->r.o->draft, r->n_guess, k);
    return LB_OK;
}

/* The context holds nothing of a guess but what became part of the sequence. Recurrent layers go
 * back to where they were before it: the rest is read again with the next. */
static void drop_rest(run *r) {
    u32 length = lb_context_length(r->c, 0);
    if (r->n_guess)
        (void)lb_context_keep(r->c, 0, sequence_of(r), LB_MIN(length, n_sequence(r)));
}

/* The tokens of the sequence that have not been read yet, a guess, their logits. *full: there is no
 * room for them. */
static lb_status step(run *r, bool *full, lb_err *err) {
    const lb_generate_opts *o = r->r.o;
    LB_TRY(lb_running_room(&r->r, r->c, 0, full, err));
    if (*full)
        return LB_OK;
    u32 length = lb_context_length(r->c, 0), total = n_sequence(r);
    u32 n_ctx = lb_context_n_ctx(r->c), n_new = total - length, n = 0;
    LB_ASSERT(n_new && n_new <= r->n_ids_max);
    memcpy(r->ids, sequence_of(r) + length, n_new * sizeof *r->ids);
    r->n_guess = 0;
    if (o->draft) {
        n = LB_MIN(LB_MIN(r->n_guess_max, r->n_ids_max - n_new), n_ctx - total);
        LB_TRY(lb_draft_guess(o->draft, sequence_of(r), total,
                              LB_MIN(n, o->n_max - r->r.n_chosen - 1), r->ids + n_new, &r->n_guess,
                              err));
    }
    if (r->n_guess)
        LB_TRY(lb_context_mark(r->c, 0, err));
    n = n_new + r->n_guess;
    for (u32 i = 0; i < n; i++)
        r->want[i] = i + 1 >= n_new;
    r->first = n_new;
    r->r.out->n_steps++;
    r->r.out->n_drafted += r->n_guess;
    return lb_context_eval(r->c, &(lb_batch){.n = n, .id = r->ids, .want = r->want}, r->logits,
                           err);
}

static lb_status go_on(run *r, lb_err *err) {
    for (bool full = false; !r->r.over;) {
        LB_TRY(sample(r, err));
        drop_rest(r);
        if (r->r.over)
            return LB_OK;
        lb_status st = step(r, &full, err);
        /* What was asked to stop between tokens may be noticed within one. */
        if (st == LB_E_INTERRUPTED && r->r.o->stop && r->r.o->stop(r->r.o->user)) {
            if (err)
                *err = (lb_err){0};
            return LB_OK;
        }
        if (st != LB_OK || full)
            return st;
    }
    return LB_OK;
}

static lb_status generate(run *r, const u32 *prompt, u32 n, lb_err *err) {
    lb_generated *out = r->r.out;
    u32 n_ctx = lb_context_n_ctx(r->c);
    u64 begin = lb_os_now_us();
    if (n > n_ctx)
        return lb_fail(err, LB_E_LIMIT,
                       "the prompt has %u tokens, the context room for %u: use a larger --ctx", n,
                       n_ctx);
    LB_TRY(lb_running_check(&r->r, r->c, err));
    LB_TRY(lb_running_begin(&r->r, prompt, n, lb_model_n_vocab(lb_context_model(r->c)), err));
    if (r->r.o->draft)
        lb_draft_begin(r->r.o->draft);
    u32 kept = lb_context_keep(r->c, 0, prompt, n - 1);
    out->n_prompt_computed = n - kept;
    LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = n - kept, .id = prompt + kept}, r->logits, err));
    u64 ready = lb_os_now_us();
    out->prompt_us = ready - begin;
    lb_status st = go_on(r, err);
    out->generate_us = lb_os_now_us() - ready;
    return st;
}

static lb_status make_room(run *r, lb_err *err) {
    const lb_draft *draft = r->r.o->draft;
    u32 n_vocab = lb_model_n_vocab(lb_context_model(r->c));
    r->n_guess_max = draft ? lb_draft_n_max(draft) : 0;
    r->n_ids_max = 2 * r->n_guess_max + 1;
    r->logits = lb_alloc_zero((size_t)r->n_guess_max + 1, (size_t)n_vocab * sizeof(float));
    r->ids = lb_alloc_zero(r->n_ids_max, sizeof *r->ids);
    r->want = lb_alloc_zero(r->n_ids_max, 1);
    return r->logits && r->ids && r->want ? LB_OK
                                          : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
}

lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err) {
    run r = {.c = c, .r = {.o = o, .out = out}};
    *out = (lb_generated){0};
    if (!n)
        return lb_fail(err, LB_E_USAGE, "the prompt is empty: there is no token to begin with");
    lb_status st = make_room(&r, err);
    if (st == LB_OK)
        st = generate(&r, prompt, n, err);
    st = lb_running_end(&r.r, st, err);
    lb_free(r.logits);
    lb_free(r.ids);
    lb_free(r.want);
    return st;
}
