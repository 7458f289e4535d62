/* SPDX-License-Identifier: Apache-2.0 */
/* prog.h: a compiled expression: passes over tiles, made from a graph by compile.c and geometry.c.
 *
 *   program   for one set of roots: passes in order; all but the last end in results (stats, held
 * values) pass      a domain of n_rows x n_cols, cut into tiles; leaves (what is read) and
 * instances (what is computed), in evaluation order instance  a node seen through index nodes:
 * those have been composed and pushed down to the leaves as `moves` (rows) and as a `frame`
 * (columns, transposition), so that slices, permutations and gathers of rows only change which file
 * ranges are read tile      a rectangle of the domain: full rows, or a stretch of one row; all its
 * bytes lie in one slab strip     the part of a tile that a worker evaluates at a time, so that its
 * f32 values stay in cache
 *
 * What is stored with its columns contiguous is read whole, if it fits, as one tile whose rows are
 * computed, written and hashed in batches, each in the cache. */
#ifndef LB_PLAN_PROG_H
#define LB_PLAN_PROG_H

#include "plan/codec.h"
#include "plan/expr.h"

#define LB_ROOTS_MAX 8
#define LB_STRIP_ELEMS \
    16384 /* f32 values of one slot: 64 KiB, so that a few slots share an L2 of 512 KiB */

typedef lb_codec_area lb_rect;

/* Rows of a tile, at least, where they are columns of the file: 64 f32 are four cache lines. */
#define LB_ACROSS_ROWS 64

/* How a node's rectangle follows from the pass's. */
typedef enum lb_axis { LB_AXIS_ROWS, LB_AXIS_COLS, LB_AXIS_ONE, LB_AXIS_ALL } lb_axis;
typedef struct lb_frame {
    lb_axis row, col;
    u64 col_shift; /* added to the first column */
    u64 n_all;     /* LB_AXIS_ALL: how many there are; below a transposition they are rows */
    /* The pass's rows or columns along an axis are divided by these, then multiplied; 0: 1. */
    u32 row_div, col_div, col_mul;
} lb_frame;

typedef struct lb_move {
    lb_index_op op;
    u64 from, step, half;
    union {
        const u64 *table;
        const lb_strides *strides;
    };
} lb_move;

typedef struct lb_moves {
    const lb_move *step;
    u32 n;
    u64 band; /* rows are permuted within bands of so many; 1: in order; 0: anything */
} lb_moves;

typedef struct lb_leaf {
    u32 source;
    const lb_weight *weight;
    lb_codec codec;
    u64 n_rows, n_cols; /* of the read node */
    lb_frame frame;
    lb_moves moves;
    u32 per_row; /* picks: rows that are read for each row of the pass; 0: 1 */
    bool whole;  /* every byte of the ROWS parts is read once a pass, in order within tiles */
    bool spilled;
    bool full_rows; /* tiles are whole rows in the order of the file (lb_pass_fit) */
    bool entire;    /* transposed encodings: a tile reads all bytes of every part (lb_pass_fit) */
    u64 spill_off;  /* spilled: f32 rows in the job's spill file from here; weight is NULL */
} lb_leaf;

/* A stored row for each row. */
static inline bool lb_part_in_rows(const lb_codec_part *p) {
    return p->kind == LB_PART_GRID && p->rows == 1 && p->stored_rows == 1;
}

/* Whether a pass over the leaf sees a part's bytes in order: small parts are read again instead. */
static inline bool lb_leaf_hashes(const lb_leaf *l, u32 part) {
    const lb_codec_part *p = &l->codec.part[part];
    return l->entire || (l->whole && p->kind == LB_PART_ROWS) ||
           (l->full_rows && lb_part_in_rows(p));
}

/* What an instance does about its node's value. */
typedef enum lb_inst_role {
    LB_INST_COMPUTE,
    LB_INST_HELD,    /* takes it from a result's matrix in memory */
    LB_INST_SPILLED, /* reads it from the spill file: its leaf */
    LB_INST_HOLD /* collects its one input into a result's matrix, or writes it to the spill file */
} lb_inst_role;

#define LB_NO_SLOT UINT32_MAX
typedef struct lb_inst {
    const lb_node *node;
    lb_frame frame;
    lb_inst_role role;
    lb_moves moves;  /* MAKE and held values: the rows seen */
    u32 n_in, in[3]; /* instances; more than three: */
    u32 *many;       /* wide stats, ROW_FORMULA: [n_in]; else NULL */
    u32 leaf;        /* DECODE, ENCODE of stored bytes, SPILLED */
    u32 slot;        /* f32 slot of the result */
    u32 result;  /* STAT, HOLD: what it fills; held value: what it reads; MAP: the scalar's stat */
    u32 mask;    /* MAKE, what is drawn: its number in the pass */
    u32 root;    /* ENCODE: index of the root */
    u32 with[2]; /* ENCODE, a quantizer's codes: the instances of the scales and the biases */
    bool picks;  /* takes row `pick` of each leaf.per_row */
    u32 pick;
    bool turned; /* ENCODE: the leaf's elements, rows for columns */
    bool spill;  /* HOLD: into the spill file, from spill_off on */
    bool kept;   /* HOLD: in the slab until the tile is committed */
    u64 spill_off;
    u64 row0; /* HOLD in memory: where the rows of the pass begin in the matrix */
} lb_inst;

static inline u32 lb_inst_input(const lb_inst *x, u32 i) {
    return x->many ? x->many[i] : x->in[i];
}

/* Whether it has random numbers, of each tile, in the slab. */
static inline bool lb_inst_draws(const lb_inst *x) {
    return x->role == LB_INST_COMPUTE && lb_node_draws(x->node);
}

/* ODDS: f32 of scratch before that of the ranks. */
static inline u64 lb_odds_elems(u64 n_cols) {
    return (n_cols + 15) & ~(u64)15;
}

/* The first of a tile's, in the generator's stream. */
static inline u64 lb_inst_first_draw(const lb_inst *x, lb_rect tile) {
    return x->node->u.make.first + tile.r0 * x->node->n_cols + tile.c0;
}

/* Whether the instance's output is its leaf's bytes as they were read. */
static inline bool lb_inst_copies(const lb_inst *x) {
    return x->role == LB_INST_COMPUTE && x->node->kind == LB_NODE_ENCODE && x->leaf != UINT32_MAX &&
           !x->turned && !x->picks && x->node->u.encode.repack == LB_REPACK_NONE;
}

/* HOLD: a matrix computed by itself, before what needs it: because that reads it again and again
 * (A of a low-rank term), or in an order or through a transposition in which its node cannot be
 * evaluated; or because it is a stack: each of its inputs has a pass of its own. */
typedef enum lb_result_kind { LB_RESULT_STAT, LB_RESULT_HOLD, LB_RESULT_DENSE } lb_result_kind;
typedef struct lb_result {
    lb_result_kind kind;
    bool direct;  /* HOLD: wanted as a whole in memory */
    bool spilled; /* HOLD: in the spill file */
    u64 spill_off;
    lb_node_id node; /* STAT: the stat; HOLD, DENSE: whose input is collected */
    u32 level, pass;
    u32 other;            /* DENSE of two inputs: the result that the second is */
    u64 in_rows, in_cols; /* of what is collected */
    u64 out_rows, out_cols;
    u64 fixed_bytes; /* held in memory while the job runs */
    u64 select_cap;  /* KTH: values that each rank may collect */
} lb_result;

typedef struct lb_pass {
    u64 n_rows, n_cols;
    lb_leaf *leaves;
    u32 n_leaves;
    lb_inst *insts;
    u32 n_insts;
    u32 n_slots;
    bool full_cols; /* some node needs whole rows */
    u64 band;       /* rows that are quantized together, in any columns; 1: each by itself */
    bool swapped;   /* some leaf is read transposed */
    bool across;    /* some leaf's file is transposed: rows of a tile are columns there */
    bool folds;     /* stats with ordered leaves: columns are cut at multiples of LB_FOLD_LEAF */
    u32 n_masks;    /* what is drawn in this pass */
    u64 select_cap; /* exact selections (plan/select.h): values that each rank collects; 0: none */
    u64 unit_rows, unit_cols;
    /* geometry (lb_pass_fit) */
    u64 tile_rows, tile_cols, n_tiles, tiles_per_row;
    u64 strip_rows, strip_cols;
    /* Rows that are computed, written and hashed before the next ones are: a tile's outputs have
     * room for so many in its slab, and one tile of the pass is under way at a time. 0: for all of
     * the tile's. */
    u64 batch_rows;
    u64 slab_bytes;    /* of the largest tile */
    u64 slot_elems;    /* of one f32 slot */
    u64 codec_elems;   /* f32 scratch of decoding one strip */
    u64 scratch_bytes; /* what a worker needs beside the slab: slots, decode scratch, tables */
    u64 read_bytes;    /* from files, for the whole pass */
} lb_pass;

typedef struct lb_prog {
    lb_pass *passes;
    u32 n_passes;
    lb_result *results;
    u32 n_results;
    u64 spill_bytes; /* of the spill file */
} lb_prog;

typedef struct lb_prog_limits {
    u64 hold_max_bytes; /* larger held matrices go to a spill file, unless wanted in memory */
    u64 select_max;     /* values that the selections of a job collect */
} lb_prog_limits;
/* Compiles n_roots encode nodes (same rows and columns) or one `stat` (a survey). All memory is the
 * arena's. LB_E_UNSUPPORTED: stored columns that are cut inside a block. */
lb_status lb_prog_compile(lb_prog *p, const lb_graph *g, const lb_node_id *roots, u32 n_roots,
                          const lb_prog_limits *lim, lb_arena *arena, lb_err *err);
/* Cuts every pass into tiles of about target_bytes (at least one unit). */
lb_status lb_prog_fit(lb_prog *p, u64 target_bytes, lb_err *err);

/* ---- used while compiling ---- */

bool lb_frame_eq(const lb_frame *a, const lb_frame *b);
bool lb_frame_is_upright(const lb_frame *f); /* rows and columns of the pass as they are */
/* Joins the leaves that take rows in turn. LB_E_NOMEM. */
lb_status lb_pass_pick(lb_pass *p, lb_arena *arena, lb_err *err);

/* ---- used by the evaluator ---- */

lb_rect lb_frame_rect(const lb_frame *f, lb_rect domain);
/* n units of the codec: part as lb_codec_decode has them; counts as an encoder's (kernel.def). */
void lb_repack_run(lb_repack repack, const lb_codec *c, u64 n, u8 *out, const u8 *const part[],
                   u64 counts[2]);
u64 lb_moves_row(const lb_moves *m, u64 row);

/* The leaf's rectangle for one of the pass, or of an instance that sees its rows upright. */
lb_rect lb_leaf_rect(const lb_leaf *l, lb_rect domain);

/* Where the buffers of a tile lie in its slab. */
typedef struct lb_layout_leaf {
    lb_rect rect; /* of the read node; columns widened to units */
    u64 part_off[LB_PARTS_MAX];
    u64 row_bytes[LB_PARTS_MAX]; /* of one row segment in the slab */
} lb_layout_leaf;
/* Of a transposed encoding: the least range of the weight's rows in which those of a rectangle lie;
 * its parts hold all of it. Else the rectangle. */
lb_rect lb_leaf_held(const lb_leaf *l, lb_rect r);
/* GRID and FLAT parts below moves have all stored rows of its band for each row of the tile;
 * without moves each band is there once. */
u64 lb_leaf_copy_bytes(const lb_leaf *l, u32 part, u64 row_bytes);
#define LB_LEAVES_MAX 512
#define LB_SEGS_MAX 4096 /* file ranges that a worker sorts and reads at a time */
/* Offsets for a tile: leaf[n_leaves]; inst_off[n_insts]: an encode node's output (a copy: the
 * leaf's part itself), rows for the spill file, a stat's partial results, a random mask's bits.
 * Returns the slab's size. */
u64 lb_tile_layout(const lb_pass *p, lb_rect tile, lb_layout_leaf *leaf, u64 *inst_off);
/* Bytes that the tile reads from files. */
u64 lb_tile_read_bytes(const lb_pass *p, lb_rect tile);

lb_rect lb_pass_tile(const lb_pass *p, u64 tile);
bool lb_pass_can_cut_rows(const lb_pass *p);
/* ENCODE: bytes of the output for a rectangle of the pass, whole blocks. */
u64 lb_inst_bytes(const lb_inst *x, u64 n_rows, u64 n_cols);
#endif
