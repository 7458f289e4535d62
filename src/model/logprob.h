/* SPDX-License-Identifier: Apache-2.0 */
/* logprob.h: log-probabilities of a row of logits, in double, the same on every machine: exp and
 * log by additions, multiplications and divisions only, sums in one order. Their error is below
 * 1e-14, that of a sum over 2^20 tokens below 1e-12. Logits of -inf or NaN have probability 0. */
#ifndef LB_MODEL_LOGPROB_H
#define LB_MODEL_LOGPROB_H

#include "kernel/kernel.h"

typedef struct lb_token_logprob {
    u32 token;
    double logprob;
} lb_token_logprob;

/* log of the sum of exp(logits[i]): the log-probability of token i is logits[i] less this.
 * -inf where no logit is a number above -inf; +inf where one is +inf. */
double lb_log_sum_exp(const lb_kernels *k, const float *logits, u32 n);
/* The k most probable, best first, equal ones by id; returns how many (at most n). all: the row's
 * lb_log_sum_exp. No memory, a heap in out. */
u32 lb_logprob_top(const float *logits, u32 n, u32 k, double all, lb_token_logprob *out);
/* How many tokens are more probable (or as probable with a lower id): 0 for the first. */
u32 lb_logprob_rank(const float *logits, u32 n, u32 token);

/* The most probable token, of equals the one with the lowest id. False: a logit is NaN or +inf, or
 * none is above -inf. */
bool lb_logprob_first(const float *logits, u32 n, u32 *token);

/* Two rows over the same tokens: q's logits against p's. */
typedef struct lb_logprob_pair {
    double kl;     /* sum of p (log p - log q) over all tokens, at least 0; inf: q rules out what p
                      does not. Equal rows: 0. Its error is below 1e-13. */
    double p, q;   /* log-probabilities of the token */
    bool same_top; /* the most probable token is the same */
} lb_logprob_pair;
/* False: one of them has no most probable token. */
bool lb_logprob_compare(const float *p, const float *q, u32 n, u32 token, lb_logprob_pair *out);

/* exp and log of doubles, within 2^-50 of the exact value (relative): for sums of probabilities. */
double lb_exp_f64(double x);
double lb_log_f64(double x);

#endif
