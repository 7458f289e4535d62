/* SPDX-License-Identifier: Apache-2.0 */
/* fake_model.h: models made up for tests: HF folders and GGUF files of real families and any size.
 *
 * Small ones have values; sparse ones (fm_spec.sparse) have true headers and holes for data, so
 * that a model of any size can be planned. Every value is an odd multiple of a power of two with 8
 * significant bits, so bf16, f16 and f32 hold the same numbers; it depends on the seed and on the
 * HF tensor's name and not on the type, the files or the format. A GGUF file therefore holds what a
 * conversion of the HF folder gives wherever the converter only renames and stacks: not for llama's
 * q and k (its rows are permuted) nor for gemma's norms (plus one). */
#ifndef LB_TESTS_FAKE_MODEL_H
#define LB_TESTS_FAKE_MODEL_H

#include "base/mem.h"
#include "tensor/dtype.h"

typedef enum fm_family {
    FM_LLAMA,
    FM_QWEN2,
    FM_QWEN3,
    FM_GEMMA3,
    FM_QWEN3_MOE,
    FM_FAMILIES
} fm_family;

typedef struct fm_spec {
    fm_family family;
    u64 n_layers, hidden, ffn, n_heads, n_kv_heads, head_dim, vocab;
    u64 n_experts, n_experts_used; /* FM_QWEN3_MOE; ffn is an expert's */
    bool tied;                     /* no lm_head; gemma3 is always tied */
    lb_dtype dtype;                /* of matrices; for GGUF also fm_can_fill's block types */
    u64 max_file_bytes;            /* of tensor data a shard; 0: one file */
    bool sparse;                   /* no values: holes */
    u64 seed;
} fm_spec;

/* 2 layers, hidden 256, 4 heads of 64 (2 for k and v), ffn 512, vocabulary 320, bf16. */
fm_spec fm_tiny(fm_family family);
/* The shapes of released models, sparse: their parameter counts are known. */
fm_spec fm_llama3_70b(void);  /* 70,553,706,496 */
fm_spec fm_llama3_405b(void); /* 405,853,388,800 */
fm_spec
fm_moe_1t(void); /* 61 layers of 384 experts: 1,042,174,423,296 parameters, 70,824 tensors */

const char *fm_family_name(fm_family family); /* "llama", the GGUF architecture's name */
bool fm_can_fill(lb_dtype t);                 /* values can be made up for this type */

/* Writes dir (made if absent): config.json, safetensors shards, their index. Files that are there
 * are replaced. */
lb_status fm_write_hf(const char *dir, const fm_spec *spec, lb_err *err);
/* Writes dir/stem.gguf, or dir/stem-00001-of-...; path (may be NULL) is that of the first file.
 * Norms, biases and routers are F32. A vocabulary of byte tokens and made-up words is included. */
lb_status fm_write_gguf(const char *dir, const char *stem, const fm_spec *spec, lb_arena *perm,
                        const char **path, lb_err *err);

/* Adds tokenizer.json and tokenizer_config.json to dir, as large as real ones (n_vocab from 4096):
 * byte-level BPE with merges as strings, or SentencePiece-like with merges as lists and a
 * tokenizer.model. */
typedef struct fm_tok {
    u64 n_vocab;
    bool bytes, model;
} fm_tok;
lb_status fm_write_tokenizer(const char *dir, const fm_tok *tok, lb_err *err);

/* ---- for fake_write.c and for tests that want the list ---- */

typedef enum fm_fill { FM_MATRIX, FM_EMBEDDING, FM_NORM, FM_NORM_PLUS_ONE, FM_BIAS } fm_fill;

typedef struct fm_tensor {
    lb_str hf;   /* name; of a stack: of its first matrix, with "%u" where the expert stands */
    lb_str gguf; /* name */
    fm_fill fill;
    bool f32_in_gguf;
    u32 rank; /* of the HF tensor */
    u64 dim[2];
    u64 seed;    /* of the spec */
    u64 n_stack; /* 0: one tensor; else experts: n_stack HF tensors, one of one more rank in GGUF */
} fm_tensor;

/* All tensors in module order. */
lb_status fm_tensors(const fm_spec *spec, lb_arena *perm, fm_tensor **out, u64 *n, lb_err *err);
u64 fm_parameters(const fm_tensor *t, u64 n);
/* Values from..from+n_elems of one HF matrix, stored as dtype; from and n_elems are whole blocks.
 */
void fm_values(const fm_tensor *t, u32 expert, lb_dtype dtype, u64 from, u64 n_elems, u8 *out);

#endif
