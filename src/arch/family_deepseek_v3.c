/* SPDX-License-Identifier: Apache-2.0 */
/* family_deepseek_v3.c: DeepSeek V3, R1, Kimi K2 and K2.5, Moonlight: as V2, but experts are chosen
 * by sigmoid and a learned bias. mlx-lm splits kv_b_proj as GGUF does; folders from before have it
 * fused. The reference makes no GGUF with the layer of multi-token prediction.
 *
 * A config that does not name its gating function (transformers does not write it) becomes a GGUF
 * that does: readers take softmax for granted, the class has only sigmoid.
 * Source: conversion/deepseek.py (DeepseekV2Model) and src/models/deepseek2.cpp of llama-cpp-python
 * 0.3.36; defaults: transformers 5.24, models/deepseek_v3/configuration_deepseek_v3.py (which has
 * no class for kimi_k2); mlx-lm 0.32.2 models/deepseek_v3.py, models/kimi_k25.py, utils.py
 * (MODEL_REMAPPING). */
#include "arch/family_latent.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LATENT_ENDS,
    LB_ROWS_LATENT_ATTN,
    LB_ROWS_KV_B(LB_GGUF_K_B, LB_GGUF_V_B, LB_MLX_EMBED_Q, LB_MLX_UNEMBED_OUT, 0),
    /* of older files */
    LB_ROWS_KV_B(LB_GGUF_FUSED(LB_PART_NOPE), LB_GGUF_FUSED(LB_PART_VALUE), LB_MLX_EMBED_Q,
                 LB_MLX_UNEMBED_OUT, LB_ROW_OPTIONAL),
    LB_ROWS_KV_B(LB_GGUF_K_B, LB_GGUF_V_B, LB_MLX_FUSED(LB_PART_NOPE), LB_MLX_FUSED(LB_PART_VALUE),
                 LB_ROW_OPTIONAL),
    LB_ROWS_FFN_OF(LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),
    LB_ROW_ROUTER_OF("model.layers.{b}.mlp.gate", LB_ROW_MLX_BARE),
    LB_ROW_ROUTER_BIAS("model.layers.{b}.mlp.gate.e_score_correction_bias", LB_ROW_HF_F32),
    LB_ROWS_EXPERTS("mlp"),
    LB_ROWS_EXPERTS_STACKED("mlp"),
    LB_ROWS_SHARED_EXPERTS("mlp.shared_experts"),
    LB_ROWS_NEXTN,
};

static const char *const classes[] = {"DeepseekV3ForCausalLM", "KimiK2ForCausalLM", NULL};
static const char *const model_types[] = {"deepseek_v3", NULL};
static const char *const raw_types[] = {"kimi_k2", NULL};

static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LATENT,
    LB_KV_ROWS_LATENT_EXPERTS("sigmoid", "sigmoid"),
    {.op = LB_KV_ONLY,
     .names = "rope_interleave",
     .fallback = "true",
     .hf = "llama.cpp rotates neighbours in this architecture"},
    {.op = LB_KV_MTP,
     .key = "",
     .names = "num_nextn_predict_layers|num_mtp_layers",
     .hf = "num_nextn_predict_layers",
     .absent = "0"},
};

static const lb_arch_bias biases[] = {{"attention_bias", LB_ROLE_ATTN_KV_A}};

/* Kimi K2.5: K2 beside a vision tower. */
static const char *const outer_classes[] = {"KimiK25ForConditionalGeneration", NULL};
static const char *const outer_types[] = {"kimi_k25", NULL};
static const lb_arch_extra extras[] = {{LB_EXTRA_VISION, LB_N("vision_tower.")},
                                       {LB_EXTRA_VISION, LB_N("mm_projector.")}};
static const lb_arch_outer outers[] = {{
    .classes = outer_classes,
    .model_types = outer_types,
    .key = "text_config",
    .text_type = "kimi_k2",
    .defaults = "{\"ignore_index?\": -100, \"media_placeholder_token_id?\": 163605,"
                "\"use_unified_vision_chunk?\": true, \"video_placeholder?\": null,"
                "\"tie_word_embeddings\": false}",
    .mlx = {LB_N(""), LB_N("language_model.")},
    .extras = extras,
    .n_extras = LB_LEN(extras),
}};

const lb_arch lb_arch_deepseek_v3 = {
    .family = "deepseek_v3",
    .gguf = "deepseek2",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .gguf_key = "expert_gating_func",
    .gguf_value = 2,
    .classes = classes,
    .model_types = model_types,
    .raw_types = raw_types,
    .defaults = "{\"vocab_size\": 129280, \"hidden_size\": 7168, \"intermediate_size\": 18432,"
                "\"moe_intermediate_size\": 2048, \"num_hidden_layers\": 61,"
                "\"num_attention_heads\": 128, \"num_key_value_heads?\": 128,"
                "\"n_shared_experts\": 1, \"n_routed_experts\": 256,"
                "\"routed_scaling_factor\": 2.5, \"kv_lora_rank\": 512, \"q_lora_rank?\": 1536,"
                "\"qk_rope_head_dim\": 64, \"v_head_dim?\": 128, \"qk_nope_head_dim\": 128,"
                "\"n_group?\": 8, \"topk_group?\": 4, \"num_experts_per_tok?\": 8,"
                "\"first_k_dense_replace?\": 3, \"norm_topk_prob?\": true,"
                "\"hidden_act\": \"silu\", \"max_position_embeddings\": 4096,"
                "\"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": false,"
                "\"rope_interleave?\": true, \"attention_bias\": false}",
    .theta = "10000.0",
    .head_dim_is = "qk_rope_head_dim",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"moe_layer_freq\": 1, \"topk_method\": \"noaux_tc\"}",
    .biases = biases,
    .n_biases = LB_LEN(biases),
    .mlx = "{\"vocab_size\": 102400, \"hidden_size\": 4096, \"intermediate_size\": 11008,"
           "\"moe_intermediate_size\": 1407, \"num_hidden_layers\": 30,"
           "\"num_attention_heads\": 32, \"num_key_value_heads\": 32, \"n_shared_experts\": null,"
           "\"n_routed_experts\": null, \"routed_scaling_factor\": 1.0, \"kv_lora_rank\": 512,"
           "\"q_lora_rank\": 1536, \"qk_rope_head_dim\": 64, \"v_head_dim\": 128,"
           "\"qk_nope_head_dim\": 128, \"norm_topk_prob\": true, \"n_group\": 1,"
           "\"topk_group\": 1, \"num_experts_per_tok\": 1, \"first_k_dense_replace\": 0,"
           "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0,"
           "\"attention_bias\": false, \"tie_word_embeddings!\": false,"
           "\"rope_interleave!\": true}",
    .outers = outers,
    .n_outers = LB_LEN(outers),
    .flags = LB_ARCH_LATENT | LB_ARCH_MLX_DOWN_LAST,
};
