/* SPDX-License-Identifier: Apache-2.0 */
/* drafting.h: guesses of the next tokens, as options of commands that generate. */
#ifndef LB_CLI_DRAFTING_H
#define LB_CLI_DRAFTING_H

#include "cli/infer.h"
#include "ops/draft.h"

typedef struct lb_drafting_opts {
    const char *model; /* NULL: none */
    u64 ngram, n_max;
    double min_p;
} lb_drafting_opts;

#define LB_DRAFTING_OPTS 4
extern const lb_opt lb_drafting_rows[LB_DRAFTING_OPTS];
#define LB_GROUP_DRAFTING(offset) \
    { .title = "Drafts", .opts = lb_drafting_rows, .n = LB_DRAFTING_OPTS, .off = (offset) }

typedef struct lb_drafting {
    lb_infer model;  /* the smaller one, if there is one */
    lb_draft *draft; /* NULL: no guesses were asked for */
} lb_drafting;

/* What can be seen to be wrong without a model. */
lb_status lb_drafting_check(const lb_drafting_opts *o, lb_err *err);
/* x has its tokenizer and its context, whose size and sequences the smaller model gets too. d
 * starts as zero, and is to be closed in any case. */
lb_status lb_drafting_open(lb_drafting *d, lb_infer *x, lb_cli *cli, const lb_common *common,
                           const lb_drafting_opts *o, lb_err *err);
void lb_drafting_close(lb_drafting *d);

#endif
