/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq1.h: what the quantizers of iq1_s and iq1_m have in common (quant_iq1.c), and the
 * searches in them that an instruction set has versions of. */
#ifndef LB_KERNEL_QUANT_IQ1_H
#define LB_KERNEL_QUANT_IQ1_H

#include "kernel/quant.h"
#include "kernel/quant_grid.h"

enum { LB_IQ1_GROUP = 32, LB_IQ1_BATCH = 16 };

/* The three levels with the shift upwards and downwards. */
static const float lb_iq1_levels[2][3] = {{-0.875f, 0.125f, 1.125f}, {-1.125f, -0.125f, 0.875f}};
enum { LB_IQ1_UP, LB_IQ1_DOWN };

/* The best cuts so far: below `low` in sorted order is level 0, from `high` on level 2; low < 0:
 * none. iq1_m's shift: bit 1 that of the first half, bit 0 that of the second. */
typedef struct lb_iq1_cuts {
    i32 low, high, shift;
    float scale, score;
} lb_iq1_cuts;

typedef struct lb_iq1_group {
    const float *x;
    u32 n;
    bool zero; /* all magnitudes are tiny: nothing but x and n is set */
    float w[LB_IQ1_GROUP];
    u8 order[LB_IQ1_GROUP];
    u8 code[LB_IQ1_GROUP]; /* levels */
    u16 index[4];          /* points */
    float scale;
    i32 shift;
    lb_iq1_cuts best;
} lb_iq1_group;

typedef struct lb_iq1_search {
    /* lb_iq1_sort; n is 16 or 32. */
    void (*sort)(const float *x, u8 *order, u32 n);
    /* The best cuts of n <= LB_IQ1_BATCH groups, whose `best` holds what is to be beaten; those of
     * zero groups do not matter. */
    void (*cuts_s)(lb_iq1_group *s, u32 n);
    void (*cuts_m)(lb_iq1_group *s, u32 n);
    /* lb_grid_nearest for three levels. */
    u32 (*nearest)(const lb_grid *g, u32 key, const float *x, const float *w, float scale,
                   const float *value);
} lb_iq1_search;

/* order: the indices of x by value, equal ones (and NaN, which no comparison moves) in their order.
 */
void lb_iq1_sort(const float *x, u8 *order, u32 n);

/* As lb_quant_fn. */
typedef void(lb_iq1_quant_fn)(size_t n_elems, void *out, const float *in, const float *importance,
                              const void *tables, const lb_iq1_search *f);
lb_iq1_quant_fn lb_iq1_quant_s, lb_iq1_quant_m;

#endif
