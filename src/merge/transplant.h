/* SPDX-License-Identifier: Apache-2.0 */
/* transplant.h: another model's tokenizer for a model: which row of its embeddings each token of
 * the new vocabulary gets, and which tokens it has no row for.
 *
 * Options, their defaults and the rules are those of mergekit-tokensurgeon 0.1.5
 * (scripts/tokensurgeon.py); docs/transplant.md says where lbrx differs. */
#ifndef LB_MERGE_TRANSPLANT_H
#define LB_MERGE_TRANSPLANT_H

#include "text/token_set.h"

/* How a token without a row gets one. The order is that of lb_approx_names. */
typedef enum lb_approx {
    LB_APPROX_OMP,           /* a few of the donor's shared tokens that give its row there */
    LB_APPROX_INTERPOLATION, /* its nearest shared tokens in the donor */
    LB_APPROX_SUBWORD,       /* the tokens that the model's own tokenizer cuts it into */
    LB_APPROX_MEAN,
    LB_APPROX_ZERO,
    LB_APPROX_RANDN,
    LB_APPROX_JOHN_HEWITT,  /* drawn with the mean and the covariance of the model's rows */
    LB_APPROX_LANDMARK_PCA, /* the rotation that takes the donor's shared rows to the model's */
    LB_APPROX_STB,          /* coordinates in a basis of sparse combinations of shared tokens */
    LB_APPROX_MP_ROPE,      /* like OMP, each atom turned by the angles of a position */
    LB_APPROX_COUNT
} lb_approx;
extern const char *const lb_approx_names[LB_APPROX_COUNT];

typedef enum lb_weighing { LB_WEIGH_DISTANCE, LB_WEIGH_BARYCENTRIC, LB_WEIGH_LEAST } lb_weighing;
typedef enum lb_subword {
    LB_SUBWORD_MEAN,
    LB_SUBWORD_SUM,
    LB_SUBWORD_WEIGHTED,
    LB_SUBWORD_FIRST_LAST
} lb_subword;
/* Matrices in which a looser match counts. */
typedef enum lb_allow { LB_ALLOW_NO, LB_ALLOW_YES, LB_ALLOW_EMBED, LB_ALLOW_HEAD } lb_allow;

#define LB_TRANSPLANT_K 64 /* the default */
typedef struct lb_transplant_opts {
    lb_approx method;
    u64 k; /* atoms, or neighbours */
    lb_weighing weighing;
    lb_subword subword;
    bool cosine; /* neighbours by the angle, not by the distance */
    lb_allow prefix, byte;
    bool magikarp;       /* tokens that were hardly trained are left out */
    double noise, scale; /* of rows that were approximated; scale 0: none */
    u64 seed;
} lb_transplant_opts;
static inline bool lb_allowed(lb_allow a, bool is_head) {
    return a == LB_ALLOW_YES || a == (is_head ? LB_ALLOW_HEAD : LB_ALLOW_EMBED);
}

/* As they would be typed, those that are at their defaults left out but for the method: all that
 * rows follow from. ptr NULL: out of memory. */
lb_str lb_transplant_text(const lb_transplant_opts *o, lb_arena *perm);

#define LB_ALIGN_ZERO UINT32_MAX      /* a row of zeros */
#define LB_ALIGN_NEW (UINT32_MAX - 1) /* to be approximated */

/* One matrix. */
typedef struct lb_align_in {
    const lb_token_set *model, *donor;
    u64 model_rows, donor_rows; /* of their matrices: tokens behind them have none */
    bool prefix, byte;
    /* of lb_align_trained; NULL: all. model_good [model ids], donor_good [donor ids] */
    const u8 *model_good, *donor_good;
} lb_align_in;

typedef struct lb_align {
    u64 n_rows; /* of the result: one a token of the donor, up to the last */
    u32 *from;  /* [n_rows] row of the model, or LB_ALIGN_* */
    /* tokens of both, by rising number in the donor */
    u32 *donor_row, *model_row; /* [n_shared] */
    u64 n_shared;
    u32 *fresh; /* [n_fresh] rows that are LB_ALIGN_NEW */
    u64 n_fresh, n_exact, n_byte, n_prefix, n_junk;
} lb_align;

/* All in perm. */
lb_status lb_align_make(const lb_align_in *in, lb_arena *perm, lb_align *out, lb_err *err);

#endif
