/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix.c: see imatrix.h. The legacy form is a list without a head:
 *
 *     i32 n_entries
 *     n_entries times: i32 length, name, i32 n_calls, i32 n_values, f32 values[n_values]
 *     i32 n_chunks, i32 length, name of the dataset     since April 2024; absent before
 *
 * A value there is (sum / count) * n_calls, so that dividing by n_calls gives the importance; which
 * matrices the values are of, the file does not say. */
#include "format/imatrix.h"
#include "base/os.h"
#include "format/gguf.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

#define SUMS ".in_sum2"
#define COUNTS ".counts"
#define KEY_DATASETS "imatrix.datasets"
#define KEY_CHUNK_COUNT "imatrix.chunk_count"
#define KEY_CHUNK_SIZE "imatrix.chunk_size"
#define LEGACY_ENTRY_MIN (4 + 1 + 4 + 4 + 4) /* a name of one byte, one value */
#define COUNT_LIMIT 0x1p62f                  /* llama.cpp keeps counts in i64 */

typedef struct reader {
    lb_cur *c;
    lb_arena *perm, *scratch;
    lb_imatrix_dir *dir;
    lb_imatrix *im;
    lb_err *err;
} reader;

static unsigned long long ull(u64 v) {
    return v;
}

static lb_status no_memory(const reader *r) {
    return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory for an importance matrix", r->c->path);
}

static lb_status bad(const reader *r, lb_str name, const char *what) {
    return lb_fail(r->err, LB_E_FORMAT, "%s: importance of '%.*s': %s", r->c->path, LB_FMT(name),
                   what);
}

static lb_status too_many(const reader *r, const char *what, u64 n, u64 max) {
    return lb_fail(r->err, LB_E_LIMIT, "%s: importance matrix: %s is %llu, the limit is %llu",
                   r->c->path, what, ull(n), ull(max));
}

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const lb_imatrix_entry *)a)->name, ((const lb_imatrix_entry *)b)->name);
}

static lb_imatrix_entry *find(const lb_imatrix *im, lb_str name) {
    lb_imatrix_entry key = {.name = name};
    return im->n_entries ? bsearch(&key, im->entries, (size_t)im->n_entries, sizeof key, by_name)
                         : NULL;
}

const lb_imatrix_entry *lb_imatrix_find(const lb_imatrix *im, lb_str name) {
    return find(im, name);
}

static lb_status sort_entries(reader *r) {
    lb_imatrix *im = r->im;
    if (im->n_entries)
        qsort(im->entries, (size_t)im->n_entries, sizeof *im->entries, by_name);
    for (u64 i = 1; i < im->n_entries; i++)
        if (lb_str_eq(im->entries[i - 1].name, im->entries[i].name))
            return bad(r, im->entries[i].name, "stands there twice");
    return LB_OK;
}

/* ---- counts ---- */

/* A far place is read alone: a window of the cursor would be a hundred times as much. */
static lb_status read_at(lb_cur *c, u64 off, void *out, u64 n, lb_err *err) {
    if (c->fd >= 0)
        return lb_os_pread(c->fd, c->path, out, n, off, err);
    c->pos = off;
    return lb_cur_bytes(c, out, n, "the counts", err);
}

/* Rounded as llama.cpp does, half away from zero. */
static lb_status take_counts(reader *r, lb_imatrix_entry *e, float *counts) {
    for (u64 i = 0; i < e->n_counts; i++) {
        if (!(counts[i] >= 0 && counts[i] < COUNT_LIMIT))
            return lb_fail(r->err, LB_E_FORMAT,
                           "%s: importance of '%.*s': count %llu is %g, no number of tokens",
                           r->c->path, LB_FMT(e->name), ull(i), (double)counts[i]);
        counts[i] = roundf(counts[i]);
        e->n_empty += counts[i] == 0;
    }
    e->counts = counts;
    r->im->n_empty += e->n_empty;
    return LB_OK;
}

/* Room for the counts of e, within what all may have. */
static lb_status room_for_counts(reader *r, u64 n, float **out) {
    if (n > LB_IMATRIX_COUNTS_MAX - r->im->n_counts)
        return too_many(r, "the number of counts", n + r->im->n_counts, LB_IMATRIX_COUNTS_MAX);
    r->im->n_counts += n;
    *out = lb_arena_new(r->perm, float, n);
    return *out ? LB_OK : no_memory(r);
}

/* ---- GGUF ---- */

bool lb_imatrix_is(const lb_gguf_meta *m) {
    lb_str type;
    const lb_gguf_kv *kv = lb_meta_find(m, "general.type");
    return (kv && lb_kv_as_str(kv, &type) && lb_str_eq_c(type, "imatrix")) ||
           lb_meta_find(m, KEY_CHUNK_COUNT) || lb_meta_find(m, KEY_CHUNK_SIZE) ||
           lb_meta_find(m, KEY_DATASETS);
}

/* llama-quantize refuses a file without any of the three keys. */
static lb_status find_key(const reader *r, const char *key, const lb_gguf_kv **out) {
    *out = lb_meta_find(&r->dir->meta, key);
    return *out ? LB_OK
                : lb_fail(r->err, LB_E_FORMAT, "%s: importance matrix: key '%s' is missing",
                          r->c->path, key);
}

static lb_status read_number(const reader *r, const char *key, u64 *out) {
    const lb_gguf_kv *kv;
    LB_TRY(find_key(r, key, &kv));
    if (!lb_kv_as_u64(kv, out) || kv->type == LB_GGUF_BOOL || *out > INT32_MAX)
        return lb_fail(r->err, LB_E_FORMAT,
                       "%s: importance matrix: key '%s' is no number from 0 to 2^31 - 1",
                       r->c->path, key);
    return LB_OK;
}

static lb_status read_keys(reader *r) {
    lb_imatrix *im = r->im;
    const lb_gguf_kv *kv;
    LB_TRY(find_key(r, KEY_DATASETS, &kv));
    if (kv->type != LB_GGUF_ARRAY || (kv->elem != LB_GGUF_STR && kv->n))
        return lb_fail(r->err, LB_E_FORMAT, "%s: importance matrix: key '%s' is no list of strings",
                       r->c->path, KEY_DATASETS);
    im->datasets = lb_arena_new(r->perm, lb_str, kv->n + 1);
    if (!im->datasets)
        return no_memory(r);
    for (; im->n_datasets < kv->n; im->n_datasets++)
        if (!lb_kv_elem_str(kv, im->n_datasets, &im->datasets[im->n_datasets]))
            return no_memory(r);
    LB_TRY(read_number(r, KEY_CHUNK_COUNT, &im->chunk_count));
    LB_TRY(read_number(r, KEY_CHUNK_SIZE, &im->chunk_size));
    im->has_chunks = true;
    return LB_OK;
}

static bool stem_of(lb_str name, const char *tail, lb_str *stem) {
    if (!lb_str_ends(name, lb_str_c(tail)))
        return false;
    *stem = lb_str_sub(name, 0, name.len - strlen(tail));
    return true;
}

static lb_status add_sums(reader *r, const lb_tensor *t, lb_str name) {
    lb_imatrix_entry *e = &r->im->entries[r->im->n_entries++];
    *e = (lb_imatrix_entry){.name = name, .n_values = t->n_elems, .off_bytes = t->off_bytes};
    if (name.len == 0)
        return bad(r, t->name, "of no tensor's name");
    if (t->dtype != LB_F32)
        return bad(r, name, "its sums are not f32");
    if (t->n_elems == 0)
        return bad(r, name, "has no values");
    e->n_cols = t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1;
    e->n_mats = e->n_values / e->n_cols;
    return LB_OK;
}

/* As many counts as matrices, or one for all. llama.cpp goes by the numbers of elements only. */
static lb_status add_counts(reader *r, const lb_tensor *t, lb_str name) {
    lb_imatrix_entry *e = find(r->im, name);
    u64 n = t->n_elems;
    float *counts;
    if (!e)
        return bad(r, name, "has counts (" COUNTS ") and no sums (" SUMS ")");
    if (t->dtype != LB_F32)
        return bad(r, name, "its counts are not f32");
    if (n == 0 || e->n_values % n != 0 || (n > 1 && e->n_mats > 1 && n != e->n_mats))
        return lb_fail(r->err, LB_E_FORMAT,
                       "%s: importance of '%.*s': %llu counts for %llu values in %llu matrices",
                       r->c->path, LB_FMT(name), ull(n), ull(e->n_values), ull(e->n_mats));
    if (n > 1) {
        e->n_mats = n;
        e->n_cols = e->n_values / n;
    }
    e->n_counts = n;
    LB_TRY(room_for_counts(r, n, &counts));
    LB_TRY(read_at(r->c, t->off_bytes, counts, n * sizeof *counts, r->err));
    return take_counts(r, e, counts);
}

static lb_status read_tensors(reader *r) {
    const lb_imatrix_dir *d = r->dir;
    lb_imatrix *im = r->im;
    lb_str name;
    u64 n = 0;
    for (u64 i = 0; i < d->n_tensors; i++)
        n += lb_str_ends(d->tensors[i].name, LB_STR(SUMS));
    if (n > LB_IMATRIX_ENTRIES_MAX)
        return too_many(r, "the number of entries", n, LB_IMATRIX_ENTRIES_MAX);
    im->entries = lb_arena_new(r->perm, lb_imatrix_entry, n + 1);
    if (!im->entries)
        return no_memory(r);
    for (u64 i = 0; i < d->n_tensors; i++) {
        const lb_tensor *t = &d->tensors[i];
        if (stem_of(t->name, SUMS, &name)) {
            LB_TRY(add_sums(r, t, name));
        } else if (!lb_str_ends(t->name, LB_STR(COUNTS))) {
            im->first_other = im->n_other++ ? im->first_other : t->name;
        }
    }
    LB_TRY(sort_entries(r));
    for (u64 i = 0; i < d->n_tensors; i++)
        if (stem_of(d->tensors[i].name, COUNTS, &name))
            LB_TRY(add_counts(r, &d->tensors[i], name));
    for (u64 i = 0; i < im->n_entries; i++)
        if (!im->entries[i].counts)
            return bad(r, im->entries[i].name, "has sums (" SUMS ") and no counts (" COUNTS ")");
    return LB_OK;
}

static lb_status parse_gguf(reader *r) {
    lb_gguf_dir g = {.perm = r->perm, .scratch = r->scratch};
    LB_TRY(lb_gguf_parse(r->c, &g, r->err));
    r->dir->meta = g.meta;
    r->dir->tensors = g.tensors;
    r->dir->n_tensors = g.n_tensors;
    if (!lb_imatrix_is(&g.meta))
        return lb_fail(r->err, LB_E_FORMAT,
                       "%s: no importance matrix: a GGUF whose general.type is not 'imatrix'",
                       r->c->path);
    LB_TRY(read_keys(r));
    return read_tensors(r);
}

/* ---- legacy ---- */

bool lb_imatrix_probe(const u8 *head, size_t n) {
    if (n < 9)
        return false;
    u32 n_entries = lb_load_u32(head), len = lb_load_u32(head + 4);
    if (n_entries < 1 || n_entries > LB_IMATRIX_ENTRIES_MAX || len < 1 || len > LB_IMATRIX_NAME_MAX)
        return false;
    for (size_t i = 8; i < LB_MIN(n, (size_t)len + 8); i++)
        if (head[i] <= ' ' || head[i] > '~')
            return false;
    return true;
}

/* A number that the format stores as i32. */
static lb_status read_i32(reader *r, u64 min, u64 max, const char *what, u64 *out) {
    u32 v;
    LB_TRY(lb_cur_u32(r->c, &v, what, r->err));
    *out = v;
    if (v < min || v > INT32_MAX)
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos - 4, "%s: importance matrix: %s is %d",
                          r->c->path, what, (i32)v);
    return v > max ? too_many(r, what, v, max) : LB_OK;
}

static lb_status read_legacy_name(reader *r, u64 i, lb_str *name) {
    u64 len;
    LB_TRY(read_i32(r, 1, LB_IMATRIX_NAME_MAX, "the length of a name", &len));
    LB_TRY(lb_cur_str(r->c, len, r->perm, name, "the name of an entry", r->err));
    if (memchr(name->ptr, 0, name->len) || !lb_str_is_utf8(*name))
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos - len,
                          "%s: importance matrix: the name of entry %llu is no text", r->c->path,
                          ull(i));
    return LB_OK;
}

static lb_status read_legacy_entry(reader *r, u64 i) {
    lb_imatrix_entry *e = &r->im->entries[i];
    lb_tensor *t = &r->dir->tensors[i];
    u64 n_calls;
    float *counts;
    LB_TRY(read_legacy_name(r, i, &e->name));
    lb_status st = read_i32(r, 0, INT32_MAX, "the number of calls", &n_calls);
    if (st == LB_OK)
        st = read_i32(r, 1, INT32_MAX, "the number of values", &e->n_values);
    e->off_bytes = r->c->pos;
    if (st == LB_OK)
        st = lb_cur_skip(r->c, e->n_values * sizeof(float), "the values of an entry", r->err);
    if (st == LB_E_FORMAT)
        lb_err_context(r->err, "importance of '%.*s'", LB_FMT(e->name));
    LB_TRY(st);
    e->n_mats = e->n_counts = 1;
    e->n_cols = e->n_values;
    LB_TRY(room_for_counts(r, 1, &counts));
    *counts = (float)n_calls;
    *t = (lb_tensor){.name = e->name,
                     .dtype = LB_F32,
                     .shape = {.rank = 1, .dim = {e->n_values}},
                     .n_elems = e->n_values,
                     .off_bytes = e->off_bytes,
                     .size_bytes = e->n_values * sizeof(float)};
    r->im->n_entries++;
    return take_counts(r, e, counts);
}

static lb_status read_trailer(reader *r) {
    lb_imatrix *im = r->im;
    u64 len;
    if (lb_cur_left(r->c) == 0)
        return LB_OK;
    LB_TRY(read_i32(r, 0, INT32_MAX, "the number of chunks", &im->chunk_count));
    LB_TRY(read_i32(r, 0, LB_IMATRIX_DATASET_MAX, "the length of the dataset's name", &len));
    im->has_chunks = true;
    im->datasets = lb_arena_new(r->perm, lb_str, 1);
    if (!im->datasets)
        return no_memory(r);
    LB_TRY(lb_cur_str(r->c, len, r->perm, im->datasets, "the dataset's name", r->err));
    im->n_datasets = len > 0;
    if (len && memchr(im->datasets->ptr, 0, len))
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos - len,
                          "%s: importance matrix: the dataset's name holds a NUL byte", r->c->path);
    if (lb_cur_left(r->c))
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos,
                          "%s: importance matrix: %llu bytes more behind its end at %llu",
                          r->c->path, ull(lb_cur_left(r->c)), ull(r->c->pos));
    return LB_OK;
}

static lb_status parse_legacy(reader *r) {
    u64 n;
    r->im->legacy = true;
    LB_TRY(read_i32(r, 0, LB_IMATRIX_ENTRIES_MAX, "the number of entries", &n));
    if (n > lb_cur_left(r->c) / LEGACY_ENTRY_MIN)
        return lb_fail(r->err, LB_E_FORMAT,
                       "%s: importance matrix: %llu entries do not fit the file: it is damaged or "
                       "cut off",
                       r->c->path, ull(n));
    r->im->entries = lb_arena_new(r->perm, lb_imatrix_entry, n + 1);
    r->dir->tensors = lb_arena_new(r->scratch, lb_tensor, n + 1);
    if (!r->im->entries || !r->dir->tensors)
        return no_memory(r);
    for (u64 i = 0; i < n; i++)
        LB_TRY(read_legacy_entry(r, i));
    r->dir->n_tensors = n;
    LB_TRY(read_trailer(r));
    return sort_entries(r);
}

/* ---- open ---- */

lb_status lb_imatrix_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_imatrix_dir *out,
                           lb_err *err) {
    u8 head[16];
    size_t n = (size_t)LB_MIN(c->size_bytes, (u64)sizeof head);
    reader r = {c, perm, scratch, out, &out->im, err};
    *out = (lb_imatrix_dir){0};
    c->pos = 0;
    LB_TRY(lb_cur_bytes(c, head, n, "its head", err));
    c->pos = 0;
    if (lb_gguf_probe(head, n))
        LB_TRY(parse_gguf(&r));
    else if (lb_imatrix_probe(head, n))
        LB_TRY(parse_legacy(&r));
    else
        return lb_fail(err, LB_E_FORMAT,
                       "%s: no importance matrix, neither a GGUF nor a legacy one", c->path);
    if (out->im.n_entries == 0)
        return lb_fail(err, LB_E_FORMAT, "%s: importance matrix: it has no entries", c->path);
    return LB_OK;
}

/* What is read otherwise than one might think. */
static lb_status put_notes(lb_source *s, const lb_imatrix *im, lb_err *err) {
    lb_buf b = {0};
    u64 first = 0;
    while (first < im->n_entries && !im->entries[first].n_empty)
        first++;
    if (im->n_other)
        lb_buf_printf(&b, "neither sums nor counts, not read: %llu tensors, the first '%.*s'\n",
                      ull(im->n_other), LB_FMT(im->first_other));
    if (im->n_empty)
        lb_buf_printf(
            &b, "counts of zero: %llu of %llu, the first of '%.*s': nothing was measured, %s\n",
            ull(im->n_empty), ull(im->n_counts), LB_FMT(im->entries[first].name),
            im->legacy ? "values are taken as they stand" : "each column counts 1");
    lb_status st = lb_buf_status(&b, err);
    s->notes = lb_arena_str(&s->perm, lb_buf_str(&b));
    if (st == LB_OK && !s->notes.ptr)
        st = lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_buf_deinit(&b);
    return st;
}

static lb_status read_source(lb_source *s, lb_arena *scratch, lb_err *err) {
    lb_cur c;
    u32 file;
    lb_imatrix_dir *dir = lb_arena_new(&s->perm, lb_imatrix_dir, 1);
    if (!dir)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(lb_source_add_file(s, s->path, lb_os_base_name(lb_str_c(s->path)), &file, err));
    LB_TRY(lb_cur_open(&c, s->path, err));
    lb_status st = lb_imatrix_parse(&c, &s->perm, scratch, dir, err);
    lb_cur_close(&c);
    LB_TRY(st);
    for (u64 i = 0; i < dir->n_tensors; i++) {
        dir->tensors[i].file = file;
        LB_TRY(lb_source_add_tensor(s, &dir->tensors[i], err));
    }
    s->imatrix = &dir->im;
    s->gguf = dir->im.legacy ? NULL : &dir->meta;
    LB_TRY(put_notes(s, &dir->im, err));
    return lb_source_add_all_plain(s, err);
}

lb_status lb_imatrix_open(lb_source **out, const char *path, lb_err *err) {
    lb_arena scratch = {0};
    *out = NULL;
    lb_source *s = lb_source_new(LB_FORMAT_IMATRIX, path);
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_status st = read_source(s, &scratch, err);
    lb_arena_deinit(&scratch);
    if (st == LB_OK)
        *out = s;
    else
        lb_source_close(&s);
    return st;
}

/* ---- values ---- */

static bool is_sum(float v) {
    return v >= 0 && v <= FLT_MAX;
}

static lb_status no_sum(const lb_imatrix_entry *e, u64 at, float v, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT,
                   "importance of '%.*s': value %llu of column %llu is %g, no sum of squares",
                   LB_FMT(e->name), ull(at), ull(at % e->n_cols), (double)v);
}

lb_status lb_imatrix_values(const lb_imatrix *im, const lb_imatrix_entry *e, u64 first, u64 n,
                            float *values, lb_err *err) {
    LB_ASSERT(first <= e->n_values && n <= e->n_values - first);
    for (u64 done = 0; done < n;) {
        u64 mat = (first + done) / e->n_cols;
        u64 end = LB_MIN((mat + 1) * e->n_cols - first, n); /* of this matrix */
        float count = e->counts[e->n_counts > 1 ? mat : 0];
        for (; done < end; done++) {
            float v = values[done];
            if (!is_sum(v))
                return no_sum(e, first + done, v, err);
            values[done] = count > 0 ? v / count : im->legacy ? v : 1;
        }
    }
    return LB_OK;
}

static lb_status read_raw(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 first,
                          u64 n, float *out, lb_err *err) {
    int fd;
    LB_ASSERT(first <= e->n_values && n <= e->n_values - first);
    LB_TRY(lb_fds_get(fds, 0, &fd, err));
    lb_status st = lb_os_pread(fd, s->files[0].path, out, n * sizeof *out,
                               e->off_bytes + first * sizeof *out, err);
    lb_fds_put(fds, 0);
    return st;
}

lb_status lb_imatrix_sums(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 first,
                          u64 n, float *out, lb_err *err) {
    LB_TRY(read_raw(s, fds, e, first, n, out, err));
    for (u64 i = 0; i < n; i++)
        if (!is_sum(out[i])) {
            lb_status st = no_sum(e, first + i, out[i], err);
            lb_err_context(err, "%s", s->files[0].path);
            return st;
        }
    return LB_OK;
}

lb_status lb_imatrix_read(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 first,
                          u64 n, float *out, lb_err *err) {
    const char *path = s->files[0].path;
    LB_TRY(read_raw(s, fds, e, first, n, out, err));
    lb_status st = lb_imatrix_values(s->imatrix, e, first, n, out, err);
    if (st != LB_OK)
        lb_err_context(err, "%s", path);
    return st;
}

lb_status lb_imatrix_check(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e,
                           lb_err *err) {
    float tile[4096];
    for (u64 at = 0; at < e->n_values; at += LB_LEN(tile))
        LB_TRY(
            lb_imatrix_read(s, fds, e, at, LB_MIN(e->n_values - at, (u64)LB_LEN(tile)), tile, err));
    return LB_OK;
}
