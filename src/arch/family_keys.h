/* SPDX-License-Identifier: Apache-2.0 */
/* family_keys.h: rows of metadata that many families' tables share. For family_<name>.c only, by
 * way of family_rows.h. */
#ifndef LB_ARCH_FAMILY_KEYS_H
#define LB_ARCH_FAMILY_KEYS_H

#include "arch/arch_internal.h"

#define LB_KV_ROWS_LLAMA                                                          \
    {.key = "vocab_size",                                                         \
     .type = LB_GGUF_U32,                                                         \
     .names = "vocab_size",                                                       \
     .flags = LB_KVF_REQUIRED | LB_KVF_NO_BACK},                                  \
    {                                                                             \
        .op = LB_KV_HEAD_DIM, .key = "rope.dimension_count", .type = LB_GGUF_U32, \
        .names = "head_dim"                                                       \
    }

/* A sliding window that the GGUF of the architecture cannot say; `value`: as if there were none.
 * The layers that have it: LB_KV_RUN_WINDOW. */
#define LB_KV_ROW_RUN_WINDOW(used, layers, below)                                       \
    {                                                                                   \
        .op = LB_KV_RUN_WINDOW, .key = "attention.sliding_window", .type = LB_GGUF_U32, \
        .names = "sliding_window", .fallback = layers, .absent = below, .of = used      \
    }
#define LB_KV_ROWS_NO_WINDOW(key_, value, used, layers, below)                  \
    {.op = LB_KV_ONLY,                                                          \
     .names = key_,                                                             \
     .fallback = value,                                                         \
     .hf = "the GGUF has no sliding window, its readers attend to every token", \
     .flags = LB_KVF_SAID},                                                     \
        LB_KV_ROW_RUN_WINDOW(used, layers, below)
#define LB_KV_ROWS_WINDOW_ALL LB_KV_ROWS_NO_WINDOW("sliding_window", "null", NULL, NULL, NULL)
#define LB_KV_ROWS_WINDOW_USED(layers, below) \
    LB_KV_ROWS_NO_WINDOW("use_sliding_window", "false", "use_sliding_window", layers, below)

/* The scale of attention, which readers of gemma's GGUF take from the sizes of heads. */
#define LB_KV_ROW_QUERY_SCALE                                                 \
    {                                                                         \
        .op = LB_KV_RUN_SCALE, .key = "attention.scale", .type = LB_GGUF_F32, \
        .names = "query_pre_attn_scalar"                                      \
    }

/* The weights of the experts that are chosen made to sum to 1, or not: llama.cpp has one of the two
 * for these architectures, and their GGUF no key. */
#define LB_KV_ROWS_NORM_TOPK(value)                                          \
    {.op = LB_KV_ONLY,                                                       \
     .names = "norm_topk_prob",                                              \
     .fallback = value,                                                      \
     .hf = "llama.cpp computes this architecture as if it were",             \
     .flags = LB_KVF_SAID},                                                  \
    {                                                                        \
        .op = LB_KV_RUN, .key = "expert_weights_norm", .type = LB_GGUF_BOOL, \
        .names = "norm_topk_prob"                                            \
    }

/* Qwen's layers without experts, which neither the reference nor llama.cpp has in GGUF. */
#define LB_KV_ROWS_SPARSE                                                                        \
    {.op = LB_KV_REFUSE,                                                                         \
     .names = "mlp_only_layers",                                                                 \
     .hf = "GGUF has no form for layers without experts in this architecture",                   \
     .flags = LB_KVF_TRUTHY | LB_KVF_RUNS},                                                      \
    {                                                                                            \
        .op = LB_KV_REFUSE, .names = "decoder_sparse_step", .unless_one = "decoder_sparse_step", \
        .hf = "GGUF has no form for layers without experts in this architecture",                \
        .flags = LB_KVF_RUNS                                                                     \
    }

/* A rope base that the reference does not write for the family, though llama.cpp's loader asks
 * every family for it (src/llama-model.cpp). */
#define LB_KV_ROW_OTHER_THETA                                                                      \
    {                                                                                              \
        .key = "rope.freq_base", .type = LB_GGUF_F32, .names = "@rope_theta", .fallback = "10000", \
        .flags = LB_KVF_OTHER                                                                      \
    }

/* Gemma 1 and 2: the keys that the reference writes itself, and what GGUF cannot say. */
#define LB_KV_ROWS_GEMMA                                                       \
    {.key = "context_length",                                                  \
     .type = LB_GGUF_U32,                                                      \
     .names = "max_position_embeddings",                                       \
     .flags = LB_KVF_REQUIRED},                                                \
        {.key = "embedding_length",                                            \
         .type = LB_GGUF_U32,                                                  \
         .names = "hidden_size",                                               \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "block_count",                                                 \
         .type = LB_GGUF_U32,                                                  \
         .names = "num_hidden_layers",                                         \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "feed_forward_length",                                         \
         .type = LB_GGUF_U32,                                                  \
         .names = "intermediate_size",                                         \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "attention.head_count",                                        \
         .type = LB_GGUF_U32,                                                  \
         .names = "num_attention_heads",                                       \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "attention.head_count_kv",                                     \
         .type = LB_GGUF_U32,                                                  \
         .names = "num_key_value_heads|num_attention_heads",                   \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "attention.layer_norm_rms_epsilon",                            \
         .type = LB_GGUF_F32,                                                  \
         .names = "rms_norm_eps",                                              \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "attention.key_length",                                        \
         .type = LB_GGUF_U32,                                                  \
         .names = "head_dim",                                                  \
         .flags = LB_KVF_REQUIRED},                                            \
        {.key = "attention.value_length",                                      \
         .type = LB_GGUF_U32,                                                  \
         .names = "head_dim",                                                  \
         .flags = LB_KVF_REQUIRED},                                            \
    {                                                                          \
        .op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32 \
    }
#define LB_KV_ROWS_GEMMA_ONLY(name)                                           \
    LB_KV_ROW_OTHER_THETA,                                                    \
        {.op = LB_KV_ROPE_ONLY,                                               \
         .names = "@rope_type",                                               \
         .fallback = "default",                                               \
         .hf = "the GGUF of " name " carries no rope scaling"},               \
    {                                                                         \
        .op = LB_KV_ONLY, .names = "tie_word_embeddings", .fallback = "true", \
        .hf = "the GGUF of " name " has no output matrix"                     \
    }

#define LB_KV_ROW_NO_HEAD_DIM                                                                      \
    {.op = LB_KV_REFUSE,                                                                           \
     .names = "head_dim",                                                                          \
     .hf = "heads whose size is not hidden size / heads have no form in this GGUF",                \
     .flags = LB_KVF_RUNS},                                                                        \
        {.op = LB_KV_RUN,                                                                          \
         .key = "attention.key_length",                                                            \
         .type = LB_GGUF_U32,                                                                      \
         .names = "head_dim"},                                                                     \
    {                                                                                              \
        .op = LB_KV_RUN, .key = "attention.value_length", .type = LB_GGUF_U32, .names = "head_dim" \
    }

/* Phi 3 and its relatives write all their keys themselves. orig: the config's key of the length
 * before longrope; NULL where it stands in the rope scaling. */
#define LB_KV_ROWS_PHI3(orig)                                                            \
    {.key = "rope.scaling.attn_factor", .op = LB_KV_ROPE_MSCALE, .flags = LB_KVF_FIRST}, \
        {.key = "context_length",                                                        \
         .type = LB_GGUF_U32,                                                            \
         .names = "n_positions|max_position_embeddings",                                 \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "rope.scaling.original_context_length",                                  \
         .type = LB_GGUF_U32,                                                            \
         .names = "@original_max_position_embeddings",                                   \
         .hf = orig},                                                                    \
        {.key = "embedding_length",                                                      \
         .type = LB_GGUF_U32,                                                            \
         .names = "hidden_size|n_embd",                                                  \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "feed_forward_length",                                                   \
         .type = LB_GGUF_U32,                                                            \
         .names = "intermediate_size",                                                   \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "block_count",                                                           \
         .type = LB_GGUF_U32,                                                            \
         .names = "n_layers|num_hidden_layers|n_layer|num_layers",                       \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "attention.head_count",                                                  \
         .type = LB_GGUF_U32,                                                            \
         .names = "num_attention_heads|n_head",                                          \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "attention.head_count_kv",                                               \
         .type = LB_GGUF_U32,                                                            \
         .names = "num_key_value_heads|n_head_kv",                                       \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "attention.layer_norm_rms_epsilon",                                      \
         .type = LB_GGUF_F32,                                                            \
         .names = "rms_norm_eps",                                                        \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.key = "rope.dimension_count",                                                  \
         .op = LB_KV_ROPE_DIMS,                                                          \
         .names = "@partial_rotary_factor",                                              \
         .fallback = "1.0"},                                                             \
        {.key = "rope.freq_base",                                                        \
         .type = LB_GGUF_F32,                                                            \
         .names = "@rope_theta",                                                         \
         .flags = LB_KVF_REQUIRED},                                                      \
        {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},        \
        {.key = "attention.sliding_window",                                              \
         .type = LB_GGUF_U32,                                                            \
         .names = "sliding_window",                                                      \
         .hf = "sliding_window",                                                         \
         .flags = LB_KVF_ZERO_NULL},                                                     \
        {.op = LB_KV_ONLY,                                                               \
         .names = "@rope_type",                                                          \
         .fallback = "default|longrope",                                                 \
         .hf = "the class and its GGUF know no other rope scaling"},                     \
        LB_KV_ROW_NO_HEAD_DIM

/* Granite's four factors. absent: what a config without embedding_multiplier and
 * residual_multiplier means, or NULL. */
#define LB_KV_ROWS_GRANITE(absent_)                                           \
    {.key = "attention.scale",                                                \
     .type = LB_GGUF_F32,                                                     \
     .names = "attention_multiplier",                                         \
     .hf = "attention_multiplier",                                            \
     .flags = LB_KVF_TRUTHY},                                                 \
        {.key = "embedding_scale",                                            \
         .type = LB_GGUF_F32,                                                 \
         .names = "embedding_multiplier",                                     \
         .hf = "embedding_multiplier",                                        \
         .absent = absent_,                                                   \
         .flags = LB_KVF_TRUTHY},                                             \
        {.key = "residual_scale",                                             \
         .type = LB_GGUF_F32,                                                 \
         .names = "residual_multiplier",                                      \
         .hf = "residual_multiplier",                                         \
         .absent = absent_,                                                   \
         .flags = LB_KVF_TRUTHY},                                             \
    {                                                                         \
        .key = "logit_scale", .type = LB_GGUF_F32, .names = "logits_scaling", \
        .hf = "logits_scaling", .flags = LB_KVF_TRUTHY                        \
    }

/* For families whose own rows do not write these keys back. hf_: the config's number of experts. */
#define LB_KV_ROWS_EXPERT_COUNTS(hf_)                                             \
    {.op = LB_KV_BACK, .key = "expert_count", .hf = hf_}, {                       \
        .op = LB_KV_BACK, .key = "expert_used_count", .hf = "num_experts_per_tok" \
    }

#define LB_KV_ROWS_POOLING \
    { .op = LB_KV_POOLING, .key = "pooling_type", .type = LB_GGUF_U32 }

#endif
