/* SPDX-License-Identifier: Apache-2.0 */
/* mt_args.h: sizes of products of few tokens by tensor cores (mt.k), for the host and for the
 * kernels' text. */
#ifndef LB_DEVICE_KERN_MT_ARGS_H
#define LB_DEVICE_KERN_MT_ARGS_H

/* Simdgroups of a threadgroup of mt_*, rows of a simdgroup, and what columns are a multiple of. */
#define LB_DEV_MT_SIMDGROUPS 8u
#define LB_DEV_MT_ROWS 16u
#define LB_DEV_MT_COLS 256u
#define LB_DEV_MT_KEEP 2u        /* blocks of 256 columns of x that a simdgroup has at a time */
#define LB_DEV_MT_ROUNDS 8u      /* tiles whose sums wait for each other */
#define LB_DEV_MT_COUNTERS 1024u /* words of join before its sums */
/* Bytes of rows that a simdgroup has on their way, whole slots of mt_all.k: with x a threadgroup
 * fits 113 KiB. */
#define LB_DEV_MT_RING_q4_k 9216u
#define LB_DEV_MT_RING_q5_k 11264u
#define LB_DEV_MT_RING_q6_k 11520u
#define LB_DEV_MT_RING_q8_0 9216u
#define LB_DEV_MT_RING_q4_0 9216u
#define LB_DEV_MT_RING_mlx_q4 9216u
#define LB_DEV_MT_RING_mlx_q8 10240u
#define LB_DEV_MT_RING_bf16 10240u
#define LB_DEV_MT_RING_f16 10240u

#endif
