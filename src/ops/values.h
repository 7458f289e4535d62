/* SPDX-License-Identifier: Apache-2.0 */
/* values.h: the values of a weight as f32, tile by tile, in canonical layout: for operations that
 * look at every value and write no model (diff, verify).
 *
 * A tile is a run of whole rows, or a stretch of one row that is too long. Tiles depend on the
 * weight alone, never on threads or budget, so results folded tile by tile do not either. */
#ifndef LB_OPS_VALUES_H
#define LB_OPS_VALUES_H

#include "base/base.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "plan/codec.h"
#include "plan/expr.h"
#include "tensor/source.h"

#define LB_VALUES_TILE \
    65536 /* elements aimed at: f32 of two tiles and their difference share an L2 */

typedef struct lb_values {
    const lb_source *source;
    const lb_weight *weight;
    lb_codec codec;
    u64 n_rows, n_cols;
    u64 first_row;          /* of the weight: lb_values_slice */
    bool moved, moved_cols; /* row (column) i stands at `order` of i */
    lb_strides order;
    bool transposed; /* n_rows and n_cols are those of the transposed weight */
    u64 col_from, col_step,
        all_cols; /* of its columns, each col_step-th of all_cols; step 0: all */
    /* Stored -> canonical: rows 2i+h of each head (GGUF) come to h*half+i. */
    u64 head_rows; /* rows of a head; 0: rows stand in order */
    /* Of which something else is stored elsewhere: adds one, or takes -exp, in f32, and rounds to a
     * type (LB_F32: not). The way there is exact to repeat; the way back is not. */
    bool add_one, neg_exp;
    lb_dtype round;
} lb_values;

typedef struct lb_values_tile {
    u64 r0, nr, c0, nc;
} lb_values_tile;

/* heads: 0, or the number of heads whose rows are interleaved. LB_E_FORMAT if they do not divide
 * the rows. A vector with heads is seen as one column. All rows unless sliced. */
lb_status lb_values_init(lb_values *v, const lb_source *s, const lb_weight *w, lb_err *err);
lb_status lb_values_heads(lb_values *v, u64 heads, lb_err *err);

/* Only so many rows of the weight (a vector: elements). Before heads are set. LB_E_FORMAT if it
 * does not have them. */
lb_status lb_values_slice(lb_values *v, u64 first_row, u64 n_rows, lb_err *err);

/* Seen as so many rows, whatever its dimensions are (plain types). Before slices. */
lb_status lb_values_as_rows(lb_values *v, u64 n_rows, lb_err *err);

/* Of the rows of the slice those at `order` of 0, 1, ...: n_rows in all. */
lb_status lb_values_order(lb_values *v, const lb_strides *order, u64 n_rows, lb_err *err);
/* Columns in another order: rows are then read whole. */
lb_status lb_values_order_cols(lb_values *v, const lb_strides *order, lb_err *err);

/* The weight transposed. Not with heads or slices. LB_E_UNSUPPORTED for types that are not decoded
 * to f32. */
lb_status lb_values_transpose(lb_values *v, lb_err *err);

/* Of the rows of a transposed weight, every step-th from `from` on. LB_E_FORMAT if they do not
 * divide so; LB_E_UNSUPPORTED for types whose values come in blocks. */
lb_status lb_values_every(lb_values *v, u64 from, u64 step, lb_err *err);

/* The elements of a vector as rows of one element; nothing for a matrix. */
void lb_values_as_column(lb_values *v);

/* Cuts n_rows x n_cols into tiles; rows of one head are never separated, a row that is too long is
 * cut at multiples of LB_VALUES_TILE, and no tile crosses into the next matrix of a stack whose
 * matrices have scales of their own. */
typedef struct lb_values_cut {
    u64 n_rows, n_cols, tile_rows, tile_cols, tiles_per_row, n_tiles, band_rows, tiles_per_band;
} lb_values_cut;
void lb_values_cut_init(lb_values_cut *c, const lb_values *a, const lb_values *b);
lb_values_tile lb_values_cut_get(const lb_values_cut *c, u64 tile);

/* Buffers for reading tiles of up to n_elems of either weight. */
u64 lb_values_stored_bytes(const lb_values *v,
                           const lb_values_tile *t); /* all parts, each aligned */
/* Bytes of scratch for lb_values_read: stored parts, scales, one tile where rows are permuted. */
u64 lb_values_scratch_bytes(const lb_values *v, const lb_values_cut *c);

/* What a reading thread brings. scratch: lb_values_scratch_bytes, 64-aligned, its own. */
typedef struct lb_values_io {
    lb_fds *fds; /* of the weight's source */
    const lb_kernels *kernels;
    u8 *scratch;
} lb_values_io;

/* Reads a tile and decodes it to out [nr * nc]. Only for weights whose codec decodes. */
lb_status lb_values_read(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                         float *out, lb_err *err);
/* Where lb_values_read left the stored bytes of a part: for hashing what was read. */
const u8 *lb_values_part(const lb_values *v, const lb_values_io *io, const lb_values_tile *t, u32 p,
                         u64 *len);
/* The stored bytes of part 0 to the scratch instead: for integers. */
lb_status lb_values_read_stored(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                                lb_err *err);

#endif
