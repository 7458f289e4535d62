/* SPDX-License-Identifier: Apache-2.0 */
/* family_ernie4_5_moe.c: ERNIE 4.5 with experts behind dense layers, some that all tokens use, a
 * bias on the scores by which they are chosen; layers of multi-token prediction have no place in
 * GGUF nor, like that bias, in MLX.
 *
 * Source: conversion/ernie.py (Ernie4_5MoeModel) of llama-cpp-python 0.3.36; defaults: transformers
 * 5.24, models/ernie4_5_moe/configuration_ernie4_5_moe.py; mlx-lm 0.32.2 models/ernie4_5_moe.py. */
#include "arch/family_experts.h"

#define MTP(name_)                                                                          \
    LB_ROW3(LB_ROLE_MTP, LB_N("model.mtp_" name_), LB_N_NONE, LB_N_NONE, LB_RL_NONE, LB_WB, \
            LB_ROW_OPTIONAL | LB_ROW_MTP)

#define ROUTER_BIAS(hf_)                                                                     \
    LB_ROW3(LB_ROLE_FFN_ROUTER_BIAS, LB_N(hf_), LB_N("blk.{b}.exp_probs_b.bias"), LB_N_NONE, \
            LB_RL_ONE_ROW, LB_SUFFIX_NONE, LB_ROW_OPTIONAL | LB_ROW_HF_F32)

static const lb_arch_tensor rows[] = {
    LB_ROWS_TWO_NORMS(LB_RL_NONE, LB_RL_NONE),
    LB_ROWS_FFN_OR(LB_ROW_OPTIONAL),
    LB_ROW(LB_ROLE_FFN_ROUTER, "model.layers.{b}.mlp.gate", "blk.{b}.ffn_gate_inp", LB_RL_NONE,
           LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32 | LB_ROW_HF_F32),
    ROUTER_BIAS("model.layers.{b}.mlp.moe_statics.e_score_correction_bias"),
    ROUTER_BIAS("model.layers.{b}.mlp.gate.moe_statics.e_score_correction_bias"), /* in memory */
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERTS("mlp.shared_experts"),
    MTP("emb_norm.{m}"),
    MTP("hidden_norm.{m}"),
    MTP("linear_proj.{m}"),
    MTP("block.{m}.input_layernorm"),
    MTP("block.{m}.post_attention_layernorm"),
    MTP("block.{m}.self_attn.q_proj"),
    MTP("block.{m}.self_attn.k_proj"),
    MTP("block.{m}.self_attn.v_proj"),
    MTP("block.{m}.self_attn.o_proj"),
    MTP("block.{m}.mlp.gate_proj"),
    MTP("block.{m}.mlp.up_proj"),
    MTP("block.{m}.mlp.down_proj"),
};

static const char *const classes[] = {"Ernie4_5_MoeForCausalLM", NULL};
static const char *const model_types[] = {"ernie4_5_moe", NULL};
static const lb_arch_alias aliases[] = {
    {"num_experts", "moe_num_experts"}, {"num_experts_per_tok", "moe_k"}, {NULL, NULL}};

static const lb_arch_kv kv[] = {
    {.key = "expert_count",
     .type = LB_GGUF_U32,
     .names = "moe_num_experts",
     .hf = "moe_num_experts",
     .flags = LB_KVF_REQUIRED},
    {.key = "expert_used_count",
     .type = LB_GGUF_U32,
     .names = "moe_k",
     .hf = "moe_k",
     .flags = LB_KVF_REQUIRED},
    {.key = "interleave_moe_layer_step",
     .type = LB_GGUF_U32,
     .names = "moe_layer_interval",
     .hf = "moe_layer_interval",
     .flags = LB_KVF_REQUIRED},
    {.key = "leading_dense_block_count",
     .type = LB_GGUF_U32,
     .names = "moe_layer_start_index",
     .hf = "moe_layer_start_index",
     .absent = "0",
     .flags = LB_KVF_REQUIRED},
    {.key = "expert_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "moe_intermediate_size",
     .hf = "moe_intermediate_size"},
    {.key = "expert_shared_count",
     .type = LB_GGUF_U32,
     .names = "moe_num_shared_experts",
     .hf = "moe_num_shared_experts",
     .absent = "0"},
    /* the reference divides the dense layers' size by the key-value heads: the same in the models
     * that there are */
    {.op = LB_KV_PRODUCT,
     .key = "expert_shared_feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "moe_intermediate_size",
     .of = "moe_num_shared_experts"},
    {.op = LB_KV_LAST,
     .names = "moe_layer_end_index",
     .hf = "GGUF has no form for dense layers behind those with experts"},
    {.op = LB_KV_MTP,
     .key = "",
     .names = "num_nextn_predict_layers",
     .hf = "num_nextn_predict_layers",
     .absent = "0"},
};

static const lb_arch_bias biases[] = {{"use_bias", LB_ROLE_ATTN_Q}};

const lb_arch lb_arch_ernie4_5_moe = {
    .family = "ernie4_5_moe",
    .gguf = "ernie4_5-moe",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS, .flags = LB_GRAPH_TOP_NORM},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 103424, \"hidden_size\": 2560, \"intermediate_size\": 12288,"
                "\"num_hidden_layers\": 28, \"num_attention_heads\": 20,"
                "\"num_key_value_heads?\": 4, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05,"
                "\"tie_word_embeddings\": true, \"use_bias?\": false,"
                "\"moe_intermediate_size\": 1536, \"moe_k?\": 6, \"moe_num_experts?\": 64,"
                "\"moe_num_shared_experts?\": 2, \"moe_layer_start_index?\": 1,"
                "\"moe_layer_end_index?\": -1, \"moe_layer_interval?\": 1}",
    .theta = "500000.0",
    .aliases = aliases,
    .old_prefix = "ernie.",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = "{\"hidden_size\": null, \"intermediate_size\": null,"
           "\"max_position_embeddings\": null, \"num_attention_heads\": null,"
           "\"num_key_value_heads\": null, \"num_hidden_layers\": null, \"rms_norm_eps\": null,"
           "\"vocab_size\": null, \"rope_theta\": null, \"use_bias\": null,"
           "\"tie_word_embeddings\": null, \"moe_num_experts\": null,"
           "\"moe_layer_start_index\": 0, \"moe_intermediate_size\": 0, \"moe_k\": 1,"
           "\"moe_layer_interval\": 1, \"moe_num_shared_experts\": 0}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .flags = LB_ARCH_STACKS_BY_TABLE,
};
