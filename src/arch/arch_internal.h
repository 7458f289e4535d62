/* SPDX-License-Identifier: Apache-2.0 */
/* arch_internal.h: what a family's table consists of.
 *
 * A family is one const lb_arch in family_<name>.c and one line in families.def; no code asks which
 * family it is. What families do differently stands in rows (tensors, metadata) and in flags. */
#ifndef LB_ARCH_ARCH_INTERNAL_H
#define LB_ARCH_ARCH_INTERNAL_H

#include "arch/arch_config.h"
#include "arch/arch_graph.h"
#include "arch/arch_kv.h"

/* For tables: an lb_str initialiser. */
#define LB_N(literal) \
    { "" literal "", sizeof(literal) - 1 }
#define LB_N_NONE \
    { NULL, 0 }

/* ---- a family ---- */

enum {
    LB_ARCH_ROPE_FREQS = 1,     /* llama3 rope scaling becomes rope_freqs.weight */
    LB_ARCH_ROPE_BY_LAYER = 2,  /* rope parameters for "full_attention" and "sliding_attention" */
    LB_ARCH_HEAD_DIM_SPLIT = 4, /* config class: head_dim null means hidden size / heads */
    LB_ARCH_HEADS_DIVIDE = 8,   /* config class: refuses a hidden size that heads do not divide */
    LB_ARCH_LAYER_TYPES = 32,   /* config class: has layer_types */
    LB_ARCH_SCALAR_IS_HEAD_DIM = 16, /* back: query_pre_attn_scalar as llama.cpp's graph has it */
    LB_ARCH_OWN_KV = 64,       /* forward: the class writes all its keys itself, none is common */
    LB_ARCH_NO_HEAD_DIM = 128, /* head_dim is not written where it is hidden size / heads */
    LB_ARCH_LONGROPE = 256,    /* longrope scaling ("su", "yarn" in older configs) becomes
                                  rope_factors_long.weight and rope_factors_short.weight */
    LB_ARCH_STACKS_BY_TABLE = 1024, /* lb_arch_stacks_by_table */
    LB_ARCH_MSCALE = 512,  /* ... whose factor on cosine and sine is short_mscale, long_mscale */
    LB_ARCH_LATENT = 2048, /* latent attention: heads of parts, sizes under keys of their own */
    LB_ARCH_LAYER_SIZES = 4096, /* config class: lists layer_types and nests rope parameters by them
                                   in any case; layers of full attention have global_head_dim and
                                   num_global_key_value_heads, which per_layer_config may hold */
    LB_ARCH_ROPE_SHARE = 8192,  /* proportional rope of full layers becomes rope_freqs.weight */
    LB_ARCH_DENSE_TOO = 16384,  /* experts are optional, beside a dense feed-forward */
    LB_ARCH_TAKES_RULE =
        32768, /* config class: takes the key of the layers' rule out, once applied */
    LB_ARCH_MLX_DOWN_LAST =
        65536 /* mlx-lm's dense feed-forward: gate, up, down; not gate, down, up */
};

/* A config key whose truth is whether tensors of a role have a bias, or (`present`) are there. */
typedef struct lb_arch_bias {
    const char *hf;
    lb_role role;
} lb_arch_bias;

/* A general name of a config's field and the class's own (attribute_map of transformers): a file
 * may have either. */
typedef struct lb_arch_alias {
    const char *general, *own;
} lb_arch_alias;

/* What stands before a row's name, and what instead: {"model.", "language_model.model."}. */
typedef struct lb_arch_prefix {
    lb_str row, stored;
} lb_arch_prefix;

/* Tensors of a part beside the language model: names that begin so, "model." before it or not. */
typedef struct lb_arch_extra {
    lb_extra kind;
    lb_str prefix; /* "vision_tower." */
} lb_arch_extra;

/* A class whose config nests that of the language model. Stored names are those of the language
 * model's own class with "language_model." somewhere in them, in all worlds but GGUF, which has no
 * such class. */
struct lb_arch_outer {
    const char *const *classes, *const *model_types; /* NULL-ended */
    const char *key;       /* of the language model's config: "text_config" */
    const char *text_type; /* the model_type of one that names none... */
    const char *old_type;  /* ... and what older configs call it; NULL: nothing else */
    const char *defaults;  /* as in lb_arch, of the outer class: what belongs to it alone, and
                              tie_word_embeddings, by which transformers goes */
    bool tied_by_tensors;  /* the language model's own config says whether the embeddings are tied;
                              the  outer one, that they are where no output matrix is stored */
    lb_arch_prefix mlx;    /* names in MLX */
    const char *mlx_type;  /* the model_type by which mlx-lm finds its class; NULL: the config's */
    const char *mlx_keys;  /* as lb_arch.mlx, of keys beside the language model's config, which they
                              override; and of keys in it, where mlx-lm's outer class assumes
                              something else than the language model's own; NULL: none */
    const char *mlx_text_keys;
    const lb_arch_extra *extras;
    u32 n_extras;
};

/* A list with an entry a layer that the config class makes by a rule where it is null. */
typedef struct lb_arch_layers {
    const char *list;   /* config key */
    const char *rule;   /* config key of its period; NULL: none */
    u32 period;         /* where the config lacks that key */
    const char *usual;  /* JSON: the entries, but in every period-th layer... */
    const char *single; /* ... */
    const char *refuse; /* the class fails where the list and this key are null; NULL: none */
} lb_arch_layers;

/* Which layers slide, on the way back. */
typedef struct lb_arch_window {
    u32 period;      /* that llama.cpp assumes; 0: the family has no such list in its config */
    const char *key; /* config key of the period beside layer_types; NULL: none */
    bool letters;    /* that key holds "LLLG" */
} lb_arch_window;

struct lb_arch {
    const char *family;         /* for people */
    const char *gguf;           /* general.architecture */
    const char *const *classes; /* entries of "architectures", the one written first; NULL-ended */
    const char *const *model_types; /* whose config class has `defaults`; NULL-ended */
    const char *defaults;           /* JSON object: fields of that class; "x?": x may be null;
                                       "x~": a number, whole or not; "x~?": both. NULL: transformers
                                       has no such class, the model comes with code of its own */
    const char *const *raw_types;   /* more model types, that transformers has no class for; NULL */
    const char *split_unless;       /* config key with which head_dim null stays null; NULL */
    const char *head_dim_is;        /* the class sets head_dim to what this key says; NULL */
    const char *local_theta;        /* config key of the local rope base; NULL */
    const char *theta, *theta_local; /* JSON defaults of the rope bases; NULL: no rope */
    const char *rotary;              /* JSON default of partial_rotary_factor; NULL: none */
    const lb_arch_alias *aliases;    /* both NULL: the end; NULL: none */
    const char
        *prefix; /* of the HF names that a checkpoint of the inner model lacks; NULL: "model." */
    const char *old_prefix; /* that older checkpoints have in its place; NULL: none */
    const char *rope;       /* JSON object: rope parameters of a config that has none; NULL: {} */
    const lb_arch_layers *layers; /* NULL: no list has a rule */
    const char *layer_indices;    /* config key of a list of its `single` layers, in place of a
                                     period; null there: all; NULL: none */
    const lb_arch_tensor *rows;
    u32 n_rows;
    const lb_arch_kv *kv; /* after the common rows */
    u32 n_kv;
    /* back to a config */
    const char *constants; /* JSON object: keys that metadata does not carry */
    const lb_arch_bias *biases;
    u32 n_biases;
    const lb_arch_bias *present;
    u32 n_present;
    lb_arch_window window;
    const char *gguf_key; /* of the architectures of one name in GGUF this is the one that has this
                             key; NULL */
    u64 gguf_value;       /* ... with this number; 0: any */
    const char *mlx; /* JSON object: what mlx-lm's class assumes for keys that a config lacks; null:
                        the key must be there; "x?": and may be null; "x!": the only value it knows;
                        "rope_scaling.type": that older name of the type. NULL: it has no class */
    const char *mlx_8bit; /* ends of paths of modules that mlx-lm's class quantizes to 8 bits in
                             groups of 64, whatever is asked (quant_predicate), "|" between; NULL */
    const char *refused_label; /* a folder or model card of this kind needs more; NULL */
    u32 flags;
    bool mlx_outer; /* mlx-lm has no class for the language model alone: the first of outers */
    const lb_arch_outer *outers; /* classes that hold this model beside other parts */
    u32 n_outers;
    lb_arch_graph graph;     /* what its layers compute */
    u32 split_scalar_layers; /* with so many layers SCALAR_IS_HEAD_DIM means n_embd / n_head */
};

/* Rows that every text model has, in the order of the reference (TextModel.set_gguf_parameters). */
extern const lb_arch_kv lb_arch_common_kv[];
extern const u32 lb_arch_common_n_kv;

#define LB_FAMILY(name) extern const lb_arch lb_arch_##name;
#include "arch/families.def"
#undef LB_FAMILY

/* NULL: no such family. Outer classes count as their language model's family. */
const lb_arch *lb_arch_by_class(lb_str class_name);
const lb_arch *lb_arch_by_model_type(lb_str model_type);
bool lb_arch_has_config_class(const lb_arch *a, lb_str model_type); /* in transformers */
/* The first of those that write this architecture with experts, or without; one whose own key
 * (gguf_key) is there goes before others. */
const lb_arch *lb_arch_by_gguf(const lb_gguf_meta *meta, lb_str name, bool experts);
bool lb_arch_has_experts(const lb_arch *a);
lb_status lb_arch_unknown(lb_err *err, const char *what, lb_str name);
bool lb_arch_in_list(const char *const *list, lb_str name); /* NULL-ended */
lb_str lb_arch_first_class(const lb_json *config);          /* ptr NULL: it names none */
/* The outer class that a config is of, and its family; NULL: a language model's own. */
const lb_arch_outer *lb_arch_outer_of(const lb_json *config, const lb_arch **family);
/* Refuses a class, with what of it is known: its language model, or another class of its family. */
lb_status lb_arch_unknown_class(const lb_json *config, lb_str class_name, lb_err *err);
/* The model_type of the language model in `text` (NULL: none is there), by its present name. */
lb_str lb_arch_outer_type(const lb_arch_outer *o, const lb_json *text);
/* The language model's part of such a config; NULL: it is absent. */
const lb_json *lb_arch_outer_text(const lb_arch_outer *o, const lb_json *config);

#include "arch/arch_pieces.h"

#endif
