/* SPDX-License-Identifier: Apache-2.0 */
/* four_bit.c: bitsandbytes 0.50.2 functional.get_4bit_type: NF4 from its list of literals, FP4 in
 * twelfths, both divided in f32 (the largest is 1); E2M1 of OCP MX 1.0. */
#include "tensor/four_bit.h"

const float lb_four_bit_nf4[16] = {
    -0x1p+0f,        -0x1.647362p-1f, -0x1.0cd66p-1f,  -0x1.94654p-2f,
    -0x1.23449ap-2f, -0x1.7a6a7ep-3f, -0x1.74f0e2p-4f, 0,
    0x1.45f5fep-4f,  0x1.4995c6p-3f,  0x1.f809bap-3f,  0x1.5a0674p-2f,
    0x1.c3497p-2f,   0x1.200f56p-1f,  0x1.722766p-1f,  0x1p+0f,
};

const float lb_four_bit_fp4[16] = {
    0, 0.0625f / 12,  8.0f / 12,  1,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    0, -0.0625f / 12, -8.0f / 12, -1, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12,
};

const float lb_four_bit_e2m1[16] = {
    0,     0.5f,  1,  1.5f,  2,  3,  4,  6, //
    -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6,
};

const float lb_four_bit_e2m1_one_zero[16] = {
    0, 0.5f,  1,  1.5f,  2,  3,  4,  6, //
    0, -0.5f, -1, -1.5f, -2, -3, -4, -6,
};
