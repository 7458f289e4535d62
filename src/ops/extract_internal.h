/* SPDX-License-Identifier: Apache-2.0 */
/* extract_internal.h: what extract.c (the course), extract_list.c (what is extracted and how) and
 * extract_adapter.c (the adapter from the factors) share. */
#ifndef LB_OPS_EXTRACT_INTERNAL_H
#define LB_OPS_EXTRACT_INTERNAL_H

#include "ops/computed.h"
#include "ops/extract.h"
#include "ops/merge_view.h"

/* What becomes of a tensor of the model. */
typedef enum lb_extract_kind {
    LB_EXTRACT_MATRIX, /* A and B */
    LB_EXTRACT_BIAS,   /* of such a matrix's module: as it is, if it differs */
    LB_EXTRACT_WHOLE,  /* saved as it is, if it differs */
    LB_EXTRACT_KEPT,   /* saved as it is, asked for by name */
    LB_EXTRACT_NONE    /* left out; an error if it differs and nobody said so */
} lb_extract_kind;

typedef struct lb_extract_item {
    lb_str name, module; /* "model.norm.weight", "model.norm" */
    lb_extract_kind kind;
    lb_shape shape; /* of the tuned model's */
    lb_dtype dtype;
    u32 fact, base_fact; /* of the views */
    bool swapped;        /* columns are outputs: embeddings, and matrices that stand transposed */
    bool embedding;
    bool turned; /* exact: the factors are those of the transposed difference */
    bool asked;  /* NONE: the user has said so */
    u64 n_thin;  /* columns of the factors */
    /* after the first run */
    double norm; /* of the difference; NaN: not asked for */
    u64 rank;
    bool saved;   /* as it is */
    float *sigma; /* [n_thin] */
} lb_extract_item;

typedef struct lb_extraction {
    const lb_extract_opts *opts;
    const lb_convert_opts *conv;
    lb_arena perm;
    lb_source *base, *tuned, *factors;
    bool taken;       /* factors: they are the adapter's to close */
    const char *path; /* of the factors' file; NULL: none is written */
    lb_extract_item *items;
    u32 n;
    bool conv1d;      /* some module's matrix stands transposed */
    lb_str digest[2]; /* of base and tuned model; empty: not taken */
} lb_extraction;

/* extract_list.c: the items, of both models' tensors. */
lb_status lb_extract_list(lb_extraction *x, const lb_merge_view *base, const lb_merge_view *tuned,
                          lb_err *err);
/* The difference of an item's tensors, and its factors or norm. */
lb_node_id lb_extract_difference(lb_graph *g, const lb_extract_item *it, const lb_merge_view *base,
                                 const lb_merge_view *tuned);
lb_node_id lb_extract_factors(lb_graph *g, const lb_extraction *x, const lb_extract_item *it,
                              lb_node_id difference);
/* Whether the item's norm is asked for. */
bool lb_extract_wants_norm(const lb_extraction *x, const lb_extract_item *it);
/* Names in the factors' file. */
lb_str lb_extract_factor_name(lb_arena *a, const lb_extract_item *it);
lb_str lb_extract_norm_name(lb_arena *a, const lb_extract_item *it);

/* extract_adapter.c: reads norms and singular values, decides ranks; then the adapter as a source
 * that takes x->factors and x->tuned. */
lb_status lb_extract_decide(lb_extraction *x, lb_buf *remarks, lb_err *err);
lb_status lb_extract_adapter(lb_extraction *x, lb_source **out, lb_err *err);

#endif
