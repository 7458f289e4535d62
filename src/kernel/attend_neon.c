/* SPDX-License-Identifier: Apache-2.0 */
/* attend_neon.c: attention over stored keys and values: the tiles of attend_tmpl.h. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/lanes_neon.h"

#define DOT_R 2
#define DOT_Q 2
#define MIX_Q 2
#define MIX_C 2
#define MIX_C1 4

#include "kernel/attend_tmpl.h"

void lb_kinit_attend_neon(lb_kernels *k);

void lb_kinit_attend_neon(lb_kernels *k) {
    attend_init(k);
}
