/* SPDX-License-Identifier: Apache-2.0 */
/* shift.c: tokens leave a sequence from its middle, and those behind them move up: their keys turn
 * back by the positions that are gone (llama.cpp's context shift; StreamingLLM: Xiao et al. 2023).
 *
 * Rotations add up, so a stored key turns from its old position to the new one by the difference
 * alone; what scales cosines (yarn, longrope) is in the stored key already. Keys that are
 * normalised behind their rotation are divided by the norm's weights before and multiplied behind
 * it: the norm itself does not see rotations. Keys and values of layers above the first were made
 * of all tokens that were there then, and stay so. */
#include "base/mem.h"
#include "model/device_layers.h"

lb_status lb_model_can_shift(const lb_model *m, lb_err *err) {
    const char *why = NULL;
    if (lb_model_is_recurrent(m))
        why = "recurrent layers keep one state of all tokens";
    else if (m->positions)
        why = "its positions are learned vectors, which are part of every key";
    for (u32 i = 0; i < m->p.n_layers && !why; i++) {
        const lb_norm *n = &m->layer[i].k_norm;
        if (!(m->p.graph->flags & LB_GRAPH_QK_NORM_LATE) || !n->n || !m->p.layer[i].n_rot)
            continue;
        if (m->p.graph->norm == LB_NORM_LAYER || n->b || n->n != m->p.layer[i].k_dim)
            why = "keys are normalised behind their rotation, by a norm that sees it";
        for (u32 k = 0; k < n->n * LB_MAX(n->n_heads, 1u) && !why; k++)
            if (n->w && n->w[k] == 0)
                why = "keys are normalised behind their rotation, and some elements to 0";
    }
    return why ? lb_fail(err, LB_E_UNSUPPORTED,
                         "a full context cannot be shifted for this model: %s: use a larger --ctx",
                         why)
               : LB_OK;
}

const lb_norm *lb_late_norm(const lb_model *m, u32 layer) {
    const lb_norm *n = &m->layer[layer].k_norm;
    return m->p.graph->flags & LB_GRAPH_QK_NORM_LATE && n->n && n->w ? n : NULL;
}

lb_status lb_context_can_shift(const lb_context *c, lb_err *err) {
    LB_TRY(lb_model_can_shift(c->m, err));
    if (c->parts && c->parts->group)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "a full context cannot be shifted where devices share heads: use a larger "
                       "--ctx or --split-mode layer");
    return LB_OK;
}

u32 lb_rotated_part(const lb_model *m, u32 layer, u32 *n_rot) {
    *n_rot = m->p.layer[layer].n_rot;
    if (m->layer[layer].mixer != LB_MIX_LATENT)
        return 0;
    *n_rot = m->p.rot_dim;
    return m->layer[layer].kv_b.w ? m->p.nope_dim : m->p.kv_rank;
}

/* times: by the weights of the norm, or divided by them. */
static void weigh(const lb_norm *n, u32 head, float *x, bool times) {
    const float *w = n->w + (n->n_heads > 1 ? (size_t)head * n->n : 0);
    for (u32 i = 0; i < n->n; i++)
        x[i] = times ? x[i] * w[i] : x[i] / w[i];
}

static void turn_key(const lb_shift *s, u32 layer, u32 head, float *x) {
    const lb_model *m = s->c->m;
    const lb_layer *l = &m->layer[layer];
    const lb_norm *late = lb_late_norm(m, layer);
    u32 n_rot, first = lb_rotated_part(m, layer, &n_rot);
    size_t at = (size_t)l->rope * s->c->rope_width;
    if (late)
        weigh(late, head, x, false);
    (l->halves ? m->k->rope_half_f32 : m->k->rope_pairs_f32)(1, n_rot, n_rot, x + first,
                                                             s->cos + at, s->sin + at);
    if (late)
        weigh(late, head, x, true);
}

void lb_shift_turn(const lb_shift *s, const lb_shift_keys *k, float *x) {
    const lb_context *c = s->c;
    const lb_cache_layer *l = &c->cache.layer[k->layer];
    const u32 dim = c->m->p.layer[k->layer].k_dim;
    u32 n_rot;
    (void)lb_rotated_part(c->m, k->layer, &n_rot);
    if (!n_rot) {
        memmove(k->to, k->from, (size_t)k->n * l->k_bytes);
        return;
    }
    for (u32 i = 0; i < k->n; i++) {
        lb_kernels_decode(c->m->k, c->cache.type)(dim, x, k->from + (size_t)i * l->k_bytes);
        lb_cache_mix(c, l->k_mix, x, dim);
        turn_key(s, k->layer, k->head, x);
        lb_cache_store(c, k->layer, true, k->to + (size_t)i * l->k_bytes, x);
    }
}

/* One head of a layer; rows move up, so that none is needed where another has been written. */
static void move_head(const lb_shift *s, u32 layer, u32 head, float *x) {
    const lb_cache *cache = &s->c->cache;
    const lb_cache_layer *l = &cache->layer[layer];
    u32 from = s->keep + s->drop, n;
    for (u32 to = s->keep; from < s->length; to += n, from += n) {
        const u32 a = s->s->page[from / LB_PAGE_ROWS], b = s->s->page[to / LB_PAGE_ROWS];
        const u32 i = from % LB_PAGE_ROWS, j = to % LB_PAGE_ROWS;
        n = LB_MIN(LB_PAGE_ROWS - LB_MAX(i, j), s->length - from); /* within both pages */
        lb_shift_turn(
            s,
            &(lb_shift_keys){layer, head, n,
                             lb_cache_keys(cache, layer, a, head) + (size_t)i * l->k_bytes,
                             lb_cache_keys(cache, layer, b, head) + (size_t)j * l->k_bytes},
            x);
        if (!l->v_in_k)
            memmove(lb_cache_values(cache, layer, b, head) + (size_t)j * l->v_bytes,
                    lb_cache_values(cache, layer, a, head) + (size_t)i * l->v_bytes,
                    (size_t)n * l->v_bytes);
    }
}

static void move_layer(void *ctx, u64 item, void *scratch) {
    const lb_shift *s = ctx;
    u32 layer = (u32)item;
    const lb_cache_layer *l = &s->c->cache.layer[layer];
    for (u32 h = 0; l->k_bytes && h < l->n_head_kv; h++)
        move_head(s, layer, h, scratch);
}

static void make_angles(const lb_shift *s) {
    for (u32 r = 0; r < s->c->m->n_ropes; r++) {
        lb_rotary back = s->c->rotary[r];
        float *sin = s->sin + (size_t)r * s->c->rope_width;
        back.mscale = 1;
        lb_rotary_angles(&back, s->drop, s->cos + (size_t)r * s->c->rope_width, sin);
        for (u32 i = 0; i < back.n_rot / 2; i++)
            sin[i] = -sin[i];
    }
}

lb_status lb_context_shift(lb_context *c, u32 seq, u32 keep, u32 drop, lb_err *err) {
    lb_cache_seq *s = &c->cache.seq[seq];
    lb_shift job = {.c = c, .s = s, .keep = keep, .drop = drop, .length = s->length};
    LB_TRY(lb_context_can_shift(c, err));
    if (keep > s->length || drop > s->length - keep)
        return lb_fail(err, LB_E_USAGE, "%u tokens behind the first %u: the sequence has %u", drop,
                       keep, s->length);
    if (!drop)
        return LB_OK;
    LB_TRY(lb_cache_own(&c->cache, seq, keep / LB_PAGE_ROWS, err));
    u64 n = (u64)LB_MAX(c->m->n_ropes, 1u) * LB_MAX(c->rope_width, 1u);
    job.cos = lb_alloc_zero(2 * n, sizeof(float));
    if (!job.cos)
        return lb_fail(err, LB_E_NOMEM, "out of memory to shift a context");
    job.sin = job.cos + n;
    make_angles(&job);
    lb_status st = LB_OK;
    if (c->parts)
        st = lb_device_shift(&job, err);
    const u32 n_host = c->parts ? c->parts->r->first : c->m->p.n_layers;
    if (st == LB_OK && n_host)
        lb_team_run(c->team, n_host, move_layer, &job);
    lb_free(job.cos);
    if (st != LB_OK) { /* some rows have moved, others not */
        (void)lb_cache_cut(&c->cache, seq, keep);
        return st;
    }
    memmove(s->id + keep, s->id + keep + drop, (s->length - keep - drop) * sizeof *s->id);
    (void)lb_cache_cut(&c->cache, seq, s->length - drop);
    return LB_OK;
}

/* How many of n ids are those of the sequence from `from` on. */
static u32 same_from(const lb_cache_seq *s, u32 from, const u32 *ids, u32 n) {
    u32 same = 0;
    while (same < n && from + same < s->length && s->id[from + same] == ids[same])
        same++;
    return same;
}

lb_status lb_context_close_gap(lb_context *c, u32 seq, const u32 *ids, u32 n, u32 *n_gone,
                               lb_err *err) {
    const lb_cache_seq *s = &c->cache.seq[seq];
    u32 keep = lb_context_common(c, seq, ids, n), drop = 0, most = LB_SHIFT_LEAST - 1;
    *n_gone = 0;
    if (lb_context_can_shift(c, NULL) != LB_OK)
        return LB_OK;
    for (u32 d = 1; keep < n && d < s->length - keep && most < s->length - keep - d; d++) {
        u32 same = same_from(s, keep + d, ids + keep, n - keep);
        if (same > most) {
            most = same;
            drop = d;
        }
    }
    if (!drop)
        return LB_OK;
    *n_gone = drop;
    return lb_context_shift(c, seq, keep, drop, err);
}
