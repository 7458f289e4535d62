/* SPDX-License-Identifier: Apache-2.0 */
/* family_llava.h: LlavaForConditionalGeneration (LLaVA 1.5, Pixtral 12B), around a llama or a
 * mistral. For their tables only.
 *
 * Source: conversion/llama.py (LlamaModel) of llama-cpp-python 0.3.36; transformers 5.24,
 * models/llava/configuration_llava.py; mlx-lm 0.32.2 takes models/mistral3.py for it. */
#ifndef LB_ARCH_FAMILY_LLAVA_H
#define LB_ARCH_FAMILY_LLAVA_H

#include "arch/family_rows.h"

#define LB_OUTER_LLAVA                                                                   \
    static const char *const outer_classes[] = {"LlavaForConditionalGeneration", NULL};  \
    static const char *const outer_types[] = {"llava", NULL};                            \
    static const lb_arch_extra extras[] = {                                              \
        {LB_EXTRA_VISION, LB_N("vision_tower.")},                                        \
        {LB_EXTRA_VISION, LB_N("multi_modal_projector.")},                               \
    };                                                                                   \
    static const lb_arch_outer outers[] = {{                                             \
        .classes = outer_classes,                                                        \
        .model_types = outer_types,                                                      \
        .key = "text_config",                                                            \
        .text_type = "llama",                                                            \
        .defaults = "{\"image_token_index\": 32000, \"image_seq_length\": 576,"          \
                    "\"projector_hidden_act\": \"gelu\","                                \
                    "\"vision_feature_select_strategy\": \"default\","                   \
                    "\"vision_feature_layer\": -2, \"multimodal_projector_bias\": true," \
                    "\"tie_word_embeddings\": false}",                                   \
        .tied_by_tensors = true,                                                         \
        .mlx = {LB_N(""), LB_N("language_model.")},                                      \
        .mlx_text_keys = "{\"tie_word_embeddings\": null}",                              \
        .extras = extras,                                                                \
        .n_extras = LB_LEN(extras),                                                      \
    }}

#endif
