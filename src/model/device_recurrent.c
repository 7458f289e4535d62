/* SPDX-License-Identifier: Apache-2.0 */
/* device_recurrent.c: recurrent.c for a device. States lie in LB_DBUF_STATE, as cache.c lays them
 * out; a sequence's is read where it has positions, so nothing clears it. */
#include "model/device_layers.h"
#include <math.h>

#define QK_EPS 1e-6f /* of the norms of q and k, as in recurrent.c */

static bool in_chunks(const lb_dcontext *d) {
    return d->longest >= LB_DDELTA_TOKENS && lb_dev_has(d->r->d, LB_DK_delta_chunks);
}

/* Of a sequence's floats in the part's buffer. */
static u32 state_first(const lb_context *c, u32 layer) {
    const u64 at = c->cache.layer[layer].state_off - c->device->state_off;
    return (u32)(at / sizeof(float));
}

/* out of c->n rows in ATT, and the state behind them; a barrier stands between the two. */
static lb_status convolve(const lb_context *c, u32 layer, lb_conv_args a, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_QKV), state = lb_dbuf_arg(c, LB_DBUF_STATE);
    const lb_dev_arg runs = lb_dmeta_arg(c, LB_DMETA_RUNS);
    a.n_tokens = c->n;
    a.width = c->m->p.conv_width;
    a.n_runs = c->device->n_runs;
    a.n_seqs = c->o.n_seqs;
    a.state_first = state_first(c, layer);
    a.state_stride = (u32)(c->device->state_bytes / sizeof(float));
    const lb_dev_arg buf[] = {x,
                              l->conv,
                              l->conv_bias,
                              state,
                              lb_dmeta_arg(c, LB_DMETA_RUN),
                              runs,
                              lb_dbuf_arg(c, LB_DBUF_ATT)};
    LB_TRY(lb_dlaunch(c, LB_DK_conv_steps, buf, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_dlaunch(c, LB_DK_conv_keep, (lb_dev_arg[]){x, runs, state}, &a, err);
}

static lb_status finish(const lb_context *c, u32 layer, lb_dbuf from, const lb_doutput *out,
                        lb_err *err) {
    const lb_dproduct p = {&c->device->r->layer[layer].out,
                           {.x = lb_dbuf_arg(c, from)},
                           *out,
                           c->n,
                           0,
                           c->m->p.n_embd};
    return lb_dproject(c, &p, 1, err);
}

lb_status lb_device_conv(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                         lb_err *err) {
    const u32 n = c->m->p.n_embd;
    const lb_dproduct p = {
        &c->device->r->layer[layer].in, *in, {.y = lb_dbuf_arg(c, LB_DBUF_QKV)}, c->n, 0, 3 * n};
    const lb_conv_args a = {
        .n_channels = n, .first = 2 * n, .stride = 3 * n, .gated = 1, .gate_in = 0, .gate_out = n};
    LB_TRY(lb_dproject(c, &p, 1, err));
    LB_TRY(convolve(c, layer, a, err));
    return finish(c, layer, LB_DBUF_ATT, out, err);
}

/* ---- gated delta net ---- */

typedef struct net {
    u32 layer, n_k, n_v, k_dim, v_dim, channels;
    u32 z, beta, alpha, stride; /* places in a row of LB_DBUF_QKV */
} net;

static lb_status project_net(const lb_context *c, const net *d, const lb_dinput *in, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[d->layer];
    const lb_doutput to = {.y = lb_dbuf_arg(c, LB_DBUF_QKV)};
    const lb_dproduct p[] = {{&l->in, *in, to, c->n, 0, d->stride},
                             {&l->gate_z, *in, to, c->n, d->z, d->stride},
                             {l->ba.parts ? &l->ba : &l->beta, *in, to, c->n, d->beta, d->stride},
                             {&l->alpha, *in, to, c->n, d->alpha, d->stride}};
    return lb_dproject(c, p, l->ba.parts ? 3 : 4, err);
}

/* Decays and betas; a barrier is the caller's. */
static lb_status make_gates(const lb_context *c, const net *d, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[d->layer];
    const u32 per = d->n_v / d->n_k;
    const bool both = l->ba.parts != NULL; /* [heads of keys][beta of its heads of values, alpha] */
    const lb_gates_args a = {.n_tokens = c->n,
                             .n_heads = d->n_v,
                             .beta = d->beta,
                             .alpha = both ? d->beta + per : d->alpha,
                             .stride = d->stride,
                             .group = both ? per : d->n_v,
                             .step = both ? 2 * per : 0};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_QKV), l->ssm_a, l->ssm_dt,
                              lb_dbuf_arg(c, LB_DBUF_GATES)};
    return lb_dlaunch(c, LB_DK_delta_gates, buf, &a, err);
}

static lb_status run_net(const lb_context *c, const net *d, lb_err *err) {
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_ATT);
    const lb_l2_args norm = {.n_tokens = c->n,
                             .n_heads = 2 * d->n_k,
                             .n_cols = d->k_dim,
                             .stride = d->channels,
                             .n_times = d->n_k,
                             .eps = QK_EPS,
                             .times = 1 / sqrtf((float)d->k_dim)};
    const u32 taps = (c->m->p.conv_width - 1) * d->channels;
    const lb_delta_args a = {.n_tokens = c->n,
                             .n_k = d->n_k,
                             .n_v = d->n_v,
                             .k_dim = d->k_dim,
                             .v_dim = d->v_dim,
                             .tiled = (c->m->p.graph->flags & LB_GRAPH_V_HEADS_TILED) != 0,
                             .stride = d->channels,
                             .n_runs = c->device->n_runs,
                             .n_seqs = c->o.n_seqs,
                             .state_first = state_first(c, d->layer) + taps,
                             .state_stride = (u32)(c->device->state_bytes / sizeof(float))};
    const lb_dev_arg buf[] = {x, lb_dbuf_arg(c, LB_DBUF_GATES), lb_dmeta_arg(c, LB_DMETA_RUNS),
                              lb_dbuf_arg(c, LB_DBUF_STATE), lb_dbuf_arg(c, LB_DBUF_LATENT)};
    LB_TRY(lb_dlaunch(c, LB_DK_l2_norm_heads, &x, &norm, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(
        lb_dlaunch(c, in_chunks(c->device) ? LB_DK_delta_chunks : LB_DK_delta_steps, buf, &a, err));
    return lb_dbarrier(c, err);
}

/* Norm of each head's result, times the silu of its gate. */
static lb_status gate_net(const lb_context *c, const net *d, lb_err *err) {
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_LATENT);
    const u32 n = d->n_v * d->v_dim;
    const lb_times_args a = {
        .n_rows = c->n, .n_cols = n, .stride = n, .y_first = d->z, .y_stride = d->stride};
    LB_TRY(lb_dnorm_heads(c, &c->device->r->layer[d->layer].ssm_norm,
                          &(lb_dheads){x, c->n, d->n_v, d->v_dim, 0, n}, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(
        lb_dlaunch(c, LB_DK_times_silu, (lb_dev_arg[]){lb_dbuf_arg(c, LB_DBUF_QKV), x}, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_delta(lb_context *c, u32 layer, const lb_dinput *in, const lb_doutput *out,
                          lb_err *err) {
    const lb_params *p = &c->m->p;
    net d = {.layer = layer,
             .n_k = p->ssm_groups,
             .n_v = p->ssm_heads,
             .k_dim = p->ssm_state,
             .v_dim = p->ssm_inner / p->ssm_heads,
             .channels = p->ssm_inner + 2 * p->ssm_groups * p->ssm_state};
    d.z = d.channels;
    d.beta = d.z + p->ssm_inner;
    d.alpha = d.beta + p->ssm_heads;
    d.stride = d.alpha + p->ssm_heads;
    LB_TRY(project_net(c, &d, in, err));
    LB_TRY(make_gates(c, &d, err));
    LB_TRY(convolve(c, layer,
                    (lb_conv_args){.n_channels = d.channels, .stride = d.stride, .silu = 1}, err));
    LB_TRY(run_net(c, &d, err));
    LB_TRY(gate_net(c, &d, err));
    return finish(c, layer, LB_DBUF_LATENT, out, err);
}
