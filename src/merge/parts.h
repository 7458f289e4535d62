/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h: the modules of a model and the layers in them, by names of tensors alone: for families
 * that mergekit 0.1.5 has lists of with several modules (_data/architectures, their `modules`) by
 * those names, for all others as it infers them (architecture/auto.py): the first ".N." of a name
 * is a layer; one kind of layers is the module "default", several are modules named after what
 * stands before their numbers. */
#ifndef LB_MERGE_PARTS_H
#define LB_MERGE_PARTS_H

#include "merge/outline.h"

typedef struct lb_merge_parts {
    lb_str *names; /* as lb_merge_world.modules */
    u32 n;
    u64 *n_layers; /* [n_models][n]: one more than the greatest that is there */
} lb_merge_parts;

/* The first ".N." of a name; at: of its first digit. */
bool lb_merge_first_number(lb_str name, u32 *n, u32 *at);

/* Sets module of all facts, and layer and layer_at of those that have LB_NO_LAYER. model_type: of
 * the config ("gemma3"). Where an architecture counts layers otherwise (token prediction), its
 * number of layers goes over ours. */
lb_status lb_merge_parts_find(lb_str model_type, lb_merge_fact *const *facts, const u32 *n_facts,
                              u32 n_models, lb_arena *perm, lb_merge_parts *out, lb_err *err);

#endif
