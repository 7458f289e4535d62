/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c: partial output, descriptors, and the last steps: heads, texts, sync, rename. */
#include "plan/sink_internal.h"
#include "base/os.h"
#include <fcntl.h>

/* ---- descriptors: at most LB_SINK_OPEN at a time ---- */

static const char *file_path(lb_sink *s, u32 file, lb_arena *perm) {
    return s->o.folder ? lb_os_join(perm, s->partial, s->plan->files[file].name) : s->partial;
}

/* Lock held. Closes the longest unused descriptor that nobody uses. */
static void close_one(lb_sink *s) {
    u64 best = UINT64_MAX;
    for (u64 i = 0; i < s->plan->n_files; i++)
        if (s->file[i].fd >= 0 && s->file[i].refs == 0 &&
            (best == UINT64_MAX || s->file[i].used < s->file[best].used))
            best = i;
    if (best != UINT64_MAX) {
        lb_os_close(&s->file[best].fd);
        s->n_open--;
    }
}

static lb_status get_fd(lb_sink *s, u32 file, int *fd, lb_err *err) {
    lb_status st = LB_OK;
    lb_lock(&s->mutex);
    lb_sink_file *f = &s->file[file];
    if (f->fd < 0) {
        if (s->n_open >= LB_SINK_OPEN)
            close_one(s);
        st = lb_os_open_write(f->path, false, &f->fd, err);
        s->n_open += st == LB_OK;
    }
    if (st == LB_OK) {
        f->refs++;
        f->used = ++s->clock;
        *fd = f->fd;
    }
    lb_unlock(&s->mutex);
    return st;
}

static void put_fd(lb_sink *s, u32 file) {
    lb_lock(&s->mutex);
    s->file[file].refs--;
    lb_unlock(&s->mutex);
}

/* Notes what was written; tells when enough has come together, and where. */
static bool note_dirty(lb_sink *s, lb_sink_file *f, u64 *off_bytes, u64 *len) {
    lb_lock(&s->mutex);
    f->dirty_from = f->dirty_bytes ? LB_MIN(f->dirty_from, *off_bytes) : *off_bytes;
    f->dirty_to = f->dirty_bytes ? LB_MAX(f->dirty_to, *off_bytes + *len) : *off_bytes + *len;
    f->dirty_bytes += *len;
    bool enough = f->dirty_bytes >= LB_SINK_WRITEBACK;
    *off_bytes = f->dirty_from;
    *len = f->dirty_to - f->dirty_from;
    if (enough)
        f->dirty_bytes = 0;
    lb_unlock(&s->mutex);
    return enough;
}

lb_status lb_sink_write(lb_sink *s, u32 file, u64 off_bytes, const void *ptr, u64 len,
                        lb_err *err) {
    int fd;
    if (len == 0)
        return LB_OK;
    LB_TRY(get_fd(s, file, &fd, err));
    lb_status st = lb_os_pwrite(fd, s->file[file].path, ptr, len, off_bytes, err);
    if (st == LB_OK && s->o.sync && note_dirty(s, &s->file[file], &off_bytes, &len))
        lb_os_writeback(fd, off_bytes, len);
    put_fd(s, file);
    return st;
}

/* ---- opening ---- */

static lb_status create_files(lb_sink *s, bool fresh, lb_err *err) {
    if (fresh && s->o.folder)
        LB_TRY(lb_os_mkdir(s->partial, false, err));
    for (u32 i = 0; i < s->plan->n_files; i++) {
        s->file[i].fd = -1;
        s->file[i].path = file_path(s, i, &s->arena);
        if (!s->file[i].path)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    }
    for (u32 i = 0; i < s->plan->n_files; i++) {
        int fd;
        lb_err e = {0};
        lb_status st = get_fd(s, i, &fd, &e);
        if (st == LB_OK) {
            st = lb_os_truncate(fd, s->file[i].path, s->plan->files[i].size_bytes, &e);
            put_fd(s, i);
        }
        if (st != LB_OK) {
            if (err)
                *err = e;
            return st;
        }
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
    s->file = lb_arena_new(&s->arena, lb_sink_file, s->plan->n_files + 1);
    s->kept = lb_arena_new(&s->arena, u8, s->plan->n_jobs + 1);
    if (!s->dir || !s->target || !s->partial || !s->aside || !s->journal_path || !s->sums ||
        !s->file || !s->kept)
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

lb_status lb_sink_open(lb_sink **out, lb_plan *plan, const lb_sink_options *o, lb_err *err) {
    lb_sink *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the output");
    s->plan = plan;
    s->o = *o;
    s->journal_fd = -1;
    lb_mutex_init(&s->mutex);
    lb_status st;
    bool fresh = true;
    LB_TRY_DONE(st, make_names(s, err));
    LB_TRY_DONE(st, lb_sink_check_target(s, err));
    LB_TRY_DONE(st, lb_journal_lock(s, err));
    LB_TRY_DONE(st, mend_aside(s, err));
    /* Another process may have finished between the check and the lock; or the old one is back. */
    LB_TRY_DONE(st, lb_sink_check_target(s, err));
    if (o->resume)
        LB_TRY_DONE(st, lb_journal_read(s, &fresh, err));
    if (fresh) {
        LB_TRY_DONE(st, remove_partial(s, err));
        LB_TRY_DONE(st, check_space(s, err));
    }
    s->created = true;
    LB_TRY_DONE(st, create_files(s, fresh, err));
    if (!fresh)
        LB_TRY_DONE(st, lb_journal_verify(s, err));
    else
        LB_TRY_DONE(st, lb_journal_begin(s, err));
done:
    *out = s;
    if (st != LB_OK)
        lb_sink_close(out, NULL);
    return st;
}

const char *lb_sink_dir(const lb_sink *s) {
    return s->dir;
}

bool lb_sink_kept(const lb_sink *s, u64 job) {
    return s->kept[job] != 0;
}

/* ---- finishing ---- */

/* Copies a whole file; the source may have been replaced meanwhile: its size now counts. */
static lb_status copy_file(const char *from, int fd, const char *path, lb_err *err) {
    lb_fstat st;
    int in = -1;
    u64 cap = 256 * LB_KIB;
    LB_TRY(lb_os_open_read(from, &in, err));
    u8 *buf = lb_alloc(cap);
    lb_status r = buf ? lb_os_fstat(in, from, &st, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for copying '%s'", from);
    for (u64 at = 0; r == LB_OK && at < st.size_bytes; at += cap) {
        u64 n = LB_MIN(cap, st.size_bytes - at);
        r = lb_os_pread(in, from, buf, n, at, err);
        if (r == LB_OK)
            r = lb_os_pwrite(fd, path, buf, n, at, err);
    }
    lb_free(buf);
    lb_os_close(&in);
    return r;
}

lb_status lb_sink_check_name(lb_str name, lb_err *err) {
    size_t slash;
    bool sub = lb_str_find(name, LB_STR("/"), &slash);
    if (sub ? lb_str_is_file_name(lb_str_sub(name, 0, slash)) &&
                  lb_str_is_file_name(lb_str_sub(name, slash + 1, name.len))
            : lb_str_is_file_name(name))
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "'%.*s' is no name for a file of the output", LB_FMT(name));
}

static lb_status write_text(lb_sink *s, const char *dir, const lb_sink_text *t, lb_err *err) {
    size_t slash;
    const char *path = lb_os_join(&s->arena, dir, t->name);
    int fd = -1;
    LB_TRY(lb_sink_check_name(t->name, err));
    if (path && lb_str_find(t->name, LB_STR("/"), &slash)) {
        const char *sub = lb_os_join(&s->arena, dir, lb_str_sub(t->name, 0, slash));
        if (sub)
            LB_TRY(lb_os_mkdir(sub, true, err));
    }
    if (!path)
        return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    LB_TRY(lb_os_open_write(path, false, &fd, err));
    lb_status st = lb_os_truncate(fd, path, 0, err);
    if (st == LB_OK)
        st = t->copy_from ? copy_file(t->copy_from, fd, path, err)
                          : lb_os_pwrite(fd, path, t->bytes.ptr, t->bytes.len, 0, err);
    if (st == LB_OK && s->o.sync)
        st = lb_os_sync(fd, path, err);
    lb_os_close(&fd);
    return st;
}

static lb_status sha_file(lb_sink *s, const char *path, char hex[65], lb_err *err) {
    lb_fstat st;
    int fd = -1;
    u64 cap = LB_MIB;
    lb_sha256 h;
    LB_TRY(lb_os_open_read(path, &fd, err));
    u8 *buf = lb_alloc(cap);
    lb_status r = buf ? lb_os_fstat(fd, path, &st, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for hashing '%s'", path);
    (void)s;
    lb_sha256_init(&h);
    for (u64 at = 0; r == LB_OK && at < st.size_bytes; at += cap) {
        u64 n = LB_MIN(cap, st.size_bytes - at);
        r = lb_os_pread(fd, path, buf, n, at, err);
        if (r == LB_OK)
            lb_sha256_update(&h, buf, n);
    }
    lb_sha256_hex(&h, hex);
    lb_free(buf);
    lb_os_close(&fd);
    return r;
}

/* Sums of files that have no folder of their own: kept, written when the files stand in place.
 * Frees the text. */
static lb_status keep_sums(lb_sink *s, lb_buf *text, lb_err *err) {
    lb_status st = lb_buf_status(text, err);
    s->sums_text = lb_arena_str(&s->arena, lb_buf_str(text));
    lb_buf_deinit(text);
    if (st == LB_OK && !s->sums_text.ptr)
        st = lb_fail(err, LB_E_NOMEM, "out of memory for SHA-256 sums");
    return st;
}

/* "hash  name" a line, as sha256sum prints and checks it. */
static lb_status write_sums(lb_sink *s, lb_err *err) {
    lb_buf text = {0};
    lb_str *names, base = lb_os_base_name(lb_str_c(s->target));
    u64 n = 0;
    char hex[65];
    lb_status st = LB_OK;
    if (!s->o.folder) {
        LB_TRY(sha_file(s, s->partial, s->sha256, err));
        lb_buf_printf(&text, "%s  %.*s\n", s->sha256, LB_FMT(base));
        return keep_sums(s, &text, err);
    }
    LB_TRY(lb_os_list(s->partial, &s->arena, &names, &n, err));
    for (u64 i = 0; i < n && st == LB_OK; i++) {
        lb_fstat f;
        const char *path = lb_os_join(&s->arena, s->partial, names[i]);
        if (!path || lb_os_stat(path, &f, NULL) != LB_OK || !f.is_file)
            continue;
        st = sha_file(s, path, hex, err);
        lb_buf_printf(&text, "%s  %.*s\n", hex, LB_FMT(names[i]));
    }
    if (st == LB_OK && s->o.spread)
        return keep_sums(s, &text, err);
    if (st == LB_OK)
        st = lb_buf_status(&text, err);
    if (st == LB_OK)
        st = write_text(s, s->partial,
                        &(lb_sink_text){LB_STR("SHA256SUMS"), lb_buf_str(&text), NULL}, err);
    lb_buf_deinit(&text);
    return st;
}

const char *lb_sink_sha256(const lb_sink *s) {
    return s->sha256;
}

/* The first file last: whoever sees it sees all. */
static lb_status put_beside(lb_sink *s, lb_err *err) {
    for (u64 i = s->plan->n_files; i-- > 0;) {
        const char *to = lb_os_join(&s->arena, s->dir, s->plan->files[i].name);
        if (!to)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        LB_TRY(lb_os_rename(s->file[i].path, to, err));
    }
    return lb_os_remove_tree(s->partial, err);
}

static lb_status put_in_place(lb_sink *s, lb_err *err) {
    if (s->o.spread)
        return put_beside(s, err);
    bool exists = lb_os_exists(s->target);
    if (!exists || !s->o.folder)
        return lb_os_rename(s->partial, s->target, err);
    lb_err e = {0};
    if (lb_os_exchange(s->partial, s->target, &e) == LB_OK) {
        s->finished = true; /* the old one stands under the partial's name now */
        return lb_os_remove_tree(s->partial, err);
    }
    if (e.code != LB_E_UNSUPPORTED) {
        if (err)
            *err = e;
        return e.code;
    }
    LB_TRY(lb_os_remove_tree(s->aside, err)); /* left by a crash after the renames below */
    LB_TRY(lb_os_rename(s->target, s->aside, err));
    LB_TRY(lb_os_rename(s->partial, s->target, err));
    s->finished = true;
    return lb_os_remove_tree(s->aside, err);
}

lb_status lb_sink_finish(lb_sink *s, const lb_str *heads, const lb_sink_text *texts, u32 n_texts,
                         lb_err *err) {
    for (u32 i = 0; i < s->plan->n_files; i++) {
        LB_TRY(lb_sink_write(s, i, 0, heads[i].ptr, heads[i].len, err));
        if (!s->o.sync)
            continue;
        int fd;
        LB_TRY(get_fd(s, i, &fd, err));
        lb_status st = lb_os_sync(fd, s->file[i].path, err);
        put_fd(s, i);
        LB_TRY(st);
    }
    for (u32 i = 0; i < n_texts; i++)
        LB_TRY(write_text(s, s->partial, &texts[i], err));
    if (s->o.sha256)
        LB_TRY(write_sums(s, err));
    if (s->o.sync && s->o.folder)
        LB_TRY(lb_os_sync_dir(s->partial, err));
    LB_TRY(lb_sink_check_target(s, err)); /* what appeared there meanwhile is not ours to remove */
    LB_TRY(put_in_place(s, err));
    s->finished = true;
    if (s->sums_text.len)
        LB_TRY(write_text(s, s->dir,
                          &(lb_sink_text){lb_os_base_name(lb_str_c(s->sums)), s->sums_text, NULL},
                          err));
    if (s->o.sync)
        LB_TRY(lb_os_sync_dir(s->dir, err));
    return lb_os_unlink(s->journal_path, err);
}

void lb_sink_close(lb_sink **sp, bool *kept) {
    lb_sink *s = *sp;
    bool keep = false;
    if (!s)
        return;
    for (u64 i = 0; s->file && i < s->plan->n_files; i++)
        lb_os_close(&s->file[i].fd);
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
    lb_mutex_deinit(&s->mutex);
    lb_arena_deinit(&s->arena);
    lb_free(s);
    *sp = NULL;
    if (kept)
        *kept = keep;
}
