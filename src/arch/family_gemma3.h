/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma3.h: what gemma3 and its embedding models share. For their tables only. */
#ifndef LB_ARCH_FAMILY_GEMMA3_H
#define LB_ARCH_FAMILY_GEMMA3_H

#include "arch/family_rows.h"

/* Norms stored as w - 1, four a layer. */
#define LB_ROWS_GEMMA3                                                                           \
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT, \
           LB_ROW_GGUF_TQ_F16 | LB_ROW_CUT_VOCAB),                                               \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_SUFFIX_WEIGHT,                \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_OPTIONAL),                                            \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_ADD_ONE),            \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",  \
                    LB_RL_ADD_ONE),                                                              \
        LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE), LB_ROW_Q_NORM(LB_RL_ADD_ONE),                      \
        LB_ROW_K_NORM(LB_RL_ADD_ONE), LB_ROW_ATTN_POST_NORM(LB_RL_ADD_ONE),                      \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.pre_feedforward_layernorm",              \
                    "blk.{b}.ffn_norm", LB_RL_ADD_ONE),                                          \
        LB_ROWS_FFN, LB_ROW_FFN_POST_NORM(LB_RL_ADD_ONE), LB_ROWS_INV_FREQ

/* The reference writes some keys again, with fallbacks of its own for a config that the class
 * refuses; between the parts come the families' own. The last one the reference never writes:
 * llama.cpp then takes every sixth layer. */
#define LB_KV_ROWS_GEMMA3                                                     \
    {.key = "context_length",                                                 \
     .type = LB_GGUF_U32,                                                     \
     .names = "max_position_embeddings",                                      \
     .fallback = "131072"},                                                   \
        {.key = "attention.head_count",                                       \
         .type = LB_GGUF_U32,                                                 \
         .names = "num_attention_heads",                                      \
         .fallback = "8"},                                                    \
        {.key = "attention.layer_norm_rms_epsilon",                           \
         .type = LB_GGUF_F32,                                                 \
         .names = "rms_norm_eps",                                             \
         .fallback = "1e-06"},                                                \
        {.key = "attention.key_length",                                       \
         .type = LB_GGUF_U32,                                                 \
         .names = "head_dim",                                                 \
         .fallback = "256"},                                                  \
        {.key = "attention.value_length",                                     \
         .type = LB_GGUF_U32,                                                 \
         .names = "head_dim",                                                 \
         .fallback = "256"},                                                  \
    {                                                                         \
        .key = "rope.freq_base", .type = LB_GGUF_F32, .names = "@rope_theta", \
        .fallback = "1000000.0"                                               \
    }
#define LB_KV_ROWS_GEMMA3_CAPS                                                                     \
    {.op = LB_KV_REFUSE,                                                                           \
     .names = "attn_logit_softcapping",                                                            \
     .hf = "gemma3 with attn_logit_softcapping has no form in GGUF"},                              \
    {                                                                                              \
        .key = "final_logit_softcapping", .type = LB_GGUF_F32, .names = "final_logit_softcapping", \
        .hf = "final_logit_softcapping", .flags = LB_KVF_TRUTHY                                    \
    }
#define LB_KV_ROWS_GEMMA3_HEADS                                                                 \
    {.key = "attention.head_count_kv",                                                          \
     .type = LB_GGUF_U32,                                                                       \
     .names = "num_key_value_heads",                                                            \
     .fallback = "4"},                                                                          \
    {                                                                                           \
        .op = LB_KV_SLIDING, .key = "attention.sliding_window_pattern", .names = "layer_types", \
        .fallback = "6", .unless_one = "sliding_window_pattern"                                 \
    }

#define LB_LAYERS_GEMMA3                                                      \
    {                                                                         \
        .list = "layer_types", .rule = "sliding_window_pattern", .period = 6, \
        .usual = "\"sliding_attention\"", .single = "\"full_attention\""      \
    }

#define LB_DEFAULTS_GEMMA3                                                         \
    "{\"vocab_size\": 262208, \"hidden_size\": 2304, \"intermediate_size\": 9216," \
    "\"num_hidden_layers\": 26, \"num_attention_heads\": 8,"                       \
    "\"num_key_value_heads\": 4, \"head_dim\": 256,"                               \
    "\"hidden_activation\": \"gelu_pytorch_tanh\","                                \
    "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-06,"                \
    "\"tie_word_embeddings\": true, \"attention_bias\": false,"                    \
    "\"query_pre_attn_scalar\": 256, \"sliding_window?\": 4096}"

#endif
