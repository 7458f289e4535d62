/* SPDX-License-Identifier: Apache-2.0 */
/* q8_codes_tmpl.h: rows of every quantized type as codes, scales and minima (q8.h); included by one
 * file an instruction set. Vectors of 32 bytes and 8 floats in the compilers' own terms, which they
 * lower to what there is; tables of 16 are the only intrinsics, codebooks scalar loads. The
 * products of scales are those of the decoders. */
#include "kernel/q8_iq_tmpl.h"
#include "kernel/q8_k_tmpl.h"
#include "kernel/q8_small_tmpl.h"

/* ---- MLX ---- */

/* 16 bytes as 32 nibbles, the lower one first. */
INLINE v32 alternate(const u8 *p) {
    typedef u16 w16 __attribute__((vector_size(32)));
    v16 x;
    memcpy(&x, p, sizeof x);
    const w16 w = __builtin_convertvector(x, w16);
    return (v32)((w & 15) | (w >> 4 << 8));
}

/* 32 codes from 4 b bytes: 8 codes lie in b bytes, read together where there are 8. */
INLINE void codes32(u8 *q, const u8 *p, const u32 bits) {
    if (bits == 8) {
        memcpy(q, p, 32);
    } else if (bits == 4) {
        put32(q, alternate(p));
    } else {
        for (size_t e = 0; e < 4; e++) {
            u64 x = 0;
            memcpy(&x, p + e * bits, bits);
            for (u32 j = 0; j < 8; j++)
                q[8 * e + j] = (u8)(x >> j * bits & ((1u << bits) - 1));
        }
    }
}

INLINE void mlx(size_t n_elems, size_t group, void *out, const u8 *p, const float *scale,
                const float *bias, const u32 bits) {
    lb_q8_row *r = out;
    size_t at = 0, in_group = 0;
    for (size_t i = 0; i < n_elems; i += 32, p += 4 * bits) {
        codes32(r->q + at, p, bits);
        r->s[at / 32] = lb_canon_f32(*scale);
        r->m[at / 32] = lb_canon_f32(*bias);
        at += 32;
        in_group += 32;
        if (in_group == group) {
            in_group = 0;
            scale++;
            bias++;
        }
        if (at == LB_Q8_CHUNK) {
            at = 0;
            r++;
        }
    }
    if (at)
        pad(r, at, 32);
}

static void codes_mlx_fp4(size_t n_elems, size_t group, void *out, const void *in,
                          const float *scale, const float *bias) {
    lb_q8_row *r = out;
    const u8 *p = in;
    size_t at = 0, in_group = 0;
    const size_t step = group == 16 ? 16 : 32;
    (void)bias;
    for (size_t i = 0; i < n_elems; i += step) {
        if (step == 32) {
            put32(r->q + at, pick(fp4_codes, alternate(p)));
            p += 16;
        } else {
            for (size_t j = 0; j < 16; j += 2, p++) {
                r->q[at + j] = fp4_codes[*p & 15];
                r->q[at + j + 1] = fp4_codes[*p >> 4];
            }
        }
        r->s[at / step] = lb_canon_f32(*scale * 0.5f);
        at += step;
        in_group += step;
        if (in_group == group) {
            in_group = 0;
            scale++;
        }
        if (at == LB_Q8_CHUNK) {
            at = 0;
            r++;
        }
    }
    if (at)
        pad(r, at, step);
}

#define LB_Q8_BLOCKS(t, elems, bytes, group)                           \
    static void codes_##t(size_t n_elems, void *out, const void *in) { \
        blocks(n_elems, out, in, elems, bytes, group, block_##t);      \
    }
#include "kernel/q8_types.def"
#undef LB_Q8_BLOCKS
#define LB_Q8_MLX(b)                                                                    \
    static void codes_mlx_q##b(size_t n_elems, size_t group, void *out, const void *in, \
                               const float *scale, const float *bias) {                 \
        mlx(n_elems, group, out, in, scale, bias, b);                                   \
    }
LB_Q8_MLX(1)
LB_Q8_MLX(2)
LB_Q8_MLX(3)
LB_Q8_MLX(4)
LB_Q8_MLX(5)
LB_Q8_MLX(6)
LB_Q8_MLX(8)
#undef LB_Q8_MLX

/* ---- activations ---- */

/* Rounds to nearest even by the sum with 1.5 * 2^23, |x| < 2^22. */
INLINE i32 nearest(float x) {
    return (i32)(lb_f32_bits(x + 12582912.0f) - 0x4b400000u);
}

INLINE void act32(lb_q8_act *a, const size_t g, const float *x) {
    u32 most = 0;
    for (size_t j = 0; j < 32; j++) {
        const u32 mag = lb_f32_bits(x[j]) & 0x7fffffffu;
        most = mag > most ? mag : most;
    }
    i8 *q = a->q + 32 * g;
    i32 sum[2] = {0, 0};
    float d = 0;
    if (most >= 0x7f800000u) {
        d = lb_f32_from_bits(LB_NAN_BITS);
        memset(q, 0, 32);
    } else if (most < (127u - 100) << 23) {
        memset(q, 0, 32);
    } else {
        const float top = lb_f32_from_bits(most), times = 127.0f / top;
        i32 code[32];
        d = top / 127.0f;
        for (size_t j = 0; j < 32; j++)
            code[j] = nearest(x[j] * times);
        for (size_t j = 0; j < 32; j++)
            q[j] = (i8)code[j];
        for (size_t j = 0; j < 16; j++) {
            sum[0] += code[j];
            sum[1] += code[j + 16];
        }
    }
    a->d32[g] = a->d16[2 * g] = a->d16[2 * g + 1] = d;
    a->s16[2 * g] = sum[0];
    a->s16[2 * g + 1] = sum[1];
    a->s32[g] = sum[0] + sum[1];
    a->m16[2 * g] = lb_canon_f32(d * (float)sum[0]);
    a->m16[2 * g + 1] = lb_canon_f32(d * (float)sum[1]);
    a->m32[g] = lb_canon_f32(d * (float)(sum[0] + sum[1]));
}

/* 32 elements from the g-th group of a row on; zeros behind its end. */
INLINE const float *group32(size_t n_elems, size_t g, const float *in, float x[32]) {
    const size_t at = 32 * g;
    if (at + 32 <= n_elems)
        return in + at;
    memset(x, 0, 32 * sizeof *x);
    if (at < n_elems)
        memcpy(x, in + at, (n_elems - at) * sizeof *x);
    return x;
}

static void act_q8(size_t n_elems, void *out, const float *in) {
    lb_q8_act *a = out;
    float x[32];
    for (size_t c = 0; c < lb_q8_chunks(n_elems); c++, a++) {
        for (size_t g = 0; g < 16; g++)
            act32(a, g, group32(n_elems, 16 * c + g, in, x));
        a->more = 0;
        memset(a->unused, 0, sizeof a->unused);
    }
}

/* The largest magnitude of a group that has no second part: of sums in 16 lanes, as of products. */
static float coarse(size_t n_elems, const float *in) {
    f32x8 sum[2] = {{0}, {0}};
    float x[32], lane[16];
    for (size_t g = 0; 32 * g < n_elems; g++) {
        const float *from = group32(n_elems, g, in, x);
        for (size_t j = 0; j < 32; j += 8) {
            i32x8 v;
            memcpy(&v, from + j, sizeof v);
            sum[j / 8 % 2] += (f32x8)(v & 0x7fffffff);
        }
    }
    memcpy(lane, sum, sizeof lane);
    for (size_t n = 8; n; n /= 2)
        for (size_t i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lane[0] * (LB_Q8_COARSE / (float)n_elems);
}

/* What the codes of a group leave, as codes of a second part. */
static void second32(lb_q8_act *to, const lb_q8_act *a, size_t g, const float *x) {
    float rest[32];
    for (size_t j = 0; j < 32; j++)
        rest[j] = x[j] - a->d32[g] * (float)a->q[32 * g + j];
    act32(to, g, rest);
}

static void act_q16(size_t n_elems, void *out, const float *in) {
    const size_t n = lb_q8_chunks(n_elems);
    lb_q8_act *a = out;
    float x[32];
    act_q8(n_elems, out, in);
    const float most = coarse(n_elems, in);
    for (size_t c = 0; c < n; c++, a++) {
        for (size_t g = 0; g < 16; g++) /* false where either is no number */
            a->more |= (u32)(a->d32[g] * 127.0f > most) << g;
        if (!a->more)
            continue;
        memset(a + n, 0, sizeof *a);
        for (size_t g = 0; g < 16; g++)
            if (a->more >> g & 1)
                second32(a + n, a, g, group32(n_elems, 16 * c + g, in, x));
    }
}
