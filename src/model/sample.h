/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h: from the logits of one position to one token: a chain of steps with a state.
 *
 * Steps, names, defaults, order and formulas are llama.cpp's (src/llama-sampler.cpp and
 * common/sampling.cpp as in llama-cpp-python 0.3.36); docs/sampling.md writes each one down.
 * Arithmetic is the same on every machine and for any number of threads: exp and log are the
 * kernels' correctly rounded ones, sums are in double in one order, equal logits stand in the order
 * of their ids. Random numbers are MT19937's, drawn as libstdc++ draws for llama.cpp: the same
 * logits and seed give the token that llama.cpp would give, but where its rounding decides.
 *
 * A sampler belongs to one sequence and to one thread at a time. All memory is taken by new and
 * clone (28 bytes an entry of the vocabulary); sampling allocates nothing and sorts only what the
 * steps need. */
#ifndef LB_MODEL_SAMPLE_H
#define LB_MODEL_SAMPLE_H

#include "base/mem.h"
#include "kernel/kernel.h"

typedef enum lb_sample_step {
    LB_SAMPLE_PENALTIES,
    LB_SAMPLE_DRY,
    LB_SAMPLE_TOP_N_SIGMA,
    LB_SAMPLE_TOP_K,
    LB_SAMPLE_TYPICAL,
    LB_SAMPLE_TOP_P,
    LB_SAMPLE_MIN_P,
    LB_SAMPLE_XTC,
    LB_SAMPLE_TEMPERATURE,
    LB_SAMPLE_STEPS
} lb_sample_step;

typedef struct lb_logit_bias {
    u32 token;
    float bias; /* added; -INFINITY forbids the token */
} lb_logit_bias;

/* Tokens that together are a sequence breaker of DRY; at least one. */
typedef struct lb_dry_breaker {
    const u32 *tokens;
    u32 n;
} lb_dry_breaker;

typedef struct lb_sample_opts {
    u64 seed;                       /* the low 32 bits count */
    u32 min_keep;                   /* top-p, min-p, typical and XTC leave at least so many */
    i32 top_k;                      /* 40; <= 0: all */
    float top_p;                    /* 0.95; >= 1: off */
    float min_p;                    /* 0.05; <= 0: off */
    float typical;                  /* 1; >= 1: off */
    float top_n_sigma;              /* -1; <= 0: off */
    float xtc_probability;          /* 0: off */
    float xtc_threshold;            /* 0.1; > 0.5: off */
    float temperature;              /* 0.8; <= 0: the largest logit */
    float dynatemp_range;           /* 0: off */
    float dynatemp_exponent;        /* 1 */
    u32 penalty_last_n;             /* 64 tokens; 0: off */
    float penalty_repeat;           /* 1: off */
    float penalty_freq;             /* 0: off */
    float penalty_present;          /* 0: off */
    float dry_multiplier;           /* 0: off */
    float dry_base;                 /* 1.75; < 1: off */
    u32 dry_allowed_length;         /* 2 */
    u32 dry_last_n;                 /* 64 tokens; 0: off */
    const lb_dry_breaker *breakers; /* copied */
    u32 n_breakers;
    const lb_logit_bias *bias; /* copied; before all steps */
    u32 n_bias;
    u32 mirostat;       /* 0, or 2: bias, temperature and mirostat are the whole chain then */
    float mirostat_tau; /* 5 */
    float mirostat_eta; /* 0.1 */
    u8 order[LB_SAMPLE_STEPS]; /* of lb_sample_step; one may be named twice */
    u32 n_order;
} lb_sample_opts;

lb_sample_opts lb_sample_defaults(void);
/* "top_k;top_p;temperature" (also with commas; llama.cpp's names and letters' names as its
 * --samplers takes them) into order. LB_E_USAGE names the word that is no step. */
lb_status lb_sample_order_parse(lb_str text, lb_sample_opts *o, lb_err *err);
const char *lb_sample_step_name(lb_sample_step s);

typedef struct lb_sampler lb_sampler;

/* LB_E_USAGE: a value out of its range, by name. k lives as long as the sampler. */
lb_status lb_sampler_new(lb_sampler **out, u32 n_vocab, const lb_sample_opts *o,
                         const lb_kernels *k, lb_err *err);
/* A second sequence with the state of the first (window, random numbers, mu). */
lb_status lb_sampler_clone(lb_sampler **out, const lb_sampler *s, lb_err *err);
void lb_sampler_free(lb_sampler **s);
/* As after new: no tokens, random numbers from the start. With another seed. */
void lb_sampler_reset(lb_sampler *s);
void lb_sampler_seed(lb_sampler *s, u64 seed);

/* The token at the end of the sequence: of the prompt or generated. */
void lb_sampler_accept(lb_sampler *s, u32 token);

/* logits: n_vocab (NaN is read as -inf). allowed: bit i says whether token i may come (a grammar's
 * mask), or NULL; it is applied before all steps. Does not accept the token.
 * LB_E_NOT_FOUND: no token is left. */
lb_status lb_sampler_sample(lb_sampler *s, const float *logits, const u64 *allowed, u32 *token,
                            lb_err *err);

/* What sampling needs of the logits where it does not need all (sample_candidates.c): the first k
 * of them, larger ones first, of equal ones the smaller token (NaN counts as -inf), and those of
 * some tokens by name. */
typedef struct lb_sample_need {
    u32 k, n_touched;
    const u32 *touched; /* [n_touched], each once; until the sampler's next call */
} lb_sample_need;
typedef struct lb_candidates {
    u32 n;                /* need.k */
    const u32 *id;        /* [n] */
    const float *logit;   /* [n] */
    const float *touched; /* [need.n_touched] */
} lb_candidates;
/* False: it needs all. For the next sample_from, with no call between them. */
bool lb_sampler_need(lb_sampler *s, lb_sample_need *out);
/* The token that lb_sampler_sample would give for all logits, and the state that it would leave. */
lb_status lb_sampler_sample_from(lb_sampler *s, const lb_candidates *c, u32 *token, lb_err *err);

/* What the last sample chose from, in the order in which it stood: tokens, their logits after all
 * steps, their probabilities. Valid until the next call. */
typedef struct lb_sampled {
    u32 n, selected;
    const u32 *tokens;
    const float *logits, *probs;
} lb_sampled;
lb_sampled lb_sampler_last(const lb_sampler *s);

/* How the text of a breaker appears in tokens, as llama.cpp finds it: every token that holds it,
 * and every token that ends in a beginning of it, followed by the tokens of the rest. pieces: text
 * of each token. tokenize: the rest into at most max tokens, without special ones. */
typedef struct lb_dry_vocab {
    const lb_str *pieces;
    u32 n_vocab;
    lb_status (*tokenize)(void *data, lb_str text, u32 *tokens, u32 max, u32 *n, lb_err *err);
    void *data;
} lb_dry_vocab;
/* Breakers of several texts, in the arena. */
lb_status lb_dry_breakers_make(const lb_dry_vocab *v, const lb_str *texts, u32 n_texts,
                               lb_arena *perm, lb_dry_breaker **out, u32 *n_out, lb_err *err);

#endif
