/* SPDX-License-Identifier: Apache-2.0 */
/* zip.c: reads the directory of a zip archive from its end.
 *
 *   local header, name, extra, bytes (each entry) | central directory | [zip64 end, locator] | end
 *
 * The directory must end where the end records begin, and the end record must end the file: two
 * readers cannot find two directories. Each local header is read too, because only it says how long
 * its own extra field is (torch.save pads there, so that the bytes stand at multiples of 64). */
#include "format/zip.h"

#include <stdlib.h>

typedef unsigned long long ull;

#define LOCAL_BYTES 30
#define CENTRAL_BYTES 46
#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR_BYTES 20
#define COMMENT_MAX 65535
#define LOCAL_WINDOW 512
#define EXTRA_ZIP64 1
#define FLAG_ENCRYPTED 0x2041u /* bit 0, 6 (strong) and 13 (masked headers) */
#define FLAG_SIZE_BEHIND 8u    /* sizes stand behind the bytes, in a local header they are 0 */

typedef struct reader {
    lb_cur *c;
    lb_arena *perm;
    lb_zip *z;
    u64 n_entries, dir_off, dir_bytes, end_off; /* end_off: where the end records begin */
    lb_err *err;
} reader;

static lb_status bad(reader *r, u64 at, const char *what) {
    return lb_fail_at(r->err, LB_E_FORMAT, at, "%s: zip archive: %s at byte %llu", r->c->path, what,
                      (ull)at);
}

static lb_status bad_entry(reader *r, lb_str name, u64 at, const char *what) {
    return lb_fail_at(r->err, LB_E_FORMAT, at, "%s: zip entry '%.*s' at byte %llu: %s", r->c->path,
                      LB_FMT(name), (ull)at, what);
}

static lb_status bytes_at(reader *r, u64 off, void *out, u64 n, const char *what) {
    if (off > r->c->size_bytes)
        return bad(r, off, "something points behind the end of the file");
    r->c->pos = off;
    return lb_cur_bytes(r->c, out, n, what, r->err);
}

bool lb_zip_probe(const u8 *head, size_t n) {
    return n >= 4 && memcmp(head, "PK\3\4", 4) == 0;
}

/* ---- the end records ---- */

/* The last record whose comment ends with the file. */
static lb_status find_end(reader *r, u8 end[END_BYTES]) {
    u64 size = r->c->size_bytes;
    u64 n = LB_MIN(size, (u64)END_BYTES + COMMENT_MAX);
    lb_status st = LB_OK;
    u8 *tail = lb_alloc((size_t)n + 1);
    if (!tail)
        return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory", r->c->path);
    LB_TRY_DONE(st, bytes_at(r, size - n, tail, n, "the end of a zip archive"));
    st = lb_fail_at(r->err, LB_E_FORMAT, size,
                    "%s: zip archive without the directory at its end (byte %llu): the file is "
                    "damaged or incomplete",
                    r->c->path, (ull)size);
    for (u64 k = END_BYTES; k <= n; k++) {
        const u8 *p = tail + (n - k);
        if (lb_load_u32(p) != 0x06054b50 || lb_load_u16(p + 20) != k - END_BYTES)
            continue;
        memcpy(end, p, END_BYTES);
        r->end_off = size - k;
        st = LB_OK;
        break;
    }
done:
    lb_free(tail);
    return st;
}

/* A field of the end record that is all ones stands in the zip64 record; others say the same. */
static bool agrees(u64 field, u64 ones, u64 wide) {
    return field == ones || field == wide;
}

static lb_status read_end64(reader *r, const u8 end[END_BYTES]) {
    u8 loc[LOCATOR_BYTES], e[END64_BYTES];
    u64 loc_off = r->end_off - LOCATOR_BYTES;
    LB_TRY(bytes_at(r, loc_off, loc, sizeof loc, "the zip64 locator"));
    u64 off = lb_load_u64(loc + 8);
    if (lb_load_u32(loc + 4) != 0 || lb_load_u32(loc + 16) > 1)
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, loc_off,
                          "%s: a zip archive of several disks is not supported", r->c->path);
    if (off > loc_off || loc_off - off < END64_BYTES)
        return bad(r, loc_off, "a zip64 locator that points to no zip64 record");
    LB_TRY(bytes_at(r, off, e, sizeof e, "the zip64 record"));
    if (lb_load_u32(e) != 0x06064b50 || lb_load_u64(e + 4) != loc_off - off - 12)
        return bad(r, off, "a damaged zip64 record");
    r->n_entries = lb_load_u64(e + 32);
    r->dir_bytes = lb_load_u64(e + 40);
    r->dir_off = lb_load_u64(e + 48);
    if (lb_load_u32(e + 16) != 0 || lb_load_u32(e + 20) != 0 || lb_load_u64(e + 24) != r->n_entries)
        return lb_fail_at(r->err, LB_E_UNSUPPORTED, off,
                          "%s: a zip archive of several disks is not supported", r->c->path);
    if (!agrees(lb_load_u16(end + 10), UINT16_MAX, r->n_entries) ||
        !agrees(lb_load_u32(end + 12), UINT32_MAX, r->dir_bytes) ||
        !agrees(lb_load_u32(end + 16), UINT32_MAX, r->dir_off))
        return bad(r, off, "a zip64 record that says other than the end record");
    r->end_off = off;
    return LB_OK;
}

static lb_status read_end(reader *r) {
    u8 end[END_BYTES] = {0}, sig[4];
    LB_TRY(find_end(r, end));
    bool wide = false;
    if (r->end_off >= LOCATOR_BYTES + END64_BYTES) {
        LB_TRY(bytes_at(r, r->end_off - LOCATOR_BYTES, sig, sizeof sig, "the zip64 locator"));
        wide = lb_load_u32(sig) == 0x07064b50;
    }
    if (wide) {
        LB_TRY(read_end64(r, end));
    } else {
        r->n_entries = lb_load_u16(end + 10);
        r->dir_bytes = lb_load_u32(end + 12);
        r->dir_off = lb_load_u32(end + 16);
        if (lb_load_u16(end + 4) != 0 || lb_load_u16(end + 6) != 0 ||
            lb_load_u16(end + 8) != r->n_entries)
            return lb_fail_at(r->err, LB_E_UNSUPPORTED, r->end_off,
                              "%s: a zip archive of several disks is not supported", r->c->path);
    }
    if (r->dir_off > r->end_off || r->end_off - r->dir_off != r->dir_bytes)
        return bad(r, r->end_off, "the directory does not end where its end record begins,");
    if (r->n_entries > r->dir_bytes / CENTRAL_BYTES)
        return lb_fail_at(r->err, LB_E_FORMAT, r->end_off,
                          "%s: zip archive: %llu entries do not fit its directory of %llu bytes",
                          r->c->path, (ull)r->n_entries, (ull)r->dir_bytes);
    return LB_OK;
}

/* ---- entries ---- */

/* Parts between slashes: none empty, none . or .., no backslash, control byte or drive. */
static bool is_relative(lb_str name) {
    size_t begin = 0;
    for (size_t i = 0; i <= name.len; i++) {
        if (i < name.len && name.ptr[i] != '/')
            continue;
        bool folder = i == name.len && begin == i && i > 0; /* a trailing slash */
        if (!folder && !lb_str_is_file_name(lb_str_sub(name, begin, i)))
            return false;
        begin = i + 1;
    }
    return name.len < 2 || name.ptr[1] != ':';
}

/* Sizes and offset that are all ones stand in the zip64 field, in this order. */
static lb_status wide_fields(reader *r, lb_zip_entry *e, u64 *packed, lb_str extra, u64 at) {
    u64 *const fields[] = {&e->size_bytes, packed, &e->head_off};
    for (size_t pos = 0; extra.len - pos >= 4;) {
        const char *p = extra.ptr + pos;
        size_t n = lb_load_u16(p + 2), k = 4;
        if (n > extra.len - pos - 4)
            return bad_entry(r, e->name, at, "its extra field is cut off");
        for (u32 i = 0; lb_load_u16(p) == EXTRA_ZIP64 && i < LB_LEN(fields); i++) {
            if (*fields[i] != UINT32_MAX)
                continue;
            if (n + 4 - k < 8)
                return bad_entry(r, e->name, at, "its zip64 field is too short");
            *fields[i] = lb_load_u64(p + k);
            k += 8;
        }
        if (k > 4)
            break;
        pos += 4 + n;
    }
    return LB_OK;
}

static lb_status check_kind(reader *r, const lb_zip_entry *e, u16 flags, u16 method, u64 at) {
    const char *what = flags & FLAG_ENCRYPTED ? "encrypted" : method != 0 ? "compressed" : NULL;
    if (!what)
        return LB_OK;
    return lb_fail_at(r->err, LB_E_UNSUPPORTED, at,
                      "%s: zip entry '%.*s' at byte %llu is %s: only stored entries are read",
                      r->c->path, LB_FMT(e->name), (ull)at, what);
}

/* The local header must tell the same; it ends where the entry's bytes begin. */
static lb_status read_local(reader *r, lb_zip_entry *e) {
    u8 h[LOCAL_BYTES];
    lb_arena scratch = {0};
    lb_str name;
    if (e->head_off > r->dir_off || r->dir_off - e->head_off < LOCAL_BYTES)
        return bad_entry(r, e->name, e->head_off, "its header is outside the archive");
    LB_TRY(bytes_at(r, e->head_off, h, sizeof h, "a local header"));
    if (lb_load_u32(h) != 0x04034b50)
        return bad_entry(r, e->name, e->head_off, "there is no local header");
    LB_TRY(check_kind(r, e, lb_load_u16(h + 6), lb_load_u16(h + 8), e->head_off));
    lb_status st = lb_cur_str(r->c, lb_load_u16(h + 26), &scratch, &name, "a name", r->err);
    if (st == LB_OK && !lb_str_eq(name, e->name))
        st = bad_entry(r, e->name, e->head_off, "its local header has another name");
    lb_arena_deinit(&scratch);
    LB_TRY(st);
    u32 size = lb_load_u32(h + 22);
    if (!e->is_size_behind && size != UINT32_MAX && size != e->size_bytes)
        return bad_entry(r, e->name, e->head_off, "its local header has another size");
    LB_TRY(lb_cur_skip(r->c, lb_load_u16(h + 28), "an extra field", r->err));
    e->off_bytes = r->c->pos;
    if (e->off_bytes > r->dir_off || e->size_bytes > r->dir_off - e->off_bytes)
        return bad_entry(r, e->name, e->head_off, "its bytes reach into the directory");
    return LB_OK;
}

static lb_status read_central(reader *r, u64 *pos, lb_zip_entry *e) {
    u8 h[CENTRAL_BYTES];
    lb_arena scratch = {0};
    lb_str extra;
    u64 at = *pos;
    if (r->end_off - at < CENTRAL_BYTES)
        return bad(r, at, "the directory is too short for its entries");
    LB_TRY(bytes_at(r, at, h, sizeof h, "the directory"));
    u64 n_name = lb_load_u16(h + 28), n_extra = lb_load_u16(h + 30), n_text = lb_load_u16(h + 32);
    if (lb_load_u32(h) != 0x02014b50 || n_name + n_extra + n_text > r->end_off - r->c->pos)
        return bad(r, at, "no entry of the directory");
    LB_TRY(lb_cur_str(r->c, n_name, r->perm, &e->name, "a name", r->err));
    u64 packed = lb_load_u32(h + 20);
    e->size_bytes = lb_load_u32(h + 24);
    e->head_off = lb_load_u32(h + 42);
    u16 flags = lb_load_u16(h + 8);
    e->is_size_behind = flags & FLAG_SIZE_BEHIND;
    LB_TRY(check_kind(r, e, flags, lb_load_u16(h + 10), at));
    lb_status st = lb_cur_str(r->c, n_extra, &scratch, &extra, "an extra field", r->err);
    if (st == LB_OK)
        st = wide_fields(r, e, &packed, extra, at);
    lb_arena_deinit(&scratch);
    LB_TRY(st);
    if (packed != e->size_bytes)
        return bad_entry(r, e->name, at, "stored, but in another number of bytes than it has");
    if (!is_relative(e->name) || !lb_str_is_utf8(e->name))
        return bad_entry(r, e->name, at, "not a plain relative name");
    *pos = at + CENTRAL_BYTES + n_name + n_extra + n_text;
    return LB_OK;
}

static int by_place(const void *va, const void *vb) {
    const lb_zip_entry *a = va, *b = vb;
    return a->head_off < b->head_off ? -1 : a->head_off > b->head_off;
}

/* In the order of the file, none in another, no name twice. */
static lb_status place(reader *r) {
    lb_zip_entry *e = r->z->entries;
    u64 n = r->z->n_entries;
    if (n)
        qsort(e, (size_t)n, sizeof *e, by_place);
    for (u64 i = 0; i < n; i++) {
        bool existed;
        LB_TRY(lb_map_put(&r->z->by_name, e[i].name, i, &existed, r->err));
        if (existed)
            return bad_entry(r, e[i].name, e[i].head_off, "the name stands twice");
        if (i && e[i].head_off < e[i - 1].off_bytes + e[i - 1].size_bytes)
            return bad_entry(r, e[i].name, e[i].head_off, "it begins inside the entry before it");
    }
    return LB_OK;
}

/* Gigabytes lie between local headers: a window of the usual size would read most of them. */
static lb_status read_locals(reader *r) {
    u64 window_cap = r->c->window_cap;
    lb_status st = LB_OK;
    if (r->c->fd >= 0)
        r->c->window_cap = LB_MIN(window_cap, (u64)LOCAL_WINDOW);
    for (u64 i = 0; st == LB_OK && i < r->z->n_entries; i++)
        st = read_local(r, &r->z->entries[i]);
    r->c->window_cap = window_cap;
    return st;
}

lb_status lb_zip_read(lb_cur *c, lb_arena *perm, lb_zip *out, lb_err *err) {
    reader r = {.c = c, .perm = perm, .z = out, .err = err};
    *out = (lb_zip){0};
    LB_TRY(read_end(&r));
    out->entries = lb_arena_new(perm, lb_zip_entry, r.n_entries);
    if (!out->entries && r.n_entries)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", c->path);
    u64 pos = r.dir_off;
    for (; out->n_entries < r.n_entries; out->n_entries++)
        LB_TRY(read_central(&r, &pos, &out->entries[out->n_entries]));
    if (pos != r.end_off)
        return bad(&r, pos, "bytes between the directory and its end record");
    LB_TRY(read_locals(&r));
    return place(&r);
}

const lb_zip_entry *lb_zip_find(const lb_zip *z, lb_str name) {
    u64 i;
    return lb_map_find(&z->by_name, name, &i) ? &z->entries[i] : NULL;
}

void lb_zip_deinit(lb_zip *z) {
    lb_map_deinit(&z->by_name);
    *z = (lb_zip){0};
}
