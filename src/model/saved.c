/* SPDX-License-Identifier: Apache-2.0 */
/* saved.c: see saved.h. Rows go as they lie in pages, of the positions that are there and no more:
 * what pads a row or a page is not written. Those of a device pass through memory of the host, a
 * head's at a time. */
#include "model/saved.h"
#include "base/mem.h"
#include "model/device_layers.h"

/* Bytes of a row of one head, without what pads it; 0: there are none. */
static u32 row_bytes(const lb_context *c, u32 layer, bool keys) {
    const lb_cache_layer *l = &c->cache.layer[layer];
    const lb_layer_params *p = &c->m->p.layer[layer];
    u64 bytes = 0;
    if (!l->k_bytes || (!keys && l->v_in_k) ||
        !lb_dtype_bytes(c->cache.type, keys ? p->k_dim : p->v_dim, &bytes))
        return 0;
    return (u32)bytes;
}

/* All layers on devices compute so. */
static bool is_exact(const lb_context *c) {
    return c->o.acts == LB_ACTS_EXACT || (c->parts && c->parts->r->embeds);
}

void lb_context_describe(const lb_context *c, lb_session_file *f) {
    const lb_params *p = &c->m->p;
    *f = (lb_session_file){.kv_type = c->cache.type,
                           .n_vocab = p->n_vocab,
                           .rope_ctx = lb_rotary_ctx(p, c->m->weights, c->o.n_ctx),
                           .flags = (c->cache.rotated ? LB_SESSION_ROTATED : 0u) |
                                    (is_exact(c) ? LB_SESSION_EXACT : 0u) |
                                    (c->o.acts == LB_ACTS_FAST ? LB_SESSION_FAST : 0u)};
    for (u32 i = 0; i < p->n_layers; i++) {
        const lb_cache_layer *l = &c->cache.layer[i];
        f->row_bytes += (u64)l->n_head_kv * (row_bytes(c, i, true) + row_bytes(c, i, false));
        f->state_bytes += l->state_bytes;
    }
}

/* n bytes of a body that lie at `at` in the session; NULL: they are not wanted. */
typedef lb_status move_fn(void *user, u8 *at, u64 n, lb_err *err);

typedef struct walk {
    const lb_context *c;
    const lb_cache_seq *s;
    u32 n, n_all; /* positions that are moved, of so many in the body */
    bool in;      /* from a body */
    move_fn *move;
    void *user;
} walk;

/* A device's bytes, copied to memory or back from there. */
static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a device's part of a saved session");
}

static lb_status move_state(const walk *w, u32 layer, lb_err *err) {
    const lb_cache *cache = &w->c->cache;
    const lb_cache_layer *l = &cache->layer[layer];
    const bool all = w->n == w->n_all;
    if (!lb_device_part_of(w->c, layer) || !l->state_bytes || !all)
        return w->move(w->user, all && w->s->state ? w->s->state + l->state_off : NULL,
                       l->state_bytes, err);
    const u32 seq = (u32)(w->s - cache->seq);
    u8 *host = lb_alloc(l->state_bytes);
    if (!host)
        return no_memory(err);
    lb_status st = w->in ? LB_OK : lb_device_move_state(w->c, seq, layer, host, false, err);
    if (st == LB_OK)
        st = w->move(w->user, host, l->state_bytes, err);
    if (st == LB_OK && w->in)
        st = lb_device_move_state(w->c, seq, layer, host, true, err);
    lb_free(host);
    return st;
}

/* n rows that lie together, `stride` apart. */
static lb_status move_rows(const walk *w, u8 *row, u32 n, u32 bytes, u32 stride, lb_err *err) {
    const u32 step = bytes == stride ? n : 1;
    for (u32 i = 0; i < n; i += step)
        LB_TRY(w->move(w->user, row + (size_t)i * stride, (u64)step * bytes, err));
    return LB_OK;
}

static lb_status move_device_head(const walk *w, const lb_drows_place *at, u32 bytes, lb_err *err) {
    u8 *host = lb_alloc_zero(w->n, at->stride);
    if (!host)
        return no_memory(err);
    lb_status st = w->in ? LB_OK : lb_device_move_rows(w->c, w->s, at, host, false, err);
    if (st == LB_OK)
        st = move_rows(w, host, w->n, bytes, at->stride, err);
    if (st == LB_OK && w->in)
        st = lb_device_move_rows(w->c, w->s, at, host, true, err);
    lb_free(host);
    return st;
}

static lb_status move_head(const walk *w, u32 layer, u32 head, bool keys, lb_err *err) {
    const lb_cache *cache = &w->c->cache;
    const lb_cache_layer *l = &cache->layer[layer];
    const u32 bytes = row_bytes(w->c, layer, keys), stride = keys ? l->k_bytes : l->v_bytes;
    const u64 off = (keys ? l->k_off : l->v_off) + (u64)head * LB_PAGE_ROWS * stride;
    const bool there = lb_device_part_of(w->c, layer) != NULL;
    if (bytes && w->n && there)
        LB_TRY(move_device_head(w, &(lb_drows_place){layer, off, stride, w->n, 0}, bytes, err));
    for (u32 pos = 0; bytes && pos < w->n && !there; pos += LB_PAGE_ROWS)
        LB_TRY(move_rows(w, cache->page[w->s->page[pos / LB_PAGE_ROWS]] + off,
                         LB_MIN(LB_PAGE_ROWS, w->n - pos), bytes, stride, err));
    return w->move(w->user, NULL, (u64)(w->n_all - w->n) * bytes, err);
}

/* In the order of a body. */
static lb_status move_all(const walk *w, lb_err *err) {
    const lb_cache *cache = &w->c->cache;
    if (w->c->parts && w->c->parts->group)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "a session cannot be saved or taken up where devices share heads: use "
                       "--split-mode layer");
    for (u32 i = 0; i < cache->n_layers; i++)
        LB_TRY(move_state(w, i, err));
    for (u32 i = 0; i < cache->n_layers; i++)
        for (u32 h = 0; h < cache->layer[i].n_head_kv; h++) {
            LB_TRY(move_head(w, i, h, true, err));
            LB_TRY(move_head(w, i, h, false, err));
        }
    return LB_OK;
}

typedef struct writing {
    lb_xxh *hash;
    lb_out *out;
} writing;

static lb_status put(void *user, u8 *at, u64 n, lb_err *err) {
    writing *w = user;
    (void)err;
    if (n)
        lb_session_file_put(w->hash, w->out, at, (size_t)n);
    return LB_OK;
}

lb_status lb_context_save(const lb_context *c, u32 seq, lb_xxh *hash, lb_out *out, lb_err *err) {
    const lb_cache_seq *s = &c->cache.seq[seq];
    writing w = {hash, out};
    return move_all(&(walk){c, s, s->length, s->length, false, put, &w}, err);
}

static lb_status get(void *user, u8 *at, u64 n, lb_err *err) {
    return lb_session_body_read(user, at, n, err);
}

lb_status lb_context_load(lb_context *c, u32 seq, lb_session_body *b, const lb_session_file *f,
                          const u32 *ids, u32 n, lb_err *err) {
    lb_cache_seq *s = &c->cache.seq[seq];
    LB_ASSERT(n <= f->n_held && (!c->cache.state_bytes || n == 0 || n == f->n_held));
    (void)lb_cache_cut(&c->cache, seq, 0);
    lb_status st = lb_cache_grow(&c->cache, seq, n, err);
    if (st == LB_OK)
        st = move_all(&(walk){c, s, n, f->n_held, true, get, b}, err);
    if (st == LB_OK)
        st = lb_session_body_end(b, err);
    if (st == LB_OK) {
        memcpy(s->id, ids, n * sizeof *ids);
        s->length = n;
    } else {
        (void)lb_cache_cut(&c->cache, seq, 0);
    }
    return st;
}
