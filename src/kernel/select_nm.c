/* SPDX-License-Identifier: Apache-2.0 */
/* select_nm.c: see select_nm.h. The k-th largest of a group is found bit by bit: 31 counts over
 * keys that lie in L1, without a branch on data. */
#include "kernel/select_nm.h"

static u32 count_from(const u32 *key, u32 n, u32 least) {
    u32 c = 0;
    for (u32 i = 0; i < n; i++)
        c += key[i] >= least;
    return c;
}

/* Marks the k largest keys; 0 is none. */
static void mark(const u32 *key, u32 n, u32 k, float *out) {
    u32 least = 0, left;
    for (u32 bit = 1u << 30; bit && k; bit >>= 1)
        if (count_from(key, n, least | bit) >= k)
            least |= bit;
    left = least ? k - count_from(key, n, least + 1) : 0; /* of those that are equal to it */
    for (u32 i = 0; i < n && k; i++) {
        bool equal = key[i] == least && least && left;
        left -= equal;
        if (key[i] > least || equal)
            out[i] = 1;
    }
}

static void one_group(u32 n, u32 keep, float *out, const float *x, const float *claimed) {
    u32 key[LB_NM_MAX], other[LB_NM_MAX], n_free = 0;
    for (u32 i = 0; i < n; i++) {
        u32 bits = lb_f32_bits(x[i]) & 0x7fffffffu;
        bool taken = claimed && claimed[i] != 0;
        key[i] = taken ? 0 : bits;
        other[i] = taken ? bits : 0;
        n_free += key[i] != 0;
    }
    for (u32 i = 0; i < n; i++)
        out[i] = 0;
    mark(key, n, LB_MIN(keep, n_free), out);
    if (n_free < keep)
        mark(other, n, keep - n_free, out);
}

void lb_select_nm(size_t n_elems, u32 keep, u32 of, float *out, const float *x,
                  const float *claimed) {
    for (size_t i = 0; i < n_elems; i += of) {
        u32 n = (u32)LB_MIN(n_elems - i, of);
        u32 k = n == of ? keep : (u32)(((u64)keep * n + of - 1) / of);
        one_group(n, k, out + i, x + i, claimed ? claimed + i : NULL);
    }
}
