/* SPDX-License-Identifier: Apache-2.0 */
/* metal_msl.c: the kernels' text for Metal's compiler; the Makefile makes a string literal of what
 * tools/kernel_text.sh puts together. */
#include "device/metal_api.h"

const char lb_metal_msl[] =
#include "device/kernels_msl.inc"
    ;
