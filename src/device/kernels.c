/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c: the families of kernels.def. The numbers of threads and of rows a threadgroup are
 * those of the texts in kern/. Products of three u32 fit a u64 or are refused. */
#include "device/kernels.h"
#include "tensor/dtype.h"

enum {
    MV_GROUP_ROWS = 8, /* LBK_MV_SIMDGROUPS * LBK_MV_ROWS */
    MV_THREADS = 128,
    ROWS_THREADS = 64,
    ROW_THREADS = 256,
    MAP_THREADS = 256,
    CHUNK = 32 /* values a thread of rows_* decodes; of floats FLOAT_CHUNK */,
    FLOAT_CHUNK = 4
};

typedef const char *(shape_fn)(u32 type, const void *val, lb_dev_shape *s);

typedef struct family {
    const char *signature;
    u32 val_bytes;
    shape_fn *shape; /* NULL, or what is wrong with the values */
} family;

static const char too_large[] = "the shape is too large";

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

static const char *mlx_bytes(u32 bits, const lb_mv_args *a, lb_dev_shape *s) {
    if (a->group_elems != 32 && a->group_elems != 64 && a->group_elems != 128)
        return "groups have 32, 64 or 128 values";
    if (a->scale_type > LB_DEV_BF16)
        return "the type of the scales is none of f32, f16 and bf16";
    if (a->n_cols % a->group_elems)
        return "the number of columns is not one of whole groups";
    const u64 n = (u64)a->n_rows * a->n_cols; /* below 2^64 */
    s->need_bytes[0] = n / 8 * bits;
    s->need_bytes[1] = s->need_bytes[2] =
        n / a->group_elems * (a->scale_type == LB_DEV_F32 ? 4u : 2u);
    return NULL;
}

static const char *tokens_fit(u32 n_tokens) {
    return n_tokens > LB_DEV_GRID_Y_MAX ? "more than 65535 tokens in one launch" : NULL;
}

static const char *mv_rest(const lb_mv_args *a, u32 at, lb_dev_shape *s) {
    if (!float_bytes(a->n_tokens, a->n_cols, &s->need_bytes[at]) ||
        !float_bytes(a->n_tokens, a->n_rows, &s->need_bytes[at + 1]))
        return too_large;
    s->groups[0] = groups_of(a->n_rows, MV_GROUP_ROWS);
    s->groups[1] = a->n_tokens;
    s->n_threads = MV_THREADS;
    return tokens_fit(a->n_tokens);
}

static const char *shape_mv(u32 type, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = weight_bytes(type, a->n_rows, a->n_cols, &s->need_bytes[0]);
    return bad ? bad : mv_rest(a, 1, s);
}

static const char *shape_mv_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    const lb_mv_args *a = val;
    const char *bad = mlx_bytes(bits, a, s);
    return bad ? bad : mv_rest(a, 3, s);
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
    const lb_mv_args m = {a->n_rows, a->n_cols, a->n_tokens, a->group_elems, a->scale_type};
    const char *bad = mlx_bytes(bits, &m, s);
    return bad ? bad : rows_rest(a, 3, CHUNK, s);
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
    if ((u64)a->n_heads * (a->n_rot / 2) > UINT32_MAX - MAP_THREADS ||
        !float_bytes(a->n_tokens, per_token, &s->need_bytes[2]))
        return too_large;
    s->need_bytes[0] = s->need_bytes[1] = (u64)a->n_tokens * (a->n_rot / 2) * 4;
    s->groups[0] = groups_of((u64)a->n_heads * (a->n_rot / 2), MAP_THREADS);
    s->groups[1] = a->n_tokens;
    s->n_threads = MAP_THREADS;
    return tokens_fit(a->n_tokens);
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

enum { MV, MV_MLX, ROWS, ROWS_MLX, RMS_NORM, LAYER_NORM, SOFTMAX, ARGMAX, ROPE, MAP };

static const family families[] = {
    [MV] = {"iiov", sizeof(lb_mv_args), shape_mv},
    [MV_MLX] = {"iiiiov", sizeof(lb_mv_args), shape_mv_mlx},
    [ROWS] = {"iiov", sizeof(lb_rows_args), shape_rows},
    [ROWS_MLX] = {"iiiiov", sizeof(lb_rows_args), shape_rows_mlx},
    [RMS_NORM] = {"iiov", sizeof(lb_row_args), shape_rms_norm},
    [LAYER_NORM] = {"iiiov", sizeof(lb_row_args), shape_layer_norm},
    [SOFTMAX] = {"ov", sizeof(lb_row_args), shape_softmax},
    [ARGMAX] = {"iov", sizeof(lb_row_args), shape_argmax},
    [ROPE] = {"iiov", sizeof(lb_rope_args), shape_rope},
    [MAP] = {"iiov", sizeof(lb_map_args), shape_map},
};

static const struct {
    const char *name;
    u32 family, type;
} table[LB_DEV_KERNEL_COUNT] = {
#define LB_DEV_KERNEL(name, family, type) {#name, family, (u32)type},
#include "device/kernels.def"
#undef LB_DEV_KERNEL
};

const char *lb_dev_kernel_name(lb_dev_kernel k) {
    return table[k].name;
}

bool lb_dev_kernel_find(lb_str name, lb_dev_kernel *out) {
    for (u32 i = 0; i < LB_DEV_KERNEL_COUNT; i++)
        if (lb_str_eq_c(name, table[i].name)) {
            *out = (lb_dev_kernel)i;
            return true;
        }
    return false;
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
