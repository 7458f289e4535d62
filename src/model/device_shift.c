/* SPDX-License-Identifier: Apache-2.0 */
/* device_shift.c: shift.c for a device: so many rows at a time as leave, at most, so that none is
 * written that is still to be read. Of a device that lacks one of the kernels, and of keys that are
 * normalised behind their rotation, rows go through the host, where they turn as its own do. */
#include "base/mem.h"
#include "model/device_layers.h"
#include "model/device_parts.h"

static u32 place_of(const lb_cache_seq *s, u32 pos) {
    return s->page[pos / LB_PAGE_ROWS] * LB_PAGE_ROWS + pos % LB_PAGE_ROWS;
}

/* Places and angles of c->n rows, the first of which goes to position `to`, to all parts. */
static lb_status put_rows(const lb_shift *w, u32 to, lb_err *err) {
    const lb_context *c = w->c;
    const lb_dcontext *d = c->device;
    const u64 bytes = lb_device_lay_out(c, c->n, 0);
    u8 *host = lb_dev_buf_host(d->host);
    for (u32 i = 0; i < c->n; i++) {
        lb_device_section(c, LB_DMETA_IDS)[i] = place_of(w->s, to + w->drop + i);
        lb_device_section(c, LB_DMETA_PLACE)[i] = place_of(w->s, to + i);
        for (u32 r = 0; r < c->m->n_ropes; r++) {
            const size_t n = c->m->rope[r].n_rot / 2 * sizeof(float);
            memcpy(host + d->cos_at[r] + i * n, w->cos + (size_t)r * c->rope_width, n);
            memcpy(host + d->sin_at[r] + i * n, w->sin + (size_t)r * c->rope_width, n);
        }
    }
    return lb_device_send(c, bytes, err);
}

/* Rows as they are stored. */
static lb_status move_rows(const lb_shift *w, u64 off, u32 row_bytes, u32 n_heads, lb_err *err) {
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

static lb_status turn_keys(const lb_shift *w, u32 layer, lb_err *err) {
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

static lb_status by_kernels(const lb_shift *w, lb_err *err) {
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

/* ---- through the host ---- */

#define HOST_BYTES LB_MIB /* of rows at a time */

/* Rows of all heads of a layer, from position `to` + drop on; they go to `to`. */
typedef struct rows {
    const lb_shift *w;
    u32 layer, n, bytes;
    u64 off;  /* of the first head in a page */
    u8 *host; /* [n_head_kv][n] rows */
} rows;

static lb_status carry(const rows *r, u32 first, bool in, lb_err *err) {
    const lb_cache_layer *l = &r->w->c->cache.layer[r->layer];
    for (u32 h = 0; h < l->n_head_kv; h++)
        LB_TRY(lb_device_move_rows(r->w->c, r->w->s,
                                   &(lb_drows_place){r->layer,
                                                     r->off + (u64)h * LB_PAGE_ROWS * r->bytes,
                                                     r->bytes, r->n, first},
                                   r->host + (size_t)h * r->n * r->bytes, in, err));
    return LB_OK;
}

static void turn_head(void *ctx, u64 head, void *scratch) {
    const rows *r = ctx;
    u8 *at = r->host + head * r->n * r->bytes;
    lb_shift_turn(r->w, &(lb_shift_keys){r->layer, (u32)head, r->n, at, at}, scratch);
}

static lb_status layer_by_host(rows *r, bool keys, lb_team *team, lb_err *err) {
    const lb_shift *w = r->w;
    const lb_cache_layer *l = &w->c->cache.layer[r->layer];
    r->bytes = keys ? l->k_bytes : l->v_bytes;
    r->off = keys ? l->k_off : l->v_off;
    const u32 most = LB_MAX((u32)(HOST_BYTES / ((u64)l->n_head_kv * r->bytes)), 1u);
    for (u32 to = w->keep; to < w->length - w->drop; to += r->n) {
        r->n = LB_MIN(most, w->length - w->drop - to);
        LB_TRY(carry(r, to + w->drop, false, err));
        if (keys)
            lb_team_run(team, l->n_head_kv, turn_head, r);
        LB_TRY(carry(r, to, true, err));
    }
    return LB_OK;
}

/* Of the part that c->device is. */
static lb_status by_host(const lb_shift *w, lb_err *err) {
    const lb_context *c = w->c;
    const lb_resident *part = c->device->r;
    u64 row = 0;
    u32 dim = 0;
    lb_team *team = NULL;
    for (u32 i = part->first; i < part->end; i++) {
        const lb_cache_layer *l = &c->cache.layer[i];
        row = LB_MAX(row, (u64)l->n_head_kv * LB_MAX(l->k_bytes, l->v_bytes));
        dim = LB_MAX(dim, c->m->p.layer[i].k_dim);
    }
    rows r = {.w = w, .host = lb_alloc((size_t)LB_MAX(row, HOST_BYTES))};
    lb_status st = r.host ? lb_team_new(&team, c->o.threads, dim * sizeof(float), err)
                          : lb_fail(err, LB_E_NOMEM, "out of memory to shift a context");
    for (r.layer = part->first; r.layer < part->end && st == LB_OK; r.layer++) {
        const lb_cache_layer *l = &c->cache.layer[r.layer];
        if (!l->k_bytes)
            continue;
        st = layer_by_host(&r, true, team, err);
        if (st == LB_OK && !l->v_in_k)
            st = layer_by_host(&r, false, team, err);
    }
    lb_team_free(&team);
    lb_free(r.host);
    return st;
}

/* ---- which way ---- */

#define KERNELS 5u

/* What parts launch for it; how many there are. */
static u32 kernels_of(const lb_context *c, lb_dev_kernel k[KERNELS]) {
    bool turns = false, moves = false, mixes = false;
    u32 n = 0;
    for (u32 i = c->parts->r->first; i < c->m->p.n_layers; i++) {
        const lb_cache_layer *l = &c->cache.layer[i];
        u32 n_rot;
        if (!l->k_bytes)
            continue;
        (void)lb_rotated_part(c->m, i, &n_rot);
        turns |= n_rot != 0;
        moves |= !n_rot || !l->v_in_k;
        mixes |= n_rot && l->k_mix;
    }
    if (turns) {
        k[n++] = LB_DK_kv_take;
        k[n++] = LB_DK_rope;
        k[n++] = LB_DK_kv_put;
    }
    if (moves)
        k[n++] = LB_DK_kv_move;
    if (mixes)
        k[n++] = LB_DK_mix_rows;
    return n;
}

/* Whether kernels do it for a part. */
static bool can_launch(const lb_dcontext *d, const lb_dev_kernel *k, u32 n) {
    bool can = true;
    for (u32 i = 0; i < n; i++)
        can &= lb_dev_has(d->r->d, k[i]);
    for (u32 i = d->r->first; i < d->r->end; i++)
        can &= !lb_late_norm(d->r->m, i);
    return can;
}

static lb_status submit(const lb_shift *w, u32 to, const lb_dev_kernel *k, u32 n, lb_err *err) {
    LB_TRY(put_rows(w, to, err));
    for (; w->c->device; w->c->device = w->c->device->next)
        if (can_launch(w->c->device, k, n))
            LB_TRY(by_kernels(w, err));
    return LB_OK;
}

lb_status lb_device_shift(const lb_shift *w, lb_err *err) {
    lb_context *c = w->c;
    lb_dev_kernel k[KERNELS];
    const u32 n = kernels_of(c, k);
    lb_err ignored;
    lb_status st = LB_OK;
    bool any = false; /* part is moved by kernels */
    (void)lb_device_may(c, NULL, k, n);
    for (c->device = c->parts; c->device && st == LB_OK; c->device = c->device->next)
        if (can_launch(c->device, k, n))
            any = true;
        else
            st = by_host(w, err);
    c->device = c->parts;
    for (u32 to = w->keep; any && to < w->length - w->drop && st == LB_OK; to += c->n) {
        c->n = LB_MIN(LB_MIN(w->drop, c->o.n_batch), w->length - w->drop - to);
        st = submit(w, to, k, n, err);
        const lb_status waited = lb_device_settle(c, st == LB_OK ? err : &ignored);
        st = st == LB_OK ? waited : st;
    }
    return st;
}
