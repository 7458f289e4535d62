/* SPDX-License-Identifier: Apache-2.0 */
/* arch_seen.h: what a model holds, role by role and part by part. Included by arch.h. */
#ifndef LB_ARCH_ARCH_SEEN_H
#define LB_ARCH_ARCH_SEEN_H

#include "arch/arch.h"

/* What a model holds, noted while its names are walked. Roles: those of LB_EXTRA_NONE. */
typedef struct lb_arch_seen {
    u8 suffixes[LB_ROLE_COUNT];   /* LB_SUFFIX_* bits */
    u64 count[LB_ROLE_COUNT];     /* tensors of the role with suffix WEIGHT or NONE */
    u64 stacks[LB_ROLE_COUNT];    /* those of them that hold every expert's matrix */
    u64 vocab_rows;               /* of the embedding */
    u64 layer_vocab_rows;         /* of those for every layer */
    u64 in_extra[LB_EXTRA_COUNT]; /* tensors */
    u64 n_mtp;                    /* layers of multi-token prediction */
} lb_arch_seen;
void lb_arch_seen_add(lb_arch_seen *seen, const lb_arch_match *m, const lb_shape *shape);
/* A row that is not optional must be there for every layer, experts and routers for every layer
 * without a dense feed-forward in their place; LB_E_FORMAT says what is missing. */
lb_status lb_arch_seen_check(const lb_arch *a, const lb_hparams *hp, const lb_arch_seen *seen,
                             lb_world world, lb_err *err);

/* ---- parts that a model works without ---- */

/* Whether the world `to` has a place for a part as the world `from` stores it; whether its own
 * tools keep it. a: NULL where the family is not known. */
bool lb_arch_holds_extra(const lb_arch *a, lb_extra e, lb_world from, lb_world to);
bool lb_arch_keeps_extra(const lb_arch *a, lb_extra e, lb_world from, lb_world to);

/* The part beside the language model that a stored tensor belongs to, by its name in the HF or MLX
 * world. */
lb_extra lb_arch_find_extra(const lb_hparams *hp, lb_str name);
/* A stored name of the language model as its own class has it ("language_model." taken out), and
 * the name of a world in which the outer class goes on: MLX ("language_model." before it). The name
 * itself where nothing changes; ptr NULL: out of memory. */
lb_str lb_arch_inner_name(const lb_hparams *hp, lb_str name, lb_arena *perm);
lb_str lb_arch_outer_name(const lb_hparams *hp, lb_world world, lb_str name, lb_arena *perm);

#endif
