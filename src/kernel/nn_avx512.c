/* SPDX-License-Identifier: Apache-2.0 */
/* nn_avx512.c: what a layer computes in floats beside its products, in registers of 16 floats. */
#ifndef __AVX512BW__
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernel/lanes_avx512.h"
#include "kernel/nn_tmpl.h"

#include "kernel/nn_mix_tmpl.h"
#include "kernel/nn_norm_tmpl.h"

void lb_kinit_nn_avx512(lb_kernels *k);

void lb_kinit_nn_avx512(lb_kernels *k) {
    nn_init_act(k);
    nn_init_norm(k);
    nn_init_mix(k);
}
