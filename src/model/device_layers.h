/* SPDX-License-Identifier: Apache-2.0 */
/* device_layers.h: within model/: the halves of a layer on a device, caches of every type, what is
 * done with keys, values and states between batches. */
#ifndef LB_MODEL_DEVICE_LAYERS_H
#define LB_MODEL_DEVICE_LAYERS_H

#include "model/device_graph.h"

/* ---- halves of layers ---- */

lb_status lb_device_attention(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                              lb_err *err);
lb_status lb_device_latent(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                           lb_err *err);
lb_status lb_device_conv(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                         lb_err *err);
lb_status lb_device_delta(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                          lb_err *err);
/* Tokens of a batch's longest run from which on delta nets go through it in chunks. Two chunks: a
 * chunk of few tokens computes nearly what a whole one does, and drafts and short turns of a chat
 * keep the bits of tokens one by one. Not measured. */
#define LB_DDELTA_TOKENS (2u * LB_DEV_DELTA_CHUNK)
/* device_inputs.c: of all layers, from the embeddings; what is added behind a layer, to Y. */
lb_status lb_device_inputs(const lb_context *c, lb_err *err);
lb_status lb_device_input(const lb_context *c, u32 layer, lb_err *err);
lb_status lb_device_ffn(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                        lb_err *err);
/* Whether the layer's feed-forward is one without experts: of few tokens it takes and gives what
 * lb_dinput and lb_doutput say. */
bool lb_device_ffn_is_plain(const lb_dlayer *l);
/* Whether it is of experts whose sum may be added to the stream at once, for any number of tokens.
 */
bool lb_device_ffn_adds(const lb_dlayer *l);
/* Whether it takes the stream through a norm: such a one, or experts of few tokens by mte_*. */
bool lb_device_ffn_norms(const lb_context *c, const lb_dlayer *l);

/* ---- device_forward.c ---- */

/* The same of matrices that other routes name: [n, 2], LB_DBUF_ROUTES elsewhere. */
lb_status lb_dproject_routed(const lb_context *c, const lb_dproduct *p, u32 n_products, u32 per,
                             lb_dev_arg routes, lb_err *err);

/* ---- device_context.c ---- */

/* Zeros at the beginning of a buffer. */
lb_status lb_dbuf_zero(const lb_context *c, lb_dbuf b, u64 bytes, lb_err *err);
/* How a cache asks for a page's copy, and for what is done with states (cache.h). */
lb_status lb_device_copy_page(void *user, u32 to, u32 from, lb_err *err);
lb_status lb_device_state(void *user, lb_cache_step step, u32 seq, u32 from, lb_err *err);
/* Where the sections of a batch's n tokens are in LB_DBUF_META; bytes of all. */
u64 lb_device_lay_out(const lb_context *c, u32 n, u32 n_want);
u32 *lb_device_section(const lb_context *c, lb_dmeta m);
/* What the first part knows of the batch, and bytes of its sections, to all. */
lb_status lb_device_send(const lb_context *c, u64 bytes, lb_err *err);
/* The part that has a layer; NULL: the host. */
lb_dcontext *lb_device_part_of(const lb_context *c, u32 layer);
/* Rows of a head of a layer there, `stride` bytes apart from off on in each page of the cache, to
 * or from memory of the host, where n of a sequence follow each other; waits. */
typedef struct lb_drows_place {
    u32 layer;
    u64 off;
    u32 stride, n;
    u32 first; /* position of the first row */
} lb_drows_place;
lb_status lb_device_move_rows(const lb_context *c, const lb_cache_seq *s, const lb_drows_place *at,
                              u8 *host, bool in, lb_err *err);
/* A layer's state of a sequence. */
lb_status lb_device_move_state(const lb_context *c, u32 seq, u32 layer, u8 *host, bool in,
                               lb_err *err);

/* ---- device_shift.c ---- */

/* The layers that are on devices. Where one lacks a kernel for it (device_try.c), its rows come to
 * the host, some at a time, and go back. Waits. */
lb_status lb_device_shift(const lb_shift *s, lb_err *err);

/* ---- device_wide.c: the cache in every type, heads of every width, rotated rows ---- */

/* Whether a layer's keys and values are read and written so. */
bool lb_device_is_wide(const lb_context *c, u32 layer);
/* Keys and values of the batch, [n_head_kv, dim] at k and at v of each row of x; v_dim 0: values
 * are in keys. */
typedef struct lb_dput {
    u32 layer, n_head_kv, k_dim, v_dim, k, v, stride;
    lb_dev_arg x; /* rotated in place */
} lb_dput;
/* Where they go: of whatever kernel stores or takes them. */
lb_kv_args lb_device_kv_args(const lb_context *c, const lb_dput *p);
lb_status lb_device_put(const lb_context *c, const lb_dput *p, lb_err *err);
/* Keys alone, from the places in LB_DMETA_IDS: p as of what puts them back. */
lb_status lb_device_take(const lb_context *c, const lb_dput *p, lb_err *err);
/* Attention of queries [n, n_head, k_dim], stride apart, over the pages; to LB_DBUF_ATT
 * [n, n_head, v_dim]. */
typedef struct lb_dwide {
    u32 layer, n_head, n_head_kv, k_dim, v_dim, stride;
    lb_dev_arg q; /* rotated in place */
    /* what is done before by the same kernel (lb_device_at_once), q being its x; NULL: nothing */
    const struct lb_dready *ready;
} lb_dwide;
/* Values of a launch over the pages, but for sinks: of whatever kernel attends. */
lb_attend_args lb_device_attend_args(const lb_context *c, const lb_dwide *w);
/* What splits have left in LB_DBUF_PART, with the layer's sinks, to LB_DBUF_ATT. */
lb_status lb_device_join_splits(const lb_context *c, const lb_dwide *w, lb_err *err);
lb_status lb_device_wide(const lb_context *c, const lb_dwide *w, lb_err *err);

/* ---- device_flash.c: attention by tensor cores over keys and values of f16 ---- */

/* Of a session: whether few tokens of all layers take attend_few_*; bytes of LB_DBUF_FEW; zeros
 * there. */
bool lb_device_few(const lb_context *c);
u64 lb_device_few_bytes(const lb_context *c);
lb_status lb_device_few_begin(const lb_context *c, lb_err *err);
/* Splits of few tokens' positions: that every unit has some. */
void lb_device_few_splits(const lb_context *c);
/* As lb_device_wide, where *done; else the device has no such kernel for it. */
lb_status lb_device_flash(const lb_context *c, const lb_dwide *w, bool *done, lb_err *err);
/* All that is done to heads between their products and attention (norms, rope, keys and values to
 * their pages); queries [n, n_head, k_dim] stand at 0 of each row of put.x. */
typedef struct lb_dready {
    lb_dput put;
    u32 n_head, n_rot;
} lb_dready;
/* By one kernel, where *done. */
lb_status lb_device_rope_store(const lb_context *c, const lb_dready *r, bool *done, lb_err *err);
/* Whether the kernel that attends to w does it, too: of one token. */
bool lb_device_at_once(const lb_context *c, const lb_dready *r, const lb_dwide *w);

/* The number of a type of keys and values in kern/args.h. */
u32 lb_device_kv_type(const lb_context *c);

#endif
