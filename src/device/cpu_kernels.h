/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_kernels.h: the kernels of kern/all.k as functions of the CPU. */
#ifndef LB_DEVICE_CPU_KERNELS_H
#define LB_DEVICE_CPU_KERNELS_H

#include "device/cpu_fiber.h"
#include "device/kernels.h"

const lb_cpu_kernel *lb_cpu_kernel_get(lb_dev_kernel k);

#endif
