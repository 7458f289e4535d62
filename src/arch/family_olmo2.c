/* SPDX-License-Identifier: Apache-2.0 */
/* family_olmo2.c: OLMo 2: norms behind attention and feed-forward, and on q and k as a whole.
 *
 * Source: conversion/olmo.py (Olmo2Model) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/olmo2/configuration_olmo2.py; mlx-lm 0.32.2 models/olmo2.py. */
#include "arch/family_olmo.h"

static const lb_arch_tensor rows[] = {LB_ROWS_OLMO2};

static const char *const classes[] = {"Olmo2ForCausalLM", NULL};
static const char *const model_types[] = {"olmo2", NULL};
static const lb_arch_kv kv[] = {
    {.op = LB_KV_REFUSE,
     .names = "sliding_window",
     .hf = "a model with a sliding window is of the class Olmo3ForCausalLM"},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_olmo2 = {
    .family = "olmo2",
    .gguf = "olmo2",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50304, \"hidden_size\": 4096, "
                "\"intermediate_size\": 11008, \"num_hidden_layers\": 32, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": null, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 2048, "
                "\"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": false, "
                "\"attention_bias\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"rope_theta\": 10000, \"tie_word_embeddings\": true, "
           "\"attention_bias\": false}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
