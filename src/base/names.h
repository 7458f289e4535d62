/* SPDX-License-Identifier: Apache-2.0 */
/* names.h: an index from text to place in a list that somebody else keeps; insertion only. Eight
 * bytes a slot, a third of lb_map's, for lists of 100,000 names and more. */
#ifndef LB_BASE_NAMES_H
#define LB_BASE_NAMES_H

#include "base/base.h"

/* The text at a place of the list. */
typedef lb_str (*lb_name_of)(const void *list, u64 i);

typedef struct lb_names {
    struct lb_names_slot *slots;
    u64 n, cap;
} lb_names;

/* Adds place i, below 2^32 - 1. *first (may be NULL): i, or the place of the same text before it.
 * LB_E_NOMEM. */
lb_status lb_names_put(lb_names *x, lb_name_of name, const void *list, u64 i, u64 *first,
                       lb_err *err);
bool lb_names_find(const lb_names *x, lb_name_of name, const void *list, lb_str s, u64 *i);
void lb_names_deinit(lb_names *x);

#endif
