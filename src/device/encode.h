/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h: the kernels that quantize: which type has one, the codebooks that some of them search,
 * and their families for kernels.c. The bytes are those of the CPU's quantizers (kernel/quant.h)
 * for values that are finite, wherever arithmetic is IEEE 754's. */
#ifndef LB_DEVICE_ENCODE_H
#define LB_DEVICE_ENCODE_H

#include "device/device.h"
#include "tensor/dtype.h"

/* False: none quantizes to t. */
bool lb_dev_encode_of(lb_dtype t, lb_dev_kernel *out);
/* Whether the bytes are the CPU's on such a device: not where it flushes subnormal numbers. */
bool lb_dev_encode_exact(lb_dev_kind kind);

/* What makes the error of t's blocks less (kernel/refine.h), in its bytes; false: nothing does. */
bool lb_dev_refine_of(lb_dtype t, lb_dev_kernel *out);

/* Of types that search a codebook (lb_quant_tables_bytes): words of what their kernels take as
 * `grid`; 0: they take none. */
u32 lb_dev_encode_table_words(lb_dtype t);
/* out [lb_dev_encode_table_words]; tables: lb_quant_tables_init's of t. */
void lb_dev_encode_table(lb_dtype t, const void *tables, u32 *out);

/* A launch without its queue: val's n_blocks blocks of values at in. imp: their importance (any
 * buffer without has_importance), grid: the codebook (not looked at where there is none). */
typedef struct lb_dev_encode {
    lb_dtype type;
    lb_encode_args val;
    lb_dev_arg in, imp, grid, out;
} lb_dev_encode;
lb_status lb_dev_encode_launch(lb_dev_queue *q, const lb_dev_encode *e, lb_err *err);
/* Blocks that were made of the values at in, improved: another buffer's. grid is not looked at. */
lb_status lb_dev_refine_launch(lb_dev_queue *q, const lb_dev_encode *e, lb_dev_arg blocks,
                               lb_err *err);

/* The same of MLX's groups. biases: affine ones alone (LB_DK_enc_mlx_affine, else
 * LB_DK_enc_mlx_float). */
typedef struct lb_dev_encode_mlx {
    bool affine;
    lb_encode_mlx_args val;
    lb_dev_arg in, codes, scales, biases;
} lb_dev_encode_mlx;
lb_status lb_dev_encode_mlx_launch(lb_dev_queue *q, const lb_dev_encode_mlx *e, lb_err *err);

/* ---- for kernels.c: NULL, or what is wrong with the values ---- */
const char *lb_dev_shape_encode(u32 type, const void *val, lb_dev_shape *s);
const char *lb_dev_shape_encode_grid(u32 type, const void *val, lb_dev_shape *s);
const char *lb_dev_shape_refine(u32 type, const void *val, lb_dev_shape *s);
const char *lb_dev_shape_encode_affine(u32 type, const void *val, lb_dev_shape *s);
const char *lb_dev_shape_encode_float(u32 type, const void *val, lb_dev_shape *s);

#endif
