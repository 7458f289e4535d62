/* SPDX-License-Identifier: Apache-2.0 */
/* device_latent.c: latent.c for a device. A product with a matrix of each head is one of experts:
 * of each token's head, whose route names the head. */
#include "model/device_layers.h"

typedef struct latent {
    u32 layer, n_head, nope, rot, rank, value;
    u32 kv, stride; /* place of the latent vector and the rotated key behind q, in LB_DBUF_QKV */
} latent;

static lb_dev_arg qkv(const lb_context *c) {
    return lb_dbuf_arg(c, LB_DBUF_QKV);
}

/* Parts of rows; a barrier is the caller's. */
static lb_status move(const lb_context *c, lb_dbuf from, lb_dbuf to, lb_move_args a, lb_err *err) {
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, from), lb_dbuf_arg(c, to)};
    a.n_tokens = c->n;
    return lb_dlaunch(c, LB_DK_move_heads, buf, &a, err);
}

static lb_status project_q(const lb_context *c, const latent *a, const lb_dinput *in, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[a->layer];
    const lb_dev_arg att = lb_dbuf_arg(c, LB_DBUF_ATT);
    const lb_doutput to = {.y = qkv(c)};
    const u32 rank = l->q_a.n_rows;
    const lb_dproduct kv = {&l->kv_a, *in, to, c->n, a->kv, a->stride};
    const lb_dproduct q = {&l->q, *in, to, c->n, 0, a->stride};
    const lb_dproduct q_a = {&l->q_a, *in, {.y = att}, c->n, 0, rank};
    const lb_dproduct q_b = {&l->q_b, {.x = att}, to, c->n, 0, a->stride};
    LB_TRY(lb_dproject(c, (lb_dproduct[]){kv, l->q_a.parts ? q_a : q}, 2, err));
    if (!l->q_a.parts)
        return LB_OK;
    LB_TRY(lb_dnorm_heads(c, &l->q_a_norm, &(lb_dheads){att, c->n, 1, rank, 0, rank}, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_dproject(c, &q_b, 1, err);
}

/* Norm of the latent vector, rotation of q's and the key's last parts. */
static lb_status prepare(const lb_context *c, const latent *a, lb_err *err) {
    const lb_dcontext *d = c->device;
    const lb_layer *l = &c->m->layer[a->layer];
    const lb_dev_arg buf[] = {{d->buf[LB_DBUF_META], d->cos_at[l->rope]},
                              {d->buf[LB_DBUF_META], d->sin_at[l->rope]},
                              qkv(c)};
    const u32 dim = a->nope + a->rot;
    lb_rope_args r = {.n_tokens = c->n,
                      .n_heads = a->n_head,
                      .head_dim = dim,
                      .n_rot = a->rot,
                      .pairs = !l->halves,
                      .first = a->nope,
                      .stride = a->stride};
    LB_TRY(lb_dnorm_heads(c, &d->r->layer[a->layer].kv_a_norm,
                          &(lb_dheads){qkv(c), c->n, 1, a->rank, a->kv, a->stride}, err));
    LB_TRY(lb_dlaunch(c, LB_DK_rope, buf, &r, err));
    r.n_heads = 1;
    r.head_dim = a->rot;
    r.first = a->kv + a->rank;
    LB_TRY(lb_dlaunch(c, LB_DK_rope, buf, &r, err));
    return lb_dbarrier(c, err);
}

/* One product a head of each token: x [n, n_head, n_cols], to y [n, n_head, ..], y_head apart. */
static lb_status by_head(const lb_context *c, const latent *a, const lb_dlinear *l, lb_dbuf x,
                         lb_dbuf y, u32 y_head, lb_err *err) {
    const lb_dproduct p = {
        l, {.x = lb_dbuf_arg(c, x)}, {.y = lb_dbuf_arg(c, y)}, c->n * a->n_head, 0, y_head};
    return lb_dproject_routed(c, &p, 1, 1, lb_dbuf_arg(c, LB_DBUF_HEADS), err);
}

/* ---- keys and values of all heads ---- */

static lb_status expand(const lb_context *c, const latent *a, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[a->layer];
    const u32 n_head = a->n_head, both = a->nope + a->value, dim = a->nope + a->rot;
    const u32 wide = n_head * both, n_keys = n_head * dim, row = n_keys + n_head * a->value;
    const lb_dev_arg att = lb_dbuf_arg(c, LB_DBUF_ATT), heads = lb_dbuf_arg(c, LB_DBUF_LATENT);
    const lb_move_args gather = {
        .n_heads = 1, .n_cols = a->rank, .first = a->kv, .stride = a->stride, .o_stride = a->rank};
    const lb_dproduct kv_b = {&l->kv_b, {.x = att}, {.y = heads}, c->n, 0, wide};
    LB_TRY(move(c, LB_DBUF_QKV, LB_DBUF_ATT, gather, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dproject(c, &kv_b, 1, err));
    LB_TRY(move(c, LB_DBUF_LATENT, LB_DBUF_ATT,
                (lb_move_args){.n_heads = n_head,
                               .n_cols = a->nope,
                               .head = both,
                               .stride = wide,
                               .o_head = dim,
                               .o_stride = row},
                err));
    LB_TRY(move(c, LB_DBUF_QKV, LB_DBUF_ATT,
                (lb_move_args){.n_heads = n_head, /* the rotated key is every head's */
                               .n_cols = a->rot,
                               .first = a->kv + a->rank,
                               .stride = a->stride,
                               .o_first = a->nope,
                               .o_head = dim,
                               .o_stride = row},
                err));
    LB_TRY(move(c, LB_DBUF_LATENT, LB_DBUF_ATT,
                (lb_move_args){.n_heads = n_head,
                               .n_cols = a->value,
                               .first = a->nope,
                               .head = both,
                               .stride = wide,
                               .o_first = n_keys,
                               .o_head = a->value,
                               .o_stride = row},
                err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_device_put(c, &(lb_dput){a->layer, n_head, dim, a->value, 0, n_keys, row, att}, err));
    return lb_device_wide(
        c, &(lb_dwide){a->layer, n_head, n_head, dim, a->value, a->stride, qkv(c), NULL}, err);
}

/* ---- the absorbed form ---- */

static lb_status absorb(const lb_context *c, const latent *a, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[a->layer];
    const u32 dim = a->nope + a->rot, key = a->rank + a->rot, n_head = a->n_head;
    lb_move_args part = {.n_heads = n_head,
                         .n_cols = a->nope,
                         .head = dim,
                         .stride = a->stride,
                         .o_head = a->nope,
                         .o_stride = n_head * a->nope};
    LB_TRY(move(c, LB_DBUF_QKV, LB_DBUF_ATT, part, err));
    part = (lb_move_args){.n_heads = n_head,
                          .n_cols = a->rot,
                          .first = a->nope,
                          .head = dim,
                          .stride = a->stride,
                          .o_first = a->rank,
                          .o_head = key,
                          .o_stride = n_head * key};
    LB_TRY(move(c, LB_DBUF_QKV, LB_DBUF_LATENT, part, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(by_head(c, a, &l->k_b, LB_DBUF_ATT, LB_DBUF_LATENT, key, err));
    LB_TRY(lb_device_put(c, &(lb_dput){a->layer, 1, key, 0, a->kv, 0, a->stride, qkv(c)}, err));
    LB_TRY(lb_device_wide(c,
                          &(lb_dwide){a->layer, n_head, 1, key, a->rank, n_head * key,
                                      lb_dbuf_arg(c, LB_DBUF_LATENT), NULL},
                          err));
    return by_head(c, a, &l->v_b, LB_DBUF_ATT, LB_DBUF_QKV, a->value, err);
}

lb_status lb_device_latent(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                           lb_err *err) {
    const lb_params *p = &c->m->p;
    const lb_dlayer *l = &c->device->r->layer[layer];
    latent a = {.layer = layer,
                .n_head = p->layer[layer].n_head,
                .nope = p->nope_dim,
                .rot = p->rot_dim,
                .rank = p->kv_rank,
                .value = p->value_dim};
    a.kv = a.n_head * (a.nope + a.rot);
    a.stride = a.kv + a.rank + a.rot;
    LB_TRY(project_q(c, &a, in, err));
    LB_TRY(prepare(c, &a, err));
    LB_TRY((l->kv_b.parts ? expand : absorb)(c, &a, err));
    const lb_dev_arg x = lb_dbuf_arg(c, l->kv_b.parts ? LB_DBUF_ATT : LB_DBUF_QKV);
    const lb_dproduct o = {&l->o, {.x = x}, *out, c->n, 0, p->n_embd};
    return lb_dproject(c, &o, 1, err);
}
