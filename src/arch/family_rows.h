/* SPDX-License-Identifier: Apache-2.0 */
/* family_rows.h: rows that many families' tables share. For family_<name>.c only. */
#ifndef LB_ARCH_FAMILY_ROWS_H
#define LB_ARCH_FAMILY_ROWS_H

#include "arch/arch_internal.h"

#define LB_WB (LB_SUFFIX_WEIGHT | LB_SUFFIX_BIAS)

/* Fields that a row leaves out are 0: LB_PART_ALL, LB_RL_NONE. LB_ROW: the same name in HF and MLX.
 */
#define LB_ROW3(role_, hf_, gguf_, mlx_, relayout_, suffixes_, flags_)               \
    {                                                                                \
        .role = role_, .hf = hf_, .gguf = gguf_, .mlx = mlx_, .relayout = relayout_, \
        .suffixes = suffixes_, .flags = flags_                                       \
    }
#define LB_ROW(role_, hf_, gguf_, relayout_, suffixes_, flags_) \
    LB_ROW3(role_, LB_N(hf_), LB_N(gguf_), LB_N(hf_), relayout_, suffixes_, flags_)
#define LB_ROW_NORM(role_, hf_, gguf_, relayout_) \
    LB_ROW(role_, hf_, gguf_, relayout_, LB_SUFFIX_WEIGHT, 0)

/* Rotary frequencies that old checkpoints store; every reader recomputes them. */
#define LB_ROWS_INV_FREQ                                                                        \
    LB_ROW3(LB_ROLE_DROPPED, LB_N("model.layers.{b}.self_attn.rotary_emb.inv_freq"), LB_N_NONE, \
            LB_N_NONE, LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_OPTIONAL),                            \
        LB_ROW3(LB_ROLE_DROPPED, LB_N("model.rotary_emb.inv_freq"), LB_N_NONE, LB_N_NONE,       \
                LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_OPTIONAL)

#define LB_ROWS_ATTN(q_relayout, k_relayout)                                                      \
    LB_ROW(LB_ROLE_ATTN_Q, "model.layers.{b}.self_attn.q_proj", "blk.{b}.attn_q", q_relayout,     \
           LB_WB, 0),                                                                             \
        LB_ROW(LB_ROLE_ATTN_K, "model.layers.{b}.self_attn.k_proj", "blk.{b}.attn_k", k_relayout, \
               LB_WB, 0),                                                                         \
        LB_ROW(LB_ROLE_ATTN_V, "model.layers.{b}.self_attn.v_proj", "blk.{b}.attn_v", LB_RL_NONE, \
               LB_WB, 0),                                                                         \
        LB_ROW(LB_ROLE_ATTN_OUTPUT, "model.layers.{b}.self_attn.o_proj", "blk.{b}.attn_output",   \
               LB_RL_NONE, LB_WB, 0)

#define LB_ROW_Q_NORM(relayout)                                                                  \
    LB_ROW_NORM(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.q_norm", "blk.{b}.attn_q_norm", \
                relayout)
#define LB_ROW_K_NORM(relayout)                                                                  \
    LB_ROW_NORM(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm", "blk.{b}.attn_k_norm", \
                relayout)

#define LB_ROWS_FFN                                                                                \
    LB_ROW(LB_ROLE_FFN_GATE, "model.layers.{b}.mlp.gate_proj", "blk.{b}.ffn_gate", LB_RL_NONE,     \
           LB_WB, 0),                                                                              \
        LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.mlp.up_proj", "blk.{b}.ffn_up", LB_RL_NONE,       \
               LB_WB, 0),                                                                          \
        LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.mlp.down_proj", "blk.{b}.ffn_down", LB_RL_NONE, \
               LB_WB, 0)

/* Two norms a layer, gated feed-forward, rotary positions: what most families are. */
#define LB_ROWS_LLAMA(q_relayout, k_relayout)                                                    \
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT, \
           LB_ROW_GGUF_TQ_F16),                                                                  \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,                           \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),                     \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),               \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",  \
                    LB_RL_NONE),                                                                 \
        LB_ROWS_ATTN(q_relayout, k_relayout),                                                    \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm",               \
                    "blk.{b}.ffn_norm", LB_RL_NONE),                                             \
        LB_ROWS_FFN, LB_ROWS_INV_FREQ,                                                           \
        LB_ROW3(LB_ROLE_ROPE_FREQS, LB_N_NONE, LB_N("rope_freqs"), LB_N_NONE, LB_RL_MADE,        \
                LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)

#define LB_KV_ROWS_LLAMA                                                          \
    {.key = "vocab_size",                                                         \
     .type = LB_GGUF_U32,                                                         \
     .names = "vocab_size",                                                       \
     .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},                                  \
    {                                                                             \
        .op = LB_KV_HEAD_DIM, .key = "rope.dimension_count", .type = LB_GGUF_U32, \
        .names = "head_dim"                                                       \
    }

#define LB_KV_ROWS_POOLING \
    { .op = LB_KV_POOLING, .key = "pooling_type", .type = LB_GGUF_U32 }

#endif
