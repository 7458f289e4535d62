/* SPDX-License-Identifier: Apache-2.0 */
/* family_olmo3.c: OLMo 3: olmo2 with a sliding window in most layers; those rotate without the
 * scaling that the full ones may have. GGUF knows both as "olmo2".
 *
 * Source: conversion/olmo.py (Olmo2Model) and src/models/olmo2.cpp of llama-cpp-python 0.3.36;
 * defaults: transformers 5.24, models/olmo3/configuration_olmo3.py; mlx-lm 0.32.2
 * models/olmo3.py. */
#include "arch/family_olmo.h"

static const lb_arch_tensor rows[] = {LB_ROWS_OLMO2};

static const char *const classes[] = {"Olmo3ForCausalLM", NULL};
static const char *const model_types[] = {"olmo3", NULL};
static const lb_arch_kv kv[] = {
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_SLIDING, .key = "attention.sliding_window_pattern", .names = "layer_types"},
    {.op = LB_KV_ONLY,
     .names = "%rope_type|%type",
     .fallback = "default",
     .hf = "layers with a sliding window are not scaled in GGUF"},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_layers layers = {"layer_types",        NULL, 4, "\"sliding_attention\"",
                                      "\"full_attention\"", NULL};

const lb_arch lb_arch_olmo3 = {
    .family = "olmo3",
    .gguf = "olmo2",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .window_period = 4},
    .gguf_key = "attention.sliding_window",
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50304, \"hidden_size\": 4096, "
                "\"intermediate_size\": 11008, \"num_hidden_layers\": 32, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": null, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 2048, "
                "\"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": false, "
                "\"attention_bias\": false, \"sliding_window?\": 4096}",
    .theta = "500000.0",
    .theta_local = "500000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .window = {4, NULL, false},
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"max_position_embeddings\": null, \"sliding_window\": null, "
           "\"rope_theta\": null, \"tie_word_embeddings\": false, "
           "\"attention_bias\": false}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_ROPE_BY_LAYER,
};
