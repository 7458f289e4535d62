/* SPDX-License-Identifier: Apache-2.0 */
/* family_internlm2.c: InternLM 2: Llama with names of its own; q, k and v fused by key-value group.
 *
 * transformers has no class for it: a config is read as it is. Source: conversion/internlm.py
 * (InternLM2Model) of llama-cpp-python 0.3.36; mlx-lm 0.32.2 models/internlm2.py; defaults: the
 * models' own configuration_internlm2.py. */
#include "arch/family_rows.h"

#define LAYER(role_, name_, gguf_) \
    LB_ROW(role_, "model.layers.{b}." name_, "blk.{b}." gguf_, LB_RL_NONE, LB_WB, 0)
#define QKV(role_, gguf_, relayout_, part_)                                             \
    {                                                                                   \
        .role = role_, .hf = LB_N("model.layers.{b}.attention.wqkv"),                   \
        .gguf = LB_N("blk.{b}." gguf_), .mlx = LB_N("model.layers.{b}.attention.wqkv"), \
        .relayout = relayout_, .suffixes = LB_WB, .part = {                             \
            part_,                                                                      \
            part_,                                                                      \
            LB_PART_ALL                                                                 \
        }                                                                               \
    }

static const lb_arch_tensor rows[] = {
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.tok_embeddings", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16),
    LB_ROW(LB_ROLE_OUTPUT, "output", "output", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.attention_norm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    QKV(LB_ROLE_ATTN_Q, "attn_q", LB_RL_ROPE_Q, LB_PART_GROUP_Q),
    QKV(LB_ROLE_ATTN_K, "attn_k", LB_RL_ROPE_K, LB_PART_GROUP_K),
    QKV(LB_ROLE_ATTN_V, "attn_v", LB_RL_NONE, LB_PART_GROUP_V),
    LAYER(LB_ROLE_ATTN_OUTPUT, "attention.wo", "attn_output"),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.ffn_norm", "blk.{b}.ffn_norm", LB_RL_NONE),
    LAYER(LB_ROLE_FFN_GATE, "feed_forward.w1", "ffn_gate"),
    LAYER(LB_ROLE_FFN_UP, "feed_forward.w3", "ffn_up"),
    LAYER(LB_ROLE_FFN_DOWN, "feed_forward.w2", "ffn_down"),
    LB_ROW3(LB_ROLE_DROPPED, LB_N("model.layers.{b}.attention.rotary_emb.inv_freq"), LB_N_NONE,
            LB_N_NONE, LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_OPTIONAL),
};

static const char *const classes[] = {"InternLM2ForCausalLM", NULL};
static const char *const model_types[] = {"internlm2", NULL};
static const lb_arch_bias biases[] = {{"bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_internlm2 = {
    .family = "internlm2",
    .gguf = "internlm2",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"bias\": true, \"max_position_embeddings\": 32768, \"rope_theta\": 10000, "
           "\"rope_scaling.type\": null,"
           "\"tie_word_embeddings\": false}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
