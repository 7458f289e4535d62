/* SPDX-License-Identifier: Apache-2.0 */
/* four_bit.h: what the 16 codes of a four-bit type stand for. */
#ifndef LB_TENSOR_FOUR_BIT_H
#define LB_TENSOR_FOUR_BIT_H

#include "base/base.h"

extern const float lb_four_bit_nf4[16];
extern const float lb_four_bit_fp4[16];  /* bitsandbytes' own: not E2M1 in this order */
extern const float lb_four_bit_e2m1[16]; /* with -0 */
extern const float lb_four_bit_e2m1_one_zero[16];

#endif
