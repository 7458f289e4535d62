/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c: see generate.h, generate_internal.h.
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
    LB_TRY(r->chooses ? lb_sampler_sample_from(r->o->sampler, &r->candidates, id, err)
                      : lb_sampler_sample(r->o->sampler, logits, mask, id, err));
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

/* Whether a full context can go on, where that is wanted. */
static lb_status check_shift(const lb_running *r, lb_err *err) {
    if (!r->o->shift)
        return LB_OK;
    LB_TRY(lb_context_can_shift(r->c, err));
    if (r->o->n_keep >= lb_context_n_ctx(r->c))
        return lb_fail(err, LB_E_LIMIT,
                       "%u tokens are to be kept, and the context has %u: nothing can leave it",
                       r->o->n_keep, lb_context_n_ctx(r->c));
    return LB_OK;
}

static lb_status take_prompt(lb_running *r, const u32 *prompt, u32 n, lb_err *err) {
    u32 n_vocab = lb_model_n_vocab(lb_context_model(r->c));
    for (u32 i = 0; i < n; i++) {
        if (prompt[i] >= n_vocab)
            return lb_fail(err, LB_E_FORMAT,
                           "token %u of the prompt: the model's vocabulary has %u", prompt[i],
                           n_vocab);
        lb_sampler_accept(r->o->sampler, prompt[i]);
        lb_buf_put_u32(&r->out->sequence, prompt[i]);
    }
    return lb_buf_status(&r->out->sequence, err);
}

static lb_status begin_drafts(lb_running *r, lb_err *err) {
    lb_draft *draft = r->o->draft;
    if (!draft)
        return LB_OK;
    lb_draft_begin(draft, r->seq);
    r->n_guess_max = lb_draft_n_max(draft);
    r->guess = lb_alloc_zero(r->n_guess_max, sizeof *r->guess);
    return r->guess ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for drafts");
}

lb_status lb_running_begin(lb_running *r, const u32 *prompt, u32 n, lb_err *err) {
    u32 n_ctx = lb_context_n_ctx(r->c);
    if (!n)
        return lb_fail(err, LB_E_USAGE, "the prompt is empty: there is no token to begin with");
    if (n > n_ctx)
        return lb_fail(err, LB_E_LIMIT,
                       "the prompt has %u tokens, the context room for %u: use a larger --ctx", n,
                       n_ctx);
    LB_TRY(check_shift(r, err));
    LB_TRY(take_prompt(r, prompt, n, err));
    LB_TRY(begin_drafts(r, err));
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

/* The next token, from the logits behind the last; r->over: it is none of the sequence, or no token
 * is wanted behind it (then *put says whether it is one of the sequence). */
static lb_status take(lb_running *r, const float *logits, u32 *id, bool *put, lb_err *err) {
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

/* ---- guesses ---- */

static const u32 *sequence_of(const lb_running *r) {
    return (const u32 *)(const void *)r->out->sequence.ptr;
}

static u32 n_sequence(const lb_running *r) {
    return (u32)(r->out->sequence.len / sizeof(u32));
}

/* Recurrent layers go back to where they were before the guess: what of it was right is read again
 * with the next. */
static void drop_rest(lb_running *r) {
    u32 length = lb_context_length(r->c, r->seq);
    if (r->n_guess)
        (void)lb_context_keep(r->c, r->seq, sequence_of(r), LB_MIN(length, n_sequence(r)));
    r->n_guess = 0;
}

lb_status lb_running_sample(lb_running *r, const float *logits, lb_err *err) {
    u32 k = 0, id = 0, n_vocab = lb_model_n_vocab(lb_context_model(r->c));
    for (bool put = true;; k++) {
        LB_TRY(take(r, logits + (size_t)k * n_vocab, &id, &put, err));
        if (r->over || k == r->n_guess || !put || id != r->guess[k])
            break;
    }
    r->out->n_accepted += k;
    if (r->o->draft)
        lb_draft_learn(r->o->draft, r->seq, r->n_guess, k);
    drop_rest(r);
    return LB_OK;
}

void lb_running_ask(lb_running *r, u32 max, lb_draft_ask *ask) {
    u32 n_ctx = lb_context_n_ctx(r->c), n = n_sequence(r);
    u32 room = LB_MIN(n_ctx - n, r->o->n_max - r->n_chosen - 1);
    *ask = (lb_draft_ask){.seq = r->seq,
                          .ids = sequence_of(r),
                          .n = n,
                          .max = LB_MIN(LB_MIN(max, r->n_guess_max), room),
                          .out = r->guess};
}

lb_status lb_running_add(lb_running *r, const lb_draft_ask *ask, lb_unread *b, lb_err *err) {
    const u32 *ids = sequence_of(r), n = n_sequence(r);
    r->n_guess = ask ? ask->n_out : 0;
    if (r->n_guess)
        LB_TRY(lb_context_mark(r->c, r->seq, err));
    for (u32 i = lb_context_length(r->c, r->seq); i < n + r->n_guess; i++) {
        lb_buf_put_u32(&b->ids, i < n ? ids[i] : r->guess[i - n]);
        lb_buf_put_u32(&b->seqs, r->seq);
        lb_buf_put_u8(&b->wants, i + 1 >= n);
    }
    r->out->n_drafted += r->n_guess;
    LB_TRY(lb_buf_status(&b->ids, err));
    LB_TRY(lb_buf_status(&b->seqs, err));
    return lb_buf_status(&b->wants, err);
}

void lb_unread_reset(lb_unread *b) {
    lb_buf_reset(&b->ids);
    lb_buf_reset(&b->seqs);
    lb_buf_reset(&b->wants);
}

void lb_unread_deinit(lb_unread *b) {
    lb_buf_deinit(&b->ids);
    lb_buf_deinit(&b->seqs);
    lb_buf_deinit(&b->wants);
}

lb_status lb_unread_eval(const lb_unread *b, lb_context *c, float *logits, lb_err *err) {
    return lb_context_eval(c,
                           &(lb_batch){.n = (u32)b->wants.len,
                                       .id = (const u32 *)(const void *)b->ids.ptr,
                                       .seq = (const u32 *)(const void *)b->seqs.ptr,
                                       .want = (const u8 *)b->wants.ptr},
                           logits, err);
}

/* ---- the context's end ---- */

/* llama.cpp's rule: half of what is behind the tokens that are kept. */
lb_status lb_running_room(lb_running *r, bool *full, lb_err *err) {
    lb_buf *ids = &r->out->sequence;
    u32 length = lb_context_length(r->c, r->seq), keep = r->o->n_keep;
    *full = n_sequence(r) > lb_context_n_ctx(r->c);
    if (!*full || !r->o->shift)
        return LB_OK;
    LB_ASSERT(keep < length);
    u32 drop = LB_MAX((length - keep) / 2, 1u);
    LB_TRY(lb_context_shift(r->c, r->seq, keep, drop, err));
    size_t at = keep * sizeof(u32), gone = drop * sizeof(u32);
    memmove(ids->ptr + at, ids->ptr + at + gone, ids->len - at - gone);
    ids->len -= gone;
    r->out->n_shifts++;
    *full = false;
    return LB_OK;
}

lb_status lb_running_end(lb_running *r, lb_status st, lb_err *err) {
    bool stopped = false;
    lb_free(r->guess);
    r->guess = NULL;
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

/* What the sampler needs behind the last token: of a device's logits a few, where that is enough.
 */
static lb_status eval(lb_running *r, const lb_unread *b, float *logits, lb_err *err) {
    lb_sample_need need;
    r->chooses = !r->o->all_logits && !r->o->draft && !r->o->constraint &&
                 lb_sampler_need(r->o->sampler, &need) && lb_context_can_choose(r->c, &need);
    if (!r->chooses)
        return lb_unread_eval(b, r->c, logits, err);
    return lb_context_eval_top(r->c,
                               &(lb_batch){.n = (u32)b->wants.len,
                                           .id = (const u32 *)(const void *)b->ids.ptr,
                                           .seq = (const u32 *)(const void *)b->seqs.ptr},
                               &need, &r->candidates, err);
}

/* One batch. *full: there is no room for what it would have. */
static lb_status step(lb_running *r, lb_unread *b, float *logits, bool *full, lb_err *err) {
    lb_draft_ask ask;
    LB_TRY(lb_running_room(r, full, err));
    if (*full)
        return LB_OK;
    lb_running_ask(r, r->n_guess_max, &ask);
    if (r->o->draft)
        LB_TRY(lb_draft_guess(r->o->draft, &ask, 1, err));
    lb_unread_reset(b);
    LB_TRY(lb_running_add(r, &ask, b, err));
    r->out->n_steps++;
    return eval(r, b, logits, err);
}

static lb_status go_on(lb_running *r, lb_unread *b, float *logits, lb_err *err) {
    for (bool full = false; !r->over;) {
        LB_TRY(lb_running_sample(r, logits, err));
        if (r->over)
            return LB_OK;
        lb_status st = step(r, b, logits, &full, err);
        /* What was asked to stop between tokens may be noticed within one. */
        if (st == LB_E_INTERRUPTED && r->o->stop && r->o->stop(r->o->user)) {
            if (err)
                *err = (lb_err){0};
            return LB_OK;
        }
        if (st != LB_OK || full)
            return st;
    }
    return LB_OK;
}

static lb_status generate(lb_running *r, const u32 *prompt, u32 n, lb_unread *b, float *logits,
                          lb_err *err) {
    lb_generated *out = r->out;
    u64 begin = lb_os_now_us();
    LB_TRY(lb_running_begin(r, prompt, n, err));
    out->n_prompt_computed = n - lb_context_keep(r->c, r->seq, prompt, n - 1);
    LB_TRY(lb_running_add(r, NULL, b, err));
    LB_TRY(eval(r, b, logits, err));
    u64 ready = lb_os_now_us();
    out->prompt_us = ready - begin;
    lb_status st = go_on(r, b, logits, err);
    out->generate_us = lb_os_now_us() - ready;
    return st;
}

lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err) {
    lb_running r = {.o = o, .out = out, .c = c};
    lb_unread b = {0};
    size_t n_rows = o->draft ? (size_t)lb_draft_n_max(o->draft) + 1 : 1;
    float *row = n_rows == 1 ? lb_context_row(c) : NULL, *own = NULL;
    if (!row)
        own = lb_alloc_zero(n_rows, lb_model_n_vocab(lb_context_model(c)) * sizeof(float));
    float *logits = row ? row : own;
    *out = (lb_generated){0};
    lb_status st = logits ? generate(&r, prompt, n, &b, logits, err)
                          : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    st = lb_running_end(&r, st, err);
    lb_unread_deinit(&b);
    lb_free(own);
    return st;
}
