/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c: the header of a safetensors file, straight from its bytes, no tree.
 *
 *   u64 n | n bytes of JSON | data
 *   {"__metadata__": {string: string}, "<name>": {"dtype": "BF16", "shape": [..], "data_offsets":
 * [b, e]}}
 *
 * One pass over the JSON fills a list in the order of the text; the list is then put in the order
 * of the data, where each tensor must begin where the one before it ends and the last must end with
 * the file: no holes, no overlap, no trailing bytes. Format: the README of huggingface/safetensors.
 */
#include "format/safetensors.h"

#include "base/os.h"
#include "format/foreign.h"
#include "io/json.h"

#include <math.h>
#include <stdlib.h>

#define LEN_BYTES 8

typedef struct parse {
    lb_json_reader r;
    lb_arena *perm;
    lb_arena scratch; /* decoded keys that are only compared */
    lb_names names;   /* tensor names of this file */
    lb_tensor *list;  /* heap; off_bytes relative to the data part until placed */
    u64 n, cap;
    lb_str metadata;
    bool has_metadata;
    u64 data_off, data_bytes;
    lb_err *err;
} parse;

/* Where the reader stands, counted in the file. */
static u64 here(const parse *p) {
    return p->r.off_base + p->r.pos;
}

static lb_status next(parse *p, lb_json_tok *tok) {
    return lb_json_next(&p->r, tok, p->err);
}

static lb_status bad(parse *p, const char *what, lb_str name, const char *want) {
    return lb_fail_at(p->err, LB_E_FORMAT, here(p), "tensor '%.*s': %s is not %s", LB_FMT(name),
                      what, want);
}

/* A decoded string that is Unicode text: json.h lets lone surrogates through, the format does not.
 */
static lb_status string(parse *p, lb_arena *arena, lb_str *out) {
    LB_TRY(lb_json_string(&p->r, arena, out, p->err));
    if (p->r.has_escape && !lb_str_is_utf8(*out))
        return lb_fail_at(p->err, LB_E_FORMAT, here(p),
                          "header: a string holds half a surrogate pair");
    return LB_OK;
}

/* Numbers and strings of fields that are skipped must still be JSON as the crate reads it. */
static lb_status check_scalar(parse *p, lb_json_tok tok) {
    if (tok == LB_JSON_KEY || tok == LB_JSON_STRING) {
        lb_str unused;
        lb_arena_reset(&p->scratch);
        return string(p, &p->scratch, &unused);
    }
    if (tok == LB_JSON_NUMBER) {
        lb_json number = {.type = LB_JNUMBER, .text = p->r.raw};
        double v;
        if (!lb_json_as_f64(&number, &v) || !isfinite(v))
            return lb_fail_at(p->err, LB_E_FORMAT, here(p), "header: '%.*s' is not a finite number",
                              LB_FMT(p->r.raw));
    }
    return LB_OK;
}

static lb_status skip_value(parse *p) {
    u64 depth = 0;
    do {
        lb_json_tok tok;
        LB_TRY(next(p, &tok));
        if (tok == LB_JSON_OBJECT || tok == LB_JSON_ARRAY)
            depth++;
        else if (tok == LB_JSON_OBJECT_END || tok == LB_JSON_ARRAY_END)
            depth--;
        else
            LB_TRY(check_scalar(p, tok));
    } while (depth > 0);
    return LB_OK;
}

/* ---- __metadata__ ---- */

static lb_status metadata_members(parse *p, lb_map *keys) {
    for (;;) {
        lb_json_tok tok;
        lb_str key, value;
        bool existed = false;
        LB_TRY(next(p, &tok));
        if (tok == LB_JSON_OBJECT_END)
            return LB_OK;
        LB_TRY(string(p, &p->scratch, &key));
        LB_TRY(lb_map_put(keys, key, 0, &existed, p->err));
        if (existed)
            return lb_fail_at(p->err, LB_E_FORMAT, here(p), "__metadata__: key '%.*s' stands twice",
                              LB_FMT(key));
        LB_TRY(next(p, &tok));
        if (tok != LB_JSON_STRING)
            return lb_fail_at(p->err, LB_E_FORMAT, here(p),
                              "__metadata__: value of '%.*s' is not a string", LB_FMT(key));
        LB_TRY(string(p, &p->scratch, &value));
    }
}

static lb_status metadata(parse *p) {
    lb_json_tok tok;
    if (p->has_metadata)
        return lb_fail_at(p->err, LB_E_FORMAT, here(p), "header: __metadata__ stands twice");
    p->has_metadata = true;
    LB_TRY(next(p, &tok));
    if (tok == LB_JSON_NULL)
        return LB_OK;
    if (tok != LB_JSON_OBJECT)
        return lb_fail_at(p->err, LB_E_FORMAT, here(p), "header: __metadata__ is not an object");
    size_t start = p->r.pos - 1;
    lb_map keys = {0};
    lb_arena_reset(&p->scratch);
    lb_status st = metadata_members(p, &keys);
    lb_map_deinit(&keys);
    LB_TRY(st);
    p->metadata = lb_arena_str(p->perm, (lb_str){p->r.ptr + start, p->r.pos - start});
    return p->metadata.ptr ? LB_OK : lb_fail(p->err, LB_E_NOMEM, "header: out of memory");
}

/* ---- one tensor ---- */

static lb_status dtype(parse *p, lb_tensor *t) {
    lb_json_tok tok;
    lb_str text;
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_STRING)
        return bad(p, "dtype", t->name, "a string");
    LB_TRY(string(p, &p->scratch, &text));
    if (!lb_dtype_find_safetensors(text, &t->dtype))
        return lb_fail_at(p->err, LB_E_UNSUPPORTED, here(p),
                          "tensor '%.*s': dtype '%.*s' is not known", LB_FMT(t->name),
                          LB_FMT(text));
    return LB_OK;
}

static lb_status shape(parse *p, lb_tensor *t) {
    lb_json_tok tok;
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_ARRAY)
        return bad(p, "shape", t->name, "an array");
    for (;;) {
        u64 dim;
        LB_TRY(next(p, &tok));
        if (tok == LB_JSON_ARRAY_END)
            return LB_OK;
        if (tok != LB_JSON_NUMBER || lb_json_u64(&p->r, &dim, NULL) != LB_OK)
            return bad(p, "shape", t->name, "a list of whole numbers from 0 to 2^64-1");
        if (t->shape.rank == LB_RANK_MAX)
            return lb_fail_at(p->err, LB_E_LIMIT, here(p),
                              "tensor '%.*s': more than %d dimensions are not supported",
                              LB_FMT(t->name), LB_RANK_MAX);
        t->shape.dim[t->shape.rank++] = dim;
    }
}

static lb_status offsets(parse *p, lb_tensor *t) {
    lb_json_tok tok;
    u64 v[2];
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_ARRAY)
        return bad(p, "data_offsets", t->name, "an array");
    for (u32 i = 0; i < 2; i++) {
        LB_TRY(next(p, &tok));
        if (tok != LB_JSON_NUMBER || lb_json_u64(&p->r, &v[i], NULL) != LB_OK)
            return bad(p, "data_offsets", t->name, "a pair of whole numbers");
    }
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_ARRAY_END)
        return bad(p, "data_offsets", t->name, "a pair of whole numbers");
    if (v[1] < v[0] || v[1] > p->data_bytes)
        return lb_fail_at(
            p->err, LB_E_FORMAT, here(p),
            "tensor '%.*s': data_offsets [%llu, %llu] lie outside the %llu bytes of data: is the "
            "file complete?",
            LB_FMT(t->name), (unsigned long long)v[0], (unsigned long long)v[1],
            (unsigned long long)p->data_bytes);
    t->off_bytes = v[0];
    t->size_bytes = v[1] - v[0];
    return LB_OK;
}

static lb_status check_size(parse *p, lb_tensor *t) {
    char text[LB_SHAPE_TEXT];
    u64 size;
    if (!lb_shape_elems(&t->shape, &t->n_elems) || !lb_dtype_bytes(t->dtype, t->n_elems, &size))
        return lb_fail_at(p->err, LB_E_FORMAT, here(p),
                          "tensor '%.*s': %s elements of %s do not fill whole bytes or overflow",
                          LB_FMT(t->name), lb_shape_text(&t->shape, text),
                          lb_dtype_get(t->dtype)->name);
    if (size != t->size_bytes)
        return lb_fail_at(p->err, LB_E_FORMAT, here(p),
                          "tensor '%.*s': %s %s needs %llu bytes, data_offsets span %llu",
                          LB_FMT(t->name), lb_dtype_get(t->dtype)->name,
                          lb_shape_text(&t->shape, text), (unsigned long long)size,
                          (unsigned long long)t->size_bytes);
    return LB_OK;
}

/* The fields of one entry; each exactly once, others are skipped as the crate does. */
static lb_status entry(parse *p, lb_tensor *t) {
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    static const struct {
        const char *name;
        u32 bit;
        lb_status (*read)(parse *, lb_tensor *);
    } fields[] = {
        {"dtype", DTYPE, dtype}, {"shape", SHAPE, shape}, {"data_offsets", OFFSETS, offsets}};
    u32 seen = 0;
    lb_json_tok tok;
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_OBJECT)
        return bad(p, "its entry", t->name, "an object");
    for (;;) {
        lb_str key;
        size_t i = 0;
        LB_TRY(next(p, &tok));
        if (tok == LB_JSON_OBJECT_END)
            break;
        lb_arena_reset(&p->scratch);
        LB_TRY(string(p, &p->scratch, &key));
        while (i < LB_LEN(fields) && !lb_str_eq_c(key, fields[i].name))
            i++;
        if (i == LB_LEN(fields)) {
            LB_TRY(skip_value(p));
            continue;
        }
        if (seen & fields[i].bit)
            return lb_fail_at(p->err, LB_E_FORMAT, here(p), "tensor '%.*s': %s stands twice",
                              LB_FMT(t->name), fields[i].name);
        seen |= fields[i].bit;
        LB_TRY(fields[i].read(p, t));
    }
    for (size_t i = 0; i < LB_LEN(fields); i++)
        if (!(seen & fields[i].bit))
            return lb_fail_at(p->err, LB_E_FORMAT, here(p), "tensor '%.*s': %s is missing",
                              LB_FMT(t->name), fields[i].name);
    return check_size(p, t);
}

static lb_status append(parse *p, const lb_tensor *t) {
    if (p->n == p->cap) {
        u64 cap = LB_MAX(p->cap + p->cap / 2, (u64)64);
        lb_tensor *list = lb_realloc(p->list, (size_t)cap * sizeof *list);
        if (!list)
            return lb_fail(p->err, LB_E_NOMEM, "header: out of memory for %llu tensors",
                           (unsigned long long)cap);
        p->list = list;
        p->cap = cap;
    }
    p->list[p->n++] = *t;
    return LB_OK;
}

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_tensor *)list)[i].name;
}

static lb_status tensor(parse *p) {
    lb_tensor t = {0};
    u64 first;
    LB_TRY(string(p, p->perm, &t.name));
    if (!p->r.has_escape) { /* it still points into the header */
        t.name = lb_arena_str(p->perm, t.name);
        if (!t.name.ptr)
            return lb_fail(p->err, LB_E_NOMEM, "header: out of memory");
    }
    LB_TRY(append(p, &t)); /* its name: the rest follows */
    LB_TRY(lb_names_put(&p->names, name_of, p->list, p->n - 1, &first, p->err));
    if (first != p->n - 1)
        return lb_fail_at(p->err, LB_E_FORMAT, here(p), "tensor '%.*s' stands twice in the header",
                          LB_FMT(t.name));
    return entry(p, &p->list[p->n - 1]);
}

static lb_status members(parse *p) {
    lb_json_tok tok;
    LB_TRY(next(p, &tok));
    if (tok != LB_JSON_OBJECT)
        return lb_fail_at(p->err, LB_E_FORMAT, here(p), "header: not a JSON object");
    for (;;) {
        lb_str key;
        LB_TRY(next(p, &tok));
        if (tok == LB_JSON_OBJECT_END)
            break;
        lb_arena_reset(&p->scratch);
        LB_TRY(string(p, &p->scratch, &key));
        LB_TRY(lb_str_eq_c(key, "__metadata__") ? metadata(p) : tensor(p));
    }
    return next(p, &tok); /* END, or an error for text after the object */
}

/* ---- order of the data ---- */

typedef struct place {
    u64 off, size, index;
} place;

static lb_status no_memory(parse *p) {
    return lb_fail(p->err, LB_E_NOMEM, "header: out of memory");
}

/* By begin, then end: an empty tensor stands before the one that begins at the same byte. */
static int place_cmp(const void *va, const void *vb) {
    const place *a = va, *b = vb;
    if (a->off != b->off)
        return a->off < b->off ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static lb_status order(parse *p, lb_arena *scratch, lb_tensor **out) {
    place *places = lb_alloc((size_t)(p->n ? p->n : 1) * sizeof *places);
    bool sorted = true;
    if (!places)
        return no_memory(p);
    for (u64 i = 0; i < p->n; i++) {
        places[i] = (place){p->list[i].off_bytes, p->list[i].size_bytes, i};
        sorted = sorted && (i == 0 || place_cmp(&places[i - 1], &places[i]) <= 0);
    }
    if (sorted) { /* as most files are */
        lb_free(places);
        *out = p->list;
        p->list = NULL;
        return !*out || lb_arena_keep(scratch, *out, p->cap * sizeof **out) ? LB_OK : no_memory(p);
    }
    qsort(places, (size_t)p->n, sizeof *places, place_cmp);
    *out = lb_arena_push_array(scratch, p->n, sizeof **out, _Alignof(lb_tensor));
    for (u64 i = 0; i < p->n && *out; i++)
        (*out)[i] = p->list[places[i].index];
    lb_free(places);
    return *out ? LB_OK : no_memory(p);
}

/* No hole, no overlap, nothing left over. Offsets become absolute. */
static lb_status cover(parse *p, lb_tensor *t) {
    u64 end = 0;
    for (u64 i = 0; i < p->n; i++) {
        if (t[i].off_bytes != end)
            return lb_fail_at(
                p->err, LB_E_FORMAT, p->data_off + end,
                "tensor '%.*s': data begin at %llu, the tensor before it ends at %llu (%s)",
                LB_FMT(t[i].name), (unsigned long long)t[i].off_bytes, (unsigned long long)end,
                t[i].off_bytes > end ? "a hole" : "an overlap");
        end += t[i].size_bytes;
        t[i].off_bytes += p->data_off;
    }
    if (end != p->data_bytes)
        return lb_fail_at(
            p->err, LB_E_FORMAT, p->data_off + end,
            "the tensors end at byte %llu of the data, which have %llu: trailing bytes",
            (unsigned long long)end, (unsigned long long)p->data_bytes);
    return LB_OK;
}

lb_status lb_st_parse(lb_str header, u64 size_bytes, lb_arena *perm, lb_arena *scratch,
                      lb_st_dir *out, lb_err *err) {
    parse p = {.perm = perm, .err = err};
    lb_status st = LB_OK;
    *out = (lb_st_dir){0};
    if (size_bytes < LEN_BYTES || header.len > size_bytes - LEN_BYTES)
        return lb_fail_at(err, LB_E_FORMAT, 0, "header of %llu bytes in a file of %llu",
                          (unsigned long long)header.len, (unsigned long long)size_bytes);
    p.data_off = LEN_BYTES + header.len;
    p.data_bytes = size_bytes - p.data_off;
    lb_json_begin(&p.r, header);
    p.r.off_base = LEN_BYTES;
    LB_TRY_DONE(st, members(&p));
    LB_TRY_DONE(st, order(&p, scratch, &out->tensors));
    LB_TRY_DONE(st, cover(&p, out->tensors));
    out->n_tensors = p.n;
    out->metadata = p.metadata;
    out->data_off_bytes = p.data_off;
done:
    lb_free(p.list);
    lb_names_deinit(&p.names);
    lb_arena_deinit(&p.scratch);
    return st;
}

/* ---- files ---- */

/* What people rename to .safetensors, or git leaves in its place. */
static const char *other_kind(const u8 first[LEN_BYTES]) {
    if (memcmp(first, "version ", 8) == 0)
        return "a Git LFS pointer, not the file itself: fetch it (git lfs pull)";
    if (memcmp(first, "PK\3\4", 4) == 0)
        return "a zip archive (PyTorch or npz), not safetensors";
    if (memcmp(first, "GGUF", 4) == 0)
        return "a GGUF file, not safetensors";
    if (first[0] == '<')
        return "a web page or XML, not the file itself: fetch it again";
    return NULL;
}

static lb_status read_header(int fd, const lb_file *f, lb_buf *buf, lb_err *err) {
    u8 first[LEN_BYTES];
    if (f->size_bytes < LEN_BYTES)
        return lb_fail_at(err, LB_E_FORMAT, f->size_bytes,
                          "file of %llu bytes has no room for the header length",
                          (unsigned long long)f->size_bytes);
    LB_TRY(lb_os_pread(fd, f->path, first, LEN_BYTES, 0, err));
    u64 n = lb_load_u64(first);
    if (n > LB_ST_HEADER_MAX || n > f->size_bytes - LEN_BYTES) {
        const char *other = other_kind(first);
        if (other)
            return lb_fail_at(err, LB_E_FORMAT, 0, "this is %s", other);
        return lb_fail_at(err, LB_E_FORMAT, 0, "header length %llu is above %s %llu",
                          (unsigned long long)n,
                          n > LB_ST_HEADER_MAX ? "the limit of" : "the rest of the file:",
                          (unsigned long long)(n > LB_ST_HEADER_MAX ? LB_ST_HEADER_MAX
                                                                    : f->size_bytes - LEN_BYTES));
    }
    lb_buf_put_zeros(buf, (size_t)n);
    LB_TRY(lb_buf_status(buf, err));
    return lb_os_pread(fd, f->path, buf->ptr, n, LEN_BYTES, err);
}

static lb_status add_tensors(lb_source *s, u32 file, const lb_st_dir *dir, lb_err *err) {
    if (file == 0)
        s->st_metadata = dir->metadata;
    for (u64 i = 0; i < dir->n_tensors; i++) {
        dir->tensors[i].file = file;
        LB_TRY(lb_source_add_tensor(s, &dir->tensors[i], err));
    }
    return LB_OK;
}

static lb_status read_dir(lb_source *s, const lb_file *f, lb_arena *scratch, lb_st_dir *dir,
                          lb_err *err) {
    lb_buf header = {0};
    lb_status st = LB_OK;
    int fd = -1;
    LB_TRY(lb_os_open_read(f->path, &fd, err));
    LB_TRY_DONE(st, read_header(fd, f, &header, err));
    LB_TRY_DONE(st, lb_st_parse(lb_buf_str(&header), f->size_bytes, &s->perm, scratch, dir, err));
done:
    lb_os_close(&fd);
    lb_buf_deinit(&header);
    if (st != LB_OK && st != LB_E_IO)
        lb_err_context(err, "%s", f->path);
    return st;
}

lb_status lb_st_read(lb_source *s, const char *path, lb_str name, lb_err *err) {
    lb_arena scratch = {0};
    lb_st_dir dir;
    u32 file;
    LB_TRY(lb_source_add_file(s, path, name, &file, err));
    lb_status st = read_dir(s, &s->files[file], &scratch, &dir, err);
    if (st == LB_OK)
        st = add_tensors(s, file, &dir, err);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_st_open(lb_source **out, const char *path, lb_err *err) {
    lb_status st = LB_OK;
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    *out = NULL;
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", path);
    LB_TRY_DONE(st, lb_st_read(s, path, lb_os_base_name(lb_str_c(path)), err));
    st = lb_foreign_check(s, &(lb_foreign_files){0}, false, err);
    if (st != LB_OK) {
        lb_err_context(err, "%s", path);
        goto done;
    }
    LB_TRY_DONE(st, lb_source_add_all_plain(s, err));
    *out = s;
    s = NULL;
done:
    lb_source_close(&s);
    return st;
}

bool lb_st_metadata_find(lb_str metadata_json, lb_str key, lb_arena *perm, lb_str *out) {
    lb_json_reader r;
    lb_json_tok tok;
    if (metadata_json.len == 0)
        return false;
    lb_json_begin(&r, metadata_json);
    if (lb_json_next(&r, &tok, NULL) != LB_OK || tok != LB_JSON_OBJECT)
        return false;
    while (lb_json_next(&r, &tok, NULL) == LB_OK && tok == LB_JSON_KEY) {
        lb_str k;
        if (lb_json_string(&r, perm, &k, NULL) != LB_OK || lb_json_next(&r, &tok, NULL) != LB_OK ||
            tok != LB_JSON_STRING)
            return false;
        if (lb_str_eq(k, key))
            return lb_json_string(&r, perm, out, NULL) == LB_OK;
    }
    return false;
}
