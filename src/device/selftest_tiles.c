/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_tiles.c: tokens as tiles of f16, and products of such tiles. A half is off by 2^-11 of
 * its value, by 2^-25 where it is subnormal. */
#include "device/selftest_cases.h"
#include "kernel/half.h"
#include <math.h>
#include <stdio.h>

#define HALF 0x1p-11
#define HALF_TINY 0x1p-25

u64 lb_selftest_tile_at(u32 n_cols, u32 row, u32 col) {
    const u64 tile = (u64)(row / LB_DEV_TILE_ROWS) * lb_ceil_div_u64(n_cols, LB_DEV_TILE_COLS) +
                     col / LB_DEV_TILE_COLS;
    return tile * (LB_DEV_TILE_BYTES / 2) + row % LB_DEV_TILE_ROWS * LB_DEV_TILE_COLS +
           (col % LB_DEV_TILE_COLS / 8 ^ row % 8) * 8 + col % 8;
}

typedef struct shape {
    u32 n_tokens, n_rows, n_cols;
} shape;

/* One and a few, beyond a tile each way; beyond what tile_rows keeps of a row; then a model's. */
static const shape shapes[] = {{1, 1, 4},     {3, 33, 68},   {130, 5, 64},
                               {2, 257, 132}, {129, 70, 36}, {1, 3, 4100}};
static const shape large = {300, 520, 1024};

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* ---- tile_rows ---- */

/* Rows of zeros, huge, subnormal and infinite values, NaN among others. */
static void make_odd(float *x, u32 n_cols, u32 row) {
    switch (row % 8) {
    case 2:
        memset(x, 0, n_cols * sizeof *x);
        break;
    case 3:
        x[n_cols / 2] = -1e30f;
        break;
    case 4:
        for (u32 i = 0; i < n_cols; i++)
            x[i] *= 0x1p-130f;
        break;
    case 5:
        x[n_cols - 1] = NAN;
        break;
    case 6:
        x[0] = INFINITY;
        break;
    case 7:
        for (u32 i = 0; i < n_cols; i++)
            x[i] *= 0x1p-118f;
        break;
    default:
        break;
    }
}

/* What a token's row becomes, and by how much each value may be off before it is a half. */
static double make_row(const lb_tile_args *a, const float *x, const float *w, double *to) {
    double squares = 0, most = 0;
    for (u32 i = 0; i < a->n_cols; i++)
        squares += (double)x[i] * (double)x[i];
    /* squares beyond f32 */
    const double root = squares > 3.4e38 ? INFINITY : squares / a->n_cols + (double)a->eps;
    for (u32 i = 0; i < a->n_cols; i++) {
        to[i] = (double)x[i] * (a->norm ? 1 / sqrt(root) * (double)w[i] : 1);
        most = fabs(to[i]) > most ? fabs(to[i]) : most;
    }
    return most;
}

static bool is_scale(float s, double most) {
    const double at = most / (double)s;
    int e;
    return frexp((double)s, &e) == 0.5 &&
           (most == 0 ? s == 1.0f || most == 0
                      : at <= 0x1p14 * (1 + 0x1p-20) &&
                            (at >= 0x1p13 * (1 - 0x1p-20) || (double)s <= 0x1p-126));
}

static lb_status check_tile_rows(lb_selftest *t, shape s, u32 way, lb_err *err) {
    const bool norm = way % 2;
    const lb_tile_args a = {.n_tokens = s.n_tokens,
                            .n_cols = s.n_cols,
                            .first = way % 3 * 4,
                            .x_stride = s.n_cols + way % 3 * 8,
                            .norm = norm,
                            .eps = 1e-5f};
    const u32 n_lines = (u32)lb_round_up(s.n_tokens, LB_DEV_TILE_ROWS);
    const u64 n_x = (u64)a.n_tokens * a.x_stride;
    const u64 bytes = lb_dev_tile_bytes(a.n_tokens, a.n_cols, LB_DEV_TILE_ROWS);
    float *x = lb_selftest_floats(t, n_x, 4), *w = lb_selftest_floats(t, a.n_cols, 1);
    float *scales = lb_arena_new(&t->arena, float, n_lines);
    double *want = lb_arena_new(&t->arena, double, a.n_cols);
    u16 *tiles = lb_arena_push(&t->arena, (size_t)bytes, 16);
    if (!x || !w || !scales || !want || !tiles)
        return no_memory(err);
    for (u32 r = 0; r < a.n_tokens; r++)
        make_odd(x + (u64)r * a.x_stride + a.first, a.n_cols, r + (way > 1 ? way : 0));
    const lb_selftest_data bufs[] = {
        {x, n_x * 4}, {w, a.n_cols * 4ull}, {NULL, bytes}, {NULL, n_lines * 4ull}};
    void *const outs[] = {NULL, NULL, tiles, scales};
    LB_TRY(lb_selftest_launch_all(t, bufs, &a, outs, err));
    /* of a norm: squares by 256 threads, roots of their own, two factors */
    const double off =
        norm ? ((double)lb_ceil_div_u64(a.n_cols, 256) + 14 + 5) * LB_SELFTEST_ULP : 0;
    for (u32 r = 0; r < n_lines; r++) {
        const bool live = r < a.n_tokens;
        const float *row = x + (u64)r * a.x_stride + a.first;
        const double most = live ? make_row(&a, row, w, want) : 0;
        bool odd = false; /* NaN or Inf somewhere: the scale is of what is left */
        for (u32 c = 0; live && c < a.n_cols; c++)
            odd |= !isfinite(row[c]) || !isfinite(want[c]);
        if (!live || (!odd && most == 0))
            lb_selftest_compare(t, t->at++, scales[r], 1, 0);
        else if (!odd)
            lb_selftest_compare(t, t->at++, is_scale(scales[r], most) ? 0.0f : 1.0f, 0, 0);
        for (u32 c = 0; c < lb_round_up(a.n_cols, LB_DEV_TILE_COLS); c++) {
            const float half = lb_f16_to_f32(tiles[lb_selftest_tile_at(a.n_cols, r, c)]);
            const double v = live && c < a.n_cols ? want[c] : 0;
            if (odd && (norm || isfinite(v))) /* beside NaN and Inf; a norm spreads them */
                continue;
            const double back = isfinite(half) ? (double)half * (double)scales[r] : (double)half;
            const double size = fabs(v), s_of = (double)scales[r];
            lb_selftest_compare(t, t->at++, (float)(isfinite(v) ? back / s_of : back),
                                isfinite(v) ? v / s_of : v,
                                !live || c >= a.n_cols || !isfinite(v)
                                    ? 0
                                    : size / s_of * (HALF * (1 + off) + off) + HALF_TINY);
        }
    }
    return LB_OK;
}

/* ---- products ---- */

u16 *lb_selftest_make_tiles(lb_selftest *t, u32 n_rows, u32 n_cols, u32 pad, float size,
                            float **rows) {
    const u64 bytes = lb_dev_tile_bytes(n_rows, n_cols, pad);
    u16 *tiles = lb_arena_push(&t->arena, (size_t)bytes, 16);
    *rows = lb_selftest_floats(t, (u64)n_rows * n_cols, size);
    if (!tiles || !*rows)
        return NULL;
    memset(tiles, 0, (size_t)bytes);
    for (u32 r = 0; r < n_rows; r++)
        for (u32 c = 0; c < n_cols; c++) {
            const u16 h = lb_f16_from_f32((*rows)[(u64)r * n_cols + c]);
            tiles[lb_selftest_tile_at(n_cols, r, c)] = h;
            (*rows)[(u64)r * n_cols + c] = lb_f16_to_f32(h);
        }
    return tiles;
}

/* Terms are added with roundings that may cut off (2^-23). */
double lb_selftest_dot(const float *a, const float *b, u32 n, double times, double *off) {
    double sum = 0, size = 0;
    for (u32 i = 0; i < n; i++) {
        const double term = (double)a[i] * (double)b[i];
        sum += term;
        size += fabs(term);
    }
    *off = fabs(times) * size * (n + 3.0) * 2 * LB_SELFTEST_ULP;
    return times * sum;
}

typedef struct case_of {
    lb_gemm_args a;
    u16 *x_tiles, *w_tiles, *up_tiles;
    float *x, *w, *up, *scales; /* as rows; scales of tokens */
    lb_selftest_data x_data, w_data, up_data, scale_data;
} case_of;

static bool make_case(lb_selftest *t, shape s, u32 way, case_of *o) {
    lb_gemm_args *a = &o->a;
    const u32 n_lines = (u32)lb_round_up(s.n_tokens, LB_DEV_TILE_ROWS);
    *a = (lb_gemm_args){.n_tokens = s.n_tokens,
                        .n_rows = s.n_rows,
                        .n_cols = s.n_cols,
                        .times = way % 2 ? 0.75f : 1,
                        .add_times = 0.5f,
                        .alpha = LB_SELFTEST_ALPHA,
                        .limit = LB_SELFTEST_LIMIT,
                        .a_scale = way % 3 == 1 ? 0.25f : 0};
    o->x_tiles = lb_selftest_make_tiles(t, s.n_tokens, s.n_cols, LB_DEV_TILE_ROWS, 2, &o->x);
    o->w_tiles = lb_selftest_make_tiles(t, s.n_rows, s.n_cols, LB_DEV_TILE_PAD, 0.25f, &o->w);
    o->up_tiles = lb_selftest_make_tiles(t, s.n_rows, s.n_cols, LB_DEV_TILE_PAD, 0.25f, &o->up);
    o->scales = lb_arena_new(&t->arena, float, n_lines);
    if (!o->x_tiles || !o->w_tiles || !o->up_tiles || !o->scales)
        return false;
    for (u32 i = 0; i < n_lines; i++)
        o->scales[i] = i < s.n_tokens ? ldexpf(1, (int)(lb_selftest_u32(t) % 5) - 2) : 1;
    o->x_data =
        (lb_selftest_data){o->x_tiles, lb_dev_tile_bytes(s.n_tokens, s.n_cols, LB_DEV_TILE_ROWS)};
    const u64 rows = lb_dev_tile_bytes(s.n_rows, s.n_cols, LB_DEV_TILE_PAD);
    o->w_data = (lb_selftest_data){o->w_tiles, rows};
    o->up_data = (lb_selftest_data){o->up_tiles, rows};
    o->scale_data = (lb_selftest_data){o->scales, n_lines * 4ull};
    return true;
}

static double scale_of(const case_of *o, u32 token) {
    return (double)(o->a.a_scale != 0 ? o->a.a_scale : o->scales[token]);
}

static lb_status check_gemm(lb_selftest *t, shape s, u32 way, lb_err *err) {
    case_of o;
    if (!make_case(t, s, way, &o))
        return no_memory(err);
    lb_gemm_args *a = &o.a;
    a->y_first = s.n_rows % 3;
    a->y_stride = a->y_first + s.n_rows + s.n_rows % 5;
    a->add = way % 2;
    a->add_scale = 1.25f;
    const u64 n = (u64)(s.n_tokens - 1) * a->y_stride + a->y_first + s.n_rows;
    float *y = lb_selftest_floats(t, n, 1), *was = lb_arena_new(&t->arena, float, n);
    if (!y || !was)
        return no_memory(err);
    memcpy(was, y, n * sizeof *y);
    a->parts = LB_MIN(1 + way % 3, (u32)lb_ceil_div_u64(s.n_cols, LB_DEV_TILE_COLS));
    const u64 join_bytes = LB_MAX(lb_dev_gemm_join_bytes(a), 4ull * LB_DEV_GEMM_COUNTERS);
    u32 *join = (u32 *)lb_selftest_floats(t, join_bytes / 4, 1);
    if (!join)
        return no_memory(err);
    memset(join, 0, 4ull * LB_DEV_GEMM_COUNTERS);
    const lb_selftest_data bufs[] = {
        o.x_data, o.scale_data, o.w_data, {was, n * 4}, {join, join_bytes}};
    LB_TRY(lb_selftest_launch_all(t, bufs, a, (void *const[LB_DEV_BUFS_MAX]){[3] = y, [4] = join},
                                  err));
    for (u32 i = 0; i < LB_DEV_GEMM_COUNTERS; i++)
        lb_selftest_compare(t, i, (float)join[i], 0, 0);
    for (u64 i = 0; i < n; i++) {
        const u32 token = (u32)(i / a->y_stride);
        const u64 at = i % a->y_stride - a->y_first;
        double off;
        if (i % a->y_stride < a->y_first || at >= s.n_rows) {
            lb_selftest_compare(t, i, y[i], (double)was[i], 0);
            continue;
        }
        double want = lb_selftest_dot(o.x + (u64)token * s.n_cols, o.w + at * s.n_cols, s.n_cols,
                                      (double)a->times * scale_of(&o, token), &off);
        if (a->add) {
            want = (double)was[i] + (double)a->add_times * want;
            off = fabs((double)a->add_times) * off + 2 * LB_SELFTEST_ULP * fabs(want);
            want *= (double)a->add_scale;
            off *= fabs((double)a->add_scale);
        }
        lb_selftest_compare(t, i, y[i], want, off + LB_SELFTEST_TINY);
    }
    return LB_OK;
}

/* Greatest change of an activation by one of its gate: those here have slopes of at most 1.2, and
 * squares one of twice the gate. */
static double slope(u32 act, double gate) {
    return act == LB_DEV_PRE_RELU2 ? 2 * fabs(gate) + 1 : 1.2;
}

static const lb_dev_kernel acts[] = {LB_DK_act_silu, LB_DK_act_gelu, LB_DK_act_gelu_erf,
                                     LB_DK_act_relu2, LB_DK_act_oai};

void lb_selftest_compare_gated(lb_selftest *t, u32 kind, float got, lb_selftest_sum gate,
                               lb_selftest_sum up) {
    const bool oai = kind == LB_DEV_PRE_OAI; /* its partners are up + 1 */
    const lb_dev_kernel k = acts[kind - LB_DEV_PRE_SILU];
    const double steep = slope(kind, (double)gate.v);
    const double g_off = gate.off + LB_SELFTEST_ULP * fabs((double)gate.v);
    const double u_off = up.off + LB_SELFTEST_ULP * fabs((double)up.v);
    const double partner = fabs((double)up.v) + u_off + (oai ? 1 : 0);
    float one = oai ? 0.0f : 1.0f, act, want;
    lb_selftest_act(k, 1, &want, &gate.v, &up.v);
    lb_selftest_act(k, 1, &act, &gate.v, &one);
    const double off = lb_selftest_act_bound(k, gate.v, want) + steep * g_off * partner +
                       (fabs((double)act) + steep * g_off) * u_off;
    const double by = 1 / (double)LB_DEV_GATED_SCALE;
    lb_selftest_compare(t, t->at++, got, (double)want * by,
                        off * by * (1 + HALF) + fabs((double)want) * by * HALF + HALF_TINY);
}

static lb_status check_gated(lb_selftest *t, shape s, u32 way, lb_err *err) {
    case_of o;
    if (!make_case(t, s, way, &o))
        return no_memory(err);
    const u32 which = way % LB_LEN(acts), n_lines = (u32)lb_round_up(s.n_tokens, LB_DEV_TILE_ROWS);
    o.a.act = LB_DEV_PRE_SILU + which;
    const u64 bytes = lb_dev_tile_bytes(s.n_tokens, s.n_rows, LB_DEV_TILE_ROWS);
    u16 *out = lb_arena_push(&t->arena, (size_t)bytes, 16);
    if (!out)
        return no_memory(err);
    const lb_selftest_data bufs[] = {o.x_data, o.scale_data, o.w_data, o.up_data, {NULL, bytes}};
    LB_TRY(lb_selftest_launch(t, bufs, &o.a, out, err));
    for (u32 r = 0; r < n_lines; r++)
        for (u32 c = 0; c < lb_round_up(s.n_rows, LB_DEV_TILE_COLS); c++) {
            const float got = lb_f16_to_f32(out[lb_selftest_tile_at(s.n_rows, r, c)]);
            double g_off, u_off;
            if (r >= s.n_tokens || c >= s.n_rows) {
                lb_selftest_compare(t, t->at++, got, 0, 0);
                continue;
            }
            const float *x = o.x + (u64)r * s.n_cols;
            const double scale = scale_of(&o, r);
            const float g = (float)lb_selftest_dot(x, o.w + (u64)c * s.n_cols, s.n_cols,
                                                   (double)o.a.times * scale, &g_off);
            const float u = (float)lb_selftest_dot(x, o.up + (u64)c * s.n_cols, s.n_cols,
                                                   (double)o.a.add_times * scale, &u_off);
            lb_selftest_compare_gated(t, o.a.act, got, (lb_selftest_sum){g, g_off},
                                      (lb_selftest_sum){u, u_off});
        }
    return LB_OK;
}

lb_status lb_selftest_tiles(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const u32 n = (u32)LB_LEN(shapes), ways = 2;
    const shape s = i < n * ways ? shapes[i % n] : large;
    *more = i + 1 < n * ways + t->opts->large;
    (void)snprintf(t->where, sizeof t->where, "[%u,%u], %u tokens", s.n_rows, s.n_cols, s.n_tokens);
    return t->row->kernel == LB_DK_tile_rows ? check_tile_rows(t, s, i, err)
           : t->row->kernel == LB_DK_gemm    ? check_gemm(t, s, i, err)
                                             : check_gated(t, s, i, err);
}
