/* SPDX-License-Identifier: Apache-2.0 */
/* q8_codes_ref.c: q8_codes_tmpl.h without an instruction set. test_matmul compares its codes,
 * scales and minima with what the decoders make of the same rows. Nothing is cut into registers
 * here: the text is a third, the time of compiling a quarter. */
#define UNROLL
#include "kernel/q8_codes_tmpl.h"

void lb_k_act_q8_ref(size_t n_elems, void *out, const float *in) {
    act_q8(n_elems, out, in);
}

void lb_k_act_q16_ref(size_t n_elems, void *out, const float *in) {
    act_q16(n_elems, out, in);
}

#define LB_Q8_UNITS(id, t, elems, bytes, type)                             \
    void lb_k_codes_##t##_ref(size_t n_elems, void *out, const void *in) { \
        codes_##t(n_elems, out, in);                                       \
    }
#include "kernel/q8_types.def"

#define LB_Q8_MLX(t)                                                                       \
    void lb_k_codes_mlx_##t##_ref(size_t n_elems, size_t group, void *out, const void *in, \
                                  const float *scale, const float *bias) {                 \
        codes_mlx_##t(n_elems, group, out, in, scale, bias);                               \
    }
LB_Q8_MLX(q1)
LB_Q8_MLX(q2)
LB_Q8_MLX(q3)
LB_Q8_MLX(q4)
LB_Q8_MLX(q5)
LB_Q8_MLX(q6)
LB_Q8_MLX(q8)
LB_Q8_MLX(fp4)
#undef LB_Q8_MLX
