/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c: collects jobs, checks them, finds tile size, threads and window under the budget. */
#include "plan/plan.h"
#include "base/os.h"
#include "base/thread.h"
#include "plan/eval.h"
#include "plan/pool.h"
#include "plan/run.h"

lb_status lb_plan_new(lb_plan **out, const lb_source *const *sources, u32 n_sources, lb_err *err) {
    lb_plan *p = lb_alloc_zero(1, sizeof *p);
    if (!p)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a plan");
    *out = p;
    const lb_source **copy = lb_arena_new(&p->perm, const lb_source *, n_sources + 1);
    p->src = lb_arena_new(&p->perm, lb_plan_source, n_sources + 1);
    bool ok = copy && p->src;
    for (u32 i = 0; ok && i < n_sources; i++) {
        copy[i] = sources[i];
        p->src[i].tensor_hash = lb_arena_new(&p->perm, lb_hash128, sources[i]->n_tensors + 1);
        p->src[i].used = lb_arena_new(&p->perm, u8, sources[i]->n_tensors + 1);
        ok = p->src[i].tensor_hash && p->src[i].used;
    }
    if (!ok) {
        lb_plan_free(out);
        return lb_fail(err, LB_E_NOMEM, "out of memory for a plan");
    }
    lb_graph_init(&p->graph, &p->perm, copy, n_sources);
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

lb_job *lb_plan_job(lb_plan *p, lb_str name, const lb_stream *streams, u32 n_streams) {
    LB_ASSERT(n_streams <= LB_ROOTS_MAX);
    lb_job *j = grow(p, p->jobs, p->n_jobs, &p->cap_jobs, sizeof *j);
    if (!j)
        return NULL;
    p->jobs = j;
    j += p->n_jobs;
    *j = (lb_job){.name = lb_arena_str(&p->perm, name), .n_streams = n_streams};
    j->streams = lb_arena_new(&p->perm, lb_stream, n_streams + 1);
    if (!j->streams) {
        (void)lb_fail(&p->err, LB_E_NOMEM, "out of memory while planning");
        return NULL;
    }
    for (u32 i = 0; i < n_streams; i++)
        j->streams[i] = streams[i];
    p->n_jobs++;
    return j;
}

void lb_plan_segment(lb_plan *p, const lb_node_id *roots) {
    if (p->err.code != LB_OK || p->graph.err.code != LB_OK)
        return;
    lb_job *j = &p->jobs[p->n_jobs - 1];
    u64 cap = j->cap_segments;
    lb_segment *s = j->segments;
    if (j->n_segments == cap) {
        u64 want = cap ? cap * 2 : 1;
        s = lb_arena_new(&p->perm, lb_segment, want);
        if (!s) {
            (void)lb_fail(&p->err, LB_E_NOMEM, "out of memory while planning");
            return;
        }
        if (cap)
            memcpy(s, j->segments, cap * sizeof *s);
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
    for (u32 k = 0; k < l->codec.n_parts; k++)
        p->src[l->source].used[l->codec.part[k].tensor] |=
            (u8)(LB_USED | (l->whole ? LB_USED_WHOLE : 0));
}

/* Tensors that no leaf reads whole and in order are read once more for their digest. */
static u64 digest_bytes(const lb_plan *p) {
    u64 n = 0;
    for (u32 i = 0; i < p->graph.n_sources && p->want_digests; i++)
        for (u64 t = 0; t < p->graph.sources[i]->n_tensors; t++)
            if (p->src[i].used[t] == LB_USED)
                n += p->graph.sources[i]->tensors[t].size_bytes;
    return n;
}

/* Compiles one segment, cuts it for a tile size and adds its figures to the job's. */
static lb_status measure_segment(lb_plan *p, lb_job *j, const lb_segment *s, u64 target,
                                 lb_arena *scratch, lb_err *err) {
    lb_prog prog;
    lb_arena_reset(scratch);
    LB_TRY(lb_prog_compile(&prog, &p->graph, s->root, LB_MAX(j->n_streams, 1), scratch, err));
    LB_TRY(lb_prog_fit(&prog, target, err));
    u64 fixed = prog.fixed_bytes;
    for (u32 i = 0; i < prog.n_results; i++)
        fixed += lb_held_bins_bytes(&p->graph, &prog.results[i]);
    j->fixed_bytes = LB_MAX(j->fixed_bytes, fixed + (fixed ? 64 * prog.n_results : 0));
    for (u32 i = 0; i < prog.n_passes; i++) {
        const lb_pass *q = &prog.passes[i];
        j->read_bytes += q->read_bytes * q->n_rounds;
        j->slab_bytes = LB_MAX(j->slab_bytes, q->slab_bytes);
        j->scratch_bytes = LB_MAX(j->scratch_bytes, lb_worker_bytes(q));
        j->n_tiles += q->n_tiles * q->n_rounds;
        for (u32 k = 0; k < q->n_leaves; k++)
            note_use(p, &q->leaves[k]);
    }
    return LB_OK;
}

typedef struct lb_need {
    u64 fixed, slab, scratch, state; /* largest of any job */
} lb_need;

static lb_status measure(lb_plan *p, u64 target, lb_need *need, lb_err *err) {
    lb_arena scratch = {0};
    lb_status st = LB_OK;
    *need = (lb_need){0};
    p->read_bytes = p->write_bytes = 0;
    for (u64 i = 0; i < p->n_jobs && st == LB_OK; i++) {
        lb_job *j = &p->jobs[i];
        j->read_bytes = j->write_bytes = j->fixed_bytes = j->slab_bytes = j->scratch_bytes =
            j->n_tiles = 0;
        for (u32 s = 0; s < j->n_segments && st == LB_OK; s++)
            st = measure_segment(p, j, &j->segments[s], target, &scratch, err);
        if (st != LB_OK)
            lb_err_context(err, "tensor '%.*s'", LB_FMT(j->name));
        for (u32 s = 0; s < j->n_streams; s++)
            j->write_bytes += j->streams[s].size_bytes;
        p->read_bytes += j->read_bytes;
        p->write_bytes += j->write_bytes;
        need->fixed = LB_MAX(need->fixed, j->fixed_bytes);
        need->slab = LB_MAX(need->slab, j->slab_bytes);
        need->scratch = LB_MAX(need->scratch, j->scratch_bytes);
    }
    p->read_bytes += digest_bytes(p);
    need->state = scratch.size_bytes; /* what a running job's program takes, at most */
    lb_arena_deinit(&scratch);
    return st;
}

/* What a run takes beyond the process's base. Two jobs' fixed parts: the next job's first pass may
 * start while the last tiles of one still run (not when there is one job, or at one thread). */
static u64 run_bytes(const lb_need *n, u32 threads, u32 window) {
    u64 jobs = threads > 1 ? 2 : 1;
    return jobs * lb_pool_class(n->fixed) * (n->fixed != 0) + window * lb_pool_class(n->slab) +
           threads * (lb_pool_class(n->scratch) + LB_STACK_BYTES) +
           lb_run_state_bytes(threads, n->state);
}

static lb_status solve(lb_plan *p, const lb_plan_limits *lim, lb_err *err) {
    static const u64 targets[] = {
        LB_MIB, 512 * LB_KIB, 256 * LB_KIB, 128 * LB_KIB, 64 * LB_KIB, 16 * LB_KIB, 1};
    lb_need need = {0};
    u64 smallest = 0;
    p->memory_bytes = lim->memory_bytes;
    p->base_bytes = lb_run_base_bytes();
    for (u32 t = 0; t < LB_LEN(targets); t++) {
        u64 target = lim->tile_bytes ? lim->tile_bytes : targets[t];
        LB_TRY(measure(p, target, &need, err));
        for (u32 threads = LB_MAX(lim->threads, 1); threads >= 1;
             threads = t < 3 && threads > 1 ? 0 : threads / 2) {
            for (u32 extra = threads + 2; extra > 0; extra /= 2) {
                u64 bytes = p->base_bytes + run_bytes(&need, threads, threads + extra - 1);
                p->target_bytes = target;
                p->threads = threads;
                p->window = threads + extra - 1;
                p->peak_bytes = smallest = bytes;
                if (bytes <= lim->memory_bytes)
                    return LB_OK;
            }
        }
        if (lim->tile_bytes)
            break;
    }
    return lb_fail(
        err, LB_E_LIMIT,
        "a memory budget of %llu MiB is too small: this needs at least %llu MiB (--memory)",
        (unsigned long long)(lim->memory_bytes / LB_MIB),
        (unsigned long long)lb_ceil_div_u64(smallest, LB_MIB));
}

static void identify(lb_plan *p) {
    lb_xxh h;
    lb_buf text = {0};
    lb_xxh_init(&h);
    lb_xxh_update(&h, LB_VERSION, sizeof LB_VERSION);
    lb_xxh_update(&h, p->options.ptr, p->options.len);
    for (u32 i = 0; i < p->graph.n_sources; i++)
        for (u64 f = 0; f < p->graph.sources[i]->n_files; f++) {
            const lb_file *x = &p->graph.sources[i]->files[f];
            u64 id[4] = {x->size_bytes, x->ino, x->dev, (u64)x->mtime_ns};
            lb_xxh_update(&h, id, sizeof id);
        }
    for (u64 i = 0; i < p->n_jobs; i++) {
        lb_buf_reset(&text);
        lb_plan_print_job(p, &p->jobs[i], &text);
        for (u32 s = 1; s < p->jobs[i].n_segments; s++)
            lb_plan_print_segment(p, &p->jobs[i], s, &text);
        for (u32 s = 0; s < p->jobs[i].n_streams; s++) {
            u64 at[2] = {p->jobs[i].streams[s].file, p->jobs[i].streams[s].off_bytes};
            lb_xxh_update(&h, at, sizeof at);
        }
        lb_xxh_update(&h, text.ptr, text.len);
    }
    lb_buf_deinit(&text);
    p->identity = lb_xxh_digest(&h);
}

lb_status lb_plan_close(lb_plan *p, const lb_plan_limits *limits, lb_err *err) {
    LB_TRY(lb_graph_status(&p->graph, err));
    if (p->err.code != LB_OK) {
        if (err)
            *err = p->err;
        return p->err.code;
    }
    for (u64 i = 0; i < p->n_jobs; i++)
        LB_TRY(check_job(p, &p->jobs[i], err));
    LB_TRY(solve(p, limits, err));
    identify(p);
    return LB_OK;
}
