/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix.c: see imatrix.h. */
#include "ops/imatrix.h"
#include "base/mem.h"
#include "model/logprob.h"
#include "model/partial.h"
#include <float.h>

/* ---- the tap ---- */

struct lb_imatrix_tap {
    const lb_mweights *weights;
    lb_imatrix_set *set;
    bool output, open;          /* open: a run takes what comes */
    lb_imatrix_entry_sums **of; /* [weights->n] NULL: not met yet */
    lb_err err;                 /* the first that went wrong */
};

static bool is_experts(const lb_mweight *w) {
    return lb_str_ends(w->name, LB_STR("_exps.weight"));
}

/* Counts of a weight's entry: one an expert; other stacks, which all tokens go through, have one.
 */
static u64 n_counts(const lb_mweight *w) {
    return is_experts(w) ? w->n_stack : 1;
}

static lb_status not_of_model(const lb_imatrix_entry_sums *e, const lb_mweight *w, lb_err *err) {
    char text[LB_SHAPE_TEXT];
    if (!w)
        return lb_fail(err, LB_E_FORMAT,
                       "an importance matrix of another model: it has '%.*s', the model has not",
                       LB_FMT(e->name));
    return lb_fail(err, LB_E_FORMAT,
                   "an importance matrix of another model: '%.*s' has %llu values and %llu "
                   "count%s, the model's is %s",
                   LB_FMT(e->name), (unsigned long long)e->n_values,
                   (unsigned long long)e->n_counts, e->n_counts == 1 ? "" : "s",
                   lb_shape_text(&w->shape, text));
}

/* One count for all matrices becomes one for each expert; counts of other stacks, which old files
 * have, become one where they are equal. */
static lb_status adopt(lb_imatrix_tap *t, lb_imatrix_entry_sums *e, lb_err *err) {
    const lb_mweight *w = lb_mweights_find(t->weights, e->name);
    if (!w || e->n_values != w->n_cols * w->n_stack)
        return not_of_model(e, w, err);
    u64 want = n_counts(w);
    bool equal = true;
    for (u64 i = 1; i < e->n_counts; i++)
        equal = equal && e->counts[i] == e->counts[0];
    if (want == 1 && equal)
        e->n_counts = 1;
    if (want > 1 && e->n_counts == 1)
        LB_TRY(lb_imatrix_set_widen(t->set, e, want, err));
    if (e->n_counts != want && e->n_counts != w->n_stack)
        return not_of_model(e, w, err);
    t->of[w - t->weights->list] = e;
    return LB_OK;
}

lb_status lb_imatrix_tap_new(lb_imatrix_tap **out, const lb_mweights *weights, lb_imatrix_set *set,
                             bool output, lb_err *err) {
    lb_imatrix_tap *t = *out = lb_alloc_zero(1, sizeof *t);
    lb_status st = LB_OK;
    if (t)
        *t = (lb_imatrix_tap){.weights = weights,
                              .set = set,
                              .output = output,
                              .of = lb_alloc_zero(weights->n + 1, sizeof(void *))};
    if (!t || !t->of)
        st = lb_fail(err, LB_E_NOMEM, "out of memory for the importance matrix");
    for (u64 i = 0; st == LB_OK && i < lb_imatrix_set_n(set); i++)
        st = adopt(t, lb_imatrix_set_at(set, i), err);
    if (st != LB_OK)
        lb_imatrix_tap_free(out);
    return st;
}

void lb_imatrix_tap_free(lb_imatrix_tap **tp) {
    if (*tp)
        lb_free((*tp)->of);
    lb_free(*tp);
    *tp = NULL;
}

static bool is_measured(const lb_imatrix_tap *t, lb_str name) {
    return lb_str_starts(name, LB_STR("blk.")) || (t->output && lb_str_eq_c(name, "output.weight"));
}

/* The tensor that a weight is, or is one half of: then only the first is counted. */
static const lb_mweight *whole_of(const lb_imatrix_tap *t, const lb_mweight *w) {
    const lb_mweight *list = t->weights->list;
    if (w >= list && w < list + t->weights->n)
        return w;
    const lb_mweight *whole = lb_mweights_find(t->weights, w->name);
    return whole && whole->mats && w->mats[0].codes == whole->mats[0].codes ? whole : NULL;
}

static lb_imatrix_entry_sums *entry_of(lb_imatrix_tap *t, const lb_mweight *w) {
    lb_imatrix_entry_sums **e = &t->of[w - t->weights->list];
    if (!*e && lb_imatrix_set_add(t->set, w->name, w->n_cols * w->n_stack, n_counts(w), e,
                                  &t->err) != LB_OK)
        *e = NULL;
    return *e;
}

static void add_squares(double *restrict to, const float *restrict x, u64 n) {
    for (u64 i = 0; i < n; i++)
        to[i] += (double)x[i] * (double)x[i];
}

static void check_finite(lb_imatrix_tap *t, const lb_mweight *w, const double *sum) {
    for (u64 i = 0; i < w->n_cols; i++)
        if (!(sum[i] <= (double)FLT_MAX)) {
            lb_fail(&t->err, LB_E_FORMAT,
                    "tensor '%.*s': column %llu of its input is not finite, or its sum of squares "
                    "too large",
                    LB_FMT(w->name), (unsigned long long)i);
            return;
        }
}

/* The entry to which a product of w adds; *w becomes the tensor. NULL: it is not measured. */
static lb_imatrix_entry_sums *measured(lb_imatrix_tap *t, const lb_mweight **w) {
    if (!t->open || t->err.code != LB_OK || !is_measured(t, (*w)->name))
        return NULL;
    *w = whole_of(t, *w);
    return *w ? entry_of(t, *w) : NULL;
}

/* Behind what was added to the columns of a matrix. */
static void count(lb_imatrix_tap *t, const lb_mweight *w, lb_imatrix_entry_sums *e, u64 mat,
                  u64 n_tokens) {
    check_finite(t, w, e->values + mat * w->n_cols);
    if (is_experts(w))
        e->counts[mat] += n_tokens;
    else if (mat == 0)
        for (u64 i = 0; i < e->n_counts; i++)
            e->counts[i] += n_tokens;
}

void lb_imatrix_tap_take(void *user, const lb_mweight *w, u32 expert, const float *x,
                         size_t n_tokens, size_t stride) {
    lb_imatrix_tap *t = user;
    lb_imatrix_entry_sums *e = measured(t, &w);
    const u64 mat = expert == LB_NO_INDEX ? 0 : expert;
    for (size_t i = 0; e && i < n_tokens; i++)
        add_squares(e->values + mat * w->n_cols, x + i * stride, w->n_cols);
    if (e)
        count(t, w, e, mat, n_tokens);
}

/* lb_sums_fn: of devices, where a session has some. */
static void take_sums(void *user, const lb_mweight *w, u32 expert, const float *sums,
                      u64 n_tokens) {
    lb_imatrix_tap *t = user;
    lb_imatrix_entry_sums *e = measured(t, &w);
    const u64 mat = expert == LB_NO_INDEX ? 0 : expert;
    for (u64 i = 0; e && i < w->n_cols; i++)
        e->values[mat * w->n_cols + i] += (double)sums[i];
    if (e)
        count(t, w, e, mat, n_tokens);
}

/* ---- chunks ---- */

typedef struct running {
    lb_context *c;
    lb_imatrix_tap *tap;
    const lb_imatrix_opts *o;
    lb_imatrix_result *out;
    u32 n_vocab, n_rows; /* tokens at a time */
    u32 *ids;
    u8 *want;
    float *logits; /* NULL: they are not computed */
    double *nll;   /* [n_rows] */
} running;

u64 lb_imatrix_n_chunks(u64 n_tokens, const lb_imatrix_opts *o) {
    u64 n = n_tokens / o->n_ctx;
    if (o->first_chunk >= n || (n - o->first_chunk) < 2)
        return 0;
    n -= o->first_chunk;
    return o->n_chunks_max ? LB_MIN(n, o->n_chunks_max) : n;
}

/* Whether token i counts: those of the second half whose next token is in the chunk. */
static bool counts_at(const running *r, u32 i) {
    return r->o->perplexity && i >= r->o->n_ctx / 2 && i + 1 < r->o->n_ctx;
}

typedef struct score_job {
    const running *r;
    u32 token; /* whose logits are the first row */
} score_job;

static void score_row(void *ctx, u64 row, void *scratch) {
    const score_job *j = ctx;
    const running *r = j->r;
    const u32 i = j->token + (u32)row;
    const float *logits = r->logits + row * r->n_vocab;
    (void)scratch;
    if (counts_at(r, i))
        r->nll[row] = lb_log_sum_exp(lb_model_kernels(lb_context_model(r->c)), logits, r->n_vocab) -
                      (double)logits[r->ids[i + 1]];
}

/* Tokens [at, at + n), whose logits are there where they are wanted; the last ones are. */
static void score(running *r, u32 at, u32 n) {
    u32 first = at;
    while (first < at + n && !r->want[first - at])
        first++;
    lb_context_each(r->c, at + n - first, score_row, &(score_job){r, first});
    for (u32 i = first; i < at + n; i++) {
        const double nll = r->nll[i - first];
        if (!counts_at(r, i))
            continue;
        r->out->nll += nll;
        r->out->nll2 += nll * nll;
        r->out->n_scored++;
    }
}

u32 lb_imatrix_part(u32 n_batch, u32 left) {
    u32 n = n_batch < LB_IMATRIX_BATCH_MIN ? n_batch : n_batch - LB_IMATRIX_UNIT + 1;
    return left <= n_batch ? left : n < LB_IMATRIX_UNIT ? n : n - n % LB_IMATRIX_UNIT;
}

static lb_status run_chunk(running *r, lb_err *err) {
    if (r->o->bos != LB_NO_INDEX)
        r->ids[0] = r->o->bos;
    (void)lb_context_cut(r->c, 0, 0);
    for (u32 at = 0, n; at < r->o->n_ctx; at += n) {
        n = lb_imatrix_part(r->n_rows, r->o->n_ctx - at);
        for (u32 i = 0; i < n; i++)
            r->want[i] = r->o->output || (r->o->perplexity && at + i >= r->o->n_ctx / 2);
        LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = n, .id = r->ids + at, .want = r->want},
                               r->logits, err));
        if (r->o->perplexity)
            score(r, at, n);
    }
    LB_TRY(lb_context_take_sums(r->c, take_sums, r->tap, err));
    if (r->tap->err.code == LB_OK)
        return LB_OK;
    *err = r->tap->err;
    return r->tap->err.code;
}

static lb_status begin(running *r, lb_err *err) {
    bool logits = r->o->perplexity || r->o->output;
    u64 rows = lb_context_rows_bytes(r->c) / ((u64)r->n_vocab * sizeof(float));
    r->n_rows = LB_MIN(lb_context_n_batch(r->c), r->o->n_ctx);
    if (logits)
        r->n_rows = (u32)LB_MIN(LB_MAX(rows, (u64)LB_IMATRIX_BATCH_MIN), (u64)r->n_rows);
    r->ids = lb_alloc((size_t)r->o->n_ctx * sizeof *r->ids);
    r->want = lb_alloc(r->n_rows);
    r->nll = lb_alloc(r->n_rows * sizeof *r->nll);
    r->logits = logits ? lb_alloc((size_t)r->n_rows * r->n_vocab * sizeof(float)) : NULL;
    return r->ids && r->want && r->nll && (!logits || r->logits)
               ? LB_OK
               : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
}

static lb_status run_all(running *r, const u32 *ids, u64 n_chunks, lb_err *err) {
    const lb_imatrix_opts *o = r->o;
    for (u64 i = 0; i < n_chunks; i++) {
        u64 chunk = o->first_chunk + i;
        memcpy(r->ids, ids + chunk * o->n_ctx, (size_t)o->n_ctx * sizeof *r->ids);
        lb_status st = run_chunk(r, err);
        if (st != LB_OK) {
            lb_err_context(err, "chunk %llu", (unsigned long long)chunk);
            return st;
        }
        r->out->n_chunks++;
        if (o->progress)
            o->progress(o->user, (i + 1) * o->n_ctx, n_chunks * o->n_ctx);
        if (o->save_every && (i + 1) % o->save_every == 0)
            LB_TRY(o->save(o->user, chunk + 1, err));
    }
    return LB_OK;
}

lb_status lb_imatrix_run(lb_context *c, lb_imatrix_tap *t, const u32 *ids, u64 n,
                         const lb_imatrix_opts *o, lb_imatrix_result *out, lb_err *err) {
    running r = {
        .c = c, .tap = t, .o = o, .out = out, .n_vocab = lb_model_n_vocab(lb_context_model(c))};
    u64 n_chunks = lb_imatrix_n_chunks(n, o);
    *out = (lb_imatrix_result){0};
    if (!n_chunks)
        return lb_fail(err, LB_E_USAGE,
                       "the text has %llu tokens: at least %llu are needed, two chunks of --ctx "
                       "%u%s",
                       (unsigned long long)n, (unsigned long long)((o->first_chunk + 2) * o->n_ctx),
                       o->n_ctx, o->first_chunk ? " behind those that are passed over" : "");
    lb_status st = begin(&r, err);
    if (st == LB_OK)
        st = lb_context_take_sums(c, NULL, NULL, err); /* of what came before */
    t->open = st == LB_OK;
    if (st == LB_OK)
        st = run_all(&r, ids, n_chunks, err);
    t->open = false;
    lb_free(r.ids);
    lb_free(r.want);
    lb_free(r.nll);
    lb_free(r.logits);
    return st;
}
