/* SPDX-License-Identifier: Apache-2.0 */
/* device_flash.c: attention by tensor cores where the device has them and keys and values are rows
 * of f16; all that is done to heads before it in one kernel. What does not fit goes on with
 * device_attention.c's and device_wide.c's kernels. */
#include "base/mem.h"
#include "model/device_layers.h"

#define SPLITS_MAX 64u /* of all tokens of a batch together */
#define UNITS 16u      /* of a device that does not say how many it has */

/* The kernel for heads of so many elements; false: there is none, or not on this device. */
static bool kernel_of(const lb_context *c, bool few, u32 k_dim, u32 v_dim, lb_dev_kernel *out) {
    static const struct {
        u32 dim;
        lb_dev_kernel kernel;
    } many[] = {{64, LB_DK_attend_mma_64},
                {96, LB_DK_attend_mma_96},
                {128, LB_DK_attend_mma_128},
                {192, LB_DK_attend_mma_192},
                {256, LB_DK_attend_mma_256}},
      one[] = {{64, LB_DK_attend_few_64},
               {128, LB_DK_attend_few_128},
               {192, LB_DK_attend_few_192},
               {256, LB_DK_attend_few_256}};
    const u32 dim = LB_MAX(k_dim, v_dim);
    if (!dim || k_dim % 8 || v_dim % 8)
        return false;
    for (u32 i = 0; i < (few ? LB_LEN(one) : LB_LEN(many)); i++)
        if (dim <= (few ? one[i].dim : many[i].dim)) {
            *out = few ? one[i].kernel : many[i].kernel;
            return lb_dev_has(c->device->r->d, *out);
        }
    return false;
}

static bool plain_f16(const lb_context *c, u32 layer) {
    const u32 of = c->m->p.layer[layer].kv_layer;
    return c->cache.type == LB_F16 && !c->cache.rotated && !c->cache.layer[of].v_in_k;
}

static bool attends(const lb_context *c, u32 layer) {
    const lb_mixer m = c->m->layer[layer].mixer;
    return m == LB_MIX_ATTENTION || m == LB_MIX_LATENT;
}

bool lb_device_few(const lb_context *c) {
    const lb_params *p = &c->m->p;
    lb_dev_kernel k;
    bool any = false;
    for (u32 i = 0; i < p->n_layers; i++) {
        const lb_cache_layer *l = &c->cache.layer[p->layer[i].kv_layer];
        if (!attends(c, i))
            continue;
        if (!plain_f16(c, i) || !kernel_of(c, true, l->k_bytes / 2, l->v_bytes / 2, &k) ||
            (u64)LB_DEV_FEW_TOKENS * p->layer[i].n_head > LB_DEV_FEW_COUNTERS)
            return false;
        any = true;
    }
    return any;
}

u64 lb_device_few_bytes(const lb_context *c) {
    const lb_params *p = &c->m->p;
    u64 most = 0;
    if (!lb_device_few(c))
        return 0;
    for (u32 i = 0; i < p->n_layers; i++)
        if (attends(c, i))
            most = LB_MAX(most, p->layer[i].n_head *
                                    (c->cache.layer[p->layer[i].kv_layer].v_bytes / 2 + 2ull));
    return 4 * (LB_DEV_FEW_COUNTERS + SPLITS_MAX * most);
}

lb_status lb_device_few_begin(const lb_context *c, lb_err *err) {
    lb_dcontext *d = c->device;
    d->few = lb_device_few(c);
    return d->few ? lb_dbuf_zero(c, LB_DBUF_FEW, 4ull * LB_DEV_FEW_COUNTERS, err) : LB_OK;
}

/* attend_few_* share out what a token sees, and threadgroups that get nothing still wait for a
 * whole multiprocessor: as many as are needed (docs/perf/LOG.md), by powers of two so that
 * recordings stay. */
void lb_device_few_splits(const lb_context *c) {
    lb_dcontext *d = c->device;
    u32 length = 1, n = 2;
    for (u32 t = 0; t < c->n; t++)
        length = LB_MAX(length, c->pos[t] + 1);
    while (n < SPLITS_MAX && n * LB_DEV_FEW_LEAST < length)
        n *= 2;
    const u32 units = lb_dev_info_get(d->r->d)->n_units;
    u32 layer = d->r->first;
    while (layer + 1 < d->r->end && !attends(c, layer))
        layer++;
    const u32 n_kv = LB_MAX(c->m->p.layer[layer].n_head_kv / d->r->n_ranks, 1u);
    const u32 most = LB_MIN(SPLITS_MAX / c->n, (units ? units : UNITS) / (n_kv * c->n));
    d->n_splits = LB_MAX(LB_MIN(n, most), 1u);
    d->split_rows = (u32)lb_ceil_div_u64((u64)d->n_table * LB_PAGE_ROWS, d->n_splits);
}

/* The kernel that attends to w and its values; false: there is none. */
static bool fits(const lb_context *c, const lb_dwide *w, lb_dev_kernel *k, lb_attend_args *a) {
    const lb_dcontext *d = c->device;
    const bool few = lb_dfew(c->n);
    *a = lb_device_attend_args(c, w);
    a->has_sinks = d->r->layer[w->layer].sinks.buf != NULL;
    return plain_f16(c, w->layer) && (!few || d->few) && kernel_of(c, few, w->k_dim, w->v_dim, k) &&
           w->stride % 4 == 0 && a->scale > 0 &&
           (a->k_off | a->v_off | a->k_bytes | a->v_bytes | a->page_bytes) % 16 == 0;
}

/* ---- before attention ---- */

enum { STORE_BUFS = 7 }; /* of rope_store */

/* Whether a norm is of each head by itself, by rms, or there is none. */
static bool by_head(const lb_context *c, const lb_dnorm *norm, u32 dim) {
    return !norm->n || (norm->n == dim && c->m->p.graph->norm != LB_NORM_LAYER);
}

static bool may_store(const lb_context *c, const lb_dready *r) {
    const lb_dcontext *d = c->device;
    const lb_dlayer *l = &d->r->layer[r->put.layer];
    return lb_dev_has(d->r->d, LB_DK_rope_store) && !lb_device_is_wide(c, r->put.layer) &&
           !d->temp && !(c->m->p.graph->flags & LB_GRAPH_V_NORM) &&
           by_head(c, &l->q_norm, r->put.k_dim) && by_head(c, &l->k_norm, r->put.k_dim);
}

/* Buffers and values of rope_store. */
static lb_rope_store_args store_args(const lb_context *c, const lb_dready *r,
                                     lb_dev_arg buf[STORE_BUFS]) {
    const lb_dcontext *d = c->device;
    const lb_dput *p = &r->put;
    const lb_dlayer *l = &d->r->layer[p->layer];
    const lb_layer *of = &c->m->layer[p->layer];
    const lb_kv_args kv = lb_device_kv_args(c, p);
    const u32 rope = r->n_rot ? of->rope : 0;
    buf[0] = (lb_dev_arg){d->buf[LB_DBUF_META], d->cos_at[rope]};
    buf[1] = (lb_dev_arg){d->buf[LB_DBUF_META], d->sin_at[rope]};
    buf[2] = l->q_norm.n ? l->q_norm.w : d->r->ones;
    buf[3] = l->k_norm.n ? l->k_norm.w : d->r->ones;
    buf[4] = lb_dmeta_arg(c, LB_DMETA_PLACE);
    buf[5] = p->x;
    buf[6] = lb_dbuf_arg(c, LB_DBUF_CACHE);
    return (lb_rope_store_args){.n_tokens = c->n,
                                .n_heads = r->n_head,
                                .n_heads_kv = p->n_head_kv,
                                .k_dim = p->k_dim,
                                .v_dim = p->v_dim,
                                .n_rot = r->n_rot,
                                .pairs = !of->halves,
                                .k_first = p->k,
                                .v_first = p->v,
                                .stride = p->stride,
                                LB_DEV_KV_PLACES(&kv),
                                .q_norm = l->q_norm.n != 0,
                                .k_norm = l->k_norm.n != 0,
                                .late = (c->m->p.graph->flags & LB_GRAPH_QK_NORM_LATE) != 0,
                                .q_w_stride = l->q_norm.n_heads > 1 ? l->q_norm.n : 0,
                                .k_w_stride = l->k_norm.n_heads > 1 ? l->k_norm.n : 0,
                                .eps = c->m->p.eps};
}

lb_status lb_device_rope_store(const lb_context *c, const lb_dready *r, bool *done, lb_err *err) {
    lb_dev_arg buf[STORE_BUFS];
    *done = may_store(c, r);
    if (!*done)
        return LB_OK;
    const lb_rope_store_args a = store_args(c, r, buf);
    LB_TRY(lb_dlaunch(c, LB_DK_rope_store, buf, &a, err));
    return lb_dbarrier(c, err);
}

bool lb_device_at_once(const lb_context *c, const lb_dready *r, const lb_dwide *w) {
    lb_dev_kernel k;
    lb_attend_args a;
    return c->n == 1 && may_store(c, r) && fits(c, w, &k, &a);
}

/* ---- attention ---- */

static lb_status attend_few(const lb_context *c, const lb_dwide *w, lb_dev_kernel k,
                            const lb_attend_args *at, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_dlayer *l = &r->layer[w->layer];
    lb_few_args a = {.at = *at};
    lb_dev_arg s[STORE_BUFS] = {r->zeros, r->zeros, r->zeros, r->zeros};
    if (w->ready)
        a.put = store_args(c, w->ready, s);
    const lb_dev_arg buf[] = {w->q,
                              s[0],
                              s[1],
                              s[2],
                              s[3],
                              lb_dmeta_arg(c, LB_DMETA_TABLE),
                              lb_dmeta_arg(c, LB_DMETA_TOKENS),
                              l->sinks.buf ? l->sinks : r->zeros,
                              lb_dbuf_arg(c, LB_DBUF_CACHE),
                              lb_dbuf_arg(c, LB_DBUF_FEW),
                              lb_dbuf_arg(c, LB_DBUF_ATT)};
    LB_TRY(lb_dlaunch(c, k, buf, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_flash(const lb_context *c, const lb_dwide *w, bool *done, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_dlayer *l = &r->layer[w->layer];
    lb_attend_args a;
    lb_dev_kernel k;
    *done = fits(c, w, &k, &a);
    if (!*done)
        return LB_OK;
    if (lb_dfew(c->n))
        return attend_few(c, w, k, &a, err);
    const lb_dev_arg buf[] = {w->q,
                              lb_dbuf_arg(c, LB_DBUF_CACHE),
                              lb_dmeta_arg(c, LB_DMETA_TABLE),
                              lb_dmeta_arg(c, LB_DMETA_TOKENS),
                              l->sinks.buf ? l->sinks : r->zeros,
                              lb_dbuf_arg(c, LB_DBUF_ATT)};
    LB_TRY(lb_dlaunch(c, k, buf, &a, err));
    return lb_dbarrier(c, err);
}
