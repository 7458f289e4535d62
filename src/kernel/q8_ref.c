/* SPDX-License-Identifier: Apache-2.0 */
/* q8_ref.c: products of eight bits, the scalar definition. */
#include "kernel/q8.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

/* Of n columns of a chunk from the first on. */
static i32 sum_of(const u8 *w, i32 off, const i8 *a, size_t first, size_t n) {
    i32 s = 0;
    for (size_t i = first; i < first + n; i++)
        s += ((i32)w[lb_q8_at(i)] - off) * a[lb_q8_at(i)];
    return s;
}

static void add_group(u32 type, size_t g, const lb_q8_row *w, const lb_q8_act *a, float *lane) {
    const size_t len = type & LB_Q8_HALVES ? 16 : 32;
    const float d = len == 16 ? a->d16[g] : a->d32[g];
    const i32 sum = sum_of(w->q, lb_q8_off(type), a->q, len * g, len);
    float *l = lane + g % LB_Q8_LANES;
    *l = fmaf((float)sum, w->s[g] * d, *l);
    if (type & LB_Q8_MIN)
        *l = fmaf(w->m[g], len == 16 ? a->m16[g] : a->m32[g], *l);
}

/* The lanes of a product, and those of second parts with bits where they have any. */
typedef struct lanes {
    float first[LB_Q8_LANES], second[LB_Q8_LANES];
    u32 has;
} lanes;

/* n_chunks: of the token. */
static void add_chunk(lanes *l, u32 type, const lb_q8_row *w, const lb_q8_act *a, size_t n_chunks) {
    const size_t per32 = type & LB_Q8_HALVES ? 2 : 1;
    for (size_t g = 0; g < 16 * per32; g++) {
        add_group(type, g, w, a, l->first);
        if (a->more >> g / per32 & 1) {
            l->has |= 1u << g % LB_Q8_LANES;
            add_group(type, g, w, a + n_chunks, l->second);
        }
    }
}

static float sum_lanes(lanes *l) {
    float *lane = l->first;
    for (size_t i = 0; i < LB_Q8_LANES; i++)
        if (l->has >> i & 1)
            lane[i] += l->second[i];
    for (size_t n = LB_Q8_LANES / 2; n; n /= 2)
        for (size_t i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lb_canon_f32(lane[0]);
}

static float dot(size_t n_chunks, u32 type, const lb_q8_row *w, const lb_q8_act *a) {
    lanes l = {0};
    for (size_t c = 0; c < n_chunks; c++)
        add_chunk(&l, type, w + c, a + c, n_chunks);
    return sum_lanes(&l);
}

void lb_k_dots_q8_ref(const lb_q8_shape *s, float *out, const void *rows, const void *act) {
    const size_t n = lb_q8_chunks(s->n_cols);
    for (size_t t = 0; t < s->n_tokens; t++)
        for (size_t r = 0; r < s->n_rows; r++)
            out[t * s->out_stride + r] = dot(n, s->type, (const lb_q8_row *)rows + r * n,
                                             (const lb_q8_act *)act + t * s->act_stride);
}

/* Where group g of row r stands: codes of a quad 64 bytes apart, then scales and minima. */
static u8 *group_at(u8 *panel, bool halves, size_t n_chunks, size_t chunk, size_t g) {
    if (halves)
        return panel + (g % 16 * 2 * n_chunks + 2 * chunk + g / 16) * sizeof(lb_q8_panel16);
    return panel + (g * n_chunks + chunk) * sizeof(lb_q8_panel32);
}

void lb_k_panel_q8_ref(size_t n_rows, size_t n_cols, void *out, u32 type, const void *rows) {
    const size_t n = lb_q8_chunks(n_cols);
    const bool halves = type & LB_Q8_HALVES;
    const size_t n_groups = halves ? 32 : 16, quads = halves ? 4 : 8;
    memset(out, 0, lb_q8_panel_bytes(type, n_cols));
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n; c++)
            for (size_t g = 0; g < n_groups; g++) {
                const lb_q8_row *w = (const lb_q8_row *)rows + r * n + c;
                u8 *p = group_at(out, halves, n, c, g);
                for (size_t i = 0; i < quads; i++)
                    memcpy(p + 64 * i + 4 * r, w->q + lb_q8_at(4 * (quads * g + i)), 4);
                memcpy(p + 64 * quads + 4 * r, w->s + g, sizeof *w->s);
                if (type & LB_Q8_MIN)
                    memcpy(p + 64 * quads + 64 + 4 * r, w->m + g, sizeof *w->m);
            }
}

/* Back to a row, and its product. */
void lb_k_gemm_q8_ref(const lb_q8_shape *s, float *out, const void *panels, const void *act,
                      void *scratch) {
    const size_t n = lb_q8_chunks(s->n_cols), bytes = lb_q8_panel_bytes(s->type, s->n_cols);
    const bool halves = s->type & LB_Q8_HALVES;
    const size_t n_groups = halves ? 32 : 16, quads = halves ? 4 : 8;
    lb_q8_row *w = scratch;
    lb_q8_shape one = *s;
    one.n_rows = 1;
    for (size_t r = 0; r < s->n_rows; r++) {
        for (size_t c = 0; c < n; c++)
            for (size_t g = 0; g < n_groups; g++) {
                u8 *panel = (u8 *)(uintptr_t)panels + r / 16 * bytes;
                const u8 *p = group_at(panel, halves, n, c, g) + r % 16 * 4;
                for (size_t i = 0; i < quads; i++)
                    memcpy(w[c].q + lb_q8_at(4 * (quads * g + i)), p + 64 * i, 4);
                memcpy(w[c].s + g, p + 64 * quads, sizeof *w->s);
                memcpy(w[c].m + g, p + 64 * quads + 64, sizeof *w->m);
            }
        lb_k_dots_q8_ref(&one, out + r, w, act);
    }
}

/* ---- stored rows ---- */

typedef void(codes_fn)(size_t n_elems, void *out, const void *in);

static float row_dot(const lb_q8_shape *s, const u8 *p, const lb_q8_act *a, codes_fn *codes,
                     size_t bytes) {
    const size_t n = lb_q8_chunks(s->n_cols);
    lanes l = {0};
    for (size_t c = 0; c < n; c++) {
        const size_t elems = LB_MIN(s->n_cols - c * LB_Q8_CHUNK, (size_t)LB_Q8_CHUNK);
        lb_q8_row w = {0};
        codes(elems, &w, p + c * bytes);
        add_chunk(&l, s->type, &w, a + c, n);
    }
    return sum_lanes(&l);
}

static void rows_dot(const lb_q8_shape *s, float *out, const lb_q8_rows *w, const lb_q8_act *act,
                     codes_fn *codes, size_t bytes) {
    for (size_t t = 0; t < s->n_tokens; t++)
        for (size_t r = 0; r < s->n_rows; r++)
            out[t * s->out_stride + r] =
                row_dot(s, w->codes + r * w->row_bytes, act + t * s->act_stride, codes, bytes);
}

#define LB_Q8_UNITS(id, t, elems, bytes, type)                                       \
    void lb_k_rows_##t##_ref(const lb_q8_shape *s, float *out, const lb_q8_rows *w,  \
                             const void *act) {                                      \
        rows_dot(s, out, w, act, lb_k_codes_##t##_ref, LB_Q8_CHUNK / elems * bytes); \
    }
#include "kernel/q8_types.def"

static float scale_at(lb_dtype t, const u8 *p, size_t i) {
    return t == LB_F32   ? lb_f32_from_bits(lb_load_u32(p + 4 * i))
           : t == LB_F16 ? lb_f16_to_f32(lb_load_u16(p + 2 * i))
                         : lb_bf16_to_f32(lb_load_u16(p + 2 * i));
}

typedef void(mlx_fn)(size_t n_elems, size_t group_elems, void *out, const void *in,
                     const float *scale, const float *bias);

/* The groups of a chunk. */
static void scales_of(const lb_q8_rows *w, size_t row, size_t chunk, size_t elems, float *scale,
                      float *bias) {
    const size_t n = elems / w->group, first = chunk * LB_Q8_CHUNK / w->group;
    const u8 *s = w->scale + row * w->scale_bytes;
    for (size_t i = 0; i < n; i++) {
        if (bias) {
            scale[i] = scale_at(w->scale_dtype, s, first + i);
            bias[i] = scale_at(w->scale_dtype, w->bias + row * w->scale_bytes, first + i);
        } else if (w->group == 16) {
            lb_k_decode_f32_f8_e4m3_ref(1, scale + i, s + first + i);
        } else {
            lb_k_decode_f32_mlx_e8m0_ref(1, scale + i, s + first + i);
        }
    }
}

static void rows_mlx(const lb_q8_shape *s, float *out, const lb_q8_rows *w, const lb_q8_act *act,
                     mlx_fn *codes, size_t bits) {
    const size_t n = lb_q8_chunks(s->n_cols);
    for (size_t t = 0; t < s->n_tokens; t++)
        for (size_t r = 0; r < s->n_rows; r++) {
            lanes l = {0};
            for (size_t c = 0; c < n; c++) {
                const size_t elems = LB_MIN(s->n_cols - c * LB_Q8_CHUNK, (size_t)LB_Q8_CHUNK);
                float scale[32], bias[32];
                lb_q8_row row = {0};
                scales_of(w, r, c, elems, scale, w->bias ? bias : NULL);
                codes(elems, w->group, &row, w->codes + r * w->row_bytes + c * 64 * bits, scale,
                      bias);
                add_chunk(&l, s->type, &row, act + t * s->act_stride + c, n);
            }
            out[t * s->out_stride + r] = sum_lanes(&l);
        }
}

#define LB_ROWS_MLX(t, bits)                                                            \
    void lb_k_rows_mlx_##t##_ref(const lb_q8_shape *s, float *out, const lb_q8_rows *w, \
                                 const void *act) {                                     \
        rows_mlx(s, out, w, act, lb_k_codes_mlx_##t##_ref, bits);                       \
    }
LB_ROWS_MLX(q1, 1)
LB_ROWS_MLX(q2, 2)
LB_ROWS_MLX(q3, 3)
LB_ROWS_MLX(q4, 4)
LB_ROWS_MLX(q5, 5)
LB_ROWS_MLX(q6, 6)
LB_ROWS_MLX(q8, 8)
LB_ROWS_MLX(fp4, 4)
#undef LB_ROWS_MLX
