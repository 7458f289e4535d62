/* SPDX-License-Identifier: Apache-2.0 */
/* latent.c: latent attention (MLA; DeepSeek-AI 2024): keys and values of all heads are made from
 * one vector of rank kv_rank, which is all that the cache keeps, beside one rotated key.
 *
 * Absorbed form: q's part without rotation goes through the matrix that makes keys, so that scores
 * and sums are taken in the latent space (one head of keys whose first elements are its values),
 * and each head's sum goes through the matrix that makes values. Where both matrices are stored as
 * one (kv_b), keys and values of all heads are made and kept instead. */
#include "model/graph.h"

typedef struct latent {
    u32 layer, n_head, nope, rot, rank, value;
    size_t q, kv, abs, stride; /* places in a row of c->qkv: q, latent and rotated key, absorbed q
                                  or the heads' keys and values */
} latent;

/* Row of a head's q: [nope, rot]. */
static float *q_of(const lb_context *c, const latent *a, u32 t, u32 head) {
    return c->qkv + (size_t)t * a->stride + a->q + (size_t)head * (a->nope + a->rot);
}

static u8 *cache_row(const lb_context *c, u32 layer, u32 t, u32 head, bool keys) {
    const lb_cache_seq *s = &c->cache.seq[c->seq[t]];
    const lb_cache_layer *cl = &c->cache.layer[layer];
    u32 page = s->page[c->pos[t] / LB_PAGE_ROWS], row = c->pos[t] % LB_PAGE_ROWS;
    return keys ? lb_cache_keys(&c->cache, layer, page, head) + (size_t)row * cl->k_bytes
                : lb_cache_values(&c->cache, layer, page, head) + (size_t)row * cl->v_bytes;
}

/* Norm of the latent vector, rotation of q's and the key's last parts. */
static void prepare_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const latent *a = arg;
    const lb_layer *l = &c->m->layer[a->layer];
    float *kv = c->qkv + (size_t)t * a->stride + a->kv;
    (void)scratch;
    lb_apply_norm(c->m, &l->kv_a_norm, kv, kv);
    lb_turn(c, l, t, q_of(c, a, t, 0) + a->nope,
            &(lb_turning){a->n_head, a->rot, a->nope + a->rot});
    lb_turn(c, l, t, kv + a->rank, &(lb_turning){1, a->rot, a->rot});
}

static void store_latent(lb_context *c, void *arg, u32 t, void *scratch) {
    const latent *a = arg;
    (void)scratch;
    lb_cache_store(c, a->layer, true, cache_row(c, a->layer, t, 0, true),
                   c->qkv + (size_t)t * a->stride + a->kv);
    for (u32 h = 0; h < a->n_head; h++)
        memcpy(c->qkv + (size_t)t * a->stride + a->abs + (size_t)h * (a->rank + a->rot) + a->rank,
               q_of(c, a, t, h) + a->nope, a->rot * sizeof(float));
}

/* Heads whose rows fit the buffers at a time. */
static u32 heads_at_a_time(const lb_context *c, u32 dim, u32 n_head) {
    u64 acts = lb_act_bytes(LB_ACT_F32, c->m->max_cols) / lb_act_bytes(LB_ACT_F32, dim);
    u64 floats = 2ull * c->m->max_ff / dim;
    return (u32)LB_MIN(LB_MAX(LB_MIN(acts, floats), (u64)1), (u64)n_head);
}

/* out of each token and head = the head's matrix times its row of x. */
typedef struct by_head {
    const lb_linear *w;
    const float *x;
    size_t x_stride, x_head;
    float *out;
    size_t out_stride, out_head;
    u32 first, n, dim; /* heads at a time */
} by_head;

static void gather_heads(lb_context *c, void *arg, u32 t, void *scratch) {
    const by_head *b = arg;
    (void)scratch;
    for (u32 i = 0; i < b->n; i++)
        memcpy(c->ff + ((size_t)i * c->n + t) * b->dim,
               b->x + t * b->x_stride + (b->first + i) * b->x_head, b->dim * sizeof(float));
}

static void project_heads(lb_context *c, by_head *b, u32 n_head) {
    u32 step = heads_at_a_time(c, b->dim, n_head);
    lb_acts a;
    for (b->first = 0; b->first < n_head; b->first += step) {
        b->n = LB_MIN(step, n_head - b->first);
        lb_each_token(c, c->n, (u64)b->n * b->dim, gather_heads, b);
        lb_acts_make(&a, c->ff, b->dim, b->dim, (size_t)b->n * c->n, 1);
        for (u32 i = 0; i < b->n; i++)
            lb_project_some(c, b->w, &a, &(lb_some_rows){b->first + i, (size_t)i * c->n, c->n},
                            b->out + (b->first + i) * b->out_head, b->out_stride);
        lb_project_run(c);
    }
}

static void project_q(lb_context *c, const lb_layer *l, const latent *a) {
    lb_acts x;
    lb_project(c, &l->kv_a, c->in, c->qkv + a->kv, a->stride);
    lb_project(c, l->q_a.w ? &l->q_a : &l->q, c->in, l->q_a.w ? c->att : c->qkv + a->q,
               l->q_a.w ? c->m->max_attn : a->stride);
    lb_project_run(c);
    lb_add_bias(c, &l->kv_a, c->qkv + a->kv, a->stride, c->n);
    if (!l->q_a.w)
        return;
    u32 rank = (u32)l->q_b.w->n_cols;
    lb_add_bias(c, &l->q_a, c->att, c->m->max_attn, c->n);
    for (u32 t = 0; t < c->n; t++)
        lb_apply_norm(c->m, &l->q_a_norm, c->att + (size_t)t * c->m->max_attn,
                      c->att + (size_t)t * c->m->max_attn);
    lb_acts_make(&x, c->att, c->m->max_attn, rank, c->n, 1);
    lb_project(c, &l->q_b, &x, c->qkv + a->q, a->stride);
    lb_project_run(c);
}

/* ---- keys and values of all heads ---- */

static void store_heads(lb_context *c, void *arg, u32 t, void *scratch) {
    const latent *a = arg;
    float *row = c->qkv + (size_t)t * a->stride, *heads = row + a->abs, *key = scratch;
    for (u32 h = 0; h < a->n_head; h++) {
        float *x = heads + (size_t)h * (a->nope + a->value);
        memcpy(key, x, a->nope * sizeof(float));
        memcpy(key + a->nope, row + a->kv + a->rank, a->rot * sizeof(float));
        lb_cache_store(c, a->layer, true, cache_row(c, a->layer, t, h, true), key);
        lb_cache_store(c, a->layer, false, cache_row(c, a->layer, t, h, false), x + a->nope);
    }
}

static void expand(lb_context *c, const lb_layer *l, latent *a) {
    lb_acts x;
    lb_acts_make(&x, c->qkv + a->kv, a->stride, a->rank, c->n, 1);
    lb_project(c, &l->kv_b, &x, c->qkv + a->abs, a->stride);
    lb_project_run(c);
    lb_each_token(c, c->n, 4ull * a->n_head * (a->nope + a->value), store_heads, a);
    lb_attend_all(c, &(lb_attention){.layer = a->layer,
                                     .n_head = a->n_head,
                                     .n_head_kv = a->n_head,
                                     .k_dim = a->nope + a->rot,
                                     .v_dim = a->value,
                                     .q = c->qkv + a->q,
                                     .q_stride = a->stride,
                                     .out = c->att,
                                     .out_stride = c->m->max_attn});
}

/* ---- the absorbed form ---- */

static void absorb(lb_context *c, const lb_layer *l, latent *a) {
    by_head keys = {.w = &l->k_b,
                    .x = c->qkv + a->q,
                    .x_stride = a->stride,
                    .x_head = a->nope + a->rot,
                    .out = c->qkv + a->abs,
                    .out_stride = a->stride,
                    .out_head = a->rank + a->rot,
                    .dim = a->nope};
    project_heads(c, &keys, a->n_head);
    lb_each_token(c, c->n, 4ull * a->n_head * a->rot + a->rank, store_latent, a);
    lb_attend_all(c, &(lb_attention){.layer = a->layer,
                                     .n_head = a->n_head,
                                     .n_head_kv = 1,
                                     .k_dim = a->rank + a->rot,
                                     .v_dim = a->rank,
                                     .q = c->qkv + a->abs,
                                     .q_stride = a->stride,
                                     .out = c->att,
                                     .out_stride = c->m->max_attn});
    by_head values = {.w = &l->v_b,
                      .x = c->att,
                      .x_stride = c->m->max_attn,
                      .x_head = a->rank,
                      .out = c->qkv,
                      .out_stride = a->stride,
                      .out_head = a->value,
                      .dim = a->rank};
    project_heads(c, &values, a->n_head);
}

lb_status lb_mix_latent(lb_context *c, u32 layer, lb_err *err) {
    const lb_model *m = c->m;
    const lb_params *p = &m->p;
    const lb_layer *l = &m->layer[layer];
    latent a = {.layer = layer,
                .n_head = p->layer[layer].n_head,
                .nope = p->nope_dim,
                .rot = p->rot_dim,
                .rank = p->kv_rank,
                .value = p->value_dim,
                .stride = m->max_attn};
    (void)err;
    a.kv = (size_t)a.n_head * (a.nope + a.rot);
    a.abs = a.kv + a.rank + a.rot;
    project_q(c, l, &a);
    lb_each_token(c, c->n, 4 * a.abs, prepare_token, &a);
    if (l->kv_b.w)
        expand(c, l, &a);
    else
        absorb(c, l, &a);
    lb_acts x;
    lb_acts_make(&x, l->kv_b.w ? c->att : c->qkv, m->max_attn, (u64)a.n_head * a.value, c->n, 1);
    lb_project(c, &l->o, &x, c->y, p->n_embd);
    lb_project_run(c);
    lb_add_bias(c, &l->o, c->y, p->n_embd, c->n);
    return LB_OK;
}
