/* SPDX-License-Identifier: Apache-2.0 */
/* arch_graph.h: what the layers of a family compute, beyond what its metadata and the tensors that
 * are there say by themselves.
 *
 * Said by tensors: which norms a layer has before and behind attention and feed-forward (neither
 * before nor behind the feed-forward: both halves read one norm and are added together), norms of
 * q and k (of a head or of all of them, by their length), biases, sinks, a gate (without: the
 * activation alone), experts, shared experts and their gate, a second set of norms beside experts,
 * latent attention, delta nets, short convolutions, learned positions, an output matrix of its own,
 * rope factors. Said by metadata: sizes, rope bases and scaling, windows, softcaps, scales, the
 * router's function and groups. Source: src/models/ and src/llama-model.cpp of llama-cpp-python
 * 0.3.36, compared with transformers by tests/peers/peer_logits.py. */
#ifndef LB_ARCH_ARCH_GRAPH_H
#define LB_ARCH_ARCH_GRAPH_H

#include "base/base.h"

typedef enum lb_norm_fn { LB_NORM_RMS, LB_NORM_LAYER } lb_norm_fn;

/* Which elements of a head turn together, in GGUF's order of rows: i and i + half of those that
 * turn, or 2 i and 2 i + 1. */
typedef enum lb_rope_fn { LB_ROPE_NO, LB_ROPE_HALVES, LB_ROPE_PAIRS } lb_rope_fn;

typedef enum lb_act_fn {
    LB_ACT_SILU,
    LB_ACT_GELU,     /* by tanh */
    LB_ACT_GELU_ERF, /* exact */
    LB_ACT_RELU2,    /* the square of what is positive */
    LB_ACT_OAI       /* gpt-oss: clamped, sigmoid(1.702 gate) gate (up + 1) */
} lb_act_fn;

/* The numbers are those of expert_gating_func in GGUF. */
typedef enum lb_router_fn {
    LB_ROUTER_SOFTMAX = 1,     /* over all experts, then the largest */
    LB_ROUTER_SIGMOID = 2,     /* each for itself */
    LB_ROUTER_SOFTMAX_TOP = 3, /* the largest, then over those */
    LB_ROUTER_MIXER = 64       /* two, each by a softmax over those near it; no number of GGUF's */
} lb_router_fn;

enum {
    LB_GRAPH_EMBD_SQRT = 1,      /* embeddings times the root of their length */
    LB_GRAPH_LOGIT_DIVIDES = 2,  /* logit_scale is divided by, not multiplied with */
    LB_GRAPH_ATTN_SCALE_ONE = 4, /* q.k as it is; else 1 / sqrt(key's length) or attention.scale */
    LB_GRAPH_QK_NORM_LATE = 8,   /* q and k are normalised behind their rotation */
    LB_GRAPH_TOP_NORM = 16, /* the chosen experts' weights sum to 1, without a key that says it */
    LB_GRAPH_Q_GATE = 32,   /* a head's rows of q are followed by as many of a gate */
    LB_GRAPH_FULL_NO_ROPE = 64,   /* layers without a window have no rope, where others have one */
    LB_GRAPH_WINDOW_ALL = 128,    /* no pattern: every layer has the window */
    LB_GRAPH_NO_WINDOW = 256,     /* sliding_window is metadata of no effect */
    LB_GRAPH_SCALED_WINDOW = 512, /* rope scaling is for layers with a window too; else only for the
                                     others, where there are both */
    LB_GRAPH_V_NORM = 1024,       /* values are normalised by rms, without weights */
    LB_GRAPH_GELU_TANH = 16384,   /* a config's "gelu" is that by tanh */
    LB_GRAPH_YARN_EXACT = 8192,   /* yarn's limits are not rounded to whole elements */
    LB_GRAPH_V_HEADS_TILED = 4096 /* delta nets: head i of values has head i % n of keys */
};

typedef struct lb_arch_graph {
    bool runs; /* false: no graph, the family is refused by name */
    u8 norm, rope, act;
    u8 router;         /* where expert_gating_func is absent; 0: SOFTMAX */
    u8 window_period;  /* where the metadata says no pattern: every n-th layer is without a window
                          (0: as the flags say) */
    bool window_first; /* that one is the first of the period, not the last */
    u8 scalar_layers;  /* with so many layers q.k is scaled by n_embd / n_head; 0: never */
    u8 nope_period;    /* every n-th layer has no rope; 0: none */
    float
        window_base; /* rope base of layers with a window without rope.freq_base_swa; 0: the same */
    u32 flags;       /* LB_GRAPH_* */
} lb_arch_graph;

struct lb_arch;
const lb_arch_graph *lb_arch_graph_of(const struct lb_arch *a);

#endif
