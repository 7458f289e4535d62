/* SPDX-License-Identifier: Apache-2.0 */
/* recipe_tables.h: the facts behind recipe.c, as rows. */
#ifndef LB_QUANT_RECIPE_TABLES_H
#define LB_QUANT_RECIPE_TABLES_H

#include "quant/recipe.h"

/* What a tensor is to the rules, by its name: the first row of lb_recipe_kinds whose text is the
 * name or is in it. */
enum {
    LB_KIND_EMBD = 1,
    LB_KIND_Q = 2,
    LB_KIND_K = 4,
    LB_KIND_V = 8, /* and what holds it: the fused q, k, v; the way up from the shared rank */
    LB_KIND_O = 16,
    LB_KIND_UP = 32,
    LB_KIND_GATE = 64,
    LB_KIND_DOWN = 128,
    LB_KIND_OUTPUT = 256, /* and an embedding that is the output too */
    LB_KIND_OTHER = 512
};
#define LB_KIND_FFN (LB_KIND_UP | LB_KIND_GATE | LB_KIND_DOWN)
#define LB_KIND_ANY 1023
#define LB_KIND_HIDDEN (LB_KIND_ANY & ~LB_KIND_OUTPUT) /* what is no output */

typedef struct lb_recipe_kind {
    const char *text;
    bool whole; /* the name, not a part of it */
    u32 kind;
} lb_recipe_kind;
extern const lb_recipe_kind lb_recipe_kinds[];
extern const u32 lb_recipe_n_kinds;

/* What is known of a model, of a tensor and of its place among those of its kind. */
enum {
    LB_IF_FALCON = 1, /* of architectures: recipe_tables.c */
    LB_IF_BAILING = 2,
    LB_IF_GLM5 = 4,
    LB_IF_70B = 8,
    LB_IF_GQA = 16,       /* four or more heads share keys and values */
    LB_IF_EXPERTS = 32,   /* four or more experts */
    LB_IF_EIGHT = 64,     /* eight experts */
    LB_IF_WEIGHTED = 128, /* an importance file */
    LB_IF_STACKED = 256,  /* several matrices */
    LB_IF_MISFIT = 512,   /* rows are not whole blocks of the recipe's type */
    LB_IF_FIRST_2 = 1024, /* among the first of its kind */
    LB_IF_FIRST_4 = 2048,
    LB_IF_EIGHTH = 4096, /* in the first eighth of the layers */
    LB_IF_SIXTEENTH = 8192,
    LB_IF_MIDDLE = 16384, /* in neither the first nor the last eighth */
    LB_IF_CHOSEN = 32768  /* in the first or last eighth, and every third between */
};

/* A rule: tensors of these kinds, where all of `all` and none of `none` holds, get the type. The
 * first that fits stands; no rule: the recipe's type. */
typedef struct lb_recipe_rule {
    u64 recipes; /* 1 << LB_RECIPE_* */
    u32 kinds, all, none;
    lb_dtype dtype;
} lb_recipe_rule;
extern const lb_recipe_rule lb_recipe_rules[];
extern const u32 lb_recipe_n_rules;
/* Rules on what came out: the type `from` becomes another. All that fit, one after the other. */
typedef struct lb_recipe_raise {
    lb_recipe_rule rule;
    lb_dtype from;
} lb_recipe_raise;
extern const lb_recipe_raise lb_recipe_raises[];
extern const u32 lb_recipe_n_raises;

/* Matrices that are not quantized, or not below q8_0, whatever the recipe: the text is in the name.
 * traits: only in architectures that have one of these (0: in all). */
typedef enum lb_recipe_hold { LB_HOLD_KEEP, LB_HOLD_Q8 } lb_recipe_hold;
typedef struct lb_recipe_name {
    const char *text;
    bool whole;
    lb_recipe_hold hold;
    u32 traits;
} lb_recipe_name;
extern const lb_recipe_name lb_recipe_names[];
extern const u32 lb_recipe_n_names;

typedef struct lb_recipe_arch {
    const char *arch;
    u32 traits;        /* LB_IF_* */
    u32 n_layers_70b;  /* a model of so many layers has the traits LB_IF_70B; 0: none has */
    bool only_grouped; /* ... where heads share keys and values, and no eight experts */
    u32 more_layers;   /* that block_count does not count */
    const char *loops; /* "<arch>.<loops>": the layers are run so many times and count so */
} lb_recipe_arch;
const lb_recipe_arch *lb_recipe_arch_find(lb_str arch); /* NULL: none of its facts matters */

/* The type for rows that are not whole blocks of `dtype`; false: there is none. */
bool lb_recipe_fallback(lb_dtype dtype, lb_dtype *out);

#endif
