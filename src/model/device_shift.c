/* SPDX-License-Identifier: Apache-2.0 */
/* device_shift.c: shift.c for a device: so many rows at a time as leave, at most, so that none is
 * written that is still to be read. */
#include "model/device_layers.h"
#include "model/device_parts.h"

typedef struct shift {
    lb_context *c;
    const lb_cache_seq *s;
    const lb_dshift *how;
} shift;

static u32 place_of(const lb_cache_seq *s, u32 pos) {
    return s->page[pos / LB_PAGE_ROWS] * LB_PAGE_ROWS + pos % LB_PAGE_ROWS;
}

/* Places and angles of c->n rows, the first of which goes to position `to`, to all parts. */
static lb_status put_rows(const shift *w, u32 to, lb_err *err) {
    const lb_context *c = w->c;
    const lb_dcontext *d = c->device;
    const u64 bytes = lb_device_lay_out(c, c->n, 0);
    u8 *host = lb_dev_buf_host(d->host);
    for (u32 i = 0; i < c->n; i++) {
        lb_device_section(c, LB_DMETA_IDS)[i] = place_of(w->s, to + w->how->drop + i);
        lb_device_section(c, LB_DMETA_PLACE)[i] = place_of(w->s, to + i);
        for (u32 r = 0; r < c->m->n_ropes; r++) {
            const size_t n = c->m->rope[r].n_rot / 2 * sizeof(float);
            memcpy(host + d->cos_at[r] + i * n, w->how->cos + (size_t)r * c->rope_width, n);
            memcpy(host + d->sin_at[r] + i * n, w->how->sin + (size_t)r * c->rope_width, n);
        }
    }
    return lb_device_send(c, bytes, err);
}

/* Rows as they are stored. */
static lb_status move_rows(const shift *w, u64 off, u32 row_bytes, u32 n_heads, lb_err *err) {
    const lb_context *c = w->c;
    const lb_move_rows_args a = {.n_tokens = c->n,
                                 .n_heads = n_heads,
                                 .off = (u32)(off - c->device->kv_off),
                                 .row_bytes = row_bytes,
                                 .page_bytes = (u32)c->device->page_bytes,
                                 .n_pages = c->cache.n_pages_max};
    const lb_dev_arg buf[] = {lb_dmeta_arg(c, LB_DMETA_IDS), lb_dmeta_arg(c, LB_DMETA_PLACE),
                              lb_dbuf_arg(c, LB_DBUF_CACHE)};
    return lb_dlaunch(c, LB_DK_kv_move, buf, &a, err);
}

static lb_status turn_keys(const shift *w, u32 layer, lb_err *err) {
    const lb_context *c = w->c;
    const lb_dcontext *d = c->device;
    const lb_layer *l = &c->m->layer[layer];
    const lb_cache_layer *cl = &c->cache.layer[layer];
    const u32 dim = c->m->p.layer[layer].k_dim;
    u32 n_rot, first = lb_rotated_part(c->m, layer, &n_rot);
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_QKV);
    const lb_dput p = {
        .layer = layer, .n_head_kv = cl->n_head_kv, .k_dim = dim, .stride = c->m->max_attn, .x = x};
    const lb_rope_args a = {.n_tokens = c->n,
                            .n_heads = cl->n_head_kv,
                            .head_dim = dim,
                            .n_rot = n_rot,
                            .pairs = !l->halves,
                            .first = first,
                            .stride = c->m->max_attn};
    const lb_dev_arg buf[] = {
        {d->buf[LB_DBUF_META], d->cos_at[l->rope]}, {d->buf[LB_DBUF_META], d->sin_at[l->rope]}, x};
    if (!n_rot)
        return move_rows(w, cl->k_off, cl->k_bytes, cl->n_head_kv, err);
    LB_TRY(lb_device_take(c, &p, err));
    LB_TRY(lb_dlaunch(c, LB_DK_rope, buf, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_device_put(c, &p, err);
}

static lb_status part(const shift *w, lb_err *err) {
    const lb_resident *r = w->c->device->r;
    for (u32 i = r->first; i < r->end; i++) {
        const lb_cache_layer *l = &w->c->cache.layer[i];
        if (!l->k_bytes)
            continue;
        LB_TRY(turn_keys(w, i, err));
        if (!l->v_in_k)
            LB_TRY(move_rows(w, l->v_off, l->v_bytes, l->n_head_kv, err));
        LB_TRY(lb_dbarrier(w->c, err));
    }
    return LB_OK;
}

static lb_status submit(const shift *w, u32 to, lb_err *err) {
    LB_TRY(put_rows(w, to, err));
    for (; w->c->device; w->c->device = w->c->device->next)
        LB_TRY(part(w, err));
    return LB_OK;
}

lb_status lb_device_shift(lb_context *c, u32 seq, const lb_dshift *s, lb_err *err) {
    const shift w = {c, &c->cache.seq[seq], s};
    lb_err ignored;
    lb_status st = LB_OK;
    for (u32 to = s->keep; to < w.s->length - s->drop && st == LB_OK; to += c->n) {
        c->n = LB_MIN(LB_MIN(s->drop, c->o.n_batch), w.s->length - s->drop - to);
        st = submit(&w, to, err);
        const lb_status waited = lb_device_settle(c, st == LB_OK ? err : &ignored);
        st = st == LB_OK ? waited : st;
    }
    return st;
}
