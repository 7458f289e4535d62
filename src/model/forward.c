/* SPDX-License-Identifier: Apache-2.0 */
/* forward.c: one pass through the layers: a batch of tokens in, logits of those that want them out.
 */
#include "model/graph.h"

#define ALONE 32768 /* floats that one thread touches in less time than it takes to wake others */

typedef struct each_job {
    lb_context *c;
    lb_token_fn *fn;
    void *arg;
} each_job;

static void each_item(void *ctx, u64 item, void *scratch) {
    const each_job *j = ctx;
    j->fn(j->c, j->arg, (u32)item, scratch);
}

void lb_each_token(lb_context *c, u32 n, u64 work, lb_token_fn *fn, void *arg) {
    each_job j = {c, fn, arg};
    if ((u64)n * work < ALONE)
        lb_team_alone(c->team, n, each_item, &j);
    else
        lb_team_run(c->team, n, each_item, &j);
}

void lb_apply_norm(const lb_model *m, const lb_norm *n, float *out, const float *x) {
    if (m->p.graph->norm == LB_NORM_LAYER)
        m->k->layer_norm_f32(n->n, out, x, n->w, n->b, n->eps);
    else
        m->k->rms_norm_f32(n->n, out, x, n->w, n->eps);
}

const lb_mat *lb_mat_of_row(const lb_mweight *w, u64 *row) {
    const lb_mat *m = w->mats;
    while (*row >= m->n_rows)
        *row -= m++->n_rows;
    return m;
}

static void embed(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    float *x = c->x + (size_t)t * m->p.n_embd;
    u64 row = c->id[t];
    const lb_mat *mat = lb_mat_of_row(lb_swapped(c, m->embd), &row);
    (void)arg;
    lb_mat_row(m->k, mat, row, x, scratch);
    if (m->p.embd_scale != 1)
        m->k->map_mulc_f32(m->p.n_embd, x, x, m->p.embd_scale);
    if (m->positions) {
        row = c->pos[t];
        mat = lb_mat_of_row(m->positions, &row);
        float *at = (float *)scratch + lb_matmul_scratch_bytes(mat, 1) / sizeof(float);
        lb_mat_row(m->k, mat, row, at, scratch);
        m->k->map_add_f32(m->p.n_embd, x, x, at);
    }
    if (m->embd_norm.n)
        lb_apply_norm(m, &m->embd_norm, x, x);
    for (u32 r = 0; r < m->n_ropes; r++) {
        size_t at = ((size_t)r * c->o.n_batch + t) * c->rope_width;
        lb_rotary_angles(&c->rotary[r], c->pos[t], c->cos + at, c->sin + at);
    }
}

typedef struct step {
    const lb_norm *norm; /* n 0: none */
    const float *from;
    float *to;
    const float *add2; /* NULL: nothing */
    const float *scale;
} step;

/* to = norm(from) */
static void normalise(lb_context *c, void *arg, u32 t, void *scratch) {
    const step *s = arg;
    size_t at = (size_t)t * c->m->p.n_embd;
    (void)scratch;
    lb_apply_norm(c->m, s->norm, s->to + at, s->from + at);
}

/* x += residual_scale * (norm(to) [+ add2]) [* scale] */
static void add_to_stream(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    const step *s = arg;
    u32 n = m->p.n_embd;
    size_t at = (size_t)t * n;
    float *x = c->x + at, *y = s->to + at;
    (void)scratch;
    if (s->norm->n)
        lb_apply_norm(m, s->norm, y, y);
    if (s->add2)
        m->k->map_add_f32(n, y, y, s->add2 + at);
    if (m->p.residual_scale == 1)
        m->k->map_add_f32(n, x, x, y);
    else
        m->k->map_fmac_f32(n, x, y, m->p.residual_scale, x);
    if (s->scale)
        m->k->map_mulc_f32(n, x, x, *s->scale);
}

static const float *normed(lb_context *c, const lb_norm *n, float *to) {
    step s = {.norm = n, .from = c->x, .to = to};
    if (!n->n)
        return c->x;
    lb_each_token(c, c->n, c->m->p.n_embd, normalise, &s);
    return to;
}

static lb_status mix(lb_context *c, u32 i, lb_err *err) {
    static lb_status (*const mixers[])(lb_context *, u32,
                                       lb_err *) = {[LB_MIX_ATTENTION] = lb_mix_attention,
                                                    [LB_MIX_LATENT] = lb_mix_latent,
                                                    [LB_MIX_DELTA] = lb_mix_delta,
                                                    [LB_MIX_CONV] = lb_mix_conv};
    return mixers[c->m->layer[i].mixer](c, i, err);
}

static lb_status run_layer(lb_context *c, u32 i, lb_err *err) {
    const lb_layer *l = &c->m->layer[i];
    u32 n = c->m->p.n_embd;
    lb_acts in;
    lb_acts_make(&in, normed(c, &l->attn_norm, c->h), n, n, c->n, 0);
    c->in = &in;
    LB_TRY(mix(c, i, err));
    if (l->parallel) {
        LB_TRY(lb_feed_forward(c, i, &in, c->h2, err));
        step s = {.norm = &l->attn_post_norm, .to = c->y, .add2 = c->h2, .scale = l->scale};
        lb_each_token(c, c->n, 2 * n, add_to_stream, &s);
        return LB_OK;
    }
    step s = {.norm = &l->attn_post_norm, .to = c->y};
    lb_each_token(c, c->n, 2 * n, add_to_stream, &s);
    lb_acts_make(&in, normed(c, &l->ffn_norm, c->h), n, n, c->n, 0);
    LB_TRY(lb_feed_forward(c, i, &in, c->y, err));
    s = (step){.norm = &l->ffn_post_norm, .to = c->y, .scale = l->in_gate.w ? NULL : l->scale};
    lb_each_token(c, c->n, 2 * n, add_to_stream, &s);
    if (l->in_gate.w) {
        lb_layer_input(c, i, c->y);
        s = (step){.norm = &l->in_norm, .to = c->y, .scale = l->scale};
        lb_each_token(c, c->n, 2 * n, add_to_stream, &s);
    }
    return LB_OK;
}

static void finish_row(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    float *row = (float *)arg + (size_t)t * m->p.n_vocab;
    (void)scratch;
    if (m->output.bias)
        m->k->map_add_f32(m->p.n_vocab, row, row, m->output.bias);
    if (m->p.logit_scale != 1)
        m->k->map_mulc_f32(m->p.n_vocab, row, row, m->p.logit_scale);
    if (m->p.final_softcap != 0)
        m->k->softcap_f32(m->p.n_vocab, row, row, m->p.final_softcap);
}

static u32 gather_wanted(lb_context *c, const u8 *want) {
    u32 n = c->m->p.n_embd, n_want = 0;
    for (u32 t = 0; t < c->n; t++)
        if (want[t]) {
            if (n_want != t)
                memcpy(c->x + (size_t)n_want * n, c->x + (size_t)t * n, n * sizeof(float));
            n_want++;
        }
    return n_want;
}

lb_status lb_hold_unit(lb_context *c, u32 unit, lb_err *err) {
    lb_stream *s = c->m->stream;
    if (!lb_stream_is_on(s) || c->unit == unit)
        return LB_OK;
    lb_drop_unit(c);
    LB_TRY(lb_stream_enter(s, unit, err));
    c->unit = unit;
    return LB_OK;
}

void lb_drop_unit(lb_context *c) {
    if (c->unit != LB_UNIT_NONE)
        lb_stream_leave(c->m->stream, c->unit);
    c->unit = LB_UNIT_NONE;
}

lb_status lb_forward_begin(lb_context *c, lb_err *err) {
    const lb_model *m = c->m;
    lb_each_token(c, c->n, 2 * m->p.n_embd, embed, NULL);
    if (m->layer_embd) {
        LB_TRY(lb_hold_unit(c, lb_stream_inputs(m->stream), err));
        lb_layer_inputs(c);
        lb_drop_unit(c);
    }
    lb_stream_let_go(m->stream, m->embd);
    lb_stream_let_go(m->stream, m->positions);
    lb_stream_let_go(m->stream, m->layer_embd);
    return LB_OK;
}

lb_status lb_forward_layers(lb_context *c, u32 first, u32 end, lb_err *err) {
    for (u32 i = first; i < end; i++) {
        if (c->o.on_layer)
            c->o.on_layer(c->o.layer_user, i, c->x, c->n);
        LB_TRY(lb_hold_unit(c, lb_stream_layer(c->m->stream, i), err));
        lb_status st = run_layer(c, i, err);
        lb_drop_unit(c);
        LB_TRY(st);
    }
    return LB_OK;
}

lb_status lb_forward_head(lb_context *c, u32 n, float *logits, lb_err *err) {
    const lb_model *m = c->m;
    lb_acts a;
    c->n = n;
    LB_TRY(lb_hold_unit(c, lb_stream_head(m->stream), err));
    lb_acts_make(&a, normed(c, &m->output_norm, c->h), m->p.n_embd, m->p.n_embd, n, 0);
    lb_project(c, &m->output, &a, logits, m->p.n_vocab);
    lb_project_run(c);
    lb_drop_unit(c);
    if (m->output.bias || m->p.logit_scale != 1 || m->p.final_softcap != 0)
        lb_each_token(c, n, m->p.n_vocab, finish_row, logits);
    return LB_OK;
}

lb_status lb_forward(lb_context *c, float *logits, const u8 *want, lb_err *err) {
    LB_TRY(lb_forward_begin(c, err));
    LB_TRY(lb_forward_layers(c, 0, c->m->p.n_layers, err));
    u32 n = gather_wanted(c, want);
    return n ? lb_forward_head(c, n, logits, err) : LB_OK;
}
