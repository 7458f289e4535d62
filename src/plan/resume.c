/* SPDX-License-Identifier: Apache-2.0 */
/* resume.c: where an interrupted run had come to, and what of it is true.
 *
 * Nothing that the journal says is believed before the bytes say so too: finished jobs are hashed
 * whole; a job in progress is hashed up to each of its records in turn, which also brings back the
 * state of its running hashes.
 *
 * A run that was cut off while it renamed has said before which inodes it would rename. A file or
 * folder that stands under its final name is finished; the parts of a split whose first one is not
 * there yet are taken back. */
#include "base/os.h"
#include "plan/sink_internal.h"

#define WINDOW_BYTES LB_MIB
#define AHEAD_BYTES (8 * LB_MIB) /* asked for beyond the window */

/* ---- settling ---- */

static bool is_inode(const char *path, u64 inode) {
    lb_fstat st;
    return inode != 0 && lb_os_stat_link(path, &st, NULL) == LB_OK && st.ino == inode;
}

/* A partial of the right kind: never a link that leads elsewhere. */
static bool partial_is_there(const lb_sink *s) {
    lb_fstat st;
    return lb_os_stat_link(s->partial, &st, NULL) == LB_OK &&
           (s->o.folder ? st.is_dir : st.is_file);
}

/* Parts that were renamed already go back to where the run can finish them. */
static lb_status take_back(lb_sink *s, lb_err *err) {
    for (u64 i = 0; s->o.spread && s->place && i < s->plan->n_files; i++) {
        const char *from = lb_sink_place_from(s, i), *to = lb_sink_place_to(s, i);
        if (!from || !to)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        if (!lb_os_exists(from) && is_inode(to, s->place[i]))
            LB_TRY(lb_os_rename(to, from, err));
    }
    return LB_OK;
}

/* What else stands in the partial: texts, which are written again, and what is not ours: a folder
 * that was exchanged leaves the old model there. */
static lb_status remove_strangers(lb_sink *s, lb_err *err) {
    lb_str *names;
    u64 n;
    lb_arena tmp = {0};
    lb_map ours = {0};
    lb_status st = lb_os_list(s->partial, &tmp, &names, &n, err);
    for (u64 i = 0; i < s->plan->n_files && st == LB_OK; i++)
        st = lb_map_put(&ours, s->plan->files[i].name, i, NULL, err);
    for (u64 i = 0; st == LB_OK && i < n; i++) {
        lb_fstat info = {0};
        const char *path = lb_os_join(&tmp, s->partial, names[i]);
        if (!path)
            st = lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        else if (!lb_map_find(&ours, names[i], NULL) ||
                 lb_os_stat_link(path, &info, NULL) != LB_OK || !info.is_file)
            st = lb_os_remove_tree(path, err);
    }
    lb_map_deinit(&ours);
    lb_arena_deinit(&tmp);
    return st;
}

lb_status lb_resume_settle(lb_sink *s, bool *fresh, lb_err *err) {
    if (*fresh)
        return LB_OK;
    const char *to = lb_sink_place_to(s, 0);
    if (!to)
        return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    s->placed = s->place && is_inode(to, s->place[0]);
    if (s->placed)
        return LB_OK;
    *fresh = !partial_is_there(s);
    if (*fresh)
        return LB_OK;
    LB_TRY(take_back(s, err));
    if (s->o.folder)
        LB_TRY(remove_strangers(s, err));
    return lb_os_truncate(s->journal_fd, s->journal_path, s->journal_len, err);
}

/* ---- verifying ---- */

/* One file is open at a time: jobs come in the order of their places. */
typedef struct reader {
    lb_sink *s;
    u8 *window;
    u32 file;
    int fd;
} reader;

static lb_status open_file(reader *r, u32 file, lb_err *err) {
    if (r->fd >= 0 && r->file == file)
        return LB_OK;
    lb_os_close(&r->fd);
    r->file = file;
    LB_TRY(lb_os_open_read(r->s->file[file].path, &r->fd, err));
    if (r->s->unsynced) /* what could not be written is lost, though the memory may hold it */
        lb_os_drop_cache(r->fd);
    return LB_OK;
}

/* Hashes bytes [from, to) of a stream. */
static lb_status hash_range(reader *r, const lb_stream *t, u64 from, u64 to, lb_xxh *h,
                            lb_err *err) {
    const char *path = r->s->file[t->file].path;
    if (from < to)
        LB_TRY(open_file(r, t->file, err));
    for (u64 at = from, n; at < to; at += n) {
        n = LB_MIN(WINDOW_BYTES, to - at);
        if (lb_sink_stopped(r->s))
            return lb_fail(err, LB_E_INTERRUPTED, "interrupted");
        if (to - at > AHEAD_BYTES)
            lb_os_readahead(r->fd, t->off_bytes + at + AHEAD_BYTES,
                            LB_MIN(WINDOW_BYTES, to - at - AHEAD_BYTES));
        LB_TRY(lb_os_pread(r->fd, path, r->window, n, t->off_bytes + at, err));
        lb_xxh_update(h, r->window, n);
    }
    return LB_OK;
}

static lb_status verify_job(reader *r, u64 job, lb_err *err) {
    const lb_job *j = &r->s->plan->jobs[job];
    for (u32 k = 0; k < j->n_streams && r->s->kept[job]; k++) {
        lb_xxh h;
        lb_xxh_init(&h);
        LB_TRY(hash_range(r, &j->streams[k], 0, j->streams[k].size_bytes, &h, err));
        r->s->kept[job] = lb_hash_eq(lb_xxh_digest(&h), j->streams[k].hash);
    }
    return LB_OK;
}

/* The hashes go on from `from` elements to where x is; *same: they are what x says. */
static lb_status verify_span(reader *r, const lb_job *j, u64 from, const lb_span *x, lb_xxh *h,
                             bool *same, lb_err *err) {
    *same = true;
    for (u32 k = 0; k < j->n_streams && *same; k++) {
        u64 a = 0, b = 0;
        if (!lb_stream_part(&j->streams[k], from, &a) ||
            !lb_stream_part(&j->streams[k], x->n_elems, &b))
            *same = false; /* seen when it was read */
        else
            LB_TRY(hash_range(r, &j->streams[k], a, b, &h[k], err));
        *same = *same && lb_hash_eq(lb_xxh_digest(&h[k]), x->prefix[k].hash);
    }
    return LB_OK;
}

/* Up to the last record that the bytes agree with. */
static lb_status verify_spans(reader *r, u64 job, lb_err *err) {
    lb_sink *s = r->s;
    const lb_job *j = &s->plan->jobs[job];
    lb_sink_part *part = NULL;
    lb_xxh h[LB_ROOTS_MAX];
    u64 from = 0;
    bool same = true;
    for (u32 k = 0; k < j->n_streams; k++)
        lb_xxh_init(&h[k]);
    for (const lb_span *x = s->spans[job]; x; x = x->next) {
        LB_TRY(verify_span(r, j, from, x, h, &same, err));
        if (!same)
            break;
        if (!part) {
            if (!s->part)
                s->part = lb_arena_new(&s->arena, lb_sink_part *, s->plan->n_jobs);
            part = lb_arena_new(&s->arena, lb_sink_part, 1);
            if (!s->part || !part)
                return lb_fail(err, LB_E_NOMEM, "out of memory for kept parts");
            part->hash = lb_arena_new(&s->arena, lb_xxh, j->n_streams + 1);
            if (!part->hash)
                return lb_fail(err, LB_E_NOMEM, "out of memory for kept parts");
        }
        from = part->n_elems = x->n_elems;
        part->prefix = x->prefix;
        memcpy(part->hash, h, j->n_streams * sizeof *h);
        s->part[job] = part;
    }
    return LB_OK;
}

lb_status lb_resume_verify(lb_sink *s, lb_err *err) {
    reader r = {.s = s, .fd = -1, .window = lb_alloc(WINDOW_BYTES)};
    lb_status st = r.window
                       ? LB_OK
                       : lb_fail(err, LB_E_NOMEM, "out of memory for checking the partial output");
    for (u64 i = 0; i < s->plan->n_jobs && st == LB_OK; i++) {
        st = verify_job(&r, i, err);
        if (st == LB_OK && !s->kept[i] && s->spans && s->spans[i])
            st = verify_spans(&r, i, err);
        if (st == LB_OK)
            s->n_done += s->kept[i] || (s->part && s->part[i]);
    }
    lb_os_close(&r.fd);
    lb_free(r.window);
    return st;
}

const lb_sink_part *lb_sink_kept_part(const lb_sink *s, u64 job) {
    return s->part ? s->part[job] : NULL;
}
