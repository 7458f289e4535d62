/* SPDX-License-Identifier: Apache-2.0 */
/* family_granite.c: Granite 3 and 4, dense: llama with four factors.
 *
 * Source: conversion/granite.py (GraniteModel) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/granite/configuration_granite.py; mlx-lm 0.32.2 models/granite.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"GraniteForCausalLM", NULL};
static const char *const model_types[] = {"granite", NULL};
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    LB_KV_ROWS_GRANITE(NULL),
    {.op = LB_KV_REFUSE,
     .names = "spatial_target_layers|deepstack_layer_map",
     .hf = "granite with vision: only text models of it are supported"},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"mlp_bias", LB_ROLE_FFN_UP}};

const lb_arch lb_arch_granite = {
    .family = "granite",
    .gguf = "granite",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS, .flags = LB_GRAPH_LOGIT_DIVIDES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32000, \"hidden_size\": 4096, "
                "\"intermediate_size\": 11008, \"num_hidden_layers\": 32, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": null, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 2048, "
                "\"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": false, "
                "\"attention_bias\": false, \"mlp_bias\": false, "
                "\"embedding_multiplier~\": 1.0, \"logits_scaling~\": 1.0, "
                "\"residual_multiplier~\": 1.0, \"attention_multiplier~\": 1.0}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"logits_scaling\": null, \"attention_multiplier\": null, "
           "\"embedding_multiplier\": null, \"residual_multiplier\": null, "
           "\"max_position_embeddings\": null, \"num_key_value_heads\": null, "
           "\"attention_bias\": null, \"mlp_bias\": null, "
           "\"rope_theta\": null, \"tie_word_embeddings\": true}",
    .mlx_8bit = "self_attn.o_proj|mlp.down_proj|lm_head",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_NO_HEAD_DIM,
};
