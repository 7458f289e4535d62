/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h: the tensors of a model as inference reads them: matrices where the file has them,
 * vectors as f32.
 *
 * Names and shapes are GGUF's, whatever format the model is stored in (ops/weights.h makes the
 * list). What they point to is mapped or owned by who made the list, and outlives it. */
#ifndef LB_MODEL_WEIGHTS_H
#define LB_MODEL_WEIGHTS_H

#include "base/mapped.h"
#include "base/names.h"
#include "kernel/matmul.h"
#include "tensor/source.h"

typedef struct lb_mweight {
    lb_str name;    /* "blk.0.attn_q.weight" */
    lb_shape shape; /* [matrices of a stack,] rows, columns */
    u64 n_rows, n_cols, n_stack;
    /* The rows, one matrix after the other: n_mats / n_stack of them for each of the stack. NULL:
     * there are values. */
    const lb_mat *mats;
    u32 n_mats;
    const float *values; /* all of it as f32; NULL: a matrix */
    bool upright;        /* rows of heads stand as in Hugging Face's files, not as GGUF has them */
} lb_mweight;

typedef struct lb_mweights {
    lb_mweight *list;
    u64 n;
    lb_names by_name;
    const lb_mapped *const *files; /* [n_files] where matrices lie */
    u32 n_files;
} lb_mweights;

/* NULL: the model has no such tensor. */
const lb_mweight *lb_mweights_find(const lb_mweights *w, lb_str name);
/* "blk.<layer>.<what>" */
const lb_mweight *lb_mweights_layer(const lb_mweights *w, u32 layer, const char *what);
/* Whether it holds vectors and small tables, which are wanted as values; else it is a matrix. */
bool lb_mweight_is_values(lb_str name, const lb_shape *shape);
/* Rows [from, from + n) of a matrix; from at the begin of a block of scales. */
lb_mat lb_mat_part(const lb_mat *m, u64 from, u64 n);
/* Fills by_name. LB_E_FORMAT: two of one name. */
lb_status lb_mweights_index(lb_mweights *w, lb_err *err);

#endif
