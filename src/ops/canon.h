/* SPDX-License-Identifier: Apache-2.0 */
/* canon.h: under which name and layout of the Hugging Face world a stored weight stands, by the
 * table of its architecture. */
#ifndef LB_OPS_CANON_H
#define LB_OPS_CANON_H

#include "arch/arch.h"
#include "base/base.h"
#include "base/mem.h"
#include "ops/relayout.h"
#include "tensor/source.h"

typedef struct lb_canon {
    const lb_arch *arch; /* NULL: not known; every name stands for itself */
    lb_hparams hparams;
    lb_world world;
} lb_canon;

typedef struct lb_canon_weight {
    u64 weight;             /* index into the source's weights */
    lb_str name;            /* canonical; as stored where the table does not have it */
    lb_shape shape;         /* of what follows */
    u64 first_row, n_rows;  /* of the weight as a matrix (a vector: of elements): one expert of a
                               stack, one part of a fused matrix; n_rows 0: all of it */
    u64 run, step;          /* of them runs of so many, one every `step`; run 0: in order */
    bool transposed;        /* stored so; shape is the canonical one */
    u64 channels;           /* rows, whatever the dimensions behind the first; 0: as stored */
    u64 col_from, col_step; /* then every col_step-th of the canonical rows; 0: all */
    u64 heads;              /* rows of so many heads are interleaved as stored; 0: in order */
    bool moved, moved_cols; /* rows (columns) stand in another order: canonical i at `order` of i */
    lb_strides order;
    lb_change change; /* what is stored instead of a value */
    bool cut_vocab;   /* rows beyond the tokenizer's may be missing in GGUF */
    bool may_lack;    /* other formats compute it or leave it out */
} lb_canon_weight;

/* Never fails for an unknown architecture: *out then knows none. LB_E_NOMEM, LB_E_FORMAT for a
 * config that is no JSON. */
lb_status lb_canon_init(lb_canon *out, const lb_source *s, lb_arena *perm, lb_err *err);
/* What the weight holds: *n canonical matrices, in the arena. */
lb_status lb_canon_find(const lb_canon *c, const lb_source *s, u64 weight, lb_arena *perm,
                        lb_canon_weight **out, u64 *n, lb_err *err);

#endif
