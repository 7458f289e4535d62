/* SPDX-License-Identifier: Apache-2.0 */
/* family_seed_oss.c: Seed-OSS: llama with biases on q, k and v; GGUF calls the second norm the
 * first's.
 *
 * Source: conversion/olmo.py (SeedOssModel) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/seed_oss/configuration_seed_oss.py; mlx-lm 0.32.2 models/seed_oss.py.
 */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm",
                "blk.{b}.post_attention_norm", LB_RL_NONE),
    LB_ROWS_FFN,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"SeedOssForCausalLM", NULL};
static const char *const model_types[] = {"seed_oss", NULL};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"attention_out_bias", LB_ROLE_ATTN_OUTPUT},
                                      {"mlp_bias", LB_ROLE_FFN_UP}};

const lb_arch lb_arch_seed_oss = {
    .family = "seed_oss",
    .gguf = "seed_oss",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 155136, \"hidden_size\": 4096, "
                "\"intermediate_size\": 27648, \"num_hidden_layers\": 64, "
                "\"num_attention_heads\": 80, \"num_key_value_heads?\": 8, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 524288, "
                "\"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": false, "
                "\"attention_bias\": true, \"attention_out_bias\": false, "
                "\"mlp_bias\": false, \"head_dim?\": 128}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"num_key_value_heads\": null, \"head_dim\": null, "
           "\"rope_theta\": 10000, \"attention_bias\": false, "
           "\"attention_out_bias\": false, \"mlp_bias\": false, "
           "\"tie_word_embeddings\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_HEAD_DIM_SPLIT,
};
