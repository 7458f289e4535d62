/* SPDX-License-Identifier: Apache-2.0 */
/* quant_fit_scale_lanes.h: lb_fit_symmetric and lb_fit_by_codes (quant_fit_ref.c) for LANES groups
 * at once, one a lane; quant_fit_affine_lanes.h says how. */
#ifndef LB_KERNEL_QUANT_FIT_SCALE_LANES_H
#define LB_KERNEL_QUANT_FIT_SCALE_LANES_H
#ifdef LANES_INLINE

#include "kernel/quant.h"
#include "kernel/quant_lanes.h"

/* codes: nearest(cut * x), clamped. */
typedef struct symmetric_lanes {
    float scale[LANES], cut[LANES];
    u32 zero; /* bit a lane: all codes are 0, not q_max */
    u32 odd;
} symmetric_lanes;

LANES_INLINE vf symmetric_code(vf at, i32 q_max) {
    return vf_code(at, (float)-q_max, (float)(q_max - 1));
}

/* Of two trials at once: they do not depend on each other, so more sums are in flight. */
typedef struct symmetric_trials {
    vf cut[2], xq[2], qq[2];
} symmetric_trials;

LANES_INLINE void symmetric_sums_lanes(symmetric_trials *t, i32 q_max, size_t n, const float *x,
                                       const float *w, const float *wx) {
    vf xq0 = vf_all(0), xq1 = xq0, qq0 = xq0, qq1 = xq0;
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), weight = vf_load(w + LANES * i);
        const vf q0 = symmetric_code(vf_mul(t->cut[0], v), q_max);
        const vf q1 = symmetric_code(vf_mul(t->cut[1], v), q_max);
        xq0 = vf_add(xq0, vf_mul(vf_load(wx + LANES * i), q0));
        xq1 = vf_add(xq1, vf_mul(vf_load(wx + LANES * i), q1));
        qq0 = vf_add(qq0, vf_mul(vf_mul(weight, q0), q0));
        qq1 = vf_add(qq1, vf_mul(vf_mul(weight, q1), q1));
    }
    t->xq[0] = xq0;
    t->xq[1] = xq1;
    t->qq[0] = qq0;
    t->qq[1] = qq1;
}

/* The element of the largest magnitude, 1 in lanes that count as zero; w x in wx. */
LANES_INLINE vf symmetric_start(size_t n, const float *x, const float *w, float *wx, vm *zero) {
    vf magnitude = vf_all(0), most = vf_all(0);
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), a = vf_abs(v);
        most = vf_pick(vf_less(magnitude, a), v, most);
        magnitude = vf_max(a, magnitude);
        vf_store(wx + LANES * i, vf_mul(vf_load(w + LANES * i), v));
    }
    *zero = vf_less(magnitude, vf_all(LB_QUANT_TINY));
    return vf_pick(*zero, vf_all(1), most);
}

/* x, w: [n][LANES]. */
LANES_INLINE void fit_symmetric_lanes(size_t n, i32 q_max, const float *x, const float *w,
                                      symmetric_lanes *out) {
    static const float steps[18] = {-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    alignas(64) float wx[LANES_MAX_ELEMS * LANES];
    vm zero;
    symmetric_trials t;
    const vf most = symmetric_start(n, x, w, wx, &zero);
    t.cut[0] = t.cut[1] = vf_div(vf_all((float)-q_max), most);
    symmetric_sums_lanes(&t, q_max, n, x, w, wx);
    out->odd = ~vm_bits(vf_finite(t.xq[0])) & LANES_ALL;
    vf cut = t.cut[0];
    vf scale = vf_pick(vf_equal(t.qq[0], vf_all(0)), vf_all(0), vf_div(t.xq[0], t.qq[0]));
    vf best = vf_mul(scale, t.xq[0]);
    for (size_t k = 0; k < LB_LEN(steps); k += 2) {
        t.cut[0] = vf_div(vf_all(-((float)q_max + 0.1f * steps[k])), most);
        t.cut[1] = vf_div(vf_all(-((float)q_max + 0.1f * steps[k + 1])), most);
        symmetric_sums_lanes(&t, q_max, n, x, w, wx);
        for (size_t j = 0; j < 2; j++) {
            const vm better = vm_and(vf_less(vf_all(0), t.qq[j]),
                                     vf_less(vf_mul(best, t.qq[j]), vf_square(t.xq[j])));
            const vf new_scale = vf_div(t.xq[j], t.qq[j]);
            cut = vf_pick(better, t.cut[j], cut);
            scale = vf_pick(better, new_scale, scale);
            best = vf_pick(better, vf_mul(new_scale, t.xq[j]), best);
        }
    }
    out->zero = vm_bits(zero);
    vf_store(out->scale, vf_pick(zero, vf_all(0), scale));
    vf_store(out->cut, cut);
}

/* One round of lb_fit_by_codes: each code in turn where it helps; code, x: [n][LANES]. Lanes whose
 * numbers are beyond vf_code go to *odd. Returns those in which a code moved. */
LANES_INLINE u32 move_codes_lanes(size_t n, i32 q_max, const float *x, float *code, vf *xq, vf *qq,
                                  u32 *odd) {
    u32 changed = 0;
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), old = vf_load(code + LANES * i);
        const vf w = vf_square(v), wx = vf_mul(w, v);
        const vf less_xq = vf_sub(*xq, vf_mul(wx, old));
        const vf less_qq = vf_sub(*qq, vf_mul(vf_mul(w, old), old));
        const vm open = vf_less(vf_all(0), less_xq);
        const vf best = vf_pick(open, vf_div(vf_mul(v, less_qq), less_xq), vf_all(0));
        *odd |= ~vm_bits(vf_less(vf_abs(best), vf_all(0x1p20f)));
        const vf moved = symmetric_code(best, q_max);
        const vf new_xq = vf_add(less_xq, vf_mul(wx, moved));
        const vf new_qq = vf_add(less_qq, vf_mul(vf_mul(w, moved), moved));
        const vm gain = vf_less(vf_mul(vf_square(*xq), new_qq), vf_mul(vf_square(new_xq), *qq));
        const vm other = vm_or(vf_less(moved, old), vf_less(old, moved));
        const vm take = vm_and(vm_and(open, other), vm_and(vf_less(vf_all(0), new_qq), gain));
        vf_store(code + LANES * i, vf_pick(take, moved, old));
        *xq = vf_pick(take, new_xq, *xq);
        *qq = vf_pick(take, new_qq, *qq);
        changed |= vm_bits(take);
    }
    return changed;
}

/* lb_fit_by_codes' scales; a lane in which no code moves stays as it is in later rounds. */
LANES_INLINE void fit_by_codes_lanes(size_t n, i32 q_max, const float *x, symmetric_lanes *out) {
    alignas(64) float w[LANES_MAX_ELEMS * LANES], wx[LANES_MAX_ELEMS * LANES];
    alignas(64) float code[LANES_MAX_ELEMS * LANES];
    vm zero;
    for (size_t i = 0; i < n; i++)
        vf_store(w + LANES * i, vf_square(vf_load(x + LANES * i)));
    const vf most = symmetric_start(n, x, w, wx, &zero);
    const vf cut = vf_div(vf_all((float)-q_max), most);
    vf xq = vf_all(0), qq = xq;
    for (size_t i = 0; i < n; i++) {
        const vf q = symmetric_code(vf_mul(cut, vf_load(x + LANES * i)), q_max);
        vf_store(code + LANES * i, q);
        xq = vf_add(xq, vf_mul(vf_load(wx + LANES * i), q));
        qq = vf_add(qq, vf_mul(vf_mul(vf_load(w + LANES * i), q), q));
    }
    out->zero = vm_bits(zero);
    out->odd = ~vm_bits(vf_finite(xq)) & LANES_ALL & ~out->zero;
    for (size_t round = 0; round < 5; round++)
        if (!(move_codes_lanes(n, q_max, x, code, &xq, &qq, &out->odd) & ~out->zero))
            break;
    out->odd &= LANES_ALL & ~out->zero;
    const vf scale = vf_pick(vf_less(vf_all(0), qq), vf_div(xq, qq), vf_all(0));
    vf_store(out->scale, vf_pick(zero, vf_all(0), scale));
}

/* ---- codes of n values (a multiple of HALF) of one group ---- */

/* (x + add) / d. */
LANES_INLINE void codes_by_scale(size_t n, const float *x, float add, float d, i32 lo, i32 hi,
                                 u8 *q) {
    for (size_t i = 0; i < n; i += HALF) {
        const vhi code = vhi_nearest((vh_load(x + i) + vh_all(add)) / vh_all(d));
        vhi_store_bytes(q + i, vhi_clamp(code, lo, hi), -lo);
    }
}

/* cut * (x - from). */
LANES_INLINE void codes_by_cut(size_t n, const float *x, float cut, float from, i32 lo, i32 hi,
                               u8 *q) {
    for (size_t i = 0; i < n; i += HALF) {
        const vhi code = vhi_nearest(vh_all(cut) * (vh_load(x + i) - vh_all(from)));
        vhi_store_bytes(q + i, vhi_clamp(code, lo, hi), -lo);
    }
}

#endif
#endif
