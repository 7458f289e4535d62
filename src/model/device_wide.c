/* SPDX-License-Identifier: Apache-2.0 */
/* device_wide.c: the cache in every type that it has, heads whose values are in their keys, rotated
 * rows: what device_attention.c's plain kernels do not take. */
#include "model/device_layers.h"
#include <math.h>

#define TOGETHER_MAX 8u /* queries of a threadgroup */

u32 lb_device_kv_type(const lb_context *c) {
    return c->cache.type == LB_F32    ? LB_DEV_F32
           : c->cache.type == LB_F16  ? LB_DEV_F16
           : c->cache.type == LB_Q8_0 ? LB_DEV_Q8_0
                                      : LB_DEV_Q4_0;
}

bool lb_device_is_wide(const lb_context *c, u32 layer) {
    const u32 of = c->m->p.layer[layer].kv_layer;
    const bool plain = c->cache.type == LB_F32 || c->cache.type == LB_F16;
    return !plain || c->cache.rotated || c->cache.layer[of].v_in_k;
}

/* Every `mix` of n values at first of each row; 0: nothing is mixed. */
static lb_status mix_rows(const lb_context *c, lb_dev_arg x, u32 mix, u32 first, u32 n, u32 stride,
                          lb_err *err) {
    const lb_mix_args a = {.n_rows = c->n,
                           .n_cols = n,
                           .first = first,
                           .stride = stride,
                           .mix = mix,
                           .scale = mix ? 1.0f / sqrtf((float)mix) : 1};
    if (!mix)
        return LB_OK;
    return lb_dlaunch(c, LB_DK_mix_rows, &x, &a, err);
}

lb_kv_args lb_device_kv_args(const lb_context *c, const lb_dput *p) {
    const lb_cache_layer *cl = &c->cache.layer[p->layer];
    return (lb_kv_args){.n_tokens = c->n,
                        .n_heads = p->n_head_kv,
                        .k_dim = p->k_dim,
                        .v_dim = p->v_dim,
                        .k_first = p->k,
                        .v_first = p->v,
                        .stride = p->stride,
                        .k_off = (u32)((cl->k_off - c->device->kv_off) / c->device->r->n_ranks),
                        .v_off = (u32)((cl->v_off - c->device->kv_off) / c->device->r->n_ranks),
                        .k_bytes = cl->k_bytes,
                        .v_bytes = cl->v_bytes,
                        .page_bytes = (u32)c->device->page_bytes,
                        .n_pages = c->cache.n_pages_max,
                        .type = lb_device_kv_type(c)};
}

lb_attend_args lb_device_attend_args(const lb_context *c, const lb_dwide *w) {
    const lb_dcontext *d = c->device;
    const lb_params *p = &c->m->p;
    const lb_kv_args kv = lb_device_kv_args(c, &(lb_dput){.layer = p->layer[w->layer].kv_layer});
    return (lb_attend_args){.n_tokens = c->n,
                            .n_heads = w->n_head,
                            .n_heads_kv = w->n_head_kv,
                            .k_dim = w->k_dim,
                            .v_dim = w->v_dim,
                            .stride = w->stride,
                            LB_DEV_KV_PLACES(&kv),
                            .n_seqs = c->o.n_seqs,
                            .n_table = d->n_table,
                            .window = p->layer[w->layer].window ? p->window : 0,
                            .split_rows = d->n_splits ? d->split_rows : d->n_table * LB_PAGE_ROWS,
                            .n_splits = LB_MAX(d->n_splits, 1u),
                            .scale = p->attn_scale,
                            .softcap = p->attn_softcap};
}

lb_status lb_device_join_splits(const lb_context *c, const lb_dwide *w, lb_err *err) {
    const lb_dcontext *d = c->device;
    const lb_dev_arg sinks = d->r->layer[w->layer].sinks;
    const lb_join_args a = {c->n, w->n_head, w->v_dim, LB_MAX(d->n_splits, 1u), sinks.buf != NULL};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_PART), sinks.buf ? sinks : d->r->zeros,
                              lb_dbuf_arg(c, LB_DBUF_ATT)};
    LB_TRY(lb_dlaunch(c, LB_DK_attend_join, buf, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_put(const lb_context *c, const lb_dput *p, lb_err *err) {
    const lb_cache_layer *cl = &c->cache.layer[p->layer];
    const lb_kv_args a = lb_device_kv_args(c, p);
    const lb_dev_arg buf[] = {p->x, lb_dmeta_arg(c, LB_DMETA_PLACE), lb_dbuf_arg(c, LB_DBUF_CACHE)};
    LB_TRY(mix_rows(c, p->x, cl->k_mix, p->k, p->n_head_kv * p->k_dim, p->stride, err));
    if (p->v_dim) /* beside the keys */
        LB_TRY(mix_rows(c, p->x, cl->v_mix, p->v, p->n_head_kv * p->v_dim, p->stride, err));
    if (cl->k_mix)
        LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_kv_put, buf, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_take(const lb_context *c, const lb_dput *p, lb_err *err) {
    const lb_cache_layer *cl = &c->cache.layer[p->layer];
    const lb_kv_args a = lb_device_kv_args(c, p);
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_CACHE), lb_dmeta_arg(c, LB_DMETA_IDS), p->x};
    LB_TRY(lb_dlaunch(c, LB_DK_kv_take, buf, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(mix_rows(c, p->x, cl->k_mix, p->k, p->n_head_kv * p->k_dim, p->stride, err));
    return cl->k_mix ? lb_dbarrier(c, err) : LB_OK;
}

/* As many as there are, at most; a power of two. */
static u32 together(u64 n_queries) {
    u32 n = 1;
    while (n < TOGETHER_MAX && n < n_queries)
        n *= 2;
    return n;
}

lb_status lb_device_wide(const lb_context *c, const lb_dwide *w, lb_err *err) {
    const lb_cache_layer *cl = &c->cache.layer[c->m->p.layer[w->layer].kv_layer];
    const u32 n_out = w->n_head * w->v_dim;
    bool done = false;
    LB_TRY(lb_device_flash(c, w, &done, err));
    if (done)
        return LB_OK;
    const lb_attend_args p = lb_device_attend_args(c, w);
    const lb_wide_args a = {.n_tokens = p.n_tokens,
                            .n_heads = p.n_heads,
                            .n_heads_kv = p.n_heads_kv,
                            .k_dim = p.k_dim,
                            .v_dim = p.v_dim,
                            .stride = p.stride,
                            LB_DEV_KV_PLACES(&p),
                            .n_seqs = p.n_seqs,
                            .n_table = p.n_table,
                            .window = p.window,
                            .split_rows = p.split_rows,
                            .n_splits = p.n_splits,
                            .n_together = together((u64)c->n * (w->n_head / w->n_head_kv)),
                            .scale = p.scale,
                            .softcap = p.softcap};
    const lb_dev_arg out = lb_dbuf_arg(c, LB_DBUF_ATT);
    const lb_dev_arg buf[] = {w->q, lb_dbuf_arg(c, LB_DBUF_CACHE), lb_dmeta_arg(c, LB_DMETA_TABLE),
                              lb_dmeta_arg(c, LB_DMETA_TOKENS), lb_dbuf_arg(c, LB_DBUF_PART)};
    LB_TRY(mix_rows(c, w->q, cl->k_mix, 0, w->n_head * w->k_dim, w->stride, err));
    if (cl->k_mix)
        LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_attend_wide, buf, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_device_join_splits(c, w, err));
    LB_TRY(mix_rows(c, out, cl->v_mix, 0, n_out, n_out, err));
    return cl->v_mix ? lb_dbarrier(c, err) : LB_OK;
}
