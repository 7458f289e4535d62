/* SPDX-License-Identifier: Apache-2.0 */
/* refine_blocks.h: GGUF's blocks taken apart into scales and levels, and put together again
 * (refine_fields.c), for refine_blocks.c. */
#ifndef LB_KERNEL_REFINE_BLOCKS_H
#define LB_KERNEL_REFINE_BLOCKS_H

#include "kernel/blocks_k.h"
#include "kernel/refine_fit.h"

/* value = d * sc[group] * y - dmin * m[group]; where groups have no codes of their own, sc and m
 * are 1. */
typedef struct lb_parts {
    float d, dmin; /* as stored */
    i32 sc[16], m[16];
    float y[LB_QK]; /* levels */
} lb_parts;

typedef struct lb_form {
    lb_dtype dtype;
    u32 n, group; /* values of a block, of a group */
    lb_levels levels;
    i32 sc_lo, sc_hi; /* codes of the groups' scales; both 1: none */
    i32 m_hi;         /* of the minimums, from 0; 0: none */
    bool offset;      /* dmin, stored as its negative, without codes */
    void (*open)(const struct lb_form *f, const u8 *block, lb_parts *p);
    void (*close)(const struct lb_form *f, const lb_parts *p, u8 *block);
} lb_form;

/* NULL: none. */
const lb_form *lb_form_of(lb_dtype t);

#endif
