/* SPDX-License-Identifier: Apache-2.0 */
/* finish.c: the last steps of an output: heads, texts, sums, sync; then its final name.
 *
 * All is complete and synced under the partial's name before anything is renamed. Each state in
 * between can be told by inodes (the journal's `place` records), so that --resume finishes it. */
#include "base/os.h"
#include "plan/sink_internal.h"

#define SUMS_MAX (16 * LB_MIB) /* of 65,535 parts: a line of 64 digits and a name each */

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
}

bool lb_sink_stopped(const lb_sink *s) {
    return s->o.stop && s->o.stop(s->o.user);
}

/* ---- texts ---- */

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

/* ---- what is made while it is written ---- */

typedef struct target {
    lb_sink *s; /* NULL: fd */
    u32 file;
    int fd;
    const char *path;
    u64 at;
} target;

static lb_status put_piece(void *ctx, lb_str piece, lb_err *err) {
    target *t = ctx;
    LB_TRY(t->s ? lb_sink_write(t->s, t->file, t->at, piece.ptr, piece.len, err)
                : lb_os_pwrite(t->fd, t->path, piece.ptr, piece.len, t->at, err));
    t->at += piece.len;
    return LB_OK;
}

static lb_status make_pieces(target *t, lb_sink_make make, void *ctx, lb_err *err) {
    lb_out out = {.put = put_piece, .ctx = t};
    lb_status st = make(ctx, &out, err);
    lb_status end = lb_out_end(&out, st == LB_OK ? err : NULL);
    return st == LB_OK ? end : st;
}

static lb_status make_text(const lb_sink_text *t, int fd, const char *path, lb_err *err) {
    return make_pieces(&(target){.fd = fd, .path = path}, t->make, t->ctx, err);
}

static lb_status write_head(lb_sink *s, u32 file, const lb_sink_head *h, lb_err *err) {
    if (h->make)
        return make_pieces(&(target){.s = s, .file = file}, h->make, h->ctx, err);
    return lb_sink_write(s, file, 0, h->bytes.ptr, h->bytes.len, err);
}

static lb_status write_file(lb_sink *s, const char *path, const lb_sink_text *t, lb_err *err) {
    int fd = -1;
    LB_TRY(lb_os_open_write(path, false, &fd, err));
    lb_status st = lb_os_truncate(fd, path, 0, err);
    if (st == LB_OK)
        st = t->copy_from ? copy_file(t->copy_from, fd, path, err)
             : t->make    ? make_text(t, fd, path, err)
                          : lb_os_pwrite(fd, path, t->bytes.ptr, t->bytes.len, 0, err);
    if (st == LB_OK && s->o.sync)
        st = lb_os_sync(fd, path, err);
    if (st == LB_OK)
        return lb_os_close_written(&fd, path, err);
    lb_os_close(&fd);
    return st;
}

static lb_status write_text(lb_sink *s, const char *dir, const lb_sink_text *t, lb_err *err) {
    size_t slash;
    const char *path = lb_os_join(&s->arena, dir, t->name), *sub = NULL;
    LB_TRY(lb_sink_check_name(t->name, err));
    if (!path)
        return oom(err);
    if (lb_str_find(t->name, LB_STR("/"), &slash)) {
        sub = lb_os_join(&s->arena, dir, lb_str_sub(t->name, 0, slash));
        if (!sub)
            return oom(err);
        LB_TRY(lb_os_mkdir(sub, true, err));
    }
    LB_TRY(write_file(s, path, t, err));
    return sub && s->o.sync ? lb_os_sync_dir(sub, err) : LB_OK;
}

/* ---- sums ---- */

static lb_status sha_file(lb_sink *s, const char *path, char hex[65], lb_err *err) {
    lb_fstat st;
    int fd = -1;
    u64 cap = LB_MIB;
    lb_sha256 h;
    LB_TRY(lb_os_open_read(path, &fd, err));
    u8 *buf = lb_alloc(cap);
    lb_status r = buf ? lb_os_fstat(fd, path, &st, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for hashing '%s'", path);
    lb_sha256_init(&h);
    for (u64 at = 0; r == LB_OK && at < st.size_bytes; at += cap) {
        u64 n = LB_MIN(cap, st.size_bytes - at);
        if (lb_sink_stopped(s))
            r = lb_fail(err, LB_E_INTERRUPTED, "interrupted");
        if (r == LB_OK)
            r = lb_os_pread(fd, path, buf, n, at, err);
        if (r == LB_OK)
            lb_sha256_update(&h, buf, n);
    }
    lb_sha256_hex(&h, hex);
    lb_free(buf);
    lb_os_close(&fd);
    return r;
}

static lb_status put_sum(lb_sink *s, const char *path, lb_str name, lb_buf *text, lb_err *err) {
    char hex[65];
    LB_TRY(sha_file(s, path, hex, err));
    if (!s->o.folder)
        memcpy(s->sha256, hex, sizeof hex);
    lb_buf_printf(text, "%s  %.*s\n", hex, LB_FMT(name));
    return LB_OK;
}

/* within: the name of a folder inside; empty: none. */
static lb_status sum_folder(lb_sink *s, const char *folder, lb_str within, lb_buf *text,
                            lb_err *err) {
    lb_str *names;
    u64 n = 0;
    LB_TRY(lb_os_list(folder, &s->arena, &names, &n, err));
    for (u64 i = 0; i < n; i++) {
        lb_fstat f;
        const char *path = lb_os_join(&s->arena, folder, names[i]);
        lb_str name =
            within.len ? lb_arena_printf(&s->arena, "%.*s/%.*s", LB_FMT(within), LB_FMT(names[i]))
                       : names[i];
        if (!path || !name.ptr)
            return oom(err);
        if (lb_os_stat(path, &f, NULL) != LB_OK)
            continue;
        if (f.is_dir && within.len == 0) /* recursion: one level, which is all that is written */
            LB_TRY(sum_folder(s, path, names[i], text, err));
        else if (f.is_file)
            LB_TRY(put_sum(s, path, name, text, err));
    }
    return LB_OK;
}

/* "hash  name" a line, as sha256sum prints and checks it. */
static lb_status list_sums(lb_sink *s, lb_buf *text, lb_err *err) {
    if (!s->o.folder)
        return put_sum(s, s->placed ? s->target : s->partial, lb_os_base_name(lb_str_c(s->target)),
                       text, err);
    for (u64 i = 0; s->o.spread && i < s->plan->n_files; i++)
        LB_TRY(put_sum(s, s->file[i].path, s->plan->files[i].name, text, err));
    if (s->o.spread)
        return LB_OK;
    return sum_folder(s, s->partial, LB_STR_NONE, text, err);
}

/* Of what has no folder of its own: under another name until the files stand in place. */
static lb_status write_sums(lb_sink *s, lb_err *err) {
    lb_buf text = {0};
    lb_status st = list_sums(s, &text, err);
    if (st == LB_OK)
        st = lb_buf_status(&text, err);
    if (st == LB_OK && s->o.folder && !s->o.spread)
        st = write_text(s, s->partial,
                        &(lb_sink_text){.name = LB_STR("SHA256SUMS"), .bytes = lb_buf_str(&text)},
                        err);
    else if (st == LB_OK)
        st = write_file(s, s->sums_partial, &(lb_sink_text){.bytes = lb_buf_str(&text)}, err);
    lb_buf_deinit(&text);
    return st;
}

const char *lb_sink_sha256(const lb_sink *s) {
    return s->sha256;
}

/* ---- places ---- */

u64 lb_sink_n_places(const lb_sink *s) {
    return s->o.spread ? s->plan->n_files : 1;
}

const char *lb_sink_place_from(lb_sink *s, u64 i) {
    return s->o.spread ? lb_os_join(&s->arena, s->partial, s->plan->files[i].name) : s->partial;
}

const char *lb_sink_place_to(lb_sink *s, u64 i) {
    return s->o.spread ? lb_os_join(&s->arena, s->dir, s->plan->files[i].name) : s->target;
}

/* Without --force nothing is replaced, whatever has come there in the last moment. */
static lb_status rename_to(const lb_sink *s, const char *from, const char *to, lb_err *err) {
    return s->o.force ? lb_os_rename(from, to, err) : lb_os_rename_new(from, to, err);
}

/* The first file last: whoever sees it sees all. For the same reason an old first file goes first:
 * else it would stand before parts of two models. */
static lb_status put_beside(lb_sink *s, lb_err *err) {
    const char *first = lb_sink_place_to(s, 0);
    if (!first)
        return oom(err);
    if (s->o.force && lb_os_exists(first)) {
        LB_TRY(lb_os_unlink(first, err));
        if (s->o.sync)
            LB_TRY(lb_os_sync_dir(s->dir, err));
    }
    for (u64 i = s->plan->n_files; i-- > 0;) {
        const char *from = lb_sink_place_from(s, i), *to = lb_sink_place_to(s, i);
        if (!from || !to)
            return oom(err);
        if (i == 0 && s->o.sync)
            LB_TRY(lb_os_sync_dir(s->dir, err));
        LB_TRY(rename_to(s, from, to, err));
    }
    return LB_OK;
}

static lb_status put_in_place(lb_sink *s, lb_err *err) {
    if (s->o.spread)
        return put_beside(s, err);
    if (!lb_os_exists(s->target) || !s->o.folder)
        return rename_to(s, s->partial, s->target, err);
    lb_err e = {0};
    if (lb_os_exchange(s->partial, s->target, &e) == LB_OK)
        return LB_OK;
    if (e.code != LB_E_UNSUPPORTED) {
        if (err)
            *err = e;
        return e.code;
    }
    LB_TRY(lb_os_remove_tree(s->aside, err)); /* left by a crash after the renames below */
    LB_TRY(lb_os_rename(s->target, s->aside, err));
    return lb_os_rename(s->partial, s->target, err);
}

/* The inodes by which --resume will know what has been renamed. */
static lb_status note_places(lb_sink *s, lb_err *err) {
    u64 n = lb_sink_n_places(s);
    u64 *inodes = lb_arena_new(&s->arena, u64, n + 1);
    if (!inodes)
        return oom(err);
    for (u64 i = 0; i < n; i++) {
        lb_fstat st;
        const char *from = lb_sink_place_from(s, i);
        if (!from)
            return oom(err);
        LB_TRY(lb_os_stat_link(from, &st, err));
        inodes[i] = st.ino;
    }
    return lb_journal_place(s, inodes, n, err);
}

/* ---- the end ---- */

/* Everything that is to be renamed, written and on the disk. */
static lb_status complete(lb_sink *s, const lb_sink_ending *e, lb_err *err) {
    for (u32 i = 0; i < s->plan->n_files; i++)
        LB_TRY(write_head(s, i, &e->heads[i], err));
    for (u32 i = 0; i < e->n_patches; i++)
        LB_TRY(lb_sink_write(s, e->patches[i].file, e->patches[i].off_bytes, e->patches[i].bytes,
                             sizeof e->patches[i].bytes, err));
    for (u32 i = 0; i < s->plan->n_files; i++) {
        if (!s->o.sync)
            continue;
        int fd;
        LB_TRY(lb_sink_get_fd(s, i, &fd, err));
        lb_status st = lb_sink_sync_fd(s, fd, s->file[i].path, err);
        lb_sink_put_fd(s, i);
        LB_TRY(st);
    }
    LB_TRY(lb_sink_close_files(s, err));
    for (u32 i = 0; i < e->n_texts; i++)
        LB_TRY(write_text(s, s->partial, &e->texts[i], err));
    if (s->o.sha256)
        LB_TRY(write_sums(s, err));
    if (s->o.sync && s->o.folder)
        LB_TRY(lb_os_sync_dir(s->partial, err));
    return LB_OK;
}

/* What an output that was replaced left behind. */
static lb_status remove_old(lb_sink *s, lb_err *err) {
    LB_TRY(lb_os_remove_tree(s->partial, err)); /* exchanged; or the empty folder of a split */
    LB_TRY(lb_os_remove_tree(s->aside, err));
    for (u64 i = 0; i < s->n_stale; i++) {
        const char *path = lb_os_join(&s->arena, s->dir, s->stale[i]);
        if (!path)
            return oom(err);
        LB_TRY(lb_os_unlink(path, err));
    }
    return LB_OK;
}

/* After an interruption they may stand there already: the same ones. */
static lb_status put_sums(lb_sink *s, lb_err *err) {
    lb_str mine, there;
    if (s->placed && !s->o.force && lb_os_exists(s->sums)) {
        LB_TRY(lb_os_read_file(s->sums_partial, SUMS_MAX, &s->arena, &mine, err));
        LB_TRY(lb_os_read_file(s->sums, SUMS_MAX, &s->arena, &there, err));
        if (lb_str_eq(mine, there))
            return lb_os_unlink(s->sums_partial, err);
    }
    return rename_to(s, s->sums_partial, s->sums, err);
}

lb_status lb_sink_finish(lb_sink *s, const lb_sink_ending *e, lb_err *err) {
    bool sums = s->o.sha256 && (!s->o.folder || s->o.spread);
    if (!s->placed) {
        LB_TRY(complete(s, e, err));
        /* what appeared there meanwhile is not ours to remove */
        LB_TRY(lb_sink_check_target(s, err));
        LB_TRY(note_places(s, err));
        if (sums && s->o.force) /* those of the old output */
            LB_TRY(lb_os_unlink(s->sums, err));
        LB_TRY(put_in_place(s, err));
        s->finished = true;
    } else {
        if (sums)
            LB_TRY(write_sums(s, err));
        if (s->o.spread && s->o.force)
            LB_TRY(lb_sink_list_stale(s, err));
    }
    if (s->o.sync)
        LB_TRY(lb_os_sync_dir(s->dir, err));
    LB_TRY(remove_old(s, err));
    if (sums)
        LB_TRY(put_sums(s, err));
    else
        LB_TRY(lb_os_unlink(s->sums_partial, err));
    if (s->o.sync)
        LB_TRY(lb_os_sync_dir(s->dir, err));
    return lb_os_unlink(s->journal_path, err);
}
