/* SPDX-License-Identifier: Apache-2.0 */
/* attend_ref.c: scalar references of queries against stored keys, and of weights by stored values.
 */
#include "kernel/kernel.h"
#include "kernel/nn.h"

/* Element i of a stored row; 0 beyond its end. */
static float element(lb_dtype t, const u8 *row, size_t i, size_t dim) {
    const u8 *const q8 = row + i / 32 * 34, *const q4 = row + i / 32 * 18;
    if (i >= dim)
        return 0;
    switch (t) {
    case LB_F32:
        return lb_f32_from_bits(lb_load_u32(row + 4 * i));
    case LB_F16:
        return lb_f16_to_f32(lb_load_u16(row + 2 * i));
    case LB_Q8_0:
        return lb_f16_to_f32(lb_load_u16(q8)) * (float)(i8)q8[2 + i % 32];
    default: {
        const u8 pair = q4[2 + i % 16];
        return lb_f16_to_f32(lb_load_u16(q4)) * (float)((i % 32 < 16 ? pair & 15 : pair >> 4) - 8);
    }
    }
}

static float dot(lb_dtype t, size_t dim, const float *q, const u8 *row) {
    float lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < (dim + 15) / 16 * 16; i++)
        lane[i % 16] = fmaf(q[i], element(t, row, i, dim), lane[i % 16]);
    return lb_canon_f32(lb_nn_fold_sum(lane));
}

typedef struct shape {
    lb_dtype type;
    size_t n_queries, n_rows, dim, bytes;
} shape;

static void dots(const shape *s, float *out, const float *q, const u8 *k) {
    for (size_t i = 0; i < s->n_queries; i++)
        for (size_t r = 0; r < s->n_rows; r++)
            out[i * s->n_rows + r] =
                dot(s->type, s->dim, q + i * ((s->dim + 15) / 16 * 16), k + r * s->bytes);
}

static void mix(const shape *s, float *acc, size_t acc_stride, const float *p, const u8 *v) {
    for (size_t i = 0; i < s->n_queries; i++, acc += acc_stride)
        for (size_t j = 0; j < s->dim; j++) {
            float sum = acc[j];
            for (size_t r = 0; r < s->n_rows; r++)
                sum =
                    fmaf(p[i * s->n_rows + r], element(s->type, v + r * s->bytes, j, s->dim), sum);
            acc[j] = lb_canon_f32(sum);
        }
}

void lb_k_attend_dot_f32_ref(size_t n_queries, size_t n_rows, size_t k_dim, float *out,
                             const float *q, const void *k, size_t k_bytes) {
    dots(&(shape){LB_F32, n_queries, n_rows, k_dim, k_bytes}, out, q, k);
}

void lb_k_attend_dot_f16_ref(size_t n_queries, size_t n_rows, size_t k_dim, float *out,
                             const float *q, const void *k, size_t k_bytes) {
    dots(&(shape){LB_F16, n_queries, n_rows, k_dim, k_bytes}, out, q, k);
}

void lb_k_attend_dot_q8_0_ref(size_t n_queries, size_t n_rows, size_t k_dim, float *out,
                              const float *q, const void *k, size_t k_bytes) {
    dots(&(shape){LB_Q8_0, n_queries, n_rows, k_dim, k_bytes}, out, q, k);
}

void lb_k_attend_dot_q4_0_ref(size_t n_queries, size_t n_rows, size_t k_dim, float *out,
                              const float *q, const void *k, size_t k_bytes) {
    dots(&(shape){LB_Q4_0, n_queries, n_rows, k_dim, k_bytes}, out, q, k);
}

void lb_k_attend_mix_f32_ref(size_t n_queries, size_t n_rows, size_t v_dim, float *acc,
                             size_t acc_stride, const float *p, const void *v, size_t v_bytes) {
    mix(&(shape){LB_F32, n_queries, n_rows, v_dim, v_bytes}, acc, acc_stride, p, v);
}

void lb_k_attend_mix_f16_ref(size_t n_queries, size_t n_rows, size_t v_dim, float *acc,
                             size_t acc_stride, const float *p, const void *v, size_t v_bytes) {
    mix(&(shape){LB_F16, n_queries, n_rows, v_dim, v_bytes}, acc, acc_stride, p, v);
}

void lb_k_attend_mix_q8_0_ref(size_t n_queries, size_t n_rows, size_t v_dim, float *acc,
                              size_t acc_stride, const float *p, const void *v, size_t v_bytes) {
    mix(&(shape){LB_Q8_0, n_queries, n_rows, v_dim, v_bytes}, acc, acc_stride, p, v);
}

void lb_k_attend_mix_q4_0_ref(size_t n_queries, size_t n_rows, size_t v_dim, float *acc,
                              size_t acc_stride, const float *p, const void *v, size_t v_bytes) {
    mix(&(shape){LB_Q4_0, n_queries, n_rows, v_dim, v_bytes}, acc, acc_stride, p, v);
}
