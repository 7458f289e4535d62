/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h: what a session keeps of the tokens it has read: keys and values in pages, and the states
 * of recurrent layers.
 *
 * A page holds LB_PAGE_ROWS positions of one sequence, in all layers:
 *     layer 0: keys   [key heads][LB_PAGE_ROWS] rows, then values, the same
 *     layer 1: ...
 * Pages are made when they are needed. Sequences that begin alike share pages; one that is written
 * to is copied first. Positions of a sequence are 0, 1, 2, ... */
#ifndef LB_MODEL_CACHE_H
#define LB_MODEL_CACHE_H

#include "model/params.h"

#define LB_PAGE_ROWS 64u
#define LB_PAGE_NONE UINT32_MAX

typedef struct lb_cache_layer {
    u32 n_head_kv;
    u32 k_bytes, v_bytes;       /* of a row of one head; 0: the layer keeps none */
    u64 k_off, v_off;           /* in a page */
    u64 state_off, state_bytes; /* in a sequence's state */
    bool v_in_k;                /* values are the first elements of keys */
    u32 k_mix, v_mix;           /* elements that a Hadamard matrix mixes before they are stored, a
                                   power of two that divides a row; 0: none */
} lb_cache_layer;

typedef struct lb_cache_seq {
    u32 length; /* positions */
    u32 *id;    /* [n_ctx] of each position */
    u32 *page;  /* [n_pages] */
    u32 n_pages;
    u8 *state; /* NULL: no layer of the host has one */
    u8 *mark;  /* state as it was after mark_length positions; NULL: none was ever kept */
    u32 mark_length;
    bool marked;
} lb_cache_seq;

/* Copies a page to another, where pages lie elsewhere. */
typedef lb_status lb_cache_copy_fn(void *user, u32 to, u32 from, lb_err *err);
/* States that lie elsewhere: the sequence's mark becomes its state, its state the mark, its state
 * that of `from`. Of a sequence without positions nobody reads the state. */
typedef enum lb_cache_step { LB_STATE_MARK, LB_STATE_BACK, LB_STATE_COPY } lb_cache_step;
typedef lb_status lb_cache_state_fn(void *user, lb_cache_step step, u32 seq, u32 from, lb_err *err);

typedef struct lb_cache {
    lb_dtype type; /* of keys and values */
    bool rotated;
    u32 n_layers, n_seqs, n_ctx; /* positions of a sequence */
    u32 n_pages_max;             /* of all sequences together */
    lb_cache_layer *layer;
    u64 page_bytes, state_bytes;
    /* of a page, and of a sequence's states, that are memory of the host: of the first layers, or
     * of all */
    u64 host_bytes, host_state_bytes;
    u8 **page;   /* [n_pages_max] NULL: never used */
    u32 *refs;   /* [n_pages_max] */
    u32 *unused; /* [n_unused] stack */
    u32 n_unused;
    lb_cache_seq *seq;       /* [n_seqs] */
    lb_cache_copy_fn *copy;  /* layers of pages lie elsewhere; NULL: all are page[] */
    lb_cache_state_fn *step; /* with copy: states of those layers */
    void *user;
} lb_cache;

/* Rotated: rows are mixed by a Hadamard matrix before they are rounded, which spreads a few large
 * elements over all, so that blocks share a scale well; queries are mixed as keys are, and what
 * comes of values is mixed back (QuaRot: Ashkboos et al. 2024). */
typedef struct lb_cache_kind {
    lb_dtype type; /* of keys and values */
    bool rotated;
    lb_cache_copy_fn *copy; /* NULL: pages and states are memory of the host */
    lb_cache_state_fn *step;
    void *user;
    u32 n_host; /* with copy: layers whose parts of a page and of states are memory of the host */
} lb_cache_kind;

/* Sizes and places alone: no page, no sequence; to be freed as one that is whole. */
lb_status lb_cache_lay_out(lb_cache *c, const lb_params *p, const lb_cache_kind *kind, u32 n_ctx,
                           u32 n_seqs, lb_err *err);
/* n_ctx: positions of each sequence. type: F32, F16, Q8_0, Q4_0; LB_E_UNSUPPORTED where rows do not
 * fit its blocks, or cannot be rotated where they are to be. */
lb_status lb_cache_init(lb_cache *c, const lb_params *p, const lb_cache_kind *kind, u32 n_ctx,
                        u32 n_seqs, lb_err *err);
/* Bytes of such a cache that is full. */
lb_status lb_cache_count(const lb_params *p, const lb_cache_kind *kind, u32 n_ctx, u32 n_seqs,
                         u64 *out, lb_err *err);
void lb_cache_deinit(lb_cache *c);
/* Room for n more positions of a sequence, its own. LB_E_LIMIT: the context is full. */
lb_status lb_cache_grow(lb_cache *c, u32 seq, u32 n, lb_err *err);
/* Keeps the states of recurrent layers as they are now, so that the sequence can go back to here;
 * one such place a sequence. LB_E_NOMEM. */
lb_status lb_cache_mark(lb_cache *c, u32 seq, lb_err *err);
/* Forgets all but the first n positions. False: a recurrent layer cannot go back to there: it can
 * to 0 and to the mark (not where its state lies elsewhere and cannot be reached). */
bool lb_cache_cut(lb_cache *c, u32 seq, u32 n);
/* Pages of a sequence, from one on, are its own: shared ones are copied. */
lb_status lb_cache_own(lb_cache *c, u32 seq, u32 first_page, lb_err *err);
/* `to` becomes a copy of `from`'s first n positions (all of them where layers are recurrent). */
lb_status lb_cache_copy(lb_cache *c, u32 from, u32 to, u32 n, lb_err *err);
/* Where the rows of a head of one page lie. */
u8 *lb_cache_keys(const lb_cache *c, u32 layer, u32 page, u32 head);
u8 *lb_cache_values(const lb_cache *c, u32 layer, u32 page, u32 head);
/* Bytes that it will ask for until all sequences are full. */
u64 lb_cache_rest_bytes(const lb_cache *c);
/* Bytes of all that is allocated. */
u64 lb_cache_bytes(const lb_cache *c);

#endif
