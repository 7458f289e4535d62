/* SPDX-License-Identifier: Apache-2.0 */
/* npz.c: see npz.h. An entry is a magic number, a version, the length of a header and the header: a
 * Python dictionary with 'descr', 'fortran_order' and 'shape'; then the array. */
#include "format/npz.h"
#include "format/zip.h"

#define HEADER_MAX 65536 /* NumPy itself stops at 10,000 */

typedef struct npy {
    const lb_cur *c;
    lb_str name;
    const char *at, *end; /* of what is left of the header */
    lb_err *err;
} npy;

static lb_status bad(const npy *p, const char *what) {
    return lb_fail(p->err, LB_E_FORMAT, "%s: array '%.*s': %s", p->c->path, LB_FMT(p->name), what);
}

static lb_status refuse(const npy *p, const char *what) {
    return lb_fail(p->err, LB_E_UNSUPPORTED, "%s: array '%.*s': %s", p->c->path, LB_FMT(p->name),
                   what);
}

/* ---- the header ---- */

static void skip_blanks(npy *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t'))
        p->at++;
}

static bool take(npy *p, const char *text) {
    size_t n = strlen(text);
    skip_blanks(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* 'text' or "text", without escapes. */
static bool take_string(npy *p, lb_str *out) {
    skip_blanks(p);
    if (p->at == p->end || (*p->at != '\'' && *p->at != '"'))
        return false;
    char quote = *p->at++;
    out->ptr = p->at;
    while (p->at < p->end && *p->at != quote && *p->at != '\\')
        p->at++;
    out->len = (size_t)(p->at - out->ptr);
    return p->at < p->end && *p->at++ == quote;
}

static bool take_number(npy *p, u64 *out) {
    skip_blanks(p);
    const char *from = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    bool ok = lb_str_to_u64((lb_str){from, (size_t)(p->at - from)}, out);
    (void)take(p, "L"); /* Python 2 */
    return ok;
}

static lb_status take_shape(npy *p, lb_shape *out) {
    *out = (lb_shape){0};
    if (!take(p, "("))
        return bad(p, "its shape is no tuple");
    while (!take(p, ")")) {
        if (out->rank == LB_RANK_MAX)
            return bad(p, "has too many dimensions");
        if (!take_number(p, &out->dim[out->rank++]) ||
            (!take(p, ",") && (p->at == p->end || *p->at != ')')))
            return bad(p, "its shape is no tuple of numbers");
    }
    return LB_OK;
}

/* Byte order, kind and bytes of an element: "<f2", "|u1". */
static lb_status read_descr(const npy *p, lb_str descr, lb_dtype *out) {
    static const struct {
        const char *numpy, *safetensors;
    } types[] = {{"f4", "F32"}, {"f2", "F16"}, {"V2", "BF16"}, {"f8", "F64"}, {"u1", "U8"},
                 {"i1", "I8"},  {"u2", "U16"}, {"i2", "I16"},  {"u4", "U32"}, {"i4", "I32"},
                 {"u8", "U64"}, {"i8", "I64"}, {"b1", "BOOL"}, {"c8", "C64"}};
    lb_str kind = descr.len ? lb_str_sub(descr, 1, descr.len) : descr;
    for (size_t i = 0; i < LB_LEN(types); i++) {
        if (!lb_str_eq_c(kind, types[i].numpy))
            continue;
        if (descr.ptr[0] == '>' && kind.ptr[1] != '1')
            return refuse(p, "written on a big-endian machine: not supported");
        if (descr.ptr[0] != '<' && descr.ptr[0] != '|' && descr.ptr[0] != '=' &&
            descr.ptr[0] != '>')
            break;
        return lb_dtype_find_safetensors(lb_str_c(types[i].safetensors), out)
                   ? LB_OK
                   : refuse(p, "its type is not supported");
    }
    return lb_fail(p->err, LB_E_UNSUPPORTED, "%s: array '%.*s': its type '%.*s' is not supported",
                   p->c->path, LB_FMT(p->name), LB_FMT(descr));
}

/* Fortran's order, which NumPy keeps of a transposed matrix. */
static lb_status read_turned(npy *p, lb_tensor *t) {
    const u64 *dim = t->shape.dim;
    if (t->shape.rank == 2 && (dim[0] <= 1 || dim[1] <= 1))
        return LB_OK;
    if (t->shape.rank != 2 || (t->dtype != LB_F32 && t->dtype != LB_F16 && t->dtype != LB_BF16))
        return refuse(p,
                      "stored column by column (fortran_order): supported of matrices of floats");
    t->lies = LB_LIES_TURNED;
    return LB_OK;
}

static lb_status read_header(npy *p, lb_tensor *t) {
    bool fortran = false, has_shape = false, has_type = false;
    lb_str key, descr;
    if (!take(p, "{"))
        return bad(p, "its header is no dictionary");
    while (!take(p, "}")) {
        if (!take_string(p, &key) || !take(p, ":"))
            return bad(p, "its header is no dictionary");
        if (lb_str_eq_c(key, "descr")) {
            if (!take_string(p, &descr))
                return refuse(p, "a record array is not supported");
            LB_TRY(read_descr(p, descr, &t->dtype));
            has_type = true;
        } else if (lb_str_eq_c(key, "fortran_order")) {
            fortran = take(p, "True");
            if (!fortran && !take(p, "False"))
                return bad(p, "fortran_order is neither True nor False");
        } else if (lb_str_eq_c(key, "shape")) {
            LB_TRY(take_shape(p, &t->shape));
            has_shape = true;
        } else {
            return bad(p, "its header has an unknown key");
        }
        if (!take(p, ",")) {
            if (!take(p, "}"))
                return bad(p, "its header is no dictionary");
            break;
        }
    }
    skip_blanks(p);
    if (p->at != p->end || !has_shape || !has_type)
        return bad(p, "its header says too little or too much");
    if (fortran && t->shape.rank > 1)
        LB_TRY(read_turned(p, t));
    return LB_OK;
}

static lb_status read_array(lb_cur *c, const lb_zip_entry *e, npy *p, lb_arena *scratch,
                            lb_tensor *t) {
    u8 head[8];
    u16 short_len;
    u32 len;
    lb_str text;
    u64 end = e->off_bytes + e->size_bytes, n, bytes;
    c->pos = e->off_bytes;
    if (e->size_bytes < 10)
        return bad(p, "too short for an array");
    LB_TRY(lb_cur_bytes(c, head, sizeof head, "an array's head", p->err));
    if (memcmp(head, "\x93NUMPY", 6) != 0)
        return bad(p, "is no array of NumPy");
    if (head[6] < 1 || head[6] > 3)
        return refuse(p, "of an unknown version of NumPy's format");
    if (head[6] == 1) {
        LB_TRY(lb_cur_u16(c, &short_len, "an array's head", p->err));
        len = short_len;
    } else {
        LB_TRY(lb_cur_u32(c, &len, "an array's head", p->err));
    }
    if (c->pos > end || len > end - c->pos || len > HEADER_MAX)
        return bad(p, "its header is longer than the array");
    LB_TRY(lb_cur_str(c, len, scratch, &text, "an array's header", p->err));
    p->at = text.ptr;
    p->end = text.ptr + text.len;
    *t = (lb_tensor){.off_bytes = e->off_bytes};
    LB_TRY(read_header(p, t));
    t->off_bytes = c->pos;
    t->size_bytes = end - c->pos;
    if (!lb_shape_elems(&t->shape, &n) || !lb_dtype_bytes(t->dtype, n, &bytes) ||
        bytes != t->size_bytes)
        return bad(p, "its shape and type do not fit its bytes");
    t->n_elems = n;
    return LB_OK;
}

lb_status lb_npz_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_npz_dir *out, lb_err *err) {
    lb_zip zip = {0};
    lb_status st = LB_OK;
    *out = (lb_npz_dir){0};
    LB_TRY_DONE(st, lb_zip_read(c, scratch, &zip, err));
    out->tensors = lb_arena_new(scratch, lb_tensor, zip.n_entries + 1);
    if (!out->tensors)
        LB_TRY_DONE(st, lb_fail(err, LB_E_NOMEM, "%s: out of memory", c->path));
    for (u64 i = 0; i < zip.n_entries; i++) {
        const lb_zip_entry *e = &zip.entries[i];
        npy p = {.c = c, .name = e->name, .err = err};
        if (!lb_str_ends(e->name, LB_STR(".npy")) || e->name.len == 4)
            LB_TRY_DONE(st, refuse(&p, "not an array (NAME.npy)"));
        p.name.len -= 4;
        if (!lb_str_is_utf8(p.name))
            LB_TRY_DONE(st, bad(&p, "its name is not UTF-8"));
        lb_tensor *t = &out->tensors[out->n_tensors];
        LB_TRY_DONE(st, read_array(c, e, &p, scratch, t));
        t->name = lb_arena_str(perm, p.name);
        if (!t->name.ptr)
            LB_TRY_DONE(st, lb_fail(err, LB_E_NOMEM, "%s: out of memory", c->path));
        out->n_tensors++;
    }
    if (out->n_tensors == 0)
        st = lb_fail(err, LB_E_FORMAT, "%s: holds no arrays", c->path);
done:
    lb_zip_deinit(&zip);
    return st;
}

lb_status lb_npz_read(lb_source *s, const char *path, lb_str name, lb_err *err) {
    lb_arena scratch = {0};
    lb_npz_dir dir;
    lb_cur c;
    u32 file;
    LB_TRY(lb_source_add_file(s, path, name, &file, err));
    LB_TRY(lb_cur_open(&c, s->files[file].path, err));
    lb_status st = lb_npz_parse(&c, &s->perm, &scratch, &dir, err);
    for (u64 i = 0; st == LB_OK && i < dir.n_tensors; i++) {
        dir.tensors[i].file = file;
        st = lb_source_add_tensor(s, &dir.tensors[i], err);
    }
    lb_cur_close(&c);
    lb_arena_deinit(&scratch);
    return st;
}
