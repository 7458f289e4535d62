/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_tiles.h: the walk over a matrix in register tiles, shared by the instruction sets
 * (AVX-512 has its own walk).
 *
 * A block of 64 x 64 elements (8 bytes: 32 x 32) is finished before the next, so that each line of
 * the output, which a tile fills only in part, is still near when its rest comes. What does not
 * fill a tile goes to the reference. */
#ifndef LB_KERNEL_TRANSPOSE_TILES_H
#define LB_KERNEL_TRANSPOSE_TILES_H

#include "kernel/kernel.h"

/* Transposes a square tile; strides in bytes. */
typedef void(lb_tile_fn)(u8 *out, size_t out_stride, const u8 *in, size_t in_stride);

/* Rows of the input so far apart that no processor foresees the next one: the lines of the block
 * that follows are asked for while one is turned. */
#define LB_FAR_BYTES 1024

static inline void lb_tile_ask(const u8 *in, size_t stride, size_t n_rows, size_t row_bytes) {
    for (size_t r = 0; stride >= LB_FAR_BYTES && r < n_rows; r++)
        for (size_t i = 0; i < row_bytes; i += 64)
            __builtin_prefetch(in + r * stride + i);
}

/* The block after the one at (r, c), in the order of a walk in blocks of `side`. */
static inline void lb_tile_ask_next(const u8 *in, size_t stride, size_t elem_bytes, size_t side,
                                    size_t r, size_t n_rows, size_t c, size_t n_cols) {
    c += side;
    if (c >= n_cols) {
        c = 0;
        r += side;
    }
    if (r < n_rows)
        lb_tile_ask(in + r * stride + c * elem_bytes, stride, LB_MIN(side, n_rows - r),
                    LB_MIN(side, n_cols - c) * elem_bytes);
}

typedef struct lb_tile_walk {
    u8 *out;
    const u8 *in;
    size_t out_stride, in_stride, elem_bytes; /* strides in bytes */
    lb_tile_fn *tile;
    size_t side; /* elements; divides 32 */
} lb_tile_walk;

static inline void lb_tile_rest(const lb_tile_walk *w, size_t r, size_t n_rows, size_t c,
                                size_t n_cols) {
    const size_t e = w->elem_bytes;
    if (n_rows && n_cols)
        lb_k_transpose_ref(n_rows, n_cols, e, w->out + c * w->out_stride + r * e, w->out_stride / e,
                           w->in + r * w->in_stride + c * e, w->in_stride / e);
}

static inline void lb_tile_block(const lb_tile_walk *w, size_t r, size_t n_rows, size_t c,
                                 size_t n_cols) {
    const size_t e = w->elem_bytes;
    const u8 *const in = w->in + r * w->in_stride + c * e;
    u8 *const out = w->out + c * w->out_stride + r * e;
    for (size_t j = 0; j < n_cols; j += w->side)
        for (size_t i = 0; i < n_rows; i += w->side)
            w->tile(out + j * w->out_stride + i * e, w->out_stride, in + i * w->in_stride + j * e,
                    w->in_stride);
}

static inline void lb_tile_all(const lb_tile_walk *w, size_t n_rows, size_t n_cols) {
    const size_t block = w->elem_bytes == 8 ? 32 : 64;
    const size_t full_rows = n_rows / w->side * w->side, full_cols = n_cols / w->side * w->side;
    for (size_t r = 0; r < full_rows; r += block)
        for (size_t c = 0; c < full_cols; c += block) {
            lb_tile_ask_next(w->in, w->in_stride, w->elem_bytes, block, r, full_rows, c, full_cols);
            lb_tile_block(w, r, LB_MIN(block, full_rows - r), c, LB_MIN(block, full_cols - c));
        }
    lb_tile_rest(w, 0, full_rows, full_cols, n_cols - full_cols);
    lb_tile_rest(w, full_rows, n_rows - full_rows, 0, n_cols);
}

#endif
