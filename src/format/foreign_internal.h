/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_internal.h: for foreign*.c alone: tensors of a model of another tool, put together to
 * weights. A family (one file each) looks at every tensor and adds the weights whose codes it
 * knows; what no weight takes must be a plain float tensor, or is an error by name. */
#ifndef LB_FORMAT_FOREIGN_INTERNAL_H
#define LB_FORMAT_FOREIGN_INTERNAL_H

#include "format/foreign.h"

typedef struct lb_fgn {
    lb_source *s;
    const lb_json *config; /* the quantization object */
    lb_str method;
    lb_arena scratch;
    lb_buf name;
    lb_weight *weight; /* [n_tensors]: made of that tensor; n_parts 0: none */
    bool *taken;       /* [n_tensors]: part of a weight, or read at opening */
    u64 n_left_out, n_zero_biases;
    lb_err *err;
} lb_fgn;

/* The tensor "<path><suffix>"; *out is NULL if absent. */
lb_status lb_fgn_find(lb_fgn *f, lb_str path, const char *suffix, const lb_tensor **out);
/* The same; absent, it is an error by name. */
lb_status lb_fgn_need(lb_fgn *f, lb_str path, const char *suffix, const lb_tensor **out);
/* "quantized with '<method>': <text>". */
lb_status lb_fgn_refuse(lb_fgn *f, const char *text, ...) __attribute__((format(printf, 2, 3)));
/* A weight "<path>.weight" of these parts (NULL ends the list). */
lb_status lb_fgn_add(lb_fgn *f, lb_str path, lb_shape shape, lb_enc enc,
                     const lb_tensor *const *parts);
void lb_fgn_take(lb_fgn *f, const lb_tensor *t);
/* "tensor ... does not fit ...": the message names both and their shapes. */
lb_status lb_fgn_misfit(lb_fgn *f, const lb_tensor *t, const lb_tensor *weight, const char *why);
/* All bytes of a small tensor. */
lb_status lb_fgn_read(lb_fgn *f, const lb_tensor *t, void *out, u64 size_bytes);
/* Whether all its values are 0, of either sign; false also for what is larger than a vector is. */
lb_status lb_fgn_is_zero(lb_fgn *f, const lb_tensor *t, bool *out);
bool lb_fgn_is_float(lb_dtype t); /* f16, bf16, f32 */
bool lb_fgn_is_f8(lb_dtype t);    /* e4m3, e5m2 */
/* t is rows x cols, or with cols 1 a vector of rows. */
bool lb_fgn_is_matrix(const lb_tensor *t, u64 rows, u64 cols);
/* Whether scale has the shape of enc's blocks for a weight of rows x cols. */
bool lb_fgn_fits(const lb_tensor *scale, const lb_enc *enc, u64 rows, u64 cols);
/* The name without ".weight" (or another ending); false if it does not end so. */
bool lb_fgn_path(const lb_tensor *t, const char *ending, lb_str *path);

/* Families: called once, they go over all tensors. */
lb_status lb_fgn_fp8(lb_fgn *f);
lb_status lb_fgn_compressed(lb_fgn *f);
lb_status lb_fgn_gptq(lb_fgn *f);
lb_status lb_fgn_awq(lb_fgn *f);
lb_status lb_fgn_bnb(lb_fgn *f);
lb_status lb_fgn_modelopt(lb_fgn *f);
lb_status lb_fgn_mxfp4(lb_fgn *f);

#endif
