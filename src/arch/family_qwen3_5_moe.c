/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen3_5_moe.c: Qwen 3.5 and 3.6 with experts, one of which all tokens use: otherwise as
 * family_qwen3_5.c.
 *
 * Source: conversion/qwen.py (Qwen3_5MoeTextModel) and src/models/qwen35moe.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/qwen3_5_moe/configuration_qwen3_5_moe.py; mlx-lm
 * 0.32.2 models/qwen3_5_moe.py, which has no class for the language model alone. */
#include "arch/family_qwen.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_HYBRID,
    LB_ROWS_DELTA_NET_APART,
    LB_ROW_ROUTER("model.layers.{b}.mlp.gate"),
    LB_ROWS_EXPERTS_STACKED_OF("mlp", 0), /* as published, and as mlx-lm wants them */
    LB_ROWS_EXPERTS_OF("mlp", LB_ROW_OPTIONAL),
    LB_ROWS_SHARED_EXPERT,
    LB_ROWS_MTP_QWEN,
    LB_ROWS_MTP_EXPERTS_STACKED,
    LB_ROWS_MTP_EXPERTS,
    LB_ROWS_MTP_SHARED_EXPERT,
};

static const char *const classes[] = {"Qwen3_5MoeForCausalLM", NULL};
static const char *const model_types[] = {"qwen3_5_moe_text", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_QWEN_EXPERTS,
    LB_KV_ROW_MTP_QWEN,
    LB_KV_ROWS_DELTA_NET,
    LB_KV_ROW_QWEN_SECTIONS,
    LB_KV_ROWS_EXPERT_COUNTS("num_experts"),
};

static const char *const outer_classes[] = {"Qwen3_5MoeForConditionalGeneration", NULL};
static const char *const outer_types[] = {"qwen3_5_moe", NULL};
static const lb_arch_extra extras[] = {LB_QWEN_EXTRAS};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "qwen3_5_moe_text",
    .defaults = "{\"image_token_id\": 248056, \"video_token_id\": 248057,"
                "\"vision_start_token_id\": 248053, \"vision_end_token_id\": 248054,"
                "\"tie_word_embeddings\": false}",
    .mlx = {LB_N(""), LB_N("language_model.")},
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_layers layers = LB_QWEN_LAYERS;

const lb_arch lb_arch_qwen3_5_moe = {
    .family = "qwen3_5_moe",
    .gguf = "qwen35moe",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .flags = LB_GRAPH_Q_GATE | LB_GRAPH_V_HEADS_TILED | LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 248320, \"hidden_size\": 2048,"
                ""
                "\"num_hidden_layers\": 40, \"num_attention_heads\": 16,"
                "\"num_key_value_heads\": 2, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false, \"head_dim\": 256,"
                "\"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 128,"
                "\"linear_value_head_dim\": 128, \"linear_num_key_heads\": 16,"
                "\"linear_num_value_heads\": 32,"
                "\"moe_intermediate_size\": 512, \"shared_expert_intermediate_size\": 512,"
                "\"num_experts_per_tok\": 8, \"num_experts\": 256}",
    .rotary = "0.25",
    .layers = &layers,
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": 4096, \"intermediate_size\": 14336, \"num_hidden_layers\": 32,"
           "\"num_attention_heads\": 32, \"rms_norm_eps\": 1e-06, \"vocab_size\": 151936,"
           "\"num_key_value_heads\": 8, \"max_position_embeddings\": 131072,"
           "\"linear_num_value_heads\": 64, \"linear_num_key_heads\": 16,"
           "\"linear_key_head_dim\": 192, \"linear_value_head_dim\": 128,"
           "\"linear_conv_kernel_dim\": 4, \"tie_word_embeddings\": false,"
           "\"attention_bias\": false, \"head_dim\": null, \"full_attention_interval\": 4,"
           "\"num_experts\": 0, \"num_experts_per_tok\": 0,"
           "\"shared_expert_intermediate_size\": 0, \"moe_intermediate_size\": 0,"
           "\"rope_parameters\": null}",
    .mlx_8bit = "mlp.gate|shared_expert_gate",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_LAYER_TYPES | LB_ARCH_TAKES_RULE,
    .mlx_outer = true,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
