/* SPDX-License-Identifier: Apache-2.0 */
/* moe.h: the YAML of mergekit-moe, as mergekit 0.1.5 reads it (moe/config.py), and which kind of
 * mixture of experts comes out of it (scripts/moe.py, moe/{mixtral,deepseek,qwen,qwen3}.py).
 *
 * Values and messages as in config.h. Knows no models: only their model_type, when asked for the
 * kind. All memory is the arena's. */
#ifndef LB_MERGE_MOE_H
#define LB_MERGE_MOE_H

#include "merge/config.h"

typedef enum lb_moe_gate {
    LB_MOE_HIDDEN, /* by states of the base model: the default */
    LB_MOE_HIDDEN_AVG,
    LB_MOE_HIDDEN_LAST,
    LB_MOE_CHEAP_EMBED,
    LB_MOE_RANDOM,
    LB_MOE_UNIFORM_RANDOM
} lb_moe_gate;
const char *lb_moe_gate_name(lb_moe_gate g);
static inline bool lb_moe_gate_reads_states(lb_moe_gate g) {
    return g <= LB_MOE_HIDDEN_LAST;
}
static inline bool lb_moe_gate_reads_prompts(lb_moe_gate g) {
    return g <= LB_MOE_CHEAP_EMBED;
}

typedef struct lb_moe_expert {
    u32 model;        /* index into models */
    lb_str *positive; /* [n_positive] prompts */
    lb_str *negative; /* [n_negative] */
    u32 n_positive, n_negative;
    double noise_scale;    /* 0: none */
    double residual_scale; /* 1: none */
    u32 line;
} lb_moe_expert;

typedef struct lb_moe_config {
    lb_merge_config refs; /* what, models (the base first), dtype, notes; the rest is empty */
    lb_moe_expert *experts;
    u32 n_experts;
    lb_moe_expert *shared; /* experts that every token uses */
    u32 n_shared;
    lb_moe_gate gate;
    u32 gate_line;
    u64 experts_per_token;
    lb_str architecture; /* as the file has it; empty: whatever fits */
    u32 architecture_line;
} lb_moe_config;

/* Whether a YAML text is of this kind rather than a merge file: it names experts. */
bool lb_moe_is_config(lb_str text);
lb_status lb_moe_config_parse(lb_str text, const char *what, lb_arena *perm, lb_moe_config *out,
                              lb_err *err);
/* What mergekit refuses because it makes no useful model: too few experts, missing or equal
 * prompts; and, unless all_same, experts that are one model. */
lb_status lb_moe_config_check(const lb_moe_config *c, bool all_same, lb_err *err);

typedef enum lb_moe_kind {
    LB_MOE_MIXTRAL,
    LB_MOE_DEEPSEEK,
    LB_MOE_QWEN,
    LB_MOE_QWEN3,
    LB_MOE_KIND_COUNT
} lb_moe_kind;
const char *lb_moe_kind_name(lb_moe_kind k); /* mergekit's: "DeepSeek MoE" */

/* types: [refs.n_models] model_type of each model. *note: what to say of the choice, or NULL.
 * LB_E_FORMAT, LB_E_UNSUPPORTED: the reason of the kind that is asked for, or of all. */
lb_status lb_moe_choose(const lb_moe_config *c, const lb_str *types, lb_arena *perm,
                        lb_moe_kind *out, const char **note, lb_err *err);

#endif
