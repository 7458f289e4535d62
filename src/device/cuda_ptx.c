/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_ptx.c: the kernels as PTX, from kern/kernels.ptx.gz, kernels_mm.ptx.gz and
 * kernels_hopper.ptx.gz (tools/make_ptx.sh); the Makefile makes string literals of them. */
#include "device/cuda_driver.h"

const char lb_cuda_ptx[] =
#include "device/kernels_ptx.inc"
    ;

const char lb_cuda_ptx_mm[] =
#include "device/kernels_mm_ptx.inc"
    ;

const char lb_cuda_ptx_hopper[] =
#include "device/kernels_hopper_ptx.inc"
    ;
