/* SPDX-License-Identifier: Apache-2.0 */
/* device_ffn.c: ffn.c for a device. Experts: a token's k-th is a row of its own, whose products
 * take the matrix that its route names. */
#include "device/kern/mt_args.h"
#include "model/device_layers.h"
#include "model/device_rows.h"
#include "model/device_tiles.h"
#include <math.h>

typedef struct dense {
    const lb_dlinear *gate, *up, *down;
    bool fused; /* up holds gate's rows, then up's */
    u32 n;      /* rows */
    u32 per;    /* of experts: rows for each token; else 0 */
} dense;

static lb_status activate(const lb_context *c, const dense *d, u32 n_ff, lb_err *err) {
    static const lb_dev_kernel kernels[] = {[LB_ACT_SILU] = LB_DK_act_silu,
                                            [LB_ACT_GELU] = LB_DK_act_gelu,
                                            [LB_ACT_GELU_ERF] = LB_DK_act_gelu_erf,
                                            [LB_ACT_RELU2] = LB_DK_act_relu2,
                                            [LB_ACT_OAI] = LB_DK_act_oai};
    const bool gated = d->fused || d->gate->parts;
    const lb_act_args a = {.n_rows = d->n,
                           .n_cols = n_ff,
                           .second = n_ff,
                           .stride = gated ? 2 * n_ff : n_ff,
                           .gated = gated,
                           .alpha = LB_OAI_ALPHA,
                           .limit = LB_OAI_LIMIT};
    LB_TRY(lb_dlaunch(c, kernels[c->m->p.act],
                      (lb_dev_arg[]){lb_dbuf_arg(c, LB_DBUF_FF), lb_dbuf_arg(c, LB_DBUF_ACT)}, &a,
                      err));
    return lb_dbarrier(c, err);
}

static lb_status project(const lb_context *c, const dense *d, const lb_dproduct *p, u32 n, u32 per,
                         lb_err *err) {
    return d->per ? lb_dproject_experts(c, p, n, per, err) : lb_dproject(c, p, n, err);
}

/* The activation as what a product reads. */
static lb_dinput activated(const lb_context *c, u32 n_ff, bool gated) {
    static const u32 kinds[] = {[LB_ACT_SILU] = LB_DEV_PRE_SILU,
                                [LB_ACT_GELU] = LB_DEV_PRE_GELU,
                                [LB_ACT_GELU_ERF] = LB_DEV_PRE_GELU_ERF,
                                [LB_ACT_RELU2] = LB_DEV_PRE_RELU2,
                                [LB_ACT_OAI] = LB_DEV_PRE_OAI};
    return (lb_dinput){.x = lb_dbuf_arg(c, LB_DBUF_FF),
                       .pre = kinds[c->m->p.act],
                       .stride = gated ? 2 * n_ff : n_ff,
                       .second = gated ? n_ff : 0,
                       .gated = gated};
}

/* Gate and up, or up alone, of few tokens or of experts: to LB_DBUF_ACT through the activation at
 * once, where they are one matrix of a kernel that does it. */
static lb_status act_few(const lb_context *c, const dense *d, const lb_dinput *in, bool *done,
                         lb_err *err) {
    const bool two = d->gate->parts != NULL, gated = two || d->fused;
    const lb_dlinear *both[] = {d->gate, d->up};
    const u32 n_ff = d->down->n_cols, act = activated(c, n_ff, gated).pre;
    const lb_doutput to = {.y = lb_dbuf_arg(c, LB_DBUF_ACT), .act = act, .gated = gated};
    lb_dmat m;
    lb_dlinear one = {.parts = &m, .n_parts = 1};
    const lb_dproduct p = {&one, *in, to, d->n, 0, n_ff};
    *done = (d->per || lb_dfew(d->n)) && !c->o.sums && in->pre <= LB_DEV_PRE_NORM &&
            lb_dlinears_join(two ? both : both + 1, two ? 2 : 1, &m) &&
            m.args.n_rows == (gated ? 2 : 1) * (u64)n_ff && n_ff >= LB_DEV_MT_ROWS &&
            lb_dmat_is_few(c, &p, &m, d->per);
    if (!*done)
        return LB_OK;
    return d->per ? lb_dproject_experts(c, &p, 1, d->per, err) : lb_dproject_plain(c, &p, 1, err);
}

static lb_status run_dense(const lb_context *c, const dense *d, const lb_dinput *in,
                           const lb_doutput *out, lb_err *err) {
    const u32 n_ff = d->down->n_cols;
    const bool two = d->gate->parts != NULL;
    const u32 stride = two || d->fused ? 2 * n_ff : n_ff;
    const lb_doutput ff = {.y = lb_dbuf_arg(c, LB_DBUF_FF)};
    const lb_dproduct up = {d->up, *in, ff, d->n, two ? n_ff : 0, stride};
    const lb_dproduct both[] = {{d->gate, *in, ff, d->n, 0, stride}, up};
    bool acted;
    const u32 act = activated(c, n_ff, two || d->fused).pre;
    const lb_dgated gated = {d->gate, d->up, d->down, d->fused, d->n, act, *in, *out};
    lb_dproduct down = {d->down, {.x = lb_dbuf_arg(c, LB_DBUF_ACT)}, *out, d->n, 0, c->m->p.n_embd};
    if (!d->per && lb_dgated_tiled(c, &gated))
        return lb_dgated_run(c, &gated, err);
    LB_TRY(act_few(c, d, in, &acted, err));
    if (acted)
        return project(c, d, &down, 1, 1, err);
    LB_TRY(project(c, d, two ? both : &up, two ? 2 : 1, d->per, err));
    if (!d->per && lb_dfew(d->n) && !c->o.sums)
        down.in = activated(c, n_ff, two || d->fused);
    else
        LB_TRY(activate(c, d, n_ff, err));
    return project(c, d, &down, 1, 1, err);
}

/* ---- experts ---- */

static lb_status route(const lb_context *c, const lb_dlayer *l, const lb_dinput *in, lb_err *err) {
    const lb_params *p = &c->m->p;
    const lb_dev_arg scores = lb_dbuf_arg(c, LB_DBUF_SCORES);
    const lb_dev_arg routes = lb_dbuf_arg(c, LB_DBUF_ROUTES);
    const lb_route_args a = {.n_tokens = c->n,
                             .n_experts = p->n_expert,
                             .n_used = p->n_expert_used,
                             .n_groups = p->n_group,
                             .n_groups_used = p->n_group_used,
                             .how = (u32)p->router,
                             .has_selection = l->selection.buf != NULL,
                             .norm = p->top_norm,
                             .least_sum = LB_TOP_SUM_MIN,
                             .times = p->top_scale};
    LB_TRY(lb_dproject(c, &(lb_dproduct){&l->router, *in, {.y = scores}, c->n, 0, p->n_expert}, 1,
                       err));
    if (p->router == LB_ROUTER_MIXER)
        LB_TRY(lb_dlaunch(c, LB_DK_route_two, (lb_dev_arg[]){scores, routes}, &a, err));
    else
        LB_TRY(lb_dlaunch(
            c, LB_DK_route,
            (lb_dev_arg[]){scores, l->selection.buf ? l->selection : c->device->r->zeros, routes},
            &a, err));
    return lb_dbarrier(c, err);
}

/* out += [sigmoid of the gate times] the shared experts' */
static lb_status add_shared(const lb_context *c, const lb_dlayer *l, const lb_dinput *in,
                            lb_dev_arg out, lb_err *err) {
    const u32 e = c->m->p.n_embd;
    const dense d = {&l->gate_shared, &l->up_shared, &l->down_shared, false, c->n, 0};
    const lb_dev_arg y = lb_dbuf_arg(c, LB_DBUF_SHARED), gate = lb_dbuf_arg(c, LB_DBUF_GATE);
    const lb_vec_args a = {.n_rows = c->n, .n_cols = e, .stride = e, .times = 1, .scale = 1};
    LB_TRY(run_dense(c, &d, in, &(lb_doutput){.y = y}, err));
    if (l->shared_router.parts) {
        LB_TRY(lb_dproject(c, &(lb_dproduct){&l->shared_router, *in, {.y = gate}, c->n, 0, 1}, 1,
                           err));
        LB_TRY(lb_dlaunch(c, LB_DK_add_gated, (lb_dev_arg[]){gate, y, out}, &a, err));
    } else {
        LB_TRY(lb_dlaunch(c, LB_DK_residual, (lb_dev_arg[]){y, out}, &a, err));
    }
    return lb_dbarrier(c, err);
}

/* Whether no product of experts takes its tokens by a plan. */
static bool by_rows(const lb_context *c, const lb_dlayer *l, u32 n_rows) {
    return (!l->gate_exps.parts || lb_dmat_by_rows(c, l->gate_exps.parts, n_rows)) &&
           lb_dmat_by_rows(c, l->up_exps.parts, n_rows) &&
           lb_dmat_by_rows(c, l->down_exps.parts, n_rows);
}

/* The chosen experts' of in; which, is in LB_DBUF_ROUTES. */
static lb_status run_experts(const lb_context *c, const lb_dlayer *l, const lb_dinput *in,
                             const lb_doutput *out, lb_err *err) {
    const u32 used = c->m->p.n_expert_used;
    const dense d = {&l->gate_exps, &l->up_exps, &l->down_exps, false, c->n * used, used};
    const lb_dev_arg rows = lb_dbuf_arg(c, LB_DBUF_ROWS), routes = lb_dbuf_arg(c, LB_DBUF_ROUTES);
    const lb_experts_args a = {.n_tokens = c->n,
                               .n_cols = c->m->p.n_embd,
                               .n_used = used,
                               .add = out->sum,
                               .add_times = out->times,
                               .add_scale = out->scale};
    const u32 act = activated(c, d.down->n_cols, true).pre;
    const lb_dexperts tiled = {d.gate, d.up, d.down, c->n, used, act, *in, rows};
    if (lb_dexperts_tiled(c, &tiled)) {
        LB_TRY(lb_dexperts_run(c, &tiled, err));
    } else {
        if (!by_rows(c, l, d.n))
            LB_TRY(lb_dplan_experts(c, used, err));
        LB_TRY(run_dense(c, &d, in, &(lb_doutput){.y = rows}, err));
    }
    LB_TRY(lb_dlaunch(c, LB_DK_experts_sum, (lb_dev_arg[]){rows, routes, out->y}, &a, err));
    return lb_dbarrier(c, err);
}

/* ---- experts beside a dense feed-forward: both read the residual stream ---- */

/* What the router reads: the stream's norm without weights, by its own scale; and its choice. */
static lb_status route_beside(const lb_context *c, const lb_dlayer *l, lb_err *err) {
    const lb_params *p = &c->m->p;
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_X), in = lb_dbuf_arg(c, LB_DBUF_SHARED);
    const lb_row_args norm = {c->n, p->n_embd, p->eps};
    const lb_vec_args root = {.n_rows = c->n,
                              .n_cols = p->n_embd,
                              .stride = p->n_embd,
                              .times = 1 / sqrtf((float)p->n_embd)};
    const lb_experts_args routes = {.n_cols = c->n * p->n_expert_used, .n_mats = p->n_expert};
    const lb_dev_arg scale = l->router_scale.buf ? l->router_scale : c->device->r->ones;
    LB_TRY(lb_dlaunch(c, LB_DK_rms_norm, (lb_dev_arg[]){x, scale, in}, &norm, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_scale, (lb_dev_arg[]){in}, &root, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(route(c, l, &(lb_dinput){.x = in}, err));
    if (!l->exps_scale.buf)
        return LB_OK;
    LB_TRY(lb_dlaunch(c, LB_DK_scale_routes,
                      (lb_dev_arg[]){l->exps_scale, lb_dbuf_arg(c, LB_DBUF_ROUTES)}, &routes, err));
    return lb_dbarrier(c, err);
}

/* in: of the dense one; to LB_DBUF_Y */
static lb_status run_both(const lb_context *c, const lb_dlayer *l, const dense *d,
                          const lb_dinput *in, lb_err *err) {
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_X), h2 = lb_dbuf_arg(c, LB_DBUF_H2);
    LB_TRY(route_beside(c, l, err));
    LB_TRY(lb_dnorm_rows(c, &l->exps_norm, x, h2, c->n, err));
    LB_TRY(run_experts(c, l, &(lb_dinput){.x = h2}, &(lb_doutput){.y = lb_dbuf_arg(c, LB_DBUF_Y)},
                       err));
    LB_TRY(run_dense(c, d, in, &(lb_doutput){.y = lb_dbuf_arg(c, LB_DBUF_SHARED)}, err));
    LB_TRY(lb_dnorm_self(c, &l->exps_post_norm, LB_DBUF_Y, err));
    LB_TRY(lb_dnorm_self(c, &l->dense_post_norm, LB_DBUF_SHARED, err));
    return lb_dadd(c, LB_DBUF_Y, LB_DBUF_SHARED, 1, 1, err);
}

bool lb_device_ffn_is_plain(const lb_dlayer *l) {
    return !l->exps_norm.n && !l->up_exps.parts;
}

bool lb_device_ffn_adds(const lb_dlayer *l) {
    return !l->exps_norm.n && l->up_exps.parts && !l->up_shared.parts;
}

bool lb_device_ffn_norms(const lb_context *c, const lb_dlayer *l) {
    const lb_dlinear *const in[] = {&l->gate_exps, &l->up_exps};
    const u32 used = c->m->p.n_expert_used;
    bool can = !l->exps_norm.n && l->up_exps.parts && lb_dfew(c->n);
    for (u32 i = 0; i < LB_LEN(in) && can; i++) {
        const lb_dproduct p = {
            .l = in[i], .in = {.pre = LB_DEV_PRE_NORM}, .n = c->n * used, .stride = in[i]->n_rows};
        can = !in[i]->parts || lb_dmat_is_few(c, &p, in[i]->parts, used);
    }
    return can || lb_device_ffn_is_plain(l);
}

lb_status lb_device_ffn(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                        lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const dense d = {&l->gate, &l->up, &l->down, c->m->layer[layer].fused, c->n, 0};
    if (l->exps_norm.n)
        return run_both(c, l, &d, in, err);
    if (!l->up_exps.parts)
        return run_dense(c, &d, in, out, err);
    LB_TRY(route(c, l, in, err));
    LB_TRY(run_experts(c, l, in, out, err));
    return l->up_shared.parts ? add_shared(c, l, in, out->y, err) : LB_OK;
}
