/* SPDX-License-Identifier: Apache-2.0 */
/* importance.h: an importance matrix as quantizers take it: a vector of weights a matrix, for the
 * tensors of a model that it was checked against. */
#ifndef LB_OPS_IMPORTANCE_H
#define LB_OPS_IMPORTANCE_H

#include "base/mapped.h"
#include "format/imatrix.h"

typedef struct lb_importance {
    lb_source *file;
    lb_fds *fds;
    u64 *place;          /* [entries] elements before the entry's in `values`; UINT64_MAX: unused */
    const float *values; /* of all used entries */
    float *own;          /* they, in the heap */
    lb_mapped mapped;    /* or a file's, values_bytes of it */
    u64 values_bytes;
    u64 n_entries; /* that the user lets count */
    u64 n_used;    /* for a tensor of the model */
    u64 n_left;    /* see lb_imatrix_match */
    lb_str first_left;
} lb_importance;

typedef struct lb_importance_opts {
    const char *path;
    const char *const *include; /* [n_include] parts of names; n_include 0: all */
    u32 n_include;
    const char *const *exclude;
    u32 n_exclude;
    const char *temp_dir; /* where a large one is kept; NULL: TMPDIR, else /tmp */
} lb_importance_opts;

/* Reads what is for these tensors (all of the model, by their names in GGUF) and refuses what
 * lb_imatrix_match_model refuses. Large ones lie in a file without a name, so that they take no
 * budget. *x is to be closed in any case. */
lb_status lb_importance_open(lb_importance *x, const lb_importance_opts *o,
                             const lb_imatrix_tensor *tensors, u64 n, lb_err *err);
void lb_importance_close(lb_importance *x);
/* The weights of a tensor: n_mats vectors of its columns. NULL: it has none. */
const float *lb_importance_of(const lb_importance *x, lb_str name, const lb_shape *shape,
                              u64 *n_mats);

#endif
