/* SPDX-License-Identifier: Apache-2.0 */
/* family_mistral.c: Mistral's dense models. GGUF knows them as "llama", without the sliding window
 * (said; the reference drops it, too); from GGUF they come back as LlamaForCausalLM, which computes
 * the same. MistralModel (E5 Mistral) has no output matrix; the reference of this version does not
 * know the class.
 *
 * Source: conversion/llama.py (LlamaModel) of llama-cpp-python 0.3.36; defaults: transformers 5.23,
 * models/mistral/configuration_mistral.py. mlx-lm 0.32.2 runs them with models/llama.py. */
#include "arch/family_llava.h"
#include "arch/family_mistral3.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"MistralForCausalLM", "MistralModel", NULL};
static const char *const model_types[] = {"mistral", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_LLAMA, LB_KV_ROWS_WINDOW_ALL};
LB_OUTER_LLAVA;

const lb_arch lb_arch_mistral = {
    .family = "mistral",
    .gguf = "llama",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS, .flags = LB_GRAPH_SCALED_WINDOW},
    .classes = classes,
    .model_types = model_types,
    .defaults = LB_MISTRAL_DEFAULTS,
    .split_unless = "layer_types", /* transformers then takes Ministral's class */
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\"}",
    .mlx = LB_MISTRAL_MLX,
    .flags = LB_ARCH_ROPE_FREQS | LB_ARCH_HEAD_DIM_SPLIT,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
