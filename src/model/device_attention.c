/* SPDX-License-Identifier: Apache-2.0 */
/* device_attention.c: attention.c for a device. */
#include "model/device_layers.h"

typedef struct heads {
    u32 n_head, n_head_kv, k_dim, v_dim, n_rot;
    u32 gate, k, v, stride; /* places of the token's parts in a row of LB_DBUF_QKV; q is at 0 */
    bool own;               /* has keys and values of its own */
    bool gated;
} heads;

/* [q, gate] of each head, in LB_DBUF_ATT, to where q of all and gates of all are; what is behind
 * them there follows. */
static lb_status part_gates(const lb_context *c, const heads *h, u32 n_rest, lb_err *err) {
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_ATT), lb_dbuf_arg(c, LB_DBUF_QKV)};
    lb_move_args a = {.n_tokens = c->n,
                      .n_heads = h->n_head,
                      .n_cols = h->k_dim,
                      .head = 2 * h->k_dim,
                      .stride = h->k + n_rest,
                      .o_head = h->k_dim,
                      .o_stride = h->stride};
    LB_TRY(lb_dlaunch(c, LB_DK_move_heads, buf, &a, err));
    a.first = h->k_dim;
    a.o_first = h->gate;
    LB_TRY(lb_dlaunch(c, LB_DK_move_heads, buf, &a, err));
    a.n_heads = 1;
    a.n_cols = n_rest;
    a.first = a.o_first = h->k;
    if (n_rest)
        LB_TRY(lb_dlaunch(c, LB_DK_move_heads, buf, &a, err));
    return lb_dbarrier(c, err);
}

static lb_status project_gated(const lb_context *c, u32 layer, const heads *h, const lb_dinput *in,
                               lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const lb_doutput to = {.y = lb_dbuf_arg(c, LB_DBUF_QKV)},
                     both = {.y = lb_dbuf_arg(c, LB_DBUF_ATT)};
    const u32 rest = l->qkv.parts ? h->stride - h->k : 0;
    const lb_dproduct one[] = {{&l->qkv, *in, both, c->n, 0, h->stride}};
    const lb_dproduct three[] = {{&l->q, *in, both, c->n, 0, h->k},
                                 {&l->k, *in, to, c->n, h->k, h->stride},
                                 {l->v.parts ? &l->v : &l->k, *in, to, c->n, h->v, h->stride}};
    LB_TRY(lb_dproject(c, l->qkv.parts ? one : three, l->qkv.parts || !h->own ? 1 : 3, err));
    return part_gates(c, h, rest, err);
}

static lb_status project_heads(const lb_context *c, u32 layer, const heads *h, const lb_dinput *in,
                               lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const lb_doutput to = {.y = lb_dbuf_arg(c, LB_DBUF_QKV)};
    const lb_dproduct one[] = {{&l->qkv, *in, to, c->n, 0, h->stride}};
    const lb_dproduct three[] = {{&l->q, *in, to, c->n, 0, h->stride},
                                 {&l->k, *in, to, c->n, h->k, h->stride},
                                 /* values may be keys, before anything is done to them */
                                 {l->v.parts ? &l->v : &l->k, *in, to, c->n, h->v, h->stride}};
    if (h->gated)
        return project_gated(c, layer, h, in, err);
    return l->qkv.parts ? lb_dproject(c, one, 1, err) : lb_dproject(c, three, h->own ? 3 : 1, err);
}

static lb_status norm_qk(const lb_context *c, u32 layer, const heads *h, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_QKV);
    const lb_dheads q = {x, c->n, h->n_head, h->k_dim, 0, h->stride};
    const lb_dheads k = {x, c->n, h->n_head_kv, h->k_dim, h->k, h->stride};
    if (l->q_norm.n)
        LB_TRY(lb_dnorm_heads(c, &l->q_norm, &q, err));
    if (l->k_norm.n && h->own)
        LB_TRY(lb_dnorm_heads(c, &l->k_norm, &k, err));
    return l->q_norm.n || l->k_norm.n ? lb_dbarrier(c, err) : LB_OK;
}

static lb_status turn(const lb_context *c, u32 layer, const heads *h, lb_err *err) {
    const lb_dcontext *d = c->device;
    const lb_layer *l = &c->m->layer[layer];
    if (!h->n_rot)
        return LB_OK;
    const lb_dev_arg buf[] = {{d->buf[LB_DBUF_META], d->cos_at[l->rope]},
                              {d->buf[LB_DBUF_META], d->sin_at[l->rope]},
                              lb_dbuf_arg(c, LB_DBUF_QKV)};
    lb_rope_args a = {.n_tokens = c->n,
                      .n_heads = h->n_head,
                      .head_dim = h->k_dim,
                      .n_rot = h->n_rot,
                      .pairs = !l->halves,
                      .stride = h->stride};
    LB_TRY(lb_dlaunch(c, LB_DK_rope, buf, &a, err));
    a.n_heads = h->n_head_kv;
    a.first = h->k;
    if (h->own)
        LB_TRY(lb_dlaunch(c, LB_DK_rope, buf, &a, err));
    return lb_dbarrier(c, err);
}

/* What is done to queries by their position, and to values. */
static lb_status finish_heads(const lb_context *c, const heads *h, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_QKV);
    bool any = false;
    if (c->device->temp) {
        const lb_vec_args a = {.n_rows = c->n, .n_cols = h->n_head * h->k_dim, .stride = h->stride};
        LB_TRY(lb_dlaunch(c, LB_DK_scale_rows, (lb_dev_arg[]){lb_dmeta_arg(c, LB_DMETA_TEMP), x},
                          &a, err));
        any = true;
    }
    if (h->own && c->m->p.graph->flags & LB_GRAPH_V_NORM) { /* by rms, whatever other norms are */
        const lb_heads_args a = {.n_tokens = c->n,
                                 .n_heads = h->n_head_kv,
                                 .n_cols = h->v_dim,
                                 .first = h->v,
                                 .stride = h->stride,
                                 .eps = c->m->p.eps};
        LB_TRY(lb_dlaunch(c, LB_DK_rms_norm_heads, (lb_dev_arg[]){r->ones, x}, &a, err));
        any = true;
    }
    return any ? lb_dbarrier(c, err) : LB_OK;
}

static lb_dput put_of(const lb_context *c, u32 layer, const heads *h) {
    return (lb_dput){layer, h->n_head_kv, h->k_dim,  h->v_dim,
                     h->k,  h->v,         h->stride, lb_dbuf_arg(c, LB_DBUF_QKV)};
}

static lb_status store(const lb_context *c, u32 layer, const heads *h, lb_err *err) {
    const lb_dput p = put_of(c, layer, h);
    if (lb_device_is_wide(c, layer))
        return lb_device_put(c, &p, err);
    const lb_kv_args a = lb_device_kv_args(c, &p);
    const lb_dev_arg buf[] = {p.x, lb_dmeta_arg(c, LB_DMETA_PLACE), lb_dbuf_arg(c, LB_DBUF_CACHE)};
    LB_TRY(lb_dlaunch(c, LB_DK_kv_store, buf, &a, err));
    return lb_dbarrier(c, err);
}

static lb_status attend(const lb_context *c, const lb_dwide *w, lb_err *err) {
    if (lb_device_is_wide(c, w->layer))
        return lb_device_wide(c, w, err);
    bool done = false;
    LB_TRY(lb_device_flash(c, w, &done, err));
    if (done)
        return LB_OK;
    const lb_attend_args a = lb_device_attend_args(c, w);
    const lb_dev_arg buf[] = {w->q, lb_dbuf_arg(c, LB_DBUF_CACHE), lb_dmeta_arg(c, LB_DMETA_TABLE),
                              lb_dmeta_arg(c, LB_DMETA_TOKENS), lb_dbuf_arg(c, LB_DBUF_PART)};
    const bool tile = !c->device->n_splits && lb_dev_has(c->device->r->d, LB_DK_attend_tile);
    LB_TRY(lb_dlaunch(c, tile ? LB_DK_attend_tile : LB_DK_attend, buf, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_device_join_splits(c, w, err);
}

/* Norms, positions, keys and values into their pages: by one kernel where it can. */
static lb_status prepare(const lb_context *c, u32 layer, const heads *h, lb_err *err) {
    const bool late = (c->m->p.graph->flags & LB_GRAPH_QK_NORM_LATE) != 0;
    const lb_dready r = {put_of(c, layer, h), h->n_head, h->n_rot};
    bool done = false;
    if (h->own)
        LB_TRY(lb_device_rope_store(c, &r, &done, err));
    if (done)
        return LB_OK;
    if (!late)
        LB_TRY(norm_qk(c, layer, h, err));
    LB_TRY(turn(c, layer, h, err));
    if (late)
        LB_TRY(norm_qk(c, layer, h, err));
    LB_TRY(finish_heads(c, h, err));
    return h->own ? store(c, layer, h, err) : LB_OK;
}

/* All between the products; of one token by one kernel where it can. */
static lb_status prepare_and_attend(const lb_context *c, u32 layer, const heads *h, lb_err *err) {
    const lb_dready r = {put_of(c, layer, h), h->n_head, h->n_rot};
    lb_dwide w = {.layer = layer,
                  .n_head = h->n_head,
                  .n_head_kv = h->n_head_kv,
                  .k_dim = h->k_dim,
                  .v_dim = h->v_dim,
                  .stride = h->stride,
                  .q = r.put.x};
    if (h->own && lb_device_at_once(c, &r, &w))
        w.ready = &r;
    else
        LB_TRY(prepare(c, layer, h, err));
    return attend(c, &w, err);
}

/* What is attended to, times the sigmoid of its gate. */
static lb_status gate(const lb_context *c, const heads *h, lb_err *err) {
    const u32 n = h->n_head * h->v_dim;
    const lb_times_args a = {
        .n_rows = c->n, .n_cols = n, .stride = n, .y_first = h->gate, .y_stride = h->stride};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_QKV), lb_dbuf_arg(c, LB_DBUF_ATT)};
    LB_TRY(lb_dlaunch(c, LB_DK_times_sigmoid, buf, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_attention(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                              lb_err *err) {
    const lb_layer_params *p = &c->m->p.layer[layer];
    const u32 n_ranks = c->device->r->n_ranks;
    heads h = {.n_head = p->n_head / n_ranks,
               .n_head_kv = p->n_head_kv / n_ranks,
               .k_dim = p->k_dim,
               .v_dim = p->v_dim,
               .n_rot = p->n_rot,
               .own = p->kv_layer == layer,
               .gated = (c->m->p.graph->flags & LB_GRAPH_Q_GATE) != 0};
    h.gate = h.n_head * h.k_dim;
    h.k = h.gated ? 2 * h.gate : h.gate;
    h.v = h.k + h.n_head_kv * h.k_dim;
    h.stride = h.v + h.n_head_kv * h.v_dim;
    LB_TRY(project_heads(c, layer, &h, in, err));
    LB_TRY(prepare_and_attend(c, layer, &h, err));
    if (h.gated)
        LB_TRY(gate(c, &h, err));
    return lb_dproject(c,
                       &(lb_dproduct){.l = &c->device->r->layer[layer].o,
                                      .in.x = lb_dbuf_arg(c, LB_DBUF_ATT),
                                      .out = *out,
                                      .n = c->n,
                                      .stride = c->m->p.n_embd},
                       1, err);
}
