/* SPDX-License-Identifier: Apache-2.0 */
/* draft.c: see draft.h. */
#include "ops/draft.h"
#include "base/mem.h"

#define LIMIT_FIRST 4u
#define VOCAB_DIFFERENCE 128u /* llama.cpp: SPEC_VOCAB_MAX_SIZE_DIFFERENCE */
#define VOCAB_FIRST 5u        /* SPEC_VOCAB_CHECK_START_TOKEN_ID */

struct lb_draft {
    lb_draft_opts o;
    float *logits; /* of the smaller model; NULL: there is none */
    u32 limit;     /* tokens of the next guess */
};

lb_status lb_draft_new(lb_draft **out, const lb_draft_opts *o, lb_err *err) {
    *out = NULL;
    if (!o->n_max || o->n_max > LB_DRAFT_MAX)
        return lb_fail(err, LB_E_USAGE, "drafts have 1 to %u tokens", LB_DRAFT_MAX);
    if (o->ngram && (o->ngram < LB_NGRAM_LEAST || o->ngram > LB_NGRAM_MAX))
        return lb_fail(err, LB_E_USAGE, "%u to %u tokens are looked up", LB_NGRAM_LEAST,
                       LB_NGRAM_MAX);
    lb_draft *d = lb_alloc_zero(1, sizeof *d);
    if (d && o->context)
        d->logits = lb_alloc(lb_model_n_vocab(lb_context_model(o->context)) * sizeof(float));
    if (!d || (o->context && !d->logits)) {
        lb_draft_free(&d);
        return lb_fail(err, LB_E_NOMEM, "out of memory for drafts");
    }
    d->o = *o;
    lb_draft_begin(d);
    *out = d;
    return LB_OK;
}

void lb_draft_free(lb_draft **d) {
    if (!*d)
        return;
    lb_free((*d)->logits);
    lb_free(*d);
    *d = NULL;
}

u32 lb_draft_n_max(const lb_draft *d) {
    return d->o.n_max;
}

void lb_draft_begin(lb_draft *d) {
    d->limit = LB_MIN(d->o.n_max, LIMIT_FIRST);
}

void lb_draft_learn(lb_draft *d, u32 n_guessed, u32 n_right) {
    if (n_guessed && n_right == n_guessed)
        d->limit = LB_MIN(d->o.n_max, LB_MAX(d->limit, 2 * n_guessed));
    else if (n_guessed)
        d->limit = LB_MIN(d->o.n_max, n_right + 1);
}

/* ---- prompt lookup ---- */

/* How many tokens before ids[a] and ids[b] are the same, at most max. */
static u32 same_before(const u32 *ids, u32 a, u32 b, u32 max) {
    u32 n = 0;
    while (n < max && n < a && ids[a - 1 - n] == ids[b - 1 - n])
        n++;
    return n;
}

/* What followed the last place where the longest of the sequence's last tokens stood before; of
 * equally long ones the latest. Where that reaches the end, it goes on as it began. */
static u32 look_up(const lb_draft *d, const u32 *ids, u32 n, u32 max, u32 *out) {
    u32 best = LB_NGRAM_LEAST - 1, at = 0, k = 0;
    for (u32 i = n - 1; n && i >= LB_NGRAM_LEAST && best < d->o.ngram; i--) {
        u32 same = ids[i - 1] == ids[n - 1] ? same_before(ids, i, n, d->o.ngram) : 0;
        if (same > best) {
            best = same;
            at = i;
        }
    }
    for (; at && k < max; k++)
        out[k] = at + k < n ? ids[at + k] : out[at + k - n];
    return k;
}

/* ---- a smaller model ---- */

/* The most likely token; false: less likely than min_p. */
static bool choose(const lb_draft *d, u32 *id) {
    u32 n = lb_model_n_vocab(lb_context_model(d->o.context)), best = 0;
    for (u32 i = 1; i < n; i++)
        if (d->logits[i] > d->logits[best])
            best = i;
    *id = best;
    if (best >= d->o.n_vocab)
        return false;
    double sum = d->o.kernels->sum_exp_f32(n, d->logits, d->logits[best]);
    return d->o.min_p <= 0 || 1 / sum >= (double)d->o.min_p;
}

static lb_status ask_model(lb_draft *d, const u32 *ids, u32 n, u32 max, u32 *out, u32 *n_out,
                           lb_err *err) {
    lb_context *c = d->o.context;
    u32 n_vocab = lb_model_n_vocab(lb_context_model(c)), n_ctx = lb_context_n_ctx(c), k = 0, id;
    *n_out = 0;
    if (n >= n_ctx)
        return LB_OK;
    u32 kept = lb_context_keep(c, 0, ids, n - 1);
    for (u32 i = kept; i < n; i++)
        if (ids[i] >= n_vocab)
            return LB_OK;
    LB_TRY(lb_context_eval(c, &(lb_batch){.n = n - kept, .id = ids + kept}, d->logits, err));
    LB_TRY(lb_context_mark(c, 0, err));
    max = LB_MIN(max, n_ctx - n);
    while (k < max && choose(d, &id)) {
        out[k++] = id;
        if (k < max)
            LB_TRY(lb_context_eval(c, &(lb_batch){.n = 1, .id = &id}, d->logits, err));
    }
    *n_out = k;
    return LB_OK;
}

lb_status lb_draft_guess(lb_draft *d, const u32 *ids, u32 n, u32 max, u32 *out, u32 *n_out,
                         lb_err *err) {
    max = LB_MIN(max, d->limit);
    *n_out = d->o.ngram && max ? look_up(d, ids, n, max, out) : 0;
    if (*n_out || !d->o.context || !max || !n)
        return LB_OK;
    return ask_model(d, ids, n, max, out, n_out, err);
}

/* ---- vocabularies ---- */

lb_status lb_draft_check_vocab(const lb_encoder *model, u32 n_vocab, const lb_encoder *draft,
                               u32 n_vocab_draft, lb_err *err) {
    u32 least = LB_MIN(n_vocab, n_vocab_draft), most = LB_MAX(n_vocab, n_vocab_draft);
    if (most - least > VOCAB_DIFFERENCE)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "the draft model has another vocabulary: %u tokens, the model %u",
                       n_vocab_draft, n_vocab);
    for (u32 i = VOCAB_FIRST; i < least; i++) {
        lb_str a = {0}, b = {0};
        lb_token_kind x = lb_encoder_token(model, i, &a), y = lb_encoder_token(draft, i, &b);
        /* rows without a token are filled up with names of their own by converters */
        if (x == LB_TOKEN_NONE || y == LB_TOKEN_NONE || x == LB_TOKEN_UNUSED ||
            y == LB_TOKEN_UNUSED)
            continue;
        if (!lb_str_eq(a, b))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "the draft model has another vocabulary: token %u is \"%.*s\", the "
                           "model's \"%.*s\"",
                           i, (int)LB_MIN(b.len, (size_t)40), b.ptr, (int)LB_MIN(a.len, (size_t)40),
                           a.ptr);
    }
    if (lb_encoder_adds_bos(model) != lb_encoder_adds_bos(draft))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "the draft model has another vocabulary: only one of the two begins texts "
                       "with a token of its own");
    u32 x = lb_encoder_special_id(model, "bos_token"),
        y = lb_encoder_special_id(draft, "bos_token");
    if (lb_encoder_adds_bos(model) && x != y)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "the draft model has another vocabulary: its texts begin with token %u, the "
                       "model's with %u",
                       y, x);
    return LB_OK;
}
