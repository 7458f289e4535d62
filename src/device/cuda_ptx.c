/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_ptx.c: the kernels as PTX, from kern/kernels.ptx.gz (tools/make_ptx.sh); the Makefile makes
 * a string literal of it. */
#include "device/cuda_driver.h"

const char lb_cuda_ptx[] =
#include "device/kernels_ptx.inc"
    ;
