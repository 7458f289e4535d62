/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_neon.c: matrix transpose in register tiles: 8 x 8 bytes or halves, 4 x 4 words, 2 x 2
 * of eight bytes, by zips. */
#ifndef __aarch64__
#error "for AArch64"
#endif
#include "kernel/kernel.h"
#include "kernel/transpose_tiles.h"
#include <arm_neon.h>

void lb_kinit_transpose_neon(lb_kernels *k);

static inline uint16x8_t pair_u8(const u8 *p, size_t stride) {
    const uint8x8_t a = vld1_u8(p), b = vld1_u8(p + stride);
    return vreinterpretq_u16_u8(vcombine_u8(vzip1_u8(a, b), vzip2_u8(a, b)));
}

static inline void store_halves(u8 *low, u8 *high, uint32x4_t v) {
    vst1_u8(low, vreinterpret_u8_u32(vget_low_u32(v)));
    vst1_u8(high, vreinterpret_u8_u32(vget_high_u32(v)));
}

static void tile_1(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const uint16x8_t r01 = pair_u8(in, in_stride), r23 = pair_u8(in + 2 * in_stride, in_stride);
    const uint16x8_t r45 = pair_u8(in + 4 * in_stride, in_stride);
    const uint16x8_t r67 = pair_u8(in + 6 * in_stride, in_stride);
    const uint32x4_t a03 = vreinterpretq_u32_u16(vzip1q_u16(r01, r23));
    const uint32x4_t b03 = vreinterpretq_u32_u16(vzip2q_u16(r01, r23));
    const uint32x4_t a47 = vreinterpretq_u32_u16(vzip1q_u16(r45, r67));
    const uint32x4_t b47 = vreinterpretq_u32_u16(vzip2q_u16(r45, r67));
    store_halves(out, out + out_stride, vzip1q_u32(a03, a47));
    store_halves(out + 2 * out_stride, out + 3 * out_stride, vzip2q_u32(a03, a47));
    store_halves(out + 4 * out_stride, out + 5 * out_stride, vzip1q_u32(b03, b47));
    store_halves(out + 6 * out_stride, out + 7 * out_stride, vzip2q_u32(b03, b47));
}

static inline uint16x8_t load_u16(const u8 *p) {
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

static inline void store_u64(u8 *p, uint64x2_t v) {
    vst1q_u8(p, vreinterpretq_u8_u64(v));
}

/* Eight rows of four columns, rows in pairs (aij: rows i and j interleaved), to four rows of eight.
 */
static inline void four_columns(u8 *out, size_t out_stride, uint16x8_t a01, uint16x8_t a23,
                                uint16x8_t a45, uint16x8_t a67) {
    const uint32x4_t r01 = vreinterpretq_u32_u16(a01), r23 = vreinterpretq_u32_u16(a23);
    const uint32x4_t r45 = vreinterpretq_u32_u16(a45), r67 = vreinterpretq_u32_u16(a67);
    const uint64x2_t c01 = vreinterpretq_u64_u32(vzip1q_u32(r01, r23));
    const uint64x2_t c23 = vreinterpretq_u64_u32(vzip2q_u32(r01, r23));
    const uint64x2_t d01 = vreinterpretq_u64_u32(vzip1q_u32(r45, r67));
    const uint64x2_t d23 = vreinterpretq_u64_u32(vzip2q_u32(r45, r67));
    store_u64(out, vzip1q_u64(c01, d01));
    store_u64(out + out_stride, vzip2q_u64(c01, d01));
    store_u64(out + 2 * out_stride, vzip1q_u64(c23, d23));
    store_u64(out + 3 * out_stride, vzip2q_u64(c23, d23));
}

static void tile_2(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const uint16x8_t r0 = load_u16(in), r1 = load_u16(in + in_stride);
    const uint16x8_t r2 = load_u16(in + 2 * in_stride), r3 = load_u16(in + 3 * in_stride);
    const uint16x8_t r4 = load_u16(in + 4 * in_stride), r5 = load_u16(in + 5 * in_stride);
    const uint16x8_t r6 = load_u16(in + 6 * in_stride), r7 = load_u16(in + 7 * in_stride);
    four_columns(out, out_stride, vzip1q_u16(r0, r1), vzip1q_u16(r2, r3), vzip1q_u16(r4, r5),
                 vzip1q_u16(r6, r7));
    four_columns(out + 4 * out_stride, out_stride, vzip2q_u16(r0, r1), vzip2q_u16(r2, r3),
                 vzip2q_u16(r4, r5), vzip2q_u16(r6, r7));
}

static inline uint32x4_t load_u32(const u8 *p) {
    return vreinterpretq_u32_u8(vld1q_u8(p));
}

static void tile_4(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const uint32x4_t r0 = load_u32(in), r1 = load_u32(in + in_stride);
    const uint32x4_t r2 = load_u32(in + 2 * in_stride), r3 = load_u32(in + 3 * in_stride);
    const uint64x2_t a01 = vreinterpretq_u64_u32(vzip1q_u32(r0, r1));
    const uint64x2_t b01 = vreinterpretq_u64_u32(vzip2q_u32(r0, r1));
    const uint64x2_t a23 = vreinterpretq_u64_u32(vzip1q_u32(r2, r3));
    const uint64x2_t b23 = vreinterpretq_u64_u32(vzip2q_u32(r2, r3));
    store_u64(out, vzip1q_u64(a01, a23));
    store_u64(out + out_stride, vzip2q_u64(a01, a23));
    store_u64(out + 2 * out_stride, vzip1q_u64(b01, b23));
    store_u64(out + 3 * out_stride, vzip2q_u64(b01, b23));
}

static void tile_8(u8 *out, size_t out_stride, const u8 *in, size_t in_stride) {
    const uint64x2_t r0 = vreinterpretq_u64_u8(vld1q_u8(in));
    const uint64x2_t r1 = vreinterpretq_u64_u8(vld1q_u8(in + in_stride));
    store_u64(out, vzip1q_u64(r0, r1));
    store_u64(out + out_stride, vzip2q_u64(r0, r1));
}

static void transpose(size_t n_rows, size_t n_cols, size_t elem_bytes, void *out, size_t out_stride,
                      const void *in, size_t in_stride) {
    static lb_tile_fn *const tiles[9] = {NULL, tile_1, tile_2, NULL,  tile_4,
                                         NULL, NULL,   NULL,   tile_8};
    const lb_tile_walk w = {.out = out,
                            .in = in,
                            .out_stride = out_stride * elem_bytes,
                            .in_stride = in_stride * elem_bytes,
                            .elem_bytes = elem_bytes,
                            .tile = tiles[elem_bytes],
                            .side = elem_bytes == 8   ? 2
                                    : elem_bytes == 4 ? 4
                                                      : 8};
    lb_tile_all(&w, n_rows, n_cols);
}

void lb_kinit_transpose_neon(lb_kernels *k) {
    k->transpose = transpose;
}
