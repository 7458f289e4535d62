/* SPDX-License-Identifier: Apache-2.0 */
/* moe_result.h: what a mixture of experts is called in Hugging Face's world: names of its tensors
 * and its config.json, as mergekit 0.1.5 writes them (moe/{mixtral,deepseek,qwen,qwen3}.py), one
 * matrix an expert. */
#ifndef LB_MERGE_MOE_RESULT_H
#define LB_MERGE_MOE_RESULT_H

#include "merge/moe.h"

typedef enum lb_moe_part { LB_MOE_GATE, LB_MOE_UP, LB_MOE_DOWN, LB_MOE_PARTS } lb_moe_part;

typedef struct lb_moe_form {
    const char *family;              /* of its architecture table */
    const char *module;              /* of a layer: "block_sparse_moe"; the experts are in it */
    const char *parts[LB_MOE_PARTS]; /* "w1" */
    const char *shared;              /* module of the shared expert; NULL: none */
    bool shared_gate;                /* which is weighed by one row of its own */
    bool qkv_bias;                   /* q, k and v have biases: zeros where the base has none */
    bool plain_heads;                /* heads are always hidden size / heads */
} lb_moe_form;
const lb_moe_form *lb_moe_form_of(lb_moe_kind k);

/* Names, in the arena; ptr NULL: out of memory. What the models have: "mlp.gate_proj.weight". */
lb_str lb_moe_source_name(u32 layer, lb_moe_part p, lb_arena *perm);
lb_str lb_moe_expert_name(const lb_moe_form *f, u32 layer, u32 expert, lb_moe_part p,
                          lb_arena *perm);
lb_str lb_moe_shared_name(const lb_moe_form *f, u32 layer, lb_moe_part p, lb_arena *perm);
lb_str lb_moe_router_name(const lb_moe_form *f, u32 layer, lb_arena *perm);
lb_str lb_moe_shared_gate_name(const lb_moe_form *f, u32 layer, lb_arena *perm);

/* full: the base's config with nothing left to its class (lb_arch_config_full); it is changed.
 * n_ff: rows of an expert's matrices. dtype: "bfloat16". */
typedef struct lb_moe_facts {
    u64 n_ff;
    lb_str dtype;
} lb_moe_facts;
lb_status lb_moe_config_json(const lb_moe_config *c, lb_moe_kind k, const lb_moe_facts *facts,
                             lb_json *full, lb_arena *perm, lb_str *out, lb_err *err);
/* README.md of a result called name. */
lb_status lb_moe_card(lb_str name, const lb_moe_config *c, lb_moe_kind k, lb_str text, lb_buf *out,
                      lb_err *err);

#endif
