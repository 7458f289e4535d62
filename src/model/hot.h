/* SPDX-License-Identifier: Apache-2.0 */
/* hot.h: which of many items (a layer's experts) stand in some slots of memory.
 *
 * Passes go through the places (layers) in order, again and again, and each use of an item makes it
 * hotter; heat halves every LB_HOT_HALF passes, also of items that are not in memory. What gives
 * way is the coldest that nobody holds, of equals the one whose place comes last from here. (The
 * least recently used would be the one that is needed next: a pass that does not fit would never
 * find anything.) Not thread-safe. */
#ifndef LB_MODEL_HOT_H
#define LB_MODEL_HOT_H

#include "base/base.h"

#define LB_HOT_NONE UINT32_MAX
#define LB_HOT_HALF 16u

typedef struct lb_hot_item {
    u32 slot; /* LB_HOT_NONE: not in memory */
    u32 heat, pass;
    u32 held; /* so many times */
} lb_hot_item;

typedef struct lb_hot {
    u32 n_items, n_slots, n_used; /* slots that were ever used */
    u32 per_place;
    u32 pass, place; /* of the last use */
    lb_hot_item *item;
    u32 *item_of; /* [n_slots] */
} lb_hot;

/* n_items: per_place of each place. LB_E_NOMEM. */
lb_status lb_hot_init(lb_hot *h, u32 n_items, u32 per_place, u32 n_slots, lb_err *err);
void lb_hot_deinit(lb_hot *h);
/* The item is used, and held until lb_hot_drop: its slot. *there: what stands in it is the item's
 * already. LB_HOT_NONE: all slots are held. */
u32 lb_hot_hold(lb_hot *h, u32 item, bool *there);
void lb_hot_drop(lb_hot *h, u32 item);

#endif
