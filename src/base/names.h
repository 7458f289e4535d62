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
/* Adds the places 0...n - 1 of a list that an empty index is made for, but for those with an empty
 * text; *twice: the first whose text is that of one before it, else n. */
lb_status lb_names_fill(lb_names *x, lb_name_of name, const void *list, u64 n, u64 *twice,
                        lb_err *err);
bool lb_names_find(const lb_names *x, lb_name_of name, const void *list, lb_str s, u64 *i);
/* Room for n names: the index does not grow before. */
lb_status lb_names_reserve(lb_names *x, u64 n, lb_err *err);
lb_status lb_names_copy(lb_names *out, const lb_names *x, lb_err *err);
/* lb_names_find in steps, for many searches at once: the memory that one waits for comes while
 * others are prepared. lb_names_guess: the place that a text of this hash most likely has;
 * UINT32_MAX: it has none. Between the steps the index must not change. */
u32 lb_names_hash(lb_str s);
void lb_names_fetch(const lb_names *x, u32 hash);
u32 lb_names_guess(const lb_names *x, u32 hash);
bool lb_names_find_hashed(const lb_names *x, lb_name_of name, const void *list, lb_str s, u32 hash,
                          u64 *i);
void lb_names_deinit(lb_names *x);

#endif
