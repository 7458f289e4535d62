/* SPDX-License-Identifier: Apache-2.0 */
/* folder_index.c: model.safetensors.index.json, pytorch_model.bin.index.json:
 * {"metadata": {...}, "weight_map": {tensor: file}}.
 *
 * Read by the pull reader: 100,000 tensors of a thousand shards make 10 MB. File names are joined
 * to the folder's path later, so they must be plain names. metadata is not used: total_size is
 * wrong in many published indexes. */
#include "base/os.h"
#include "format/folder.h"
#include "io/json.h"

#include <stdlib.h>

typedef struct parse {
    lb_json_reader r;
    lb_arena *perm;
    const char *ending; /* of shards */
    lb_map tensors, shards;
    lb_index_entry *entries; /* heap */
    u64 n_entries, cap_entries;
    lb_str *files; /* heap; in order of appearance */
    u32 n_files, cap_files;
    lb_err *err;
} parse;

static lb_status fail(parse *p, const char *what, lb_str name) {
    return lb_fail_at(p->err, LB_E_FORMAT, p->r.pos, "'%.*s' %s", LB_FMT(name), what);
}

static lb_status no_mem(parse *p) {
    return lb_fail(p->err, LB_E_NOMEM, "out of memory");
}

/* A decoded string of its own in the arena. */
static lb_status string(parse *p, lb_str *out) {
    LB_TRY(lb_json_string(&p->r, p->perm, out, p->err));
    if (!p->r.has_escape)
        *out = lb_arena_str(p->perm, *out);
    if (!out->ptr)
        return no_mem(p);
    return lb_str_is_utf8(*out) ? LB_OK : fail(p, "holds half a surrogate pair", *out);
}

/* Room for one more element; capacities double. */
static bool grow(void **list, u64 n, u64 *cap, size_t size_bytes) {
    if (n < *cap)
        return true;
    u64 new_cap = *cap ? *cap * 2 : 64;
    void *p = lb_realloc(*list, (size_t)new_cap * size_bytes);
    if (!p)
        return false;
    *list = p;
    *cap = new_cap;
    return true;
}

static lb_status file_of(parse *p, lb_str name, u32 *index) {
    u64 found;
    if (lb_map_find(&p->shards, name, &found)) {
        *index = (u32)found;
        return LB_OK;
    }
    if (!lb_str_is_file_name(name) || !lb_str_ends(name, lb_str_c(p->ending)))
        return lb_fail_at(p->err, LB_E_FORMAT, p->r.pos,
                          "'%.*s' is not the plain name of a %s file", LB_FMT(name), p->ending);
    u64 cap = p->cap_files;
    if (!grow((void **)&p->files, p->n_files, &cap, sizeof *p->files))
        return no_mem(p);
    p->cap_files = (u32)cap;
    name = lb_arena_str(p->perm, name);
    if (!name.ptr)
        return no_mem(p);
    LB_TRY(lb_map_put(&p->shards, name, p->n_files, NULL, p->err));
    *index = p->n_files;
    p->files[p->n_files++] = name;
    return LB_OK;
}

static lb_status entry(parse *p, lb_arena *scratch) {
    lb_index_entry e = {0};
    lb_json_tok tok;
    lb_str file;
    bool existed = false;
    LB_TRY(string(p, &e.tensor));
    LB_TRY(lb_map_put(&p->tensors, e.tensor, p->n_entries, &existed, p->err));
    if (existed)
        return fail(p, "stands twice", e.tensor);
    LB_TRY(lb_json_next(&p->r, &tok, p->err));
    if (tok != LB_JSON_STRING)
        return fail(p, "is not mapped to a file name", e.tensor);
    lb_arena_reset(scratch);
    LB_TRY(lb_json_string(&p->r, scratch, &file, p->err));
    LB_TRY(file_of(p, file, &e.shard));
    if (!grow((void **)&p->entries, p->n_entries, &p->cap_entries, sizeof *p->entries))
        return no_mem(p);
    p->entries[p->n_entries++] = e;
    return LB_OK;
}

static lb_status weight_map(parse *p) {
    lb_arena scratch = {0};
    lb_json_tok tok;
    lb_status st = lb_json_next(&p->r, &tok, p->err);
    if (st == LB_OK && tok != LB_JSON_OBJECT)
        st = fail(p, "is not an object", LB_STR("weight_map"));
    while (st == LB_OK) {
        st = lb_json_next(&p->r, &tok, p->err);
        if (st != LB_OK || tok == LB_JSON_OBJECT_END)
            break;
        st = entry(p, &scratch);
    }
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status members(parse *p) {
    bool seen = false;
    lb_json_tok tok;
    LB_TRY(lb_json_next(&p->r, &tok, p->err));
    if (tok != LB_JSON_OBJECT)
        return lb_fail_at(p->err, LB_E_FORMAT, 0, "not a JSON object");
    for (;;) {
        lb_str key;
        LB_TRY(lb_json_next(&p->r, &tok, p->err));
        if (tok == LB_JSON_OBJECT_END)
            break;
        LB_TRY(lb_json_string(&p->r, p->perm, &key, p->err));
        if (!lb_str_eq_c(key, "weight_map")) {
            LB_TRY(lb_json_skip(&p->r, p->err));
            continue;
        }
        if (seen)
            return fail(p, "stands twice", key);
        seen = true;
        LB_TRY(weight_map(p));
    }
    if (!seen)
        return fail(p, "is missing", LB_STR("weight_map"));
    return lb_json_next(&p->r, &tok, p->err);
}

typedef struct numbered {
    lb_str name;
    u32 index;
} numbered;

static int numbered_cmp(const void *va, const void *vb) {
    const numbered *a = va, *b = vb;
    return lb_str_cmp(a->name, b->name);
}

/* Shards sorted by name, entries renumbered; both moved to the arena. */
static lb_status finish(parse *p, lb_index *out) {
    lb_arena scratch = {0};
    lb_status st = LB_OK;
    numbered *sorted = lb_arena_new(&scratch, numbered, p->n_files);
    u32 *rank = lb_arena_new(&scratch, u32, p->n_files);
    out->shards = lb_arena_new(p->perm, lb_str, p->n_files);
    out->entries = lb_arena_new(p->perm, lb_index_entry, p->n_entries);
    if (!sorted || !rank || !out->shards || !out->entries)
        LB_TRY_DONE(st, no_mem(p));
    for (u32 i = 0; i < p->n_files; i++)
        sorted[i] = (numbered){p->files[i], i};
    qsort(sorted, p->n_files, sizeof *sorted, numbered_cmp);
    for (u32 i = 0; i < p->n_files; i++) {
        rank[sorted[i].index] = i;
        out->shards[i] = sorted[i].name;
    }
    for (u64 i = 0; i < p->n_entries; i++)
        out->entries[i] = (lb_index_entry){p->entries[i].tensor, rank[p->entries[i].shard]};
    out->n_shards = p->n_files;
    out->n_entries = p->n_entries;
done:
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_index_parse(lb_str text, const char *what, const char *ending, lb_arena *perm,
                         lb_index *out, lb_err *err) {
    parse p = {.perm = perm, .ending = ending, .err = err};
    lb_status st = LB_OK;
    *out = (lb_index){0};
    lb_json_begin(&p.r, text);
    LB_TRY_DONE(st, members(&p));
    LB_TRY_DONE(st, finish(&p, out));
done:
    lb_free(p.entries);
    lb_free(p.files);
    lb_map_deinit(&p.tensors);
    lb_map_deinit(&p.shards);
    if (st != LB_OK)
        lb_err_context(err, "%s", what);
    return st;
}
