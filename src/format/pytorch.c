/* SPDX-License-Identifier: Apache-2.0 */
/* pytorch.c: the two containers of torch.save, and which dictionary in them is the state dict.
 *
 *   zip      NAME/data.pkl, NAME/data/KEY (each storage), NAME/byteorder, NAME/version, ...
 *   legacy   pickles: magic number, 1001, {little_endian...}, object, [keys]; then for each key
 *            its number of elements (u64) and its bytes
 * Sources: torch/serialization.py (_save, _legacy_save, _legacy_load) of PyTorch 2.15. */
#include "format/pytorch.h"

#include "base/os.h"
#include "format/foreign.h"
#include "format/torch_pickle.h"

#include <stdlib.h>

typedef unsigned long long ull;

#define LEGACY_PROTOCOL 1001
#define NESTING_MAX 4
#define NAMES_SHOWN 3

typedef struct reader {
    lb_cur *c;
    lb_arena *perm, *scratch;
    lb_torch torch;
    lb_buf notes;
    lb_pt_dir *out;
    lb_err *err;
} reader;

static lb_status no_memory(reader *r) {
    return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory", r->c->path);
}

static lb_status refuse(reader *r, const char *what) {
    return lb_fail(r->err, LB_E_UNSUPPORTED, "%s: %s", r->c->path, what);
}

static lb_status bad(reader *r, u64 at, const char *what) {
    return lb_fail_at(r->err, LB_E_FORMAT, at, "%s: byte %llu: %s", r->c->path, (ull)at, what);
}

/* ---- the zip archive ---- */

/* FOLDER/data.pkl, once. */
static lb_status find_pickle(reader *r, const lb_zip *z, const lb_zip_entry **out) {
    *out = NULL;
    for (u64 i = 0; i < z->n_entries; i++) {
        lb_str name = z->entries[i].name;
        size_t slash = 0;
        while (slash < name.len && name.ptr[slash] != '/')
            slash++;
        lb_str rest = lb_str_sub(name, slash, name.len);
        if (lb_str_eq_c(rest, "/constants.pkl"))
            return refuse(r, "a TorchScript archive (constants.pkl) is not supported: save the "
                             "state dict with torch.save");
        if (!lb_str_eq_c(rest, "/data.pkl"))
            continue;
        if (*out)
            return bad(r, z->entries[i].head_off, "a second data.pkl");
        *out = &z->entries[i];
        r->torch.folder = lb_str_sub(name, 0, slash);
    }
    return *out ? LB_OK
                : refuse(r, "a zip archive without NAME/data.pkl: not a file of torch.save");
}

static lb_status check_byteorder(reader *r, const lb_zip *z) {
    char text[8] = {0};
    lb_str name = lb_arena_printf(r->scratch, "%.*s/byteorder", LB_FMT(r->torch.folder));
    if (!name.ptr)
        return no_memory(r);
    const lb_zip_entry *e = lb_zip_find(z, name);
    if (!e) /* before PyTorch 2.1 */
        return LB_OK;
    r->c->pos = e->off_bytes;
    if (e->size_bytes < sizeof text)
        LB_TRY(lb_cur_bytes(r->c, text, e->size_bytes, "byteorder", r->err));
    if (strcmp(text, "little") == 0)
        return LB_OK;
    return strcmp(text, "big") == 0
               ? refuse(r, "written on a big-endian machine (byteorder): not supported")
               : bad(r, e->off_bytes, "byteorder is neither 'little' nor 'big'");
}

static lb_status read_zip(reader *r, lb_zip *z, lb_pv **out) {
    const lb_zip_entry *e;
    LB_TRY(lb_zip_read(r->c, r->scratch, z, r->err));
    LB_TRY(find_pickle(r, z, &e));
    LB_TRY(check_byteorder(r, z));
    r->torch.zip = z;
    /* for the pickle the file ends with its entry */
    u64 size_bytes = r->c->size_bytes;
    r->c->pos = e->off_bytes;
    r->c->size_bytes = e->off_bytes + e->size_bytes;
    lb_status st = lb_torch_run(&r->torch, r->c, out, r->err);
    if (st == LB_OK && lb_cur_left(r->c))
        st = bad(r, r->c->pos, "data.pkl goes on behind its pickle");
    r->c->size_bytes = size_bytes;
    return st;
}

/* ---- the legacy form ---- */

static const lb_pv *find(const lb_pv *dict, const char *key) {
    const lb_pv *found = NULL;
    for (u32 i = 0; i + 1 < dict->n && dict->kind == LB_PV_DICT; i += 2)
        if (dict->u.items[i]->kind == LB_PV_STR && lb_str_eq_c(lb_pv_str(dict->u.items[i]), key))
            found = dict->u.items[i + 1]; /* the last one, as in Python */
    return found;
}

static lb_status read_head(reader *r) {
    static const u8 magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    lb_pv *v;
    LB_TRY(lb_torch_run(&r->torch, r->c, &v, r->err));
    if (v->kind != LB_PV_BIG || v->n != sizeof magic || memcmp(v->u.text, magic, sizeof magic) != 0)
        return refuse(r, "a pickle that is not of torch.save (no magic number): only tensors and "
                         "containers of torch.save are read");
    LB_TRY(lb_torch_run(&r->torch, r->c, &v, r->err));
    if (v->kind != LB_PV_INT || v->u.i != LEGACY_PROTOCOL)
        return refuse(r, "a file of an unknown version of torch.save (not 1001)");
    LB_TRY(lb_torch_run(&r->torch, r->c, &v, r->err));
    const lb_pv *little = find(v, "little_endian");
    if (!little || little->kind != LB_PV_BOOL)
        return bad(r, r->c->pos, "no little_endian before this place");
    if (!little->u.i)
        return refuse(r, "written on a big-endian machine (little_endian): not supported");
    return LB_OK;
}

static lb_status place_storage(reader *r, const lb_pv *key) {
    u64 i, n, at = r->c->pos;
    if (key->kind != LB_PV_STR || !lb_map_find(&r->torch.by_key, lb_pv_str(key), &i))
        return bad(r, at, "a storage that no tensor has");
    lb_torch_storage *s = &r->torch.storages[i];
    if (s->is_placed)
        return bad(r, at, "a storage that stands twice");
    LB_TRY(lb_cur_u64(r->c, &n, "a storage's length", r->err));
    if (n != s->n_elems)
        return lb_fail_at(r->err, LB_E_FORMAT, at,
                          "%s: byte %llu: a storage of %llu elements, its tensors say %llu",
                          r->c->path, (ull)at, (ull)n, (ull)s->n_elems);
    s->off_bytes = r->c->pos;
    s->is_placed = true;
    return lb_cur_skip(r->c, s->size_bytes, "a storage", r->err);
}

static lb_status read_legacy(reader *r, lb_pv **out) {
    lb_pv *keys;
    LB_TRY(read_head(r));
    LB_TRY(lb_torch_run(&r->torch, r->c, out, r->err));
    LB_TRY(lb_torch_run(&r->torch, r->c, &keys, r->err));
    if (keys->kind != LB_PV_LIST)
        return bad(r, r->c->pos, "no list of storages before this place");
    for (u32 i = 0; i < keys->n; i++)
        LB_TRY(place_storage(r, keys->u.items[i]));
    for (u64 i = 0; i < r->torch.n_storages; i++)
        if (!r->torch.storages[i].is_placed)
            return lb_fail_at(r->err, LB_E_FORMAT, r->c->pos,
                              "%s: byte %llu: storage '%.*s' is missing", r->c->path,
                              (ull)r->c->pos, LB_FMT(lb_str_sub(r->torch.storages[i].key, 0, 100)));
    return lb_cur_left(r->c) ? bad(r, r->c->pos, "bytes behind the last storage") : LB_OK;
}

/* ---- the state dict ---- */

static bool has_tensors(const lb_pv *v) {
    if (v->kind != LB_PV_DICT && v->kind != LB_PV_LIST && v->kind != LB_PV_TUPLE)
        return false;
    for (u32 i = 0; i < v->n; i++)
        if (lb_torch_is_tensor(v->u.items[i]))
            return true;
    return false;
}

static void note(reader *r, const char *text) {
    if (r->notes.len)
        lb_buf_put_u8(&r->notes, '\n');
    lb_buf_put_c(&r->notes, text);
}

/* Names come from the file: no line of the notes is theirs to end. */
static void put_name(lb_buf *b, lb_str name) {
    for (size_t i = 0; i < LB_MIN(name.len, (size_t)100); i++)
        lb_buf_put_u8(b, (u8)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f ? '?' : (u8)name.ptr[i]);
}

/* The dictionary that an entry of d is for its state dict: by the names that training programs
 * use, else the only one with tensors. */
static const lb_pv *inner(const lb_pv *d, lb_str *name) {
    static const char *const known[] = {"state_dict", "model_state_dict", "model", "module"};
    const lb_pv *only = NULL;
    for (u32 i = 0; i < LB_LEN(known); i++) {
        const lb_pv *v = find(d, known[i]);
        if (v && v->kind == LB_PV_DICT && v->n) {
            *name = lb_str_c(known[i]);
            return v;
        }
    }
    if (has_tensors(d))
        return NULL;
    for (u32 i = 0; i < d->n; i += 2) {
        const lb_pv *v = d->u.items[i + 1];
        if (v->kind != LB_PV_DICT || !has_tensors(v) || d->u.items[i]->kind != LB_PV_STR)
            continue;
        if (only)
            return NULL;
        only = v;
        *name = lb_pv_str(d->u.items[i]);
    }
    return only;
}

static lb_status find_state_dict(reader *r, const lb_pv *root, const lb_pv **out) {
    lb_str name;
    if (root->kind != LB_PV_DICT)
        return lb_fail(r->err, LB_E_UNSUPPORTED,
                       "%s: holds %s, not a dictionary of tensors (a state dict)", r->c->path,
                       lb_torch_is_tensor(root) ? "a tensor" : lb_pv_kind_name(root));
    for (u32 depth = 0; depth < NESTING_MAX; depth++) {
        const lb_pv *next = inner(root, &name);
        if (!next)
            break;
        root = next;
        note(r, "the tensors are those of the entry '");
        put_name(&r->notes, name);
        lb_buf_put_c(&r->notes, "', the entries beside it are not read");
    }
    if (!has_tensors(root))
        return refuse(r, "holds no dictionary of tensors (a state dict)");
    *out = root;
    return LB_OK;
}

typedef struct place {
    u64 off, size, index;
} place;

static int by_place(const void *va, const void *vb) {
    const place *a = va, *b = vb;
    if (a->off != b->off)
        return a->off < b->off ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static lb_status order(reader *r, const lb_tensor *list, u64 n) {
    place *places = lb_arena_new(r->scratch, place, n);
    r->out->tensors = lb_arena_new(r->scratch, lb_tensor, n);
    if (!places || !r->out->tensors)
        return no_memory(r);
    for (u64 i = 0; i < n; i++)
        places[i] = (place){list[i].off_bytes, list[i].size_bytes, i};
    qsort(places, (size_t)n, sizeof *places, by_place);
    for (u64 i = 0; i < n; i++)
        r->out->tensors[i] = list[places[i].index];
    r->out->n_tensors = n;
    return LB_OK;
}

/* One entry; a tensor goes to *t, else *left is set. */
static lb_status entry(reader *r, const lb_pv *key, const lb_pv *value, lb_map *names, lb_tensor *t,
                       bool *left) {
    bool existed;
    *left = !lb_torch_is_tensor(value);
    if (key->kind != LB_PV_STR || !lb_str_is_utf8(lb_pv_str(key)))
        return lb_fail(r->err, LB_E_UNSUPPORTED, "%s: the key of an entry is %s, not a name",
                       r->c->path, key->kind == LB_PV_STR ? "no UTF-8" : lb_pv_kind_name(key));
    lb_str name = lb_pv_str(key);
    LB_TRY(lb_map_put(names, name, 0, &existed, r->err));
    if (existed)
        return lb_fail(r->err, LB_E_FORMAT, "%s: the entry '%.*s' stands twice", r->c->path,
                       LB_FMT(lb_str_sub(name, 0, 200)));
    if (*left && has_tensors(value))
        return lb_fail(r->err, LB_E_UNSUPPORTED,
                       "%s: the entry '%.*s' is %s of tensors among tensors: not a state dict",
                       r->c->path, LB_FMT(lb_str_sub(name, 0, 200)), lb_pv_kind_name(value));
    if (*left)
        return LB_OK;
    LB_TRY(lb_torch_place(&r->torch, value, name, r->c->path, t, r->err));
    t->name = lb_arena_str(r->perm, name);
    return t->name.ptr ? LB_OK : no_memory(r);
}

static lb_status collect(reader *r, const lb_pv *dict) {
    lb_map names = {0};
    lb_buf left_names = {0};
    lb_status st = LB_OK;
    u64 n = 0, n_left = 0;
    lb_tensor *list = lb_arena_new(r->scratch, lb_tensor, dict->n / 2);
    if (!list)
        LB_TRY_DONE(st, no_memory(r));
    for (u32 i = 0; i < dict->n; i += 2) {
        bool left;
        const lb_pv *key = dict->u.items[i];
        LB_TRY_DONE(st, entry(r, key, dict->u.items[i + 1], &names, &list[n], &left));
        n += !left;
        if (left && n_left++ < NAMES_SHOWN) {
            lb_buf_put_c(&left_names, n_left > 1 ? ", " : "");
            put_name(&left_names, lb_pv_str(key));
        }
    }
    if (n_left) {
        note(r, "");
        lb_buf_printf(&r->notes,
                      "%llu entr%s of the state dict %s no tensor%s and left out: %.*s%s",
                      (ull)n_left, n_left == 1 ? "y" : "ies", n_left == 1 ? "is" : "are",
                      n_left == 1 ? "" : "s", LB_FMT(lb_buf_str(&left_names)),
                      n_left > NAMES_SHOWN ? ", ..." : "");
    }
    LB_TRY_DONE(st, lb_buf_status(&left_names, r->err));
    st = order(r, list, n);
done:
    lb_map_deinit(&names);
    lb_buf_deinit(&left_names);
    return st;
}

bool lb_pt_probe(const u8 *head, size_t n) {
    return lb_zip_probe(head, n) || (n >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5);
}

lb_status lb_pt_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_pt_dir *out, lb_err *err) {
    reader r = {.c = c, .perm = perm, .scratch = scratch, .out = out, .err = err};
    const lb_pv *dict = NULL;
    lb_pv *root = NULL;
    lb_zip zip = {0};
    lb_status st = LB_OK;
    u8 head[4] = {0};
    *out = (lb_pt_dir){0};
    r.torch.perm = scratch;
    LB_TRY_DONE(st, lb_cur_bytes(c, head, sizeof head, "its first bytes", err));
    c->pos = 0;
    LB_TRY_DONE(st, lb_zip_probe(head, sizeof head) ? read_zip(&r, &zip, &root)
                                                    : read_legacy(&r, &root));
    LB_TRY_DONE(st, find_state_dict(&r, root, &dict));
    LB_TRY_DONE(st, collect(&r, dict));
    LB_TRY_DONE(st, lb_buf_status(&r.notes, err));
    out->notes = lb_arena_str(perm, lb_buf_str(&r.notes));
    if (!out->notes.ptr)
        LB_TRY_DONE(st, no_memory(&r));
done:
    lb_zip_deinit(&zip);
    lb_torch_deinit(&r.torch);
    lb_buf_deinit(&r.notes);
    return st;
}

/* ---- files ---- */

lb_status lb_pt_read(lb_source *s, const char *path, lb_str name, lb_buf *notes, lb_err *err) {
    lb_arena scratch = {0};
    lb_pt_dir dir;
    lb_cur c;
    u32 file;
    LB_TRY(lb_source_add_file(s, path, name, &file, err));
    LB_TRY(lb_cur_open(&c, s->files[file].path, err));
    lb_status st = lb_pt_parse(&c, &s->perm, &scratch, &dir, err);
    for (u64 i = 0; st == LB_OK && i < dir.n_tensors; i++) {
        dir.tensors[i].file = file;
        st = lb_source_add_tensor(s, &dir.tensors[i], err);
    }
    if (st == LB_OK && dir.notes.len) {
        if (notes->len)
            lb_buf_put_u8(notes, '\n');
        lb_buf_put_str(notes, dir.notes);
    }
    lb_cur_close(&c);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_pt_open(lb_source **out, const char *path, lb_err *err) {
    lb_buf notes = {0};
    lb_status st = LB_OK;
    lb_source *s = lb_source_new(LB_FORMAT_PYTORCH, path);
    *out = NULL;
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", path);
    LB_TRY_DONE(st, lb_pt_read(s, path, lb_os_base_name(lb_str_c(path)), &notes, err));
    LB_TRY_DONE(st, lb_buf_status(&notes, err));
    s->notes = lb_arena_str(&s->perm, lb_buf_str(&notes));
    if (!s->notes.ptr)
        LB_TRY_DONE(st, lb_fail(err, LB_E_NOMEM, "%s: out of memory", path));
    st = lb_foreign_check(s, &(lb_foreign_files){0}, false, err);
    if (st != LB_OK) {
        lb_err_context(err, "%s", path);
        goto done;
    }
    LB_TRY_DONE(st, lb_source_add_all_plain(s, err));
    *out = s;
    s = NULL;
done:
    lb_buf_deinit(&notes);
    lb_source_close(&s);
    return st;
}
