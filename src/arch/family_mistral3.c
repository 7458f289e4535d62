/* SPDX-License-Identifier: Apache-2.0 */
/* family_mistral3.c: the language model of Mistral Small 3.1 and 3.2, a mistral that GGUF names
 * after the class around it. By itself it is of mistral's class, in Hugging Face and back from
 * GGUF. The same class also holds a ministral3.
 *
 * Source: conversion/mistral3.py (Mistral3Model) of llama-cpp-python 0.3.36; transformers 5.24,
 * models/mistral3; mlx-lm 0.32.2 models/mistral3.py. */
#include "arch/family_mistral3.h"

static const lb_arch_tensor rows[] = {
    LB_ROWS_LLAMA(LB_RL_ROPE_Q, LB_RL_ROPE_K),
};

static const char *const classes[] = {"MistralForCausalLM", NULL};
static const char *const model_types[] = {"mistral", NULL};
static const lb_arch_kv kv[] = {LB_KV_ROWS_LLAMA};
LB_OUTER_MISTRAL3;

const lb_arch lb_arch_mistral3 = {
    .family = "mistral3",
    .gguf = "mistral3",
    .graph = {.runs = true, .rope = LB_ROPE_PAIRS},
    .classes = classes,
    .model_types = model_types,
    .defaults = LB_MISTRAL_DEFAULTS,
    .split_unless = "layer_types",
    .theta = "10000.0",
    .rows = rows,
    .n_rows = LB_LEN(rows),
    .kv = kv,
    .n_kv = LB_LEN(kv),
    .constants = "{\"hidden_act\": \"silu\", \"sliding_window\": null}",
    .mlx = LB_MISTRAL_MLX,
    .flags = LB_ARCH_ROPE_FREQS | LB_ARCH_HEAD_DIM_SPLIT,
    .outers = outers,
    .n_outers = LB_LEN(outers),
};
