/* SPDX-License-Identifier: Apache-2.0 */
/* tuning.h: what depends on the generation of a device and changes no result but the order of sums:
 * the numbers of tuning.def. */
#ifndef LB_DEVICE_TUNING_H
#define LB_DEVICE_TUNING_H

#include "base/base.h"

typedef struct lb_dev_tuning {
    /* From how many tokens on a product is one of mm_*: of matrices of up to 2048 rows and columns,
     * of up to 4096, of larger ones. 0: the device has no matrix units. */
    u32 mm_small, mm_middle, mm_large;
    u32 mm_experts;   /* the same of experts' products, in tokens of the batch */
    u32 gemm;         /* from how many tokens on it is one of tiles of f16; 0: never */
    u32 gemm_experts; /* the same of experts' products, in tokens of the batch */
    u32 launches;     /* of a command buffer; 0: the device has none */
    u32 simdgroups;   /* of a threadgroup of mv_* and mve_* */
    u32 mt_parts;     /* threadgroups that share the columns of a long x of mt_* */
} lb_dev_tuning;

/* kind: an lb_dev_kind. generation: CUDA's compute capability times ten, the number of Metal's
 * architecture (13: M1), 0 of the CPU. size: the last letter of Metal's architecture, else 0. The
 * row of the latest generation that is not later; zeros where there is none. */
lb_dev_tuning lb_dev_tuning_find(u32 kind, u32 generation, char size);
/* From how many tokens on a product of such a matrix is one of mm_*; 0: never. */
u32 lb_dev_tuning_mm(const lb_dev_tuning *t, u32 n_rows, u32 n_cols);

#endif
