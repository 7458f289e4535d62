/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c: parsing the directory of one GGUF file.
 *
 *     magic, u32 version, u64 n_tensors, u64 n_kv
 *     n_kv pairs:         string key, u32 type, value      string = u64 length, bytes
 *     n_tensors infos:    string name, u32 n_dims, u64 ne[n_dims], u32 type, u64 offset
 *     zeros up to a multiple of general.alignment, then the data section
 *
 * The rule everywhere: a count is compared with the bytes that are left before anything is
 * allocated for it. Format and limits: ggml/src/gguf.cpp (gguf_init_from_reader) of
 * llama-cpp-python 0.3.36. */
#include "format/gguf.h"

typedef struct reader {
    lb_cur *c;
    lb_gguf_dir *dir;
    u64 max; /* the header may not go beyond this byte */
    u64 n_kv;
    lb_names names; /* of tensors: finds duplicates */
    lb_err *err;
} reader;

/* Smallest encodings, for testing counts: key length + 1 byte + type + 1 byte of value; name length
 * + 1 byte + n_dims + type + offset. */
#define KV_BYTES_MIN (8 + 1 + 4 + 1)
#define INFO_BYTES_MIN (8 + 1 + 4 + 4 + 8)

#define SHOWN 100 /* bytes of a key that a message shows */

bool lb_gguf_probe(const u8 *head, size_t n) {
    return n >= 4 && lb_load_u32(head) == LB_GGUF_MAGIC;
}

/* ---- bounded reads ---- */

/* Tests that n more bytes exist before they are read or allocated for. */
static lb_status need(reader *r, u64 n, const char *what) {
    u64 left = lb_cur_left(r->c);
    if (n > left)
        return lb_fail_at(
            r->err, LB_E_FORMAT, r->c->pos,
            "%s needs %llu bytes but the file has %llu left: it is damaged or cut off", what,
            (unsigned long long)n, (unsigned long long)left);
    if (r->c->pos > r->max || n > r->max - r->c->pos)
        return lb_fail_at(r->err, LB_E_LIMIT, r->c->pos,
                          "%s goes beyond the limit of %llu bytes for GGUF metadata", what,
                          (unsigned long long)r->max);
    return LB_OK;
}

static lb_status need_array(reader *r, u64 n, u64 size_bytes, const char *what) {
    u64 bytes;
    if (!lb_mul_u64(n, size_bytes, &bytes))
        bytes = UINT64_MAX;
    return need(r, bytes, what);
}

static lb_status read_u32(reader *r, u32 *out, const char *what) {
    LB_TRY(need(r, 4, what));
    return lb_cur_u32(r->c, out, what, r->err);
}

static lb_status read_u64(reader *r, u64 *out, const char *what) {
    LB_TRY(need(r, 8, what));
    return lb_cur_u64(r->c, out, what, r->err);
}

static lb_status read_str(reader *r, lb_str *out, const char *what) {
    u64 len;
    LB_TRY(read_u64(r, &len, what));
    LB_TRY(need(r, len, what));
    return lb_cur_str(r->c, len, r->dir->perm, out, what, r->err);
}

static lb_status no_memory(reader *r) {
    return lb_fail(r->err, LB_E_NOMEM, "out of memory for GGUF metadata");
}

/* Keys and names: shown, written to JSON and compared by other tools as C strings. */
static lb_status check_text(reader *r, lb_str s, const char *what, u64 at, u64 off) {
    const char *fault = NULL;
    if (s.len == 0)
        fault = "is empty";
    else if (memchr(s.ptr, 0, s.len))
        fault = "holds a NUL byte";
    else if (!lb_str_is_utf8(s))
        fault = "is not UTF-8";
    if (!fault)
        return LB_OK;
    return lb_fail_at(r->err, LB_E_FORMAT, off, "%s %llu %s", what, (unsigned long long)at, fault);
}

/* ---- header ---- */

static lb_status read_version(reader *r) {
    u32 magic, v;
    LB_TRY(read_u32(r, &magic, "the GGUF magic"));
    if (magic != LB_GGUF_MAGIC)
        return lb_fail_at(r->err, LB_E_FORMAT, 0, "not a GGUF file: it begins with bytes %08x",
                          __builtin_bswap32(magic));
    LB_TRY(read_u32(r, &v, "the GGUF version"));
    r->dir->version = v;
    if (v == 2 || v == 3)
        return LB_OK;
    if (v == 1)
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, 4,
                          "GGUF version 1 is not supported: convert the model again");
    if (v != 0 && (v & 0xffff) == 0)
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, 4,
                          "big-endian GGUF (version %u) is not supported: turn it with "
                          "gguf_convert_endian",
                          __builtin_bswap32(v));
    return lb_fail_at(r->err, LB_E_UNSUPPORTED, 4, "GGUF version %u is not supported: 2 and 3 are",
                      v);
}

static lb_status read_counts(reader *r) {
    LB_TRY(read_u64(r, &r->dir->n_tensors, "the number of tensors"));
    LB_TRY(read_u64(r, &r->n_kv, "the number of key-value pairs"));
    if (r->n_kv > lb_cur_left(r->c) / KV_BYTES_MIN)
        return lb_fail_at(r->err, LB_E_FORMAT, 16,
                          "%llu key-value pairs do not fit the file: it is damaged or cut off",
                          (unsigned long long)r->n_kv);
    if (r->n_kv > LB_GGUF_KEYS_MAX)
        return lb_fail_at(r->err, LB_E_LIMIT, 16, "%llu key-value pairs, the limit is %d",
                          (unsigned long long)r->n_kv, LB_GGUF_KEYS_MAX);
    if (r->dir->n_tensors > lb_cur_left(r->c) / INFO_BYTES_MIN)
        return lb_fail_at(r->err, LB_E_FORMAT, 8,
                          "%llu tensors do not fit the file: it is damaged or cut off",
                          (unsigned long long)r->dir->n_tensors);
    return LB_OK;
}

/* ---- key-value pairs ---- */

static lb_status read_strings(reader *r, lb_texts *t, u64 n) {
    for (u64 i = 0; i < n; i++) {
        u64 len;
        LB_TRY(read_u64(r, &len, "a string of an array"));
        LB_TRY(need(r, len, "a string of an array"));
        lb_err err = {0};
        u8 *p = lb_texts_push(t, len, &err);
        if (!p)
            return lb_fail_at(r->err, err.code, r->c->pos, "%s", err.msg);
        LB_TRY(lb_cur_bytes(r->c, p, len, "a string of an array", r->err));
    }
    return LB_OK;
}

static lb_status read_str_array(reader *r, lb_gguf_kv *kv) {
    LB_TRY(need_array(r, kv->n, 8, "an array of strings"));
    lb_texts list = {0}, *t = lb_arena_new(r->dir->perm, lb_texts, 1);
    lb_status st = t ? lb_texts_reserve(&list, kv->n, 0, r->err) : no_memory(r);
    if (st == LB_OK)
        st = read_strings(r, &list, kv->n);
    if (st != LB_OK) {
        lb_texts_deinit(&list);
        return st;
    }
    if (!lb_texts_keep(&list, r->dir->perm))
        return no_memory(r);
    *t = list;
    kv->v.texts = t;
    return LB_OK;
}

static lb_status read_array(reader *r, lb_gguf_kv *kv) {
    u32 elem;
    LB_TRY(read_u32(r, &elem, "the type of an array"));
    LB_TRY(read_u64(r, &kv->n, "the length of an array"));
    kv->elem = (lb_gguf_type)elem;
    if (elem == LB_GGUF_STR)
        return read_str_array(r, kv);
    if (elem == LB_GGUF_ARRAY)
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, r->c->pos,
                          "an array of arrays is not supported");
    u32 size = lb_gguf_type_bytes(kv->elem);
    if (size == 0)
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos, "no array type %u", elem);
    LB_TRY(need_array(r, kv->n, size, "an array"));
    u8 *bytes = lb_arena_push_array(r->dir->perm, kv->n, size, 8);
    if (!bytes && kv->n > 0)
        return no_memory(r);
    kv->v.array = bytes;
    if (kv->n > 0)
        LB_TRY(lb_cur_bytes(r->c, bytes, kv->n * size, "an array", r->err));
    for (u64 i = 0; elem == LB_GGUF_BOOL && i < kv->n; i++)
        bytes[i] = bytes[i] != 0; /* as gguf.cpp reads them */
    return LB_OK;
}

static lb_status read_value(reader *r, lb_gguf_kv *kv) {
    u64 off = r->c->pos;
    u32 type;
    LB_TRY(read_u32(r, &type, "the type of a value"));
    kv->type = (lb_gguf_type)type;
    if (type == LB_GGUF_STR)
        return read_str(r, &kv->v.s, "a string value");
    if (type == LB_GGUF_ARRAY)
        return read_array(r, kv);
    u8 bytes[8];
    u32 size = lb_gguf_type_bytes(kv->type);
    if (size == 0)
        return lb_fail_at(r->err, LB_E_FORMAT, off, "no value type %u", type);
    LB_TRY(need(r, size, "a value"));
    LB_TRY(lb_cur_bytes(r->c, bytes, size, "a value", r->err));
    (void)lb_kv_load(kv, kv->type, bytes);
    return LB_OK;
}

static lb_status read_kv(reader *r, u64 i) {
    u64 off = r->c->pos;
    lb_gguf_kv kv = {0};
    LB_TRY(read_str(r, &kv.key, "a key"));
    LB_TRY(check_text(r, kv.key, "key", i, off));
    lb_status st = read_value(r, &kv);
    if (st == LB_E_FORMAT || st == LB_E_UNSUPPORTED || st == LB_E_LIMIT)
        lb_err_context(r->err, "key '%.*s'", LB_FMT(lb_str_sub(kv.key, 0, SHOWN)));
    LB_TRY(st);
    st = lb_meta_adopt(&r->dir->meta, &kv, r->err);
    if (st == LB_E_FORMAT && r->err)
        r->err->off = off;
    return st;
}

static lb_status read_alignment(reader *r) {
    const lb_gguf_kv *kv = lb_meta_find(&r->dir->meta, LB_GGUF_KEY_ALIGN);
    r->dir->align_bytes = LB_GGUF_ALIGN_DEFAULT;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_U32)
        return lb_fail(r->err, LB_E_FORMAT, "key '%s' must be a u32, not %s", LB_GGUF_KEY_ALIGN,
                       lb_gguf_type_name(kv->type));
    u64 align = kv->v.u;
    if (align == 0 || (align & (align - 1)) != 0)
        return lb_fail(r->err, LB_E_FORMAT, "key '%s' is %llu, which is no power of two",
                       LB_GGUF_KEY_ALIGN, (unsigned long long)align);
    r->dir->align_bytes = (u32)align;
    return LB_OK;
}

/* ---- tensor infos ---- */

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_tensor *)list)[i].name;
}

static lb_status read_name(reader *r, u64 i, lb_str *name) {
    u64 off = r->c->pos, len, first;
    LB_TRY(read_u64(r, &len, "a tensor name"));
    if (len > LB_GGUF_NAME_MAX)
        return lb_fail_at(r->err, LB_E_FORMAT, off,
                          "the name of tensor %llu has %llu bytes, the limit is %d",
                          (unsigned long long)i, (unsigned long long)len, LB_GGUF_NAME_MAX);
    LB_TRY(need(r, len, "a tensor name"));
    LB_TRY(lb_cur_str(r->c, len, r->dir->perm, name, "a tensor name", r->err));
    LB_TRY(check_text(r, *name, "the name of tensor", i, off));
    LB_TRY(lb_names_put(&r->names, name_of, r->dir->tensors, i, &first, r->err));
    if (first != i)
        return lb_fail_at(r->err, LB_E_FORMAT, off, "tensor '%.*s' appears twice", LB_FMT(*name));
    return LB_OK;
}

/* Reads ne, fastest first, into t->shape, slowest first. The product of the dims that are not 0
 * stays below 2^63 by the test of ggml_new_tensor, which aborts where it fails. */
static lb_status read_shape(reader *r, lb_tensor *t) {
    u64 off = r->c->pos, n = 1;
    bool empty = false;
    u32 rank;
    LB_TRY(read_u32(r, &rank, "the number of dimensions"));
    if (rank > LB_GGUF_RANK_MAX)
        return lb_fail_at(r->err, LB_E_FORMAT, off,
                          "tensor '%.*s' has %u dimensions, the limit is %d", LB_FMT(t->name), rank,
                          LB_GGUF_RANK_MAX);
    t->shape.rank = rank;
    for (u32 i = 0; i < rank; i++) {
        u64 d;
        LB_TRY(read_u64(r, &d, "a dimension"));
        if (d > INT64_MAX || (i > 0 && d > 1 && INT64_MAX / d <= n))
            return lb_fail_at(r->err, LB_E_FORMAT, off,
                              "tensor '%.*s': dimension %u is %llu: more elements than 2^63",
                              LB_FMT(t->name), i, (unsigned long long)d);
        n *= d > 0 ? d : 1;
        empty |= d == 0;
        t->shape.dim[rank - 1 - i] = d;
    }
    t->n_elems = empty ? 0 : n;
    return LB_OK;
}

static lb_status read_type(reader *r, lb_tensor *t) {
    u64 off = r->c->pos;
    u32 id;
    LB_TRY(read_u32(r, &id, "a tensor type"));
    if (!lb_dtype_find_ggml(id, &t->dtype)) {
        const char *removed = lb_dtype_ggml_removed(id);
        if (removed)
            return lb_fail_at(r->err, LB_E_UNSUPPORTED, off,
                              "tensor '%.*s' has type %u (%s): quantize the model again",
                              LB_FMT(t->name), id, removed);
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, off, "tensor '%.*s' has the unknown type %u",
                          LB_FMT(t->name), id);
    }
    const lb_dtype_info *info = lb_dtype_get(t->dtype);
    u64 row = t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1;
    if (row % info->block_elems != 0)
        return lb_fail_at(r->err, LB_E_FORMAT, off,
                          "tensor '%.*s' of type %s has rows of %llu elements, no multiple of %u",
                          LB_FMT(t->name), info->name, (unsigned long long)row, info->block_elems);
    if (!lb_dtype_bytes(t->dtype, t->n_elems, &t->size_bytes))
        return lb_fail_at(r->err, LB_E_FORMAT, off, "tensor '%.*s' has more than 2^64 bytes",
                          LB_FMT(t->name));
    return LB_OK;
}

/* *next is the padded end of the tensor before: where this one must begin. */
static lb_status read_info(reader *r, u64 i, u64 *next) {
    lb_tensor *t = &r->dir->tensors[i];
    u64 padded;
    LB_TRY(read_name(r, i, &t->name));
    LB_TRY(read_shape(r, t));
    LB_TRY(read_type(r, t));
    u64 off = r->c->pos;
    LB_TRY(read_u64(r, &t->off_bytes, "a tensor offset"));
    if (t->off_bytes != *next)
        return lb_fail_at(
            r->err, LB_E_FORMAT, off,
            "tensor '%.*s' is said to begin at %llu of the data, not at %llu where the "
            "one before ends",
            LB_FMT(t->name), (unsigned long long)t->off_bytes, (unsigned long long)*next);
    if (!lb_align_u64(t->size_bytes, r->dir->align_bytes, &padded) ||
        !lb_add_u64(*next, padded, next))
        return lb_fail_at(r->err, LB_E_FORMAT, off, "tensor '%.*s' ends beyond 2^64 bytes",
                          LB_FMT(t->name));
    return LB_OK;
}

/* From offsets in the data section to places in the file, all inside it. Padding after the last
 * tensor may be missing. */
static lb_status place(reader *r) {
    lb_gguf_dir *d = r->dir;
    u64 size = r->c->size_bytes;
    d->header_bytes = r->c->pos;
    d->data_off_bytes = r->c->pos;
    if (d->n_tensors == 0)
        return LB_OK;
    if (!lb_align_u64(r->c->pos, d->align_bytes, &d->data_off_bytes) || d->data_off_bytes > size)
        return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos,
                          "the file ends before its tensor data: it is damaged or cut off");
    u64 data_bytes = size - d->data_off_bytes;
    for (u64 i = 0; i < d->n_tensors; i++) {
        lb_tensor *t = &d->tensors[i];
        if (t->off_bytes > data_bytes || t->size_bytes > data_bytes - t->off_bytes)
            return lb_fail_at(
                r->err, LB_E_FORMAT, d->data_off_bytes,
                "tensor '%.*s' needs bytes %llu to %llu of the tensor data, the file has "
                "%llu: it is damaged or cut off",
                LB_FMT(t->name), (unsigned long long)t->off_bytes,
                (unsigned long long)(t->off_bytes + t->size_bytes), (unsigned long long)data_bytes);
        t->off_bytes += d->data_off_bytes;
    }
    return LB_OK;
}

static lb_status parse(reader *r) {
    lb_gguf_dir *d = r->dir;
    u64 next = 0;
    LB_TRY(read_version(r));
    LB_TRY(read_counts(r));
    for (u64 i = 0; i < r->n_kv; i++)
        LB_TRY(read_kv(r, i));
    LB_TRY(read_alignment(r));
    LB_TRY(need_array(r, d->n_tensors, INFO_BYTES_MIN, "the tensor list"));
    d->tensors = lb_arena_new(d->scratch, lb_tensor, d->n_tensors);
    if (!d->tensors && d->n_tensors > 0)
        return no_memory(r);
    for (u64 i = 0; i < d->n_tensors; i++)
        LB_TRY(read_info(r, i, &next));
    return place(r);
}

lb_status lb_gguf_parse(lb_cur *c, lb_gguf_dir *dir, lb_err *err) {
    u64 max = dir->header_bytes_max ? dir->header_bytes_max : LB_GGUF_HEADER_MAX;
    reader r = {.c = c, .dir = dir, .max = max, .err = err};
    *dir = (lb_gguf_dir){.perm = dir->perm, .scratch = dir->scratch, .header_bytes_max = max};
    lb_meta_init(&dir->meta, dir->perm);
    lb_status st = parse(&r);
    lb_names_deinit(&r.names);
    /* The meta goes into an arena that nobody deinitialises: its lookups walk the array from here.
     */
    lb_map_deinit(&dir->meta.by_key);
    if (st == LB_E_FORMAT || st == LB_E_UNSUPPORTED || st == LB_E_LIMIT)
        lb_err_context(err, "%s", c->path); /* the cursor's own errors have it */
    return st;
}
