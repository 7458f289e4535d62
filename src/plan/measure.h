/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h: what quantizers lose of values: the sum over all elements of
 * importance[column] * (x - decoded(quantized(x)))^2, for several quantizers in one visit.
 *
 * A stat node whose results are not a few numbers but as many as there are quantizers; they go to
 * the caller's memory. Differences and products with the importance are f32, sums are folded like
 * those of every stat (LB_FOLD_LEAF, leaves in index order), so that neither tiles nor threads can
 * be seen in them. */
#ifndef LB_PLAN_MEASURE_H
#define LB_PLAN_MEASURE_H

#include "plan/quant.h"

typedef struct lb_measure {
    const lb_quant *const *quants; /* [n] */
    u32 n;
    const float *importance; /* [n_cols], or NULL: 1 */
    /* [n] The run adds to it: zero it before. Infinite or NaN where the type cannot hold a value.
     */
    double *error;
} lb_measure;

/* x: values; their columns are whole blocks or groups of every quantizer. m outlives the graph. A
 * survey's root: only that of a job with one segment. Values that are NaN or infinite end the run,
 * which names the job. */
lb_node_id lb_expr_measure(lb_graph *g, lb_node_id x, lb_measure *m);

/* Values of what lb_quant_run has made: n of them, whole groups. scratch: f32, two for each group.
 */
void lb_quant_decode(const lb_quant *q, const lb_kernels *k, u64 n, float *out,
                     const u8 *const part[LB_QUANT_PARTS], float *scratch);
/* Bytes of a part for n values. */
u64 lb_quant_part_bytes(const lb_quant *q, lb_quant_part part, u64 n);

/* ---- used by the evaluator ---- */

/* Rows of n_cols values each. The sums of quantizer i, row r, leaf j go to
 * leaf[i * quant_leaves + r * row_leaves + j]. */
typedef struct lb_measure_area {
    u64 n_rows, n_cols, col;
    const float *values;
    double *leaf;
    u64 row_leaves, quant_leaves;
    float *scratch; /* lb_measure_scratch_elems */
} lb_measure_area;
u64 lb_measure_scratch_elems(const lb_measure *m, u64 n_elems);
/* Returns how many values are NaN or infinite. */
u64 lb_measure_run(const lb_measure *m, const lb_kernels *k, const lb_measure_area *a);
/* Adds the leaves of a tile, n of each quantizer. */
void lb_measure_add(lb_measure *m, const double *leaf, u64 n);

#endif
