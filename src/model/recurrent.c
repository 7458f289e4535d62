/* SPDX-License-Identifier: Apache-2.0 */
/* recurrent.c: layers that keep a state instead of keys and values: short convolutions (LFM2) and
 * gated delta nets (Yang, Kautz, Hatamizadeh 2024; Qwen3-Next).
 *
 * A sequence's state of such a layer: the last width - 1 inputs of the convolution, [width - 1,
 * channels], then, of delta nets, a matrix [key elements, value elements] for each head of values.
 */
#include "model/graph.h"
#include <math.h>

#define QK_EPS 1e-6f /* of the norms of q and k: flash-linear-attention's */

static float *state_of(const lb_context *c, u32 layer, u32 t) {
    return (float *)(void *)(c->cache.seq[c->seq[t]].state + c->cache.layer[layer].state_off);
}

static void finish(lb_context *c, const lb_linear *out, const float *x, size_t stride, u64 n_cols) {
    lb_acts a;
    lb_acts_make(&a, x, stride, n_cols, c->n, 1);
    lb_project(c, out, &a, c->y, c->m->p.n_embd);
    lb_project_run(c);
    lb_add_bias(c, out, c->y, c->m->p.n_embd, c->n);
}

/* ---- short convolution ---- */

lb_status lb_mix_conv(lb_context *c, u32 layer, lb_err *err) {
    const lb_model *m = c->m;
    const lb_layer *l = &m->layer[layer];
    u32 n = m->p.n_embd;
    (void)err;
    lb_project(c, &l->in, c->in, c->qkv, m->max_attn);
    lb_project_run(c);
    lb_add_bias(c, &l->in, c->qkv, m->max_attn, c->n);
    for (u32 t = 0; t < c->n; t++) { /* in order: each changes the state of the next */
        float *b = c->qkv + (size_t)t * m->max_attn, *gate = b + n, *x = b + 2ull * n;
        float *out = c->att + (size_t)t * m->max_attn;
        m->k->map_mul_f32(n, x, x, b);
        m->k->conv_step_f32(n, m->p.conv_width, out, state_of(c, layer, t), x, l->conv,
                            l->conv_bias);
        m->k->map_mul_f32(n, out, out, gate);
    }
    finish(c, &l->out, c->att, m->max_attn, n);
    return LB_OK;
}

/* ---- gated delta net ---- */

typedef struct net {
    u32 layer, n_k, n_v, k_dim, v_dim, channels;
    size_t conv, z, beta, alpha, stride; /* places in a row of c->qkv */
} net;

/* Sigmoid of beta, and the state's decay exp(a softplus(alpha + dt)). */
static void gates_of_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const net *d = arg;
    const lb_layer *l = &c->m->layer[d->layer];
    float *row = c->qkv + (size_t)t * d->stride, *beta = row + d->beta, *alpha = row + d->alpha;
    if (l->ba.w) { /* [heads of keys][beta of its heads of values, alpha of them] */
        u32 per = d->n_v / d->n_k;
        float *both = scratch;
        memcpy(both, beta, 2ull * d->n_v * sizeof(float));
        for (u32 h = 0; h < d->n_v; h++) {
            beta[h] = both[h / per * 2 * per + h % per];
            alpha[h] = both[h / per * 2 * per + per + h % per];
        }
    }
    c->m->k->sigmoid_f32(d->n_v, beta, beta);
    for (u32 h = 0; h < d->n_v; h++) {
        double x = (double)alpha[h] + (double)l->ssm_dt[h];
        double softplus = x > 20 ? x : log1p(exp(x));
        alpha[h] = (float)exp((double)l->ssm_a[h] * softplus);
    }
    float *x = row + d->conv;
    c->m->k->silu_f32(d->channels, x, x);
    for (u32 h = 0; h < 2 * d->n_k; h++)
        c->m->k->l2_norm_f32(d->k_dim, x + (size_t)h * d->k_dim, x + (size_t)h * d->k_dim, QK_EPS);
    c->m->k->map_mulc_f32((size_t)d->n_k * d->k_dim, x, x, 1 / sqrtf((float)d->k_dim));
}

/* One head of values through all tokens. */
static void run_head(void *ctx, u64 item, void *scratch) {
    lb_context *c = ((const lb_team_arg *)ctx)->c;
    const net *d = ((const lb_team_arg *)ctx)->arg;
    const lb_layer *l = &c->m->layer[d->layer];
    u32 h = (u32)item;
    u32 key = c->m->p.graph->flags & LB_GRAPH_V_HEADS_TILED ? h % d->n_k : h / (d->n_v / d->n_k);
    size_t taps = (size_t)(c->m->p.conv_width - 1) * d->channels;
    (void)scratch;
    for (u32 t = 0, n; t < c->n; t += n) { /* tokens of one sequence together */
        for (n = 1; t + n < c->n && c->seq[t + n] == c->seq[t];)
            n++;
        const float *row = c->qkv + (size_t)t * d->stride, *x = row + d->conv;
        lb_delta in = {.q = x + (size_t)key * d->k_dim,
                       .k = x + (size_t)(d->n_k + key) * d->k_dim,
                       .v = x + 2ull * d->n_k * d->k_dim + (size_t)h * d->v_dim,
                       .decay = row + d->alpha + h,
                       .beta = row + d->beta + h,
                       .stride = d->stride,
                       .out_stride = c->m->max_attn};
        float *state = state_of(c, d->layer, t) + taps + (size_t)h * d->k_dim * d->v_dim;
        float *out = c->att + (size_t)t * c->m->max_attn + (size_t)h * d->v_dim;
        c->m->k->delta_steps_f32(n, d->k_dim, d->v_dim, state, out, &in);
        for (u32 i = 0; i < n; i++, out += c->m->max_attn) {
            lb_apply_norm(c->m, &l->ssm_norm, out, out);
            c->m->k->silu_mul_f32(d->v_dim, out, row + i * d->stride + d->z + (size_t)h * d->v_dim,
                                  out);
        }
    }
}

static void project_net(lb_context *c, const lb_layer *l, const net *d) {
    lb_project(c, &l->in, c->in, c->qkv + d->conv, d->stride);
    lb_project(c, &l->gate_z, c->in, c->qkv + d->z, d->stride);
    if (l->ba.w) {
        lb_project(c, &l->ba, c->in, c->qkv + d->beta, d->stride);
    } else {
        lb_project(c, &l->beta, c->in, c->qkv + d->beta, d->stride);
        lb_project(c, &l->alpha, c->in, c->qkv + d->alpha, d->stride);
    }
    lb_project_run(c);
}

lb_status lb_mix_delta(lb_context *c, u32 layer, lb_err *err) {
    const lb_model *m = c->m;
    const lb_params *p = &m->p;
    const lb_layer *l = &m->layer[layer];
    net d = {.layer = layer,
             .n_k = p->ssm_groups,
             .n_v = p->ssm_heads,
             .k_dim = p->ssm_state,
             .v_dim = p->ssm_inner / p->ssm_heads,
             .channels = p->ssm_inner + 2 * p->ssm_groups * p->ssm_state,
             .stride = m->max_attn};
    (void)err;
    d.z = d.channels;
    d.beta = d.z + p->ssm_inner;
    d.alpha = d.beta + p->ssm_heads;
    project_net(c, l, &d);
    for (u32 t = 0; t < c->n; t++) {
        float *x = c->qkv + (size_t)t * d.stride + d.conv, *out = c->att;
        m->k->conv_step_f32(d.channels, p->conv_width, out, state_of(c, layer, t), x, l->conv,
                            l->conv_bias);
        memcpy(x, out, d.channels * sizeof(float));
    }
    lb_each_token(c, c->n, 8ull * d.channels, gates_of_token, &d);
    lb_team_arg arg = {c, &d};
    lb_team_run(c->team, d.n_v, run_head, &arg);
    finish(c, &l->out, c->att, m->max_attn, p->ssm_inner);
    return LB_OK;
}
