/* SPDX-License-Identifier: Apache-2.0 */
/* family_experts.h: rows of models with shared experts, biased routers and layers of multi-token
 * prediction. For family_<name>.c only. */
#ifndef LB_ARCH_FAMILY_EXPERTS_H
#define LB_ARCH_FAMILY_EXPERTS_H

#include "arch/family_rows.h"

/* Added to the scores by which experts are chosen. */
#define LB_ROW_ROUTER_BIAS(hf_, flags_)                                                      \
    LB_ROW3(LB_ROLE_FFN_ROUTER_BIAS, LB_N(hf_), LB_N("blk.{b}.exp_probs_b.bias"), LB_N(hf_), \
            LB_RL_NONE, LB_SUFFIX_NONE, flags_)
/* Experts that all tokens use, as one. module: "mlp.shared_experts" */
#define LB_ROWS_SHARED_EXPERTS(module)                                                 \
    LB_ROW(LB_ROLE_FFN_GATE_SHARED, "model.layers.{b}." module ".gate_proj",           \
           "blk.{b}.ffn_gate_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL),   \
        LB_ROW(LB_ROLE_FFN_UP_SHARED, "model.layers.{b}." module ".up_proj",           \
               "blk.{b}.ffn_up_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL), \
        LB_ROW(LB_ROLE_FFN_DOWN_SHARED, "model.layers.{b}." module ".down_proj",       \
               "blk.{b}.ffn_down_shexp", LB_RL_NONE, LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL)
/* What layers of multi-token prediction have beside those of a layer, where they are numbered like
 * the others. */
#define LB_ROW_NEXTN(hf_, gguf_)                                                     \
    LB_ROW(LB_ROLE_MTP, "model.layers.{b}." hf_, "blk.{b}.nextn." gguf_, LB_RL_NONE, \
           LB_SUFFIX_WEIGHT, LB_ROW_OPTIONAL | LB_ROW_MTP)
#define LB_ROWS_NEXTN                                                                 \
    LB_ROW_NEXTN("eh_proj", "eh_proj"), LB_ROW_NEXTN("embed_tokens", "embed_tokens"), \
        LB_ROW_NEXTN("enorm", "enorm"), LB_ROW_NEXTN("hnorm", "hnorm"),               \
        LB_ROW_NEXTN("shared_head.head", "shared_head_head"),                         \
        LB_ROW_NEXTN("shared_head.norm", "shared_head_norm")

#endif
