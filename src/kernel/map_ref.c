/* SPDX-License-Identifier: Apache-2.0 */
/* map_ref.c: scalar references of the element-by-element kernels. */
#include "kernel/exact.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

void lb_k_map_add_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] + b[i]);
}

void lb_k_map_sub_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] - b[i]);
}

void lb_k_map_mul_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] * b[i]);
}

void lb_k_map_addc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] + c);
}

void lb_k_map_mulc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] * c);
}

void lb_k_map_divc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] / c);
}

void lb_k_map_div_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(a[i] / b[i]);
}

void lb_k_map_rdivc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(c / a[i]);
}

void lb_k_map_maxc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(c > a[i] ? c : a[i]);
}

void lb_k_map_minc_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(c < a[i] ? c : a[i]);
}

void lb_k_map_abs_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(lb_f32_from_bits(lb_f32_bits(a[i]) & 0x7fffffffu));
}

void lb_k_map_above_f32_ref(size_t n_elems, float *out, const float *a, float c) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = a[i] > c || -a[i] > c ? 1.0f : 0.0f;
}

void lb_k_map_or_one_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = a[i] == 0 ? 1.0f : lb_canon_f32(a[i]);
}

void lb_k_map_agree_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = (b[i] >= 0 ? a[i] > 0 : a[i] < 0) ? 1.0f : 0.0f;
}

void lb_k_map_below_f32_ref(size_t n_elems, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = a[i] < b[i] ? 1.0f : 0.0f;
}

void lb_k_map_keep_f32_ref(size_t n_elems, float *out, const float *a, i32 above, i32 up_to) {
    for (size_t i = 0; i < n_elems; i++) {
        const i32 bits = (i32)(lb_f32_bits(a[i]) & 0x7fffffffu);
        out[i] = lb_canon_f32(a[i] * (bits > above && bits <= up_to ? 1.0f : 0.0f));
    }
}

/* a c + b with one rounding: the product is exact in double (24 + 24 bits). */
static float fma_exact(float a, float c, float b) {
    return (float)lb_sum_odd((double)a * (double)c, (double)b);
}

void lb_k_map_fmac_f32_ref(size_t n_elems, float *out, const float *a, float c, const float *b) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(fma_exact(a[i], c, b[i]));
}

void lb_k_map_round_f16_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(lb_f16_to_f32(lb_f16_from_f32(a[i])));
}

void lb_k_map_round_bf16_f32_ref(size_t n_elems, float *out, const float *a) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = lb_canon_f32(lb_bf16_to_f32(lb_bf16_from_f32(a[i])));
}
