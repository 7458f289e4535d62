/* SPDX-License-Identifier: Apache-2.0 */
/* select_nm.c: see select_nm.h. The k-th largest of a group is found bit by bit: 31 counts over
 * keys that lie in L1, without a branch on data, and fewer where so many are above some power of
 * two. */
#include "kernel/select_nm.h"

/* Keys are below 2^31: signed comparisons, which SSE2 and NEON have. n: of key, padded with zeros
 * to a multiple of LANES. */
#define LANES 16
#define PER_VECTOR 4
typedef i32 vector __attribute__((vector_size(PER_VECTOR * sizeof(i32))));

static u32 count_from(const i32 *key, u32 n, i32 least) {
    vector c[LANES / PER_VECTOR] = {{0}}, x;
    i32 sum = 0;
    for (u32 i = 0; i < n; i += LANES)
        for (u32 k = 0; k < LANES / PER_VECTOR; k++) {
            memcpy(&x, key + i + k * PER_VECTOR, sizeof x);
            c[k] -= x >= least; /* true is -1 */
        }
    c[0] += c[1] + c[2] + c[3];
    for (u32 k = 0; k < PER_VECTOR; k++)
        sum += c[0][k];
    return (u32)sum;
}

/* Marks the k largest of n keys; 0 is none. */
static void mark(const i32 *key, u32 n, u32 k, float *out) {
    u32 padded = (n + LANES - 1) / LANES * LANES, count = 0;
    i32 least = 0;
    for (i32 bit = 1 << 30; bit && count != k; bit >>= 1) {
        u32 c = count_from(key, padded, least | bit);
        if (c >= k) {
            least |= bit;
            count = c;
        }
    }
    if (k == 0)
        return;
    if (least == 0) /* fewer than k: all */
        least = 1;
    else if (count != k) { /* more than k: of those that are equal to the least, the first */
        u32 left = k - count_from(key, padded, least + 1);
        for (u32 i = 0; i < n && left; i++)
            if (key[i] == least) {
                out[i] = 1;
                left--;
            }
        least++;
    }
    for (u32 i = 0; i < n; i++) /* each is marked once */
        out[i] += (float)(key[i] >= least);
}

static void one_group(u32 n, u32 keep, float *out, const float *x, const float *claimed) {
    i32 key[LB_NM_MAX], other[LB_NM_MAX];
    u32 n_free = 0, padded = (n + LANES - 1) / LANES * LANES;
    for (u32 i = 0; i < n; i++) {
        i32 bits = (i32)(lb_f32_bits(x[i]) & 0x7fffffffu);
        bool taken = claimed && claimed[i] != 0;
        key[i] = taken ? 0 : bits;
        other[i] = taken ? bits : 0;
        n_free += key[i] != 0;
    }
    for (u32 i = n; i < padded; i++)
        key[i] = other[i] = 0;
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
