/* SPDX-License-Identifier: Apache-2.0 */
/* st_layout.c: cuts an ordered list of tensors into shards and writes their headers and the index.
 *
 * Steps: sizes and names checked; a shard number for each tensor by the style's rule; offsets in
 * each shard; header text; index text. Nothing depends on tensor bytes. Rules
 * read from huggingface_hub 2.4.0 serialization/_base.py (split_state_dict_into_shards_factory),
 * transformers 5.23.0 modeling_utils.py (save_pretrained), mlx-lm 0.32.2 utils.py (make_shards,
 * save_model), the crate safetensors 0.8.0 (prepare). */
#include "format/st_layout.h"

#include "base/names.h"
#include "format/safetensors.h"
#include "io/json.h"

#include <stdlib.h>

#define LEN_BYTES 8

typedef unsigned long long ull;

/* What writes headers and index; in the layout's arena. */
typedef struct lb_st_writer {
    const lb_st_item *items;
    u64 n_items;
    lb_st_layout_opts o;
    u32 *by_shard; /* item indices, shard after shard, in the order of their data */
    struct place {
        u64 first, header_bytes; /* first: index into by_shard */
    } * shards;
} lb_st_writer;

typedef struct layout {
    lb_st_item *items;
    u64 n_items;
    const lb_st_layout_opts *o;
    lb_arena *perm;
    lb_arena scratch;
    lb_st_layout *out;
    lb_st_writer *w;
    lb_err *err;
} layout;

static lb_status no_mem(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "safetensors layout: out of memory");
}

/* ---- checks ---- */

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_st_item *)list)[i].name;
}

static lb_status check_item(lb_st_item *items, lb_names *names, u64 index, lb_err *err) {
    lb_st_item *it = &items[index];
    char text[LB_SHAPE_TEXT];
    u64 n, first;
    if (!lb_dtype_get(it->dtype)->safetensors)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': type %s cannot stand in a safetensors file",
                       LB_FMT(it->name), lb_dtype_get(it->dtype)->name);
    if (!lb_str_is_utf8(it->name) || lb_str_eq_c(it->name, "__metadata__"))
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s': the name cannot stand in a safetensors file",
                       LB_FMT(it->name));
    if (!lb_shape_elems(&it->shape, &n) || !lb_dtype_bytes(it->dtype, n, &it->size_bytes))
        return lb_fail(
            err, LB_E_FORMAT, "tensor '%.*s': %s %s does not fill whole bytes or overflows",
            LB_FMT(it->name), lb_dtype_get(it->dtype)->name, lb_shape_text(&it->shape, text));
    LB_TRY(lb_names_put(names, name_of, items, index, &first, err));
    if (first != index)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' stands twice in the output",
                       LB_FMT(it->name));
    return LB_OK;
}

static lb_status check_meta(const lb_st_layout_opts *o, lb_err *err) {
    for (u64 i = 0; i < o->n_meta; i++) {
        const lb_st_meta *m = &o->meta[i];
        if (!lb_str_is_utf8(m->key) || (!m->field_len && !lb_str_is_utf8(m->value)))
            return lb_fail(err, LB_E_FORMAT, "metadata '%.*s': not UTF-8", LB_FMT(m->key));
        for (u64 j = 0; j < i; j++)
            if (lb_str_eq(o->meta[j].key, m->key))
                return lb_fail(err, LB_E_FORMAT, "metadata '%.*s' stands twice", LB_FMT(m->key));
    }
    return LB_OK;
}

static lb_status check(layout *l) {
    lb_names names = {0};
    lb_status st = check_meta(l->o, l->err);
    if (st == LB_OK && l->n_items >= UINT32_MAX)
        st = lb_fail(l->err, LB_E_LIMIT, "%llu tensors are more than a layout holds",
                     (ull)l->n_items);
    for (u64 i = 0; st == LB_OK && i < l->n_items; i++) {
        st = check_item(l->items, &names, i, l->err);
        if (st == LB_OK &&
            !lb_add_u64(l->out->total_bytes, l->items[i].size_bytes, &l->out->total_bytes))
            st = lb_fail(l->err, LB_E_LIMIT, "the output's size overflows");
    }
    lb_names_deinit(&names);
    return st;
}

/* ---- shards ---- */

/* A group is a shard that is being filled; its number is its turn to be closed. mlx-lm closes it
 * when the next tensor does not fit. huggingface_hub gives a tensor above the limit a shard that is
 * closed at once, while the open one goes on: [6, 6, 2, 11, 2] with limit 10 is [6] [11] [6, 2, 2].
 */
static void cut(layout *l, u32 *number_of_group, u32 *n_shards) {
    u64 max = l->o->max_shard_bytes ? l->o->max_shard_bytes : UINT64_MAX;
    u64 size = 0;
    u32 n_groups = 0, n_closed = 0, open = UINT32_MAX;
    for (u64 i = 0; i < l->n_items; i++) {
        u64 item = l->items[i].size_bytes;
        if (l->o->style == LB_ST_HF && item > max) {
            l->items[i].shard = n_groups;
            number_of_group[n_groups++] = n_closed++;
            continue;
        }
        if (open == UINT32_MAX || size > max || item > max - size) {
            if (open != UINT32_MAX)
                number_of_group[open] = n_closed++;
            open = n_groups++;
            size = 0;
        }
        l->items[i].shard = open;
        size += item;
    }
    if (open != UINT32_MAX)
        number_of_group[open] = n_closed++;
    for (u64 i = 0; i < l->n_items; i++)
        l->items[i].shard = number_of_group[l->items[i].shard];
    *n_shards = n_closed ? n_closed : 1; /* a model without tensors is one empty file */
}

static lb_status name_shards(layout *l) {
    const char *stem = l->o->stem ? l->o->stem : "model";
    u32 n = l->out->n_shards;
    for (u32 i = 0; i < n; i++) {
        lb_st_shard *sh = &l->out->shards[i];
        sh->name = n == 1 ? lb_arena_printf(l->perm, "%s.safetensors", stem)
                          : lb_arena_printf(l->perm, "%s-%05u-of-%05u.safetensors", stem, i + 1, n);
        sh->field_off = lb_arena_new(l->perm, u64, l->o->n_meta);
        if (!sh->name.ptr || !sh->field_off)
            return no_mem(l->err);
    }
    return LB_OK;
}

/* In a file that is to be mapped, tensors of whole pages come first, so that each begins on one and
 * none needs a hole; behind them the widest elements first, so that each is aligned for its type.
 */
enum { TURNS = 5 };

static u32 turn_of(const lb_st_layout_opts *o, const lb_st_item *it) {
    u32 width = lb_dtype_get(it->dtype)->block_bytes;
    if (o->data_align == LEN_BYTES || it->size_bytes % o->data_align == 0)
        return 0;
    return width >= 8 ? 1 : width >= 4 ? 2 : width >= 2 ? 3 : 4;
}

static lb_status make_shards(layout *l) {
    u32 *numbers = lb_arena_new(&l->scratch, u32, l->n_items + 1);
    l->w->by_shard = lb_arena_new(l->perm, u32, l->n_items + 1);
    if (!numbers || !l->w->by_shard)
        return no_mem(l->err);
    cut(l, numbers, &l->out->n_shards);
    l->out->shards = lb_arena_new(l->perm, lb_st_shard, l->out->n_shards);
    l->w->shards = lb_arena_new(l->perm, struct place, l->out->n_shards);
    u64 *fill = lb_arena_new(&l->scratch, u64, l->out->n_shards);
    if (!l->out->shards || !fill || !l->w->shards)
        return no_mem(l->err);
    for (u64 i = 0; i < l->n_items; i++)
        l->out->shards[l->items[i].shard].n_items++;
    for (u32 s = 1; s < l->out->n_shards; s++)
        l->w->shards[s].first = fill[s] = fill[s - 1] + l->out->shards[s - 1].n_items;
    for (u32 turn = 0; turn < TURNS; turn++)
        for (u64 i = 0; i < l->n_items; i++)
            if (turn_of(l->o, &l->items[i]) == turn)
                l->w->by_shard[fill[l->items[i].shard]++] = (u32)i;
    return name_shards(l);
}

/* ---- headers ---- */

/* field_off (may be NULL) gets the places of fields in the file. */
static void put_meta(const lb_st_layout_opts *o, u64 begin, u64 *field_off, lb_out *out) {
    lb_buf *b = &out->buf;
    lb_buf_put_c(b, "\"__metadata__\":{");
    for (u64 i = 0; i < o->n_meta; i++) {
        const lb_st_meta *m = &o->meta[i];
        if (i)
            lb_buf_put_u8(b, ',');
        lb_json_write_str(b, m->key, false);
        lb_buf_put_u8(b, ':');
        if (!m->field_len) {
            lb_json_write_str(b, m->value, false);
            continue;
        }
        lb_buf_put_u8(b, '"');
        if (field_off)
            field_off[i] = lb_out_pos(out) - begin;
        lb_buf_put_run(b, ' ', m->field_len);
        lb_buf_put_u8(b, '"');
    }
    lb_buf_put_u8(b, '}');
}

static void put_tensor(lb_buf *b, const lb_st_item *it, u64 off) {
    lb_json_write_str(b, it->name, false);
    lb_buf_put_c(b, ":{\"dtype\":\"");
    lb_buf_put_c(b, lb_dtype_get(it->dtype)->safetensors);
    lb_buf_put_c(b, "\",\"shape\":[");
    for (u32 d = 0; d < it->shape.rank; d++) {
        if (d)
            lb_buf_put_u8(b, ',');
        lb_buf_put_dec(b, it->shape.dim[d]);
    }
    lb_buf_put_c(b, "],\"data_offsets\":[");
    lb_buf_put_dec(b, off);
    lb_buf_put_u8(b, ',');
    lb_buf_put_dec(b, off + it->size_bytes);
    lb_buf_put_c(b, "]}");
}

/* Writes a header of header_bytes in all (0: not known yet, no padding). */
static void put_header(const lb_st_writer *w, u32 shard, u64 n_items, u64 *field_off, lb_out *out) {
    const lb_st_layout_opts *o = &w->o;
    lb_buf *b = &out->buf;
    u64 data = 0, begin = lb_out_pos(out), end = w->shards[shard].header_bytes;
    lb_buf_put_u64(b, end ? end - LEN_BYTES : 0);
    lb_buf_put_u8(b, '{');
    if (o->n_meta)
        put_meta(o, begin, field_off, out);
    for (u64 i = 0; i < n_items && !lb_out_failed(out); i++) {
        const lb_st_item *it = &w->items[w->by_shard[w->shards[shard].first + i]];
        if (i || o->n_meta)
            lb_buf_put_u8(b, ',');
        put_tensor(b, it, data);
        data += it->size_bytes;
        lb_out_spill(out);
    }
    lb_buf_put_u8(b, '}');
    const u64 used = lb_out_pos(out) - begin;
    if (used < end)
        lb_buf_put_run(b, ' ', (size_t)(end - used));
    lb_out_spill(out);
}

void lb_st_layout_write(const lb_st_layout *l, u32 shard, lb_out *out) {
    put_header(l->writer, shard, l->shards[shard].n_items, NULL, out);
}

static lb_status build_header(layout *l, u32 shard) {
    lb_st_shard *sh = &l->out->shards[shard];
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    put_header(l->w, shard, sh->n_items, NULL, &out);
    lb_status st = lb_out_end(&out, l->err);
    if (st == LB_OK)
        sh->header = lb_arena_str(l->perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return st == LB_OK && !sh->header.ptr ? no_mem(l->err) : st;
}

/* Sizes and places; the header itself where it is wanted now. */
static lb_status place_shard(layout *l, u32 shard) {
    lb_st_shard *sh = &l->out->shards[shard];
    const u32 *members = l->w->by_shard + l->w->shards[shard].first;
    lb_out count = {0};
    u64 end, data = 0;
    put_header(l->w, shard, sh->n_items, sh->field_off, &count);
    u64 len = lb_out_pos(&count);
    LB_TRY(lb_out_end(&count, l->err));
    if (!lb_align_u64(len, l->o->data_align, &end) || end - LEN_BYTES > LB_ST_HEADER_MAX)
        return lb_fail(
            l->err, LB_E_LIMIT,
            "%.*s: a header of %llu bytes is above the limit of %llu: use smaller shards",
            LB_FMT(sh->name), (ull)len - LEN_BYTES, (ull)LB_ST_HEADER_MAX);
    l->w->shards[shard].header_bytes = end;
    for (u64 i = 0; i < sh->n_items; i++) {
        lb_st_item *it = &l->items[members[i]];
        it->off_bytes = end + data;
        data += it->size_bytes;
    }
    if (!lb_add_u64(end, data, &sh->size_bytes))
        return lb_fail(l->err, LB_E_LIMIT, "%.*s: the file's size overflows", LB_FMT(sh->name));
    sh->header = (lb_str){NULL, (size_t)end};
    return l->o->later ? LB_OK : build_header(l, shard);
}

/* ---- index ---- */

static int item_cmp_name(const void *va, const void *vb) {
    const lb_st_item *const *a = va, *const *b = vb;
    return lb_str_cmp((*a)->name, (*b)->name);
}

static void put_indent(lb_buf *b, u32 n) {
    lb_buf_put_c(b, "\n");
    for (u32 i = 0; i < n; i++)
        lb_buf_put_u8(b, ' ');
}

static void put_count(lb_buf *b, u32 indent, const char *key, u64 v, const char *end) {
    put_indent(b, 2 * indent);
    lb_buf_printf(b, "\"%s\": %llu%s", key, (ull)v, end);
}

/* As Python's json.dump(indent) with ensure_ascii; transformers sorts all keys and ends the line.
 */
static void put_index(const lb_st_layout *l, const lb_st_item **sorted, lb_out *out) {
    const lb_st_writer *w = l->writer;
    lb_buf *b = &out->buf;
    bool hf = w->o.style == LB_ST_HF;
    u32 indent = hf ? 2 : 4;
    lb_buf_put_u8(b, '{');
    put_indent(b, indent);
    lb_buf_put_c(b, "\"metadata\": {");
    put_count(b, indent, hf ? "total_parameters" : "total_size",
              hf ? w->o.n_parameters : l->total_bytes, ",");
    put_count(b, indent, hf ? "total_size" : "total_parameters",
              hf ? l->total_bytes : w->o.n_parameters, "");
    put_indent(b, indent);
    lb_buf_put_c(b, "},");
    put_indent(b, indent);
    lb_buf_put_c(b, "\"weight_map\": {");
    for (u64 i = 0; i < w->n_items && !lb_out_failed(out); i++) {
        if (i)
            lb_buf_put_u8(b, ',');
        put_indent(b, 2 * indent);
        lb_json_write_str(b, sorted[i]->name, true);
        lb_buf_put_c(b, ": ");
        lb_json_write_str(b, l->shards[sorted[i]->shard].name, true);
        lb_out_spill(out);
    }
    if (w->n_items)
        put_indent(b, indent);
    lb_buf_put_c(b, hf ? "}\n}\n" : "}\n}");
}

lb_status lb_st_layout_index(const lb_st_layout *l, lb_out *out, lb_err *err) {
    const lb_st_writer *w = l->writer;
    const lb_st_item **sorted = lb_alloc_zero((size_t)w->n_items + 1, sizeof *sorted);
    if (!sorted)
        return no_mem(err);
    for (u64 i = 0; i < w->n_items; i++)
        sorted[i] = &w->items[i];
    qsort(sorted, (size_t)w->n_items, sizeof *sorted, item_cmp_name);
    put_index(l, sorted, out);
    lb_free(sorted);
    return LB_OK;
}

static lb_status build_index(layout *l) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_st_layout_index(l->out, &out, l->err);
    lb_status end = lb_out_end(&out, st == LB_OK ? l->err : NULL);
    if (st == LB_OK)
        st = end;
    if (st == LB_OK)
        l->out->index = lb_arena_str(l->perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return st == LB_OK && !l->out->index.ptr ? no_mem(l->err) : st;
}

static lb_status place_index(layout *l) {
    if (l->o->style == LB_ST_HF && l->out->n_shards == 1 && !l->o->index_of_one)
        return LB_OK;
    l->out->index_name =
        lb_arena_printf(l->perm, "%s.safetensors.index.json", l->o->stem ? l->o->stem : "model");
    if (!l->out->index_name.ptr)
        return no_mem(l->err);
    return l->o->later ? LB_OK : build_index(l);
}

lb_status lb_st_layout_plan(lb_st_item *items, u64 n_items, const lb_st_layout_opts *opts,
                            lb_arena *perm, lb_st_layout *out, lb_err *err) {
    layout l = {
        .items = items, .n_items = n_items, .o = opts, .perm = perm, .out = out, .err = err};
    lb_status st = LB_OK;
    LB_ASSERT(opts->data_align >= LEN_BYTES && (opts->data_align & (opts->data_align - 1)) == 0);
    l.w = lb_arena_new(perm, lb_st_writer, 1);
    *out = (lb_st_layout){.writer = l.w};
    if (!l.w)
        return no_mem(err);
    *l.w = (lb_st_writer){.items = items, .n_items = n_items, .o = *opts};
    LB_TRY_DONE(st, check(&l));
    LB_TRY_DONE(st, make_shards(&l));
    for (u32 i = 0; i < out->n_shards; i++)
        LB_TRY_DONE(st, place_shard(&l, i));
    st = place_index(&l);
done:
    lb_arena_deinit(&l.scratch);
    return st;
}
