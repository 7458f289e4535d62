/* SPDX-License-Identifier: Apache-2.0 */
/* blocks_avx512.h: the loop over blocks of 256 values whose scales are unpacked one block ahead.
 *
 * A block's scales go from its bytes through some ten dependent instructions and the stack; its
 * values are ready for the stores much sooner than that. Out of order execution reaches one block
 * ahead at most, so without this a third of the time is waiting. */
#ifndef LB_KERNEL_BLOCKS_AVX512_H
#define LB_KERNEL_BLOCKS_AVX512_H
#ifdef __AVX512BW__

#include "kernel/blocks_k.h"
#include "kernel/kernel.h"
#include "kernel/spread_avx512.h"

/* What a type needs of these. */
typedef struct lb_block_fields {
    alignas(64) float d[16]; /* scales of sub-blocks */
    float m[16];             /* minimums */
    u16 at[64];              /* indices of codebook points */
    u8 signs[32];            /* bit i % 8 of byte i / 8: value i is negative */
    bool is_finite;          /* the block's scales; if not, the rest is not used */
} lb_block_fields;

typedef void(lb_fields_fn)(lb_block_fields *f, const void *block);
typedef void(lb_block_fn)(float *out, const void *block, const lb_block_fields *f);

/* Inlined into each decoder: `fields` and `block` are constants there. */
__attribute__((always_inline)) static inline void
lb_decode_blocks(size_t n_elems, float *out, const void *in, size_t block_bytes,
                 lb_fields_fn *fields, lb_block_fn *block, lb_decode_fn *ref) {
    const u8 *p = in;
    lb_block_fields f[2];
    if (n_elems)
        fields(&f[0], p);
    for (size_t i = 0, j = 0; i < n_elems; i += LB_QK, j ^= 1, p += block_bytes) {
        if (i + LB_QK < n_elems)
            fields(&f[j ^ 1], p + block_bytes);
        if (f[j].is_finite)
            block(out + i, p, &f[j]);
        else
            ref(LB_QK, out + i, p);
    }
}

#endif
#endif
