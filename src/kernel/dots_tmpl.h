/* SPDX-License-Identifier: Apache-2.0 */
/* dots_tmpl.h: products of rows of floats with activations; included by one file an instruction
 * set, which defines the words of lanes_<isa>.h and
 *     vf_load_bf16       of any address
 *     vf_folds4          the sums of four times 16 lanes to four floats, NaN's one form
 *     MR, NT             rows and tokens of a tile whose sums stay in registers
 * Every sum is 16 chains over the columns, whatever the tile, so the ways below have the same
 * bytes. Up to FEW_TOKENS: a row at a time, which memory delivers fastest, fetched ahead. Up to
 * SOME_TOKENS: tiles, rows as they are stored. More: rows of a tile become floats once for a block
 * of tokens, BLOCK_COLS at a time, so that the tile stays in the first cache and the block's part
 * in the second; sums that are not complete wait in scratch.
 * Loops over a tile are unrolled: gcc 12 keeps other arrays in memory. */
#include "kernel/half.h"
#include "kernel/kernel.h"

#define LANES 16
#define NV (LANES / VF_LANES)
#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 32")

enum {
    FEW_TOKENS = 4,
    SOME_TOKENS = LB_DOTS_SOME,
    AHEAD = 8192, /* bytes */
    BLOCK_COLS = LB_DOTS_COLS,
    BLOCK_ROWS = LB_DOTS_ROWS,
    BLOCK_TOKENS = LB_DOTS_TOKENS,
};
_Static_assert(MR <= LB_DOTS_TILE_ROWS && BLOCK_ROWS % MR == 0 && BLOCK_TOKENS % NT == 0 &&
                   BLOCK_COLS % LANES == 0,
               "blocks are of whole tiles");

typedef enum form { F32, F16, BF16 } form;

typedef struct dots {
    size_t n_cols, out_stride, w_bytes, x_stride;
    float *out;
    const u8 *w;
    const float *x;
    float *scratch;
} dots;

INLINE size_t size_of(const form f) {
    return f == F32 ? 4 : 2;
}

INLINE vf load_as(const form f, const u8 *p) {
    return f == F32   ? vf_load((const float *)(const void *)p)
           : f == F16 ? vf_load_f16(p)
                      : vf_load_bf16(p);
}

/* ---- a tile ---- */

INLINE void clear(const int n, vf acc[MR * NT][NV]) {
    UNROLL for (int i = 0; i < n; i++) UNROLL for (int v = 0; v < NV; v++) acc[i][v] = vf_set(0);
}

/* n columns, whole chunks of lanes. */
INLINE void steps(const form f, const int mr, const int nt, vf acc[MR * NT][NV], const dots *d,
                  size_t n, const bool fetch) {
    const u8 *w = d->w;
    const float *x = d->x;
    for (size_t i = 0; i < n; i += LANES, w += LANES * size_of(f), x += LANES) {
        if (fetch)
            __builtin_prefetch(w + AHEAD, 0, 2);
        UNROLL for (int v = 0; v < NV; v++) {
            vf xs[NT];
            UNROLL for (int t = 0; t < nt; t++) xs[t] =
                vf_load(x + (size_t)t * d->x_stride + v * VF_LANES);
            UNROLL for (int r = 0; r < mr; r++) {
                const vf a =
                    load_as(f, w + (size_t)r * d->w_bytes + (size_t)v * VF_LANES * size_of(f));
                UNROLL for (int t = 0; t < nt; t++) acc[r * nt + t][v] =
                    vf_fma(a, xs[t], acc[r * nt + t][v]);
            }
        }
    }
}

/* The last columns, filled up by -0 * +0, which changes no sum. */
INLINE void last_step(const form f, const int mr, const int nt, vf acc[MR * NT][NV], const dots *d,
                      size_t at, size_t n) {
    u8 w[MR * LANES * 4];
    float x[NT * LANES];
    for (int r = 0; r < mr; r++) {
        u8 *const to = w + (size_t)r * LANES * size_of(f);
        for (size_t i = 0; i < LANES; i++) {
            const u32 zero = f == F32 ? 0x80000000u : 0x8000u;
            memcpy(to + i * size_of(f), &zero, size_of(f)); /* of a little-endian number */
        }
        memcpy(to, d->w + (size_t)r * d->w_bytes + at * size_of(f), n * size_of(f));
    }
    memset(x, 0, sizeof x);
    for (int t = 0; t < nt; t++)
        memcpy(x + t * LANES, d->x + (size_t)t * d->x_stride + at, n * sizeof *x);
    const dots rest = {.w = w, .w_bytes = LANES * size_of(f), .x = x, .x_stride = LANES};
    steps(f, mr, nt, acc, &rest, LANES, false);
}

INLINE void store(const int mr, const int nt, vf acc[MR * NT][NV], const dots *d) {
    const int n = mr * nt;
    float s[MR * NT + 4];
    UNROLL for (int i = 0; i < n; i += 4)
        vf_folds4(s + i, acc[i], acc[LB_MIN(i + 1, n - 1)], acc[LB_MIN(i + 2, n - 1)],
                  acc[LB_MIN(i + 3, n - 1)]);
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int t = 0; t < nt; t++)
        d->out[(size_t)t * d->out_stride + (size_t)r] = s[r * nt + t];
}

INLINE void tile(const form f, const int mr, const int nt, const dots *d, const bool fetch) {
    const size_t whole = d->n_cols / LANES * LANES;
    vf acc[MR * NT][NV];
    clear(mr * nt, acc);
    steps(f, mr, nt, acc, d, whole, fetch);
    if (whole < d->n_cols)
        last_step(f, mr, nt, acc, d, whole, d->n_cols - whole);
    store(mr, nt, acc, d);
}

/* ---- few and some tokens ---- */

INLINE void tile_tokens(const form f, const int mr, size_t n_tokens, dots d, bool fetch) {
    size_t t = 0;
    for (; t + NT <= n_tokens; t += NT, fetch = false) {
        if (fetch)
            tile(f, mr, NT, &d, true);
        else
            tile(f, mr, NT, &d, false);
        d.x += NT * d.x_stride;
        d.out += NT * d.out_stride;
    }
    if (NT > 3 && t + 3 == n_tokens)
        tile(f, mr, NT > 3 ? 3 : 1, &d, mr == 1);
    else if (NT > 2 && t + 2 == n_tokens)
        tile(f, mr, NT > 2 ? 2 : 1, &d, mr == 1);
    else if (t < n_tokens)
        tile(f, mr, 1, &d, mr == 1);
}

INLINE void rows_of_some(const form f, size_t n_rows, size_t n_tokens, dots d) {
    size_t r = 0;
    for (; n_tokens > FEW_TOKENS && r + MR <= n_rows; r += MR) {
        tile_tokens(f, MR, n_tokens, d, false);
        d.w += MR * d.w_bytes;
        d.out += MR;
    }
    for (; r < n_rows; r++) {
        tile_tokens(f, 1, n_tokens, d, true);
        d.w += d.w_bytes;
        d.out++;
    }
}

/* ---- many tokens ---- */

/* Columns [at, at + n) of a tile's rows as floats. */
INLINE void make_floats(const form f, const dots *d, size_t at, size_t n, float *to) {
    for (size_t r = 0; r < MR; r++)
        for (size_t i = 0; i + VF_LANES <= n; i += VF_LANES)
            vf_store(to + r * BLOCK_COLS + i,
                     load_as(f, d->w + r * d->w_bytes + (at + i) * size_of(f)));
}

/* Columns [at, at + n) of the rows of d for its tokens; kept: sums so far. */
INLINE void tile_block(const form f, size_t n_tokens, size_t at, dots d, float *kept) {
    const size_t n = LB_MIN(d.n_cols - at, (size_t)BLOCK_COLS), whole = n / LANES * LANES;
    const bool last = at + n == d.n_cols;
    dots floats = d;
    if (f == F32) {
        floats.w += at * sizeof(float);
    } else {
        make_floats(f, &d, at, whole, d.scratch);
        floats.w = (const u8 *)d.scratch;
        floats.w_bytes = BLOCK_COLS * sizeof(float);
    }
    for (size_t t = 0; t < n_tokens; t += NT, kept += MR * NT * LANES) {
        vf acc[MR * NT][NV];
        if (at == 0)
            clear(MR * NT, acc);
        else
            UNROLL for (int i = 0; i < MR * NT; i++) UNROLL for (int v = 0; v < NV; v++) acc[i][v] =
                vf_load(kept + i * LANES + v * VF_LANES);
        floats.x = d.x + at;
        steps(F32, MR, NT, acc, &floats, whole, false);
        if (whole < n)
            last_step(f, MR, NT, acc, &d, at + whole, n - whole);
        if (last)
            store(MR, NT, acc, &d);
        else
            UNROLL for (int i = 0; i < MR * NT; i++) UNROLL for (int v = 0; v < NV; v++)
                vf_store(kept + i * LANES + v * VF_LANES, acc[i][v]);
        d.x += NT * d.x_stride;
        d.out += NT * d.out_stride;
    }
}

/* Whole tiles. */
INLINE void blocks(const form f, size_t n_rows, size_t n_tokens, const dots *d) {
    float *const kept = d->scratch + LB_DOTS_TILE_ROWS * BLOCK_COLS;
    for (size_t rb = 0; rb < n_rows; rb += BLOCK_ROWS)
        for (size_t tb = 0; tb < n_tokens; tb += BLOCK_TOKENS)
            for (size_t at = 0; at < d->n_cols; at += BLOCK_COLS)
                for (size_t r = rb; r < LB_MIN(rb + BLOCK_ROWS, n_rows); r += MR) {
                    dots part = *d;
                    part.w += r * d->w_bytes;
                    part.x += tb * d->x_stride;
                    part.out += tb * d->out_stride + r;
                    tile_block(f, LB_MIN(n_tokens - tb, (size_t)BLOCK_TOKENS), at, part,
                               kept + (r - rb) * BLOCK_TOKENS * LANES);
                }
}

INLINE void run(const form f, size_t n_rows, size_t n_tokens, dots d) {
    size_t rows = 0, tokens = 0;
    if (n_tokens > SOME_TOKENS && d.n_cols) {
        rows = n_rows / MR * MR;
        tokens = n_tokens / NT * NT;
        blocks(f, rows, tokens, &d);
    }
    dots rest = d; /* tokens that make no tile, then rows */
    rest.x += tokens * d.x_stride;
    rest.out += tokens * d.out_stride;
    if (tokens < n_tokens)
        rows_of_some(f, rows, n_tokens - tokens, rest);
    d.w += rows * d.w_bytes;
    d.out += rows;
    if (rows < n_rows)
        rows_of_some(f, n_rows - rows, n_tokens, d);
}

INLINE dots from(const lb_dots *d, size_t w_bytes, float *out, const void *w, const float *x) {
    return (dots){d->n_cols, d->out_stride, w_bytes, d->x_stride, out, w, x, d->scratch};
}

static void dots_f32(size_t n_rows, size_t n_tokens, float *out, const float *w, const float *x,
                     const lb_dots *d) {
    run(F32, n_rows, n_tokens, from(d, d->w_stride * sizeof *w, out, w, x));
}

static void dots_f16(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                     const lb_dots *d) {
    run(F16, n_rows, n_tokens, from(d, d->w_stride, out, w, x));
}

static void dots_bf16(size_t n_rows, size_t n_tokens, float *out, const void *w, const float *x,
                      const lb_dots *d) {
    run(BF16, n_rows, n_tokens, from(d, d->w_stride, out, w, x));
}
