/* SPDX-License-Identifier: Apache-2.0 */
/* device_context.c: a session's buffers on a device, and what is copied there for a batch. */
#include "base/mem.h"
#include "io/size.h"
#include "model/device_layers.h"
#include "model/device_parts.h"
#include "model/device_tiles.h"
#include <math.h>

#define LOGITS_BYTES_MAX (64 * LB_MIB) /* of rows that the head makes at a time */
#define SPLIT_ROWS 64u                 /* at least, of a split */
#define SPLITS_MAX 64u

lb_status lb_device_check(const lb_context_opts *o, const lb_dev_info *d, lb_err *err) {
    const char *what = o->acts == LB_ACTS_FAST               ? "--fast"
                       : o->acts == LB_ACTS_GGML             ? "rounding as llama.cpp does"
                       : (o->tap && !o->sums) || o->on_layer ? "looking at products and layers"
                                                             : NULL;
    return what ? lb_fail(err, LB_E_UNSUPPORTED, "%s: not on %s: use --device cpu", what, d->id)
                : LB_OK;
}

/* ---- buffers ---- */

static u32 n_splits_max(const lb_context *c) {
    return LB_MIN((c->o.n_ctx + SPLIT_ROWS - 1) / SPLIT_ROWS, SPLITS_MAX);
}

/* Floats of the widest part sums of attention. */
static u64 part_elems(const lb_context *c) {
    const lb_params *p = &c->m->p;
    const u64 rows = LB_MAX((u64)c->o.n_batch, (u64)LB_DEV_FEW_TOKENS * n_splits_max(c));
    u64 most = 1;
    for (u32 i = 0; i < p->n_layers; i++)
        most = LB_MAX(most, rows * p->layer[i].n_head * (p->layer[i].v_dim + 2ull));
    return most;
}

u64 lb_device_lay_out(const lb_context *c, u32 n, u32 n_want) {
    lb_dcontext *d = c->device;
    const lb_model *m = c->m;
    const u64 words[LB_DMETAS] = {[LB_DMETA_IDS] = n,
                                  [LB_DMETA_POS] = n,
                                  [LB_DMETA_TOKENS] = 2ull * n,
                                  [LB_DMETA_PLACE] = n,
                                  [LB_DMETA_WANT] = n_want,
                                  [LB_DMETA_TEMP] = n,
                                  [LB_DMETA_TABLE] = (u64)c->o.n_seqs * d->n_table,
                                  [LB_DMETA_RUN] = c->cache.state_bytes ? n : 0,
                                  [LB_DMETA_RUNS] = c->cache.state_bytes ? 4ull * n : 0};
    u64 at = 0;
    for (u32 i = 0; i < LB_DMETA_ANGLES; i++) {
        d->meta_at[i] = at;
        at += lb_round_up(4 * words[i], LB_DEV_ALIGN);
    }
    d->meta_at[LB_DMETA_ANGLES] = at;
    for (u32 r = 0; r < m->n_ropes; r++) {
        const u64 bytes = lb_round_up(4ull * n * (m->rope[r].n_rot / 2), LB_DEV_ALIGN);
        d->cos_at[r] = at;
        d->sin_at[r] = at + bytes;
        at += 2 * bytes;
    }
    return at;
}

/* Of products of few tokens that add to the stream, and of tiles of f16. */
static u64 join_bytes(const lb_context *c, bool tiles) {
    const lb_dev_info *d = lb_resident_device(c->device->r);
    const u32 parts = d->tuning.mt_parts;
    const u64 few = parts > 1 ? lb_dev_mt_join_bytes(c->m->p.n_embd, LB_DEV_FEW_TOKENS, parts) : 0;
    return tiles ? LB_MAX(few, lb_dev_gemm_join_most(d)) : few;
}

static void set_sizes(const lb_context *c, u64 *size) {
    const lb_model *m = c->m;
    const lb_params *p = &m->p;
    lb_dcontext *d = c->device;
    const u64 b = c->o.n_batch, rows = b * p->n_expert_used, e = p->n_embd;
    const u64 ff = LB_MAX(b * LB_MAX(m->max_ff, m->layer_in_dim), rows * m->max_ff_exp);
    const u64 inputs = b * m->layer_in_dim * 4;
    const lb_dtile_sizes t = lb_dtile_sizes_of(c);
    size[LB_DBUF_X] = size[LB_DBUF_H] = size[LB_DBUF_Y] = size[LB_DBUF_H2] = 4 * b * e;
    size[LB_DBUF_QKV] = size[LB_DBUF_ATT] = 4 * b * m->max_attn;
    size[LB_DBUF_LATENT] = p->kv_rank || c->cache.state_bytes ? 4 * b * m->max_attn : 0;
    size[LB_DBUF_HEADS] = p->kv_rank ? 8 * b * p->layer[0].n_head : 0;
    size[LB_DBUF_GATES] = 8 * b * p->ssm_heads;
    size[LB_DBUF_STATE] = c->o.n_seqs * d->state_bytes;
    size[LB_DBUF_PART] = 4 * part_elems(c);
    size[LB_DBUF_FEW] = lb_device_few_bytes(c);
    size[LB_DBUF_JOIN] = join_bytes(c, t.slot != 0);
    size[LB_DBUF_FF] = 8 * ff;
    size[LB_DBUF_ACT] = 4 * ff;
    size[LB_DBUF_SCORES] = 4 * b * p->n_expert;
    size[LB_DBUF_ROUTES] = 8 * rows;
    size[LB_DBUF_PLAN] = lb_device_plan_bytes(m, (u32)rows);
    size[LB_DBUF_ROWS] = 4 * rows * e;
    size[LB_DBUF_SHARED] = p->n_expert ? 4 * b * e : 0;
    size[LB_DBUF_GATE] = p->n_expert ? 4 * b : 0;
    size[LB_DBUF_INPUTS] = m->layer_embd ? inputs * (p->n_layers + 1ull) : 0;
    size[LB_DBUF_TABLE] = m->layer_embd ? inputs * p->n_layers : 0;
    size[LB_DBUF_LOGITS] = d->r->ends ? 4ull * d->n_logits * p->n_vocab : 0;
    size[LB_DBUF_TOP] = d->r->ends ? lb_device_top_room(c) : 0;
    size[LB_DBUF_TILES] = t.slot ? lb_dev_tile_bytes((u32)b, t.n_cols, LB_DEV_TILE_ROWS) : 0;
    size[LB_DBUF_POWERS] = t.slot ? 4 * lb_round_up(b, LB_DEV_TILE_ROWS) : 0;
    size[LB_DBUF_GATED] = t.slot ? lb_dev_tile_bytes((u32)b, t.n_ff, LB_DEV_TILE_ROWS) : 0;
    size[LB_DBUF_GATED] = LB_MAX(size[LB_DBUF_GATED], t.gated);
    size[LB_DBUF_PLAN] = LB_MAX(size[LB_DBUF_PLAN], t.plan);
    size[LB_DBUF_ROUTED] = t.routed;
    size[LB_DBUF_TIMES] = t.powers;
    size[LB_DBUF_SLOTS] = 2 * t.slot;
    size[LB_DBUF_SUMS] = c->o.sums ? d->r->sums_bytes : 0;
    d->slot_bytes = t.slot;
    size[LB_DBUF_META] = lb_device_lay_out(c, (u32)b, (u32)b);
    size[LB_DBUF_CACHE] = c->cache.n_pages_max * d->page_bytes;
}

/* Of a part's memory. */
static lb_status take_buffers(lb_dcontext *d, const u64 *size, lb_err *err) {
    lb_status st = LB_OK;
    for (u32 i = 0; i < LB_DBUFS && st == LB_OK; i++)
        st = lb_dev_buf_new(d->r->d, LB_DEV_OWN, LB_MAX(size[i], (u64)LB_DEV_ALIGN), &d->buf[i],
                            err);
    return st;
}

static lb_status make_buffers(lb_context *c, lb_err *err) {
    lb_dcontext *d = c->device;
    lb_dev *dev = d->r->d;
    u64 size[LB_DBUFS], all = 0;
    char text[LB_SIZE_TEXT];
    lb_err why = {0};
    set_sizes(c, size);
    lb_status st = take_buffers(d, size, &why);
    if (st == LB_OK && d == c->parts)
        st = lb_dev_buf_new(dev, LB_DEV_HOST, size[LB_DBUF_META], &d->hosts[0], &why);
    d->host = d->hosts[0];
    if (st == LB_OK && lb_resident_device(d->r)->kind == LB_DEV_CUDA && d->r->ends)
        st = lb_dev_buf_new(dev, LB_DEV_HOST, LB_MAX(4ull * c->m->p.n_vocab, lb_device_top_bytes()),
                            &d->logits, &why);
    if (st == LB_OK)
        return LB_OK;
    if (st != LB_E_NOMEM && st != LB_E_LIMIT) {
        *err = why;
        return st;
    }
    for (u32 i = 0; i < LB_DBUFS; i++)
        all += size[i];
    return lb_fail(err, st,
                   "%s: %s has no room for a session of %u positions beside the weights: it takes "
                   "%s; use a smaller --ctx, --batch or --gpu-layers, or --device cpu",
                   lb_resident_device(d->r)->id,
                   st == LB_E_LIMIT ? "--device-memory" : "its memory", c->o.n_ctx,
                   lb_size_text(all, text));
}

/* Of all parts; c->device is one. */
static void set_shape(lb_context *c) {
    const lb_params *p = &c->m->p;
    const u32 used = LB_MAX(p->n_expert_used, p->kv_rank ? p->layer[0].n_head : 1u);
    lb_dcontext *d = c->device;
    c->o.n_batch = LB_MIN(c->o.n_batch, LB_MAX(LB_DEV_GRID_Y_MAX / used, 1u));
    d->n_table = (c->o.n_ctx + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS;
    d->n_logits = (u32)LB_MIN(LOGITS_BYTES_MAX / (4ull * p->n_vocab), c->o.n_batch);
    d->n_logits = (d->n_logits + 3) / 4 * 4; /* where rows begin is a multiple of 16 bytes */
    d->n_logits = LB_MAX(d->n_logits, 4u);
}

/* What layer i has of a page. */
static u64 layer_kv(const lb_cache *cache, u32 i) {
    const lb_cache_layer *l = &cache->layer[i];
    const u64 row = l->k_bytes + (l->v_in_k ? 0 : l->v_bytes);
    return (u64)l->n_head_kv * LB_PAGE_ROWS * row;
}

/* What layer i has of a sequence's states, as the cache lays them out. */
static u64 layer_state(const lb_cache *cache, u32 i) {
    return lb_round_up(cache->layer[i].state_bytes, 64);
}

/* Of a batch's row i: head i % n_head, whose matrix its product takes. */
static lb_status put_heads(const lb_context *c, lb_err *err) {
    const u32 n_head = c->m->p.layer[0].n_head, n = c->o.n_batch * n_head;
    lb_dev_queue *q = c->device->r->q;
    lb_err ignored;
    if (!c->m->p.kv_rank)
        return LB_OK;
    u32 *heads = lb_alloc_zero(n, 2 * sizeof *heads);
    if (!heads)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a session on a device");
    for (u32 i = 0; i < n; i++)
        heads[2 * i] = i % n_head;
    lb_status st = lb_dev_queue_write(q, c->device->buf[LB_DBUF_HEADS], 0, heads, 8ull * n, err);
    const lb_status waited = lb_dev_queue_wait(q, st == LB_OK ? err : &ignored);
    lb_free(heads);
    return st == LB_OK ? waited : st;
}

static lb_status begin_part(lb_context *c, lb_resident *r, lb_err *err) {
    lb_dcontext *d = lb_alloc_zero(1, sizeof *d), **at = &c->parts;
    if (!d)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a session on a device");
    while (*at)
        at = &(*at)->next;
    *at = c->device = d;
    d->r = r;
    set_shape(c);
    for (u32 i = 0; i < r->end; i++) {
        *(i < r->first ? &d->kv_off : &d->page_bytes) += layer_kv(&c->cache, i);
        *(i < r->first ? &d->state_off : &d->state_bytes) += layer_state(&c->cache, i);
    }
    d->page_bytes /= r->n_ranks;
    if (d->state_bytes / sizeof(float) > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%s: states of %llu bytes a sequence",
                       lb_resident_device(r)->id, (unsigned long long)d->state_bytes);
    if (d->page_bytes > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%s: a page of keys and values of %llu bytes",
                       lb_resident_device(r)->id, (unsigned long long)d->page_bytes);
    LB_TRY(make_buffers(c, err));
    LB_TRY(lb_device_few_begin(c, err));
    if (join_bytes(c, d->slot_bytes != 0))
        LB_TRY(lb_dbuf_zero(c, LB_DBUF_JOIN, lb_dev_mt_join_bytes(0, 0, 0), err));
    LB_TRY(lb_dsums_begin(c, err));
    return put_heads(c, err);
}

lb_status lb_dbuf_zero(const lb_context *c, lb_dbuf b, u64 bytes, lb_err *err) {
    lb_dev_queue *q = c->device->r->q;
    u8 *zeros = lb_alloc_zero(bytes, 1);
    lb_err ignored;
    if (!zeros)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a session on a device");
    const lb_status st = lb_dev_queue_write(q, c->device->buf[b], 0, zeros, bytes, err);
    const lb_status waited = lb_dev_queue_wait(q, st == LB_OK ? err : &ignored);
    lb_free(zeros);
    return st == LB_OK ? waited : st;
}

static lb_status begin_parts(lb_context *c, lb_err *err) {
    for (lb_resident *r = c->o.resident; r; r = r->next)
        LB_TRY(begin_part(c, r, err));
    return lb_device_join(c, err);
}

static bool is_short(lb_status st) {
    return st == LB_E_NOMEM || st == LB_E_LIMIT;
}

/* Smaller batches where nobody has said how large, and the usual ones find no room; then the slower
 * way of products, which needs less. */
lb_status lb_device_begin(lb_context *c, lb_err *err) {
    lb_err why = {0};
    LB_ASSERT(c->o.resident->m == c->m);
    lb_status st = begin_parts(c, &why);
    for (u32 n = c->o.n_batch; is_short(st) && c->usual && n > LB_DEV_BATCH_LEAST;) {
        lb_device_end(c);
        c->o.n_batch = n = n > LB_DEV_BATCH_USUAL ? LB_DEV_BATCH_USUAL : LB_DEV_BATCH_LEAST;
        st = begin_parts(c, &why);
    }
    if (is_short(st) && c->parts && c->parts->slot_bytes) {
        lb_device_end(c);
        for (lb_resident *r = c->o.resident; r; r = r->next)
            r->no_tiles = true;
        st = begin_parts(c, &why);
    }
    if (st != LB_OK && err)
        *err = why;
    return st;
}

void lb_device_end(lb_context *c) {
    for (lb_dcontext *d = c->parts, *next; d; d = next) {
        next = d->next;
        lb_dev_link_free(&d->link);
        lb_dev_group_free(&d->group);
        for (u32 i = 0; i < LB_DBUFS; i++)
            lb_dev_buf_free(&d->buf[i]);
        lb_device_forget(d);
        lb_dev_buf_free(&d->logits);
        lb_dev_buf_free(&d->sums);
        lb_device_flight_end(d);
        lb_dev_buf_free(&d->given);
        lb_dev_buf_free(&d->mark);
        lb_free(d);
    }
    c->device = c->parts = NULL;
}

lb_status lb_device_room(const lb_device_way *way, const lb_context_opts *o, u64 *layer_bytes,
                         lb_device_needs *out, lb_err *err) {
    const lb_model *m = way->m;
    lb_resident whole = {.m = m,
                         .d = way->d,
                         .n_batch = way->n_batch,
                         .no_tiles = way->no_tiles,
                         .sums_bytes = way->sums_bytes,
                         .embeds = true,
                         .ends = true};
    lb_dcontext d = {.r = &whole};
    lb_context c = {.device = &d};
    u64 size[LB_DBUFS];
    lb_context_settle(&c, m, o);
    const lb_cache_kind kind = lb_context_cache_kind(&c.o);
    set_shape(&c);
    const lb_status st = lb_cache_lay_out(&c.cache, &m->p, &kind, c.o.n_ctx, c.o.n_seqs, err);
    *out = (lb_device_needs){0};
    if (st == LB_OK) {
        set_sizes(&c, size);
        for (u32 i = 0; i < LB_DBUFS; i++)
            out->buffers += size[i];
        out->tiles = d.slot_bytes != 0;
        for (u32 i = 0; i < m->p.n_layers; i++)
            layer_bytes[i] = layer_kv(&c.cache, i) * c.cache.n_pages_max +
                             2 * c.o.n_seqs * layer_state(&c.cache, i); /* with marks */
    }
    lb_cache_deinit(&c.cache);
    return st;
}

lb_status lb_device_copy_page(void *user, u32 to, u32 from, lb_err *err) {
    const lb_context *c = user;
    for (const lb_dcontext *d = c->parts; d; d = d->next) {
        lb_dev_buf *b = d->buf[LB_DBUF_CACHE];
        const u64 bytes = d->page_bytes;
        if (bytes)
            LB_TRY(lb_dev_queue_copy(d->r->q, (lb_dev_arg){b, to * bytes},
                                     (lb_dev_arg){b, from * bytes}, bytes, err));
    }
    return LB_OK;
}

lb_status lb_device_state(void *user, lb_cache_step step, u32 seq, u32 from, lb_err *err) {
    const lb_context *c = user;
    for (lb_dcontext *d = c->parts; d; d = d->next) {
        const u64 bytes = d->state_bytes;
        lb_dev_buf *state = d->buf[LB_DBUF_STATE];
        if (!bytes)
            continue;
        if (step == LB_STATE_MARK && !d->mark)
            LB_TRY(lb_dev_buf_new(d->r->d, LB_DEV_OWN, c->o.n_seqs * bytes, &d->mark, err));
        const lb_dev_arg to = {step == LB_STATE_MARK ? d->mark : state, seq * bytes};
        const lb_dev_arg of = {step == LB_STATE_BACK ? d->mark : state, from * bytes};
        LB_TRY(lb_dev_queue_copy(d->r->q, to, of, bytes, err));
    }
    return LB_OK;
}

/* ---- to the host and back ---- */

lb_dcontext *lb_device_part_of(const lb_context *c, u32 layer) {
    for (lb_dcontext *d = c->parts; d; d = d->next)
        if (layer >= d->r->first && layer < d->r->end)
            return d;
    return NULL;
}

static lb_status move_bytes(const lb_dcontext *d, lb_dbuf b, u64 at, u8 *host, u64 n, bool in,
                            lb_err *err) {
    return in ? lb_dev_queue_write(d->r->q, d->buf[b], at, host, n, err)
              : lb_dev_queue_read(d->r->q, host, d->buf[b], at, n, err);
}

lb_status lb_device_move_rows(const lb_context *c, const lb_cache_seq *s, const lb_drows_place *at,
                              u8 *host, bool in, lb_err *err) {
    const lb_dcontext *d = lb_device_part_of(c, at->layer);
    lb_err ignored;
    lb_status st = LB_OK;
    for (u32 i = 0, n; i < at->n && st == LB_OK; i += n) {
        const u32 row = (at->first + i) % LB_PAGE_ROWS;
        const u64 page = s->page[(at->first + i) / LB_PAGE_ROWS];
        n = LB_MIN(LB_PAGE_ROWS - row, at->n - i);
        st = move_bytes(d, LB_DBUF_CACHE,
                        page * d->page_bytes + at->off - d->kv_off + (u64)row * at->stride,
                        host + (u64)i * at->stride, (u64)n * at->stride, in, err);
    }
    /* also what failed later: host is the caller's */
    const lb_status waited = lb_dev_queue_wait(d->r->q, st == LB_OK ? err : &ignored);
    return st == LB_OK ? waited : st;
}

lb_status lb_device_move_state(const lb_context *c, u32 seq, u32 layer, u8 *host, bool in,
                               lb_err *err) {
    const lb_dcontext *d = lb_device_part_of(c, layer);
    const lb_cache_layer *l = &c->cache.layer[layer];
    LB_TRY(move_bytes(d, LB_DBUF_STATE, seq * d->state_bytes + l->state_off - d->state_off, host,
                      l->state_bytes, in, err));
    return lb_dev_queue_wait(d->r->q, err);
}

/* ---- a batch ---- */

u32 *lb_device_section(const lb_context *c, lb_dmeta m) {
    return (u32 *)(void *)((u8 *)lb_dev_buf_host(c->device->host) + c->device->meta_at[m]);
}

static void put_token(const lb_context *c, u32 t) {
    const lb_model *m = c->m;
    const lb_dcontext *d = c->device;
    const u32 pos = c->pos[t], seq = c->seq[t];
    u8 *host = lb_dev_buf_host(d->host);
    double temp = 1;
    if (m->p.temp_scale != 0 && pos >= m->p.n_ctx_orig)
        temp = 1 + (double)m->p.temp_scale * log1p(pos / m->p.n_ctx_orig);
    lb_device_section(c, LB_DMETA_IDS)[t] = c->id[t];
    lb_device_section(c, LB_DMETA_POS)[t] = pos;
    lb_device_section(c, LB_DMETA_TOKENS)[2 * t] = pos;
    lb_device_section(c, LB_DMETA_TOKENS)[2 * t + 1] = seq;
    lb_device_section(c, LB_DMETA_PLACE)[t] =
        c->cache.seq[seq].page[pos / LB_PAGE_ROWS] * LB_PAGE_ROWS + pos % LB_PAGE_ROWS;
    lb_device_section(c, LB_DMETA_TEMP)[t] = lb_f32_bits((float)temp);
    for (u32 r = 0; r < m->n_ropes; r++) {
        const size_t at = (size_t)t * (m->rope[r].n_rot / 2) * sizeof(float);
        lb_rotary_angles(&c->rotary[r], pos, (float *)(void *)(host + d->cos_at[r] + at),
                         (float *)(void *)(host + d->sin_at[r] + at));
    }
}

/* Tokens of one sequence together. */
static void put_runs(const lb_context *c) {
    lb_dcontext *d = c->device;
    u32 *run = lb_device_section(c, LB_DMETA_RUN), *runs = lb_device_section(c, LB_DMETA_RUNS);
    d->n_runs = d->longest = 0;
    for (u32 t = 0, n; t < c->n && c->cache.state_bytes; t += n) {
        for (n = 1; t + n < c->n && c->seq[t + n] == c->seq[t];)
            n++;
        for (u32 i = 0; i < n; i++)
            run[t + i] = d->n_runs;
        memcpy(runs + 4 * (size_t)d->n_runs++, (u32[]){t, n, c->seq[t], c->pos[t]},
               4 * sizeof *runs);
        d->longest = LB_MAX(d->longest, n);
    }
}

/* Few tokens: as many splits of the positions as make some work each. */
static void set_splits(const lb_context *c) {
    lb_dcontext *d = c->device;
    u32 length = 1;
    d->n_splits = 0;
    if (!lb_dfew(c->n))
        return;
    if (d->few) {
        lb_device_few_splits(c);
        return;
    }
    for (u32 t = 0; t < c->n; t++)
        length = LB_MAX(length, c->pos[t] + 1);
    const u32 least = (length + SPLITS_MAX - 1) / SPLITS_MAX;
    d->split_rows = LB_MAX(SPLIT_ROWS, (least + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS * LB_PAGE_ROWS);
    d->n_splits = (length + d->split_rows - 1) / d->split_rows;
}

/* What is known of the batch, to another part. */
static void share_batch(const lb_dcontext *from, lb_dcontext *to) {
    memcpy(to->meta_at, from->meta_at, sizeof to->meta_at);
    memcpy(to->cos_at, from->cos_at, sizeof to->cos_at);
    memcpy(to->sin_at, from->sin_at, sizeof to->sin_at);
    to->n_want = from->n_want;
    to->n_runs = from->n_runs;
    to->longest = from->longest;
    to->temp = from->temp;
    to->n_splits = from->n_splits;
    to->split_rows = from->split_rows;
}

lb_status lb_device_send(const lb_context *c, u64 bytes, lb_err *err) {
    const lb_dcontext *d = c->parts;
    for (lb_dcontext *to = c->parts; to; to = to->next) {
        if (to != d)
            share_batch(d, to);
        LB_TRY(lb_dev_queue_write(to->r->q, to->buf[LB_DBUF_META], 0, lb_dev_buf_host(d->host),
                                  bytes, err));
        LB_TRY(lb_device_sent(c, to, err));
    }
    return LB_OK;
}

lb_status lb_device_put_batch(lb_context *c, const u8 *want, lb_err *err) {
    lb_dcontext *d = c->device;
    u32 n_want = 0;
    LB_TRY(lb_device_next_host(c, err));
    for (u32 t = 0; t < c->n; t++)
        n_want += want[t] != 0;
    const u64 bytes = lb_device_lay_out(c, c->n, n_want);
    d->n_want = 0;
    d->temp = false;
    for (u32 t = 0; t < c->n; t++) {
        put_token(c, t);
        d->temp |= c->m->p.temp_scale != 0 && c->pos[t] >= c->m->p.n_ctx_orig;
        if (want[t])
            lb_device_section(c, LB_DMETA_WANT)[d->n_want++] = t;
    }
    for (u32 s = 0; s < c->o.n_seqs; s++) {
        const lb_cache_seq *seq = &c->cache.seq[s];
        u32 *table = lb_device_section(c, LB_DMETA_TABLE) + (size_t)s * d->n_table;
        for (u32 i = 0; i < d->n_table; i++)
            table[i] = i < seq->n_pages ? seq->page[i] : LB_PAGE_NONE;
    }
    put_runs(c);
    set_splits(c);
    return lb_device_send(c, bytes, err);
}
