/* SPDX-License-Identifier: Apache-2.0 */
/* family_phi3.c: Phi 3, 3.5 and 4: q, k and v in one matrix, gate and up in one matrix (both stay
 * so in every world), longrope, a part of each head rotated.
 *
 * Source: conversion/phi.py (Phi3MiniModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/phi3/configuration_phi3.py; mlx-lm 0.32.2 models/phi3.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROW(LB_ROLE_ATTN_QKV, "model.layers.{b}.self_attn.qkv_proj", "blk.{b}.attn_qkv", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, 0),
    LB_ROW_ATTN_OUTPUT(LB_SUFFIX_WEIGHT),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
                LB_RL_NONE),
    LB_ROWS_FFN_FUSED,
    LB_ROWS_INV_FREQ,
    LB_ROWS_LONGROPE,
};

static const char *const classes[] = {"Phi3ForCausalLM", NULL};
static const char *const model_types[] = {"phi3", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_PHI3("original_max_position_embeddings")};

const lb_arch lb_arch_phi3 = {
    .family = "phi3",
    .gguf = "phi3",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .flags = LB_GRAPH_WINDOW_ALL | LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32064, \"hidden_size\": 3072, \"intermediate_size\": 8192,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 4096, \"original_max_position_embeddings\": 4096,"
                "\"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": false,"
                "\"sliding_window\": null}",
    .theta = "10000.0",
    .rotary = "1.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"pad_token_id\": null}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"num_key_value_heads\": null, \"rope_theta\": 10000, \"rope_scaling.type\": null, "
           "\"partial_rotary_factor\": 1.0,"
           "\"max_position_embeddings\": 131072, \"original_max_position_embeddings\": 4096,"
           "\"tie_word_embeddings\": false}",
    .flags = LB_ARCH_OWN_KV | LB_ARCH_NO_HEAD_DIM | LB_ARCH_LONGROPE,
};
