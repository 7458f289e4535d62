/* SPDX-License-Identifier: Apache-2.0 */
/* args.h: the values that kernels take beside buffers, one struct a family: the same text for the
 * host and for every personality of the dialect. Only u32 and float, so that all lay them out
 * alike. Shapes are row-major. */
#ifndef LB_DEVICE_KERN_ARGS_H
#define LB_DEVICE_KERN_ARGS_H

#ifndef LBK_GPU
#include "base/base.h"
#endif

/* In what the scales and biases of MLX's groups are stored. */
#define LB_DEV_F32 0u
#define LB_DEV_F16 1u
#define LB_DEV_BF16 2u

/* y[token][row] = row of w . x[token]; group_elems and scale_type: MLX's groups only. */
typedef struct lb_mv_args {
    u32 n_rows, n_cols, n_tokens, group_elems, scale_type;
} lb_mv_args;

/* out[token][0 .. n_cols) = row ids[token] of w; NaN where ids[token] >= n_rows. */
typedef struct lb_rows_args {
    u32 n_rows, n_cols, n_tokens, group_elems, scale_type;
} lb_rows_args;

/* rms_norm, layer_norm, softmax, argmax: each of n_rows rows by itself. */
typedef struct lb_row_args {
    u32 n_rows, n_cols;
    float eps; /* norms only */
} lb_row_args;

/* x [n_tokens][n_heads][head_dim], cos and sin [n_tokens][n_rot / 2]; pairs: of x[2 i] and
 * x[2 i + 1], else of x[i] and x[i + n_rot / 2]. */
typedef struct lb_rope_args {
    u32 n_tokens, n_heads, head_dim, n_rot, pairs;
} lb_rope_args;

typedef struct lb_map_args {
    u32 n_elems;
} lb_map_args;

#endif
