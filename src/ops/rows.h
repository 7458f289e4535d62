/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: a matrix of a model by rows, as f32, whatever it is stored as: for what reads rows again
 * and again while a source is made (plan/making.h). */
#ifndef LB_OPS_ROWS_H
#define LB_OPS_ROWS_H

#include "plan/making.h"

typedef struct lb_rows {
    int fd;
    const char *path; /* for messages */
    u64 n_rows, n_cols, off_bytes, row_bytes;
    lb_decode_fn *decode;
} lb_rows;

/* Of the tensor with that name in Hugging Face's form. One that is stored as plain rows is read
 * where it lies; any other is computed into a temporary file first. Threads share it. */
lb_status lb_rows_open(lb_rows *out, const lb_source *s, lb_str name, const lb_making_env *env,
                       lb_err *err);
void lb_rows_close(lb_rows *r); /* zero-initialised is closed */

/* scratch: n rows as they are stored (lb_rows.row_bytes each), 16-aligned; out [n, n_cols]. */
lb_status lb_rows_read(const lb_rows *r, u64 first, u64 n, u8 *scratch, float *out, lb_err *err);
/* Of any rows; those that follow each other are read at once. */
lb_status lb_rows_gather(const lb_rows *r, const u32 *row, u64 n, u8 *scratch, float *out,
                         lb_err *err);

#endif
