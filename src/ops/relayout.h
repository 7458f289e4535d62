/* SPDX-License-Identifier: Apache-2.0 */
/* relayout.h: how a world's matrix is made from the canonical one, and back, as expression nodes.
 *
 * One table (relayout.c) has both directions of every LB_RL_ entry; nothing else asks which it is.
 */
#ifndef LB_OPS_RELAYOUT_H
#define LB_OPS_RELAYOUT_H

#include "arch/arch.h"
#include "plan/plan.h"

/* A matrix on its way from one world to another. */
typedef struct lb_piece {
    lb_node_id node;
    lb_shape shape;
    bool values;    /* node holds f32 values; else stored bytes */
    bool changed;   /* values were computed: the stored bytes are not theirs any more */
    lb_dtype dtype; /* as stored in the source */
} lb_piece;

typedef struct lb_relayout_in {
    lb_graph *graph;
    const lb_hparams *hp;
    lb_relayout op;
    u8 suffix;
    lb_str name; /* for messages */
} lb_relayout_in;

/* Whether rows are moved: a vector is then read as one element a row. */
bool lb_relayout_moves_rows(lb_relayout r);
/* Whether each value depends on its own alone, so that a stack may be done at once. */
bool lb_relayout_is_map(lb_relayout r);
/* Whether rows are channels, whatever the dimensions behind them. */
bool lb_relayout_by_channel(lb_relayout r);
/* The canonical shape of what has this one in the world, where only dimensions of 1 tell them
 * apart.
 */
void lb_relayout_shape(lb_relayout r, lb_shape *shape);
bool lb_relayout_moves_cols(lb_relayout r);
/* Where row i (or column, if those are moved) of the canonical matrix of n stands in the world's,
 * of a relayout that moves heads of values. False: in its place. */
bool lb_relayout_order(lb_relayout r, const lb_hparams *hp, u64 n, lb_strides *out);
/* What the world holds instead of a value; ADD_ONE_F32: also ADD_ONE. */
typedef enum lb_change { LB_CHANGE_NONE, LB_CHANGE_ADD_ONE, LB_CHANGE_NEG_EXP } lb_change;
lb_change lb_relayout_change(lb_relayout r);
/* Whether one change of values makes both: between these two worlds nothing changes. */
bool lb_relayout_same_change(lb_relayout a, lb_relayout b);
/* What the change of values cannot give back, for people; NULL: it is exactly invertible. */
const char *lb_relayout_loss(lb_relayout r);
/* canonical -> the world's form, or with inverse back. Changes p->node, p->shape, p->values. */
lb_status lb_relayout_apply(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err);

#endif
