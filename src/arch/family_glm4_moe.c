/* SPDX-License-Identifier: Apache-2.0 */
/* family_glm4_moe.c: GLM 4.5 to 4.7: dense layers first, then experts with one that all tokens use;
 * the layers of multi-token prediction stand behind the others and are built like them.
 *
 * Source: conversion/glm.py (Glm4MoeModel) of llama-cpp-python 0.3.36; defaults: transformers 5.24,
 * models/glm4_moe/configuration_glm4_moe.py; mlx-lm 0.32.2 models/glm4_moe.py. */
#include "arch/family_experts.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.q_norm", "blk.{b}.attn_q_norm",
           LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm", "blk.{b}.attn_k_norm",
           LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW_ATTN_POST_NORM(LB_RL_NONE),
    LB_ROWS_FFN_OR(LB_ROW_OPTIONAL), /* the first layers */
    LB_ROW_ROUTER_OF("model.layers.{b}.mlp.gate", LB_ROW_MLX_BARE),
    LB_ROW_ROUTER_BIAS("model.layers.{b}.mlp.gate.e_score_correction_bias", LB_ROW_HF_F32),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERTS("mlp.shared_experts"),
    LB_ROWS_NEXTN,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"Glm4MoeForCausalLM", NULL};
static const char *const model_types[] = {"glm4_moe", NULL};

static const lb_arch_kv kv[] = {
    {.op = LB_KV_ROPE_DIMS,
     .key = "rope.dimension_count",
     .type = LB_GGUF_U32,
     .names = "@partial_rotary_factor",
     .fallback = "0.5"},
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "moe_intermediate_size",
     .hf = "moe_intermediate_size"},
    {.key = "expert_shared_count",
     .type = LB_GGUF_U32,
     .names = "n_shared_experts",
     .hf = "n_shared_experts"},
    {.key = "leading_dense_block_count",
     .type = LB_GGUF_U32,
     .names = "first_k_dense_replace",
     .hf = "first_k_dense_replace",
     .absent = "0"},
    {.op = LB_KV_CONST,
     .key = "expert_gating_func",
     .type = LB_GGUF_U32,
     .fallback = "2",
     .hf = "Glm4MoeForCausalLM scores experts by their sigmoid"},
    {.key = "expert_weights_scale",
     .type = LB_GGUF_F32,
     .names = "routed_scaling_factor",
     .hf = "routed_scaling_factor"},
    {.key = "expert_weights_norm",
     .type = LB_GGUF_BOOL,
     .names = "norm_topk_prob",
     .hf = "norm_topk_prob",
     .absent = "false"},
    {.op = LB_KV_MTP,
     .key = "nextn_predict_layers",
     .type = LB_GGUF_U32,
     .names = "num_nextn_predict_layers",
     .hf = "num_nextn_predict_layers",
     .absent = "0"},
    {.op = LB_KV_BACK, .key = "expert_group_count", .hf = "n_group"},
    {.op = LB_KV_BACK, .key = "expert_group_used_count", .hf = "topk_group"},
    LB_KV_ROWS_EXPERT_COUNTS("n_routed_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_bias present[] = {{"use_qk_norm", LB_ROLE_ATTN_Q_NORM}};

const lb_arch lb_arch_glm4_moe = {
    .family = "glm4_moe",
    .gguf = "glm4moe",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .router = LB_ROUTER_SIGMOID},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151552, \"hidden_size\": 4096, \"intermediate_size\": 10944,"
                "\"num_hidden_layers\": 46, \"num_attention_heads\": 96,"
                "\"num_key_value_heads\": 8, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false,"
                "\"moe_intermediate_size\": 1408, \"num_experts_per_tok\": 8,"
                "\"n_shared_experts\": 1, \"n_routed_experts\": 128,"
                "\"routed_scaling_factor\": 1.0, \"n_group\": 1, \"topk_group\": 1,"
                "\"first_k_dense_replace\": 1, \"norm_topk_prob\": true, \"use_qk_norm\": false,"
                "\"num_nextn_predict_layers\": 1}",
    .theta = "10000.0",
    .rotary = "0.5",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"vocab_size\": null, \"hidden_size\": null, \"intermediate_size\": null,"
           "\"max_position_embeddings\": null, \"moe_intermediate_size\": null,"
           "\"norm_topk_prob\": null, \"num_attention_heads\": null, \"n_group\": null,"
           "\"head_dim\": null, \"topk_group\": null, \"n_shared_experts\": null,"
           "\"n_routed_experts\": null, \"routed_scaling_factor\": null,"
           "\"num_experts_per_tok\": null, \"first_k_dense_replace\": null,"
           "\"num_hidden_layers\": null, \"num_key_value_heads\": null, \"rms_norm_eps\": null,"
           "\"rope_theta\": null, \"rope_scaling?\": null, \"use_qk_norm\": null,"
           "\"tie_word_embeddings!\": false, \"attention_bias\": null,"
           "\"partial_rotary_factor\": null}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .present = present,
    .n_present = LB_LEN(present),
    .flags = LB_ARCH_MLX_DOWN_LAST,
};
