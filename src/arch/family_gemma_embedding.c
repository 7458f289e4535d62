/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma_embedding.c: EmbeddingGemma: Gemma 3 without an output matrix, whose tokens see each
 * other.
 *
 * Source: conversion/gemma.py (EmbeddingGemma) and src/models/gemma-embedding.cpp of
 * llama-cpp-python 0.3.36; transformers 5.24, models/gemma3. mlx-lm has no such class. */
#include "arch/family_gemma3.h"

static const lb_arch_tensor rows[] = {LB_ROWS_GEMMA3};

static const char *const classes[] = {"Gemma3TextModel", NULL};
/* The first with it is gemma3, whose config class it is. */
static const char *const model_types[] = {"gemma3_text", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_GEMMA3,
    LB_KV_ROWS_GEMMA3_CAPS,
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .flags = LB_KVF_REQUIRED},
    LB_KV_ROWS_GEMMA3_HEADS,
    LB_KV_ROWS_POOLING,
    {.op = LB_KV_ONLY,
     .names = "use_bidirectional_attention",
     .fallback = "true",
     .hf = "in the GGUF of gemma-embedding all tokens see each other",
     .flags = LB_KVF_REQUIRED},
};

static const lb_arch_layers layers = LB_LAYERS_GEMMA3;
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma_embedding = {
    .family = "gemma_embedding",
    .gguf = "gemma-embedding",
    .classes = classes,
    .model_types = model_types,
    .defaults = LB_DEFAULTS_GEMMA3,
    .local_theta = "rope_local_base_freq",
    .theta = "1000000.0",
    .theta_local = "10000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_activation\": \"gelu_pytorch_tanh\","
                 "\"use_bidirectional_attention\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .window = {6, "sliding_window_pattern", false},
    .flags = LB_ARCH_ROPE_BY_LAYER | LB_ARCH_HEADS_DIVIDE | LB_ARCH_SCALAR_IS_HEAD_DIM,
};
