/* SPDX-License-Identifier: Apache-2.0 */
/* device_forward.c: forward.c for a device: the same layers as kernels on a queue. A batch is
 * submitted whole; the host waits once, for the logits, and not where nobody wants any. */
#include "model/device_layers.h"
#include "model/device_parts.h"
#include "model/device_rows.h"
#include "model/device_tiles.h"

/* ---- launches ---- */

lb_dev_arg lb_dbuf_arg(const lb_context *c, lb_dbuf b) {
    return (lb_dev_arg){c->device->buf[b], 0};
}

lb_dev_arg lb_dmeta_arg(const lb_context *c, lb_dmeta m) {
    return (lb_dev_arg){c->device->buf[LB_DBUF_META], c->device->meta_at[m]};
}

lb_status lb_dlaunch(const lb_context *c, lb_dev_kernel k, const lb_dev_arg *bufs, const void *val,
                     lb_err *err) {
    lb_dev_launch l = {.kernel = k,
                       .n_bufs = (u32)strlen(lb_dev_kernel_signature(k)) - 1,
                       .val = val,
                       .val_bytes = lb_dev_kernel_val_bytes(k)};
    memcpy(l.buf, bufs, l.n_bufs * sizeof *bufs);
    return lb_dev_queue_launch(c->device->r->q, &l, err);
}

u32 lb_dmat_args(const lb_dmat *m, lb_dev_arg *bufs) {
    u32 n = 0;
    bufs[n++] = m->w;
    if (m->form != LB_DEV_BLOCKS)
        bufs[n++] = m->scales;
    if (m->form == LB_DEV_AFFINE)
        bufs[n++] = m->biases;
    return n;
}

lb_status lb_dbarrier(const lb_context *c, lb_err *err) {
    return lb_dev_queue_barrier(c->device->r->q, err);
}

/* ---- products ---- */

/* How many simdgroups share a row: so many that every unit has threadgroups and each thread still
 * has something to do. */
static void share_rows(const lb_context *c, lb_dev_kernel k, lb_mv_args *a) {
    const lb_dev_info *info = lb_dev_info_get(c->device->r->d);
    const u32 units = info->n_units ? info->n_units : 16, rows = 2;
    const u32 n_chunks = a->n_cols / lb_dev_kernel_chunk(k);
    a->simdgroups = info->tuning.simdgroups;
    a->split = 1;
    while (2 * a->split <= LB_MIN(a->simdgroups, n_chunks / 32) &&
           2 * (u64)a->n_rows * a->split * a->n_tokens < 3ull * units * a->simdgroups * rows)
        a->split *= 2;
}

/* Whether experts' products take their tokens by the plan. */
static bool by_plan(const lb_context *c) {
    const lb_dev *d = c->device->r->d;
    const u32 from = lb_dev_info_get(d)->tuning.mm_experts;
    return from && c->n >= from && lb_dev_has(d, LB_DK_routes_group);
}

u64 lb_device_plan_bytes(const lb_model *m, u32 n_routes) {
    const lb_group_args a = {.n_routes = n_routes, .n_mats = m->p.n_expert};
    lb_dev_shape s;
    lb_err none;
    if (!n_routes)
        return 0;
    return lb_dev_kernel_shape(LB_DK_routes_group, &a, &s, &none) == LB_OK ? s.need_bytes[1] : 0;
}

lb_status lb_dplan_experts(const lb_context *c, u32 used, lb_err *err) {
    const lb_group_args a = {.n_routes = c->n * used, .n_mats = c->m->p.n_expert};
    if (!by_plan(c))
        return LB_OK;
    LB_TRY(lb_dlaunch(c, LB_DK_routes_group,
                      (lb_dev_arg[]){lb_dbuf_arg(c, LB_DBUF_ROUTES), lb_dbuf_arg(c, LB_DBUF_PLAN)},
                      &a, err));
    return lb_dbarrier(c, err);
}

/* per: of experts, else 0 */
static lb_dev_use use_of(const lb_context *c, const lb_dproduct *p, const lb_dmat *m, u32 per,
                         bool planned) {
    const lb_dev *d = c->device->r->d;
    const lb_dev_tuning *t = &lb_dev_info_get(d)->tuning;
    const u32 from = lb_dev_tuning_mm(t, m->args.n_rows, m->args.n_cols);
    const bool mm = lb_dev_has(d, m->kernel[LB_DEV_MM]);
    if (per && !lb_dmat_by_rows(c, m, p->n) && planned && mm && by_plan(c))
        return LB_DEV_MM;
    if (per)
        return lb_dmat_has(c, m, LB_DEV_MTE) ? LB_DEV_MTE : LB_DEV_MVE;
    if (from && p->n >= from && mm && !p->in.pre && !p->out.sum)
        return LB_DEV_MM;
    return lb_dfew(p->n) && lb_dmat_has(c, m, LB_DEV_MT) ? LB_DEV_MT : LB_DEV_MV;
}

static lb_mv_args args_of(const lb_context *c, const lb_dproduct *p, const lb_dmat *m) {
    lb_mv_args a = m->args;
    a.n_tokens = p->n;
    a.y_stride = p->stride;
    a.pre = p->in.pre;
    a.x_stride = p->in.stride;
    a.second = p->in.second;
    a.act = p->out.act;
    a.gated = p->in.gated || p->out.gated;
    a.eps = c->m->p.eps;
    a.alpha = LB_OAI_ALPHA;
    a.limit = LB_OAI_LIMIT;
    a.add = p->out.sum;
    a.add_times = p->out.times;
    a.add_scale = p->out.scale;
    return a;
}

static lb_status run(const lb_context *c, const lb_drun *r, u32 per, lb_dev_arg routes,
                     lb_err *err) {
    const lb_dproduct *p = &r->p;
    const lb_dev_kernel k = r->m.kernel[r->use];
    lb_mv_args a = args_of(c, p, &r->m);
    lb_dev_arg buf[LB_DEV_BUFS_MAX];
    u32 n = lb_dmat_args(&r->m, buf);
    a.y_first = r->first;
    a.per = per;
    if (r->use == LB_DEV_MM) { /* of one matrix there is no plan, and none is read */
        a.n_mats = per ? a.n_mats : 0;
        buf[n++] = lb_dbuf_arg(c, LB_DBUF_PLAN);
    } else {
        /* what adds to the stream is followed by a barrier */
        a.per_x = per;
        if (r->use == LB_DEV_MT || r->use == LB_DEV_MTE)
            lb_dev_mt_share(lb_dev_info_get(c->device->r->d), k, p->out.sum && p->l->n_parts == 1,
                            &a);
        else
            share_rows(c, k, &a);
        if (per)
            buf[n++] = routes;
        if (!per || r->use == LB_DEV_MTE)
            buf[n++] = a.pre == LB_DEV_PRE_NORM ? p->in.w : c->device->r->zeros;
    }
    buf[n++] = p->in.x;
    buf[n++] = p->out.y;
    if (r->use == LB_DEV_MT)
        buf[n++] = lb_dbuf_arg(c, LB_DBUF_JOIN);
    return lb_dlaunch(c, k, buf, &a, err);
}

/* Rows that lie and go behind one another are one launch. */
static lb_status products(const lb_context *c, const lb_dproduct *p, u32 n, u32 per,
                          lb_dev_arg routes, lb_err *err) {
    const bool planned = routes.buf == c->device->buf[LB_DBUF_ROUTES]; /* the plan is of these */
    lb_drun last = {0};
    bool any = false;
    for (u32 i = 0; i < n; i++) {
        u32 first = p[i].first;
        for (u32 k = 0; k < p[i].l->n_parts; k++) {
            const lb_dmat *m = &p[i].l->parts[k];
            const lb_drun next = {p[i], *m, use_of(c, &p[i], m, per, planned), first};
            first += m->args.n_rows;
            if (any && lb_drun_join(&last, &next))
                continue;
            if (any)
                LB_TRY(run(c, &last, per, routes, err));
            last = next;
            any = true;
        }
    }
    return any ? run(c, &last, per, routes, err) : LB_OK;
}

bool lb_dmat_is_few(const lb_context *c, const lb_dproduct *p, const lb_dmat *m, u32 per) {
    lb_dev_shape shape;
    lb_err why;
    const lb_dev_use use = use_of(c, p, m, per, true);
    if (use != LB_DEV_MT && use != LB_DEV_MTE)
        return false;
    lb_mv_args a = args_of(c, p, m);
    a.per_x = per;
    lb_dev_mt_share(lb_dev_info_get(c->device->r->d), m->kernel[use], false, &a);
    return lb_dev_kernel_shape(m->kernel[use], &a, &shape, &why) == LB_OK;
}

static lb_status add_bias(const lb_context *c, const lb_dproduct *p, bool experts,
                          lb_dev_arg routes, lb_err *err) {
    const lb_dlinear *l = p->l;
    if (experts) {
        const lb_experts_args a = {.n_tokens = p->n,
                                   .n_cols = l->n_rows,
                                   .n_mats = l->n_mats,
                                   .first = p->first,
                                   .stride = p->stride};
        const lb_dev_arg buf[] = {l->bias, routes, p->out.y};
        return lb_dlaunch(c, LB_DK_bias_experts, buf, &a, err);
    }
    const lb_vec_args a = {
        .n_rows = p->n, .n_cols = l->n_rows, .first = p->first, .stride = p->stride};
    return lb_dlaunch(c, LB_DK_bias_add, (lb_dev_arg[]){l->bias, p->out.y}, &a, err);
}

lb_status lb_dproject_routed(const lb_context *c, const lb_dproduct *p, u32 n, u32 per,
                             lb_dev_arg routes, lb_err *err) {
    bool biased = false;
    for (u32 i = 0; i < n && per; i++)
        LB_TRY(lb_dsums_add(c, &p[i], per, routes, err));
    LB_TRY(products(c, p, n, per, routes, err));
    for (u32 i = 0; i < n; i++)
        biased |= p[i].l->bias.buf != NULL;
    LB_TRY(lb_dbarrier(c, err));
    for (u32 i = 0; i < n && biased; i++)
        if (p[i].l->bias.buf)
            LB_TRY(add_bias(c, &p[i], per != 0, routes, err));
    return biased ? lb_dbarrier(c, err) : LB_OK;
}

lb_status lb_dadd_bias(const lb_context *c, const lb_dproduct *p, lb_err *err) {
    return p->l->bias.buf ? add_bias(c, p, false, (lb_dev_arg){NULL, 0}, err) : LB_OK;
}

lb_status lb_dproject_plain(const lb_context *c, const lb_dproduct *p, u32 n_products,
                            lb_err *err) {
    return lb_dproject_routed(c, p, n_products, 0, (lb_dev_arg){NULL, 0}, err);
}

lb_status lb_dproject(const lb_context *c, const lb_dproduct *p, u32 n_products, lb_err *err) {
    for (u32 i = 0; i < n_products; i++)
        LB_TRY(lb_dsums_add(c, &p[i], 0, (lb_dev_arg){NULL, 0}, err));
    return (lb_dtiled(c, p->n) ? lb_dproject_tiled : lb_dproject_plain)(c, p, n_products, err);
}

lb_status lb_dproject_experts(const lb_context *c, const lb_dproduct *p, u32 n_products, u32 per,
                              lb_err *err) {
    return lb_dproject_routed(c, p, n_products, per, lb_dbuf_arg(c, LB_DBUF_ROUTES), err);
}

/* ---- norms and the residual stream ---- */

lb_status lb_dnorm_heads(const lb_context *c, const lb_dnorm *norm, const lb_dheads *h,
                         lb_err *err) {
    const bool layer = c->m->p.graph->norm == LB_NORM_LAYER, whole = norm->n != h->dim;
    const lb_heads_args a = {.n_tokens = h->n,
                             .n_heads = whole ? 1 : h->n_heads,
                             .n_cols = norm->n,
                             .first = h->first,
                             .stride = h->stride,
                             .w_stride = norm->n_heads > 1 ? norm->n : 0,
                             .eps = norm->eps};
    return layer ? lb_dlaunch(c, LB_DK_layer_norm_heads, (lb_dev_arg[]){norm->w, norm->b, h->x}, &a,
                              err)
                 : lb_dlaunch(c, LB_DK_rms_norm_heads, (lb_dev_arg[]){norm->w, h->x}, &a, err);
}

/* to = norm(from), n rows */
lb_status lb_dnorm_rows(const lb_context *c, const lb_dnorm *norm, lb_dev_arg from, lb_dev_arg to,
                        u32 n, lb_err *err) {
    const lb_row_args a = {n, c->m->p.n_embd, c->m->p.eps};
    if (c->m->p.graph->norm == LB_NORM_LAYER)
        LB_TRY(
            lb_dlaunch(c, LB_DK_layer_norm, (lb_dev_arg[]){from, norm->w, norm->b, to}, &a, err));
    else
        LB_TRY(lb_dlaunch(c, LB_DK_rms_norm, (lb_dev_arg[]){from, norm->w, to}, &a, err));
    return lb_dbarrier(c, err);
}

/* The same in place; n 0: no such norm. */
lb_status lb_dnorm_self(const lb_context *c, const lb_dnorm *norm, lb_dbuf b, lb_err *err) {
    const u32 e = c->m->p.n_embd;
    if (!norm->n)
        return LB_OK;
    LB_TRY(lb_dnorm_heads(c, norm, &(lb_dheads){lb_dbuf_arg(c, b), c->n, 1, e, 0, e}, err));
    return lb_dbarrier(c, err);
}

/* x = (x + times y) scale */
lb_status lb_dadd(const lb_context *c, lb_dbuf x, lb_dbuf y, float times, float scale,
                  lb_err *err) {
    const u32 e = c->m->p.n_embd;
    const lb_vec_args a = {
        .n_rows = c->n, .n_cols = e, .stride = e, .times = times, .scale = scale};
    LB_TRY(lb_dlaunch(c, LB_DK_residual, (lb_dev_arg[]){lb_dbuf_arg(c, y), lb_dbuf_arg(c, x)}, &a,
                      err));
    return lb_dbarrier(c, err);
}

/* What reads n rows of x through a norm: products do it themselves where they can. */
lb_status lb_dnormed(const lb_context *c, const lb_dnorm *norm, lb_dev_arg x, u32 n, bool plain,
                     lb_dinput *in, lb_err *err) {
    *in = (lb_dinput){.x = x};
    if (!norm->n)
        return LB_OK;
    if (plain && !c->o.sums && (lb_dfew(n) || lb_dtiled(c, n)) &&
        c->m->p.graph->norm != LB_NORM_LAYER && norm->n == c->m->p.n_embd) {
        in->pre = LB_DEV_PRE_NORM;
        in->w = norm->w;
        return LB_OK;
    }
    in->x = lb_dbuf_arg(c, LB_DBUF_H);
    return lb_dnorm_rows(c, norm, x, in->x, n, err);
}

/* ---- the parts ---- */

lb_status lb_drows(const lb_context *c, const lb_dmat *m, lb_dev_arg ids, lb_dev_arg out,
                   lb_err *err) {
    const lb_rows_args a = {.n_rows = m->args.n_rows,
                            .n_cols = m->args.n_cols,
                            .n_tokens = c->n,
                            .group_elems = m->args.group_elems,
                            .scale_type = m->args.scale_type,
                            .scale_rows = m->args.scale_rows};
    lb_dev_arg buf[LB_DEV_BUFS_MAX];
    const u32 n = lb_dmat_args(m, buf);
    buf[n] = ids;
    buf[n + 1] = out;
    return lb_dlaunch(c, m->kernel[LB_DEV_ROWS], buf, &a, err);
}

static lb_status scale(const lb_context *c, lb_dbuf b, u32 n_rows, u32 n_cols, float times,
                       lb_err *err) {
    const lb_vec_args a = {.n_rows = n_rows, .n_cols = n_cols, .stride = n_cols, .times = times};
    if (times >= 1 && times <= 1)
        return LB_OK;
    LB_TRY(lb_dlaunch(c, LB_DK_scale, (lb_dev_arg[]){lb_dbuf_arg(c, b)}, &a, err));
    return lb_dbarrier(c, err);
}

static lb_status embed(const lb_context *c, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_model *m = c->m;
    LB_TRY(lb_drows(c, &r->embd, lb_dmeta_arg(c, LB_DMETA_IDS), lb_dbuf_arg(c, LB_DBUF_X), err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(scale(c, LB_DBUF_X, c->n, m->p.n_embd, m->p.embd_scale * r->embd.args.times, err));
    if (m->positions) {
        LB_TRY(lb_drows(c, &r->positions, lb_dmeta_arg(c, LB_DMETA_POS), lb_dbuf_arg(c, LB_DBUF_Y),
                        err));
        LB_TRY(lb_dbarrier(c, err));
        LB_TRY(lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, r->positions.args.times, 1, err));
    }
    LB_TRY(lb_dnorm_self(c, &r->embd_norm, LB_DBUF_X, err));
    return m->layer_embd ? lb_device_inputs(c, err) : LB_OK;
}

typedef lb_status mixer(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                        lb_err *err);

static lb_status run_layer(lb_context *c, u32 i, lb_err *err) {
    static mixer *const mixers[] = {[LB_MIX_ATTENTION] = lb_device_attention,
                                    [LB_MIX_LATENT] = lb_device_latent,
                                    [LB_MIX_DELTA] = lb_device_delta,
                                    [LB_MIX_CONV] = lb_device_conv};
    const lb_layer *l = &c->m->layer[i];
    const lb_dlayer *d = &c->device->r->layer[i];
    mixer *const mix = mixers[l->mixer];
    const bool attends = l->mixer == LB_MIX_ATTENTION || l->mixer == LB_MIX_LATENT;
    const lb_dlinear *o = attends ? &d->o : &d->out;
    const bool biased = o->bias.buf != NULL;
    const float times = c->m->p.residual_scale, last = l->scale ? *l->scale : 1;
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_X);
    const lb_doutput y = {.y = lb_dbuf_arg(c, LB_DBUF_Y)}, h2 = {.y = lb_dbuf_arg(c, LB_DBUF_H2)};
    const bool plain = lb_device_ffn_is_plain(d), few = lb_dfew(c->n);
    lb_dinput in;
    LB_TRY(lb_dnormed(c, &d->attn_norm, x, c->n, !l->parallel || plain, &in, err));
    if (l->parallel) {
        LB_TRY(mix(c, i, &in, &y, err));
        LB_TRY(lb_device_ffn(c, i, &in, &h2, err));
        LB_TRY(lb_dnorm_self(c, &d->attn_post_norm, LB_DBUF_Y, err));
        LB_TRY(lb_dadd(c, LB_DBUF_Y, LB_DBUF_H2, 1, 1, err));
        return lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, times, last, err);
    }
    const lb_doutput first = {.y = x, .sum = true, .times = times, .scale = 1},
                     second = {.y = x, .sum = true, .times = times, .scale = last};
    if ((few || lb_dlinear_tiled(c, o, c->n)) && !d->attn_post_norm.n && !biased) {
        LB_TRY(mix(c, i, &in, &first, err));
    } else {
        LB_TRY(mix(c, i, &in, &y, err));
        LB_TRY(lb_dnorm_self(c, &d->attn_post_norm, LB_DBUF_Y, err));
        LB_TRY(lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, times, 1, err));
    }
    LB_TRY(lb_dnormed(c, &d->ffn_norm, x, c->n, lb_device_ffn_norms(c, d), &in, err));
    const bool adds = plain ? (few || lb_dlinear_tiled(c, &d->down, c->n)) && !d->down.bias.buf
                            : lb_device_ffn_adds(d);
    if (adds && !d->ffn_post_norm.n && !d->in_gate.parts)
        return lb_device_ffn(c, i, &in, &second, err);
    LB_TRY(lb_device_ffn(c, i, &in, &y, err));
    LB_TRY(lb_dnorm_self(c, &d->ffn_post_norm, LB_DBUF_Y, err));
    if (!d->in_gate.parts)
        return lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, times, last, err);
    LB_TRY(lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, times, 1, err));
    LB_TRY(lb_device_input(c, i, err));
    LB_TRY(lb_dnorm_self(c, &d->in_norm, LB_DBUF_Y, err));
    return lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, times, last, err);
}

/* Logits of the wanted tokens [first, first + n), to LB_DBUF_LOGITS. */
static lb_status head(const lb_context *c, u32 first, u32 n, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_params *p = &c->m->p;
    const lb_rows_args gather = {.n_rows = c->n, .n_cols = p->n_embd, .n_tokens = n};
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_X), h2 = lb_dbuf_arg(c, LB_DBUF_H2);
    lb_dev_arg want = lb_dmeta_arg(c, LB_DMETA_WANT);
    lb_dinput in;
    want.off_bytes += 4ull * first;
    LB_TRY(lb_dlaunch(c, LB_DK_rows_f32, (lb_dev_arg[]){x, want, h2}, &gather, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dnormed(c, &r->output_norm, h2, n, true, &in, err));
    LB_TRY(lb_dproject(c,
                       &(lb_dproduct){.l = &r->output,
                                      .in = in,
                                      .out.y = lb_dbuf_arg(c, LB_DBUF_LOGITS),
                                      .n = n,
                                      .stride = p->n_vocab},
                       1, err));
    LB_TRY(scale(c, LB_DBUF_LOGITS, n, p->n_vocab, p->logit_scale, err));
    if (p->final_softcap != 0) {
        const lb_vec_args a = {
            .n_rows = n, .n_cols = p->n_vocab, .stride = p->n_vocab, .scale = p->final_softcap};
        LB_TRY(
            lb_dlaunch(c, LB_DK_softcap, (lb_dev_arg[]){lb_dbuf_arg(c, LB_DBUF_LOGITS)}, &a, err));
    }
    return LB_OK;
}

lb_status lb_device_first(lb_context *c, lb_err *err) {
    return c->device->r->embeds ? embed(c, err) : LB_OK;
}

lb_status lb_device_last(lb_context *c, lb_err *err) {
    const lb_dcontext *d = c->device;
    return d->r->ends && d->n_want ? head(c, 0, LB_MIN(d->n_logits, d->n_want), err) : LB_OK;
}

lb_status lb_device_run_layers(lb_context *c, u32 first, u32 end, lb_err *err) {
    for (u32 i = first; i < end; i++)
        LB_TRY(run_layer(c, i, err));
    return LB_OK;
}

/* What the device of a part does between copies. */
static lb_status part(lb_context *c, lb_err *err) {
    const lb_resident *r = c->device->r;
    LB_TRY(lb_device_first(c, err));
    LB_TRY(lb_device_run_layers(c, r->first, r->end, err));
    return lb_device_last(c, err);
}

lb_status lb_device_launches(lb_context *c, lb_err *err) {
    const lb_dcontext *d = c->device;
    LB_TRY(c->parts->group ? lb_device_rank_steps(c, err) : part(c, err));
    for (u32 first = d->n_logits; d->r->ends && first < d->n_want; first += d->n_logits)
        LB_TRY(head(c, first, LB_MIN(d->n_logits, d->n_want - first), err));
    return LB_OK;
}

/* Through pinned memory where that is faster; of more than one row at once. */
lb_status lb_device_read_logits(const lb_context *c, float *logits, lb_err *err) {
    const lb_dcontext *d = c->device;
    const u64 row = 4ull * c->m->p.n_vocab;
    if (c->firsts)
        return d->n_want ? lb_device_top(c, err) : LB_OK;
    for (u32 first = 0; first < d->n_want; first += d->n_logits) {
        const u32 n = LB_MIN(d->n_logits, d->n_want - first);
        void *to =
            d->logits && d->n_want == 1 ? lb_dev_buf_host(d->logits) : (u8 *)logits + first * row;
        if (first)
            LB_TRY(head(c, first, n, err));
        LB_TRY(lb_dev_queue_read(d->r->q, to, d->buf[LB_DBUF_LOGITS], 0, n * row, err));
    }
    return LB_OK;
}

static lb_status submit(lb_context *c, float *logits, const u8 *want, lb_err *err) {
    LB_TRY(lb_device_put_batch(c, want, err));
    LB_TRY(lb_device_try(c, err));
    if (!c->device->r->embeds)
        LB_TRY(lb_device_take_host(c, err));
    LB_TRY(c->parts->group ? lb_device_ranks(c, err) : lb_device_replay(c, part, err));
    while (!c->device->r->ends) {
        LB_TRY(lb_device_hand_on(c, err));
        LB_TRY(lb_device_replay(c, part, err));
    }
    return lb_device_read_logits(c, logits, err);
}

void lb_device_take_row(const lb_dcontext *d, u32 n_vocab, float *logits) {
    const float *row = d->logits && d->n_want == 1 ? lb_dev_buf_host(d->logits) : logits;
    if (row != logits)
        memcpy(logits, row, 4ull * n_vocab);
}

float *lb_device_row(const lb_context *c) {
    const lb_dcontext *d = c->parts;
    while (d && !d->logits)
        d = d->next;
    return d ? lb_dev_buf_host(d->logits) : NULL;
}

lb_status lb_device_forward(lb_context *c, float *logits, const u8 *want, lb_err *err) {
    lb_dcontext *first = c->parts;
    lb_err ignored;
    const bool flies = lb_device_may_fly(c, want);
    first->flies = flies;
    lb_status st = submit(c, logits, want, err);
    first->flies = false;
    if (st == LB_OK && flies) {
        first->n_flying++;
        c->device = first;
        return LB_OK;
    }
    if (st != LB_OK) {
        (void)lb_device_settle(c, &ignored); /* what was submitted writes logits */
        return st;
    }
    const lb_dcontext *last = c->device;
    st = lb_device_settle(c, err);
    if (st == LB_OK && !c->firsts)
        lb_device_take_row(last, c->m->p.n_vocab, logits);
    return st;
}
