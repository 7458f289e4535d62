/* SPDX-License-Identifier: Apache-2.0 */
/* arch_kv.h: one row of a family's metadata: config.json -> <arch>.*, and back. */
#ifndef LB_ARCH_ARCH_KV_H
#define LB_ARCH_ARCH_KV_H

#include "base/base.h"
#include "format/gguf_meta.h"

typedef enum lb_arch_kv_op {
    LB_KV_VALUE,       /* the first of `names` that the config has; null: left out */
    LB_KV_BACK,        /* written by a common row; back under this family's own `hf` */
    LB_KV_ROPE,        /* the rope scaling block */
    LB_KV_ROPE_NONE,   /* "none" where there is no rope scaling */
    LB_KV_HEAD_DIM,    /* as VALUE; else hidden size / heads */
    LB_KV_ROPE_DIMS,   /* head's size times `names`, the share of it that is rotated; whole. The
                          number itself, under `of`, wins */
    LB_KV_ROPE_MSCALE, /* longrope's factor on cosine and sine */
    LB_KV_SECTIONS,    /* rope sections, padded to four; `fallback` "11|11|10": only for a config
                          that has none */
    LB_KV_RECURRENT,   /* which of the layers that `names` lists have linear attention */
    LB_KV_FILE_TYPE,
    LB_KV_POOLING,   /* of an embedding model, from its pooling module */
    LB_KV_GATING,    /* expert gating function by its name; `fallback`: that of a config without.
                        Back, with `hf`: `absent`, that of every model of the family */
    LB_KV_FALSE,     /* bool false when the config says false; else left out */
    LB_KV_REFUSE,    /* a config in which one of `names` is not null is refused: `hf` says why;
                        LB_KVF_TRUTHY: nor empty, 0 or false */
    LB_KV_ONLY,      /* a config in which `names` is there and not `fallback` (one of "a|b") is
                        refused: `hf`; LB_KVF_REQUIRED: or absent */
    LB_KV_ROPE_ONLY, /* ... the same of the type of rope, every one of which is run */
    LB_KV_LAST,      /* ... in which it is neither the last layer's number nor -1 */
    LB_KV_PERIOD,    /* ... in whose list not every `fallback`-th layer is the other one; an
                        evaluation reads the list, as one boolean a layer under `key` */
    LB_KV_OR_TIMES,  /* as VALUE; null or absent: `times` x the number under `of` */
    LB_KV_PRODUCT, /* the number under `names` x that under `of`; left out when it is 0. Back, with
                      `hf`: the product divided by the latter */
    LB_KV_BY_TYPE, /* a list: the number under `names`, 0 in layers that the list `of` calls
                      `fallback`, which is what they are called back ("full_attention": the others)
                    */
    LB_KV_FF_SIZE, /* `names`, adjusted where block_auto_adjust_ff_dim says so (lfm2) */
    LB_KV_CONST,   /* `fallback`, whatever the config says; back: with `hf`, which says why, another
                      value is refused */
    LB_KV_SLIDING, /* whether a layer slides, by the list `names`; left out without a window, and
                      where all but every `fallback`-th do */
    /* by kind of layer, of families with LB_ARCH_LAYER_SIZES: */
    LB_KV_KV_HEADS,   /* a number a layer, where full layers have `names` */
    LB_KV_WIDE_FFN,   /* a number a layer, where `names` doubles it in those that share keys */
    LB_KV_LAYERS,     /* refuses what per_layer_config says beyond that */
    LB_KV_NOT,        /* the common row of this key is not written */
    LB_KV_NTK_ALPHA,  /* a fixed NTK factor on the rope base ("dynamic" with "alpha"; hunyuan) */
    LB_KV_GENERATION, /* as VALUE, of generation_config.json */
    LB_KV_SUM,        /* all of `names`, which must be there, added */
    LB_KV_MSCALE,     /* yarn's two factors, of which GGUF has room for one, are refused where they
                         make a difference: `hf` */
    /* what only an evaluation of the model reads (lb_arch_meta_run): GGUF has no form for it, and
       its readers assume something */
    LB_KV_RUN,        /* as VALUE; `fallback`: a number */
    LB_KV_RUN_SCALE,  /* 1 / the root of the number */
    LB_KV_RUN_WINDOW, /* the window, unless `of` is false, and which layers have it: as layer_types
                         says, else by `fallback`: all "", those "from" max_window_layers on, or the
                         "even" ones below it (`absent`: that of a config without) */
    LB_KV_MTP /* how many layers of multi-token prediction; left out with them. Back: `absent`
                 where GGUF says nothing. Without such a row, or with the key "", GGUF has no
                 place for them */
} lb_arch_kv_op;

enum {
    LB_KVF_REQUIRED = 1,
    LB_KVF_TRUTHY = 2,          /* left out when 0 or false */
    LB_KVF_ONE_LAYER = 4,       /* REFUSE: only when the model has one layer */
    LB_KVF_ROPE_LOCAL = 8,      /* back: only families with LB_ARCH_ROPE_BY_LAYER */
    LB_KVF_NO_BACK = 16,        /* back: says nothing that another row does not */
    LB_KVF_ZERO_NULL = 32,      /* 0 stands for a null or absent key */
    LB_KVF_FIRST = 64,          /* written when the tensors are made, before general.type */
    LB_KVF_BACK_REQUIRED = 128, /* back: the key must be there */
    LB_KVF_BLOCKS = 256,        /* GGUF counts the layers of multi-token prediction too */
    LB_KVF_ROPE = 512,   /* back: into the rope scaling block, under each of the names in `hf` */
    LB_KVF_OTHER = 1024, /* left out when it is `fallback`, which readers take without the key */
    LB_KVF_SAID = 2048,  /* ONLY: another value is said, not refused */
    LB_KVF_RUNS = 4096   /* REFUSE, ONLY: not of an evaluation; VALUE: null leaves it out there */
};

typedef struct lb_arch_kv {
    lb_arch_kv_op op;
    const char *key;   /* "<arch>." stands before it */
    lb_gguf_type type; /* U32, F32, BOOL; lists of integers become arrays of I32 */
    const char *names; /* config keys, '|' between; "@x": of the global rope parameters, "%x": of
                          the local ones */
    const char *hf;    /* back: the config's key ("@x": of the rope parameters); NULL: handled
                          elsewhere or has none */
    const char
        *absent; /* back: JSON value that the reference assumes without the key; NULL: left out */
    const char *fallback; /* forward: JSON value for a config that lacks the key; NULL: left out */
    const char *unless_one; /* left out when this key of the config is 1 */
    const char *of;         /* OR_TIMES, PRODUCT, BY_TYPE, ROPE_DIMS */
    u32 times;
    u16 flags;
    const char *above_one; /* back: JSON value for every number above 1, `absent` for the others */
    double scale;          /* GGUF holds the config's number times this; 0: the number */
} lb_arch_kv;

#endif
