/* SPDX-License-Identifier: Apache-2.0 */
/* sample_steps.c: the steps of a sampler but DRY. Each changes logits or drops candidates; those
 * that llama.cpp keeps with a logit of -inf are kept, because later steps count them. */
#include "model/sample_internal.h"
#include <float.h>
#include <math.h>

static float exp_f32(const lb_sampler *s, float x) {
    float y;
    s->k->map_exp_f32(1, &y, &x);
    return y;
}

static float log_f32(const lb_sampler *s, float x) {
    float y;
    s->k->map_log_f32(1, &y, &x);
    return y;
}

static float largest(const lb_sampler *s) {
    float max = s->logit[0];
    for (u32 i = 1; !s->sorted && i < s->n; i++)
        max = s->logit[i] > max ? s->logit[i] : max;
    return max;
}

/* p[i] = exp(logit[i] - max), not yet divided by their sum, which is returned. At least one logit
 * is finite. */
static double weights(lb_sampler *s) {
    float max = largest(s);
    double sum = 0;
    for (u32 i = 0; i < s->n; i++)
        s->p[i] = s->logit[i] - max;
    s->k->map_exp_f32(s->n, s->p, s->p);
    for (u32 i = 0; i < s->n; i++)
        sum += (double)s->p[i];
    return sum;
}

static void softmax(lb_sampler *s) {
    double sum = weights(s);
    for (u32 i = 0; i < s->n; i++)
        s->p[i] = (float)((double)s->p[i] / sum);
}

/* The penalty of llama.cpp: a division alone would raise negative logits. */
static float penalized(const lb_sample_opts *o, float logit, u32 count) {
    logit = logit <= 0 ? logit * o->penalty_repeat : logit / o->penalty_repeat;
    return logit - ((float)count * o->penalty_freq + o->penalty_present);
}

bool lb_sample_penalizes(const lb_sample_opts *o) {
    return o->penalty_last_n &&
           (o->penalty_repeat != 1 || o->penalty_freq != 0 || o->penalty_present != 0);
}

void lb_sample_penalties(lb_sampler *s) {
    const lb_sample_opts *o = &s->o;
    if (!lb_sample_penalizes(o))
        return;
    if (s->dense) {
        /* Each token of the window once: where it stands last. */
        for (u32 i = 0; i < s->window_n; i++) {
            u32 t = s->window[i];
            if (s->count[t] & 0x80000000u)
                continue;
            s->logit[t] = penalized(o, s->logit[t], s->count[t]);
            s->count[t] |= 0x80000000u;
        }
        for (u32 i = 0; i < s->window_n; i++)
            s->count[s->window[i]] &= 0x7fffffffu;
    } else {
        for (u32 i = 0; i < s->n; i++)
            if (s->count[s->id[i]])
                s->logit[i] = penalized(o, s->logit[i], s->count[s->id[i]]);
    }
    s->sorted = false;
}

void lb_sample_top_n_sigma(lb_sampler *s) {
    if (s->o.top_n_sigma <= 0 || s->n <= 1)
        return;
    double sum = 0, squares = 0;
    u32 n = 0;
    for (u32 i = 0; i < s->n; i++)
        if (s->logit[i] > -INFINITY) {
            sum += (double)s->logit[i];
            n++;
        }
    const double mean = n ? sum / n : 0;
    for (u32 i = 0; i < s->n; i++)
        if (s->logit[i] > -INFINITY) {
            double d = (double)s->logit[i] - mean;
            squares += d * d;
        }
    const float deviation = n ? (float)sqrt(squares / n) : 0;
    const float least = largest(s) - s->o.top_n_sigma * deviation;
    for (u32 i = 0; i < s->n; i++)
        if (s->logit[i] < least)
            s->logit[i] = -INFINITY;
}

void lb_sample_top_k(lb_sampler *s) {
    if (s->o.top_k > 0)
        lb_sample_keep_top(s, (u32)s->o.top_k);
}

/* Candidates in the order of | -log p - entropy | until their sum is above p. */
void lb_sample_typical(lb_sampler *s) {
    if (s->o.typical >= 1)
        return;
    softmax(s);
    float *logs = (float *)(void *)s->spare;
    s->k->map_log_f32(s->n, logs, s->p);
    double entropy = 0;
    for (u32 i = 0; i < s->n; i++)
        if (s->p[i] > 0)
            entropy -= (double)s->p[i] * (double)logs[i];
    for (u32 i = 0; i < s->n; i++) {
        float score = (float)fabs(-(double)logs[i] - entropy);
        s->keys[i] = (u64)lb_f32_bits(score) << 32 | i;
    }
    u32 k = s->n > 1024 ? 256 : s->n, n = s->n;
    lb_sample_least(s->keys, s->n, k, s->spare);
    double sum = 0;
    for (u32 i = 0; i < s->n; i++) {
        if (i == k) {
            k = s->n;
            lb_sample_least(s->keys, s->n, k, s->spare);
        }
        sum += (double)s->p[(u32)s->keys[i]];
        if (sum > (double)s->o.typical && (!s->o.min_keep || i >= s->o.min_keep - 1)) {
            n = i + 1;
            break;
        }
    }
    /* Through spare: a place may be read after another was written. */
    for (u32 i = 0; i < n; i++) {
        u32 at = (u32)s->keys[i];
        s->spare[i] = (u64)lb_f32_bits(s->logit[at]) << 32 | s->id[at];
    }
    for (u32 i = 0; i < n; i++) {
        s->logit[i] = lb_f32_from_bits((u32)(s->spare[i] >> 32));
        s->id[i] = (u32)s->spare[i];
    }
    s->n = n;
    s->sorted = s->dense = false;
}

void lb_sample_top_p(lb_sampler *s) {
    if (s->o.top_p >= 1)
        return;
    const u32 all = s->n;
    const double total = weights(s);
    const float max = largest(s);
    u32 k = all > 1024 ? 256 : all, n = all;
    const bool was_sorted = s->sorted;
    if (!was_sorted) {
        for (u32 i = 0; i < all; i++)
            s->keys[i] = lb_sample_key(s->logit[i], s->id[i]);
        lb_sample_least(s->keys, all, k, s->spare);
    }
    double sum = 0;
    for (u32 i = 0; i < all; i++) {
        if (!was_sorted && i == k) {
            k = all;
            lb_sample_least(s->keys, all, k, s->spare);
        }
        float w = was_sorted ? s->p[i] : exp_f32(s, lb_sample_key_logit(s->keys[i]) - max);
        sum += (double)(float)((double)w / total);
        if (sum >= (double)s->o.top_p && i + 1 >= s->o.min_keep) {
            n = i + 1;
            break;
        }
    }
    for (u32 i = 0; !was_sorted && i < n; i++) {
        s->id[i] = (u32)s->keys[i];
        s->logit[i] = lb_sample_key_logit(s->keys[i]);
    }
    s->n = n;
    s->sorted = true;
    s->dense = false;
}

void lb_sample_min_p(lb_sampler *s) {
    if (s->o.min_p <= 0 || !s->n)
        return;
    const float least = largest(s) + log_f32(s, s->o.min_p);
    u32 n = 0;
    if (!s->sorted) {
        for (u32 i = 0; i < s->n; i++)
            n += s->logit[i] >= least;
        if (n && n >= s->o.min_keep) {
            n = 0;
            for (u32 i = 0; i < s->n; i++)
                if (s->logit[i] >= least) {
                    s->logit[n] = s->logit[i];
                    s->id[n++] = s->id[i];
                }
            s->dense = s->dense && n == s->n_vocab;
            s->n = n;
            return;
        }
        lb_sample_keep_top(s, s->n);
    }
    for (n = 1; n < s->n; n++)
        if (s->logit[n] < least && n >= s->o.min_keep)
            break;
    s->n = n;
    s->dense = s->dense && n == s->n_vocab;
}

/* As libstdc++'s generate_canonical<float, 24> over 32 random bits. */
static float uniform_f32(lb_mt19937 *m, const lb_kernels *k) {
    float u = (float)lb_mt19937_next(m, k) * 0x1p-32f;
    return u >= 1 ? 0x1.fffffep-1f : u;
}

/* The same for double, of 64 bits. */
static double uniform_f64(lb_mt19937 *m, const lb_kernels *k) {
    double low = (double)lb_mt19937_next(m, k);
    double u = (low + (double)lb_mt19937_next(m, k) * 0x1p+32) * 0x1p-64;
    return u >= 1 ? 0x1.fffffffffffffp-1 : u;
}

void lb_sample_xtc(lb_sampler *s) {
    const lb_sample_opts *o = &s->o;
    if (o->xtc_probability <= 0 || o->xtc_threshold > 0.5f || s->n < 2)
        return;
    if (uniform_f32(&s->xtc_rng, s->k) > o->xtc_probability)
        return;
    lb_sample_keep_top(s, s->n);
    softmax(s);
    u32 last = 0;
    for (u32 i = 0; i < s->n && s->p[i] >= o->xtc_threshold; i++)
        last = i;
    if (!last || s->n - last < o->min_keep)
        return;
    s->n -= last;
    memmove(s->logit, s->logit + last, s->n * sizeof *s->logit);
    memmove(s->id, s->id + last, s->n * sizeof *s->id);
}

static void divide(lb_sampler *s, float temperature) {
    if (temperature > 0) {
        for (u32 i = 0; i < s->n; i++)
            s->logit[i] /= temperature;
        return;
    }
    u32 best = 0;
    for (u32 i = 1; i < s->n; i++)
        if (s->logit[i] > s->logit[best])
            best = i;
    for (u32 i = 0; i < s->n; i++)
        if (i != best)
            s->logit[i] = -INFINITY;
}

void lb_sample_temperature(lb_sampler *s, bool dynamic) {
    const lb_sample_opts *o = &s->o;
    if (!dynamic || o->dynatemp_range <= 0) {
        divide(s, o->temperature);
        return;
    }
    if (s->n <= 1)
        return;
    const float least = LB_MAX(0.0f, o->temperature - o->dynatemp_range);
    const float most = o->temperature + o->dynatemp_range;
    const float max_entropy = -log_f32(s, 1.0f / (float)s->n);
    lb_sample_keep_top(s, s->n);
    softmax(s);
    float *logs = (float *)(void *)s->spare;
    s->k->map_log_f32(s->n, logs, s->p);
    double entropy = 0;
    for (u32 i = 0; i < s->n; i++)
        if (s->p[i] > 0)
            entropy -= (double)s->p[i] * (double)logs[i];
    float part = (float)entropy / max_entropy;
    if (o->dynatemp_exponent != 1) /* a power by the exact exp and log; 0^0 is 1 */
        part = part > 0 ? exp_f32(s, o->dynatemp_exponent * log_f32(s, part))
                        : (o->dynatemp_exponent == 0 ? 1.0f : 0.0f);
    divide(s, least + (most - least) * part);
}

void lb_sample_draw(lb_sampler *s) {
    const double u = uniform_f64(&s->rng, s->k); /* also where nothing is to choose */
    s->selected = 0;
    if (s->n == 1) {
        s->p[0] = 1;
        return;
    }
    const double total = weights(s), target = total * u;
    double sum = 0;
    u32 i = 0;
    for (; i < s->n - 1; i++) {
        sum += (double)s->p[i];
        if (sum >= target)
            break;
    }
    /* u may be 0, and rounding may run to the end: never a token that has no weight. */
    while (!(s->p[i] > 0) && i + 1 < s->n)
        i++;
    while (!(s->p[i] > 0) && i > 0)
        i--;
    s->selected = i;
    for (i = 0; i < s->n; i++)
        s->p[i] = (float)((double)s->p[i] / total);
}

void lb_sample_mirostat(lb_sampler *s) {
    const double ln2 = 0x1.62e42fefa39efp-1;
    lb_sample_keep_top(s, s->n);
    softmax(s);
    u32 n = 0;
    for (; n < s->n; n++)
        if ((float)(-(double)log_f32(s, s->p[n]) / ln2) > s->mu)
            break;
    s->n = LB_MAX(n, 1);
    softmax(s);
    /* std::discrete_distribution: one candidate takes no random number. */
    s->selected = 0;
    if (s->n > 1) {
        double total = 0, sum = 0;
        for (u32 i = 0; i < s->n; i++)
            total += (double)s->p[i];
        const double u = uniform_f64(&s->rng, s->k);
        u32 i = 0;
        for (; i < s->n - 1; i++) {
            sum += (double)s->p[i] / total;
            if (sum >= u)
                break;
        }
        while (!(s->p[i] > 0) && i > 0)
            i--;
        s->selected = i;
    }
    float surprise = (float)(-(double)log_f32(s, s->p[s->selected]) / ln2);
    s->mu -= s->o.mirostat_eta * (surprise - s->o.mirostat_tau);
}
