/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_internal.h: shared by quantize.c (types, nodes) and the schemes (quantize_gguf.c...). */
#ifndef LB_OPS_QUANTIZE_INTERNAL_H
#define LB_OPS_QUANTIZE_INTERNAL_H

#include "ops/convert_internal.h"
#include "ops/importance.h"
#include "ops/quantize.h"
#include "plan/quant.h"
#include "quant/hf_scheme.h"
#include "quant/mlx_recipe.h"
#include "quant/recipe.h"

/* Whose types a name is one of. Floats are everybody's; of GGUF they are recipes too. */
typedef enum lb_scheme {
    LB_SCHEME_FLOAT,
    LB_SCHEME_GGUF,
    LB_SCHEME_MLX,
    LB_SCHEME_HF,
    LB_SCHEME_COUNT
} lb_scheme;

typedef struct lb_quant_type {
    const char *name; /* "q4_k_m" */
    lb_scheme scheme;
    lb_dtype dtype;      /* FLOAT */
    lb_recipe_id recipe; /* GGUF, FLOAT */
    lb_mlx_opts mlx;     /* MLX */
    lb_hf_form hf;       /* HF */
} lb_quant_type;

#define LB_CANDIDATES_MAX 24

typedef struct lb_quantizer {
    const lb_quantize_opts *o;
    lb_quant_type type[LB_QUANT_TYPES_MAX];
    u32 n_types;
    /* candidates, where there is a target: of GGUF, of MLX */
    lb_dtype dtypes[LB_CANDIDATES_MAX];
    lb_mlx_opts groupings[LB_CANDIDATES_MAX];
    u32 n_candidates;
    lb_overrides overrides;
    lb_importance importance;
    bool *pruned; /* [n_layers] that are left out; NULL: none */
    u64 n_layers, n_layers_left;
    void *tables[LB_DTYPE_COUNT];          /* of quantizers that have some */
    const lb_quant *plain[LB_DTYPE_COUNT]; /* blocks without importance */
    const lb_quant *groups[32];            /* MLX, HF: kinds of codes */
    u32 n_groups;
    lb_hf_ask hf_ask;
    const lb_arch *like_arch; /* of the model whose types are kept; NULL: not known */
    lb_json *config;          /* MLX: "quantization" of config.json, HF: "quantization_config" */
    lb_out_model model[LB_QUANT_TYPES_MAX]; /* one a type; tensors are heap */
    lb_gguf_meta meta[LB_QUANT_TYPES_MAX];
} lb_quantizer;

/* LB_E_USAGE: unknown types, types that the output's format cannot hold (with those it can), names
 * of outputs. Before anything is planned. */
lb_status lb_quantizer_begin(lb_conv *c, lb_err *err);
void lb_quantizer_end(lb_quantizer *q);
/* " --type q4_k_m --pure ..." of output k; LB_QUANT_TYPES_MAX: of all. */
void lb_quantizer_operation(const lb_quantizer *q, u32 k, lb_buf *out);

/* Of GGUF: --override-kv into the conversion's metadata, then an output's own: q->meta[k]. */
lb_status lb_quantize_override_keys(lb_conv *c, lb_err *err);
lb_status lb_quantize_keys(lb_conv *c, u32 k, u32 file_type, lb_err *err);

/* --prune-layers. First which, by the model's own metadata; then the name of a tensor of the model
 * (none: its layer goes), and its keys. */
lb_status lb_quantize_prune(lb_conv *c, const lb_recipe_model *model, lb_err *err);
lb_status lb_quantize_pruned_name(lb_conv *c, lb_str name, lb_str *out, lb_err *err);
lb_status lb_quantize_pruned_key(lb_conv *c, const lb_gguf_kv *kv, lb_str arch, lb_gguf_meta *to,
                                 lb_err *err);

/* The conversion's tensors with codes in place of values: fills q->model. */
lb_status lb_quantize_gguf(lb_conv *c, lb_err *err);
/* The same in place, of the one output: before its config.json is written. */
lb_status lb_quantize_folder(lb_conv *c, lb_err *err);
lb_status lb_quantize_mlx(lb_conv *c, lb_err *err);
lb_status lb_quantize_hf(lb_conv *c, lb_err *err);
/* The text of config.json, with what the folder's quantizer says there; others: as it is. */
lb_status lb_quantize_hf_config(lb_conv *c, lb_buf *config, lb_err *err);
/* Whether a folder has codes to be made: its type is no float. */
bool lb_quantize_has_codes(const lb_conv *c);

/* ---- nodes ---- */

/* Of a tensor that a source has: it has been counted before. */
static inline u64 lb_quantize_elems(const lb_shape *s) {
    u64 n = 0;
    return lb_shape_elems(s, &n) ? n : 0;
}

/* Rows of a tensor that have weights of their own: its segments, cut where one of its n_mats
 * matrices ends. In the plan's arena. */
typedef struct lb_quant_piece {
    lb_node_id values;
    lb_node_id encoded; /* the segment, and where in it the n_rows begin */
    u64 from, n_rows;
    const float *weights; /* [n_cols], or NULL */
} lb_quant_piece;
typedef struct lb_quant_pieces {
    lb_quant_piece *list;
    u32 n;
} lb_quant_pieces;
lb_status lb_quantize_pieces(lb_conv *c, const lb_out_tensor *t, const float *weights, u64 n_mats,
                             lb_quant_pieces *out, lb_err *err);
/* A quantizer of GGUF's blocks. */
lb_status lb_quantizer_blocks(lb_conv *c, lb_dtype t, const float *weights, const lb_quant **out,
                              lb_err *err);
/* Segments of t in another type: floats, or blocks with the weights of each of its n_mats matrices
 * (NULL: none). */
lb_status lb_quantize_blocks(lb_conv *c, const lb_out_tensor *t, lb_dtype dtype,
                             const float *weights, u64 n_mats, lb_out_tensor *out, lb_err *err);
/* The values that an encode node is given. */
lb_node_id lb_quantize_values(lb_graph *g, lb_node_id encoded);
/* Such values, or rows of them, as the plain folder would hold them: in its type. */
lb_node_id lb_quantize_plain(lb_conv *c, lb_node_id encoded, lb_node_id values, lb_dtype dtype);
/* The weight whose bytes an encode node takes, in whatever order; *whole: in theirs; *dtype: of its
 * first tensor. NULL: it takes what was computed. */
const lb_weight *lb_quantize_stored(const lb_graph *g, lb_node_id encoded, lb_dtype *dtype,
                                    bool *whole);
/* Whether they are codes of some quantizer. */
bool lb_quantize_was_codes(const lb_conv *c, lb_node_id encoded);

/* ---- the best types for a size: quantize_budget.c ---- */

/* A tensor and the types that it may have; one: it is not measured. */
typedef struct lb_quant_choice {
    lb_str name;
    lb_str measured_as; /* its name in a file of figures, and its shape; empty: no such file */
    const lb_shape *shape;
    lb_quant_pieces pieces;
    u32 n_options;
    const lb_quant *const *quants; /* [pieces.n][n_options]; where there is more than one option */
    const u64 *size_bytes;         /* [n_options] in the file */
    u32 chosen;                    /* filled */
} lb_quant_choice;
bool lb_quantizer_has_target(const lb_quantizer *q);
/* other_bytes: of tensors that have no choice; head_bytes: of the files beside all tensors;
 * n_values: of all tensors. Says what came out. LB_E_LIMIT: no choice is so small. */
typedef struct lb_quant_room {
    u64 other_bytes, head_bytes, n_values;
} lb_quant_room;
lb_status lb_quantize_choose(lb_conv *c, lb_quant_choice *list, u64 n, const lb_quant_room *room,
                             lb_err *err);

bool lb_quantize_is_quantized(const lb_source *s); /* some weight is stored in codes */
/* One that is equal, of those that the conversion has; else a copy of x, kept for the next. NULL:
 * out of memory. */
const lb_quant *lb_quantizer_shared(lb_conv *c, const lb_quant *x);
/* That n tensors, the first of this name, had codes before; n 0: nothing. */
void lb_quantizer_say_again(lb_conv *c, u64 n, lb_str first);
/* The weight of the model that the types are taken from, for a tensor of the target: of its name,
 * or, where types are kept, for experts' matrices those of the layer's own feed-forward. NULL: it
 * has none of its width. */
const lb_weight *lb_quantizer_like(const lb_conv *c, lb_str name, const lb_shape *shape,
                                   lb_arena *scratch);

#endif
