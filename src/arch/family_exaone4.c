/* SPDX-License-Identifier: Apache-2.0 */
/* family_exaone4.c: EXAONE 4: norms behind attention and feed-forward, each head of q and k
 * normalised. Where there is a sliding window, full layers have no positions. llama.cpp takes a
 * file of 64 layers without the window's keys for one that slides; the reference never leaves them
 * out of such a file, and neither does the way back assume it.
 *
 * Source: conversion/exaone.py (Exaone4Model) and src/models/exaone4.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/exaone4/configuration_exaone4.py; mlx-lm 0.32.2
 * models/exaone4.py. */
#include "arch/family_rows.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_ENDS,
    LB_ROWS_ATTN_OF(LB_RL_NONE, LB_RL_NONE, LB_SUFFIX_WEIGHT),
    LB_ROW_Q_NORM(LB_RL_NONE),
    LB_ROW_K_NORM(LB_RL_NONE),
    LB_ROW_ATTN_POST_NORM(LB_RL_NONE),
    LB_ROWS_FFN_OF(LB_SUFFIX_WEIGHT, 0),
    LB_ROW_FFN_POST_NORM(LB_RL_NONE),
    LB_ROWS_INV_FREQ,
    LB_ROW_ROPE_FREQS,
};

static const char *const classes[] = {"Exaone4ForCausalLM", NULL};
static const char *const model_types[] = {"exaone4", NULL};
static const lb_arch_kv kv[] = {
    {.key = "vocab_size",
     .type = LB_GGUF_U32,
     .names = "vocab_size",
     .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},
    {.key = "attention.sliding_window",
     .type = LB_GGUF_U32,
     .names = "sliding_window",
     .hf = "sliding_window",
     .absent = "null"},
    {.op = LB_KV_SLIDING, .key = "attention.sliding_window_pattern", .names = "layer_types"},
};
static const lb_arch_layers layers = {
    "layer_types",           "sliding_window_pattern", 4,
    "\"sliding_attention\"", "\"full_attention\"",     "sliding_window"};

const lb_arch lb_arch_exaone4 = {
    .family = "exaone4",
    .gguf = "exaone4",
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 102400, \"hidden_size\": 4096, "
                "\"intermediate_size\": 16384, \"num_hidden_layers\": 32, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": 32, "
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 2048, "
                "\"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": false, "
                "\"sliding_window?\": 4096}",
    .theta = "10000.0",
    .layers = &layers,
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .window = {4, "sliding_window_pattern", true},
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, "
           "\"num_key_value_heads\": null, \"max_position_embeddings\": null, "
           "\"rope_theta\": null, \"head_dim\": null, "
           "\"tie_word_embeddings\": null, \"rope_scaling?\": null, "
           "\"sliding_window?\": null, \"sliding_window_pattern?\": null}",
    .flags = LB_ARCH_ROPE_FREQS | LB_ARCH_LAYER_TYPES,
};
