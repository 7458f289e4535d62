/* SPDX-License-Identifier: Apache-2.0 */
/* node_ops.h: the kinds of nodes and the operations of each (ops.def): what expr.h builds. */
#ifndef LB_PLAN_NODE_OPS_H
#define LB_PLAN_NODE_OPS_H

#include "base/base.h"

typedef u32 lb_node_id;
#define LB_NODE_NONE UINT32_MAX

typedef enum lb_node_kind {
#define LB_NODE(id, name) LB_NODE_##id,
#include "plan/node.def"
#undef LB_NODE
    LB_NODE_KIND_COUNT
} lb_node_kind;

typedef enum lb_value { LB_VALUE_STORED, LB_VALUE_F32, LB_VALUE_SMALL, LB_VALUE_BYTES } lb_value;

typedef enum lb_index_op {
#define LB_INDEX_OP(id, name) LB_INDEX_##id,
#include "plan/ops.def"
    LB_INDEX_OP_COUNT
} lb_index_op;

/* Runs of neighbours in two nested loops: parts of groups, and orders of heads turned over. */
typedef struct lb_strides {
    u64 from, run; /* length of a run */
    u64 n, step;   /* runs of the inner loop, from one to the next */
    u64 jump;      /* of the outer loop */
} lb_strides;
static inline u64 lb_strides_at(const lb_strides *s, u64 i) {
    u64 q = i / s->run;
    return s->from + q % s->n * s->step + q / s->n * s->jump + i % s->run;
}

typedef enum lb_make_op {
#define LB_MAKE_OP(id, name) LB_MAKE_##id,
#include "plan/ops.def"
    LB_MAKE_OP_COUNT
} lb_make_op;

typedef enum lb_map_op {
#define LB_MAP_OP(id, name) LB_MAP_##id,
#include "plan/ops.def"
    LB_MAP_OP_COUNT
} lb_map_op;

/* Whether it takes a number beside its inputs, or what a stat has found. */
bool lb_map_has_number(lb_map_op op);

typedef enum lb_row_op {
#define LB_ROW_OP(id, name) LB_ROW_##id,
#include "plan/ops.def"
    LB_ROW_OP_COUNT
} lb_row_op;

typedef enum lb_stat_op {
#define LB_STAT_OP(id, name) LB_STAT_##id,
#include "plan/ops.def"
    LB_STAT_OP_COUNT
} lb_stat_op;
#define LB_STAT_RESULTS 4 /* of all that take no formula, but COLS */
#define LB_COLS_BLOCK 64
/* Whether it takes any number of inputs, and a formula. */
static inline bool lb_stat_is_wide(u32 op) {
    return op == LB_STAT_GRAM || op == LB_STAT_NORMS1 || op == LB_STAT_NORMS2;
}

#define LB_SELECT_RANKS 3 /* of a KTH */
#define LB_GRAM_MAX 16    /* inputs */
#define LB_GRAM_RESULTS 64
/* Where the product of inputs i and j stands among those of a GRAM. */
static inline u32 lb_gram_at(u32 i, u32 j) {
    return i >= j ? i * (i + 1) / 2 + j : j * (j + 1) / 2 + i;
}

/* Numbers of a wide stat of n inputs. */
static inline u32 lb_stat_n_wide(u32 op, u32 n) {
    return op == LB_STAT_GRAM ? n * (n + 1) / 2 : n;
}

/* What a selection looks for. */
typedef struct lb_ranks {
    u64 rank[LB_SELECT_RANKS]; /* in ascending order; 0: of none */
    u32 n;
    double of_nonzero; /* the one rank is this part of those that are not 0; 0: not */
} lb_ranks;

/* From the dot products of n inputs (or their norms) to a few numbers: once a tensor, in double.
 * run returns NULL, or why there are none. */
typedef struct lb_formula {
    const char *name;
    const char *(*run)(const struct lb_formula *f, const double *dot, u32 n, double *out);
    const double *param; /* [n_params] of the graph's arena */
    u32 n_params, n_out;
} lb_formula;

typedef enum lb_lowrank_op {
#define LB_LOWRANK_OP(id, name) LB_LOWRANK_##id,
#include "plan/ops.def"
} lb_lowrank_op;

typedef enum lb_dense_op {
#define LB_DENSE_OP(id, name) LB_DENSE_##id,
#include "plan/ops.def"
    LB_DENSE_OP_COUNT
} lb_dense_op;

#endif
