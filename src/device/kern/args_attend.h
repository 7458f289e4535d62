/* SPDX-License-Identifier: Apache-2.0 */
/* args_attend.h: args.h of attention: keys and values in pages, what is done with them. */
#ifndef LB_DEVICE_KERN_ARGS_ATTEND_H
#define LB_DEVICE_KERN_ARGS_ATTEND_H

#ifndef LBK_GPU
#include "base/base.h"
#endif

/* The cache of keys and values (model/cache.h): pages of LB_DEV_PAGE_ROWS positions of all layers,
 * page_bytes each; rows of a head of a layer lie together, k_bytes and v_bytes apart, those of
 * keys from k_off on. type: LB_DEV_F32 or LB_DEV_F16. */
#define LB_DEV_PAGE_ROWS 64u
#define LB_DEV_HEAD_MAX 512u /* elements of a head */

/* Keys of the token at first of its row of x [n_tokens][stride], [n_heads][k_dim]; values the same.
 * kv_put and kv_take: in any type; v_dim 0: values are the first elements of keys. */
typedef struct lb_kv_args {
    u32 n_tokens, n_heads, k_dim, v_dim, k_first, v_first, stride;
    u32 k_off, v_off, k_bytes, v_bytes, page_bytes, n_pages, type;
} lb_kv_args;

/* q of a token at first of its row [n_heads][k_dim], n_heads_kv divides n_heads. The pages of a
 * sequence: table [n_seqs][n_table]. A token at pos sees positions 0 .. pos, of a window (0: none)
 * the last so many. Split s has the positions from s * split_rows on; attend_few_* do not look at
 * split_rows. */
typedef struct lb_attend_args {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, first, stride;
    u32 k_off, v_off, k_bytes, v_bytes, page_bytes, n_pages, type;
    u32 n_seqs, n_table, window, split_rows, n_splits;
    float scale, softcap; /* score = scale q.k; softcap tanh(score / softcap) if not 0 */
    u32 has_sinks;        /* of attend_mma_* and attend_few_*, which write what attend_join does */
} lb_attend_args;

/* attend_few_*: words by which the last of a head's splits finds out that it is; splits at most. */
#define LB_DEV_FEW_COUNTERS 4096u
#define LB_DEV_FEW_LEAST 128u /* positions of a split of several, at least */
#define LB_DEV_FEW_SPLITS 64u

/* rope_store: x [n_tokens][stride] has queries at 0, keys at k_first, values at v_first. Queries
 * stay there, keys and values go into pages as in lb_kv_args; pairs and n_rot as in lb_rope_args.
 * Norms by rms, of each head by itself, stand in front of rope or, late, behind it; weights of
 * heads lie q_w_stride and k_w_stride apart. */
typedef struct lb_rope_store_args {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, n_rot, pairs, k_first, v_first, stride;
    u32 k_off, v_off, k_bytes, v_bytes, page_bytes, n_pages, type;
    u32 q_norm, k_norm, late, q_w_stride, k_w_stride;
    float eps;
} lb_rope_store_args;

/* attend_few_*. put: what rope_store does is done as well, of one token (n_tokens 0: nothing is),
 * with the heads and places that `at` has; q is then x, which stays as it is, and at.first is 0. */
typedef struct lb_few_args {
    lb_attend_args at;
    lb_rope_store_args put;
} lb_few_args;

/* out [n_tokens][n_heads][v_dim]; sinks [n_heads] where has_sinks. */
typedef struct lb_join_args {
    u32 n_tokens, n_heads, v_dim, n_splits, has_sinks;
} lb_join_args;

#define LB_DEV_WIDE_MAX 640u /* elements of a head: kv_put, kv_take, attend_wide */

/* As lb_attend_args. v_off is k_off: values are the first elements of keys. n_together: queries
 * that a threadgroup has, 1, 2, 4 or 8. */
typedef struct lb_wide_args {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, first, stride;
    u32 k_off, v_off, k_bytes, v_bytes, page_bytes, n_pages, type;
    u32 n_seqs, n_table, window, split_rows, n_splits, n_together;
    float scale, softcap;
} lb_wide_args;

/* x[row stride + first + i], i < n_cols: every `mix` values, a power of two that divides n_cols;
 * scale: 1 / sqrt(mix), as the reference rounds it. */
#define LB_DEV_MIX_MAX 512u
typedef struct lb_mix_args {
    u32 n_rows, n_cols, first, stride, mix;
    float scale;
} lb_mix_args;

/* kv_move: rows of row_bytes from off on in each page, [n_heads][LB_DEV_PAGE_ROWS]. */
typedef struct lb_move_rows_args {
    u32 n_tokens, n_heads, off, row_bytes, page_bytes, n_pages;
} lb_move_rows_args;

#endif
