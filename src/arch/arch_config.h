/* SPDX-License-Identifier: Apache-2.0 */
/* arch_config.h: config.json <-> GGUF metadata (all but tokenizer.*, which is text/'s) <-> MLX
 * config, by the rows of the families' tables. */
#ifndef LB_ARCH_ARCH_CONFIG_H
#define LB_ARCH_ARCH_CONFIG_H

#include "arch/arch.h"

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
    bool adapter;        /* set by lb_arch_meta_adapter */
    bool no_mtp;         /* the GGUF will not have the layers of multi-token prediction */
    u64 n_mtp;           /* how many the model holds, for a config that does not say */
    lb_buf *said;        /* gets a line for each thing that readers of the GGUF take otherwise than
                            the config says it; may be NULL */
    lb_err *card_err; /* set when the README's YAML cannot be read (it is then passed over); may be
                         NULL */
} lb_arch_meta_in;

/* Appends every key that the reference converter writes before tokenizer.*, in its order and types:
 * general.*, <arch>.*, general.quantization_version. Strings are copied into the meta's arena. */
lb_status lb_arch_meta_from_config(const lb_arch *a, const lb_arch_meta_in *in, lb_gguf_meta *out,
                                   lb_err *err);
/* Keys of an adapter of a model of this family: general.* from its own card and name, adapter.type,
 * adapter.lora.alpha. in->n_params: elements of the matrices that it changes. */
lb_status lb_arch_meta_adapter(const lb_arch *a, const lb_arch_meta_in *in, float alpha,
                               lb_gguf_meta *out, lb_err *err);
/* Only general.architecture and <arch>.*, as a GGUF has them. */
lb_status lb_arch_meta_model(const lb_arch *a, const lb_json *config, lb_gguf_meta *out,
                             lb_err *err);
/* The same with what GGUF has no form for: what inference reads of a folder. */
lb_status lb_arch_meta_run(const lb_arch *a, const lb_json *config, lb_gguf_meta *out, lb_err *err);

/* ---- GGUF metadata -> config.json ---- */

/* Keys that lbrx adds to a GGUF made from an HF or MLX folder: the texts of the files, byte for
 * byte. */
#define LB_KEY_HF_CONFIG "lbrx.hf.config"
#define LB_KEY_HF_GENERATION "lbrx.hf.generation_config"
/* The sum of the keys that tell the same: after one of them was changed, by --set or by another
 * tool, the kept texts are not the model's any more. */
#define LB_KEY_HF_CONFIG_SUM "lbrx.hf.config_sum"
lb_status lb_arch_config_seal(lb_gguf_meta *meta,
                              lb_err *err);         /* sets it, where a config is kept */
bool lb_arch_config_kept(const lb_gguf_meta *meta); /* there is one, and it is the model's */

typedef struct lb_arch_config_in {
    const lb_gguf_meta *meta;
    const lb_arch_seen *seen; /* of the GGUF's tensors */
    const float *rope_freqs;  /* values of rope_freqs.weight; NULL: the file has none */
    u64 n_rope_freqs;
    const float
        *rope_long; /* of rope_factors_long.weight and rope_factors_short.weight: both or NULL */
    const float *rope_short;
    u64 n_rope_long; /* and of the short ones */
    lb_dtype dtype;  /* of the matrices that will be written: F32, F16, BF16 */
} lb_arch_config_in;

typedef struct lb_arch_config_out {
    lb_str config;        /* text of config.json */
    lb_str generation;    /* text of generation_config.json; empty: nothing is known */
    bool original;        /* config is LB_KEY_HF_CONFIG's text, which is the model's still */
    const char **notices; /* what the GGUF did not say and was assumed; in the arena */
    u32 n_notices;
} lb_arch_config_out;

/* A config that transformers (4.40 and newer, 5 too) and mlx-lm load and that gives the same model.
 * LB_E_UNSUPPORTED: the metadata says what HF's config can't (rope factors that no llama3 rule
 * gives). */
lb_status lb_arch_config_from_meta(const lb_arch_config_in *in, lb_arena *perm,
                                   lb_arch_config_out *out, lb_err *err);

/* ---- config.json between HF and MLX folders ---- */

/* Takes out what says that weights are stored in codes, at the top and in the configs of parts. */
void lb_arch_config_unquantize(lb_json *config);
/* As mlx-lm writes it: keys sorted, indent 4, without `_name_or_path` and `vision_config`;
 * eos_token_id taken from generation (may be NULL); quantization under its two names (NULL: as the
 * config has it; a JSON null: taken out, the weights are plain now).
 * What mlx-lm's model class would otherwise take from a default of its own that is not the model's
 * (rope_theta and rope_scaling, where the config has transformers 5's rope_parameters;
 * tie_word_embeddings) is added. */
lb_status lb_arch_config_to_mlx(lb_str config, const lb_json *generation,
                                const lb_json *quantization, lb_buf *out, lb_err *err);
/* For an HF folder: `quantization` and `quantization_config` removed; `dtype`, `torch_dtype` and,
 * where it differs from n_vocab (rows of the embedding; 0: not known), `vocab_size` set where the
 * config names them. All other bytes stay as they are. */
lb_status lb_arch_config_to_hf(lb_str config, lb_dtype dtype, u64 n_vocab, lb_buf *out,
                               lb_err *err);
/* The same with all that it leaves to its class, for a class with other defaults: its fields, and
 * rope under transformers 4's names. In the arena. LB_E_UNSUPPORTED: the model is one part of
 * several. */
lb_status lb_arch_config_full(const lb_json *config, lb_arena *perm, lb_json **out, lb_err *err);
/* A member more at the top, in the place that its key has among sorted ones, else at the end, in
 * the text's own style; all other bytes stay as they are. */
lb_status lb_arch_config_add(lb_str config, const char *key, const lb_json *value, lb_buf *out,
                             lb_err *err);
/* config.json of the same model without a part of it; all other bytes stay as they are. */
lb_status lb_arch_config_without(const lb_arch *a, lb_extra extra, lb_str config, lb_buf *out,
                                 lb_err *err);
/* GGUF metadata of the same model without a part of it. */
lb_status lb_arch_meta_without(const lb_arch *a, lb_extra extra, lb_gguf_meta *meta, lb_err *err);

/* The config of the language model alone, for its own class, from that of a class that holds it
 * beside other parts; keys sorted, indent 2, as transformers writes them. The text itself where it
 * is a language model's already. */
lb_status lb_arch_config_text(lb_str config, lb_buf *out, lb_err *err);
/* The config of a class that holds a language model, whose own config now says that its embeddings
 * are tied where only the tensors did (hp: may_tie, tied); in the arena. Else `config` itself. */
lb_status lb_arch_config_tied(lb_str config, const lb_hparams *hp, lb_arena *perm, lb_str *out,
                              lb_err *err);

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

#endif
