/* SPDX-License-Identifier: Apache-2.0 */
/* refine_iq.h: the parts of refine_blocks.c for types whose codes are not levels one by one:
 * codebooks (refine_iq.c), and E2M1 with scales of one byte (refine_fp.c). */
#ifndef LB_KERNEL_REFINE_IQ_H
#define LB_KERNEL_REFINE_IQ_H

#include "kernel/refine.h"

#define LB_REFINE_POINTS 2048

/* A codebook whose points are split in two halves, each a number in the base of its levels. */
typedef struct lb_refine_iq {
    const struct lb_iq_form *form;
    u32 n_points;
    u8 half[LB_REFINE_POINTS][2];
} lb_refine_iq;

bool lb_refine_iq_has(lb_dtype t);
void lb_refine_iq_init(lb_refine_iq *iq, lb_dtype t);
/* x, w: 256 values and weights, near 1; the block holds unit * x. */
void lb_refine_iq_block(const lb_refine_iq *iq, const float *x, const float *w, float unit,
                        u8 *block);

/* GGUF's mxfp4 and nvfp4. */
void lb_refine_fp_block(lb_dtype t, const float *x, const float *w, float unit, u8 *block);

/* Lower bits and signs of the groups behind a group of zeros to their places (quant_iq.c). */
void lb_refine_iq3s_places(const float *x, void *block);

#endif
