/* SPDX-License-Identifier: Apache-2.0 */
/* family_lfm.h: what LFM 2 with and without experts share: layers of attention and of short
 * convolutions. For family_lfm2.c and family_lfm2_moe.c only. */
#ifndef LB_ARCH_FAMILY_LFM_H
#define LB_ARCH_FAMILY_LFM_H

#include "arch/family_experts.h"

#define LB_ROW_LFM(role_, hf_, gguf_)                                                      \
    LB_ROW(role_, "model.layers.{b}." hf_, "blk.{b}." gguf_, LB_RL_NONE, LB_SUFFIX_WEIGHT, \
           LB_ROW_OPTIONAL)

/* All but the feed-forward. The last norm is that of the embeddings by its name. mlx-lm has no
 * head of its own. */
#define LB_ROWS_LFM                                                                              \
    LB_ROW_TOKEN_EMBD,                                                                           \
        LB_ROW3(LB_ROLE_OUTPUT, LB_N("lm_head"), LB_N("output"), LB_N_NONE, LB_RL_NONE,          \
                LB_SUFFIX_WEIGHT, LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),  \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.embedding_norm", "token_embd_norm", LB_RL_NONE), \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.operator_norm", "blk.{b}.attn_norm",    \
                    LB_RL_NONE),                                                                 \
        LB_ROW_LFM(LB_ROLE_ATTN_Q, "self_attn.q_proj", "attn_q"),                                \
        LB_ROW_LFM(LB_ROLE_ATTN_K, "self_attn.k_proj", "attn_k"),                                \
        LB_ROW_LFM(LB_ROLE_ATTN_V, "self_attn.v_proj", "attn_v"),                                \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_Q, "q_proj", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_PART_Q),      \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_K, "k_proj", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_PART_K),      \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_V, "v_proj", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_PART_V),      \
        LB_ROW_LFM(LB_ROLE_ATTN_OUTPUT, "self_attn.out_proj", "attn_output"),                    \
        LB_ROW_LFM(LB_ROLE_ATTN_Q_NORM, "self_attn.q_layernorm", "attn_q_norm"),                 \
        LB_ROW_LFM(LB_ROLE_ATTN_K_NORM, "self_attn.k_layernorm", "attn_k_norm"),                 \
        {.role = LB_ROLE_SHORTCONV_CONV,                                                         \
         .hf = LB_N("model.layers.{b}.conv.conv"),                                               \
         .gguf = LB_N("blk.{b}.shortconv.conv"),                                                 \
         .mlx = LB_N("model.layers.{b}.conv.conv"),                                              \
         .relayout = LB_RL_SQUEEZE,                                                              \
         .suffixes = LB_SUFFIX_WEIGHT,                                                           \
         .flags = LB_ROW_GGUF_F32 | LB_ROW_OPTIONAL,                                             \
         .mlx_relayout = LB_RL_CHANNEL_LAST},                                                    \
        LB_ROW_LFM(LB_ROLE_SHORTCONV_IN, "conv.in_proj", "shortconv.in_proj"),                   \
        LB_ROW_LFM(LB_ROLE_SHORTCONV_OUT, "conv.out_proj", "shortconv.out_proj"),                \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.ffn_norm", "blk.{b}.ffn_norm", LB_RL_NONE)

#define LB_KV_ROW_LFM_HEADS                                                               \
    {                                                                                     \
        .op = LB_KV_BY_TYPE, .key = "attention.head_count_kv", .type = LB_GGUF_I32,       \
        .names = "num_key_value_heads", .hf = "num_key_value_heads", .of = "layer_types", \
        .fallback = "conv",                                                               \
    }
#define LB_KV_ROWS_LFM                                               \
    {.key = "vocab_size",                                            \
     .type = LB_GGUF_U32,                                            \
     .names = "vocab_size",                                          \
     .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},                     \
        {.key = "shortconv.l_cache",                                 \
         .type = LB_GGUF_U32,                                        \
         .names = "conv_L_cache",                                    \
         .hf = "conv_L_cache",                                       \
         .flags = LB_KVF_REQUIRED},                                  \
        {.key = "attention.layer_norm_rms_epsilon",                  \
         .type = LB_GGUF_F32,                                        \
         .names = "norm_eps",                                        \
         .hf = "norm_eps",                                           \
         .flags = LB_KVF_REQUIRED},                                  \
    {                                                                \
        .op = LB_KV_ONLY, .names = "conv_bias", .fallback = "false", \
        .hf = "GGUF has no biases of short convolutions"             \
    }

#endif
