/* SPDX-License-Identifier: Apache-2.0 */
/* test_stream.c: what stays in memory under a budget, and which experts give way. */
#include "test.h"
#include "model/hot.h"
#include "model/stream_plan.h"
#include <stdlib.h>

static lb_err err;

/* ---- the plan ---- */

#define UNITS_MAX 40u
static u64 sizes[UNITS_MAX];
static u8 kept[UNITS_MAX];

static lb_stream_sizes draw(void) {
    u32 n = 1 + (u32)lb_test_rand_below(UNITS_MAX);
    u64 kinds = 1 + lb_test_rand_below(4);
    for (u32 i = 0; i < n; i++)
        sizes[i] = 64 * (lb_test_rand_below(8) ? 100 + 7 * lb_test_rand_below(kinds)
                                               : lb_test_rand_below(900));
    bool experts = lb_test_rand_below(2);
    return (lb_stream_sizes){.dense = sizes,
                             .n_dense = n,
                             .expert_bytes = experts ? 64 * (1 + lb_test_rand_below(50)) : 0,
                             .n_experts = experts ? 1 + lb_test_rand_below(300) : 0,
                             .n_together = 1 + (u32)lb_test_rand_below(8)};
}

static u64 all_dense(const lb_stream_sizes *s) {
    u64 sum = 0;
    for (u32 i = 0; i < s->n_dense; i++)
        sum += s->dense[i];
    return sum;
}

static bool holds(const lb_stream_sizes *s, const lb_stream_plan *p, u64 budget) {
    u64 sum = 0, n_streamed = 0;
    for (u32 i = 0; i < s->n_dense; i++) {
        sum += p->kept[i] ? s->dense[i] : 0;
        n_streamed += !p->kept[i] && s->dense[i];
        if (!p->kept[i] && s->dense[i] > p->slot_bytes)
            return false;
    }
    u64 some = s->expert_bytes ? LB_MIN((u64)s->n_together, s->n_experts) : 0;
    return sum == p->kept_bytes && p->pass_bytes == all_dense(s) - sum &&
           (n_streamed > 0) == (p->pass_bytes > 0) && lb_stream_plan_bytes(s, p) <= budget &&
           p->n_slots >= some && p->n_slots <= s->n_experts && p->least_bytes <= budget;
}

LB_TEST(plans_stay_within_the_budget) {
    for (int round = 0; round < 3000; round++) {
        lb_stream_sizes s = draw();
        lb_stream_plan p = {.kept = kept};
        u64 whole = all_dense(&s) + s.n_experts * s.expert_bytes;
        u64 budget = lb_test_rand_below(whole + whole / 4 + 1);
        if (lb_stream_plan_make(&s, budget, &p))
            CHECK(holds(&s, &p, budget));
        u64 least = p.least_bytes;
        CHECK(lb_stream_plan_make(&s, least, &p) && holds(&s, &p, least));
        CHECK(!least || !lb_stream_plan_make(&s, least - 1, &p));
        CHECK_U64(p.least_bytes, least);
        CHECK(lb_stream_plan_make(&s, whole, &p));
        CHECK(p.pass_bytes == 0 && p.n_slots == (s.expert_bytes ? s.n_experts : 0));
    }
}

/* Units of one size: all that fit beside the ring stay, and they stand apart. */
LB_TEST(as_many_layers_as_fit_are_kept) {
    for (u32 i = 0; i < 32; i++)
        sizes[i] = 640;
    lb_stream_sizes s = {.dense = sizes, .n_dense = 32};
    for (u64 n = 2; n < 32; n++) {
        lb_stream_plan p = {.kept = kept};
        CHECK(lb_stream_plan_make(&s, n * 640 + 639, &p));
        CHECK_U64(p.kept_bytes, (n - 2) * 640);
        CHECK_U64(p.slot_bytes, 640);
        u32 run = 0, longest = 0;
        for (u32 i = 0; i < 32; i++) {
            run = kept[i] ? 0 : run + 1;
            longest = LB_MAX(longest, run);
        }
        CHECK(longest <= (n == 2 ? 32 : 32 / (n - 2)));
    }
    /* a head that is larger than all layers together is kept, not the size of a slot */
    sizes[31] = 64000;
    lb_stream_plan p = {.kept = kept};
    CHECK(lb_stream_plan_make(&s, 64000 + 3 * 640, &p));
    CHECK(kept[31] && p.slot_bytes == 640 && p.kept_bytes == 64000 + 640);
    CHECK_U64(p.least_bytes, 64000 + 2 * 640);
}

/* ---- experts ---- */

LB_TEST(slots_hold_what_they_are_said_to) {
    lb_hot h;
    enum { ITEMS = 60, SLOTS = 13 };
    u32 stands[SLOTS], held[ITEMS] = {0}, n_held = 0;
    CHECK_OK(lb_hot_init(&h, ITEMS, 10, SLOTS, &err));
    for (u32 i = 0; i < SLOTS; i++)
        stands[i] = LB_HOT_NONE;
    for (int round = 0; round < 20000; round++) {
        u32 item = (u32)lb_test_rand_below(ITEMS);
        bool there;
        if (held[item] && lb_test_rand_below(2)) {
            lb_hot_drop(&h, item);
            n_held -= --held[item] == 0;
            continue;
        }
        if (n_held > SLOTS / 2 && !held[item])
            continue;
        u32 slot = lb_hot_hold(&h, item, &there);
        CHECK(slot < SLOTS && there == (stands[slot] == item));
        for (u32 i = 0; i < SLOTS; i++)
            CHECK(i == slot || stands[i] != item);
        CHECK(there || stands[slot] == LB_HOT_NONE || !held[stands[slot]]);
        stands[slot] = item;
        n_held += held[item]++ == 0;
    }
    lb_hot_deinit(&h);
}

LB_TEST(all_slots_held) {
    lb_hot h;
    bool there;
    CHECK_OK(lb_hot_init(&h, 8, 4, 2, &err));
    CHECK(lb_hot_hold(&h, 0, &there) == 0 && lb_hot_hold(&h, 5, &there) == 1);
    CHECK(lb_hot_hold(&h, 6, &there) == LB_HOT_NONE && !there);
    lb_hot_drop(&h, 0);
    CHECK(lb_hot_hold(&h, 6, &there) == 0 && !there);
    lb_hot_deinit(&h);
}

/* Shares of uses that were found in memory after the first passes: each uses `used` of a place's
 * items, one after the other or drawn, the k-th with a weight of 1 / (k + 1). */
static double found(u32 places, u32 per, u32 used, u32 slots, bool drawn) {
    lb_hot h;
    u64 n = 0, hits = 0;
    if (lb_hot_init(&h, places * per, per, slots, &err) != LB_OK)
        return -1;
    for (u32 pass = 0; pass < 400; pass++)
        for (u32 p = 0; p < places; p++)
            for (u32 k = 0; k < used; k++) {
                double at = (double)lb_test_rand_below(1 << 20) / (1 << 20), sum = 0, all = 0;
                u32 item = k;
                bool there;
                for (u32 i = 0; i < per; i++)
                    all += 1.0 / (i + 1);
                for (u32 i = 0; drawn && i < per && sum <= at * all; i++)
                    sum += 1.0 / ((item = i) + 1);
                (void)lb_hot_hold(&h, p * per + item, &there);
                lb_hot_drop(&h, p * per + item);
                n += pass >= 50;
                hits += pass >= 50 && there;
            }
    lb_hot_deinit(&h);
    return (double)hits / (double)n;
}

LB_TEST(what_is_used_most_stays) {
    /* a pass that does not fit: the least recently used would find nothing */
    double cyclic = found(8, 4, 4, 24, false);
    CHECK(cyclic >= 0.6 && cyclic <= 0.75);
    /* drawn: the 3 likeliest of 16 have 0.54 of the uses */
    double drawn = found(8, 16, 2, 24, true);
    CHECK(drawn >= 0.45);
    CHECK(found(8, 4, 4, 32, false) == 1);
}

LB_TEST_MAIN("fast")
