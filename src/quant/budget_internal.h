/* SPDX-License-Identifier: Apache-2.0 */
/* budget_internal.h: what budget.c (numbers, the relaxation) and budget_core.c (the search) share.
 *
 * Sizes are counted in `unit`s beyond each tensor's smallest; errors in multiples of `quantum`.
 * What is minimised is the cost error << shift | size, so that among equal errors the smaller size
 * wins by itself; shift holds any sum of sizes.
 *
 * The relaxation gives a price of size, num / den in cost a unit, and a base: one option each that
 * minimises den * cost + num * size, tensor by tensor. Whatever is chosen instead has a `penalty`
 * >= 0 by which it is above that minimum, and a total is optimal when the sum of its penalties and
 * num * (room that is left) is least: call that the excess. */
#ifndef LB_QUANT_BUDGET_INTERNAL_H
#define LB_QUANT_BUDGET_INTERNAL_H

#include "quant/budget.h"

typedef __int128 lb_i128;

/* An option that no other one of its tensor makes useless; in order of rising size, falling cost.
 */
typedef struct lb_budget_choice {
    u64 size, error; /* in units, in quanta */
    u32 option;
} lb_budget_choice;

typedef struct lb_budget {
    u64 n;
    lb_budget_choice *choices; /* of all tensors */
    u64 *first;                /* [n + 1] */
    u32 *base;                 /* [n] chosen: index among the tensor's choices */
    u32 shift;
    i64 room; /* units that the base leaves */
    lb_i128 num, den;
} lb_budget;

static inline lb_i128 lb_budget_cost(const lb_budget *b, const lb_budget_choice *c) {
    return ((lb_i128)c->error << b->shift) + (lb_i128)c->size;
}

/* Moves b->base from the base to the best choice that is found. *gap: no choice has a cost that is
 * lower by more than that (0: it is optimal). Sets n_core and n_states. */
lb_status lb_budget_search(lb_budget *b, const lb_budget_limits *limits, lb_i128 *gap,
                           lb_budget_result *out, lb_err *err);

#endif
