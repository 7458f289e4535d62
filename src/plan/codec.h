/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h: where the parts of a stored weight lie for a range of rows and columns, and their
 * decoding.
 *
 * Of types, blocks and MLX groups, values come in units of `unit_elems` along a row, and each part
 * holds either `unit_bytes` for each unit (parts of kind ROWS) or one element for a whole matrix or
 * tensor (MAT). A unit never crosses a row.
 *
 * Other tools' encodings also have GRID parts: one unit for a block of `rows` x `cols` values, in
 * stored rows of their own. Blocks begin anew with each matrix of a stack and may be cut at its
 * end. FLAT parts have one unit for so many values in row-major order, whatever rows they are of.
 * Their unit_elems is 1 and they are decoded a row at a time, from any column on.
 *
 * Of a transposed encoding every part is a GRID, and lies as the transposed matrix does: its rows
 * are columns here. A rectangle is decoded at a time. */
#ifndef LB_PLAN_CODEC_H
#define LB_PLAN_CODEC_H

#include "kernel/kernel.h"
#include "tensor/source.h"

typedef enum lb_part_kind { LB_PART_ROWS, LB_PART_MAT, LB_PART_GRID, LB_PART_FLAT } lb_part_kind;

typedef struct lb_codec_part {
    lb_part_kind kind;
    u32 tensor; /* index into the source's tensors */
    lb_dtype dtype;
    u32 unit_bytes; /* ROWS, GRID, FLAT: bytes of one unit; MAT: bytes of the element */
    u64 cols;       /* GRID: columns of one unit, 0: all; FLAT: values of one */
    /* GRID; FLAT is one stored row: */
    u64 rows;        /* of one unit */
    u64 mat_rows;    /* rows of a matrix, at whose ends blocks end */
    u64 stored_rows; /* that hold one band of `rows` rows */
    u64 n_stored;    /* in all */
    u64 stride;      /* bytes of a stored row */
} lb_codec_part;

typedef struct lb_codec {
    lb_enc enc;
    lb_dtype dtype; /* of part 0 */
    u32 unit_elems;
    u32 n_parts;
    u64 rows_per_mat; /* MAT parts: rows that share one element */
    u64 n_cols;       /* of the weight */
    u64 n_groups;     /* enc.ordered */
    bool decodes;     /* has values in f32 */
    bool by_row;      /* decoded by lb_codec_decode_row */
    bool transposed;  /* decoded by lb_codec_decode_rect */
    bool has_grid;
    lb_codec_part part[LB_PARTS_MAX];
} lb_codec;

lb_status lb_codec_of(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err);

/* Plain f32, of no tensor: what the engine itself has written. */
void lb_codec_f32(lb_codec *c);

/* ---- GRID and FLAT parts ---- */

/* Stored rows, and bytes of each, that hold the values of rows r0.. and columns c0... */
typedef struct lb_codec_span {
    u64 first_row, n_rows, off_bytes, row_bytes;
} lb_codec_span;
typedef struct lb_codec_area {
    u64 r0, nr, c0, nc;
} lb_codec_area;
lb_codec_span lb_codec_span_of(const lb_codec *c, u32 part, lb_codec_area a);
/* The most bytes of a span of so many rows and columns, wherever it begins. */
u64 lb_codec_span_max(const lb_codec *c, u32 part, u64 nr, u64 nc);
/* Where the unit of (row, col) begins in a buffer that holds the span of an area from (r0, c0) on
 * in rows of row_bytes. Not of a transposed encoding. */
u64 lb_codec_offset(const lb_codec *c, u32 part, lb_codec_area a, u64 row, u64 col, u64 row_bytes);
/* What a file says must lie within bounds before it is used: bytes of a part that were read. */
lb_status lb_codec_check(const lb_codec *c, u32 part, const u8 *bytes, u64 n_bytes, lb_err *err);

/* ---- decoding ---- */

/* Scratch (f32) that decoding n_elems needs beside its output: MLX scales and biases. by_row:
 * decoding a row of n_elems. */
u64 lb_codec_scratch_elems(const lb_codec *c, u64 n_elems);

/* Decodes n_elems (whole units, consecutive in memory in every ROWS part) to f32. part[p] points to
 * the first unit's bytes (ROWS) or to the element (MAT). */
void lb_codec_decode(const lb_codec *c, const lb_kernels *k, u64 n_elems, float *out,
                     const u8 *const part[], float *scratch);

/* n values of one row, from column col on. */
typedef struct lb_codec_row {
    u64 row, col, n;
    /* ROWS: of the first value; MAT: the element; GRID, FLAT: of the unit of (row, col). */
    const u8 *part[LB_PARTS_MAX];
    u64 stride[LB_PARTS_MAX]; /* GRID: to the next stored row of the band */
} lb_codec_row;
void lb_codec_decode_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                         float *scratch);

/* Rows and columns of a transposed encoding, within the area whose spans lie at part[]. */
typedef struct lb_codec_rect {
    lb_codec_area area, held;
    const u8 *part[LB_PARTS_MAX];
    /* NULL, or the row of held (counted from its first) that is row i of the result; area is held's
     * rows then. */
    const u32 *order;
    u64 n_order;
} lb_codec_rect;
/* Scratch (f32) for up to so many rows that are held and columns. */
u64 lb_codec_rect_scratch(const lb_codec *c, u64 n_rows, u64 n_cols);
/* out: rows of area.nc values. */
void lb_codec_decode_rect(const lb_codec *c, const lb_kernels *k, const lb_codec_rect *at,
                          float *out, float *scratch);

/* ---- codec_foreign.c, codec_transposed.c, for codec.c and one another alone ---- */

lb_status lb_codec_of_foreign(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err);
void lb_codec_parts_transposed(lb_codec *c, const lb_source *s, const lb_weight *w);
/* To f32, floats and E8M0 that is stored as bytes. */
void lb_codec_decode_floats(const lb_kernels *k, lb_dtype t, u64 n, float *out, const u8 *in);
void lb_codec_round(const lb_codec *c, const lb_kernels *k, u64 n, float *values);

#endif
