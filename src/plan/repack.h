/* SPDX-License-Identifier: Apache-2.0 */
/* repack.h: codes of one layout as those of another: what lb_expr_repack makes. */
#ifndef LB_PLAN_REPACK_H
#define LB_PLAN_REPACK_H

#include "base/base.h"
#include "tensor/source.h"

/* Scales are rounded to f16 where they were made
 * of several numbers or had another type; nothing else changes a value (see lb_repack_is_exact). */
typedef enum lb_repack {
    LB_REPACK_NONE,
    LB_REPACK_MXFP4,        /* LB_MXFP4: GGUF's blocks */
    LB_REPACK_MXFP4_CODES,  /* LB_U32: eight codes a word, the first lowest (MLX, gpt-oss) */
    LB_REPACK_MXFP4_SCALES, /* LB_U8: a scale for 32 codes */
    LB_REPACK_Q4_0, /* GGUF's blocks of 32; the zero point of _0 is what the maker recorded: a group
                       whose bias is another counts as 32 rounded values */
    LB_REPACK_Q4_1,
    LB_REPACK_Q5_0,
    LB_REPACK_Q5_1,
    LB_REPACK_Q8_0,
    LB_REPACK_AFFINE4, /* LB_U32: codes of so many bits one after the other, from the lowest bit on
                        */
    LB_REPACK_AFFINE5,
    LB_REPACK_AFFINE8,
    LB_REPACK_AFFINE_SCALES, /* LB_F16: of 32 codes */
    LB_REPACK_AFFINE_BIASES,
    LB_REPACK_COUNT
} lb_repack;

u32 lb_repack_elems(lb_repack repack); /* of the output, for 32 columns of the matrix */
lb_dtype lb_repack_dtype(lb_repack repack);
/* Whether a weight's codes can be written so; and whether their scales are then what they were. */
bool lb_repack_takes(lb_repack repack, const lb_source *s, const lb_weight *w);
bool lb_repack_is_exact(lb_repack repack, const lb_source *s, const lb_weight *w);
#endif
