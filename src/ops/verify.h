/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h: whether a model is whole: what its reader checked, what its architecture needs, its
 * values, and the sums that were written with it.
 *
 * Opening has checked structure and ranges already. Every tensor is read once, on all threads. */
#ifndef LB_OPS_VERIFY_H
#define LB_OPS_VERIFY_H

#include "base/base.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "tensor/source.h"

typedef struct lb_verify_problem {
    lb_str where; /* a tensor or a file; may be empty */
    lb_str what;
} lb_verify_problem;

typedef struct lb_verify {
    u64 n_tensors, n_values;
    u64 n_nan, n_inf;                 /* values; of a model that is computed all in n_nan */
    u64 n_hashes, n_hashes_different; /* tensors with a sum in lbrx.json */
    u64 n_files, n_files_different;   /* files with a SHA-256 beside them */
    lb_str architecture;              /* empty: not known, completeness not checked */
    bool importance;                  /* an importance matrix: it has none */
    bool against;                     /* tensors were recomputed: lb_against_run */
    u64 n_made, n_made_different;     /* so many */
    lb_verify_problem *problems;
    u64 n_problems, cap_problems;
    u64 bytes_read;
} lb_verify;

typedef struct lb_verify_options {
    const lb_kernels *kernels;
    u32 n_threads;
    u64 memory_bytes;
    void (*progress)(void *user, u64 done_bytes, u64 total_bytes); /* may be NULL */
    void *user;
} lb_verify_options;

/* Problems are no error: LB_OK, and out->n_problems says it. All memory is the arena's. */
lb_status lb_verify_run(lb_verify *out, const lb_source *s, const lb_verify_options *o,
                        lb_arena *perm, lb_err *err);
/* where, what: the arena's. */
lb_status lb_verify_add(lb_verify *v, lb_str where, lb_str what, lb_arena *perm, lb_err *err);
lb_status lb_verify_json(const lb_verify *v, lb_buf *out, lb_err *err);

#endif
