/* SPDX-License-Identifier: Apache-2.0 */
/* q8.h: quantized weights and activations in the one form in which they are multiplied.
 *
 * A row of any quantized type becomes codes of a byte, and a scale and perhaps a minimum for each
 * 32 or 16 of them: value = s (q - off) + m. Activations become signed codes of a byte with a scale
 * for each 32. So one product serves all types: lane[g % 16] = fma(sum of (q - off) a over group g,
 * s d, lane), then fma(m, d times sum of a, lane) for g in order, whose 16 lanes are added in pairs
 * at a distance of 8, 4, 2, 1. Sums of codes are exact, so instruction sets, numbers of tokens and
 * blocking cannot be seen in a result.
 *
 * A group whose step is coarse beside the rest of its token, because of one huge value, has a
 * second part: codes of what its first ones leave. Its products are added up by themselves, in
 * lanes of their own, which at the end are added to those of the first.
 *
 * Both are cut into chunks of 512 elements, the last filled up with scales of zero. Codes of a
 * chunk stand in units of 128 columns: the first halves of four groups, then their second halves.
 * So the sums of a group meet in 128 bits of two registers, and packed codes of four bits need no
 * shuffle in most types. */
#ifndef LB_KERNEL_Q8_H
#define LB_KERNEL_Q8_H

#include "base/base.h"
#include "tensor/dtype.h"

#define LB_Q8_CHUNK 512
#define LB_Q8_LANES 16 /* of a sum; rows of a panel */
/* Where the code of column c of a chunk stands. */
static inline size_t lb_q8_at(size_t c) {
    return (c & ~(size_t)127) | (c & 16) << 2 | (c & 96) >> 1 | (c & 15);
}

/* Of activations: a code is x / d rounded to nearest even, d the largest magnitude of 32 / 127 (0
 * and no codes where that magnitude is below 2^-100; NaN and no codes where a value is not finite).
 * s: sums of codes over 32 and 16 elements; m = d s. more: bit g is set where group g of 32 has a
 * second part, in the chunk that stands so many chunks behind as the token has. */
typedef struct lb_q8_act {
    i8 q[LB_Q8_CHUNK];
    float d32[16], m32[16];
    i32 s32[16];
    float d16[32], m16[32]; /* d16: each d twice */
    i32 s16[32];
    u32 more, unused[15];
} lb_q8_act;
/* A group has a second part where its largest magnitude is above so many times the mean of the
 * token's: docs/perf/LOG.md. */
#define LB_Q8_COARSE 12.0f

/* Of weights. Scales and minima of groups of 32 take 16 of the places; m only with LB_Q8_MIN. */
typedef struct lb_q8_row {
    u8 q[LB_Q8_CHUNK];
    float s[32], m[32];
} lb_q8_row;

/* A group of a panel: 16 rows whose codes lie four columns a row. 32 columns, or 16 with
 * LB_Q8_HALVES. Groups stand in the order of lanes, and of one lane in the order of columns. */
typedef struct lb_q8_panel32 {
    u8 q[8][16][4];
    float s[16], m[16];
} lb_q8_panel32;
typedef struct lb_q8_panel16 {
    u8 q[4][16][4];
    float s[16], m[16];
} lb_q8_panel16;

/* What a type is: flags, and the binary logarithm of off (31: off is 0). */
#define LB_Q8_HALVES 1u /* groups of 16 */
#define LB_Q8_MIN 2u    /* with minima */
#define LB_Q8_WIDE 4u   /* codes above 128, of which vpmaddubsw may add two no more */
#define LB_Q8_TYPE(flags, log2_off) ((u32)(flags) | (u32)(log2_off) << 8)
#define LB_Q8_NO_OFF 31
#define LB_Q8_USED (1u << 16) /* the caller's: not 0 */

static inline i32 lb_q8_off(u32 type) {
    return type >> 8 == LB_Q8_NO_OFF ? 0 : (i32)(1u << (type >> 8));
}
static inline size_t lb_q8_chunks(size_t n_cols) {
    return (n_cols + LB_Q8_CHUNK - 1) / LB_Q8_CHUNK;
}
static inline size_t lb_q8_panel_bytes(u32 type, size_t n_cols) {
    return lb_q8_chunks(n_cols) *
           (type & LB_Q8_HALVES ? 32 * sizeof(lb_q8_panel16) : 16 * sizeof(lb_q8_panel32));
}
/* What a product is of. out[t * out_stride + r]. */
typedef struct lb_q8_shape {
    size_t n_rows, n_cols, n_tokens, out_stride;
    u32 type;          /* LB_Q8_TYPE */
    size_t act_stride; /* chunks from a token to the next: once or, with second parts, twice its
                          own */
} lb_q8_shape;

/* Stored rows. */
typedef struct lb_q8_rows {
    const u8 *codes; /* of blocks, or MLX's */
    size_t row_bytes;
    const u8 *scale, *bias; /* MLX: of groups of 32, 64 or 128, rows so many bytes apart */
    size_t scale_bytes;
    u32 group;
    lb_dtype scale_dtype; /* f32, f16, bf16 */
} lb_q8_rows;

#define LB_Q8_TILE 12 /* tokens of a tile, at most */
/* Scratch of gemm_q8: a tile of activations, and its second parts with where they belong. */
static inline size_t lb_q8_tile_bytes(size_t n_cols) {
    return lb_q8_chunks(n_cols) * LB_Q8_TILE * (2 * LB_Q8_CHUNK + 12 * 32 * sizeof(float));
}

#endif
