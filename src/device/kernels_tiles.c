/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_tiles.c: the families of tiles of f16: stored rows and tokens as tiles, products of them
 * (kern/args.h). The grid of products is that of the portable text; a device with a text of its own
 * launches as that one takes it. */
#include "device/device.h"
#include "device/kernels_family.h"

enum {
    UNPACK_THREADS = 256,
    UNPACK_ROWS = 32, /* of a threadgroup, by UNPACK_COLS columns */
    UNPACK_COLS = 256,
    GEMM_THREADS = LB_DEV_TILE_ROWS,
    GEMM_LINES = 32, /* LBK_GEMM_LINES */
    GEMM_PARTS = 8,  /* at most */
    GEMM_STEPS = 8   /* tiles of columns of a part, at least */
};

static const char too_large[] = LB_DEV_TOO_LARGE;

/* Bytes of n_rows rows as tiles, padded to a multiple of `pad` rows. */
static bool tile_bytes(u32 n_rows, u32 n_cols, u32 pad, u64 *out) {
    const u64 down = lb_round_up(n_rows, pad) / LB_DEV_TILE_ROWS;
    return lb_mul_u64(down * lb_ceil_div_u64(n_cols, LB_DEV_TILE_COLS), LB_DEV_TILE_BYTES, out);
}

u64 lb_dev_tile_bytes(u32 n_rows, u32 n_cols, u32 pad) {
    u64 n;
    return tile_bytes(n_rows, n_cols, pad, &n) ? n : UINT64_MAX;
}

/* n_forms: buffers of the rows. */
static const char *shape_unpack(lb_dev_form form, u32 n_forms, u32 type, const lb_unpack_args *a,
                                lb_dev_shape *s) {
    const lb_mv_args m = {.n_rows = a->n_rows,
                          .n_cols = a->n_cols,
                          .group_elems = a->group_elems,
                          .scale_type = a->scale_type,
                          .scale_rows = a->scale_rows,
                          .n_mats = a->n_mats};
    const char *bad = lb_dev_rows_need(form, type, &m, s);
    const u64 all = 1 + (u64)a->n_more;
    u64 groups, bytes;
    if (bad)
        return bad;
    if (a->mat + all > LB_MAX(a->n_mats, 1u) || a->first > a->n_rows || a->n > a->n_rows - a->first)
        return "there are no such rows";
    if (!lb_mul_u64(lb_round_up(a->n, LB_DEV_TILE_PAD) / UNPACK_ROWS, all, &groups) ||
        groups > LB_DEV_GRID_Y_MAX || !tile_bytes(a->n, a->n_cols, LB_DEV_TILE_PAD, &bytes) ||
        !lb_mul_u64(bytes, all, &s->need_bytes[n_forms]))
        return too_large;
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_cols, UNPACK_COLS);
    s->groups[1] = (u32)groups;
    s->n_threads = UNPACK_THREADS;
    return NULL;
}

const char *lb_dev_shape_unpack(u32 type, const void *val, lb_dev_shape *s) {
    return shape_unpack(LB_DEV_BLOCKS, 1, type, val, s);
}

const char *lb_dev_shape_unpack_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_unpack(LB_DEV_AFFINE, 3, bits, val, s);
}

const char *lb_dev_shape_unpack_scaled(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_unpack(LB_DEV_SCALED, 2, bits, val, s);
}

const char *lb_dev_shape_tile_rows(u32 type, const void *val, lb_dev_shape *s) {
    const lb_tile_args *a = val;
    const u64 rows = lb_round_up(a->n_tokens, LB_DEV_TILE_ROWS);
    (void)type;
    if (a->n_cols % 4 || a->first % 4 || a->x_stride % 4)
        return "x does not begin at multiples of 4 values";
    const char *bad =
        lb_dev_strided(a->n_tokens, a->first, a->n_cols, a->x_stride, &s->need_bytes[0]);
    if (bad)
        return bad;
    s->need_bytes[1] = a->norm ? (u64)a->n_cols * 4 : 0;
    s->need_bytes[3] = rows * 4;
    if (rows > INT32_MAX ||
        !tile_bytes(a->n_tokens, a->n_cols, LB_DEV_TILE_ROWS, &s->need_bytes[2]))
        return too_large;
    s->groups[0] = a->n_cols ? (u32)rows : 0;
    s->n_threads = LB_DEV_ROW_THREADS;
    return NULL;
}

/* What both products read: a, scales, b from argument 2 on. */
static const char *operands(const lb_gemm_args *a, u32 n_b, lb_dev_shape *s) {
    if (!tile_bytes(a->n_tokens, a->n_cols, LB_DEV_TILE_ROWS, &s->need_bytes[0]))
        return too_large;
    s->need_bytes[1] = a->a_scale != 0 ? 0 : lb_round_up(a->n_tokens, LB_DEV_TILE_ROWS) * 4;
    for (u32 i = 0; i < n_b; i++)
        if (!tile_bytes(a->n_rows, a->n_cols, LB_DEV_TILE_PAD, &s->need_bytes[2 + i]))
            return too_large;
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_tokens, LB_DEV_TILE_ROWS);
    return NULL;
}

const char *lb_dev_gemm_rows(u32 n_rows, bool gated, lb_dev_shape *s) {
    const u64 groups = gated ? lb_round_up(n_rows, LB_DEV_TILE_COLS) / (GEMM_LINES / 2)
                             : lb_ceil_div_u64(n_rows, GEMM_LINES);
    s->groups[1] = (u32)LB_MIN(groups, (u64)LB_DEV_GRID_Y_MAX);
    s->n_threads = GEMM_THREADS;
    return groups > LB_DEV_GRID_Y_MAX ? too_large : NULL;
}

/* What clusters of two threadgroups make at a time where tokens are few, narrow blocks. */
static u64 narrow_blocks(const lb_gemm_args *a) {
    return lb_ceil_div_u64(a->n_tokens, LB_DEV_TILE_ROWS) *
           lb_ceil_div_u64(a->n_rows, LB_DEV_TILE_PAD);
}

static u32 steps_of(const lb_gemm_args *a) {
    return (u32)lb_ceil_div_u64(a->n_cols, LB_DEV_TILE_COLS);
}

u32 lb_dev_gemm_parts(const lb_dev_info *d, const lb_gemm_args *a) {
    const u64 clusters = d->n_units / 2, blocks = narrow_blocks(a);
    const u64 most = LB_MIN((u64)GEMM_PARTS, steps_of(a) / GEMM_STEPS);
    return d->kind == LB_DEV_CUDA && blocks ? (u32)LB_MAX(LB_MIN(clusters / blocks, most), 1u) : 1;
}

static u64 join_bytes(u64 n_left) {
    return 4ull * LB_DEV_GEMM_COUNTERS + n_left * LB_DEV_GEMM_LEFT;
}

u64 lb_dev_gemm_join_bytes(const lb_gemm_args *a) {
    return a->parts > 1 ? join_bytes(narrow_blocks(a) * a->parts) : 0;
}

u64 lb_dev_gemm_join_most(const lb_dev_info *d) {
    return join_bytes(d->n_units / 2);
}

/* What those who share columns leave. */
static const char *joined(const lb_gemm_args *a, u64 *bytes) {
    if (a->parts <= 1)
        return NULL;
    if (a->parts > LB_MIN(steps_of(a), (u32)GEMM_PARTS))
        return "columns are not shared by whole tiles, or by more than eight";
    *bytes = lb_dev_gemm_join_bytes(a);
    /* two threadgroups of two halves each */
    return 4 * narrow_blocks(a) > LB_DEV_GEMM_COUNTERS ? too_large : NULL;
}

const char *lb_dev_shape_gemm(u32 type, const void *val, lb_dev_shape *s) {
    const lb_gemm_args *a = val;
    const char *bad = operands(a, 1, s);
    (void)type;
    if (!bad)
        bad = lb_dev_strided(a->n_tokens, a->y_first, a->n_rows, a->y_stride, &s->need_bytes[3]);
    if (!bad)
        bad = joined(a, &s->need_bytes[4]);
    return bad ? bad : lb_dev_gemm_rows(a->n_rows, false, s);
}

/* As kern/gemm_hopper.k is launched: clusters of two stay until nothing is left to do. */
void lb_dev_kernel_own_grid(lb_dev_kernel k, u32 n_units, lb_dev_shape *s) {
    enum { THREADS = 384, STAGES_BYTES = 12 * LB_DEV_TILE_BYTES + 1024 };
    if (lb_dev_kernel_needs(k) == LB_DEV_NEEDS_RING)
        s->shared_bytes = lb_dev_mt_ring(k);
    if (lb_dev_kernel_needs(k) != LB_DEV_NEEDS_TILES || !s->groups[0])
        return;
    s->groups[0] = LB_MAX(n_units / 2 * 2, 2u);
    s->groups[1] = s->groups[2] = 1;
    s->n_threads = THREADS;
    s->shared_bytes = STAGES_BYTES;
}

const char *lb_dev_shape_gemm_gated(u32 type, const void *val, lb_dev_shape *s) {
    const lb_gemm_args *a = val;
    const char *bad = operands(a, 2, s);
    (void)type;
    if (a->act <= LB_DEV_PRE_NORM || a->act > LB_DEV_PRE_OAI || a->add)
        return "gates are of no activation that there is, or are to be added";
    if (!bad && !tile_bytes(a->n_tokens, a->n_rows, LB_DEV_TILE_ROWS, &s->need_bytes[4]))
        bad = too_large;
    return bad ? bad : lb_dev_gemm_rows(a->n_rows, true, s);
}
