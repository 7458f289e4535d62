/* SPDX-License-Identifier: Apache-2.0 */
/* plan_double.h: the engine's test double: a source of random tensors on disk, and an evaluator of
 * expressions that holds every matrix whole and knows nothing of tiles. */
#ifndef LB_TESTS_PLAN_DOUBLE_H
#define LB_TESTS_PLAN_DOUBLE_H

#include "kernel/kernel.h"
#include "plan/plan.h"

typedef struct lb_double_source {
    lb_source *src;
    u8 *bytes; /* the file's content */
    u64 len, cap;
    const char *path;
} lb_double_source;

/* Writes the file and opens it as a source: weights are then in d->src. */
typedef struct lb_double_decl {
    lb_enc enc;
    lb_dtype dtype;
    u64 n_rows, n_cols;
    bool table; /* GPTQ: with a table of groups */
} lb_double_decl;
bool lb_double_open(lb_double_source *d, const lb_double_decl *decl, u32 n, const char *path);
void lb_double_close(lb_double_source *d);

/* The bytes that an encode node stands for: malloc'd, NULL if a value cannot be made. */
u8 *lb_double_bytes(const lb_graph *g, lb_node_id encode, u64 *len);
/* A stat's results. */
void lb_double_stat(const lb_graph *g, lb_node_id stat, double out[LB_STAT_RESULTS]);

#endif
