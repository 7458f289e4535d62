/* SPDX-License-Identifier: Apache-2.0 */
/* family_stablelm.c: StableLM: layer norms with biases, a quarter of each head rotated; 2 12B:
 * attention and feed-forward in parallel behind one norm, norms of q and k with a vector a head,
 * which GGUF stacks (the released converter gathers them and forgets to write them; its loader
 * reads them so). It forgets a rope base other than 10000 too, 1000000 in Stable Code 3B, which
 * all loaders read. The older class (StableLMEpochForCausalLM) names some keys otherwise.
 *
 * Source: conversion/stablelm.py (StableLMModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/stablelm/configuration_stablelm.py; mlx-lm 0.32.2 models/stablelm.py. */
#include "arch/family_rows.h"

#define ROW_HEAD_NORM(role, which, gguf, flag)                                                \
    LB_ROW(role, "model.layers.{b}.self_attn." which "_layernorm.norms.{e}", "blk.{b}." gguf, \
           LB_RL_NONE, LB_SUFFIX_WEIGHT, (flag) | LB_ROW_OPTIONAL)

static const lb_arch_tensor rows[] = {
    LB_ROW_TOKEN_EMBD,
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE, LB_WB, 0),
    LB_ROW(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", LB_RL_NONE,
           LB_WB, 0),
    LB_ROWS_QKV(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_ATTN_OUTPUT(LB_SUFFIX_WEIGHT),
    ROW_HEAD_NORM(LB_ROLE_ATTN_Q_NORM, "q", "attn_q_norm", LB_ROW_HEAD),
    ROW_HEAD_NORM(LB_ROLE_ATTN_K_NORM, "k", "attn_k_norm", LB_ROW_HEAD_KV),
    LB_ROW(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
           LB_RL_NONE, LB_WB, LB_ROW_OPTIONAL),
    LB_ROWS_FFN,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"StableLmForCausalLM", "StableLMEpochForCausalLM", NULL};
static const char *const model_types[] = {"stablelm", NULL};

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
     .names = "n_layers|num_hidden_layers|n_layer|num_layers",
     .flags = LB_KVF_REQUIRED},
    {.key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_ROPE_DIMS, .key = "rope.dimension_count", .names = "@partial_rotary_factor"},
    {.key = "attention.head_count",
     .type = LB_GGUF_U32,
     .names = "num_attention_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.head_count_kv",
     .type = LB_GGUF_U32,
     .names = "num_key_value_heads",
     .flags = LB_KVF_REQUIRED},
    {.key = "use_parallel_residual",
     .type = LB_GGUF_BOOL,
     .names = "use_parallel_residual",
     .hf = "use_parallel_residual",
     .fallback = "true"},
    {.key = "attention.layer_norm_epsilon",
     .type = LB_GGUF_F32,
     .names = "layer_norm_eps|norm_eps",
     .hf = "layer_norm_eps",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},
    LB_KV_ROW_OTHER_THETA,
    {.op = LB_KV_ROPE_ONLY,
     .names = "@rope_type",
     .fallback = "default",
     .hf = "the GGUF of stablelm carries no rope scaling"},
    {.op = LB_KV_ONLY,
     .names = "hidden_act",
     .fallback = "silu",
     .hf = "the GGUF of stablelm carries no other",
     .flags = LB_KVF_RUNS},
    LB_KV_ROW_NO_HEAD_DIM,
};

static const lb_arch_bias biases[] = {{"use_qkv_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_bias present[] = {{"qk_layernorm", LB_ROLE_ATTN_Q_NORM}};

const lb_arch lb_arch_stablelm = {
    .family = "stablelm",
    .gguf = "stablelm",
    .graph = {.runs = true, .norm = LB_NORM_LAYER, .rope = LB_ROPE_HALVES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50304, \"intermediate_size\": 6912, \"hidden_size\": 2560,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 32, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 4096, \"layer_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"use_qkv_bias\": false, \"qk_layernorm\": false,"
                "\"use_parallel_residual\": false}",
    .theta = "10000.0",
    .rotary = "0.25",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .present = present,
    .n_present = LB_LEN(present),
    .mlx = "{\"vocab_size\": null, \"hidden_size\": null, \"num_attention_heads\": null,"
           "\"num_hidden_layers\": null, \"num_key_value_heads\": null,"
           "\"intermediate_size\": null, \"rope_theta\": null, \"use_qkv_bias\": null,"
           "\"partial_rotary_factor\": null, \"layer_norm_eps\": null,"
           "\"use_parallel_residual\": false, \"qk_layernorm\": false}",
    .flags = LB_ARCH_OWN_KV | LB_ARCH_NO_HEAD_DIM,
};
