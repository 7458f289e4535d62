/* SPDX-License-Identifier: Apache-2.0 */
/* family_nemotron.c: Nemotron and Minitron: layer norms stored as w - 1, with biases; squared relu
 * without gate; half of each head is rotated. The reference takes that half of hidden size / heads,
 * which is no head's size where the config gives one: here it is the head's, as in the model.
 *
 * Source: conversion/nemotron.py (NemotronModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/nemotron/configuration_nemotron.py; mlx-lm 0.32.2 models/nemotron.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW_TOKEN_EMBD,
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_ADD_ONE, LB_WB, 0),
    LB_ROW(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
           LB_RL_ADD_ONE, LB_WB, 0),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
           LB_RL_ADD_ONE, LB_WB, 0),
    LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.mlp.up_proj", "blk.{b}.ffn_up", LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.mlp.down_proj", "blk.{b}.ffn_down", LB_RL_NONE,
           LB_WB, 0),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"NemotronForCausalLM", NULL};
static const char *const model_types[] = {"nemotron", NULL};

static const lb_arch_kv kv[] = {
    {.key = "vocab_size",
     .type = LB_GGUF_U32,
     .names = "vocab_size",
     .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},
    {.key = "attention.layer_norm_epsilon",
     .type = LB_GGUF_F32,
     .names = "layer_norm_eps|layer_norm_epsilon|norm_epsilon|norm_eps",
     .hf = "norm_eps",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_ROPE_DIMS, .key = "rope.dimension_count", .names = "@partial_rotary_factor"},
    {.op = LB_KV_ROPE_NONE, .key = "rope.scaling.type"},
    {.op = LB_KV_ROPE_ONLY,
     .names = "@rope_type",
     .fallback = "default|linear",
     .hf = "the GGUF of nemotron carries no other rope scaling"},
    {.op = LB_KV_ONLY,
     .names = "hidden_act",
     .fallback = "relu2",
     .hf = "the GGUF of nemotron carries no other",
     .flags = LB_KVF_RUNS},
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"mlp_bias", LB_ROLE_FFN_UP}};

const lb_arch lb_arch_nemotron = {
    .family = "nemotron",
    .gguf = "nemotron",
    .graph = {.runs = true, .norm = LB_NORM_LAYER, .rope = LB_ROPE_HALVES, .act = LB_ACT_RELU2},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 256000, \"hidden_size\": 6144, \"intermediate_size\": 24576,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 48, \"head_dim\": null,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"relu2\","
                "\"max_position_embeddings\": 4096, \"norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false, \"mlp_bias\": false}",
    .theta = "10000.0",
    .rotary = "0.5",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"relu2\"}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"hidden_size\": null, \"hidden_act\": null, \"num_hidden_layers\": null,"
           "\"intermediate_size\": null, \"num_attention_heads\": null, \"norm_eps\": null,"
           "\"vocab_size\": null, \"num_key_value_heads\": null, \"head_dim\": null,"
           "\"attention_bias\": false, \"mlp_bias\": false, \"partial_rotary_factor\": 0.5,"
           "\"rope_theta\": 10000.0, \"rope_scaling.type\": null, \"tie_word_embeddings\": false}",
    .flags = LB_ARCH_HEAD_DIM_SPLIT,
};
