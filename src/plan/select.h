/* SPDX-License-Identifier: Apache-2.0 */
/* select.h: exact selection by magnitude: the values of given ranks among all of a matrix, and
 * which elements of equal magnitude still belong to the largest.
 *
 * A sample from fixed places gives each rank a bracket of two values. One reading of the matrix
 * counts what lies above, on both ends and (collected) between: then the rank is found among what
 * was collected, or is one of the ends. What was not caught, or is too much to collect, is narrowed
 * by histograms of 2,048 bins, a reading each. Where only some of several equal magnitudes belong
 * to the largest, the first ones in row-major order do; the tile in which the last one of them lies
 * is read once more. So the result depends on the values alone.
 *
 * Magnitudes are compared as integers (the bits of |x|): NaN is above infinity. */
#ifndef LB_PLAN_SELECT_H
#define LB_PLAN_SELECT_H

#include "kernel/kernel.h"
#include "plan/prog.h"

#define LB_SELECT_BINS 2048
#define LB_SELECT_BUCKETS 1024 /* of consecutive tiles, each with its counts */

/* How the tiles of a round are read. */
typedef enum lb_visit {
    LB_VISIT_ALL,
    LB_VISIT_SAMPLE, /* pieces from fixed places */
    LB_VISIT_PLACE   /* the tiles in which equal magnitudes are told apart */
} lb_visit;

typedef enum lb_sought {
    LB_SOUGHT_SAMPLED,
    LB_SOUGHT_COUNTED, /* what lies between lo and hi is collected */
    LB_SOUGHT_BINNED,  /* lo..hi is divided into bins */
    LB_SOUGHT_KNOWN,   /* the value is; which of its equals, not yet */
    LB_SOUGHT_PLACED,  /* the last equal that belongs to the largest is looked for */
    LB_SOUGHT_FOUND
} lb_sought;

/* One rank. */
typedef struct lb_sought_rank {
    lb_sought state;
    u64 rank;   /* from 1; 0: nothing is sought */
    i32 lo, hi; /* bits of magnitudes */
    u64 n_above, n_hi, n_in, n_lo, n_zero;
    bool lost;         /* more was between than had room */
    u32 *list;         /* [cap] collected, in order; or the sample */
    u64 n_list;        /* of them there */
    u64 *bins;         /* [LB_SELECT_BINS] */
    u64 (*buckets)[3]; /* [LB_SELECT_BUCKETS] on hi, between, on lo */
    /* what is found */
    i32 bits;
    u64 above;                      /* how many are larger */
    u64 equal;                      /* of this magnitude */
    u32 equals;                     /* which counts of the buckets those are */
    u64 taken;                      /* of them among the first `rank` */
    u64 end;                        /* and those have an index (row-major) below it */
    u64 first_tile, end_tile, left; /* PLACED: where to look, for which of the equals there */
    /* of a round that places, which strips do not look at */
    u64 passed;   /* equals in the tiles before */
    u64 hit_tile; /* where the one is; UINT64_MAX: not yet known */
    u64 hit_end;
} lb_sought_rank;

typedef struct lb_select {
    lb_sought_rank one[LB_SELECT_RANKS];
    u64 n_elems, n_tiles, cap, n_pieces;
    u64 few;                  /* so many are collected, even of one tile */
    u32 bucket_shift, sample; /* the rank whose list has the sample */
} lb_select;

/* Memory beside lb_held; `more` of that size is divided. */
u64 lb_select_bytes(const lb_node *n, u64 cap);
lb_select *lb_select_place(const lb_node *n, u64 cap, u8 *more);

/* Entries that a tile's part of a rank has room for; bytes of all ranks' parts. */
u64 lb_select_room(u64 n_elems, u64 cap, u64 tile_elems);
u64 lb_select_part_bytes(const lb_node *n, u64 n_elems, u64 cap, u64 tile_elems);

/* The sample of a pass: pieces of one size; 0: it has none. */
u64 lb_select_pieces(const lb_pass *p, u64 cap);
lb_rect lb_select_piece(const lb_pass *p, u64 n_pieces, u64 i);

/* In the order of the calls: begin (once a pass), for each round begin_round, then on each tile
 * clear and strips (parallel), commit (in order), and finish. */
void lb_select_begin(lb_select *s, const lb_node *n, const lb_pass *p);
void lb_select_begin_round(lb_select *s, const lb_node *n);
typedef struct lb_select_at {
    lb_visit visit;
    u64 tile; /* its number in the pass; of a sample the piece's */
    u64 tile_elems;
    u8 *part;
} lb_select_at;
void lb_select_clear(const lb_select *s, const lb_node *n, const lb_select_at *at);
/* Neighbours, row-major; index: of the first of them in the matrix. */
typedef struct lb_select_run {
    u64 index, n;
    const float *x;
} lb_select_run;
void lb_select_strip(const lb_select *s, const lb_node *n, const lb_kernels *k,
                     const lb_select_at *at, lb_select_run run);
void lb_select_commit(lb_select *s, const lb_node *n, const lb_select_at *at);
/* NULL, or why a formula has no result. */
const char *lb_select_finish(lb_select *s, const lb_node *n, lb_visit visit, double *results);
/* Whether a round of the kind is needed now. */
bool lb_select_wants(const lb_select *s, const lb_node *n, lb_visit visit);

/* x where it is among the largest (and, of two ranks, not among the first ones), else x * 0. */
void lb_select_keep(const lb_select *s, u32 n_ranks, const lb_kernels *k, lb_select_run run,
                    float *out);

#endif
