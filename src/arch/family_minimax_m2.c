/* SPDX-License-Identifier: Apache-2.0 */
/* family_minimax_m2.c: MiniMax M2: experts only; norms over all heads of queries and keys; the
 * config counts the values of a head that are rotated.
 *
 * Source: conversion/minimax.py (MiniMaxM2Model) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/minimax_m2/configuration_minimax_m2.py; mlx-lm 0.32.2 models/minimax.py. */
#include "arch/family_experts.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
    LB_ROW_ROUTER("model.layers.{b}.block_sparse_moe.gate"),
    LB_ROW_ROUTER_BIAS("model.layers.{b}.block_sparse_moe.e_score_correction_bias", LB_ROW_HF_F32),
    LB_ROWS_EXPERTS_AS("block_sparse_moe", "w1", "w3", "w2"),
    /* as transformers 5 holds them in memory */
    LB_ROW_ROUTER_ALSO("model.layers.{b}.mlp.gate", "model.layers.{b}.block_sparse_moe.gate"),
    LB_ROW3(LB_ROLE_FFN_ROUTER_BIAS, LB_N("model.layers.{b}.mlp.e_score_correction_bias"),
            LB_N("blk.{b}.exp_probs_b.bias"),
            LB_N("model.layers.{b}.block_sparse_moe.e_score_correction_bias"), LB_RL_NONE,
            LB_SUFFIX_NONE, LB_ROW_HF_F32 | LB_ROW_OPTIONAL),
    LB_ROWS_EXPERTS_STACKED_AS("mlp", "block_sparse_moe", LB_ROW_OPTIONAL),
};

static const char *const classes[] = {"MiniMaxM2ForCausalLM", NULL};
static const char *const model_types[] = {"minimax_m2", NULL};

static const lb_arch_kv kv[] = {
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "intermediate_size",
     .hf = "intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_ROPE_DIMS,
     .key = "rope.dimension_count",
     .type = LB_GGUF_U32,
     .names = "@partial_rotary_factor",
     .of = "rotary_dim",
     .fallback = "1.0"},
    {.op = LB_KV_ONLY,
     .names = "scoring_func",
     .fallback = "sigmoid",
     .hf = "MiniMaxM2ForCausalLM scores experts by their sigmoid"},
    {.op = LB_KV_CONST,
     .key = "expert_gating_func",
     .type = LB_GGUF_U32,
     .fallback = "2",
     .hf = "MiniMaxM2ForCausalLM scores experts by their sigmoid"},
    LB_KV_ROWS_EXPERT_COUNTS("num_local_experts"),
};

const lb_arch lb_arch_minimax_m2 = {
    .family = "minimax_m2",
    .gguf = "minimax-m2",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .router = LB_ROUTER_SIGMOID,
              .flags = LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 200064, \"hidden_size\": 3072, \"intermediate_size\": 1536,"
                "\"num_hidden_layers\": 62, \"num_attention_heads\": 48,"
                "\"num_key_value_heads\": 8, \"head_dim\": 128, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 196608, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"num_experts_per_tok\": 8,"
                "\"num_local_experts\": 256}",
    .theta = "5000000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"scoring_func\": \"sigmoid\","
                 "\"use_qk_norm\": true, \"shared_intermediate_size\": 0}",
    .mlx = "{\"hidden_size\": null, \"intermediate_size\": null, \"num_attention_heads\": null,"
           "\"num_key_value_heads\": null, \"max_position_embeddings\": null,"
           "\"num_experts_per_tok\": null, \"num_local_experts\": null,"
           "\"shared_intermediate_size?\": null, \"num_hidden_layers\": null,"
           "\"rms_norm_eps\": null, \"rope_theta\": null, \"rotary_dim\": null,"
           "\"vocab_size\": null, \"tie_word_embeddings\": false, \"head_dim\": null}",
    .mlx_8bit = "block_sparse_moe.gate",
};
