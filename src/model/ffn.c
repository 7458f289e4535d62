/* SPDX-License-Identifier: Apache-2.0 */
/* ffn.c: feed-forwards: one for all tokens, or experts of which a router chooses some for each
 * token, and experts that all tokens use.
 *
 * Tokens of one expert are gathered, so that its matrices are read once for all of them. */
#include "model/graph.h"
#include <math.h>

/* out = act(gate) * up, or act(gate) where up is NULL. */
static void activate(const lb_model *m, u32 n, float *out, const float *gate, const float *up) {
    const lb_kernels *k = m->k;
    switch (m->p.act) {
    case LB_ACT_SILU:
        up ? k->silu_mul_f32(n, out, gate, up) : k->silu_f32(n, out, gate);
        return;
    case LB_ACT_GELU:
        up ? k->gelu_mul_f32(n, out, gate, up) : k->gelu_f32(n, out, gate);
        return;
    case LB_ACT_GELU_ERF:
        up ? k->gelu_erf_mul_f32(n, out, gate, up) : k->gelu_erf_f32(n, out, gate);
        return;
    case LB_ACT_RELU2:
        k->relu2_f32(n, out, gate);
        if (up)
            k->map_mul_f32(n, out, out, up);
        return;
    case LB_ACT_OAI:
        k->swiglu_oai_mul_f32(n, out, gate, up ? up : gate, LB_OAI_ALPHA, LB_OAI_LIMIT);
        return;
    }
}

/* ---- one feed-forward for all ---- */

typedef struct dense {
    const lb_linear *gate, *up, *down;
    bool fused;
    u32 n_ff;
    size_t stride;
} dense;

static void activate_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const dense *d = arg;
    float *row = c->ff + (size_t)t * d->stride;
    bool gated = d->fused || d->gate->w;
    (void)scratch;
    if (gated && d->gate->bias)
        c->m->k->map_add_f32(d->n_ff, row, row, d->gate->bias);
    float *up = gated ? row + d->n_ff : row;
    if (d->up->bias)
        c->m->k->map_add_f32(d->fused ? 2 * d->n_ff : d->n_ff, d->fused ? row : up,
                             d->fused ? row : up, d->up->bias);
    activate(c->m, d->n_ff, row, row, gated ? up : NULL);
}

static void run_dense(lb_context *c, dense *d, lb_acts *in, float *out) {
    lb_acts a;
    u32 n = c->m->p.n_embd;
    d->n_ff = (u32)d->down->w->n_cols;
    d->stride = 2ull * c->m->max_ff;
    if (d->gate->w)
        lb_project(c, d->gate, in, c->ff, d->stride);
    lb_project(c, d->up, in, d->gate->w ? c->ff + d->n_ff : c->ff, d->stride);
    lb_project_run(c);
    lb_each_token(c, c->n, 4ull * d->n_ff, activate_token, d);
    lb_acts_make(&a, c->ff, d->stride, d->n_ff, c->n, 1);
    lb_project(c, d->down, &a, out, n);
    lb_project_run(c);
    lb_add_bias(c, d->down, out, n, c->n);
}

/* ---- the router ---- */

/* Groups whose two best experts have not the largest sums (of a softmax: whose best one is not
 * among the largest) are out of it. */
static void drop_groups(const lb_params *p, float *choice, u8 *keep) {
    u32 per = p->n_expert / p->n_group;
    float sums[LB_GROUPS_MAX];
    for (u32 g = 0; g < p->n_group; g++) {
        float a = -INFINITY, b = -INFINITY;
        for (u32 i = 0; i < per; i++) {
            float v = choice[g * per + i];
            if (v > a) {
                b = a;
                a = v;
            } else if (v > b) {
                b = v;
            }
        }
        sums[g] = p->router == LB_ROUTER_SOFTMAX ? a : a + b;
        keep[g] = 0;
    }
    for (u32 k = 0; k < p->n_group_used; k++) {
        u32 best = UINT32_MAX;
        for (u32 g = 0; g < p->n_group; g++)
            if (!keep[g] && (best == UINT32_MAX || sums[g] > sums[best]))
                best = g;
        keep[best] = 1;
    }
    for (u32 g = 0; g < p->n_group; g++)
        for (u32 i = 0; !keep[g] && i < per; i++)
            choice[g * per + i] = -INFINITY;
}

/* The n_expert_used largest, the first of equals. */
static void choose(const lb_params *p, float *choice, u32 *chosen) {
    u8 keep[LB_GROUPS_MAX];
    if (p->n_group > 1)
        drop_groups(p, choice, keep);
    for (u32 k = 0; k < p->n_expert_used; k++) {
        u32 best = UINT32_MAX;
        for (u32 e = 0; e < p->n_expert; e++)
            if (!isnan(choice[e]) && (best == UINT32_MAX || choice[e] > choice[best]))
                best = e;
        chosen[k] = best == UINT32_MAX ? k : best;
        choice[chosen[k]] = NAN;
    }
}

/* Two experts, each by a softmax over those that are near enough to it: SparseMixer (Liu et al.
 * 2023) as Phi-3.5-MoE uses it, with the noise that its config has. */
#define MIXER_NOISE 0.01f

static u32 near_best(const lb_params *p, const float *scores, u32 without, float *weight) {
    u32 best = UINT32_MAX;
    double sum = 0;
    for (u32 e = 0; e < p->n_expert; e++)
        if (e != without && (best == UINT32_MAX || scores[e] > scores[best]))
            best = e;
    for (u32 e = 0; e < p->n_expert; e++) {
        float far = (scores[best] - scores[e]) / fmaxf(fabsf(scores[e]), scores[best]);
        if (e != without && !(far > 2 * MIXER_NOISE))
            sum += exp((double)scores[e] - (double)scores[best]);
    }
    *weight = (float)(1 / sum);
    return best;
}

static void mix_two(const lb_params *p, const float *scores, u32 *chosen, float *w) {
    chosen[0] = near_best(p, scores, UINT32_MAX, &w[0]);
    chosen[1] = near_best(p, scores, chosen[0], &w[1]);
}

static void weigh(const lb_model *m, const float *scores, const u32 *chosen, float *w) {
    const lb_params *p = &m->p;
    float sum = 0;
    for (u32 k = 0; k < p->n_expert_used; k++)
        w[k] = scores[chosen[k]];
    if (p->router == LB_ROUTER_SOFTMAX_TOP)
        m->k->softmax_f32(p->n_expert_used, w);
    if (p->top_norm) {
        for (u32 k = 0; k < p->n_expert_used; k++)
            sum += w[k];
        for (u32 k = 0; k < p->n_expert_used; k++)
            w[k] /= fmaxf(sum, LB_TOP_SUM_MIN);
    }
    for (u32 k = 0; p->top_scale != 1 && k < p->n_expert_used; k++)
        w[k] *= p->top_scale;
}

static void route_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    const lb_params *p = &m->p;
    const lb_layer *l = arg;
    float *scores = c->scores + (size_t)t * p->n_expert, *choice = scratch;
    if (l->router.bias)
        m->k->map_add_f32(p->n_expert, scores, scores, l->router.bias);
    u32 *chosen = c->chosen + (size_t)t * p->n_expert_used;
    float *top = c->top + (size_t)t * p->n_expert_used;
    if (p->router == LB_ROUTER_MIXER) {
        mix_two(p, scores, chosen, top);
        return;
    }
    if (p->router == LB_ROUTER_SOFTMAX)
        m->k->softmax_f32(p->n_expert, scores);
    else if (p->router == LB_ROUTER_SIGMOID)
        m->k->sigmoid_f32(p->n_expert, scores, scores);
    if (l->selection)
        m->k->map_add_f32(p->n_expert, choice, scores, l->selection);
    else
        memcpy(choice, scores, p->n_expert * sizeof(float));
    choose(p, choice, chosen);
    weigh(m, scores, chosen, top);
    for (u32 k = 0; l->exps_scale && k < p->n_expert_used; k++)
        top[k] *= l->exps_scale[chosen[k]];
}

/* ---- experts ---- */

/* Some tokens of the batch with their experts. */
typedef struct part {
    const lb_layer *l;
    u32 layer;
    u32 first, n; /* tokens */
    u32 n_ff;
    size_t stride;
    float *out;
} part;

/* Rows of the part's tokens, those of one expert together: place[token's k] and where each expert's
 * begin. */
static void sort_rows(lb_context *c, const part *p) {
    u32 used = c->m->p.n_expert_used, *start = c->expert_start;
    const u32 *chosen = c->chosen + (size_t)p->first * used;
    memset(start, 0, (c->m->p.n_expert + 1) * sizeof *start);
    for (u32 i = 0; i < p->n * used; i++)
        start[chosen[i] + 1]++;
    for (u32 e = 0; e < c->m->p.n_expert; e++)
        start[e + 1] += start[e];
    for (u32 i = 0; i < p->n * used; i++) {
        u32 row = start[chosen[i]]++;
        c->row_of[i] = row;
        c->of_row[row] = i;
    }
    for (u32 e = c->m->p.n_expert; e > 0; e--)
        start[e] = start[e - 1];
    start[0] = 0;
}

static void add_expert_bias(const lb_context *c, const lb_linear *x, u32 expert, float *row) {
    u32 n = x->w ? (u32)(x->w->n_rows / x->w->n_stack) : 0;
    if (x->w && x->bias)
        c->m->k->map_add_f32(n, row, row, x->bias + (size_t)expert * n);
}

/* Experts that are computed together: all, or those that are in memory. */
typedef struct group {
    const lb_layer *l;
    const part *p;
    size_t stride;
    u32 first, end;  /* experts */
    u32 row, n_rows; /* of the part's sorted rows */
    u32 n_held;
} group;

static void activate_row(lb_context *c, void *arg, u32 i, void *scratch) {
    const group *g = arg;
    const part *p = g->p;
    const u32 row = g->row + i;
    u32 expert = c->chosen[(size_t)p->first * c->m->p.n_expert_used + c->of_row[row]];
    float *gate = c->ff + (size_t)row * p->stride, *up = gate + p->n_ff;
    (void)scratch;
    if (!p->l->gate_exps.w) {
        add_expert_bias(c, &p->l->up_exps, expert, gate);
        activate(c->m, p->n_ff, gate, gate, NULL);
        return;
    }
    add_expert_bias(c, &p->l->gate_exps, expert, gate);
    add_expert_bias(c, &p->l->up_exps, expert, up);
    activate(c->m, p->n_ff, gate, gate, up);
}

static void sum_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const part *p = arg;
    u32 n = c->m->p.n_embd, used = c->m->p.n_expert_used, token = p->first + t;
    float *out = p->out + (size_t)token * n;
    (void)scratch;
    memset(out, 0, n * sizeof(float));
    for (u32 k = 0; k < used; k++) {
        float *row = c->rows_out + (size_t)c->row_of[t * used + k] * n;
        add_expert_bias(c, &p->l->down_exps, c->chosen[(size_t)token * used + k], row);
        c->m->k->map_fmac_f32(n, out, row, c->top[(size_t)token * used + k], out);
    }
}

/* One product of each expert of the group that is used, for its rows: those of a, which begins with
 * the group's first, or of one token the same row for all. */
static void project_experts(lb_context *c, const lb_linear *x, lb_acts *a, const group *g,
                            const lb_some_rows *one, float *out) {
    const u32 *start = c->expert_start;
    const size_t stride = x == &g->l->down_exps ? c->m->p.n_embd : g->stride;
    for (u32 e = g->first; e < g->end; e++)
        if (start[e + 1] > start[e])
            lb_project_some(
                c, x, a,
                &(lb_some_rows){e, one ? one->first : start[e] - g->row, start[e + 1] - start[e]},
                out + start[e] * stride, stride);
}

static void run_group(lb_context *c, const part *p, lb_acts *in, group *g) {
    const lb_layer *l = p->l;
    const lb_some_rows token = {.first = p->first}, *one = p->n == 1 ? &token : NULL;
    lb_acts rows = {.n_cols = c->m->p.n_embd,
                    .n = g->n_rows,
                    .into = 1,
                    .from = in,
                    .of = c->of_row + g->row,
                    .first = p->first,
                    .per = c->m->p.n_expert_used};
    lb_acts *x = one ? in : &rows;
    if (l->gate_exps.w)
        project_experts(c, &l->gate_exps, x, g, one, c->ff);
    project_experts(c, &l->up_exps, x, g, one, l->gate_exps.w ? c->ff + p->n_ff : c->ff);
    lb_project_run(c);
    lb_each_token(c, g->n_rows, 4ull * p->n_ff, activate_row, g);
    lb_acts a; /* where the rows were */
    lb_acts_make(&a, c->ff + g->row * p->stride, p->stride, p->n_ff, g->n_rows, 1);
    project_experts(c, &l->down_exps, &a, g, NULL, c->rows_out);
    lb_project_run(c);
}

/* The next experts that are used, from g->end on, as many as are in memory at a time. False: there
 * are none. held [at least as many]: their numbers. */
static bool next_group(const lb_context *c, group *g, u32 most) {
    const u32 *start = c->expert_start;
    g->first = g->end;
    g->n_held = 0;
    while (g->end < c->m->p.n_expert && g->n_held < most) {
        if (start[g->end + 1] > start[g->end])
            c->held[g->n_held++] = g->end;
        g->end++;
    }
    g->row = start[g->first];
    g->n_rows = start[g->end] - g->row;
    return g->n_held > 0;
}

static lb_status run_part(lb_context *c, part *p, lb_acts *in, lb_err *err) {
    lb_stream *s = c->m->stream;
    const bool reads = lb_stream_is_on(s);
    const u32 most = reads ? lb_stream_n_together(s) : c->m->p.n_expert;
    group g = {.l = p->l, .p = p, .stride = p->stride};
    sort_rows(c, p);
    while (next_group(c, &g, most)) {
        if (reads)
            LB_TRY(lb_stream_hold(s, p->layer, c->held, g.n_held, err));
        run_group(c, p, in, &g);
        if (reads)
            lb_stream_drop(s, p->layer, c->held, g.n_held);
    }
    lb_each_token(c, p->n, (u64)c->m->p.n_embd * c->m->p.n_expert_used, sum_token, p);
    return LB_OK;
}

/* The experts of each token, with their weights; in: what the router reads. */
static void route(lb_context *c, const lb_layer *l, lb_acts *in) {
    const lb_params *p = &c->m->p;
    lb_project(c, &l->router, in, c->scores, p->n_expert);
    lb_project_run(c);
    lb_each_token(c, c->n, 8ull * p->n_expert, route_token, (void *)(uintptr_t)l);
}

static lb_status run_experts(lb_context *c, u32 layer, lb_acts *in, float *out, lb_err *err) {
    const lb_params *p = &c->m->p;
    const lb_layer *l = &c->m->layer[layer];
    u32 step = c->rows_max / p->n_expert_used;
    for (u32 i = 0; i < c->n; i += step) {
        part x = {.l = l,
                  .layer = layer,
                  .first = i,
                  .n = LB_MIN(step, c->n - i),
                  .n_ff = (u32)l->down_exps.w->n_cols,
                  .stride = 2ull * l->down_exps.w->n_cols,
                  .out = out};
        LB_TRY(run_part(c, &x, in, err));
    }
    return LB_OK;
}

/* ---- the layer ---- */

typedef struct shared {
    const lb_layer *l;
    const float *add;
    float *out;
} shared;

static void add_shared(lb_context *c, void *arg, u32 t, void *scratch) {
    const shared *s = arg;
    u32 n = c->m->p.n_embd;
    float *out = s->out + (size_t)t * n, gate = 1;
    (void)scratch;
    if (s->l->shared_router.w) {
        gate = c->scores[t];
        c->m->k->sigmoid_f32(1, &gate, &gate);
    }
    c->m->k->map_fmac_f32(n, out, s->add + (size_t)t * n, gate, out);
}

static void run_shared(lb_context *c, const lb_layer *l, lb_acts *in, float *out) {
    dense d = {.gate = &l->gate_shared, .up = &l->up_shared, .down = &l->down_shared};
    shared s = {l, c->shared, out};
    if (l->shared_router.w)
        lb_project(c, &l->shared_router, in, c->scores, 1);
    run_dense(c, &d, in, c->shared);
    lb_each_token(c, c->n, c->m->p.n_embd, add_shared, &s);
}

/* ---- experts beside a dense feed-forward: both read the residual stream ---- */

static void ready_router(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_layer *l = arg;
    const lb_model *m = c->m;
    u32 n = m->p.n_embd;
    const float *x = c->x + (size_t)t * n;
    float *route = c->shared + (size_t)t * n;
    (void)scratch;
    m->k->rms_norm_f32(n, route, x, NULL, m->p.eps);
    m->k->map_mulc_f32(n, route, route, 1 / sqrtf((float)n));
    if (l->router_scale)
        m->k->map_mul_f32(n, route, route, l->router_scale);
    lb_apply_norm(m, &l->exps_norm, c->h2 + (size_t)t * n, x);
}

static void sum_both(lb_context *c, void *arg, u32 t, void *scratch) {
    const shared *s = arg;
    const lb_model *m = c->m;
    u32 n = m->p.n_embd;
    float *out = s->out + (size_t)t * n, *other = c->shared + (size_t)t * n;
    (void)scratch;
    lb_apply_norm(m, &s->l->exps_post_norm, out, out);
    lb_apply_norm(m, &s->l->dense_post_norm, other, other);
    m->k->map_add_f32(n, out, out, other);
}

static lb_status run_both(lb_context *c, u32 layer, lb_acts *in, float *out, lb_err *err) {
    const lb_layer *l = &c->m->layer[layer];
    dense d = {.gate = &l->gate, .up = &l->up, .down = &l->down, .fused = l->fused};
    shared s = {l, NULL, out};
    const u32 n = c->m->p.n_embd;
    lb_acts a;
    lb_each_token(c, c->n, 4ull * n, ready_router, (void *)(uintptr_t)l);
    lb_acts_make(&a, c->shared, n, n, c->n, 0);
    route(c, l, &a);
    lb_acts_make(&a, c->h2, n, n, c->n, 0);
    LB_TRY(run_experts(c, layer, &a, out, err));
    lb_acts_make(&a, in->x, in->stride, n, c->n, 0);
    run_dense(c, &d, &a, c->shared);
    lb_each_token(c, c->n, 4ull * c->m->p.n_embd, sum_both, &s);
    return LB_OK;
}

lb_status lb_feed_forward(lb_context *c, u32 layer, lb_acts *in, float *out, lb_err *err) {
    const lb_layer *l = &c->m->layer[layer];
    if (l->exps_norm.n)
        return run_both(c, layer, in, out, err);
    if (!l->up_exps.w) {
        dense d = {.gate = &l->gate, .up = &l->up, .down = &l->down, .fused = l->fused};
        run_dense(c, &d, in, out);
        return LB_OK;
    }
    route(c, l, in);
    LB_TRY(run_experts(c, layer, in, out, err));
    if (l->up_shared.w)
        run_shared(c, l, in, out);
    return LB_OK;
}
