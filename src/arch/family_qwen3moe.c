/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen3moe.c: Qwen 3 with experts: the dense model's attention, a router and experts in each
 * layer that is not listed as dense.
 *
 * Source: conversion/qwen.py (Qwen2MoeModel, Qwen3MoeModel) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.23, models/qwen3_moe/configuration_qwen3_moe.py; mlx-lm 0.32.2
 * models/qwen3_moe.py.
 */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
    LB_ROWS_FFN_OR(LB_ROW_OPTIONAL),
    LB_ROW_ROUTER("model.layers.{b}.mlp.gate"),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
};

static const char *const classes[] = {"Qwen3MoeForCausalLM", NULL};
static const char *const model_types[] = {"qwen3_moe", NULL};

static const lb_arch_kv kv[] = {
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "moe_intermediate_size",
     .hf = "moe_intermediate_size"},
    {.key = "expert_shared_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "shared_expert_intermediate_size"},
    LB_KV_ROWS_SPARSE,
    LB_KV_ROWS_WINDOW_USED(NULL, NULL),
    LB_KV_ROWS_NORM_TOPK("true"),
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_qwen3moe = {
    .family = "qwen3_moe",
    .gguf = "qwen3moe",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .flags = LB_GRAPH_SCALED_WINDOW | LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151936, \"hidden_size\": 2048, \"intermediate_size\": 6144,"
                "\"num_hidden_layers\": 24, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 4, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false,"
                "\"use_sliding_window\": false, \"sliding_window?\": 4096,"
                "\"decoder_sparse_step\": 1, \"moe_intermediate_size\": 768,"
                "\"num_experts_per_tok\": 8, \"norm_topk_prob\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false,"
                 "\"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": []}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"num_experts\": null, \"num_experts_per_tok\": null,"
           "\"decoder_sparse_step\": null, \"mlp_only_layers\": null,"
           "\"moe_intermediate_size\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_key_value_heads\": null, \"head_dim\": null, \"rope_theta\": null,"
           "\"tie_word_embeddings\": null, \"max_position_embeddings\": null,"
           "\"norm_topk_prob\": null, \"attention_bias!\": false}",
    .mlx_8bit = "mlp.gate",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
