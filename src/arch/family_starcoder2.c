/* SPDX-License-Identifier: Apache-2.0 */
/* family_starcoder2.c: StarCoder 2: layer norms with biases, a feed-forward without gate. GGUF does
 * not carry the sliding window (the reference drops it).
 *
 * Source: conversion/starcoder.py (StarCoder2Model) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/starcoder2/configuration_starcoder2.py; mlx-lm 0.32.2
 * models/starcoder2.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16),
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", LB_RL_NONE,
           LB_WB, 0),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
           LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.mlp.c_fc", "blk.{b}.ffn_up", LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.mlp.c_proj", "blk.{b}.ffn_down", LB_RL_NONE, LB_WB,
           0),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"Starcoder2ForCausalLM", NULL};
static const char *const model_types[] = {"starcoder2", NULL};
static const lb_arch_kv kv[] = {
    {.op = LB_KV_BACK, .key = "attention.layer_norm_epsilon", .hf = "norm_epsilon"},
    LB_KV_ROW_RUN_WINDOW(NULL, NULL, NULL),
};
static const lb_arch_bias biases[] = {{"use_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_starcoder2 = {
    .family = "starcoder2",
    .gguf = "starcoder2",
    .graph = {.runs = true,
              .norm = LB_NORM_LAYER,
              .rope = LB_ROPE_HALVES,
              .act = LB_ACT_GELU,
              .flags = LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 49152, \"hidden_size\": 3072, "
                "\"intermediate_size\": 12288, \"num_hidden_layers\": 30, "
                "\"num_attention_heads\": 24, \"num_key_value_heads\": 2, "
                "\"hidden_act\": \"gelu_pytorch_tanh\", "
                "\"max_position_embeddings\": 4096, \"norm_epsilon\": 1e-05, "
                "\"sliding_window\": null, \"use_bias\": true, "
                "\"tie_word_embeddings\": true}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"gelu_pytorch_tanh\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"num_key_value_heads\": null, \"norm_epsilon\": 1e-05, "
           "\"vocab_size\": 49152, \"rope_theta\": 100000, "
           "\"tie_word_embeddings\": true, \"use_bias!\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
