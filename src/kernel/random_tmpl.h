/* SPDX-License-Identifier: Apache-2.0 */
/* random_tmpl.h: blocks of the Mersenne Twister, for random_<isa>.c, which defines W, the words of
 * a vector, mix(now, far), W words of the recurrence, and put(out, vector). A block is made beside
 * the one before it, so that the last words of a stretch may be made twice instead of one by one.
 */
#include "kernel/kernel.h"

#define N 624
#define M 397

static void block(u32 *out, const u32 *in) {
    size_t i = 0;
    for (; i + W <= N - M; i += W)
        put(out + i, mix(in + i, in + i + M));
    put(out + N - M - W, mix(in + N - M - W, in + N - W));
    for (i = N - M; i + W <= N - 1; i += W)
        put(out + i, mix(in + i, out + i + M - N));
    put(out + N - 1 - W, mix(in + N - 1 - W, out + M - 1 - W));
    const u32 y = (in[N - 1] & 0x80000000u) | (out[0] & 0x7fffffffu);
    out[N - 1] = out[M - 1] ^ (y >> 1) ^ (-(y & 1) & 0x9908b0dfu);
}

static void blocks(size_t n_blocks, u32 *out, const u32 *in) {
    for (size_t b = 0; b < n_blocks; b++, in = out, out += N)
        block(out, in);
}
