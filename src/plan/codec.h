/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h: where the parts of a stored weight lie for a range of rows and columns, and their
 * decoding.
 *
 * Every encoding is described the same way: values come in units of `unit_elems` along a row, and
 * each part holds either `unit_bytes` for each unit (parts of kind ROWS) or one element for a whole
 * matrix or tensor (MAT). A unit never crosses a row. */
#ifndef LB_PLAN_CODEC_H
#define LB_PLAN_CODEC_H

#include "kernel/kernel.h"
#include "tensor/source.h"

typedef enum lb_part_kind { LB_PART_ROWS, LB_PART_MAT } lb_part_kind;

typedef struct lb_codec_part {
    lb_part_kind kind;
    u32 tensor; /* index into the source's tensors */
    lb_dtype dtype;
    u32 unit_bytes; /* ROWS: bytes of one unit; MAT: bytes of the element */
} lb_codec_part;

typedef struct lb_codec {
    lb_enc enc;
    lb_dtype dtype; /* of part 0 */
    u32 unit_elems;
    u32 n_parts;
    u64 rows_per_mat; /* MAT parts: rows that share one element */
    bool decodes;     /* has values in f32 */
    lb_codec_part part[LB_PARTS_MAX];
} lb_codec;

lb_status lb_codec_of(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err);

/* Plain f32, of no tensor: what the engine itself has written. */
void lb_codec_f32(lb_codec *c);

/* Scratch (f32) that decoding n_elems needs beside its output: MLX scales and biases. */
u64 lb_codec_scratch_elems(const lb_codec *c, u64 n_elems);

/* Decodes n_elems (whole units, consecutive in memory in every ROWS part) to f32. part[p] points to
 * the first unit's bytes (ROWS) or to the element (MAT). */
void lb_codec_decode(const lb_codec *c, const lb_kernels *k, u64 n_elems, float *out,
                     const u8 *const part[], float *scratch);

#endif
