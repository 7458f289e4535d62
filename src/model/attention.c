/* SPDX-License-Identifier: Apache-2.0 */
/* attention.c: softmax attention: queries, keys and values from one matrix or three, norms of
 * heads, rope, the cache, and the pages that each query sees.
 *
 * Work is shared out by blocks of tokens of a sequence and heads of keys. Pages are taken in parts
 * of SPLIT_PAGES, each with a softmax of its own, and the parts are put together in their order: by
 * the thread that made them, or, where tokens are few, by another after several threads have made
 * them. So what a token sees decides its sums, and nothing else of the batch does. */
#include "model/graph.h"
#include "kernel/attend.h"
#include <math.h>

#define BLOCK_TOKENS 16u /* that meet a page at once */
#define SPLIT_PAGES 16u
#define SPLIT_BELOW 64u /* tokens times heads: more of them need no splitting */

/* ---- pages ---- */

typedef lb_block block;

typedef struct attend_job {
    lb_context *c;
    const lb_attention *a;
    const block *blocks;
    u32 n_blocks, rep, n_splits;
} attend_job;

/* Running sums of queries. */
typedef struct sums {
    float *acc, *max, *sum; /* [n_queries, v_dim], [n_queries] */
} sums;

/* What a thread needs for a block: queries, sums of a part and of all, ranges, the kernel's own. */
typedef struct bench {
    float *q;
    sums part, all;
    i32 *from, *to;
    void *scratch;
} bench;

static size_t bench_bytes(size_t n_queries, size_t k_dim, size_t v_dim) {
    return lb_round_up(n_queries * k_dim * sizeof(float), 64) +
           2 * lb_round_up(n_queries * v_dim * sizeof(float), 64) +
           6 * lb_round_up(n_queries * sizeof(float), 64);
}

static void bench_init(bench *b, void *memory, size_t n_queries, size_t k_dim, size_t v_dim) {
    size_t values = lb_round_up(n_queries * v_dim * sizeof(float), 64),
           each = lb_round_up(n_queries * sizeof(float), 64);
    u8 *at = memory;
    b->q = (void *)at;
    at += lb_round_up(n_queries * k_dim * sizeof(float), 64);
    b->part = (sums){(void *)at, (void *)(at + values), (void *)(at + values + each)};
    at += values + 2 * each;
    b->all = (sums){(void *)at, (void *)(at + values), (void *)(at + values + each)};
    at += values + 2 * each;
    b->from = (void *)at;
    b->to = (void *)(at + each);
    b->scratch = at + 2 * each;
}

/* The first position that a query at pos sees. */
static u32 first_seen(const lb_context *c, u32 layer, u32 pos) {
    const lb_params *p = &c->m->p;
    return p->layer[layer].window && pos >= p->window ? pos - p->window + 1 : 0;
}

static void load_queries(const attend_job *j, const block *k, u32 head, bench *b) {
    const lb_attention *a = j->a;
    u32 mix = j->c->cache.layer[a->layer].k_mix;
    for (u32 t = 0; t < k->n; t++)
        for (u32 r = 0; r < j->rep; r++)
            memcpy(b->q + (size_t)(t * j->rep + r) * a->k_dim,
                   a->q + (size_t)(k->token + t) * a->q_stride +
                       (size_t)(head * j->rep + r) * a->k_dim,
                   a->k_dim * sizeof(float));
    lb_cache_mix(j->c, mix, b->q, k->n * j->rep * a->k_dim);
}

/* Nothing is seen yet, but for sinks, which the first part has. */
static void begin_part(const attend_job *j, const block *k, u32 head, u32 part, const sums *s) {
    const lb_attention *a = j->a;
    for (u32 i = 0; i < k->n * j->rep; i++) {
        bool sink = a->sinks && part == 0;
        s->max[i] = sink ? a->sinks[head * j->rep + i % j->rep] : -INFINITY;
        s->sum[i] = sink;
    }
    memset(s->acc, 0, (size_t)k->n * j->rep * a->v_dim * sizeof(float));
}

/* all += part, of n queries; first: there is nothing in all yet. */
static void add_part(const attend_job *j, u32 n, const sums *all, const sums *part, bool first) {
    const lb_kernels *k = j->c->m->k;
    size_t dim = j->a->v_dim;
    if (first) {
        memcpy(all->acc, part->acc, n * dim * sizeof(float));
        memcpy(all->max, part->max, n * sizeof(float));
        memcpy(all->sum, part->sum, n * sizeof(float));
        return;
    }
    for (u32 i = 0; i < n; i++) {
        float *to = all->acc + i * dim;
        const float *from = part->acc + i * dim;
        if (part->max[i] == -INFINITY)
            continue;
        float max = fmaxf(all->max[i], part->max[i]);
        float f = expf(all->max[i] - max), g = expf(part->max[i] - max);
        k->map_mulc_f32(dim, to, to, f);
        k->map_fmac_f32(dim, to, from, g, to);
        all->sum[i] = fmaf(part->sum[i], g, all->sum[i] * f);
        all->max[i] = max;
    }
}

/* Rows [from, to) of a page for every query of the block. False: none is seen. */
static bool set_ranges(const attend_job *j, const block *k, u32 page, bench *b) {
    const lb_context *c = j->c;
    i32 start = (i32)(page * LB_PAGE_ROWS);
    bool any = false;
    for (u32 t = 0; t < k->n; t++) {
        u32 pos = c->pos[k->token + t];
        i32 from = (i32)first_seen(c, j->a->layer, pos) - start, to = (i32)pos + 1 - start;
        from = LB_MAX(from, 0);
        to = LB_MIN(to, (i32)LB_PAGE_ROWS);
        any |= from < to;
        for (u32 r = 0; r < j->rep; r++) {
            b->from[t * j->rep + r] = from;
            b->to[t * j->rep + r] = LB_MAX(to, from);
        }
    }
    return any;
}

static void visit(const attend_job *j, const block *k, u32 head, u32 page, bench *b) {
    const lb_context *c = j->c;
    const lb_attention *a = j->a;
    const lb_cache_seq *s = &c->cache.seq[c->seq[k->token]];
    const lb_cache_layer *cl = &c->cache.layer[a->layer];
    u32 last = c->pos[k->token + k->n - 1] + 1 - page * LB_PAGE_ROWS;
    if (!set_ranges(j, k, page, b))
        return;
    lb_attend in = {.n_queries = k->n * j->rep,
                    .k_dim = a->k_dim,
                    .v_dim = a->v_dim,
                    .n_rows = LB_MIN(last, LB_PAGE_ROWS),
                    .type = c->cache.type,
                    .q = b->q,
                    .q_stride = a->k_dim,
                    .k = lb_cache_keys(&c->cache, a->layer, s->page[page], head),
                    .v = lb_cache_values(&c->cache, a->layer, s->page[page], head),
                    .k_bytes = cl->k_bytes,
                    .v_bytes = cl->v_bytes,
                    .scale = c->m->p.attn_scale,
                    .softcap = c->m->p.attn_softcap,
                    .from = b->from,
                    .to = b->to,
                    .max = b->part.max,
                    .sum = b->part.sum,
                    .acc = b->part.acc,
                    .acc_stride = a->v_dim,
                    .scratch = b->scratch};
    lb_attend_page(c->m->k, &in);
}

/* A part's sums, where several threads make them. */
static sums part_of(const attend_job *j, const block *k, u32 head, u32 part) {
    u64 before = (u64)k->token * j->a->n_head_kv + (u64)head * k->n;
    u64 query = (before * j->n_splits + (u64)part * k->n) * j->rep, n = (u64)k->n * j->rep;
    float *at = j->c->split + query * (j->a->v_dim + 2), *max = at + n * j->a->v_dim;
    return (sums){at, max, max + n};
}

static void store(const attend_job *j, const block *k, u32 head, const sums *s) {
    const lb_attention *a = j->a;
    u32 mix = j->c->cache.layer[a->layer].v_mix;
    for (u32 i = 0; i < k->n * j->rep; i++) {
        float *out = a->out + (size_t)(k->token + i / j->rep) * a->out_stride +
                     (size_t)(head * j->rep + i % j->rep) * a->v_dim;
        j->c->m->k->map_mulc_f32(a->v_dim, out, s->acc + (size_t)i * a->v_dim, 1 / s->sum[i]);
        lb_cache_mix(j->c, mix, out, a->v_dim);
    }
}

static void visit_part(const attend_job *j, const block *k, u32 head, u32 part, bench *b) {
    u32 page = first_seen(j->c, j->a->layer, j->c->pos[k->token]) / LB_PAGE_ROWS;
    u32 end = j->c->pos[k->token + k->n - 1] / LB_PAGE_ROWS + 1;
    begin_part(j, k, head, part, &b->part);
    for (page = LB_MAX(page, part * SPLIT_PAGES), end = LB_MIN(end, (part + 1) * SPLIT_PAGES);
         page < end; page++)
        visit(j, k, head, page, b);
}

/* item: block, then head, then part. */
static void attend_item(void *ctx, u64 item, void *scratch) {
    const attend_job *j = ctx;
    const lb_attention *a = j->a;
    const block *k = &j->blocks[item / ((u64)a->n_head_kv * j->n_splits)];
    u32 head = (u32)(item / j->n_splits % a->n_head_kv), part = (u32)(item % j->n_splits);
    u32 last = j->c->pos[k->token + k->n - 1] / LB_PAGE_ROWS / SPLIT_PAGES;
    bench b;
    bench_init(&b, scratch, (size_t)k->n * j->rep, a->k_dim, a->v_dim);
    load_queries(j, k, head, &b);
    if (j->n_splits > 1) {
        b.part = part_of(j, k, head, part);
        visit_part(j, k, head, part, &b);
        return;
    }
    for (part = 0; part <= last; part++) {
        visit_part(j, k, head, part, &b);
        if (last)
            add_part(j, k->n * j->rep, &b.all, &b.part, part == 0);
    }
    store(j, k, head, last ? &b.all : &b.part);
}

/* Puts the parts of one block's head together. */
static void join_item(void *ctx, u64 item, void *scratch) {
    const attend_job *j = ctx;
    const lb_attention *a = j->a;
    const block *k = &j->blocks[item / a->n_head_kv];
    u32 head = (u32)(item % a->n_head_kv), n = k->n * j->rep;
    u32 last = j->c->pos[k->token + k->n - 1] / LB_PAGE_ROWS / SPLIT_PAGES;
    bench b;
    bench_init(&b, scratch, n, a->k_dim, a->v_dim);
    for (u32 part = 0; part <= last; part++) {
        sums s = part_of(j, k, head, part);
        add_part(j, n, &b.all, &s, part == 0);
    }
    store(j, k, head, &b.all);
}

void lb_attend_all(lb_context *c, const lb_attention *a) {
    block *blocks = c->blocks;
    u32 n_blocks = 0, last = 0;
    for (u32 t = 0; t < c->n;) {
        u32 n = 1;
        while (n < BLOCK_TOKENS && t + n < c->n && c->seq[t + n] == c->seq[t])
            n++;
        blocks[n_blocks++] = (block){t, n};
        last = LB_MAX(last, c->pos[t + n - 1]);
        t += n;
    }
    attend_job j = {c, a, blocks, n_blocks, a->n_head / a->n_head_kv, 1};
    if ((u64)c->n * a->n_head_kv < SPLIT_BELOW)
        j.n_splits = last / LB_PAGE_ROWS / SPLIT_PAGES + 1;
    lb_team_run(c->team, (u64)n_blocks * a->n_head_kv * j.n_splits, attend_item, &j);
    if (j.n_splits > 1)
        lb_team_run(c->team, (u64)n_blocks * a->n_head_kv, join_item, &j);
}

void lb_attend_sizes(const lb_model *m, const lb_context_opts *o, size_t *scratch,
                     u64 *split_elems) {
    u64 splits = o->n_ctx / LB_PAGE_ROWS / SPLIT_PAGES + 1;
    *scratch = 0;
    *split_elems = 0;
    for (u32 i = 0; i < m->p.n_layers; i++) {
        const lb_layer_params *l = &m->p.layer[i];
        if (l->recurrent || !l->n_head_kv)
            continue;
        u32 rep = l->n_head / l->n_head_kv;
        lb_attend a = {.n_queries = (size_t)LB_MIN(BLOCK_TOKENS, o->n_batch) * rep,
                       .k_dim = l->k_dim,
                       .v_dim = l->v_dim,
                       .n_rows = LB_PAGE_ROWS,
                       .type = o->kv_type};
        size_t bytes = bench_bytes(a.n_queries, l->k_dim, l->v_dim) + lb_attend_scratch_bytes(&a);
        *scratch = LB_MAX(*scratch, bytes);
        if (splits > 1)
            *split_elems = LB_MAX(*split_elems, SPLIT_BELOW * splits * rep * (l->v_dim + 2u));
    }
}

void lb_cache_mix(const lb_context *c, u32 mix, float *x, u32 n) {
    for (u32 at = 0; mix && at < n; at += mix)
        c->m->k->hadamard_f32(mix, x + at);
}

void lb_cache_store(const lb_context *c, u32 layer, bool keys, u8 *to, float *x) {
    const lb_layer_params *p = &c->m->p.layer[layer];
    const lb_cache_layer *l = &c->cache.layer[layer];
    u32 n = keys ? p->k_dim : p->v_dim;
    u64 counts[2];
    lb_cache_mix(c, keys ? l->k_mix : l->v_mix, x, n);
    if (c->cache.type == LB_F16 || c->cache.type == LB_F32)
        lb_kernels_encode(c->m->k, c->cache.type)(n, to, x, counts);
    else
        lb_kernels_quant(c->m->k, c->cache.type)(n, to, x, NULL, NULL);
}

/* ---- the layer ---- */

typedef struct heads {
    u32 layer, n_head, n_head_kv, k_dim, v_dim;
    size_t q, k, v, stride; /* places of the token's parts in a row of c->qkv */
    bool gated;
    bool own;     /* has keys and values of its own */
    bool same_kv; /* values are keys, before anything is done to them */
} heads;

static void norm_heads(const lb_model *m, const lb_norm *n, float *x, u32 n_heads, u32 dim) {
    if (!n->n)
        return;
    if (n->n != dim) {
        lb_apply_norm(m, n, x, x);
        return;
    }
    lb_norm one = *n;
    for (u32 h = 0; h < n_heads; h++) {
        lb_apply_norm(m, &one, x + (size_t)h * dim, x + (size_t)h * dim);
        if (n->n_heads > 1)
            one.w += dim;
    }
}

void lb_turn(const lb_context *c, const lb_layer *l, u32 token, float *x, const lb_turning *how) {
    size_t at = ((size_t)l->rope * c->o.n_batch + token) * c->rope_width;
    (l->halves ? c->m->k->rope_half_f32 : c->m->k->rope_pairs_f32)(
        how->n_heads, how->stride, how->n_rot, x, c->cos + at, c->sin + at);
}

/* [q, gate] of each head -> q of all, gates of all */
static void part_gates(float *q, u32 n_heads, u32 dim, float *scratch) {
    memcpy(scratch, q, 2ull * n_heads * dim * sizeof(float));
    for (u32 h = 0; h < n_heads; h++) {
        memcpy(q + (size_t)h * dim, scratch + 2ull * h * dim, dim * sizeof(float));
        memcpy(q + (size_t)(n_heads + h) * dim, scratch + (2ull * h + 1) * dim,
               dim * sizeof(float));
    }
}

static void store_heads(const lb_context *c, const heads *h, u32 t, float *k, float *v) {
    const lb_cache_seq *s = &c->cache.seq[c->seq[t]];
    const lb_cache_layer *cl = &c->cache.layer[h->layer];
    u32 page = s->page[c->pos[t] / LB_PAGE_ROWS], row = c->pos[t] % LB_PAGE_ROWS;
    for (u32 i = 0; i < h->n_head_kv; i++) {
        lb_cache_store(c, h->layer, true,
                       lb_cache_keys(&c->cache, h->layer, page, i) + (size_t)row * cl->k_bytes,
                       k + (size_t)i * h->k_dim);
        lb_cache_store(c, h->layer, false,
                       lb_cache_values(&c->cache, h->layer, page, i) + (size_t)row * cl->v_bytes,
                       v + (size_t)i * h->v_dim);
    }
}

static void heads_of_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const heads *h = arg;
    const lb_model *m = c->m;
    const lb_layer *l = &m->layer[h->layer];
    u32 n_rot = m->p.layer[h->layer].n_rot, flags = m->p.graph->flags;
    bool late = (flags & LB_GRAPH_QK_NORM_LATE) != 0;
    float *row = c->qkv + (size_t)t * h->stride, *q = row + h->q, *k = row + h->k, *v = row + h->v;
    if (h->gated)
        part_gates(q, h->n_head, h->k_dim, scratch);
    if (h->own && h->same_kv)
        memcpy(v, k, (size_t)h->n_head_kv * h->k_dim * sizeof(float));
    for (int pass = 0; pass < 2; pass++)
        if ((pass == 1) == late) {
            norm_heads(m, &l->q_norm, q, h->n_head, h->k_dim);
            norm_heads(m, &l->k_norm, k, h->own ? h->n_head_kv : 0, h->k_dim);
        } else if (n_rot) {
            lb_turn(c, l, t, q, &(lb_turning){h->n_head, n_rot, h->k_dim});
            if (h->own)
                lb_turn(c, l, t, k, &(lb_turning){h->n_head_kv, n_rot, h->k_dim});
        }
    if (m->p.temp_scale != 0 && c->pos[t] >= m->p.n_ctx_orig)
        m->k->map_mulc_f32(
            (size_t)h->n_head * h->k_dim, q, q,
            (float)(1 + (double)m->p.temp_scale * log1p(c->pos[t] / m->p.n_ctx_orig)));
    if (!h->own)
        return;
    if (flags & LB_GRAPH_V_NORM)
        for (u32 i = 0; i < h->n_head_kv; i++)
            m->k->rms_norm_f32(h->v_dim, v + (size_t)i * h->v_dim, v + (size_t)i * h->v_dim, NULL,
                               m->p.eps);
    store_heads(c, h, t, k, v);
}

static void gate_token(lb_context *c, void *arg, u32 t, void *scratch) {
    const heads *h = arg;
    size_t n = (size_t)h->n_head * h->v_dim;
    float *gate = c->qkv + (size_t)t * h->stride + h->q + (size_t)h->n_head * h->k_dim;
    float *out = c->att + (size_t)t * c->m->max_attn;
    (void)scratch;
    c->m->k->sigmoid_f32(n, gate, gate);
    c->m->k->map_mul_f32(n, out, out, gate);
}

static void project_heads(lb_context *c, const lb_layer *l, const heads *h) {
    if (l->qkv.w) {
        lb_project(c, &l->qkv, c->in, c->qkv, h->stride);
        lb_project_run(c);
        lb_add_bias(c, &l->qkv, c->qkv, h->stride, c->n);
        return;
    }
    lb_project(c, &l->q, c->in, c->qkv + h->q, h->stride);
    if (h->own)
        lb_project(c, &l->k, c->in, c->qkv + h->k, h->stride);
    if (h->own && !h->same_kv)
        lb_project(c, &l->v, c->in, c->qkv + h->v, h->stride);
    lb_project_run(c);
    lb_add_bias(c, &l->q, c->qkv + h->q, h->stride, c->n);
    if (h->own)
        lb_add_bias(c, &l->k, c->qkv + h->k, h->stride, c->n);
    if (h->own && !h->same_kv)
        lb_add_bias(c, &l->v, c->qkv + h->v, h->stride, c->n);
}

lb_status lb_mix_attention(lb_context *c, u32 layer, lb_err *err) {
    const lb_model *m = c->m;
    const lb_layer *l = &m->layer[layer];
    const lb_layer_params *p = &m->p.layer[layer];
    heads h = {.layer = layer,
               .n_head = p->n_head,
               .n_head_kv = p->n_head_kv,
               .k_dim = p->k_dim,
               .v_dim = p->v_dim,
               .stride = m->max_attn,
               .gated = (m->p.graph->flags & LB_GRAPH_Q_GATE) != 0,
               .own = p->kv_layer == layer,
               .same_kv = !l->qkv.w && !l->v.w};
    h.k = (size_t)p->n_head * p->k_dim * (h.gated ? 2 : 1);
    h.v = h.k + (size_t)p->n_head_kv * p->k_dim;
    (void)err;
    project_heads(c, l, &h);
    lb_each_token(c, c->n, 8 * (h.v + (size_t)p->n_head_kv * p->v_dim), heads_of_token, &h);
    lb_attend_all(c, &(lb_attention){.layer = p->kv_layer,
                                     .n_head = p->n_head,
                                     .n_head_kv = p->n_head_kv,
                                     .k_dim = p->k_dim,
                                     .v_dim = p->v_dim,
                                     .q = c->qkv,
                                     .q_stride = m->max_attn,
                                     .out = c->att,
                                     .out_stride = m->max_attn,
                                     .sinks = l->sinks});
    if (h.gated)
        lb_each_token(c, c->n, 8ull * p->n_head * p->v_dim, gate_token, &h);
    lb_acts a;
    lb_acts_make(&a, c->att, m->max_attn, (u64)p->n_head * p->v_dim, c->n, 1);
    lb_project(c, &l->o, &a, c->y, m->p.n_embd);
    lb_project_run(c);
    lb_add_bias(c, &l->o, c->y, m->p.n_embd, c->n);
    return LB_OK;
}
