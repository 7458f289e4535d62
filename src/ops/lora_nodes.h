/* SPDX-License-Identifier: Apache-2.0 */
/* lora_nodes.h: one term of an adapter on one matrix of the base model, as expression nodes. */
#ifndef LB_OPS_LORA_NODES_H
#define LB_OPS_LORA_NODES_H

#include "ops/lora_terms.h"

/* A pair, or one matrix of a stack of pairs, on its way out of its form. */
typedef struct lb_lora_pair {
    lb_graph *g;
    const lb_hparams *hp;
    const lb_adapter *adapter;
    u32 source; /* of the adapter, in the plan */
    const lb_adapter_part *part;
    const lb_arch_tensor *row; /* NULL: as it stands */
    u32 expert;                /* LB_NO_INDEX: it is no stack's */
} lb_lora_pair;

/* Its factors as values, [rows, rank] and [rank, columns], in the orientation of a linear layer: of
 * the row alone, in the canonical order. */
lb_status lb_lora_pair_factors(const lb_lora_pair *x, lb_piece *left, lb_piece *right, lb_err *err);

/* Which matrix. */
typedef struct lb_lora_where {
    lb_plan *plan;
    const lb_ctensors *base;
    lb_str name; /* of the stored tensor, for messages */
    const lb_arch_tensor *row;
    u8 suffix;
    u32 expert;      /* LB_NO_INDEX: the only one */
    bool only_both;  /* terms that a tied output matrix shares with the embedding */
    lb_piece before; /* without any adapter */
} lb_lora_where;

/* piece: canonical, or of a stored term as stored. Values afterwards, but for a tensor put in its
 * place. LB_E_FORMAT: shapes. */
lb_status lb_lora_node(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                       lb_piece *piece, lb_err *err);

#endif
