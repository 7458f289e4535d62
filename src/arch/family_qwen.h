/* SPDX-License-Identifier: Apache-2.0 */
/* family_qwen.h: rows that Qwen's families with shared experts and those with linear attention have
 * in common. For family_qwen*.c only. */
#ifndef LB_ARCH_FAMILY_QWEN_H
#define LB_ARCH_FAMILY_QWEN_H

#include "arch/family_mtp.h"

/* Qwen's experts with one that all tokens use, behind a gate. */
#define LB_ROWS_SHARED_EXPERT                                                               \
    LB_ROW(LB_ROLE_FFN_SHARED_ROUTER, "model.layers.{b}.mlp.shared_expert_gate",            \
           "blk.{b}.ffn_gate_inp_shexp", LB_RL_ONE_ROW, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32), \
        LB_ROW(LB_ROLE_FFN_GATE_SHARED, "model.layers.{b}.mlp.shared_expert.gate_proj",     \
               "blk.{b}.ffn_gate_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, 0),                  \
        LB_ROW(LB_ROLE_FFN_UP_SHARED, "model.layers.{b}.mlp.shared_expert.up_proj",         \
               "blk.{b}.ffn_up_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, 0),                    \
        LB_ROW(LB_ROLE_FFN_DOWN_SHARED, "model.layers.{b}.mlp.shared_expert.down_proj",     \
               "blk.{b}.ffn_down_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, 0)
#define LB_KV_ROWS_QWEN_EXPERTS                                                             \
    {.key = "expert_feed_forward_length",                                                   \
     .type = LB_GGUF_U32,                                                                   \
     .names = "moe_intermediate_size",                                                      \
     .hf = "moe_intermediate_size"},                                                        \
    {                                                                                       \
        .key = "expert_shared_feed_forward_length", .type = LB_GGUF_U32,                    \
        .names = "shared_expert_intermediate_size", .hf = "shared_expert_intermediate_size" \
    }

/* Layers of linear attention: sizes, which they are, and the share of a head that the others
 * rotate. */
#define LB_KV_ROWS_DELTA_NET                                                                  \
    {.key = "ssm.conv_kernel",                                                                \
     .type = LB_GGUF_U32,                                                                     \
     .names = "linear_conv_kernel_dim",                                                       \
     .hf = "linear_conv_kernel_dim",                                                          \
     .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "ssm.state_size",                                                             \
         .type = LB_GGUF_U32,                                                                 \
         .names = "linear_key_head_dim",                                                      \
         .hf = "linear_key_head_dim",                                                         \
         .flags = LB_KVF_REQUIRED},                                                           \
        {.key = "ssm.group_count",                                                            \
         .type = LB_GGUF_U32,                                                                 \
         .names = "linear_num_key_heads",                                                     \
         .hf = "linear_num_key_heads",                                                        \
         .flags = LB_KVF_REQUIRED},                                                           \
        {.key = "ssm.time_step_rank",                                                         \
         .type = LB_GGUF_U32,                                                                 \
         .names = "linear_num_value_heads",                                                   \
         .hf = "linear_num_value_heads",                                                      \
         .flags = LB_KVF_REQUIRED},                                                           \
        {.op = LB_KV_PRODUCT,                                                                 \
         .key = "ssm.inner_size",                                                             \
         .type = LB_GGUF_U32,                                                                 \
         .names = "linear_value_head_dim",                                                    \
         .hf = "linear_value_head_dim",                                                       \
         .of = "linear_num_value_heads"},                                                     \
        {.op = LB_KV_RECURRENT, .key = "attention.recurrent_layers", .names = "layer_types"}, \
        {.key = "full_attention_interval",                                                    \
         .type = LB_GGUF_U32,                                                                 \
         .names = "full_attention_interval",                                                  \
         .fallback = "4"},                                                                    \
    {                                                                                         \
        .op = LB_KV_ROPE_DIMS, .key = "rope.dimension_count", .type = LB_GGUF_U32,            \
        .names = "@partial_rotary_factor", .fallback = "0.25"                                 \
    }

/* Qwen's hybrids: norms stored as w - 1; mlx-lm adds the one when it converts. Attention, with its
 * output gate in q, in some layers, in the others gated delta nets. */
#define LB_ROW_NORM_HYBRID(role_, hf_, gguf_, flags_)                          \
    {                                                                          \
        .role = role_, .hf = LB_N(hf_), .gguf = LB_N(gguf_), .mlx = LB_N(hf_), \
        .relayout = LB_RL_ADD_ONE, .mlx_relayout = LB_RL_ADD_ONE_F32,          \
        .suffixes = LB_SUFFIX_WEIGHT, .flags = flags_                          \
    }
#define LB_ROWS_HYBRID                                                                            \
    LB_ROW_TOKEN_EMBD,                                                                            \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,                            \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),                      \
        LB_ROW_NORM_HYBRID(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", 0),                  \
        LB_ROW_NORM_HYBRID(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm",                 \
                           "blk.{b}.attn_norm", 0),                                               \
        LB_ROW_NORM_HYBRID(LB_ROLE_ATTN_POST_NORM, "model.layers.{b}.post_attention_layernorm",   \
                           "blk.{b}.post_attention_norm", 0),                                     \
        LB_ROW(LB_ROLE_ATTN_Q, "model.layers.{b}.self_attn.q_proj", "blk.{b}.attn_q", LB_RL_NONE, \
               LB_WB, LB_ROW_ATTENTION),                                                          \
        LB_ROW(LB_ROLE_ATTN_K, "model.layers.{b}.self_attn.k_proj", "blk.{b}.attn_k", LB_RL_NONE, \
               LB_WB, LB_ROW_ATTENTION),                                                          \
        LB_ROW(LB_ROLE_ATTN_V, "model.layers.{b}.self_attn.v_proj", "blk.{b}.attn_v", LB_RL_NONE, \
               LB_WB, LB_ROW_ATTENTION),                                                          \
        LB_ROW(LB_ROLE_ATTN_OUTPUT, "model.layers.{b}.self_attn.o_proj", "blk.{b}.attn_output",   \
               LB_RL_NONE, LB_WB, LB_ROW_ATTENTION),                                              \
        LB_ROW_NORM_HYBRID(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.q_norm",              \
                           "blk.{b}.attn_q_norm", LB_ROW_ATTENTION),                              \
        LB_ROW_NORM_HYBRID(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm",              \
                           "blk.{b}.attn_k_norm", LB_ROW_ATTENTION),                              \
        LB_ROW(LB_ROLE_SSM_NORM, "model.layers.{b}.linear_attn.norm", "blk.{b}.ssm_norm",         \
               LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_RECURRENT),                                   \
        LB_ROWS_INV_FREQ

/* The same with its projections apart, in Hugging Face group by group of heads of values, in GGUF
 * the first heads of all groups first. */
#define LB_ROW_DELTA_PART(role_, hf_, gguf_, relayout_, mlx_relayout_, part_, flags_)       \
    {                                                                                       \
        .role = role_, .hf = LB_N(hf_), .gguf = LB_N(gguf_), .mlx = LB_N(hf_),              \
        .relayout = relayout_, .mlx_relayout = mlx_relayout_, .suffixes = LB_SUFFIX_WEIGHT, \
        .flags = LB_ROW_RECURRENT | (flags_), .part = {                                     \
            part_,                                                                          \
            part_,                                                                          \
            part_                                                                           \
        }                                                                                   \
    }
#define LB_ROW_DELTA_IN(role_, relayout_, part_)                                             \
    LB_ROW_DELTA_PART(role_, "model.layers.{b}.linear_attn.in_proj_qkv", "blk.{b}.attn_qkv", \
                      relayout_, LB_RL_NONE, part_, 0)
#define LB_ROW_DELTA_CONV(role_, relayout_, part_)                                        \
    LB_ROW_DELTA_PART(role_, "model.layers.{b}.linear_attn.conv1d", "blk.{b}.ssm_conv1d", \
                      relayout_, LB_RL_CHANNEL_LAST, part_, LB_ROW_GGUF_F32)
#define LB_ROW_DELTA(role_, hf_, gguf_, relayout_, suffix_) \
    LB_ROW(role_, "model.layers.{b}.linear_attn." hf_, gguf_, relayout_, suffix_, LB_ROW_RECURRENT)
#define LB_ROWS_DELTA_NET_APART                                                                \
    LB_ROW_DELTA_IN(LB_ROLE_LINEAR_Q, LB_RL_NONE, LB_PART_SSM_Q),                              \
        LB_ROW_DELTA_IN(LB_ROLE_LINEAR_K, LB_RL_NONE, LB_PART_SSM_K),                          \
        LB_ROW_DELTA_IN(LB_ROLE_LINEAR_V, LB_RL_VALUE_HEADS, LB_PART_SSM_V),                   \
        LB_ROW_DELTA(LB_ROLE_LINEAR_GATE, "in_proj_z", "blk.{b}.attn_gate", LB_RL_VALUE_HEADS, \
                     LB_SUFFIX_WEIGHT),                                                        \
        LB_ROW_DELTA(LB_ROLE_SSM_BETA, "in_proj_b", "blk.{b}.ssm_beta", LB_RL_VALUE_HEADS,     \
                     LB_SUFFIX_WEIGHT),                                                        \
        LB_ROW_DELTA(LB_ROLE_SSM_ALPHA, "in_proj_a", "blk.{b}.ssm_alpha", LB_RL_VALUE_HEADS,   \
                     LB_SUFFIX_WEIGHT),                                                        \
        LB_ROW_DELTA_CONV(LB_ROLE_SSM_CONV_Q, LB_RL_SQUEEZE, LB_PART_SSM_Q),                   \
        LB_ROW_DELTA_CONV(LB_ROLE_SSM_CONV_K, LB_RL_SQUEEZE, LB_PART_SSM_K),                   \
        LB_ROW_DELTA_CONV(LB_ROLE_SSM_CONV_V, LB_RL_VALUE_CHANNELS, LB_PART_SSM_V),            \
        LB_ROW_DELTA(LB_ROLE_SSM_A, "A_log", "blk.{b}.ssm_a", LB_RL_VALUE_NEG_EXP,             \
                     LB_SUFFIX_NONE),                                                          \
        LB_ROW_DELTA(LB_ROLE_SSM_DT, "dt_bias", "blk.{b}.ssm_dt.bias", LB_RL_VALUE_HEADS,      \
                     LB_SUFFIX_NONE),                                                          \
        LB_ROW_DELTA(LB_ROLE_SSM_OUT, "out_proj", "blk.{b}.ssm_out", LB_RL_VALUE_COLS,         \
                     LB_SUFFIX_WEIGHT)

/* A config without sections has these, for the loader. */
#define LB_KV_ROW_QWEN_SECTIONS                                                            \
    {                                                                                      \
        .op = LB_KV_SECTIONS, .key = "rope.dimension_sections", .names = "@mrope_section", \
        .fallback = "11|11|10"                                                             \
    }

#define LB_QWEN_LAYERS                                                         \
    {                                                                          \
        .list = "layer_types", .rule = "full_attention_interval", .period = 4, \
        .usual = "\"linear_attention\"", .single = "\"full_attention\""        \
    }

#define LB_QWEN_EXTRAS                         \
    {LB_EXTRA_VISION, LB_N("visual.")}, {      \
        LB_EXTRA_VISION, LB_N("vision_tower.") \
    }

/* Qwen's layers of multi-token prediction. */
#define LB_ROW_MTP_NORM(role_, hf_, gguf_) \
    LB_ROW_MTP_OF(role_, hf_, gguf_, LB_RL_ADD_ONE, LB_SUFFIX_WEIGHT, 0)
#define LB_ROWS_MTP_QWEN                                                                    \
    LB_ROW_MTP_OF(LB_ROLE_MTP, "fc", "nextn.eh_proj", LB_RL_NONE, LB_SUFFIX_WEIGHT, 0),     \
        LB_ROW_MTP_NORM(LB_ROLE_MTP, "pre_fc_norm_embedding", "nextn.enorm"),               \
        LB_ROW_MTP_NORM(LB_ROLE_MTP, "pre_fc_norm_hidden", "nextn.hnorm"),                  \
        LB_ROW_MTP_NORM(LB_ROLE_MTP, "norm", "nextn.shared_head_norm"),                     \
        LB_ROW_MTP_NORM(LB_ROLE_ATTN_NORM, "layers.{m}.input_layernorm", "attn_norm"),      \
        LB_ROW_MTP_NORM(LB_ROLE_ATTN_POST_NORM, "layers.{m}.post_attention_layernorm",      \
                        "post_attention_norm"),                                             \
        LB_ROW_MTP_NORM(LB_ROLE_ATTN_Q_NORM, "layers.{m}.self_attn.q_norm", "attn_q_norm"), \
        LB_ROW_MTP_NORM(LB_ROLE_ATTN_K_NORM, "layers.{m}.self_attn.k_norm", "attn_k_norm"), \
        LB_ROW_MTP_LAYER(LB_ROLE_ATTN_Q, "self_attn.q_proj", "attn_q", LB_WB, 0),           \
        LB_ROW_MTP_LAYER(LB_ROLE_ATTN_K, "self_attn.k_proj", "attn_k", LB_WB, 0),           \
        LB_ROW_MTP_LAYER(LB_ROLE_ATTN_V, "self_attn.v_proj", "attn_v", LB_WB, 0),           \
        LB_ROW_MTP_LAYER(LB_ROLE_ATTN_OUTPUT, "self_attn.o_proj", "attn_output", LB_WB, 0)
#define LB_ROWS_MTP_EXPERTS                                                                   \
    LB_ROW_MTP_LAYER(LB_ROLE_FFN_GATE_EXPS, "mlp.experts.{e}.gate_proj", "ffn_gate_exps",     \
                     LB_SUFFIX_WEIGHT, LB_ROW_EXPERT),                                        \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_UP_EXPS, "mlp.experts.{e}.up_proj", "ffn_up_exps",       \
                         LB_SUFFIX_WEIGHT, LB_ROW_EXPERT),                                    \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_DOWN_EXPS, "mlp.experts.{e}.down_proj", "ffn_down_exps", \
                         LB_SUFFIX_WEIGHT, LB_ROW_EXPERT)
#define LB_ROW_MTP_STACK(role_, gguf_, part_)                                               \
    {                                                                                       \
        .role = role_, .hf = LB_N("mtp.layers.{m}.mlp.experts.gate_up_proj"),               \
        .gguf = LB_N("blk.{b}." gguf_ ".weight"),                                           \
        .mlx = LB_N("mtp.layers.{m}.mlp.experts.gate_up_proj"), .suffixes = LB_SUFFIX_NONE, \
        .flags = LB_ROW_MTP | LB_ROW_OPTIONAL | LB_ROW_EXPERT, .part = {                    \
            part_,                                                                          \
            part_,                                                                          \
            LB_PART_ALL                                                                     \
        }                                                                                   \
    }
#define LB_ROWS_MTP_EXPERTS_STACKED                                              \
    LB_ROW_MTP_STACK(LB_ROLE_FFN_GATE_EXPS, "ffn_gate_exps", LB_PART_FIRST),     \
        LB_ROW_MTP_STACK(LB_ROLE_FFN_UP_EXPS, "ffn_up_exps", LB_PART_SECOND),    \
        LB_ROW_MTP_OF(LB_ROLE_FFN_DOWN_EXPS, "layers.{m}.mlp.experts.down_proj", \
                      "ffn_down_exps.weight", LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_EXPERT)
#define LB_ROWS_MTP_SHARED_EXPERT                                                                  \
    LB_ROW_MTP_LAYER(LB_ROLE_FFN_ROUTER, "mlp.gate", "ffn_gate_inp", LB_SUFFIX_WEIGHT,             \
                     LB_ROW_GGUF_F32),                                                             \
        LB_ROW_MTP_OF(LB_ROLE_FFN_SHARED_ROUTER, "layers.{m}.mlp.shared_expert_gate",              \
                      "ffn_gate_inp_shexp", LB_RL_ONE_ROW, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32),     \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_GATE_SHARED, "mlp.shared_expert.gate_proj", "ffn_gate_shexp", \
                         LB_SUFFIX_WEIGHT, 0),                                                     \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_UP_SHARED, "mlp.shared_expert.up_proj", "ffn_up_shexp",       \
                         LB_SUFFIX_WEIGHT, 0),                                                     \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_DOWN_SHARED, "mlp.shared_expert.down_proj", "ffn_down_shexp", \
                         LB_SUFFIX_WEIGHT, 0)
#define LB_KV_ROW_MTP_QWEN                                                                      \
    {                                                                                           \
        .op = LB_KV_MTP, .key = "nextn_predict_layers", .type = LB_GGUF_U32,                    \
        .names = "mtp_num_hidden_layers", .hf = "mtp_num_hidden_layers", .flags = LB_KVF_TRUTHY \
    }

#endif
