/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma2.c: Gemma 2: norms stored as w - 1, four norms a layer, every second layer global,
 * soft caps.
 *
 * Source: conversion/gemma.py (Gemma2Model) and src/models/gemma2.cpp of llama-cpp-python 0.3.36;
 * defaults: transformers 5.24, models/gemma2/configuration_gemma2.py; mlx-lm 0.32.2
 * models/gemma2.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_GEMMA_ENDS,
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW_ATTN_POST_NORM(LB_RL_ADD_ONE),
    LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.pre_feedforward_layernorm", "blk.{b}.ffn_norm",
                LB_RL_ADD_ONE),
    LB_ROWS_FFN,
    LB_ROW_FFN_POST_NORM(LB_RL_ADD_ONE),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"Gemma2ForCausalLM", NULL};
static const char *const model_types[] = {"gemma2", NULL};
/* The reference writes all keys itself. */
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_GEMMA,
    {.key = "attn_logit_softcapping",
     .type = LB_GGUF_F32,
     .names = "attn_logit_softcapping",
     .hf = "attn_logit_softcapping",
     .absent = "50.0",
     .flags = LB_KVF_REQUIRED | LB_KVF_RUNS},
    {.key = "final_logit_softcapping",
     .type = LB_GGUF_F32,
     .names = "final_logit_softcapping",
     .hf = "final_logit_softcapping",
     .absent = "30.0",
     .flags = LB_KVF_REQUIRED | LB_KVF_RUNS},
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .absent = "4096",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_PERIOD,
     .key = "attention.sliding_window_pattern",
     .names = "layer_types",
     .fallback = "2",
     .hf = "GGUF has no form for other global layers"},
    LB_KV_ROWS_GEMMA_ONLY("gemma2"),
    LB_KV_ROW_QUERY_SCALE,
};
static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_gemma2 = {
    .family = "gemma2",
    .gguf = "gemma2",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .act = LB_ACT_GELU,
              .window_period = 2,
              .scalar_layers = 46,
              .flags = LB_GRAPH_EMBD_SQRT | LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 256000, \"hidden_size\": 2304, "
                "\"intermediate_size\": 9216, \"num_hidden_layers\": 26, "
                "\"num_attention_heads\": 8, \"num_key_value_heads\": 4, "
                "\"head_dim\": 256, \"hidden_activation\": \"gelu_pytorch_tanh\", "
                "\"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-06, "
                "\"tie_word_embeddings\": true, \"attention_bias\": false, "
                "\"query_pre_attn_scalar\": 256, \"sliding_window?\": 4096, "
                "\"final_logit_softcapping?\": 30.0, "
                "\"attn_logit_softcapping?\": 50.0}",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_activation\": \"gelu_pytorch_tanh\"}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"head_dim\": null, "
           "\"num_key_value_heads\": null, \"rope_theta\": 10000, "
           "\"attn_logit_softcapping\": 50.0, "
           "\"final_logit_softcapping\": 30.0, "
           "\"query_pre_attn_scalar\": 144.0, "
           "\"attention_bias!\": false, "
           "\"tie_word_embeddings!\": true}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags =
        LB_ARCH_HEADS_DIVIDE | LB_ARCH_SCALAR_IS_HEAD_DIM | LB_ARCH_OWN_KV | LB_ARCH_LAYER_TYPES,
    .split_scalar_layers = 46,
};
