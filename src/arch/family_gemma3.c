/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma3.c: Gemma 3: norms stored as w - 1, four norms a layer, one global layer in
 * six.
 *
 * Source: conversion/gemma.py (Gemma3Model) of llama-cpp-python 0.3.36 and its
 * src/models/gemma3.cpp; defaults: transformers 5.23, models/gemma3/configuration_gemma3.py; mlx-lm
 * 0.32.2 gemma3_text.py. */
#include "arch/family_gemma3.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_GEMMA3,
};

static const char *const classes[] = {"Gemma3ForCausalLM", NULL};
static const char *const model_types[] = {"gemma3_text", NULL};

/* The reference writes some keys again, with fallbacks of its own for a config that the class
 * refuses. */
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_GEMMA3,
    {.op = LB_KV_REFUSE,
     .names = "use_bidirectional_attention",
     .hf = "the GGUF of gemma3 has causal attention",
     .flags = LB_KVF_TRUTHY},
    LB_KV_ROWS_GEMMA3_CAPS,
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .unless_one = "sliding_window_pattern"},
    LB_KV_ROWS_GEMMA3_HEADS,
    LB_KV_ROW_QUERY_SCALE,
};

static const lb_arch_layers layers = LB_LAYERS_GEMMA3;

static const char *const outer_classes[] = {"Gemma3ForConditionalGeneration", NULL};
static const char *const outer_types[] = {"gemma3", NULL};
static const lb_arch_extra extras[] = {
    {LB_EXTRA_VISION, LB_N("vision_tower.")},
    {LB_EXTRA_VISION, LB_N("multi_modal_projector.")},
};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "gemma3_text",
    .defaults = "{\"mm_tokens_per_image?\": 256, \"boi_token_index?\": 255999,"
                "\"eoi_token_index?\": 256000, \"image_token_index?\": 262144,"
                "\"tie_word_embeddings?\": true}",
    .mlx = {LB_N(""), LB_N("language_model.")},
    .mlx_keys = "{\"vocab_size\": 262208}",
    .mlx_text_keys = "{\"num_attention_heads\": 8, \"num_key_value_heads\": 4}",
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma3 = {
    .family = "gemma3",
    .gguf = "gemma3",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .act = LB_ACT_GELU,
              .window_period = 6,
              .scalar_layers = 62,
              .window_base = 10000,
              .flags = LB_GRAPH_EMBD_SQRT},
    .classes = classes,
    .model_types = model_types,
    .defaults = LB_DEFAULTS_GEMMA3,
    .local_theta = "rope_local_base_freq",
    .theta = "1000000.0",
    .theta_local = "10000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_activation\": \"gelu_pytorch_tanh\"}",
    .window = {6, "sliding_window_pattern", false},
    .mlx = "{\"hidden_size\": 1152, \"num_hidden_layers\": 26, \"intermediate_size\": 6912,"
           "\"num_attention_heads\": 4, \"head_dim\": 256, \"rms_norm_eps\": 1e-06,"
           "\"vocab_size\": 262144, \"num_key_value_heads\": 1, \"rope_theta\": 1000000,"
           "\"rope_local_base_freq\": 10000, \"query_pre_attn_scalar\": 256,"
           "\"sliding_window\": 512, \"sliding_window_pattern\": 6,"
           "\"max_position_embeddings\": 32768}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_ROPE_BY_LAYER | LB_ARCH_HEADS_DIVIDE | LB_ARCH_SCALAR_IS_HEAD_DIM,
    .outers = outers,
    .n_outers = LB_LEN(outers),
    .split_scalar_layers = 62,
};
