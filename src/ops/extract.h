/* SPDX-License-Identifier: Apache-2.0 */
/* extract.h: the difference of two models as a low-rank adapter.
 *
 * Two runs. The first computes the factors of each matrix's difference, U, singular values and V,
 * into a file beside the output; it reads both models and never holds a matrix. The second writes
 * the adapter from them: ranks, which follow from the singular values, are known then. What it
 * writes is a PEFT adapter that is computed (ops/computed.h), so it may become one of MLX or a GGUF
 * on the way.
 *
 * Randomised: N. Halko, P.-G. Martinsson, J. A. Tropp, arXiv 0909.4061, algorithm 4.4: a random
 * matrix of rank + oversampling columns, products with the difference and its transposed in turn,
 * orthonormal columns in between; the factors are those of the last product. Exact: the
 * eigenvectors of the smaller Gram matrix in its place.
 * Options and what is saved whole: mergekit-extract-lora of mergekit 0.1.5; docs/lora.md. */
#ifndef LB_OPS_EXTRACT_H
#define LB_OPS_EXTRACT_H

#include "ops/convert.h"

typedef struct lb_extract_opts {
    const char *base, *tuned; /* the models */
    u32 rank;                 /* at most */
    double energy;  /* of the squares of a matrix's difference, at least so much; 0: all ranks */
    double epsilon; /* singular values up to it are left out */
    u32 power;      /* randomised: times that product and transposed product are repeated */
    u64 seed;
    bool exact;
    bool distribute;         /* roots of the singular values in both matrices; else all in A */
    bool embed;              /* embeddings and output matrix too */
    bool skip;               /* leave out what is no matrix, instead of saving it whole */
    const char *const *save; /* modules that are saved whole: names, or last parts of them */
    u32 n_save;
    const char *const *include; /* patterns of modules; none: all */
    u32 n_include;
    const char *const *exclude;
    u32 n_exclude;
} lb_extract_opts;

/* c: dtype (with cast; else f32), w, codes... as of a conversion. text: of a dry run. */
lb_status lb_extract(const lb_extract_opts *o, const lb_convert_opts *c, lb_buf *text,
                     lb_buf *remarks, lb_out_report *report, lb_err *err);

#endif
