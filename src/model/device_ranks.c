/* SPDX-License-Identifier: Apache-2.0 */
/* device_ranks.c: layers that several devices share: each has some heads and some columns of the
 * feed-forward, and all of the residual stream, which grows by the sum of what they come to. */
#include "base/mem.h"
#include "model/device_layers.h"
#include "model/device_parts.h"

/* Buffer b of every rank. */
static void list(const lb_context *c, lb_dbuf b, lb_dev_arg *out) {
    for (const lb_dcontext *d = c->parts; d; d = d->next)
        *out++ = (lb_dev_arg){d->buf[b], 0};
}

static lb_status sum(const lb_context *c, lb_dbuf b, lb_err *err) {
    lb_dev_arg buf[LB_DEV_GROUP_MAX];
    list(c, b, buf);
    return lb_dev_group_sum(c->parts->group, buf, (u64)c->n * c->m->p.n_embd, err);
}

static lb_status mix(lb_context *c, u32 i, lb_err *err) {
    const lb_dlayer *d = &c->device->r->layer[i];
    const lb_doutput y = {.y = lb_dbuf_arg(c, LB_DBUF_Y)}, h2 = {.y = lb_dbuf_arg(c, LB_DBUF_H2)};
    lb_dinput in;
    LB_TRY(lb_dnormed(c, &d->attn_norm, lb_dbuf_arg(c, LB_DBUF_X), c->n, true, &in, err));
    LB_TRY(lb_device_attention(c, i, &in, &y, err));
    return c->m->layer[i].parallel ? lb_device_ffn(c, i, &in, &h2, err) : LB_OK;
}

static lb_status after_mix(lb_context *c, u32 i, lb_err *err) {
    const lb_layer *l = &c->m->layer[i];
    const float last = l->parallel && l->scale ? *l->scale : 1;
    LB_TRY(lb_dnorm_self(c, &c->device->r->layer[i].attn_post_norm, LB_DBUF_Y, err));
    if (l->parallel)
        LB_TRY(lb_dadd(c, LB_DBUF_Y, LB_DBUF_H2, 1, 1, err));
    return lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, c->m->p.residual_scale, last, err);
}

static lb_status feed(lb_context *c, u32 i, lb_err *err) {
    const lb_dlayer *d = &c->device->r->layer[i];
    const lb_doutput y = {.y = lb_dbuf_arg(c, LB_DBUF_Y)};
    lb_dinput in;
    LB_TRY(lb_dnormed(c, &d->ffn_norm, lb_dbuf_arg(c, LB_DBUF_X), c->n, true, &in, err));
    return lb_device_ffn(c, i, &in, &y, err);
}

static lb_status after_feed(lb_context *c, u32 i, lb_err *err) {
    const lb_layer *l = &c->m->layer[i];
    LB_TRY(lb_dnorm_self(c, &c->device->r->layer[i].ffn_post_norm, LB_DBUF_Y, err));
    return lb_dadd(c, LB_DBUF_X, LB_DBUF_Y, c->m->p.residual_scale, l->scale ? *l->scale : 1, err);
}

/* Between two sums: 0 before the first layer, then two for each, 2 n + 1 behind the last one. What
 * follows a sum is launched with what the next one needs. */
static lb_status step(lb_context *c, u32 at, lb_err *err) {
    const lb_resident *r = c->device->r;
    const u32 n = r->end - r->first, i = r->first + (at - 1) / 2;
    if (at == 0)
        return lb_device_first(c, err);
    if (at % 2 == 0) {
        LB_TRY(after_mix(c, i, err));
        return c->m->layer[i].parallel ? LB_OK : feed(c, i, err);
    }
    if (at > 1 && !c->m->layer[i - 1].parallel)
        LB_TRY(after_feed(c, i - 1, err));
    return at == 2 * n + 1 ? lb_device_last(c, err) : mix(c, i, err);
}

static lb_status each(lb_context *c, u32 at, bool again, lb_err *err) {
    for (lb_dcontext *d = c->parts; d; d = d->next) {
        c->device = d;
        LB_TRY(lb_device_replay_step(c, step, at, again, err));
    }
    c->device = c->parts;
    return LB_OK;
}

lb_status lb_device_rank_steps(lb_context *c, lb_err *err) {
    const lb_resident *r = c->device->r;
    for (u32 at = 0; at <= 2 * (r->end - r->first) + 1; at++)
        LB_TRY(step(c, at, err));
    return LB_OK;
}

lb_status lb_device_group(lb_context *c, lb_err *err) {
    lb_dev_queue *queue[LB_DEV_GROUP_MAX];
    u32 n = 0;
    for (lb_dcontext *d = c->parts; d; d = d->next) {
        queue[n++] = d->r->q;
        d->n_steps = 2 * (d->r->end - d->r->first) + 2;
        d->step = lb_alloc_zero(d->n_steps, sizeof *d->step);
        if (!d->step)
            return lb_fail(err, LB_E_NOMEM, "out of memory for a session on several devices");
    }
    return lb_dev_group_new(&c->parts->group, queue, n, (u64)c->o.n_batch * c->m->p.n_embd, err);
}

lb_status lb_device_ranks(lb_context *c, lb_err *err) {
    const lb_resident *r = c->parts->r;
    const bool again = lb_device_seen(c);
    const u32 n = r->end - r->first;
    lb_dev_arg buf[LB_DEV_GROUP_MAX];
    list(c, LB_DBUF_X, buf);
    LB_TRY(each(c, 0, again, err));
    LB_TRY(lb_dev_group_share(c->parts->group, buf, (u64)c->n * c->m->p.n_embd, err));
    for (u32 at = 1; at <= 2 * n; at++) {
        const bool parallel = c->m->layer[r->first + (at - 1) / 2].parallel;
        LB_TRY(each(c, at, again, err));
        if (at % 2 || !parallel)
            LB_TRY(sum(c, LB_DBUF_Y, err));
        if (at % 2 && parallel)
            LB_TRY(sum(c, LB_DBUF_H2, err));
    }
    return each(c, 2 * n + 1, again, err);
}

/* ---- what cannot be shared ---- */

/* In what whole parts columns of the feed-forward can be given away. */
u64 lb_ff_unit(const lb_layer *l) {
    u64 unit = 1;
    const lb_mweight *down = l->down.w, *rows[] = {l->gate.w, l->up.w};
    for (u32 i = 0; down && i < down->n_mats; i++)
        unit = LB_MAX(unit, lb_mat_col_unit(&down->mats[i]));
    for (u32 k = 0; k < LB_LEN(rows); k++)
        for (u32 i = 0; rows[k] && i < rows[k]->n_mats; i++)
            unit = LB_MAX(unit, lb_mat_row_unit(&rows[k]->mats[i]));
    return unit; /* powers of two, or the whole */
}

static bool rows_part(const lb_mweight *w, u64 unit) {
    for (u32 i = 0; w && i < w->n_mats; i++)
        if (unit % lb_mat_row_unit(&w->mats[i]) || w->mats[i].n_rows % lb_mat_row_unit(&w->mats[i]))
            return false;
    return true;
}

static const char *layer_lacks(const lb_model *m, u32 i, u32 n_ranks) {
    const lb_layer *l = &m->layer[i];
    const lb_layer_params *p = &m->p.layer[i];
    const u64 unit = lb_ff_unit(l);
    if (l->mixer != LB_MIX_ATTENTION || m->p.graph->flags & LB_GRAPH_Q_GATE || m->p.kv_rank)
        return "another mixer than plain attention";
    if (l->up_exps.w || m->layer_embd)
        return l->up_exps.w ? "experts" : "inputs of its own";
    if (p->n_head % n_ranks || p->n_head_kv % n_ranks)
        return "heads of queries or keys that these devices cannot share evenly";
    if ((l->q_norm.n && (l->q_norm.n != p->k_dim || l->q_norm.n_heads > 1)) ||
        (l->k_norm.n && (l->k_norm.n != p->k_dim || l->k_norm.n_heads > 1)))
        return "a norm over all heads together";
    for (u32 k = 0; l->o.w && k < l->o.w->n_mats; k++)
        if ((u64)p->n_head / n_ranks * p->v_dim % lb_mat_col_unit(&l->o.w->mats[k]))
            return "heads that end within blocks of the output's type";
    if (l->down.w->n_cols % unit || l->down.w->n_cols / unit < n_ranks)
        return "a feed-forward of too few blocks";
    if (!rows_part(l->qkv.w, p->k_dim) || !rows_part(l->q.w, p->k_dim) ||
        !rows_part(l->k.w, p->k_dim) || !rows_part(l->v.w, p->v_dim))
        return "heads that end within blocks of scales";
    return NULL;
}

lb_status lb_ranks_check(const lb_model *m, u32 first, u32 n_ranks, lb_err *err) {
    for (u32 i = first; i < m->p.n_layers; i++) {
        const char *what = layer_lacks(m, i, n_ranks);
        if (what)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "--split-mode row: layer %u has %s (%u devices): use --split-mode layer",
                           i, what, n_ranks);
    }
    return LB_OK;
}
