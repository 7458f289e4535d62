/* SPDX-License-Identifier: Apache-2.0 */
/* q8_codes_tmpl.h: rows of every quantized type as codes, scales and minima (q8.h); included by one
 * file an instruction set. All are cut into units in registers. The products of scales are those
 * of the decoders. */
#include "kernel/q8_act_tmpl.h"
#include "kernel/q8_bits_tmpl.h"
#include "kernel/q8_iq_tmpl.h"
#include "kernel/q8_k_tmpl.h"
#include "kernel/q8_small_tmpl.h"

/* Scales behind the end are zero; codes there are what they are. */
INLINE void pad(lb_q8_row *r, size_t from, size_t group) {
    const size_t at = (from + group - 1) / group, n = LB_Q8_CHUNK / group;
    memset(r->s + at, 0, (n - at) * sizeof *r->s);
    memset(r->m + at, 0, (n - at) * sizeof *r->m);
}

INLINE void put_chunk(lb_q8_row *r, const u8 *p, unit_fn *unit, scales_fn *scales) {
    UNROLL for (size_t u = 0; u < 4; u += 2) { /* what two units share is made before the stores */
        vec x[2 * VECS];
        UNROLL for (size_t i = 0; i < 2 * VECS; i++) x[i] = unit(p, u + i / VECS, i % VECS);
        memcpy(r->q + 128 * u, x, sizeof x);
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

/* ---- MLX ---- */

INLINE void mlx_scales(lb_q8_row *r, size_t n_elems, size_t group, const float *scale,
                       const float *bias) {
    for (size_t g = 0; g < lb_q8_chunks(n_elems) * 16; g++) {
        const bool in = 32 * g < n_elems;
        r[g / 16].s[g % 16] = in ? lb_canon_f32(scale[32 * g / group]) : 0;
        r[g / 16].m[g % 16] = in ? lb_canon_f32(bias[32 * g / group]) : 0;
    }
}

static void codes_mlx_fp4(size_t n_elems, size_t group, void *out, const void *in,
                          const float *scale, const float *bias) {
    lb_q8_row *r = out;
    const size_t step = group == 16 ? 16 : 32, per_chunk = LB_Q8_CHUNK / step;
    (void)bias;
    units(n_elems, out, in, 256, step, unit_mlx_fp4, NULL);
    for (size_t i = 0; i < lb_q8_chunks(n_elems) * per_chunk; i++) {
        const bool in_row = step * i < n_elems;
        r[i / per_chunk].s[i % per_chunk] =
            in_row ? lb_canon_f32(scale[step * i / group] * 0.5f) : 0;
        r[i / per_chunk].m[i % per_chunk] = 0;
    }
}

#define LB_Q8_UNITS(id, t, elems, bytes, type)                                              \
    static void codes_##t(size_t n_elems, void *out, const void *in) {                      \
        units(n_elems, out, in, LB_Q8_CHUNK / elems * bytes, (type)&LB_Q8_HALVES ? 16 : 32, \
              unit_##t, scales_##t);                                                        \
    }
#include "kernel/q8_types.def"
#define LB_Q8_MLX(b)                                                                    \
    static void codes_mlx_q##b(size_t n_elems, size_t group, void *out, const void *in, \
                               const float *scale, const float *bias) {                 \
        mlx_scales(out, n_elems, group, scale, bias);                                   \
        units(n_elems, out, in, 64 * b, 32, unit_mlx_q##b, NULL);                       \
    }
LB_Q8_MLX(1)
LB_Q8_MLX(2)
LB_Q8_MLX(3)
LB_Q8_MLX(4)
LB_Q8_MLX(5)
LB_Q8_MLX(6)
LB_Q8_MLX(8)
#undef LB_Q8_MLX
