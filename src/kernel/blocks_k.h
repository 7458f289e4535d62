/* SPDX-License-Identifier: Apache-2.0 */
/* blocks_k.h: the stored blocks of GGUF's K-quants and IQ-quants (256 values a block, iq4_nl 32).
 *
 * Every field is made of bytes, so a block may stand at any address; wider fields are little-endian
 * and read with lb_load_u16 / lb_load_u32. sc and m are a sub-block's scale and minimum, q a
 * value's code; every product and sum is rounded to f32, in the order written. Layouts:
 * ggml/src/ggml-common.h of llama-cpp-python 0.3.36. */
#ifndef LB_KERNEL_BLOCKS_K_H
#define LB_KERNEL_BLOCKS_K_H

#include "base/base.h"
#include "kernel/half.h" /* lb_f16_is_finite */
#include "tensor/dtype.h"

#define LB_QK 256 /* values in a block of every type here but iq4_nl */

/* Low bits of codes are interleaved in runs of 32: byte l of a run holds element l in its low bits
 * and elements l + 32, (l + 64, l + 96) above it. */

/* value = d*sc * q - dmin*m, 16 sub-blocks of 16. */
typedef struct lb_block_q2_k {
    u8 scales[16]; /* sc low nibble, m high nibble */
    u8 qs[64];     /* 2 bits: two halves of 128 values, 32 bytes each */
    u8 d[2];       /* f16 */
    u8 dmin[2];    /* f16 */
} lb_block_q2_k;

/* value = d*(sc - 32) * (q - 4), 16 sub-blocks of 16. */
typedef struct lb_block_q3_k {
    u8 hmask[32];  /* bit 2 of q: bit j of byte l belongs to element 32*j + l */
    u8 qs[64];     /* bits 0-1, as q2_k */
    u8 scales[12]; /* 6 bits: nibbles of bytes 0-7 (low: 0-7, high: 8-15), then bits 4-5 of scale
                    * s = bits 2*(s/4) of byte 8 + s%4 */
    u8 d[2];       /* f16 */
} lb_block_q3_k;

/* value = d*sc * q - dmin*m, 8 sub-blocks of 32. */
typedef struct lb_block_q4_k {
    u8 d[2];       /* f16 */
    u8 dmin[2];    /* f16 */
    u8 scales[12]; /* 6 bits: sc 0-3 = bytes 0-3, m 0-3 = bytes 4-7 (bits 0-5); sc 4-7 and m 4-7:
                    * low and high nibbles of bytes 8-11, their bits 4-5 = bits 6-7 of bytes 0-3 and
                    * 4-7 */
    u8 qs[128];    /* 4 bits: four runs of 64 values, 32 bytes each */
} lb_block_q4_k;

/* As q4_k with a fifth bit. */
typedef struct lb_block_q5_k {
    u8 d[2];
    u8 dmin[2];
    u8 scales[12];
    u8 qh[32]; /* bit 4 of q: bit j of byte l belongs to element 32*j + l */
    u8 qs[128];
} lb_block_q5_k;

/* value = d*sc * (q - 32), 16 sub-blocks of 16. */
typedef struct lb_block_q6_k {
    u8 ql[128];    /* bits 0-3: a half of 128 values is 64 bytes; low nibbles elements 0-63, high
                      64-127 */
    u8 qh[64];     /* bits 4-5, as q2_k's qs */
    u8 scales[16]; /* i8 */
    u8 d[2];       /* f16 */
} lb_block_q6_k;

/* value = d * q; what dot products of the other types multiply with, rarely stored. */
typedef struct lb_block_q8_k {
    u8 d[4];      /* f32 */
    u8 qs[256];   /* i8 */
    u8 bsums[32]; /* i16 sums of 16 codes; not read by decoding */
} lb_block_q8_k;

/* IQ-quants: 8 values (4 for iq3) are one point of a codebook; iq2 and iq3 store the signs apart. A
 * "packed sign" is 7 bits, the eighth sign makes their number even (lb_iq_signs). */

/* value = d*(0.5 + sc)*0.25 * grid * sign; 8 groups of 32. */
typedef struct lb_block_iq2_xxs {
    u8 d[2];
    u8 qs[64]; /* a group: u8 index[4], u32 = four packed signs and sc in bits 28-31 */
} lb_block_iq2_xxs;

typedef struct lb_block_iq2_xs {
    u8 d[2];
    u8 qs[64];    /* u16 per 8 values: index 9 bits, packed sign 7 bits */
    u8 scales[8]; /* a group: nibble 0 for 16 values, nibble 1 for the other 16 */
} lb_block_iq2_xs;

typedef struct lb_block_iq2_s {
    u8 d[2];
    u8 qs[32];    /* index bits 0-7 per 8 values */
    u8 signs[32]; /* 8 signs a byte */
    u8 qh[8];     /* a group: index bits 8-9 of its four points */
    u8 scales[8]; /* as iq2_xs */
} lb_block_iq2_s;

/* value = d*(0.5 + sc)*0.5 * grid * sign; 8 groups of 32. */
typedef struct lb_block_iq3_xxs {
    u8 d[2];
    u8 qs[64];  /* index per 4 values */
    u8 aux[32]; /* a group: u32 = four packed signs and sc in bits 28-31 */
} lb_block_iq3_xxs;

/* value = d*(1 + 2*sc) * grid * sign. */
typedef struct lb_block_iq3_s {
    u8 d[2];
    u8 qs[64];    /* index bits 0-7 per 4 values */
    u8 qh[8];     /* a group: index bit 8 of its eight points */
    u8 signs[32]; /* 8 signs a byte */
    u8 scales[4]; /* a nibble a group */
} lb_block_iq3_s;

/* value = d*(2*sc + 1) * (grid +- 0.125). */
typedef struct lb_block_iq1_s {
    u8 d[2];
    u8 qs[32]; /* index bits 0-7 per 8 values */
    u8 qh[16]; /* a group: u16 = 4 x index bits 8-10, sc in bits 12-14, bit 15: minus 0.125 */
} lb_block_iq1_s;

typedef struct lb_block_iq1_m {
    u8 qs[32];    /* index bits 0-7 per 8 values */
    u8 qh[16];    /* a nibble per 8 values: index bits 8-10, bit 3: minus 0.125 */
    u8 scales[8]; /* 4 x u16: four 3-bit sc (16 values each) and a nibble of d (f16), lowest first
                   */
} lb_block_iq1_m;

/* value = d * lb_iq4_values[q]: 16 values in low nibbles, then 16 in high nibbles. */
typedef struct lb_block_iq4_nl {
    u8 d[2];
    u8 qs[16];
} lb_block_iq4_nl;

/* value = d*(sc - 32) * lb_iq4_values[q]; 8 groups of 32 laid out as iq4_nl. */
typedef struct lb_block_iq4_xs {
    u8 d[2];
    u8 scales_h[2]; /* u16: bits 4-5 of the 8 scales */
    u8 scales_l[4]; /* a nibble a group */
    u8 qs[128];
} lb_block_iq4_xs;

_Static_assert(sizeof(lb_block_q2_k) == 84, "q2_k: 2.625 bits a value");
_Static_assert(sizeof(lb_block_q3_k) == 110, "q3_k: 3.4375 bits a value");
_Static_assert(sizeof(lb_block_q4_k) == 144, "q4_k: 4.5 bits a value");
_Static_assert(sizeof(lb_block_q5_k) == 176, "q5_k: 5.5 bits a value");
_Static_assert(sizeof(lb_block_q6_k) == 210, "q6_k: 6.5625 bits a value");
_Static_assert(sizeof(lb_block_q8_k) == 292, "q8_k: 9.125 bits a value");
_Static_assert(sizeof(lb_block_iq2_xxs) == 66, "iq2_xxs: 2.0625 bits a value");
_Static_assert(sizeof(lb_block_iq2_xs) == 74, "iq2_xs: 2.3125 bits a value");
_Static_assert(sizeof(lb_block_iq2_s) == 82, "iq2_s: 2.5625 bits a value");
_Static_assert(sizeof(lb_block_iq3_xxs) == 98, "iq3_xxs: 3.0625 bits a value");
_Static_assert(sizeof(lb_block_iq3_s) == 110, "iq3_s: 3.4375 bits a value");
_Static_assert(sizeof(lb_block_iq1_s) == 50, "iq1_s: 1.5625 bits a value");
_Static_assert(sizeof(lb_block_iq1_m) == 56, "iq1_m: 1.75 bits a value");
_Static_assert(sizeof(lb_block_iq4_nl) == 18, "iq4_nl: 4.5 bits a value");
_Static_assert(sizeof(lb_block_iq4_xs) == 136, "iq4_xs: 4.25 bits a value");

/* Scales and minimums of q4_k and q5_k: sc[0..7] and m[0..7], one byte each. */
static inline void lb_k4_scales(const u8 packed[12], u8 sc[8], u8 m[8]) {
    const u32 a = lb_load_u32(packed), b = lb_load_u32(packed + 4), c = lb_load_u32(packed + 8);
    lb_store_u32(sc, a & 0x3f3f3f3fu);
    lb_store_u32(m, b & 0x3f3f3f3fu);
    lb_store_u32(sc + 4, (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u));
    lb_store_u32(m + 4, (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u));
}

/* The 16 scales of q3_k, 0..63 (32 is zero). */
static inline void lb_k3_scales(const u8 packed[12], u8 sc[16]) {
    const u32 a = lb_load_u32(packed), b = lb_load_u32(packed + 4), c = lb_load_u32(packed + 8);
    lb_store_u32(sc, (a & 0x0f0f0f0fu) | (c << 4 & 0x30303030u));
    lb_store_u32(sc + 4, (b & 0x0f0f0f0fu) | (c << 2 & 0x30303030u));
    lb_store_u32(sc + 8, (a >> 4 & 0x0f0f0f0fu) | (c & 0x30303030u));
    lb_store_u32(sc + 12, (b >> 4 & 0x0f0f0f0fu) | (c >> 2 & 0x30303030u));
}

/* iq1_m keeps its f16 scale in the high nibbles of four u16. */
static inline u16 lb_iq1m_d(const u8 scales[8]) {
    return (u16)(lb_load_u16(scales) >> 12 | (lb_load_u16(scales + 2) >> 8 & 0xf0) |
                 (lb_load_u16(scales + 4) >> 4 & 0xf00) | (lb_load_u16(scales + 6) & 0xf000));
}

#endif
