/* SPDX-License-Identifier: Apache-2.0 */
/* family_lfm2_moe.c: LFM 2 with experts behind dense layers.
 *
 * Source: conversion/lfm2.py (LFM2MoeModel) of llama-cpp-python 0.3.36 and its
 * src/models/lfm2moe.cpp; defaults: transformers 5.24,
 * models/lfm2_moe/configuration_lfm2_moe.py; mlx-lm 0.32.2 models/lfm2_moe.py. */
#include "arch/family_lfm.h"

/* mlx-lm gives the dense layers' matrices the names of the experts'. */
#define DENSE(role_, hf_, gguf_, mlx_)                                                 \
    LB_ROW3(role_, LB_N("model.layers.{b}.feed_forward." hf_), LB_N("blk.{b}." gguf_), \
            LB_N("model.layers.{b}.feed_forward." mlx_), LB_RL_NONE, LB_SUFFIX_WEIGHT, \
            LB_ROW_OPTIONAL)

static const lb_arch_tensor rows[] = {
    LB_ROWS_LFM,
    DENSE(LB_ROLE_FFN_GATE, "w1", "ffn_gate", "gate_proj"),
    DENSE(LB_ROLE_FFN_UP, "w3", "ffn_up", "up_proj"),
    DENSE(LB_ROLE_FFN_DOWN, "w2", "ffn_down", "down_proj"),
    LB_ROW_ROUTER("model.layers.{b}.feed_forward.gate"),
    LB_ROW_ROUTER_BIAS("model.layers.{b}.feed_forward.expert_bias",
                       LB_ROW_HF_F32 | LB_ROW_OPTIONAL),
    LB_ROWS_EXPERTS_AS("feed_forward", "w1", "w3", "w2"),
    LB_ROWS_EXPERTS_STACKED("feed_forward"),
};

static const char *const classes[] = {"Lfm2MoeForCausalLM", NULL};
static const char *const model_types[] = {"lfm2_moe", NULL};
static const lb_arch_alias aliases[] = {{"tie_embedding", "tie_word_embeddings"}, {NULL, NULL}};

static const lb_arch_kv kv[] = {
    LB_KV_ROW_LFM_HEADS,
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "moe_intermediate_size",
     .hf = "moe_intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.key = "leading_dense_block_count",
     .type = LB_GGUF_U32,
     .names = "num_dense_layers",
     .hf = "num_dense_layers",
     .absent = "0",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_CONST,
     .key = "expert_gating_func",
     .type = LB_GGUF_U32,
     .fallback = "2",
     .hf = "Lfm2MoeForCausalLM scores experts by their sigmoid"},
    LB_KV_ROWS_LFM,
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
    {.op = LB_KV_ONLY,
     .names = "norm_topk_prob",
     .fallback = "true",
     .hf = "the GGUF of lfm2moe cannot say so",
     .flags = LB_KVF_RUNS},
    {.op = LB_KV_RUN,
     .key = "expert_weights_norm",
     .type = LB_GGUF_BOOL,
     .names = "norm_topk_prob"},
    {.op = LB_KV_ONLY,
     .names = "routed_scaling_factor",
     .fallback = "1",
     .hf = "the GGUF of lfm2moe cannot say so",
     .flags = LB_KVF_RUNS},
    {.op = LB_KV_RUN,
     .key = "expert_weights_scale",
     .type = LB_GGUF_F32,
     .names = "routed_scaling_factor"},
    {.op = LB_KV_ONLY,
     .names = "use_expert_bias",
     .fallback = "true",
     .hf = "llama.cpp reads no such model"},
};

const lb_arch lb_arch_lfm2_moe = {
    .family = "lfm2_moe",
    .gguf = "lfm2moe",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 65536, \"hidden_size\": 2048, \"intermediate_size\": 7168,"
                "\"moe_intermediate_size\": 1792, \"num_hidden_layers\": 32,"
                "\"num_attention_heads\": 32, \"num_key_value_heads\": 8,"
                "\"max_position_embeddings\": 128000, \"norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": true, \"conv_bias\": false, \"conv_L_cache\": 3,"
                "\"num_dense_layers\": 2, \"num_experts_per_tok\": 4, \"num_experts\": 32,"
                "\"use_expert_bias\": true, \"routed_scaling_factor\": 1.0,"
                "\"norm_topk_prob\": true}",
    .theta = "1000000.0",
    .aliases = aliases,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"conv_bias\": false, \"use_expert_bias\": true, \"norm_topk_prob\": true,"
                 "\"routed_scaling_factor\": 1.0}",
    .mlx = "{\"vocab_size\": null, \"hidden_size\": null, \"intermediate_size\": null,"
           "\"moe_intermediate_size\": null, \"num_hidden_layers\": null, \"num_experts\": null,"
           "\"num_experts_per_tok\": null, \"norm_topk_prob\": null,"
           "\"num_attention_heads\": null, \"num_key_value_heads\": null,"
           "\"max_position_embeddings\": null, \"use_expert_bias\": null,"
           "\"num_dense_layers\": null, \"norm_eps\": null, \"conv_bias\": null,"
           "\"conv_L_cache\": null, \"rope_theta\": 1000000, \"routed_scaling_factor\": 1.0}",
    .mlx_8bit = "feed_forward.gate",
    .flags = LB_ARCH_LAYER_TYPES | LB_ARCH_MLX_DOWN_LAST,
};
