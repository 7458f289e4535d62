/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen3_next.c: Qwen 3 Next: gated delta nets, every so many layers attention instead;
 * experts with one that all tokens use.
 *
 * The fused projection of a delta net holds q, k, v and z of each head of keys together; GGUF has
 * q, k and v of all heads one after the other, and z apart. Source: conversion/qwen.py
 * (Qwen3NextModel) and src/models/qwen3next.cpp of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/qwen3_next/configuration_qwen3_next.py; mlx-lm 0.32.2 models/qwen3_next.py. */
#include "arch/family_qwen.h"

#define IN_PROJ LB_N("model.layers.{b}.linear_attn.in_proj_qkvz")
#define IN_ROW(role_, group_, gguf_, part_)                                \
    {                                                                      \
        .role = role_, .hf = IN_PROJ, .gguf = LB_N(gguf_), .mlx = IN_PROJ, \
        .suffixes = LB_SUFFIX_WEIGHT, .flags = LB_ROW_RECURRENT, .part = { \
            group_,                                                        \
            group_,                                                        \
            part_                                                          \
        }                                                                  \
    }

static const lb_arch_tensor rows[] = {
    LB_ROWS_HYBRID,
    IN_ROW(LB_ROLE_LINEAR_Q, LB_PART_NET_Q, "blk.{b}.attn_qkv", LB_PART_SSM_Q),
    IN_ROW(LB_ROLE_LINEAR_K, LB_PART_NET_K, "blk.{b}.attn_qkv", LB_PART_SSM_K),
    IN_ROW(LB_ROLE_LINEAR_V, LB_PART_NET_V, "blk.{b}.attn_qkv", LB_PART_SSM_V),
    IN_ROW(LB_ROLE_LINEAR_GATE, LB_PART_NET_Z, "blk.{b}.attn_gate", LB_PART_ALL),
    LB_ROW(LB_ROLE_SSM_BETA_ALPHA, "model.layers.{b}.linear_attn.in_proj_ba", "blk.{b}.ssm_ba",
           LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_RECURRENT),
    {.role = LB_ROLE_SSM_CONV,
     .hf = LB_N("model.layers.{b}.linear_attn.conv1d"),
     .gguf = LB_N("blk.{b}.ssm_conv1d"),
     .mlx = LB_N("model.layers.{b}.linear_attn.conv1d"),
     .relayout = LB_RL_SQUEEZE,
     .mlx_relayout = LB_RL_CHANNEL_LAST,
     .suffixes = LB_SUFFIX_WEIGHT,
     .flags = LB_ROW_RECURRENT | LB_ROW_GGUF_F32},
    LB_ROW(LB_ROLE_SSM_A, "model.layers.{b}.linear_attn.A_log", "blk.{b}.ssm_a", LB_RL_NEG_EXP,
           LB_SUFFIX_NONE, LB_ROW_RECURRENT),
    LB_ROW(LB_ROLE_SSM_DT, "model.layers.{b}.linear_attn.dt_bias", "blk.{b}.ssm_dt.bias",
           LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_RECURRENT),
    LB_ROW(LB_ROLE_SSM_OUT, "model.layers.{b}.linear_attn.out_proj", "blk.{b}.ssm_out", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, LB_ROW_RECURRENT),
    LB_ROWS_FFN_OR(LB_ROW_OPTIONAL),
    LB_ROW_ROUTER("model.layers.{b}.mlp.gate"),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERT,
    LB_ROWS_MTP_QWEN,
    LB_ROWS_MTP_EXPERTS,
    LB_ROWS_MTP_EXPERTS_STACKED,
    LB_ROWS_MTP_SHARED_EXPERT,
};

static const char *const classes[] = {"Qwen3NextForCausalLM", NULL};
static const char *const model_types[] = {"qwen3_next", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_QWEN_EXPERTS,
    LB_KV_ROW_MTP_QWEN,
    LB_KV_ROWS_DELTA_NET,
    LB_KV_ROWS_SPARSE,
    {.op = LB_KV_ONLY,
     .names = "norm_topk_prob",
     .fallback = "true",
     .hf = "the GGUF of qwen3_next carries no other",
     .flags = LB_KVF_RUNS},
    {.op = LB_KV_RUN,
     .key = "expert_weights_norm",
     .type = LB_GGUF_BOOL,
     .names = "norm_topk_prob"},
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_layers layers = LB_QWEN_LAYERS;

const lb_arch lb_arch_qwen3_next = {
    .family = "qwen3_next",
    .mlx_8bit = "mlp.gate|shared_expert_gate",
    .gguf = "qwen3next",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_Q_GATE | LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151936, \"hidden_size\": 2048, \"intermediate_size\": 5632,"
                "\"num_hidden_layers\": 48, \"num_attention_heads\": 16,"
                "\"num_key_value_heads\": 2, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false, \"head_dim\": 256,"
                "\"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 128,"
                "\"linear_value_head_dim\": 128, \"linear_num_key_heads\": 16,"
                "\"linear_num_value_heads\": 32, \"decoder_sparse_step\": 1,"
                "\"moe_intermediate_size\": 512, \"shared_expert_intermediate_size\": 512,"
                "\"num_experts_per_tok\": 10, \"num_experts\": 512, \"norm_topk_prob\": true,"
                "\"mlp_only_layers?\": []}",
    .rotary = "0.25",
    .layers = &layers,
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"norm_topk_prob\": true,"
                 "\"decoder_sparse_step\": 1, \"mlp_only_layers\": []}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"linear_num_value_heads\": null,"
           "\"linear_num_key_heads\": null, \"linear_key_head_dim\": null,"
           "\"linear_value_head_dim\": null, \"linear_conv_kernel_dim\": null,"
           "\"num_experts\": null, \"num_experts_per_tok\": null, \"decoder_sparse_step\": null,"
           "\"shared_expert_intermediate_size\": null, \"mlp_only_layers\": null,"
           "\"moe_intermediate_size\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_key_value_heads\": null, \"rope_theta\": null, \"partial_rotary_factor\": null,"
           "\"max_position_embeddings\": null, \"head_dim\": null, \"norm_topk_prob\": false,"
           "\"tie_word_embeddings\": false, \"attention_bias\": false,"
           "\"full_attention_interval\": 4}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_LAYER_TYPES | LB_ARCH_TAKES_RULE,
};
