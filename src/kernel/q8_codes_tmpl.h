/* SPDX-License-Identifier: Apache-2.0 */
/* q8_codes_tmpl.h: rows of every quantized type as codes, scales and minima (q8.h); included by one
 * file an instruction set. Most types are cut into units in registers; codebooks are scalar loads,
 * and what is rare is in the compilers' own vectors. The products of scales are those of the
 * decoders. */
#include "kernel/q8_act_tmpl.h"
#include "kernel/q8_iq_tmpl.h"
#include "kernel/q8_k_tmpl.h"
#include "kernel/q8_small_tmpl.h"

/* ---- blocks ---- */

/* Scales behind the end are zero; codes there are what they are. */
INLINE void pad(lb_q8_row *r, size_t from, size_t group) {
    const size_t at = (from + group - 1) / group, n = LB_Q8_CHUNK / group;
    memset(r->s + at, 0, (n - at) * sizeof *r->s);
    memset(r->m + at, 0, (n - at) * sizeof *r->m);
}

INLINE void put_chunk(lb_q8_row *r, const u8 *p, unit_fn *unit, scales_fn *scales) {
    UNROLL for (size_t u = 0; u < 4; u++) UNROLL for (size_t i = 0; i < VECS; i++) {
        const vec x = unit(p, u, i);
        memcpy(r->q + 128 * u + sizeof x * i, &x, sizeof x);
    }
    if (scales)
        scales(r->s, r->m, p, 4);
}

/* bytes: of a chunk. */
INLINE void units(size_t n_elems, void *out, const u8 *p, const size_t bytes, const size_t group,
                  unit_fn *unit, scales_fn *scales) {
    lb_q8_row *r = out;
    for (; n_elems >= LB_Q8_CHUNK; n_elems -= LB_Q8_CHUNK, p += bytes)
        put_chunk(r++, p, unit, scales);
    if (n_elems) {
        u8 last[LB_Q8_CHUNK / 256 * 292] = {0};
        memcpy(last, p, n_elems * bytes / LB_Q8_CHUNK);
        put_chunk(r, last, unit, scales);
        if (scales)
            pad(r, n_elems, group);
    }
}

typedef void(block_fn)(u8 *q, float *s, float *m, const u8 *p);

INLINE void blocks(size_t n_elems, void *out, const u8 *p, const size_t elems, const size_t bytes,
                   const size_t group, block_fn *fn) {
    lb_q8_row *r = out;
    size_t at = 0;
    for (size_t i = 0; i < n_elems; i += elems, p += bytes) {
        if (at == 0 && n_elems - i < LB_Q8_CHUNK)
            memset(r->q, 0, sizeof r->q);
        fn(r->q + lb_q8_at(at), r->s + at / group, r->m + at / group, p);
        at += elems;
        if (at == LB_Q8_CHUNK) {
            at = 0;
            r++;
        }
    }
    if (at)
        pad(r, at, group);
}

/* ---- MLX ---- */

INLINE v32 alternate(const u8 *p) {
    typedef u16 w16 __attribute__((vector_size(32)));
    v16 x;
    memcpy(&x, p, sizeof x);
    const w16 w = __builtin_convertvector(x, w16);
    return (v32)((w & 15) | (w >> 4 << 8));
}

/* 32 codes from 4 b bytes: 8 codes lie in b bytes, read together where there are 8. */
INLINE void codes32(u8 *q, const u8 *p, const u32 bits) {
    for (size_t e = 0; e < 4; e++) {
        u64 x = 0;
        memcpy(&x, p + e * bits, bits);
#if defined(__BMI2__)
        x = _pdep_u64(x, ((1u << bits) - 1) * 0x0101010101010101u);
#else
        u64 y = 0;
        for (u32 j = 0; j < 8; j++)
            y |= (x >> j * bits & ((1u << bits) - 1)) << 8 * j;
        x = y;
#endif
        lb_store_u64(q + lb_q8_at(8 * e), x);
    }
}

INLINE void mlx_scales(lb_q8_row *r, size_t n_elems, size_t group, const float *scale,
                       const float *bias) {
    for (size_t g = 0; g < lb_q8_chunks(n_elems) * 16; g++) {
        const bool in = 32 * g < n_elems;
        r[g / 16].s[g % 16] = in ? lb_canon_f32(scale[32 * g / group]) : 0;
        r[g / 16].m[g % 16] = in ? lb_canon_f32(bias[32 * g / group]) : 0;
    }
}

INLINE void mlx(size_t n_elems, size_t group, void *out, const u8 *p, const float *scale,
                const float *bias, const u32 bits) {
    lb_q8_row *r = out;
    mlx_scales(r, n_elems, group, scale, bias);
    if (bits == 4) {
        units(n_elems, out, p, 256, 32, unit_mlx_q4, NULL);
    } else if (bits == 8) {
        units(n_elems, out, p, 512, 32, unit_mlx_q8, NULL);
    } else {
        if (n_elems % LB_Q8_CHUNK)
            memset(r[n_elems / LB_Q8_CHUNK].q, 0, LB_Q8_CHUNK);
        for (size_t i = 0; i < n_elems; i += 32, p += 4 * bits)
            codes32(r[i / LB_Q8_CHUNK].q + lb_q8_at(i % LB_Q8_CHUNK), p, bits);
    }
}

static void codes_mlx_fp4(size_t n_elems, size_t group, void *out, const void *in,
                          const float *scale, const float *bias) {
    lb_q8_row *r = out;
    const u8 *p = in;
    size_t at = 0, in_group = 0;
    const size_t step = group == 16 ? 16 : 32;
    (void)bias;
    if (n_elems % LB_Q8_CHUNK)
        memset(r[n_elems / LB_Q8_CHUNK].q, 0, LB_Q8_CHUNK);
    for (size_t i = 0; i < n_elems; i += step) {
        if (step == 32) {
            put32(r->q + lb_q8_at(at), pick(fp4_codes, alternate(p)));
            p += 16;
        } else {
            for (size_t j = 0; j < 16; j += 2, p++) {
                r->q[lb_q8_at(at) + j] = fp4_codes[*p & 15];
                r->q[lb_q8_at(at) + j + 1] = fp4_codes[*p >> 4];
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
#define LB_Q8_UNITS(t, elems, bytes, type)                                                  \
    static void codes_##t(size_t n_elems, void *out, const void *in) {                      \
        units(n_elems, out, in, LB_Q8_CHUNK / elems * bytes, (type)&LB_Q8_HALVES ? 16 : 32, \
              unit_##t, scales_##t);                                                        \
    }
#include "kernel/q8_types.def"
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
