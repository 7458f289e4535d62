/* SPDX-License-Identifier: Apache-2.0 */
/* score.c: see score.h. Chunks and halves: tools/perplexity/perplexity.cpp of llama-cpp-python
 * 0.3.36. */
#include "ops/score.h"
#include "base/mem.h"
#include "model/partial.h"
#include <math.h>

/* Rows of logits at a time, at least one. */
static u32 rows_at_a_time(const lb_context *c, u32 n) {
    const u64 row = lb_model_n_vocab(lb_context_model(c)) * sizeof(float);
    return (u32)LB_MIN(LB_MAX(lb_context_rows_bytes(c) / row, (u64)1), (u64)n);
}

typedef struct rows {
    float *logits;
    u8 *want;
    double *nll; /* perplexity: of each row */
    u32 n;       /* at a time */
} rows;

static lb_status rows_new(rows *r, const lb_context *c, u32 n, lb_err *err) {
    r->n = rows_at_a_time(c, n);
    r->logits = lb_alloc((size_t)r->n * lb_model_n_vocab(lb_context_model(c)) * sizeof(float));
    r->want = lb_alloc(r->n);
    r->nll = lb_alloc(r->n * sizeof *r->nll);
    if (!r->logits || !r->want || !r->nll)
        return lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    memset(r->want, 1, r->n);
    return LB_OK;
}

static void rows_free(rows *r) {
    lb_free(r->logits);
    lb_free(r->want);
    lb_free(r->nll);
}

/* Rows of logits behind tokens `first`, first + 1, .. of ids [n]. */
typedef struct row_job {
    const lb_kernels *k;
    const lb_score_opts *o;
    const u32 *ids;
    const float *logits;
    u32 n, first, vocab;
} row_job;

static void score_row(void *ctx, u64 item, void *scratch) {
    const row_job *j = ctx;
    const float *row = j->logits + item * j->vocab;
    const u32 at = j->first + (u32)item, n_top = j->o->n_top;
    const double all = lb_log_sum_exp(j->k, row, j->vocab);
    (void)scratch;
    if (at + 1 < j->n)
        j->o->logprob[at + 1] = (double)row[j->ids[at + 1]] - all;
    if (n_top)
        (void)lb_logprob_top(row, j->vocab, n_top, all, j->o->top + (size_t)at * n_top);
}

static lb_status score(lb_context *c, const u32 *ids, u32 n, const lb_score_opts *o, const rows *r,
                       lb_err *err) {
    u32 vocab = lb_model_n_vocab(lb_context_model(c));
    for (u32 first = 0; first < n; first += r->n) {
        u32 k = LB_MIN(r->n, n - first);
        lb_batch b = {.n = k, .id = ids + first, .want = r->want};
        LB_TRY(lb_context_eval(c, &b, r->logits, err));
        lb_context_each(
            c, k, score_row,
            &(row_job){lb_model_kernels(lb_context_model(c)), o, ids, r->logits, n, first, vocab});
    }
    return LB_OK;
}

lb_status lb_score(lb_context *c, const u32 *ids, u32 n, const lb_score_opts *o, lb_err *err) {
    const lb_model *m = lb_context_model(c);
    rows r = {0};
    if (!n)
        return LB_OK;
    for (u32 i = 0; i < n; i++)
        if (ids[i] >= lb_model_n_vocab(m))
            return lb_fail(err, LB_E_FORMAT, "token %u: the model's vocabulary has %u", ids[i],
                           lb_model_n_vocab(m));
    (void)lb_context_cut(c, 0, 0);
    lb_status st = rows_new(&r, c, n, err);
    if (st == LB_OK)
        st = score(c, ids, n, o, &r, err);
    rows_free(&r);
    return st;
}

/* ---- perplexity ---- */

/* Rows of logits, and the tokens behind them. */
typedef struct nll_job {
    const lb_kernels *k;
    const float *logits;
    const u32 *next;
    double *nll;
    u32 vocab;
} nll_job;

static void nll_row(void *ctx, u64 item, void *scratch) {
    const nll_job *j = ctx;
    const float *row = j->logits + item * j->vocab;
    (void)scratch;
    j->nll[item] = lb_log_sum_exp(j->k, row, j->vocab) - (double)row[j->next[item]];
}

static lb_status add_rows(lb_perplexity *p, lb_context *c, const rows *r, u32 n, const u32 *next,
                          lb_err *err) {
    const u32 vocab = lb_model_n_vocab(lb_context_model(c));
    lb_context_each(
        c, n, nll_row,
        &(nll_job){lb_model_kernels(lb_context_model(c)), r->logits, next, r->nll, vocab});
    for (u32 i = 0; i < n; i++) {
        const double nll = r->nll[i];
        if (isnan(nll))
            return lb_fail(err, LB_E_FORMAT,
                           "the model's logits are not numbers (NaN): scored token %llu",
                           (unsigned long long)p->n_tokens + 1);
        p->nll += nll;
        p->nll2 += nll * nll;
        p->n_tokens++;
    }
    return LB_OK;
}

/* One chunk: its first half is read, of the second all but the last token say what comes next. */
typedef struct chunks {
    lb_context *c;
    const lb_perplexity_opts *o;
    rows r;
    lb_perplexity *out;
} chunks;

static lb_status run_chunk(chunks *x, u32 *ids, u64 chunk, lb_err *err) {
    lb_context *c = x->c;
    const lb_perplexity_opts *o = x->o;
    const rows *r = &x->r;
    u32 first = o->n_ctx / 2, keep = ids[0];
    if (o->bos != LB_NO_INDEX)
        ids[0] = o->bos;
    (void)lb_context_cut(c, 0, 0);
    memset(r->want, 0, r->n);
    for (u32 at = 0; at < first;) {
        u32 k = LB_MIN(r->n, first - at);
        LB_TRY(lb_context_eval(c, &(lb_batch){.n = k, .id = ids + at, .want = r->want}, r->logits,
                               err));
        at += k;
    }
    ids[0] = keep;
    memset(r->want, 1, r->n);
    for (u32 at = first; at + 1 < o->n_ctx;) {
        u32 k = LB_MIN(r->n, o->n_ctx - 1 - at);
        LB_TRY(lb_context_eval(c, &(lb_batch){.n = k, .id = ids + at, .want = r->want}, r->logits,
                               err));
        LB_TRY(add_rows(x->out, c, r, k, ids + at + 1, err));
        if (o->row)
            LB_TRY(o->row(o->user, chunk, at, k, ids, r->logits, err));
        at += k;
    }
    return LB_OK;
}

lb_status lb_perplexity_run(lb_context *c, const u32 *text, u64 n, const lb_perplexity_opts *o,
                            lb_perplexity *out, lb_err *err) {
    chunks x = {c, o, {0}, out};
    lb_status st = LB_OK;
    u64 n_chunks = n / o->n_ctx;
    *out = (lb_perplexity){0};
    if (n < 2ull * o->n_ctx)
        return lb_fail(err, LB_E_USAGE,
                       "the text has %llu tokens: perplexity needs at least %llu, two chunks of "
                       "--ctx %u",
                       (unsigned long long)n, 2ull * o->n_ctx, o->n_ctx);
    if (o->n_chunks_max)
        n_chunks = LB_MIN(n_chunks, (u64)o->n_chunks_max);
    u32 *ids = lb_alloc((size_t)o->n_ctx * sizeof *ids);
    st = ids ? rows_new(&x.r, c, o->n_ctx, err) : lb_fail(err, LB_E_NOMEM, "out of memory");
    for (u64 i = 0; i < n_chunks && st == LB_OK; i++) {
        memcpy(ids, text + i * o->n_ctx, (size_t)o->n_ctx * sizeof *ids);
        st = run_chunk(&x, ids, i, err);
        out->n_chunks += st == LB_OK;
        if (o->progress)
            o->progress(o->user, (i + 1) * o->n_ctx, n_chunks * o->n_ctx);
    }
    rows_free(&x.r);
    lb_free(ids);
    return st;
}

double lb_perplexity_value(const lb_perplexity *p) {
    return exp(p->nll / (double)p->n_tokens);
}

double lb_perplexity_stderr(const lb_perplexity *p) {
    double n = (double)p->n_tokens, mean = p->nll / n, var = p->nll2 / n - mean * mean;
    return n > 1 && var > 0 ? sqrt(var / (n - 1)) * exp(mean) : 0;
}
