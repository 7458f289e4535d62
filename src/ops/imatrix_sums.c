/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_sums.c: see imatrix_sums.h. */
#include "ops/imatrix_sums.h"
#include "base/os.h"
#include <stdlib.h>

enum { PIECE = 16384, /* values of a file at a time */ MAPS_BYTES_MIN = 1 << 20 };

typedef struct mapped {
    void *ptr;
    u64 size_bytes;
    struct mapped *next;
} mapped;

struct lb_imatrix_set {
    lb_arena perm;
    u64 heap_left;
    const char *temp_dir;
    u64 chunk_size;
    mapped *maps;
    lb_imatrix_entry_sums **list; /* heap */
    u64 n, cap;
    lb_map by_name;
    lb_str *datasets; /* heap; the texts are in perm */
    u64 n_datasets;
};

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the importance matrix");
}

lb_status lb_imatrix_set_new(lb_imatrix_set **out, u64 heap_bytes, const char *temp_dir,
                             u64 chunk_size, lb_err *err) {
    *out = lb_alloc_zero(1, sizeof **out);
    if (!*out)
        return oom(err);
    (*out)->heap_left = heap_bytes;
    (*out)->temp_dir = temp_dir;
    (*out)->chunk_size = chunk_size;
    return LB_OK;
}

void lb_imatrix_set_free(lb_imatrix_set **sp) {
    lb_imatrix_set *s = *sp;
    if (!s)
        return;
    for (mapped *m = s->maps; m; m = m->next)
        lb_os_unmap(m->ptr, m->size_bytes);
    lb_free(s->list);
    lb_free(s->datasets);
    lb_map_deinit(&s->by_name);
    lb_arena_deinit(&s->perm);
    lb_free(s);
    *sp = NULL;
}

u64 lb_imatrix_set_n(const lb_imatrix_set *s) {
    return s->n;
}

lb_imatrix_entry_sums *lb_imatrix_set_at(const lb_imatrix_set *s, u64 i) {
    return s->list[i];
}

lb_imatrix_entry_sums *lb_imatrix_set_find(const lb_imatrix_set *s, lb_str name) {
    u64 i;
    return lb_map_find(&s->by_name, name, &i) ? s->list[i] : NULL;
}

/* ---- memory ---- */

static lb_status map_zeros(lb_imatrix_set *s, u64 bytes, double **out, lb_err *err) {
    mapped *m = lb_arena_new(&s->perm, mapped, 1);
    int fd = -1;
    if (!m)
        return oom(err);
    LB_TRY(lb_os_open_temp(s->temp_dir, &fd, err));
    void *p = lb_os_map_temp(fd, bytes);
    lb_os_close(&fd);
    if (!p)
        return lb_fail(err, LB_E_IO, "a temporary file of %llu bytes cannot be mapped",
                       (unsigned long long)bytes);
    *m = (mapped){p, bytes, s->maps};
    s->maps = m;
    *out = p;
    return LB_OK;
}

static lb_status zeros(lb_imatrix_set *s, u64 n, double **out, lb_err *err) {
    u64 bytes;
    if (!lb_mul_u64(n, sizeof **out, &bytes))
        return lb_fail(err, LB_E_LIMIT, "the importance matrix is too large");
    if (bytes > s->heap_left && bytes >= MAPS_BYTES_MIN)
        return map_zeros(s, bytes, out, err);
    s->heap_left -= LB_MIN(bytes, s->heap_left);
    *out = lb_arena_new(&s->perm, double, n);
    if (!*out)
        return oom(err);
    memset(*out, 0, (size_t)bytes);
    return LB_OK;
}

static lb_status grow(lb_imatrix_set *s, lb_err *err) {
    u64 cap = s->cap ? 2 * s->cap : 64;
    if (s->n < s->cap)
        return LB_OK;
    void *list = lb_realloc(s->list, (size_t)cap * sizeof *s->list);
    if (!list)
        return oom(err);
    s->list = list;
    s->cap = cap;
    return LB_OK;
}

lb_status lb_imatrix_set_add(lb_imatrix_set *s, lb_str name, u64 n_values, u64 n_counts,
                             lb_imatrix_entry_sums **out, lb_err *err) {
    lb_imatrix_entry_sums *e = lb_arena_new(&s->perm, lb_imatrix_entry_sums, 1);
    LB_TRY(grow(s, err));
    if (!e)
        return oom(err);
    *e = (lb_imatrix_entry_sums){.name = lb_arena_str(&s->perm, name), .n_values = n_values};
    if (!e->name.ptr)
        return oom(err);
    LB_TRY(zeros(s, n_values, &e->values, err));
    LB_TRY(lb_imatrix_set_widen(s, e, n_counts, err));
    LB_TRY(lb_map_put(&s->by_name, e->name, s->n, NULL, err));
    s->list[s->n++] = *out = e;
    return LB_OK;
}

lb_status lb_imatrix_set_widen(lb_imatrix_set *s, lb_imatrix_entry_sums *e, u64 n, lb_err *err) {
    u64 *counts = lb_arena_new(&s->perm, u64, n);
    if (!counts)
        return oom(err);
    for (u64 i = 0; i < n; i++)
        counts[i] = e->n_counts ? e->counts[0] : 0;
    e->counts = counts;
    e->n_counts = n;
    return LB_OK;
}

lb_status lb_imatrix_set_dataset(lb_imatrix_set *s, lb_str name, lb_err *err) {
    void *list = lb_realloc(s->datasets, (size_t)(s->n_datasets + 1) * sizeof *s->datasets);
    if (!list)
        return oom(err);
    s->datasets = list;
    lb_str own = lb_arena_str(&s->perm, name);
    if (!own.ptr)
        return oom(err);
    s->datasets[s->n_datasets++] = own;
    return LB_OK;
}

/* ---- files ---- */

static lb_status other_size(const lb_source *file, const lb_imatrix_entry *e,
                            const lb_imatrix_entry_sums *have, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT,
                   "%s: importance of '%.*s': %llu values and %llu count%s, where the matrices "
                   "before it have %llu and %llu: they are not of one model",
                   file->path, LB_FMT(e->name), (unsigned long long)e->n_values,
                   (unsigned long long)e->n_counts, e->n_counts == 1 ? "" : "s",
                   (unsigned long long)have->n_values, (unsigned long long)have->n_counts);
}

static lb_status add_entry(lb_imatrix_set *s, const lb_source *file, lb_fds *fds,
                           const lb_imatrix_entry *e, float *piece, lb_err *err) {
    lb_imatrix_entry_sums *to = lb_imatrix_set_find(s, e->name);
    u64 times = file->imatrix->legacy ? s->chunk_size : 1;
    if (!to)
        LB_TRY(lb_imatrix_set_add(s, e->name, e->n_values, e->n_counts, &to, err));
    if (to->n_values != e->n_values || e->n_values % LB_MAX(to->n_counts, e->n_counts))
        return other_size(file, e, to, err);
    if (to->n_counts == 1 && e->n_counts > 1)
        LB_TRY(lb_imatrix_set_widen(s, to, e->n_counts, err));
    if (to->n_counts != e->n_counts && e->n_counts != 1)
        return other_size(file, e, to, err);
    for (u64 at = 0, n; at < e->n_values; at += n) {
        n = LB_MIN(e->n_values - at, PIECE);
        LB_TRY(lb_imatrix_sums(file, fds, e, at, n, piece, err));
        for (u64 i = 0; i < n; i++)
            to->values[at + i] += (double)(piece[i] * (float)times);
    }
    for (u64 i = 0; i < to->n_counts; i++) {
        u64 more = (u64)e->counts[e->n_counts > 1 ? i : 0] * times;
        if (!lb_add_u64(to->counts[i], more, &to->counts[i]) || to->counts[i] >> 62)
            return lb_fail(err, LB_E_LIMIT, "%s: importance of '%.*s': the counts do not add up",
                           file->path, LB_FMT(e->name));
    }
    return LB_OK;
}

lb_status lb_imatrix_set_add_file(lb_imatrix_set *s, const lb_source *file, lb_err *err) {
    const lb_imatrix *im = file->imatrix;
    lb_fds *fds = NULL;
    float *piece = lb_alloc(PIECE * sizeof *piece);
    lb_status st = piece ? lb_fds_new(&fds, file->files, file->n_files, 1, err) : oom(err);
    for (u64 i = 0; i < im->n_entries && st == LB_OK; i++)
        st = add_entry(s, file, fds, &im->entries[i], piece, err);
    for (u64 i = 0; i < im->n_datasets && st == LB_OK; i++)
        st = lb_imatrix_set_dataset(s, im->datasets[i], err);
    lb_fds_free(&fds);
    lb_free(piece);
    return st;
}

/* ---- sorted ---- */

static int by_name(const void *a, const void *b) {
    return lb_str_cmp((*(lb_imatrix_entry_sums *const *)a)->name,
                      (*(lb_imatrix_entry_sums *const *)b)->name);
}

static lb_imatrix_entry_sums **sorted(const lb_imatrix_set *s) {
    lb_imatrix_entry_sums **list = lb_alloc((size_t)(s->n + 1) * sizeof *list);
    if (list && s->n) {
        memcpy(list, s->list, (size_t)s->n * sizeof *list);
        qsort(list, (size_t)s->n, sizeof *list, by_name);
    }
    return list;
}

typedef struct writing {
    lb_imatrix_out out;
    bool legacy;
} writing;

static lb_status begin_writing(lb_imatrix_set *s, writing *w, lb_err *err) {
    lb_imatrix_entry_sums **list = sorted(s);
    lb_imatrix_sum *sums = lb_alloc((size_t)(s->n + 1) * sizeof *sums);
    for (u64 i = 0; i < s->n && list && sums; i++)
        sums[i] = (lb_imatrix_sum){list[i]->name, list[i]->n_values, list[i]->n_counts,
                                   list[i]->values, list[i]->counts};
    bool ok = list && sums;
    lb_free(list);
    w->out = (lb_imatrix_out){sums, s->n, s->datasets, s->n_datasets, s->chunk_size};
    return ok ? LB_OK : oom(err);
}

u64 lb_imatrix_set_chunks(lb_imatrix_set *s) {
    u64 most = 0;
    for (u64 i = 0; i < s->n; i++)
        for (u64 k = 0; k < s->list[i]->n_counts; k++)
            most = LB_MAX(most, s->list[i]->counts[k]);
    return most / s->chunk_size;
}

static lb_status make(void *ctx, lb_out *out, lb_err *err) {
    const writing *w = ctx;
    return lb_imatrix_write(&w->out, w->legacy, out, err);
}

lb_status lb_imatrix_set_write(lb_imatrix_set *s, const lb_write_target *t, bool legacy,
                               lb_err *err) {
    writing w = {.legacy = legacy};
    lb_status st = begin_writing(s, &w, err);
    if (st == LB_OK)
        st = lb_write_file(t, make, &w, err);
    lb_free((void *)(uintptr_t)w.out.entries);
    return st;
}

/* ---- what no token reached ---- */

/* "3, 5-7" */
static void put_missing(const lb_imatrix_entry_sums *e, lb_buf *out) {
    bool first = true;
    for (u64 i = 0, end; i < e->n_counts; i = end + 1) {
        for (end = i; end < e->n_counts && !e->counts[end]; end++)
            ;
        if (end == i)
            continue;
        lb_buf_printf(out, "%s%llu", first ? "" : ", ", (unsigned long long)i);
        if (end > i + 1)
            lb_buf_printf(out, "-%llu", (unsigned long long)(end - 1));
        first = false;
    }
}

static bool lacks_some(const lb_imatrix_entry_sums *e) {
    for (u64 i = 0; i < e->n_counts; i++)
        if (!e->counts[i])
            return true;
    return false;
}

/* The same block, the same matrices missing. */
static bool alike(const lb_imatrix_entry_sums *a, const lb_imatrix_entry_sums *b) {
    size_t n = 0;
    u32 dots = 0;
    while (n < a->name.len && n < b->name.len && a->name.ptr[n] == b->name.ptr[n] && dots < 2)
        dots += a->name.ptr[n++] == '.';
    bool same = dots == 2 && a->n_counts == b->n_counts;
    for (u64 i = 0; same && i < a->n_counts; i++)
        same = !a->counts[i] == !b->counts[i];
    return same;
}

u64 lb_imatrix_set_unreached(const lb_imatrix_set *s, lb_buf *lines) {
    lb_imatrix_entry_sums **list = sorted(s);
    u64 n = 0, total = 0;
    for (u64 i = 0; list && i < s->n; i++)
        if (lacks_some(list[i]))
            list[n++] = list[i];
    for (u64 i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && alike(list[i], list[end]); end++)
            ;
        total += end - i;
        lb_buf_printf(lines, "no token reached %.*s", LB_FMT(list[i]->name));
        for (u64 k = i + 1; k < end; k++)
            lb_buf_printf(lines, ", %.*s", LB_FMT(list[k]->name));
        if (list[i]->n_counts > 1) {
            lb_buf_put_c(lines, " of expert ");
            put_missing(list[i], lines);
        }
        lb_buf_put_c(lines, "\n");
    }
    lb_free(list);
    return total;
}
