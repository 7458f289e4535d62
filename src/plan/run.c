/* SPDX-License-Identifier: Apache-2.0 */
/* run.c: the scheduler. One mutex guards the list of running jobs; reading, computing, writing,
 * hashing and folding happen outside it.
 *
 * A few jobs run at a time, oldest first: tiles of the first one that has any to issue are taken,
 * so that the next job starts while the last tiles of one are still under way. A job's tiles are
 * committed in order by whichever worker finds the next one ready. A worker that can get no buffer
 * waits; the oldest job's tiles can always be finished with the buffers they have, so there is no
 * deadlock. */
#include "plan/run_internal.h"
#include "base/os.h"
#include "plan/making.h"

/* ---- the list of running jobs ---- */

static bool failed(lb_runner *r) {
    return r->err.code != LB_OK;
}

/* Lock held. */
static void set_error(lb_runner *r, const lb_err *err) {
    if (!failed(r))
        r->err = *err;
    lb_wake_all(&r->wake);
}

static void progress(lb_runner *r, u64 bytes) {
    r->done_bytes += bytes;
    if (r->opt->progress)
        r->opt->progress(r->opt->user, r->done_bytes, r->plan->read_bytes + r->plan->write_bytes);
}

lb_status lb_run_note_read(lb_runner *r, u64 bytes, lb_err *err) {
    lb_lock(&r->mutex);
    r->report.bytes_read += bytes;
    progress(r, bytes);
    bool stop = r->opt->stop && r->opt->stop(r->opt->user);
    lb_unlock(&r->mutex);
    return stop ? lb_fail(err, LB_E_INTERRUPTED, "interrupted") : LB_OK;
}

/* Lock held. Whether what the job holds has room beside the tiles: two jobs that are no neighbours
 * may hold more than was planned for two. */
static bool has_room(const lb_runner *r, const lb_job *job) {
    u64 held = job->fixed_bytes ? lb_pool_class(job->fixed_bytes) : 0;
    for (u32 i = 0; i < r->n_active; i++)
        if (r->active[i]->job->fixed_bytes)
            held += lb_pool_class(r->active[i]->job->fixed_bytes);
    return r->n_active == 0 || !job->fixed_bytes || held <= r->plan->held_bytes;
}

/* Lock held. Starts the next job if there is one and its held memory can be had. */
static bool start_next(lb_runner *r) {
    while (r->n_active < r->max_active && r->next_job < r->plan->n_jobs) {
        lb_job *job = &r->plan->jobs[r->next_job];
        if (r->opt->sink && lb_sink_kept(r->opt->sink, r->next_job)) {
            r->kept_jobs++;
            r->next_job++;
            progress(r, job->read_bytes + job->write_bytes);
            continue;
        }
        for (u32 i = 0; i < r->n_active; i++)
            if (r->active[i]->index < job->after)
                return false;
        if (!has_room(r, job))
            return false;
        lb_active *a = r->free_list;
        u8 *fixed = NULL;
        if (job->fixed_bytes && !(fixed = lb_pool_take(r->pool, job->fixed_bytes))) {
            if (r->n_active == 0)
                set_error(r, &(lb_err){.code = LB_E_NOMEM,
                                       .msg = "out of memory for a job's held matrices"});
            return false;
        }
        r->free_list = a->next;
        lb_active_begin(r, a, r->next_job, fixed);
        r->next_job++;
        r->active[r->n_active++] = a;
        lb_unlock(&r->mutex);
        lb_err err = {0};
        lb_status st = lb_active_advance(r, a, &err);
        lb_lock(&r->mutex);
        a->busy = false;
        if (st != LB_OK)
            set_error(r, &err);
        lb_wake_all(&r->wake);
        return true;
    }
    return false;
}

/* Lock held. Removes jobs that are done, keeping the order of the rest. */
static void retire(lb_runner *r) {
    u32 n = 0;
    for (u32 i = 0; i < r->n_active; i++) {
        lb_active *a = r->active[i];
        if (a->busy || !a->done) { /* done is written while busy */
            r->active[n++] = a;
            continue;
        }
        lb_pool_give(r->pool, a->fixed, a->job->fixed_bytes);
        lb_active_end(a);
        a->next = r->free_list;
        r->free_list = a;
    }
    r->n_active = n;
}

/* Lock held. A tile to work on, with its slab, of a job that has fewer than `most` between their
 * issue and their commit; NULL: none now. */
static lb_active *take_tile(lb_runner *r, u32 most, u64 *tile, u8 **slab) {
    for (u32 i = 0; i < r->n_active; i++) {
        lb_active *a = r->active[i];
        if (a->busy || a->done || a->next_tile >= a->n_tiles ||
            a->next_tile >= a->n_committed + (a->pass->batch_rows ? 1 : most))
            continue;
        if (r->in_flight >= r->window)
            return NULL;
        *slab = lb_pool_take(r->pool, r->plan->slab_bytes);
        if (!*slab) {
            if (r->in_flight == 0)
                set_error(r, &(lb_err){.code = LB_E_NOMEM, .msg = "out of memory for a tile"});
            return NULL;
        }
        *tile = a->next_tile++;
        lb_slot *s = &a->ring[*tile % r->window];
        *s = (lb_slot){.slab = *slab};
        r->in_flight++;
        return a;
    }
    return NULL;
}

/* Lock held. Commits ready tiles in order; the last one of a round leads to the next. */
static void commit_ready(lb_runner *r, lb_active *a, lb_worker *w) {
    if (a->committing || a->busy)
        return;
    a->committing = true;
    while (!failed(r) && a->n_committed < a->next_tile &&
           a->ring[a->n_committed % r->window].ready) {
        u64 t = a->n_committed;
        const lb_slot *slot = &a->ring[t % r->window];
        u8 *slab = slot->slab;
        for (u32 i = 0; i < LB_ROOTS_MAX; i++) {
            a->counts[i][0] += slot->counts[i][0];
            a->counts[i][1] += slot->counts[i][1];
        }
        lb_unlock(&r->mutex);
        lb_err err = {0};
        lb_status st = lb_worker_commit(w, a, t, slab, &err);
        lb_pool_give(r->pool, slab, r->plan->slab_bytes);
        lb_lock(&r->mutex);
        a->ring[t % r->window] = (lb_slot){0};
        a->n_committed++;
        r->in_flight--;
        if (st != LB_OK)
            set_error(r, &err);
        lb_wake_one(&r->wake); /* there is room for one more */
    }
    if (!failed(r) && a->n_committed == a->n_tiles) {
        lb_err err = {0};
        a->busy = true;
        lb_unlock(&r->mutex);
        lb_status st = lb_active_end_round(r, a, &err);
        if (st == LB_OK)
            st = lb_active_advance(r, a, &err);
        lb_lock(&r->mutex);
        a->busy = false;
        if (st != LB_OK)
            set_error(r, &err);
        lb_wake_all(&r->wake);
    }
    a->committing = false;
    if (a->done)
        retire(r);
}

static void work(lb_runner *r, lb_worker *w) {
    /* A job's commits are one worker's at a time: where they fall behind, the next job begins, so
     * that its commits are made beside them. */
    const u32 behind = (r->plan->threads + r->window) / 2;
    lb_lock(&r->mutex);
    while (!failed(r)) {
        u64 tile = 0;
        u8 *slab = NULL;
        if (r->opt->stop && r->opt->stop(r->opt->user)) {
            set_error(r, &(lb_err){.code = LB_E_INTERRUPTED, .msg = "interrupted"});
            break;
        }
        retire(r);
        lb_active *a = take_tile(r, behind, &tile, &slab);
        if (!a) {
            if (failed(r) || start_next(r))
                continue;
            a = take_tile(r, r->window, &tile, &slab);
        }
        if (!a) {
            if (failed(r))
                continue;
            if (r->n_active == 0 && r->next_job >= r->plan->n_jobs)
                break;
            lb_wait(&r->wake, &r->mutex);
            continue;
        }
        lb_unlock(&r->mutex);
        lb_err err = {0};
        lb_status st = lb_worker_tile(w, a, tile, slab, &err);
        lb_lock(&r->mutex);
        a->ring[tile % r->window].ready = true;
        memcpy(a->ring[tile % r->window].counts, w->eval.counts, sizeof w->eval.counts);
        r->report.bytes_moved += w->eval.moved_bytes;
        r->report.bytes_written += w->written_bytes;
        if (w->reads_again) {
            r->report.bytes_again += w->read_bytes;
        } else {
            r->report.bytes_read += w->read_bytes;
            progress(r, w->read_bytes + w->written_bytes);
        }
        if (st != LB_OK)
            set_error(r, &err);
        else
            commit_ready(r, a, w);
    }
    lb_wake_all(&r->wake);
    lb_unlock(&r->mutex);
}

static void *worker_main(void *arg) {
    lb_worker *w = arg;
    work(w->runner, w);
    return NULL;
}

/* ---- setting up ---- */

static lb_status start_workers(lb_runner *r, lb_err *err) {
    for (u32 i = 0; i < r->plan->threads; i++)
        LB_TRY(lb_worker_init(&r->workers[i], r, err));
    for (u32 i = 1; i < r->plan->threads; i++)
        LB_TRY(lb_thread_start(&r->workers[i].thread, worker_main, &r->workers[i], err));
    return LB_OK;
}

static lb_status init_draws(lb_runner *r, lb_active *a, lb_err *err) {
    const lb_graph *g = &r->plan->graph;
    if (g->n_carries == 0)
        return LB_OK;
    lb_draws *d = a->draws = lb_arena_new(&r->arena, lb_draws, 1);
    if (!d)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the run");
    lb_mutex_init(&d->mutex);
    lb_mt19937_init(&d->near, r->opt->kernels, g->carries[0].seed);
    return LB_OK;
}

static lb_status runner_init(lb_runner *r, lb_err *err) {
    const lb_plan *p = r->plan;
    u32 n_sources = p->graph.n_sources;
    r->window = p->window;
    r->max_active = p->n_active;
    r->workers = lb_arena_new(&r->arena, lb_worker, p->threads);
    r->fds = lb_arena_new(&r->arena, lb_fds *, n_sources + 1);
    r->active = lb_arena_new(&r->arena, lb_active *, r->max_active);
    lb_active *actives = lb_arena_new(&r->arena, lb_active, r->max_active);
    if (!r->workers || !r->fds || !r->active || !actives)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the run");
    for (u32 i = 0; i < r->max_active; i++) {
        actives[i].ring = lb_arena_new(&r->arena, lb_slot, r->window);
        if (!actives[i].ring)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the run");
        LB_TRY(init_draws(r, &actives[i], err));
        actives[i].next = r->free_list;
        r->free_list = &actives[i];
    }
    r->actives = actives;
    for (u32 i = 0; i < n_sources; i++) {
        const lb_source *s = p->graph.sources[i];
        u32 share = LB_MAX(LB_OPEN_FILES / LB_MAX(n_sources, 1), p->threads + 1);
        LB_TRY(lb_fds_new(&r->fds[i], s->files, s->n_files, share, err));
    }
    LB_TRY(lb_chains_init(&r->chains, p, &r->arena, err));
    return lb_pool_new(&r->pool, p->pool_bytes, err);
}

static void runner_deinit(lb_runner *r) {
    for (u32 i = 1; r->workers && i < r->plan->threads; i++)
        lb_thread_join(&r->workers[i].thread);
    for (u32 i = 0; r->workers && i < r->plan->threads; i++)
        lb_worker_deinit(&r->workers[i]);
    for (u32 i = 0; r->actives && i < r->max_active; i++) {
        lb_active *a = &r->actives[i];
        for (u32 k = 0; a->ring && k < r->window; k++)
            if (a->ring[k].slab)
                lb_pool_give(r->pool, a->ring[k].slab, r->plan->slab_bytes);
        if (a->draws)
            lb_mutex_deinit(&a->draws->mutex);
        lb_arena_deinit(&a->arena);
        lb_arena_deinit(&a->hashes_arena);
    }
    for (u32 i = 0; i < r->n_active; i++) {
        lb_pool_give(r->pool, r->active[i]->fixed, r->active[i]->job->fixed_bytes);
        lb_active_end(r->active[i]);
    }
    for (u32 i = 0; r->fds && i < r->plan->graph.n_sources; i++)
        lb_fds_free(&r->fds[i]);
    if (r->pool)
        lb_pool_read_stats(r->pool, &r->report.pool);
    lb_pool_free(&r->pool);
    lb_arena_deinit(&r->arena);
    lb_mutex_deinit(&r->mutex);
    lb_cond_deinit(&r->wake);
}

/* A descriptor that stays open follows its file: what was written into it while the run read would
 * be in the output. A file that was replaced by another one was read to its end as it was. */
static lb_status check_inputs(const lb_plan *p, lb_err *err) {
    for (u32 i = 0; i < p->graph.n_sources; i++)
        for (u64 f = 0; f < p->graph.sources[i]->n_files; f++) {
            const lb_file *x = &p->graph.sources[i]->files[f];
            lb_fstat now;
            if (lb_os_stat(x->path, &now, NULL) == LB_OK && now.ino == x->ino &&
                now.dev == x->dev &&
                (now.size_bytes != x->size_bytes || now.mtime_ns != x->mtime_ns))
                return lb_fail(err, LB_E_IO,
                               "%s: the file was changed while it was read: start again", x->path);
        }
    return LB_OK;
}

lb_status lb_run(lb_plan *p, const lb_run_options *o, lb_run_report *report, lb_err *err) {
    lb_runner r = {.plan = p, .opt = o};
    lb_mutex_init(&r.mutex);
    lb_cond_init(&r.wake);
    lb_err first = {0};
    lb_status st = lb_making_run(p, o, &first);
    if (st == LB_OK)
        st = runner_init(&r, &first);
    if (st == LB_OK)
        st = start_workers(&r, &first);
    if (st == LB_OK) {
        work(&r, &r.workers[0]);
    } else {
        lb_lock(&r.mutex);
        set_error(&r, &first);
        lb_unlock(&r.mutex);
    }
    for (u32 i = 1; r.workers && i < p->threads; i++)
        lb_thread_join(&r.workers[i].thread);
    if (r.err.code == LB_OK && p->want_digests) {
        st = lb_run_digests(&r, &first);
        if (st != LB_OK)
            r.err = first;
    }
    if (r.err.code == LB_OK) {
        st = check_inputs(p, &first);
        if (st != LB_OK)
            r.err = first;
    }
    runner_deinit(&r);
    r.report.resumed_jobs = r.kept_jobs;
    if (report)
        *report = r.report;
    if (r.err.code != LB_OK && err)
        *err = r.err;
    return r.err.code;
}
