/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_write.c: GGUF headers and the places of tensors.
 *
 * A header is produced by one function that runs twice over the same data: first to nowhere, which
 * counts the bytes, then to where they go. What this file accepts, gguf.c reads
 * back. */
#include "format/gguf_write.h"
#include "base/names.h"
#include "format/gguf.h"
#include "format/gguf_split.h"

/* ---- bytes ---- */

static void put(lb_out *w, const void *bytes, u64 n) {
    lb_buf_put(&w->buf, bytes, (size_t)n);
    lb_out_spill(w);
}

static void put_u32(lb_out *w, u32 v) {
    put(w, &v, sizeof v);
}

static void put_u64(lb_out *w, u64 v) {
    put(w, &v, sizeof v);
}

static void put_str(lb_out *w, lb_str s) {
    put_u64(w, s.len);
    put(w, s.ptr, s.len);
}

static void put_zeros_to(lb_out *w, u64 end) {
    while (lb_out_pos(w) < end && !lb_out_failed(w)) {
        lb_buf_put_zeros(&w->buf, (size_t)LB_MIN(end - lb_out_pos(w), 4 * LB_KIB));
        lb_out_spill(w);
    }
}

/* ---- key-value pairs ---- */

static void put_array(lb_out *w, const lb_gguf_kv *kv) {
    put_u32(w, (u32)kv->elem);
    put_u64(w, kv->n);
    if (kv->elem != LB_GGUF_STR) {
        put(w, kv->v.array, kv->n * lb_gguf_type_bytes(kv->elem));
        return;
    }
    for (u64 i = 0; i < kv->n; i++)
        put_str(w, lb_texts_get(kv->v.texts, i));
}

static void put_kv(lb_out *w, const lb_gguf_kv *kv) {
    put_str(w, kv->key);
    put_u32(w, (u32)kv->type);
    if (kv->type == LB_GGUF_STR) {
        put_str(w, kv->v.s);
    } else if (kv->type == LB_GGUF_ARRAY) {
        put_array(w, kv);
    } else if (kv->type == LB_GGUF_F32) {
        put_u32(w, lb_f32_bits((float)kv->v.f));
    } else if (kv->type == LB_GGUF_F64) {
        put(w, &kv->v.f, sizeof kv->v.f);
    } else { /* integers: the low bytes, little-endian; lb_meta_set has checked that they fit */
        put(w, &kv->v.u, lb_gguf_type_bytes(kv->type));
    }
}

static bool is_split_key(lb_str key) {
    return lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_NO) || lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_COUNT) ||
           lb_str_eq_c(key, LB_GGUF_KEY_SPLIT_TENSORS);
}

/* ---- one file's header ---- */

typedef struct lb_gguf_writer {
    const lb_gguf_item *items;
    u64 n_items;
    lb_gguf_layout_opts opts;
    u32 n_files, align_bytes;
    lb_gguf_layout *out; /* while planning */
    u64 *n_pairs;        /* [n_files] */
    u64 header_left;     /* of LB_GGUF_HEADER_MAX, over all files, as the reader counts */
    u64 *file_first;     /* [n_files + 1]: index of each file's first item */
    u64 *padded;         /* [n_items] */
} writer;

/* Pairs of a file. A split's first file has the model's pairs and then its own three; the others
 * have their own, in the order in which llama-gguf-split sets them (split.count is set again at its
 * end) or llama-quantize, where files are kept, and the alignment where it is not the default,
 * which a reader would otherwise assume. */
static u64 put_pairs(const writer *s, lb_out *w, u32 no) {
    u64 n = 0;
    for (u64 i = 0; no == 0 && i < s->opts.meta->n; i++) {
        if (!is_split_key(s->opts.meta->kv[i].key)) {
            put_kv(w, &s->opts.meta->kv[i]);
            n++;
        }
    }
    if (s->n_files == 1)
        return n;
    lb_gguf_kv own[] = {
        {.key = LB_STR(LB_GGUF_KEY_ALIGN), .type = LB_GGUF_U32, .v.u = s->align_bytes},
        {.key = LB_STR(LB_GGUF_KEY_SPLIT_NO), .type = LB_GGUF_U16, .v.u = no},
        {.key = LB_STR(LB_GGUF_KEY_SPLIT_TENSORS), .type = LB_GGUF_I32, .v.u = s->n_items},
        {.key = LB_STR(LB_GGUF_KEY_SPLIT_COUNT), .type = LB_GGUF_U16, .v.u = s->n_files},
        {.key = LB_STR(LB_GGUF_KEY_SPLIT_TENSORS), .type = LB_GGUF_I32, .v.u = s->n_items},
    };
    bool align = no > 0 && s->align_bytes != LB_GGUF_ALIGN_DEFAULT;
    for (u64 i = align ? 0 : 1; i < LB_LEN(own); i++) {
        if (i == (s->opts.keep_files ? 2 : 4))
            continue;
        put_kv(w, &own[i]);
        n++;
    }
    return n;
}

static void put_info(const writer *s, lb_out *w, const lb_gguf_item *item, u64 off) {
    const lb_shape *shape = &item->shape;
    u32 skip = 0, rank = shape->rank;
    put_str(w, item->name);
    if (s->opts.trim_dims) {
        while (skip + 1 < rank && shape->dim[skip] == 1) /* ggml_n_dims: at least one */
            skip++;
        rank = LB_MAX(rank, 1u);
    }
    put_u32(w, rank - skip);
    if (shape->rank < rank)
        put_u64(w, 1);
    for (u32 i = shape->rank; i > skip; i--)
        put_u64(w, shape->dim[i - 1]);
    put_u32(w, (u32)lb_dtype_get(item->dtype)->ggml);
    put_u64(w, off);
}

/* Writes the header of file no; returns the number of its pairs for the header's own count, which
 * is known only after a first run. */
static u64 put_header(const writer *s, lb_out *w, u32 no, u64 n_pairs) {
    u64 first = s->file_first[no], end = s->file_first[no + 1], off = 0, begin = lb_out_pos(w);
    put_u32(w, LB_GGUF_MAGIC);
    put_u32(w, 3);
    put_u64(w, end - first);
    put_u64(w, n_pairs);
    n_pairs = put_pairs(s, w, no);
    for (u64 i = first; i < end; i++) {
        put_info(s, w, &s->items[i], off);
        off += s->padded[i];
    }
    u64 align = s->align_bytes;
    put_zeros_to(w, begin + ((lb_out_pos(w) - begin + align - 1) & ~(align - 1)));
    return n_pairs;
}

void lb_gguf_layout_write(const lb_gguf_layout *l, u32 file, lb_out *out) {
    (void)put_header(l->writer, out, file, l->writer->n_pairs[file]);
}

/* ---- checks ---- */

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a GGUF header");
}

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_gguf_item *)list)[i].name;
}

static lb_status check_name(const lb_gguf_item *items, lb_names *names, u64 i, lb_err *err) {
    lb_str name = items[i].name;
    u64 first;
    lb_str shown = lb_str_sub(name, 0, 100);
    if (name.len == 0)
        return lb_fail(err, LB_E_FORMAT, "tensor %llu has no name", (unsigned long long)i);
    if (name.len > LB_GGUF_NAME_MAX)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': a GGUF name has at most %d bytes, not %zu",
                       LB_FMT(shown), LB_GGUF_NAME_MAX, name.len);
    if (memchr(name.ptr, 0, name.len) || !lb_str_is_utf8(name))
        return lb_fail(err, LB_E_FORMAT, "the name of tensor %llu is not UTF-8 or holds a NUL byte",
                       (unsigned long long)i);
    LB_TRY(lb_names_put(names, name_of, items, i, &first, err));
    if (first != i)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' appears twice", LB_FMT(shown));
    return LB_OK;
}

/* Type and shape; sets size_bytes. Readers take elements and padded sums below 2^63. */
static lb_status check_item(lb_gguf_item *t, u32 align, u64 *padded, lb_err *err) {
    const lb_dtype_info *info = lb_dtype_get(t->dtype);
    const lb_shape *shape = &t->shape;
    u64 n = 1;
    if (info->ggml < 0)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': GGUF has no type %s", LB_FMT(t->name),
                       info->name);
    if (shape->rank > LB_GGUF_RANK_MAX)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': GGUF has at most %d dimensions, not %u", LB_FMT(t->name),
                       LB_GGUF_RANK_MAX, shape->rank);
    u64 row = shape->rank ? shape->dim[shape->rank - 1] : 1;
    if (row % info->block_elems != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s': rows of %llu elements are no whole blocks of %s (%u)",
                       LB_FMT(t->name), (unsigned long long)row, info->name, info->block_elems);
    bool empty = false;
    for (u32 i = 0; i < shape->rank; i++) { /* fastest first: the order of the reader's test */
        u64 d = shape->dim[shape->rank - 1 - i];
        if (d > INT64_MAX || (i > 0 && d > 1 && INT64_MAX / d <= n))
            return lb_fail(err, LB_E_LIMIT, "tensor '%.*s' has more than 2^63 elements",
                           LB_FMT(t->name));
        n *= d > 0 ? d : 1;
        empty |= d == 0;
    }
    if (!lb_dtype_bytes(t->dtype, empty ? 0 : n, &t->size_bytes) ||
        !lb_align_u64(t->size_bytes, align, padded) || *padded > INT64_MAX)
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s' has more than 2^63 bytes", LB_FMT(t->name));
    return LB_OK;
}

static lb_status check_items(writer *s, lb_gguf_item *items, lb_err *err) {
    lb_names names = {0};
    lb_status st = LB_OK;
    u64 sum = 0;
    for (u64 i = 0; st == LB_OK && i < s->n_items; i++) {
        st = check_name(items, &names, i, err);
        if (st == LB_OK)
            st = check_item(&items[i], s->align_bytes, &s->padded[i], err);
        if (st != LB_OK)
            break;
        s->out->total_bytes += items[i].size_bytes;
        if (!lb_add_u64(sum, s->padded[i], &sum) || sum > INT64_MAX)
            st = lb_fail(err, LB_E_LIMIT, "the tensors have more than 2^63 bytes");
    }
    lb_names_deinit(&names);
    return st;
}

static lb_status find_alignment(writer *s, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(s->opts.meta, LB_GGUF_KEY_ALIGN);
    s->out->align_bytes = s->align_bytes = LB_GGUF_ALIGN_DEFAULT;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_U32 || kv->v.u == 0 || (kv->v.u & (kv->v.u - 1)) != 0)
        return lb_fail(err, LB_E_FORMAT, "key '%s' must be a u32 and a power of two",
                       LB_GGUF_KEY_ALIGN);
    if (kv->v.u > LB_GGUF_ALIGN_MAX)
        return lb_fail(err, LB_E_LIMIT, "key '%s' is %llu, at most %u is written",
                       LB_GGUF_KEY_ALIGN, (unsigned long long)kv->v.u, LB_GGUF_ALIGN_MAX);
    s->out->align_bytes = s->align_bytes = (u32)kv->v.u;
    return LB_OK;
}

/* ---- layout ---- */

/* Decides the number of files and each item's file. */
static lb_status cut(writer *s, lb_gguf_item *items, lb_arena *perm, lb_err *err) {
    u64 n_files = 1, max = s->opts.max_file_bytes;
    u32 *file = lb_arena_new(perm, u32, s->n_items + 1);
    if (!file)
        return no_memory(err);
    if (s->opts.keep_files) {
        for (u64 i = 0; i < s->n_items; i++)
            file[i] = items[i].file;
        n_files = s->n_items ? (u64)file[s->n_items - 1] + 1 : 1;
    } else if (s->opts.max_file_items) {
        for (u64 i = 0; i < s->n_items; i++)
            file[i] = (u32)(i / s->opts.max_file_items);
        n_files = LB_MAX(lb_ceil_div_u64(s->n_items, s->opts.max_file_items), (u64)1);
    } else if (max > 0)
        n_files = lb_gguf_split_cut(s->padded, s->n_items, max, 0, file);
    if (n_files > 1 && s->opts.first_no_tensors)
        n_files = lb_gguf_split_cut(s->padded, s->n_items, max, 1, file);
    if (n_files > LB_GGUF_SPLIT_MAX || (n_files > 1 && s->n_items > INT32_MAX))
        return lb_fail(
            err, LB_E_LIMIT,
            "a split into %llu files of %llu tensors: the limits are %d and 2^31: choose a "
            "larger size",
            (unsigned long long)n_files, (unsigned long long)s->n_items, LB_GGUF_SPLIT_MAX);
    s->out->n_files = s->n_files = (u32)n_files;
    s->n_pairs = lb_arena_new(perm, u64, n_files);
    s->out->files = lb_arena_new(perm, lb_gguf_file, n_files);
    s->file_first = lb_arena_new(perm, u64, n_files + 1);
    if (!s->out->files || !s->file_first || !s->n_pairs)
        return no_memory(err);
    for (u64 i = 0; i < s->n_items; i++) {
        items[i].file = file[i];
        s->out->files[file[i]].n_items++;
    }
    for (u64 i = 0; i < n_files; i++)
        s->file_first[i + 1] = s->file_first[i] + s->out->files[i].n_items;
    return LB_OK;
}

static lb_status build_header(writer *s, u32 no, lb_arena *perm, lb_err *err) {
    lb_gguf_file *f = &s->out->files[no];
    lb_buf text = {0};
    lb_out w = {.put = lb_out_to_buf, .ctx = &text};
    (void)put_header(s, &w, no, s->n_pairs[no]);
    lb_status st = lb_out_end(&w, err);
    if (st == LB_OK) {
        u8 *bytes = lb_arena_push(perm, text.len, 1);
        if (bytes)
            memcpy(bytes, text.ptr, text.len);
        else
            st = no_memory(err);
        f->header.ptr = (const char *)bytes;
    }
    lb_buf_deinit(&text);
    return st;
}

static lb_status build_file(writer *s, lb_gguf_item *items, u32 no, lb_arena *perm, lb_err *err) {
    lb_gguf_file *f = &s->out->files[no];
    lb_out w = {0};
    s->n_pairs[no] = put_header(s, &w, no, 0);
    u64 len = lb_out_pos(&w);
    LB_TRY(lb_out_end(&w, err));
    if (len - LB_MIN(len, s->align_bytes) > s->header_left)
        return lb_fail(err, LB_E_LIMIT,
                       "GGUF metadata and tensor list above the limit of %llu bytes",
                       (unsigned long long)LB_GGUF_HEADER_MAX);
    s->header_left -= LB_MIN(s->header_left, len);
    f->name = s->n_files > 1 ? lb_gguf_split_format(perm, s->opts.stem, no, s->n_files)
                             : lb_arena_printf(perm, "%.*s.gguf", LB_FMT(s->opts.stem));
    if (!f->name.ptr)
        return no_memory(err);
    f->header = (lb_str){NULL, (size_t)len};
    if (!s->opts.later)
        LB_TRY(build_header(s, no, perm, err));
    f->size_bytes = len;
    for (u64 i = s->file_first[no]; i < s->file_first[no + 1]; i++) {
        items[i].off_bytes = f->size_bytes;
        if (!lb_add_u64(f->size_bytes, s->padded[i], &f->size_bytes) || f->size_bytes > INT64_MAX)
            return lb_fail(err, LB_E_LIMIT, "a GGUF file of more than 2^63 bytes");
    }
    return LB_OK;
}

/* The place of a string's bytes: what stands before them in the header of the first file. */
static lb_status find_field(const writer *s, const char *key, u64 *off, lb_err *err) {
    lb_out w = {.n_bytes = 4 + 4 + 8 + 8};
    bool found = false;
    for (u64 i = 0; i < s->opts.meta->n && !found; i++) {
        const lb_gguf_kv *kv = &s->opts.meta->kv[i];
        if (is_split_key(kv->key))
            continue;
        found = lb_str_eq_c(kv->key, key) && kv->type == LB_GGUF_STR;
        if (found)
            *off = lb_out_pos(&w) + 8 + kv->key.len + 4 + 8;
        else
            put_kv(&w, kv);
    }
    LB_TRY(lb_out_end(&w, err));
    return found ? LB_OK
                 : lb_fail(err, LB_E_NOT_FOUND, "the GGUF metadata have no string '%s'", key);
}

lb_status lb_gguf_layout_plan(lb_gguf_item *items, u64 n_items, const lb_gguf_layout_opts *opts,
                              lb_arena *perm, lb_gguf_layout *out, lb_err *err) {
    writer *s = lb_arena_new(perm, writer, 1);
    *out = (lb_gguf_layout){.writer = s};
    if (!s)
        return no_memory(err);
    *s = (writer){.items = items,
                  .n_items = n_items,
                  .opts = *opts,
                  .out = out,
                  .header_left = LB_GGUF_HEADER_MAX};
    s->padded = lb_arena_new(perm, u64, n_items + 1);
    out->field_off = lb_arena_new(perm, u64, (u64)opts->n_fields + 1);
    if (!s->padded || !out->field_off)
        return no_memory(err);
    if (n_items >= UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%llu tensors are more than a layout holds",
                       (unsigned long long)n_items);
    LB_TRY(find_alignment(s, err));
    LB_TRY(check_items(s, items, err));
    LB_TRY(cut(s, items, perm, err));
    for (u32 i = 0; i < out->n_files; i++)
        LB_TRY(build_file(s, items, i, perm, err));
    for (u32 i = 0; i < opts->n_fields; i++)
        LB_TRY(find_field(s, opts->fields[i], &out->field_off[i], err));
    s->out = NULL;
    return LB_OK;
}
