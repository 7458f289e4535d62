/* SPDX-License-Identifier: Apache-2.0 */
/* graph.h: within model/: a model's layers bound to their tensors, and a session's buffers.
 *
 * One forward pass (forward.c) goes through the layers: a mixer (attention.c, latent.c,
 * recurrent.c) and a feed-forward (ffn.c), each a list of products (project.c) with small steps
 * between them that are done token by token. */
#ifndef LB_MODEL_GRAPH_H
#define LB_MODEL_GRAPH_H

#include "model/cache.h"
#include "model/model.h"
#include "model/params.h"
#include "model/partial.h"
#include "model/project.h"
#include "model/rotary.h"
#include "model/stream.h"
#include "model/team.h"

typedef struct lb_norm {
    const float *w, *b; /* NULL: none */
    u32 n;              /* elements; 0: there is no such norm */
    u32 n_heads;        /* each head has weights of its own, one after the other; else 1 */
    float eps;
} lb_norm;

typedef struct lb_layer lb_layer;
struct lb_context;

/* What stands in a layer's first half. */
typedef enum lb_mixer { LB_MIX_ATTENTION, LB_MIX_LATENT, LB_MIX_DELTA, LB_MIX_CONV } lb_mixer;

struct lb_layer {
    lb_mixer mixer;
    bool parallel; /* feed-forward reads what attention reads */
    lb_norm attn_norm, attn_post_norm, ffn_norm, ffn_post_norm;
    /* attention */
    lb_linear qkv, q, k, v, o;
    lb_norm q_norm, k_norm;
    const float *sinks; /* [n_head] */
    bool halves;        /* how heads turn, as they are stored */
    u32 rope;           /* index into a context's ropes */
    /* latent attention */
    lb_linear q_a, q_b, kv_a, kv_b, k_b, v_b;
    lb_norm q_a_norm, kv_a_norm;
    /* recurrent layers */
    lb_linear in, gate_z, ba, beta, alpha, out;
    const float *conv, *conv_bias, *ssm_a, *ssm_dt;
    lb_norm ssm_norm;
    /* feed-forward */
    lb_linear gate, up, down;
    bool fused; /* up holds gate's rows, then up's */
    lb_linear router, gate_exps, up_exps, down_exps;
    const float *selection; /* [n_expert] added to scores when experts are chosen */
    lb_linear shared_router, gate_shared, up_shared, down_shared;
    const float *scale; /* one number on the layer's result; NULL: 1 */
    /* Gemma 4: experts beside a dense feed-forward, each with norms of its own */
    lb_norm dense_post_norm, exps_norm, exps_post_norm;
    const float *router_scale; /* [n_embd] on a norm without weights, which the router reads */
    const float *exps_scale;   /* [n_expert] on their weights; NULL: 1 */
    /* ... and an input of the layer's own (inputs.c) */
    lb_linear in_gate, in_proj;
    lb_norm in_norm;
};

/* What kinds of rope the layers have. */
typedef struct lb_rope_kind {
    u32 n_rot;
    bool local;
} lb_rope_kind;
#define LB_ROPES_MAX 4
struct lb_model {
    lb_arena perm;
    lb_params p;
    const lb_mweights *weights;
    const lb_kernels *k;
    lb_layer *layer;
    lb_linear output;
    const lb_mweight *embd;
    lb_norm embd_norm, output_norm;
    const lb_mweight *positions; /* learned; NULL: none */
    /* layers' own inputs: rows of a table and a product of embeddings; NULL: none */
    const lb_mweight *layer_embd;
    lb_linear layer_in_proj;
    lb_norm layer_in_norm;
    u32 layer_in_dim;
    size_t layer_in_scratch; /* floats of scratch before a row of the table */
    lb_rope_kind rope[LB_ROPES_MAX];
    u32 n_ropes;
    u32 max_cols, max_ff, max_ff_exp, max_attn; /* widths of buffers, in elements of a token */
    u32 max_slices;
    u64 token_bytes;
    u8 *used;          /* [weights->n] by some part of the graph */
    lb_stream *stream; /* weights that do not fit the memory */
};

/* One product: rows of a matrix times some tokens. */
typedef struct lb_slice {
    lb_mat m;
    size_t n_tokens;
    lb_act_form form;
    const u8 *act;
    float *out;
    size_t out_stride;
    u64 unit, first_item, n_items;
} lb_slice;

/* Tokens of a batch that are neighbours in one sequence. */
typedef struct lb_block {
    u32 token, n;
} lb_block;

struct lb_context {
    const lb_model *m;
    lb_context_opts o;
    lb_arena perm; /* buffers */
    bool usual;    /* nobody has said o.n_batch */
    bool counts;   /* a context on the stack: bytes of buffers are added up, none is made */
    lb_arena_sum sum;
    lb_team *team;
    lb_cache cache;
    lb_rotary rotary[LB_ROPES_MAX];
    /* the batch */
    u32 n, rope_width;
    const u32 *id;
    u32 *pos, *seq;        /* [n_batch] */
    float *cos, *sin;      /* [n_ropes][n_batch][rope_width] */
    u8 *want;              /* [n_batch] */
    struct lb_acts *in;    /* what the mixer reads */
    float *x, *h, *y, *h2; /* [n_batch, n_embd] residual stream; a norm of it; a half's result */
    float *layer_in;       /* [n_batch, n_layers * layer_in_dim] */
    float *qkv, *att;      /* [n_batch, max_attn] */
    float *ff;             /* [n_batch or rows of experts, 2 * max_ff] */
    u8 *act[LB_ACT_FORMS]; /* [n_batch (or rows of experts)] activations in each form */
    u8 *act2[LB_ACT_FORMS];
    float *scores;            /* [n_batch, n_expert] the router's */
    u32 *chosen;              /* [n_batch, n_expert_used] */
    float *top;               /* the same: their weights */
    u32 rows_max;             /* of experts at a time */
    u32 *row_of, *of_row;     /* [rows_max] from a token's k-th expert to its row, and back */
    u32 *expert_start, *held; /* [n_expert + 1]; [n_expert] that are in memory now */
    float *rows_out, *shared; /* [rows_max, n_embd]; [n_batch, n_embd] */
    lb_block *blocks;         /* [n_batch] */
    float *split;             /* partial results of attention */
    lb_slice *slices;
    u32 n_slices, cap_slices;
    u64 n_items;
    lb_swap swap[3];
    u32 n_swaps, unit; /* unit: of weights that are in memory now; LB_UNIT_NONE: none, or all */
    lb_mat *halves;    /* heap: of swapped matrices of which two weights are made */
    bool begun;        /* it is decided where weights are read */
    struct lb_dcontext *device; /* the part that computes; NULL: the CPU does, all of it */
    struct lb_dcontext *parts;  /* of the first device */
    struct lb_dtop *first;      /* of the last eval_top; NULL: none yet */
    bool firsts;                /* this batch's logits stay on the device but for these */
};

/* context.c: options as they are meant, into an empty context. */
void lb_context_settle(struct lb_context *c, const lb_model *m, const lb_context_opts *o);
lb_cache_kind lb_context_cache_kind(const lb_context_opts *o);

/* ---- forward.c ---- */
typedef struct lb_team_arg {
    struct lb_context *c;
    const void *arg;
} lb_team_arg;

typedef void lb_token_fn(struct lb_context *c, void *arg, u32 token, void *scratch);
/* fn for each of n tokens, by all threads where that is worth it: work is about how many floats it
 * touches. */
void lb_each_token(struct lb_context *c, u32 n, u64 work, lb_token_fn *fn, void *arg);
/* The matrix that holds a row, and which of its rows it is. */
const lb_mat *lb_mat_of_row(const lb_mweight *w, u64 *row);
void lb_apply_norm(const lb_model *m, const lb_norm *n, float *out, const float *x);
lb_status lb_forward(struct lb_context *c, float *logits, const u8 *want, lb_err *err);
/* Its parts: c->n tokens to states, states through layers, the first n of them to logits. */
lb_status lb_forward_begin(struct lb_context *c, lb_err *err);
lb_status lb_forward_layers(struct lb_context *c, u32 first, u32 end, lb_err *err);
lb_status lb_forward_head(struct lb_context *c, u32 n, float *logits, lb_err *err);

/* ---- mixers: read c->in, leave their result in c->y ---- */
lb_status lb_mix_attention(struct lb_context *c, u32 layer, lb_err *err);
lb_status lb_mix_latent(struct lb_context *c, u32 layer, lb_err *err);
lb_status lb_mix_delta(struct lb_context *c, u32 layer, lb_err *err);
lb_status lb_mix_conv(struct lb_context *c, u32 layer, lb_err *err);

/* Turns heads, stride floats apart, by the angles of a token. */
typedef struct lb_turning {
    u32 n_heads, n_rot;
    size_t stride;
} lb_turning;
void lb_turn(const struct lb_context *c, const lb_layer *l, u32 token, float *x,
             const lb_turning *how);

/* q of each token [n_head, k_dim] at q, q_stride apart; keys and values of the batch are in the
 * cache. out [n, n_head * v_dim], out_stride apart. */
typedef struct lb_attention {
    u32 layer, n_head, n_head_kv, k_dim, v_dim;
    float *q;
    size_t q_stride;
    float *out;
    size_t out_stride;
    const float *sinks;
} lb_attention;
void lb_attend_all(struct lb_context *c, const lb_attention *a);
/* Of a thread; and of c->split. */
void lb_attend_sizes(const lb_model *m, const lb_context_opts *o, size_t *scratch,
                     u64 *split_elems);
/* Stores a row of a head in the cache's type; x is its own to change. */
void lb_cache_store(const struct lb_context *c, u32 layer, bool keys, u8 *to, float *x);
/* n elements, a multiple of `mix`, to how a rotated cache has them, or back; mix 0: as they are. */
void lb_cache_mix(const struct lb_context *c, u32 mix, float *x, u32 n);

/* ---- shift.c ---- */

/* Positions [keep + drop, length) of a sequence move up to keep: drop ones are gone. cos, sin
 * [n_ropes, rope_width]: by which keys turn, of -drop positions. */
typedef struct lb_shift {
    struct lb_context *c;
    const lb_cache_seq *s;
    u32 keep, drop, length;
    float *cos, *sin;
} lb_shift;
/* n keys of a layer's head that lie behind one another, at `from`, to what they are drop positions
 * before, at `to`: the same place, or rows before it. x [k_dim]: room for one. */
typedef struct lb_shift_keys {
    u32 layer, head, n;
    const u8 *from;
    u8 *to;
} lb_shift_keys;
void lb_shift_turn(const lb_shift *s, const lb_shift_keys *k, float *x);
/* Where the rotated part of a stored key begins, and how long it is. */
u32 lb_rotated_part(const lb_model *m, u32 layer, u32 *n_rot);
/* Of keys, behind their rotation; NULL: none with weights. */
const lb_norm *lb_late_norm(const lb_model *m, u32 layer);

/* ---- inputs.c ---- */
void lb_layer_inputs(struct lb_context *c); /* of all layers, from the embeddings in c->x */
/* What is added to c->x after layer's two halves: out [n, n_embd], not yet normalised. */
void lb_layer_input(struct lb_context *c, u32 layer, float *out);

/* ---- ffn.c: in, out [n, n_embd] ---- */
lb_status lb_feed_forward(struct lb_context *c, u32 layer, lb_acts *in, float *out, lb_err *err);

#endif
