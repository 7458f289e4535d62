/* SPDX-License-Identifier: Apache-2.0 */
/* family_lfm2.c: LFM 2: layers of attention and of short convolutions, by a list; alone or beside
 * the vision tower of LFM 2 VL.
 *
 * Source: conversion/lfm2.py (LFM2Model) of llama-cpp-python 0.3.36 and its src/models/lfm2.cpp;
 * defaults: transformers 5.24, models/lfm2/configuration_lfm2.py; mlx-lm 0.32.2 models/lfm2.py. */
#include "arch/family_lfm.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LFM,
    LB_ROW(LB_ROLE_FFN_GATE, "model.layers.{b}.feed_forward.w1", "blk.{b}.ffn_gate", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, 0),
    LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.feed_forward.w3", "blk.{b}.ffn_up", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, 0),
    LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.feed_forward.w2", "blk.{b}.ffn_down", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, 0),
};

static const char *const classes[] = {"Lfm2ForCausalLM", "LFM2ForCausalLM", NULL};
static const char *const model_types[] = {"lfm2", NULL};
static const lb_arch_alias aliases[] = {
    {"tie_embedding", "tie_word_embeddings"}, {"block_ff_dim", "intermediate_size"}, {NULL, NULL}};
static const lb_arch_layers layers = {
    .list = "layer_types", .usual = "\"conv\"", .single = "\"full_attention\""};

static const lb_arch_kv kv[] = {
    LB_KV_ROW_LFM_HEADS,
    LB_KV_ROWS_LFM,
    {.op = LB_KV_FF_SIZE,
     .key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "block_ff_dim|intermediate_size",
     .hf = "intermediate_size"},
    /* mlx-lm asks for the same number under another name */
    {.key = "embedding_length", .type = LB_GGUF_U32, .names = "hidden_size|block_dim"},
    {.op = LB_KV_BACK, .key = "embedding_length", .hf = "hidden_size"},
    {.op = LB_KV_BACK, .key = "embedding_length", .hf = "block_dim"},
};

static const char *const outer_classes[] = {"Lfm2VlForConditionalGeneration", NULL};
static const char *const outer_types[] = {"lfm2_vl", "lfm2-vl", NULL};
static const lb_arch_extra extras[] = {
    {LB_EXTRA_VISION, LB_N("vision_tower.")},
    {LB_EXTRA_VISION, LB_N("multi_modal_projector.")},
};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "lfm2",
    .defaults = "{\"image_token_id\": 396, \"tie_word_embeddings\": true}",
    .mlx = {LB_N(""), LB_N("language_model.")},
    .mlx_type = "lfm2-vl", /* the name of the module in mlx-lm */
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};

const lb_arch lb_arch_lfm2 = {
    .family = "lfm2",
    .gguf = "lfm2",
    .graph = {.runs = true, .rope = LB_ROPE_HALVES},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 65536, \"hidden_size\": 2560, \"intermediate_size\": 12288,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": 8, \"max_position_embeddings\": 128000,"
                "\"norm_eps\": 1e-05, \"tie_word_embeddings\": true, \"conv_bias\": false,"
                "\"conv_L_cache\": 3, \"block_multiple_of\": 256,"
                "\"block_ffn_dim_multiplier~\": 1.0, \"block_auto_adjust_ff_dim\": true}",
    .theta = "1000000.0",
    .aliases = aliases,
    .layers = &layers,
    .layer_indices = "full_attn_idxs",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"conv_bias\": false, \"block_multiple_of\": 256,"
                 "\"block_ffn_dim_multiplier\": 1.0, \"block_auto_adjust_ff_dim\": false}",
    .mlx = "{\"vocab_size\": null, \"hidden_size\": null, \"num_hidden_layers\": null,"
           "\"num_attention_heads\": null, \"num_key_value_heads\": null,"
           "\"max_position_embeddings\": null, \"norm_eps\": null, \"conv_bias\": null,"
           "\"conv_L_cache\": null, \"block_dim\": null, \"block_multiple_of\": null,"
           "\"block_ffn_dim_multiplier\": null, \"block_auto_adjust_ff_dim\": null,"
           "\"intermediate_size\": null, \"rope_theta\": 1000000, \"layer_types\": null}",
    .flags = LB_ARCH_LAYER_TYPES | LB_ARCH_MLX_DOWN_LAST,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
