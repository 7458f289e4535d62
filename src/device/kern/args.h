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
#define LB_DEV_E8M0 3u /* these two: of rows with scales of their own */
#define LB_DEV_E4M3 4u
#define LB_DEV_Q8_0 5u /* these two: of keys and values */
#define LB_DEV_Q4_0 6u

/* y[token][y_first + row] = times * row of w . x[token / per]; y_stride: values between tokens of
 * y, 0: n_rows. group_elems and scale_type: MLX's groups only. n_mats and per (0: 1): mve_* alone,
 * whose w is a stack of n_mats matrices of n_rows; token t takes the matrix that its route names.
 * mt_*: per is how many threadgroups a token has (0: as there are rows). parts: so many of them
 * share the columns of the same rows (0, 1: none do); the last one of these adds up what they leave
 * in join: counters, zeros before and after, then sums [n_tokens][parts][n_rows]. */
typedef struct lb_mv_args {
    u32 n_rows, n_cols, n_tokens, group_elems, scale_type, scale_rows;
    u32 y_first, y_stride, n_mats, per;
    float times;
    /* mv_*, mt_*: what x is made of (LB_DEV_PRE_*) and where it is; add: the product p becomes
     * (y + add_times p) add_scale */
    u32 pre, x_stride, second, gated, add;
    /* of a threadgroup, at most 16; so many of them share rows: a power of two that divides it */
    u32 simdgroups, split;
    float eps, alpha, limit, add_times, add_scale;
    /* mt_* alone, where x is made of no activation: one of sums, before they are added; gated: y
     * has n_rows / 2 values, that of row r times the sum of row r + n_rows / 2 */
    u32 act;
    u32 parts;
    u32 per_x; /* mte_*: rows of y that one of x makes */
} lb_mv_args;

/* x [n_tokens][x_stride], 0: n_cols. NORM: its rms norm by pre [n_cols], eps; the others: an
 * activation of x[i], times x[second + i] if gated; alpha and limit of OAI. */
#define LB_DEV_PRE_NONE 0u
#define LB_DEV_PRE_NORM 1u
#define LB_DEV_PRE_SILU 2u
#define LB_DEV_PRE_GELU 3u
#define LB_DEV_PRE_GELU_ERF 4u
#define LB_DEV_PRE_RELU2 5u
#define LB_DEV_PRE_OAI 6u

/* mm_*: the same for many tokens, which a threadgroup takes in tiles. n_mats > 0: of a stack; the
 * plan (routes_group) then has, for each of n_tokens / LB_DEV_MM_TOKENS + n_mats + 1 tiles, the
 * matrix, the place of its first token among the tokens in order, how many it has, 0; then all
 * tokens, those of one matrix together. Of one matrix the plan is not read. */
#define LB_DEV_MM_TOKENS 64u
#define LB_DEV_MM_ROWS 64u

/* A plan for routes [n_routes][2], whose first is the matrix; those of no matrix come last. */
typedef struct lb_group_args {
    u32 n_routes, n_mats;
} lb_group_args;

/* sums [n_mats][n_cols] += squares of x's rows, stride apart; counts [n_mats] += rows. per 0: all
 * of one matrix; else row r / per of x goes to the matrix that routes [n_rows][2] name first, if
 * there is such a one. */
typedef struct lb_sums_args {
    u32 n_rows, n_cols, stride, per, n_mats;
} lb_sums_args;

/* top_*: the first k of a row of n_cols logits; n_lists: of those that are merged. */
#define LB_DEV_TOP_CHUNK 2048u
#define LB_DEV_TOP_WAYS 8u
#define LB_DEV_TOP_MAX 1024u
typedef struct lb_top_args {
    u32 n_cols, k, n_lists;
} lb_top_args;

/* out[token][0 .. n_cols) = row ids[token] of w; NaN where ids[token] >= n_rows. */
typedef struct lb_rows_args {
    u32 n_rows, n_cols, n_tokens, group_elems, scale_type, scale_rows;
} lb_rows_args;

/* rms_norm, layer_norm, softmax, argmax: each of n_rows rows by itself. */
typedef struct lb_row_args {
    u32 n_rows, n_cols;
    float eps; /* norms only */
} lb_row_args;

/* x [n_tokens][first + n_heads head_dim], stride values between tokens (0: n_heads head_dim);
 * cos and sin [n_tokens][n_rot / 2]; pairs: of x[2 i] and x[2 i + 1], else of x[i] and
 * x[i + n_rot / 2]. */
typedef struct lb_rope_args {
    u32 n_tokens, n_heads, head_dim, n_rot, pairs, first, stride;
} lb_rope_args;

typedef struct lb_map_args {
    u32 n_elems;
} lb_map_args;

/* Each head of each token by itself, in place: x[token * stride + first + head * n_cols + i]; its
 * weights begin at head * w_stride. */
typedef struct lb_heads_args {
    u32 n_tokens, n_heads, n_cols, first, stride, w_stride;
    float eps;
} lb_heads_args;

/* x[row * stride + first + i], i < n_cols, in place. times, scale, cap: what the kernel says. */
typedef struct lb_vec_args {
    u32 n_rows, n_cols, first, stride;
    float times, scale;
    u32 y_stride; /* residual: values between rows of y; 0: y lies as x does */
} lb_vec_args;

/* out [n_rows][n_cols] = f(x[row * stride + first + i]) * x[row * stride + second + i]; gated 0:
 * without the factor. alpha, limit: act_oai only. */
typedef struct lb_act_args {
    u32 n_rows, n_cols, first, second, stride, gated;
    float alpha, limit;
} lb_act_args;

/* How experts are scored: the numbers of arch_graph.h's lb_router_fn. */
#define LB_DEV_ROUTE_SOFTMAX 1u
#define LB_DEV_ROUTE_SIGMOID 2u
#define LB_DEV_ROUTE_SOFTMAX_TOP 3u
#define LB_DEV_ROUTE_MIXER 64u /* route_two alone */
#define LB_DEV_MIXER_NOISE 0.01f
#define LB_DEV_EXPERTS_MAX 1024u
#define LB_DEV_GROUPS_MAX 256u

/* Of each token n_used of n_experts, n_groups_used of n_groups at first (n_groups 0 or 1: all);
 * selection [n_experts] is added to scores when experts are chosen, where has_selection. Weights
 * are divided by their sum (norm, at least least_sum) and multiplied by times. */
typedef struct lb_route_args {
    u32 n_tokens, n_experts, n_used, n_groups, n_groups_used, how, has_selection, norm;
    float least_sum, times;
} lb_route_args;

/* out [n_tokens][n_cols] = sum over k of weight k * x [n_tokens * n_used][n_cols]; add: it becomes
 * (out + add_times sum) add_scale. */
typedef struct lb_experts_args {
    u32 n_tokens, n_cols, n_used, n_mats; /* n_mats: of bias_experts */
    u32 first, stride;                    /* of a row of x: bias_experts */
    u32 add;
    float add_times, add_scale;
} lb_experts_args;

/* enc_*: n_blocks of values [n_blocks][block] to blocks of a type. The first of them is block
 * first_block of a row of row_blocks; importance [row_blocks][block] where has_importance. */
typedef struct lb_encode_args {
    u32 n_blocks, row_blocks, first_block, has_importance;
} lb_encode_args;

/* enc_mlx_*: values [n_groups][group] in in_type to groups of codes of `bits`: affine, with scales
 * and biases in out_type, or floats with a scale's byte. cpu_rule: affine, as mlx rounds on the
 * CPU. Types: LB_DEV_F32, _F16, _BF16. */
typedef struct lb_encode_mlx_args {
    u32 n_groups, group, bits, in_type, out_type, cpu_rule;
} lb_encode_mlx_args;

/* out[t][o_first + h o_head + i] = x[t stride + first + h head + i], i < n_cols; head 0: all heads
 * have the same. */
typedef struct lb_move_args {
    u32 n_tokens, n_heads, n_cols, first, head, stride, o_first, o_head, o_stride;
} lb_move_args;

/* x[row stride + first + i] *= f(y[row y_stride + y_first + i]), i < n_cols */
typedef struct lb_times_args {
    u32 n_rows, n_cols, first, stride, y_first, y_stride;
} lb_times_args;

/* Heads in place, as in lb_heads_args: x / sqrt(sum of squares + eps), the first n_times of them
 * times a factor. */
typedef struct lb_l2_args {
    u32 n_tokens, n_heads, n_cols, first, stride, n_times;
    float eps, times;
} lb_l2_args;

/* Recurrent layers. Tokens of one sequence are a run of the batch: runs [n_runs][4] its first
 * token, how many, the sequence, the first one's position: at 0 nothing was before. A sequence's
 * states lie state_stride floats apart; a layer's begins at state_first. */
typedef struct lb_conv_args {
    u32 n_tokens, n_channels, width, first, stride; /* x of a token: [n_channels] from first on */
    u32 gated, gate_in, gate_out; /* factors on x and on the result, in the same row */
    u32 silu;                     /* of the result */
    u32 n_runs, n_seqs, state_first, state_stride;
} lb_conv_args;

/* gates [n_tokens][n_heads][2]: decay, beta. Of head h at (h / group) step + h % group behind beta
 * and alpha. */
typedef struct lb_gates_args {
    u32 n_tokens, n_heads, beta, alpha, stride, group, step;
} lb_gates_args;

/* x of a token: q [n_k][k_dim], k the same, v [n_v][v_dim]; out [n_tokens][n_v][v_dim]; a state is
 * [n_v][k_dim][v_dim]. tiled: head of values h has the keys of h % n_k, else of h / (n_v / n_k). */
#define LB_DEV_STATE_KEYS_MAX 256u
#define LB_DEV_DELTA_CHUNK 16u /* tokens that delta_chunks has at a time */
typedef struct lb_delta_args {
    u32 n_tokens, n_k, n_v, k_dim, v_dim, tiled, stride;
    u32 n_runs, n_seqs, state_first, state_stride;
} lb_delta_args;

#include "device/kern/args_attend.h"
#include "device/kern/args_tiles.h"

#endif
