/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma.c: Gemma 1: norms stored as w - 1.
 *
 * Source: conversion/gemma.py (GemmaModel) of llama-cpp-python 0.3.36; defaults:
 * transformers 5.24, models/gemma/configuration_gemma.py; mlx-lm 0.32.2 models/gemma.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16),
    LB_ROW3(LB_ROLE_OUTPUT, LB_N("lm_head"), LB_N_NONE, LB_N("lm_head"), LB_RL_NONE,
            LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_ADD_ONE),
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_ADD_ONE),
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
    {.key = "context_length",
     .type = LB_GGUF_U32,
     .names = "max_position_embeddings",
     .flags = LB_KVF_REQUIRED},
    {.key = "embedding_length",
     .type = LB_GGUF_U32,
     .names = "hidden_size",
     .flags = LB_KVF_REQUIRED},
    {.key = "block_count",
     .type = LB_GGUF_U32,
     .names = "num_hidden_layers",
     .flags = LB_KVF_REQUIRED},
    {.key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.head_count",
     .type = LB_GGUF_U32,
     .names = "num_attention_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.head_count_kv",
     .type = LB_GGUF_U32,
     .names = "num_key_value_heads|num_attention_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.layer_norm_rms_epsilon",
     .type = LB_GGUF_F32,
     .names = "rms_norm_eps",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.key_length",
     .type = LB_GGUF_U32,
     .names = "head_dim",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.value_length",
     .type = LB_GGUF_U32,
     .names = "head_dim",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},
    {.op = LB_KV_ONLY,
     .names = "@rope_theta",
     .fallback = "10000",
     .hf = "the GGUF of gemma carries no other"},
    {.op = LB_KV_ONLY,
     .names = "@rope_type",
     .fallback = "default",
     .hf = "the GGUF of gemma carries no rope scaling"},
    {.op = LB_KV_ONLY,
     .names = "tie_word_embeddings",
     .fallback = "true",
     .hf = "the GGUF of gemma has no output matrix"},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma = {
    .family = "gemma",
    .gguf = "gemma",
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
           "\"num_key_value_heads\": null, \"rope_theta\": 10000}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_OWN_KV,
};
