/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.h: a low-rank adapter (LoRA) in any of its forms, read: what it does to which module of
 * its base model.
 *   PEFT  base_model.model.MODULE.lora_A.weight [rank, in], .lora_B.weight [out, rank]; of
 *         embeddings .lora_embedding_A [rank, rows], _B [columns, rank]; of a stack of matrices
 * that is a parameter of its module A [matrices x rank, in], B [out, rank x matrices], the matrix
 *         being the fastest index; lora_magnitude_vector (DoRA), lora_B.bias; whole tensors under
 *         their names; adapter_config.json with r and lora_alpha
 *   MLX   MODULE.lora_a [in, rank], .lora_b [rank, out]; of embeddings [rows, rank], [rank,
 *         columns]; of stacks [matrices, rank, in], [matrices, out, rank]; .m (DoRA);
 *         adapter_config.json with rank and scale
 *   GGUF  TENSOR.lora_a [rank, in], .lora_b [out, rank], its rows in the order of the base tensor's
 *         in GGUF; of embeddings lora_a [rows, rank], lora_b [columns, rank]; stacks as in MLX;
 *         adapter.lora.alpha
 * What is added to a weight is scale * B A; scale = alpha / rank, with rslora alpha / sqrt(rank).
 *
 * Source: peft 0.21.2 (tuners/lora, utils/save_and_load.py), mlx-lm 0.32.2 (tuner/),
 * convert_lora_to_gguf.py of llama-cpp-python 0.3.36. */
#ifndef LB_OPS_ADAPTER_H
#define LB_OPS_ADAPTER_H

#include "arch/arch.h"
#include "io/json.h"
#include "plan/expr.h"
#include "tensor/source.h"

typedef enum lb_adapter_form {
    LB_ADAPTER_NONE,
    LB_ADAPTER_PEFT,
    LB_ADAPTER_MLX,
    LB_ADAPTER_GGUF
} lb_adapter_form;

#define LB_ADAPTER_ABSENT UINT32_MAX

/* What it adds to one matrix, or to each of a stack. a, b, magnitude, bias: weights of the source.
 */
typedef struct lb_adapter_part {
    lb_str module;    /* in its form's names; GGUF: the base tensor's */
    lb_str parameter; /* PEFT: of the module, in place of its weight: "gate_up_proj"; else empty */
    u32 a, b;
    u32 magnitude;  /* DoRA: the length of each row of the result (PEFT's embeddings: column) */
    u32 bias;       /* added to the module's, times scale */
    u32 depth;      /* PEFT: "base_layer" in its names: which parameter of the module */
    bool embedding; /* the module's matrix has a row a token */
    u64 n_stack;    /* matrices; 1: no stack */
    u64 rank;       /* of one of them, n_out x n_in; of an embedding the tokens are n_in */
    u64 n_in, n_out;
    double scale;
} lb_adapter_part;

/* A tensor that takes the place of the base's; of trainable tokens, rows that do. */
typedef struct lb_adapter_value {
    lb_str name; /* in its form's names, "lm_head.weight"; of rows "model.embed_tokens.weight" */
    u32 weight;  /* of the source */
    const u64 *rows; /* NULL: all of it */
    u64 n_rows;
    bool is_base; /* saved with the adapter though it is the base model's, with tokens added... */
    bool is_idle; /* ... or though another is in its place */
} lb_adapter_value;

typedef struct lb_adapter {
    const lb_source *source;
    lb_arena *perm;
    lb_adapter_form form;
    lb_adapter_part *parts; /* [n] sorted by module */
    u64 n;
    lb_adapter_value *values; /* [n_values] as stored */
    u64 n_values;
    lb_json *config; /* adapter_config.json; NULL: none (GGUF) */
    lb_str config_text;
    bool dora, full; /* full: MLX: all its tensors are whole ones */
    bool ties;       /* an embedding and the output matrix that is the same stay so */
} lb_adapter;

/* Of a source's tensors and metadata; NONE: it is no adapter, or one of another kind. */
lb_adapter_form lb_adapter_form_of(const lb_source *s);
/* "PEFT", "MLX", "GGUF"; NULL: none. */
const char *lb_adapter_form_name(lb_adapter_form f);
lb_world lb_adapter_world(lb_adapter_form f);

/* Reads names, shapes, config. What makes something else of A and B than the above is refused by
 * name. Lists and names are perm's. LB_E_UNSUPPORTED, LB_E_FORMAT, LB_E_NOMEM. */
lb_status lb_adapter_read(lb_adapter *a, const lb_source *s, lb_arena *perm, lb_err *err);

/* The factors of matrix e of a part, as values: left [n_out, rank], right [rank, n_in]; of an
 * embedding left [tokens, rank], right [rank, columns]. */
typedef struct lb_adapter_factors {
    lb_node_id left, right;
    u64 n_rows, n_cols;
} lb_adapter_factors;
lb_adapter_factors lb_adapter_factors_of(const lb_adapter *a, const lb_adapter_part *p, u64 e,
                                         lb_graph *g, u32 source_index);

#endif
