/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_kernels.c: the kernels' own text as C11, and their table. */
#include "device/cpu_kernels.h"

#define LB_DEV_KERNEL(name, family, type) extern const lb_cpu_kernel lb_dk_##name;
#include "device/kernels.def"
#undef LB_DEV_KERNEL

#include "device/kern/all.k"

const lb_cpu_kernel *lb_cpu_kernel_get(lb_dev_kernel k) {
    static const lb_cpu_kernel *const table[LB_DEV_KERNEL_COUNT] = {
#define LB_DEV_KERNEL(name, family, type) &lb_dk_##name,
#include "device/kernels.def"
#undef LB_DEV_KERNEL
    };
    return table[k];
}
