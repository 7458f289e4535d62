/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_grouped.c: experts' products in tiles of f16: the plan, tokens in its tiles, products.
 */
#include "device/selftest_cases.h"
#include "kernel/half.h"
#include <math.h>
#include <stdio.h>

#define THREADS 256u /* of a threadgroup that makes a plan */

typedef struct shape {
    u32 n_tokens, per, n_mats, n_rows, n_cols, first_mat, n_b;
} shape;

/* One of each; no routes of some, beyond a tile, some of no matrix; a part of the matrices. */
static const shape shapes[] = {{1, 1, 1, 1, 4, 0, 1},      {70, 2, 3, 33, 68, 0, 3},
                               {150, 2, 2, 260, 36, 1, 1}, {9, 4, 60, 70, 132, 10, 40},
                               {300, 1, 1, 130, 64, 0, 1}, {40, 1, 1024, 20, 8, 1000, 24}};
static const shape large = {600, 4, 8, 520, 1024, 0, 8};

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* A plan as args_tiles.h has it; where its parts begin, in u32. */
typedef struct plan {
    u32 n_routes, n_mats, tiles_at, order_at, counts_at, n;
    u32 *routes, *words;
} plan;

static u32 count_of(const plan *p, u32 mat) {
    u32 n = 0;
    for (u32 i = 0; i < p->n_routes; i++)
        n += LB_MIN(p->routes[2 * i], p->n_mats) == mat;
    return n;
}

/* Routes of a matrix in the order in which threads take them. */
static u32 put_order(const plan *p, u32 mat, u32 at) {
    for (u32 thread = 0; thread < THREADS; thread++)
        for (u32 i = thread; i < p->n_routes; i += THREADS)
            if (LB_MIN(p->routes[2 * i], p->n_mats) == mat)
                p->words[p->order_at + at++] = i;
    return at;
}

static void fill_plan(const plan *p) {
    u32 at = 0, tile = 0, pair = 0;
    for (u32 m = 0; m <= p->n_mats; m++) {
        const u32 first = at;
        p->words[2 * m] = tile;
        p->words[2 * m + 1] = pair;
        p->words[p->counts_at + m] = count_of(p, m);
        at = put_order(p, m, at);
        for (u32 from = first, k = 0; from < at; from += LB_DEV_TILE_ROWS, tile++, k++) {
            u32 *to = p->words + p->tiles_at + 4 * tile;
            to[0] = m;
            to[1] = from;
            to[2] = LB_MIN(at - from, LB_DEV_TILE_ROWS);
            if (k % 2 == 0)
                p->words[p->tiles_at + 4 * pair++ + 3] = tile;
        }
    }
    p->words[2 * p->n_mats + 2] = tile;
    p->words[2 * p->n_mats + 3] = pair;
}

static bool make_plan(lb_selftest *t, const shape *s, plan *p) {
    const u32 n_routes = s->n_tokens * s->per;
    *p = (plan){.n_routes = n_routes,
                .n_mats = s->n_mats,
                .tiles_at = (u32)lb_round_up(2 * (s->n_mats + 2), 4)};
    p->order_at = p->tiles_at + 4 * lb_dev_plan_tiles(n_routes, s->n_mats);
    p->counts_at = p->order_at + n_routes;
    p->n = p->counts_at + s->n_mats + 1;
    p->routes = lb_arena_new(&t->arena, u32, 2ull * n_routes);
    p->words = lb_arena_new(&t->arena, u32, p->n);
    if (!p->routes || !p->words)
        return false;
    for (u32 i = 0; i < n_routes; i++) /* some of no matrix */
        p->routes[2 * i] = lb_selftest_u32(t) % 9 ? lb_selftest_u32(t) % s->n_mats
                                                  : lb_selftest_u32(t) | s->n_mats | 1u << 31;
    memset(p->words, 0xff, 4ull * p->n);
    fill_plan(p);
    return true;
}

static lb_status check_plan(lb_selftest *t, const shape *s, bool tiles, lb_err *err) {
    plan p;
    if (!make_plan(t, s, &p))
        return no_memory(err);
    const lb_group_args a = {p.n_routes, p.n_mats};
    u32 *was = lb_arena_new(&t->arena, u32, p.n), *out = lb_arena_new(&t->arena, u32, p.n);
    if (!was || !out)
        return no_memory(err);
    memset(was, 0xff, 4ull * p.n);
    if (tiles) /* counts are there */
        memcpy(was + p.counts_at, p.words + p.counts_at, 4ull * (p.n_mats + 1));
    else /* nothing else becomes so */
        memset(p.words, 0xff, 4ull * p.counts_at);
    const lb_selftest_data bufs[] = {{p.routes, 8ull * p.n_routes}, {was, 4ull * p.n}};
    LB_TRY(lb_selftest_launch(t, bufs, &a, out, err));
    for (u32 i = 0; i < p.n; i++)
        lb_selftest_compare(t, i, (float)out[i], (double)(float)p.words[i], 0);
    return LB_OK;
}

static lb_status check_tile_routes(lb_selftest *t, const shape *s, lb_err *err) {
    const lb_tile_routes_args a = {s->n_tokens * s->per, s->n_mats, s->per, s->n_cols};
    const u32 n_lines = (u32)lb_round_up(s->n_tokens, LB_DEV_TILE_ROWS);
    const u32 n_out = lb_dev_plan_tiles(a.n_routes, a.n_mats) * LB_DEV_TILE_ROWS;
    const u64 in_bytes = lb_dev_tile_bytes(s->n_tokens, s->n_cols, LB_DEV_TILE_ROWS);
    const u64 bytes = lb_dev_tile_bytes(n_out, s->n_cols, LB_DEV_TILE_ROWS);
    plan p;
    float *rows, *scales = lb_selftest_floats(t, n_lines, 4);
    float *out_scales = lb_arena_new(&t->arena, float, n_out);
    u16 *out = lb_arena_push(&t->arena, (size_t)bytes, 16);
    u16 *x = lb_selftest_make_tiles(t, s->n_tokens, s->n_cols, LB_DEV_TILE_ROWS, 2, &rows);
    if (!scales || !out_scales || !out || !x || !make_plan(t, s, &p))
        return no_memory(err);
    const lb_selftest_data bufs[] = {{x, in_bytes},
                                     {scales, 4ull * n_lines},
                                     {p.words, 4ull * p.n},
                                     {NULL, bytes},
                                     {NULL, 4ull * n_out}};
    void *const outs[] = {NULL, NULL, NULL, out, out_scales};
    LB_TRY(lb_selftest_launch_all(t, bufs, &a, outs, err));
    for (u32 line = 0; line < p.words[2 * p.n_mats + 2] * LB_DEV_TILE_ROWS; line++) {
        const u32 *tile = p.words + p.tiles_at + 4 * (line / LB_DEV_TILE_ROWS);
        const u32 row = line % LB_DEV_TILE_ROWS;
        const bool live = row < tile[2];
        const u32 token = live ? p.words[p.order_at + tile[1] + row] / s->per : 0;
        lb_selftest_compare(t, t->at++, out_scales[line], live ? (double)scales[token] : 1, 0);
        for (u32 c = 0; c < lb_round_up(s->n_cols, LB_DEV_TILE_COLS); c++)
            lb_selftest_compare(
                t, t->at++, lb_f16_to_f32(out[lb_selftest_tile_at(s->n_cols, line, c)]),
                live && c < s->n_cols ? (double)rows[(u64)token * s->n_cols + c] : 0, 0);
    }
    return LB_OK;
}

/* ---- products ---- */

typedef struct case_of {
    lb_gemm_experts_args a;
    plan p;
    u32 end; /* of its tiles */
    float *x, *b[2], *bias[2],
        *scales;              /* x: rows of tiles; b: of all matrices, one after another */
    lb_selftest_data bufs[7]; /* the result's is left out */
} case_of;

/* n matrices, each padded by itself, to `to`. */
static bool put_mats(lb_selftest *t, const case_of *o, u8 *to, float **rows) {
    const lb_gemm_experts_args *a = &o->a;
    const u64 each = lb_dev_tile_bytes(a->n_rows, a->n_cols, LB_DEV_TILE_PAD);
    *rows = lb_arena_new(&t->arena, float, (u64)a->n_b * a->n_rows * a->n_cols);
    for (u32 m = 0; *rows && m < a->n_b; m++) {
        float *own;
        const u16 *tiles =
            lb_selftest_make_tiles(t, a->n_rows, a->n_cols, LB_DEV_TILE_PAD, 0.25f, &own);
        if (!tiles)
            return false;
        memcpy(to + m * each, tiles, (size_t)each);
        memcpy(*rows + (u64)m * a->n_rows * a->n_cols, own, 4ull * a->n_rows * a->n_cols);
    }
    return *rows != NULL;
}

static bool make_case(lb_selftest *t, const shape *s, u32 way, bool gated, case_of *o) {
    lb_gemm_experts_args *a = &o->a;
    const u32 n_bs = gated ? 2 : 1;
    *o = (case_of){.a = {.n_routes = s->n_tokens * s->per,
                         .n_mats = s->n_mats,
                         .n_rows = s->n_rows,
                         .n_cols = s->n_cols,
                         .first_mat = s->first_mat,
                         .n_b = s->n_b,
                         .has_bias = way / 2 % 2,
                         .times = way % 2 ? 0.75f : 1,
                         .up_times = 0.5f,
                         .act = gated ? LB_DEV_PRE_SILU + way % 5 : 0,
                         .alpha = LB_SELFTEST_ALPHA,
                         .limit = LB_SELFTEST_LIMIT,
                         .a_scale = way % 3 == 1 ? 0.25f : 0}};
    const u32 n_lines = lb_dev_plan_tiles(a->n_routes, a->n_mats) * LB_DEV_TILE_ROWS;
    const u64 mats = a->n_b * lb_dev_tile_bytes(a->n_rows, a->n_cols, LB_DEV_TILE_PAD);
    const u64 n_bias = (u64)a->n_mats * a->n_rows;
    u8 *b = lb_arena_push(&t->arena, (size_t)(n_bs * mats), 16);
    const u16 *x = lb_selftest_make_tiles(t, n_lines, a->n_cols, LB_DEV_TILE_ROWS, 2, &o->x);
    o->scales = lb_arena_new(&t->arena, float, n_lines);
    if (!b || !x || !o->scales || !make_plan(t, s, &o->p))
        return false;
    for (u32 i = 0; i < n_lines; i++)
        o->scales[i] = ldexpf(1, (int)(lb_selftest_u32(t) % 5) - 2);
    o->bufs[0] = (lb_selftest_data){x, lb_dev_tile_bytes(n_lines, a->n_cols, LB_DEV_TILE_ROWS)};
    o->bufs[1] = (lb_selftest_data){o->scales, 4ull * n_lines};
    o->bufs[2] = (lb_selftest_data){o->p.words, 4ull * o->p.n};
    o->bufs[3] = (lb_selftest_data){b, n_bs * mats};
    for (u32 i = 0; i < n_bs; i++) {
        o->bias[i] = lb_selftest_floats(t, n_bias, 2);
        if (!o->bias[i] || !put_mats(t, o, b + i * mats, &o->b[i]))
            return false;
        o->bufs[4 + i] = (lb_selftest_data){o->bias[i], 4 * n_bias};
    }
    const u32 end = a->first_mat + a->n_b; /* with the last what is of none */
    o->end = o->p.words[2 * (end == a->n_mats ? end + 1 : end)];
    return true;
}

/* Row r of operand i by line `line` of x; its bias, and how far off it is. */
static double product(const case_of *o, u32 i, u32 line, u32 r, double *off) {
    const lb_gemm_experts_args *a = &o->a;
    const u32 mat = o->p.words[o->p.tiles_at + 4 * (line / LB_DEV_TILE_ROWS)];
    const u64 row = (u64)(mat - a->first_mat) * a->n_rows + r;
    const double scale = (double)(a->a_scale != 0 ? a->a_scale : o->scales[line]);
    const double times = (double)(i ? a->up_times : a->times);
    double v = lb_selftest_dot(o->x + (u64)line * a->n_cols, o->b[i] + row * a->n_cols, a->n_cols,
                               times * scale, off);
    if (a->has_bias) {
        v += (double)o->bias[i][(u64)mat * a->n_rows + r];
        *off += LB_SELFTEST_ULP * fabs(v);
    }
    return v;
}

static lb_status check_gemm(lb_selftest *t, const shape *s, u32 way, lb_err *err) {
    case_of o;
    const u64 n = (u64)s->n_tokens * s->per * s->n_rows;
    float *y = lb_arena_new(&t->arena, float, n), *was = lb_selftest_floats(t, n, 1);
    u32 *line_of = lb_arena_new(&t->arena, u32, (u64)s->n_tokens * s->per);
    if (!y || !was || !line_of || !make_case(t, s, way, false, &o))
        return no_memory(err);
    const u32 *words = o.p.words;
    o.bufs[5] = (lb_selftest_data){was, 4 * n};
    LB_TRY(lb_selftest_launch(t, o.bufs, &o.a, y, err));
    memset(line_of, 0xff, 4ull * o.p.n_routes); /* of other matrices: as it was */
    for (u32 tile = words[2 * s->first_mat]; tile < o.end; tile++) {
        const u32 *at = words + o.p.tiles_at + 4 * tile;
        for (u32 i = 0; i < at[2]; i++)
            line_of[words[o.p.order_at + at[1] + i]] = tile * LB_DEV_TILE_ROWS + i;
    }
    for (u64 i = 0; i < n; i++) {
        const u32 line = line_of[i / s->n_rows];
        double off = 0;
        const bool none =
            line != UINT32_MAX && words[o.p.tiles_at + 4 * (line / LB_DEV_TILE_ROWS)] >= s->n_mats;
        const double want = line == UINT32_MAX ? (double)was[i]
                            : none             ? (double)NAN
                                               : product(&o, 0, line, (u32)(i % s->n_rows), &off);
        lb_selftest_compare(t, i, y[i], want, off > 0 ? off + LB_SELFTEST_TINY : 0);
    }
    return LB_OK;
}

static lb_status check_gated(lb_selftest *t, const shape *s, u32 way, lb_err *err) {
    case_of o;
    if (!make_case(t, s, way, true, &o))
        return no_memory(err);
    const u32 n_lines = lb_dev_plan_tiles(o.a.n_routes, o.a.n_mats) * LB_DEV_TILE_ROWS;
    const u64 bytes = lb_dev_tile_bytes(n_lines, s->n_rows, LB_DEV_TILE_ROWS);
    const u32 first = o.p.words[2 * s->first_mat] * LB_DEV_TILE_ROWS;
    u16 *out = lb_arena_push(&t->arena, (size_t)bytes, 16);
    if (!out)
        return no_memory(err);
    o.bufs[6] = (lb_selftest_data){NULL, bytes};
    LB_TRY(lb_selftest_launch(t, o.bufs, &o.a, out, err));
    for (u32 line = 0; line < n_lines; line++) {
        const u32 *tile = o.p.words + o.p.tiles_at + 4 * (line / LB_DEV_TILE_ROWS);
        const bool ours = line >= first && line < o.end * LB_DEV_TILE_ROWS;
        const bool live = ours && line % LB_DEV_TILE_ROWS < tile[2];
        for (u32 c = 0; c < lb_round_up(s->n_rows, LB_DEV_TILE_COLS); c++) {
            const u16 bits = out[lb_selftest_tile_at(s->n_rows, line, c)];
            const float got = lb_f16_to_f32(bits);
            double g_off, u_off;
            if (!ours) { /* as it was */
                lb_selftest_compare(t, t->at++, (float)bits, 0xffff, 0);
            } else if (!live || (c >= s->n_rows && tile[0] < s->n_mats)) {
                lb_selftest_compare(t, t->at++, got, 0, 0);
            } else if (c < s->n_rows && tile[0] >= s->n_mats) {
                lb_selftest_compare(t, t->at++, got, (double)NAN, 0);
            } else if (c < s->n_rows) {
                const float g = (float)product(&o, 0, line, c, &g_off);
                const float u = (float)product(&o, 1, line, c, &u_off);
                lb_selftest_compare_gated(t, o.a.act, got, (lb_selftest_sum){g, g_off},
                                          (lb_selftest_sum){u, u_off});
            }
        }
    }
    return LB_OK;
}

lb_status lb_selftest_grouped(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    const lb_dev_kernel k = t->row->kernel;
    const bool product = k == LB_DK_gemm_experts || k == LB_DK_gemm_experts_gated;
    const u32 n = (u32)LB_LEN(shapes), n_small = product ? 2 * n : n;
    const shape *s = i < n_small ? &shapes[i % n] : &large;
    *more = i + 1 < n_small + t->opts->large;
    (void)snprintf(t->where, sizeof t->where, "[%u,%u] of %u, %u tokens by %u", s->n_rows,
                   s->n_cols, s->n_mats, s->n_tokens, s->per);
    switch (k) {
    case LB_DK_gemm_experts:
        return check_gemm(t, s, i / n + i, err);
    case LB_DK_gemm_experts_gated:
        return check_gated(t, s, i / n + i, err);
    case LB_DK_tile_routes:
        return check_tile_routes(t, s, err);
    default:
        return check_plan(t, s, k == LB_DK_routes_tiles, err);
    }
}
