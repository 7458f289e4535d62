/* SPDX-License-Identifier: Apache-2.0 */
/* family_phimoe.c: Phi 3.5 MoE: experts in every layer, layer norms with biases, a bias on the
 * output matrix, longrope with a factor of its own on cosine and sine. transformers writes the
 * class as PhimoeForCausalLM, which the reference does not know; it computes the factor from the
 * two lengths, where here it is the config's. It also stops at a config without the length before
 * longrope (Phi mini MoE), whose GGUF has no such key here.
 *
 * Source: conversion/phi.py (PhiMoeModel) of llama-cpp-python 0.3.36; defaults: transformers 5.24,
 * models/phimoe/configuration_phimoe.py; mlx-lm 0.32.2 models/phimoe.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW_TOKEN_EMBD,
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", LB_RL_NONE,
           LB_WB, 0),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
           LB_RL_NONE, LB_WB, 0),
    LB_ROW_ROUTER("model.layers.{b}.block_sparse_moe.gate"),
    LB_ROWS_EXPERTS_AS("block_sparse_moe", "w1", "w3", "w2"),
    LB_ROW_ROUTER_ALSO("model.layers.{b}.mlp.router", "model.layers.{b}.block_sparse_moe.gate"),
    LB_ROWS_EXPERTS_STACKED_AS("mlp", "block_sparse_moe", LB_ROW_OPTIONAL),
    LB_ROWS_INV_FREQ,
    LB_ROWS_LONGROPE,
};

static const char *const classes[] = {"PhiMoEForCausalLM", "PhimoeForCausalLM", NULL};
static const char *const model_types[] = {"phimoe", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_PHI3(NULL),
    {.key = "expert_used_count",
     .type = LB_GGUF_U32,
     .names = "num_experts_per_tok|num_experts_per_token",
     .hf = "num_experts_per_tok",
     .flags = LB_KVF_REQUIRED},
    {.key = "expert_count",
     .type = LB_GGUF_U32,
     .names = "num_local_experts|num_experts",
     .hf = "num_local_experts",
     .flags = LB_KVF_REQUIRED},
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"lm_head_bias", LB_ROLE_OUTPUT}};

const lb_arch lb_arch_phimoe = {
    .family = "phimoe",
    .gguf = "phimoe",
    .graph = {.runs = true,
              .norm = LB_NORM_LAYER,
              .rope = LB_ROPE_HALVES,
              .router = LB_ROUTER_MIXER,
              .flags = LB_GRAPH_WINDOW_ALL | LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32064, \"hidden_size\": 4096, \"intermediate_size\": 6400,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 8, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"sliding_window\": null,"
                "\"num_experts_per_tok\": 2, \"num_local_experts\": 16,"
                "\"attention_bias\": false, \"lm_head_bias\": false}",
    .theta = "1000000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"router_jitter_noise\": 0.01}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"vocab_size\": 32064, \"hidden_size\": 4096, \"intermediate_size\": 6400,"
           "\"num_hidden_layers\": 32, \"num_attention_heads\": 32, \"num_key_value_heads\": 8,"
           "\"max_position_embeddings\": 131072, \"original_max_position_embeddings\": 4096,"
           "\"rms_norm_eps\": 1e-6, \"num_local_experts\": 16, \"num_experts_per_tok\": 2,"
           "\"rope_theta\": 10000.0, \"tie_word_embeddings!\": false,"
           "\"attention_bias!\": true, \"lm_head_bias!\": true}",
    .flags = LB_ARCH_OWN_KV | LB_ARCH_NO_HEAD_DIM | LB_ARCH_LONGROPE | LB_ARCH_MSCALE,
};
