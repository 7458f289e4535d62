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
#include "arch/arch_role.h"
#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

/* ---- the tables ---- */

/* How the GGUF tensor is made from the canonical one (and back). New families add entries here. */
typedef enum lb_relayout {
    LB_RL_NONE,
    LB_RL_ROPE_Q, /* rows of each of n_head heads (a head = rows / n_head): the two halves -> pairs.
                     GGUF row 2i + h of a head is HF row h * (head/2) + i. Weights and biases */
    LB_RL_ROPE_K, /* the same with n_head_kv heads */
    LB_RL_ADD_ONE, /* GGUF holds value + 1 (norms of gemma), a bias as it is: f32 sum; for F16 input
                      the sum is rounded to f16 before it is stored as F32 (as the reference does)
                    */
    LB_RL_MADE,    /* no HF tensor: see lb_arch_made */
    LB_RL_TRANSPOSE,    /* matrix transposed; biases as they are (gpt2's Conv1D) */
    LB_RL_ONE_ROW,      /* a matrix of one row, which some writers of GGUF store as a vector */
    LB_RL_SQUEEZE,      /* a convolution of one channel a group, [C, 1, K] -> [C, K] */
    LB_RL_CHANNEL_LAST, /* the same, [C, 1, K] -> [C, K, 1] */
    LB_RL_COUNT
} lb_relayout;

/* NONE: the names of the row are whole names (raw parameters such as "A_log"), nothing is added. */
enum { LB_SUFFIX_WEIGHT = 1, LB_SUFFIX_BIAS = 2, LB_SUFFIX_NONE = 4 };

/* Which rows of a world's matrix are the row's: Q, K, V: n_head, n_head_kv, n_head_kv heads one
 * after the other; GROUP_Q, GROUP_K, GROUP_V: n_head_kv groups, each the heads of q that go with
 * one head of k and v, then these two; FIRST, SECOND: two halves; EVEN, ODD: every second row;
 * NOPE, VALUE: a head's rows for keys without rotation, then those for values. */
typedef enum lb_part {
    LB_PART_ALL,
    LB_PART_Q,
    LB_PART_K,
    LB_PART_V,
    LB_PART_GROUP_Q,
    LB_PART_GROUP_K,
    LB_PART_GROUP_V,
    LB_PART_FIRST,
    LB_PART_SECOND,
    LB_PART_EVEN,
    LB_PART_ODD,
    LB_PART_NOPE,
    LB_PART_VALUE
} lb_part;

enum {
    LB_ROW_GGUF_F32 = 1,    /* F32 in GGUF whatever the output type (routers, short convolutions) */
    LB_ROW_GGUF_TQ_F16 = 2, /* F16 in GGUF under tq1_0 and tq2_0 (embeddings, output) */
    LB_ROW_MLX_DROP_TIED = 4, /* left out of MLX when the embeddings are tied, though stored; with
                                 no name there, other models are refused */
    LB_ROW_CUT_VOCAB = 8,     /* GGUF keeps only the rows that the tokenizer knows (gemma3) */
    LB_ROW_OPTIONAL = 16,     /* a complete model may lack it */
    LB_ROW_EXPERT = 32,       /* one matrix an expert: stacked in a world whose name lacks {e} */
    LB_ROW_HEAD = 64,     /* the same with a vector or a matrix a head; matrices that are fused of
                             parts lie one below the other (lb_arch_is_flat) ... */
    LB_ROW_HEAD_KV = 128, /* ... a key-value head */
    LB_ROW_STACK = LB_ROW_EXPERT | LB_ROW_HEAD | LB_ROW_HEAD_KV,
    LB_ROW_MTP = 256,             /* of layers of multi-token prediction (lb_extra) only */
    LB_ROW_HF_F32 = 512,          /* the model class keeps it in f32 whatever the model's type */
    LB_ROW_GGUF_DROP_TIED = 1024, /* left out of GGUF when the embeddings are tied, though stored */
    LB_ROW_HF_CODES = 2048, /* packed codes; their values: the first row of this name in GGUF */
    LB_ROW_OWN_KV = 4096    /* layers that share keys and values need none: MLX leaves it out */
};

/* "{b}" stands for the layer number, "{e}" for the expert's or the head's, "{m}" for the number of
 * a layer of multi-token prediction counted from 0; such a layer without a number in its name is
 * the first. Names stand without the suffix. An empty name: this world has no such tensor (gguf,
 * mlx: dropped; hf: made). Rows that share a world's matrix have its name there, are neighbours in
 * its order and differ in part[world]; others of that name are forms of the other worlds over
 * time: the first is written back. */
typedef struct lb_arch_tensor {
    lb_role role;
    lb_str hf;   /* "model.layers.{b}.self_attn.q_proj" */
    lb_str gguf; /* "blk.{b}.attn_q" */
    lb_str mlx;  /* "model.layers.{b}.self_attn.q_proj" */
    lb_relayout relayout;
    u8 suffixes; /* which exist */
    u16 flags;   /* LB_ROW_* */
    u8 part[3];  /* lb_part, by lb_world */
    lb_relayout mlx_relayout;
    lb_relayout
        hf_relayout; /* TRANSPOSE: parts are of HF's columns. Packed codes have rows there */
    lb_role instead; /* a layer with a matrix of this role needs none of the row's; 0: no such */
} lb_arch_tensor;

typedef struct lb_arch lb_arch;             /* arch_internal.h */
typedef struct lb_arch_outer lb_arch_outer; /* a class that holds a family's model beside others */

#define LB_EXPERTS_MAX 65536 /* the largest model has 512; and so many heads */

/* What relayouts and checks need, read from a config or from metadata. */
typedef struct lb_hparams {
    u64 n_layers, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    u64 n_expert, n_expert_used; /* 0: dense */
    u64 n_mtp;                   /* layers of multi-token prediction, behind the n_layers others */
    u64 n_kv_shared;             /* the last layers that use the keys and values of earlier ones */
    u64 nope_dim, value_dim;    /* latent attention: sizes of LB_PART_NOPE, LB_PART_VALUE; else 0 */
    bool tied;                  /* no output matrix: the embedding is used */
    bool headless;              /* the class has no output matrix at all (LlamaModel) */
    bool may_tie;               /* tied, if it turns out that no output matrix is stored */
    const lb_arch_outer *outer; /* the class of the model; NULL: it is a language model alone */
} lb_hparams;

const char *lb_arch_name(const lb_arch *a); /* GGUF's general.architecture: "llama", "qwen2"... */
const lb_arch_tensor *lb_arch_rows(const lb_arch *a, u32 *n);
/* The i-th family, NULL beyond the last; its name for people: "llama", "mistral"... */
const lb_arch *lb_arch_at(u32 i, const char **family);

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
bool lb_arch_stacks_by_table(const lb_arch *a); /* stacks of a layer in GGUF: not by name */
/* Whether the world keeps the experts' matrices (heads' vectors) of this row in one tensor, and the
 * heads' matrices one below the other. */
bool lb_arch_is_stacked(const lb_arch_tensor *row, lb_world world);
bool lb_arch_is_flat(const lb_arch_tensor *row, lb_world world);
/* The row of the values; itself but for LB_ROW_HF_CODES. */
const lb_arch_tensor *lb_arch_value_row(const lb_arch *a, const lb_arch_tensor *row);
/* How many of them there are; 1: the row knows no stacks. */
u64 lb_arch_n_stack(const lb_arch_tensor *row, const lb_hparams *hp);
/* The rows of a part in a matrix of n_rows: n of them, in runs of `run`, a run every `step` (both 1
 * where they are neighbours). LB_E_FORMAT: it cannot be cut so. */
typedef struct lb_part_rows {
    u64 from, run, step, n;
} lb_part_rows;
lb_status lb_arch_part_rows(lb_part part, const lb_hparams *hp, u64 n_rows, lb_part_rows *out,
                            lb_err *err);
#define LB_PARTS_OF_MATRIX 3 /* at most */
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
