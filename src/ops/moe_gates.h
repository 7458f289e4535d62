/* SPDX-License-Identifier: Apache-2.0 */
/* moe_gates.h: the routers of a mixture of experts as expressions. */
#ifndef LB_OPS_MOE_GATES_H
#define LB_OPS_MOE_GATES_H

#include "merge/moe.h"
#include "plan/draw.h"
#include "plan/plan.h"

/* The prompts of a file as tokens. Lists: the positive ones of a gate, then its negative ones, gate
 * after gate, the shared expert's behind the others'. */
typedef struct lb_moe_lists {
    u32 *ids;         /* of all prompts, one after the other */
    u64 *prompt_ends; /* [n_prompts] into ids */
    u64 *list_ends;   /* [2 n_gates] into prompts */
    u64 n_prompts, n_gates;
} lb_moe_lists;

/* Tokens of the prompts; of a gate a row: how often each of them is in its prompts. */
typedef struct lb_moe_prompts {
    u64 *tokens;                /* [n] different ids, sorted */
    float *positive, *negative; /* [n_gates, n] */
    u64 n;
    bool any_negative;
} lb_moe_prompts;

/* Where the base runs. */
typedef struct lb_moe_limits {
    u32 threads;       /* 0: all cores that the process may use */
    u64 buffers_bytes; /* while something of it is computed; 0: as much as is of use */
    u64 memory_bytes;  /* of the process, the base's weights included; 0: no limit */
} lb_moe_limits;

/* What a router is made of, in a plan. */
typedef struct lb_moe_gates {
    lb_moe_gate mode;
    u64 seed, n_gates, n_layers, n_cols;
    const lb_moe_prompts *prompts; /* cheap_embed */
    const float *states;           /* hidden: [n_layers, n_gates, n_cols] */
    lb_kernels kernels;            /* random: of the generator */
    lb_mt19937 generator;          /* where the walk through the layers is */
    lb_node_id all;                /* cheap_embed: that of all layers */
} lb_moe_gates;

/* base: whose tokenizer cuts the prompts. n_rows: of its embedding. Each prompt begins with the
 * tokenizer's bos_token, as mergekit has it. In the arena. */
lb_status lb_moe_lists_read(const lb_moe_config *c, const lb_source *base, u64 n_rows,
                            lb_arena *perm, lb_moe_lists *out, lb_err *err);
lb_status lb_moe_prompts_count(const lb_moe_lists *lists, lb_arena *perm, lb_moe_prompts *out,
                               lb_err *err);
/* Runs the base on the prompts (moe_states.c): of each gate in each layer what goes into the layer,
 * of the last token of a prompt or (hidden_avg) the mean of all of them, the mean of its positive
 * prompts less that of its negative ones, to length 1. In the arena. */
typedef struct lb_moe_states_in {
    const lb_source *base;
    lb_moe_gate mode;
    const lb_moe_gates *shape;
    lb_moe_limits limits;
} lb_moe_states_in;
lb_status lb_moe_states_read(const lb_moe_lists *lists, const lb_moe_states_in *in, lb_arena *perm,
                             float **out, lb_err *err);
/* embed: the base's embedding; NONE unless cheap_embed. */
void lb_moe_gates_begin(lb_moe_gates *g, lb_plan *p, lb_node_id embed);
/* Gates [from, from + n) of a layer, [n, n_cols] f32; layers in order, and gates in a layer. */
lb_node_id lb_moe_gates_of(lb_moe_gates *g, lb_plan *p, u64 layer, u64 from, u64 n);
/* The condition number of a matrix of few rows (LB_GRAM_MAX), as a result of a survey; it reads
 * what the matrix is made of. */
lb_status lb_moe_condition(lb_plan *p, lb_node_id gates, double *out, lb_err *err);

#endif
