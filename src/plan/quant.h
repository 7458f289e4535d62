/* SPDX-License-Identifier: Apache-2.0 */
/* quant.h: how values become codes: what an encode node of a quantizer carries.
 *
 * GGUF's blocks are one output. MLX's groups have codes, scales and (affine) biases, each an output
 * of its own; all of a matrix are roots of one job and are made in one visit.
 * Values that are NaN or infinite have no code: the run stops and names the output. */
#ifndef LB_PLAN_QUANT_H
#define LB_PLAN_QUANT_H

#include "kernel/kernel.h"
#include "plan/expr.h"

typedef enum lb_quant_kind {
    LB_QUANT_BLOCKS, /* GGUF: `dtype`, with or without importance */
    LB_QUANT_AFFINE, /* MLX: value = code * scale + bias; `bits`, `group` */
    LB_QUANT_MXFP4,  /* MLX: E2M1, a scale of E8M0 for 32 */
    LB_QUANT_MXFP8,  /* MLX: E4M3, a scale of E8M0 for 32 */
    LB_QUANT_NVFP4   /* MLX: E2M1, a scale of E4M3 for 16 */
} lb_quant_kind;

typedef enum lb_quant_part { LB_QUANT_CODES, LB_QUANT_SCALES, LB_QUANT_BIASES } lb_quant_part;
#define LB_QUANT_PARTS 3

typedef struct lb_quant {
    lb_quant_kind kind;
    lb_dtype dtype;          /* BLOCKS */
    u32 bits, group;         /* AFFINE: 1..6 or 8; 32, 64 or 128 */
    lb_round round;          /* MLX: the type of the weights, and of scales and biases */
    bool cpu_rule;           /* MLX: as mlx computes on the CPU; else as on a GPU */
    bool refine;             /* less error than the reference's bytes: kernel/refine.h */
    const float *importance; /* BLOCKS, and with refine any kind: [n_cols], or NULL */
    const void *tables;      /* BLOCKS: lb_quant_tables_init's, where the type needs them */
} lb_quant;

/* One output of quantizing x (values); q outlives the graph. Columns are whole blocks or groups. */
lb_node_id lb_expr_quant(lb_graph *g, lb_node_id x, const lb_quant *q, lb_quant_part part);
/* Outputs: 1 (blocks), 2 or 3. */
u32 lb_quant_n_parts(const lb_quant *q);
lb_dtype lb_quant_part_dtype(const lb_quant *q, lb_quant_part part);
/* Columns of a block or group, and the elements of an output for them. */
u32 lb_quant_cols(const lb_quant *q);
u32 lb_quant_part_elems(const lb_quant *q, lb_quant_part part);
/* Whether a call must have a whole row: its weights follow from the row's mean square. */
bool lb_quant_by_row(const lb_quant *q);

/* n values of one or more rows, whole groups, from column col of each row on; out: a place for each
 * part. With importance: of one row. Returns how many values are NaN or infinite; the output is
 * then of no use. */
u64 lb_quant_run(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                 u8 *const out[LB_QUANT_PARTS]);

#endif
