/* SPDX-License-Identifier: Apache-2.0 */
/* active.c: the course of one job: segment by segment, pass by pass, round by round; then its
 * record. */
#include "base/os.h"
#include "plan/run_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

u64 lb_active_bytes(const lb_prog *p, bool digests, u32 n_segments) {
    u64 n = (p->n_results + 1) * sizeof(lb_held) + lb_window_most(p) * sizeof(lb_window), masks = 0;
    for (u32 i = 0; i < p->n_passes; i++)
        masks = LB_MAX(masks, p->passes[i].n_masks);
    n += masks * sizeof(lb_mt19937);
    for (u32 i = 0; i < p->n_passes && digests; i++)
        for (u32 k = 0; k < p->passes[i].n_leaves; k++) {
            const lb_leaf *l = &p->passes[i].leaves[k];
            n += sizeof(lb_leaf_hash); /* the list of hashes grows by doubling */
            n += 4 * (u64)n_segments * l->codec.n_parts * sizeof(lb_sink_hash);
        }
    return n;
}

/* Heap of one thread: glibc gives each one an arena, which takes 132 KiB at its first allocation;
 * records of the journal are made there, and qsort takes 64 KiB for LB_SEGS_MAX rows. */
#define THREAD_HEAP_BYTES (256 * LB_KIB)
#define FD_SLOT_BYTES 64 /* of lb_fds, for each file */

u64 lb_run_state_bytes(const lb_plan *p, u64 program_bytes) {
    u64 tables = 0, list = 0, actives = p->n_active;
    for (u32 i = 0; i < p->graph.n_sources; i++) {
        tables += p->graph.sources[i]->n_files * FD_SLOT_BYTES;
        if (p->want_digests)
            list = LB_MAX(list,
                          p->graph.sources[i]->n_tensors * 2 * sizeof(lb_tensor *)); /* qsort's */
    }
    u64 draws = p->graph.n_carries ? actives * sizeof(lb_draws) : 0;
    /* an arena keeps its largest chunk over a reset: at worst twice what it needs; and a freed
     * chunk may stay with the heap of the thread that made it */
    u64 active = sizeof(lb_active) + p->window * sizeof(lb_slot) + 2 * program_bytes;
    return actives * active + p->threads * (sizeof(lb_worker) + THREAD_HEAP_BYTES) + draws +
           tables + list + lb_chains_bytes(p) + 256 * LB_KIB;
}

u64 lb_run_base_bytes(void) {
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* What RLIMIT_DATA counts: private writable memory of the process (proc(5), statm, sixth
     * field). */
    char text[256] = {0};
    lb_err err = {0};
    int fd = -1;
    u64 pages[7] = {0};
    if (lb_os_open_read("/proc/self/statm", &fd, &err) == LB_OK) {
        if (read(fd, text, sizeof text - 1) > 0) {
            char *at = text;
            for (u32 i = 0; i < 7; i++)
                pages[i] = strtoull(at, &at, 10);
        }
        lb_os_close(&fd);
    }
    if (pages[5])
        return pages[5] * lb_os_page_size();
#endif
    return 16 * LB_MIB;
}

/* The part that a run before has written: its hashes and counts go on. */
static void keep_part(lb_active *a, const lb_sink_part *part) {
    a->kept_elems = part ? part->n_elems : 0;
    for (u32 i = 0; part && i < a->job->n_streams; i++) {
        a->hash[i] = part->hash[i];
        a->counts[i][0] = part->prefix[i].n_rounded;
        a->counts[i][1] = part->prefix[i].n_overflowed;
    }
}

void lb_active_begin(lb_runner *r, lb_active *a, u64 job, u8 *fixed) {
    lb_arena arena = a->arena, hashes_arena = a->hashes_arena;
    lb_slot *ring = a->ring;
    lb_draws *draws = a->draws;
    *a = (lb_active){.arena = arena,
                     .ring = ring,
                     .draws = draws,
                     .hashes_arena = hashes_arena,
                     .fixed = fixed,
                     .spill_fd = -1,
                     .index = job,
                     .busy = true};
    a->job = &r->plan->jobs[job];
    lb_arena_reset(&a->hashes_arena);
    for (u32 i = 0; i < a->job->n_streams; i++)
        lb_xxh_init(&a->hash[i]);
    a->segment = UINT32_MAX; /* before the first */
    a->span_bytes = UINT64_MAX;
    if (r->opt->sink) {
        a->span_bytes = lb_sink_span_bytes(r->opt->sink, job);
        keep_part(a, lb_sink_kept_part(r->opt->sink, job));
    }
}

/* ---- digests of what is read ---- */

static lb_status note_hash(lb_active *a, u32 source, u32 tensor, lb_hash128 h, lb_err *err) {
    if (a->n_hashes == a->cap_hashes) {
        u32 cap = a->cap_hashes ? a->cap_hashes * 2 : 8;
        lb_sink_hash *p = lb_arena_new(&a->hashes_arena, lb_sink_hash, cap);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory for hashes");
        if (a->n_hashes)
            memcpy(p, a->hashes, a->n_hashes * sizeof *p);
        a->hashes = p;
        a->cap_hashes = cap;
    }
    a->hashes[a->n_hashes++] = (lb_sink_hash){source, tensor, h};
    return LB_OK;
}

/* The stream's bytes are the leaf's: one hash for both. */
static bool is_shared(const lb_active *a, u32 leaf) {
    for (u32 i = 0; i < a->pass->n_insts && a->job->n_segments == 1; i++)
        if (lb_inst_copies(&a->pass->insts[i]) && a->pass->insts[i].leaf == leaf)
            return a->pass->leaves[leaf].moves.n == 0;
    return false;
}

/* After a slice: whether it was the last one, and the tensor's hash is not set yet. */
static bool end_slice(lb_runner *r, const lb_active *a, u32 leaf, u32 part) {
    const lb_leaf *l = &a->pass->leaves[leaf];
    u8 *used = &r->plan->src[l->source].used[l->codec.part[part].tensor];
    bool last;
    lb_lock(&r->mutex);
    lb_chain_advance(a->leaf_hash[leaf].chain[part], l, a->pass, &last);
    last = last && !(*used & LB_USED_HASHED);
    if (last)
        *used |= LB_USED_HASHED;
    lb_unlock(&r->mutex);
    return last;
}

/* A leaf that reads whole tensors in order hashes them, unless another leaf has promised to. In a
 * pass that goes on in its middle, only where the stream's hash will do. */
static lb_status begin_leaf_hashes(lb_runner *r, lb_active *a, lb_err *err) {
    lb_pass *p = a->pass;
    a->leaf_hash = NULL;
    if (!r->plan->want_digests || p->n_leaves == 0)
        return LB_OK;
    bool any = false;
    u8 on[LB_LEAVES_MAX] = {0};
    lb_lock(&r->mutex);
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        if (l->spilled)
            continue;
        u8 *used = r->plan->src[l->source].used;
        if (!l->whole && !l->entire) {
            on[i] = a->skip == 0 && lb_chains_take(&r->chains, l, p);
            any |= on[i] != 0;
            continue;
        }
        on[i] = a->skip == 0 || is_shared(a, i);
        for (u32 k = 0; k < l->codec.n_parts; k++)
            on[i] = on[i] &&
                    !(lb_leaf_hashes(l, k) && (used[l->codec.part[k].tensor] & LB_USED_HASHED));
        for (u32 k = 0; on[i] && k < l->codec.n_parts; k++)
            if (lb_leaf_hashes(l, k))
                used[l->codec.part[k].tensor] |= LB_USED_HASHED;
        any |= on[i] != 0;
    }
    lb_unlock(&r->mutex);
    if (!any)
        return LB_OK;
    a->leaf_hash = lb_arena_new(&a->arena, lb_leaf_hash, p->n_leaves);
    if (!a->leaf_hash)
        return lb_fail(err, LB_E_NOMEM, "out of memory for hashes");
    lb_lock(&r->mutex); /* chains belong to all jobs */
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        lb_leaf_hash *h = &a->leaf_hash[i];
        h->on = on[i] != 0;
        h->shared = l->whole && is_shared(a, i);
        for (u32 k = 0; h->on && k < l->codec.n_parts; k++) {
            lb_xxh_init(&h->state[k]);
            h->chain[k] = l->whole || l->entire ? NULL : lb_chains_of(&r->chains, l, k);
        }
    }
    lb_unlock(&r->mutex);
    return LB_OK;
}

static lb_status end_leaf_hashes(lb_runner *r, lb_active *a, lb_err *err) {
    lb_pass *p = a->pass;
    for (u32 i = 0; i < p->n_leaves && a->leaf_hash; i++) {
        const lb_leaf *l = &p->leaves[i];
        for (u32 k = 0; a->leaf_hash[i].on && k < l->codec.n_parts; k++) {
            lb_chain *chain = a->leaf_hash[i].chain[k];
            if (!chain && !lb_leaf_hashes(l, k))
                continue;
            if (chain && !end_slice(r, a, i, k))
                continue;
            lb_hash128 h = lb_xxh_digest(chain ? &chain->state : &a->leaf_hash[i].state[k]);
            for (u32 j = 0; a->leaf_hash[i].shared && j < p->n_insts; j++)
                if (lb_inst_copies(&p->insts[j]) && p->insts[j].leaf == i)
                    h = lb_xxh_digest(&a->hash[p->insts[j].root]);
            u32 tensor = l->codec.part[k].tensor;
            r->plan->src[l->source].tensor_hash[tensor] = h;
            LB_TRY(note_hash(a, l->source, tensor, h, err));
        }
    }
    a->leaf_hash = NULL;
    return LB_OK;
}

/* ---- course ---- */

/* Of all streams, for n_elems of the job from `first` on. */
static u64 stream_bytes(const lb_job *j, u64 first, u64 n_elems) {
    u64 sum = 0;
    for (u32 i = 0; i < j->n_streams; i++)
        sum += lb_stream_span_of(&j->streams[i], first, n_elems).len_bytes;
    return sum;
}

/* Whether the streams can be cut after so many elements, and something of them is left then. */
static bool is_cut(const lb_job *j, u64 n_elems) {
    bool left = false;
    for (u32 i = 0; i < j->n_streams; i++) {
        u64 bytes;
        if (!lb_stream_part(&j->streams[i], n_elems, &bytes))
            return false;
        left = left || bytes < j->streams[i].size_bytes;
    }
    return left;
}

/* For the bar: bytes that a run before has read and written. */
static void note_kept(lb_runner *r, u64 bytes) {
    lb_lock(&r->mutex);
    r->done_bytes += bytes;
    lb_unlock(&r->mutex);
}

/* Rows and columns of the current segment: those of its last pass, which encodes. */
static const lb_pass *last_pass(const lb_active *a) {
    return &a->prog.passes[a->prog.n_passes - 1];
}

/* Elements of the current segment that are kept. */
static u64 kept_here(const lb_active *a) {
    u64 before = a->first_row * last_pass(a)->n_cols;
    return a->kept_elems > before ? a->kept_elems - before : 0;
}

static lb_status begin_pass(lb_runner *r, lb_active *a, lb_err *err) {
    a->pass = &a->prog.passes[a->pass_index];
    a->visit = LB_VISIT_ALL;
    a->reads_all = true;
    a->skip = a->pass_index + 1 == a->prog.n_passes ? kept_here(a) : 0;
    if (a->skip)
        note_kept(r, stream_bytes(a->job, a->first_row * a->pass->n_cols, a->skip) +
                         (u64)((double)a->pass->read_bytes * (double)a->skip /
                               ((double)a->pass->n_rows * (double)a->pass->n_cols)));
    return begin_leaf_hashes(r, a, err);
}

u64 lb_active_number(const lb_active *a, u64 tile) {
    for (u32 i = 0; i < a->n_windows && a->visit == LB_VISIT_PLACE; i++) {
        u64 n = a->windows[i].end - a->windows[i].first;
        if (tile < n)
            return a->windows[i].first + tile;
        tile -= n;
    }
    return tile;
}

lb_rect lb_active_tile(const lb_active *a, u64 tile) {
    if (a->visit == LB_VISIT_SAMPLE)
        return lb_select_piece(a->pass, a->n_tiles, tile);
    lb_rect t = lb_pass_tile(a->pass, lb_active_number(a, tile));
    if (a->skip == 0)
        return t;
    u64 row = a->skip / a->pass->n_cols, col = a->skip % a->pass->n_cols;
    if (t.r0 < row) {
        t.nr -= row - t.r0;
        t.r0 = row;
    } else if (t.r0 == row && t.c0 < col) {
        t.nc -= col - t.c0;
        t.c0 = col;
    }
    return t;
}

/* Of those that draw the one that begins first in its stream, after `after`; NULL: there is none.
 */
static const lb_inst *next_mask(const lb_pass *p, const lb_inst *after) {
    const lb_inst *best = NULL;
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        u64 at = x->node->u.make.first;
        if (lb_inst_draws(x) &&
            (!after || at > after->node->u.make.first ||
             (at == after->node->u.make.first && x > after)) &&
            (!best || at < best->node->u.make.first))
            best = x;
    }
    return best;
}

/* Each round draws the same numbers. Those of one tensor's inputs lie behind each other: each is
 * found from the one before. */
static void start_masks(lb_runner *r, lb_active *a) {
    const lb_kernels *k = r->opt->kernels;
    const lb_mt19937 *from = NULL;
    if (a->pass->n_masks == 0)
        return;
    a->draws->next_tile = a->next_tile;
    a->draws->begun = 0;
    for (const lb_inst *x = NULL; (x = next_mask(a->pass, x)) != NULL;) {
        lb_mt19937 *m = &a->mask[x->mask];
        u64 seed = r->plan->graph.carries[x->node->u.make.carry].seed;
        *m = from ? *from : a->draws->near;
        if (m->seed != (u32)seed)
            lb_mt19937_init(m, k, seed);
        lb_mt19937_seek(m, k, x->node->u.make.first + a->skip);
        if (!from)
            a->draws->near = *m;
        from = m;
    }
}

/* Whether some selection of the pass needs a round of the kind. */
static bool wants(const lb_runner *r, const lb_active *a, lb_visit visit) {
    for (u32 i = 0; i < a->prog.n_results && a->pass->select_cap; i++)
        if (a->prog.results[i].pass == a->pass_index &&
            lb_select_wants(a->held[i].select,
                            lb_graph_node(&r->plan->graph, a->prog.results[i].node), visit))
            return true;
    return false;
}

static int by_first(const void *a, const void *b) {
    u64 x = ((const lb_window *)a)->first, y = ((const lb_window *)b)->first;
    return x < y ? -1 : x > y;
}

/* The tiles that selections look at once more, each once; returns how many. */
static u64 list_windows(lb_active *a) {
    u32 n = 0;
    u64 n_tiles = 0;
    a->n_windows = 0;
    for (u32 i = 0; i < a->prog.n_results; i++)
        for (u32 k = 0; k < LB_SELECT_RANKS && a->prog.results[i].pass == a->pass_index; k++) {
            const lb_sought_rank *s = &a->held[i].select->one[k];
            if (s->state == LB_SOUGHT_PLACED)
                a->windows[n++] = (lb_window){s->first_tile, s->end_tile};
        }
    qsort(a->windows, n, sizeof *a->windows, by_first);
    for (u32 i = 0; i < n; i++) {
        lb_window *last = a->n_windows ? &a->windows[a->n_windows - 1] : NULL;
        if (last && a->windows[i].first < last->end)
            last->end = LB_MAX(last->end, a->windows[i].end);
        else
            a->windows[a->n_windows++] = a->windows[i];
    }
    for (u32 i = 0; i < a->n_windows; i++)
        n_tiles += a->windows[i].end - a->windows[i].first;
    return n_tiles;
}

/* Sets the kind of the next round, or tells that the pass is over. */
static bool next_round(const lb_runner *r, lb_active *a) {
    bool whole = wants(r, a, LB_VISIT_ALL);
    if (!whole && !wants(r, a, LB_VISIT_PLACE))
        return false;
    a->reads_all = whole && a->visit == LB_VISIT_SAMPLE;
    a->visit = whole ? LB_VISIT_ALL : LB_VISIT_PLACE;
    return true;
}

static void begin_round(lb_runner *r, lb_active *a, bool of_pass) {
    const lb_pass *p = a->pass;
    u64 first = a->skip ? a->skip / p->n_cols / p->tile_rows * p->tiles_per_row +
                              a->skip % p->n_cols / p->tile_cols
                        : 0;
    for (u32 i = 0; i < a->prog.n_results; i++)
        if (a->prog.results[i].pass == a->pass_index)
            lb_held_begin(&r->plan->graph, &a->prog.results[i], p, &a->held[i], of_pass);
    if (of_pass && wants(r, a, LB_VISIT_SAMPLE)) {
        a->visit = LB_VISIT_SAMPLE;
        a->reads_all = false;
    }
    a->n_tiles = a->visit == LB_VISIT_ALL      ? p->n_tiles
                 : a->visit == LB_VISIT_SAMPLE ? lb_select_pieces(p, p->select_cap)
                                               : list_windows(a);
    a->next_tile = a->n_committed = first;
    start_masks(r, a);
}

static lb_status begin_segment(lb_runner *r, lb_active *a, lb_err *err) {
    const lb_segment *s = &a->job->segments[a->segment];
    u32 n_masks = 0;
    lb_arena_reset(&a->arena);
    LB_TRY(lb_prog_compile(&a->prog, &r->plan->graph, s->root, LB_MAX(a->job->n_streams, 1),
                           &r->plan->limits, &a->arena, err));
    LB_TRY(lb_prog_fit(&a->prog, r->plan->target_bytes, err));
    lb_prog *p = &a->prog;
    a->held = lb_arena_new(&a->arena, lb_held, p->n_results + 1);
    a->mask = NULL;
    for (u32 i = 0; i < p->n_passes; i++)
        n_masks = LB_MAX(n_masks, p->passes[i].n_masks);
    if (n_masks)
        a->mask = lb_arena_new(&a->arena, lb_mt19937, n_masks);
    a->windows = lb_arena_new(&a->arena, lb_window, lb_window_most(p));
    if (!a->held || !a->windows || (n_masks && !a->mask))
        return lb_fail(err, LB_E_NOMEM, "out of memory for a job");
    (void)lb_held_place(&r->plan->graph, p, a->held, a->fixed);
    a->pass_index = 0;
    const lb_pass *last = last_pass(a);
    if (kept_here(a) % LB_MAX(last->n_cols, 1) && last->tile_cols == last->n_cols) {
        /* Recorded within a row; tiles are whole rows now: the job, of one segment, is done anew.
         */
        for (u32 i = 0; i < a->job->n_streams; i++)
            lb_xxh_init(&a->hash[i]);
        memset(a->counts, 0, sizeof a->counts);
        a->kept_elems = 0;
    }
    if (p->spill_bytes == 0 || a->spill_fd >= 0)
        return LB_OK;
    return lb_os_open_temp(r->opt->temp_dir, &a->spill_fd, err);
}

void lb_active_end(lb_active *a) {
    lb_os_close(&a->spill_fd);
}

static lb_status end_job(lb_runner *r, lb_active *a, lb_err *err) {
    lb_job *j = a->job;
    for (u32 i = 0; i < j->n_streams; i++) {
        j->streams[i].hash = lb_xxh_digest(&a->hash[i]);
        j->streams[i].n_rounded = a->counts[i][0];
        j->streams[i].n_overflowed = a->counts[i][1];
    }
    for (u32 i = 0; i < a->prog.n_results && j->n_streams == 0; i++)
        if (a->prog.results[i].node == j->segments[a->segment].root[0])
            memcpy(j->stat, a->held[i].stat, sizeof j->stat);
    if (r->opt->sink)
        LB_TRY(lb_sink_job_done(r->opt->sink, a->index, a->hashes + a->n_recorded,
                                a->n_hashes - a->n_recorded, err));
    lb_lock(&r->mutex); /* the scheduler reads the flags beside it at any time */
    a->done = true;
    lb_unlock(&r->mutex);
    return LB_OK;
}

lb_status lb_active_span(lb_runner *r, lb_active *a, lb_rect tile, lb_err *err) {
    const lb_job *j = a->job;
    lb_sink_prefix prefix[LB_ROOTS_MAX];
    u64 n_cols = a->pass->n_cols, before = a->first_row * a->pass->n_cols;
    if (a->span_bytes == UINT64_MAX || a->pass_index + 1 != a->prog.n_passes)
        return LB_OK;
    a->since_span += stream_bytes(j, before + tile.r0 * n_cols + tile.c0, tile.nr * tile.nc);
    u64 end = (tile.r0 + tile.nr - 1) * n_cols + tile.c0 + tile.nc;
    if (a->since_span < a->span_bytes || (end % n_cols && j->n_segments > 1))
        return LB_OK;
    end += before;
    if (!is_cut(j, end))
        return LB_OK; /* or the job's own record follows */
    a->since_span = 0;
    for (u32 i = 0; i < j->n_streams; i++)
        prefix[i] = (lb_sink_prefix){lb_xxh_digest(&a->hash[i]), a->counts[i][0], a->counts[i][1]};
    LB_TRY(lb_sink_span_done(r->opt->sink, a->index, end, prefix, a->hashes + a->n_recorded,
                             a->n_hashes - a->n_recorded, err));
    a->n_recorded = a->n_hashes;
    return LB_OK;
}

lb_status lb_active_end_round(lb_runner *r, lb_active *a, lb_err *err) {
    const lb_job *j = a->job;
    for (u32 i = 0; i < a->prog.n_results; i++) {
        const lb_result *x = &a->prog.results[i];
        const char *why =
            x->pass == a->pass_index
                ? lb_held_finish(&r->plan->graph, r->opt->kernels, &a->prog, i, a->held, a->visit)
                : NULL;
        if (why)
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': %s",
                           LB_FMT(j->n_streams ? j->streams[0].name : j->name), why);
    }
    return LB_OK;
}

/* The next one that is not kept whole. */
static lb_status next_segment(lb_runner *r, lb_active *a, lb_err *err) {
    for (;;) {
        a->segment++;
        LB_ASSERT(a->segment < a->job->n_segments); /* of what is kept, something is missing */
        LB_TRY(begin_segment(r, a, err));
        const lb_pass *p = last_pass(a);
        u64 n_elems = p->n_rows * p->n_cols, kept = kept_here(a);
        if (kept == 0 || kept < n_elems)
            return LB_OK;
        u64 bytes = stream_bytes(a->job, a->first_row * p->n_cols, n_elems);
        a->first_row += p->n_rows;
        for (u32 i = 0; i < a->prog.n_passes; i++)
            bytes += a->prog.passes[i].read_bytes;
        note_kept(r, bytes);
    }
}

/* State on entry: before the first segment, or a round has just ended (and was finished). */
lb_status lb_active_advance(lb_runner *r, lb_active *a, lb_err *err) {
    bool started = a->segment != UINT32_MAX;
    for (;;) {
        if (started && next_round(r, a)) {
            begin_round(r, a, false);
        } else if (started && (end_leaf_hashes(r, a, err) != LB_OK)) {
            return LB_E_NOMEM;
        } else if (started && ++a->pass_index < a->prog.n_passes) {
            LB_TRY(begin_pass(r, a, err));
            begin_round(r, a, true);
        } else {
            if (started)
                a->first_row += a->job->n_streams ? a->pass->n_rows : 0;
            if (started && a->segment + 1 >= a->job->n_segments)
                return end_job(r, a, err);
            LB_TRY(next_segment(r, a, err));
            LB_TRY(begin_pass(r, a, err));
            begin_round(r, a, true);
        }
        started = true;
        if (a->n_tiles > 0)
            return LB_OK;
        LB_TRY(lb_active_end_round(r, a, err));
    }
}

/* ---- after the jobs: tensors that were read in pieces ---- */

static lb_status digest_tensor(lb_runner *r, u32 source, u64 tensor, u8 *buf, u64 cap,
                               lb_err *err) {
    const lb_source *s = r->plan->graph.sources[source];
    const lb_tensor *t = &s->tensors[tensor];
    int fd;
    lb_xxh h;
    lb_xxh_init(&h);
    LB_TRY(lb_fds_get(r->fds[source], t->file, &fd, err));
    lb_status st = LB_OK;
    for (u64 at = 0; at < t->size_bytes && st == LB_OK; at += cap) {
        u64 n = LB_MIN(cap, t->size_bytes - at);
        st = lb_os_pread(fd, s->files[t->file].path, buf, n, t->off_bytes + at, err);
        if (st == LB_OK)
            st = lb_run_note_read(r, n, err);
        if (st == LB_OK)
            lb_xxh_update(&h, buf, n);
    }
    lb_fds_put(r->fds[source], t->file);
    r->plan->src[source].tensor_hash[tensor] = lb_xxh_digest(&h);
    return st;
}

static int by_name(const void *a, const void *b) {
    return lb_str_cmp((*(const lb_tensor *const *)a)->name, (*(const lb_tensor *const *)b)->name);
}

/* XXH3-128 over (name, type, shape, hash of the bytes) of each used tensor, by name: independent of
 * shards and of the order in files. */
static lb_status digest_source(lb_runner *r, u32 source, lb_err *err) {
    lb_plan_source *ps = &r->plan->src[source];
    const lb_source *s = r->plan->graph.sources[source];
    const lb_tensor **list = lb_alloc((s->n_tensors + 1) * sizeof *list);
    u64 n = 0;
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for hashes");
    for (u64 t = 0; t < s->n_tensors; t++)
        if (ps->used[t] & LB_USED)
            list[n++] = &s->tensors[t];
    qsort(list, n, sizeof *list, by_name);
    lb_xxh h;
    lb_xxh_init(&h);
    for (u64 i = 0; i < n; i++) {
        char hex[33], shape[LB_SHAPE_TEXT], line[512];
        const lb_tensor *t = list[i];
        lb_hash_hex(ps->tensor_hash[t - s->tensors], hex);
        lb_xxh_update(&h, t->name.ptr, t->name.len);
        int len = snprintf(line, sizeof line, "\n%s\n%s\n%s\n", lb_dtype_get(t->dtype)->name,
                           lb_shape_text(&t->shape, shape), hex);
        lb_xxh_update(&h, line, (size_t)len);
    }
    ps->digest = lb_xxh_digest(&h);
    lb_free(list);
    return LB_OK;
}

/* The tensors of a source, dealt to the threads one at a time. */
typedef struct digester {
    lb_runner *r;
    u32 source;
    u64 next;   /* r->mutex */
    lb_err err; /* the first one; r->mutex */
} digester;

static bool is_left(const lb_plan_source *s, u64 t) {
    return (s->used[t] & LB_USED) && !(s->used[t] & LB_USED_HASHED);
}

static bool take_tensor(digester *d, u64 *out) {
    const lb_plan_source *s = &d->r->plan->src[d->source];
    u64 n = d->r->plan->graph.sources[d->source]->n_tensors;
    lb_lock(&d->r->mutex);
    while (d->next < n && !is_left(s, d->next))
        d->next++;
    bool any = d->next < n && d->err.code == LB_OK;
    *out = d->next;
    d->next += any;
    lb_unlock(&d->r->mutex);
    return any;
}

static void *digest_some(void *arg) {
    digester *d = arg;
    u64 t;
    u8 *buf = lb_pool_take(d->r->pool, LB_DIGEST_BYTES);
    while (buf && take_tensor(d, &t)) {
        lb_err err = {0};
        if (digest_tensor(d->r, d->source, t, buf, LB_DIGEST_BYTES, &err) == LB_OK)
            continue;
        lb_lock(&d->r->mutex);
        if (d->err.code == LB_OK)
            d->err = err;
        lb_unlock(&d->r->mutex);
    }
    if (buf)
        lb_pool_give(d->r->pool, buf, LB_DIGEST_BYTES);
    return NULL;
}

/* A thread that gets no buffer leaves the work to the others; the plan has room for one. */
static lb_status digest_tensors(lb_runner *r, u32 source, lb_err *err) {
    digester d = {.r = r, .source = source};
    u32 n = 0, most = 0; /* threads beside this one: no more than tensors */
    for (u64 t = 0; t < r->plan->graph.sources[source]->n_tensors; t++)
        most += most < r->plan->threads && is_left(&r->plan->src[source], t);
    if (most == 0)
        return LB_OK;
    most--;
    lb_thread *more = lb_arena_new(&r->arena, lb_thread, most + 1);
    u8 *room = lb_pool_take(r->pool, LB_DIGEST_BYTES);
    if (!more || !room)
        return lb_fail(err, LB_E_NOMEM, "out of memory for hashing");
    lb_pool_give(r->pool, room, LB_DIGEST_BYTES);
    while (n < most && lb_thread_start(&more[n], digest_some, &d, NULL) == LB_OK)
        n++;
    digest_some(&d);
    for (u32 i = 0; i < n; i++)
        lb_thread_join(&more[i]);
    if (d.err.code != LB_OK && err)
        *err = d.err;
    return d.err.code;
}

lb_status lb_run_digests(lb_runner *r, lb_err *err) {
    for (u32 i = 0; i < r->plan->graph.n_sources; i++) {
        LB_TRY(digest_tensors(r, i, err));
        LB_TRY(digest_source(r, i, err));
    }
    return LB_OK;
}
