/* SPDX-License-Identifier: Apache-2.0 */
/* fill.c: deterministic data for kernels: ordinary values and every kind of edge. */
#include "checkkern.h"

/* splitmix64 */
u64 rng_next(rng *r) {
    u64 z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

u64 rng_below(rng *r, u64 n) {
    return n ? rng_next(r) % n : 0;
}

/* A sum of four 16-bit uniforms, variance 1: bell-shaped enough and without libm. */
float rng_normal(rng *r) {
    const u64 z = rng_next(r);
    const i64 sum =
        (i64)(z & 0xffff) + (i64)(z >> 16 & 0xffff) + (i64)(z >> 32 & 0xffff) + (i64)(z >> 48);
    return (float)(sum - 131070) * 2.6428e-5f; /* sqrt(3) / 65535 */
}

enum {
    FILL_NORMAL,
    FILL_EQUAL,
    FILL_ZERO,
    FILL_ONE_HOT,
    FILL_LIMITS,
    FILL_SUBNORMAL,
    FILL_SIGNED_ZERO,
    FILL_OUTLIER,
    FILL_BITS,
    FILL_TIES,
};

const char *fill_name(u32 fill) {
    static const char *const names[N_FILLS] = {"normal",      "all-equal", "zeros", "one-hot",
                                               "limits",      "subnormal", "+-0",   "outlier",
                                               "random-bits", "ties"};
    return names[fill];
}

/* Values where f16 and bf16 round: codes, the middle between two codes, and a bit beside it. */
static float tie(rng *r) {
    const u32 z = (u32)rng_next(r);
    const i32 beside = (i32)rng_below(r, 3) - 1;
    u32 bits;
    if (z &
        1) /* f16: 13 bits fall away; exponents from below its subnormals to above its largest */
        bits = (z & 0x80000000u) | (100 + (z >> 8) % 45) << 23 | (z >> 9 & 0x3ffu) << 13 | 0x1000u;
    else /* bf16 */
        bits = (z & 0xffff0000u) | 0x8000u;
    return lb_f32_from_bits((u32)((i32)bits + beside));
}

static float one_f32(rng *r, u32 fill) {
    static const u32 limits[] = {0x7f7fffff, 0xff7fffff, 0x00800000, 0x80800000, 0x477fe000,
                                 0x477fefff, 0x477ff000, 0xc77fe000, 0x7f7f0000, 0x7f7f7fff,
                                 0x7f7f8000, 0x38800000, 0x387fe000, 0x33800000, 0x33000000,
                                 0x33000001, 0x3f800000, 0xbf800000};
    switch (fill) {
    case FILL_ZERO:
        return 0;
    case FILL_LIMITS:
        return lb_f32_from_bits(limits[rng_below(r, LB_LEN(limits))]);
    case FILL_SUBNORMAL:
        return lb_f32_from_bits((u32)rng_next(r) & 0x807fffffu);
    case FILL_SIGNED_ZERO:
        return lb_f32_from_bits((u32)rng_next(r) & 0x80000000u);
    case FILL_BITS: { /* a third of it NaN or Inf */
        const u32 z = (u32)rng_next(r), kind = (u32)rng_below(r, 12);
        if (kind == 0)
            return lb_f32_from_bits((z & 0x80000000u) | 0x7f800000u);
        return lb_f32_from_bits(kind < 4 ? z | 0x7f800000u : z);
    }
    case FILL_TIES:
        return tie(r);
    default:
        return rng_normal(r);
    }
}

void fill_f32(rng *r, u32 fill, float *out, size_t n) {
    const float same = rng_normal(r);
    const size_t hot = (size_t)rng_below(r, n);
    for (size_t i = 0; i < n; i++) {
        if (fill == FILL_EQUAL)
            out[i] = same;
        else if (fill == FILL_ONE_HOT)
            out[i] = i == hot ? same : 0;
        else if (fill == FILL_OUTLIER)
            out[i] = rng_normal(r) * (rng_below(r, 32) ? 1 : 1e30f);
        else
            out[i] = one_f32(r, fill);
    }
}

/* Doubles that round to f32: f32 values, middles between two, a bit beside a middle, and any bits.
 */
static void fill_f64(rng *r, u32 fill, u8 *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const double d = one_f32(r, fill);
        u64 bits;
        memcpy(&bits, &d, sizeof bits);
        if (fill == FILL_TIES)
            bits = (bits | 0x10000000u) + rng_below(r, 3) - 1;
        else if (fill == FILL_SUBNORMAL) /* around f32's smallest: 2^-150 is the middle below it */
            bits = (bits & 0x800fffffffffffffu) | (860 + rng_below(r, 40)) << 52;
        else if (fill == FILL_NORMAL)
            bits ^= rng_next(r) & 0x1fffffffu;
        else if (fill == FILL_BITS)
            bits = rng_next(r) | (rng_below(r, 4) ? 0 : 0x7ff0000000000000u);
        lb_store_u64(out + 8 * i, bits);
    }
}

void fill_codes(rng *r, u32 fill, u8 *out, size_t bytes, u32 unit_bytes) {
    /* Bytes of which both halves of an f16 scale make zero, one, Inf, NaN, the limits, subnormals.
     */
    static const u8 special[] = {0x00, 0x7c, 0x80, 0xfc, 0xff, 0x7b, 0x01, 0x04,
                                 0x3c, 0x7f, 0x7e, 0x0f, 0xf0, 0x81, 0xfe, 0x10};
    if (unit_bytes == 8) {
        fill_f64(r, fill, out, bytes / 8);
        return;
    }
    const u8 same = (u8)rng_next(r);
    const size_t hot = (size_t)rng_below(r, bytes);
    size_t code;
    for (size_t i = 0; i < bytes; i++) {
        switch (fill) {
        case FILL_ZERO:
            out[i] = 0;
            break;
        case FILL_EQUAL:
            out[i] = same;
            break;
        case FILL_ONE_HOT:
            out[i] = i == hot ? (u8)(same | 1) : 0;
            break;
        case FILL_LIMITS:
            out[i] = 0xff;
            break;
        case FILL_SIGNED_ZERO: /* all codes of the type in order */
            code = unit_bytes == 2 ? i / 2 : i;
            out[i] = (u8)(unit_bytes == 2 && (i & 1) ? code >> 8 : code);
            break;
        case FILL_SUBNORMAL:
        case FILL_OUTLIER:
            out[i] = special[rng_below(r, LB_LEN(special))];
            break;
        default:
            out[i] = (u8)rng_next(r);
        }
    }
}
