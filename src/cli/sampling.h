/* SPDX-License-Identifier: Apache-2.0 */
/* sampling.h: how the next token is chosen, as options: one table for all commands that generate;
 * and what they come to for a model that is open. docs/sampling.md says what each one does. */
#ifndef LB_CLI_SAMPLING_H
#define LB_CLI_SAMPLING_H

#include "cli/infer.h"
#include "model/sample.h"
#include "text/constraint.h"

typedef struct lb_sampling_opts {
    double temp, dynatemp_range, dynatemp_exp, top_p, min_p, typical, top_n_sigma;
    double xtc_probability, xtc_threshold, repeat, presence, frequency;
    double dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    u64 top_k, min_keep, dry_allowed, mirostat;
    const char *seed;                        /* NULL or "-1": a random one */
    const char *repeat_last_n, *dry_last_n;  /* a count, or "-1": the whole context */
    const char *samplers, *grammar, *schema; /* the last two are files */
    lb_opt_list bias, breakers, stops;
} lb_sampling_opts;

#define LB_SAMPLING_OPTS 32
extern const lb_opt lb_sampling_rows[LB_SAMPLING_OPTS];
#define LB_GROUP_SAMPLING(offset) \
    { .title = "Sampling", .opts = lb_sampling_rows, .n = LB_SAMPLING_OPTS, .off = (offset) }

typedef struct lb_sampling {
    lb_arena arena;
    lb_sampler *sampler;
    lb_token_trie *trie;       /* NULL without a grammar */
    lb_constraint *constraint; /* the same */
    lb_str *stops;
    u32 *stop_ids; /* special tokens that were named as texts that stop */
    u32 n_stops, n_stop_ids;
    u64 seed; /* the one that is used */
} lb_sampling;

/* What can be seen to be wrong without a model. */
lb_status lb_sampling_check(const lb_sampling_opts *o, lb_err *err);
/* x has its tokenizer; n_ctx: what "-1" stands for. s starts as zero, and is to be closed in any
 * case. */
lb_status lb_sampling_open(lb_sampling *s, const lb_infer *x, const lb_sampling_opts *o, u32 n_ctx,
                           lb_err *err);
void lb_sampling_close(lb_sampling *s);

#endif
