/* SPDX-License-Identifier: Apache-2.0 */
/* quant.h: how values become codes: what an encode node of a quantizer carries.
 *
 * GGUF's blocks are one output. MLX's groups have codes, scales and (affine) biases, Hugging Face's
 * types codes, scales and (asymmetric) zero points, each an output of its own; all of a matrix are
 * roots of one job and are made in one visit; a scale of the whole matrix follows from a statistic
 * that is made before it. Of a stack each matrix is a segment of the job.
 * Values that are NaN or infinite have no code, and a scale that is has no value: the run stops and
 * names the output. */
#ifndef LB_PLAN_QUANT_H
#define LB_PLAN_QUANT_H

#include "kernel/kernel.h"
#include "plan/expr.h"

typedef enum lb_quant_kind {
    LB_QUANT_BLOCKS, /* GGUF: `dtype`, with or without importance */
    LB_QUANT_AFFINE, /* MLX: value = code * scale + bias; `bits`, `group` */
    LB_QUANT_MXFP4,  /* MLX: E2M1, a scale of E8M0 for 32 */
    LB_QUANT_MXFP8,  /* MLX: E4M3, a scale of E8M0 for 32 */
    LB_QUANT_NVFP4,  /* MLX: E2M1, a scale of E4M3 for 16 */
    /* compressed-tensors: */
    LB_QUANT_F8,     /* E4M3; a scale for each row, block or matrix */
    LB_QUANT_I8,     /* the same of i8 */
    LB_QUANT_PACKED, /* `bits` 4 or 8 in words of i32; a scale for each group or row */
    /* transformers: */
    LB_QUANT_FINE_F8 /* E4M3; an f32 for each block, row or matrix, what codes are multiplied by */
} lb_quant_kind;

/* Biases: of Hugging Face's types the zero points. */
typedef enum lb_quant_part { LB_QUANT_CODES, LB_QUANT_SCALES, LB_QUANT_BIASES } lb_quant_part;
#define LB_QUANT_PARTS 3

/* What of a matrix has one scale. */
typedef enum lb_quant_scope {
    LB_SCOPE_GROUP,   /* `group` columns of a row */
    LB_SCOPE_CHANNEL, /* a row */
    LB_SCOPE_BLOCK,   /* `band` rows of `group` columns; those at the ends may be smaller */
    LB_SCOPE_TENSOR
} lb_quant_scope;

typedef struct lb_quant {
    lb_quant_kind kind;
    lb_dtype dtype;          /* BLOCKS */
    u32 bits, group;         /* AFFINE: 1..6 or 8; 32, 64 or 128 */
    lb_round round;          /* MLX, HF: the type of the weights, and of scales and biases */
    lb_quant_scope scope;    /* HF */
    u32 band;                /* HF: rows of a block */
    bool asym;               /* I8, PACKED: with zero points */
    bool cpu_rule;           /* MLX: as mlx computes on the CPU; else as on a GPU */
    bool refine;             /* less error than the reference's bytes: kernel/refine.h */
    const float *importance; /* BLOCKS, and with refine any kind: [n_cols], or NULL */
    const void *tables;      /* BLOCKS: lb_quant_tables_init's, where the type needs them */
} lb_quant;

/* One output of quantizing x (values); q outlives the graph. Columns are whole blocks or groups.
 * The node's rows and columns are the output's. */
lb_node_id lb_expr_quant(lb_graph *g, lb_node_id x, const lb_quant *q, lb_quant_part part);
/* Outputs: 1 (blocks), 2 or 3. */
u32 lb_quant_n_parts(const lb_quant *q);
lb_dtype lb_quant_part_dtype(const lb_quant *q, lb_quant_part part);
/* Columns of a block or group, of which a matrix has whole ones, and (GGUF, MLX) the elements of an
 * output for them. */
u32 lb_quant_cols(const lb_quant *q);
u32 lb_quant_part_elems(const lb_quant *q, lb_quant_part part);
/* Whether a call must have a whole row: its weights or its scale follow from all of it. */
bool lb_quant_by_row(const lb_quant *q);

/* An output has `elems` elements for `cols` columns of a band of `rows` rows. */
typedef struct lb_quant_ratio {
    u64 rows, cols, elems;
    bool once; /* for the whole matrix, and known before its rows are */
} lb_quant_ratio;
lb_quant_ratio lb_quant_ratio_of(const lb_quant *q, lb_quant_part part, u64 n_rows, u64 n_cols);
/* The output's rows and columns, of a matrix of n_rows x n_cols. */
void lb_quant_part_shape(const lb_quant *q, lb_quant_part part, u64 n_rows, u64 n_cols,
                         u64 shape[2]);

/* Of GGUF and MLX: n values of one or more rows, whole groups, from column col of each row on; out:
 * a place for each part. With importance: of one row. Returns how many values are NaN or infinite;
 * the output is then of no use. */
u64 lb_quant_run(const lb_quant *q, const lb_kernels *k, u64 n, u64 col, const float *in,
                 u8 *const out[LB_QUANT_PARTS]);

/* ---- quant_hf.c ---- */

static inline bool lb_quant_is_hf(const lb_quant *q) {
    return q->kind >= LB_QUANT_F8;
}
/* A rectangle of a matrix: whole bands of rows where blocks have scales, whole rows where rows have
 * them, whole groups. */
typedef struct lb_quant_rect {
    u64 row, n_rows, n_cols; /* row: the first one's number in the matrix */
    const float *in;
    float range[2]; /* of the whole matrix, where it has one scale */
    u8 *out[LB_QUANT_PARTS];
    u64 stride[LB_QUANT_PARTS]; /* bytes from one band of the output to the next */
} lb_quant_rect;
/* As lb_quant_run. */
u64 lb_quant_run_hf(const lb_quant *q, const lb_kernels *k, const lb_quant_rect *r);

#endif
