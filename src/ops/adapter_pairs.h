/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_pairs.h: an adapter's pairs as another form has them: split where it was fused, experts
 * put into stacks and taken out of them, under the names of that form. */
#ifndef LB_OPS_ADAPTER_PAIRS_H
#define LB_OPS_ADAPTER_PAIRS_H

#include "ops/lora_nodes.h"

/* One matrix of a pair. */
typedef struct lb_adapter_unit {
    const lb_adapter_part *part;
    const lb_arch_tensor *row; /* NULL: as it stands */
    u32 expert;                /* LB_NO_INDEX: none */
    u32 next;                  /* of the pair; UINT32_MAX: none */
} lb_adapter_unit;

/* A [rank, in] and B [out, rank], of a stack one of each expert. */
typedef struct lb_adapter_pair {
    lb_str module; /* "model.layers.0.self_attn.q_proj" in Hugging Face's names */
    lb_str gguf;   /* "blk.0.attn_q.weight"; empty: not looked up */
    lb_str mlx;
    u64 rank, n_in, n_out;
    double scale;
    bool embedding;
    u64 n_stack; /* 1: none */
    u32 first, last, n_units;
} lb_adapter_pair;

typedef struct lb_adapter_pairs {
    const lb_adapter *adapter;
    lb_adapter_form to;
    const lb_arch *arch; /* of the base model; NULL: not known, names are taken as they are */
    const lb_hparams *hp;
    lb_adapter_pair *pairs; /* [n] */
    lb_adapter_unit *units;
    u64 n, n_units, cap, cap_units;
    lb_map by_name;
} lb_adapter_pairs;

/* Fills pairs, in the order of the adapter's. LB_E_UNSUPPORTED names what the form has no place
 * for. *x (adapter, to, arch, hp are the caller's) is to be deinitialised in any case. */
lb_status lb_adapter_pairs_make(lb_adapter_pairs *x, lb_arena *perm, lb_err *err);
void lb_adapter_pairs_deinit(lb_adapter_pairs *x);
/* The target's name of a pair, and A (which 0) or B as it has it: values, one node a matrix. */
lb_str lb_adapter_pair_name(const lb_adapter_pairs *x, const lb_adapter_pair *p);
lb_status lb_adapter_pair_nodes(const lb_adapter_pairs *x, const lb_adapter_pair *p, u32 which,
                                lb_plan *plan, lb_node_id *nodes, lb_shape *shape, lb_err *err);

#endif
