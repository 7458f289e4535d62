/* SPDX-License-Identifier: Apache-2.0 */
/* stream_plan.c: see stream_plan.h. A slot of the ring is as large as the largest unit that goes
 * through it, so all larger ones are kept; each size of a unit is tried as that limit. Units that
 * are kept beyond those stand evenly among the others: while they compute, the disk goes on. */
#include "model/stream_plan.h"

/* Marks units of at most `limit` bytes as kept, n of their m, evenly; larger ones always. What they
 * have together. */
static u64 keep(const lb_stream_sizes *s, u64 limit, u64 n, u64 m, u8 *kept) {
    u64 sum = 0, at = 0;
    for (u32 i = 0; i < s->n_dense; i++) {
        bool is = s->dense[i] > limit;
        if (!is) {
            is = (at + 1) * n / m > at * n / m;
            at++;
        }
        if (kept)
            kept[i] = is;
        sum += is ? s->dense[i] : 0;
    }
    return sum;
}

static u64 n_within(const lb_stream_sizes *s, u64 limit) {
    u64 n = 0;
    for (u32 i = 0; i < s->n_dense; i++)
        n += s->dense[i] <= limit;
    return n;
}

/* The most of m units that can be kept in so many bytes; there is room for none of them. */
static u64 how_many(const lb_stream_sizes *s, u64 limit, u64 m, u64 bytes) {
    u64 low = 0, high = m - 1;
    while (low < high) {
        u64 mid = low + (high - low + 1) / 2;
        if (keep(s, limit, mid, m, NULL) <= bytes)
            low = mid;
        else
            high = mid - 1;
    }
    return keep(s, limit, low, m, NULL) <= bytes ? low : 0;
}

static u64 dense_bytes(const lb_stream_sizes *s) {
    u64 sum = 0;
    for (u32 i = 0; i < s->n_dense; i++)
        sum += s->dense[i];
    return sum;
}

/* The ring of slots of `limit` bytes, if that is better than what p has. */
static void try_limit(const lb_stream_sizes *s, u64 limit, u64 budget, u64 *best, u64 *n_best,
                      u64 *least) {
    u64 m = n_within(s, limit), ring = LB_STREAM_RING * limit;
    u64 must = keep(s, limit, 0, LB_MAX(m, (u64)1), NULL) + ring;
    *least = LB_MIN(*least, must);
    if (must > budget || m <= LB_STREAM_RING)
        return;
    u64 n = how_many(s, limit, m, budget - ring), sum = keep(s, limit, n, m, NULL);
    u64 had = *best == UINT64_MAX ? 0 : keep(s, *best, *n_best, n_within(s, *best), NULL);
    if (*best == UINT64_MAX || sum > had) {
        *best = limit;
        *n_best = n;
    }
}

static bool plan_dense(const lb_stream_sizes *s, u64 budget, lb_stream_plan *p) {
    u64 all = dense_bytes(s), best = UINT64_MAX, n_best = 0, least = all;
    p->slot_bytes = 0;
    for (u32 i = 0; i < s->n_dense; i++) {
        bool met = s->dense[i] == 0;
        for (u32 k = 0; k < i && !met; k++)
            met = s->dense[k] == s->dense[i];
        if (!met)
            try_limit(s, s->dense[i], all <= budget ? 0 : budget, &best, &n_best, &least);
    }
    p->least_bytes = least;
    if (all <= budget) {
        p->kept_bytes = all;
        for (u32 i = 0; i < s->n_dense; i++)
            p->kept[i] = 1;
        p->pass_bytes = 0;
        return true;
    }
    if (best == UINT64_MAX)
        return false;
    p->kept_bytes = keep(s, best, n_best, n_within(s, best), p->kept);
    p->slot_bytes = best;
    p->pass_bytes = all - p->kept_bytes;
    return true;
}

bool lb_stream_plan_make(const lb_stream_sizes *s, u64 budget, lb_stream_plan *p) {
    u64 some = s->expert_bytes ? LB_MIN((u64)s->n_together, s->n_experts) : 0;
    u64 experts = some * s->expert_bytes;
    bool fits = plan_dense(s, budget - LB_MIN(experts, budget), p);
    p->least_bytes += experts;
    p->n_slots = 0;
    if (!fits || budget < p->least_bytes)
        return false;
    u64 left = budget - p->kept_bytes - LB_STREAM_RING * p->slot_bytes;
    if (s->expert_bytes)
        p->n_slots = LB_MIN(left / s->expert_bytes, s->n_experts);
    return true;
}

u64 lb_stream_plan_all(const lb_stream_sizes *s) {
    return dense_bytes(s) + s->n_experts * s->expert_bytes;
}

u64 lb_stream_plan_bytes(const lb_stream_sizes *s, const lb_stream_plan *p) {
    return p->kept_bytes + LB_STREAM_RING * p->slot_bytes + p->n_slots * s->expert_bytes;
}
