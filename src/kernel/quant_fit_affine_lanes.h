/* SPDX-License-Identifier: Apache-2.0 */
/* quant_fit_affine_lanes.h: lb_fit_affine and lb_fit_positive (quant_fit_ref.c) for LANES groups at
 * once, one a lane.
 *
 * A lane does what the reference does, in its order: every product, sum and comparison is the same
 * operation, so the bits are the same. Only codes are made otherwise: rounded, clamped and used as
 * floats, which is the same while they are below 2^22. Lanes for which that or the finiteness of
 * the sums cannot be said are reported as `odd`; the caller hands their blocks to the reference.
 * Which trial was best is kept as what its codes were cut with, not as codes. */
#ifndef LB_KERNEL_QUANT_FIT_AFFINE_LANES_H
#define LB_KERNEL_QUANT_FIT_AFFINE_LANES_H
#ifdef LANES_INLINE

#include "kernel/quant.h"
#include "kernel/quant_lanes.h"

#define LANES_MAX_ELEMS 32

/* codes of the best trial: nearest(cut * (x - from)), clamped. */
typedef struct affine_lanes {
    float scale[LANES], minus[LANES], cut[LANES], from[LANES];
    u32 odd; /* bit a lane */
} affine_lanes;

typedef struct affine_state {
    vf low, top;     /* range of x */
    vf sum_w, sum_x; /* of w and w x */
    vf best_error, scale, min, cut, from;
    vm even; /* lanes that are not odd so far */
} affine_state;

LANES_INLINE vf affine_cut(const affine_state *a, vf parts, vm *even) {
    const vf cut = vf_div(parts, vf_sub(a->top, a->min));
    const vf lowest = vf_abs(vf_mul(cut, vf_sub(a->low, a->min)));
    const vf highest = vf_abs(vf_mul(cut, vf_sub(a->top, a->min)));
    *even =
        vm_and(*even, vm_and(vf_less(lowest, vf_all(0x1p21f)), vf_less(highest, vf_all(0x1p21f))));
    return cut;
}

LANES_INLINE vf affine_code(vf cut, vf x, vf min, float q_max) {
    return vf_code(vf_mul(cut, vf_sub(x, min)), 0, q_max);
}

/* w |scale q + min - x|, or its square's. */
LANES_INLINE vf affine_error(bool absolute, vf w, vf scale, vf min, vf q, vf x) {
    const vf difference = vf_sub(vf_add(vf_mul(scale, q), min), x);
    return vf_mul(w, absolute ? vf_abs(difference) : vf_mul(difference, difference));
}

LANES_INLINE void affine_start(affine_state *a, size_t n, const float *x, const float *w) {
    vf low = vf_load(x), high = low;
    a->sum_w = vf_load(w);
    a->sum_x = vf_mul(a->sum_w, low);
    for (size_t i = 1; i < n; i++) {
        const vf v = vf_load(x + LANES * i), weight = vf_load(w + LANES * i);
        low = vf_min(v, low);
        high = vf_max(v, high);
        a->sum_w = vf_add(a->sum_w, weight);
        a->sum_x = vf_add(a->sum_x, vf_mul(weight, v));
    }
    a->even = vm_and(vf_finite(a->sum_w), vf_finite(a->sum_x));
    a->low = low;
    a->top = high;
    a->min = vf_pick(vf_less(vf_all(0), low), vf_all(0), low);
}

LANES_INLINE void affine_first(affine_state *a, const lb_affine_search *s, size_t n, const float *x,
                               const float *w) {
    const float q_max = (float)s->q_max;
    a->cut = affine_cut(a, vf_all(q_max), &a->even);
    a->from = a->min;
    a->scale = vf_div(vf_all(1), a->cut);
    a->best_error = vf_all(0);
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), q = affine_code(a->cut, v, a->min, q_max);
        a->best_error = vf_add(a->best_error, affine_error(s->absolute, vf_load(w + LANES * i),
                                                           a->scale, a->min, q, v));
    }
}

LANES_INLINE void affine_trial(affine_state *a, const lb_affine_search *s, float parts, size_t n,
                               const float *x, const float *w) {
    const float q_max = (float)s->q_max;
    const vf cut = affine_cut(a, vf_all(parts), &a->even);
    alignas(64) float codes[LANES_MAX_ELEMS * LANES];
    vf sum_q = vf_all(0), sum_qq = vf_all(0), sum_xq = vf_all(0);
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), q = affine_code(cut, v, a->min, q_max);
        const vf wq = vf_mul(vf_load(w + LANES * i), q);
        vf_store(codes + LANES * i, q);
        sum_q = vf_add(sum_q, wq);
        sum_qq = vf_add(sum_qq, vf_mul(wq, q));
        sum_xq = vf_add(sum_xq, vf_mul(wq, v));
    }
    const vf det = vf_sub(vf_mul(a->sum_w, sum_qq), vf_mul(sum_q, sum_q));
    vf scale = vf_div(vf_sub(vf_mul(a->sum_w, sum_xq), vf_mul(a->sum_x, sum_q)), det);
    vf min = vf_div(vf_sub(vf_mul(sum_qq, a->sum_x), vf_mul(sum_q, sum_xq)), det);
    const vm above = vf_less(vf_all(0), min);
    scale = vf_pick(above, vf_div(sum_xq, sum_qq), scale);
    min = vf_pick(above, vf_all(0), min);
    vf error = vf_all(0);
    for (size_t i = 0; i < n; i++)
        error = vf_add(error, affine_error(s->absolute, vf_load(w + LANES * i), scale, min,
                                           vf_load(codes + LANES * i), vf_load(x + LANES * i)));
    const vm better = vm_and(vf_less(vf_all(0), det), vf_less(error, a->best_error));
    a->best_error = vf_pick(better, error, a->best_error);
    a->scale = vf_pick(better, scale, a->scale);
    a->cut = vf_pick(better, cut, a->cut);
    a->from = vf_pick(better, a->min, a->from);
    a->min = vf_pick(better, min, a->min);
}

/* x, w: [n][LANES]. */
LANES_INLINE void fit_affine_lanes(const lb_affine_search *s, size_t n, const float *x,
                                   const float *w, affine_lanes *out) {
    affine_state a;
    affine_start(&a, n, x, w);
    const vf first_min = a.min;
    const vm flat = vf_equal(a.top, a.min);
    a.top = vf_pick(flat, vf_add(a.min, vf_all(1)), a.top);
    affine_first(&a, s, n, x, w);
    for (i32 k = 0; k <= s->n_steps; k++)
        affine_trial(&a, s, s->first + s->step * (float)k + (float)s->q_max, n, x, w);
    vf_store(out->scale, vf_pick(flat, vf_all(0), a.scale));
    vf_store(out->minus, vf_neg(vf_pick(flat, first_min, a.min)));
    vf_store(out->cut, vf_pick(flat, vf_all(0), a.cut));
    vf_store(out->from, vf_pick(flat, vf_all(0), a.from));
    out->odd = ~vm_bits(a.even) & LANES_ALL;
}

/* ---- value = scale * q, q in 0..q_max, x >= 0 ---- */

typedef struct positive_lanes {
    float scale[LANES];
    u8 q[16][LANES];
    u32 odd;
} positive_lanes;

LANES_INLINE vf positive_error_lanes(vf cut, vf q_max, size_t n, const float *x, const float *w) {
    const vf scale = vf_div(vf_all(1), cut);
    vf error = vf_all(0);
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i);
        const vf difference = vf_sub(v, vf_mul(scale, vf_min(vf_nearest(vf_mul(cut, v)), q_max)));
        error = vf_add(error, vf_mul(vf_mul(vf_load(w + LANES * i), difference), difference));
    }
    return error;
}

/* One round over all codes; the lanes that changed. */
LANES_INLINE vm positive_round(size_t n, vf q_max, const float *x, const float *w, vf *code,
                               vf sums[2], vm *even) {
    vm changed = vf_less(q_max, q_max);
    for (size_t i = 0; i < n; i++) {
        const vf weight = vf_load(w + LANES * i), v = vf_load(x + LANES * i);
        const vf wx = vf_mul(weight, v);
        vf xq = vf_sub(sums[0], vf_mul(wx, code[i]));
        vf qq = vf_sub(sums[1], vf_mul(vf_mul(weight, code[i]), code[i]));
        const vm usable = vm_and(vf_less(vf_all(0), xq), vf_less(vf_all(0), qq));
        const vf at = vf_div(vf_mul(v, qq), xq);
        *even = vm_and(*even, vf_less(vf_pick(usable, vf_abs(at), vf_all(0)), vf_all(0x1p21f)));
        const vf moved = vf_min(vf_nearest(at), q_max);
        xq = vf_add(xq, vf_mul(wx, moved));
        qq = vf_add(qq, vf_mul(vf_mul(weight, moved), moved));
        vm better = vm_and(
            usable, vf_less(vf_mul(vf_mul(sums[0], sums[0]), qq), vf_mul(vf_mul(xq, xq), sums[1])));
        better = vm_and(better, vm_or(vf_less(moved, code[i]), vf_less(code[i], moved)));
        code[i] = vf_pick(better, moved, code[i]);
        sums[0] = vf_pick(better, xq, sums[0]);
        sums[1] = vf_pick(better, qq, sums[1]);
        changed = vm_or(changed, better);
    }
    return changed;
}

/* x, w: [n][LANES], n <= 16. */
LANES_INLINE void fit_positive_lanes(size_t n, i32 q_limit, const float *x, const float *w,
                                     positive_lanes *out) {
    const vf q_max = vf_all((float)q_limit);
    vf max = vf_all(0), sums[2] = {vf_all(0), vf_all(0)}, code[16];
    vm even = vf_equal(max, max);
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i);
        max = vf_max(max, v);
        even = vm_and(even, vm_and(vf_less(vf_all(-0x1p-149f), v), vf_finite(v)));
        even = vm_and(even, vf_finite(vf_load(w + LANES * i)));
    }
    const vm zero = vf_less(max, vf_all(LB_QUANT_TINY));
    max = vf_pick(zero, vf_all(1), max);
    vf cut = vf_div(q_max, max), best = positive_error_lanes(cut, q_max, n, x, w);
    for (i32 k = -4; k <= 4; k++) {
        if (k == 0)
            continue;
        const vf trial = vf_div(vf_all(0.1f * (float)k + (float)q_limit), max);
        const vf error = positive_error_lanes(trial, q_max, n, x, w);
        const vm better = vf_less(error, best);
        best = vf_pick(better, error, best);
        cut = vf_pick(better, trial, cut);
    }
    for (size_t i = 0; i < n; i++) {
        const vf v = vf_load(x + LANES * i), weight = vf_load(w + LANES * i);
        code[i] = vf_min(vf_nearest(vf_mul(cut, v)), q_max);
        sums[0] = vf_add(sums[0], vf_mul(vf_mul(weight, v), code[i]));
        sums[1] = vf_add(sums[1], vf_mul(vf_mul(weight, code[i]), code[i]));
    }
    for (i32 round = 0; round < 5; round++)
        if (!vm_bits(positive_round(n, q_max, x, w, code, sums, &even)))
            break;
    const vf scale = vf_pick(vf_less(vf_all(0), sums[1]), vf_div(sums[0], sums[1]), vf_all(0));
    vf_store(out->scale, vf_pick(zero, vf_all(0), scale));
    for (size_t i = 0; i < n; i++)
        vf_store_bytes(out->q[i], vf_pick(zero, vf_all(0), code[i]));
    out->odd = ~vm_bits(even) & LANES_ALL;
}

#endif
#endif
