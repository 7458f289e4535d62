/* SPDX-License-Identifier: Apache-2.0 */
/* quant_rows.c: see quant_rows.h. */
#include "quant_rows.h"
#include <math.h>
#include <stdlib.h>
#include "kernel/kernel.h"

/* splitmix64 */
u64 quant_rng_next(quant_rng *r) {
    u64 z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In [0, 1), 24 bits. */
static float uniform(quant_rng *r) {
    return (float)(quant_rng_next(r) >> 40) * 0x1p-24f;
}

/* A sum of four uniforms, variance 1. */
static float normal(quant_rng *r) {
    const u64 z = quant_rng_next(r);
    const i64 sum =
        (i64)(z & 0xffff) + (i64)(z >> 16 & 0xffff) + (i64)(z >> 32 & 0xffff) + (i64)(z >> 48);
    return (float)(sum - 131070) * 2.6428e-5f;
}

/* 2^e of any exponent that f32 has. */
static float power(i32 e) {
    return e < -126 ? lb_f32_from_bits(1u << (149 + e)) : lb_f32_from_bits((u32)(e + 127) << 23);
}

enum {
    NORMAL,
    HEAVY,
    CONSTANT,
    ZEROS,
    SUBNORMAL,
    LARGE,
    OUTLIER,
    TIES,
    NEGATIVE,
    POSITIVE,
    SPARSE,
    BANDS,
    SIGNED_ZERO,
    INTEGERS,
    NEAR_EQUAL,
    EXPONENTS,
    LIMITS,
    BITS,
};

const char *quant_row_kind(u32 kind) {
    static const char *const names[QUANT_ROW_KINDS] = {
        "normal",  "heavy",    "constant",   "zeros",     "subnormal", "large",
        "outlier", "ties",     "negative",   "positive",  "sparse",    "bands",
        "+-0",     "integers", "near-equal", "exponents", "limits",    "bits"};
    return names[kind];
}

const char *quant_importance_kind(u32 kind) {
    static const char *const names[QUANT_IMPORTANCE_KINDS] = {
        "none", "ones", "squares", "some-zero", "zeros", "heavy", "huge"};
    return names[kind];
}

static float one(quant_rng *r, u32 kind) {
    static const u32 limits[] = {0x7f7fffff, 0xff7fffff, 0x00800000, 0x80800000,
                                 0x477fe000, 0xc77ff000, 0x3f800000, 0x00000001,
                                 0x80000001, 0x5f000000, 0x1f000000, 0};
    const float v = normal(r);
    switch (kind) {
    case HEAVY:
        return v / (uniform(r) + 0x1p-10f);
    case SUBNORMAL:
        return lb_f32_from_bits((u32)quant_rng_next(r) & 0x807fffffu);
    case LARGE:
        return v * 0x1p60f;
    case TIES: /* eighths of the largest, 1 */
        return (float)((i32)(quant_rng_next(r) % 17) - 8) * 0.125f;
    case NEGATIVE:
        return -fabsf(v) - 0.5f;
    case POSITIVE:
        return fabsf(v) + 0.5f;
    case SPARSE:
        return uniform(r) < 0.9f ? 0 : v;
    case SIGNED_ZERO:
        return quant_rng_next(r) & 1 ? -0.0f : 0;
    case INTEGERS:
        return (float)((i32)(quant_rng_next(r) % 64) - 31);
    case NEAR_EQUAL:
        return 1 + (float)(i32)(quant_rng_next(r) % 5) * 0x1p-23f;
    case EXPONENTS:
        return v * power((i32)(quant_rng_next(r) % 40) - 20);
    case LIMITS:
        return lb_f32_from_bits(limits[quant_rng_next(r) % LB_LEN(limits)]);
    case BITS:
        return lb_f32_from_bits((u32)quant_rng_next(r));
    default:
        return v;
    }
}

void quant_row(quant_rng *r, u32 kind, float *x, size_t n) {
    /* weights of models are about 0.02; sometimes any other scale */
    const float scale = quant_rng_next(r) % 4 ? 0.02f : power((i32)(quant_rng_next(r) % 52) - 40);
    const float same = normal(r) * scale;
    float band = 1;
    for (size_t i = 0; i < n; i++) {
        if (i % 32 == 0)
            band = power((i32)(quant_rng_next(r) % 12) - 6);
        x[i] = kind == ZEROS      ? 0
               : kind == CONSTANT ? same
               : kind == BANDS    ? one(r, NORMAL) * band * scale
                                  : one(r, kind);
        if (kind <= OUTLIER && kind != LARGE && kind != SUBNORMAL && kind != CONSTANT)
            x[i] *= scale;
        if (kind == OUTLIER && quant_rng_next(r) % 97 == 0)
            x[i] *= 100;
    }
}

void quant_importance(quant_rng *r, u32 kind, float *w, size_t n) {
    for (size_t i = 0; i < n && kind; i++) {
        const float v = normal(r);
        const float u = uniform(r);
        w[i] = kind == 1   ? 1
               : kind == 2 ? v * v
               : kind == 3 ? (u < 0.3f ? 0 : v * v)
               : kind == 4 ? 0
               : kind == 5 ? v * v / (u * u + 0x1p-20f)
                           : v * v * 0x1p50f;
    }
}

bool quant_type(size_t i, lb_dtype *t) {
    lb_kernels k;
    lb_kernels_init(&k, 0);
    for (int d = 0; d < LB_DTYPE_COUNT; d++)
        if (lb_kernels_quant(&k, (lb_dtype)d) && i-- == 0) {
            *t = (lb_dtype)d;
            return true;
        }
    return false;
}

enum { DIGEST_ROWS = 5, DIGEST_ELEMS = 1024 };

bool quant_digest(quant_row_fn *fn, void *ctx, lb_dtype t, u32 kind, u32 importance, u32 *hash) {
    const lb_dtype_info *info = lb_dtype_get(t);
    float x[DIGEST_ELEMS], w[DIGEST_ELEMS];
    u8 out[DIGEST_ELEMS * 4];
    quant_rng r = {(u64)info->ggml * 10007u + kind * 101u + importance};
    u64 h = 0xcbf29ce484222325u; /* FNV-1a */
    for (u32 row = 0; row < DIGEST_ROWS; row++) {
        const size_t n =
            info->block_elems * (1 + quant_rng_next(&r) % (DIGEST_ELEMS / info->block_elems));
        const size_t bytes = n / info->block_elems * info->block_bytes;
        quant_row(&r, kind, x, n);
        quant_importance(&r, importance, w, n);
        if (!fn(ctx, t, n, out, x, importance ? w : NULL))
            return false;
        for (size_t i = 0; i < bytes; i++)
            h = (h ^ out[i]) * 0x100000001b3u;
    }
    *hash = (u32)(h ^ h >> 32);
    return true;
}

void *quant_tables_new(lb_dtype t) {
    const size_t bytes = lb_quant_tables_bytes(t);
    void *tables = bytes ? malloc(bytes) : NULL;
    if (tables)
        lb_quant_tables_init(t, tables);
    return tables;
}
