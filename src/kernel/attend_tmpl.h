/* SPDX-License-Identifier: Apache-2.0 */
/* attend_tmpl.h: stored keys and values against few queries, for registers of any width; included
 * by one file an instruction set with the words of lanes_<isa>.h and
 *     DOT_R, DOT_Q     rows and queries whose sums stay in registers (16 lanes each)
 *     MIX_C, MIX_C1    chunks of 16 columns that do, of MIX_Q queries and of one; even
 *     vf_fold4         where DOT_R is 4: the sums of four registers to four floats, NaN's one form
 * A stored row is turned into floats in registers, once for all queries of a tile. */
#include "kernel/kernel.h"
#include "kernel/nn.h"

#define INLINE __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")
#define NF (LB_FOLD_LANES / VF_LANES)
#define AHEAD 4096

/* Half of the 32 elements 32 i .. of a row. */
INLINE void chunk(const lb_dtype t, const u8 *row, size_t i, const size_t half, vf x[NF]) {
    const u8 *const f32 = row + 128 * i + 64 * half, *const f16 = row + 64 * i + 32 * half;
    const u8 *const b = row + i * (t == LB_Q8_0 ? 34 : 18);
    if (t == LB_F32) {
        UNROLL for (int v = 0; v < NF; v++) x[v] =
            vf_load((const float *)(const void *)(f32 + 4 * VF_LANES * v));
    } else if (t == LB_F16) {
        UNROLL for (int v = 0; v < NF; v++) x[v] = vf_load_f16(f16 + 2 * VF_LANES * v);
    } else {
        const vf d = vf_half(b);
        UNROLL for (int v = 0; v < NF; v++) x[v] =
            t == LB_Q8_0 ? vf_mul(d, vf_load_i8(b + 2 + 16 * half + VF_LANES * v))
                         : vf_load_q4(b + 2 + VF_LANES * v, half != 0, d);
    }
}

/* The last n < 16 elements of a row of floats, of which `before` come before, then zeros. */
INLINE void chunk_some(const lb_dtype t, const u8 *row, size_t before, size_t n, vf x[NF]) {
    const size_t size = t == LB_F32 ? 4 : 2;
    u8 b[64] = {0};
    memcpy(b, row + size * before, n * size);
    chunk(t, b, 0, 0, x);
}

typedef struct rows {
    size_t n_queries, n_rows, dim, bytes; /* of a row */
    const u8 *row;
    const float *q; /* or weights */
    float *out;
    size_t out_stride;
} rows;

/* A row that will be needed soon, AHEAD bytes on: processors look ahead by themselves within 4 KiB
 * only. It may lie behind the last one. */
INLINE void fetch(const lb_dtype t, const rows *s, const u8 *row) {
    const size_t n = t == LB_F32   ? 4 * s->dim
                     : t == LB_F16 ? 2 * s->dim
                                   : s->dim / 32 * (t == LB_Q8_0 ? 34 : 18);
    const uintptr_t at = (uintptr_t)row + s->bytes * (AHEAD / (s->bytes + 1) + 2);
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch((const void *)(at + i));
}

/* ---- keys ---- */

INLINE void dot_chunk(const int nr, const int nq, vf acc[DOT_R][DOT_Q][NF], vf k[DOT_R][NF],
                      const float *q, size_t stride) {
    UNROLL for (int j = 0; j < nq; j++) {
        vf x[NF];
        UNROLL for (int v = 0; v < NF; v++) x[v] = vf_load(q + (size_t)j * stride + v * VF_LANES);
        UNROLL for (int r = 0; r < nr; r++) UNROLL for (int v = 0; v < NF; v++) acc[r][j][v] =
            vf_fma(x[v], k[r][v], acc[r][j][v]);
    }
}

/* Sums of `nr` rows for one query. */
INLINE void dot_end(const int nr, vf acc[DOT_R][DOT_Q][NF], const int j, float *out) {
#ifdef vf_fold4
    if (nr == 4) {
        vf_fold4(out, acc[0][j][0], acc[1][j][0], acc[2][j][0], acc[3][j][0]);
        return;
    }
#endif
    UNROLL for (int r = 0; r < nr; r++) out[r] = lb_canon_f32(vf_fold16(acc[r][j]));
}

INLINE void dot_tile(const lb_dtype t, const int nr, const int nq, const rows *s, const u8 *row,
                     size_t r0, size_t q0) {
    const size_t stride = (s->dim + 15) / 16 * 16, bytes = s->bytes, pairs = s->dim / 32;
    const float *q = s->q + q0 * stride;
    vf acc[DOT_R][DOT_Q][NF], k[DOT_R][NF];
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int j = 0; j < nq; j++)
        UNROLL for (int v = 0; v < NF; v++) acc[r][j][v] = vf_set(0);
    for (size_t i = 0; i < pairs; i++) {
        UNROLL for (int half = 0; half < 2; half++, q += 16) {
            UNROLL for (int r = 0; r < nr; r++)
                chunk(t, row + (size_t)r * bytes, i, (size_t)half, k[r]);
            dot_chunk(nr, nq, acc, k, q, stride);
        }
    }
    for (size_t at = 32 * pairs; (t == LB_F32 || t == LB_F16) && at < s->dim; at += 16, q += 16) {
        UNROLL for (int r = 0; r < nr; r++)
            chunk_some(t, row + (size_t)r * bytes, at, LB_MIN(s->dim - at, (size_t)16), k[r]);
        dot_chunk(nr, nq, acc, k, q, stride);
    }
    UNROLL for (int j = 0; j < nq; j++)
        dot_end(nr, acc, j, s->out + (q0 + (size_t)j) * s->n_rows + r0);
}

INLINE void dot_rows(const lb_dtype t, const int nr, const rows *s, const u8 *row, size_t r0) {
    size_t q = 0;
    UNROLL for (int r = 0; r < nr; r++) fetch(t, s, row + (size_t)r * s->bytes);
    for (; q + DOT_Q <= s->n_queries; q += DOT_Q)
        dot_tile(t, nr, DOT_Q, s, row, r0, q);
    if (DOT_Q > 3 && q + 3 == s->n_queries)
        dot_tile(t, nr, 3, s, row, r0, q);
    else if (DOT_Q > 2 && q + 2 == s->n_queries)
        dot_tile(t, nr, 2, s, row, r0, q);
    else if (q < s->n_queries)
        dot_tile(t, nr, 1, s, row, r0, q);
}

INLINE void dots(const lb_dtype t, const rows *s) {
    size_t r = 0;
    for (; r + DOT_R <= s->n_rows; r += DOT_R)
        dot_rows(t, DOT_R, s, s->row + r * s->bytes, r);
    for (; r < s->n_rows; r++)
        dot_rows(t, 1, s, s->row + r * s->bytes, r);
}

/* ---- values ---- */

INLINE void mix_tile(const lb_dtype t, const int nq, const int nc, const rows *s, size_t q0,
                     size_t c0) {
    vf acc[MIX_Q][MIX_C1][NF];
    float *const out = s->out + q0 * s->out_stride + 16 * c0;
    UNROLL for (int j = 0; j < nq; j++) UNROLL for (int c = 0; c < nc; c++)
        UNROLL for (int v = 0; v < NF; v++) acc[j][c][v] =
            vf_load(out + (size_t)j * s->out_stride + 16 * c + v * VF_LANES);
    const u8 *row = s->row;
    const float *p = s->q + q0 * s->n_rows;
    const bool first = q0 + c0 == 0;
    for (size_t r = 0; r < s->n_rows; r++, row += s->bytes, p++) {
        if (first)
            fetch(t, s, row);
        UNROLL for (int c = 0; c < nc; c++) {
            vf x[NF];
            const size_t half = nc == 1 ? c0 % 2 : (size_t)c % 2;
            chunk(t, row, c0 / 2 + (size_t)c / 2, half, x);
            UNROLL for (int j = 0; j < nq; j++) {
                const vf w = vf_set(p[(size_t)j * s->n_rows]);
                UNROLL for (int v = 0; v < NF; v++) acc[j][c][v] = vf_fma(w, x[v], acc[j][c][v]);
            }
        }
    }
    UNROLL for (int j = 0; j < nq; j++) UNROLL for (int c = 0; c < nc; c++) UNROLL for (int v = 0;
                                                                                        v < NF; v++)
        vf_store(out + (size_t)j * s->out_stride + 16 * c + v * VF_LANES, vf_canon(acc[j][c][v]));
}

/* The columns beyond the last chunk, of rows of floats. */
static void mix_rest(lb_dtype t, const rows *s) {
    const size_t n = s->dim / 16 * 16;
    for (size_t i = 0; i < s->n_queries; i++)
        for (size_t j = n; j < s->dim; j++) {
            float sum = s->out[i * s->out_stride + j];
            for (size_t r = 0; r < s->n_rows; r++) {
                const u8 *const row = s->row + r * s->bytes;
                const float x = t == LB_F32 ? lb_f32_from_bits(lb_load_u32(row + 4 * j))
                                            : lb_f16_to_f32(lb_load_u16(row + 2 * j));
                sum = fmaf(s->q[i * s->n_rows + r], x, sum);
            }
            s->out[i * s->out_stride + j] = lb_canon_f32(sum);
        }
}

INLINE void mix_columns(const lb_dtype t, const int nq, const int nc, const rows *s, size_t q) {
    const size_t n = s->dim / 16;
    size_t c = 0;
    for (; c + (size_t)nc <= n; c += (size_t)nc)
        mix_tile(t, nq, nc, s, q, c);
    for (; nc > 2 && c + 2 <= n; c += 2)
        mix_tile(t, nq, 2, s, q, c);
    for (; (t == LB_F32 || t == LB_F16) && c < n; c++)
        mix_tile(t, nq, 1, s, q, c);
}

INLINE void mix(const lb_dtype t, const rows *s) {
    size_t q = 0;
    for (; q + MIX_Q <= s->n_queries; q += MIX_Q)
        mix_columns(t, MIX_Q, MIX_C, s, q);
    if (MIX_Q > 3 && q + 3 == s->n_queries)
        mix_columns(t, 3, MIX_C, s, q);
    else if (MIX_Q > 2 && q + 2 == s->n_queries)
        mix_columns(t, 2, MIX_C, s, q);
    else if (q < s->n_queries)
        mix_columns(t, 1, MIX_C1, s, q);
    if (s->dim % 16)
        mix_rest(t, s);
}

/* ---- the table's functions ---- */

static void dot_f32(size_t n_queries, size_t n_rows, size_t k_dim, float *out, const float *q,
                    const void *k, size_t k_bytes) {
    dots(LB_F32, &(rows){n_queries, n_rows, k_dim, k_bytes, k, q, out, 0});
}

static void dot_f16(size_t n_queries, size_t n_rows, size_t k_dim, float *out, const float *q,
                    const void *k, size_t k_bytes) {
    dots(LB_F16, &(rows){n_queries, n_rows, k_dim, k_bytes, k, q, out, 0});
}

static void dot_q8_0(size_t n_queries, size_t n_rows, size_t k_dim, float *out, const float *q,
                     const void *k, size_t k_bytes) {
    dots(LB_Q8_0, &(rows){n_queries, n_rows, k_dim, k_bytes, k, q, out, 0});
}

static void dot_q4_0(size_t n_queries, size_t n_rows, size_t k_dim, float *out, const float *q,
                     const void *k, size_t k_bytes) {
    dots(LB_Q4_0, &(rows){n_queries, n_rows, k_dim, k_bytes, k, q, out, 0});
}

static void mix_f32(size_t n_queries, size_t n_rows, size_t v_dim, float *acc, size_t acc_stride,
                    const float *p, const void *v, size_t v_bytes) {
    mix(LB_F32, &(rows){n_queries, n_rows, v_dim, v_bytes, v, p, acc, acc_stride});
}

static void mix_f16(size_t n_queries, size_t n_rows, size_t v_dim, float *acc, size_t acc_stride,
                    const float *p, const void *v, size_t v_bytes) {
    mix(LB_F16, &(rows){n_queries, n_rows, v_dim, v_bytes, v, p, acc, acc_stride});
}

static void mix_q8_0(size_t n_queries, size_t n_rows, size_t v_dim, float *acc, size_t acc_stride,
                     const float *p, const void *v, size_t v_bytes) {
    mix(LB_Q8_0, &(rows){n_queries, n_rows, v_dim, v_bytes, v, p, acc, acc_stride});
}

static void mix_q4_0(size_t n_queries, size_t n_rows, size_t v_dim, float *acc, size_t acc_stride,
                     const float *p, const void *v, size_t v_bytes) {
    mix(LB_Q4_0, &(rows){n_queries, n_rows, v_dim, v_bytes, v, p, acc, acc_stride});
}

static void attend_init(lb_kernels *t) {
    t->attend_dot_f32 = dot_f32;
    t->attend_dot_f16 = dot_f16;
    t->attend_dot_q8_0 = dot_q8_0;
    t->attend_dot_q4_0 = dot_q4_0;
    t->attend_mix_f32 = mix_f32;
    t->attend_mix_f16 = mix_f16;
    t->attend_mix_q8_0 = mix_q8_0;
    t->attend_mix_q4_0 = mix_q4_0;
}
