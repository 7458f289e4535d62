/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_open.c: one GGUF file, or the files of a split, as a lb_source.
 *
 * Rules of a split as in llama.cpp src/llama-model-loader.cpp (llama-cpp-python 0.3.36): the model
 * is opened by its first file, names follow the pattern, every file carries its number, a tensor
 * stands in one file only, and split.tensors.count is the number of all. */
#include "format/gguf.h"
#include "base/os.h"
#include "format/gguf_split.h"

typedef struct opener {
    lb_source *s;
    lb_arena scratch;
    lb_gguf_info *info;
    lb_gguf_meta *first;
    u64 header_left; /* of LB_GGUF_HEADER_MAX, over all files */
    lb_err *err;
} opener;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a GGUF directory");
}

/* Adds a file's tensors to the source; dir's pairs stay in the source's arena. */
static lb_status add_file(opener *o, const char *path, lb_gguf_dir *dir) {
    lb_cur c;
    u32 file;
    *dir = (lb_gguf_dir){
        .perm = &o->s->perm, .scratch = &o->scratch, .header_bytes_max = o->header_left};
    LB_TRY(lb_source_add_file(o->s, path, lb_os_base_name(lb_str_c(path)), &file, o->err));
    LB_TRY(lb_cur_open(&c, path, o->err));
    lb_status st = lb_gguf_parse(&c, dir, o->err);
    lb_cur_close(&c);
    for (u64 i = 0; st == LB_OK && i < dir->n_tensors; i++) {
        dir->tensors[i].file = file;
        st = lb_source_add_tensor(o->s, &dir->tensors[i], o->err);
    }
    lb_arena_reset(&o->scratch);
    o->header_left -= LB_MIN(o->header_left - 1, dir->header_bytes); /* 0 would mean the default */
    return st;
}

/* ---- split files ---- */

/* The value of a split.* key: of exactly the type that the tools write. *present may be NULL. */
static lb_status split_value(const lb_gguf_meta *m, const char *key, lb_gguf_type type, u64 *out,
                             bool *present, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(m, key);
    *out = 0;
    if (present)
        *present = kv != NULL;
    if (!kv)
        return LB_OK;
    if (kv->type != type || !lb_kv_as_u64(kv, out))
        return lb_fail(err, LB_E_FORMAT, "key '%s' must be a %s from 0", key,
                       lb_gguf_type_name(type));
    return LB_OK;
}

/* The stem of the first file's path, or an error that says which file to open. */
static lb_status split_stem(opener *o, u64 no, u64 count, lb_str *stem) {
    lb_str path = lb_str_c(o->s->path);
    bool named = lb_gguf_split_parse(path, (u32)no, (u32)count, stem);
    if (no != 0 && named) {
        lb_str first = lb_gguf_split_format(&o->scratch, *stem, 0, (u32)count);
        return lb_fail(o->err, LB_E_USAGE,
                       "%s: this is file %llu of %llu of a split model: open %.*s", o->s->path,
                       (unsigned long long)no + 1, (unsigned long long)count, LB_FMT(first));
    }
    if (no != 0)
        return lb_fail(o->err, LB_E_USAGE,
                       "%s: this is file %llu of %llu of a split model: open its first file",
                       o->s->path, (unsigned long long)no + 1, (unsigned long long)count);
    if (!named)
        return lb_fail(o->err, LB_E_FORMAT,
                       "%s: the first of %llu files of a split model must be named "
                       "<name>-00001-of-%05llu.gguf: rename it",
                       o->s->path, (unsigned long long)count, (unsigned long long)count);
    return LB_OK;
}

static lb_status add_shard(opener *o, lb_str stem, u32 no, u32 count) {
    lb_str path = lb_gguf_split_format(&o->s->perm, stem, no, count);
    lb_gguf_dir dir;
    u64 says_no, says_count;
    bool has_no, has_count;
    if (!path.ptr)
        return no_memory(o->err);
    lb_status st = add_file(o, path.ptr, &dir);
    if (st == LB_E_NOT_FOUND)
        lb_err_context(o->err, "file %u of %u of a split model", no + 1, count);
    LB_TRY(st);
    LB_TRY(split_value(&dir.meta, LB_GGUF_KEY_SPLIT_NO, LB_GGUF_U16, &says_no, &has_no, o->err));
    LB_TRY(split_value(&dir.meta, LB_GGUF_KEY_SPLIT_COUNT, LB_GGUF_U16, &says_count, &has_count,
                       o->err));
    if (!has_no)
        return lb_fail(o->err, LB_E_FORMAT, "%s: key '%s' is missing: no part of a split model",
                       path.ptr, LB_GGUF_KEY_SPLIT_NO);
    if (says_no != no || (has_count && says_count != count))
        return lb_fail(o->err, LB_E_FORMAT,
                       "%s: says to be file %llu of %llu of a split model: files were mixed up",
                       path.ptr, (unsigned long long)says_no + 1, (unsigned long long)says_count);
    return LB_OK;
}

static lb_status add_shards(opener *o) {
    u64 no, count, n_tensors;
    bool has_no, has_tensors;
    lb_str stem;
    LB_TRY(split_value(o->first, LB_GGUF_KEY_SPLIT_COUNT, LB_GGUF_U16, &count, NULL, o->err));
    if (count <= 1)
        return LB_OK;
    LB_TRY(split_value(o->first, LB_GGUF_KEY_SPLIT_NO, LB_GGUF_U16, &no, &has_no, o->err));
    LB_TRY(split_value(o->first, LB_GGUF_KEY_SPLIT_TENSORS, LB_GGUF_I32, &n_tensors, &has_tensors,
                       o->err));
    if (!has_no || !has_tensors)
        return lb_fail(o->err, LB_E_FORMAT, "%s: key '%s' of a split model is missing", o->s->path,
                       has_no ? LB_GGUF_KEY_SPLIT_TENSORS : LB_GGUF_KEY_SPLIT_NO);
    LB_TRY(split_stem(o, no, count, &stem));
    for (u32 i = 1; i < count; i++)
        LB_TRY(add_shard(o, stem, i, (u32)count));
    o->info->n_files = (u32)count;
    if (n_tensors != o->s->n_tensors)
        return lb_fail(o->err, LB_E_FORMAT, "%s: %llu tensors were promised, the files hold %llu",
                       o->s->path, (unsigned long long)n_tensors,
                       (unsigned long long)o->s->n_tensors);
    return LB_OK;
}

/* ---- metadata ---- */

static bool is_split_key(lb_str key) {
    return lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_NO) || lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_COUNT) ||
           lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_TENSORS);
}

/* The model's pairs: the first file's without split.*, in the same order; values are shared. */
static lb_status model_meta(opener *o) {
    lb_gguf_meta *m = &o->info->meta;
    lb_meta_init(m, &o->s->perm);
    m->kv = lb_arena_new(&o->s->perm, lb_gguf_kv, o->first->n);
    if (!m->kv && o->first->n > 0)
        return no_memory(o->err);
    m->cap = o->first->n;
    for (u64 i = 0; i < o->first->n; i++) {
        if (!is_split_key(o->first->kv[i].key))
            m->kv[m->n++] = o->first->kv[i];
    }
    o->info->first = o->first;
    o->s->gguf = m;
    return LB_OK;
}

/* ---- weights ---- */

/* Index of the tensor called stem + tail; names are at most LB_GGUF_NAME_MAX bytes. */
static bool companion(const lb_source *s, lb_str stem, const char *tail, u64 *at) {
    char name[LB_GGUF_NAME_MAX + 1];
    size_t len = strlen(tail);
    if (stem.len + len > LB_GGUF_NAME_MAX)
        return false;
    memcpy(name, stem.ptr, stem.len);
    memcpy(name + stem.len, tail, len);
    const lb_tensor *t = lb_source_tensor(s, (lb_str){name, stem.len + len});
    *at = t ? (u64)(t - s->tensors) : 0;
    return t != NULL;
}

static bool stem_of(lb_str name, const char *tail, lb_str *stem) {
    if (!lb_str_ends(name, lb_str_c(tail)))
        return false;
    *stem = lb_str_sub(name, 0, name.len - strlen(tail));
    return true;
}

/* The scale of an NVFP4 weight: f32, one element, or one a matrix of a stack
 * (convert_hf_to_gguf.py: conversion/base.py _repack_nvfp4 and _flush_nvfp4_experts). */
static lb_status check_scale(const lb_source *s, const lb_tensor *w, const lb_tensor *scale,
                             lb_err *err) {
    bool stacked = w->shape.rank == 3 && scale->n_elems == w->shape.dim[0];
    if (scale->dtype == LB_F32 && (scale->n_elems == 1 || stacked))
        return LB_OK;
    char text[LB_SHAPE_TEXT];
    return lb_fail(err, LB_E_FORMAT, "%s: tensor '%.*s' is no scale for '%.*s': type %s, shape %s",
                   s->path, LB_FMT(scale->name), LB_FMT(w->name), lb_dtype_get(scale->dtype)->name,
                   lb_shape_text(&scale->shape, text));
}

static lb_status add_weight(lb_source *s, u64 i, lb_err *err) {
    const lb_tensor *t = &s->tensors[i];
    lb_weight w = {.name = t->name, .shape = t->shape, .enc.kind = LB_ENC_PLAIN, .n_parts = 1};
    lb_str stem;
    u64 at;
    w.part[0] = (u32)i;
    if (t->dtype == LB_NVFP4 && stem_of(t->name, ".weight", &stem) &&
        companion(s, stem, ".scale", &at)) {
        LB_TRY(check_scale(s, t, &s->tensors[at], err));
        w.enc.kind = LB_ENC_GGUF_SCALED;
        w.n_parts = 2;
        w.part[1] = (u32)at;
    } else if (stem_of(t->name, ".scale", &stem) && companion(s, stem, ".weight", &at) &&
               s->tensors[at].dtype == LB_NVFP4) {
        return LB_OK; /* a part of that weight */
    }
    return lb_source_add_weight(s, &w, err);
}

static lb_status add_weights(opener *o) {
    for (u64 i = 0; i < o->s->n_tensors; i++)
        LB_TRY(add_weight(o->s, i, o->err));
    return LB_OK;
}

/* ---- open ---- */

static lb_status open_all(opener *o) {
    lb_gguf_dir dir;
    LB_TRY(add_file(o, o->s->path, &dir));
    o->info = lb_arena_new(&o->s->perm, lb_gguf_info, 1);
    o->first = lb_arena_new(&o->s->perm, lb_gguf_meta, 1);
    if (!o->info || !o->first)
        return no_memory(o->err);
    *o->first = dir.meta;
    o->info->version = dir.version;
    o->info->align_bytes = dir.align_bytes;
    o->info->n_files = 1;
    LB_TRY(add_shards(o));
    LB_TRY(model_meta(o));
    return add_weights(o);
}

lb_status lb_gguf_open(lb_source **out, const char *path, lb_err *err) {
    opener o = {.header_left = LB_GGUF_HEADER_MAX, .err = err};
    *out = NULL;
    o.s = lb_source_new(LB_FORMAT_GGUF, path);
    if (!o.s)
        return no_memory(err);
    lb_status st = open_all(&o);
    lb_arena_deinit(&o.scratch);
    if (st == LB_OK)
        *out = o.s;
    else
        lb_source_close(&o.s);
    return st;
}

const lb_gguf_info *lb_gguf_info_get(const lb_source *s) {
    return s->format == LB_FORMAT_GGUF ? (const lb_gguf_info *)(const void *)s->gguf : NULL;
}
