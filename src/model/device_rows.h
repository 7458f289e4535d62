/* SPDX-License-Identifier: Apache-2.0 */
/* device_rows.h: within model/: matrices that lie behind one another, as one. */
#ifndef LB_MODEL_DEVICE_ROWS_H
#define LB_MODEL_DEVICE_ROWS_H

#include "model/device_graph.h"

/* Bytes of a matrix's rows, scales and biases; 0: it has none of these. */
#define LB_DMAT_PIECES 3u
bool lb_dmat_bytes(const lb_dmat *m, u64 *bytes);
/* Whether rows of both could be rows of one matrix, or both are stacks of as many such. */
bool lb_dmat_alike(const lb_dmat *a, const lb_dmat *b);
/* Whether b's rows are of a's kind and lie behind them: then a has them too. Of stacks a's matrices
 * then have twice the rows, the later ones as far behind the others as the stacks: for mte_*. */
bool lb_dmat_join(lb_dmat *a, const lb_dmat *b);

/* Whether there is a kernel for few tokens: of a matrix (LB_DEV_MT), of a stack's (LB_DEV_MTE);
 * whether so few rows of a stack's are by it whatever else there is. */
bool lb_dmat_has(const lb_context *c, const lb_dmat *m, lb_dev_use few);
bool lb_dmat_by_rows(const lb_context *c, const lb_dmat *m, u32 n_rows);

/* A launch: rows of a matrix to y from first on. */
typedef struct lb_drun {
    lb_dproduct p;
    lb_dmat m;
    lb_dev_use use;
    u32 first;
} lb_drun;
/* Whether next can be part of r: the same product of more rows, whose results follow. Then it is.
 */
bool lb_drun_join(lb_drun *r, const lb_drun *next);

/* All rows of n linears without biases as one matrix; false: they are none. */
bool lb_dlinears_join(const lb_dlinear *const *l, u32 n, lb_dmat *out);

#endif
