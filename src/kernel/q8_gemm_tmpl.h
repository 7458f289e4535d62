/* SPDX-License-Identifier: Apache-2.0 */
/* q8_gemm_tmpl.h: panels, and their products with activations where these lie; included by one file
 * an instruction set, which defines
 *     NT, PANELS   tokens and panels of a block whose sums stay in registers
 *     NARROW       1: wide codes are multiplied with a sign, 128 lower
 *     rows16(halves, min, wide, nt, block, lane)
 *                  the sums of a block's panels and nt tokens, to their lanes
 *     second16(halves, min, wide, group, act, g, less, sum)
 *                  adds the products of 16 rows with the second part of a group
 *     finish16(lane, step, n_rows, out)
 *                  16 lanes so many floats apart, added in pairs; NaN's one form
 *     turn16(n_rows, in, in_stride, out, out_stride)
 *                  16 rows of 16 words become columns; bytes apart; rows behind n_rows are zeros
 * Activations are read as every product reads them: a block's are as large as half of a first
 * cache, and all panels pass by while they are there. */
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "kernel/q8.h"
#include <stddef.h>

#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")
#define LANES LB_Q8_LANES
#define GROUP_BYTES(halves) ((halves) ? sizeof(lb_q8_panel16) : sizeof(lb_q8_panel32))
#define SCALES_AT(halves) ((halves) ? offsetof(lb_q8_panel16, s) : offsetof(lb_q8_panel32, s))
_Static_assert(NT * 32 * sizeof(i32) <= LB_Q8_TILE * 2 * LB_Q8_CHUNK, "scratch");

/* less: of each chunk and token minus what the sum of products of each group has too much: off
 * times the sum of codes; LB_Q8_WIDE: (off - 128) times it. */
typedef struct block {
    size_t n_chunks;
    const u8 *panel[PANELS];
    const lb_q8_act *act[NT], *next[NT];
    const i32 (*less)[NT][32];
} block;

/* Of a group: bytes from a panel's start; its chunk, where its codes begin there, and its number.
 */
typedef struct place {
    size_t panel, chunk, at, g;
} place;

typedef float lanes_of[LANES][PANELS][NT][16];

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const block *b,
                   lanes_of lane);
INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const lb_q8_act *act, size_t g, i32 less, float sum[16]);
INLINE void finish16(const float *lane, const size_t step, size_t n_rows, float *out);
INLINE void turn16(size_t n_rows, const u8 *in, size_t in_stride, u8 *out, size_t out_stride);

/* The four codes at the i-th quad of a group. */
INLINE i32 quad_at(const lb_q8_act *a, size_t at, const int i) {
    i32 x;
    memcpy(&x, a->q + at + lb_q8_at(4 * (size_t)i), 4);
    return x;
}

/* The l-th part of what the next block reads is asked for while lane l of this one is added up:
 * activations of many tokens lie in the third cache. */
INLINE void fetch_next(const block *b, size_t l) {
    for (size_t i = 0; i < NT; i++)
        for (size_t c = 0; c < b->n_chunks; c++)
            __builtin_prefetch((const u8 *)(b->next[i] + c) + 64 * l, 0, 2);
}

/* ---- panels ---- */

/* Words of 16 rows: of four (halves: eight) groups each. */
INLINE void panel_chunk(const bool halves, const bool min, size_t n_rows, size_t n_chunks, size_t c,
                        u8 *out, const lb_q8_row *rows) {
    const size_t stride = n_chunks * sizeof *rows, bytes = GROUP_BYTES(halves);
    const size_t lane = (halves ? 2 : 1) * n_chunks * bytes;
    u8 turned[16][64];
    rows += c;
    out += (halves ? 2 : 1) * c * bytes;
    for (size_t i = 0; i < 8; i++) {
        turn16(n_rows, rows->q + 64 * i, stride, turned[0], 64);
        for (size_t j = 0; j < 16; j++) {
            const size_t g = i / 2 * 4 + j / 4, half = i % 2;
            u8 *to = halves ? out + (2 * g + half) % LANES * lane + g / 8 * bytes
                            : out + g * lane + 256 * half;
            memcpy(to + 64 * (j % 4), turned[j], 64);
        }
    }
    for (size_t h = 0; h < (halves ? 2 : 1); h++) {
        u8 *const to = out + h * bytes + SCALES_AT(halves);
        turn16(n_rows, (const u8 *)(rows->s + 16 * h), stride, to, lane);
        if (min)
            turn16(n_rows, (const u8 *)(rows->m + 16 * h), stride, to + 64, lane);
        else
            for (size_t l = 0; l < LANES; l++)
                memset(to + 64 + l * lane, 0, 64);
    }
}

static void panel_q8(size_t n_rows, size_t n_cols, void *out, u32 type, const void *rows) {
    const size_t n = lb_q8_chunks(n_cols);
    const bool min = type & LB_Q8_MIN;
    for (size_t c = 0; c < n; c++)
        if (type & LB_Q8_HALVES)
            panel_chunk(true, min, n_rows, n, c, out, rows);
        else
            panel_chunk(false, min, n_rows, n, c, out, rows);
}

/* ---- products ---- */

/* Second parts in the order of columns, so that each lane has its own in order. */
INLINE void add_seconds(const bool halves, const bool min, const bool wide, const block *b, int nt,
                        i32 off, lanes_of lane) {
    const size_t n = b->n_chunks, per32 = halves ? 2 : 1;
    _Alignas(64) float sum[LANES][PANELS][16];
    for (int t = 0; t < nt; t++) {
        u32 touched = 0;
        for (size_t c = 0; c < n; c++)
            for (u32 more = b->act[t][c].more; more; more &= more - 1) {
                const lb_q8_act *a = b->act[t] + n + c;
                for (size_t h = 0; h < per32; h++) {
                    const size_t g = per32 * (size_t)__builtin_ctz(more) + h, l = g % LANES;
                    const size_t at = (l * n + c) * per32 + g / LANES;
                    const i32 less = -off * (halves ? a->s16[g] : a->s32[g]);
                    if (!(touched >> l & 1))
                        memset(sum[l], 0, sizeof sum[l]);
                    touched |= 1u << l;
                    for (int p = 0; p < PANELS; p++)
                        second16(halves, min, wide, b->panel[p] + at * GROUP_BYTES(halves), a, g,
                                 less, sum[l][p]);
                }
            }
        for (; touched; touched &= touched - 1) {
            const int l = __builtin_ctz(touched);
            for (int p = 0; p < PANELS; p++)
                for (int r = 0; r < 16; r++)
                    lane[l][p][t][r] += sum[l][p][r];
        }
    }
}

typedef void(rows_fn)(const block *b, int nt, i32 off, lanes_of lane);

/* A block that is not full has its last token several times. */
INLINE void rows_any(const bool halves, const bool min, const bool wide, const block *b, int nt,
                     lanes_of lane) {
    if (nt > NT / 2)
        rows16(halves, min, wide, NT, b, lane);
    else
        rows16(halves, min, wide, NT / 2, b, lane);
}

#define ROWS(name, halves, min, wide)                                  \
    static void name(const block *b, int nt, i32 off, lanes_of lane) { \
        rows_any(halves, min, wide, b, nt, lane);                      \
        add_seconds(halves, min, wide, b, nt, off, lane);              \
    }
#include "kernel/q8_forms_tmpl.h"

INLINE void less_of(const bool halves, i32 off, const block *b, i32 (*less)[NT][32]) {
    typedef i32 i32x16 __attribute__((vector_size(64), aligned(4)));
    for (size_t c = 0; c < b->n_chunks; c++)
        for (size_t t = 0; t < NT; t++) {
            const i32 *s = halves ? b->act[t][c].s16 : b->act[t][c].s32;
            for (size_t g = 0; g < (halves ? 32 : 16); g += 16)
                *(i32x16 *)(less[c][t] + g) = *(const i32x16 *)(s + g) * -off;
        }
}

static void gemm_q8(const lb_q8_shape *s, float *out, const void *panels, const void *act,
                    void *scratch) {
    const size_t bytes = lb_q8_panel_bytes(s->type, s->n_cols);
    const i32 off = off_of(s->type);
    i32(*const less)[NT][32] = scratch;
    rows_fn *const fn = rows_of(s->type);
    _Alignas(64) lanes_of lane;
    block b = {.n_chunks = lb_q8_chunks(s->n_cols), .less = less};
    for (size_t t = 0; t < s->n_tokens; t += NT) {
        const size_t nt = LB_MIN(s->n_tokens - t, (size_t)NT);
        for (size_t i = 0; i < NT; i++) {
            b.act[i] = (const lb_q8_act *)act + (t + LB_MIN(i, nt - 1)) * s->act_stride;
            b.next[i] =
                (const lb_q8_act *)act + LB_MIN(t + NT + i, s->n_tokens - 1) * s->act_stride;
        }
        if (s->type & LB_Q8_HALVES)
            less_of(true, off, &b, less);
        else
            less_of(false, off, &b, less);
        for (size_t r = 0; r < s->n_rows; r += (size_t)PANELS * 16) {
            const size_t n_rows = LB_MIN(s->n_rows - r, (size_t)PANELS * 16);
            for (size_t p = 0; p < PANELS; p++)
                b.panel[p] = (const u8 *)panels + (r / 16 + (16 * p < n_rows ? p : 0)) * bytes;
            fn(&b, (int)nt, off, lane);
            for (size_t p = 0; 16 * p < n_rows; p++)
                for (size_t i = 0; i < nt; i++)
                    finish16(lane[0][p][i], PANELS * NT * 16, LB_MIN(n_rows - 16 * p, (size_t)16),
                             out + (t + i) * s->out_stride + r + 16 * p);
        }
    }
}
