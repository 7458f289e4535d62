/* SPDX-License-Identifier: Apache-2.0 */
/* family_cohere2.c: Command R7B and Command A: command-r with a sliding window in all but every
 * fourth layer, which has no positions. GGUF has no form for biases.
 *
 * Source: conversion/command_r.py (Cohere2Model) and src/models/cohere2.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/cohere2/configuration_cohere2.py; mlx-lm 0.32.2
 * models/cohere2.py. */
#include "arch/family_cohere.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_COHERE(LB_SUFFIX_WEIGHT),
};

static const char *const classes[] = {"Cohere2ForCausalLM", NULL};
static const char *const model_types[] = {"cohere2", NULL};
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_COHERE("cohere2", NULL),
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .flags = LB_KVF_REQUIRED | LB_KVF_BACK_REQUIRED},
    LB_KV_ROWS_LLAMA,
    LB_KV_ROW_NO_SCALING,
    {.op = LB_KV_PERIOD,
     .key = "attention.sliding_window_pattern",
     .names = "layer_types",
     .fallback = "4",
     .hf = "the GGUF of cohere2 has no form for other global layers"},
    {.op = LB_KV_ONLY,
     .names = "rotary_pct",
     .fallback = "1",
     .hf = "transformers rotates whole heads"},
};
static const lb_arch_layers layers = {"layer_types",           "sliding_window_pattern", 4,
                                      "\"sliding_attention\"", "\"full_attention\"",     NULL};

const lb_arch lb_arch_cohere2 = {
    .family = "cohere2",
    .gguf = "cohere2",
    .graph = {.runs = true,
              .norm = LB_NORM_LAYER,
              .rope = LB_ROPE_PAIRS,
              .window_period = 4,
              .flags = LB_GRAPH_SCALED_WINDOW | LB_GRAPH_FULL_NO_ROPE},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 256000, \"hidden_size\": 8192, "
                "\"intermediate_size\": 22528, \"num_hidden_layers\": 40, "
                "\"num_attention_heads\": 64, \"num_key_value_heads\": null, "
                "\"head_dim\": null, \"hidden_act\": \"silu\", \"max_position_embeddings\": 8192, "
                "\"layer_norm_eps\": 1e-05, \"logit_scale\": 0.0625, "
                "\"tie_word_embeddings\": true, \"attention_bias\": false, "
                "\"sliding_window?\": 4096}",
    .theta = "10000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"rotary_pct\": 1.0}",
    .window = {4, "sliding_window_pattern", false},
    .mlx = "{\"hidden_size\": 4096, \"head_dim\": 128, \"num_hidden_layers\": 32, "
           "\"intermediate_size\": 14336, \"num_attention_heads\": 32, "
           "\"num_key_value_heads\": 8, \"rope_theta\": 50000.0, "
           "\"vocab_size\": 256000, \"layer_norm_eps\": 1e-05, "
           "\"logit_scale\": 0.0625, \"attention_bias\": false, "
           "\"layer_norm_bias\": false, \"sliding_window\": 4096, "
           "\"sliding_window_pattern\": 4, "
           "\"tie_word_embeddings!\": true}",
    .flags = LB_ARCH_HEAD_DIM_SPLIT | LB_ARCH_LAYER_TYPES | LB_ARCH_MLX_DOWN_LAST,
};
