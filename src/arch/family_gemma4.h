/* SPDX-License-Identifier: Apache-2.0 */
/* family_gemma4.h: what Gemma 4's two classes share: heads of another size in layers of full
 * attention, whose values may be the keys; the last layers use the keys of earlier ones; embeddings
 * for every layer; experts beside a dense feed-forward. For their tables only. */
#ifndef LB_ARCH_FAMILY_GEMMA4_H
#define LB_ARCH_FAMILY_GEMMA4_H

#include "arch/family_rows.h"

/* With its suffix in GGUF, without in the others. */
#define LB_GEMMA4_ROW_BARE(role_, hf_, gguf_) \
    LB_ROW3(role_, LB_N(hf_), LB_N(gguf_), LB_N(hf_), LB_RL_NONE, LB_SUFFIX_NONE, LB_ROW_OPTIONAL)
#define LB_GEMMA4_ROW_NORM_OR(role_, hf_, gguf_) \
    LB_ROW(role_, hf_, gguf_, LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)
#define LB_GEMMA4_ROW_MATRIX_OR(role_, hf_, gguf_) \
    LB_ROW(role_, hf_, gguf_, LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)
#define LB_GEMMA4_ROW_EXPERTS(role_, name_, mlx_, part_)                                \
    {                                                                                   \
        .role = role_, .hf = LB_N("model.layers.{b}.experts." name_),                   \
        .gguf = LB_N("blk.{b}.ffn_gate_up_exps.weight"),                                \
        .mlx = LB_N("model.layers.{b}.experts.switch_glu." mlx_ ".weight"),             \
        .suffixes = LB_SUFFIX_NONE, .flags = LB_ROW_EXPERT | LB_ROW_OPTIONAL, .part = { \
            part_,                                                                      \
            LB_PART_ALL,                                                                \
            part_                                                                       \
        }                                                                               \
    }

#define LB_ROWS_GEMMA4                                                                             \
    LB_ROW(LB_ROLE_TOKEN_EMBD, "model.embed_tokens", "token_embd", LB_RL_NONE, LB_SUFFIX_WEIGHT,   \
           LB_ROW_GGUF_TQ_F16 | LB_ROW_CUT_VOCAB),                                                 \
        LB_ROW(LB_ROLE_OUTPUT, "lm_head", "output", LB_RL_NONE, LB_SUFFIX_WEIGHT,                  \
               LB_ROW_GGUF_TQ_F16 | LB_ROW_MLX_DROP_TIED | LB_ROW_OPTIONAL),                       \
        LB_ROW_NORM(LB_ROLE_OUTPUT_NORM, "model.norm", "output_norm", LB_RL_NONE),                 \
        LB_ROW(LB_ROLE_LAYER_EMBD, "model.embed_tokens_per_layer", "per_layer_token_embd",         \
               LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_TQ_F16 | LB_ROW_OPTIONAL),                \
        LB_GEMMA4_ROW_MATRIX_OR(LB_ROLE_LAYER_EMBD_PROJ, "model.per_layer_model_projection",       \
                                "per_layer_model_proj"),                                           \
        LB_GEMMA4_ROW_NORM_OR(LB_ROLE_LAYER_EMBD_NORM, "model.per_layer_projection_norm",          \
                              "per_layer_proj_norm"),                                              \
        LB_ROW_NORM(LB_ROLE_ATTN_NORM, "model.layers.{b}.input_layernorm", "blk.{b}.attn_norm",    \
                    LB_RL_NONE),                                                                   \
        LB_ROW(LB_ROLE_ATTN_Q, "model.layers.{b}.self_attn.q_proj", "blk.{b}.attn_q", LB_RL_NONE,  \
               LB_WB, 0),                                                                          \
        LB_ROW(LB_ROLE_ATTN_K, "model.layers.{b}.self_attn.k_proj", "blk.{b}.attn_k", LB_RL_NONE,  \
               LB_WB, LB_ROW_OWN_KV),                                                              \
        LB_ROW(LB_ROLE_ATTN_V, "model.layers.{b}.self_attn.v_proj", "blk.{b}.attn_v", LB_RL_NONE,  \
               LB_WB, LB_ROW_OWN_KV | LB_ROW_OPTIONAL),                                            \
        LB_ROW_QKV_PART(LB_ROLE_ATTN_Q, "q_proj", LB_RL_NONE, LB_WB, LB_PART_Q),                   \
        LB_ROW_QKV_PART_OF(LB_ROLE_ATTN_K, "k_proj", LB_RL_NONE, LB_WB, LB_ROW_OWN_KV, LB_PART_K), \
        LB_ROW_QKV_PART_OF(LB_ROLE_ATTN_V, "v_proj", LB_RL_NONE, LB_WB, LB_ROW_OWN_KV, LB_PART_V), \
        LB_ROW(LB_ROLE_ATTN_OUTPUT, "model.layers.{b}.self_attn.o_proj", "blk.{b}.attn_output",    \
               LB_RL_NONE, LB_WB, 0),                                                              \
        LB_ROW_Q_NORM(LB_RL_NONE),                                                                 \
        LB_ROW(LB_ROLE_ATTN_K_NORM, "model.layers.{b}.self_attn.k_norm", "blk.{b}.attn_k_norm",    \
               LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OWN_KV),                                       \
        LB_ROW_ATTN_POST_NORM(LB_RL_NONE),                                                         \
        LB_ROW_NORM(LB_ROLE_FFN_NORM, "model.layers.{b}.pre_feedforward_layernorm",                \
                    "blk.{b}.ffn_norm", LB_RL_NONE),                                               \
        LB_ROWS_FFN, LB_ROW_FFN_POST_NORM(LB_RL_NONE),                                             \
        LB_GEMMA4_ROW_NORM_OR(LB_ROLE_FFN_POST_NORM_DENSE,                                         \
                              "model.layers.{b}.post_feedforward_layernorm_1",                     \
                              "blk.{b}.post_ffw_norm_1"),                                          \
        LB_GEMMA4_ROW_NORM_OR(LB_ROLE_FFN_NORM_EXPS,                                               \
                              "model.layers.{b}.pre_feedforward_layernorm_2",                      \
                              "blk.{b}.pre_ffw_norm_2"),                                           \
        LB_GEMMA4_ROW_NORM_OR(LB_ROLE_FFN_POST_NORM_EXPS,                                          \
                              "model.layers.{b}.post_feedforward_layernorm_2",                     \
                              "blk.{b}.post_ffw_norm_2"),                                          \
        LB_ROW(LB_ROLE_FFN_ROUTER, "model.layers.{b}.router.proj", "blk.{b}.ffn_gate_inp",         \
               LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_GGUF_F32 | LB_ROW_OPTIONAL),                   \
        LB_GEMMA4_ROW_BARE(LB_ROLE_FFN_ROUTER_SCALE, "model.layers.{b}.router.scale",              \
                           "blk.{b}.ffn_gate_inp.scale"),                                          \
        LB_GEMMA4_ROW_EXPERTS(LB_ROLE_FFN_GATE_EXPS, "gate_up_proj", "gate_proj", LB_PART_FIRST),  \
        LB_GEMMA4_ROW_EXPERTS(LB_ROLE_FFN_UP_EXPS, "gate_up_proj", "up_proj", LB_PART_SECOND),     \
        LB_ROW3(LB_ROLE_FFN_DOWN_EXPS, LB_N("model.layers.{b}.experts.down_proj"),                 \
                LB_N("blk.{b}.ffn_down_exps.weight"),                                              \
                LB_N("model.layers.{b}.experts.switch_glu.down_proj.weight"), LB_RL_NONE,          \
                LB_SUFFIX_NONE, LB_ROW_EXPERT | LB_ROW_OPTIONAL),                                  \
        LB_GEMMA4_ROW_BARE(LB_ROLE_FFN_EXPS_SCALE, "model.layers.{b}.router.per_expert_scale",     \
                           "blk.{b}.ffn_down_exps.scale"),                                         \
        LB_GEMMA4_ROW_MATRIX_OR(LB_ROLE_LAYER_IN_GATE, "model.layers.{b}.per_layer_input_gate",    \
                                "blk.{b}.inp_gate"),                                               \
        LB_GEMMA4_ROW_MATRIX_OR(LB_ROLE_LAYER_IN_PROJ, "model.layers.{b}.per_layer_projection",    \
                                "blk.{b}.proj"),                                                   \
        LB_GEMMA4_ROW_NORM_OR(LB_ROLE_LAYER_IN_NORM, "model.layers.{b}.post_per_layer_input_norm", \
                              "blk.{b}.post_norm"),                                                \
        LB_GEMMA4_ROW_BARE(LB_ROLE_LAYER_SCALE, "model.layers.{b}.layer_scalar",                   \
                           "blk.{b}.layer_output_scale.weight"),                                   \
        LB_ROWS_INV_FREQ,                                                                          \
        LB_ROW3(LB_ROLE_ROPE_FREQS, LB_N_NONE, LB_N("rope_freqs"), LB_N_NONE, LB_RL_MADE,          \
                LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)

#define LB_GEMMA4_KEY(key_, type_, names_) \
    { .key = key_, .type = type_, .names = names_, .hf = names_ }
/* Gemma 3's rows of the reference, then Gemma 4's. */
#define LB_KV_ROWS_GEMMA4                                                                         \
    {.op = LB_KV_LAYERS, .names = "per_layer_config"},                                            \
        {.op = LB_KV_REFUSE,                                                                      \
         .names = "attn_logit_softcapping",                                                       \
         .hf = "gemma4 with attn_logit_softcapping has no form in GGUF"},                         \
        {.key = "final_logit_softcapping",                                                        \
         .type = LB_GGUF_F32,                                                                     \
         .names = "final_logit_softcapping",                                                      \
         .hf = "final_logit_softcapping",                                                         \
         .absent = "null",                                                                        \
         .flags = LB_KVF_TRUTHY},                                                                 \
        LB_GEMMA4_KEY("attention.sliding_window", LB_GGUF_U32, "sliding_window"),                 \
        {.key = "attention.shared_kv_layers",                                                     \
         .type = LB_GGUF_U32,                                                                     \
         .names = "num_kv_shared_layers",                                                         \
         .hf = "num_kv_shared_layers",                                                            \
         .absent = "0",                                                                           \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "embedding_length_per_layer_input",                                               \
         .type = LB_GGUF_U32,                                                                     \
         .names = "hidden_size_per_layer_input",                                                  \
         .hf = "hidden_size_per_layer_input",                                                     \
         .absent = "0",                                                                           \
         .fallback = "0"},                                                                        \
        {.op = LB_KV_SLIDING, .key = "attention.sliding_window_pattern", .names = "layer_types"}, \
        {.key = "attention.key_length",                                                           \
         .type = LB_GGUF_U32,                                                                     \
         .names = "global_head_dim",                                                              \
         .hf = "global_head_dim",                                                                 \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "attention.value_length",                                                         \
         .type = LB_GGUF_U32,                                                                     \
         .names = "global_head_dim",                                                              \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "attention.key_length_swa",                                                       \
         .type = LB_GGUF_U32,                                                                     \
         .names = "head_dim",                                                                     \
         .hf = "head_dim",                                                                        \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "attention.value_length_swa",                                                     \
         .type = LB_GGUF_U32,                                                                     \
         .names = "head_dim",                                                                     \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "expert_feed_forward_length",                                                     \
         .type = LB_GGUF_U32,                                                                     \
         .names = "expert_intermediate_size|moe_intermediate_size",                               \
         .hf = "moe_intermediate_size"},                                                          \
        {.op = LB_KV_WIDE_FFN, .key = "feed_forward_length", .names = "use_double_wide_mlp"},     \
        {.op = LB_KV_KV_HEADS,                                                                    \
         .key = "attention.head_count_kv",                                                        \
         .names = "num_global_key_value_heads"},                                                  \
        {.key = "rope.dimension_count",                                                           \
         .type = LB_GGUF_U32,                                                                     \
         .names = "global_head_dim",                                                              \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.key = "rope.dimension_count_swa",                                                       \
         .type = LB_GGUF_U32,                                                                     \
         .names = "head_dim",                                                                     \
         .flags = LB_KVF_REQUIRED},                                                               \
        {.op = LB_KV_ONLY,                                                                        \
         .names = "@rope_type",                                                                   \
         .fallback = "proportional",                                                              \
         .hf = "the GGUF of gemma4 carries no other"},                                            \
        {.op = LB_KV_ONLY,                                                                        \
         .names = "@factor",                                                                      \
         .fallback = "1.0",                                                                       \
         .hf = "the GGUF of gemma4 carries no rope scaling"},                                     \
        {.op = LB_KV_ONLY,                                                                        \
         .names = "%rope_type",                                                                   \
         .fallback = "default",                                                                   \
         .hf = "the GGUF of gemma4 carries no other"},                                            \
        {.op = LB_KV_ONLY,                                                                        \
         .names = "use_bidirectional_attention",                                                  \
         .fallback = "vision",                                                                    \
         .hf = "the GGUF of gemma4 has causal attention"},                                        \
        {.op = LB_KV_BACK, .key = "expert_count", .hf = "num_experts"}, {                         \
        .op = LB_KV_BACK, .key = "expert_used_count", .hf = "top_k_experts"                       \
    }

#define LB_GRAPH_GEMMA4                                                                        \
    {                                                                                          \
        .runs = true, .rope = LB_ROPE_HALVES, .act = LB_ACT_GELU, .window_base = 10000,        \
        .flags =                                                                               \
            LB_GRAPH_EMBD_SQRT | LB_GRAPH_ATTN_SCALE_ONE | LB_GRAPH_V_NORM | LB_GRAPH_TOP_NORM \
    }

#define LB_LAYERS_GEMMA4                                                      \
    {                                                                         \
        .list = "layer_types", .period = 6, .usual = "\"sliding_attention\"", \
        .single = "\"full_attention\""                                        \
    }
#define LB_ROPE_GEMMA4                                                               \
    "{\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}," \
    "\"full_attention\": {\"rope_type\": \"proportional\","                          \
    "\"partial_rotary_factor\": 0.25, \"rope_theta\": 1000000.0}}"
#define LB_MLX_GEMMA4                                                                    \
    "{\"hidden_size\": 1536, \"num_hidden_layers\": 35, \"intermediate_size\": 6144,"    \
    "\"num_attention_heads\": 8, \"head_dim\": 256, \"global_head_dim\": 512,"           \
    "\"rms_norm_eps\": 1e-06, \"vocab_size\": 262144,"                                   \
    "\"vocab_size_per_layer_input\": 262144, \"num_key_value_heads\": 1,"                \
    "\"num_global_key_value_heads\": null, \"num_kv_shared_layers\": 20,"                \
    "\"hidden_size_per_layer_input\": 256, \"sliding_window\": 512,"                     \
    "\"max_position_embeddings\": 131072, \"attention_k_eq_v\": false,"                  \
    "\"final_logit_softcapping?\": 30.0, \"use_double_wide_mlp\": true,"                 \
    "\"enable_moe_block\": false, \"num_experts\": null, \"top_k_experts\": null,"       \
    "\"moe_intermediate_size\": null, \"layer_types\": null, \"rope_parameters\": null," \
    "\"tie_word_embeddings\": true}"
#define LB_OUTER_DEFAULTS_GEMMA4                                                          \
    "{\"boi_token_id?\": 255999, \"eoi_token_id?\": 258882, \"image_token_id?\": 258880," \
    "\"video_token_id?\": 258884, \"boa_token_id?\": 256000,"                             \
    "\"eoa_token_index?\": 258883, \"audio_token_id?\": 258881,"                          \
    "\"tie_word_embeddings\": true}"
#define LB_FLAGS_GEMMA4                                                                       \
    (LB_ARCH_ROPE_BY_LAYER | LB_ARCH_LAYER_TYPES | LB_ARCH_LAYER_SIZES | LB_ARCH_ROPE_SHARE | \
     LB_ARCH_DENSE_TOO)

#endif
