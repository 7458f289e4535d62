/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma.c: Gemma 1: norms stored as w - 1.
 *
 * Source: conversion/gemma.py (GemmaModel) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/gemma/configuration_gemma.py; mlx-lm 0.32.2 models/gemma.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_GEMMA_ENDS,
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
                LB_RL_ADD_ONE),
    LB_ROWS_FFN,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"GemmaForCausalLM", NULL};
static const char *const model_types[] = {"gemma", NULL};
/* The reference writes all keys itself. */
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_GEMMA,
    LB_KV_ROWS_GEMMA_ONLY("gemma"),
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma = {
    .family = "gemma",
    .gguf = "gemma",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .act = LB_ACT_GELU,
              .flags = LB_GRAPH_EMBD_SQRT | LB_GRAPH_GELU_TANH},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 256000, \"hidden_size\": 3072, "
                "\"intermediate_size\": 24576, \"num_hidden_layers\": 28, "
                "\"num_attention_heads\": 16, \"num_key_value_heads\": 16, "
                "\"head_dim\": 256, \"hidden_act\": \"gelu_pytorch_tanh\", "
                "\"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-06, "
                "\"tie_word_embeddings\": true, \"attention_bias\": false}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"gelu_pytorch_tanh\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"head_dim\": null, "
           "\"num_key_value_heads\": null, \"rope_theta\": 10000, "
           "\"attention_bias!\": false, "
           "\"tie_word_embeddings!\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_OWN_KV,
};
