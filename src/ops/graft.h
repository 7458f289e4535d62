/* SPDX-License-Identifier: Apache-2.0 */
/* graft.h: one matrix of a transplant on its way: rows of the model's for the tokens that it knows
 * (graft.c), and for the others what one of the methods makes (graft_*.c). */
#ifndef LB_OPS_GRAFT_H
#define LB_OPS_GRAFT_H

#include "merge/rope.h"
#include "merge/transplant.h"
#include "ops/rows.h"

typedef struct lb_graft {
    const lb_transplant_opts *o;
    const lb_making_env *env;
    const lb_align *align;
    const lb_rows *model, *donor;
    const lb_token_set *model_tokens, *donor_tokens;
    const lb_source *model_source;
    const char *name;               /* of the matrix, for messages */
    lb_rope model_rope, donor_rope; /* MP_ROPE */
    bool is_head;
    /* where its rows go, f32 [align->n_rows, model->n_cols] */
    int fd;
    u64 off_bytes;
    /* of the whole transplant, in rows */
    u64 *done, total;
} lb_graft;

/* All rows. Those that are approximated are the same for any memory and threads. */
lb_status lb_graft_run(lb_graft *g, lb_err *err);

/* ---- for the methods ---- */

/* One block of memory cut into arrays; at: NULL, only their sum is wanted. */
typedef struct lb_carver {
    u8 *at;
    u64 used;
} lb_carver;
static inline void *lb_carve(lb_carver *c, u64 bytes) {
    u8 *p = c->at ? c->at + c->used : NULL;
    c->used += (bytes + 63) / 64 * 64;
    return p;
}

/* LB_E_LIMIT: more than env->memory_max_bytes. */
lb_status lb_graft_need(const lb_graft *g, u64 bytes, lb_err *err);
/* The same, and takes it; freed by lb_free. */
lb_status lb_graft_memory(const lb_graft *g, u64 bytes, u8 **out, lb_err *err);
/* A row that was approximated: noise and scale are put on it, then it is written. */
lb_status lb_graft_put(const lb_graft *g, u32 row, float *values, lb_err *err);
/* n more rows are done (of fractions of rows: when they make a whole one). */
void lb_graft_progress(const lb_graft *g, u64 n);
/* Combinations of rows of the model: out [n_cols] = sum of weight[i] * row[i], in double.
 * scratch: lb_graft_mix_bytes, 16-aligned. */
u64 lb_graft_mix_bytes(const lb_graft *g);
lb_status lb_graft_mix(const lb_graft *g, const u32 *row, const double *weight, u64 n, u8 *scratch,
                       float *out, lb_err *err);

/* Which tokens a model was trained with, u8 [tokens->n_ids] in perm: 0 of numbers without a token,
 * of those that are said to be unused, and of those whose rows are like theirs, or very short
 * (S. Land, M. Bartolo, "Fishing for Magikarp", arXiv 2405.05417, as mergekit 0.1.5 has it).
 * head: NULL, the model has no matrix of its own for outputs. */
typedef struct lb_trained_in {
    const lb_token_set *tokens;
    const lb_rows *embed, *head;
    const lb_making_env *env;
} lb_trained_in;
lb_status lb_graft_trained(const lb_trained_in *in, lb_arena *perm, u8 **good, lb_err *err);

/* One method each: fills all fresh rows. */
lb_status lb_graft_omp(const lb_graft *g, lb_err *err);
lb_status lb_graft_rope(const lb_graft *g, lb_err *err);
lb_status lb_graft_pca(const lb_graft *g, lb_err *err);
lb_status lb_graft_stb(const lb_graft *g, lb_err *err);
lb_status lb_graft_near(const lb_graft *g, lb_err *err);
lb_status lb_graft_mean(const lb_graft *g, lb_err *err);
lb_status lb_graft_zero(const lb_graft *g, lb_err *err);
lb_status lb_graft_randn(const lb_graft *g, lb_err *err);
lb_status lb_graft_like(const lb_graft *g, lb_err *err); /* john_hewitt */
lb_status lb_graft_subword(const lb_graft *g, lb_err *err);

#endif
