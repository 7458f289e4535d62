/* SPDX-License-Identifier: Apache-2.0 */
/* iq_tables.h: the codebooks of GGUF's IQ-quants, written into iq_tables.c by
 * tools/make_iq_tables.py. */
#ifndef LB_KERNEL_IQ_TABLES_H
#define LB_KERNEL_IQ_TABLES_H

#include "base/base.h"

/* Points of 8 (u64) or 4 (u32) values, one a byte, the first value lowest. Magnitudes:
 * iq2 8, 25, 43 (eighths); iq3xxs 4, 12, ... 52, 62; iq3s odd 1 ... 15; iq1s i8 -1, 0, 1. */
extern const u64 lb_iq2xxs_grid[256];
extern const u64 lb_iq2xs_grid[512];
extern const u64 lb_iq2s_grid[1024];
extern const u32 lb_iq3xxs_grid[256];
extern const u32 lb_iq3s_grid[512];
extern const u64 lb_iq1s_grid[2048]; /* also iq1_m's */
/* 8 signs of 7 stored bits: bit j set = minus; bit 7 makes the number of minuses even. */
extern const u8 lb_iq_signs[128];
/* The 16 values of iq4_nl and iq4_xs. */
extern const i8 lb_iq4_values[16];

#endif
