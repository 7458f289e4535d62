/* SPDX-License-Identifier: Apache-2.0 */
/* random_ref.c: the Mersenne Twister's recurrence and tempering. */
#include "kernel/kernel.h"

#define N 624
#define M 397

static u32 mix(u32 high, u32 low, u32 far) {
    u32 y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return far ^ (y >> 1) ^ (-(y & 1) & 0x9908b0dfu);
}

void lb_k_mt_blocks_ref(size_t n_blocks, u32 *out, const u32 *in) {
    for (size_t b = 0; b < n_blocks; b++, in = out, out += N)
        for (size_t i = 0; i < N; i++)
            out[i] =
                mix(in[i], i + 1 < N ? in[i + 1] : out[0], i + M < N ? in[i + M] : out[i + M - N]);
}

static u32 low24(u32 y) {
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return (y ^ (y >> 18)) & 0xffffffu;
}

void lb_k_mt_mask_ref(size_t n_elems, void *out, const u32 *in, u32 below) {
    u8 *bits = out;
    for (size_t i = 0; i < n_elems; i += 8) {
        u32 b = 0;
        for (size_t j = 0; j < 8 && i + j < n_elems; j++)
            b |= (u32)(low24(in[i + j]) < below) << j;
        bits[i / 8] = (u8)b;
    }
}

void lb_k_mt_uniform_f32_ref(size_t n_elems, float *out, const u32 *in) {
    for (size_t i = 0; i < n_elems; i++)
        out[i] = (float)low24(in[i]) * 0x1p-24f;
}
