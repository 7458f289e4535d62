/* SPDX-License-Identifier: Apache-2.0 */
/* family_cohere.h: what command-r and cohere2 share. For their tables only. */
#ifndef LB_ARCH_FAMILY_COHERE_H
#define LB_ARCH_FAMILY_COHERE_H

#include "arch/family_rows.h"

/* Command R: one norm a layer, no output matrix. suffixes_: of the projections of attention. */
#define LB_ROWS_COHERE(suffixes_)                                                                \
    LB_ROW_TOKEN_EMBD,                                                                           \
        LB_ROW3(LB_ROLE_OUTPUT, LB_N("lm_head"), LB_N_NONE, LB_N("lm_head"), LB_RL_NONE,         \
                LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL | LB_ROW_MLX_DROP_TIED),                       \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),               \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",  \
                    LB_RL_NONE),                                                                 \
        LB_ROWS_ATTN_OF(LB_RL_NONE, LB_RL_NONE, suffixes_), LB_ROWS_FFN_OF(LB_SUFFIX_WEIGHT, 0), \
        LB_ROWS_INV_FREQ
/* absent_: what a GGUF without a scale of logits means, or NULL. */
#define LB_KV_ROWS_COHERE(name, absent_)                                               \
    {.op = LB_KV_BACK, .key = "attention.layer_norm_epsilon", .hf = "layer_norm_eps"}, \
        {.key = "logit_scale",                                                         \
         .type = LB_GGUF_F32,                                                          \
         .names = "logit_scale",                                                       \
         .hf = "logit_scale",                                                          \
         .absent = absent_,                                                            \
         .flags = LB_KVF_REQUIRED | LB_KVF_BACK_REQUIRED},                             \
        {.op = LB_KV_ROPE_ONLY,                                                        \
         .names = "@rope_type",                                                        \
         .fallback = "default",                                                        \
         .hf = "the GGUF of " name " carries no rope scaling"},                        \
    {                                                                                  \
        .op = LB_KV_ONLY, .names = "tie_word_embeddings", .fallback = "true",          \
        .hf = "the GGUF of " name " has no output matrix"                              \
    }
#define LB_KV_ROW_NO_SCALING \
    { .op = LB_KV_ROPE_NONE, .key = "rope.scaling.type" }

#endif
