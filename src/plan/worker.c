/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c: one tile from the files through the evaluator to the sink, and its commit. */
#include "base/os.h"
#include "kernel/finite.h"
#include "plan/run_internal.h"
#include <stdlib.h>

u64 lb_worker_bytes(const lb_pass *p) {
    return p->scratch_bytes + p->n_masks * sizeof(lb_mt19937) +
           p->n_leaves * sizeof(lb_layout_leaf) + p->n_insts * sizeof(u64) +
           LB_SEGS_MAX * sizeof(lb_seg) + LB_IOV_PIECES * sizeof(lb_iov) + LB_GAP_BYTES + 512;
}

_Static_assert(LB_ENCODING_MAX >= LB_ROOTS_MAX, "an open lane for each output");

lb_status lb_worker_init(lb_worker *w, lb_runner *r, lb_err *err) {
    u64 need = r->plan->scratch_bytes;
    w->runner = r;
    lb_encoding_init(&w->encoding, r->opt->encoder);
    w->scratch_bytes = need;
    w->scratch = need ? lb_pool_take(r->pool, need) : NULL;
    if (need && !w->scratch)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a worker");
    return LB_OK;
}

void lb_worker_deinit(lb_worker *w) {
    lb_encoding_deinit(&w->encoding);
    if (w->scratch)
        lb_pool_give(w->runner->pool, w->scratch, w->scratch_bytes);
    w->scratch = NULL;
}

static u8 *carve(u8 **at, u64 bytes) {
    u8 *p = *at;
    *at += (bytes + 63) & ~(u64)63;
    return p;
}

static void set_up(lb_worker *w, const lb_active *a, u64 tile, u8 *slab) {
    const lb_pass *p = a->pass;
    u8 *at = w->scratch;
    lb_eval *e = &w->eval;
    *e = (lb_eval){.k = w->runner->opt->kernels,
                   .encoding = w->encoding.e ? &w->encoding : NULL,
                   .graph = &w->runner->plan->graph,
                   .prog = &a->prog,
                   .pass = p,
                   .held = a->held,
                   .visit = a->visit,
                   .number = lb_active_number(a, tile),
                   .tile = lb_active_tile(a, tile),
                   .slab = slab};
    e->slots = (float *)(void *)carve(&at, p->n_slots * p->slot_elems * sizeof(float));
    e->codec = (float *)(void *)carve(&at, p->codec_elems * sizeof(float));
    e->leaf = (lb_layout_leaf *)(void *)carve(&at, p->n_leaves * sizeof(lb_layout_leaf));
    e->inst_off = (u64 *)(void *)carve(&at, p->n_insts * sizeof(u64));
    w->mask = (lb_mt19937 *)(void *)carve(&at, p->n_masks * sizeof(lb_mt19937));
    w->segs = (lb_seg *)(void *)carve(&at, LB_SEGS_MAX * sizeof(lb_seg));
    w->iov = (lb_iov *)(void *)carve(&at, LB_IOV_PIECES * sizeof(lb_iov));
    w->gap = carve(&at, LB_GAP_BYTES);
    lb_eval_layout(e);
}

static int by_row(const void *a, const void *b) {
    u64 x = ((const lb_seg *)a)->row, y = ((const lb_seg *)b)->row;
    return x < y ? -1 : x > y;
}

/* Rows of a leaf's rectangle (buf: the first of them) in the order of the file; at most
 * LB_SEGS_MAX. */
static void list_rows(lb_worker *w, const lb_leaf *l, lb_rect r, u8 *buf, u64 row_bytes) {
    bool sorted = true;
    for (u64 i = 0; i < r.nr; i++) {
        w->segs[i] = (lb_seg){lb_moves_row(&l->moves, r.r0 + i), buf + i * row_bytes};
        sorted &= i == 0 || w->segs[i].row > w->segs[i - 1].row;
    }
    if (!sorted)
        qsort(w->segs, r.nr, sizeof *w->segs, by_row);
}

typedef struct file_part {
    int fd;
    const char *path;
    u64 off;       /* of row 0, first wanted column */
    u64 stride;    /* stored bytes of a row */
    u64 row_bytes; /* wanted bytes of a row */
    lb_xxh *hash;  /* of the bytes as they come; NULL: none */
} file_part;

/* One call: a list of pieces that follow one another in the file. */
typedef struct call {
    lb_iov *iov;
    u32 n;
    u8 *gap;
} call;

/* A row of the file `between` bytes after what the call has; false: it goes into the next one. */
static bool add_row(call *c, u64 between, u8 *to, u64 len) {
    lb_iov *last = c->n ? &c->iov[c->n - 1] : NULL;
    if (last && between == 0 && (u8 *)last->ptr + last->len == to) {
        last->len += len;
        return true;
    }
    if (c->n && (between > LB_GAP_BYTES || c->n + 2 > LB_IOV_PIECES))
        return false;
    if (c->n && between)
        c->iov[c->n++] = (lb_iov){c->gap, between};
    c->iov[c->n++] = (lb_iov){to, len};
    return true;
}

/* Reads the listed rows; neighbours in the file go in one call, to their places in memory. */
static lb_status read_listed(lb_worker *w, const file_part *f, u64 n, lb_err *err) {
    for (u64 i = 0; i < n;) {
        u64 first = w->segs[i].row, end = first * f->stride;
        call c = {.iov = w->iov, .gap = w->gap};
        for (; i < n && w->segs[i].row * f->stride >= end &&
               add_row(&c, w->segs[i].row * f->stride - end, w->segs[i].ptr, f->row_bytes);
             i++)
            end = w->segs[i].row * f->stride + f->row_bytes;
        LB_TRY(lb_os_preadv(f->fd, f->path, c.iov, c.n, f->off + first * f->stride, err));
        for (; i < n && w->segs[i].row == w->segs[i - 1].row; i++) /* wanted more than once */
            memcpy(w->segs[i].ptr, w->segs[i - 1].ptr, f->row_bytes);
    }
    return LB_OK;
}

/* Bytes that follow one another in the file; hashed while they are in the cache. */
static lb_status read_run(const file_part *f, u8 *buf, u64 len, u64 off, lb_err *err) {
    u64 step = f->hash ? LB_HASH_BYTES : len;
    for (u64 i = 0; i < len; i += step) {
        u64 n = LB_MIN(step, len - i);
        LB_TRY(lb_os_pread(f->fd, f->path, buf + i, n, off + i, err));
        if (f->hash)
            lb_xxh_update(f->hash, buf + i, n);
    }
    return LB_OK;
}

/* Rows of one part; f: the file, and where the part begins in it. */
static lb_status read_rows(lb_worker *w, const lb_leaf *l, const lb_layout_leaf *at, u32 k,
                           file_part f, lb_err *err) {
    u8 *buf = w->eval.slab + at->part_off[k];
    lb_status st = LB_OK;
    u64 unit = l->codec.unit_elems, size = l->codec.part[k].unit_bytes;
    f.stride = l->n_cols / unit * size;
    f.row_bytes = at->row_bytes[k];
    f.off += at->rect.c0 / unit * size;
    w->read_bytes += at->rect.nr * f.row_bytes;
    if (l->moves.n == 0 && (f.row_bytes == f.stride || at->rect.nr == 1))
        return read_run(&f, buf, at->rect.nr * f.row_bytes, f.off + at->rect.r0 * f.stride, err);
    u64 chunk = LB_SEGS_MAX;
    if (f.hash)
        chunk = LB_MAX(LB_MIN(chunk, LB_HASH_BYTES / LB_MAX(f.row_bytes, 1)), 1);
    if (l->moves.band > 1) /* whole bands, so that each is read in file order */
        chunk = LB_SEGS_MAX / l->moves.band * l->moves.band;
    for (u64 i = 0; i < at->rect.nr && st == LB_OK; i += chunk) {
        u64 n = LB_MIN(chunk, at->rect.nr - i);
        list_rows(w, l, (lb_rect){.r0 = at->rect.r0 + i, .nr = n}, buf + i * f.row_bytes,
                  f.row_bytes);
        st = read_listed(w, &f, n, err);
        if (f.hash)
            lb_xxh_update(f.hash, buf + i * f.row_bytes, n * f.row_bytes);
    }
    return st;
}

/* Stored rows of a block part: n of them, each a stretch of the file's. */
static lb_status read_span(lb_worker *w, const file_part *f, const lb_codec_span *s, u8 *buf,
                           lb_err *err) {
    u64 off = f->off + s->first_row * f->stride + s->off_bytes;
    if (s->row_bytes == f->stride || s->n_rows == 1)
        return read_run(f, buf, s->n_rows * s->row_bytes, off, err);
    for (u64 i = 0, first = 0; i < s->n_rows; first = i) {
        call c = {.iov = w->iov, .gap = w->gap};
        while (i < s->n_rows &&
               add_row(&c, f->stride - s->row_bytes, buf + i * s->row_bytes, s->row_bytes))
            i++;
        LB_TRY(lb_os_preadv(f->fd, f->path, c.iov, c.n, off + first * f->stride, err));
    }
    return LB_OK;
}

static lb_status read_grid(lb_worker *w, const lb_leaf *l, const lb_layout_leaf *at, u32 k,
                           file_part f, lb_err *err) {
    const lb_codec_part *part = &l->codec.part[k];
    u8 *buf = w->eval.slab + at->part_off[k];
    lb_rect r = at->rect;
    f.stride = part->stride;
    if (l->moves.n == 0 || l->codec.transposed) {
        lb_codec_span s = lb_codec_span_of(&l->codec, k, lb_leaf_held(l, r));
        w->read_bytes += s.n_rows * s.row_bytes;
        LB_TRY(read_span(w, &f, &s, buf, err));
        return lb_codec_check(&l->codec, k, buf, s.n_rows * s.row_bytes, err);
    }
    u64 copy = lb_leaf_copy_bytes(l, k, at->row_bytes[k]);
    for (u64 i = 0; i < r.nr; i++) {
        u64 row = lb_moves_row(&l->moves, r.r0 + i);
        lb_codec_span s = lb_codec_span_of(&l->codec, k, (lb_rect){row, 1, r.c0, r.nc});
        LB_TRY(read_span(w, &f, &s, buf + i * copy, err));
    }
    w->read_bytes += r.nr * copy;
    return LB_OK;
}

/* What is hashed as it is read: a leaf's bytes come in order, in the pass's only tile. */
static lb_xxh *hash_of_read(const lb_active *a, u32 leaf, u32 k) {
    const lb_leaf *l = &a->pass->leaves[leaf];
    if (!a->pass->batch_rows || !a->leaf_hash || !a->leaf_hash[leaf].on || !a->reads_all)
        return NULL;
    lb_leaf_hash *h = &a->leaf_hash[leaf];
    if (h->chain[k])
        return &h->chain[k]->state;
    return l->entire || (lb_leaf_hashes(l, k) && l->moves.n == 0) ? &h->state[k] : NULL;
}

static lb_status read_part(lb_worker *w, const lb_active *a, u32 leaf, u32 k, lb_err *err) {
    const lb_leaf *l = &w->eval.pass->leaves[leaf];
    const lb_layout_leaf *at = &w->eval.leaf[leaf];
    if (l->spilled)
        return read_rows(w, l, at, k,
                         (file_part){.fd = a->spill_fd, .path = LB_SPILL_NAME, .off = l->spill_off},
                         err);
    const lb_source *s = w->runner->plan->graph.sources[l->source];
    const lb_tensor *t = &s->tensors[l->codec.part[k].tensor];
    lb_fds *fds = w->runner->fds[l->source];
    file_part f = {
        .path = s->files[t->file].path, .off = t->off_bytes, .hash = hash_of_read(a, leaf, k)};
    LB_TRY(lb_fds_get(fds, t->file, &f.fd, err));
    lb_status st;
    if (l->codec.part[k].kind == LB_PART_MAT) {
        st = lb_os_pread(f.fd, f.path, w->eval.slab + at->part_off[k], t->size_bytes, t->off_bytes,
                         err);
        if (st == LB_OK)
            st = lb_codec_check(&l->codec, k, w->eval.slab + at->part_off[k], t->size_bytes, err);
        w->read_bytes += t->size_bytes;
    } else if (l->codec.part[k].kind != LB_PART_ROWS) {
        st = read_grid(w, l, at, k, f, err);
    } else {
        st = read_rows(w, l, at, k, f, err);
    }
    lb_fds_put(fds, t->file);
    if (st != LB_OK)
        lb_err_context(err, "tensor '%.*s'", LB_FMT(t->name));
    return st;
}

static lb_status read_tile(lb_worker *w, const lb_active *a, lb_err *err) {
    const lb_pass *p = w->eval.pass;
    for (u32 i = 0; i < p->n_leaves; i++)
        for (u32 k = 0; k < p->leaves[i].codec.n_parts; k++)
            LB_TRY(read_part(w, a, i, k, err));
    return LB_OK;
}

/* Asks for the bytes that this job will want `ahead` bytes from here. */
static void read_ahead(lb_worker *w, const lb_active *a) {
    const lb_pass *p = a->pass;
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        if (!l->whole || l->codec.part[0].kind != LB_PART_ROWS)
            continue;
        const lb_source *s = w->runner->plan->graph.sources[l->source];
        const lb_tensor *t = &s->tensors[l->codec.part[0].tensor];
        const lb_layout_leaf *at = &w->eval.leaf[i];
        u64 tile = at->rect.nr * at->rect.nc / l->codec.unit_elems * l->codec.part[0].unit_bytes;
        u64 pos = at->rect.r0 * (l->n_cols / l->codec.unit_elems * l->codec.part[0].unit_bytes) +
                  LB_AHEAD_BYTES;
        int fd;
        if (pos >= t->size_bytes ||
            lb_fds_get(w->runner->fds[l->source], t->file, &fd, NULL) != LB_OK)
            continue;
        lb_os_readahead(fd, t->off_bytes + pos, LB_MIN(tile, t->size_bytes - pos));
        lb_fds_put(w->runner->fds[l->source], t->file);
    }
}

static lb_status write_spill(lb_worker *w, const lb_active *a, u32 inst, lb_err *err) {
    const lb_eval *e = &w->eval;
    u64 off = e->tile.r0 * e->pass->n_cols + e->tile.c0, n = e->tile.nr * e->tile.nc;
    w->written_bytes += n * sizeof(float);
    return lb_os_pwrite(a->spill_fd, LB_SPILL_NAME, e->slab + e->inst_off[inst], n * sizeof(float),
                        e->pass->insts[inst].spill_off + off * sizeof(float), err);
}

/* What rows of a tile have of a stream. */
static lb_stream_span span_of(const lb_eval *e, const lb_active *a, const lb_inst *x,
                              lb_rect rows) {
    u64 first = (a->first_row + rows.r0) * e->pass->n_cols + rows.c0;
    return lb_stream_span_of(&a->job->streams[x->root], first, rows.nr * rows.nc);
}

/* Rows whose outputs lie at the beginning of theirs in the slab. */
static lb_status write_rows(lb_worker *w, const lb_active *a, lb_rect rows, lb_err *err) {
    const lb_eval *e = &w->eval;
    lb_sink *sink = w->runner->opt->sink;
    lb_sink_piece piece[LB_ROOTS_MAX];
    u32 n = 0;
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *x = &e->pass->insts[i];
        if (x->spill)
            LB_TRY(write_spill(w, a, i, err));
        if (x->node->kind != LB_NODE_ENCODE)
            continue;
        const lb_stream *s = &a->job->streams[x->root];
        lb_stream_span at = span_of(e, a, x, rows);
        w->written_bytes += at.len_bytes;
        if (sink && at.len_bytes)
            piece[n++] = (lb_sink_piece){s->file, s->off_bytes + at.off_bytes,
                                         e->slab + e->inst_off[i], at.len_bytes};
        else if (w->runner->opt->raw_fd && at.len_bytes)
            LB_TRY(lb_os_pwrite(*w->runner->opt->raw_fd, LB_SPILL_NAME, e->slab + e->inst_off[i],
                                at.len_bytes, s->off_bytes + at.off_bytes, err));
    }
    return lb_sink_write_all(sink, piece, n, err);
}

/* Moves the places from which tiles draw on to that of a tile. */
static void go_to(lb_active *a, const lb_kernels *k, u64 tile) {
    lb_rect t = lb_active_tile(a, tile);
    for (u32 i = 0; i < a->pass->n_insts; i++) {
        const lb_inst *x = &a->pass->insts[i];
        if (lb_inst_draws(x))
            lb_mt19937_seek(&a->mask[x->mask], k, lb_inst_first_draw(x, t));
    }
}

/* One thread draws where it left off. More of them share the place: each copies it and leaves it
 * where the first tile begins that nobody has begun; a tile that comes before its turn steps over
 * the others by itself. */
static void draw(lb_worker *w, lb_active *a, u64 tile) {
    const lb_eval *e = &w->eval;
    lb_draws *d = a->draws;
    if (w->runner->plan->threads == 1) {
        lb_eval_draw(e, a->mask);
        return;
    }
    lb_lock(&d->mutex);
    memcpy(w->mask, a->mask, e->pass->n_masks * sizeof *w->mask);
    if (tile >= d->next_tile + 64) { /* those between will find their places by jumps */
        d->next_tile = tile;
        d->begun = 0;
    }
    if (tile >= d->next_tile)
        d->begun |= (u64)1 << (tile - d->next_tile);
    if (d->begun & 1) {
        for (; d->begun & 1; d->begun >>= 1)
            d->next_tile++;
        if (d->next_tile < e->pass->n_tiles)
            go_to(a, e->k, d->next_tile);
    }
    lb_unlock(&d->mutex);
    lb_eval_draw(e, w->mask);
}

/* There are no codes for them. */
static lb_status check_values(const lb_worker *w, const lb_active *a, lb_err *err) {
    for (u32 i = 0; i < LB_MAX(a->job->n_streams, (u32)1); i++)
        if (w->eval.n_bad[i])
            return lb_fail(err, LB_E_FORMAT,
                           "tensor '%.*s': %llu values are NaN or infinite and cannot be quantized "
                           "(rows from %llu on): verify lists such tensors",
                           LB_FMT(a->job->n_streams ? a->job->streams[i].name : a->job->name),
                           (unsigned long long)w->eval.n_bad[i],
                           (unsigned long long)(a->first_row + w->eval.tile.r0));
    return LB_OK;
}

/* Outputs of a tile or of a batch. */
static void hash_rows(const lb_worker *w, lb_active *a, lb_rect rows) {
    const lb_eval *e = &w->eval;
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *x = &e->pass->insts[i];
        if (x->node->kind == LB_NODE_ENCODE)
            lb_xxh_update(&a->hash[x->root], e->slab + e->inst_off[i],
                          span_of(e, a, x, rows).len_bytes);
    }
}

/* What was made, or copied: values that no type of the output could hold, or that were none. */
static lb_status check_finite(const lb_worker *w, const lb_active *a, lb_rect rows, lb_err *err) {
    const lb_eval *e = &w->eval;
    for (u32 i = 0; i < e->pass->n_insts && w->runner->plan->only_finite; i++) {
        const lb_inst *x = &e->pass->insts[i];
        const lb_stream *s = &a->job->streams[x->root];
        u64 len = 0, bad;
        if (x->node->kind != LB_NODE_ENCODE || !lb_stream_part(s, rows.nr * rows.nc, &len) ||
            !(bad = lb_blocks_not_finite(s->dtype, len, e->slab + e->inst_off[i])))
            continue;
        bool blocks = lb_dtype_get(s->dtype)->cls == LB_CLASS_BLOCK;
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': %llu %s (rows from %llu on): %s",
                       LB_FMT(s->name), (unsigned long long)bad,
                       blocks                  ? "blocks have a scale that is NaN or infinite"
                       : e->counts[x->root][1] ? "values are too large for its type"
                                               : "values are NaN or infinite",
                       (unsigned long long)(a->first_row + rows.r0),
                       blocks || e->counts[x->root][1] ? "choose another type for it by an override"
                                                       : "verify lists such tensors");
    }
    return LB_OK;
}

lb_status lb_worker_tile(lb_worker *w, lb_active *a, u64 tile, u8 *slab, lb_err *err) {
    w->read_bytes = w->written_bytes = 0;
    w->reads_again = !a->reads_all;
    set_up(w, a, tile, slab);
    if (a->reads_all)
        read_ahead(w, a);
    if (a->pass->n_masks)
        draw(w, a, tile);
    LB_TRY(read_tile(w, a, err));
    u64 step = a->pass->batch_rows ? a->pass->batch_rows : LB_MAX(w->eval.tile.nr, 1);
    for (lb_rect r = w->eval.tile; r.r0 < w->eval.tile.r0 + w->eval.tile.nr; r.r0 += step) {
        r.nr = LB_MIN(step, w->eval.tile.r0 + w->eval.tile.nr - r.r0);
        lb_eval_rows(&w->eval, r);
        lb_err own = {0}; /* before any return: the device writes into the slab */
        lb_status st = w->encoding.e ? lb_encoding_end(&w->encoding, &own) : LB_OK;
        LB_TRY(check_values(w, a, err));
        if (st != LB_OK) {
            *err = own;
            return st;
        }
        LB_TRY(check_finite(w, a, r, err));
        LB_TRY(write_rows(w, a, r, err));
        if (a->pass->batch_rows)
            hash_rows(w, a, r);
    }
    return LB_OK;
}

/* ---- commit ---- */

static void hash_leaf(lb_worker *w, const lb_active *a, u32 leaf) {
    const lb_leaf *l = &w->eval.pass->leaves[leaf];
    const lb_layout_leaf *at = &w->eval.leaf[leaf];
    lb_leaf_hash *h = &a->leaf_hash[leaf];
    u64 chunk = l->moves.band > 1 ? LB_SEGS_MAX / l->moves.band * l->moves.band : LB_SEGS_MAX;
    for (u32 k = 0; k < l->codec.n_parts; k++) {
        if ((!h->chain[k] && !lb_leaf_hashes(l, k)) || hash_of_read(a, leaf, k))
            continue;
        u8 *buf = w->eval.slab + at->part_off[k];
        u64 row_bytes = at->row_bytes[k];
        lb_xxh *x = h->chain[k] ? &h->chain[k]->state : &h->state[k];
        if (l->moves.n == 0 || h->chain[k]) { /* a slice: rows in order */
            lb_xxh_update(x, buf, at->rect.nr * row_bytes);
            continue;
        }
        for (u64 i = 0; i < at->rect.nr; i += chunk) {
            u64 n = LB_MIN(chunk, at->rect.nr - i);
            list_rows(w, l, (lb_rect){.r0 = at->rect.r0 + i, .nr = n}, buf + i * row_bytes,
                      row_bytes);
            for (u64 j = 0; j < n; j++)
                lb_xxh_update(x, w->segs[j].ptr, row_bytes);
        }
    }
}

lb_status lb_worker_commit(lb_worker *w, lb_active *a, u64 tile, u8 *slab, lb_err *err) {
    set_up(w, a, tile, slab);
    const lb_eval *e = &w->eval;
    lb_eval_commit(e);
    for (u32 i = 0; i < e->pass->n_leaves && a->leaf_hash; i++)
        if (a->leaf_hash[i].on && !a->leaf_hash[i].shared && a->reads_all)
            hash_leaf(w, a, i);
    if (!e->pass->batch_rows)
        hash_rows(w, a, e->tile);
    return lb_active_span(w->runner, a, e->tile, err);
}
