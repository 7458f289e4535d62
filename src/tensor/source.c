/* SPDX-License-Identifier: Apache-2.0 */
/* source.c: the lists of a source and the checks that every reader's entries pass.
 *
 * After lb_source_add_tensor a tensor can be read without further checks: its file exists and had
 * the recorded size, its range lies inside it, and its size is what type and shape say. That ranges
 * do not overlap is the reader's to check: the formats have different rules. */
#include "tensor/source.h"
#include "base/os.h"

static unsigned long long ull(u64 v) {
    return v;
}

const char *lb_format_name(lb_format f) {
    static const char *const names[] = {"safetensors", "hf", "mlx", "gguf", "pytorch", "imatrix"};
    return (size_t)f < LB_LEN(names) ? names[f] : "unknown";
}

lb_source *lb_source_new(lb_format format, const char *path) {
    lb_source *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return NULL;
    s->format = format;
    s->path = lb_arena_str(&s->perm, lb_str_c(path)).ptr;
    s->label = s->path ? lb_os_base_name(lb_str_c(s->path)) : LB_STR_NONE;
    if (!s->path)
        lb_source_close(&s);
    return s;
}

void lb_source_close(lb_source **s) {
    if (!*s)
        return;
    for (u32 i = 0; i < (*s)->n_inputs; i++)
        lb_source_close(&(*s)->inputs[i]);
    if ((*s)->made_fd)
        lb_os_close((*s)->made_fd);
    lb_names_deinit(&(*s)->tensor_by_name);
    lb_names_deinit(&(*s)->weight_by_name);
    lb_free((*s)->tensors);
    lb_free((*s)->weights);
    lb_arena_deinit(&(*s)->perm);
    lb_free(*s);
    *s = NULL;
}

/* Room for one more entry behind the n of a list. Capacities are powers of two from LIST_MIN, so
 * they follow from n; a list that has grown leaves its old copies in the arena, together less than
 * the new. */
#define LIST_MIN 16
static void *list_room(lb_arena *perm, void *list, u64 n, size_t size_bytes, size_t align) {
    if (n && (n < LIST_MIN || (n & (n - 1)) != 0))
        return list;
    void *wider = lb_arena_push_array(perm, n ? n * 2 : LIST_MIN, size_bytes, align);
    if (wider && n)
        memcpy(wider, list, (size_t)n * size_bytes);
    return wider;
}
#define LIST_ROOM(perm, type, list, n) \
    ((type *)list_room((perm), (list), (n), sizeof(type), _Alignof(type)))

/* The same for the two long lists, on the heap: blocks of their size are moved by the system. */
static bool long_list_room(void **list, u64 n, u64 *cap, size_t size_bytes) {
    if (n < *cap)
        return true;
    u64 want = LB_MAX(*cap + *cap / 2, (u64)LIST_MIN);
    void *wider = lb_realloc(*list, (size_t)want * size_bytes);
    if (!wider)
        return false;
    *list = wider;
    *cap = want;
    return true;
}

static lb_str tensor_name(const void *list, u64 i) {
    return ((const lb_source *)list)->tensors[i].name;
}

static lb_str weight_name(const void *list, u64 i) {
    return ((const lb_source *)list)->weights[i].name;
}

static lb_status no_memory(const lb_source *s, lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "%s: out of memory while reading its directory", s->path);
}

lb_status lb_source_add_file(lb_source *s, const char *path, lb_str name, u32 *index, lb_err *err) {
    lb_fstat info;
    if (!lb_str_is_file_name(name))
        return lb_fail(err, LB_E_FORMAT, "%s: \"%.*s\" is not a plain file name", s->path,
                       LB_FMT(name));
    if (s->n_files >= UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%s: more than %u files", s->path, UINT32_MAX);
    LB_TRY(lb_os_stat(path, &info, err));
    if (!info.is_file)
        return lb_fail(err, LB_E_FORMAT, "%s: not a regular file", path);
    lb_file f = {
        .path = lb_arena_str(&s->perm, lb_str_c(path)).ptr,
        .name = lb_arena_str(&s->perm, name),
        .size_bytes = info.size_bytes,
        .dev = info.dev,
        .ino = info.ino,
        .mtime_ns = info.mtime_ns,
    };
    lb_file *files = LIST_ROOM(&s->perm, lb_file, s->files, s->n_files);
    if (!f.path || !f.name.ptr || !files)
        return no_memory(s, err);
    s->files = files;
    *index = (u32)s->n_files;
    s->files[s->n_files++] = f;
    return LB_OK;
}

bool lb_tensor_stride(const lb_tensor *t, u64 *out) {
    u64 rows, cols, size = lb_dtype_get(t->dtype)->block_bytes, n = t->size_bytes / size;
    lb_shape_matrix(&t->shape, &rows, &cols);
    u64 lines = t->lies == LB_LIES_TURNED ? cols : rows;
    u64 line = t->lies == LB_LIES_TURNED ? rows : cols;
    if (lines < 2 || line < 2 || t->size_bytes % size || n < line || (n - line) % (lines - 1))
        return false;
    *out = (n - line) / (lines - 1);
    return *out >= line;
}

/* Sets n_elems; the rest is compared with what type and shape say. */
static lb_status check_tensor(const lb_source *s, lb_tensor *t, lb_err *err) {
    char shape[LB_SHAPE_TEXT];
    u64 bytes, stride;
    const lb_file *f = &s->files[t->file];
    const lb_dtype_info *d = lb_dtype_get(t->dtype);
    if (t->shape.rank > LB_RANK_MAX)
        return lb_fail_at(err, LB_E_LIMIT, t->off_bytes,
                          "%s: tensor '%.*s': %u dimensions; at most %d", f->path, LB_FMT(t->name),
                          t->shape.rank, LB_RANK_MAX);
    lb_shape_text(&t->shape, shape);
    if (!lb_shape_elems(&t->shape, &t->n_elems))
        return lb_fail_at(err, LB_E_FORMAT, t->off_bytes,
                          "%s: tensor '%.*s': shape %s has more than 2^64 elements", f->path,
                          LB_FMT(t->name), shape);
    u64 row = t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1;
    if (d->cls == LB_CLASS_BLOCK && row % d->block_elems != 0)
        return lb_fail_at(
            err, LB_E_FORMAT, t->off_bytes,
            "%s: tensor '%.*s': rows of %llu elements are no whole number of %s blocks "
            "of %u",
            f->path, LB_FMT(t->name), ull(row), d->name, d->block_elems);
    if (!lb_dtype_bytes(t->dtype, t->n_elems, &bytes))
        return lb_fail_at(err, LB_E_FORMAT, t->off_bytes,
                          "%s: tensor '%.*s': %llu elements of %s are no whole number of bytes, or "
                          "more than 2^64",
                          f->path, LB_FMT(t->name), ull(t->n_elems), d->name);
    if (t->lies == LB_LIES_DENSE ? bytes != t->size_bytes : !lb_tensor_stride(t, &stride))
        return lb_fail_at(err, LB_E_FORMAT, t->off_bytes,
                          "%s: tensor '%.*s': %s of shape %s needs %llu bytes, its range has %llu",
                          f->path, LB_FMT(t->name), d->name, shape, ull(bytes), ull(t->size_bytes));
    if (t->off_bytes > f->size_bytes || t->size_bytes > f->size_bytes - t->off_bytes)
        return lb_fail_at(
            err, LB_E_FORMAT, t->off_bytes,
            "%s: tensor '%.*s': %llu bytes at %llu go past the file's end at %llu: the "
            "file is damaged or incomplete",
            f->path, LB_FMT(t->name), ull(bytes), ull(t->off_bytes), ull(f->size_bytes));
    return LB_OK;
}

lb_status lb_source_add_tensor(lb_source *s, const lb_tensor *t, lb_err *err) {
    lb_tensor checked = *t;
    u64 first;
    LB_ASSERT(t->file < s->n_files);
    LB_TRY(check_tensor(s, &checked, err));
    if (s->n_tensors >= UINT32_MAX - 1) /* a weight names its parts by u32 */
        return lb_fail(err, LB_E_LIMIT, "%s: more than %u tensors", s->path, UINT32_MAX);
    if (!long_list_room((void **)&s->tensors, s->n_tensors, &s->cap_tensors, sizeof *s->tensors))
        return no_memory(s, err);
    s->tensors[s->n_tensors] = checked;
    LB_TRY(lb_names_put(&s->tensor_by_name, tensor_name, s, s->n_tensors, &first, err));
    if (first != s->n_tensors)
        return lb_fail_at(err, LB_E_FORMAT, t->off_bytes,
                          "%s: tensor '%.*s' is named twice: in %.*s and in %.*s", s->path,
                          LB_FMT(t->name), LB_FMT(s->files[s->tensors[first].file].name),
                          LB_FMT(s->files[t->file].name));
    s->n_tensors++;
    return LB_OK;
}

lb_status lb_source_add_computed(lb_source *s, lb_str name, lb_dtype dtype, const lb_shape *shape,
                                 lb_err *err) {
    lb_tensor t = {.name = name, .dtype = dtype, .shape = *shape};
    u64 first;
    if (!lb_shape_elems(shape, &t.n_elems) || !lb_dtype_bytes(dtype, t.n_elems, &t.size_bytes))
        return lb_fail(err, LB_E_LIMIT, "%s: tensor '%.*s' is too large", s->path, LB_FMT(name));
    if (!long_list_room((void **)&s->tensors, s->n_tensors, &s->cap_tensors, sizeof *s->tensors))
        return no_memory(s, err);
    s->tensors[s->n_tensors] = t;
    LB_TRY(lb_names_put(&s->tensor_by_name, tensor_name, s, s->n_tensors, &first, err));
    if (first != s->n_tensors)
        return lb_fail(err, LB_E_FORMAT, "%s: tensor '%.*s' is made twice", s->path, LB_FMT(name));
    s->n_tensors++;
    return lb_source_add_plain(s, s->n_tensors - 1, err);
}

lb_status lb_source_add_weight(lb_source *s, const lb_weight *w, lb_err *err) {
    u64 first;
    LB_ASSERT(w->n_parts >= 1 && w->n_parts <= LB_PARTS_MAX);
    for (u32 i = 0; i < w->n_parts; i++)
        LB_ASSERT(w->part[i] < s->n_tensors);
    for (u32 i = 0; i < w->n_parts; i++)
        if (s->tensors[w->part[i]].lies && w->enc.kind != LB_ENC_VIEW)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "%s: tensor '%.*s' is a view of another and part of a quantized weight: "
                           "not supported, save it with .contiguous()",
                           s->path, LB_FMT(s->tensors[w->part[i]].name));
    if (!long_list_room((void **)&s->weights, s->n_weights, &s->cap_weights, sizeof *s->weights))
        return no_memory(s, err);
    s->weights[s->n_weights] = *w;
    LB_TRY(lb_names_put(&s->weight_by_name, weight_name, s, s->n_weights, &first, err));
    if (first != s->n_weights)
        return lb_fail(err, LB_E_FORMAT, "%s: weight '%.*s' is named twice", s->path,
                       LB_FMT(w->name));
    s->n_weights++;
    return LB_OK;
}

lb_status lb_source_add_plain(lb_source *s, u64 i, lb_err *err) {
    const lb_tensor *t = &s->tensors[i];
    lb_weight w = {.name = t->name, .shape = t->shape, .n_parts = 1, .part = {(u32)i}};
    if (t->lies)
        w.enc = (lb_enc){.kind = LB_ENC_VIEW, .turned = t->lies == LB_LIES_TURNED};
    return lb_source_add_weight(s, &w, err);
}

lb_status lb_source_add_all_plain(lb_source *s, lb_err *err) {
    for (u64 i = 0; i < s->n_tensors; i++)
        LB_TRY(lb_source_add_plain(s, i, err));
    return LB_OK;
}

void lb_source_trim(lb_source *s) {
    lb_tensor *t = lb_realloc(s->tensors, (size_t)s->n_tensors * sizeof *t);
    lb_weight *w = lb_realloc(s->weights, (size_t)s->n_weights * sizeof *w);
    s->tensors = t ? t : s->tensors;
    s->weights = w ? w : s->weights;
    s->cap_tensors = t ? s->n_tensors : s->cap_tensors;
    s->cap_weights = w ? s->n_weights : s->cap_weights;
}

const lb_tensor *lb_source_tensor(const lb_source *s, lb_str name) {
    u64 i;
    return lb_names_find(&s->tensor_by_name, tensor_name, s, name, &i) ? &s->tensors[i] : NULL;
}

const lb_weight *lb_source_weight(const lb_source *s, lb_str name) {
    u64 i;
    return lb_names_find(&s->weight_by_name, weight_name, s, name, &i) ? &s->weights[i] : NULL;
}

/* Sorted by name, bytewise. */
lb_status lb_side_read(const lb_side_file *f, u64 max_bytes, lb_arena *a, lb_str *out,
                       lb_err *err) {
    *out = f->bytes;
    return f->path ? lb_os_read_file(f->path, max_bytes, a, out, err) : LB_OK;
}

lb_status lb_side_open(lb_cur *c, const lb_side_file *f, lb_err *err) {
    if (f->path)
        return lb_cur_open(c, f->path, err);
    lb_cur_mem(c, f->name.ptr, f->bytes.ptr, f->bytes.len);
    return LB_OK;
}

const lb_side_file *lb_source_side(const lb_source *s, lb_str name) {
    u64 lo = 0, hi = s->n_sides;
    while (lo < hi) {
        u64 mid = lo + (hi - lo) / 2;
        int c = lb_str_cmp(s->sides[mid].name, name);
        if (c == 0)
            return &s->sides[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
