/* SPDX-License-Identifier: Apache-2.0 */
/* against.h: a model recomputed from what it was made of, bytes compared: `lbrx verify --against`.
 *
 * The source is converted to the model's format in memory, each tensor to the type that the model
 * has it in, and nothing is written. The model's own bytes are read once. */
#ifndef LB_OPS_AGAINST_H
#define LB_OPS_AGAINST_H

#include "ops/convert.h"
#include "ops/verify.h"

typedef struct lb_against_opts {
    lb_writer_opts w;    /* of it memory, threads, kernels, stop, progress */
    const char *imatrix; /* that quantized it; NULL: none did */
    /* What the model's own record says is known without: */
    bool cpu_rule; /* MLX: codes were made by the rule of CPUs */
    bool refine;   /* with --refine */
} lb_against_opts;

/* What a model says of how it was made; empty: nothing. In the arena, or the model's. */
lb_str lb_against_operation(const lb_source *model, lb_arena *perm);
/* Adds what differs to the problems of v. */
lb_status lb_against_run(lb_verify *v, const lb_source *model, const lb_source *source,
                         const lb_against_opts *o, lb_arena *perm, lb_err *err);

#endif
