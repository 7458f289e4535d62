/* SPDX-License-Identifier: Apache-2.0 */
/* family_hunyuan_v1_dense.c: HunYuan 1, dense: a norm on each head of q and k, behind the rotation;
 * a fixed factor on the rope base.
 *
 * Source: conversion/hunyuan.py (HunYuanModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/hunyuan_v1_dense/configuration_hunyuan_v1_dense.py; mlx-lm 0.32.2
 * models/hunyuan_v1_dense.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROW_TOKEN_EMBD,
    LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_SUFFIX_WEIGHT,
           LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_GGUF_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.query_layernorm",
                "blk.{b}.attn_q_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.key_layernorm",
                "blk.{b}.attn_k_norm", LB_RL_NONE),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm", "blk.{b}.ffn_norm",
                LB_RL_NONE),
    LB_ROWS_FFN,
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"HunYuanDenseV1ForCausalLM", NULL};
static const char *const model_types[] = {"hunyuan_v1_dense", NULL};
static const lb_arch_kv kv[] = {
    {.op = LB_KV_NOT, .key = "expert_count"}, /* num_experts: 1 is no expert */
    {.op = LB_KV_ONLY,
     .names = "num_experts",
     .fallback = "0|1",
     .hf = "a dense model has no experts"},
    {.op = LB_KV_ONLY,
     .names = "use_qk_norm",
     .fallback = "true",
     .hf = "the class always has the norms"},
    {.op = LB_KV_NTK_ALPHA},
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_hunyuan_v1_dense = {
    .family = "hunyuan_v1_dense",
    .gguf = "hunyuan-dense",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES, .flags = LB_GRAPH_QK_NORM_LATE},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 290943, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false, \"head_dim\": null}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"use_qk_norm\": true}",
    .mlx = "{\"vocab_size\": null, \"hidden_size\": null, \"num_hidden_layers\": null,"
           "\"intermediate_size\": null, \"num_attention_heads\": null,"
           "\"num_key_value_heads\": null, \"rms_norm_eps\": null, \"rope_theta\": 10000, "
           "\"rope_scaling.type\": null,"
           "\"max_position_embeddings\": 32768,"
           "\"attention_bias\": false, \"tie_word_embeddings\": false, \"head_dim\": null}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
};
