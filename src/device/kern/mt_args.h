/* SPDX-License-Identifier: Apache-2.0 */
/* mt_args.h: sizes of products of few tokens by tensor cores (mt.k), for the host and for the
 * kernels' text. */
#ifndef LB_DEVICE_KERN_MT_ARGS_H
#define LB_DEVICE_KERN_MT_ARGS_H

/* Simdgroups of a threadgroup of mt_*, rows of a simdgroup, and what columns are a multiple of. */
#define LB_DEV_MT_SIMDGROUPS 16u
#define LB_DEV_MT_ROWS 16u
#define LB_DEV_MT_COLS 256u
#define LB_DEV_MT_TILE 14336u  /* columns of x that a threadgroup has at a time */
#define LB_DEV_MT_TILE_8 8192u /* of mlx_q8 */
/* Bytes of rows that a simdgroup has on their way, whole slots of mt_all.k: with x a threadgroup
 * fits 227 KiB. */
#define LB_DEV_MT_RING_q4_k 9216u
#define LB_DEV_MT_RING_q5_k 8448u
#define LB_DEV_MT_RING_q6_k 7680u
#define LB_DEV_MT_RING_q8_0 8704u
#define LB_DEV_MT_RING_q4_0 9216u
#define LB_DEV_MT_RING_mlx_q4 9216u
#define LB_DEV_MT_RING_mlx_q8 10240u
#define LB_DEV_MT_RING_bf16 8192u
#define LB_DEV_MT_RING_f16 8192u

#endif
