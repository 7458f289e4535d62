/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h: what each of several types would lose of each tensor: a survey, a plan that reads and
 * writes nothing.
 *
 * Every tensor is visited once for all its types, in tiles and on all threads; sums are the same
 * for any number of them and any budget (plan/measure.h).
 *
 * Of a tensor of more than elems_max elements only every k-th band of LB_MEASURE_BAND rows is read,
 * from the first row of each part on, where k = elements / elems_max, rounded up; the sum is then
 * multiplied by rows / rows read. Nothing is chosen at random. */
#ifndef LB_OPS_MEASURE_H
#define LB_OPS_MEASURE_H

#include "plan/measure.h"
#include "plan/run.h"

#define LB_MEASURE_BAND 32

/* Rows with quantizers of their own: a matrix of a stack has an importance for itself. */
typedef struct lb_measure_part {
    lb_node_id values;             /* or stored: then what they decode to */
    const lb_quant *const *quants; /* [n_quants] the same types in every part */
    const float *importance;       /* [n_cols] of each squared error, or NULL: 1 */
} lb_measure_part;

typedef struct lb_measure_tensor {
    lb_str name;
    const lb_measure_part *parts;
    u32 n_parts, n_quants;
    double *error;  /* [n_quants] set by the run; infinite or NaN: the type cannot hold it */
    u64 n_measured; /* elements that were read; set by the run */
} lb_measure_tensor;

typedef struct lb_measure_opts {
    u64 elems_max; /* of a tensor; 0: all are measured */
    u64 memory_bytes;
    u32 threads;
    u64 tile_bytes; /* 0: chosen; tests force it */
    const lb_kernels *kernels;
    bool (*stop)(void *); /* as lb_run_options has them */
    void (*progress)(void *, u64 done_bytes, u64 total_bytes);
    void *user;
} lb_measure_opts;

/* of: the plan in whose graph the values are; it stays as it is. report may be NULL.
 * LB_E_FORMAT names a tensor with values that are NaN or infinite; LB_E_LIMIT: memory; and what
 * lb_run says. */
lb_status lb_measure_tensors(const lb_plan *of, lb_measure_tensor *tensors, u64 n,
                             const lb_measure_opts *o, lb_run_report *report, lb_err *err);
/* The same without running: bytes that it would read. */
lb_status lb_measure_bytes(const lb_plan *of, lb_measure_tensor *tensors, u64 n,
                           const lb_measure_opts *o, u64 *read_bytes, lb_err *err);

#endif
