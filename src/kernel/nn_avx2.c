/* SPDX-License-Identifier: Apache-2.0 */
/* nn_avx2.c: what a layer computes in floats beside its products, in registers of 8 floats. */
#ifndef __AVX2__
#error "compile with -mavx2 -mfma -mf16c"
#endif
#include "kernel/lanes_avx2.h"
#include "kernel/nn_tmpl.h"

#include "kernel/nn_mix_tmpl.h"
#include "kernel/nn_norm_tmpl.h"

void lb_kinit_nn_avx2(lb_kernels *k);

void lb_kinit_nn_avx2(lb_kernels *k) {
    nn_init_act(k);
    nn_init_norm(k);
    nn_init_mix(k);
}
