/* SPDX-License-Identifier: Apache-2.0 */
/* assemble.h: the tensors of another world, each put together from canonical ones: experts into a
 * stack and out of it, parts into a fused matrix and out of it, by the names of the table alone. */
#ifndef LB_OPS_ASSEMBLE_H
#define LB_OPS_ASSEMBLE_H

#include "ops/ctensor.h"

typedef struct lb_made_ref {
    u32 tensor; /* index into lb_ctensors.tensors */
    u32 expert; /* of its stack; LB_NO_INDEX: all that is stored */
} lb_made_ref;

/* One tensor of the world. */
typedef struct lb_made_of {
    lb_str name;
    const lb_ctensor *first; /* its row and stored type speak for the tensor */
    lb_made_ref *ref;        /* in the order of the rows of the result */
    u32 n_ref, cap_ref;
    u64 last;      /* the place in `order` of the last that it is made of */
    u64 complete;  /* last; of a stack of experts stored one by one: that of all its layer's */
    bool stored;   /* the weight as it is */
    bool stacked;  /* ref: matrices of a stack */
    bool by_table; /* the stacks of a layer in the table's order; else by the names of HF */
} lb_made_of;

typedef struct lb_assembly {
    lb_plan *plan;
    const lb_ctensors *source;
    lb_world world;
    lb_arena scratch;   /* what is gone with it; names are the plan's */
    lb_made_of *tensor; /* heap */
    u64 n, cap;
    u32 *left_out; /* ctensors that this world does not keep or that source->leave_out names */
    u64 n_left_out;
    bool by_table; /* see lb_made_of */
} lb_assembly;

/* order: the sequence in which the n_tensors canonical tensors are walked (NULL: as they are
 * listed); the result is in the order in which its tensors become complete, the stacks of a layer
 * together. LB_E_FORMAT names a stack that lacks an expert or a part. out is to be deinitialised in
 * any case; what is made of it stays. */
lb_status lb_assemble(lb_plan *p, const lb_ctensors *c, lb_world world, const u64 *order,
                      lb_assembly *out, lb_err *err);
void lb_assembly_deinit(lb_assembly *a);

/* Shape and nodes of one tensor as `dtype`: encode nodes of its segments. n_rows: rows that are
 * kept, UINT64_MAX for all (vocabularies). */
typedef struct lb_made {
    lb_shape shape;
    lb_node_id *segments;
    u32 n_segments;
} lb_made;
u32 lb_assembly_rank(const lb_assembly *a, const lb_made_of *m);
lb_status lb_assembly_make(const lb_assembly *a, const lb_made_of *m, lb_dtype dtype, u64 n_rows,
                           lb_made *out, lb_err *err);
/* Whether all of it is stored in codes that can be written so, and only rows move on the way;
 * exact: scales stay what they are. */
bool lb_assembly_keeps(const lb_assembly *a, const lb_made_of *m, lb_repack repack, bool exact);
/* The same, codes as they are: the last dimension counts what the layout holds. */
lb_status lb_assembly_repack(const lb_assembly *a, const lb_made_of *m, lb_repack repack,
                             u64 n_rows, lb_made *out, lb_err *err);

#endif
