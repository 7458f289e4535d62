/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_avx512.c: matrix transpose in square tiles whose rows are one register: whole lines of
 * the caches are read and written.
 *
 * Elements of 1 and 2 bytes are first interleaved by rows into dwords, a quarter or a half of the
 * columns at a time; then 16 registers of 16 dwords (8 bytes: 8 of 8) are transposed, four rows by
 * unpacks within lanes, then lanes. Tiles at the edges are the same under masks. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/kernel.h"
#include "kernel/transpose_tiles.h"
#include <immintrin.h>

void lb_kinit_transpose_avx512(lb_kernels *k);

#define INLINE __attribute__((always_inline)) static inline

typedef struct tile {
    u8 *out;
    const u8 *in;
    size_t out_stride, in_stride; /* bytes */
    size_t n_rows, n_cols;        /* of the input */
    size_t elem_bytes;
    bool is_full;
} tile;

INLINE __mmask64 first_bytes(size_t n) {
    return n < 64 ? ((u64)1 << n) - 1 : UINT64_MAX;
}

INLINE __m512i row(const tile *t, size_t r) {
    if (t->is_full)
        return _mm512_loadu_si512(t->in + r * t->in_stride);
    if (r >= t->n_rows)
        return _mm512_setzero_si512();
    return _mm512_maskz_loadu_epi8(first_bytes(t->n_cols * t->elem_bytes),
                                   t->in + r * t->in_stride);
}

INLINE void put_col(const tile *t, size_t c, __m512i v) {
    u8 *const out = t->out + c * t->out_stride;
    if (t->is_full)
        _mm512_storeu_si512(out, v);
    else if (c < t->n_cols)
        _mm512_mask_storeu_epi8(out, first_bytes(t->n_rows * t->elem_bytes), v);
}

/* Lane L of a, b, c, d is a quarter of column first + step * L. */
INLINE void put_lanes(const tile *t, size_t first, size_t step, const __m512i v[4]) {
    const __m512i ab02 = _mm512_shuffle_i32x4(v[0], v[1], 0x88);
    const __m512i ab13 = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
    const __m512i cd02 = _mm512_shuffle_i32x4(v[2], v[3], 0x88);
    const __m512i cd13 = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);
    put_col(t, first, _mm512_shuffle_i32x4(ab02, cd02, 0x88));
    put_col(t, first + step, _mm512_shuffle_i32x4(ab13, cd13, 0x88));
    put_col(t, first + 2 * step, _mm512_shuffle_i32x4(ab02, cd02, 0xdd));
    put_col(t, first + 3 * step, _mm512_shuffle_i32x4(ab13, cd13, 0xdd));
}

/* Row i of a matrix of dwords: of elements of 2 bytes two rows, of 1 byte four rows, interleaved;
 * lane L has the columns 16 / elem_bytes L + 4 part ... */
INLINE __m512i dwords(const tile *t, size_t i, size_t part) {
    if (t->elem_bytes == 4)
        return row(t, i);
    if (t->elem_bytes == 2) {
        const __m512i a = row(t, 2 * i), b = row(t, 2 * i + 1);
        return part ? _mm512_unpackhi_epi16(a, b) : _mm512_unpacklo_epi16(a, b);
    }
    const __m512i a = row(t, 4 * i), b = row(t, 4 * i + 1);
    const __m512i c = row(t, 4 * i + 2), d = row(t, 4 * i + 3);
    const __m512i ab = part & 2 ? _mm512_unpackhi_epi8(a, b) : _mm512_unpacklo_epi8(a, b);
    const __m512i cd = part & 2 ? _mm512_unpackhi_epi8(c, d) : _mm512_unpacklo_epi8(c, d);
    return part & 1 ? _mm512_unpackhi_epi16(ab, cd) : _mm512_unpacklo_epi16(ab, cd);
}

/* Columns 0 .. 3 of each lane, of the rows 4 i .. 4 i + 3 of dwords, to place i of four. */
INLINE void four_rows(const tile *t, size_t i, size_t part, __m512i c0[4], __m512i c1[4],
                      __m512i c2[4], __m512i c3[4]) {
    const __m512i r0 = dwords(t, 4 * i, part), r1 = dwords(t, 4 * i + 1, part);
    const __m512i r2 = dwords(t, 4 * i + 2, part), r3 = dwords(t, 4 * i + 3, part);
    const __m512i a = _mm512_unpacklo_epi32(r0, r1), b = _mm512_unpackhi_epi32(r0, r1);
    const __m512i c = _mm512_unpacklo_epi32(r2, r3), d = _mm512_unpackhi_epi32(r2, r3);
    c0[i] = _mm512_unpacklo_epi64(a, c);
    c1[i] = _mm512_unpackhi_epi64(a, c);
    c2[i] = _mm512_unpacklo_epi64(b, d);
    c3[i] = _mm512_unpackhi_epi64(b, d);
}

INLINE void part_of_dwords(const tile *t, size_t part) {
    const size_t step = 16 / t->elem_bytes;
    __m512i c0[4], c1[4], c2[4], c3[4];
    four_rows(t, 0, part, c0, c1, c2, c3);
    four_rows(t, 1, part, c0, c1, c2, c3);
    four_rows(t, 2, part, c0, c1, c2, c3);
    four_rows(t, 3, part, c0, c1, c2, c3);
    put_lanes(t, 4 * part, step, c0);
    put_lanes(t, 4 * part + 1, step, c1);
    put_lanes(t, 4 * part + 2, step, c2);
    put_lanes(t, 4 * part + 3, step, c3);
}

INLINE void quadwords(const tile *t) {
    __m512i even[4], odd[4];
    const __m512i r0 = row(t, 0), r1 = row(t, 1), r2 = row(t, 2), r3 = row(t, 3);
    const __m512i r4 = row(t, 4), r5 = row(t, 5), r6 = row(t, 6), r7 = row(t, 7);
    even[0] = _mm512_unpacklo_epi64(r0, r1), odd[0] = _mm512_unpackhi_epi64(r0, r1);
    even[1] = _mm512_unpacklo_epi64(r2, r3), odd[1] = _mm512_unpackhi_epi64(r2, r3);
    even[2] = _mm512_unpacklo_epi64(r4, r5), odd[2] = _mm512_unpackhi_epi64(r4, r5);
    even[3] = _mm512_unpacklo_epi64(r6, r7), odd[3] = _mm512_unpackhi_epi64(r6, r7);
    put_lanes(t, 0, 2, even);
    put_lanes(t, 1, 2, odd);
}

INLINE void one_tile(tile t, size_t elem_bytes, bool is_full) {
    t.elem_bytes = elem_bytes; /* constants from here on */
    t.is_full = is_full;
    if (elem_bytes == 8) {
        quadwords(&t);
        return;
    }
    part_of_dwords(&t, 0);
    if (elem_bytes < 4)
        part_of_dwords(&t, 1);
    if (elem_bytes == 1) {
        part_of_dwords(&t, 2);
        part_of_dwords(&t, 3);
    }
}

/* By name, for a table: whole tiles and edges of each size. */
#define TILES(e)                          \
    static void full_##e(const tile *t) { \
        one_tile(*t, e, true);            \
    }                                     \
    static void edge_##e(const tile *t) { \
        one_tile(*t, e, false);           \
    }
TILES(1)
TILES(2)
TILES(4)
TILES(8)

typedef void(tile_fn)(const tile *t);

/* Tiles of the rows from r0 and columns from c0 to the ends; w: the whole matrix. */
static void block(const tile *w, size_t r0, size_t r_end, size_t c0, size_t c_end) {
    static tile_fn *const full[9] = {NULL, full_1, full_2, NULL, full_4, NULL, NULL, NULL, full_8};
    static tile_fn *const edge[9] = {NULL, edge_1, edge_2, NULL, edge_4, NULL, NULL, NULL, edge_8};
    const size_t e = w->elem_bytes, side = 64 / e;
    tile t = *w;
    for (size_t c = c0; c < c_end; c += side) {
        for (size_t r = r0; r < r_end; r += side) {
            t.out = w->out + c * t.out_stride + r * e;
            t.in = w->in + r * t.in_stride + c * e;
            t.n_rows = LB_MIN(r_end - r, side);
            t.n_cols = LB_MIN(c_end - c, side);
            if (t.n_rows == side && t.n_cols == side)
                full[e](&t);
            else
                edge[e](&t);
        }
    }
}

/* A block of 64 x 64 elements (8 bytes: 32 x 32) is finished before the next: its output is on few
 * enough pages. */
static void transpose(size_t n_rows, size_t n_cols, size_t elem_bytes, void *out, size_t out_stride,
                      const void *in, size_t in_stride) {
    const size_t side = elem_bytes == 8 ? 32 : 64;
    const tile w = {.out = out,
                    .in = in,
                    .out_stride = out_stride * elem_bytes,
                    .in_stride = in_stride * elem_bytes,
                    .elem_bytes = elem_bytes};
    for (size_t r = 0; r < n_rows; r += side)
        for (size_t c = 0; c < n_cols; c += side) {
            lb_tile_ask_next(w.in, w.in_stride, elem_bytes, side, r, n_rows, c, n_cols);
            block(&w, r, LB_MIN(r + side, n_rows), c, LB_MIN(c + side, n_cols));
        }
}

void lb_kinit_transpose_avx512(lb_kernels *k) {
    k->transpose = transpose;
}
