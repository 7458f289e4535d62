/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h: architecture descriptors: one table per family, read by every operation in every
 * direction.
 *
 * The canonical form of a matrix is the Hugging Face one: its name, layout and shape, one matrix
 * per expert. A row of a family's table names one tensor role in the three worlds and says by which
 * relayout the GGUF form is made from the canonical one. Tables are data (family_<name>.c); a
 * relayout is a small entry that ops/ turns into expression nodes, in both directions. Configs and
 * metadata: arch_config.h. Source of names, keys, types and their order: the converter of
 * llama-cpp-python 0.3.36 (conversion/, gguf-py/gguf), transformers 5.23 (defaults of configs),
 * mlx-lm 0.32.2. */
#ifndef LB_ARCH_ARCH_H
#define LB_ARCH_ARCH_H

#include "arch/arch_extra.h"
#include "arch/arch_row.h"
#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

typedef struct lb_arch lb_arch;             /* arch_internal.h */
typedef struct lb_arch_outer lb_arch_outer; /* a class that holds a family's model beside others */

#define LB_EXPERTS_MAX 65536 /* the largest model has 512; and so many heads */

/* What relayouts and checks need, read from a config or from metadata. */
typedef struct lb_hparams {
    u64 n_layers, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    u64 n_expert, n_expert_used; /* 0: dense */
    u64 n_mtp;                   /* layers of multi-token prediction, behind the n_layers others */
    u64 n_kv_shared;             /* the last layers that use the keys and values of earlier ones */
    u64 window_dim; /* head_dim of layers with a window, read from GGUF; 0: they have the same */
    u64 nope_dim, value_dim;    /* latent attention: sizes of LB_PART_NOPE, LB_PART_VALUE; else 0 */
    u64 n_recurrent;            /* layers of linear attention; 0: the family has none */
    u64 ssm_groups, ssm_heads;  /* there: heads of keys, heads of values */
    u64 ssm_state, ssm_inner;   /* elements of a key, of all values together */
    bool tied;                  /* no output matrix: the embedding is used */
    bool headless;              /* the class has no output matrix at all (LlamaModel) */
    bool may_tie;               /* tied, if it turns out that no output matrix is stored */
    const lb_arch_outer *outer; /* the class of the model; NULL: it is a language model alone */
    const lb_arch_outer *mlx_outer; /* mlx-lm has no class for the language model alone: this */
} lb_hparams;

const char *lb_arch_name(const lb_arch *a); /* GGUF's general.architecture: "llama", "qwen2"... */
const lb_arch_tensor *lb_arch_rows(const lb_arch *a, u32 *n);
/* The i-th family, NULL beyond the last; its name for people: "llama", "mistral"... */
const lb_arch *lb_arch_at(u32 i, const char **family);
/* The k-th entry of "architectures" that is one of the family, those of classes that hold it beside
 * other parts last; NULL beyond. */
const char *lb_arch_class_at(const lb_arch *a, u32 k);

/* From config.json. LB_E_UNSUPPORTED names the class or model_type and lists the families known. */
lb_status lb_arch_from_config(const lb_json *config, const lb_arch **out, lb_hparams *hp,
                              lb_err *err);
/* From GGUF metadata; has_output: the file holds output.weight. */
lb_status lb_arch_from_gguf(const lb_gguf_meta *meta, bool has_output, const lb_arch **out,
                            lb_hparams *hp, lb_err *err);

/* ---- names ---- */

typedef enum lb_world { LB_WORLD_HF, LB_WORLD_MLX, LB_WORLD_GGUF } lb_world;
#define LB_NO_INDEX UINT32_MAX

typedef struct lb_arch_match {
    const lb_arch_tensor *row; /* the first of n_rows neighbours that this stored tensor feeds */
    u32 n_rows;
    u32 layer, expert; /* LB_NO_INDEX where the name has none; counted as in GGUF */
    u32 mtp;   /* the layer's number among those of multi-token prediction, or LB_NO_INDEX */
    u8 suffix; /* one of LB_SUFFIX_* */
    lb_extra extra;
} lb_arch_match;

/* Finds the row of a stored name, O(rows) comparisons of lengths; no allocation. Of hp only
 * n_layers is asked. In the HF and MLX worlds the prefixes that the reference takes are understood
 * ("language_model.", "text_model.", a missing "model."). False: this family has no such tensor. */
bool lb_arch_find(const lb_arch *a, const lb_hparams *hp, lb_world world, lb_str name,
                  lb_arch_match *out);
lb_str lb_arch_row_name(const lb_arch_tensor *row, lb_world world);          /* with its holes */
lb_relayout lb_arch_row_relayout(const lb_arch_tensor *row, lb_world world); /* HF: NONE */
/* The matrix is one of inputs times outputs in Hugging Face's files and upright elsewhere (Conv1D).
 */
bool lb_arch_is_conv1d(const lb_arch_tensor *row);
bool lb_arch_stacks_by_table(const lb_arch *a); /* stacks of a layer in GGUF: not by name */
/* Whether the world keeps the experts' matrices (heads' vectors) of this row in one tensor, and the
 * heads' matrices one below the other. */
bool lb_arch_is_stacked(const lb_arch_tensor *row, lb_world world);
bool lb_arch_is_flat(const lb_arch_tensor *row, lb_world world);
/* The row of the values; itself but for LB_ROW_HF_CODES. */
const lb_arch_tensor *lb_arch_value_row(const lb_arch *a, const lb_arch_tensor *row);
/* Forms of one tensor over time: the first of the table, which is the one that is written, with the
 * suffix that it has there. Itself where there is no other. */
lb_arch_match lb_arch_first_form(const lb_arch *a, const lb_arch_match *m);
/* How many matrices a stack has; 1: the row knows no stacks. */
u64 lb_arch_n_stack(const lb_arch_tensor *row, const lb_hparams *hp);
/* The rows of a part in a matrix of n_rows: n of them, in runs of `run`, a run every `step` (both 1
 * where they are neighbours). LB_E_FORMAT: it cannot be cut so. */
typedef struct lb_part_rows {
    u64 from, run, step, n;
} lb_part_rows;
lb_status lb_arch_part_rows(lb_part part, const lb_hparams *hp, u64 n_rows, lb_part_rows *out,
                            lb_err *err);
#define LB_PARTS_OF_MATRIX 4 /* at most */
/* Whether the rows of the part alternate with those of the others. */
bool lb_arch_part_is_woven(lb_part part);
/* The name of a row in a world, in the arena; ptr NULL when out of memory; empty where the row has
 * none. */
lb_str lb_arch_tensor_name(const lb_arch_tensor *row, lb_world world, const lb_arch_match *m,
                           lb_arena *perm);
/* Whether the world leaves the tensor out: LB_ROLE_DROPPED; stored output of a tied model. */
bool lb_arch_is_dropped(const lb_arch_tensor *row, lb_world world, const lb_hparams *hp);
/* The same of one layer's: MLX also has no keys of a layer that uses another's. */
bool lb_arch_is_left_out(const lb_arch_match *m, lb_world world, const lb_hparams *hp);
/* Whether the reference converter stores this tensor as F32 in GGUF whatever the output type.
 * (What is not F32 and whose rows do not fit the block of a quantized type becomes F16 there.) */
bool lb_arch_gguf_is_f32(const lb_arch_tensor *row, u8 suffix, u32 rank);
/* Heads of the relayout: n_head or n_head_kv; 0 for the others. */
u64 lb_arch_relayout_heads(lb_relayout r, const lb_hparams *hp);

#include "arch/arch_seen.h"

#endif
