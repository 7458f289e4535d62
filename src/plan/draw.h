/* SPDX-License-Identifier: Apache-2.0 */
/* draw.h: random values that follow from their place alone: any tile gets its own.
 *
 * Two are torch's on a CPU after manual_seed, as one call makes them; the third is lbrx's own, for
 * matrices of any size. Sine, cosine and logarithm are lbrx's: normal values of torch's kind are
 * within three units in the last place of what torch's code for AVX2 gives, five of six are equal
 * (of 2^20; rounded to bf16, four in a million differ). */
#ifndef LB_PLAN_DRAW_H
#define LB_PLAN_DRAW_H

#include "base/mem.h"
#include "kernel/mt19937.h"

typedef enum lb_draw_kind {
    LB_DRAW_TORCH_NORMAL,  /* torch.randn(total), 16 values and more */
    LB_DRAW_TORCH_UNIFORM, /* torch.rand(total) */
    LB_DRAW_NORMAL         /* Philox4x32-10, the key is `seed`; counter: (place / 4, stream) */
} lb_draw_kind;

typedef struct lb_draw {
    lb_draw_kind kind;
    u64 seed;
    u64 stream;              /* NORMAL */
    u64 first, total;        /* torch's: the place of value 0 among all of the call's */
    const lb_mt19937 *state; /* torch's: at the number of place first - first % 16 */
} lb_draw;

/* Of seed a part of a call of torch's that draws `total`, the first after manual_seed. In the
 * arena; NULL: out of memory. m: of the seed, moved on to where the part begins. */
const lb_draw *lb_draw_torch(lb_draw_kind kind, u64 first, u64 total, lb_mt19937 *m,
                             const lb_kernels *k, lb_arena *perm);
/* Values [from, from + n) of it. */
void lb_draw_fill(const lb_draw *d, const lb_kernels *k, u64 from, u64 n, float *out);
/* Random123's function: four words from a counter of four and a key of two. */
void lb_philox(const u32 counter[4], const u32 key[2], u32 out[4]);

#endif
