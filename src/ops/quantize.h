/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.h: a conversion whose matrices become codes: which type each gets, and what the metadata
 * or the config says of it.
 *
 * The conversion lists its tensors as a file of plain values has them; a scheme (GGUF's recipes,
 * MLX's groups, the layouts of Hugging Face) then replaces the expressions of those that it
 * chooses. A tensor that is stored in the chosen type already keeps its codes. */
#ifndef LB_OPS_QUANTIZE_H
#define LB_OPS_QUANTIZE_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/dtype.h"

#define LB_QUANT_TYPES_MAX 8 /* outputs of one run */

typedef enum lb_quant_size {
    LB_SIZE_AUTO, /* the type's own */
    LB_SIZE_GROUPS,
    LB_SIZE_CHANNEL, /* a row */
    LB_SIZE_TENSOR
} lb_quant_size;

/* As the user gave it; NULL and 0: not given. */
typedef struct lb_quantize_opts {
    const char *type; /* TYPE[,TYPE...] */
    bool keep;        /* instead of it: as the base of a model that is computed has it */
    const struct lb_source *like; /* instead of it: each tensor as that model has it */
    const u32
        *like_layers; /* [n_like_layers] layer i of the result as that one of it; NULL: as i */
    u32 n_like_layers;
    const char *const *overrides; /* [n_overrides] "REGEX=TYPE" on the target's names */
    u32 n_overrides;
    const char *rules; /* a file of overrides, one a line; they come after the others */
    const char *const *tensor_types; /* [n_tensor_types] the same as llama-quantize reads them */
    u32 n_tensor_types;
    const char *tensor_type_file;
    const char *output_type, *embedding_type; /* GGUF types */
    bool keep_output;                         /* output.weight stays as it is */
    bool pure;                                /* one type for all */
    /* Instead of a recipe: the types (then `type` names those to choose from; NULL: what the format
     * has) with the least error for so many bits a value, or so many bytes; 0: no target. */
    double target_bpw;
    u64 target_bytes;
    bool protect;                   /* embeddings, head and routers not below 6 bit */
    const char *const *override_kv; /* [n_override_kv] KEY=int|float|bool|str:VALUE, or as --set */
    u32 n_override_kv;
    bool keep_split;            /* a GGUF in parts: the same tensors in each part */
    bool max_buffer;            /* llama-quantize's limit was given: said to be none here */
    const char *prune;          /* numbers of layers that are left out, of GGUF */
    const char *imatrix;        /* importance matrix, a file */
    const char *sensitivity;    /* of a target: what is lost by tensor and type, a file */
    const char *const *include; /* [n_include] parts of names: importance for them */
    u32 n_include;
    const char *const *exclude; /* [n_exclude] for all but them */
    u32 n_exclude;
    lb_quant_size size; /* what has a scale of its own */
    u32 group;          /* GROUPS: values of one */
    bool sym, asym;     /* HF: without, with zero points */
    bool refine;        /* less error in the same format, in more time */
    bool cpu_rule;      /* MLX: as mlx computes on a CPU; else as on a GPU */
} lb_quantize_opts;

/* Whether names[i] of n stand in name. */
bool lb_quantize_is_named(const char *const *names, u32 n, lb_str name);

#endif
