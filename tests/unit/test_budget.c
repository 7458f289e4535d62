/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of types under a budget: against all choices there are on small instances, and against
 * its own bounds, times and limits on large ones. */
#include "test.h"
#include "base/mem.h"
#include "quant/budget.h"
#include <math.h>
#include <stdlib.h>

#define SMALL_ITEMS 9
#define SMALL_OPTIONS 5

typedef struct instance {
    lb_budget_item *items;
    lb_budget_option *options;
    u32 *chosen;
    u64 n, n_options; /* each */
} instance;

static instance make(u64 n, u64 n_options) {
    instance x = {.items = lb_alloc_zero(n + 1, sizeof *x.items),
                  .options = lb_alloc_zero(n * n_options + 1, sizeof *x.options),
                  .chosen = lb_alloc_zero(n + 1, sizeof *x.chosen),
                  .n = n,
                  .n_options = n_options};
    for (u64 i = 0; i < n; i++)
        x.items[i] = (lb_budget_item){x.options + i * n_options, (u32)n_options};
    return x;
}

static void drop(instance *x) {
    lb_free(x->items);
    lb_free(x->options);
    lb_free(x->chosen);
}

typedef struct totals {
    u64 bytes;
    double error; /* errors are whole numbers: exact */
} totals;

static totals add_up(const instance *x, const u32 *chosen) {
    totals t = {0};
    for (u64 i = 0; i < x->n; i++) {
        t.bytes += x->items[i].options[chosen[i]].size_bytes;
        t.error += x->items[i].options[chosen[i]].error;
    }
    return t;
}

/* All choices. False: none fits. */
static bool brute(const instance *x, u64 budget, totals *best) {
    u32 at[SMALL_ITEMS] = {0};
    bool any = false;
    for (;;) {
        totals t = add_up(x, at);
        if (t.bytes <= budget &&
            (!any || t.error < best->error || (t.error == best->error && t.bytes < best->bytes))) {
            *best = t;
            any = true;
        }
        u64 i = 0;
        while (i < x->n && ++at[i] == x->items[i].n_options)
            at[i++] = 0;
        if (i == x->n)
            return any;
    }
}

/* Kinds: sizes and errors at will; falling errors; proportional (all on one line); few sizes; equal
 * tensors; everything the same. */
static void fill_small(instance *x, u64 kind) {
    u64 unit = 1 + lb_test_rand_below(3) * 17, top = kind == 3 ? 4 : 40;
    for (u64 i = 0; i < x->n; i++) {
        lb_budget_option *o = x->options + i * x->n_options;
        u64 weight = 1 + lb_test_rand_below(6);
        x->items[i].n_options = 1 + (u32)lb_test_rand_below(x->n_options);
        for (u32 j = 0; j < x->items[i].n_options; j++) {
            u64 size = lb_test_rand_below(top) + (kind == 4 ? j * 10 : 0);
            u64 error = kind == 1   ? 50 - size + lb_test_rand_below(5)
                        : kind == 2 ? weight * (top - size)
                        : kind == 5 ? 7
                                    : lb_test_rand_below(60);
            if (kind == 2)
                size *= weight;
            o[j] = (lb_budget_option){7 + size * unit, (double)error};
        }
        if (kind == 4 && i && lb_test_rand_below(3)) {
            memcpy(o, x->options, x->n_options * sizeof *o);
            x->items[i].n_options = x->items[0].n_options;
        }
    }
}

LB_TEST(against_all_choices) {
    lb_err err = {0};
    u64 n_exact = 0, n_refused = 0;
    for (u64 t = 0; t < 6000; t++) {
        instance x = make(1 + lb_test_rand_below(t % 10 ? 6 : SMALL_ITEMS), SMALL_OPTIONS);
        if (x.n > 6)
            x.n_options = 3;
        fill_small(&x, t % 6);
        totals least = {0}, most = {0}, best = {0};
        for (u64 i = 0; i < x.n; i++) {
            u64 lo = UINT64_MAX, hi = 0;
            for (u32 j = 0; j < x.items[i].n_options; j++) {
                lo = LB_MIN(lo, x.items[i].options[j].size_bytes);
                hi = LB_MAX(hi, x.items[i].options[j].size_bytes);
            }
            least.bytes += lo;
            most.bytes += hi;
        }
        u64 budget =
            least.bytes - LB_MIN(least.bytes, 2) + lb_test_rand_below(most.bytes - least.bytes + 5);
        bool any = brute(&x, budget, &best);
        lb_budget_result r;
        lb_status st = lb_budget_solve(x.items, x.n, budget, NULL, x.chosen, &r, &err);
        if (!any) {
            CHECK_U64(st, LB_E_LIMIT);
            n_refused++;
        } else {
            CHECK_U64(st, LB_OK);
            totals got = add_up(&x, x.chosen);
            CHECK_U64(got.bytes, r.size_bytes);
            CHECK(r.exact && r.error == got.error && r.error_least == r.error);
            if (got.error != best.error || got.bytes != best.bytes) {
                lb_test_fail(__FILE__, __LINE__,
                             "case %llu: error %g of %llu bytes, not %g of %llu",
                             (unsigned long long)t, got.error, (unsigned long long)got.bytes,
                             best.error, (unsigned long long)best.bytes);
                return;
            }
            n_exact++;
        }
        drop(&x);
    }
    CHECK(n_exact > 5000 && n_refused > 50);
}

/* With next to no room for the search: what it says of its answer holds. */
LB_TEST(limits_are_told) {
    lb_err err = {0};
    const lb_budget_limits tight = {.width = 2, .states = 24};
    u64 n_inexact = 0, n_wrong = 0;
    for (u64 t = 0; t < 3000; t++) {
        instance x = make(7, 4);
        fill_small(&x, t % 3);
        totals best = {0};
        u64 budget = 60 + lb_test_rand_below(4000);
        lb_budget_result r;
        if (brute(&x, budget, &best)) {
            CHECK_OK(lb_budget_solve(x.items, x.n, budget, &tight, x.chosen, &r, &err));
            CHECK(r.size_bytes <= budget && r.error >= best.error);
            CHECK(r.error_least <= best.error);
            CHECK(!r.exact || (r.error == best.error && r.size_bytes == best.bytes));
            n_inexact += !r.exact;
            n_wrong += r.error != best.error;
        }
        drop(&x);
    }
    CHECK(n_inexact > 20 && n_wrong > 0 && n_wrong <= n_inexact);
}

LB_TEST(refusals) {
    lb_err err = {0};
    lb_budget_option o[2] = {{100, 4}, {200, 1}};
    lb_budget_item items[3] = {{o, 2}, {o, 2}, {o + 1, 1}};
    u32 chosen[3];
    lb_budget_result r;
    CHECK_U64(lb_budget_solve(items, 3, 399, NULL, chosen, &r, &err), LB_E_LIMIT);
    CHECK(strstr(err.msg, "399") && strstr(err.msg, "400 bytes: give at least that"));
    CHECK_OK(lb_budget_solve(items, 3, 400, NULL, chosen, &r, &err));
    CHECK(r.exact && r.size_bytes == 400 && chosen[0] == 0 && chosen[1] == 0 && chosen[2] == 0);
    /* a budget that only one of two equal tensors can use: the first */
    CHECK_OK(lb_budget_solve(items, 3, 599, NULL, chosen, &r, &err));
    CHECK(r.exact && r.size_bytes == 500 && r.error == 6 && chosen[0] == 1 && chosen[1] == 0);
    CHECK_OK(lb_budget_solve(items, 3, UINT64_MAX, NULL, chosen, &r, &err));
    CHECK(r.exact && r.error == 3 && r.size_bytes == 600);
    CHECK_OK(lb_budget_solve(items, 0, 0, NULL, chosen, &r, &err));
    CHECK(r.exact && r.size_bytes == 0);
    const double bad[] = {NAN, INFINITY, -1};
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        o[1].error = bad[i];
        CHECK_U64(lb_budget_solve(items, 3, 500, NULL, chosen, &r, &err), LB_E_USAGE);
        CHECK(strstr(err.msg, "tensor 0"));
    }
    o[1].error = 1;
    items[1].n_options = 0;
    CHECK_U64(lb_budget_solve(items, 3, 500, NULL, chosen, &r, &err), LB_E_USAGE);
    CHECK(strstr(err.msg, "tensor 1"));
    items[1].n_options = 2;
    o[1].size_bytes = UINT64_MAX - 7;
    CHECK_U64(lb_budget_solve(items, 3, 500, NULL, chosen, &r, &err), LB_E_LIMIT);
}

/* Errors of all zero, of subnormals, and of the largest numbers. */
LB_TEST(degenerate_errors) {
    lb_err err = {0};
    const double scale[] = {0, 0x1p-1074, 0x1p-1000, 1, 0x1p1015};
    for (size_t k = 0; k < LB_LEN(scale); k++) {
        instance x = make(5, 4);
        for (u64 i = 0; i < 20; i++)
            x.options[i] =
                (lb_budget_option){100 + 10 * (i % 4), scale[k] * (double)(13 - 3 * (i % 4))};
        lb_budget_result r;
        CHECK_OK(lb_budget_solve(x.items, x.n, 575, NULL, x.chosen, &r, &err));
        CHECK(r.exact && r.size_bytes == (k == 0 ? 500 : 570));
        CHECK(x.chosen[0] == (k == 0 ? 0 : 3) && x.chosen[4] == 0);
        drop(&x);
    }
}

/* ---- large ones ---- */

/* Bytes of 256 values: of q2_k, q3_k, q4_k, q5_k, q6_k, q8_0, f16, and what they lose. */
static const struct {
    u64 bytes;
    double loss;
} types[] = {{84, 3.1e-2},  {110, 9.1e-3}, {144, 2.1e-3}, {176, 5.6e-4},
             {210, 1.5e-4}, {272, 1.2e-5}, {512, 3e-8}};

typedef enum kind { DISTINCT, FEW_SIZES, PROPORTIONAL, EQUAL, KIND_COUNT } kind;

static u64 fill_large(instance *x, kind k) {
    static const u64 sizes[] = {2048 * 768, 2048 * 2048, 4096 * 1536};
    u64 total = 0;
    for (u64 i = 0; i < x->n; i++) {
        u64 n = k == DISTINCT || k == PROPORTIONAL ? 4096 + lb_test_rand_below(1 << 16)
                                                   : sizes[k == EQUAL ? 0 : i % 3] / 256;
        double energy = k == DISTINCT || k == FEW_SIZES ? exp((double)lb_test_normal()) : 1;
        for (u64 j = 0; j < x->n_options; j++) {
            double noise = k == DISTINCT || k == FEW_SIZES ? 1 + .1 * (double)lb_test_normal() : 1;
            x->options[i * x->n_options + j] = (lb_budget_option){
                n * types[j].bytes, energy * (double)n * types[j].loss * fabs(noise)};
        }
        total += n * 256;
    }
    return total;
}

/* Errors in proportion to sizes are all on one line but for their rounding: to prove the least sum
 * of such noise is beyond the limits; the gap is told. */
static u64 large(kind k, u64 n, double bpw) {
    static const char *const names[] = {"distinct", "few sizes", "proportional", "equal"};
    lb_err err = {0};
    instance x = make(n, LB_LEN(types));
    u64 elems = fill_large(&x, k), t0 = lb_test_cpu_us();
    lb_budget_result r;
    u64 budget = (u64)((double)elems * bpw / 8);
    lb_status st = lb_budget_solve(x.items, n, budget, NULL, x.chosen, &r, &err);
    u64 us = lb_test_cpu_us() - t0;
    if (st != LB_OK || r.size_bytes > budget)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", names[k], err.msg);
    printf("  %-12s %6llu tensors, %.2f bpw: %7.1f ms, %5u of core, %8llu states, gap %.1e\n",
           names[k], (unsigned long long)n, bpw, (double)us / 1e3, r.n_core,
           (unsigned long long)r.n_states, (r.error - r.error_least) / r.error);
    if (!(r.error - r.error_least <= (k == PROPORTIONAL ? 1e-6 : 0) * r.error) ||
        (k != PROPORTIONAL && !r.exact))
        lb_test_fail(__FILE__, __LINE__, "%s: error %g, least %g", names[k], r.error,
                     r.error_least);
    if (n > 1000) {
        drop(&x);
        return us;
    }
    /* the same again */
    u32 *first = x.chosen;
    x.chosen = lb_alloc_zero(n + 1, sizeof *x.chosen);
    if (lb_budget_solve(x.items, n, budget, NULL, x.chosen, &r, &err) != LB_OK ||
        memcmp(first, x.chosen, n * sizeof *first) != 0)
        lb_test_fail(__FILE__, __LINE__, "%s: another choice", names[k]);
    lb_free(first);
    drop(&x);
    return us;
}

LB_TEST(large_instances) {
    const double bpw[] = {2.8, 4.5, 4.501, 6.3};
    u64 worst = 0;
    for (kind k = 0; k < KIND_COUNT; k++)
        for (size_t i = k == PROPORTIONAL; i < LB_LEN(bpw); i += k == PROPORTIONAL ? 2 : 1) {
            (void)large(k, 300, bpw[i]);
            if (k == PROPORTIONAL && !lb_test_full())
                continue; /* it ends at as many states */
            worst = LB_MAX(worst, large(k, lb_test_cases(i ? 20000 : 100000), bpw[i]));
        }
    if (lb_test_timed())
        CHECK(worst < 8000000);
}

/* Every allocation fails once. */
LB_TEST(out_of_memory) {
    lb_err err = {0};
    instance x = make(40, LB_LEN(types));
    u64 elems = fill_large(&x, DISTINCT), n_failed = 0;
    lb_budget_result r;
    for (u64 i = 1;; i++) {
        lb_mem_fail_at(i);
        lb_status st = lb_budget_solve(x.items, x.n, elems / 2, NULL, x.chosen, &r, &err);
        lb_mem_fail_at(0);
        if (st == LB_OK)
            break;
        CHECK_U64(st, LB_E_NOMEM);
        n_failed++;
    }
    CHECK(n_failed >= 10);
    drop(&x);
}

LB_TEST_MAIN("fast")
