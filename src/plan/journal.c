/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c: how far an output has come, so that an interrupted run can go on.
 *
 * Text, one record a line, each ended by a check of its own, so that a torn last line is seen:
 *     lbrx-journal 2 <version> <plan identity>                              <check>
 *     src <source>:<tensor>:<hash>...     tensors hashed on the way         <check>
 *     span <n> <elements> <hash rounded overflowed of each stream>...       <check>
 *     job <n> <hash rounded overflowed of each stream>...                   <check>
 *     unsynced                            a sync has failed                 <check>
 *     place <i> <inode>                   about to be renamed               <check>
 * A record is written after the job's bytes. All but the last two kinds say what the right output
 * holds, whoever wrote it, so that they stay true after any number of interruptions. What a crash
 * of the machine loses shows in the hashes (resume.c). */
#include "base/os.h"
#include "plan/sink_internal.h"

#define LINE_MAX_BYTES (64 * LB_KIB)
#define SRC_A_LINE 64

lb_status lb_journal_lock(lb_sink *s, lb_err *err) {
    for (u32 tries = 0; tries < 100; tries++) {
        lb_fstat a, b;
        bool was = lb_os_exists(s->journal_path);
        LB_TRY(lb_os_open_write(s->journal_path, false, &s->journal_fd, err));
        LB_TRY(lb_os_fstat(s->journal_fd, s->journal_path, &a, err));
        if (!a.is_file)
            return lb_fail(err, LB_E_IO, "%s: is no plain file: remove it", s->journal_path);
        LB_TRY(lb_os_lock(s->journal_fd, s->journal_path, err));
        /* another process may have finished and removed the file between open and lock */
        if (lb_os_stat(s->journal_path, &b, NULL) == LB_OK && a.ino == b.ino && a.dev == b.dev) {
            s->journal_new = !was;
            return LB_OK;
        }
        lb_os_close(&s->journal_fd);
    }
    return lb_fail(err, LB_E_LIMIT, "output '%s': another process is working on it", s->o.path);
}

/* ---- writing ---- */

/* Ends the line that began at `from`. */
static void end_line(lb_buf *b, size_t from) {
    char hex[33];
    lb_buf_put_c(b, " ");
    if (b->oom)
        return;
    lb_hash_hex(lb_xxh128(b->ptr + from, b->len - from), hex);
    lb_buf_printf(b, "%.16s\n", hex);
}

static lb_status append(lb_sink *s, const lb_buf *lines, lb_err *err) {
    LB_TRY(lb_buf_status(lines, err));
    LB_TRY(
        lb_os_pwrite(s->journal_fd, s->journal_path, lines->ptr, lines->len, s->journal_len, err));
    s->journal_len += lines->len;
    return LB_OK;
}

static void put_head(const lb_sink *s, lb_buf *line) {
    char hex[33];
    lb_hash_hex(s->plan->identity, hex);
    lb_buf_printf(line, "lbrx-journal 2 %s %s", LB_VERSION, hex);
}

lb_status lb_journal_clear(lb_sink *s, lb_err *err) {
    s->journal_len = 0;
    return lb_os_truncate(s->journal_fd, s->journal_path, 0, err);
}

lb_status lb_journal_begin(lb_sink *s, lb_err *err) {
    lb_buf line = {0};
    put_head(s, &line);
    end_line(&line, 0);
    lb_status st = append(s, &line, err);
    lb_buf_deinit(&line);
    return st;
}

static void put_sources(lb_buf *b, const lb_sink_hash *hashes, u32 n) {
    char hex[33];
    for (u32 i = 0; i < n; i += SRC_A_LINE) {
        size_t from = b->len;
        lb_buf_put_c(b, "src");
        for (u32 k = i; k < LB_MIN(n, i + SRC_A_LINE); k++) {
            lb_hash_hex(hashes[k].hash, hex);
            lb_buf_printf(b, " %u:%u:%s", hashes[k].source, hashes[k].tensor, hex);
        }
        end_line(b, from);
    }
}

static void put_prefix(lb_buf *b, const lb_sink_prefix *p) {
    char hex[33];
    lb_hash_hex(p->hash, hex);
    lb_buf_printf(b, " %s %llu %llu", hex, (unsigned long long)p->n_rounded,
                  (unsigned long long)p->n_overflowed);
}

/* The data first, from time to time; then what is said of them. */
static lb_status record(lb_sink *s, const lb_buf *lines, bool counts, lb_err *err) {
    bool synced = false;
    LB_TRY(lb_sink_sync_due(s, &synced, err));
    lb_lock(&s->mutex);
    lb_status st = append(s, lines, err);
    s->n_done += st == LB_OK && counts;
    lb_unlock(&s->mutex);
    if (st == LB_OK && synced)
        st = lb_os_sync(s->journal_fd, s->journal_path, err);
    return st;
}

lb_status lb_sink_job_done(lb_sink *s, u64 job, const lb_sink_hash *hashes, u32 n_hashes,
                           lb_err *err) {
    lb_buf lines = {0};
    const lb_job *j = &s->plan->jobs[job];
    put_sources(&lines, hashes, n_hashes);
    size_t from = lines.len;
    lb_buf_printf(&lines, "job %llu", (unsigned long long)job);
    for (u32 i = 0; i < j->n_streams; i++)
        put_prefix(&lines, &(lb_sink_prefix){j->streams[i].hash, j->streams[i].n_rounded,
                                             j->streams[i].n_overflowed});
    end_line(&lines, from);
    lb_status st = record(s, &lines, true, err);
    lb_buf_deinit(&lines);
    return st;
}

u64 lb_sink_span_bytes(const lb_sink *s, u64 job) {
    u64 span = s->o.span_bytes ? s->o.span_bytes : LB_SINK_SPAN_BYTES;
    return s->plan->jobs[job].write_bytes > span ? span : UINT64_MAX;
}

lb_status lb_sink_span_done(lb_sink *s, u64 job, u64 n_elems, const lb_sink_prefix *prefix,
                            const lb_sink_hash *hashes, u32 n_hashes, lb_err *err) {
    lb_buf lines = {0};
    put_sources(&lines, hashes, n_hashes);
    size_t from = lines.len;
    lb_buf_printf(&lines, "span %llu %llu", (unsigned long long)job, (unsigned long long)n_elems);
    for (u32 i = 0; i < s->plan->jobs[job].n_streams; i++)
        put_prefix(&lines, &prefix[i]);
    end_line(&lines, from);
    lb_status st = record(s, &lines, true, err);
    lb_buf_deinit(&lines);
    return st;
}

lb_status lb_journal_place(lb_sink *s, const u64 *inodes, u64 n, lb_err *err) {
    lb_buf lines = {0};
    for (u64 i = 0; i < n; i++) {
        size_t from = lines.len;
        lb_buf_printf(&lines, "place %llu %llu", (unsigned long long)i,
                      (unsigned long long)inodes[i]);
        end_line(&lines, from);
    }
    lb_status st = append(s, &lines, err);
    if (st == LB_OK && s->o.sync)
        st = lb_os_sync(s->journal_fd, s->journal_path, err);
    lb_buf_deinit(&lines);
    return st;
}

void lb_journal_unsynced(lb_sink *s) {
    lb_buf line = {0};
    lb_buf_put_c(&line, "unsynced");
    end_line(&line, 0);
    lb_lock(&s->mutex);
    (void)append(s, &line, NULL);
    lb_unlock(&s->mutex);
    lb_buf_deinit(&line);
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

static bool read_source(lb_sink *s, lb_str w) {
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

static bool read_prefix(lb_str *line, lb_sink_prefix *p) {
    return lb_hash_parse(word(line), &p->hash) && lb_str_to_u64(word(line), &p->n_rounded) &&
           lb_str_to_u64(word(line), &p->n_overflowed);
}

static bool read_job(lb_sink *s, lb_str line) {
    u64 n;
    lb_sink_prefix p;
    if (!lb_str_to_u64(word(&line), &n) || n >= s->plan->n_jobs)
        return false;
    lb_job *j = &s->plan->jobs[n];
    for (u32 i = 0; i < j->n_streams; i++) {
        if (!read_prefix(&line, &p))
            return false;
        j->streams[i].hash = p.hash;
        j->streams[i].n_rounded = p.n_rounded;
        j->streams[i].n_overflowed = p.n_overflowed;
    }
    s->kept[n] = j->n_streams > 0; /* a survey's answer is not here */
    return true;
}

/* In the order of elements; one that is known already is not kept twice. */
static bool read_span(lb_sink *s, lb_str line) {
    u64 n, n_elems;
    if (!lb_str_to_u64(word(&line), &n) || n >= s->plan->n_jobs ||
        !lb_str_to_u64(word(&line), &n_elems) || n_elems == 0)
        return false;
    const lb_job *j = &s->plan->jobs[n];
    bool left = false;
    if (!s->spans)
        s->spans = lb_arena_new(&s->arena, lb_span *, s->plan->n_jobs);
    lb_span *x = lb_arena_new(&s->arena, lb_span, 1);
    lb_sink_prefix *prefix = lb_arena_new(&s->arena, lb_sink_prefix, j->n_streams + 1);
    if (!s->spans || !x || !prefix)
        return true; /* a span is only a help */
    for (u32 i = 0; i < j->n_streams; i++) {
        u64 bytes;
        if (!read_prefix(&line, &prefix[i]) || !lb_stream_part(&j->streams[i], n_elems, &bytes) ||
            bytes > j->streams[i].size_bytes)
            return false;
        left = left || bytes < j->streams[i].size_bytes;
    }
    if (!left)
        return false;
    lb_span **at = &s->spans[n];
    while (*at && (*at)->n_elems < n_elems)
        at = &(*at)->next;
    if (*at && (*at)->n_elems == n_elems)
        return true;
    *x = (lb_span){*at, n_elems, prefix};
    *at = x;
    return true;
}

static bool read_place(lb_sink *s, lb_str line) {
    u64 i, inode, n = lb_sink_n_places(s);
    if (!lb_str_to_u64(word(&line), &i) || !lb_str_to_u64(word(&line), &inode) || i >= n)
        return false;
    if (!s->place)
        s->place = lb_arena_new(&s->arena, u64, n);
    if (s->place)
        s->place[i] = inode;
    return true;
}

/* False: not a record of this plan, reading ends there. */
static bool read_record(lb_sink *s, lb_str line) {
    lb_str kind = word(&line);
    if (lb_str_eq_c(kind, "job"))
        return read_job(s, line);
    if (lb_str_eq_c(kind, "span"))
        return read_span(s, line);
    if (lb_str_eq_c(kind, "place"))
        return read_place(s, line);
    if (lb_str_eq_c(kind, "unsynced")) {
        s->unsynced = true;
        return true;
    }
    if (!lb_str_eq_c(kind, "src"))
        return false;
    for (lb_str w = word(&line); w.len; w = word(&line))
        if (!read_source(s, w))
            return false;
    return true;
}

/* The next line from the journal into the window, without its end; false: none is whole. */
static bool next_line(lb_sink *s, u64 size_bytes, lb_buf *window, size_t *at, lb_str *line) {
    for (;;) {
        size_t end;
        lb_str rest = {(const char *)window->ptr + *at, window->len - *at};
        if (lb_str_find(rest, LB_STR("\n"), &end)) {
            *line = lb_str_sub(rest, 0, end);
            *at += end + 1;
            return true;
        }
        u64 from = s->journal_len + rest.len, room = window->cap - rest.len;
        u64 n = LB_MIN(room, size_bytes - from);
        memmove(window->ptr, window->ptr + *at, rest.len);
        window->len = rest.len;
        *at = 0;
        if (n == 0 || lb_os_pread(s->journal_fd, s->journal_path, window->ptr + window->len, n,
                                  from, NULL) != LB_OK)
            return false; /* a torn last line, or none of ours */
        window->len += n;
    }
}

static lb_status read_lines(lb_sink *s, u64 size_bytes, lb_buf *window, bool *fresh, lb_err *err) {
    lb_buf head = {0};
    lb_str line;
    size_t at = 0;
    put_head(s, &head);
    lb_buf_put_c(&head, " ");
    lb_status st = lb_buf_status(&head, err);
    while (st == LB_OK && next_line(s, size_bytes, window, &at, &line)) {
        u64 len = line.len + 1;
        if (!checked(&line))
            break;
        if (*fresh && !lb_str_eq(line, lb_buf_str(&head)))
            st = lb_fail(err, LB_E_FORMAT,
                         "output '%s': the interrupted run had other inputs, options or another "
                         "lbrx version: start anew without --resume",
                         s->o.path);
        else if (!*fresh && !read_record(s, line))
            break;
        *fresh = false;
        s->journal_len += len;
    }
    lb_buf_deinit(&head);
    return st;
}

lb_status lb_journal_read(lb_sink *s, bool *fresh, lb_err *err) {
    lb_fstat st;
    lb_buf window = {0};
    *fresh = true;
    s->journal_len = 0;
    LB_TRY(lb_os_fstat(s->journal_fd, s->journal_path, &st, err));
    window.ptr = lb_alloc(LINE_MAX_BYTES);
    window.cap = LINE_MAX_BYTES;
    if (!window.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the journal");
    lb_status r = read_lines(s, st.size_bytes, &window, fresh, err);
    lb_buf_deinit(&window);
    return r;
}
