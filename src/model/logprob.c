/* SPDX-License-Identifier: Apache-2.0 */
/* logprob.c: see logprob.h. */
#include "model/logprob.h"
#include "kernel/exp_series.h"
#include <math.h>

#define BLOCK 256 /* terms that are summed before they go into the total */

static double power_of_two(i64 e) {
    u64 bits = (u64)(e + 1023) << 52;
    double two;
    memcpy(&two, &bits, sizeof two);
    return two;
}

double lb_exp_f64(double x) {
    if (!(x > -745.0))
        return x < 0 ? 0 : x; /* NaN stays */
    if (x > 709.0)
        return INFINITY;
    const double t = x * LB_EXP_LOG2_E;
    const i64 k = (i64)(t < 0 ? t - 0.5 : t + 0.5);
    const double r = (x - (double)k * LB_EXP_LN2_HIGH) - (double)k * LB_EXP_LN2_LOW;
    double sum = lb_exp_series[0];
    for (u32 i = 1; i < LB_LEN(lb_exp_series); i++)
        sum = sum * r + lb_exp_series[i];
    /* In two steps: the result may be below the least normal number. */
    return sum * power_of_two(k / 2) * power_of_two(k - k / 2);
}

/* x = 2^e m with m in [0.707, 1.415): e ln2 + 2 atanh((m - 1) / (m + 1)). */
double lb_log_f64(double x) {
    if (!(x > 0))
        return x == 0 ? -INFINITY : NAN;
    if (x > 0x1.fffffffffffffp+1023)
        return x;
    i64 e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p+54;
        e = -54;
    }
    u64 bits;
    memcpy(&bits, &x, sizeof bits);
    const i64 own = (i64)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | (u64)1023 << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    e += own;
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1) / (m + 1), q = s * s;
    double tail = 1.0 / 25;
    for (int n = 23; n >= 3; n -= 2)
        tail = 1.0 / n + q * tail;
    return (double)e * LB_EXP_LN2_HIGH + ((double)e * LB_EXP_LN2_LOW + 2 * (s + s * q * tail));
}

double lb_log_sum_exp(const lb_kernels *k, const float *logits, u32 n) {
    const float max = k->max_f32(n, logits);
    if (isinf(max))
        return (double)max;
    return (double)max + lb_log_f64(k->sum_exp_f64(n, logits, max));
}

bool lb_logprob_first(const float *x, u32 n, u32 *top) {
    *top = 0;
    for (u32 i = 0; i < n; i++) {
        if (!(x[i] < INFINITY))
            return false;
        if (x[i] > x[*top])
            *top = i;
    }
    return n && x[*top] > -INFINITY;
}

/* With a = p[i] - max p, b = q[i] - max q and sums P of exp(a), Q of exp(b), the divergence is the
 * sum of exp(a) (a - b), over P, less log(P / Q): one visit, and no difference of large numbers. */
bool lb_logprob_compare(const float *p, const float *q, u32 n, u32 token, lb_logprob_pair *out) {
    double sum_p = 0, sum_q = 0, sum = 0;
    u32 top_p, top_q;
    bool ruled_out = false;
    if (!lb_logprob_first(p, n, &top_p) || !lb_logprob_first(q, n, &top_q))
        return false;
    const double max_p = (double)p[top_p], max_q = (double)q[top_q];
    for (u32 i = 0; i < n; i += BLOCK) {
        double part_p = 0, part_q = 0, part = 0;
        for (u32 j = i; j < LB_MIN(n, i + BLOCK); j++) {
            const double a = (double)p[j] - max_p, b = (double)q[j] - max_q;
            const double e = lb_exp_f64(a);
            part_p += e;
            part_q += lb_exp_f64(b);
            if (b > -INFINITY)
                part += e > 0 ? e * (a - b) : 0;
            else
                ruled_out |= a > -INFINITY;
        }
        sum_p += part_p;
        sum_q += part_q;
        sum += part;
    }
    const double kl = sum / sum_p - lb_log_f64(sum_p / sum_q);
    *out = (lb_logprob_pair){.kl = ruled_out ? INFINITY : LB_MAX(kl, 0.0),
                             .p = (double)p[token] - max_p - lb_log_f64(sum_p),
                             .q = (double)q[token] - max_q - lb_log_f64(sum_q),
                             .same_top = top_p == top_q};
    return true;
}

/* a comes behind b. */
static bool worse(lb_token_logprob a, lb_token_logprob b) {
    return a.logprob < b.logprob || (a.logprob == b.logprob && a.token > b.token);
}

/* The worst of the heap is on top. */
static void sift(lb_token_logprob *heap, u32 n, u32 i) {
    for (;;) {
        u32 c = 2 * i + 1;
        if (c >= n)
            return;
        if (c + 1 < n && worse(heap[c + 1], heap[c]))
            c++;
        if (!worse(heap[c], heap[i]))
            return;
        lb_token_logprob swap = heap[c];
        heap[c] = heap[i];
        heap[i] = swap;
        i = c;
    }
}

u32 lb_logprob_top(const float *logits, u32 n, u32 k, double all, lb_token_logprob *out) {
    k = LB_MIN(k, n);
    if (!k)
        return 0;
    for (u32 i = 0; i < n; i++) {
        lb_token_logprob x = {i, logits[i] > -INFINITY ? (double)logits[i] : -INFINITY};
        if (i < k) {
            out[i] = x;
            for (u32 j = k / 2; i + 1 == k && j-- > 0;)
                sift(out, k, j);
        } else if (worse(out[0], x)) {
            out[0] = x;
            sift(out, k, 0);
        }
    }
    for (u32 end = k; end > 1; end--) {
        lb_token_logprob swap = out[0];
        out[0] = out[end - 1];
        out[end - 1] = swap;
        sift(out, end - 1, 0);
    }
    for (u32 i = 0; i < k; i++)
        out[i].logprob =
            isinf(all) ? (out[i].logprob == all && all > 0 ? 0 : -INFINITY) : out[i].logprob - all;
    return k;
}

u32 lb_logprob_rank(const float *logits, u32 n, u32 token) {
    u32 before = 0;
    const float own = logits[token];
    if (!(own > -INFINITY)) {
        for (u32 i = 0; i < n; i++)
            before += logits[i] > -INFINITY || i < token;
        return before;
    }
    for (u32 i = 0; i < n; i++)
        before += logits[i] > own || (logits[i] == own && i < token);
    return before;
}
