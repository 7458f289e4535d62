/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h: the table of device kernels: their names, what their arguments must be, how large the
 * grid is. All of it follows from the values, so that a caller cannot launch a kernel beyond its
 * buffers. */
#ifndef LB_DEVICE_KERNELS_H
#define LB_DEVICE_KERNELS_H

#include "device/kern/args.h"

typedef enum lb_dev_kernel {
#define LB_DEV_KERNEL(name, family, type) LB_DK_##name,
#include "device/kernels.def"
#undef LB_DEV_KERNEL
    LB_DEV_KERNEL_COUNT
} lb_dev_kernel;

#define LB_DEV_BUFS_MAX 11u /* of any kernel */
#define LB_DEV_VAL_BYTES_MAX 180u
#define LB_DEV_GRID_Y_MAX 65535u /* CUDA's limit of the second and third axis */
#define LB_DEV_ALIGN 16u         /* of every buffer argument, in bytes */

/* What a launch with given values needs. */
typedef struct lb_dev_shape {
    u64 need_bytes[LB_DEV_BUFS_MAX]; /* of each buffer argument, from its offset on */
    u32 groups[3];                   /* threadgroups; 0: nothing to do */
    u32 n_threads;                   /* of a threadgroup */
    u32 shared_bytes;                /* of a threadgroup's memory, beside what the text declares */
} lb_dev_shape;

/* Where keys and values lie, of one kernel's values for another's. */
#define LB_DEV_KV_PLACES(a)                                                                     \
    .k_off = (a)->k_off, .v_off = (a)->v_off, .k_bytes = (a)->k_bytes, .v_bytes = (a)->v_bytes, \
    .page_bytes = (a)->page_bytes, .n_pages = (a)->n_pages, .type = (a)->type

const char *lb_dev_kernel_name(lb_dev_kernel k);
/* What a kernel needs that not every device has (lb_dev_has). */
typedef enum lb_dev_needs {
    LB_DEV_NEEDS_NOTHING,
    LB_DEV_NEEDS_MATRIX, /* matrix units: mm_* */
    LB_DEV_NEEDS_FLASH,  /* these, and a text that Metal has not: attend_mma_*, attend_few_* */
    LB_DEV_NEEDS_RING,   /* the same, and much memory of a threadgroup: mt_* */
    LB_DEV_NEEDS_TILES,  /* products of tiles of f16, of CUDA for some generations alone: gemm* */
    LB_DEV_NEEDS_DOUBLE  /* refine_* */
} lb_dev_needs;
lb_dev_needs lb_dev_kernel_needs(lb_dev_kernel k);
bool lb_dev_kernel_find(lb_str name, lb_dev_kernel *out);

/* What is done with stored rows: mv_*, mve_*, mm_*, unpack_*, rows_*, mt_*, mte_*; the last two not
 * of every type. */
typedef enum lb_dev_use {
    LB_DEV_MV,
    LB_DEV_MVE,
    LB_DEV_MM,
    LB_DEV_UNPACK,
    LB_DEV_ROWS,
    LB_DEV_MT,
    LB_DEV_MTE
} lb_dev_use;
/* How rows are stored: as a type of the table has them; MLX's groups with scales and biases; floats
 * of few bits with scales. */
typedef enum lb_dev_form { LB_DEV_BLOCKS, LB_DEV_AFFINE, LB_DEV_SCALED } lb_dev_form;
/* The kernel for rows of a type (an lb_dtype; of the other forms the bits of a code). False: there
 * is none. */
bool lb_dev_kernel_of(lb_dev_use use, lb_dev_form form, u32 type, lb_dev_kernel *out);
/* gemm*: on CUDA they have a text of their own (kern/gemm_hopper.k), and so another grid on n_units
 * multiprocessors. */
void lb_dev_kernel_own_grid(lb_dev_kernel k, u32 n_units, lb_dev_shape *s);
/* One character an argument, in order: i (a buffer that is read), o (one that is written), then v
 * (the values). */
const char *lb_dev_kernel_signature(lb_dev_kernel k);
/* Of mv_* and mve_*: how many values of a row a thread takes at a time. */
u32 lb_dev_kernel_chunk(lb_dev_kernel k);
/* Bytes of rows as tiles (kern/args.h), padded to a multiple of `pad` rows; UINT64_MAX: too many.
 */
u64 lb_dev_tile_bytes(u32 n_rows, u32 n_cols, u32 pad);
/* How many tiles experts' routes have at most (routes_tiles). */
u32 lb_dev_plan_tiles(u32 n_routes, u32 n_mats);
u32 lb_dev_kernel_val_bytes(lb_dev_kernel k);
/* Memory of a threadgroup of mt_*, in bytes: the rings that a launch asks for, and what the text
 * declares (LB_DEV_MT_DECLARED at most: ptxas -v says it of each, and so do the .shared lines that
 * test_device_cuda adds up). 0: another kernel. */
#define LB_DEV_MT_DECLARED 6784u
u32 lb_dev_mt_shared(lb_dev_kernel k);
/* val: of lb_dev_kernel_val_bytes. LB_E_USAGE: values that the kernel cannot take, said in words.
 */
lb_status lb_dev_kernel_shape(lb_dev_kernel k, const void *val, lb_dev_shape *out, lb_err *err);

#endif
