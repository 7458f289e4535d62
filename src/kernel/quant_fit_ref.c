/* SPDX-License-Identifier: Apache-2.0 */
/* quant_fit_ref.c: the searches for a group's scale that the quantizers share. quant.h says where
 * the arithmetic comes from and why its order matters. */
#include "kernel/quant.h"

/* The element of the largest magnitude, the first of equals; 0 where none is above zero. */
static float extreme(size_t n, const float *x, float *magnitude) {
    float most = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        if (a > most) {
            most = a;
            at = x[i];
        }
    }
    *magnitude = most;
    return at;
}

/* Sums of w x q and w q q for codes that the scale 1 / inverse gives: scale = xq / qq. */
typedef struct sums {
    float xq, qq;
} sums;

static sums symmetric_sums(size_t n, i32 q_max, const float *x, const float *w, float inverse) {
    sums s = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const float q = (float)lb_clamp(lb_nearest(inverse * x[i]), -q_max, q_max - 1);
        const float weight = w ? w[i] : x[i] * x[i];
        s.xq += weight * x[i] * q;
        s.qq += weight * q * q;
    }
    return s;
}

float lb_fit_symmetric(size_t n, i32 q_max, const float *x, const float *w, u8 *q) {
    float magnitude;
    const float most = extreme(n, x, &magnitude);
    if (magnitude < LB_QUANT_TINY) {
        memset(q, 0, n);
        return 0;
    }
    float inverse = (float)-q_max / most; /* the extreme gets the code with no counterpart */
    sums s = symmetric_sums(n, q_max, x, w, inverse);
    float scale = s.qq != 0 ? s.xq / s.qq : 0; /* a NaN sum is not zero */
    float best = scale * s.xq;
    for (i32 k = -9; k <= 9; k++) {
        if (k == 0)
            continue;
        const float trial = -((float)q_max + 0.1f * (float)k) / most;
        s = symmetric_sums(n, q_max, x, w, trial);
        if (s.qq > 0 && s.xq * s.xq > best * s.qq) {
            inverse = trial;
            scale = s.xq / s.qq;
            best = scale * s.xq;
        }
    }
    for (size_t i = 0; i < n; i++)
        q[i] = (u8)(q_max + lb_clamp(lb_nearest(inverse * x[i]), -q_max, q_max - 1));
    return scale;
}

/* One round over all codes; whether one changed. code[i] is signed here. */
static bool move_codes(size_t n, i32 q_max, const float *x, i32 *code, sums *s) {
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        const float w = x[i] * x[i], old = (float)code[i];
        float xq = s->xq - w * x[i] * old;
        if (!(xq > 0))
            continue;
        float qq = s->qq - w * old * old;
        const i32 moved = lb_clamp(lb_nearest(x[i] * qq / xq), -q_max, q_max - 1);
        if (moved == code[i])
            continue;
        xq += w * x[i] * (float)moved;
        qq += w * (float)moved * (float)moved;
        if (qq > 0 && xq * xq * s->qq > s->xq * s->xq * qq) {
            code[i] = moved;
            s->xq = xq;
            s->qq = qq;
            changed = true;
        }
    }
    return changed;
}

float lb_fit_by_codes(size_t n, i32 q_max, const float *x, u8 *q) {
    float magnitude;
    const float most = extreme(n, x, &magnitude);
    if (magnitude < LB_QUANT_TINY) {
        memset(q, 0, n);
        return 0;
    }
    const float inverse = (float)-q_max / most;
    i32 code[32];
    for (size_t i = 0; i < n; i++)
        code[i] = lb_clamp(lb_nearest(inverse * x[i]), -q_max, q_max - 1);
    sums s = symmetric_sums(n, q_max, x, NULL, inverse);
    for (i32 round = 0; round < 5; round++)
        if (!move_codes(n, q_max, x, code, &s))
            break;
    for (size_t i = 0; i < n; i++)
        q[i] = (u8)(code[i] + q_max);
    return s.qq > 0 ? s.xq / s.qq : 0;
}

static float error_of(bool absolute, float difference) {
    return absolute ? fabsf(difference) : difference * difference;
}

typedef struct affine {
    float scale, min;
} affine;

static float affine_error(bool absolute, size_t n, const float *x, const float *w, const u8 *q,
                          affine a) {
    float error = 0;
    for (size_t i = 0; i < n; i++)
        error += w[i] * error_of(absolute, a.scale * (float)q[i] + a.min - x[i]);
    return error;
}

static void affine_codes(size_t n, i32 q_max, const float *x, float inverse, float min, u8 *q) {
    for (size_t i = 0; i < n; i++)
        q[i] = (u8)lb_clamp(lb_nearest(inverse * (x[i] - min)), 0, q_max);
}

/* Least squares for given codes, the minimum not above zero; false where the codes are all equal.
 */
static bool affine_solve(size_t n, const float *x, const float *w, const u8 *q, float sum_w,
                         float sum_x, affine *a) {
    float sum_q = 0, sum_qq = 0, sum_xq = 0;
    for (size_t i = 0; i < n; i++) {
        const float code = (float)q[i];
        sum_q += w[i] * code;
        sum_qq += w[i] * code * code;
        sum_xq += w[i] * code * x[i];
    }
    const float det = sum_w * sum_qq - sum_q * sum_q;
    if (!(det > 0))
        return false;
    a->scale = (sum_w * sum_xq - sum_x * sum_q) / det;
    a->min = (sum_qq * sum_x - sum_q * sum_xq) / det;
    if (a->min > 0) {
        a->min = 0;
        a->scale = sum_xq / sum_qq;
    }
    return true;
}

float lb_fit_affine(const lb_affine_search *s, size_t n, const float *x, const float *w, u8 *q,
                    float *minus) {
    float min = x[0], max = x[0];
    float sum_w = w[0], sum_x = w[0] * x[0];
    for (size_t i = 1; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (min > 0)
        min = 0;
    *minus = -min;
    if (max == min) {
        memset(q, 0, n);
        return 0;
    }
    const float range = max - min;
    const float inverse = (float)s->q_max / range;
    affine best = {1 / inverse, min};
    affine_codes(n, s->q_max, x, inverse, min, q);
    float best_error = affine_error(s->absolute, n, x, w, q, best);
    u8 trial[32];
    for (i32 k = 0; k <= s->n_steps; k++) {
        affine a;
        /* as in ggml, codes are cut from the minimum of the best fit so far, in steps of the range
         */
        affine_codes(n, s->q_max, x,
                     (s->first + s->step * (float)k + (float)s->q_max) / (max - best.min), best.min,
                     trial);
        if (!affine_solve(n, x, w, trial, sum_w, sum_x, &a))
            continue;
        const float error = affine_error(s->absolute, n, x, w, trial, a);
        if (error < best_error) {
            memcpy(q, trial, n);
            best_error = error;
            best = a;
        }
    }
    *minus = -best.min;
    return best.scale;
}

static float positive_error(size_t n, i32 q_limit, const float *x, const float *w, float inverse) {
    const float scale = 1 / inverse;
    float error = 0;
    for (size_t i = 0; i < n; i++) {
        const i32 q = lb_nearest(inverse * x[i]);
        const float difference = x[i] - scale * (float)(q > q_limit ? q_limit : q);
        error += w[i] * difference * difference;
    }
    return error;
}

/* One round over all codes, as move_codes, for codes of one sign. */
static bool move_positive(size_t n, i32 q_max, const float *x, const float *w, u8 *q, sums *s) {
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        const float old = (float)q[i];
        float xq = s->xq - w[i] * x[i] * old;
        float qq = s->qq - w[i] * old * old;
        if (!(xq > 0 && qq > 0))
            continue;
        i32 moved = lb_nearest(x[i] * qq / xq);
        moved = moved > q_max ? q_max : moved;
        if (moved == q[i])
            continue;
        xq += w[i] * x[i] * (float)moved;
        qq += w[i] * (float)moved * (float)moved;
        if (xq * xq * s->qq > s->xq * s->xq * qq) {
            q[i] = (u8)moved;
            s->xq = xq;
            s->qq = qq;
            changed = true;
        }
    }
    return changed;
}

float lb_fit_positive(size_t n, i32 q_max, const float *x, const float *w, u8 *q) {
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = max > x[i] ? max : x[i];
    if (max < LB_QUANT_TINY) {
        memset(q, 0, n);
        return 0;
    }
    float inverse = (float)q_max / max;
    float best;
    { /* the first trial's codes pass through a byte, so a negative one counts as q + 256 */
        const float scale = 1 / inverse;
        best = 0;
        for (size_t i = 0; i < n; i++) {
            const float difference = x[i] - scale * (float)(u8)lb_nearest(inverse * x[i]);
            best += w[i] * difference * difference;
        }
    }
    for (i32 k = -4; k <= 4; k++) {
        if (k == 0)
            continue;
        const float trial = (0.1f * (float)k + (float)q_max) / max;
        const float error = positive_error(n, q_max, x, w, trial);
        if (error < best) {
            best = error;
            inverse = trial;
        }
    }
    sums s = {0, 0};
    for (size_t i = 0; i < n; i++) {
        i32 code = lb_nearest(inverse * x[i]);
        code = code > q_max ? q_max : code;
        q[i] = (u8)code;
        s.xq += w[i] * x[i] * (float)code;
        s.qq += w[i] * (float)code * (float)code;
    }
    for (i32 round = 0; round < 5; round++)
        if (!move_positive(n, q_max, x, w, q, &s))
            break;
    return s.qq > 0 ? s.xq / s.qq : 0;
}
