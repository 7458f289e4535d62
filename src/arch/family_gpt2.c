/* SPDX-License-Identifier: Apache-2.0 */
/* family_gpt2.c: GPT-2: learned positions, layer norms with biases, fused q, k and v; its matrices
 * stand transposed in Hugging Face's files (Conv1D) and upright in the others.
 *
 * Checkpoints of the inner model lack "transformer."; both are read, the names with it are written:
 * the class of the language model has its head beside it. The causal mask that old checkpoints
 * store is left out (the reference of this version stops at it).
 * Source: conversion/gpt2.py (GPT2Model) of llama-cpp-python 0.3.36 and its src/models/gpt2.cpp;
 * defaults: transformers 5.24, models/gpt2/configuration_gpt2.py; mlx-lm 0.32.2 models/gpt2.py. */
#include "arch/family_rows.h"

/* Of a layer; the names of MLX are those of the inner model. */
#define LAYER(role_, name_, gguf_, relayout_)                                                  \
    {                                                                                          \
        .role = role_, .hf = LB_N("transformer.h.{b}." name_), .gguf = LB_N("blk.{b}." gguf_), \
        .mlx = LB_N("model.h.{b}." name_), .relayout = relayout_, .suffixes = LB_WB,           \
        .mlx_relayout = relayout_                                                              \
    }
#define MASK(name_)                                                                       \
    LB_ROW3(LB_ROLE_DROPPED, LB_N("transformer.h.{b}.attn." name_), LB_N_NONE, LB_N_NONE, \
            LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_OPTIONAL)

static const lb_arch_tensor rows[] = {
    LB_ROW3(LB_ROLE_TOKEN_EMBD, LB_N("transformer.wte"), LB_N("token_embd"), LB_N("model.wte"),
            LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_TQ_F16),
    LB_ROW3(LB_ROLE_POS_EMBD, LB_N("transformer.wpe"), LB_N("position_embd"), LB_N("model.wpe"),
            LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32),
    LB_ROW3(LB_ROLE_OUTPUT, LB_N("lm_head"), LB_N("output"), LB_N_NONE, LB_RL_NONE,
            LB_SUFFIX_WEIGHT, LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),
    LB_ROW3(LB_ROLE_OUTPUT_NORM, LB_N("transformer.ln_f"), LB_N("output_norm"), LB_N("model.ln_f"),
            LB_RL_NONE, LB_WB, 0),
    LAYER(LB_ROLE_ATTN_NORM, "ln_1", "attn_norm", LB_RL_NONE),
    LAYER(LB_ROLE_ATTN_QKV, "attn.c_attn", "attn_qkv", LB_RL_TRANSPOSE),
    LAYER(LB_ROLE_ATTN_OUTPUT, "attn.c_proj", "attn_output", LB_RL_TRANSPOSE),
    LAYER(LB_ROLE_FFN_NORM, "ln_2", "ffn_norm", LB_RL_NONE),
    LAYER(LB_ROLE_FFN_UP, "mlp.c_fc", "ffn_up", LB_RL_TRANSPOSE),
    LAYER(LB_ROLE_FFN_DOWN, "mlp.c_proj", "ffn_down", LB_RL_TRANSPOSE),
    MASK("bias"),
    MASK("masked_bias"),
};

static const char *const classes[] = {"GPT2LMHeadModel", NULL};
static const char *const model_types[] = {"gpt2", NULL};
static const lb_arch_alias aliases[] = {{"hidden_size", "n_embd"},
                                        {"max_position_embeddings", "n_positions"},
                                        {"num_attention_heads", "n_head"},
                                        {"num_hidden_layers", "n_layer"},
                                        {NULL, NULL}};

static const lb_arch_kv kv[] = {
    {.key = "block_count",
     .type = LB_GGUF_U32,
     .names = "n_layer",
     .hf = "n_layer",
     .flags = LB_KVF_REQUIRED},
    {.key = "context_length",
     .type = LB_GGUF_U32,
     .names = "n_ctx|n_positions",
     .hf = "n_ctx",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_BACK, .key = "context_length", .hf = "n_positions"},
    {.key = "embedding_length",
     .type = LB_GGUF_U32,
     .names = "n_embd",
     .hf = "n_embd",
     .flags = LB_KVF_REQUIRED},
    /* the reference writes 4 x n_embd whatever n_inner says, which no reader can load then */
    {.op = LB_KV_OR_TIMES,
     .key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "n_inner",
     .hf = "n_inner",
     .of = "n_embd",
     .times = 4},
    {.key = "attention.head_count",
     .type = LB_GGUF_U32,
     .names = "n_head",
     .hf = "n_head",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.layer_norm_epsilon",
     .type = LB_GGUF_F32,
     .names = "layer_norm_epsilon",
     .hf = "layer_norm_epsilon",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},
    {.op = LB_KV_ONLY,
     .names = "activation_function",
     .fallback = "gelu_new|gelu_pytorch_tanh",
     .hf = "the GGUF of gpt2 carries no other",
     .flags = LB_KVF_RUNS},
    {.op = LB_KV_ONLY,
     .names = "scale_attn_weights",
     .fallback = "true",
     .hf = "the GGUF of gpt2 cannot say so"},
    {.op = LB_KV_ONLY,
     .names = "scale_attn_by_inverse_layer_idx",
     .fallback = "false",
     .hf = "the GGUF of gpt2 cannot say so"},
    {.op = LB_KV_ONLY,
     .names = "add_cross_attention",
     .fallback = "false",
     .hf = "the GGUF of gpt2 has no cross attention"},
};

const lb_arch lb_arch_gpt2 = {
    .family = "gpt2",
    .gguf = "gpt2",
    .graph = {.runs = true, .norm = LB_NORM_LAYER, .rope = LB_ROPE_NO, .act = LB_ACT_GELU},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 50257, \"n_positions\": 1024, \"n_embd\": 768, \"n_layer\": 12,"
                "\"n_head\": 12, \"n_inner\": null, \"activation_function\": \"gelu_new\","
                "\"layer_norm_epsilon\": 1e-05, \"scale_attn_weights\": true,"
                "\"scale_attn_by_inverse_layer_idx\": false, \"reorder_and_upcast_attn\": false,"
                "\"add_cross_attention\": false, \"tie_word_embeddings\": true}",
    .aliases = aliases,
    .prefix = "transformer.",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"activation_function\": \"gelu_new\"}",
    .mlx = "{\"n_ctx\": null, \"n_embd\": null, \"n_head\": null, \"n_layer\": null,"
           "\"n_positions\": null, \"layer_norm_epsilon\": null, \"vocab_size\": null}",
    .flags = LB_ARCH_OWN_KV | LB_ARCH_HEADS_DIVIDE,
};
