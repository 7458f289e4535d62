/* SPDX-License-Identifier: Apache-2.0 */
/* family_olmo2.c: OLMo 2: norms behind attention and feed-forward, and on q and k as a whole.
 *
 * Source: conversion/olmo.py (Olmo2Model) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/olmo2/configuration_olmo2.py; mlx-lm 0.32.2 models/olmo2.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16),
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_POST_NORM, "model.layers.{b}.post_attention_layernorm",
                "blk.{b}.post_attention_norm", LB_RL_NONE),
    LB_ROWS_FFN,
    LB_ROW_NORM(LB_ROLE_FFN_POST_NORM, "model.layers.{b}.post_feedforward_layernorm",
                "blk.{b}.post_ffw_norm", LB_RL_NONE),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"Olmo2ForCausalLM", NULL};
static const char *const model_types[] = {"olmo2", NULL};
static const lb_arch_kv kv[] = {
    {.op = LB_KV_REFUSE,
     .names = "sliding_window",
     .hf = "olmo2 with a sliding window is olmo3, which is not supported yet"},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_olmo2 = {
    .family = "olmo2",
    .gguf = "olmo2",
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50304, \"hidden_size\": 4096, "
                "\"intermediate_size\": 11008, \"num_hidden_layers\": 32, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": null, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 2048, "
                "\"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": false, "
                "\"attention_bias\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"rope_theta\": 10000, \"tie_word_embeddings\": true, "
           "\"attention_bias\": false}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
