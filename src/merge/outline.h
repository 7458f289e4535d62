/* SPDX-License-Identifier: Apache-2.0 */
/* outline.h: a merge file and what its models have -> the list of tensors of the result, each with
 * its inputs and the values of all parameters. Pure: names, shapes and numbers; no data, no plan.
 *
 * Layers are counted, gradients and filters evaluated and settings looked up as mergekit 0.1.5 does
 * (config.py, plan.py, parameter_resolver.py). Tensors are those that the models have, not those of
 * a list for their architecture: each is in the result, in `skipped`, or an error. Whether a model
 * by itself is complete is for those to say who opened it. */
#ifndef LB_MERGE_OUTLINE_H
#define LB_MERGE_OUTLINE_H

#include "merge/config.h"
#include "merge/method.h"
#include "tensor/source.h"

#define LB_NO_LAYER UINT32_MAX
#define LB_NO_FACT UINT32_MAX

/* A tensor of an input, by its name in Hugging Face's form. */
typedef struct lb_merge_fact {
    lb_str name;
    lb_shape shape;
    lb_dtype dtype;
    u32 module;   /* index into lb_merge_world.modules */
    u32 layer;    /* of its module; LB_NO_LAYER: of none */
    u32 layer_at; /* where in the name the layer's number stands; 0: the first ".LAYER." */
    /* Not LB_NO_FACT: the model has no such tensor and uses that fact's values in its place (an
     * output matrix that is tied). If no input has it for itself, the result does not either. */
    u32 same_as;
    bool apart; /* numbered, but among others than the layers (token prediction): keeps its name */
    bool after; /* of no layer, and behind the layers (final norm, head); else before them */
    bool is_vocab;    /* rows are tokens */
    bool is_buffer;   /* integers and the like: must be equal in all inputs, and is copied */
    bool is_optional; /* models of the family may lack it (biases); else that is an error */
} lb_merge_fact;

typedef struct lb_merge_model {
    const u64 *n_layers; /* [n_modules]; layers behind them (of token prediction) stay behind */
    const lb_merge_fact *facts;
    u32 n_facts;
} lb_merge_model;

/* The models of a merge file and their parts. */
typedef struct lb_merge_world {
    const lb_str *modules; /* names; where it is one, any, and "default" */
    u32 n_modules;
    const lb_merge_model *models; /* [config->n_models] in its order */
} lb_merge_world;

typedef struct lb_merge_slot {
    u32 model, fact; /* whose values: of same_as, that fact */
    bool is_base;
    const double *param; /* [method->n_params]; of INPUT and NON_BASE scope. NULL where copied */
} lb_merge_slot;

typedef struct lb_merge_tensor {
    lb_str name;                   /* of the result */
    u32 module, layer;             /* of the result; LB_NO_LAYER */
    const lb_merge_method *method; /* NULL: the first slot is copied */
    bool equal;                    /* copied, but all slots must hold the same (is_buffer) */
    bool is_vocab;                 /* rows may differ where the file has a rule for tokens */
    u32 base;                      /* of the slice, whatever the method thinks of bases */
    lb_merge_slot *slots;          /* in the order of the file, without inputs that lack it */
    u32 n_slots;
    const double *param; /* [method->n_params]; of SHARED scope. NULL where copied */
} lb_merge_tensor;

typedef struct lb_merge_layer {
    u32 model, layer;
} lb_merge_layer;

/* A module of the result. */
typedef struct lb_merge_part {
    u64 n_layers;
    /* [n_layers] where each comes from, for configs that list something a layer: the donor
     * (model 0) if it is in the slice, else the slice's first source. */
    lb_merge_layer *from;
} lb_merge_part;

typedef enum lb_merge_why {
    LB_SKIP_LAYER, /* no slice takes the layer */
    LB_SKIP_ENDS,  /* before or behind the layers, and not of the first or last slice */
    LB_SKIP_DONOR, /* the model is no input: it gives config and tokenizer */
    LB_SKIP_METHOD /* the method makes nothing of what the others lack */
} lb_merge_why;

typedef struct lb_merge_skip {
    u32 model, fact;
    lb_merge_why why;
} lb_merge_skip;

/* Files beside the models: importance matrices. As the merge file writes them. */
typedef struct lb_merge_named {
    lb_str name;
    u32 line;
} lb_merge_named;
typedef struct lb_merge_files {
    lb_merge_named *list;
    u32 n;
} lb_merge_files;

typedef struct lb_merge_outline {
    const lb_merge_method *method;
    lb_merge_files files;
    /* In the order of mergekit's execution, which is that of its random numbers: bytewise by the
     * greatest name among the inputs. */
    lb_merge_tensor *tensors;
    u64 n_tensors;
    lb_merge_part *parts; /* [n_modules] */
    lb_merge_skip *skipped;
    u64 n_skipped;
    lb_str *notes; /* settings that the method has no use for, one line each */
    u32 n_notes;
} lb_merge_outline;

/* All memory is the arena's. LB_E_FORMAT, LB_E_NOMEM: one line that names key, model and tensor.
 * method: NULL, by the file. */
lb_status lb_merge_outline_make(const lb_merge_config *config, const lb_merge_method *method,
                                const lb_merge_world *world, lb_arena *perm, lb_merge_outline *out,
                                lb_err *err);
/* outline.files, before there are models: files are opened with them. */
lb_status lb_merge_files_of(const lb_merge_config *config, lb_arena *perm, lb_merge_files *out,
                            lb_err *err);
/* The method that the file names. */
lb_status lb_merge_method_of(const lb_merge_config *config, const lb_merge_method **out,
                             lb_err *err);

#endif
