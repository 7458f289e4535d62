/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h: architecture descriptors: one table per family, read by every operation in every
 * direction.
 *
 * The canonical form of a matrix is the Hugging Face one: its name, layout and shape, one matrix
 * per expert. A row of a family's table names one tensor role in the three worlds and says by which
 * relayout the GGUF form is made from the canonical one. Tables are data (family_<name>.c); a
 * relayout is a small entry that ops/ turns into expression nodes, in both directions. Also here:
 * config.json <-> GGUF metadata (all but tokenizer.*, which is text/'s) <-> MLX config. Source of
 * names, keys, types and their order: the converter of llama-cpp-python 0.3.36 (conversion/,
 * gguf-py/gguf), transformers 5.23 (defaults of configs), mlx-lm 0.32.2. */
#ifndef LB_ARCH_ARCH_H
#define LB_ARCH_ARCH_H

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
    LB_RL_ADD_ONE, /* GGUF holds value + 1 (gemma norms): f32 sum; for F16 input the sum is rounded
                      to f16 before it is stored as F32 (as the reference does) */
    LB_RL_MADE,    /* no HF tensor: see lb_arch_made */
    LB_RL_COUNT
} lb_relayout;

/* What the tensor is: quantization recipes, merge filters and type policies ask. */
typedef enum lb_role {
    LB_ROLE_TOKEN_EMBD,
    LB_ROLE_OUTPUT,
    LB_ROLE_OUTPUT_NORM,
    LB_ROLE_ATTN_NORM,
    LB_ROLE_ATTN_Q,
    LB_ROLE_ATTN_K,
    LB_ROLE_ATTN_V,
    LB_ROLE_ATTN_OUTPUT,
    LB_ROLE_ATTN_Q_NORM,
    LB_ROLE_ATTN_K_NORM,
    LB_ROLE_ATTN_POST_NORM,
    LB_ROLE_FFN_NORM,
    LB_ROLE_FFN_GATE,
    LB_ROLE_FFN_UP,
    LB_ROLE_FFN_DOWN,
    LB_ROLE_FFN_POST_NORM,
    LB_ROLE_ROPE_FREQS,
    LB_ROLE_DROPPED, /* recomputed at run time (inv_freq); counted and named when left out */
    LB_ROLE_COUNT
} lb_role;

/* NONE: the names of the row are whole names (raw parameters such as "A_log"), nothing is added. */
enum { LB_SUFFIX_WEIGHT = 1, LB_SUFFIX_BIAS = 2, LB_SUFFIX_NONE = 4 };

enum {
    LB_ROW_GGUF_F32 = 1,    /* F32 in GGUF whatever the output type (routers, short convolutions) */
    LB_ROW_GGUF_TQ_F16 = 2, /* F16 in GGUF under tq1_0 and tq2_0 (embeddings, output) */
    LB_ROW_MLX_DROP_TIED = 4, /* left out of MLX when the embeddings are tied, though stored */
    LB_ROW_CUT_VOCAB = 8,     /* GGUF keeps only the rows that the tokenizer knows (gemma3) */
    LB_ROW_OPTIONAL = 16      /* a complete model may lack it */
};

/* "{b}" stands for the layer number, "{e}" for the expert's. Names stand without the suffix. An
 * empty name: this world has no such tensor (gguf, mlx: dropped; hf: made). Rows that read the same
 * HF tensor (one fused matrix, several GGUF tensors) are neighbours. Several rows may give one GGUF
 * name: the first is the one written back. */
typedef struct lb_arch_tensor {
    lb_role role;
    lb_str hf;   /* "model.layers.{b}.self_attn.q_proj" */
    lb_str gguf; /* "blk.{b}.attn_q" */
    lb_str mlx;  /* "model.layers.{b}.self_attn.q_proj" */
    lb_relayout relayout;
    u8 suffixes; /* which exist */
    u8 flags;    /* LB_ROW_* */
} lb_arch_tensor;

typedef struct lb_arch lb_arch; /* arch_internal.h */

/* What relayouts and checks need, read from a config or from metadata. */
typedef struct lb_hparams {
    u64 n_layers, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    u64 n_expert, n_expert_used; /* 0: dense */
    bool tied;                   /* no output matrix: the embedding is used */
    bool headless;               /* the class has no output matrix at all (LlamaModel) */
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
    u32 layer, expert; /* LB_NO_INDEX where the name has none */
    u8 suffix;         /* one of LB_SUFFIX_* */
} lb_arch_match;

/* Finds the row of a stored name, O(rows) comparisons of lengths; no allocation. In the HF and MLX
 * worlds the prefixes that the reference takes are understood ("language_model.", "text_model.", a
 * missing "model."). False: this family has no such tensor. */
bool lb_arch_find(const lb_arch *a, lb_world world, lb_str name, lb_arch_match *out);
/* The name of a row in a world, in the arena; ptr NULL when out of memory; empty where the row has
 * none. */
lb_str lb_arch_tensor_name(const lb_arch_tensor *row, lb_world world, const lb_arch_match *m,
                           lb_arena *perm);
/* Whether the world leaves the tensor out: LB_ROLE_DROPPED; MLX: stored output of a tied model. */
bool lb_arch_is_dropped(const lb_arch_tensor *row, lb_world world, const lb_hparams *hp);
/* Whether the reference converter stores this tensor as F32 in GGUF whatever the output type.
 * (What is not F32 and whose rows do not fit the block of a quantized type becomes F16 there.) */
bool lb_arch_gguf_is_f32(const lb_arch_tensor *row, u8 suffix, u32 rank);
/* Heads of the relayout: n_head or n_head_kv; 0 for the others. */
u64 lb_arch_relayout_heads(lb_relayout r, const lb_hparams *hp);

/* What a model holds, noted while its names are walked. */
typedef struct lb_arch_seen {
    u8 suffixes[LB_ROLE_COUNT]; /* LB_SUFFIX_* bits */
    u64 count[LB_ROLE_COUNT];   /* tensors of the role with suffix WEIGHT or NONE */
    u64 vocab_rows;             /* of the embedding */
} lb_arch_seen;
void lb_arch_seen_add(lb_arch_seen *seen, const lb_arch_match *m, const lb_shape *shape);
/* A row that is not optional must be there for every layer; LB_E_FORMAT says what is missing. */
lb_status lb_arch_seen_check(const lb_arch *a, const lb_hparams *hp, const lb_arch_seen *seen,
                             lb_world world, lb_err *err);

/* ---- tensors that GGUF holds and HF does not ----
 * The order in which the reference writes a GGUF: made tensors first, then the HF tensors by shard
 * file name and, inside a shard, by name (bytewise: lb_str_cmp). */
typedef struct lb_arch_made_tensor {
    lb_str name; /* "rope_freqs.weight" */
    lb_shape shape;
    const float *values; /* shape's elements, stored as F32 */
} lb_arch_made_tensor;
/* *out: n tensors in the arena (NULL when n is 0). The config is config.json of an HF or MLX
 * folder. */
lb_status lb_arch_made(const lb_arch *a, const lb_json *config, lb_arena *perm,
                       lb_arch_made_tensor **out, u32 *n, lb_err *err);

/* ---- config.json -> GGUF metadata ---- */

typedef struct lb_arch_meta_in {
    const lb_json *config;     /* config.json */
    const lb_json *generation; /* generation_config.json; NULL: none */
    lb_str readme;             /* README.md; may be empty */
    lb_str label;              /* name of the model's folder: feeds the heuristics of general.* */
    lb_str name;               /* general.name as the user wants it; empty: by the heuristics */
    const lb_json
        *pooling;        /* config.json of the pooling module of an embedding model; NULL: none */
    u64 n_params;        /* elements of all tensors that the GGUF will hold, made ones too */
    u64 n_params_shared; /* those of tensors without "_exps." in their GGUF names */
    u64 n_params_expert; /* those of one expert: sum of elements / n_expert over the stacks */
    u64 n_expert;        /* mean number of experts of the stacks; 0: dense */
    u32 file_type;       /* general.file_type (llama.h's LLAMA_FTYPE_*) */
    lb_err *card_err; /* set when the README's YAML cannot be read (it is then passed over); may be
                         NULL */
} lb_arch_meta_in;

/* Appends every key that the reference converter writes before tokenizer.*, in its order and types:
 * general.*, <arch>.*, general.quantization_version. Strings are copied into the meta's arena. */
lb_status lb_arch_meta_from_config(const lb_arch *a, const lb_arch_meta_in *in, lb_gguf_meta *out,
                                   lb_err *err);
/* Only general.architecture and <arch>.*: what inference reads, whatever the format of the model.
 */
lb_status lb_arch_meta_model(const lb_arch *a, const lb_json *config, lb_gguf_meta *out,
                             lb_err *err);

/* ---- GGUF metadata -> config.json ---- */

/* Keys that lbrx adds to a GGUF made from an HF or MLX folder: the texts of the files, byte for
 * byte. */
#define LB_KEY_HF_CONFIG "lbrx.hf.config"
#define LB_KEY_HF_GENERATION "lbrx.hf.generation_config"

typedef struct lb_arch_config_in {
    const lb_gguf_meta *meta;
    const lb_arch_seen *seen; /* of the GGUF's tensors */
    const float *rope_freqs;  /* values of rope_freqs.weight; NULL: the file has none */
    u64 n_rope_freqs;
    lb_dtype dtype; /* of the matrices that will be written: F32, F16, BF16 */
} lb_arch_config_in;

typedef struct lb_arch_config_out {
    lb_str config;        /* text of config.json */
    lb_str generation;    /* text of generation_config.json; empty: nothing is known */
    bool original;        /* config is LB_KEY_HF_CONFIG's text */
    const char **notices; /* what the GGUF did not say and was assumed; in the arena */
    u32 n_notices;
} lb_arch_config_out;

/* A config that transformers (4.40 and newer, 5 too) and mlx-lm load and that gives the same model.
 * LB_E_UNSUPPORTED: the metadata says what HF's config can't (rope factors that no llama3 rule
 * gives). */
lb_status lb_arch_config_from_meta(const lb_arch_config_in *in, lb_arena *perm,
                                   lb_arch_config_out *out, lb_err *err);

/* ---- config.json between HF and MLX folders ---- */

/* As mlx-lm writes it: keys sorted, indent 4, without `_name_or_path` and `vision_config`;
 * eos_token_id taken from generation (may be NULL); quantization (may be NULL) under its two names.
 * What mlx-lm's model class would otherwise take from a default of its own that is not the model's
 * (rope_theta and rope_scaling, where the config has transformers 5's rope_parameters;
 * tie_word_embeddings) is added. */
lb_status lb_arch_config_to_mlx(lb_str config, const lb_json *generation,
                                const lb_json *quantization, lb_buf *out, lb_err *err);
/* For an HF folder: `quantization` and `quantization_config` removed, `dtype` and `torch_dtype` set
 * where the config names them. All other bytes stay as they are. */
lb_status lb_arch_config_to_hf(lb_str config, lb_dtype dtype, lb_buf *out, lb_err *err);

#endif
