/* SPDX-License-Identifier: Apache-2.0 */
/* family_ministral3.c: Ministral 3: mistral with yarn, whose queries grow with the logarithm of the
 * position. llama.cpp takes yarn's mscale for 1. GGUF does not carry a sliding window.
 *
 * Source: conversion/mistral3.py (Ministral3Model), src/models/mistral3.cpp and llama-context.cpp
 * of llama-cpp-python 0.3.36; defaults: transformers 5.24, models/ministral3; mlx-lm 0.32.2
 * models/ministral3.py. */
#include "arch/family_mistral3.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"Ministral3ForCausalLM", NULL};
static const char *const model_types[] = {"ministral3", NULL};
static const lb_arch_kv kv[] = {
    LB_KV_ROWS_LLAMA,
    {.key = "rope.scaling.yarn_log_multiplier",
     .type = LB_GGUF_F32,
     .names = "@mscale_all_dim",
     .hf = "@mscale_all_dim",
     .absent = "0.0",
     .flags = LB_KVF_REQUIRED},
    {.key = "attention.temperature_scale",
     .type = LB_GGUF_F32,
     .names = "@llama_4_scaling_beta",
     .hf = "@llama_4_scaling_beta",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_BACK, .key = "rope.scaling.mscale", .hf = "@mscale", .absent = "1.0"},
    {.op = LB_KV_ONLY,
     .names = "@rope_type",
     .fallback = "yarn",
     .hf = "ministral3 in GGUF is scaled so",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_ONLY,
     .names = "@mscale",
     .fallback = "1.0",
     .hf = "the GGUF of ministral3 carries no other",
     .flags = LB_KVF_REQUIRED},
    {.op = LB_KV_REFUSE,
     .names = "sliding_window",
     .hf = "ministral3 in GGUF has no sliding window",
     .flags = LB_KVF_RUNS},
    LB_KV_ROW_RUN_WINDOW(NULL, NULL, NULL),
};
LB_OUTER_MISTRAL3;

const lb_arch lb_arch_ministral3 = {
    .family = "ministral3",
    .gguf = "mistral3",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .gguf_key = "attention.temperature_scale",
    .classes = classes,
    .model_types = model_types,
    .defaults = "{\"vocab_size\": 131072, \"hidden_size\": 4096, "
                "\"intermediate_size\": 14336, \"num_hidden_layers\": 34, "
                "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, "
                "\"head_dim\": 128, \"hidden_act\": \"silu\", "
                "\"max_position_embeddings\": 262144, \"rms_norm_eps\": 1e-05, "
                "\"tie_word_embeddings\": false, \"sliding_window\": null}",
    .theta = "10000.0",
    .rope = "{\"type\": \"yarn\", \"rope_theta\": 1000000.0, \"factor\": 16.0, "
            "\"original_max_position_embeddings\": 16384, \"beta_fast\": 32.0, "
            "\"beta_slow\": 1.0, \"mscale_all_dim\": 1.0, \"mscale\": 1.0, "
            "\"llama_4_scaling_beta\": 0.1}",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"sliding_window\": null}",
    .mlx = "{\"hidden_size\": null, \"num_hidden_layers\": null, "
           "\"intermediate_size\": null, \"num_attention_heads\": null, "
           "\"rms_norm_eps\": null, \"vocab_size\": null, \"head_dim\": null, "
           "\"max_position_embeddings\": null, \"num_key_value_heads\": null, "
           "\"rope_parameters\": null, \"tie_word_embeddings\": true}",
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
