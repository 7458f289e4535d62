/* SPDX-License-Identifier: Apache-2.0 */
/* family_latent.h: rows of families with latent attention (MLA): keys and values are made from one
 * cached vector by kv_b_proj, whose parts for keys and for values GGUF keeps apart, head by head.
 * For family_<name>.c only. */
#ifndef LB_ARCH_FAMILY_LATENT_H
#define LB_ARCH_FAMILY_LATENT_H

#include "arch/family_experts.h"

#define LB_ROWS_LATENT_ENDS                                                                     \
    LB_ROW_TOKEN_EMBD,                                                                          \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_SUFFIX_WEIGHT,               \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_GGUF_DROP_TIED |              \
                   LB_ROW_OPTIONAL),                                                            \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),              \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", \
                    LB_RL_NONE),                                                                \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm",              \
                    "blk.{b}.ffn_norm", LB_RL_NONE),                                            \
        LB_ROWS_INV_FREQ

/* q is made in one step or in two. */
#define LB_ROW_Q(role_, hf_, gguf_, suffixes_, instead_)                                \
    {                                                                                   \
        .role = role_, .hf = LB_N("model.layers.{b}.self_attn." hf_),                   \
        .gguf = LB_N("blk.{b}." gguf_), .mlx = LB_N("model.layers.{b}.self_attn." hf_), \
        .suffixes = suffixes_, .instead = instead_                                      \
    }
#define LB_ROWS_LATENT_ATTN                                                                     \
    LB_ROW_Q(LB_ROLE_ATTN_Q, "q_proj", "attn_q", LB_SUFFIX_WEIGHT, LB_ROLE_ATTN_Q_B),           \
        LB_ROW_Q(LB_ROLE_ATTN_Q_A, "q_a_proj", "attn_q_a", LB_WB, LB_ROLE_ATTN_Q),              \
        LB_ROW_Q(LB_ROLE_ATTN_Q_A_NORM, "q_a_layernorm", "attn_q_a_norm", LB_SUFFIX_WEIGHT,     \
                 LB_ROLE_ATTN_Q),                                                               \
        LB_ROW_Q(LB_ROLE_ATTN_Q_B, "q_b_proj", "attn_q_b", LB_SUFFIX_WEIGHT, LB_ROLE_ATTN_Q),   \
        LB_ROW(LB_ROLE_ATTN_KV_A, "model.layers.{b}.self_attn.kv_a_proj_with_mqa",              \
               "blk.{b}.attn_kv_a_mqa", LB_RL_NONE, LB_WB, 0),                                  \
        LB_ROW_NORM(LB_ROLE_ATTN_KV_A_NORM, "model.layers.{b}.self_attn.kv_a_layernorm",        \
                    "blk.{b}.attn_kv_a_norm", LB_RL_NONE),                                      \
        LB_ROW(LB_ROLE_ATTN_OUTPUT, "model.layers.{b}.self_attn.o_proj", "blk.{b}.attn_output", \
               LB_RL_NONE, LB_WB, 0)

/* kv_b_proj, each head's rows for keys and for values: in GGUF and in mlx-lm fused as in Hugging
 * Face, or split and the keys' rows transposed. */
#define LB_ROW_KV_B(role_, part_, gguf_, gguf_relayout, gguf_part, mlx_, mlx_relayout_, mlx_part, \
                    flags_)                                                                       \
    {                                                                                             \
        .role = role_, .hf = LB_N("model.layers.{b}.self_attn.kv_b_proj"),                        \
        .gguf = LB_N("blk.{b}." gguf_), .mlx = LB_N("model.layers.{b}.self_attn." mlx_),          \
        .relayout = gguf_relayout, .mlx_relayout = mlx_relayout_, .suffixes = LB_SUFFIX_WEIGHT,   \
        .flags = LB_ROW_HEAD | (flags_), .part = {                                                \
            [LB_WORLD_HF] = part_,                                                                \
            [LB_WORLD_MLX] = mlx_part,                                                            \
            [LB_WORLD_GGUF] = gguf_part                                                           \
        }                                                                                         \
    }
#define LB_GGUF_FUSED(part_) "attn_kv_b", LB_RL_NONE, part_
#define LB_GGUF_K_B "attn_k_b", LB_RL_TRANSPOSE, LB_PART_ALL
#define LB_GGUF_V_B "attn_v_b", LB_RL_NONE, LB_PART_ALL
#define LB_MLX_FUSED(part_) "kv_b_proj", LB_RL_NONE, part_
#define LB_MLX_EMBED_Q "embed_q", LB_RL_TRANSPOSE, LB_PART_ALL
#define LB_MLX_UNEMBED_OUT "unembed_out", LB_RL_NONE, LB_PART_ALL
/* One form of GGUF with one of mlx-lm. */
#define LB_ROWS_KV_B(gguf_k, gguf_v, mlx_k, mlx_v, flags_)               \
    LB_ROW_KV_B_(LB_ROLE_ATTN_K_B, LB_PART_NOPE, gguf_k, mlx_k, flags_), \
        LB_ROW_KV_B_(LB_ROLE_ATTN_V_B, LB_PART_VALUE, gguf_v, mlx_v, flags_)
#define LB_ROW_KV_B_(...) \
    LB_ROW_KV_B(__VA_ARGS__) /* what the forms stand for is several arguments */

/* In GGUF one head has what is cached; the lengths of "mla" are those of a head as the config has
 * it. */
#define LB_KV_ROWS_LATENT                                                                        \
    {.op = LB_KV_CONST, .key = "attention.head_count_kv", .type = LB_GGUF_U32, .fallback = "1"}, \
        {.key = "attention.layer_norm_rms_epsilon",                                              \
         .type = LB_GGUF_F32,                                                                    \
         .names = "rms_norm_eps",                                                                \
         .fallback = "1e-06"},                                                                   \
        {.op = LB_KV_RUN,                                                                        \
         .key = "attention.latent_epsilon",                                                      \
         .type = LB_GGUF_F32,                                                                    \
         .names = "",                                                                            \
         .fallback = "1e-06"},                                                                   \
        {.key = "leading_dense_block_count",                                                     \
         .type = LB_GGUF_U32,                                                                    \
         .names = "first_k_dense_replace",                                                       \
         .hf = "first_k_dense_replace",                                                          \
         .fallback = "0",                                                                        \
         .absent = "0"},                                                                         \
        {.key = "vocab_size",                                                                    \
         .type = LB_GGUF_U32,                                                                    \
         .names = "vocab_size",                                                                  \
         .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},                                             \
        {.key = "attention.q_lora_rank",                                                         \
         .type = LB_GGUF_U32,                                                                    \
         .names = "q_lora_rank",                                                                 \
         .hf = "q_lora_rank",                                                                    \
         .absent = "null"},                                                                      \
        {.key = "attention.kv_lora_rank",                                                        \
         .type = LB_GGUF_U32,                                                                    \
         .names = "kv_lora_rank",                                                                \
         .hf = "kv_lora_rank",                                                                   \
         .fallback = "512"},                                                                     \
        {.op = LB_KV_SUM,                                                                        \
         .key = "attention.key_length",                                                          \
         .type = LB_GGUF_U32,                                                                    \
         .names = "kv_lora_rank|qk_rope_head_dim"},                                              \
        {.key = "attention.value_length",                                                        \
         .type = LB_GGUF_U32,                                                                    \
         .names = "kv_lora_rank",                                                                \
         .fallback = "512",                                                                      \
         .flags = LB_KVF_NO_BACK},                                                               \
        {.op = LB_KV_SUM,                                                                        \
         .key = "attention.key_length_mla",                                                      \
         .type = LB_GGUF_U32,                                                                    \
         .names = "qk_nope_head_dim|qk_rope_head_dim"},                                          \
    {                                                                                            \
        .key = "attention.value_length_mla", .type = LB_GGUF_U32, .names = "v_head_dim",         \
        .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK                                                \
    }
/* gating: the one function of the class; fallback_: that of a config that does not say. */
#define LB_KV_ROWS_LATENT_EXPERTS(gating, fallback_)                                          \
    {.key = "expert_feed_forward_length",                                                     \
     .type = LB_GGUF_U32,                                                                     \
     .names = "moe_intermediate_size|intermediate_size",                                      \
     .hf = "moe_intermediate_size",                                                           \
     .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "expert_count",                                                               \
         .type = LB_GGUF_U32,                                                                 \
         .names = "n_routed_experts",                                                         \
         .hf = "n_routed_experts"},                                                           \
        {.key = "expert_shared_count",                                                        \
         .type = LB_GGUF_U32,                                                                 \
         .names = "n_shared_experts",                                                         \
         .hf = "n_shared_experts",                                                            \
         .fallback = "0",                                                                     \
         .absent = "0"},                                                                      \
        {.key = "expert_weights_scale",                                                       \
         .type = LB_GGUF_F32,                                                                 \
         .names = "routed_scaling_factor",                                                    \
         .hf = "routed_scaling_factor",                                                       \
         .absent = "1.0"},                                                                    \
        {.key = "expert_weights_norm",                                                        \
         .type = LB_GGUF_BOOL,                                                                \
         .names = "norm_topk_prob",                                                           \
         .hf = "norm_topk_prob",                                                              \
         .absent = "false",                                                                   \
         .flags = LB_KVF_TRUTHY},                                                             \
        {.key = "rope.dimension_count",                                                       \
         .type = LB_GGUF_U32,                                                                 \
         .names = "qk_rope_head_dim",                                                         \
         .hf = "qk_rope_head_dim",                                                            \
         .flags = LB_KVF_REQUIRED},                                                           \
        {.key = "rope.scaling.yarn_log_multiplier",                                           \
         .type = LB_GGUF_F32,                                                                 \
         .names = "@mscale_all_dim",                                                          \
         .hf = "mscale|mscale_all_dim",                                                       \
         .scale = 0.1,                                                                        \
         .flags = LB_KVF_ROPE},                                                               \
        {.op = LB_KV_ONLY,                                                                    \
         .names = "moe_layer_freq",                                                           \
         .fallback = "1",                                                                     \
         .hf = "GGUF has no form for dense layers between those with experts"},               \
        {.op = LB_KV_MSCALE, .hf = "the GGUF of this architecture has one number for both"},  \
        {.op = LB_KV_GATING,                                                                  \
         .key = "expert_gating_func",                                                         \
         .type = LB_GGUF_U32,                                                                 \
         .names = "scoring_func",                                                             \
         .hf = "scoring_func",                                                                \
         .fallback = fallback_,                                                               \
         .absent = gating},                                                                   \
        {.op = LB_KV_BACK, .key = "expert_used_count", .hf = "num_experts_per_tok"},          \
        {.op = LB_KV_BACK, .key = "expert_group_count", .hf = "n_group", .absent = "1"}, {    \
        .op = LB_KV_BACK, .key = "expert_group_used_count", .hf = "topk_group", .absent = "1" \
    }

#endif
