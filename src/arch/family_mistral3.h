/* SPDX-License-Identifier: Apache-2.0 */
/* family_mistral3.h: what mistral's families share. For their tables only. */
#ifndef LB_ARCH_FAMILY_MISTRAL3_H
#define LB_ARCH_FAMILY_MISTRAL3_H

#include "arch/family_rows.h"

#define LB_MISTRAL_DEFAULTS                                                                    \
    "{\"vocab_size\": 32000, \"hidden_size\": 4096, \"intermediate_size\": 14336,"             \
    "\"num_hidden_layers\": 32, \"num_attention_heads\": 32,"                                  \
    "\"num_key_value_heads\": 8, \"head_dim\": null, \"hidden_act\": \"silu\","                \
    "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-06, \"sliding_window?\": 4096," \
    "\"tie_word_embeddings\": false}"
#define LB_MISTRAL_MLX                                                                  \
    "{\"hidden_size\": null, \"num_hidden_layers\": null, \"intermediate_size\": null," \
    "\"num_attention_heads\": null, \"rms_norm_eps\": null, \"vocab_size\": null,"      \
    "\"rope_theta\": 10000, \"tie_word_embeddings\": true}"

/* Mistral3ForConditionalGeneration, around a mistral or a ministral3. */
#define LB_OUTER_MISTRAL3                                                                  \
    static const char *const outer_classes[] = {"Mistral3ForConditionalGeneration", NULL}; \
    static const char *const outer_types[] = {"mistral3", NULL};                           \
    static const lb_arch_extra extras[] = {                                                \
        {LB_EXTRA_VISION, LB_N("vision_tower.")},                                          \
        {LB_EXTRA_VISION, LB_N("multi_modal_projector.")},                                 \
    };                                                                                     \
    static const lb_arch_outer outers[] = {{                                               \
        .classes = outer_classes,                                                          \
        .model_types = outer_types,                                                        \
        .key = "text_config",                                                              \
        .text_type = "mistral",                                                            \
        .defaults = "{\"image_token_index\": 10, \"projector_hidden_act\": \"gelu\","      \
                    "\"vision_feature_layer\": -1, \"multimodal_projector_bias\": false,"  \
                    "\"spatial_merge_size\": 2, \"tie_word_embeddings\": true}",           \
        .tied_by_tensors = true,                                                           \
        .mlx = {LB_N(""), LB_N("language_model.")},                                        \
        .mlx_text_keys = "{\"tie_word_embeddings\": null}",                                \
        .extras = extras,                                                                  \
        .n_extras = LB_LEN(extras),                                                        \
    }}

#endif
