/* SPDX-License-Identifier: Apache-2.0 */
/* family_deepseek_v2.c: DeepSeek V2, V2.5 and their Lite forms: latent attention, leading dense
 * layers, experts chosen by softmax, experts that all tokens use. mlx-lm keeps kv_b_proj fused.
 *
 * Source: conversion/deepseek.py (DeepseekV2Model) and src/models/deepseek2.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/deepseek_v2/configuration_deepseek_v2.py; mlx-lm
 * 0.32.2 models/deepseek_v2.py. */
#include "arch/family_latent.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LATENT_ENDS,
    LB_ROWS_LATENT_ATTN,
    LB_ROWS_KV_B(LB_GGUF_K_B, LB_GGUF_V_B, LB_MLX_FUSED(LB_PART_NOPE), LB_MLX_FUSED(LB_PART_VALUE),
                 0),
    LB_ROWS_KV_B(LB_GGUF_FUSED(LB_PART_NOPE), LB_GGUF_FUSED(LB_PART_VALUE),
                 LB_MLX_FUSED(LB_PART_NOPE), LB_MLX_FUSED(LB_PART_VALUE), LB_ROW_OPTIONAL),
    LB_ROWS_FFN_OF(LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW_ROUTER_OF("model.layers.{b}.mlp.gate", LB_ROW_MLX_BARE),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERTS("mlp.shared_experts"),
};

static const char *const classes[] = {"DeepseekV2ForCausalLM", NULL};
static const char *const model_types[] = {"deepseek_v2", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LATENT,
    LB_KV_ROWS_LATENT_EXPERTS("softmax", NULL),
    {.op = LB_KV_BACK,
     .key = "expert_group_count",
     .hf = "topk_method",
     .absent = "\"greedy\"",
     .above_one = "\"group_limited_greedy\""},
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_KV_A}};

const lb_arch lb_arch_deepseek_v2 = {
    .family = "deepseek_v2",
    .gguf = "deepseek2",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 102400, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
                "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
                "\"num_key_value_heads\": null, \"hidden_act\": \"silu\","
                "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06,"
                "\"tie_word_embeddings\": false, \"attention_bias\": false, \"mlp_bias\": false,"
                "\"first_k_dense_replace\": 0, \"kv_lora_rank\": 512, \"q_lora_rank?\": 1536,"
                "\"n_group\": null, \"n_routed_experts\": 64, \"n_shared_experts\": 2,"
                "\"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,"
                "\"routed_scaling_factor\": 1.0, \"topk_group\": null,"
                "\"topk_method?\": \"greedy\", \"norm_topk_prob?\": false, \"v_head_dim\": 128,"
                "\"num_experts_per_tok\": null, \"moe_intermediate_size\": 1407}",
    .theta = "10000.0",
    .head_dim_is = "qk_rope_head_dim",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"moe_layer_freq\": 1}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"vocab_size\": 102400, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
           "\"moe_intermediate_size\": 1407, \"num_hidden_layers\": 30,"
           "\"num_attention_heads\": 32, \"num_key_value_heads\": 32, \"n_shared_experts\": null,"
           "\"n_routed_experts\": null, \"routed_scaling_factor\": 1.0, \"kv_lora_rank\": 512,"
           "\"q_lora_rank\": 1536, \"qk_rope_head_dim\": 64, \"v_head_dim\": 128,"
           "\"qk_nope_head_dim\": 128, \"topk_method\": \"gready\", \"n_group\": null,"
           "\"topk_group\": null, \"num_experts_per_tok\": null, \"first_k_dense_replace\": 0,"
           "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0,"
           "\"attention_bias\": false, \"tie_word_embeddings!\": false,"
           "\"mlp_bias!\": false}",
    .flags = LB_ARCH_LATENT | LB_ARCH_HEADS_DIVIDE | LB_ARCH_MLX_DOWN_LAST,
};
