/* SPDX-License-Identifier: Apache-2.0 */
/* draft.c: see draft.h. */
#include "ops/draft.h"
#include "base/mem.h"

#define LIMIT_FIRST 4u
#define VOCAB_DIFFERENCE 128u /* llama.cpp: SPEC_VOCAB_MAX_SIZE_DIFFERENCE */
#define VOCAB_FIRST 5u        /* SPEC_VOCAB_CHECK_START_TOKEN_ID */

struct lb_draft {
    lb_draft_opts o;
    u32 *limit; /* [n_seqs] tokens of the next guess */
    /* For the smaller model; NULL: there is none. */
    float *logits;        /* [n_seqs, its n_vocab] */
    lb_draft_ask **asked; /* [n_seqs] that it still goes on with */
    lb_buf ids, seqs;     /* of a batch: u32 */
    lb_buf wants;         /* of it: u8 */
};

lb_status lb_draft_new(lb_draft **out, const lb_draft_opts *o, lb_err *err) {
    *out = NULL;
    if (!o->n_max || o->n_max > LB_DRAFT_MAX)
        return lb_fail(err, LB_E_USAGE, "drafts have 1 to %u tokens", LB_DRAFT_MAX);
    if (o->ngram && (o->ngram < LB_NGRAM_LEAST || o->ngram > LB_NGRAM_MAX))
        return lb_fail(err, LB_E_USAGE, "%u to %u tokens are looked up", LB_NGRAM_LEAST,
                       LB_NGRAM_MAX);
    u32 n_seqs = LB_MAX(o->n_seqs, 1u);
    lb_draft *d = lb_alloc_zero(1, sizeof *d);
    bool made = d && (d->limit = lb_alloc_zero(n_seqs, sizeof *d->limit)) != NULL;
    if (made && o->context) {
        u32 n_vocab = lb_model_n_vocab(lb_context_model(o->context));
        d->logits = lb_alloc_zero(n_seqs, n_vocab * sizeof(float));
        d->asked = lb_alloc_zero(n_seqs, sizeof(lb_draft_ask *));
        made = d->logits && d->asked;
    }
    if (!made) {
        lb_draft_free(&d);
        return lb_fail(err, LB_E_NOMEM, "out of memory for drafts");
    }
    d->o = *o;
    d->o.n_seqs = n_seqs;
    for (u32 i = 0; i < n_seqs; i++)
        lb_draft_begin(d, i);
    *out = d;
    return LB_OK;
}

void lb_draft_free(lb_draft **d) {
    if (!*d)
        return;
    lb_free((*d)->limit);
    lb_free((*d)->logits);
    lb_free((*d)->asked);
    lb_buf_deinit(&(*d)->ids);
    lb_buf_deinit(&(*d)->seqs);
    lb_buf_deinit(&(*d)->wants);
    lb_free(*d);
    *d = NULL;
}

u32 lb_draft_n_max(const lb_draft *d) {
    return d->o.n_max;
}

void lb_draft_begin(lb_draft *d, u32 seq) {
    d->limit[seq] = LB_MIN(d->o.n_max, LIMIT_FIRST);
}

void lb_draft_learn(lb_draft *d, u32 seq, u32 n_guessed, u32 n_right) {
    u32 *limit = &d->limit[seq];
    if (n_guessed && n_right == n_guessed)
        *limit = LB_MIN(d->o.n_max, LB_MAX(*limit, 2 * n_guessed));
    else if (n_guessed)
        *limit = LB_MIN(d->o.n_max, n_right + 1);
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
static u32 look_up(const lb_draft *d, const lb_draft_ask *ask, u32 max) {
    const u32 *ids = ask->ids;
    u32 *out = ask->out, n = ask->n;
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
static bool choose(const lb_draft *d, const float *logits, u32 *id) {
    u32 n = lb_model_n_vocab(lb_context_model(d->o.context)), best = 0;
    for (u32 i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    *id = best;
    if (best >= d->o.n_vocab)
        return false;
    double sum = d->o.kernels->sum_exp_f32(n, logits, logits[best]);
    return d->o.min_p <= 0 || 1 / sum >= (double)d->o.min_p;
}

static void add(lb_draft *d, u32 seq, const u32 *ids, u32 n) {
    for (u32 i = 0; i < n; i++) {
        lb_buf_put_u32(&d->ids, ids[i]);
        lb_buf_put_u32(&d->seqs, seq);
        lb_buf_put_u8(&d->wants, i + 1 == n);
    }
}

static void empty(lb_draft *d) {
    lb_buf_reset(&d->ids);
    lb_buf_reset(&d->seqs);
    lb_buf_reset(&d->wants);
}

/* What was added is read; logits have a row for each sequence of it. */
static lb_status read_added(lb_draft *d, lb_err *err) {
    LB_TRY(lb_buf_status(&d->ids, err));
    LB_TRY(lb_buf_status(&d->seqs, err));
    LB_TRY(lb_buf_status(&d->wants, err));
    return lb_context_eval(d->o.context,
                           &(lb_batch){.n = (u32)d->wants.len,
                                       .id = (const u32 *)(const void *)d->ids.ptr,
                                       .seq = (const u32 *)(const void *)d->seqs.ptr,
                                       .want = (const u8 *)d->wants.ptr},
                           d->logits, err);
}

/* The text as far as the smaller model has not read it; false: it cannot. */
static bool add_text(lb_draft *d, const lb_draft_ask *ask) {
    lb_context *c = d->o.context;
    u32 n_vocab = lb_model_n_vocab(lb_context_model(c));
    if (ask->n >= lb_context_n_ctx(c))
        return false;
    u32 kept = lb_context_keep(c, ask->seq, ask->ids, ask->n - 1);
    for (u32 i = kept; i < ask->n; i++)
        if (ask->ids[i] >= n_vocab)
            return false;
    add(d, ask->seq, ask->ids + kept, ask->n - kept);
    return true;
}

/* The first n of `asked` get a token each, as long as it is likely, from the rows of logits. How
 * many go on. */
static u32 take_tokens(lb_draft *d, u32 n) {
    const lb_context *c = d->o.context;
    size_t n_vocab = lb_model_n_vocab(lb_context_model(c));
    u32 more = 0, id;
    empty(d);
    for (u32 i = 0; i < n; i++) {
        lb_draft_ask *ask = d->asked[i];
        u32 max = LB_MIN(LB_MIN(ask->max, d->limit[ask->seq]), lb_context_n_ctx(c) - ask->n);
        if (!choose(d, d->logits + i * n_vocab, &id))
            continue;
        ask->out[ask->n_out++] = id;
        if (ask->n_out == max)
            continue;
        add(d, ask->seq, &id, 1);
        d->asked[more++] = ask;
    }
    return more;
}

/* Of those that have no guess yet. */
static lb_status ask_model(lb_draft *d, lb_draft_ask *asks, u32 n_asks, lb_err *err) {
    u32 n = 0;
    empty(d);
    for (u32 i = 0; i < n_asks; i++)
        if (!asks[i].n_out && asks[i].n && asks[i].max && add_text(d, &asks[i]))
            d->asked[n++] = &asks[i];
    if (!n)
        return LB_OK;
    LB_TRY(read_added(d, err));
    for (u32 i = 0; i < n; i++)
        LB_TRY(lb_context_mark(d->o.context, d->asked[i]->seq, err));
    while ((n = take_tokens(d, n)) != 0)
        LB_TRY(read_added(d, err));
    return LB_OK;
}

lb_status lb_draft_guess(lb_draft *d, lb_draft_ask *asks, u32 n_asks, lb_err *err) {
    LB_ASSERT(n_asks <= d->o.n_seqs);
    for (u32 i = 0; i < n_asks; i++) {
        u32 max = LB_MIN(asks[i].max, d->limit[asks[i].seq]);
        asks[i].n_out = d->o.ngram && max ? look_up(d, &asks[i], max) : 0;
    }
    return d->o.context ? ask_model(d, asks, n_asks, err) : LB_OK;
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
