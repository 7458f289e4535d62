/* SPDX-License-Identifier: Apache-2.0 */
/* arch_row.h: one row of a family's table: a tensor's role, its names in the three worlds, and how
 * its forms there are made from the canonical one. */
#ifndef LB_ARCH_ARCH_ROW_H
#define LB_ARCH_ARCH_ROW_H

#include "arch/arch_role.h"
#include "base/base.h"

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
    LB_RL_TRANSPOSE,      /* matrix transposed; biases as they are (gpt2's Conv1D) */
    LB_RL_ONE_ROW,        /* a matrix of one row, which some writers of GGUF store as a vector */
    LB_RL_ADD_ONE_F32,    /* value + 1, f32 sum for every type (mlx-lm) */
    LB_RL_NEG_EXP,        /* -exp(value), f32; for F16 input exp is rounded to f16 */
    LB_RL_SQUEEZE,        /* a convolution of one channel a group, [C, 1, K] -> [C, K] */
    LB_RL_CHANNEL_LAST,   /* the same, [C, 1, K] -> [C, K, 1] */
    LB_RL_VALUE_HEADS,    /* rows of each of ssm_heads heads: first of every group, second of every
                             group... instead of group after group (ssm_groups) */
    LB_RL_VALUE_COLS,     /* the same with columns */
    LB_RL_VALUE_CHANNELS, /* SQUEEZE, and VALUE_HEADS of the channels */
    LB_RL_VALUE_NEG_EXP,  /* NEG_EXP, and VALUE_HEADS of the elements */
    LB_RL_COUNT
} lb_relayout;

/* NONE: the names of the row are whole names (raw parameters such as "A_log"), nothing is added. */
enum { LB_SUFFIX_WEIGHT = 1, LB_SUFFIX_BIAS = 2, LB_SUFFIX_NONE = 4 };

/* Which rows of a world's matrix are the row's: Q, K, V: n_head, n_head_kv, n_head_kv heads one
 * after the other; GROUP_Q, GROUP_K, GROUP_V: n_head_kv groups, each the heads of q that go with
 * one head of k and v, then these two; FIRST, SECOND: two halves; EVEN, ODD: every second row;
 * NOPE, VALUE: a head's rows for keys without rotation, then those for values;
 * SSM_Q, K, V: of linear attention, ssm_state rows for each of ssm_groups groups, the same again,
 * ssm_inner rows; NET_Q, K, V, Z: ssm_groups groups, each its rows of q, k, v and of a gate. */
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
    LB_PART_VALUE,
    LB_PART_SSM_Q,
    LB_PART_SSM_K,
    LB_PART_SSM_V,
    LB_PART_NET_Q,
    LB_PART_NET_K,
    LB_PART_NET_V,
    LB_PART_NET_Z
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
    LB_ROW_HF_CODES = 2048,   /* packed codes; their values: the first row of this name in GGUF */
    LB_ROW_OWN_KV = 4096,     /* layers that share keys and values need none: MLX leaves it out */
    LB_ROW_RECURRENT = 8192,  /* only in layers of linear attention */
    LB_ROW_ATTENTION = 16384, /* not in these */
    LB_ROW_MLX_BARE = 32768   /* mlx-lm holds the matrix as a parameter, in no linear module */
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

#endif
