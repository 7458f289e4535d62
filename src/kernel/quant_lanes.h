/* SPDX-License-Identifier: Apache-2.0 */
/* quant_lanes.h: the lanes of the searches: two vectors of quant_lanes_<isa>.h side by side.
 *
 * A search is a chain of dependent sums; two of them in flight hide most of an addition's latency.
 * Every operation rounds as the scalar one does. */
#ifndef LB_KERNEL_QUANT_LANES_H
#define LB_KERNEL_QUANT_LANES_H
#ifdef LANES_INLINE /* after quant_lanes_<isa>.h */

enum { LANES = 2 * HALF };
typedef struct vf {
    vh a, b;
} vf;
typedef struct vm {
    vhm a, b;
} vm; /* a mask */

#define LANES_ALL ((u32)((1ull << LANES) - 1))

#define LANES_1(name, expression)                          \
    LANES_INLINE vh name##_half(vh x) {                    \
        return expression;                                 \
    }                                                      \
    LANES_INLINE vf name(vf v) {                           \
        const vf r = {name##_half(v.a), name##_half(v.b)}; \
        return r;                                          \
    }
#define LANES_2(name, expression)                                    \
    LANES_INLINE vh name##_half(vh x, vh y) {                        \
        return expression;                                           \
    }                                                                \
    LANES_INLINE vf name(vf v, vf w) {                               \
        const vf r = {name##_half(v.a, w.a), name##_half(v.b, w.b)}; \
        return r;                                                    \
    }

LANES_2(vf_add, x + y)
LANES_2(vf_sub, x - y)
LANES_2(vf_mul, x *y)
LANES_2(vf_div, x / y)
LANES_2(vf_min, vh_min(x, y)) /* x < y ? x : y, x > y ? x : y: y where one is a NaN */
LANES_2(vf_max, vh_max(x, y))
LANES_1(vf_sqrt, vh_sqrt(x))
LANES_1(vf_abs, vh_abs(x))
LANES_1(vf_neg, vh_neg(x))
LANES_1(vf_square, x *x)
/* The nearest integer of |x| < 2^22, as a float. */
LANES_1(vf_nearest, (x + vh_all(12582912.0f)) - vh_all(12582912.0f))

LANES_INLINE vf vf_all(float x) {
    const vf r = {vh_all(x), vh_all(x)};
    return r;
}
LANES_INLINE vf vf_load(const float *p) {
    const vf r = {vh_load(p), vh_load(p + HALF)};
    return r;
}
LANES_INLINE void vf_store(float *p, vf v) {
    vh_store(p, v.a);
    vh_store(p + HALF, v.b);
}
LANES_INLINE vm vf_less(vf v, vf w) { /* false where one is a NaN */
    const vm r = {vh_less(v.a, w.a), vh_less(v.b, w.b)};
    return r;
}
LANES_INLINE vm vf_equal(vf v, vf w) {
    const vm r = {vh_equal(v.a, w.a), vh_equal(v.b, w.b)};
    return r;
}
LANES_INLINE vm vm_and(vm v, vm w) {
    const vm r = {vhm_and(v.a, w.a), vhm_and(v.b, w.b)};
    return r;
}
LANES_INLINE vm vm_or(vm v, vm w) {
    const vm r = {vhm_or(v.a, w.a), vhm_or(v.b, w.b)};
    return r;
}
LANES_INLINE u32 vm_bits(vm m) {
    return vhm_bits(m.a) | vhm_bits(m.b) << HALF;
}
LANES_INLINE vf vf_pick(vm m, vf yes, vf no) {
    const vf r = {vh_pick(m.a, yes.a, no.a), vh_pick(m.b, yes.b, no.b)};
    return r;
}
LANES_INLINE vf vf_add_unless(vm m, vf v, vf w) {
    const vf r = {vh_add_unless(m.a, v.a, w.a), vh_add_unless(m.b, v.b, w.b)};
    return r;
}
LANES_INLINE vm vf_finite(vf x) {
    return vf_less(vf_abs(x), vf_all(lb_f32_from_bits(0x7f800000u)));
}

/* out[i][lane] = src[lane][i] for n values (a multiple of HALF). */
LANES_INLINE void lanes_transpose(float *out, const float *const src[LANES], size_t n) {
    half_transpose(out, LANES, src, n);
    half_transpose(out + HALF, LANES, src + HALF, n);
}

/* The nearest integer, as a float, not outside lo..hi, integers themselves; |x| < 2^21. Clamped as
 * an integer: the sum's pattern grows with the sum, and another unit does it. */
LANES_INLINE vh vh_code(vh x, float lo, float hi) {
    const float shift = 12582912.0f;
    const vhi sum = vh_pattern(x + vh_all(shift));
    return vhi_as_floats(
               vhi_clamp(sum, (i32)lb_f32_bits(lo + shift), (i32)lb_f32_bits(hi + shift))) -
           vh_all(shift);
}
LANES_INLINE vf vf_code(vf x, float lo, float hi) {
    const vf r = {vh_code(x.a, lo, hi), vh_code(x.b, lo, hi)};
    return r;
}

/* Lanes that hold the integers of floats, to bytes. */
LANES_INLINE void vf_store_bytes(u8 *p, vf v) {
    vhi_store_bytes(p, vhi_nearest(v.a), 0);
    vhi_store_bytes(p + HALF, vhi_nearest(v.b), 0);
}

#endif
#endif
