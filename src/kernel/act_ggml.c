/* SPDX-License-Identifier: Apache-2.0 */
/* act_ggml.c: see act_ggml.h. */
#include "kernel/act_ggml.h"
#include "kernel/half.h"
#include <math.h>

lb_act_form lb_act_ggml_form(lb_dtype weights) {
    const lb_dtype_info *t = lb_dtype_get(weights);
    if (weights == LB_F16)
        return LB_ACT_GGML_F16;
    if (weights == LB_BF16)
        return LB_ACT_GGML_BF16;
    if (weights == LB_Q4_1 || weights == LB_Q5_1)
        return LB_ACT_GGML_Q8_1;
    if (t->cls != LB_CLASS_BLOCK || t->ggml < 0)
        return LB_ACT_F32;
    return t->block_elems == 256 ? LB_ACT_GGML_Q8_K : LB_ACT_GGML_Q8_0;
}

/* The integers of a group, at most 127, times what they stand for; their sum, which is exact. */
static float round_group(size_t n, float *out, const float *in, float inverse, float scale) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float q = rintf(in[i] * inverse);
        out[i] = q * scale;
        sum += q;
    }
    return sum;
}

static float largest(size_t n, const float *in) {
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabsf(in[i]) > most ? fabsf(in[i]) : most;
    return most;
}

/* By how much q8_1's sum is more than that of the values: it has the scale before that is f16, and
 * is f16 itself. */
static float round_q8_0(size_t n, float *out, const float *in) {
    const float most = largest(n, in), d = most / 127.0f;
    const float scale = lb_f16_to_f32(lb_f16_from_f32(d));
    const float sum = round_group(n, out, in, most != 0 ? 127.0f / most : 0, scale);
    return lb_f16_to_f32(lb_f16_from_f32(d * sum)) - scale * sum;
}

static void round_q8_k(size_t n, float *out, const float *in) {
    const float most = largest(n, in);
    const float inverse = most != 0 ? 127.0f / most : 0;
    (void)round_group(n, out, in, inverse, most != 0 ? 1 / inverse : 0);
}

void lb_act_ggml(lb_act_form form, size_t n_elems, float *out, const float *in) {
    const size_t group = form == LB_ACT_GGML_Q8_K ? 256 : 32;
    for (size_t i = 0; i < n_elems; i += group) {
        const size_t n = LB_MIN(group, n_elems - i);
        switch (form) {
        case LB_ACT_GGML_Q8_0:
            (void)round_q8_0(n, out + i, in + i);
            break;
        case LB_ACT_GGML_Q8_1:
            out[n_elems + i / 32] = round_q8_0(n, out + i, in + i);
            break;
        case LB_ACT_GGML_Q8_K:
            round_q8_k(n, out + i, in + i);
            break;
        case LB_ACT_GGML_F16:
            for (size_t j = i; j < i + n; j++)
                out[j] = lb_f16_to_f32(lb_f16_from_f32(in[j]));
            break;
        case LB_ACT_GGML_BF16:
            for (size_t j = i; j < i + n; j++)
                out[j] = lb_bf16_to_f32(lb_bf16_from_f32(in[j]));
            break;
        default:
            memcpy(out + i, in + i, n * sizeof *in);
        }
    }
}
