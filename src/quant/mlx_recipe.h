/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_recipe.h: how each tensor of an MLX folder is quantized, as mlx_lm.convert -q decides it, and
 * what config.json says of it. Pure: no tensor data, no files.
 *
 * Tensors are those of the folder as it would stand there unquantized: names, shapes, types. What
 * is decided takes nothing else away from such a folder: mlx-lm casts first and quantizes then, so
 *   - a tensor that is not quantized is stored as the plain conversion stores it: in the config's
 *     type (`torch_dtype`, else `dtype` of text_config; a `dtype` beside it is not looked at, and
 *     weights keep their own), but for what the class's cast_predicate exempts (biases that choose
 *     experts, A_log);
 *   - codes are made of the values rounded to the type that the plain conversion stores for that
 *     tensor, and affine scales and biases have this type; those of the other modes are bytes;
 *   - a module's bias (".bias") is no part of it: it stays a tensor of its own.
 * Source: mlx-lm 0.32.2, utils.py (quantize_model), convert.py (mixed_quant_predicate_builder),
 * models/ (quant_predicate); mlx 0.32.4, nn/layers/quantized.py, ops.cpp (quantize). */
#ifndef LB_QUANT_MLX_RECIPE_H
#define LB_QUANT_MLX_RECIPE_H

#include "arch/arch.h"
#include "base/base.h"
#include "base/mem.h"
#include "format/mlx.h"
#include "quant/override.h"
#include "tensor/source.h"

typedef struct lb_mlx_opts {
    lb_enc enc;                    /* of modules that no rule and no override names */
    u32 low_bits, high_bits;       /* a mixed recipe's; 0: none */
    u32 group;                     /* --group-size; 0: not given */
    bool pure;                     /* enc for all: neither the model's rules nor the recipe's */
    const lb_overrides *overrides; /* with find_type = lb_mlx_type_find; NULL: none */
} lb_mlx_opts;

/* "mlx-q4", "mlx-mxfp4", "mlx-mixed_3_6"... (f32, f16 and bf16 quantize nothing: the caller's);
 * group: --group-size, 0: not given; entries of a mixed recipe then say null for it, as those of
 * mlx_lm.convert do. Sets enc, low_bits, high_bits and group. LB_E_USAGE: no such name (lists
 * those that there are); the mode has no groups of that size. */
lb_status lb_mlx_opts_find(lb_str name, u32 group, lb_mlx_opts *out, lb_err *err);
/* The i-th of these names; NULL beyond the last. */
const char *lb_mlx_type_at(u32 i);
/* The types of overrides: one of these names but the mixed ones, or f32, f16, bf16: not quantized,
 * and stored as that. Groups of an affine type have --group-size where it is one of affine's, else
 * 64. LB_E_USAGE lists them. */
lb_status lb_mlx_type_find(lb_str name, u32 *out, lb_err *err);

typedef struct lb_mlx_tensor {
    lb_str name;     /* "model.layers.0.self_attn.q_proj.weight" */
    lb_shape shape;  /* of the values, row-major; stacks of experts: [n_expert, rows, cols] */
    lb_dtype stored; /* U32: the codes of a module that is quantized already, which stay */
} lb_mlx_tensor;

typedef struct lb_mlx_job {
    const lb_mlx_opts *opts;
    const lb_arch *arch;
    const lb_hparams *hp; /* of the config that the folder will have */
    u64 n;                /* all tensors of the folder, in any order; names are unique */
    const lb_mlx_tensor *tensors;
} lb_mlx_job;

typedef enum lb_mlx_why {
    LB_MLX_WHY_NO_MODULE, /* nothing that mlx-lm can quantize: lb_arch_mlx_module */
    LB_MLX_WHY_CODES,     /* it is quantized already */
    LB_MLX_WHY_ROWS,      /* rows are not whole groups: mlx-lm leaves it as it is */
    LB_MLX_WHY_DEFAULT,   /* opts.enc */
    LB_MLX_WHY_MODEL,     /* the model's own rule (8-bit routers) */
    LB_MLX_WHY_RECIPE,    /* the mixed recipe */
    LB_MLX_WHY_OVERRIDE
} lb_mlx_why;

typedef struct lb_mlx_choice {
    lb_str path;    /* of the module; a part of the tensor's name. Empty: there is none */
    lb_enc enc;     /* PLAIN: not quantized */
    lb_dtype dtype; /* not quantized: the type in which it is stored */
    lb_mlx_why why;
    lb_mlx_said said; /* how config.json names enc ... */
    bool has_entry;   /* ... in an entry of its own */
} lb_mlx_choice;

/* out[i] is of tensor i. A mixed recipe is instead of the model's rules, as in mlx-lm; overrides go
 * before both, and ask only that rows are whole groups of their own. LB_E_UNSUPPORTED: a mixed
 * recipe for a model without "down_proj"; rows that are not whole groups of what the model's rule
 * wants. (mlx-lm stops there, too.) LB_E_LIMIT: lb_override_find. */
lb_status lb_mlx_choose(const lb_mlx_job *job, lb_mlx_choice *out, lb_err *err);
/* Whether every override is found in the name of a tensor that can be quantized: LB_E_USAGE names
 * the first that is not. */
lb_status lb_mlx_check_overrides(const lb_mlx_job *job, lb_err *err);
/* A choice that something else has made for a module (why: as the caller likes). */
void lb_mlx_choice_give(const lb_mlx_opts *opts, const lb_enc *enc, lb_mlx_why why,
                        lb_mlx_choice *choice);

/* The object of config.json, for "quantization" and "quantization_config"
 * (lb_arch_config_to_mlx): opts.enc, then an entry a module where one is needed, in mlx-lm's order.
 * kept: the object of codes that stay (lb_conv_codes_config), whose default is not opts.enc: every
 * module has an entry then; NULL: there are none. Modules that are not quantized have no entry:
 * mlx-lm's convert writes none, and its loader goes by the tensors. LB_E_NOMEM. */
lb_status lb_mlx_quantization(const lb_mlx_job *job, const lb_mlx_choice *choices,
                              const lb_json *kept, lb_arena *perm, lb_json **out, lb_err *err);

#endif
