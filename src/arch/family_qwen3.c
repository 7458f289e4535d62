/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen3.c: Qwen 3, dense: a norm on each head of q and k, head_dim of its own.
 *
 * Source: conversion/qwen.py (Qwen3Model) of llama-cpp-python 0.3.36; defaults: transformers 5.23,
 * models/qwen3/configuration_qwen3.py; mlx-lm 0.32.2 models/qwen3.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
};

static const char *const classes[] = {"Qwen3ForCausalLM", "Qwen3Model", NULL};
static const char *const model_types[] = {"qwen3", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_POOLING, LB_KV_ROWS_WINDOW_USED("from", "28")};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_qwen3 = {
    .family = "qwen3",
    .gguf = "qwen3",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151936, \"hidden_size\": 4096, \"intermediate_size\": 22016,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads?\": 32, \"head_dim\": 128, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false,"
                "\"use_sliding_window\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_key_value_heads\": null, \"max_position_embeddings\": null,"
           "\"head_dim\": null, \"tie_word_embeddings\": null, \"rope_theta\": null,"
           "\"attention_bias!\": false}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .refused_label = "qwen3-reranker",
    .flags = LB_ARCH_LAYER_TYPES,
};
