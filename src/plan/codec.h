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
 * end. Their unit_elems is 1 and they are decoded a row at a time, from any column on. */
#ifndef LB_PLAN_CODEC_H
#define LB_PLAN_CODEC_H

#include "kernel/kernel.h"
#include "tensor/source.h"

typedef enum lb_part_kind { LB_PART_ROWS, LB_PART_MAT, LB_PART_GRID } lb_part_kind;

typedef struct lb_codec_part {
    lb_part_kind kind;
    u32 tensor; /* index into the source's tensors */
    lb_dtype dtype;
    u32 unit_bytes; /* ROWS, GRID: bytes of one unit; MAT: bytes of the element */
    /* GRID: */
    u64 rows, cols;  /* of one unit; cols 0: all columns */
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
    bool decodes;     /* has values in f32 */
    bool by_row;      /* decoded by lb_codec_decode_row */
    bool has_grid;
    lb_codec_part part[LB_PARTS_MAX];
} lb_codec;

lb_status lb_codec_of(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err);

/* Plain f32, of no tensor: what the engine itself has written. */
void lb_codec_f32(lb_codec *c);

/* ---- GRID parts ---- */

/* Stored rows, and bytes of each, that hold the values of rows r0.. and columns c0... */
typedef struct lb_codec_span {
    u64 first_row, n_rows, off_bytes, row_bytes;
} lb_codec_span;
lb_codec_span lb_codec_span_of(const lb_codec_part *p, u64 r0, u64 nr, u64 c0, u64 nc);
/* The first stored row of a row's band. */
u64 lb_codec_stored_row(const lb_codec_part *p, u64 row);

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
    /* ROWS: of the first value; MAT: the element; GRID: of the block of (row, col). */
    const u8 *part[LB_PARTS_MAX];
    u64 stride[LB_PARTS_MAX]; /* GRID: to the next stored row of the band */
} lb_codec_row;
void lb_codec_decode_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                         float *scratch);

/* ---- codec_foreign.c, for codec.c alone ---- */

lb_status lb_codec_of_foreign(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err);

#endif
