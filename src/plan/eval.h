/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h: what a worker does with a filled tile, and what is folded in tile order afterwards.
 *
 * Evaluating is parallel and touches only the tile's slab and the worker's scratch; committing runs
 * in tile order, one tile at a time in each job, and is short. */
#ifndef LB_PLAN_EVAL_H
#define LB_PLAN_EVAL_H

#include "kernel/mt19937.h"
#include "plan/encoder.h"
#include "plan/prog.h"
#include "plan/select.h"

/* A result while its job runs. */
typedef struct lb_held {
    double stat[LB_STAT_RESULTS];
    float *values;     /* HOLD: the matrix; DENSE: the factor */
    float *input;      /* DENSE: what is collected; the memory is the next ones' after its pass */
    u8 *work;          /* DENSE: while it is finished; shared */
    double *sums;      /* DENSE, EIGEN */
    double *wide;      /* wide stats: what is found, then the formula's results; COLS: the sums */
    lb_select *select; /* KTH */
    bool any;          /* RANGE: a number was seen */
} lb_held;

typedef struct lb_eval {
    const lb_kernels *k;
    lb_encoding *encoding; /* NULL: quantizers run here */
    const lb_graph *graph;
    const lb_prog *prog;
    const lb_pass *pass;
    lb_held *held;
    lb_visit visit; /* how tiles are read now, and which one this is */
    u64 number;
    lb_rect tile;
    u8 *slab;
    u64 first_row;        /* the one whose output lies at the beginning of an encode node's */
    lb_layout_leaf *leaf; /* [n_leaves] */
    u64 *inst_off;        /* [n_insts] */
    float *slots, *codec; /* scratch */
    u64 counts[LB_ROOTS_MAX][2]; /* of the encoders: values rounded, values that became infinite */
    u64 moved_bytes;             /* copied in memory by index nodes */
    u64 n_bad[LB_ROOTS_MAX];     /* NaN and infinite values that quantizers were given */
} lb_eval;

/* Fills leaf and inst_off for e->tile. */
void lb_eval_layout(lb_eval *e);
/* Draws the tile's random numbers, before lb_eval_rows. m: [pass->n_masks] generators, anywhere. */
void lb_eval_draw(const lb_eval *e, lb_mt19937 *m);
lb_select_at lb_eval_select_at(const lb_eval *e, u32 inst); /* of a KTH */
/* Rows of the tile: all of them, or a batch. What goes to a device is there after
 * lb_encoding_end. */
void lb_eval_rows(lb_eval *e, lb_rect rows);

/* ---- in tile order ---- */
/* What a program holds; held (NULL: nothing is placed): [n_results], memory of so many bytes. */
u64 lb_held_place(const lb_graph *g, const lb_prog *p, lb_held *held, u8 *memory);
const double *lb_held_results(const lb_graph *g, const lb_result *r, const lb_held *h);
/* first: of the pass's rounds. */
void lb_held_begin(const lb_graph *g, const lb_result *r, const lb_pass *p, lb_held *h, bool first);
void lb_eval_commit(const lb_eval *e);
/* After the last tile of a round. NULL, or why a formula has no result. */
const char *lb_held_finish(const lb_graph *g, const lb_kernels *k, const lb_prog *p, u32 result,
                           lb_held *held, lb_visit visit);

#endif
