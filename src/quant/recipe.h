/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.h: which type each tensor of a GGUF file gets: the file types of llama-quantize.
 *
 * A recipe is a file type (q4_k_m): the type that most matrices get, and rules for others by what a
 * tensor is, where its layer stands and what the model is like. The decisions are llama-quantize's,
 * tensor by tensor; rules are rows of recipe_tables.c. Pure: no tensor data, no files.
 * Source: src/llama-quant.cpp of llama-cpp-python 0.3.36 (tensor_allows_quantization,
 * llama_tensor_get_type, tensor_type_fallback, tensor_requires_imatrix). */
#ifndef LB_QUANT_RECIPE_H
#define LB_QUANT_RECIPE_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "quant/override.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

typedef enum lb_recipe_id {
#define LB_RECIPE(id, name, alias, file_type, dtype, cls) LB_RECIPE_##id,
#include "quant/recipe.def"
#undef LB_RECIPE
    LB_RECIPE_COUNT
} lb_recipe_id;

typedef enum lb_recipe_class {
    LB_RECIPE_PLAIN,
    LB_RECIPE_LOW,
    LB_RECIPE_COPY_ALL,
    LB_RECIPE_OURS
} lb_recipe_class;

typedef struct lb_recipe {
    lb_recipe_id id;
    const char *name, *alias; /* "q4_k_m", "q4_k" or NULL */
    u32 file_type;            /* general.file_type; of a copy: the source's stays */
    lb_dtype dtype;
    lb_recipe_class cls;
} lb_recipe;

const lb_recipe *lb_recipe_get(lb_recipe_id id);
/* By name or alias in any case, or by the number of the file type, as llama-quantize takes them. */
bool lb_recipe_find(lb_str name, lb_recipe_id *out);
/* What llama.cpp's loader takes a file of mostly such tensors for. */
u32 lb_recipe_file_type_of(lb_dtype t);
/* A matrix's type by name, as its options take it. LB_E_USAGE lists those that there are. */
lb_status lb_recipe_type_find(lb_str name, lb_dtype *out, lb_err *err);

/* What rules ask of the model. */
typedef struct lb_recipe_model {
    lb_str arch;           /* general.architecture */
    u64 n_layers, n_mtp;   /* with the n_mtp of multi-token prediction */
    u64 n_head, n_head_kv; /* of the first layer */
    u64 n_expert;          /* 0: dense */
} lb_recipe_model;

/* From the metadata of the file that is written or read; absent keys are 0. LB_E_FORMAT. */
lb_status lb_recipe_model_from_meta(const lb_gguf_meta *meta, lb_recipe_model *out, lb_err *err);

typedef struct lb_recipe_tensor {
    lb_str name;
    lb_shape shape;
    lb_dtype stored;     /* as it stands in the file before quantization */
    bool has_importance; /* the importance file has weights for it */
} lb_recipe_tensor;

/* Fields that are 0: llama-quantize's defaults. */
typedef struct lb_recipe_opts {
    lb_recipe_id recipe;
    bool pure;                     /* the recipe's type for all */
    bool listed;                   /* visited in the list's order (llama-quantize --keep-split) */
    bool keep_output;              /* output.weight stays as it is */
    bool requantize;               /* tensors that are quantized may be quantized again */
    bool importance;               /* an importance file is given, and is not empty */
    const lb_dtype *output;        /* of the output matrix, whatever the recipe; NULL: by it */
    const lb_dtype *embedding;     /* of the token embedding, likewise */
    const lb_overrides *overrides; /* NULL: none */
} lb_recipe_opts;

typedef enum lb_recipe_why {
    LB_WHY_KEPT,    /* no matrix that is quantized: it stays as it is */
    LB_WHY_DEFAULT, /* the recipe's type */
    LB_WHY_RULE,    /* a rule of the recipe */
    LB_WHY_OPTION,  /* opts.output, opts.embedding */
    LB_WHY_OVERRIDE /* opts.overrides */
} lb_recipe_why;

typedef struct lb_recipe_choice {
    lb_dtype dtype;
    lb_dtype wanted; /* dtype, unless rows are not whole blocks of it: then dtype is instead */
    lb_recipe_why why;
    bool needs_importance; /* llama-quantize makes no such tensor without */
} lb_recipe_choice;

/* The order in which llama-quantize visits and writes tensors: place i is tensor order[i].
 * LB_E_NOMEM.
 */
lb_status lb_recipe_order(u64 n, const lb_recipe_tensor *tensors, u32 *order, lb_arena *scratch,
                          lb_err *err);

typedef struct lb_recipe_job {
    const lb_recipe_opts *opts;
    const lb_recipe_model *model;
    u64 n; /* all tensors of the file, in any order; names are unique */
    const lb_recipe_tensor *tensors;
} lb_recipe_job;

/* out[i] is of tensor i. LB_E_UNSUPPORTED: rows for which there is no type; a tensor of a mixture
 * of experts whose layer cannot be told. */
lb_status lb_recipe_choose(const lb_recipe_job *job, lb_recipe_choice *out, lb_arena *scratch,
                           lb_err *err);
/* Whether llama-quantize would carry the choices out: LB_E_USAGE where it asks for an importance
 * file or for leave to requantize, LB_E_UNSUPPORTED where no values can be read from a tensor. */
lb_status lb_recipe_check(const lb_recipe_job *job, const lb_recipe_choice *choices, lb_err *err);
/* Whether every override is found in the name of a tensor: LB_E_USAGE names the first that is not.
 * (llama-quantize passes over it in silence.) */
lb_status lb_recipe_check_overrides(const lb_recipe_job *job, lb_err *err);

#endif
