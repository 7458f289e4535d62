/* SPDX-License-Identifier: Apache-2.0 */
/* ctensor.h: a source seen as canonical tensors: Hugging Face layouts and shapes, one matrix a
 * role, layer and expert, whatever the format it is stored in. Every writer starts from this list,
 * so that each format is mapped to the canonical form once and from it once.
 *
 * A stored tensor may hold several of them (a stack of experts, fused projections), and several of
 * them may go into one tensor of another world: assemble.h puts them together.
 *
 * A source whose family is not in the architecture table is its own canonical form (HF, MLX); a
 * GGUF of an unknown family has none and can only be copied to GGUF. */
#ifndef LB_OPS_CTENSOR_H
#define LB_OPS_CTENSOR_H

#include "arch/arch.h"
#include "ops/relayout.h"
#include "plan/plan.h"

/* A GGUF written with --lossless also holds, under this prefix and the Hugging Face name, the
 * original bytes of tensors whose GGUF form cannot be turned back exactly (norms stored as value +
 * 1). */
#define LB_ORIG_PREFIX "lbrx.orig."

/* Original types of tensors that GGUF forces to F32, where they differ from the matrices': one
 * string "name type" each. */
#define LB_KEY_HF_DTYPES "lbrx.hf.dtypes"

typedef struct lb_ctensor {
    u32 weight;          /* index into the source's weights */
    bool known;          /* match is set */
    u8 extra;            /* lb_extra: the part that it belongs to */
    lb_arch_match match; /* of one row; a stack has no expert */
    bool first_row;      /* of the rows that share the weight */
    bool quantized;      /* stored in a type whose values must be decoded to be kept elsewhere */
    bool carried;        /* integers: bytes can only be copied */
    bool upright;        /* codes of outputs times inputs where the table's matrix is a Conv1D's */
    lb_dtype dtype;      /* stored type of the first part */
    u64 n_stack; /* matrices one after the other in the weight, one an expert or a head; else 1 */
    u64 matrix_rows;   /* of one stored matrix; a vector's elements */
    lb_part_rows rows; /* those of them that are the row's */
    lb_part_rows cols; /* the row's columns; n 0: all */
    lb_shape shape;    /* of the row's matrix as stored */
} lb_ctensor;

typedef struct lb_ctensors {
    const lb_source *source;
    u32 source_index;
    lb_world world;
    const lb_arch *arch; /* NULL: the family is not in the table */
    lb_err arch_err;     /* why not */
    lb_hparams hp;
    lb_json *config; /* HF, MLX: parsed config.json; NULL: none */
    lb_arch_seen seen;
    lb_ctensor *tensors; /* heap */
    u64 n_tensors, cap_tensors;
    u64 n_extra[LB_EXTRA_COUNT]; /* tensors of each part */
    u32 left_extras;             /* bit lb_extra: parts that are not written; the writer sets it */
    bool text_only; /* a folder of the outer class becomes one of the language model alone; as above
                     */
    bool first_forms; /* of a folder, what stands in another form over time (experts stacked as in
                         transformers 5's memory) becomes the table's first; as above */
    lb_dtype
        main_dtype;  /* of most matrix bytes: f32, f16 or bf16; bf16 where matrices are quantized */
    lb_str *dropped; /* stored names that the canonical form leaves out (recomputed at run time) */
    u64 n_dropped;
    struct lb_lora_terms *terms; /* what adapters change (ops/lora_terms.h); NULL: nothing */
} lb_ctensors;

/* Looks up the family and lists the canonical tensors of each weight of the plan's source. */
lb_status lb_ctensors_build(lb_plan *p, u32 source_index, lb_ctensors *out, lb_err *err);
void lb_ctensors_deinit(lb_ctensors *c); /* the list; all else is the plan's */
/* One that is not in the list: what weight holds of one row, c's family and world being known. */
lb_status lb_ctensor_of(const lb_ctensors *c, u32 weight, const lb_arch_match *row, lb_ctensor *out,
                        lb_err *err);
/* One matrix as it is stored: of an expert of a stack, or with LB_NO_INDEX all that is stored.
 * keep_vector: rows of one element, because rows will be moved. */
lb_status lb_ctensor_slice(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, u32 expert,
                           bool keep_vector, lb_piece *out, lb_err *err);
/* Its canonical form. */
lb_status lb_ctensor_piece(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, u32 expert,
                           bool keep_vector, lb_piece *out, lb_err *err);
/* How its matrix is made from the canonical one. */
lb_relayout lb_ctensor_relayout(const lb_ctensors *c, const lb_ctensor *t);
/* The tensor's row of the table and its suffix as the world has it (lb_arch_value_row), or as
 * first_forms asks. It must be known. */
lb_arch_match lb_ctensor_match(const lb_ctensors *c, const lb_ctensor *t, lb_world world);
/* Whether first_forms makes another form of it. */
bool lb_ctensor_is_reformed(const lb_ctensors *c, const lb_ctensor *t);
/* What of a known tensor's values another world's form cannot give back, for people; NULL: nothing.
 */
const char *lb_ctensor_loss(const lb_ctensors *c, const lb_ctensor *t, lb_world world);
/* The stored weight as it is. */
void lb_ctensor_stored(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, lb_piece *out);
/* The encode node for a type: the stored bytes themselves where nothing changes. */
lb_node_id lb_piece_encode(lb_plan *p, const lb_ctensor *t, const lb_piece *x, lb_dtype dtype);
/* Of a stack whose matrices are computed one by one (a stack node) the values of each; *n 0: it is
 * no such. Outputs take them as segments, and none is held for the others. */
lb_status lb_piece_matrices(lb_plan *p, const lb_piece *x, lb_node_id **out, u32 *n, lb_err *err);
/* The Hugging Face name; of a stack, that of an expert. ptr NULL: out of memory. */
lb_str lb_ctensor_hf_name(const lb_ctensors *c, const lb_ctensor *t, u32 expert, lb_arena *perm);
/* The original bytes that a GGUF of ours holds beside a changed tensor; NULL: none. LB_E_FORMAT for
 * one of another shape. */
lb_status lb_ctensor_original(const lb_ctensors *c, const lb_ctensor *t, lb_arena *perm,
                              const lb_weight **out, lb_err *err);
/* Whether Hugging Face's class keeps it in f32 whatever the model's type. */
bool lb_ctensor_keeps_f32(const lb_ctensor *t);
/* The type that a tensor of this name and rank has in Hugging Face's form: as stored; of what GGUF
 * forces to f32 the type that lbrx recorded, else that of the matrices. Quantized ones without a
 * record have none: LB_DTYPE_COUNT. */
lb_dtype lb_ctensor_hf_dtype(const lb_ctensors *c, const lb_ctensor *t, lb_str name, u32 rank);
/* Float types that every target holds. */
bool lb_ctensor_is_float(lb_dtype t);

#endif
