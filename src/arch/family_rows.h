/* SPDX-License-Identifier: Apache-2.0 */
/* family_rows.h: rows of tensors that many families' tables share. For family_<name>.c only. */
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

/* llama3's rope factors. */
#define LB_ROW_ROPE_FREQS                                                             \
    LB_ROW3(LB_ROLE_ROPE_FREQS, LB_N_NONE, LB_N("rope_freqs"), LB_N_NONE, LB_RL_MADE, \
            LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)

/* Rows of the one matrix that --fuse-qkv of the reference makes: read, not written. */
#define LB_ROW_QKV_PART_OF(role_, which, relayout_, suffixes_, flags_, part_)               \
    {                                                                                       \
        .role = role_, .hf = LB_N("model.layers.{b}.self_attn." which),                     \
        .gguf = LB_N("blk.{b}.attn_qkv"), .mlx = LB_N("model.layers.{b}.self_attn." which), \
        .relayout = relayout_, .suffixes = suffixes_, .flags = LB_ROW_OPTIONAL | (flags_),  \
        .part = {                                                                           \
            [LB_WORLD_GGUF] = part_                                                         \
        }                                                                                   \
    }
#define LB_ROW_QKV_PART(role_, which, relayout_, suffixes_, part_) \
    LB_ROW_QKV_PART_OF(role_, which, relayout_, suffixes_, 0, part_)
#define LB_ROWS_QKV_OF(q_relayout, k_relayout, suffixes_)                                         \
    LB_ROW(LB_ROLE_ATTN_Q, "model.layers.{b}.self_attn.q_proj", "blk.{b}.attn_q", q_relayout,     \
           suffixes_, 0),                                                                         \
        LB_ROW(LB_ROLE_ATTN_K, "model.layers.{b}.self_attn.k_proj", "blk.{b}.attn_k", k_relayout, \
               suffixes_, 0),                                                                     \
        LB_ROW(LB_ROLE_ATTN_V, "model.layers.{b}.self_attn.v_proj", "blk.{b}.attn_v", LB_RL_NONE, \
               suffixes_, 0),                                                                     \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_Q, "q_proj", q_relayout, suffixes_, LB_PART_Q),              \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_K, "k_proj", k_relayout, suffixes_, LB_PART_K),              \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_V, "v_proj", LB_RL_NONE, suffixes_, LB_PART_V)
#define LB_ROWS_QKV(q_relayout, k_relayout) LB_ROWS_QKV_OF(q_relayout, k_relayout, LB_WB)
/* suffixes: LB_SUFFIX_WEIGHT where the class has biases for q, k and v alone. */
#define LB_ROW_ATTN_OUTPUT(suffixes)                                                        \
    LB_ROW(LB_ROLE_ATTN_OUTPUT, "model.layers.{b}.self_attn.o_proj", "blk.{b}.attn_output", \
           LB_RL_NONE, suffixes, 0)
#define LB_ROWS_ATTN_OF(q_relayout, k_relayout, suffixes_) \
    LB_ROWS_QKV_OF(q_relayout, k_relayout, suffixes_), LB_ROW_ATTN_OUTPUT(suffixes_)
#define LB_ROWS_ATTN(q_relayout, k_relayout) LB_ROWS_ATTN_OF(q_relayout, k_relayout, LB_WB)

#define LB_ROW_Q_NORM(relayout)                                                                  \
    LB_ROW_NORM(LB_ROLE_ATTN_Q_NORM, "model.layers.{b}.self_attn.q_norm", "blk.{b}.attn_q_norm", \
                relayout)
#define LB_ROW_K_NORM(relayout)                                                                  \
    LB_ROW_NORM(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm", "blk.{b}.attn_k_norm", \
                relayout)

/* Norms behind the attention and the feed-forward. */
#define LB_ROW_ATTN_POST_NORM(relayout)                                              \
    LB_ROW_NORM(LB_ROLE_ATTN_POST_NORM, "model.layers.{b}.post_attention_layernorm", \
                "blk.{b}.post_attention_norm", relayout)
#define LB_ROW_FFN_POST_NORM(relayout)                                                \
    LB_ROW_NORM(LB_ROLE_FFN_POST_NORM, "model.layers.{b}.post_feedforward_layernorm", \
                "blk.{b}.post_ffw_norm", relayout)

#define LB_ROWS_FFN LB_ROWS_FFN_OR(0)
/* flags: LB_ROW_OPTIONAL where some layers have experts instead. */
#define LB_ROWS_FFN_OR(flags_) LB_ROWS_FFN_OF(LB_WB, flags_)
#define LB_ROWS_FFN_OF(suffixes_, flags_)                                                          \
    LB_ROW(LB_ROLE_FFN_GATE, "model.layers.{b}.mlp.gate_proj", "blk.{b}.ffn_gate", LB_RL_NONE,     \
           suffixes_, flags_),                                                                     \
        LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.mlp.up_proj", "blk.{b}.ffn_up", LB_RL_NONE,       \
               suffixes_, flags_),                                                                 \
        LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.mlp.down_proj", "blk.{b}.ffn_down", LB_RL_NONE, \
               suffixes_, flags_)

/* Gate over up in one matrix, in every world. */
#define LB_ROWS_FFN_FUSED                                                                          \
    LB_ROW(LB_ROLE_FFN_UP, "model.layers.{b}.mlp.gate_up_proj", "blk.{b}.ffn_up", LB_RL_NONE,      \
           LB_SUFFIX_WEIGHT, 0),                                                                   \
        LB_ROW(LB_ROLE_FFN_DOWN, "model.layers.{b}.mlp.down_proj", "blk.{b}.ffn_down", LB_RL_NONE, \
               LB_SUFFIX_WEIGHT, 0)

/* Factors that the config holds in HF and MLX. */
#define LB_ROWS_LONGROPE                                                                          \
    LB_ROW3(LB_ROLE_ROPE_LONG, LB_N_NONE, LB_N("rope_factors_long"), LB_N_NONE, LB_RL_MADE,       \
            LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),                                                   \
        LB_ROW3(LB_ROLE_ROPE_SHORT, LB_N_NONE, LB_N("rope_factors_short"), LB_N_NONE, LB_RL_MADE, \
                LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)

/* A router, and experts that Hugging Face's checkpoints keep one by one ("experts.{e}"); mlx-lm
 * stacks them. prefix: the module, without the dot before it ("mlp"). */
#define LB_ROWS_EXPERTS_AS(prefix, gate, up, down) LB_ROWS_EXPERTS_FLAGS(prefix, gate, up, down, 0)
#define LB_ROWS_EXPERTS_FLAGS(prefix, gate, up, down, flags_)                                 \
    LB_ROW3(LB_ROLE_FFN_GATE_EXPS, LB_N("model.layers.{b}." prefix ".experts.{e}." gate),     \
            LB_N("blk.{b}.ffn_gate_exps"),                                                    \
            LB_N("model.layers.{b}." prefix ".switch_mlp.gate_proj"), LB_RL_NONE,             \
            LB_SUFFIX_WEIGHT, LB_ROW_EXPERT | (flags_)),                                      \
        LB_ROW3(LB_ROLE_FFN_UP_EXPS, LB_N("model.layers.{b}." prefix ".experts.{e}." up),     \
                LB_N("blk.{b}.ffn_up_exps"),                                                  \
                LB_N("model.layers.{b}." prefix ".switch_mlp.up_proj"), LB_RL_NONE,           \
                LB_SUFFIX_WEIGHT, LB_ROW_EXPERT | (flags_)),                                  \
        LB_ROW3(LB_ROLE_FFN_DOWN_EXPS, LB_N("model.layers.{b}." prefix ".experts.{e}." down), \
                LB_N("blk.{b}.ffn_down_exps"),                                                \
                LB_N("model.layers.{b}." prefix ".switch_mlp.down_proj"), LB_RL_NONE,         \
                LB_SUFFIX_WEIGHT, LB_ROW_EXPERT | (flags_))
#define LB_ROWS_EXPERTS(prefix) LB_ROWS_EXPERTS_OF(prefix, 0)
/* flags: LB_ROW_OPTIONAL where another form comes first. */
#define LB_ROWS_EXPERTS_OF(prefix, flags_) \
    LB_ROWS_EXPERTS_FLAGS(prefix, "gate_proj", "up_proj", "down_proj", flags_)
/* The same experts stacked, gate over up, as transformers 5 holds them in memory. */
#define LB_ROWS_EXPERTS_STACKED(prefix) LB_ROWS_EXPERTS_STACKED_OF(prefix, LB_ROW_OPTIONAL)
#define LB_ROWS_EXPERTS_STACKED_OF(prefix, flags_) \
    LB_ROWS_EXPERTS_STACKED_AS(prefix, prefix, flags_)
#define LB_ROWS_EXPERTS_STACKED_AS(prefix, mlx_prefix, flags_)                                   \
    {.role = LB_ROLE_FFN_GATE_EXPS,                                                              \
     .hf = LB_N("model.layers.{b}." prefix ".experts.gate_up_proj"),                             \
     .gguf = LB_N("blk.{b}.ffn_gate_exps.weight"),                                               \
     .mlx = LB_N("model.layers.{b}." mlx_prefix ".switch_mlp.gate_proj.weight"),                 \
     .suffixes = LB_SUFFIX_NONE,                                                                 \
     .flags = LB_ROW_EXPERT | (flags_),                                                          \
     .part = {LB_PART_FIRST, LB_PART_ALL, LB_PART_ALL}},                                         \
        {.role = LB_ROLE_FFN_UP_EXPS,                                                            \
         .hf = LB_N("model.layers.{b}." prefix ".experts.gate_up_proj"),                         \
         .gguf = LB_N("blk.{b}.ffn_up_exps.weight"),                                             \
         .mlx = LB_N("model.layers.{b}." mlx_prefix ".switch_mlp.up_proj.weight"),               \
         .suffixes = LB_SUFFIX_NONE,                                                             \
         .flags = LB_ROW_EXPERT | (flags_),                                                      \
         .part = {LB_PART_SECOND, LB_PART_ALL, LB_PART_ALL}},                                    \
        LB_ROW3(LB_ROLE_FFN_DOWN_EXPS, LB_N("model.layers.{b}." prefix ".experts.down_proj"),    \
                LB_N("blk.{b}.ffn_down_exps.weight"),                                            \
                LB_N("model.layers.{b}." mlx_prefix ".switch_mlp.down_proj.weight"), LB_RL_NONE, \
                LB_SUFFIX_NONE, LB_ROW_EXPERT | (flags_))
#define LB_ROW_ROUTER(hf_) LB_ROW_ROUTER_OF(hf_, 0)
#define LB_ROW_ROUTER_OF(hf_, flags_)                                                     \
    LB_ROW(LB_ROLE_FFN_ROUTER, hf_, "blk.{b}.ffn_gate_inp", LB_RL_NONE, LB_SUFFIX_WEIGHT, \
           LB_ROW_GGUF_F32 | (flags_))
/* The same under the name that it has in transformers 5's memory. */
#define LB_ROW_ROUTER_ALSO(hf_, mlx_)                                                            \
    LB_ROW3(LB_ROLE_FFN_ROUTER, LB_N(hf_), LB_N("blk.{b}.ffn_gate_inp"), LB_N(mlx_), LB_RL_NONE, \
            LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32 | LB_ROW_OPTIONAL)

/* What stands before and after the layers, in GGUF's order. */
#define LB_ROW_TOKEN_EMBD                                                                        \
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT, \
           LB_ROW_GGUF_TQ_F16)
#define LB_ROWS_ENDS                                                         \
    LB_ROW_TOKEN_EMBD,                                                       \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_WB,       \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL), \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE)

/* Two norms a layer, rotary positions: what most families are. _OF: with the rows of attention. */
#define LB_ROWS_TWO_NORMS_OF(...)                                                               \
    LB_ROWS_ENDS,                                                                               \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", \
                    LB_RL_NONE),                                                                \
        __VA_ARGS__,                                                                            \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.post_attention_layernorm",              \
                    "blk.{b}.ffn_norm", LB_RL_NONE),                                            \
        LB_ROWS_INV_FREQ, LB_ROW_ROPE_FREQS
#define LB_ROWS_TWO_NORMS(q_relayout, k_relayout) \
    LB_ROWS_TWO_NORMS_OF(LB_ROWS_ATTN(q_relayout, k_relayout))
/* ... with a gated feed-forward in every layer. */
#define LB_ROWS_LLAMA(q_relayout, k_relayout) LB_ROWS_TWO_NORMS(q_relayout, k_relayout), LB_ROWS_FFN

/* Gemma 1 and 2, as far as the first norm of a layer: the head is the embedding, which GGUF has
 * once; norms are stored as w - 1. */
#define LB_ROWS_GEMMA_ENDS                                                                      \
    LB_ROW_TOKEN_EMBD,                                                                          \
        LB_ROW3(LB_ROLE_OUTPUT, LB_N("lm_head"), LB_N_NONE, LB_N("lm_head"), LB_RL_NONE,        \
                LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),                                             \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_ADD_ONE),           \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm", \
                    LB_RL_ADD_ONE)

#include "arch/family_keys.h"

#endif
