/* SPDX-License-Identifier: Apache-2.0 */
/* family_granitemoe.c: Granite with experts, which its checkpoints keep stacked, gate over up.
 *
 * Source: conversion/granite.py (GraniteModel, GraniteMoeModel) of llama-cpp-python 0.3.36;
 * defaults: transformers 5.24, models/granitemoe/configuration_granitemoe.py; mlx-lm 0.32.2
 * models/granitemoe.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_ROPE_Q, LB_RL_ROPE_K),
    LB_ROW_ROUTER("model.layers.{b}.block_sparse_moe.router.layer"),
    {.role = LB_ROLE_FFN_GATE_EXPS,
     .hf = LB_N("model.layers.{b}.block_sparse_moe.input_linear"),
     .gguf = LB_N("blk.{b}.ffn_gate_exps"),
     .mlx = LB_N("model.layers.{b}.block_sparse_moe.switch_mlp.gate_proj"),
     .suffixes = LB_SUFFIX_WEIGHT,
     .flags = LB_ROW_EXPERT,
     .part = {LB_PART_FIRST, LB_PART_ALL, LB_PART_ALL}},
    {.role = LB_ROLE_FFN_UP_EXPS,
     .hf = LB_N("model.layers.{b}.block_sparse_moe.input_linear"),
     .gguf = LB_N("blk.{b}.ffn_up_exps"),
     .mlx = LB_N("model.layers.{b}.block_sparse_moe.switch_mlp.up_proj"),
     .suffixes = LB_SUFFIX_WEIGHT,
     .flags = LB_ROW_EXPERT,
     .part = {LB_PART_SECOND, LB_PART_ALL, LB_PART_ALL}},
    LB_ROW3(LB_ROLE_FFN_DOWN_EXPS, LB_N("model.layers.{b}.block_sparse_moe.output_linear"),
            LB_N("blk.{b}.ffn_down_exps"),
            LB_N("model.layers.{b}.block_sparse_moe.switch_mlp.down_proj"), LB_RL_NONE,
            LB_SUFFIX_WEIGHT, LB_ROW_EXPERT),
    /* as transformers 5 holds them in memory */
    LB_ROW_ROUTER_ALSO("model.layers.{b}.block_sparse_moe.router",
                       "model.layers.{b}.block_sparse_moe.router.layer"),
    LB_ROWS_EXPERTS_STACKED("block_sparse_moe"),
};

static const char *const classes[] = {"GraniteMoeForCausalLM", NULL};
static const char *const model_types[] = {"granitemoe", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    LB_KV_ROWS_GRANITE("1.0"),
    LB_KV_ROWS_EXPERT_COUNTS("num_local_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_granitemoe = {
    .family = "granitemoe",
    .mlx_8bit = "block_sparse_moe.router.layer|self_attn.o_proj|mlp.down_proj|lm_head",
    .gguf = "granitemoe",
    .graph = {.runs = true,
              .rope = LB_ROPE_PAIRS,
              .flags = LB_GRAPH_LOGIT_DIVIDES | LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32000, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false,"
                "\"embedding_multiplier~?\": 1.0, \"logits_scaling~?\": 1.0,"
                "\"residual_multiplier~?\": 1.0, \"attention_multiplier~?\": 1.0,"
                "\"num_local_experts?\": 8, \"num_experts_per_tok?\": 2}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"logits_scaling\": null, \"attention_multiplier\": null,"
           "\"embedding_multiplier\": null, \"residual_multiplier\": null,"
           "\"max_position_embeddings\": null, \"num_key_value_heads\": null,"
           "\"attention_bias\": null, \"rope_theta\": null, \"num_local_experts\": null,"
           "\"num_experts_per_tok\": null, \"tie_word_embeddings\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_ROPE_FREQS,
};
