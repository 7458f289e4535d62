/* SPDX-License-Identifier: Apache-2.0 */
/* device_graph.h: within model/: the layers of graph.h as a device has them, and a session's
 * buffers there.
 *
 * resident.c makes a lb_dlayer of each lb_layer; device_context.c has the buffers and what is
 * copied for a batch; device_forward.c, device_attention.c and device_ffn.c walk the layers as
 * forward.c, attention.c and ffn.c do, but submit kernels: all of a batch at once, and wait once,
 * for the logits. A barrier stands where a kernel reads what an earlier one has written.
 *
 * Of several devices each has a part: some layers, their keys and values, buffers, or as a rank a
 * share of all layers (device_ranks.c). What walks layers knows the part that c->device is;
 * device_parts.c goes from one to the next. The first layers may be the CPU's: then the first part
 * begins behind them, and forward.c computes those. */
#ifndef LB_MODEL_DEVICE_GRAPH_H
#define LB_MODEL_DEVICE_GRAPH_H

#include "device/group.h"
#include "device/link.h"
#include "model/device_bufs.h"
#include "model/graph.h"
#include "model/resident.h"
#include "model/slice.h"

/* Rows of a matrix, or of a stack of them, one after the other. */
typedef struct lb_dmat {
    lb_dev_kernel kernel[LB_DEV_MTE + 1]; /* by lb_dev_use; MV, MVE in the place of MT, MTE */
    lb_dev_form form;
    lb_dev_arg w, scales, biases; /* scales, biases: as the form has them */
    lb_mv_args args;              /* without tokens and places */
} lb_dmat;

typedef struct lb_dlinear {
    const lb_dmat *parts; /* NULL: it is not there; their rows follow each other */
    u32 n_parts, n_rows, n_cols, n_mats;
    lb_dev_arg bias; /* [n_mats, n_rows]; no buffer: none */
    /* whose input a session may add up, and where it has its place; NULL: it has none */
    const lb_mweight *w;
    u64 sums_at;
} lb_dlinear;

typedef struct lb_dnorm {
    u32 n, n_heads; /* as in lb_norm */
    float eps;
    lb_dev_arg w, b;
} lb_dnorm;

typedef struct lb_dlayer {
    lb_dlinear qkv, q, k, v, o, gate, up, down;
    lb_dlinear q_a, q_b, kv_a, kv_b, k_b, v_b;   /* latent attention */
    lb_dlinear in, gate_z, ba, beta, alpha, out; /* recurrent layers */
    lb_dnorm q_a_norm, kv_a_norm, ssm_norm;
    lb_dlinear router, gate_exps, up_exps, down_exps;
    lb_dlinear shared_router, gate_shared, up_shared, down_shared;
    lb_dnorm attn_norm, attn_post_norm, ffn_norm, ffn_post_norm, q_norm, k_norm;
    lb_dev_arg sinks, selection, conv, conv_bias, ssm_a, ssm_dt;
    /* experts beside a dense feed-forward; an input of the layer's own */
    lb_dnorm dense_post_norm, exps_norm, exps_post_norm, in_norm;
    lb_dev_arg router_scale, exps_scale;
    lb_dlinear in_gate, in_proj;
} lb_dlayer;

/* A part of a model: what of it lies on one device. */
struct lb_resident {
    const lb_model *m;
    lb_dev *d;
    lb_dev_queue *q;
    lb_resident *next; /* the part on the next device; NULL: the last one */
    u32 first, end;    /* its layers */
    u32 rank, n_ranks; /* of those who share them; 0, 1: nobody else */
    u32 n_batch;       /* of sessions that do not say it; 0: the usual */
    /* has the tables of embeddings; the output; memory is too short for products of tiles */
    bool embeds, ends, no_tiles;
    lb_arena perm;
    lb_dlayer *layer; /* [n_layers] its own are filled */
    lb_dlinear output;
    lb_dmat embd, positions, layer_embd;
    lb_dlinear layer_in_proj;
    lb_dnorm embd_norm, output_norm, layer_in_norm;
    lb_dev_arg ones, zeros; /* [n_ones] */
    u64 bytes;              /* of all that is copied */
    u64 sums_bytes;         /* of all places of sums */
    lb_dev_buf **bufs;      /* heap [n_bufs] */
    u32 n_ones, n_bufs, cap_bufs;
};

/* A recording of a batch's kernels, and what it holds for. */
#define LB_DRECORDS 8u
typedef struct lb_drecord_key {
    u32 n, n_want, n_splits, split_rows, n_runs;
    bool temp;
} lb_drecord_key;
typedef struct lb_drecord {
    lb_drecord_key key;
    lb_dev_graph *graph; /* NULL: none */
    u64 used;
} lb_drecord;

#define LB_DTRIED 8u
#define LB_DFLIGHT 16u

typedef struct lb_dcontext {
    lb_resident *r;
    struct lb_dcontext *next; /* of the next part */
    lb_dev_link *link;        /* to it; NULL: they are ranks */
    lb_dev_group *group;      /* of ranks; of the first one */
    /* of its layers: where they begin in a page, and how long they are; of a sequence's states */
    u64 kv_off, page_bytes, state_off, state_bytes;
    lb_dev_buf *buf[LB_DBUFS], *mark; /* mark: as LB_DBUF_STATE; NULL: nothing was ever marked */
    /* Pinned, as large as LB_DBUF_META; of the first part, one for each batch in flight: host is
     * that of the batch which is made. sent: of every part, when it has been copied from there. */
    lb_dev_buf *host, *hosts[LB_DFLIGHT];
    lb_dev_event *sent[LB_DFLIGHT];
    u32 host_at, n_flying; /* of the first part: batches that nobody has waited for */
    bool flies;            /* so will the batch that is made */
    lb_dev_buf *given;     /* pinned: what the CPU's layers give to the first part; NULL: nothing */
    u64 slot_bytes;        /* of LB_DBUF_SLOTS; 0: products are not of tiles */
    u32 n_table, n_logits, n_want, n_runs, longest; /* of the runs, in tokens */
    bool few;               /* all attention of few tokens is by attend_few_* */
    u64 meta_at[LB_DMETAS]; /* bytes, of this batch */
    u64 cos_at[LB_ROPES_MAX], sin_at[LB_ROPES_MAX]; /* of this batch */
    bool temp;                                      /* some q is scaled */
    u32 n_splits, split_rows;                       /* of attention over this batch; 0: tiles */
    lb_dev_buf *logits; /* pinned: one row of them; NULL: read at once */
    lb_dev_buf *sums;   /* pinned: places of LB_DBUF_SUMS on their way; NULL: there are none */
    lb_drecord record[LB_DRECORDS];
    lb_drecord_key seen;  /* the last without a recording */
    u32 tried[LB_DTRIED]; /* of the first part: kinds of batches whose kernels were tried */
    u32 n_tried;
    /* what stands for weights now (device_partial.c); unused: where a swap has no product */
    struct {
        lb_dlinear *at, was;
    } swap[3];
    lb_dlinear unused;
    lb_dmat embd_was;
    u32 n_swaps, n_bufs; /* n_bufs: of the part, before */
    lb_drecord *step;    /* heap [n_steps] a rank's, between sums; NULL: it has none */
    u32 n_steps;
    u64 n_records;
} lb_dcontext;

/* ---- device_context.c ---- */

/* LB_E_UNSUPPORTED: what of the session's options the device cannot do. */
lb_status lb_device_check(const lb_context_opts *o, const lb_dev_info *d, lb_err *err);
/* c->cache is made. */
lb_status lb_device_begin(lb_context *c, lb_err *err);
void lb_device_end(lb_context *c);
/* Copies what the batch's c->n tokens need, to all parts. */
lb_status lb_device_put_batch(lb_context *c, const u8 *want, lb_err *err);

/* ---- device_sample.c ---- */

typedef struct lb_dtop lb_dtop;
/* Launches and copies what c->first needs of the first row of LB_DBUF_LOGITS. */
lb_status lb_device_top(const lb_context *c, lb_err *err);
u64 lb_device_top_room(const lb_context *c); /* bytes of LB_DBUF_TOP */
u64 lb_device_top_bytes(void);               /* that come back */

/* ---- device_forward.c ---- */

/* As lb_forward; a batch of which no logits are wanted may still be under way. */
lb_status lb_device_forward(lb_context *c, float *logits, const u8 *want, lb_err *err);
/* Where the logits of one token come to; NULL: to where the caller wants them. */
float *lb_device_row(const lb_context *c);
/* What stands before and behind the layers, on the parts that have it. */
lb_status lb_device_first(lb_context *c, lb_err *err);
lb_status lb_device_last(lb_context *c, lb_err *err);

/* Of the part that c->device is. */
lb_status lb_device_run_layers(lb_context *c, u32 first, u32 end, lb_err *err);
/* The rest of the logits of d->n_want rows, and all of them to the host; where it is one row it may
 * wait in pinned memory, from where it is taken after a wait. */
lb_status lb_device_read_logits(const lb_context *c, float *logits, lb_err *err);
void lb_device_take_row(const lb_dcontext *d, u32 n_vocab, float *logits);

lb_dev_arg lb_dbuf_arg(const lb_context *c, lb_dbuf b);
lb_dev_arg lb_dmeta_arg(const lb_context *c, lb_dmeta m);
/* The buffers of a matrix, in a kernel's order; how many there are. */
u32 lb_dmat_args(const lb_dmat *m, lb_dev_arg *bufs);
lb_status lb_dlaunch(const lb_context *c, lb_dev_kernel k, const lb_dev_arg *bufs, const void *val,
                     lb_err *err);
lb_status lb_dbarrier(const lb_context *c, lb_err *err);

/* Batches of few tokens: their attention is split over positions, and products have kernels that
 * read x through a norm or an activation and add to what is there. */
#define LB_DEV_FEW_TOKENS 8u
static inline bool lb_dfew(u32 n) {
    return n <= LB_DEV_FEW_TOKENS;
}

/* What a product or a half of a layer reads: x [n, n_embd], or what is made of it (LB_DEV_PRE_*),
 * of few tokens alone; a norm of tiles too. */
typedef struct lb_dinput {
    lb_dev_arg x;
    u32 pre;
    lb_dev_arg w;              /* of NORM */
    u32 stride, second, gated; /* of an activation: values between tokens, its partner's place */
} lb_dinput;
/* Where a result goes; sum (of few tokens or tiles, without a bias): y = (y + times result) scale.
 * act (where lb_dmat_is_few): what is made of sums (LB_DEV_PRE_*); gated: of the first half of the
 * rows, times the other's. */
typedef struct lb_doutput {
    lb_dev_arg y;
    bool sum;
    float times, scale;
    u32 act;
    bool gated;
} lb_doutput;

/* y[t * stride + first + row] of n tokens = l of in [n, n_cols], bias included. */
typedef struct lb_dproduct {
    const lb_dlinear *l;
    lb_dinput in;
    lb_doutput out;
    u32 n, first, stride;
} lb_dproduct;
/* Whether m, of experts (per: rows for each token) or not (0), has an mte_* or mt_* for p. */
bool lb_dmat_is_few(const lb_context *c, const lb_dproduct *p, const lb_dmat *m, u32 per);
/* Bytes of the plan for so many routes; 0: there are none. */
u64 lb_device_plan_bytes(const lb_model *m, u32 n_routes);
/* Before products of c->n tokens' experts, when their routes are known: the plan of tiles. */
lb_status lb_dplan_experts(const lb_context *c, u32 used, lb_err *err);
/* Products that may run side by side; a barrier stands behind them. */
lb_status lb_dproject(const lb_context *c, const lb_dproduct *p, u32 n_products, lb_err *err);
/* The same of experts: token t takes the matrix of its route, and row t / per of x. */
lb_status lb_dproject_experts(const lb_context *c, const lb_dproduct *p, u32 n_products, u32 per,
                              lb_err *err);
/* Heads at first of each row of n, in place. */
typedef struct lb_dheads {
    lb_dev_arg x;
    u32 n, n_heads, dim, first, stride;
} lb_dheads;
/* to = norm(from), n rows; a barrier stands behind it. */
lb_status lb_dnorm_rows(const lb_context *c, const lb_dnorm *norm, lb_dev_arg from, lb_dev_arg to,
                        u32 n, lb_err *err);
/* What reads n rows of x through a norm: products do it themselves where they can, and plain says
 * that nothing else reads it. */
lb_status lb_dnormed(const lb_context *c, const lb_dnorm *norm, lb_dev_arg x, u32 n, bool plain,
                     lb_dinput *in, lb_err *err);
/* The same of c->n rows in place, and nothing where there is no such norm. */
lb_status lb_dnorm_self(const lb_context *c, const lb_dnorm *norm, lb_dbuf b, lb_err *err);
/* x = (x + times y) scale, [n, n_embd] */
lb_status lb_dadd(const lb_context *c, lb_dbuf x, lb_dbuf y, float times, float scale, lb_err *err);
/* out = rows of a table by their numbers */
lb_status lb_drows(const lb_context *c, const lb_dmat *m, lb_dev_arg ids, lb_dev_arg out,
                   lb_err *err);
lb_status lb_dnorm_heads(const lb_context *c, const lb_dnorm *norm, const lb_dheads *h,
                         lb_err *err);

#endif
