/* SPDX-License-Identifier: Apache-2.0 */
/* family_mtp.h: rows of layers of multi-token prediction that Hugging Face names "mtp.". For the
 * families' tables only. */
#ifndef LB_ARCH_FAMILY_MTP_H
#define LB_ARCH_FAMILY_MTP_H

#include "arch/family_rows.h"

/* A layer of multi-token prediction: one of attention under names of its own, which GGUF counts
 * behind the others, and what joins it to them. */
#define LB_ROW_MTP_OF(role_, hf_, gguf_, relayout_, suffixes_, flags_) \
    LB_ROW(role_, "mtp." hf_, "blk.{b}." gguf_, relayout_, suffixes_,  \
           LB_ROW_MTP | LB_ROW_OPTIONAL | (flags_))
#define LB_ROW_MTP_LAYER(role_, hf_, gguf_, suffixes_, flags_) \
    LB_ROW_MTP_OF(role_, "layers.{m}." hf_, gguf_, LB_RL_NONE, suffixes_, flags_)
#define LB_ROWS_MTP_FFN                                                                   \
    LB_ROW_MTP_LAYER(LB_ROLE_FFN_GATE, "mlp.gate_proj", "ffn_gate", LB_SUFFIX_WEIGHT, 0), \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_UP, "mlp.up_proj", "ffn_up", LB_SUFFIX_WEIGHT, 0),   \
        LB_ROW_MTP_LAYER(LB_ROLE_FFN_DOWN, "mlp.down_proj", "ffn_down", LB_SUFFIX_WEIGHT, 0)

#endif
