/* SPDX-License-Identifier: Apache-2.0 */
/* family_llama.c: Llama 2 and 3, SmolLM, Yi, TinyLlama and all else that calls itself
 * LlamaForCausalLM.
 *
 * Source: conversion/llama.py (LlamaModel), gguf-py/gguf/tensor_mapping.py of llama-cpp-python
 * 0.3.36; defaults: transformers 5.23, models/llama/configuration_llama.py; mlx-lm 0.32.2
 * models/llama.py. */
#include "arch/family_llava.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel",
                                      "IQuestCoderForCausalLM", NULL};
static const char *const model_types[] = {"llama", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    {.op = LB_KV_REFUSE,
     .names = "draft_vocab_size",
     .hf = "an EAGLE-3 draft model is not a model of its own",
     .flags = LB_KVF_ONE_LAYER},
};

LB_OUTER_LLAVA;

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q},
                                      {"mlp_bias", LB_ROLE_FFN_UP}};

const lb_arch lb_arch_llama = {
    .family = "llama",
    .gguf = "llama",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 32000, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"head_dim\": null}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"rope_theta\": 10000, \"tie_word_embeddings\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_ROPE_FREQS | LB_ARCH_HEAD_DIM_SPLIT | LB_ARCH_HEADS_DIVIDE,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
