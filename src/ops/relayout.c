/* SPDX-License-Identifier: Apache-2.0 */
/* relayout.c: the table of relayouts. Source of each: arch.h names it. */
#include "ops/relayout.h"

typedef lb_status(relayout_fn)(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err);

static void to_values(const lb_relayout_in *in, lb_piece *p) {
    if (!p->values)
        p->node = lb_expr_decode(in->graph, p->node);
    p->values = true;
}

static lb_status none(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)in;
    (void)inverse;
    (void)p;
    (void)err;
    return LB_OK;
}

static lb_status rope(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)err;
    p->node = lb_expr_heads(in->graph, p->node, lb_arch_relayout_heads(in->op, in->hp), inverse);
    return LB_OK;
}

static lb_status add_one(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)err;
    if (in->suffix == LB_SUFFIX_BIAS)
        return LB_OK;
    to_values(in, p);
    p->node = lb_expr_map1(in->graph, LB_MAP_ADD_C, p->node, LB_CONST(inverse ? -1 : 1));
    p->changed = true;
    if (!inverse && p->dtype == LB_F16) /* the reference adds in f16 */
        p->node = lb_expr_map1(in->graph, LB_MAP_ROUND_F16, p->node, LB_CONST(0));
    return LB_OK;
}

static lb_status transpose(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)inverse;
    if (in->suffix == LB_SUFFIX_BIAS)
        return LB_OK;
    if (p->shape.rank != 2)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is not a matrix", LB_FMT(in->name));
    to_values(in, p);
    p->node = lb_expr_transpose(in->graph, p->node);
    p->shape = (lb_shape){.rank = 2, .dim = {p->shape.dim[1], p->shape.dim[0]}};
    const lb_node *n = p->node == LB_NODE_NONE ? NULL : lb_graph_node(in->graph, p->node);
    if (n && n->kind == LB_NODE_DECODE && !p->changed) { /* there and back: as stored */
        p->node = n->in[0];
        p->values = false;
    }
    return LB_OK;
}

/* The canonical shape is [C, 1, K]. */
static lb_status check_channels(const lb_relayout_in *in, const lb_piece *p, lb_err *err) {
    if (p->shape.rank == 3 && p->shape.dim[1] == 1)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is no convolution of one channel a group",
                   LB_FMT(in->name));
}

static lb_status squeeze(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    if (!inverse)
        LB_TRY(check_channels(in, p, err));
    else if (p->shape.rank != 2)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is not a matrix", LB_FMT(in->name));
    u64 n = p->shape.dim[0], k = p->shape.dim[p->shape.rank - 1];
    p->shape =
        inverse ? (lb_shape){.rank = 3, .dim = {n, 1, k}} : (lb_shape){.rank = 2, .dim = {n, k}};
    return LB_OK;
}

static lb_status channel_last(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    u64 k;
    if (!inverse)
        LB_TRY(check_channels(in, p, err));
    else if (p->shape.rank != 3 || p->shape.dim[2] != 1)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is no convolution of one channel a group",
                       LB_FMT(in->name));
    k = p->shape.dim[1];
    p->shape.dim[1] = p->shape.dim[2];
    p->shape.dim[2] = k;
    return LB_OK;
}

static lb_status one_row(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)in;
    (void)err;
    if (inverse && p->shape.rank == 1)
        p->shape = (lb_shape){.rank = 2, .dim = {1, p->shape.dim[0]}};
    return LB_OK;
}

static lb_status made(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)inverse;
    (void)p;
    return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s' is made, it has no canonical form",
                   LB_FMT(in->name));
}

static const struct {
    relayout_fn *apply;
    bool moves_rows, is_map;
} table[LB_RL_COUNT] = {
    [LB_RL_NONE] = {none, false, true},
    [LB_RL_ROPE_Q] = {rope, true, false},
    [LB_RL_ROPE_K] = {rope, true, false},
    [LB_RL_ADD_ONE] = {add_one, false, true},
    [LB_RL_MADE] = {made, false, false},
    [LB_RL_ONE_ROW] = {one_row, false, false},
    [LB_RL_TRANSPOSE] = {transpose, false, false},
    [LB_RL_SQUEEZE] = {squeeze, false, false},
    [LB_RL_CHANNEL_LAST] = {channel_last, false, false},
};

bool lb_relayout_moves_rows(lb_relayout r) {
    return table[r].moves_rows;
}

bool lb_relayout_is_map(lb_relayout r) {
    return table[r].is_map;
}

bool lb_relayout_by_channel(lb_relayout r) {
    return r == LB_RL_CHANNEL_LAST;
}

void lb_relayout_shape(lb_relayout r, lb_shape *s) {
    if (r == LB_RL_SQUEEZE && s->rank == 2)
        *s = (lb_shape){.rank = 3, .dim = {s->dim[0], 1, s->dim[1]}};
    else if (r == LB_RL_CHANNEL_LAST && s->rank == 3 && s->dim[2] == 1)
        *s = (lb_shape){.rank = 3, .dim = {s->dim[0], 1, s->dim[1]}};
}

lb_status lb_relayout_apply(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    return table[in->op].apply(in, inverse, p, err);
}
