/* SPDX-License-Identifier: Apache-2.0 */
/* divergence.c: see divergence.h. The measures are those of tools/perplexity/perplexity.cpp of
 * llama-cpp-python 0.3.36 (kl_divergence), of exact logits and in double. */
#include "ops/divergence.h"
#include "base/mapped.h"
#include "base/os.h"
#include "model/logprob.h"
#include "plan/sink.h"
#include <math.h>
#include <stdlib.h>

static unsigned long long ull(u64 v) {
    return v;
}

/* ---- writing: the sink of models, with a plan that has one file and no tensor ---- */

struct lb_logits_writer {
    lb_plan *plan;
    lb_sink *sink;
    lb_logits l;
    u64 size_bytes;
    const u32 *ids;
};

static lb_sink_options sink_options(const lb_logits_target *t) {
    return (lb_sink_options){.path = t->path, .force = t->force, .sync = !t->no_sync};
}

lb_status lb_logits_check_target(const lb_logits_target *t, const lb_source *model, lb_err *err) {
    lb_plan *plan = NULL;
    lb_sink_options so = sink_options(t);
    LB_TRY(lb_plan_new(&plan, &model, model != NULL, err));
    lb_status st = lb_sink_check(plan, &so, err);
    lb_plan_free(&plan);
    return st;
}

/* Head and ids come last, as the sink's head: a partial file is not one. */
static lb_status make_head(void *ctx, lb_out *out, lb_err *err) {
    lb_logits_writer *w = ctx;
    u8 head[LB_LOGITS_HEAD_BYTES];
    (void)err;
    lb_logits_head(&w->l, w->ids, head);
    lb_buf_put(&out->buf, head, sizeof head);
    for (u64 i = 0; i < w->l.n_chunks && !lb_out_failed(out); i++) {
        lb_buf_put(&out->buf, w->ids + i * w->l.n_ctx, w->l.n_ctx * sizeof(u32));
        lb_out_spill(out);
    }
    return LB_OK;
}

lb_status lb_logits_create(lb_logits_writer **out, const lb_logits_target *t,
                           const lb_source *model, const lb_logits *l, const u32 *ids,
                           lb_err *err) {
    u8 head[LB_LOGITS_HEAD_BYTES];
    const char *partial, *journal;
    lb_sink_options so = sink_options(t);
    lb_status st;
    lb_logits_writer *w = *out = lb_alloc_zero(1, sizeof *w);
    if (!w)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the file of logits");
    w->l = *l;
    w->ids = ids;
    if (!lb_logits_size(l, &w->size_bytes) || w->size_bytes > INT64_MAX)
        LB_TRY_DONE(st, lb_fail(err, LB_E_LIMIT, "%s: too many logits for a file", t->path));
    lb_logits_head(&w->l, ids, head);
    LB_TRY_DONE(st, lb_plan_new(&w->plan, &model, 1, err));
    (void)lb_plan_file(w->plan, LB_STR_NONE, w->size_bytes);
    LB_TRY_DONE(st, w->plan->err.code == LB_OK
                        ? LB_OK
                        : lb_fail(err, LB_E_NOMEM, "out of memory for the file of logits"));
    LB_TRY_DONE(st, lb_sink_open(&w->sink, w->plan, &so, err));
    lb_sink_unfinished(w->sink, &partial, &journal);
    lb_mapped_remove_at_fault(partial, journal);
done:
    if (st != LB_OK)
        lb_logits_close(out);
    return st;
}

lb_status lb_logits_put(lb_logits_writer *w, u64 row, u32 n_rows, const float *logits,
                        lb_err *err) {
    u64 len = (u64)w->l.n_vocab * sizeof *logits;
    for (u32 i = 0; i < n_rows; i++) {
        const float *values = logits + (size_t)i * w->l.n_vocab;
        u64 off = lb_logits_row_off(&w->l, row + i);
        u8 hash[16];
        u32 top;
        if (!lb_logprob_first(values, w->l.n_vocab, &top))
            return lb_fail(err, LB_E_FORMAT,
                           "the model's logits of row %llu of chunk %llu are not numbers: nothing "
                           "to save",
                           ull((row + i) % lb_logits_n_rows(&w->l) + 1),
                           ull((row + i) / lb_logits_n_rows(&w->l) + 1));
        lb_logits_row_hash(&w->l, row + i, values, hash);
        LB_TRY(lb_sink_write(w->sink, 0, off, values, len, err));
        LB_TRY(lb_sink_write(w->sink, 0, off + len, hash, sizeof hash, err));
    }
    return LB_OK;
}

lb_status lb_logits_finish(lb_logits_writer *w, lb_err *err) {
    lb_sink_head head = {.make = make_head, .ctx = w};
    return lb_sink_finish(w->sink, &(lb_sink_ending){.heads = &head}, err);
}

u64 lb_logits_written(const lb_logits_writer *w) {
    return w->size_bytes;
}

void lb_logits_close(lb_logits_writer **wp) {
    lb_logits_writer *w = *wp;
    if (!w)
        return;
    lb_mapped_remove_at_fault(NULL, NULL);
    lb_sink_close(&w->sink, NULL);
    lb_plan_free(&w->plan);
    lb_free(w);
    *wp = NULL;
}

/* ---- comparing ---- */

typedef struct sums { /* of values and of their squares */
    double sum, squares;
} sums;

struct lb_divergence {
    lb_cur file;
    lb_logits l;
    float *row;  /* [n_vocab] of the file */
    double *kls; /* [n_max] of each token */
    u64 n, n_max, n_same_top;
    double nll_base;
    sums kl, log_ratio, p2; /* p2: of the square of the change of p */
};

lb_status lb_divergence_open(lb_divergence **out, const char *path, lb_err *err) {
    lb_divergence *d = *out = lb_alloc_zero(1, sizeof *d);
    if (!d)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_status st = lb_cur_open(&d->file, path, err);
    if (st == LB_OK)
        st = lb_logits_parse(&d->file, &d->l, err);
    if (st != LB_OK)
        lb_divergence_close(out);
    return st;
}

void lb_divergence_close(lb_divergence **dp) {
    lb_divergence *d = *dp;
    if (!d)
        return;
    lb_cur_close(&d->file);
    lb_free(d->row);
    lb_free(d->kls);
    lb_free(d);
    *dp = NULL;
}

const lb_logits *lb_divergence_head(const lb_divergence *d) {
    return &d->l;
}

static lb_status check_run(const lb_divergence *d, const lb_logits *here, lb_err *err) {
    const lb_logits *l = &d->l;
    const char *path = d->file.path;
    if (l->n_vocab != here->n_vocab)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: of a model whose vocabulary has %u tokens: this model's has %u", path,
                       l->n_vocab, here->n_vocab);
    if (l->n_ctx != here->n_ctx)
        return lb_fail(err, LB_E_FORMAT, "%s: of chunks of %u tokens: --ctx is %u", path, l->n_ctx,
                       here->n_ctx);
    if (l->bos != here->bos)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: of a tokenizer that begins a text in another way (token %lld there, "
                       "%lld here; -1: none)",
                       path, l->bos == LB_LOGITS_OWN ? -1LL : (long long)l->bos,
                       here->bos == LB_LOGITS_OWN ? -1LL : (long long)here->bos);
    if (l->n_chunks > here->n_chunks)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: of another text or another tokenizer: %llu chunks of %u tokens, the "
                       "text has %llu here",
                       path, ull(l->n_chunks), l->n_ctx, ull(here->n_chunks));
    return LB_OK;
}

lb_status lb_divergence_begin(lb_divergence *d, const lb_logits *here, const u32 *ids, u64 n_chunks,
                              lb_err *err) {
    LB_TRY(check_run(d, here, err));
    LB_ASSERT(n_chunks && n_chunks <= d->l.n_chunks);
    LB_TRY(lb_logits_check_ids(&d->file, &d->l, ids, err));
    d->n_max = n_chunks * lb_logits_n_rows(&d->l);
    d->row = lb_alloc((size_t)d->l.n_vocab * sizeof *d->row);
    d->kls = lb_alloc_zero(d->n_max, sizeof *d->kls);
    return d->row && d->kls ? LB_OK
                            : lb_fail(err, LB_E_NOMEM, "out of memory for a number of each token");
}

static void add(sums *s, double v) {
    s->sum += v;
    s->squares += v * v;
}

/* Which of the two rows is none. */
static lb_status no_row(const lb_divergence *d, u64 row, lb_err *err) {
    u32 top;
    bool file = !lb_logprob_first(d->row, d->l.n_vocab, &top);
    return lb_fail(err, LB_E_FORMAT, "%s%s: the logits of row %llu of chunk %llu are not numbers",
                   d->file.path, file ? "" : ": compared with the model's",
                   ull(row % lb_logits_n_rows(&d->l) + 1), ull(row / lb_logits_n_rows(&d->l) + 1));
}

lb_status lb_divergence_add(lb_divergence *d, u64 row, u32 n_rows, const float *logits,
                            const u32 *next, lb_err *err) {
    u32 n_vocab = d->l.n_vocab;
    for (u32 i = 0; i < n_rows; i++) {
        lb_logprob_pair x;
        LB_ASSERT(d->n < d->n_max);
        LB_TRY(lb_logits_row(&d->file, &d->l, row + i, d->row, err));
        if (!lb_logprob_compare(d->row, logits + (size_t)i * n_vocab, n_vocab, next[i], &x))
            return no_row(d, row + i, err);
        double change = lb_exp_f64(x.q) - lb_exp_f64(x.p);
        add(&d->kl, x.kl);
        add(&d->log_ratio, x.p == x.q ? 0 : x.p - x.q);
        add(&d->p2, change * change);
        d->nll_base -= x.p;
        d->n_same_top += x.same_top;
        d->kls[d->n++] = x.kl;
    }
    return LB_OK;
}

/* ---- the result ---- */

static lb_mean mean_of(sums s, u64 n) {
    double mean = s.sum / (double)n, var = s.squares / (double)n - mean * mean;
    return (lb_mean){mean, n > 1 && var > 0 ? sqrt(var / (double)(n - 1)) : 0};
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, u64 n, double part) {
    double at = part * (double)(n - 1);
    u64 i = (u64)at;
    double rest = at - (double)i;
    return rest > 0 ? sorted[i] + rest * (sorted[i + 1] - sorted[i]) : sorted[i];
}

void lb_divergence_end(lb_divergence *d, lb_divergence_result *r) {
    u64 n = d->n;
    *r = (lb_divergence_result){.n = n};
    if (!n)
        return;
    qsort(d->kls, n, sizeof *d->kls, by_value);
    lb_mean square = mean_of(d->p2, n);
    double share = (double)d->n_same_top / (double)n;
    r->kl = mean_of(d->kl, n);
    r->kl_median = percentile(d->kls, n, 0.5);
    r->kl_p99 = percentile(d->kls, n, 0.99);
    r->kl_max = d->kls[n - 1];
    r->perplexity_base = lb_exp_f64(d->nll_base / (double)n);
    r->log_ratio = mean_of(d->log_ratio, n);
    r->p_rms.value = sqrt(square.value);
    r->p_rms.stderr_ = square.value > 0 ? 0.5 / r->p_rms.value * square.stderr_ : 0;
    r->same_top = (lb_mean){share, n > 1 ? sqrt(share * (1 - share) / (double)(n - 1)) : 0};
}
