/* SPDX-License-Identifier: Apache-2.0 */
/* quant_kit.h: whole quantizations by name: of golden inputs, and for the program that peers run.
 *
 * Names: q1 .. q8, mxfp4, mxfp8, nvfp4 (MLX), groups (packed), f8, i8 (a row with a scale of its
 * own; statistics, parameters, codes). A row of `group` values is a group. */
#ifndef LB_TESTS_QUANT_KIT_H
#define LB_TESTS_QUANT_KIT_H

#include "base/base.h"
#include "kernel/kernel.h"

typedef struct quant_out {
    u8 *codes, *scale, *second; /* second: biases or zero points; f8, i8: what quant_params gave */
    size_t n_codes, n_scale, n_second; /* bytes */
    u64 n_odd;
} quant_out;

/* f8 and i8 of a matrix of n_groups rows with one scale a tile (those at the ends may be smaller);
 * without tiles a row has one. */
typedef struct quant_job {
    const char *name;
    size_t n_groups, group;
    u32 how; /* LB_QUANT */
    float global_scale;
    size_t tile_rows, tile_cols;
} quant_job;

/* false: no such name. */
bool quant_run(const lb_kernels *k, const quant_job *job, const void *in, quant_out *out);
void quant_out_free(quant_out *out);

/* n_groups rows of weights of the type that `how` names, the same as make_quant.py's: group g is of
 * kind g % 12. with_odd: NaN and Inf in one kind. Free it. */
u8 *quant_weights(size_t n_groups, size_t group, u32 how, bool with_odd);

#endif
