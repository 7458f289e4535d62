/* SPDX-License-Identifier: Apache-2.0 */
/* sample_internal.h: the state of a sampler, for the files that make up its steps. */
#ifndef LB_MODEL_SAMPLE_INTERNAL_H
#define LB_MODEL_SAMPLE_INTERNAL_H

#include "kernel/mt19937.h"
#include "model/sample.h"
#include <float.h>
#include <math.h>

struct lb_sampler {
    lb_sample_opts o; /* breakers and bias: own copies in `perm` */
    const lb_kernels *k;
    lb_arena perm;
    u32 n_vocab;
    /* Candidates, n of them. */
    u32 n, selected;
    bool sorted; /* descending logits */
    bool dense;  /* candidate i is token i, all are there */
    u32 *id;
    float *logit, *p;
    u64 *keys, *spare; /* n_vocab each */
    /* Penalties: how often each token stands in the window. */
    u32 *count;
    u32 *window, window_n, window_at;
    /* DRY: the window, lengths of repeats, the longest repeat that each token would extend. */
    u32 *dry_window, dry_n, dry_at;
    u32 *dry_len, *dry_longest, *dry_touched;
    u32 dry_n_touched;
    u32 *first_breaker, *next_breaker; /* by head: index + 1 into breakers; a list */
    /* Tokens whose logits the chain may change, each once, as lb_sampler_need left them. */
    u32 *touched, n_touched;
    lb_mt19937 rng, xtc_rng;
    float mu;
};

#define LB_SAMPLE_TOUCHED_MAX 512u

/* What a logit counts as: what is no number as -inf, what is beyond all numbers as the last. NaN
 * fails both comparisons. */
static inline float lb_sample_logit(float logit) {
    return logit >= -FLT_MAX ? LB_MIN(logit, FLT_MAX) : -INFINITY;
}

/* ---- sample.c ---- */

/* The chain over the candidates, to s->selected. */
void lb_sample_run(lb_sampler *s);

/* ---- sample_select.c ---- */

/* Larger logits give smaller keys; equal ones by place. No NaN. */
static inline u64 lb_sample_key(float logit, u32 place) {
    u32 bits = lb_f32_bits(logit + 0.0f);
    u32 up = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (u64)~up << 32 | place;
}
static inline float lb_sample_key_logit(u64 key) {
    u32 up = ~(u32)(key >> 32);
    return lb_f32_from_bits(up & 0x80000000u ? up & 0x7fffffffu : ~up);
}
/* The k smallest of n keys, ascending, at the front. spare: n. */
void lb_sample_least(u64 *keys, u32 n, u32 k, u64 *spare);
/* Leaves the k largest candidates, sorted. */
void lb_sample_keep_top(lb_sampler *s, u32 k);

/* ---- sample_steps.c ---- */

/* Whether penalties change any logit. */
bool lb_sample_penalizes(const lb_sample_opts *o);
void lb_sample_penalties(lb_sampler *s);
void lb_sample_top_n_sigma(lb_sampler *s);
void lb_sample_top_k(lb_sampler *s);
void lb_sample_typical(lb_sampler *s);
void lb_sample_top_p(lb_sampler *s);
void lb_sample_min_p(lb_sampler *s);
void lb_sample_xtc(lb_sampler *s);
void lb_sample_temperature(lb_sampler *s, bool dynamic);
/* The last steps: they select. */
void lb_sample_draw(lb_sampler *s);
void lb_sample_mirostat(lb_sampler *s);

/* ---- sample_dry.c ---- */

void lb_sample_dry(lb_sampler *s);

#endif
