/* SPDX-License-Identifier: Apache-2.0 */
/* q8_tmpl.h: panels and tiles of products of eight bits; included by one file an instruction set,
 * which defines
 *     NT     tokens of a tile
 *     RUN    columns side by side, of a row in a panel and of a token in a tile: 4 (also where it
 *            is not defined) or 8
 *     rows16(halves, min, wide, nt, t, job, lane)
 *            the sums of 16 rows and nt tokens from the t-th of the tile on, to their lanes
 *     second16(halves, min, wide, group, second, sum)
 *            adds the products of 16 rows with a second part
 * A tile holds the activations of NT tokens in the order in which a panel has its groups, so that
 * both are read from front to back. */
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/q8.h"

#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")
#define LANES LB_Q8_LANES
#ifndef RUN
#define RUN 4
#endif
#include "kernel/q8_second_tmpl.h"

/* less: off times the sum of codes; LB_Q8_WIDE: (off - 128) times it. */
typedef struct tile32 {
    i8 q[32 / RUN][NT][RUN];
    float d[NT], m[NT];
    i32 less[NT];
} tile32;
typedef struct tile16 {
    i8 q[16 / RUN][NT][RUN];
    float d[NT], m[NT];
    i32 less[NT];
} tile16;
_Static_assert(NT <= LB_Q8_TILE, "scratch");

_Static_assert(sizeof(tile16) * 32 + NT * 32 * sizeof(second) <=
                   LB_Q8_TILE * (2 * LB_Q8_CHUNK + 12 * 32 * sizeof(float)),
               "scratch");

typedef struct job {
    size_t n_groups; /* of a lane */
    const u8 *panel, *tile;
    const second *seconds;
    size_t n_seconds[NT]; /* of each token, one behind the other */
} job;

typedef float lanes_of[LANES][NT][16];

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const int t,
                   const job *j, lanes_of lane);
INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const second *x, float sum[16]);

INLINE void panel_of(const bool halves, const bool min, size_t n_rows, size_t n_chunks, u8 *out,
                     const lb_q8_row *rows) {
    const size_t n_groups = halves ? 2 * n_chunks : n_chunks;
    for (size_t r = 0; r < 16; r++) {
        u8 *p = out;
        for (size_t lane = 0; lane < LANES; lane++)
            for (size_t k = 0; k < n_groups; k++) {
                const size_t g = halves ? k % 2 * LANES + lane : lane;
                const lb_q8_row *row = rows + r * n_chunks + (halves ? k / 2 : k);
                u8 *to = p + RUN * r;
                const size_t size = halves ? 256 : 512, step = 16 * RUN;
                float *scale = (float *)(void *)(p + size);
                if (r >= n_rows) {
                    for (size_t i = 0; i < size; i += step)
                        memset(to + i, 0, RUN);
                    scale[r] = scale[16 + r] = 0;
                } else {
                    copy_runs(halves, to, step, row->q, g);
                    scale[r] = row->s[g];
                    scale[16 + r] = min ? row->m[g] : 0;
                }
                p += size + 128;
            }
    }
}

static void panel_q8(size_t n_rows, size_t n_cols, void *out, u32 type, const void *rows) {
    const size_t n = lb_q8_chunks(n_cols);
    if (type & LB_Q8_HALVES)
        panel_of(true, type & LB_Q8_MIN, n_rows, n, out, rows);
    else
        panel_of(false, type & LB_Q8_MIN, n_rows, n, out, rows);
}

INLINE void tile_of(const bool halves, i32 off, size_t nt, const lb_q8_shape *s, u8 *out,
                    const lb_q8_act *act) {
    const size_t n_chunks = lb_q8_chunks(s->n_cols);
    const size_t n_groups = halves ? 2 * n_chunks : n_chunks;
    for (size_t t = 0; t < nt; t++) {
        u8 *p = out;
        for (size_t lane = 0; lane < LANES; lane++)
            for (size_t k = 0; k < n_groups; k++) {
                const lb_q8_act *a = act + t * s->act_stride + (halves ? k / 2 : k);
                const size_t g = halves ? k % 2 * LANES + lane : lane;
                if (halves) {
                    tile16 *o = (tile16 *)(void *)p;
                    copy_runs(true, (u8 *)o->q[0][t], sizeof o->q[0], a->q, g);
                    o->d[t] = a->d16[g], o->m[t] = a->m16[g], o->less[t] = off * a->s16[g];
                    p += sizeof *o;
                } else {
                    tile32 *o = (tile32 *)(void *)p;
                    copy_runs(false, (u8 *)o->q[0][t], sizeof o->q[0], a->q, g);
                    o->d[t] = a->d32[g], o->m[t] = a->m32[g], o->less[t] = off * a->s32[g];
                    p += sizeof *o;
                }
            }
    }
}

INLINE void add_seconds(const bool halves, const bool min, const bool wide, const job *j, int nt,
                        lanes_of lane) {
    const second *x = j->seconds;
    const size_t group = halves ? sizeof(lb_q8_panel16) : sizeof(lb_q8_panel32);
    for (int t = 0; t < nt; t++)
        for (size_t left = j->n_seconds[t]; left;) {
            _Alignas(64) float sum[16] = {0};
            float *const to = lane[x->lane][t];
            const u32 l = x->lane;
            for (; left && x->lane == l; left--, x++)
                second16(halves, min, wide, j->panel + x->at * group, x, sum);
            for (size_t r = 0; r < 16; r++)
                to[r] += sum[r];
        }
}

static void finish(lanes_of lane, size_t nt, size_t n_rows, float *out, size_t out_stride) {
    for (size_t t = 0; t < nt; t++) {
        for (size_t n = LANES / 2; n; n /= 2)
            for (size_t i = 0; i < n; i++)
                for (size_t r = 0; r < 16; r++)
                    lane[i][t][r] += lane[i + n][t][r];
        for (size_t r = 0; r < n_rows; r++)
            out[t * out_stride + r] = lb_canon_f32(lane[0][t][r]);
    }
}

typedef void(rows_fn)(const job *j, int nt, lanes_of lane);

INLINE void rows_any(const bool halves, const bool min, const bool wide, const job *j, int nt,
                     lanes_of lane) {
    int t = 0;
    if (nt == NT) {
        rows16(halves, min, wide, NT, 0, j, lane);
        return;
    }
    for (; NT > 4 && t + 4 <= nt; t += 4)
        rows16(halves, min, wide, 4, t, j, lane);
    for (; t < nt; t++)
        rows16(halves, min, wide, 1, t, j, lane);
}

#define ROWS(name, halves, min, wide)                       \
    static void name(const job *j, int nt, lanes_of lane) { \
        rows_any(halves, min, wide, j, nt, lane);           \
        add_seconds(halves, min, wide, j, nt, lane);        \
    }
#include "kernel/q8_forms_tmpl.h"

static void gemm_q8(const lb_q8_shape *s, float *out, const void *panels, const void *act,
                    void *scratch) {
    const size_t n = lb_q8_chunks(s->n_cols), panel_bytes = lb_q8_panel_bytes(s->type, s->n_cols);
    const bool halves = s->type & LB_Q8_HALVES;
    const size_t tile_bytes = n * (halves ? 32 * sizeof(tile16) : 16 * sizeof(tile32));
    const i32 off = off_of(s->type);
    rows_fn *fn = rows_of(s->type);
    lanes_of lane;
    job j = {.n_groups = halves ? 2 * n : n, .tile = scratch};
    second *const seconds = (second *)(void *)((u8 *)scratch + tile_bytes);
    j.seconds = seconds;
    for (size_t t = 0; t < s->n_tokens; t += NT) {
        const size_t nt = LB_MIN(s->n_tokens - t, (size_t)NT);
        const lb_q8_act *a = (const lb_q8_act *)act + t * s->act_stride;
        if (halves)
            tile_of(true, off, nt, s, scratch, a);
        else
            tile_of(false, off, nt, s, scratch, a);
        second *x = seconds;
        for (size_t i = 0; i < nt; i++, a += s->act_stride)
            x += j.n_seconds[i] = seconds_of(halves, off, n, x, a);
        j.panel = panels;
        for (size_t r = 0; r < s->n_rows; r += 16, j.panel += panel_bytes) {
            fn(&j, (int)nt, lane);
            finish(lane, nt, LB_MIN(s->n_rows - r, (size_t)16), out + t * s->out_stride + r,
                   s->out_stride);
        }
    }
}
