/* SPDX-License-Identifier: Apache-2.0 */
/* sensitivity_internal.h: between sensitivity.c (runs) and sensitivity_swap.c (tensors in other
 * types). */
#ifndef LB_OPS_SENSITIVITY_INTERNAL_H
#define LB_OPS_SENSITIVITY_INTERNAL_H

#include "ops/sensitivity.h"
#include "plan/encoder.h"

/* Memory for what may be large: from some size on in a temporary file, whose pages are not the
 * process's. */
typedef struct lb_room {
    void *ptr;
    u64 size_bytes;
    bool mapped;
} lb_room;
/* At least so large; its content is undefined, but for the first `keep` bytes. */
lb_status lb_room_need(lb_room *r, u64 size_bytes, u64 keep, const char *temp_dir, lb_err *err);
void lb_room_deinit(lb_room *r);

/* Rows of one matrix's input, one after the other in `rows`. */
typedef struct lb_recorded {
    u32 matrix;
    u64 first, n;
} lb_recorded;

/* Inputs of one tensor. */
typedef struct lb_recording {
    const lb_mweights *weights;
    const lb_mweight *of; /* NULL: nothing is recorded */
    lb_room rows;         /* [n_rows, of->n_cols] f32 */
    u64 n_rows;
    lb_recorded *list; /* heap */
    u64 n, cap;
    double *scale; /* [n_rows] heap: what squares of errors of a row are divided by */
    const char *temp_dir;
    lb_err err;
} lb_recording;
void lb_recording_take(lb_recording *r, const lb_mweight *w, u32 matrix, const float *x, u64 n,
                       size_t stride);

/* A tensor in another type. */
typedef struct lb_recast {
    const lb_kernels *k;
    lb_quant_device *encoder; /* makes the codes that it can; NULL: none */
    const lb_mweight *w;
    lb_dtype dtype;
    lb_quant quant;
    const float *importance; /* [n_stack, n_cols], or one vector for all; NULL: 1 */
    u64 n_mats;              /* vectors of it */
    lb_room codes;           /* all rows; lb_recast_codes */
    lb_mat *mats;            /* [w->n_mats] heap, over them */
    lb_room diff;            /* [rows of a matrix, n_cols] f32: recast less original */
    bool has_codes;
    const char *temp_dir;
    lb_context *c;
    float *out; /* [n_out] for products: at least a row of the largest matrix */
    u64 n_out;
} lb_recast;
/* Room for tables of quantizers: [LB_DTYPE_COUNT], in perm when they are first needed. */
lb_status lb_recast_begin(lb_recast *r, const lb_mweight *w, lb_dtype t, bool refine, void **tables,
                          lb_arena *perm, lb_err *err);
void lb_recast_end(lb_recast *r); /* of this type: rooms stay */
void lb_recast_deinit(lb_recast *r);
size_t lb_recast_scratch_bytes(const lb_mweight *w, lb_dtype t, u32 n_batch);
/* Whether codes are made on a device: all at once, before errors are looked for. */
bool lb_recast_is_there(const lb_recast *r);
/* Once a type. LB_E_FORMAT: a value that has no code. */
lb_status lb_recast_codes(lb_recast *r, lb_err *err);
/* Fills x->scale for the tensor as it is: |W x|^2 and their geometric mean. */
lb_status lb_recast_scales(lb_recast *r, const lb_mweight *w, lb_recording *x, lb_err *err);
/* Sum over the recorded rows of |(Q(W) - W) x|^2 / scale. */
lb_status lb_recast_error(lb_recast *r, const lb_recording *x, double *sum, lb_err *err);

#endif
