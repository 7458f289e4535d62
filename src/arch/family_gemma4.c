/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma4.c: Gemma 4 with towers for images and sound, and the language model alone.
 *
 * Source: conversion/gemma.py (Gemma4Model) and src/models/gemma4.cpp of llama-cpp-python 0.3.36;
 * transformers 5.24, models/gemma4; mlx-lm 0.32.2 models/gemma4.py, gemma4_text.py. */
#include "arch/family_gemma4.h"

static const lb_arch_tensor rows[] = {LB_ROWS_GEMMA4};

static const char *const classes[] = {"Gemma4ForCausalLM", NULL};
static const char *const model_types[] = {"gemma4_text", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_GEMMA4};

static const char *const outer_classes[] = {"Gemma4ForConditionalGeneration", NULL};
static const char *const outer_types[] = {"gemma4", NULL};
static const lb_arch_extra extras[] = {
    {LB_EXTRA_VISION, LB_N("vision_tower.")},
    {LB_EXTRA_VISION, LB_N("embed_vision.")},
    {LB_EXTRA_AUDIO, LB_N("audio_tower.")},
    {LB_EXTRA_AUDIO, LB_N("embed_audio.")},
};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "gemma4_text",
    .defaults = LB_OUTER_DEFAULTS_GEMMA4,
    .mlx = {LB_N(""), LB_N("language_model.")},
    .mlx_keys = "{\"vocab_size\": 262144}",
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};

static const lb_arch_layers layers = LB_LAYERS_GEMMA4;
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma4 = {
    .family = "gemma4",
    .gguf = "gemma4",
    .graph = LB_GRAPH_GEMMA4,
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 262144, \"hidden_size\": 2304, \"intermediate_size\": 9216,"
                "\"num_hidden_layers\": 30, \"num_attention_heads\": 8,"
                "\"num_key_value_heads\": 4, \"head_dim\": 256,"
                "\"hidden_activation\": \"gelu_pytorch_tanh\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": true, \"attention_bias\": false,"
                "\"sliding_window\": 512, \"vocab_size_per_layer_input\": 262144,"
                "\"hidden_size_per_layer_input\": 256, \"attention_k_eq_v\": false,"
                "\"num_kv_shared_layers\": 0, \"enable_moe_block\": false,"
                "\"use_double_wide_mlp\": false, \"num_experts\": null,"
                "\"top_k_experts\": null, \"moe_intermediate_size\": null}",
    .rope = LB_ROPE_GEMMA4,
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_activation\": \"gelu_pytorch_tanh\"}",
    .mlx = LB_MLX_GEMMA4,
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .window = {.period = 6},
    .mlx_8bit = "router.proj",
    .flags = LB_FLAGS_GEMMA4,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
