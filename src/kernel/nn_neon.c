/* SPDX-License-Identifier: Apache-2.0 */
/* nn_neon.c: what a layer computes in floats beside its products, in registers of 4 floats. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/lanes_neon.h"
#include "kernel/nn_tmpl.h"

#include "kernel/nn_mix_tmpl.h"
#include "kernel/nn_norm_tmpl.h"

void lb_kinit_nn_neon(lb_kernels *k);

void lb_kinit_nn_neon(lb_kernels *k) {
    nn_init_act(k);
    nn_init_norm(k);
    nn_init_mix(k);
}
