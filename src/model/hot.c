/* SPDX-License-Identifier: Apache-2.0 */
/* hot.c: see hot.h. */
#include "model/hot.h"
#include "base/mem.h"

/* Heat of a use: with one each pass the sum stays below 2^22. */
#define USE ((u32)1 << 16)

lb_status lb_hot_init(lb_hot *h, u32 n_items, u32 per_place, u32 n_slots, lb_err *err) {
    *h = (lb_hot){.n_items = n_items, .n_slots = n_slots, .per_place = LB_MAX(per_place, 1u)};
    h->item = lb_alloc_zero(LB_MAX(n_items, 1u), sizeof *h->item);
    h->item_of = lb_alloc_zero(LB_MAX(n_slots, 1u), sizeof *h->item_of);
    if (!h->item || !h->item_of) {
        lb_hot_deinit(h);
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of experts");
    }
    for (u32 i = 0; i < n_items; i++)
        h->item[i].slot = LB_HOT_NONE;
    return LB_OK;
}

void lb_hot_deinit(lb_hot *h) {
    lb_free(h->item);
    lb_free(h->item_of);
    *h = (lb_hot){0};
}

static u32 heat_now(const lb_hot *h, const lb_hot_item *x) {
    u32 halves = h->pass / LB_HOT_HALF - x->pass / LB_HOT_HALF;
    return halves < 32 ? x->heat >> halves : 0;
}

/* Places until it can be used again: those of this place are behind all others. */
static u32 distance(const lb_hot *h, u32 item) {
    u32 n = h->n_items / h->per_place, place = item / h->per_place;
    return place > h->place ? place - h->place : place + n - h->place;
}

static u32 coldest(const lb_hot *h) {
    u32 best = LB_HOT_NONE, best_heat = 0, best_far = 0;
    for (u32 s = 0; s < h->n_used; s++) {
        const lb_hot_item *x = &h->item[h->item_of[s]];
        if (x->held)
            continue;
        u32 heat = heat_now(h, x), far = distance(h, h->item_of[s]);
        if (best == LB_HOT_NONE || heat < best_heat || (heat == best_heat && far > best_far)) {
            best = s;
            best_heat = heat;
            best_far = far;
        }
    }
    return best;
}

static void touch(lb_hot *h, u32 item) {
    lb_hot_item *x = &h->item[item];
    u32 place = item / h->per_place;
    h->pass += place < h->place;
    h->place = place;
    x->heat = heat_now(h, x) + USE;
    x->pass = h->pass;
}

u32 lb_hot_hold(lb_hot *h, u32 item, bool *there) {
    lb_hot_item *x = &h->item[item];
    touch(h, item);
    *there = x->slot != LB_HOT_NONE;
    if (!*there) {
        u32 slot = h->n_used < h->n_slots ? h->n_used++ : coldest(h);
        if (slot == LB_HOT_NONE)
            return LB_HOT_NONE;
        lb_hot_item *was = &h->item[h->item_of[slot]];
        if (was->slot == slot)
            was->slot = LB_HOT_NONE;
        h->item_of[slot] = item;
        x->slot = slot;
    }
    x->held++;
    return x->slot;
}

void lb_hot_drop(lb_hot *h, u32 item) {
    LB_ASSERT(h->item[item].held);
    h->item[item].held--;
}
