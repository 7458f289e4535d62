/* SPDX-License-Identifier: Apache-2.0 */
/* family_exaone4.c: EXAONE 4, and the language model of EXAONE 4.5: norms behind attention and
 * feed-forward, each head of q and k normalised. Where there is a sliding window, full layers have
 * no positions. llama.cpp takes a file of 64 layers without the window's keys for one that slides;
 * the reference never leaves them out of such a file, and neither does the way back assume it.
 *
 * Source: conversion/exaone.py (Exaone4Model, Exaone4_5_TextModel) and src/models/exaone4.cpp of
 * llama-cpp-python 0.3.36; defaults: transformers 5.24, models/exaone4/configuration_exaone4.py;
 * mlx-lm 0.32.2 models/exaone4.py. */
#include "arch/family_mtp.h"

#define MTP(role_, hf_, gguf_) LB_ROW_MTP_OF(role_, hf_, gguf_, LB_RL_NONE, LB_SUFFIX_WEIGHT, 0)

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
    MTP(LB_ROLE_MTP, "fc", "nextn.eh_proj"),
    MTP(LB_ROLE_MTP, "pre_fc_norm_embedding", "nextn.enorm"),
    MTP(LB_ROLE_MTP, "pre_fc_norm_hidden", "nextn.hnorm"),
    MTP(LB_ROLE_MTP, "norm", "nextn.shared_head_norm"),
    MTP(LB_ROLE_ATTN_Q, "layers.{m}.self_attn.q_proj", "attn_q"),
    MTP(LB_ROLE_ATTN_K, "layers.{m}.self_attn.k_proj", "attn_k"),
    MTP(LB_ROLE_ATTN_V, "layers.{m}.self_attn.v_proj", "attn_v"),
    MTP(LB_ROLE_ATTN_OUTPUT, "layers.{m}.self_attn.o_proj", "attn_output"),
    MTP(LB_ROLE_ATTN_Q_NORM, "layers.{m}.self_attn.q_norm", "attn_q_norm"),
    MTP(LB_ROLE_ATTN_K_NORM, "layers.{m}.self_attn.k_norm", "attn_k_norm"),
    MTP(LB_ROLE_ATTN_POST_NORM, "layers.{m}.post_attention_layernorm", "post_attention_norm"),
    LB_ROWS_MTP_FFN,
    MTP(LB_ROLE_FFN_POST_NORM, "layers.{m}.post_feedforward_layernorm", "post_ffw_norm"),
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
    {.op = LB_KV_MTP,
     .key = "nextn_predict_layers",
     .type = LB_GGUF_U32,
     .names = "num_nextn_predict_layers",
     .hf = "num_nextn_predict_layers",
     .flags = LB_KVF_TRUTHY},
};
static const char *const outer_classes[] = {"Exaone4_5_ForConditionalGeneration", NULL};
static const char *const outer_types[] = {"exaone4_5", NULL};
static const lb_arch_extra extras[] = {{LB_EXTRA_VISION, LB_N("visual.")}};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "exaone4",
    .old_type = "exaone4_5_text",
    .defaults = "{\"image_token_id\": 67, \"video_token_id\": 68,"
                "\"tie_word_embeddings\": false}",
    .mlx = {LB_N(""), LB_N("language_model.")},
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};
static const lb_arch_layers layers = {
    "layer_types",           "sliding_window_pattern", 4,
    "\"sliding_attention\"", "\"full_attention\"",     "sliding_window"};

const lb_arch lb_arch_exaone4 = {
    .family = "exaone4",
    .gguf = "exaone4",
    .graph = {.runs = true,
              .rope = LB_ROPE_HALVES,
              .window_period = 4,
              .flags = LB_GRAPH_SCALED_WINDOW | LB_GRAPH_FULL_NO_ROPE},
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
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
