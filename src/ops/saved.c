/* SPDX-License-Identifier: Apache-2.0 */
/* saved.c: see saved.h. */
#include "ops/saved.h"
#include "base/os.h"

/* ---- the model ---- */

static bool is_of_arch(const void *ctx, lb_str key) {
    lb_str arch = *(const lb_str *)ctx;
    return lb_str_eq_c(key, "general.architecture") ||
           (lb_str_starts(key, arch) && key.len > arch.len && key.ptr[arch.len] == '.');
}

static void add_u64(lb_xxh *h, u64 v) {
    u8 bytes[8];
    lb_store_u64(bytes, v);
    lb_xxh_update(h, bytes, sizeof bytes);
}

#define SAMPLE_BYTES 64u
#define VALUES_BYTES ((size_t)4096)

/* Of the first, the middle and the last matrix the first, the middle and the last row. */
static void add_mats(lb_xxh *h, const lb_mweight *w) {
    add_u64(h, w->n_mats);
    for (u64 i = 0; i < 3; i++) {
        const lb_mat *m = &w->mats[i * (w->n_mats - 1) / 2];
        const u8 *row = m->codes + i * (m->n_rows - 1) / 2 * m->row_bytes;
        /* No type has less than a bit an element. */
        lb_xxh_update(h, row, (size_t)LB_MIN(m->n_cols / 8, (u64)SAMPLE_BYTES));
        add_u64(h, (u64)m->kind | (u64)m->bits << 8 | (u64)m->group << 32);
        add_u64(h, (u64)lb_dtype_get(m->dtype)->ggml);
    }
}

static void add_values(lb_xxh *h, const lb_mweight *w) {
    const u8 *at = (const u8 *)w->values;
    size_t n = (size_t)(w->n_stack * w->n_rows * w->n_cols) * sizeof(float);
    size_t some = LB_MIN(n, VALUES_BYTES);
    lb_xxh_update(h, at, some);
    lb_xxh_update(h, at + n - some, some);
}

lb_hash128 lb_saved_model(const lb_loaded *l) {
    const lb_mweights *w = lb_loaded_weights(l);
    lb_hash128 sum = {0};
    lb_str arch = lb_str_c(lb_loaded_arch(l));
    lb_xxh h;
    lb_meta_sum(lb_loaded_meta(l), is_of_arch, &arch, &sum);
    lb_xxh_init(&h);
    lb_xxh_update(&h, arch.ptr, arch.len);
    add_u64(&h, sum.lo);
    add_u64(&h, sum.hi);
    for (u64 i = 0; i < w->n; i++) {
        const lb_mweight *t = &w->list[i];
        lb_xxh_update(&h, t->name.ptr, t->name.len);
        add_u64(&h, t->upright);
        add_u64(&h, t->shape.rank);
        for (u32 d = 0; d < t->shape.rank; d++)
            add_u64(&h, t->shape.dim[d]);
        if (t->values)
            add_values(&h, t);
        else
            add_mats(&h, t);
    }
    return lb_xxh_digest(&h);
}

/* ---- opening ---- */

lb_status lb_saved_open(lb_saved *s, const char *path, const lb_loaded *l, lb_err *err) {
    *s = (lb_saved){.cur = {.fd = -1}};
    LB_TRY(lb_cur_open(&s->cur, path, err));
    LB_TRY(lb_session_file_parse(&s->cur, &s->file, err));
    s->ids = lb_alloc(LB_MAX((size_t)s->file.n_ids, (size_t)1) *
                      sizeof *s->ids); /* the file has as many */
    if (!s->ids)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory for its tokens", path);
    LB_TRY(lb_session_file_ids(&s->cur, &s->file, s->ids, err));
    if (l && !lb_hash_eq(s->file.model, lb_saved_model(l)))
        return lb_fail(err, LB_E_FORMAT,
                       "%s: the session of another model: use it with the one that it was made "
                       "with, in the same type and format",
                       path);
    return LB_OK;
}

void lb_saved_close(lb_saved *s) {
    lb_free(s->ids);
    lb_cur_close(&s->cur);
    *s = (lb_saved){.cur = {.fd = -1}};
}

/* The option that makes keys and values of its kind. */
static lb_status check_kind(const lb_saved *s, const lb_context *c, lb_err *err) {
    const lb_session_file *f = &s->file;
    const char *path = s->cur.path;
    lb_session_file own;
    lb_context_describe(c, &own);
    u32 other = f->flags ^ own.flags;
    if (f->kv_type != own.kv_type)
        return lb_fail(err, LB_E_USAGE, "%s: its keys and values are %s: use --kv-type %s", path,
                       lb_dtype_get(f->kv_type)->name, lb_dtype_get(f->kv_type)->name);
    if (other & LB_SESSION_ROTATED)
        return lb_fail(err, LB_E_USAGE, "%s: its keys and values are%s rotated: use --kv-rotate %s",
                       path, f->flags & LB_SESSION_ROTATED ? "" : " not",
                       f->flags & LB_SESSION_ROTATED ? "on" : "off");
    if (other & (LB_SESSION_EXACT | LB_SESSION_FAST))
        return lb_fail(err, LB_E_USAGE, "%s: made %s: use it so here", path,
                       f->flags & LB_SESSION_EXACT  ? "with --exact"
                       : f->flags & LB_SESSION_FAST ? "with --fast"
                       : own.flags & LB_SESSION_EXACT
                           ? "without --exact, as which a device computes"
                           : "without --exact and --fast");
    if (f->rope_ctx != own.rope_ctx)
        return f->rope_ctx ? lb_fail(err, LB_E_USAGE,
                                     "%s: its positions turn as in a context of %u: use --ctx %u",
                                     path, f->rope_ctx, f->rope_ctx)
                           : lb_fail(err, LB_E_USAGE,
                                     "%s: its positions turn as in the context that the model was "
                                     "trained with: "
                                     "use a smaller --ctx",
                                     path);
    if (f->n_vocab != own.n_vocab || f->row_bytes != own.row_bytes ||
        f->state_bytes != own.state_bytes)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: %llu bytes a token and %llu of states, where this model has %llu and "
                       "%llu: damaged",
                       path, (unsigned long long)f->row_bytes, (unsigned long long)f->state_bytes,
                       (unsigned long long)own.row_bytes, (unsigned long long)own.state_bytes);
    return LB_OK;
}

static u32 n_common(const lb_saved *s, const lb_context *c, const u32 *ids, u32 n) {
    u32 same = 0;
    while (same < n && same < s->file.n_held && s->ids[same] == ids[same])
        same++;
    if (same < s->file.n_held && lb_model_is_recurrent(lb_context_model(c)))
        return 0;
    return same;
}

lb_status lb_saved_load(lb_saved *s, lb_context *c, const u32 *ids, u32 n, lb_buf *text,
                        u32 *n_kept, lb_err *err) {
    lb_session_body body;
    u64 n_text = s->file.text_bytes; /* bounded, and so long is the file */
    size_t before = text ? text->len : 0;
    *n_kept = 0;
    LB_TRY(check_kind(s, c, err));
    u32 same = n_common(s, c, ids, n);
    lb_session_body_begin(&body, &s->cur, &s->file, s->ids);
    if (text && !lb_buf_reserve(text, (size_t)n_text))
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory for its text", s->cur.path);
    LB_TRY(lb_session_body_read(&body, text && n_text ? text->ptr + before : NULL, n_text, err));
    LB_TRY(lb_context_load(c, 0, &body, &s->file, s->ids, same, err));
    if (text)
        text->len = before + (size_t)n_text;
    *n_kept = same;
    return LB_OK;
}

/* ---- writing ---- */

lb_status lb_saved_check(const char *path, bool *exists, lb_err *err) {
    lb_arena a = {0};
    lb_fstat at;
    lb_str dir = lb_arena_str(&a, lb_os_dir_name(lb_str_c(path)));
    lb_status st = dir.ptr ? lb_os_stat(dir.ptr, &at, err)
                           : lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    if (st == LB_OK && !at.is_dir)
        st = lb_fail(err, LB_E_IO, "%s: no folder", dir.ptr);
    *exists = st == LB_OK && lb_os_exists(path);
    if (*exists && (lb_os_stat(path, &at, err) != LB_OK || !at.is_file))
        st = lb_fail(err, LB_E_IO, "%s: not a regular file", path);
    lb_arena_deinit(&a);
    return st;
}

typedef struct target {
    const char *path, *part;
    int fd;
    u64 at;
} target;

/* The file beside, ours alone: one that a killed process left is taken up, one that somebody else
 * writes is not, nor one that he has put in its place since it was opened. */
static lb_status open_part(target *t, lb_err *err) {
    lb_fstat named, open;
    for (;;) {
        LB_TRY(lb_os_open_write(t->part, false, &t->fd, err));
        LB_TRY(lb_os_lock(t->fd, t->part, err));
        LB_TRY(lb_os_fstat(t->fd, t->part, &open, err));
        if (lb_os_stat(t->part, &named, NULL) == LB_OK && named.ino == open.ino &&
            named.dev == open.dev)
            return lb_os_truncate(t->fd, t->part, 0, err);
        lb_os_close(&t->fd);
    }
}

static lb_status put(void *ctx, lb_str piece, lb_err *err) {
    target *t = ctx;
    LB_TRY(lb_os_pwrite(t->fd, t->part, piece.ptr, piece.len, t->at, err));
    t->at += piece.len;
    return LB_OK;
}

static lb_status write_all(const lb_saving *s, target *t, lb_err *err) {
    lb_out out = {.put = put, .ctx = t};
    lb_session_file f;
    lb_xxh hash;
    lb_context_describe(s->context, &f);
    f.n_ids = s->n_ids;
    f.n_held = lb_context_length(s->context, 0);
    f.text_bytes = s->text.len;
    f.model = lb_saved_model(s->loaded);
    LB_ASSERT(f.n_held <= f.n_ids);
    if (s->text.len > LB_SESSION_TEXT_MAX)
        return lb_fail(err, LB_E_LIMIT, "%s: a conversation of more than 64 MiB", s->path);
    lb_session_file_begin(&f, s->ids, &hash, &out);
    lb_session_file_put(&hash, &out, s->text.ptr, s->text.len);
    LB_TRY(lb_context_save(s->context, 0, &hash, &out, err));
    lb_session_file_end(&hash, &out);
    return lb_out_end(&out, err);
}

/* Under its name only when it is on the disk. */
static lb_status finish(target *t, lb_arena *a, lb_err *err) {
    lb_str dir = lb_arena_str(a, lb_os_dir_name(lb_str_c(t->path)));
    if (!dir.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    LB_TRY(lb_os_sync(t->fd, t->part, err));
    LB_TRY(lb_os_rename(t->part, t->path, err)); /* the lock is held until then */
    return lb_os_sync_dir(dir.ptr, err);
}

lb_status lb_saved_write(const lb_saving *s, lb_err *err) {
    lb_arena a = {0};
    target t = {.path = s->path, .fd = -1};
    t.part = lb_arena_printf(&a, "%s.lbrx-partial", s->path).ptr;
    lb_status st =
        t.part ? open_part(&t, err) : lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    if (st == LB_OK) {
        st = write_all(s, &t, err);
        if (st == LB_OK)
            st = finish(&t, &a, err);
        if (st != LB_OK)
            (void)lb_os_unlink(t.part, NULL);
    }
    lb_os_close(&t.fd);
    lb_arena_deinit(&a);
    return st;
}
