/* SPDX-License-Identifier: Apache-2.0 */
/* lora_terms.h: what adapters do to each matrix of a base model, in its canonical form, whatever
 * world's names and layouts the adapter has and the base is stored in.
 *
 * A term is found by the architecture table: the row of the adapter's module in the adapter's world
 * is a matrix (or its parts, or its experts' matrices) of the base model. Of a family that is not
 * in the table, and where both are in Hugging Face's form, it is the stored tensor of that name. */
#ifndef LB_OPS_LORA_TERMS_H
#define LB_OPS_LORA_TERMS_H

#include "ops/adapter.h"
#include "ops/ctensor.h"

/* In the order in which those of one adapter are applied. */
typedef enum lb_lora_what {
    LB_LORA_VALUE, /* another tensor in its place */
    LB_LORA_ROWS,  /* other rows in place of some */
    LB_LORA_SUM,   /* scale * B A is added; with a magnitude rows are given that length */
    LB_LORA_BIAS   /* scale times a vector is added */
} lb_lora_what;

typedef struct lb_lora_term {
    lb_lora_what what;
    u32 adapter;
    const lb_adapter_part *part;   /* SUM, BIAS */
    const lb_adapter_value *value; /* VALUE, ROWS */
    const lb_arch_tensor *row;     /* of the table; NULL: the family is not known */
    bool stored;                   /* of the tensor as Hugging Face's form has it */
    u32 expert;                    /* LB_NO_INDEX: all */
    bool both;                     /* of a tied embedding: the output matrix has it, too */
    u64 n_applied;                 /* to how many matrices */
    u64 next;                      /* of the same tensor; UINT64_MAX: none */
} lb_lora_term;

/* One adapter: its own scales times `scale`. */
typedef struct lb_lora_input {
    const lb_adapter *adapter;
    double scale;
    u32 source; /* index in the plan */
} lb_lora_input;

typedef struct lb_lora_terms {
    lb_plan *plan;
    const lb_lora_input *in;
    u32 n_in;
    lb_lora_term *terms; /* heap */
    u64 n, cap;
    lb_map first; /* by the tensor's key */
    lb_arena keys;
} lb_lora_terms;

/* The rows of the table that the adapter's tensor of this name is, one a match: of a fused matrix
 * its parts, of experts' parameters in transformers' memory (gate_up_proj, down_proj) those of the
 * layer. 0: the family has none. */
#define LB_LORA_ROWS_MAX 8
u32 lb_lora_find_rows(const lb_arch *a, const lb_hparams *hp, lb_world world, lb_str name,
                      lb_arch_match out[LB_LORA_ROWS_MAX]);

/* For the base's canonical tensors. LB_E_FORMAT, LB_E_UNSUPPORTED name what has no place in it. *t
 * is to be deinitialised in any case. */
lb_status lb_lora_terms_make(lb_lora_terms *t, lb_plan *p, const lb_lora_input *in, u32 n_in,
                             const lb_ctensors *base, lb_err *err);
void lb_lora_terms_deinit(lb_lora_terms *t);
/* Whether the tensor is not what is stored. */
typedef enum lb_lora_touch { LB_LORA_LEAVES, LB_LORA_STORED, LB_LORA_CANONICAL } lb_lora_touch;
lb_lora_touch lb_lora_terms_touch(const lb_lora_terms *t, const lb_ctensors *base,
                                  const lb_ctensor *x);
/* piece: the canonical matrix of one expert (LB_NO_INDEX: of the only one), or with `stored` the
 * tensor as Hugging Face's form has it. */
lb_status lb_lora_terms_apply(lb_lora_terms *t, const lb_ctensors *base, const lb_ctensor *x,
                              u32 expert, bool stored, lb_piece *piece, lb_err *err);
/* Whether a tied output matrix becomes one of its own; its terms, to the embedding's piece. */
bool lb_lora_terms_untie(const lb_lora_terms *t, const lb_ctensors *base);
lb_status lb_lora_terms_output(lb_lora_terms *t, const lb_ctensors *base, lb_piece *piece,
                               lb_err *err);
/* LB_E_FORMAT names what was applied to nothing. */
lb_status lb_lora_terms_check(const lb_lora_terms *t, lb_err *err);

#endif
