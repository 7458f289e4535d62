/* SPDX-License-Identifier: Apache-2.0 */
/* family_cohere.c: Command R, Command R+ and Aya 23: one norm a layer, attention and feed-forward
 * side by side, logits scaled, the embedding as output. Command R+ normalises each head of q and k
 * with weights of its own.
 *
 * Source: conversion/command_r.py (CommandR2Model) and src/models/command-r.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/cohere/configuration_cohere.py; mlx-lm 0.32.2
 * models/cohere.py. */
#include "arch/family_cohere.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_COHERE(LB_WB),
    LB_ROW(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.q_norm", "blk.{b}.attn_q_norm",
           LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm", "blk.{b}.attn_k_norm",
           LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
};

static const char *const classes[] = {"CohereForCausalLM", NULL};
static const char *const model_types[] = {"cohere", NULL};
static const lb_arch_kv kv[] = {
    /* max_position_embeddings is 8192 where the model was trained on more */
    {.key = "context_length",
     .type = LB_GGUF_U32,
     .names = "model_max_length|max_position_embeddings"},
    LB_KV_ROWS_COHERE("command-r", "1.0"),
    LB_KV_ROW_NO_SCALING,
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_bias present[] = {{"use_qk_norm", LB_ROLE_ATTN_Q_NORM}};

const lb_arch lb_arch_cohere = {
    .family = "command-r",
    .gguf = "command-r",
    .graph = {.runs = true, .norm = LB_NORM_LAYER, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 256000, \"hidden_size\": 8192, "
                "\"intermediate_size\": 22528, \"num_hidden_layers\": 40, "
                "\"num_attention_heads\": 64, \"num_key_value_heads\": null, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 8192, "
                "\"layer_norm_eps?\": 1e-05, \"logit_scale?\": 0.0625, "
                "\"tie_word_embeddings\": true, \"attention_bias\": false, "
                "\"use_qk_norm?\": false}",
    .theta = "500000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": 8192, \"num_hidden_layers\": 40, "
           "\"intermediate_size\": 22528, \"num_attention_heads\": 64, "
           "\"num_key_value_heads\": 64, \"rope_theta\": 8000000.0, "
           "\"vocab_size\": 256000, \"layer_norm_eps\": 1e-05, "
           "\"logit_scale\": 0.0625, \"attention_bias\": false, "
           "\"use_qk_norm\": false, "
           "\"tie_word_embeddings!\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .present = present,
    .n_present = LB_LEN(present),
    .flags = LB_ARCH_MLX_DOWN_LAST,
};
