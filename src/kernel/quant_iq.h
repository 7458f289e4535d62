/* SPDX-License-Identifier: Apache-2.0 */
/* quant_iq.h: what the quantizers of the iq2 and iq3 types have in common (quant_iq.c), and the
 * searches in them that an instruction set has versions of. */
#ifndef LB_KERNEL_QUANT_IQ_H
#define LB_KERNEL_QUANT_IQ_H

#include "kernel/quant.h"
#include "kernel/quant_grid.h"

enum { LB_IQ_GROUP = 32, LB_IQ_POINTS = 8 };

/* Which points are chosen again by the best scale. */
typedef enum lb_iq_again {
    LB_AGAIN_ALL,        /* all of them */
    LB_AGAIN_ALL_IF_ANY, /* all where one of the best trial's was off the codebook, or no trial was
                         good */
    LB_AGAIN_MOVED,      /* those that were off it */
} lb_iq_again;

typedef struct lb_iq_method {
    u32 group_elems;
    i32 n_trials; /* on each side of the middle one */
    float step;
    float tiny; /* a group with no larger magnitude is zero */
    lb_iq_again refine;
    bool
        even_signs; /* seven signs for 8 values: an odd number of minuses loses the least of them */
    bool fit_first; /* the middle trial is that of a fit, not the largest magnitude */
    float sigma;    /* sigma2 is this often the mean square */
    float stored;   /* the block's scale is stored so much larger */
    float plain_sigma; /* weights without importance: x^2 + this * sigma2 */
} lb_iq_method;

/* The chosen points of a group. */
typedef struct lb_iq_choice {
    u16 index[LB_IQ_POINTS];
    u16 packed[LB_IQ_POINTS];
    bool moved[LB_IQ_POINTS]; /* the rounded values were off the codebook */
} lb_iq_choice;

typedef struct lb_iq_group {
    const lb_iq_method *m;
    const lb_grid *g;
    u32 n, n_points;
    float x[LB_IQ_GROUP];    /* magnitudes; with even_signs the least of 8 may be negative */
    float w[LB_IQ_GROUP];    /* weights of squared errors */
    float root[LB_IQ_GROUP]; /* their roots: weights in the choice of a point */
    u8 signs[4];
} lb_iq_group;

/* The value of a level. */
static const float lb_iq_values[8] = {1, 3, 5, 7, 9, 11, 13, 15};

typedef struct lb_iq_search {
    /* Point k of the group for a scale and its inverse. */
    void (*point)(const lb_iq_group *s, u32 k, float inverse, float scale, lb_iq_choice *c);
    /* The best of the trials: its points, where one is good, and their scale, else `scale`. */
    float (*trials)(const lb_iq_group *s, float max, float scale, lb_iq_choice *c);
    /* lb_fit_positive. */
    float (*positive)(size_t n, i32 q_max, const float *x, const float *w, u8 *q);
} lb_iq_search;

/* The searches of the reference. */
extern const lb_iq_search lb_iq_search_ref;

/* As lb_quant_fn. */
typedef void(lb_iq_quant_fn)(size_t n_elems, void *out, const float *in, const float *importance,
                             const void *tables, const lb_iq_search *f);
lb_iq_quant_fn lb_iq_quant_iq2_xxs, lb_iq_quant_iq2_xs, lb_iq_quant_iq2_s, lb_iq_quant_iq3_xxs,
    lb_iq_quant_iq3_s;

/* Sums of w x q and w q q for the chosen points. */
typedef struct lb_iq_sums {
    float xq, qq;
} lb_iq_sums;
lb_iq_sums lb_iq_sums_of(const lb_iq_group *s, const lb_iq_choice *c);

#endif
