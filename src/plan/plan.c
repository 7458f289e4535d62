/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c: collects jobs, checks them, finds tile size, threads and window under the budget. */
#include "plan/plan.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "io/size.h"
#include "plan/chain.h"
#include "plan/eval.h"
#include "plan/pool.h"
#include "plan/run.h"

static u32 count_sources(const lb_source *s) {
    u32 n = 1;
    for (u32 i = 0; i < s->n_inputs; i++)
        n += count_sources(s->inputs[i]);
    return n;
}

static u32 list_sources(const lb_source *s, const lb_source **out) {
    u32 n = 1;
    out[0] = s;
    for (u32 i = 0; i < s->n_inputs; i++)
        n += list_sources(s->inputs[i], out + n);
    return n;
}

/* Sources as they stand, each for itself. */
static lb_status new_plan(lb_plan **out, const lb_source *const *sources, u32 n, lb_err *err) {
    lb_plan *p = lb_alloc_zero(1, sizeof *p);
    if (!p)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a plan");
    *out = p;
    const lb_source **copy = lb_arena_new(&p->perm, const lb_source *, n + 1);
    p->src = lb_arena_new(&p->perm, lb_plan_source, n + 1);
    bool ok = copy && p->src;
    for (u32 i = 0; ok && i < n; i++) {
        copy[i] = sources[i];
        p->src[i].tensor_hash = lb_arena_new(&p->perm, lb_hash128, copy[i]->n_tensors + 1);
        p->src[i].used = lb_arena_new(&p->perm, u8, copy[i]->n_tensors + 1);
        ok = p->src[i].tensor_hash && p->src[i].used;
    }
    if (!ok) {
        lb_plan_free(out);
        return lb_fail(err, LB_E_NOMEM, "out of memory for a plan");
    }
    lb_graph_init(&p->graph, &p->perm, copy, n);
    return LB_OK;
}

lb_status lb_plan_new(lb_plan **out, const lb_source *const *given, u32 n_given, lb_err *err) {
    u32 n = 0, at = 0;
    for (u32 i = 0; i < n_given; i++)
        n += count_sources(given[i]);
    const lb_source **list = lb_alloc((n + 1) * sizeof *list);
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a plan");
    for (u32 i = 0; i < n_given; i++)
        at += list_sources(given[i], list + at);
    lb_status st = new_plan(out, list, n, err);
    lb_free(list);
    return st;
}

lb_status lb_plan_survey(lb_plan **out, const lb_plan *of, lb_err *err) {
    LB_TRY(lb_graph_status(&of->graph, err));
    LB_TRY(new_plan(out, of->graph.sources, of->graph.n_sources, err));
    lb_arena *own = (*out)->graph.arena;
    const lb_source *const *sources = (*out)->graph.sources;
    (*out)->graph = of->graph;
    (*out)->graph.arena = own;
    (*out)->graph.sources = sources;
    (*out)->graph.cap_blocks = of->graph.n_blocks; /* a list of its own with the next one */
    return LB_OK;
}

void lb_plan_free(lb_plan **p) {
    if (!*p)
        return;
    lb_arena_deinit(&(*p)->perm);
    lb_free(*p);
    *p = NULL;
}

static void *grow(lb_plan *p, void *old, u64 n, u64 *cap, size_t size) {
    if (n < *cap)
        return old;
    u64 want = *cap ? *cap * 2 : 16;
    void *q = lb_arena_push_array(&p->perm, want, size, 16);
    if (!q) {
        if (p->err.code == LB_OK)
            (void)lb_fail(&p->err, LB_E_NOMEM, "out of memory while planning");
        return NULL;
    }
    if (n)
        memcpy(q, old, n * size);
    *cap = want;
    return q;
}

void lb_plan_reserve(lb_plan *p, u64 n_jobs) {
    lb_job *j = n_jobs > p->cap_jobs ? lb_arena_new(&p->perm, lb_job, n_jobs) : NULL;
    if (!j)
        return;
    if (p->n_jobs)
        memcpy(j, p->jobs, p->n_jobs * sizeof *j);
    p->jobs = j;
    p->cap_jobs = n_jobs;
}

u32 lb_plan_file(lb_plan *p, lb_str name, u64 size_bytes) {
    lb_out_file *f = grow(p, p->files, p->n_files, &p->cap_files, sizeof *f);
    if (!f)
        return 0;
    p->files = f;
    f[p->n_files] = (lb_out_file){lb_arena_str(&p->perm, name), size_bytes};
    return (u32)p->n_files++;
}

/* 100,000 shapes of two dims are 2 MB like this, and 7 MB whole. */
static const lb_shape *copy_shape(lb_plan *p, const lb_shape *shape) {
    static const lb_shape scalar = {0};
    if (!shape)
        return &scalar;
    size_t len = offsetof(lb_shape, dim) + shape->rank * sizeof shape->dim[0];
    lb_shape *s = lb_arena_push(&p->perm, len, _Alignof(lb_shape));
    if (s)
        memcpy(s, shape, len);
    return s;
}

lb_job *lb_plan_job(lb_plan *p, lb_str name, const lb_stream *streams, u32 n_streams) {
    LB_ASSERT(n_streams <= LB_ROOTS_MAX);
    lb_job *j = grow(p, p->jobs, p->n_jobs, &p->cap_jobs, sizeof *j);
    if (!j)
        return NULL;
    p->jobs = j;
    j += p->n_jobs;
    *j = (lb_job){.name = name, .n_streams = n_streams};
    j->streams = lb_arena_new(&p->perm, lb_stream, n_streams);
    bool ok = j->streams;
    for (u32 i = 0; i < n_streams && ok; i++) {
        j->streams[i] = streams[i];
        j->streams[i].shape = copy_shape(p, streams[i].shape);
        ok = j->streams[i].shape;
    }
    if (!ok) {
        (void)lb_fail(&p->err, LB_E_NOMEM, "out of memory while planning");
        return NULL;
    }
    p->n_jobs++;
    return j;
}

static size_t roots_bytes(const lb_job *j) {
    return LB_MAX(j->n_streams, 1) * sizeof(lb_node_id);
}

void lb_plan_segment(lb_plan *p, const lb_node_id *roots) {
    if (p->err.code != LB_OK || p->graph.err.code != LB_OK)
        return;
    lb_job *j = &p->jobs[p->n_jobs - 1];
    u64 cap = j->cap_segments;
    lb_segment *s = j->segments;
    if (j->n_segments == cap) {
        u64 want = cap ? cap * 2 : 1;
        /* the only segment of most jobs is no longer than their streams */
        s = cap ? lb_arena_new(&p->perm, lb_segment, want)
                : lb_arena_push(&p->perm, roots_bytes(j), _Alignof(lb_segment));
        if (!s) {
            (void)lb_fail(&p->err, LB_E_NOMEM, "out of memory while planning");
            return;
        }
        if (cap)
            memcpy(s, j->segments, cap > 1 ? cap * sizeof *s : roots_bytes(j));
        j->segments = s;
        j->cap_segments = (u32)want;
    }
    for (u32 i = 0; i < LB_MAX(j->n_streams, 1); i++)
        s[j->n_segments].root[i] = roots[i];
    j->n_segments++;
}

void lb_plan_output(lb_plan *p, const lb_stream *stream, lb_node_id root) {
    if (lb_plan_job(p, stream->name, stream, 1))
        lb_plan_segment(p, &root);
}

/* ---- closing ---- */

bool lb_stream_part(const lb_stream *s, u64 n_elems, u64 *bytes) {
    u64 per = LB_MAX(s->per, 1), elems = LB_MAX(s->per_elems, 1); /* not closed: one for one */
    u64 mats = s->mat ? n_elems / s->mat : 0, rest = n_elems - mats * s->mat, n;
    if (rest % per != 0 && !s->once)
        return false;
    return lb_mul_u64(mats, lb_ceil_div_u64(s->mat, per), &n) &&
           lb_add_u64(n, lb_ceil_div_u64(rest, per), &n) && lb_mul_u64(n, elems, &n) &&
           lb_dtype_bytes(s->dtype, n, bytes);
}

lb_stream_span lb_stream_span_of(const lb_stream *s, u64 first, u64 n_elems) {
    u64 from = 0, to = 0;
    bool ok = lb_stream_part(s, first, &from) && lb_stream_part(s, first + n_elems, &to);
    LB_ASSERT(ok); /* see units() */
    return (lb_stream_span){from, to - from};
}

/* How a stream's elements follow from the job's, in every segment alike: bands of rows begin anew
 * with each matrix. */
static lb_status set_ratio(const lb_plan *p, const lb_job *j, u32 segment, lb_stream *s,
                           const lb_node *n, lb_err *err) {
    const lb_node *in = lb_graph_node(&p->graph, n->in[0]);
    bool band = n->u.encode.rows > 1 || n->u.encode.once;
    lb_stream x = {.per = n->u.encode.cols, .per_elems = n->u.encode.elems};
    if (band) {
        x.per = LB_MIN(n->u.encode.rows, in->n_rows) * in->n_cols;
        u64 per_elems = x.per_elems * lb_ceil_div_u64(in->n_cols, n->u.encode.cols);
        if (per_elems > UINT32_MAX)
            return lb_fail(err, LB_E_LIMIT, "job '%.*s': stream '%.*s': %llu columns are too many",
                           LB_FMT(j->name), LB_FMT(s->name), (unsigned long long)in->n_cols);
        x.per_elems = (u32)per_elems;
        x.mat = n->u.encode.once || in->n_rows % n->u.encode.rows ? in->n_rows * in->n_cols : 0;
        x.once = n->u.encode.once;
    }
    if (segment && (x.per != s->per || x.per_elems != s->per_elems || x.mat != s->mat))
        return lb_fail(err, band ? LB_E_UNSUPPORTED : LB_E_USAGE,
                       "job '%.*s': stream '%.*s' has rows of two kinds", LB_FMT(j->name),
                       LB_FMT(s->name));
    s->per = x.per;
    s->per_elems = x.per_elems;
    s->mat = x.mat;
    s->once = x.once;
    return LB_OK;
}

/* Rows of all segments must fill each stream exactly. */
static lb_status check_job(const lb_plan *p, const lb_job *j, lb_err *err) {
    if (j->n_segments == 0)
        return lb_fail(err, LB_E_USAGE, "job '%.*s' has nothing to compute", LB_FMT(j->name));
    for (u32 s = 0; s < j->n_streams; s++) {
        u64 bytes = 0, part = 0;
        for (u32 i = 0; i < j->n_segments; i++) {
            const lb_node *n = lb_graph_node(&p->graph, j->segments[i].root[s]);
            u64 elems;
            if (n->kind != LB_NODE_ENCODE || (lb_dtype)n->op != j->streams[s].dtype ||
                !lb_mul_u64(n->n_rows, n->n_cols, &elems) ||
                !lb_dtype_bytes((lb_dtype)n->op, elems, &part) || !lb_add_u64(bytes, part, &bytes))
                return lb_fail(err, LB_E_USAGE, "job '%.*s': stream %u is not made by its node",
                               LB_FMT(j->name), s);
            LB_TRY(set_ratio(p, j, i, &j->streams[s], n, err));
        }
        const lb_stream *st = &j->streams[s];
        if (bytes != st->size_bytes)
            return lb_fail(err, LB_E_USAGE, "job '%.*s': %llu bytes planned, %llu computed",
                           LB_FMT(j->name), (unsigned long long)st->size_bytes,
                           (unsigned long long)bytes);
        if (st->file >= p->n_files || st->off_bytes > p->files[st->file].size_bytes ||
            bytes > p->files[st->file].size_bytes - st->off_bytes)
            return lb_fail(err, LB_E_USAGE, "job '%.*s' writes outside its file", LB_FMT(j->name));
    }
    return LB_OK;
}

static void note_use(lb_plan *p, const lb_leaf *l) {
    if (l->spilled)
        return;
    for (u32 k = 0; k < l->codec.n_parts; k++)
        p->src[l->source].used[l->codec.part[k].tensor] |=
            (u8)(LB_USED | (lb_leaf_hashes(l, k) ? LB_USED_WHOLE : 0));
}

/* Tensors that no leaf reads whole and in order are read once more for their digest. */
static u64 digest_bytes(const lb_plan *p) {
    u64 n = 0;
    for (u32 i = 0; i < p->graph.n_sources && p->want_digests; i++)
        for (u64 t = 0; t < p->graph.sources[i]->n_tensors; t++)
            if ((p->src[i].used[t] & (LB_USED | LB_USED_WHOLE | LB_USED_CHAINED)) == LB_USED)
                n += p->graph.sources[i]->tensors[t].size_bytes;
    return n;
}

typedef struct lb_need {
    u64 fixed, fixed_pair; /* held matrices: the largest of any job, of any two neighbours */
    u64 slab, scratch;     /* largest of any job */
    u64 digest;            /* a buffer for what is hashed after the jobs */
    u64 program;           /* what a running job keeps beside its buffers, at most */
    u64 held_max;          /* the largest held matrix that could be spilled */
    u64 spill;             /* temporary files of two neighbours, at most */
    bool selects;          /* some pass has exact selections */
    bool batches;          /* some matrix is one tile and keeps one thread busy */
} lb_need;

/* Compiles one segment, cuts it for a tile size and adds its figures to the job's. */
static lb_status measure_segment(lb_plan *p, lb_job *j, const lb_segment *s, lb_arena *scratch,
                                 lb_need *need, lb_err *err) {
    lb_prog prog;
    lb_arena_reset(scratch);
    LB_TRY(lb_prog_compile(&prog, &p->graph, s->root, LB_MAX(j->n_streams, 1), &p->limits, scratch,
                           err));
    LB_TRY(lb_prog_fit(&prog, p->target_bytes, err));
    for (u32 i = 0; i < prog.n_results; i++) {
        const lb_result *r = &prog.results[i];
        if (r->kind == LB_RESULT_HOLD && !r->direct && !r->spilled)
            need->held_max = LB_MAX(need->held_max, r->fixed_bytes);
        if (r->spilled)
            j->write_bytes += r->in_rows * r->in_cols * sizeof(float);
    }
    j->spill_bytes = LB_MAX(j->spill_bytes, prog.spill_bytes);
    j->fixed_bytes = LB_MAX(j->fixed_bytes, lb_held_place(&p->graph, &prog, NULL, NULL));
    for (u32 i = 0; i < prog.n_passes; i++) {
        const lb_pass *q = &prog.passes[i];
        j->read_bytes += q->read_bytes;
        need->selects |= q->select_cap > 0;
        j->slab_bytes = LB_MAX(j->slab_bytes, q->slab_bytes);
        j->scratch_bytes = LB_MAX(j->scratch_bytes, lb_worker_bytes(q));
        j->n_tiles += q->n_tiles;
        need->batches |= q->batch_rows > 0;
        for (u32 k = 0; k < q->n_leaves; k++)
            note_use(p, &q->leaves[k]);
        LB_TRY(lb_chain_note(p, (u64)(j - p->jobs), q, err));
    }
    u64 program = scratch->size_bytes + lb_active_bytes(&prog, p->want_digests, j->n_segments);
    need->program = LB_MAX(need->program, program);
    return LB_OK;
}

#define LB_HOLD_MIN_BYTES (64 * LB_KIB) /* smaller ones are not worth a file */

static u64 held_class(u64 bytes) {
    return bytes ? lb_pool_class(bytes) : 0;
}

/* The figures of every job for tiles of p->target_bytes. */
static lb_status measure(lb_plan *p, lb_need *need, lb_err *err) {
    lb_arena scratch = {0};
    lb_status st = LB_OK;
    *need = (lb_need){0};
    p->read_bytes = p->write_bytes = 0;
    lb_chain_begin(p);
    for (u64 i = 0; i < p->n_jobs && st == LB_OK; i++) {
        lb_job *j = &p->jobs[i];
        st = lb_interrupt_check(err);
        if (st != LB_OK)
            break;
        j->read_bytes = j->write_bytes = j->fixed_bytes = j->slab_bytes = j->scratch_bytes =
            j->n_tiles = j->spill_bytes = 0;
        for (u32 s = 0; s < j->n_segments && st == LB_OK; s++)
            st = measure_segment(p, j, &j->segments[s], &scratch, need, err);
        if (st != LB_OK)
            lb_err_context(err, "tensor '%.*s'", LB_FMT(j->name));
        for (u32 s = 0; s < j->n_streams; s++)
            j->write_bytes += j->streams[s].size_bytes;
        p->read_bytes += j->read_bytes;
        p->write_bytes += j->write_bytes;
        u64 fixed = held_class(j->fixed_bytes);
        need->fixed = LB_MAX(need->fixed, fixed);
        need->fixed_pair =
            LB_MAX(need->fixed_pair, fixed + (i ? held_class(p->jobs[i - 1].fixed_bytes) : 0));
        need->spill = LB_MAX(need->spill, j->spill_bytes + (i ? p->jobs[i - 1].spill_bytes : 0));
        need->slab = LB_MAX(need->slab, j->slab_bytes);
        need->scratch = LB_MAX(need->scratch, j->scratch_bytes);
    }
    lb_chain_end(p);
    p->read_bytes += digest_bytes(p);
    need->digest = p->want_digests ? LB_DIGEST_BYTES : 0;
    lb_arena_deinit(&scratch);
    return st;
}

/* Buffers of a run. Two jobs may hold matrices at a time: the first pass of the next one starts
 * while the last tiles of one still run; where that is too much, the next one waits. */
static u64 pool_bytes(const lb_plan *p, const lb_need *n, bool pair) {
    u64 slabs = n->slab ? p->window * lb_pool_class(n->slab) : 0;
    return (pair ? n->fixed_pair : n->fixed) + LB_MAX(slabs, n->digest) +
           p->threads * lb_pool_class(n->scratch);
}

#define LB_ACTIVE_MAX 8

/* Held matrices are counted of two jobs. */
static u32 n_active(const lb_plan *p, const lb_need *n) {
    bool more = n->batches && !n->fixed && !n->spill;
    return LB_MIN(p->threads, more ? LB_ACTIVE_MAX : 2);
}

/* Sets the figures for p->threads and p->window; true when they stay in the budget. */
static bool fits(lb_plan *p, const lb_need *n, bool pair) {
    p->slab_bytes = n->slab;
    p->scratch_bytes = n->scratch;
    p->spill_bytes = n->spill;
    p->n_active = n_active(p, n);
    p->pool_bytes = pool_bytes(p, n, pair);
    p->held_bytes = pair ? n->fixed_pair : n->fixed;
    p->peak_bytes = p->base_bytes + p->pool_bytes + (p->threads - 1) * LB_STACK_BYTES +
                    lb_run_state_bytes(p, n->program);
    p->peak_bytes =
        LB_MAX(p->peak_bytes, p->base_bytes + p->after_bytes); /* the pool is gone then */
    return p->peak_bytes <= p->memory_bytes;
}

/* The retreat: smaller tiles, fewer of them in flight, one job's matrices, fewer threads. */
static bool fit_window(lb_plan *p, const lb_need *n) {
    for (u32 pair = p->threads > 1 && n->fixed_pair > n->fixed ? 2 : 1; pair-- > 0;)
        for (u32 extra = p->threads + 2; extra > 0; extra /= 2) {
            p->window = p->threads + extra - 1;
            if (fits(p, n, pair))
                return true;
        }
    return false;
}

/* Tile size, window and threads for p->memory_bytes and p->limits. *found: they fit; *held_max: the
 * largest matrix that a smaller hold_max_bytes would spill; *selects: there are selections. */
static lb_status solve_tiles(lb_plan *p, const lb_plan_limits *lim, bool *found, u64 *held_max,
                             bool *selects, lb_err *err) {
    /* Down to the smallest buffer there is: less would only make more tiles; below 64 KiB a thread
     * less costs less than the many small reads. The largest is a device's alone, whose results
     * are waited for: it has fewer ends (docs/perf/LOG.md). */
    static const u64 targets[] = {2 * LB_MIB,   LB_MIB,      512 * LB_KIB, 256 * LB_KIB,
                                  128 * LB_KIB, 64 * LB_KIB, 16 * LB_KIB,  4 * LB_KIB};
    enum { N = LB_LEN(targets), N_MANY = 6 };
    lb_need need[N];
    const u32 first = p->encoder ? 0 : 1, n_targets = lim->tile_bytes ? first + 1 : N;
    u32 n_measured = first;
    *found = *selects = false;
    *held_max = 0;
    for (p->threads = LB_MAX(lim->threads, 1); p->threads >= 1; p->threads /= 2)
        for (u32 t = first; t < (p->threads > 1 ? LB_MIN(n_targets, N_MANY) : n_targets); t++) {
            p->target_bytes = lim->tile_bytes ? lim->tile_bytes : targets[t];
            if (t == n_measured) {
                LB_TRY(measure(p, &need[n_measured++], err));
                /* after measuring: what that took from the system may stay with the heap */
                p->base_bytes = lb_run_base_bytes() + lim->beside_bytes;
            }
            *held_max = LB_MAX(*held_max, need[t].held_max);
            *selects |= need[t].selects;
            if (fit_window(p, &need[t])) { /* the jobs' figures are those of the last measure */
                *found = true;
                return t + 1 == n_measured ? LB_OK : measure(p, &need[t], err);
            }
        }
    return LB_OK;
}

/* What selections collect, of the budget, and at least. */
#define LB_SELECT_PART 16
#define LB_SELECT_LEAST 65536

/* Held matrices stay in memory if that fits; else the larger ones are spilled, and more of them
 * each time. */
static lb_status solve_holds(lb_plan *p, const lb_plan_limits *lim, u64 memory_bytes, bool *found,
                             lb_err *err) {
    u64 held_max;
    bool selects;
    p->memory_bytes = memory_bytes;
    p->limits.hold_max_bytes = lim->hold_max_bytes ? lim->hold_max_bytes : UINT64_MAX;
    p->limits.select_max =
        lim->select_max ? lim->select_max
                        : LB_MAX(memory_bytes / LB_SELECT_PART / sizeof(u32), LB_SELECT_LEAST);
    for (;;) {
        LB_TRY(solve_tiles(p, lim, found, &held_max, &selects, err));
        if (!*found && selects && !lim->select_max && p->limits.select_max > LB_SELECT_LEAST) {
            p->limits.select_max = LB_SELECT_LEAST;
            continue;
        }
        if (*found || held_max <= LB_HOLD_MIN_BYTES || lim->hold_max_bytes)
            return LB_OK;
        p->limits.hold_max_bytes = held_max / 4;
    }
}

static lb_status solve(lb_plan *p, const lb_plan_limits *lim, lb_err *err) {
    bool found = false;
    if (lim->enough_bytes && lim->enough_bytes < lim->memory_bytes)
        LB_TRY(solve_holds(p, lim, lim->enough_bytes, &found, err));
    if (!found)
        LB_TRY(solve_holds(p, lim, lim->memory_bytes, &found, err));
    if (found)
        return LB_OK;
    char have[LB_SIZE_TEXT];
    return lb_fail(err, LB_E_LIMIT,
                   "a memory budget of %s is too small: this needs at least %llu MiB (--memory)",
                   lb_size_text(lim->memory_bytes, have),
                   (unsigned long long)lb_ceil_div_u64(p->peak_bytes, LB_MIB));
}

lb_status lb_plan_close(lb_plan *p, const lb_plan_limits *limits, lb_err *err) {
    LB_TRY(lb_graph_status(&p->graph, err));
    if (p->err.code != LB_OK) {
        if (err)
            *err = p->err;
        return p->err.code;
    }
    p->limit_bytes = limits->memory_bytes;
    LB_TRY(lb_plan_join(p, err));
    for (u64 i = 0; i < p->n_jobs; i++)
        LB_TRY(check_job(p, &p->jobs[i], err));
    LB_TRY(solve(p, limits, err));
    lb_plan_identify(p);
    return LB_OK;
}
