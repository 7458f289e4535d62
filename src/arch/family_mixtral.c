/* SPDX-License-Identifier: Apache-2.0 */
/* family_mixtral.c: Mixtral: Mistral with experts. In GGUF it is "llama" with expert_count.
 *
 * Source: conversion/llama.py (LlamaModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/mixtral/configuration_mixtral.py; mlx-lm 0.32.2 models/mixtral.py. */
#include "arch/family_rows.h"

/* One matrix an expert, as files from before April 2024 have them. */
#define APART(role_, which, gguf_, mlx_)                                            \
    LB_ROW3(role_, LB_N("model.layers.{b}.block_sparse_moe.experts.{e}." which),    \
            LB_N("blk.{b}." gguf_ ".{e}"),                                          \
            LB_N("model.layers.{b}.block_sparse_moe.switch_mlp." mlx_), LB_RL_NONE, \
            LB_SUFFIX_WEIGHT, LB_ROW_EXPERT | LB_ROW_OPTIONAL)

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_ROPE_Q, LB_RL_ROPE_K),
    LB_ROW_ROUTER("model.layers.{b}.block_sparse_moe.gate"),
    LB_ROWS_EXPERTS_AS("block_sparse_moe", "w1", "w3", "w2"),
    LB_ROW_ROUTER_ALSO("model.layers.{b}.mlp.gate", "model.layers.{b}.block_sparse_moe.gate"),
    LB_ROWS_EXPERTS_STACKED_AS("mlp", "block_sparse_moe", LB_ROW_OPTIONAL),
    APART(LB_ROLE_FFN_GATE_EXPS, "w1", "ffn_gate", "gate_proj"),
    APART(LB_ROLE_FFN_UP_EXPS, "w3", "ffn_up", "up_proj"),
    APART(LB_ROLE_FFN_DOWN_EXPS, "w2", "ffn_down", "down_proj"),
};

static const char *const classes[] = {"MixtralForCausalLM", NULL};
static const char *const model_types[] = {"mixtral", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    LB_KV_ROWS_WINDOW_ALL,
    LB_KV_ROWS_EXPERT_COUNTS("num_local_experts"),
};

const lb_arch lb_arch_mixtral = {
    .family = "mixtral",
    .gguf = "llama",
    .graph = {.runs = true,
              .rope = LB_ROPE_PAIRS,
              .flags = LB_GRAPH_SCALED_WINDOW | LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32000, \"hidden_size\": 4096, \"intermediate_size\": 14336,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 8, \"head_dim\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"sliding_window\": null, \"tie_word_embeddings\": false,"
                "\"num_experts_per_tok\": 2, \"num_local_experts\": 8}",
    .theta = "1000000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"vocab_size\": 32000, \"hidden_size\": 4096, \"intermediate_size\": 14336,"
           "\"num_hidden_layers\": 32, \"num_attention_heads\": 32, \"num_experts_per_tok\": 2,"
           "\"num_key_value_heads\": 8, \"num_local_experts\": 8, \"rms_norm_eps\": 1e-5,"
           "\"rope_theta\": 1e6, \"tie_word_embeddings\": false}",
    .flags = LB_ARCH_ROPE_FREQS,
};
