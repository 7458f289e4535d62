/* SPDX-License-Identifier: Apache-2.0 */
/* device_bufs.h: within model/: the buffers that a session has on a device, and what is copied
 * there for a batch. */
#ifndef LB_MODEL_DEVICE_BUFS_H
#define LB_MODEL_DEVICE_BUFS_H

typedef enum lb_dbuf {
    LB_DBUF_X,  /* [n_batch, n_embd] residual stream */
    LB_DBUF_H,  /* a norm of it */
    LB_DBUF_Y,  /* a half's result */
    LB_DBUF_H2, /* the feed-forward's beside it; states that want logits */
    LB_DBUF_QKV,
    LB_DBUF_ATT,
    LB_DBUF_LATENT, /* absorbed queries, keys and values of all heads, or what a delta net gives */
    LB_DBUF_HEADS,  /* [n_batch, n_head, 2] which head: routes to its matrix */
    LB_DBUF_PART,   /* attention's sums before they are joined */
    LB_DBUF_FEW,    /* the same of attend_few_*, with its counters */
    LB_DBUF_JOIN,   /* what threadgroups that share columns leave (lb_dev_mt_join_bytes) */
    LB_DBUF_FF,
    LB_DBUF_ACT,
    LB_DBUF_SCORES, /* [n_batch, n_expert] */
    LB_DBUF_ROUTES, /* [n_batch, n_expert_used, 2] */
    LB_DBUF_PLAN,   /* the routes by experts, for products of many tokens (kern/args.h) */
    LB_DBUF_ROWS,   /* [n_batch, n_expert_used, n_embd] */
    LB_DBUF_SHARED, /* [n_batch, n_embd] */
    LB_DBUF_GATE,   /* [n_batch] the shared experts' */
    LB_DBUF_INPUTS, /* [n_batch, n_layers + 1, layer_in_dim] layers' own; the last: a gate */
    LB_DBUF_TABLE,  /* [n_batch, n_layers, layer_in_dim] rows of their table */
    LB_DBUF_LOGITS, /* [n_logits, n_vocab] */
    LB_DBUF_TOP,    /* lists of the largest of a row of them (device_sample.c) */
    LB_DBUF_GATES,  /* [n_batch, ssm_heads, 2] decay, beta */
    LB_DBUF_STATE,  /* [n_seqs, state_bytes] of recurrent layers */
    LB_DBUF_TILES,  /* tiles of f16 of what a product reads (device_tiles.c) */
    LB_DBUF_POWERS, /* [n_batch] of its tokens */
    LB_DBUF_GATED,  /* the same of what a feed-forward's down reads */
    LB_DBUF_SLOTS,  /* two slots for matrices as tiles */
    LB_DBUF_ROUTED, /* tiles of tokens by experts (device_experts.c) */
    LB_DBUF_TIMES,  /* of their rows */
    LB_DBUF_SUMS,   /* of columns of what matrices read (device_sums.c) */
    LB_DBUF_META,
    LB_DBUF_CACHE, /* [n_pages_max, page_bytes] of the part's layers */
    LB_DBUFS
} lb_dbuf;

/* What is copied for a batch: u32 or f32, each at a multiple of 16 bytes of LB_DBUF_META. */
typedef enum lb_dmeta {
    LB_DMETA_IDS,    /* [n] */
    LB_DMETA_POS,    /* [n] */
    LB_DMETA_TOKENS, /* [n] position, sequence */
    LB_DMETA_PLACE,  /* [n] page * LB_PAGE_ROWS + row */
    LB_DMETA_WANT,   /* [n_want] tokens whose logits are wanted */
    LB_DMETA_TEMP,   /* [n] factor on q */
    LB_DMETA_TABLE,  /* [n_seqs, n_table] pages */
    LB_DMETA_RUN,    /* [n] the run of each token, where layers are recurrent */
    LB_DMETA_RUNS,   /* [n_runs] first token, tokens, sequence, position of the first */
    LB_DMETA_ANGLES, /* [n_ropes] cosines [n, n_rot / 2], then sines */
    LB_DMETAS
} lb_dmeta;

#endif
