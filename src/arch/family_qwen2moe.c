/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen2moe.c: Qwen 2 with experts, one of which all tokens use, behind a gate.
 *
 * Source: conversion/qwen.py (Qwen2MoeModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/qwen2_moe/configuration_qwen2_moe.py; mlx-lm 0.32.2 models/qwen2_moe.py. */
#include "arch/family_qwen.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS_OF(LB_ROWS_QKV(LB_RL_NONE, LB_RL_NONE), LB_ROW_ATTN_OUTPUT(LB_SUFFIX_WEIGHT)),
    LB_ROWS_FFN_OR(LB_ROW_OPTIONAL),
    LB_ROW_ROUTER("model.layers.{b}.mlp.gate"),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERT,
};

static const char *const classes[] = {"Qwen2MoeForCausalLM", NULL};
static const char *const model_types[] = {"qwen2_moe", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_QWEN_EXPERTS,
    LB_KV_ROWS_SPARSE,
    LB_KV_ROWS_WINDOW_USED("even", "28"),
    LB_KV_ROWS_NORM_TOPK("false"),
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
};

static const lb_arch_bias biases[] = {{"qkv_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_qwen2moe = {
    .family = "qwen2_moe",
    .gguf = "qwen2moe",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151936, \"hidden_size\": 2048, \"intermediate_size\": 5632,"
                "\"num_hidden_layers\": 24, \"num_attention_heads\": 16,"
                "\"num_key_value_heads?\": 16, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"use_sliding_window\": false,"
                "\"sliding_window?\": 4096, \"decoder_sparse_step\": 1,"
                "\"moe_intermediate_size\": 1408, \"shared_expert_intermediate_size\": 5632,"
                "\"num_experts_per_tok\": 4, \"num_experts\": 60, \"norm_topk_prob\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false,"
                 "\"norm_topk_prob\": false, \"decoder_sparse_step\": 1, \"mlp_only_layers\": []}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"num_experts_per_tok\": null, \"num_experts\": null,"
           "\"moe_intermediate_size\": null, \"shared_expert_intermediate_size\": null,"
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"num_key_value_heads\": null,"
           "\"rope_theta\": 1000000, \"rope_scaling.type\": null, \"tie_word_embeddings!\": false,"
           "\"qkv_bias!\": true, \"decoder_sparse_step!\": 1, \"mlp_only_layers!\": []}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_LAYER_TYPES,
};
