/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c: the partial output: its descriptors, and when it is synced. */
#include "plan/sink_internal.h"
#include "base/os.h"
#include <fcntl.h>

/* ---- descriptors: at most LB_SINK_OPEN at a time ---- */

/* Lock held. Takes away the longest unused descriptor that nobody uses. */
static lb_sink_file *evict(lb_sink *s, int *fd) {
    u64 best = UINT64_MAX;
    for (u64 i = 0; i < s->plan->n_files; i++)
        if (s->file[i].fd >= 0 && s->file[i].refs == 0 &&
            (best == UINT64_MAX || s->file[i].used < s->file[best].used))
            best = i;
    if (best == UINT64_MAX)
        return NULL;
    *fd = s->file[best].fd;
    s->file[best].fd = -1;
    s->n_open--;
    return &s->file[best];
}

/* A failed write-back is told once, to who asks while the file is known: hence the sync before a
 * written file is closed. */
static lb_status close_evicted(lb_sink *s, const lb_sink_file *f, int fd, bool unsynced,
                               lb_err *err) {
    lb_status st = unsynced ? lb_sink_sync_fd(s, fd, f->path, err) : LB_OK;
    if (st == LB_OK)
        return lb_os_close_written(&fd, f->path, err);
    lb_os_close(&fd);
    return st;
}

lb_status lb_sink_get_fd(lb_sink *s, u32 file, int *fd, lb_err *err) {
    lb_status st = LB_OK;
    lb_sink_file *f = &s->file[file], *old = NULL;
    int old_fd = -1;
    bool unsynced = false;
    lb_lock(&s->mutex);
    if (f->fd < 0) {
        if (s->n_open >= LB_SINK_OPEN)
            old = evict(s, &old_fd);
        if (old) {
            unsynced = old->unsynced;
            old->unsynced = false;
        }
        st = lb_os_open_write(f->path, false, &f->fd, err);
        s->n_open += st == LB_OK;
    }
    if (st == LB_OK) {
        f->refs++;
        f->used = ++s->clock;
        *fd = f->fd;
    }
    lb_unlock(&s->mutex);
    lb_status closed =
        old ? close_evicted(s, old, old_fd, unsynced, st == LB_OK ? err : NULL) : LB_OK;
    if (st == LB_OK && closed != LB_OK)
        lb_sink_put_fd(s, file);
    return st != LB_OK ? st : closed;
}

void lb_sink_put_fd(lb_sink *s, u32 file) {
    lb_lock(&s->mutex);
    s->file[file].refs--;
    lb_unlock(&s->mutex);
}

lb_status lb_sink_close_files(lb_sink *s, lb_err *err) {
    lb_status first = LB_OK;
    for (u64 i = 0; s->file && i < s->plan->n_files; i++) {
        lb_status st =
            lb_os_close_written(&s->file[i].fd, s->file[i].path, first == LB_OK ? err : NULL);
        first = first == LB_OK ? st : first;
    }
    s->n_open = 0;
    return first;
}

/* ---- syncing ---- */

lb_status lb_sink_sync_fd(lb_sink *s, int fd, const char *path, lb_err *err) {
    lb_status st = lb_os_sync(fd, path, err);
    if (st != LB_OK)
        lb_journal_unsynced(s);
    return st;
}

static lb_status sync_dirs(lb_sink *s, lb_err *err) {
    if (s->dirs_synced)
        return LB_OK;
    s->dirs_synced = true;
    if (s->o.folder)
        LB_TRY(lb_os_sync_dir(s->partial, err));
    return lb_os_sync_dir(s->dir, err);
}

/* One thread at a time; the others go on writing. */
lb_status lb_sink_sync_due(lb_sink *s, bool *synced, lb_err *err) {
    u64 max = s->o.sync_bytes ? s->o.sync_bytes : LB_SINK_SYNC_BYTES;
    lb_lock(&s->mutex);
    bool due = s->o.sync && !s->syncing && s->unsynced_bytes > 0 &&
               (s->unsynced_bytes >= max || lb_os_now_us() - s->synced_us >= LB_SINK_SYNC_US);
    if (due) {
        s->syncing = true;
        s->unsynced_bytes = 0;
    }
    lb_unlock(&s->mutex);
    *synced = due;
    if (!due)
        return LB_OK;
    lb_status st = sync_dirs(s, err);
    for (u32 i = 0; i < s->plan->n_files && st == LB_OK; i++) {
        int fd;
        lb_lock(&s->mutex);
        bool unsynced = s->file[i].unsynced;
        s->file[i].unsynced = false;
        lb_unlock(&s->mutex);
        if (!unsynced)
            continue;
        st = lb_sink_get_fd(s, i, &fd, err);
        if (st == LB_OK) {
            st = lb_sink_sync_fd(s, fd, s->file[i].path, err);
            lb_sink_put_fd(s, i);
        }
    }
    lb_lock(&s->mutex);
    s->syncing = false;
    s->synced_us = lb_os_now_us();
    lb_unlock(&s->mutex);
    return st;
}

/* ---- opening ---- */

static lb_status name_files(lb_sink *s, lb_err *err) {
    const char *dir = !s->placed ? s->partial : s->o.spread ? s->dir : s->target;
    for (u32 i = 0; i < s->plan->n_files; i++) {
        s->file[i].path = s->o.folder ? lb_os_join(&s->arena, dir, s->plan->files[i].name) : dir;
        if (!s->file[i].path)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    }
    return LB_OK;
}

static lb_status create_files(lb_sink *s, bool fresh, lb_err *err) {
    if (fresh && s->o.folder)
        LB_TRY(lb_os_mkdir(s->partial, false, err));
    for (u32 i = 0; i < s->plan->n_files; i++) {
        int fd;
        LB_TRY(lb_sink_get_fd(s, i, &fd, err));
        lb_status st = lb_os_truncate(fd, s->file[i].path, s->plan->files[i].size_bytes, err);
        lb_sink_put_fd(s, i);
        LB_TRY(st);
    }
    return LB_OK;
}

static lb_status check_space(lb_sink *s, lb_err *err) {
    u64 need = s->plan->spill_bytes, have;
    for (u64 i = 0; i < s->plan->n_files; i++)
        need += s->plan->files[i].size_bytes;
    have = lb_os_disk_free(s->dir);
    if (have != UINT64_MAX && need > have)
        return lb_fail(err, LB_E_LIMIT,
                       "not enough disk space: '%s' needs %llu MiB, %llu MiB are free in '%s'",
                       s->o.path, (unsigned long long)(need / LB_MIB),
                       (unsigned long long)(have / LB_MIB), s->dir);
    return LB_OK;
}

static lb_status remove_partial(lb_sink *s, lb_err *err) {
    LB_TRY(lb_os_unlink(s->sums_partial, err));
    return lb_os_remove_tree(s->partial,
                             err); /* a file too: a run before may have made the other */
}

static lb_status make_names(lb_sink *s, lb_err *err) {
    lb_str path = lb_str_c(s->o.path), dir = lb_os_dir_name(path), base = lb_os_base_name(path);
    s->dir = lb_arena_str(&s->arena, dir).ptr;
    if (base.len == 0 || lb_str_eq_c(base, ".") || lb_str_eq_c(base, ".."))
        return lb_fail(err, LB_E_USAGE, "output '%s': not a name that can be written", s->o.path);
    s->target = lb_os_join(&s->arena, s->dir, base);
    s->partial = lb_arena_printf(&s->arena, "%s.lbrx-partial", s->target).ptr;
    s->aside = lb_arena_printf(&s->arena, "%s.lbrx-old", s->target).ptr;
    s->journal_path = lb_arena_printf(&s->arena, "%s.lbrx-journal", s->target).ptr;
    s->sums = lb_arena_printf(&s->arena, "%s.sha256", s->target).ptr;
    s->sums_partial = lb_arena_printf(&s->arena, "%s.lbrx-partial", s->sums).ptr;
    s->file = lb_arena_new(&s->arena, lb_sink_file, s->plan->n_files + 1);
    s->kept = lb_arena_new(&s->arena, u8, s->plan->n_jobs + 1);
    if (!s->dir || !s->target || !s->partial || !s->aside || !s->journal_path || !s->sums ||
        !s->sums_partial || !s->file || !s->kept)
        return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    for (u64 i = 0; i < s->plan->n_files; i++)
        s->file[i].fd = -1;
    return LB_OK;
}

/* A replacement that was cut off between its two renames (where the system cannot exchange) is
 * mended. */
static lb_status mend_aside(lb_sink *s, lb_err *err) {
    if (lb_os_exists(s->aside) && !lb_os_exists(s->target))
        return lb_os_rename(s->aside, s->target, err);
    return LB_OK;
}

/* What may stand under the output's name: when it is this run's own, anything. */
static lb_status check_name(lb_sink *s, lb_err *err) {
    return s->placed ? lb_sink_check_inputs(s, err) : lb_sink_check_target(s, err);
}

/* Where an interrupted run had come to. *fresh: there is none, or nothing of it holds. Until all is
 * checked nothing of it is ours to remove. */
static lb_status go_on(lb_sink *s, bool *fresh, lb_err *err) {
    LB_TRY(lb_journal_read(s, fresh, err));
    LB_TRY(lb_resume_settle(s, fresh, err));
    LB_TRY(check_name(s, err));
    if (*fresh)
        return LB_OK;
    LB_TRY(name_files(s, err));
    if (!s->placed)
        LB_TRY(create_files(s, false, err));
    LB_TRY(lb_resume_verify(s, err));
    s->created = !s->placed;
    for (u64 i = 0; i < s->plan->n_jobs && s->placed; i++)
        s->placed = s->kept[i] != 0;
    s->finished = s->placed;
    *fresh = !s->created && !s->placed; /* in place, and damaged since: not ours to mend */
    return *fresh ? lb_sink_check_target(s, err) : LB_OK;
}

static lb_status start_anew(lb_sink *s, lb_err *err) {
    memset(s->kept, 0, s->plan->n_jobs + 1);
    s->part = NULL;
    s->placed = s->unsynced = false;
    s->n_done = 0;
    /* The journal first: it must never speak of another partial. */
    LB_TRY(lb_journal_clear(s, err));
    LB_TRY(remove_partial(s, err));
    LB_TRY(check_space(s, err));
    s->created = true;
    LB_TRY(name_files(s, err));
    LB_TRY(create_files(s, true, err));
    return lb_journal_begin(s, err);
}

lb_status lb_sink_check(lb_plan *plan, const lb_sink_options *o, lb_err *err) {
    lb_sink s = {.plan = plan, .o = *o, .journal_fd = -1};
    lb_status st = make_names(&s, err);
    if (st == LB_OK)
        st = lb_sink_check_target(&s, err);
    lb_arena_deinit(&s.arena);
    return st;
}

lb_status lb_sink_open(lb_sink **out, lb_plan *plan, const lb_sink_options *o, lb_err *err) {
    lb_sink *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the output");
    s->plan = plan;
    s->o = *o;
    s->journal_fd = -1;
    s->synced_us = lb_os_now_us();
    lb_mutex_init(&s->mutex);
    for (u32 i = 0; i < LB_SINK_WAKES; i++)
        lb_cond_init(&s->wake[i]);
    lb_status st;
    bool fresh = true;
    LB_TRY_DONE(st, make_names(s, err));
    /* A run that was cut off after its output was renamed may still be finished. */
    LB_TRY_DONE(st, o->resume && lb_os_exists(s->journal_path) ? lb_sink_check_inputs(s, err)
                                                               : lb_sink_check_target(s, err));
    LB_TRY_DONE(st, lb_journal_lock(s, err));
    LB_TRY_DONE(st, mend_aside(s, err));
    /* Another process may have finished between the check and the lock; or the old one is back. */
    LB_TRY_DONE(st, o->resume ? go_on(s, &fresh, err) : lb_sink_check_target(s, err));
    if (fresh)
        LB_TRY_DONE(st, start_anew(s, err));
    if (fresh)
        LB_TRY_DONE(st, lb_sink_lay_begin(s, err));
done:
    *out = s;
    if (st != LB_OK)
        lb_sink_close(out, NULL);
    return st;
}

void lb_sink_unfinished(const lb_sink *s, const char **partial, const char **journal) {
    *partial = s->partial;
    *journal = s->journal_path;
}

const char *lb_sink_dir(const lb_sink *s) {
    return s->dir;
}

bool lb_sink_kept(const lb_sink *s, u64 job) {
    return s->kept[job] != 0;
}

void lb_sink_discard(lb_sink *s) {
    s->n_done = 0;
}

void lb_sink_close(lb_sink **sp, bool *kept) {
    lb_sink *s = *sp;
    bool keep = false;
    if (!s)
        return;
    (void)lb_sink_close_files(s, NULL);
    if (!s->finished && s->created) {
        keep = s->n_done > 0;
        if (!keep) {
            (void)remove_partial(s, NULL);
            (void)lb_os_unlink(s->journal_path, NULL);
        }
    } else if (!s->finished && s->journal_new) {
        (void)lb_os_unlink(s->journal_path, NULL);
    }
    lb_os_close(&s->journal_fd);
    for (u32 i = 0; i < LB_SINK_WAKES; i++)
        lb_cond_deinit(&s->wake[i]);
    lb_mutex_deinit(&s->mutex);
    lb_arena_deinit(&s->arena);
    lb_free(s->zeros);
    lb_free(s);
    *sp = NULL;
    if (kept)
        *kept = keep;
}
