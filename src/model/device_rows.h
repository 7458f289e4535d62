/* SPDX-License-Identifier: Apache-2.0 */
/* device_rows.h: within model/: matrices that lie behind one another, as one. */
#ifndef LB_MODEL_DEVICE_ROWS_H
#define LB_MODEL_DEVICE_ROWS_H

#include "model/device_graph.h"

/* Bytes of a matrix's rows, scales and biases; 0: it has none of these. */
#define LB_DMAT_PIECES 3u
bool lb_dmat_bytes(const lb_dmat *m, u64 *bytes);
/* Whether rows of both could be rows of one matrix. */
bool lb_dmat_alike(const lb_dmat *a, const lb_dmat *b);
/* Whether b's rows are of a's kind and lie behind them: then a has them too. */
bool lb_dmat_join(lb_dmat *a, const lb_dmat *b);

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
