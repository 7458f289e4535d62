/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c: the families of kernels.def. The numbers of threads and of rows a threadgroup are
 * those of the texts in kern/. Products of three u32 fit a u64 or are refused. */
#include "device/encode.h"
#include "device/kernels_family.h"
#include "tensor/dtype.h"

enum {
    MV_ROWS = 2,            /* LBK_MV_ROWS */
    MV_SIMDGROUPS_MAX = 16, /* LBK_MV_SIMDGROUPS_MAX */
    ROWS_THREADS = 64,
    ROW_THREADS = 256,
    MAP_THREADS = 256,
    CHUNK = 32 /* values a thread of rows_* decodes; of floats FLOAT_CHUNK */,
    FLOAT_CHUNK = 4,
    ATTEND_THREADS = 128,
    TILE_TOKENS = 8,
    TILE_THREADS = 256
};

typedef struct family {
    const char *signature;
    u32 val_bytes;
    lb_dev_shape_fn *shape; /* NULL, or what is wrong with the values */
    lb_dev_needs needs;
} family;

static const char too_large[] = LB_DEV_TOO_LARGE;

static u32 groups_of(u64 n, u32 per_group) {
    return (u32)lb_ceil_div_u64(n, per_group);
}

static bool float_bytes(u64 a, u64 b, u64 *out) {
    return lb_mul_u64(a, b, out) && lb_mul_u64(*out, 4, out);
}

/* Bytes of stored rows; what is wrong with the number of columns. */
static const char *weight_bytes(u32 type, u64 n_rows, u64 n_cols, u64 *out) {
    const lb_dtype_info *t = lb_dtype_get((lb_dtype)type);
    const u32 unit = t->cls == LB_CLASS_FLOAT ? FLOAT_CHUNK : t->block_elems;
    u64 row;
    if (n_cols % unit)
        return t->cls == LB_CLASS_FLOAT ? "the number of columns is not a multiple of 4"
                                        : "the number of columns is not one of whole blocks";
    if (!lb_dtype_bytes((lb_dtype)type, n_cols, &row) || !lb_mul_u64(row, n_rows, out))
        return too_large;
    return NULL;
}

/* Bytes of [n_rows][first + n_cols] values, stride apart; of the last row no more than is there. */
static const char *strided(u64 n_rows, u64 first, u64 n_cols, u64 stride, u64 *out) {
    u64 n = 0;
    if (first + n_cols > stride)
        return "a row is longer than the distance between rows";
    if (n_rows && (!lb_mul_u64(n_rows - 1, stride, &n) || !lb_add_u64(n, first + n_cols, &n)))
        return too_large;
    return lb_mul_u64(n, 4, out) ? NULL : too_large;
}

static const char *tokens_fit(u32 n_tokens) {
    return n_tokens > LB_DEV_GRID_Y_MAX ? "more than 65535 tokens in one launch" : NULL;
}

/* A grid of n_cols values by n_rows. */
static const char *map_grid(u64 n_cols, u32 n_rows, lb_dev_shape *s) {
    s->groups[0] = groups_of(n_cols, MAP_THREADS);
    s->groups[1] = n_rows;
    s->n_threads = MAP_THREADS;
    return n_cols > UINT32_MAX - MAP_THREADS ? too_large : tokens_fit(n_rows);
}

static const char *mlx_bytes(u32 bits, const lb_mv_args *a, u64 n_mats, lb_dev_shape *s) {
    u64 n;
    if (a->group_elems != 32 && a->group_elems != 64 && a->group_elems != 128)
        return "groups have 32, 64 or 128 values";
    if (a->scale_type > LB_DEV_BF16)
        return "the type of the scales is none of f32, f16 and bf16";
    if (a->n_cols % a->group_elems)
        return "the number of columns is not one of whole groups";
    if (!lb_mul_u64((u64)a->n_rows * a->n_cols, n_mats, &n)) /* the first product: below 2^64 */
        return too_large;
    s->need_bytes[0] = n / 8 * bits;
    s->need_bytes[1] = s->need_bytes[2] =
        n / a->group_elems * (a->scale_type == LB_DEV_F32 ? 4u : 2u);
    return NULL;
}

/* x and y stand at `at`; per: tokens of y for each of x. */
static const char *xy_bytes(const lb_mv_args *a, u32 at, u32 per, lb_dev_shape *s) {
    const u32 n_y = lb_dev_mv_values(a);
    const u64 stride = a->y_stride ? a->y_stride : (u64)a->y_first + n_y;
    const u64 n_x = lb_ceil_div_u64(a->n_tokens, per);
    if (!float_bytes(n_x, a->n_cols, &s->need_bytes[at]))
        return too_large;
    if (!a->y_stride && a->y_first)
        return "products begin within a row without a distance between rows";
    return strided(a->n_tokens, a->y_first, n_y, stride, &s->need_bytes[at + 1]);
}

static const char *mv_rest(const lb_mv_args *a, u32 at, u32 per, lb_dev_shape *s) {
    const char *bad = xy_bytes(a, at, per, s);
    if (!a->simdgroups || a->simdgroups > MV_SIMDGROUPS_MAX || !a->split ||
        a->simdgroups % a->split)
        return "rows are not shared by simdgroups of a threadgroup";
    s->groups[0] = groups_of(a->n_rows, a->simdgroups / a->split * MV_ROWS);
    s->groups[1] = a->n_tokens;
    s->n_threads = 32 * a->simdgroups;
    return bad ? bad : tokens_fit(a->n_tokens);
}

/* pre, x and y stand at `at`; per: rows of y for each of x. */
static const char *mv_made(const lb_mv_args *a, u32 at, u32 per, lb_dev_shape *s) {
    const bool act = a->pre > LB_DEV_PRE_NORM;
    const u64 stride = a->x_stride ? a->x_stride : a->n_cols, second = act && a->gated;
    const char *bad = mv_rest(a, at + 1, per, s);
    if (bad)
        return bad;
    if (a->pre > LB_DEV_PRE_OAI || (a->pre == LB_DEV_PRE_OAI && !a->gated))
        return "what x is made of is none of the ways there are";
    if (a->x_stride % 4 || a->second % 4 || a->n_cols % 4)
        return "x does not begin at multiples of 4 values";
    s->need_bytes[at] = a->pre == LB_DEV_PRE_NORM ? (u64)a->n_cols * 4 : 0;
    return strided(lb_ceil_div_u64(a->n_tokens, per), second ? a->second : 0, a->n_cols, stride,
                   &s->need_bytes[at + 1]);
}

static const char *mv_one(const lb_mv_args *a, u32 at, lb_dev_shape *s) {
    return mv_made(a, at, 1, s);
}

/* The same of mv_*. */
static const char *mv_only(const lb_mv_args *a, u32 at, lb_dev_shape *s) {
    return a->act ? "an activation of sums, which mt_* alone have" : mv_one(a, at, s);
}

static const char *shape_mv(u32 type, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = weight_bytes(type, a->n_rows, a->n_cols, &s->need_bytes[0]);
    return bad ? bad : mv_only(a, 1, s);
}

static const char *shape_mv_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = mlx_bytes(bits, a, 1, s);
    return bad ? bad : mv_only(a, 3, s);
}

/* routes, x and y stand at `at`. */
static const char *mv_experts(const lb_mv_args *a, u32 at, lb_dev_shape *s) {
    s->need_bytes[at] = (u64)a->n_tokens * 8;
    return a->pre || a->x_stride || a->add || a->act
               ? "experts' products take and give rows as they are"
               : mv_rest(a, at + 1, LB_MAX(a->per, 1u), s);
}

static const char *shape_mve(u32 type, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = weight_bytes(type, (u64)a->n_rows * a->n_mats, a->n_cols, &s->need_bytes[0]);
    return bad ? bad : mv_experts(a, 1, s);
}

static const char *shape_mve_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = mlx_bytes(bits, a, a->n_mats, s);
    return bad ? bad : mv_experts(a, 3, s);
}

static const char *scaled_bytes(u32 bits, const lb_mv_args *a, u64 n_mats, lb_dev_shape *s) {
    static const u8 size[] = {4, 2, 2, 1, 1};
    u64 n, scales;
    if (a->group_elems != 16 && (!a->group_elems || a->group_elems % 32))
        return "groups have neither 16 nor a multiple of 32 values";
    if (a->scale_type > LB_DEV_E4M3 || !a->scale_rows)
        return "scales are of no type that is known, or of no rows";
    if (a->n_cols % 32 || a->n_cols > INT32_MAX || a->group_elems > INT32_MAX ||
        a->n_rows > INT32_MAX || a->scale_rows > INT32_MAX)
        return "the number of columns is not a multiple of 32, or a number too large";
    scales = lb_ceil_div_u64(a->n_rows, a->scale_rows) *
             lb_ceil_div_u64(a->n_cols, a->group_elems); /* below 2^62 */
    if (!lb_mul_u64((u64)a->n_rows * a->n_cols, n_mats, &n) || n > UINT64_MAX / 8 ||
        !lb_mul_u64(scales, n_mats, &scales) || scales > UINT64_MAX / 4)
        return too_large;
    s->need_bytes[0] = n / 8 * bits;
    s->need_bytes[1] = scales * size[a->scale_type];
    return NULL;
}

static const char *shape_mv_scaled(u32 bits, const void *val, lb_dev_shape *s) {
    const char *bad = scaled_bytes(bits, val, 1, s);
    return bad ? bad : mv_only(val, 2, s);
}

static const char *shape_mve_scaled(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = scaled_bytes(bits, a, a->n_mats, s);
    if (!bad &&
        (u64)a->n_rows * a->n_mats > UINT32_MAX) /* rows of the stack are counted together */
        bad = too_large;
    return bad ? bad : mv_experts(a, 2, s);
}

const char *lb_dev_rows_need(lb_dev_form form, u32 type, const lb_mv_args *a, lb_dev_shape *s) {
    const u64 n_mats = a->n_mats ? a->n_mats : 1;
    const char *bad = form == LB_DEV_BLOCKS ? weight_bytes(type, (u64)a->n_rows * n_mats, a->n_cols,
                                                           &s->need_bytes[0])
                      : form == LB_DEV_AFFINE ? mlx_bytes(type, a, n_mats, s)
                                              : scaled_bytes(type, a, n_mats, s);
    if (!bad && form == LB_DEV_SCALED && (u64)a->n_rows * n_mats > UINT32_MAX)
        bad = too_large; /* rows of the stack are counted together */
    return bad;
}

const char *lb_dev_product_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                 lb_dev_shape *s) {
    const char *bad = lb_dev_rows_need(form, type, a, s);
    if (!bad && (a->pre || a->x_stride || a->add || a->act))
        bad = "products for many tokens take and give rows as they are";
    return bad ? bad : xy_bytes(a, at, LB_MAX(a->per, 1u), s);
}

const char *lb_dev_vector_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                lb_dev_shape *s) {
    const char *bad = form == LB_DEV_BLOCKS
                          ? weight_bytes(type, a->n_rows, a->n_cols, &s->need_bytes[0])
                          : mlx_bytes(type, a, 1, s);
    return bad ? bad : mv_one(a, at, s);
}

const char *lb_dev_routed_needs(lb_dev_form form, u32 type, const lb_mv_args *a, u32 at,
                                lb_dev_shape *s) {
    const char *bad = lb_dev_rows_need(form, type, a, s);
    s->need_bytes[at] = (u64)a->n_tokens * 8;
    return bad ? bad : mv_made(a, at + 1, a->per_x, s);
}

static const char *rows_rest(const lb_rows_args *a, u32 at, u32 chunk, lb_dev_shape *s) {
    s->need_bytes[at] = (u64)a->n_tokens * 4;
    if (!float_bytes(a->n_tokens, a->n_cols, &s->need_bytes[at + 1]))
        return too_large;
    s->groups[0] = groups_of(a->n_cols / chunk, ROWS_THREADS);
    s->groups[1] = a->n_tokens;
    s->n_threads = ROWS_THREADS;
    return tokens_fit(a->n_tokens);
}

static const char *shape_rows(u32 type, const void *val, lb_dev_shape *s) {
    const lb_rows_args *a = val;
    const bool is_float = lb_dtype_get((lb_dtype)type)->cls == LB_CLASS_FLOAT;
    const char *bad = weight_bytes(type, a->n_rows, a->n_cols, &s->need_bytes[0]);
    return bad ? bad : rows_rest(a, 1, is_float ? FLOAT_CHUNK : CHUNK, s);
}

static const char *shape_rows_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_rows_args *a = val;
    const lb_mv_args m = {.n_rows = a->n_rows,
                          .n_cols = a->n_cols,
                          .group_elems = a->group_elems,
                          .scale_type = a->scale_type};
    const char *bad = mlx_bytes(bits, &m, 1, s);
    return bad ? bad : rows_rest(a, 3, CHUNK, s);
}

static const char *shape_rows_scaled(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_rows_args *a = val;
    const lb_mv_args m = {.n_rows = a->n_rows,
                          .n_cols = a->n_cols,
                          .group_elems = a->group_elems,
                          .scale_type = a->scale_type,
                          .scale_rows = a->scale_rows};
    const char *bad = scaled_bytes(bits, &m, 1, s);
    return bad ? bad : rows_rest(a, 2, CHUNK, s);
}

static const char *row_groups(const lb_row_args *a, lb_dev_shape *s, u64 *bytes) {
    s->groups[0] = a->n_cols ? a->n_rows : 0;
    s->groups[1] = 1;
    s->n_threads = ROW_THREADS;
    return float_bytes(a->n_rows, a->n_cols, bytes) ? NULL : too_large;
}

static const char *shape_rms_norm(u32 type, const void *val, lb_dev_shape *s) {
    const lb_row_args *a = val;
    (void)type;
    s->need_bytes[1] = (u64)a->n_cols * 4;
    const char *bad = row_groups(a, s, &s->need_bytes[0]);
    s->need_bytes[2] = s->need_bytes[0];
    return bad;
}

static const char *shape_layer_norm(u32 type, const void *val, lb_dev_shape *s) {
    const lb_row_args *a = val;
    (void)type;
    s->need_bytes[1] = s->need_bytes[2] = (u64)a->n_cols * 4;
    const char *bad = row_groups(a, s, &s->need_bytes[0]);
    s->need_bytes[3] = s->need_bytes[0];
    return bad;
}

static const char *shape_softmax(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return row_groups(val, s, &s->need_bytes[0]);
}

static const char *shape_argmax(u32 type, const void *val, lb_dev_shape *s) {
    const lb_row_args *a = val;
    (void)type;
    s->need_bytes[1] = (u64)a->n_rows * 4;
    if (a->n_cols == 0)
        return "rows have no values";
    return row_groups(a, s, &s->need_bytes[0]);
}

static const char *shape_rope(u32 type, const void *val, lb_dev_shape *s) {
    const lb_rope_args *a = val;
    u64 per_token = (u64)a->n_heads * a->head_dim;
    (void)type;
    if (a->n_rot > a->head_dim || a->n_rot % 2)
        return "the turned part of a head is odd or longer than the head";
    if (per_token > UINT32_MAX)
        return too_large;
    const char *bad = strided(a->n_tokens, a->first, per_token,
                              a->stride ? a->stride : a->first + per_token, &s->need_bytes[2]);
    s->need_bytes[0] = s->need_bytes[1] = (u64)a->n_tokens * (a->n_rot / 2) * 4;
    if (!a->stride && a->first)
        return "heads begin within a row without a distance between rows";
    return bad ? bad : map_grid((u64)a->n_heads * (a->n_rot / 2), a->n_tokens, s);
}

static const char *shape_map(u32 type, const void *val, lb_dev_shape *s) {
    const lb_map_args *a = val;
    (void)type;
    for (u32 i = 0; i < 3; i++)
        s->need_bytes[i] = (u64)a->n_elems * 4;
    s->groups[0] = groups_of(a->n_elems, MAP_THREADS);
    s->groups[1] = 1;
    s->n_threads = MAP_THREADS;
    return a->n_elems > UINT32_MAX - MAP_THREADS ? too_large : NULL;
}

static const char *heads_rest(const lb_heads_args *a, u32 n_weights, lb_dev_shape *s) {
    const u64 n = (u64)a->n_heads * a->n_cols;
    if (a->w_stride && a->w_stride < a->n_cols)
        return "weights of heads overlap";
    for (u32 i = 0; i < n_weights; i++)
        s->need_bytes[i] = a->n_heads ? ((u64)(a->n_heads - 1) * a->w_stride + a->n_cols) * 4 : 0;
    s->groups[0] = a->n_cols ? a->n_heads : 0;
    s->groups[1] = a->n_tokens;
    s->n_threads = ROW_THREADS;
    const char *bad = n > UINT32_MAX
                          ? too_large
                          : strided(a->n_tokens, a->first, n, a->stride, &s->need_bytes[n_weights]);
    return bad ? bad : tokens_fit(a->n_tokens);
}

static const char *shape_rms_heads(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return heads_rest(val, 1, s);
}

static const char *shape_layer_heads(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return heads_rest(val, 2, s);
}

/* x, at `at`, of the vec kernels. */
static const char *vec_rest(const lb_vec_args *a, u32 at, lb_dev_shape *s) {
    const char *bad = strided(a->n_rows, a->first, a->n_cols, a->stride, &s->need_bytes[at]);
    return bad ? bad : map_grid(a->n_cols, a->n_rows, s);
}

static const char *shape_vec(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return vec_rest(val, 0, s);
}

static const char *shape_vec_row(u32 type, const void *val, lb_dev_shape *s) {
    const lb_vec_args *a = val;
    (void)type;
    s->need_bytes[0] = (u64)a->n_cols * 4;
    return vec_rest(a, 1, s);
}

static const char *shape_vec_each(u32 type, const void *val, lb_dev_shape *s) {
    const lb_vec_args *a = val;
    (void)type;
    s->need_bytes[0] = (u64)a->n_rows * 4;
    return vec_rest(a, 1, s);
}

static const char *shape_vec_same(u32 type, const void *val, lb_dev_shape *s) {
    const lb_vec_args *a = val;
    const char *bad = vec_rest(a, 1, s);
    (void)type;
    s->need_bytes[0] = s->need_bytes[1];
    if (!bad && a->y_stride)
        bad = strided(a->n_rows, 0, a->n_cols, a->y_stride, &s->need_bytes[0]);
    return bad;
}

static const char *shape_vec_gated(u32 type, const void *val, lb_dev_shape *s) {
    const lb_vec_args *a = val;
    (void)type;
    s->need_bytes[0] = (u64)a->n_rows * 4;
    if (!float_bytes(a->n_rows, a->n_cols, &s->need_bytes[1]))
        return too_large;
    return vec_rest(a, 2, s);
}

static const char *shape_bias_experts(u32 type, const void *val, lb_dev_shape *s) {
    const lb_experts_args *a = val;
    (void)type;
    s->need_bytes[1] = (u64)a->n_tokens * 8;
    if (!float_bytes(a->n_mats, a->n_cols, &s->need_bytes[0]))
        return too_large;
    const char *bad = strided(a->n_tokens, a->first, a->n_cols, a->stride, &s->need_bytes[2]);
    return bad ? bad : map_grid(a->n_cols, a->n_tokens, s);
}

static const char *shape_act(u32 type, const void *val, lb_dev_shape *s) {
    const lb_act_args *a = val;
    const u64 last = a->gated ? LB_MAX(a->first, a->second) : a->first;
    (void)type;
    if (!float_bytes(a->n_rows, a->n_cols, &s->need_bytes[1]))
        return too_large;
    const char *bad = strided(a->n_rows, last, a->n_cols, a->stride, &s->need_bytes[0]);
    return bad ? bad : map_grid(a->n_cols, a->n_rows, s);
}

/* ---- attention ---- */

static const char bad_cache[] = "keys and values are no rows of f32 or f16 within a page";

/* Whether rows of all heads from off on lie in a page. */
static bool in_page(u32 off, u32 n_heads, u32 bytes, u32 dim, u32 page_bytes) {
    u64 n;
    return lb_mul_u64((u64)n_heads * LB_DEV_PAGE_ROWS, bytes, &n) && n <= page_bytes &&
           off <= page_bytes - n && off % 4 == 0 && bytes % 4 == 0 && (u64)dim * 2 <= bytes;
}

static const char *kv_fits(const lb_kv_args *a) {
    const u64 elem = a->type == LB_DEV_F32 ? 4 : 2;
    if (a->type > LB_DEV_F16 || a->page_bytes % 4 || elem * a->k_dim > a->k_bytes ||
        elem * a->v_dim > a->v_bytes ||
        !in_page(a->k_off, a->n_heads, a->k_bytes, a->k_dim, a->page_bytes) ||
        !in_page(a->v_off, a->n_heads, a->v_bytes, a->v_dim, a->page_bytes))
        return bad_cache;
    return a->k_dim > LB_DEV_HEAD_MAX || a->v_dim > LB_DEV_HEAD_MAX
               ? "heads have more than 512 elements"
               : NULL;
}

const char *lb_dev_shape_kv_store(u32 type, const void *val, lb_dev_shape *s) {
    const lb_kv_args *a = val;
    const u64 k = (u64)a->n_heads * a->k_dim, v = (u64)a->n_heads * a->v_dim;
    u64 keys, values;
    const char *bad = kv_fits(a);
    (void)type;
    if (!bad)
        bad = strided(a->n_tokens, a->k_first, k, a->stride, &keys);
    if (!bad)
        bad = strided(a->n_tokens, a->v_first, v, a->stride, &values);
    if (bad || !a->n_pages)
        return bad ? bad : bad_cache;
    s->need_bytes[0] = LB_MAX(keys, values);
    s->need_bytes[1] = (u64)a->n_tokens * 4;
    s->need_bytes[2] = (u64)a->n_pages * a->page_bytes;
    return map_grid(k + v, a->n_tokens, s);
}

const char *lb_dev_shape_attend(u32 tile, const void *val, lb_dev_shape *s) {
    const lb_attend_args *a = val;
    const lb_kv_args kv = {LB_DEV_KV_OF(a)};
    u64 n, parts;
    const char *bad = kv_fits(&kv);
    if (bad)
        return bad;
    if (!a->n_heads_kv || a->n_heads % a->n_heads_kv)
        return "heads are not shared out among those of keys";
    if (!a->n_splits || !a->split_rows || (tile && a->n_splits != 1))
        return "there are no splits, or several where all positions are taken at once";
    if ((u64)a->split_rows * a->n_splits > UINT32_MAX || (u64)a->n_table > UINT32_MAX / 64)
        return too_large;
    if (!lb_mul_u64((u64)a->n_tokens * a->n_heads, a->n_splits, &n) ||
        !float_bytes(n, a->v_dim + 2u, &parts) || (u64)a->n_heads * a->n_splits > INT32_MAX)
        return too_large;
    bad = strided(a->n_tokens, a->first, (u64)a->n_heads * a->k_dim, a->stride, &s->need_bytes[0]);
    s->need_bytes[1] = (u64)a->n_pages * a->page_bytes;
    s->need_bytes[2] = (u64)a->n_seqs * a->n_table * 4;
    s->need_bytes[3] = (u64)a->n_tokens * 8;
    s->need_bytes[4] = parts;
    s->groups[0] = tile ? a->n_heads : a->n_heads * a->n_splits;
    s->groups[1] = tile ? groups_of(a->n_tokens, TILE_TOKENS) : a->n_tokens;
    s->n_threads = tile ? TILE_THREADS : ATTEND_THREADS;
    return bad ? bad : tokens_fit(s->groups[1]);
}

static const char *shape_join(u32 type, const void *val, lb_dev_shape *s) {
    const lb_join_args *a = val;
    const u64 n = (u64)a->n_tokens * a->n_heads;
    u64 parts;
    (void)type;
    if (!a->n_splits || !lb_mul_u64(n, a->n_splits, &parts) ||
        !float_bytes(parts, (u64)a->v_dim + 2, &s->need_bytes[0]) ||
        !float_bytes(n, a->v_dim, &s->need_bytes[2]))
        return too_large;
    s->need_bytes[1] = a->has_sinks ? (u64)a->n_heads * 4 : 0;
    s->groups[0] = a->v_dim ? a->n_heads : 0;
    s->groups[1] = a->n_tokens;
    s->n_threads = ATTEND_THREADS;
    return tokens_fit(a->n_tokens);
}

/* ---- experts ---- */

static const char *shape_route(u32 type, const void *val, lb_dev_shape *s) {
    const lb_route_args *a = val;
    (void)type;
    if (a->n_experts > LB_DEV_EXPERTS_MAX)
        return "more than 1024 experts";
    if (!a->n_used || a->n_used > a->n_experts || a->how < LB_DEV_ROUTE_SOFTMAX ||
        a->how > LB_DEV_ROUTE_SOFTMAX_TOP)
        return "experts cannot be chosen so";
    if (a->n_groups > 1 && (a->n_groups > LB_DEV_GROUPS_MAX || a->n_experts % a->n_groups ||
                            !a->n_groups_used || a->n_groups_used > a->n_groups))
        return "groups of experts cannot be chosen so";
    s->need_bytes[0] = (u64)a->n_tokens * a->n_experts * 4;
    s->need_bytes[1] = a->has_selection ? a->n_experts * 4ull : 0;
    s->need_bytes[2] = (u64)a->n_tokens * a->n_used * 8;
    s->groups[0] = a->n_tokens;
    s->n_threads = ROW_THREADS;
    return NULL;
}

static const char *shape_experts_sum(u32 type, const void *val, lb_dev_shape *s) {
    const lb_experts_args *a = val;
    const u64 rows = (u64)a->n_tokens * a->n_used;
    (void)type;
    if (!float_bytes(rows, a->n_cols, &s->need_bytes[0]) || rows > UINT64_MAX / 8 ||
        !float_bytes(a->n_tokens, a->n_cols, &s->need_bytes[2]))
        return too_large;
    s->need_bytes[1] = rows * 8;
    return map_grid(a->n_cols, a->n_tokens, s);
}

/* n_cols: routes */
static const char *shape_scale_routes(u32 type, const void *val, lb_dev_shape *s) {
    const lb_experts_args *a = val;
    (void)type;
    s->need_bytes[0] = a->n_mats * 4ull;
    s->need_bytes[1] = a->n_cols * 8ull;
    return map_grid(a->n_cols, 1, s);
}

enum {
    SCALE_ROUTES,
    ROUTE_TWO,
    MOVE,
    TIMES,
    L2,
    CONV,
    CONV_KEEP,
    GATES,
    DELTA,
    KV_PUT,
    ATTEND_WIDE,
    MIX,
    KV_TAKE,
    KV_MOVE,
    MV,
    MV_MLX,
    MVE,
    MVE_MLX,
    ROWS,
    ROWS_MLX,
    MV_SCALED,
    MVE_SCALED,
    ROWS_SCALED,
    RMS_NORM,
    LAYER_NORM,
    RMS_HEADS,
    LAYER_HEADS,
    SOFTMAX,
    ARGMAX,
    TOP_CHUNKS,
    TOP_MERGE,
    TOP_TAKE,
    ROPE,
    MAP,
    VEC,
    VEC_ROW,
    VEC_EACH,
    VEC_SAME,
    VEC_GATED,
    BIAS_EXPERTS,
    ACT,
    KV_STORE,
    ATTEND,
    ATTEND_JOIN,
    FLASH,
    FEW,
    ROPE_STORE,
    ROUTE,
    EXPERTS_SUM,
    ENCODE,
    ENCODE_GRID,
    ENCODE_AFFINE,
    ENCODE_FLOAT,
    REFINE,
    MM,
    MM_MLX,
    MM_SCALED,
    ROUTES_GROUP,
    UNPACK,
    UNPACK_MLX,
    UNPACK_SCALED,
    TILE_ROWS,
    GEMM,
    GEMM_GATED,
    ROUTES_COUNT,
    ROUTES_TILES,
    TILE_ROUTES,
    GEMM_EXPERTS,
    GEMM_EXPERTS_GATED,
    MT,
    MT_MLX,
    MTE,
    MTE_MLX,
    COLUMN_SUMS,
    NO_FAMILY
};

static const family families[] = {
    [MV] = {"iiiov", sizeof(lb_mv_args), shape_mv, LB_DEV_NEEDS_NOTHING},
    [MV_MLX] = {"iiiiiov", sizeof(lb_mv_args), shape_mv_mlx, LB_DEV_NEEDS_NOTHING},
    [MVE] = {"iiiov", sizeof(lb_mv_args), shape_mve, LB_DEV_NEEDS_NOTHING},
    [MVE_MLX] = {"iiiiiov", sizeof(lb_mv_args), shape_mve_mlx, LB_DEV_NEEDS_NOTHING},
    [ROWS] = {"iiov", sizeof(lb_rows_args), shape_rows, LB_DEV_NEEDS_NOTHING},
    [ROWS_MLX] = {"iiiiov", sizeof(lb_rows_args), shape_rows_mlx, LB_DEV_NEEDS_NOTHING},
    [MV_SCALED] = {"iiiiov", sizeof(lb_mv_args), shape_mv_scaled, LB_DEV_NEEDS_NOTHING},
    [MVE_SCALED] = {"iiiiov", sizeof(lb_mv_args), shape_mve_scaled, LB_DEV_NEEDS_NOTHING},
    [ROWS_SCALED] = {"iiiov", sizeof(lb_rows_args), shape_rows_scaled, LB_DEV_NEEDS_NOTHING},
    [RMS_NORM] = {"iiov", sizeof(lb_row_args), shape_rms_norm, LB_DEV_NEEDS_NOTHING},
    [LAYER_NORM] = {"iiiov", sizeof(lb_row_args), shape_layer_norm, LB_DEV_NEEDS_NOTHING},
    [RMS_HEADS] = {"iov", sizeof(lb_heads_args), shape_rms_heads, LB_DEV_NEEDS_NOTHING},
    [LAYER_HEADS] = {"iiov", sizeof(lb_heads_args), shape_layer_heads, LB_DEV_NEEDS_NOTHING},
    [SOFTMAX] = {"ov", sizeof(lb_row_args), shape_softmax, LB_DEV_NEEDS_NOTHING},
    [ARGMAX] = {"iov", sizeof(lb_row_args), shape_argmax, LB_DEV_NEEDS_NOTHING},
    [TOP_CHUNKS] = {"iov", sizeof(lb_top_args), lb_dev_shape_top_chunks, LB_DEV_NEEDS_NOTHING},
    [TOP_MERGE] = {"iov", sizeof(lb_top_args), lb_dev_shape_top_merge, LB_DEV_NEEDS_NOTHING},
    [TOP_TAKE] = {"iiov", sizeof(lb_top_args), lb_dev_shape_top_take, LB_DEV_NEEDS_NOTHING},
    [ROPE] = {"iiov", sizeof(lb_rope_args), shape_rope, LB_DEV_NEEDS_NOTHING},
    [MAP] = {"iiov", sizeof(lb_map_args), shape_map, LB_DEV_NEEDS_NOTHING},
    [VEC] = {"ov", sizeof(lb_vec_args), shape_vec, LB_DEV_NEEDS_NOTHING},
    [VEC_ROW] = {"iov", sizeof(lb_vec_args), shape_vec_row, LB_DEV_NEEDS_NOTHING},
    [VEC_EACH] = {"iov", sizeof(lb_vec_args), shape_vec_each, LB_DEV_NEEDS_NOTHING},
    [VEC_SAME] = {"iov", sizeof(lb_vec_args), shape_vec_same, LB_DEV_NEEDS_NOTHING},
    [VEC_GATED] = {"iiov", sizeof(lb_vec_args), shape_vec_gated, LB_DEV_NEEDS_NOTHING},
    [BIAS_EXPERTS] = {"iiov", sizeof(lb_experts_args), shape_bias_experts, LB_DEV_NEEDS_NOTHING},
    [ACT] = {"iov", sizeof(lb_act_args), shape_act, LB_DEV_NEEDS_NOTHING},
    [KV_STORE] = {"iiov", sizeof(lb_kv_args), lb_dev_shape_kv_store, LB_DEV_NEEDS_NOTHING},
    [ATTEND] = {"iiiiov", sizeof(lb_attend_args), lb_dev_shape_attend, LB_DEV_NEEDS_NOTHING},
    [ATTEND_JOIN] = {"iiov", sizeof(lb_join_args), shape_join, LB_DEV_NEEDS_NOTHING},
    [FLASH] = {"iiiiiov", sizeof(lb_attend_args), lb_dev_shape_flash, LB_DEV_NEEDS_FLASH},
    [FEW] = {"iiiiiiiiooov", sizeof(lb_few_args), lb_dev_shape_few, LB_DEV_NEEDS_FLASH},
    [ROPE_STORE] = {"iiiiioov", sizeof(lb_rope_store_args), lb_dev_shape_rope_store,
                    LB_DEV_NEEDS_NOTHING},
    [ROUTE] = {"iiov", sizeof(lb_route_args), shape_route, LB_DEV_NEEDS_NOTHING},
    [SCALE_ROUTES] = {"iov", sizeof(lb_experts_args), shape_scale_routes, LB_DEV_NEEDS_NOTHING},
    [EXPERTS_SUM] = {"iiov", sizeof(lb_experts_args), shape_experts_sum, LB_DEV_NEEDS_NOTHING},
    [ENCODE] = {"iiov", sizeof(lb_encode_args), lb_dev_shape_encode, LB_DEV_NEEDS_NOTHING},
    [ENCODE_GRID] = {"iiiov", sizeof(lb_encode_args), lb_dev_shape_encode_grid,
                     LB_DEV_NEEDS_NOTHING},
    [ENCODE_AFFINE] = {"iooov", sizeof(lb_encode_mlx_args), lb_dev_shape_encode_affine,
                       LB_DEV_NEEDS_NOTHING},
    [ENCODE_FLOAT] = {"ioov", sizeof(lb_encode_mlx_args), lb_dev_shape_encode_float,
                      LB_DEV_NEEDS_NOTHING},
    [REFINE] = {"iiiov", sizeof(lb_encode_args), lb_dev_shape_refine, LB_DEV_NEEDS_DOUBLE},
    [MM] = {"iiiov", sizeof(lb_mv_args), lb_dev_shape_mm, LB_DEV_NEEDS_MATRIX},
    [MM_MLX] = {"iiiiiov", sizeof(lb_mv_args), lb_dev_shape_mm_mlx, LB_DEV_NEEDS_MATRIX},
    [MM_SCALED] = {"iiiiov", sizeof(lb_mv_args), lb_dev_shape_mm_scaled, LB_DEV_NEEDS_MATRIX},
    [MT] = {"iiioov", sizeof(lb_mv_args), lb_dev_shape_mt, LB_DEV_NEEDS_RING},
    [MT_MLX] = {"iiiiioov", sizeof(lb_mv_args), lb_dev_shape_mt_mlx, LB_DEV_NEEDS_RING},
    [MTE] = {"iiiiov", sizeof(lb_mv_args), lb_dev_shape_mte, LB_DEV_NEEDS_RING},
    [MTE_MLX] = {"iiiiiiov", sizeof(lb_mv_args), lb_dev_shape_mte_mlx, LB_DEV_NEEDS_RING},
    [ROUTES_GROUP] = {"iov", sizeof(lb_group_args), lb_dev_shape_routes_group,
                      LB_DEV_NEEDS_NOTHING},
    [UNPACK] = {"iov", sizeof(lb_unpack_args), lb_dev_shape_unpack, LB_DEV_NEEDS_NOTHING},
    [UNPACK_MLX] = {"iiiov", sizeof(lb_unpack_args), lb_dev_shape_unpack_mlx, LB_DEV_NEEDS_NOTHING},
    [UNPACK_SCALED] = {"iiov", sizeof(lb_unpack_args), lb_dev_shape_unpack_scaled,
                       LB_DEV_NEEDS_NOTHING},
    [TILE_ROWS] = {"iioov", sizeof(lb_tile_args), lb_dev_shape_tile_rows, LB_DEV_NEEDS_NOTHING},
    [GEMM] = {"iiioov", sizeof(lb_gemm_args), lb_dev_shape_gemm, LB_DEV_NEEDS_TILES},
    [GEMM_GATED] = {"iiiiov", sizeof(lb_gemm_args), lb_dev_shape_gemm_gated, LB_DEV_NEEDS_TILES},
    [ROUTES_COUNT] = {"iov", sizeof(lb_group_args), lb_dev_shape_plan, LB_DEV_NEEDS_NOTHING},
    [ROUTES_TILES] = {"iov", sizeof(lb_group_args), lb_dev_shape_plan, LB_DEV_NEEDS_NOTHING},
    [TILE_ROUTES] = {"iiioov", sizeof(lb_tile_routes_args), lb_dev_shape_tile_routes,
                     LB_DEV_NEEDS_NOTHING},
    [GEMM_EXPERTS] = {"iiiiiov", sizeof(lb_gemm_experts_args), lb_dev_shape_gemm_experts,
                      LB_DEV_NEEDS_TILES},
    [GEMM_EXPERTS_GATED] = {"iiiiiiov", sizeof(lb_gemm_experts_args),
                            lb_dev_shape_gemm_experts_gated, LB_DEV_NEEDS_TILES},
    [COLUMN_SUMS] = {"iioov", sizeof(lb_sums_args), lb_dev_shape_column_sums, LB_DEV_NEEDS_NOTHING},
    [ROUTE_TWO] = {"iov", sizeof(lb_route_args), lb_dev_shape_route_two, LB_DEV_NEEDS_NOTHING},
    [MOVE] = {"iov", sizeof(lb_move_args), lb_dev_shape_move, LB_DEV_NEEDS_NOTHING},
    [TIMES] = {"iov", sizeof(lb_times_args), lb_dev_shape_times, LB_DEV_NEEDS_NOTHING},
    [L2] = {"ov", sizeof(lb_l2_args), lb_dev_shape_l2, LB_DEV_NEEDS_NOTHING},
    [CONV] = {"iiiiiiov", sizeof(lb_conv_args), lb_dev_shape_conv, LB_DEV_NEEDS_NOTHING},
    [CONV_KEEP] = {"iiov", sizeof(lb_conv_args), lb_dev_shape_conv_keep, LB_DEV_NEEDS_NOTHING},
    [GATES] = {"iiiov", sizeof(lb_gates_args), lb_dev_shape_gates, LB_DEV_NEEDS_NOTHING},
    [DELTA] = {"iiioov", sizeof(lb_delta_args), lb_dev_shape_delta, LB_DEV_NEEDS_NOTHING},
    [KV_PUT] = {"iiov", sizeof(lb_kv_args), lb_dev_shape_put, LB_DEV_NEEDS_NOTHING},
    [ATTEND_WIDE] = {"iiiiov", sizeof(lb_wide_args), lb_dev_shape_wide, LB_DEV_NEEDS_NOTHING},
    [MIX] = {"ov", sizeof(lb_mix_args), lb_dev_shape_mix, LB_DEV_NEEDS_NOTHING},
    [KV_TAKE] = {"iiov", sizeof(lb_kv_args), lb_dev_shape_take, LB_DEV_NEEDS_NOTHING},
    [KV_MOVE] = {"iiov", sizeof(lb_move_rows_args), lb_dev_shape_move_rows, LB_DEV_NEEDS_NOTHING},
};

static const struct {
    const char *name;
    u32 family, type;
} table[LB_DEV_KERNEL_COUNT] = {
#define LB_DEV_KERNEL(name, family, type) {#name, family, (u32)type},
#include "device/kernels.def"
#undef LB_DEV_KERNEL
};

bool lb_dev_float_bytes(u64 a, u64 b, u64 *out) {
    return float_bytes(a, b, out);
}

const char *lb_dev_strided(u64 n_rows, u64 first, u64 n_cols, u64 stride, u64 *out) {
    return strided(n_rows, first, n_cols, stride, out);
}

const char *lb_dev_map_grid(u64 n_cols, u32 n_rows, lb_dev_shape *s) {
    return map_grid(n_cols, n_rows, s);
}

const char *lb_dev_kernel_name(lb_dev_kernel k) {
    return table[k].name;
}

lb_dev_needs lb_dev_kernel_needs(lb_dev_kernel k) {
    return families[table[k].family].needs;
}

bool lb_dev_kernel_find(lb_str name, lb_dev_kernel *out) {
    for (u32 i = 0; i < LB_DEV_KERNEL_COUNT; i++)
        if (lb_str_eq_c(name, table[i].name)) {
            *out = (lb_dev_kernel)i;
            return true;
        }
    return false;
}

bool lb_dev_kernel_of(lb_dev_use use, lb_dev_form form, u32 type, lb_dev_kernel *out) {
    static const u32 family_of[][LB_DEV_MTE + 1] = {
        [LB_DEV_BLOCKS] = {MV, MVE, MM, UNPACK, ROWS, MT, MTE},
        [LB_DEV_AFFINE] = {MV_MLX, MVE_MLX, MM_MLX, UNPACK_MLX, ROWS_MLX, MT_MLX, MTE_MLX},
        [LB_DEV_SCALED] = {MV_SCALED, MVE_SCALED, MM_SCALED, UNPACK_SCALED, ROWS_SCALED, NO_FAMILY,
                           NO_FAMILY}};
    for (u32 i = 0; i < LB_DEV_KERNEL_COUNT; i++)
        if (table[i].family == family_of[form][use] && table[i].type == type) {
            *out = (lb_dev_kernel)i;
            return true;
        }
    return false;
}

u32 lb_dev_kernel_chunk(lb_dev_kernel k) {
    const bool blocks = table[k].family == MV || table[k].family == MVE;
    return blocks && lb_dtype_get((lb_dtype)table[k].type)->cls == LB_CLASS_FLOAT ? FLOAT_CHUNK
                                                                                  : CHUNK;
}

const char *lb_dev_kernel_signature(lb_dev_kernel k) {
    return families[table[k].family].signature;
}

u32 lb_dev_kernel_val_bytes(lb_dev_kernel k) {
    return families[table[k].family].val_bytes;
}

lb_status lb_dev_kernel_shape(lb_dev_kernel k, const void *val, lb_dev_shape *out, lb_err *err) {
    *out = (lb_dev_shape){.groups = {0, 1, 1}};
    const char *bad = families[table[k].family].shape(table[k].type, val, out);
    if (!bad && out->groups[0] > INT32_MAX) /* CUDA's limit of the first axis */
        bad = too_large;
    if (bad)
        return lb_fail(err, LB_E_USAGE, "kernel %s: %s", table[k].name, bad);
    return LB_OK;
}
