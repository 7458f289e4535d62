/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_wide.c: families of wide.k: the cache in every type, wide heads. */
#include "device/kernels_family.h"

enum { BLOCK = 32, SIMDGROUPS = 8 /* of a threadgroup: a block, or a query, each */ };

static const char bad_cache[] = "keys and values are no rows of a type of theirs within a page";

/* Bytes of a row; 0: there is no such row. */
static u64 row_bytes(u32 type, u32 dim) {
    switch (type) {
    case LB_DEV_F32:
        return 4ull * dim;
    case LB_DEV_F16:
        return 2ull * dim;
    case LB_DEV_Q8_0:
        return dim % BLOCK ? 0 : dim / BLOCK * 34ull;
    case LB_DEV_Q4_0:
        return dim % BLOCK ? 0 : dim / BLOCK * 18ull;
    default:
        return 0;
    }
}

/* Whether rows of all heads, each of dim elements, lie in a page from off on. */
static bool in_page(const lb_kv_args *a, u32 off, u32 bytes, u32 dim) {
    const u64 row = row_bytes(a->type, dim);
    u64 n;
    return row && row <= bytes && bytes % 4 == 0 && off % 4 == 0 &&
           lb_mul_u64((u64)a->n_heads * LB_DEV_PAGE_ROWS, bytes, &n) && n <= a->page_bytes &&
           off <= a->page_bytes - n;
}

static const char *kv_fits(const lb_kv_args *a) {
    if (a->k_dim > LB_DEV_WIDE_MAX || a->v_dim > LB_DEV_WIDE_MAX)
        return "heads have more than 640 elements";
    if (a->page_bytes % 4 || !a->n_pages || !in_page(a, a->k_off, a->k_bytes, a->k_dim) ||
        (a->v_dim && !in_page(a, a->v_off, a->v_bytes, a->v_dim)))
        return bad_cache;
    return NULL;
}

const char *lb_dev_shape_put(u32 type, const void *val, lb_dev_shape *s) {
    const lb_kv_args *a = val;
    const u64 k_blocks = lb_ceil_div_u64(a->k_dim, BLOCK),
              v_blocks = lb_ceil_div_u64(a->v_dim, BLOCK);
    const u64 blocks = a->n_heads * (k_blocks + v_blocks);
    u64 keys, values = 0;
    (void)type;
    const char *bad = kv_fits(a);
    if (!bad)
        bad = lb_dev_strided(a->n_tokens, a->k_first, (u64)a->n_heads * a->k_dim, a->stride, &keys);
    if (!bad && a->v_dim)
        bad =
            lb_dev_strided(a->n_tokens, a->v_first, (u64)a->n_heads * a->v_dim, a->stride, &values);
    if (bad)
        return bad;
    s->need_bytes[0] = LB_MAX(keys, values);
    s->need_bytes[1] = (u64)a->n_tokens * 4;
    s->need_bytes[2] = (u64)a->n_pages * a->page_bytes;
    s->groups[0] = (u32)lb_ceil_div_u64(blocks, SIMDGROUPS); /* heads fit a page: not many */
    s->groups[1] = a->n_tokens;
    s->n_threads = LB_DEV_ROW_THREADS;
    return a->n_tokens > LB_DEV_GRID_Y_MAX || blocks > UINT32_MAX ? LB_DEV_TOO_LARGE : NULL;
}

/* Of keys alone. */
const char *lb_dev_shape_take(u32 type, const void *val, lb_dev_shape *s) {
    const lb_kv_args *a = val;
    const u64 n = (u64)a->n_heads * a->k_dim;
    (void)type;
    if (a->v_dim)
        return "values are not taken";
    const char *bad = kv_fits(a);
    if (!bad)
        bad = lb_dev_strided(a->n_tokens, a->k_first, n, a->stride, &s->need_bytes[2]);
    s->need_bytes[0] = (u64)a->n_pages * a->page_bytes;
    s->need_bytes[1] = (u64)a->n_tokens * 4;
    return bad ? bad : lb_dev_map_grid(n, a->n_tokens, s);
}

const char *lb_dev_shape_move_rows(u32 type, const void *val, lb_dev_shape *s) {
    const lb_move_rows_args *a = val;
    u64 n;
    (void)type;
    if (a->off % 4 || a->row_bytes % 4 || a->page_bytes % 4 || !a->n_pages || !a->page_bytes ||
        !lb_mul_u64((u64)a->n_heads * LB_DEV_PAGE_ROWS, a->row_bytes, &n) || n > a->page_bytes ||
        a->off > a->page_bytes - n)
        return bad_cache;
    s->need_bytes[0] = s->need_bytes[1] = (u64)a->n_tokens * 4;
    s->need_bytes[2] = (u64)a->n_pages * a->page_bytes;
    return lb_dev_map_grid((u64)a->n_heads * (a->row_bytes / 4), a->n_tokens, s);
}

static const char *wide_fits(const lb_wide_args *a) {
    const lb_kv_args kv = {LB_DEV_KV_OF(a)};
    const char *bad = kv_fits(&kv);
    if (bad)
        return bad;
    if (!a->v_dim || (a->v_off == a->k_off && a->v_dim > a->k_dim))
        return "values are no part of keys";
    if (!a->n_heads_kv || a->n_heads % a->n_heads_kv)
        return "heads are not shared out among those of keys";
    if (a->n_together != 1 && a->n_together != 2 && a->n_together != 4 && a->n_together != 8)
        return "a threadgroup has 1, 2, 4 or 8 queries";
    if (!a->n_splits || !a->split_rows)
        return "there are no splits";
    return (u64)a->split_rows * a->n_splits > UINT32_MAX || a->n_table > UINT32_MAX / 64
               ? LB_DEV_TOO_LARGE
               : NULL;
}

const char *lb_dev_shape_wide(u32 type, const void *val, lb_dev_shape *s) {
    const lb_wide_args *a = val;
    u64 n, parts;
    (void)type;
    const char *bad = wide_fits(a);
    if (bad)
        return bad;
    const u64 queries = (u64)a->n_tokens * (a->n_heads / a->n_heads_kv);
    const u64 groups = lb_ceil_div_u64(queries, a->n_together);
    if (!lb_mul_u64((u64)a->n_tokens * a->n_heads, a->n_splits, &n) || queries > UINT32_MAX ||
        !lb_dev_float_bytes(n, a->v_dim + 2u, &parts) || groups > LB_DEV_GRID_Y_MAX ||
        (u64)a->n_heads_kv * a->n_splits > INT32_MAX)
        return LB_DEV_TOO_LARGE;
    s->need_bytes[1] = (u64)a->n_pages * a->page_bytes;
    s->need_bytes[2] = (u64)a->n_seqs * a->n_table * 4;
    s->need_bytes[3] = (u64)a->n_tokens * 8;
    s->need_bytes[4] = parts;
    s->groups[0] = a->n_heads_kv * a->n_splits;
    s->groups[1] = (u32)groups;
    s->n_threads = LB_DEV_ROW_THREADS;
    return lb_dev_strided(a->n_tokens, a->first, (u64)a->n_heads * a->k_dim, a->stride,
                          &s->need_bytes[0]);
}

const char *lb_dev_shape_mix(u32 type, const void *val, lb_dev_shape *s) {
    const lb_mix_args *a = val;
    (void)type;
    if (a->mix < 2 || a->mix > LB_DEV_MIX_MAX || (a->mix & (a->mix - 1)) || a->n_cols % a->mix)
        return "values are mixed by a power of two from 2 to 512 that divides a row";
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_cols, LB_DEV_MIX_MAX);
    s->groups[1] = a->n_rows;
    s->n_threads = LB_DEV_ROW_THREADS;
    if (a->n_rows > LB_DEV_GRID_Y_MAX || a->n_cols > UINT32_MAX - LB_DEV_MIX_MAX)
        return LB_DEV_TOO_LARGE;
    return lb_dev_strided(a->n_rows, a->first, a->n_cols, a->stride, &s->need_bytes[0]);
}
