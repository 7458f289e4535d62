/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen2.c: Qwen 1.5, 2 and 2.5: biases on q, k and v; no permutation (NEOX rope in GGUF).
 *
 * Source: conversion/qwen.py (Qwen2Model) of llama-cpp-python 0.3.36; defaults: transformers 5.23,
 * models/qwen2/configuration_qwen2.py; mlx-lm 0.32.2 models/qwen2.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_NONE, LB_RL_NONE),
};

static const char *const classes[] = {"Qwen2ForCausalLM", "Qwen2Model", NULL};
static const char *const model_types[] = {"qwen2", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_POOLING, LB_KV_ROWS_WINDOW_USED("from", "28")};

const lb_arch lb_arch_qwen2 = {
    .family = "qwen2",
    .gguf = "qwen2",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151936, \"hidden_size\": 4096, \"intermediate_size\": 22016,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads?\": 32, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"use_sliding_window\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_key_value_heads\": null, \"max_position_embeddings\": 32768,"
           "\"rope_theta\": 1000000, \"tie_word_embeddings\": true}",
    .flags = LB_ARCH_LAYER_TYPES,
};
