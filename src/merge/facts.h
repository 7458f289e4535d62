/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h: the tensors of one model, by where they stand in it. Layer merge only. */
#ifndef LB_MERGE_FACTS_H
#define LB_MERGE_FACTS_H

#include "merge/outline.h"

/* Places in a module, in this order: before the layers, behind them, the layers; layers of another
 * count (token prediction), which follow the last one wherever that is. */
#define LB_PLACE_BEFORE ((u64)0)
#define LB_PLACE_BEHIND ((u64)1)
#define LB_PLACE_LAYER(i) ((u64)2 + (i))
#define LB_PLACE_EXTRA(i) (((u64)1 << 40) + (i))

/* A tensor's name without the number of its layer: that of all its kind. */
typedef struct lb_merge_entry {
    u32 module, fact;
    u64 place;
    lb_str head, tail;
} lb_merge_entry;

/* *out: [n_facts], sorted by module, place, head, tail. who: the model's name. LB_E_FORMAT: a layer
 * whose number is not in the name; two tensors of one name. */
lb_status lb_merge_entries_make(const lb_merge_model *model, u32 n_modules, lb_str who,
                                lb_arena *perm, lb_merge_entry **out, lb_err *err);
int lb_merge_entry_cmp(const lb_merge_entry *a, const lb_merge_entry *b); /* by head, tail */
/* The tensor of a kind (head, tail) at a place; NULL: none. */
const lb_merge_entry *lb_merge_entry_find(const lb_merge_entry *list, u32 n, u32 module, u64 place,
                                          const lb_merge_entry *kind);
/* Those of a place: [*first, *end). */
void lb_merge_entries_at(const lb_merge_entry *list, u32 n, u32 module, u64 place, u32 *first,
                         u32 *end);

#endif
