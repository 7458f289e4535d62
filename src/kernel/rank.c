/* SPDX-License-Identifier: Apache-2.0 */
/* rank.c: where magnitudes have few values (of what was bf16, 32,768 at most and mostly some
 * thousand), they are counted, and each is given the place of its value's first, then the next.
 * Others are sorted by radix, lowest digit first, so that it is stable, over those of their bits
 * that are not zero in all; the last round writes places instead of values. */
#include "kernel/rank.h"
#include "kernel/half.h"

#define DIGITS_MAX 4
#define BITS_MAX 11

static u32 magnitude(float x) {
    u32 bits = lb_f32_bits(x) & 0x7fffffffu;
    return bits > 0x7f800000u ? 0x7fc00000u : bits; /* NaNs are equal */
}

typedef struct range {
    u32 min, max; /* of magnitudes above 0; max 0: there are none */
    u32 low;      /* bits below it are zero in all */
} range;

static range range_of(const lb_kernels *k, size_t n, const float *x) {
    u32 m[3];
    k->magnitudes_f32(n, m, x);
    range r = {.min = m[2], .max = m[1]};
    while (r.max && !(m[0] >> r.low & 1))
        r.low++;
    return r;
}

static void by_counting(const lb_kernels *k, size_t n, float *out, const float *x, const range *r,
                        const float *by_rank, u32 *scratch) {
    u32 *bin = scratch, *bins = scratch + n, low = r->low, below = (r->min >> low) - 1;
    size_t n_bins = (size_t)(r->max >> low) - below + 1;
    memset(bins, 0, n_bins * sizeof *bins);
    k->magnitude_bins_f32(n, bin, x, low, below);
    for (size_t i = 0; i < n; i++)
        bins[bin[i]]++;
    (void)k->sums_u32(n_bins, bins, bins);
    for (size_t i = 0; i < n; i++)
        out[i] = by_rank[bins[bin[i]]++];
}

static void by_radix(const lb_kernels *kernels, size_t n, float *out, const float *x,
                     const range *r, const float *by_rank, u32 *scratch) {
    u64 *from = (u64 *)(void *)scratch, *to = from + n; /* magnitudes above indices */
    u32 bins[DIGITS_MAX][1 << BITS_MAX], width = 0;
    while (r->max >> r->low >> width)
        width++;
    /* two rounds of 8 bits cost less than one of 11 and its bins where rows are short */
    u32 most = n < 4096 ? 8 : BITS_MAX, n_digits = (width + most - 1) / most;
    u32 bits = (width + n_digits - 1) / n_digits, mask = (1u << bits) - 1;
    for (u32 k = 0; k < n_digits; k++)
        memset(bins[k], 0, sizeof bins[k][0] << bits);
    for (size_t i = 0; i < n; i++) {
        u32 m = magnitude(x[i]);
        from[i] = (u64)m << 32 | i;
        for (u32 k = 0; k < n_digits; k++)
            bins[k][m >> (r->low + k * bits) & mask]++;
    }
    for (u32 k = 0; k < n_digits; k++) {
        u32 *place = bins[k], low = 32 + r->low + k * bits;
        (void)kernels->sums_u32(mask + 1, place, place);
        if (k + 1 == n_digits) {
            for (size_t i = 0; i < n; i++)
                out[(u32)from[i]] = by_rank[place[from[i] >> low & mask]++];
            return;
        }
        for (size_t i = 0; i < n; i++)
            to[place[from[i] >> low & mask]++] = from[i];
        u64 *other = from;
        from = to;
        to = other;
    }
}

void lb_rank_abs_f32(const lb_kernels *k, size_t n, float *out, const float *x,
                     const float *by_rank, u32 *scratch) {
    range r = range_of(k, n, x);
    if (r.max == 0) {
        for (size_t i = 0; i < n; i++)
            out[i] = by_rank[i];
        return;
    }
    /* bins cost a quarter of a value's way through the sort */
    if ((r.max >> r.low) - (r.min >> r.low) < 4 * n - 1)
        by_counting(k, n, out, x, &r, by_rank, scratch);
    else
        by_radix(k, n, out, x, &r, by_rank, scratch);
}

static float rounded(const lb_odds *o, float x) {
    return o->bf16 ? lb_bf16_to_f32(lb_bf16_from_f32(x)) : x;
}

void lb_odds_by_rank(const lb_odds *o, const lb_kernels *k, size_t n, float *out) {
    /* from 0 on, as they are in f32; of torch's numbers those that are added are rounded too */
    float last = rounded(o, rounded(o, rounded(o, (float)(n - 1)) + 1) - 1);
    float least = rounded(o, (float)(o->density - o->epsilon));
    for (size_t i = 0; i < n; i++)
        out[i] = rounded(o, rounded(o, rounded(o, (float)i) + 1) - 1);
    k->map_divc_f32(n, out, out, last);
    if (o->bf16)
        k->map_round_bf16_f32(n, out, out);
    k->map_mulc_f32(n, out, out, 2);
    k->map_mulc_f32(n, out, out, (float)o->epsilon);
    if (o->bf16)
        k->map_round_bf16_f32(n, out, out);
    k->map_addc_f32(n, out, out, least);
    if (o->bf16)
        k->map_round_bf16_f32(n, out, out);
}
