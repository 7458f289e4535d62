/* SPDX-License-Identifier: Apache-2.0 */
/* isa.h: which kernels an input runs with: half of all inputs have the references, which the
 * sanitizers see under clang too (the Makefile leaves out those of wider instruction sets). */
#ifndef LB_FUZZ_ISA_H
#define LB_FUZZ_ISA_H

#include "base/cpu.h"

static inline u32 isa_of(const uint8_t *data, size_t size) {
    u32 bits = 0;
    for (size_t i = 0; i < size; i++)
        bits ^= data[i];
    return bits & 1 ? lb_cpu_isa() : LB_ISA_REF;
}

#endif
