/* SPDX-License-Identifier: Apache-2.0 */
/* args_tiles.h: args.h of products of tiles of f16: which layout these have, and the values of
 * their kernels. */
#ifndef LB_DEVICE_KERN_ARGS_TILES_H
#define LB_DEVICE_KERN_ARGS_TILES_H

#ifndef LBK_GPU
#include "base/base.h"
#endif

/* Tiles: matrices as f16 in tiles of LB_DEV_TILE_ROWS rows by LB_DEV_TILE_COLS columns, which
 * tensor cores read as they lie. Of n_cols columns the tile at row r, column c begins at (r /
 * TILE_ROWS * ceil(n_cols / TILE_COLS) + c / TILE_COLS) * TILE_BYTES; in it row i has 128 bytes at
 * 128 i, of which piece p (8 values) lies at ((p ^ (i & 7)) * 16). Zeros stand beyond the last
 * column, and beyond the last row up to a whole tile (of tokens) or two of them (of weights). */
#define LB_DEV_TILE_ROWS 128u
#define LB_DEV_TILE_COLS 64u
#define LB_DEV_TILE_BYTES 16384u
#define LB_DEV_TILE_PAD 256u /* rows of weights are padded to a multiple of it */

/* unpack_*: rows [first, first + n) of matrix mat of n_mats (0: 1) of n_rows, as tiles from the
 * first on; of n_more matrices behind it the same, each padded by itself. */
typedef struct lb_unpack_args {
    u32 n_rows, n_cols, group_elems, scale_type, scale_rows, n_mats, mat, first, n, n_more;
} lb_unpack_args;

/* tile_rows: x [n_tokens][x_stride], each token's values from first on; norm: their rms norm.
 * scales [n_tokens, rounded up to TILE_ROWS]: powers of two by which values were divided, so that
 * the largest of a token is below 2^14, and at least 2^13 where it is at least 2^-112; 1 of zeros.
 */
typedef struct lb_tile_args {
    u32 n_tokens, n_cols, first, x_stride, norm;
    float eps;
} lb_tile_args;

/* gemm: y[t y_stride + y_first + r] = p = times scale[t] sum of a[t][c] b[r][c] over n_cols columns
 * of tiles; add: (y + add_times p) add_scale. gemm_gated: of two b of the same shape g (by times)
 * and u (by add_times); tiles of act(g) u / LB_DEV_GATED_SCALE, act one of LB_DEV_PRE_*. a_scale:
 * of all tokens; 0: scales has them. parts: of gemm's columns, that many make each part of y at a
 * time (0 is 1; only CUDA's text shares them): join has counters, zeros before and after, then what
 * they leave, LB_DEV_GEMM_LEFT of 128 tokens by 256 rows. */
#define LB_DEV_GATED_SCALE 16.0f
#define LB_DEV_GEMM_COUNTERS 1024u /* words of join before its sums */
#define LB_DEV_GEMM_LEFT 131072u   /* bytes */
typedef struct lb_gemm_args {
    u32 n_tokens, n_rows, n_cols, y_first, y_stride, add;
    float times, add_times, add_scale;
    u32 act;
    float alpha, limit, a_scale;
    u32 parts;
} lb_gemm_args;

/* Experts: routes [n_routes][2] (the matrix, a weight) in tiles of tokens, each of one matrix.
 * routes_tiles (lb_group_args) makes the plan, in u32: firsts [n_mats + 2][2], the first tile and
 * the first pair of each matrix (the one behind the last: of routes of no matrix; then the ends);
 * at a multiple of four tiles [n_routes / TILE_ROWS + n_mats + 1][4]: the matrix, the place of its
 * first route in the order, how many it has, and of entry p the first tile of pair p (two tiles of
 * one matrix, of an odd number the last alone); the order [n_routes], those of one matrix together;
 * routes_count has put counts [n_mats + 1] behind it.
 *
 * tile_routes: tiles of tokens [n_tokens] (tile_rows) as the plan has them: place i of the order is
 * of token order[i] / per; scales the same. Rows beyond a tile's count are zeros, of scale 1. */
typedef struct lb_tile_routes_args {
    u32 n_routes, n_mats, per, n_cols;
} lb_tile_routes_args;

/* gemm_experts: y[route][n_rows] = times scale sum of a b + bias[matrix], for routes of matrices
 * [first_mat, first_mat + n_b), whose rows b has as tiles, each padded to TILE_PAD; with the last
 * one those of no matrix, which are NaN. gemm_experts_gated: b has all gates, then all partners;
 * out is in the plan's tiles. bias [n_mats][n_rows], where has_bias; the rest as of lb_gemm_args.
 */
typedef struct lb_gemm_experts_args {
    u32 n_routes, n_mats, n_rows, n_cols, first_mat, n_b, has_bias;
    float times, up_times;
    u32 act;
    float alpha, limit, a_scale;
} lb_gemm_experts_args;

#endif
