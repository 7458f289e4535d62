/* SPDX-License-Identifier: Apache-2.0 */
/* act_ggml.h: what llama.cpp makes of activations before they meet weights on a CPU, as f32 values:
 * for figures that are to be compared with its own.
 *
 * Source: type_traits_cpu of ggml/src/ggml-cpu/ggml-cpu.c (which type meets which),
 * quantize_row_q8_0 of ggml/src/ggml-cpu/arch/x86/quants.c and quantize_row_q8_K_ref of
 * ggml/src/ggml-quants.c of llama-cpp-python 0.3.36. */
#ifndef LB_KERNEL_ACT_GGML_H
#define LB_KERNEL_ACT_GGML_H

#include "kernel/matmul.h"

/* LB_ACT_F32: not rounded, or a type that GGUF does not have. */
lb_act_form lb_act_ggml_form(lb_dtype weights);

/* n_elems values rounded. LB_ACT_GGML_Q8_0: groups of 32 with a scale in f16, the last
 * one may be shorter. Q8_1: the same, and n_elems / 32 (rounded up) numbers more: the minimum of a
 * group of weights meets the sum of the activations in f16, and by so much it is more than that of
 * the rounded values. Q8_K: groups of 256 with a scale in f32. What is not finite makes NaN of its
 * group. */
void lb_act_ggml(lb_act_form form, size_t n_elems, float *out, const float *in);

#endif
