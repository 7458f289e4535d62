/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_write.h: importance matrices as llama-imatrix writes them, in both forms.
 *
 * Order, keys, shapes and rounding are those of tools/imatrix/imatrix.cpp (save_imatrix,
 * save_imatrix_legacy) of llama-cpp-python 0.3.36: of the same sums and counts the same bytes. A
 * matrix without a count stays 0 / 0 in a GGUF, and its readers take 1; the legacy form, which has
 * no place for that, gets ones there, and no entry where no matrix of it has a count. */
#ifndef LB_FORMAT_IMATRIX_WRITE_H
#define LB_FORMAT_IMATRIX_WRITE_H

#include "format/imatrix.h"
#include "io/out.h"

typedef struct lb_imatrix_sum {
    lb_str name;          /* of a tensor, as GGUF calls it */
    u64 n_values;         /* matrix after matrix */
    u64 n_counts;         /* 1, or one a matrix */
    const double *values; /* [n_values] sums of squares */
    const u64 *counts;    /* [n_counts] tokens */
} lb_imatrix_sum;

typedef struct lb_imatrix_out {
    const lb_imatrix_sum *entries; /* sorted by name, bytewise; unique */
    u64 n_entries;
    const lb_str *datasets; /* the legacy form has room for one: the last */
    u64 n_datasets;
    u64 chunk_size; /* tokens */
} lb_imatrix_out;

/* Chunks that the largest count makes. */
u64 lb_imatrix_chunks(const lb_imatrix_out *x);
/* LB_E_FORMAT: a sum that f32 cannot hold, a name that the form cannot; LB_E_LIMIT: counts, sizes;
 * LB_E_NOMEM. */
lb_status lb_imatrix_write(const lb_imatrix_out *x, bool legacy, lb_out *out, lb_err *err);

#endif
