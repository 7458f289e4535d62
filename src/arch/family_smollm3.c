/* SPDX-License-Identifier: Apache-2.0 */
/* family_smollm3.c: SmolLM3: llama in which every fourth layer has no positions.
 *
 * Source: conversion/llama.py (SmolLM3Model) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/smollm3/configuration_smollm3.py; mlx-lm 0.32.2 models/smollm3.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"SmolLM3ForCausalLM", NULL};
static const char *const model_types[] = {"smollm3", NULL};
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    {.op = LB_KV_PERIOD,
     .key = "rope.layers",
     .names = "no_rope_layers",
     .fallback = "4",
     .hf = "GGUF has no form for other layers without positions"},
    {.op = LB_KV_ONLY,
     .names = "use_sliding_window",
     .fallback = "false",
     .hf = "smollm3 in GGUF has no sliding window"},
};
static const lb_arch_layers layers = {
    "no_rope_layers", "no_rope_layer_interval", 4, "1", "0", NULL};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"mlp_bias", LB_ROLE_FFN_UP}};

const lb_arch lb_arch_smollm3 = {
    .family = "smollm3",
    .gguf = "smollm3",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS, .nope_period = 4},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 128256, \"hidden_size\": 2048, "
                "\"intermediate_size\": 11008, \"num_hidden_layers\": 36, "
                "\"num_attention_heads\": 16, \"num_key_value_heads?\": 4, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 32768, "
                "\"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": true, "
                "\"attention_bias\": false, \"mlp_bias\": false, "
                "\"use_sliding_window\": false, \"no_rope_layer_interval\": 4}",
    .theta = "2000000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false, "
                 "\"no_rope_layer_interval\": 4, \"pad_token_id\": null}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"num_key_value_heads\": null, \"rope_theta\": 10000, "
           "\"tie_word_embeddings\": true, \"attention_bias\": false, "
           "\"mlp_bias\": false, \"no_rope_layer_interval\": 4}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_ROPE_FREQS | LB_ARCH_LAYER_TYPES,
};
