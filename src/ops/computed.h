/* SPDX-License-Identifier: Apache-2.0 */
/* computed.h: models that are computed: a merge file, a model with adapters, a mixture of
 * experts...
 *
 * Such a model is a source whose weights lie in no file (lb_source_add_computed): they are
 * expressions over the weights of its inputs, in a plan in which those stand behind it. Config and
 * side files are what the result needs. Whatever makes a plan takes one; nothing is computed before
 * the plan runs. Inputs may be computed themselves. */
#ifndef LB_OPS_COMPUTED_H
#define LB_OPS_COMPUTED_H

#include "plan/plan.h"

typedef struct lb_computed {
    /* Fills nodes [n_weights of source `index` of the plan] with their values: f32, or stored ones
     * of the weight's type. Its inputs are bound. LB_NODE_NONE: an error if it is asked for. */
    lb_status (*bind)(const struct lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes,
                      lb_err *err);
    /* README.md of the result, which is to be called name; NULL: that of the sides. */
    lb_status (*card)(const struct lb_computed *c, lb_str name, lb_buf *out, lb_err *err);
    /* The input whose types --type keep keeps, and which of its layers each layer is like (NULL:
     * the same). */
    bool has_base;
    u32 base;
    const u32 *base_layers;
    u32 n_base_layers;
    bool like_input; /* without --to it is written in the format of its first input */
} lb_computed;

/* A source in Hugging Face's form without tensors. what: of the model, for messages and names;
 * file: that says what to compute, or NULL. Inputs, config, sides are the caller's to fill in. */
lb_status lb_computed_new(lb_source **out, const lb_computed *c, const char *what, const char *file,
                          lb_err *err);
/* Takes input k of n_inputs; room for all must be there (lb_computed_room). */
lb_status lb_computed_room(lb_source *s, u32 n_inputs, lb_err *err);
void lb_computed_take(lb_source *s, lb_source **input);

/* Sources that a plan has of s: itself and all below. */
u32 lb_computed_span(const lb_source *s);
/* Index in a plan of input k of source `index`. */
u32 lb_computed_input(const lb_plan *p, u32 index, u32 k);
/* Makes the nodes of source `index` of the plan and of all that it is computed from; once each, and
 * none of sources that are stored. */
lb_status lb_computed_bind(lb_plan *p, u32 index, lb_err *err);

/* A plan to look at the inputs in while s is being opened: s is source 0, its inputs are bound. */
lb_status lb_computed_plan(lb_plan **out, const lb_source *s, lb_err *err);

/* A side file of the source that is made: over one of that name. bytes are the caller's and must
 * outlive s. */
lb_status lb_computed_side(lb_source *s, lb_str name, lb_str bytes, bool provenance, lb_err *err);
/* Takes over those of another source, which outlives s. */
lb_status lb_computed_sides_of(lb_source *s, const lb_source *from, lb_err *err);
/* Appends whole lines to the source's notes. */
lb_status lb_computed_notes(lb_source *s, const lb_buf *lines, lb_err *err);
/* Leaves one out, if it is there. */
void lb_computed_drop_side(lb_source *s, lb_str name);

#endif
