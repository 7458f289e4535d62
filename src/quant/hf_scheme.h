/* SPDX-License-Identifier: Apache-2.0 */
/* hf_scheme.h: how the matrices of a Hugging Face folder are quantized for transformers and vLLM,
 * and what config.json says of it. Pure: no tensor data, no files.
 *
 *   fp8        compressed-tensors float-quantized: E4M3, a scale a row or a tensor, activations
 *              dynamic a token
 *   fp8-block  quant_method fp8: E4M3, an f32 for each 128 x 128 values (weight_scale_inv)
 *   w4a16      compressed-tensors pack-quantized: four bits, a scale a group or a row, zero points
 *   w8a8       compressed-tensors int-quantized: eight bits, a scale a row or a tensor, activations
 *              dynamic a token
 * Chosen are the weights of nn.Linear but for the head, routers, and what stands beside the
 * language model. What a loader fuses (q, k and v; gate and up) is quantized together or not at
 * all. Sources: compressed-tensors 0.20 (QuantizationConfig, the compressors), transformers 5.24
 * (finegrained_fp8, quantizers_utils), vLLM (compressed_tensors.py, fp8.py: which scopes it takes,
 * what it fuses), the configs of Qwen3-30B-A3B-FP8 and DeepSeek-V3. */
#ifndef LB_QUANT_HF_SCHEME_H
#define LB_QUANT_HF_SCHEME_H

#include "arch/arch.h"
#include "plan/quant.h"
#include "quant/override.h"

typedef enum lb_hf_type {
    LB_HF_FP8,
    LB_HF_FP8_BLOCK,
    LB_HF_W4A16,
    LB_HF_W8A8,
    LB_HF_F32, /* of overrides: not quantized, stored so */
    LB_HF_F16,
    LB_HF_BF16,
    LB_HF_TYPE_COUNT
} lb_hf_type;

/* As the user asks; scope only if has_scope. */
typedef struct lb_hf_ask {
    bool has_scope, sym, asym;
    lb_quant_scope scope;
    u32 group; /* GROUP */
} lb_hf_ask;

/* A type with its scopes. */
typedef struct lb_hf_form {
    lb_hf_type type;
    lb_quant_scope scope;
    u32 group;
    bool asym;
} lb_hf_form;

/* The i-th name; NULL beyond the last. */
const char *lb_hf_type_at(u32 i);
/* LB_E_USAGE: no such type; scopes or zero points that its loaders do not read (lists those that
 * they do). */
lb_status lb_hf_form_find(lb_str name, const lb_hf_ask *ask, lb_hf_form *out, lb_err *err);
/* The types of overrides: all names, and f32, f16, bf16. LB_E_USAGE lists them. */
lb_status lb_hf_type_find(lb_str name, u32 *out, lb_err *err);
/* The quantizer of a form, for values that are stored in `dtype`. */
lb_quant lb_hf_quant(const lb_hf_form *f, lb_dtype dtype);

typedef struct lb_hf_tensor {
    lb_str name;
    lb_shape shape;
    lb_dtype stored;
} lb_hf_tensor;

typedef struct lb_hf_job {
    const lb_hf_form *form;
    const lb_hf_ask *ask;          /* for the forms of overrides */
    const lb_overrides *overrides; /* find_type: lb_hf_type_find; NULL: none */
    bool pure;                     /* also what the loaders' fusing would leave out */
    const lb_arch *arch;           /* NULL: names decide */
    const lb_hparams *hp;
    u64 n;
    const lb_hf_tensor *tensors; /* of the folder as it would stand there unquantized */
} lb_hf_job;

typedef enum lb_hf_why {
    LB_HF_WHY_NO_MODULE, /* norms, embeddings, biases, convolutions */
    LB_HF_WHY_HEAD,
    LB_HF_WHY_ROUTER, /* and other small matrices that choose or gate */
    LB_HF_WHY_BESIDE, /* towers, multi-token prediction, names that the family does not know */
    LB_HF_WHY_TURNED, /* inputs times outputs: no loader looks for codes there */
    LB_HF_WHY_STACK,  /* experts in one tensor: an override makes them fp8-block */
    LB_HF_WHY_ROWS,   /* rows or columns are no whole groups, blocks or words */
    LB_HF_WHY_MATE,   /* a matrix that loaders fuse with it cannot be quantized */
    LB_HF_WHY_DEFAULT,
    LB_HF_WHY_OVERRIDE
} lb_hf_why;

typedef struct lb_hf_choice {
    lb_str path; /* of the module, a part of the name; of a stack the name. Empty: there is none */
    bool quantized, stack;
    lb_hf_form form; /* quantized */
    lb_dtype dtype;  /* not quantized: the type in which it is stored */
    lb_hf_why why;
} lb_hf_choice;

/* out[i] is of tensor i. LB_E_USAGE: an override that finds no matrix, or whose type's config or
 * shapes do not go with the others. LB_E_UNSUPPORTED: nothing is left to quantize. */
lb_status lb_hf_choose(const lb_hf_job *job, lb_hf_choice *out, lb_err *err);

/* Which module a tensor is the matrix of, if it is one, into out->path and stack; whether, left to
 * the rules, it would be quantized (DEFAULT), or why not. */
lb_hf_why lb_hf_module_of(const lb_hf_job *job, const lb_hf_tensor *t, lb_hf_choice *out);

/* "model.layers.0.mlp.experts" of the path of a matrix or stack in it; else empty. */
lb_str lb_hf_experts_of(lb_str path);
/* An output of a choice: its name, and the shape of what is no constant. Parts: those of
 * lb_quant. */
lb_str lb_hf_part_name(const lb_hf_choice *c, lb_quant_part part, lb_arena *perm);
void lb_hf_part_shape(const lb_hf_choice *c, const lb_shape *shape, lb_quant_part part,
                      lb_shape *out);
/* "weight_shape" of packed codes, two integers; false: the form has none. */
bool lb_hf_has_shape(const lb_hf_form *f);

/* "quantization_config" of config.json, keys sorted as transformers writes them. LB_E_NOMEM. */
lb_status lb_hf_config(const lb_hf_job *job, const lb_hf_choice *choices, lb_arena *perm,
                       lb_json **out, lb_err *err);

#endif
