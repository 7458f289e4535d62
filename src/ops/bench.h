/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: how fast a model reads a prompt and generates, and what the machine could do at best.
 *
 * Tests are llama-bench's: a prompt of so many tokens into an empty context (or behind `depth`
 * tokens, which are not timed), so many tokens one by one behind it, or both. Tokens are fixed
 * pseudo-random ones; no sampler takes part. */
#ifndef LB_OPS_BENCH_H
#define LB_OPS_BENCH_H

#include "base/mem.h"
#include "model/model.h"

typedef struct lb_bench_test {
    u32 n_prompt, n_gen, depth;
} lb_bench_test;

#define LB_BENCH_NAME_BYTES 48
/* "pp512", "tg128", "pp512+tg128", each with " @ d1024" where there is a depth. */
void lb_bench_name(const lb_bench_test *t, char out[LB_BENCH_NAME_BYTES]);

/* Sequence 0 is used, and emptied before. */
typedef struct lb_bench_opts {
    u32 n_reps;
    bool warm_up; /* one run of few tokens before, not timed */
    bool whole;   /* ... of the whole prompt: a GPU's kernels, compiled when used, depend on it */
    bool (*stop)(void *user);
    void *user;
} lb_bench_opts;

/* Tokens of the untimed run. */
u64 lb_bench_warm_up(const lb_bench_test *t, const lb_bench_opts *o);
/* rate: [n_reps] tokens a second. LB_E_LIMIT: the context is too small. */
lb_status lb_bench_run(lb_context *c, const lb_bench_test *t, const lb_bench_opts *o, double *rate,
                       lb_err *err);

/* Bytes a second at which so many threads read the weights' pages where they are mapped, by a plain
 * loop: in six passes over at most max_bytes of them, after one that warms up. */
lb_status lb_bench_bandwidth(const lb_mweights *w, u32 threads, u64 max_bytes, double *rate,
                             lb_err *err);
/* Bytes of all matrices as they are stored. */
u64 lb_bench_weights_bytes(const lb_mweights *w);

#endif
