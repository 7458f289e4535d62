/* SPDX-License-Identifier: Apache-2.0 */
/* family_gpt_oss.c: gpt-oss: experts with biases, gate and up in turn, published in MXFP4; sinks of
 * attention; every second layer has a window.
 *
 * Hugging Face has two forms of the experts: packed codes, a row an output, and values, transposed.
 * GGUF and MLX are like the first.
 *
 * Source: conversion/gpt_oss.py of llama-cpp-python 0.3.36; defaults: transformers 5.24,
 * models/gpt_oss/configuration_gpt_oss.py; mlx-lm 0.32.2 models/gpt_oss.py. */
#include "arch/family_rows.h"

#define EXPERTS(role_, hf_, of_, name_, part_, relayout_, flags_)                         \
    {                                                                                     \
        .role = role_, .hf = LB_N("model.layers.{b}.mlp.experts." hf_),                   \
        .gguf = LB_N("blk.{b}." of_), .mlx = LB_N("model.layers.{b}.mlp.experts." name_), \
        .suffixes = LB_SUFFIX_NONE, .flags = LB_ROW_EXPERT | (flags_),                    \
        .part = {part_, LB_PART_ALL, LB_PART_ALL}, .hf_relayout = relayout_               \
    }
#define WEIGHTS(form, relayout, flags)                                                            \
    EXPERTS(LB_ROLE_FFN_GATE_EXPS, "gate_up_proj" form, "ffn_gate_exps.weight",                   \
            "gate_proj.weight", LB_PART_EVEN, relayout, flags),                                   \
        EXPERTS(LB_ROLE_FFN_UP_EXPS, "gate_up_proj" form, "ffn_up_exps.weight", "up_proj.weight", \
                LB_PART_ODD, relayout, flags),                                                    \
        EXPERTS(LB_ROLE_FFN_DOWN_EXPS, "down_proj" form, "ffn_down_exps.weight",                  \
                "down_proj.weight", LB_PART_ALL, relayout, flags)

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",
                LB_RL_NONE),
    LB_ROWS_ATTN(LB_RL_NONE, LB_RL_NONE),
    LB_ROW3(LB_ROLE_ATTN_SINKS, LB_N("model.layers.{b}.self_attn.sinks"),
            LB_N("blk.{b}.attn_sinks.weight"), LB_N("model.layers.{b}.self_attn.sinks"), LB_RL_NONE,
            LB_SUFFIX_NONE, 0),
    LB_ROW_ATTN_POST_NORM(LB_RL_NONE),
    LB_ROW(LB_ROLE_FFN_ROUTER, "model.layers.{b}.mlp.router", "blk.{b}.ffn_gate_inp", LB_RL_NONE,
           LB_WB, LB_ROW_GGUF_F32),
    WEIGHTS("", LB_RL_TRANSPOSE, 0),
    WEIGHTS("_blocks", LB_RL_NONE, LB_ROW_HF_CODES | LB_ROW_OPTIONAL),
    EXPERTS(LB_ROLE_FFN_GATE_EXPS_BIAS, "gate_up_proj_bias", "ffn_gate_exps.bias", "gate_proj.bias",
            LB_PART_EVEN, LB_RL_NONE, 0),
    EXPERTS(LB_ROLE_FFN_UP_EXPS_BIAS, "gate_up_proj_bias", "ffn_up_exps.bias", "up_proj.bias",
            LB_PART_ODD, LB_RL_NONE, 0),
    EXPERTS(LB_ROLE_FFN_DOWN_EXPS_BIAS, "down_proj_bias", "ffn_down_exps.bias", "down_proj.bias",
            LB_PART_ALL, LB_RL_NONE, 0),
    LB_ROWS_INV_FREQ,
};

static const char *const classes[] = {"GptOssForCausalLM", NULL};
static const char *const model_types[] = {"gpt_oss", NULL};

#define ONLY(name, value, why) \
    { .op = LB_KV_ONLY, .names = name, .fallback = value, .hf = why }
static const lb_arch_kv kv[] = {
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .flags = LB_KVF_REQUIRED | LB_KVF_BACK_REQUIRED},
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "intermediate_size",
     .hf = "intermediate_size",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_PERIOD,
     .key = "attention.sliding_window_pattern",
     .names = "layer_types",
     .fallback = "2",
     .hf = "the GGUF of gpt-oss has no other order"},
    ONLY("swiglu_limit", "7", "the GGUF of gpt-oss carries no other"),
    ONLY("swiglu_alpha", "1.702", "the GGUF of gpt-oss carries no other"),
    {.op = LB_KV_ONLY,
     .names = "@truncate",
     .fallback = "false",
     .hf = "the GGUF of gpt-oss carries no other",
     .flags = LB_KVF_RUNS},
    {.op = LB_KV_BACK, .key = "rope.scaling.truncate", .hf = "@truncate", .absent = "false"},
    LB_KV_ROWS_EXPERT_COUNTS("num_local_experts"),
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_Q}};
static const lb_arch_layers layers = {"layer_types",        NULL, 2, "\"sliding_attention\"",
                                      "\"full_attention\"", NULL};

const lb_arch lb_arch_gpt_oss = {
    .family = "gpt_oss",
    .gguf = "gpt-oss",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .act = LB_ACT_OAI,
              .router = LB_ROUTER_SOFTMAX_TOP,
              .window_period = 2,
              .flags = LB_GRAPH_YARN_EXACT | LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"num_hidden_layers\": 36, \"num_local_experts\": 128, \"vocab_size\": 201088,"
                "\"hidden_size\": 2880, \"intermediate_size\": 2880, \"head_dim\": 64,"
                "\"num_attention_heads\": 64, \"num_key_value_heads\": 8, \"sliding_window?\": 128,"
                "\"tie_word_embeddings\": false, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"num_experts_per_tok\": 4, \"swiglu_alpha\": 1.702, \"swiglu_limit\": 7.0,"
                "\"attention_bias\": true}",
    .theta = "150000.0",
    .rope = "{\"rope_type\": \"yarn\", \"factor\": 32.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0,"
            "\"truncate\": false, \"original_max_position_embeddings\": 4096}",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"swiglu_limit\": 7.0}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .window = {.period = 2},
    .mlx = "{\"num_hidden_layers\": 36, \"num_local_experts\": 128, \"num_experts_per_tok\": 4,"
           "\"vocab_size\": 201088, \"rms_norm_eps\": 1e-05, \"hidden_size\": 2880,"
           "\"intermediate_size\": 2880, \"head_dim\": 64, \"num_attention_heads\": 64,"
           "\"num_key_value_heads\": 8, \"sliding_window\": 128, \"rope_theta\": 150000,"
           "\"layer_types\": [], \"tie_word_embeddings!\": false,"
           "\"attention_bias!\": true}",
    .mlx_8bit = "router",
    .flags = LB_ARCH_LAYER_TYPES,
};
