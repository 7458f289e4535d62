/* SPDX-License-Identifier: Apache-2.0 */
/* expr.h: expressions over tensors: ten kinds of nodes, built here, compiled by compile.c.
 *
 * A node's value is a matrix of n_rows x n_cols (leading dimensions of a tensor are folded into its
 * rows; a vector is one row). It is one of
 *   stored  the bytes of a weight in its encoding (read, and index nodes above it)
 *   f32     values (decode, make, map, row, lowrank, dense and index nodes above them)
 *   small   a few doubles (stat)
 *   bytes   what a file holds (encode)
 * Builders never fail half-way: the first fault is kept in the graph (lb_graph.err) and every later
 * call returns LB_NODE_NONE; the caller checks once, with lb_graph_status.
 *
 * Values between nodes are f32 and are rounded by nobody but a node that says so. */
#ifndef LB_PLAN_EXPR_H
#define LB_PLAN_EXPR_H

#include "base/base.h"
#include "base/mem.h"
#include "kernel/rank.h"
#include "plan/node_ops.h"
#include "plan/repack.h"
#include "tensor/source.h"

/* A number of a map: a constant, or made from a stat's result. */
typedef enum lb_scalar_fn {
    LB_SCALAR_ID,
    LB_SCALAR_NEG,
    LB_SCALAR_INV,
    LB_SCALAR_SQRT,
    LB_SCALAR_INV_SQRT,
    LB_SCALAR_INV_SPAN /* 1 / (the result behind it - it) */
} lb_scalar_fn;
typedef struct lb_scalar {
    double value; /* when stat is LB_NODE_NONE */
    lb_node_id stat;
    u32 result;      /* which of its results */
    lb_scalar_fn fn; /* applied in double, then rounded to f32; 1/0 gives 0 */
} lb_scalar;
#define LB_CONST(v) ((lb_scalar){.value = (v), .stat = LB_NODE_NONE})

typedef struct lb_node {
    lb_node_kind kind;
    u32 op; /* of the kind's enum; encode: the lb_dtype */
    lb_value value;
    u32 n_in;
    const lb_node_id *in;
    u64 n_rows, n_cols;
    union {
        struct {
            u32 source; /* index into lb_graph.sources */
            const lb_weight *weight;
        } read;
        struct {
            union {
                const float *values;        /* CONST */
                const struct lb_draw *draw; /* DRAW */
                double p;                   /* FILL: the value; BERNOULLI: the probability */
            };
            u32 carry; /* BERNOULLI, UNIFORM: index into lb_graph.carries */
            u64 first; /* likewise: the first of its numbers in that stream */
        } make;
        struct {
            u64 from, step, half; /* RUNS: half is the run */
            union {
                const u64 *table;          /* GATHER: n_rows entries */
                const lb_strides *strides; /* STRIDES */
            };
        } index;
        const lb_strides *strides; /* ROW: MOVE */
        struct {
            const lb_formula *formula;
            u32 result;
        } row; /* ROW: FORMULA */
        struct {
            u32 keep, of;
        } nm;             /* ROW: NM */
        lb_odds odds;     /* ROW: ODDS */
        u32 kl;           /* ROW: KL: lb_kl_how */
        lb_scalar scalar; /* MAP */
        struct {
            union {
                const lb_ranks *ranks;      /* KTH */
                struct lb_measure *measure; /* ERROR */
                struct lb_compare *compare; /* COMPARE */
            };
            const lb_formula *formula; /* wide stats, KTH; NULL: what they find */
        } stat;
        float scale; /* LOWRANK */
        double part; /* DENSE, TOP */
        struct {
            u8 repack;             /* lb_repack */
            u8 part;               /* of what the quantizer makes */
            bool once;             /* for all of a matrix, and known before its rows are */
            u32 rows, cols, elems; /* of the output for a band of rows and so many columns of it */
            const struct lb_quant *quant; /* plan/quant.h; NULL: floats or stored bytes */
            const u8 *bytes;              /* what is written; else NULL */
        } encode;
    } u;
} lb_node;

/* A stream of random numbers. Nodes take them in the order in which they are made, and so many as
 * they have elements: in whatever order outputs are computed, each has its own. */
typedef struct lb_carry {
    u64 seed;
    u64 next; /* number that the next node begins with */
} lb_carry;

typedef struct lb_graph {
    lb_arena *arena;
    const lb_source *const *sources;
    u32 n_sources;
    /* [n_sources]: of a source that is computed the node of each weight; else NULL. */
    lb_node_id **computed;
    lb_node **blocks; /* of LB_GRAPH_BLOCK nodes each: a node stays where it is */
    u32 n, n_blocks, cap_blocks;
    lb_node_id last_read;
    lb_carry *carries;
    u32 n_carries, cap_carries;
    lb_err err;
} lb_graph;

#define LB_GRAPH_BLOCK 256

void lb_graph_init(lb_graph *g, lb_arena *arena, const lb_source *const *sources, u32 n_sources);
/* LB_OK, or the first fault of any builder. */
lb_status lb_graph_status(const lb_graph *g, lb_err *err);
const lb_node *lb_graph_node(const lb_graph *g, lb_node_id id);
lb_node_id lb_graph_id(const lb_graph *g, const lb_node *n); /* of a node of this graph */
const char *lb_node_kind_name(lb_node_kind k);
static inline bool lb_node_draws(const lb_node *n) {
    return n->kind == LB_NODE_MAKE && (n->op == LB_MAKE_BERNOULLI || n->op == LB_MAKE_UNIFORM);
}

/* Of a view: its values, which are of one of the types that encode has. */
lb_node_id lb_expr_read(lb_graph *g, u32 source, const lb_weight *w);
/* As n_rows x n_cols (plain types): a vector whose elements are moved like rows is n x 1. */
lb_node_id lb_expr_read_as(lb_graph *g, u32 source, const lb_weight *w, u64 n_rows, u64 n_cols);
lb_node_id lb_expr_const(lb_graph *g, u64 n_rows, u64 n_cols, const float *values);
lb_node_id lb_expr_fill(lb_graph *g, u64 n_rows, u64 n_cols, double value);
/* Random values, row by row; of the graph's arena, as what it points to. The second: N(0, 1). */
lb_node_id lb_expr_draw(lb_graph *g, u64 n_rows, u64 n_cols, const struct lb_draw *draw);
lb_node_id lb_expr_normal(lb_graph *g, u64 n_rows, u64 n_cols, u64 seed);
u32 lb_expr_carry(lb_graph *g, u64 seed);
lb_node_id lb_expr_bernoulli(lb_graph *g, u64 n_rows, u64 n_cols, double p, u32 carry);
lb_node_id lb_expr_uniform(lb_graph *g, u64 n_rows, u64 n_cols, u32 carry);
lb_node_id lb_expr_decode(lb_graph *g, lb_node_id x); /* values already: x */
lb_node_id lb_expr_rows(lb_graph *g, lb_node_id x, u64 from, u64 step, u64 n_rows);
/* Runs of `run` rows, one every `step`: the k rows of each group of a fused matrix. */
lb_node_id lb_expr_runs(lb_graph *g, lb_node_id x, u64 from, u64 run, u64 step, u64 n_rows);
lb_node_id lb_expr_heads(lb_graph *g, lb_node_id x, u64 n_heads, bool inverse);
lb_node_id lb_expr_gather(lb_graph *g, lb_node_id x, const u64 *table, u64 n_rows);
lb_node_id lb_expr_strides(lb_graph *g, lb_node_id x, const lb_strides *s, u64 n_rows);
lb_node_id lb_expr_transpose(lb_graph *g, lb_node_id x);
lb_node_id lb_expr_cols(lb_graph *g, lb_node_id x, u64 from, u64 n_cols);
/* Every step-th column from `from` (below step) on; the columns are a multiple of step. */
lb_node_id lb_expr_every(lb_graph *g, lb_node_id x, u64 from, u64 step);
/* Values: of one number of columns, n of them. */
lb_node_id lb_expr_stack(lb_graph *g, const lb_node_id *x, u32 n);
lb_node_id lb_expr_map1(lb_graph *g, lb_map_op op, lb_node_id a, lb_scalar c);
lb_node_id lb_expr_map2(lb_graph *g, lb_map_op op, lb_node_id a, lb_node_id b, lb_scalar c);
/* Of n matrices of one shape (LB_GRAM_MAX at most), element by element: kernel/variance.h. */
lb_node_id lb_expr_variance(lb_graph *g, const lb_node_id *x, u32 n);
/* x: n matrices of one shape, or rows of its width; which: [n_rows of that shape] below n, copied.
 */
lb_node_id lb_expr_choose(lb_graph *g, const lb_node_id *x, u32 n, const float *which);
lb_node_id lb_expr_row(lb_graph *g, lb_row_op op, lb_node_id x); /* of L2, MEAN */
lb_node_id lb_expr_move_cols(lb_graph *g, lb_node_id x, const lb_strides *s);
lb_node_id lb_expr_stat(lb_graph *g, lb_stat_op op, lb_node_id a, lb_node_id b,
                        u64 k); /* b: LB_NODE_NONE but for DOT */
/* The results of a stat as one row. */
lb_node_id lb_expr_results(lb_graph *g, lb_node_id stat);
/* x: n of one shape, LB_GRAM_MAX at most. f, which is copied: NULL, the products themselves. */
lb_node_id lb_expr_gram(lb_graph *g, const lb_node_id *x, u32 n, const lb_formula *f);
/* The same of another wide stat. */
lb_node_id lb_expr_norms(lb_graph *g, lb_stat_op op, const lb_node_id *x, u32 n,
                         const lb_formula *f);
/* Result number `result` of f, for each row; f, which always has one, is copied. */
lb_node_id lb_expr_row_formula(lb_graph *g, const lb_node_id *x, u32 n, const lb_formula *f,
                               u32 result);
/* 1 or 0: x is one of the `keep` of each `of` neighbours in a row; claimed: LB_NODE_NONE, or not 0
 * where others have been before (select_nm.h). */
lb_node_id lb_expr_row_odds(lb_graph *g, lb_node_id x, const lb_odds *o); /* rows of 2 at least */
lb_node_id lb_expr_row_nm(lb_graph *g, lb_node_id x, lb_node_id claimed, u32 keep, u32 of);
lb_node_id lb_expr_row_kl(lb_graph *g, lb_node_id x, lb_node_id y, u32 how); /* lb_kl_how */
/* KTH of ranks in ascending order, f as above (over values). */
lb_node_id lb_expr_select(lb_graph *g, lb_node_id x, const u64 *rank, u32 n_ranks,
                          const lb_formula *f);
/* KTH of the rank that is `part` (of floats, cut off) of the number of values that are not 0. */
lb_node_id lb_expr_select_nonzero(lb_graph *g, lb_node_id x, double part);
/* KEEP: of what a KTH of one rank or two selects from. */
lb_node_id lb_expr_keep(lb_graph *g, lb_node_id select);
lb_node_id lb_expr_lowrank(lb_graph *g, lb_node_id x, lb_node_id b, lb_node_id a, float scale);
/* b times a; a is held. */
lb_node_id lb_expr_product(lb_graph *g, lb_node_id b, lb_node_id a);
/* q: SVD; else LB_NODE_NONE. k: EIGEN: how many; TOP: part of the singular values' sum. */
lb_node_id lb_expr_dense(lb_graph *g, lb_dense_op op, lb_node_id x, lb_node_id q, double k);
/* f32 -> f32, f16 or bf16; or, of a stored value of exactly that plain dtype, its bytes. */
lb_node_id lb_expr_encode(lb_graph *g, lb_node_id x, lb_dtype dtype);
/* What the values x are decoded from, rows moved as they are: stored. LB_NODE_NONE: they are
 * computed, or more than rows is moved. */
lb_node_id lb_expr_codes(lb_graph *g, lb_node_id x);
/* Whether it is stored as values of that plain type. */
bool lb_expr_is_stored_as(const lb_graph *g, lb_node_id x, lb_dtype dtype);
/* n_elems elements of a type that values have no way to, copied into the graph. */
lb_node_id lb_expr_bytes(lb_graph *g, lb_dtype dtype, u64 n_elems, const void *bytes);
/* Codes as they are stored, in another layout; x: stored, of an encoding that has such codes. */
lb_node_id lb_expr_repack(lb_graph *g, lb_node_id x, lb_repack repack);
#endif
