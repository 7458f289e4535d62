/* SPDX-License-Identifier: Apache-2.0 */
/* ctensor.h: a source seen as canonical tensors: Hugging Face names, layouts and shapes, whatever
 * the format it is stored in. Every writer starts from this list, so that each format is mapped to
 * the canonical form once and from it once.
 *
 * A source whose family is not in the architecture table is its own canonical form (HF, MLX); a
 * GGUF of an unknown family has none and can only be copied to GGUF. */
#ifndef LB_OPS_CTENSOR_H
#define LB_OPS_CTENSOR_H

#include "arch/arch.h"
#include "plan/plan.h"

/* A GGUF written with --lossless also holds, under this prefix and the Hugging Face name, the
 * original bytes of tensors whose GGUF form cannot be turned back exactly (norms stored as value +
 * 1). */
#define LB_ORIG_PREFIX "lbrx.orig."

typedef struct lb_ctensor {
    lb_str name; /* Hugging Face's */
    lb_shape shape;
    lb_node_id node; /* stored bytes or f32 values, in canonical layout */
    bool original;   /* the original bytes, kept beside: its type is the one to write */
    bool values;     /* node holds f32 values: something was computed */
    bool quantized;  /* stored in a type whose values must be decoded to be kept elsewhere */
    bool carried;    /* integers: bytes can only be copied */
    lb_dtype dtype;  /* stored type of the first part */
    u32 weight;      /* index into the source's weights */
    bool known;      /* match is set */
    lb_arch_match match;
} lb_ctensor;

typedef struct lb_ctensors {
    const lb_source *source;
    u32 source_index;
    const lb_arch *arch; /* NULL: the family is not in the table */
    lb_err arch_err;     /* why not */
    lb_hparams hp;
    lb_json *config; /* HF, MLX: parsed config.json; NULL: none */
    lb_arch_seen seen;
    lb_ctensor *tensors;
    u64 n_tensors;
    lb_dtype
        main_dtype;  /* of most matrix bytes: f32, f16 or bf16; bf16 where matrices are quantized */
    lb_str *dropped; /* stored names that the canonical form leaves out (recomputed at run time) */
    u64 n_dropped;
} lb_ctensors;

/* Looks up the family and builds a canonical tensor for each weight of the plan's source. */
lb_status lb_ctensors_build(lb_plan *p, u32 source_index, lb_ctensors *out, lb_err *err);
/* The encode node for a type: the stored bytes themselves where nothing changes. */
lb_node_id lb_ctensor_encode(lb_plan *p, const lb_ctensor *t, lb_dtype dtype);
/* Float types that every target holds. */
bool lb_ctensor_is_float(lb_dtype t);

#endif
