/* SPDX-License-Identifier: Apache-2.0 */
/* landmarks.h: a vector as a combination of a few points near it: the weights of mergekit 0.1.5's
 * common_interpolation, in double. */
#ifndef LB_MERGE_LANDMARKS_H
#define LB_MERGE_LANDMARKS_H

#include "kernel/kernel.h"
#include "merge/transplant.h"

typedef struct lb_landmarks {
    u64 k, d;
    const float *target;    /* [d] */
    const float *points;    /* [k, d] */
    const double *distance; /* [k] of the target; with cosine 1 - the cosine */
    lb_weighing weighing;
    bool cosine;
} lb_landmarks;

/* Doubles of scratch. */
u64 lb_landmarks_scratch(u64 k);
/* weight [k]. DISTANCE: 1 / distance (cosine: the cosine), over their sum; LEAST: the least
 * squares, of many the shortest; BARYCENTRIC: the same with the sum 1. */
void lb_landmarks_weigh(const lb_landmarks *l, const lb_kernels *kernels, double *scratch,
                        double *weight);

/* Distance, or 1 - cosine, of two vectors as the above wants it. */
double lb_landmarks_distance(const lb_kernels *kernels, const float *a, const float *b, u64 d,
                             bool cosine);

#endif
