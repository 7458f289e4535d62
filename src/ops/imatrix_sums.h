/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_sums.h: importance matrices that grow: sums of squares and counts a tensor, from a model
 * that runs (imatrix.h) or from files, which add up.
 *
 * Sums are doubles; whoever adds in the same order gets the same bytes. Beyond heap_bytes they lie
 * in temporary files without names, whose pages are not the process's memory. */
#ifndef LB_OPS_IMATRIX_SUMS_H
#define LB_OPS_IMATRIX_SUMS_H

#include "format/imatrix_write.h"
#include "ops/write_file.h"

typedef struct lb_imatrix_set lb_imatrix_set;

typedef struct lb_imatrix_entry_sums {
    lb_str name;
    u64 n_values, n_counts;
    double *values; /* [n_values], from 0 on */
    u64 *counts;    /* [n_counts] */
} lb_imatrix_entry_sums;

/* temp_dir: NULL: TMPDIR, else /tmp. chunk_size: tokens, not 0. */
lb_status lb_imatrix_set_new(lb_imatrix_set **out, u64 heap_bytes, const char *temp_dir,
                             u64 chunk_size, lb_err *err);
void lb_imatrix_set_free(lb_imatrix_set **s);

u64 lb_imatrix_set_n(const lb_imatrix_set *s);
lb_imatrix_entry_sums *lb_imatrix_set_at(const lb_imatrix_set *s, u64 i); /* as they were made */
/* NULL: there is none. */
lb_imatrix_entry_sums *lb_imatrix_set_find(const lb_imatrix_set *s, lb_str name);
/* A new one of zeros; the name is copied. */
lb_status lb_imatrix_set_add(lb_imatrix_set *s, lb_str name, u64 n_values, u64 n_counts,
                             lb_imatrix_entry_sums **out, lb_err *err);
/* A count for each of n matrices where there is one for all. */
lb_status lb_imatrix_set_widen(lb_imatrix_set *s, lb_imatrix_entry_sums *e, u64 n, lb_err *err);
lb_status lb_imatrix_set_dataset(lb_imatrix_set *s, lb_str name, lb_err *err);

/* Adds an opened file: sums to sums, counts to counts. The legacy form counts in chunks: they are
 * taken to be of chunk_size. LB_E_FORMAT: an entry whose size is not that of the set's, by name. */
lb_status lb_imatrix_set_add_file(lb_imatrix_set *s, const lb_source *file, lb_err *err);

u64 lb_imatrix_set_chunks(lb_imatrix_set *s);
/* Tells, a line for each group of entries of a block that lack the same matrices, which experts no
 * token reached. How many entries lack some. */
u64 lb_imatrix_set_unreached(const lb_imatrix_set *s, lb_buf *lines);
lb_status lb_imatrix_set_write(lb_imatrix_set *s, const lb_write_target *t, bool legacy,
                               lb_err *err);

#endif
