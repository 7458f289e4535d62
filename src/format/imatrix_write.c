/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_write.c: see imatrix_write.h. */
#include "format/imatrix_write.h"
#include "format/gguf_write.h"
#include <float.h>

static u64 largest_count(const lb_imatrix_sum *e) {
    u64 n = 0;
    for (u64 i = 0; i < e->n_counts; i++)
        n = LB_MAX(n, e->counts[i]);
    return n;
}

u64 lb_imatrix_chunks(const lb_imatrix_out *x) {
    u64 n = 0;
    for (u64 i = 0; i < x->n_entries; i++)
        n = LB_MAX(n, largest_count(&x->entries[i]));
    return n / x->chunk_size;
}

static void put_u32(lb_out *out, u32 v) {
    lb_buf_put_u32(&out->buf, v);
    lb_out_spill(out);
}

static void put_f32(lb_out *out, float v) {
    put_u32(out, lb_f32_bits(v));
}

static lb_status check_sums(const lb_imatrix_out *x, lb_err *err) {
    for (u64 i = 0; i < x->n_entries; i++)
        for (u64 k = 0; k < x->entries[i].n_values; k++)
            if (!(x->entries[i].values[k] >= 0 && x->entries[i].values[k] <= (double)FLT_MAX))
                return lb_fail(err, LB_E_FORMAT,
                               "importance of '%.*s': the sum of value %llu is %g, which the file "
                               "cannot hold",
                               LB_FMT(x->entries[i].name), (unsigned long long)k,
                               x->entries[i].values[k]);
    return LB_OK;
}

/* ---- GGUF ---- */

typedef struct gguf {
    const lb_imatrix_out *x;
    lb_arena arena;
    lb_gguf_meta meta;
    lb_gguf_item *items; /* sums and counts in turn */
    lb_gguf_layout layout;
} gguf;

static lb_status set_keys(gguf *g, lb_err *err) {
    const lb_imatrix_out *x = g->x;
    lb_meta_init(&g->meta, &g->arena);
    LB_TRY(lb_meta_set_str(&g->meta, "general.type", LB_STR("imatrix"), err));
    LB_TRY(lb_meta_set_array(&g->meta, "imatrix.datasets", LB_GGUF_STR, x->n_datasets, x->datasets,
                             err));
    LB_TRY(lb_meta_set_u32(&g->meta, "imatrix.chunk_count",
                           (u32)LB_MIN(lb_imatrix_chunks(x), (u64)INT32_MAX), err));
    return lb_meta_set_u32(&g->meta, "imatrix.chunk_size", (u32)x->chunk_size, err);
}

static lb_status lay_out(gguf *g, lb_err *err) {
    const lb_imatrix_out *x = g->x;
    g->items = lb_arena_new(&g->arena, lb_gguf_item, 2 * x->n_entries + 1);
    if (!g->items)
        return lb_fail(err, LB_E_NOMEM, "out of memory for an importance matrix");
    for (u64 i = 0; i < x->n_entries; i++) {
        const lb_imatrix_sum *e = &x->entries[i];
        for (u32 k = 0; k < 2; k++)
            g->items[2 * i + k] = (lb_gguf_item){
                .name = lb_arena_printf(&g->arena, "%.*s%s", LB_FMT(e->name),
                                        k ? ".counts" : ".in_sum2"),
                .dtype = LB_F32,
                .shape = {.rank = 2, .dim = {e->n_counts, k ? 1 : e->n_values / e->n_counts}}};
        if (!g->items[2 * i].name.ptr || !g->items[2 * i + 1].name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for an importance matrix");
    }
    return lb_gguf_layout_plan(
        g->items, 2 * x->n_entries,
        &(lb_gguf_layout_opts){.meta = &g->meta, .stem = LB_STR("imatrix"), .trim_dims = true},
        &g->arena, &g->layout, err);
}

static void pad_to(lb_out *out, u64 off) {
    LB_ASSERT(lb_out_pos(out) <= off);
    lb_buf_put_zeros(&out->buf, (size_t)(off - lb_out_pos(out)));
}

static lb_status write_gguf(gguf *g, lb_out *out, lb_err *err) {
    const lb_imatrix_out *x = g->x;
    LB_TRY(set_keys(g, err));
    LB_TRY(lay_out(g, err));
    LB_ASSERT(g->layout.n_files == 1);
    lb_buf_put_str(&out->buf, g->layout.files[0].header);
    for (u64 i = 0; i < x->n_entries && !lb_out_failed(out); i++) {
        const lb_imatrix_sum *e = &x->entries[i];
        pad_to(out, g->items[2 * i].off_bytes);
        for (u64 k = 0; k < e->n_values; k++)
            put_f32(out, (float)e->values[k]);
        pad_to(out, g->items[2 * i + 1].off_bytes);
        for (u64 k = 0; k < e->n_counts; k++)
            put_f32(out, (float)e->counts[k]);
    }
    pad_to(out, g->layout.files[0].size_bytes);
    return LB_OK;
}

/* ---- legacy ---- */

static void put_text(lb_out *out, lb_str s) {
    put_u32(out, (u32)s.len);
    lb_buf_put_str(&out->buf, s);
}

static void put_entry(const lb_imatrix_sum *e, u64 n_calls, lb_out *out) {
    u64 per = e->n_values / e->n_counts;
    put_text(out, e->name);
    put_u32(out, (u32)n_calls);
    put_u32(out, (u32)e->n_values);
    for (u64 i = 0; i < e->n_values; i++) {
        u64 n = e->counts[i / per];
        float value = n ? (float)e->values[i] : 1, count = n ? (float)n : 1;
        put_f32(out, value / count * (float)n_calls);
    }
}

static lb_status write_legacy(const lb_imatrix_out *x, lb_out *out, lb_err *err) {
    u32 n = 0;
    for (u64 i = 0; i < x->n_entries; i++) {
        const lb_imatrix_sum *e = &x->entries[i];
        n += largest_count(e) > 0;
        if (e->name.len > LB_IMATRIX_NAME_MAX || e->n_values > INT32_MAX)
            return lb_fail(err, LB_E_LIMIT, "importance of '%.*s': too large for a legacy file",
                           LB_FMT(e->name));
        if (largest_count(e) / x->chunk_size >= INT32_MAX)
            return lb_fail(err, LB_E_LIMIT,
                           "importance of '%.*s': too many chunks for a legacy file",
                           LB_FMT(e->name));
    }
    put_u32(out, n);
    for (u64 i = 0; i < x->n_entries && !lb_out_failed(out); i++) {
        u64 most = largest_count(&x->entries[i]);
        if (most)
            put_entry(&x->entries[i], lb_ceil_div_u64(most, x->chunk_size), out);
    }
    put_u32(out, (u32)LB_MIN(lb_imatrix_chunks(x), (u64)INT32_MAX));
    put_text(out, x->n_datasets ? x->datasets[x->n_datasets - 1] : LB_STR_NONE);
    return LB_OK;
}

lb_status lb_imatrix_write(const lb_imatrix_out *x, bool legacy, lb_out *out, lb_err *err) {
    LB_TRY(check_sums(x, err));
    if (legacy)
        return write_legacy(x, out, err);
    gguf g = {.x = x};
    lb_status st = write_gguf(&g, out, err);
    lb_meta_deinit(&g.meta);
    lb_arena_deinit(&g.arena);
    return st;
}
