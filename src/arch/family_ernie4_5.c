/* SPDX-License-Identifier: Apache-2.0 */
/* family_ernie4_5.c: ERNIE 4.5, dense: Llama with neighbours rotated in pairs, so that rows stand
 * in GGUF as they are.
 *
 * Older checkpoints have "ernie." in place of "model.", q, k and v in one matrix, gate over up in
 * one; both are read, the names of today's class are written.
 * Source: conversion/ernie.py (Ernie4_5Model) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/ernie4_5/configuration_ernie4_5.py; mlx-lm 0.32.2 models/ernie4_5.py. */
#include "arch/family_rows.h"

#define FUSED(role_, fused_, own_, gguf_, part_)                                               \
    {                                                                                          \
        .role = role_, .hf = LB_N("model.layers.{b}." fused_), .gguf = LB_N("blk.{b}." gguf_), \
        .mlx = LB_N("model.layers.{b}." own_), .suffixes = LB_SUFFIX_WEIGHT,                   \
        .flags = LB_ROW_OPTIONAL, .part = {                                                    \
            part_,                                                                             \
            LB_PART_ALL,                                                                       \
            LB_PART_ALL                                                                        \
        }                                                                                      \
    }

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_NONE, LB_RL_NONE),
    FUSED(LB_ROLE_ATTN_Q, "self_attn.qkv_proj", "self_attn.q_proj", "attn_q", LB_PART_Q),
    FUSED(LB_ROLE_ATTN_K, "self_attn.qkv_proj", "self_attn.k_proj", "attn_k", LB_PART_K),
    FUSED(LB_ROLE_ATTN_V, "self_attn.qkv_proj", "self_attn.v_proj", "attn_v", LB_PART_V),
    FUSED(LB_ROLE_FFN_GATE, "mlp.up_gate_proj", "mlp.gate_proj", "ffn_gate", LB_PART_FIRST),
    FUSED(LB_ROLE_FFN_UP, "mlp.up_gate_proj", "mlp.up_proj", "ffn_up", LB_PART_SECOND),
};

static const char *const classes[] = {"Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM", NULL};
static const char *const model_types[] = {"ernie4_5", NULL};
static const lb_arch_bias biases[] = {{"use_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_ernie4_5 = {
    .family = "ernie4_5",
    .gguf = "ernie4_5",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 103424, \"hidden_size\": 1024, \"intermediate_size\": 3072,"
                "\"num_hidden_layers\": 18, \"num_attention_heads\": 16,"
                "\"num_key_value_heads?\": 2, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": true, \"use_bias?\": false, \"head_dim?\": 128}",
    .theta = "500000.0",
    .old_prefix = "ernie.",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"intermediate_size\": null,"
           "\"max_position_embeddings\": null, \"num_attention_heads\": null,"
           "\"num_key_value_heads\": null, \"head_dim\": null, \"num_hidden_layers\": null,"
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"rope_theta\": null,"
           "\"use_bias\": null, \"tie_word_embeddings\": null}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
