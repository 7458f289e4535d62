/* SPDX-License-Identifier: Apache-2.0 */
/* pursuit.h: orthogonal matching pursuit of one vector: the atoms that are taken, one after the
 * other, as an orthonormal basis, and what of the vector lies outside it.
 *
 * The caller finds the atom that the rest has the largest product with (ops/scan.h). Y. C. Pati,
 * R. Rezaiifar, P. S. Krishnaprasad, 1993; for tokenizers: arXiv 2506.06607. Bases by Gram and
 * Schmidt, twice, in f32 with products in double. */
#ifndef LB_MERGE_PURSUIT_H
#define LB_MERGE_PURSUIT_H

#include "kernel/kernel.h"

typedef struct lb_pursuit {
    u64 d, k;      /* elements; atoms at most */
    float *rest;   /* [d] at first the vector */
    float *basis;  /* [k, d] */
    double *upper; /* [k (k + 1) / 2] columns of R: atoms = basis R */
    double *along; /* [k] of the vector on the basis */
    u32 *atom;     /* [k] */
    u64 n;         /* atoms taken */
    double norm;   /* of the vector */
    bool done;     /* k atoms, or no more that add anything */
} lb_pursuit;

u64 lb_pursuit_bytes(u64 d, u64 k, bool basis); /* of its arrays but rest */
/* memory: lb_pursuit_bytes, 16-aligned. rest is the caller's, to be filled in before
 * lb_pursuit_begin. */
void lb_pursuit_place(lb_pursuit *p, u64 d, u64 k, float *rest, void *memory);
/* Without a basis: along and atom are the caller's to fill. */
void lb_pursuit_place_bare(lb_pursuit *p, u64 d, u64 k, float *rest, void *memory);
/* False: the vector has values that are NaN or infinite. */
bool lb_pursuit_begin(lb_pursuit *p, const lb_kernels *kernels);
bool lb_pursuit_has(const lb_pursuit *p, u32 atom);
/* row [d] of the atom is overwritten. An atom that the basis has already (all that is left is
 * rounding) ends the pursuit and is not taken. */
void lb_pursuit_take(lb_pursuit *p, const lb_kernels *kernels, u32 atom, float *row);
/* coefficient [n] of the atoms */
void lb_pursuit_solve(const lb_pursuit *p, double *coefficient);

#endif
