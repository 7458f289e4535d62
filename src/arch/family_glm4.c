/* SPDX-License-Identifier: Apache-2.0 */
/* family_glm4.c: GLM-4-0414 and GLM-Z1: gate and up in one matrix, norms behind attention and
 * feed-forward too, half of each head rotated, biases on q, k and v.
 *
 * Source: conversion/glm.py (Glm4Model) of llama-cpp-python 0.3.36; defaults: transformers 5.24,
 * models/glm4/configuration_glm4.py; mlx-lm 0.32.2 models/glm4.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW_TOKEN_EMBD,
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_OPTIONAL),
    LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_QKV(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_ATTN_OUTPUT(LB_SUFFIX_WEIGHT),
    LB_ROW_NORM(LB_ROLE_ATTN_POST_NORM, "model.layers.{b}.post_self_attn_layernorm",
                "blk.{b}.post_attention_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
                LB_RL_NONE),
    LB_ROWS_FFN_FUSED,
    LB_ROW_NORM(LB_ROLE_FFN_POST_NORM, "model.layers.{b}.post_mlp_layernorm",
                "blk.{b}.post_ffw_norm", LB_RL_NONE),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"Glm4ForCausalLM", NULL};
static const char *const model_types[] = {"glm4", NULL};

static const lb_arch_kv kv[] = {
    {.op = LB_KV_ROPE_DIMS,
     .key = "rope.dimension_count",
     .names = "@partial_rotary_factor",
     .fallback = "0.5"},
    {.op = LB_KV_REFUSE,
     .names = "@mrope_section",
     .hf = "rotation by sections belongs to models with vision"},
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_glm4 = {
    .family = "glm4",
    .gguf = "glm4",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151552, \"hidden_size\": 4096, \"intermediate_size\": 13696,"
                "\"num_hidden_layers\": 40, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 2, \"head_dim\": 128, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1.5625e-07,"
                "\"tie_word_embeddings\": false, \"attention_bias\": true}",
    .theta = "10000.0",
    .rotary = "0.5",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"pad_token_id\": null}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"attention_bias\": null, \"head_dim\": null,"
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"num_key_value_heads\": null,"
           "\"partial_rotary_factor\": null, \"rope_theta\": null,"
           "\"max_position_embeddings\": 32768, "
           "\"tie_word_embeddings!\": false}",
};
