/* SPDX-License-Identifier: Apache-2.0 */
/* family_glm.c: GLM-4-9B and GLM-Edge in transformers' form (GlmForCausalLM). In GGUF they are
 * "chatglm", whose files made from the class before it hold q, k and v in one matrix: these are
 * read too. The reference takes context length, epsilon and rope base from keys of that older class
 * and constants in their place; here they are the config's own.
 *
 * Source: conversion/chatglm.py (ChatGLMModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/glm/configuration_glm.py; mlx-lm 0.32.2 models/glm.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_QKV(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_ATTN_OUTPUT(LB_SUFFIX_WEIGHT),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
                LB_RL_NONE),
    LB_ROWS_FFN_FUSED,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"GlmForCausalLM", NULL};
static const char *const model_types[] = {"glm", NULL};

static const lb_arch_kv kv[] = {
    {.key = "context_length",
     .type = LB_GGUF_U32,
     .names = "seq_length|max_position_embeddings",
     .flags = LB_KVF_REQUIRED},
    {.key = "embedding_length",
     .type = LB_GGUF_U32,
     .names = "hidden_size|n_embed",
     .flags = LB_KVF_REQUIRED},
    {.key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "ffn_hidden_size|intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.key = "block_count",
     .type = LB_GGUF_U32,
     .names = "n_layers|num_hidden_layers|n_layer|num_layers",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.head_count",
     .type = LB_GGUF_U32,
     .names = "n_head|num_attention_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.head_count_kv",
     .type = LB_GGUF_U32,
     .names = "multi_query_group_num|num_key_value_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.layer_norm_rms_epsilon",
     .type = LB_GGUF_F32,
     .names = "layernorm_epsilon|rms_norm_eps",
     .fallback = "1e-05"},
    {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},
    {.op = LB_KV_ROPE_DIMS,
     .key = "rope.dimension_count",
     .names = "@partial_rotary_factor",
     .fallback = "0.5"},
    {.key = "tokenizer.ggml.add_bos_token", .type = LB_GGUF_BOOL, .names = "", .fallback = "false"},
    {.key = "rope.freq_base", .type = LB_GGUF_F32, .names = "@rope_theta", .fallback = "10000.0"},
    {.op = LB_KV_ROPE_ONLY,
     .names = "@rope_type",
     .fallback = "default",
     .hf = "the GGUF of glm carries no rope scaling"},
    LB_KV_ROW_NO_HEAD_DIM,
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_glm = {
    .family = "glm",
    .gguf = "chatglm",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 151552, \"hidden_size\": 4096, \"intermediate_size\": 13696,"
                "\"num_hidden_layers\": 40, \"num_attention_heads\": 32,"
                "\"num_key_value_heads?\": 2, \"head_dim?\": 128, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1.5625e-07,"
                "\"tie_word_embeddings\": false, \"attention_bias\": true}",
    .theta = "10000.0",
    .rotary = "0.5",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"pad_token_id\": null}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null,"
           "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"
           "\"head_dim\": null, \"num_key_value_heads\": null, \"attention_bias\": false,"
           "\"rope_theta\": 10000, \"tie_word_embeddings\": true}",
    .flags = LB_ARCH_OWN_KV | LB_ARCH_NO_HEAD_DIM,
};
