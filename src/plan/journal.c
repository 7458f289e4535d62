/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c: which jobs of an output are finished, so that an interrupted run can go on.
 *
 * Text, one record a line, each ended by a check of its own, so that a torn last line is seen:
 *     lbrx-journal 1 <version> <plan identity>                              <check>
 *     job <n> <hash of each stream>... ; <source>:<tensor>:<hash>...        <check>
 * A record is written after the job's bytes. What a crash of the machine loses shows in the hashes.
 */
#include "base/os.h"
#include "plan/sink_internal.h"

#define JOURNAL_MAX ((u64)1 << 30)

lb_status lb_journal_lock(lb_sink *s, lb_err *err) {
    for (u32 tries = 0; tries < 100; tries++) {
        lb_fstat a, b;
        bool was = lb_os_exists(s->journal_path);
        LB_TRY(lb_os_open_write(s->journal_path, false, &s->journal_fd, err));
        LB_TRY(lb_os_lock(s->journal_fd, s->journal_path, err));
        /* another process may have finished and removed the file between open and lock */
        if (lb_os_fstat(s->journal_fd, s->journal_path, &a, NULL) == LB_OK &&
            lb_os_stat(s->journal_path, &b, NULL) == LB_OK && a.ino == b.ino && a.dev == b.dev) {
            s->journal_new = !was;
            return LB_OK;
        }
        lb_os_close(&s->journal_fd);
    }
    return lb_fail(err, LB_E_LIMIT, "output '%s': another process is working on it", s->o.path);
}

static lb_status append(lb_sink *s, lb_buf *line, lb_err *err) {
    char hex[33];
    lb_hash_hex(lb_xxh128(line->ptr, line->len), hex);
    lb_buf_printf(line, "%.16s\n", hex);
    LB_TRY(lb_buf_status(line, err));
    LB_TRY(lb_os_pwrite(s->journal_fd, s->journal_path, line->ptr, line->len, s->journal_len, err));
    s->journal_len += line->len;
    return LB_OK;
}

static void put_head(const lb_sink *s, lb_buf *line) {
    char hex[33];
    lb_hash_hex(s->plan->identity, hex);
    lb_buf_printf(line, "lbrx-journal 1 %s %s ", LB_VERSION, hex);
}

lb_status lb_journal_begin(lb_sink *s, lb_err *err) {
    lb_buf line = {0};
    LB_TRY(lb_os_truncate(s->journal_fd, s->journal_path, 0, err));
    s->journal_len = 0;
    put_head(s, &line);
    lb_status st = append(s, &line, err);
    lb_buf_deinit(&line);
    return st;
}

lb_status lb_sink_job_done(lb_sink *s, u64 job, const lb_sink_hash *hashes, u32 n_hashes,
                           lb_err *err) {
    lb_buf line = {0};
    char hex[33];
    const lb_job *j = &s->plan->jobs[job];
    lb_buf_printf(&line, "job %llu", (unsigned long long)job);
    for (u32 i = 0; i < j->n_streams; i++) {
        lb_hash_hex(j->streams[i].hash, hex);
        lb_buf_printf(&line, " %s %llu %llu", hex, (unsigned long long)j->streams[i].n_rounded,
                      (unsigned long long)j->streams[i].n_overflowed);
    }
    lb_buf_put_c(&line, " ;");
    for (u32 i = 0; i < n_hashes; i++) {
        lb_hash_hex(hashes[i].hash, hex);
        lb_buf_printf(&line, " %u:%u:%s", hashes[i].source, hashes[i].tensor, hex);
    }
    lb_buf_put_c(&line, " ");
    lb_lock(&s->mutex);
    lb_status st = append(s, &line, err);
    s->n_done += st == LB_OK;
    lb_unlock(&s->mutex);
    lb_buf_deinit(&line);
    return st;
}

/* ---- reading ---- */

static lb_str word(lb_str *line) {
    size_t at = 0;
    while (line->len && line->ptr[0] == ' ')
        *line = lb_str_sub(*line, 1, line->len);
    while (at < line->len && line->ptr[at] != ' ')
        at++;
    lb_str w = lb_str_sub(*line, 0, at);
    *line = lb_str_sub(*line, at, line->len);
    return w;
}

/* Splits off the check at the end of a line and tests it. */
static bool checked(lb_str *line) {
    char hex[33];
    if (line->len < 17)
        return false;
    lb_str check = lb_str_sub(*line, line->len - 16, line->len);
    *line = lb_str_sub(*line, 0, line->len - 16);
    lb_hash_hex(lb_xxh128(line->ptr, line->len), hex);
    return memcmp(hex, check.ptr, 16) == 0;
}

static bool read_source_hash(lb_sink *s, lb_str w) {
    size_t a, b;
    u64 source, tensor;
    lb_hash128 h;
    if (!lb_str_find(w, LB_STR(":"), &a) ||
        !lb_str_find(lb_str_sub(w, a + 1, w.len), LB_STR(":"), &b) ||
        !lb_str_to_u64(lb_str_sub(w, 0, a), &source) ||
        !lb_str_to_u64(lb_str_sub(w, a + 1, a + 1 + b), &tensor) ||
        !lb_hash_parse(lb_str_sub(w, a + b + 2, w.len), &h) || source >= s->plan->graph.n_sources ||
        tensor >= s->plan->graph.sources[source]->n_tensors)
        return false;
    s->plan->src[source].tensor_hash[tensor] = h;
    s->plan->src[source].used[tensor] |= LB_USED_HASHED;
    return true;
}

/* One job's record; false: not a record of this plan, reading ends there. */
static bool read_job(lb_sink *s, lb_str line) {
    u64 n;
    if (!lb_str_eq_c(word(&line), "job") || !lb_str_to_u64(word(&line), &n) || n >= s->plan->n_jobs)
        return false;
    lb_job *j = &s->plan->jobs[n];
    for (u32 i = 0; i < j->n_streams; i++)
        if (!lb_hash_parse(word(&line), &j->streams[i].hash) ||
            !lb_str_to_u64(word(&line), &j->streams[i].n_rounded) ||
            !lb_str_to_u64(word(&line), &j->streams[i].n_overflowed))
            return false;
    if (!lb_str_eq_c(word(&line), ";"))
        return false;
    for (lb_str w = word(&line); w.len; w = word(&line))
        if (!read_source_hash(s, w))
            return false;
    s->kept[n] = 1;
    s->n_done++;
    return true;
}

lb_status lb_journal_read(lb_sink *s, bool *fresh, lb_err *err) {
    lb_str text;
    lb_buf head = {0};
    *fresh = true;
    if (!lb_os_exists(s->partial))
        return LB_OK;
    LB_TRY(lb_os_read_file(s->journal_path, JOURNAL_MAX, &s->arena, &text, err));
    put_head(s, &head);
    bool first = true, ok = true;
    while (ok && text.len) {
        size_t end = 0;
        if (!lb_str_find(text, LB_STR("\n"), &end))
            break; /* a torn last line */
        lb_str line = lb_str_sub(text, 0, end);
        if (!checked(&line))
            break;
        if (first && !lb_str_eq(line, lb_buf_str(&head))) {
            lb_buf_deinit(&head);
            return lb_fail(err, LB_E_FORMAT,
                           "output '%s': the interrupted run had other inputs, options or another "
                           "lbrx version: start anew without --resume",
                           s->o.path);
        }
        ok = first || read_job(s, line);
        if (!ok)
            break;
        first = false;
        s->journal_len += end + 1;
        text = lb_str_sub(text, end + 1, text.len);
    }
    lb_buf_deinit(&head);
    *fresh = first; /* not even the head was there */
    if (!first)
        LB_TRY(lb_os_truncate(s->journal_fd, s->journal_path, s->journal_len, err));
    return LB_OK;
}

static lb_status hash_stream(lb_sink *s, const lb_stream *t, lb_buf *window, lb_hash128 *out,
                             lb_err *err) {
    const char *path = s->file[t->file].path;
    lb_xxh h;
    int fd = -1;
    lb_xxh_init(&h);
    LB_TRY(lb_os_open_read(path, &fd, err));
    lb_status st = LB_OK;
    for (u64 at = 0; at < t->size_bytes && st == LB_OK; at += window->cap) {
        u64 n = LB_MIN(window->cap, t->size_bytes - at);
        st = lb_os_pread(fd, path, window->ptr, n, t->off_bytes + at, err);
        if (st == LB_OK)
            lb_xxh_update(&h, window->ptr, n);
    }
    lb_os_close(&fd);
    *out = lb_xxh_digest(&h);
    return st;
}

lb_status lb_journal_verify(lb_sink *s, lb_err *err) {
    lb_buf window = {.ptr = lb_alloc(LB_MIB), .cap = LB_MIB};
    lb_status st = window.ptr
                       ? LB_OK
                       : lb_fail(err, LB_E_NOMEM, "out of memory for checking the partial output");
    for (u64 i = 0; i < s->plan->n_jobs && st == LB_OK; i++) {
        const lb_job *j = &s->plan->jobs[i];
        for (u32 k = 0; k < j->n_streams && s->kept[i] && st == LB_OK; k++) {
            lb_hash128 h;
            st = hash_stream(s, &j->streams[k], &window, &h, err);
            if (st == LB_OK && !lb_hash_eq(h, j->streams[k].hash)) {
                s->kept[i] = 0;
                s->n_done--;
            }
        }
    }
    lb_buf_deinit(&window);
    return st;
}
