/* SPDX-License-Identifier: Apache-2.0 */
/* divergence.h: how far a model's distributions are from another's on the same text: logits that
 * lb_perplexity_run gives are written to a file, row by row, or compared with one. One row of the
 * file is in memory at a time, and a number for each token. */
#ifndef LB_OPS_DIVERGENCE_H
#define LB_OPS_DIVERGENCE_H

#include "format/logits.h"
#include "tensor/source.h"

/* ---- writing ---- */

typedef struct lb_logits_writer lb_logits_writer;
typedef struct lb_logits_target {
    const char *path;
    bool force, no_sync;
} lb_logits_target;

/* Refuses what lb_logits_create would refuse about the path: LB_E_USAGE. model may be NULL: not
 * known yet. */
lb_status lb_logits_check_target(const lb_logits_target *t, const lb_source *model, lb_err *err);
/* Begins a file beside path, which is renamed when complete. ids: [n_chunks * n_ctx], kept.
 * LB_E_LIMIT: too little disk space, or another process writes it. */
lb_status lb_logits_create(lb_logits_writer **out, const lb_logits_target *t,
                           const lb_source *model, const lb_logits *l, const u32 *ids, lb_err *err);
/* Rows in any order. LB_E_FORMAT: a row that is no distribution. */
lb_status lb_logits_put(lb_logits_writer *w, u64 row, u32 n_rows, const float *logits, lb_err *err);
/* Syncs and renames. */
lb_status lb_logits_finish(lb_logits_writer *w, lb_err *err);
u64 lb_logits_written(const lb_logits_writer *w); /* bytes of the file */
/* An unfinished file is removed. */
void lb_logits_close(lb_logits_writer **w);

/* ---- comparing ---- */

typedef struct lb_divergence lb_divergence;
/* The file's head is read and checked. */
lb_status lb_divergence_open(lb_divergence **out, const char *path, lb_err *err);
void lb_divergence_close(lb_divergence **d);
const lb_logits *lb_divergence_head(const lb_divergence *d);
/* here: the run that will be compared: its chunks are those of the whole text, ids theirs. The
 * file's text must be the beginning of it, or LB_E_FORMAT says what is different. n_chunks: that
 * will be compared. */
lb_status lb_divergence_begin(lb_divergence *d, const lb_logits *here, const u32 *ids, u64 n_chunks,
                              lb_err *err);
/* Rows in their order; next[i]: the token that followed. */
lb_status lb_divergence_add(lb_divergence *d, u64 row, u32 n_rows, const float *logits,
                            const u32 *next, lb_err *err);

/* Means with their standard errors (of the mean of n tokens; 0 for one). */
typedef struct lb_mean {
    double value, stderr_;
} lb_mean;
typedef struct lb_divergence_result {
    u64 n;
    lb_mean kl;                       /* nats */
    double kl_median, kl_p99, kl_max; /* between two of them: linear, as numpy's percentiles */
    double perplexity_base;           /* of the file's model, on these tokens */
    lb_mean log_ratio;                /* of ln(perplexity / perplexity_base) */
    lb_mean p_rms;    /* root of the mean square of the change of the right token's probability */
    lb_mean same_top; /* share */
} lb_divergence_result;
/* Once, after the rows. */
void lb_divergence_end(lb_divergence *d, lb_divergence_result *out);

#endif
