/* SPDX-License-Identifier: Apache-2.0 */
/* npz.h: archives of NumPy arrays (weights.npz), in which the first MLX models were kept.
 *
 * Only the directory is read: the arrays are byte ranges of the file. bfloat16 is what
 * mlx.core.savez makes of it, "V2". Refused by name: compressed entries (savez_compressed), pickled
 * objects, other byte orders, Fortran order but of matrices of floats. Format: numpy.lib.format,
 * versions 1 to 3. */
#ifndef LB_FORMAT_NPZ_H
#define LB_FORMAT_NPZ_H

#include "base/mem.h"
#include "io/cur.h"
#include "tensor/source.h"

typedef struct lb_npz_dir {
    lb_tensor *tensors; /* file is 0; in the order of the file */
    u64 n_tensors;
} lb_npz_dir;

/* perm owns the names, scratch the list. Errors name c->path. */
lb_status lb_npz_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_npz_dir *out, lb_err *err);
/* Adds the file and its tensors to s. */
lb_status lb_npz_read(lb_source *s, const char *path, lb_str name, lb_err *err);

#endif
