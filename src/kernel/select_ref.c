/* SPDX-License-Identifier: Apache-2.0 */
/* select_ref.c: scalar reference of what an exact selection counts and collects. */
#include "kernel/kernel.h"

u64 lb_k_select_f32_ref(size_t n_elems, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                        u64 count[3]) {
    u64 n = 0;
    for (size_t i = 0; i < n_elems; i++) {
        const i32 bits = (i32)(lb_f32_bits(a[i]) & 0x7fffffffu);
        count[0] += bits > hi;
        count[1] += bits == hi;
        count[2] += bits == lo;
        if (bits > lo && bits < hi) {
            if (n < room)
                list[n] = (u32)bits;
            n++;
        }
    }
    return n;
}
