/* SPDX-License-Identifier: Apache-2.0 */
/* family_olmoe.c: OLMoE: experts in every layer, norms over the whole of q and k. Values of q, k
 * and v that are clipped are refused in GGUF; the reference writes such a model as one without.
 *
 * Source: conversion/olmo.py (OlmoeModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/olmoe/configuration_olmoe.py; mlx-lm 0.32.2 models/olmoe.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
    LB_ROW_ROUTER("model.layers.{b}.mlp.gate"),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
};

static const char *const classes[] = {"OlmoeForCausalLM", NULL};
static const char *const model_types[] = {"olmoe", NULL};

static const lb_arch_kv kv[] = {
    /* whatever the config says: the reference's converter */
    {.key = "attention.layer_norm_rms_epsilon",
     .type = LB_GGUF_F32,
     .names = "",
     .fallback = "1e-05"},
    {.op = LB_KV_ONLY,
     .names = "rms_norm_eps",
     .fallback = "1e-05",
     .hf = "llama.cpp computes this architecture as if it were",
     .flags = LB_KVF_SAID},
    {.op = LB_KV_RUN,
     .key = "attention.layer_norm_rms_epsilon",
     .type = LB_GGUF_F32,
     .names = "rms_norm_eps"},
    {.op = LB_KV_REFUSE, .names = "clip_qkv", .hf = "the GGUF of olmoe cannot say so"},
    LB_KV_ROWS_NORM_TOPK("false"),
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_olmoe = {
    .family = "olmoe",
    .gguf = "olmoe",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50304, \"hidden_size\": 2048, \"intermediate_size\": 2048,"
                "\"num_hidden_layers\": 16, \"num_attention_heads\": 16,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false,"
                "\"num_experts_per_tok\": 8, \"num_experts\": 64, \"norm_topk_prob\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"norm_topk_prob\": false}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_experts\": null, \"num_experts_per_tok\": null, \"norm_topk_prob\": false,"
           "\"max_position_embeddings\": null, \"num_key_value_heads\": null,"
           "\"attention_bias\": false, \"rope_theta\": 10000, \"tie_word_embeddings\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
