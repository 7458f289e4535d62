/* SPDX-License-Identifier: Apache-2.0 */
/* quant_tmpl.h: the quantizers' loops, written once in the words of quant_<isa>.h.
 *
 * Up to 16 groups are a batch: their values become f32 in a buffer that stays in the first cache
 * while their ranges are taken; scales and biases of all are computed and stored in vectors; then
 * the codes are made, 64 at a time. What the vectors do not hold to the letter (a NaN or Inf in a
 * group, a scale that does not fit its type) is done again, one group at a time, by the reference.
 *
 * Rounding half away from zero is trunc(x + 0.49999997) for x >= 0: the sum rounds up to the next
 * whole number exactly from the middle on. Every operation else is the reference's. */
#ifndef LB_KERNEL_QUANT_TMPL_H
#define LB_KERNEL_QUANT_TMPL_H

enum { BATCH = 16, BATCH_ELEMS = 2048, N_VEC = 64 / V_LANES };

typedef struct batch {
    size_t n, group;                        /* groups, elements of one */
    _Alignas(64) float v[BATCH_ELEMS + 64]; /* the values, zeros where the last chunk is cut */
    float lo[BATCH], hi[BATCH];
    float scale[BATCH], bias[BATCH];
    u32 redo; /* a bit for each group that goes to the reference */
} batch;

#define V_INLINE static inline __attribute__((always_inline))

/* The values are not set: they are many. */
V_INLINE void batch_init(batch *b, size_t group) {
    b->group = group;
    memset(b->lo, 0, sizeof b->lo);
    memset(b->hi, 0, sizeof b->hi);
    memset(b->scale, 0, sizeof b->scale);
    memset(b->bias, 0, sizeof b->bias);
}

/* What follows the last value, to the end of its chunk. */
V_INLINE void batch_end(batch *b) {
    const size_t n = b->n * b->group;
    memset(b->v + n, 0, (64 - n % 64) * sizeof(float));
}

V_INLINE vec v_abs(vec x) {
    return v_floats(vi_and(v_bits(x), vi_set(0x7fffffff)));
}

V_INLINE vec v_neg(vec x) {
    return v_sub(v_set(-0.0f), x);
}

V_INLINE vec v_load_as(const u8 *p, size_t i, lb_round type) {
    return type == LB_ROUND_NONE   ? v_load_f32(p + 4 * i)
           : type == LB_ROUND_BF16 ? v_load_bf16(p + 2 * i)
                                   : v_load_f16(p + 2 * i);
}

/* Of numbers and infinities. */
V_INLINE vec v_round_bf16(vec x) {
    const vint b = v_bits(x), odd = vi_and(vi_srl(b, 16), vi_set(1));
    return v_floats(vi_and(vi_add(vi_add(b, vi_set(0x7fff)), odd), vi_set(0xffff0000u)));
}

V_INLINE vec v_round_as(vec x, lb_round type) {
    return type == LB_ROUND_NONE ? x : type == LB_ROUND_BF16 ? v_round_bf16(x) : v_round_f16(x);
}

/* Inf and NaN. */
V_INLINE vmask v_not_finite(vec x) {
    return vi_gt(vi_and(v_bits(x), vi_set(0x7fffffff)), vi_set(0x7f7fffff));
}

/* Stores BATCH values, `n` of them to stay, rounded to the type; a bit for each that is not finite.
 */
static u32 store_rounded(u8 *out, size_t n, const float *x, lb_round type) {
    u8 bytes[4 * BATCH];
    u32 odd = 0;
#pragma GCC unroll 4
    for (size_t i = 0; i < BATCH; i += V_LANES) {
        const vec r = v_round_as(v_load(x + i), type);
        odd |= v_mask_bits(v_not_finite(r)) << i;
        if (type == LB_ROUND_NONE)
            v_put((float *)(void *)(bytes + 4 * i), r);
        else if (type == LB_ROUND_BF16)
            v_put_high(bytes + 2 * i, r);
        else
            v_put_f16(bytes + 2 * i, r);
    }
    memcpy(out, bytes, n * lb_float_bytes(type));
    return odd;
}

/* ---- the first pass ---- */

V_INLINE void range_groups_as(batch *b, const u8 *in, lb_round type) {
    float *v = b->v;
    for (size_t g = 0; g < b->n; g++) {
        vec lo = v_set(lb_f32_from_bits(0x7f800000u)), hi = v_neg(lo), odd = v_set(0);
        for (size_t i = 0; i < b->group; i += V_LANES) {
            const vec x = v_load_as(in, i, type);
            v_put(v + i, x);
            lo = v_min(x, lo);
            hi = v_max(x, hi);
            odd = v_fma(x, v_set(0), odd); /* NaN where x is not finite */
        }
        v_reduce(lo, hi, &b->lo[g], &b->hi[g]);
        b->redo |= (u32)v_any_nan(odd) << g;
        in += b->group * lb_float_bytes(type);
        v += b->group;
    }
}

/* Values, minima and maxima of b->n groups of a multiple of V_LANES. */
static void range_groups(batch *b, const u8 *in, lb_round type) {
    b->redo = 0;
    if (type == LB_ROUND_NONE)
        range_groups_as(b, in, LB_ROUND_NONE);
    else if (type == LB_ROUND_BF16)
        range_groups_as(b, in, LB_ROUND_BF16);
    else
        range_groups_as(b, in, LB_ROUND_F16);
    batch_end(b);
}

/* ---- codes ---- */

/* Walks a batch in chunks of 64; group[h] is the group of half h (groups of a multiple of 32). */
typedef struct chunks {
    size_t at, n_elems, per, rest;
    size_t group[2], next;
} chunks;

V_INLINE chunks chunks_of(const batch *b) {
    return (chunks){.n_elems = b->n * b->group, .per = b->group / 32, .rest = b->group / 32};
}

V_INLINE bool chunks_next(chunks *c, bool first) {
    c->at += first ? 0 : 64;
    if (c->at >= c->n_elems)
        return false;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        c->group[h] = LB_MIN(c->next, (size_t)BATCH - 1);
        if (--c->rest == 0) {
            c->rest = c->per;
            c->next++;
        }
    }
    return true;
}

/* A chunk's codes to where they belong; the last may be cut after its first half. */
V_INLINE void put_chunk(u8 *codes, const chunks *c, bytes64 x, u32 bits) {
    u8 *at = codes + c->at / 8 * bits;
    if (c->n_elems - c->at >= 64) {
        b_pack(at, x, bits);
        return;
    }
    u8 cut[64];
    b_pack(cut, x, bits);
    memcpy(at, cut, 4 * bits);
}

V_INLINE vec round_away(vec x) {
    return v_trunc(v_add(x, v_set(0x1.fffffep-2f)));
}

/* E4M3 without sign of magnitudes that are no NaN; what exceeds 448 becomes it. */
V_INLINE vint e4m3_codes(vec a) {
    const vint b = vi_min(v_bits(a), vi_set(0x43e00000));
    const vint low = vi_sub(v_bits(v_add(v_floats(b), v_set(0x1p14f))), vi_set(0x46800000));
    const vint odd = vi_and(vi_srl(b, 20), vi_set(1));
    const vint high = vi_srl(vi_add(vi_add(b, odd), vi_set(0x7ffffu - (120u << 23))), 20);
    return vi_pick(vi_gt(vi_set(0x3c800000), b), low, high);
}

V_INLINE vint e4m3_signed(vec x) {
    const vint sign = vi_and(vi_srl(v_bits(x), 24), vi_set(0x80));
    return vi_or(e4m3_codes(v_abs(x)), sign);
}

#endif
