/* SPDX-License-Identifier: Apache-2.0 */
/* budget.h: one option for each tensor so that all fit into a number of bytes with the least error:
 * what --target-bpw and --target-size decide by.
 *
 * Pure: no tensors, no files. The result does not depend on anything but the arguments: not on the
 * machine, threads or time. Sums are integers: errors are rounded to the nearest multiple of a
 * power of two that is at most 2^-31 of the sum of each tensor's largest error (2^-61 where the
 * sizes leave room: with differences of size that add up to 2^31 units, their common divisor, or
 * fewer). In these units the result is exact:
 *   1. no choice that fits has a smaller error;
 *   2. none of the same error has fewer bytes;
 *   3. of tensors whose options are equal, the earlier ones keep the smaller errors.
 * Where that can't be proven within the limits of search, the best choice found is returned, and
 * lb_budget_result says so and how far from the least error it may be. */
#ifndef LB_QUANT_BUDGET_H
#define LB_QUANT_BUDGET_H

#include "base/base.h"

typedef struct lb_budget_option {
    u64 size_bytes;
    double error; /* >= 0, finite */
} lb_budget_option;

/* A protected tensor has only the options that it may have; at least one. */
typedef struct lb_budget_item {
    const lb_budget_option *options;
    u32 n_options; /* at most LB_BUDGET_OPTIONS_MAX, in any order */
} lb_budget_item;
#define LB_BUDGET_OPTIONS_MAX 255

/* How far to search. Time and memory are at most proportional: about 0.2 us and 8 bytes a state,
 * and 64 bytes of width for each option of a tensor; beside that 60 bytes for each option of all
 * tensors. */
typedef struct lb_budget_limits {
    u64 width;  /* states beside one another; 0: LB_BUDGET_WIDTH */
    u64 states; /* in all; 0: LB_BUDGET_STATES */
} lb_budget_limits;
#define LB_BUDGET_WIDTH ((u64)1 << 15)
#define LB_BUDGET_STATES ((u64)1 << 22)

typedef struct lb_budget_result {
    u64 size_bytes;
    double error;       /* of what is chosen, added up in the order of the tensors */
    double error_least; /* no choice that fits has less; exact: the same number */
    bool exact; /* false with equal numbers: less by nothing that a double shows, or fewer bytes */
    u32 n_core; /* tensors whose type had to be searched for; the others follow from bounds */
    u64 n_states; /* looked at */
} lb_budget_result;

/* chosen: [n], the option of each. limits may be NULL.
 * LB_E_LIMIT: nothing fits (the message names the smallest number of bytes that would do), or the
 * sizes are beyond what is computed with; LB_E_USAGE: an item without options, an error that is
 * none; LB_E_NOMEM. */
lb_status lb_budget_solve(const lb_budget_item *items, u64 n, u64 budget_bytes,
                          const lb_budget_limits *limits, u32 *chosen, lb_budget_result *out,
                          lb_err *err);

#endif
