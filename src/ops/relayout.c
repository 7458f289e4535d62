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

static lb_status add_one_f32(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)err;
    if (in->suffix == LB_SUFFIX_BIAS)
        return LB_OK;
    to_values(in, p);
    p->node = lb_expr_map1(in->graph, LB_MAP_ADD_C, p->node, LB_CONST(inverse ? -1 : 1));
    p->changed = true;
    return LB_OK;
}

static lb_status add_one(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    LB_TRY(add_one_f32(in, inverse, p, err));
    if (!inverse && p->changed && p->dtype == LB_F16) /* the reference adds in f16 */
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

static lb_status neg_exp(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    (void)err;
    to_values(in, p);
    p->changed = true;
    if (inverse) {
        p->node = lb_expr_map1(in->graph, LB_MAP_MUL_C, p->node, LB_CONST(-1));
        p->node = lb_expr_map1(in->graph, LB_MAP_LOG, p->node, LB_CONST(0));
        return LB_OK;
    }
    p->node = lb_expr_map1(in->graph, LB_MAP_EXP, p->node, LB_CONST(0));
    if (p->dtype == LB_F16) /* the reference's exp is of f16 */
        p->node = lb_expr_map1(in->graph, LB_MAP_ROUND_F16, p->node, LB_CONST(0));
    p->node = lb_expr_map1(in->graph, LB_MAP_MUL_C, p->node, LB_CONST(-1));
    return LB_OK;
}

/* The canonical shape is [C, 1, K]. */
static lb_status check_channels(const lb_relayout_in *in, const lb_piece *p, lb_err *err) {
    if (p->shape.rank == 3 && p->shape.dim[1] == 1)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is no convolution of one channel a group",
                   LB_FMT(in->name));
}

/* As squeeze does: no dimension of 1 is left. */
static lb_status squeeze(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    u64 n = p->shape.rank ? p->shape.dim[0] : 1, k = p->shape.rank > 1 ? p->shape.dim[1] : 1;
    if (inverse) {
        p->shape = (lb_shape){.rank = 3, .dim = {n, 1, k}};
        return LB_OK;
    }
    LB_TRY(check_channels(in, p, err));
    k = p->shape.dim[2];
    p->shape = (lb_shape){0};
    if (n != 1)
        p->shape.dim[p->shape.rank++] = n;
    if (k != 1)
        p->shape.dim[p->shape.rank++] = k;
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

/* Heads of values in the order of the groups (canonical: group, then place in it) or of the places.
 * n: positions, of which a head has n / ssm_heads. False: the heads do not divide them; nothing to
 * move is no fault. */
static bool head_order(const lb_hparams *hp, u64 n, bool inverse, lb_strides *s) {
    u64 groups = hp->ssm_groups, each = groups ? hp->ssm_heads / groups : 0;
    if (each == 0 || n % hp->ssm_heads)
        return false;
    u64 run = n / hp->ssm_heads;
    *s = inverse ? (lb_strides){0, run, each, groups * run, run}
                 : (lb_strides){0, run, groups, each * run, run};
    return run != 0;
}

static lb_status head_fault(const lb_relayout_in *in, u64 n, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': %llu rows or columns are not %llu heads",
                   LB_FMT(in->name), (unsigned long long)n, (unsigned long long)in->hp->ssm_heads);
}

static bool one_head_each(const lb_hparams *hp) {
    return hp->ssm_heads == hp->ssm_groups;
}

static lb_status value_heads(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    lb_strides s;
    if (p->node == LB_NODE_NONE || one_head_each(in->hp))
        return LB_OK;
    u64 n = lb_graph_node(in->graph, p->node)->n_rows;
    if (!head_order(in->hp, n, inverse, &s))
        return head_fault(in, n, err);
    p->node = lb_expr_strides(in->graph, p->node, &s, n);
    return LB_OK;
}

static lb_status value_cols(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    lb_strides s;
    if (p->node == LB_NODE_NONE || one_head_each(in->hp))
        return LB_OK;
    u64 n = lb_graph_node(in->graph, p->node)->n_cols;
    if (!head_order(in->hp, n, inverse, &s))
        return head_fault(in, n, err);
    to_values(in, p);
    p->node = lb_expr_move_cols(in->graph, p->node, &s);
    return LB_OK;
}

static lb_status value_channels(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    LB_TRY(squeeze(in, inverse, p, err));
    return value_heads(in, inverse, p, err);
}

static lb_status value_neg_exp(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    LB_TRY(value_heads(in, inverse, p, err));
    return neg_exp(in, inverse, p, err);
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

/* Tables say what each does; nothing else asks which it is. */
enum { MOVES_ROWS = 1, IS_MAP = 2, BY_CHANNEL = 4, MOVES_COLS = 8, OF_VALUES = 16, SQUEEZES = 32 };
#define NEG_EXP_LOSS                                                                           \
    "stored as -exp(value) in f32; the last bits of an f32 value, and those of small values, " \
    "are lost"

static const struct {
    relayout_fn *apply;
    u32 flags;
    lb_change change;
    const char *loss;
} table[LB_RL_COUNT] = {
    [LB_RL_NONE] = {none, IS_MAP, LB_CHANGE_NONE, NULL},
    [LB_RL_ROPE_Q] = {rope, MOVES_ROWS, LB_CHANGE_NONE, NULL},
    [LB_RL_ROPE_K] = {rope, MOVES_ROWS, LB_CHANGE_NONE, NULL},
    [LB_RL_ADD_ONE] = {add_one, IS_MAP, LB_CHANGE_ADD_ONE,
                       "stored as value + 1 in f32; values below 2^-16 lose bits"},
    [LB_RL_MADE] = {made, 0, LB_CHANGE_NONE, NULL},
    [LB_RL_ONE_ROW] = {one_row, 0, LB_CHANGE_NONE, NULL},
    [LB_RL_TRANSPOSE] = {transpose, 0, LB_CHANGE_NONE, NULL},
    [LB_RL_ADD_ONE_F32] = {add_one_f32, IS_MAP, LB_CHANGE_ADD_ONE,
                           "held as value + 1; small values lose bits"},
    [LB_RL_NEG_EXP] = {neg_exp, IS_MAP, LB_CHANGE_NEG_EXP, NEG_EXP_LOSS},
    [LB_RL_SQUEEZE] = {squeeze, SQUEEZES, LB_CHANGE_NONE, NULL},
    [LB_RL_CHANNEL_LAST] = {channel_last, BY_CHANNEL, LB_CHANGE_NONE, NULL},
    [LB_RL_VALUE_HEADS] = {value_heads, MOVES_ROWS | OF_VALUES, LB_CHANGE_NONE, NULL},
    [LB_RL_VALUE_COLS] = {value_cols, MOVES_COLS | OF_VALUES, LB_CHANGE_NONE, NULL},
    [LB_RL_VALUE_CHANNELS] = {value_channels, MOVES_ROWS | OF_VALUES | SQUEEZES, LB_CHANGE_NONE,
                              NULL},
    [LB_RL_VALUE_NEG_EXP] = {value_neg_exp, MOVES_ROWS | OF_VALUES, LB_CHANGE_NEG_EXP,
                             NEG_EXP_LOSS},
};

bool lb_relayout_moves_rows(lb_relayout r) {
    return table[r].flags & MOVES_ROWS;
}

bool lb_relayout_is_map(lb_relayout r) {
    return table[r].flags & IS_MAP;
}

bool lb_relayout_by_channel(lb_relayout r) {
    return table[r].flags & BY_CHANNEL;
}

void lb_relayout_shape(lb_relayout r, lb_shape *s) {
    if ((table[r].flags & SQUEEZES) && s->rank > 0 && s->rank <= 2)
        *s = (lb_shape){.rank = 3, .dim = {s->dim[0], 1, s->rank > 1 ? s->dim[1] : 1}};
    else if ((table[r].flags & BY_CHANNEL) && s->rank == 3 && s->dim[2] == 1)
        *s = (lb_shape){.rank = 3, .dim = {s->dim[0], 1, s->dim[1]}};
    else if (r == LB_RL_ONE_ROW && s->rank == 1)
        *s = (lb_shape){.rank = 2, .dim = {1, s->dim[0]}};
}

bool lb_relayout_moves_cols(lb_relayout r) {
    return table[r].flags & MOVES_COLS;
}

bool lb_relayout_order(lb_relayout r, const lb_hparams *hp, u64 n, lb_strides *out) {
    return (table[r].flags & OF_VALUES) && !one_head_each(hp) && head_order(hp, n, true, out);
}

lb_change lb_relayout_change(lb_relayout r) {
    return table[r].change;
}

bool lb_relayout_same_change(lb_relayout a, lb_relayout b) {
    return table[a].change != LB_CHANGE_NONE && table[a].change == table[b].change &&
           lb_relayout_is_map(a) && lb_relayout_is_map(b);
}

const char *lb_relayout_loss(lb_relayout r) {
    return table[r].loss;
}

lb_status lb_relayout_apply(const lb_relayout_in *in, bool inverse, lb_piece *p, lb_err *err) {
    return table[in->op].apply(in, inverse, p, err);
}
