/* SPDX-License-Identifier: Apache-2.0 */
/* outline_internal.h: the making of an outline: which tensors (outline.c), and what one is made of
 * (outline_tensor.c). */
#ifndef LB_MERGE_OUTLINE_INTERNAL_H
#define LB_MERGE_OUTLINE_INTERNAL_H

#include "merge/facts.h"

typedef enum lb_merge_use { LB_USE_NONE, LB_USE_DROPPED, LB_USE_TAKEN } lb_merge_use;

typedef struct lb_merge_maker {
    const lb_merge_config *config;
    const lb_merge_method *method;
    const lb_merge_world *world;
    lb_arena *perm;
    lb_err *err;
    lb_merge_outline *out;
    lb_merge_entry **entries; /* [n_models] */
    u8 **use;                 /* [n_models][n_facts] lb_merge_use */
    u64 cap;                  /* of out->tensors */
    u64 n_met;                /* names that stood in some source */
    const double *last_param; /* values are mostly those of the tensor before: kept once */
} lb_merge_maker;

/* Where the tensors of one place come from. */
typedef struct lb_merge_group {
    const lb_merge_module *module; /* of the file */
    const lb_merge_slice *slice;
    u32 part;  /* module of the result */
    u32 layer; /* of the result; LB_NO_LAYER */
    double t;
    const u64 *place; /* [slice->n_sources] in each source's model */
} lb_merge_group;

/* The inputs that are there ([n_sources], NULL: all) against what the method takes. name: of the
 * tensor; empty: of the slice itself. */
lb_status lb_merge_contract(const lb_merge_maker *k, const lb_merge_slice *s, const bool *there,
                            lb_str name);
/* The tensors that some source has at its place. */
lb_status lb_merge_group_add(lb_merge_maker *k, const lb_merge_group *g);
lb_status lb_merge_maker_no_memory(const lb_merge_maker *k);

#endif
