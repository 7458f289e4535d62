/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h: the dot products of a batch of vectors with many rows of a matrix, tile by tile: the
 * matrix is read once a call and never held.
 *
 * A product is a sum of leaves of LB_GEMM_LEAF elements, so that neither tiles, batches nor threads
 * can be seen in it. */
#ifndef LB_OPS_SCAN_H
#define LB_OPS_SCAN_H

#include "ops/rows.h"

#define LB_SCAN_TILE 96 /* rows a tile: whole registers of every instruction set */

/* dot [n_queries, n]: of row `first + i` of the list in column i. */
typedef struct lb_scan_tile {
    u32 worker;
    u64 first, n;
    const float *rows; /* [n, n_cols] */
    const float *dot;
} lb_scan_tile;

typedef struct lb_scan {
    const lb_rows *rows;
    const u32 *row; /* [n] which rows */
    u64 n;
    u64 n_queries_max;
    const lb_kernels *kernels;
    u32 threads;
    void (*tile)(void *ctx, const lb_scan_tile *t); /* on any thread */
    void *ctx;
    u8 *memory; /* lb_scan_bytes, 16-aligned */
} lb_scan;

u64 lb_scan_bytes(const lb_scan *s);
/* query [n_queries, n_cols] */
lb_status lb_scan_run(const lb_scan *s, const float *query, u64 n_queries, lb_err *err);

#endif
