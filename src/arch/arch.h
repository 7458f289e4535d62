/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h: architecture descriptors: one table per family, read by every operation in every direction.
 *
 * The canonical form of a matrix is the Hugging Face one: its name, layout and shape, one matrix per
 * expert. A row of a family's table names one tensor role in the three worlds and says by which
 * relayout the GGUF form is made from the canonical one. Tables are data; a relayout is a small entry
 * that ops/ turns into expression nodes, in both directions. */
#ifndef LB_ARCH_ARCH_H
#define LB_ARCH_ARCH_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/source.h"

/* How the GGUF tensor is made from the canonical one (and back). */
typedef enum lb_relayout {
    LB_RL_NONE,
    LB_RL_ROPE_Q,  /* rows of each head: halves -> interleaved pairs, n_head heads */
    LB_RL_ROPE_K,  /* the same, n_head_kv heads */
    LB_RL_ADD_ONE, /* stored norm + 1 in GGUF (gemma) */
    LB_RL_COUNT
} lb_relayout;

/* What the tensor is: quantization recipes, merge filters and type policies ask. */
typedef enum lb_role {
    LB_ROLE_TOKEN_EMBD, LB_ROLE_OUTPUT, LB_ROLE_OUTPUT_NORM, LB_ROLE_ATTN_NORM, LB_ROLE_ATTN_Q,
    LB_ROLE_ATTN_K, LB_ROLE_ATTN_V, LB_ROLE_ATTN_OUTPUT, LB_ROLE_ATTN_Q_NORM, LB_ROLE_ATTN_K_NORM,
    LB_ROLE_ATTN_POST_NORM, LB_ROLE_FFN_NORM, LB_ROLE_FFN_GATE, LB_ROLE_FFN_UP, LB_ROLE_FFN_DOWN,
    LB_ROLE_FFN_POST_NORM, LB_ROLE_ROPE_FREQS,
    LB_ROLE_DROPPED, /* recomputed at run time (inv_freq); counted and named when left out */
    LB_ROLE_COUNT
} lb_role;

/* One row: "{b}" stands for the layer number. Names stand without the ".weight"/".bias" suffix. */
enum { LB_SUFFIX_WEIGHT = 1, LB_SUFFIX_BIAS = 2 };
typedef struct lb_arch_tensor {
    lb_role role;
    const char *hf;        /* "model.layers.{b}.self_attn.q_proj" */
    const char *gguf;      /* "blk.{b}.attn_q" */
    const char *mlx;       /* NULL: same as hf */
    lb_relayout relayout;
    u8 suffixes;           /* which exist */
} lb_arch_tensor;

typedef struct lb_arch lb_arch; /* arch_internal.h */

/* What relayouts and checks need, read from a config or from metadata. */
typedef struct lb_hparams {
    u64 n_layers, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    bool tied; /* no output matrix: the embedding is used */
} lb_hparams;

const char *lb_arch_name(const lb_arch *a);       /* GGUF's general.architecture: "llama", "qwen2"... */

/* From config.json. LB_E_UNSUPPORTED names model_type/architectures and lists the families known. */
lb_status lb_arch_from_config(const lb_json *config, const lb_arch **out, lb_hparams *hp, lb_err *err);
/* From GGUF metadata. */
lb_status lb_arch_from_gguf(const lb_gguf_meta *meta, const lb_arch **out, lb_hparams *hp, lb_err *err);

/* Finds the row of a stored name. *suffix is one of LB_SUFFIX_*, *layer the number (0 for global
 * tensors). False: this family has no such tensor. */
typedef enum lb_world { LB_WORLD_HF, LB_WORLD_MLX, LB_WORLD_GGUF } lb_world;
bool lb_arch_find(const lb_arch *a, lb_world world, lb_str name, const lb_arch_tensor **row, u32 *layer,
                  u8 *suffix);
/* The name of a row in a world, in the arena. */
lb_str lb_arch_tensor_name(const lb_arch_tensor *row, lb_world world, u32 layer, u8 suffix,
                           lb_arena *perm);
/* Whether the reference converter stores this tensor as F32 in GGUF whatever the output type. */
bool lb_arch_gguf_is_f32(const lb_arch_tensor *row, u8 suffix, u32 rank);

#endif
