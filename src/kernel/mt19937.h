/* SPDX-License-Identifier: Apache-2.0 */
/* mt19937.h: a position in the stream of a Mersenne Twister, as torch's CPU generator draws from it
 * (aten/src/ATen/core/MT19937RNGEngine.h: Matsumoto and Nishimura's MT19937, seeded by
 * init_genrand). Number i of a stream is a function of its seed and of i: any part of it can be had
 * without those before, by stepping to it from one that is near, or by a jump: the state is linear
 * over GF(2), so that i steps are a polynomial in one (Haramoto and others, 2008). A jump takes
 * about a millisecond, whatever the distance; stepping 0.1 ns a number. */
#ifndef LB_KERNEL_MT19937_H
#define LB_KERNEL_MT19937_H

#include "kernel/kernel.h"

#define LB_MT_WORDS 624

typedef struct lb_mt19937 {
    u64 at;    /* number that is drawn next */
    u64 first; /* number that the block's first word makes */
    u32 seed;
    u32 now;                   /* which of the two blocks: the other one is room */
    u32 block[2][LB_MT_WORDS]; /* numbers first to first + 623, untempered */
} lb_mt19937;

/* At number 0. torch keeps the low 32 bits of a seed. */
void lb_mt19937_init(lb_mt19937 *m, const lb_kernels *k, u64 seed);
/* The 624 words that seeding makes; and a stream that begins with other ones (Python's, whose seeds
 * are arrays), which only goes forward. */
void lb_mt19937_words(u32 seed, u32 *words);
void lb_mt19937_begin(lb_mt19937 *m, const lb_kernels *k, const u32 *words);
/* Draws one, all 32 bits. */
u32 lb_mt19937_next(lb_mt19937 *m, const lb_kernels *k);
/* To any number: forward by steps if that is faster, else by a jump. */
void lb_mt19937_seek(lb_mt19937 *m, const lb_kernels *k, u64 at);
/* Draws n: bit i is set where number i, its low 24 bits, is below `below`; bits as mt_mask's. */
void lb_mt19937_mask(lb_mt19937 *m, const lb_kernels *k, u64 n, u32 below, u8 *bits);
/* Draws n: u in [0, 1). */
void lb_mt19937_uniform(lb_mt19937 *m, const lb_kernels *k, u64 n, float *out);
/* What mt_mask takes for a probability: u < p exactly where the low 24 bits are below it. */
u32 lb_mt19937_below(float p);

#endif
