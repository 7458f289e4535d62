/* SPDX-License-Identifier: Apache-2.0 */
/* budget.c: the multiple-choice knapsack of types: numbers, dominance, the linear relaxation.
 *
 * Source of the method: Kellerer, Pferschy, Pisinger, Knapsack Problems (2004), chapter 11: the
 * relaxation is solved by the steepest edges of each tensor's lower convex hull, and what is not
 * decided by it is enumerated (budget_core.c). */
#include "base/mem.h"
#include "quant/budget_internal.h"
#include <math.h>
#include <stdlib.h>

/* cost * size must fit into 127 bits with a margin: error bits + 2 * size bits <= 124. */
#define PRODUCT_BITS 124
#define ERROR_BITS_MAX 62
#define SIZE_BITS_MAX 46

static u32 bits_of(u64 n) {
    return n ? 64 - (u32)__builtin_clzll(n) : 0;
}

/* ---- numbers ---- */

typedef struct measures {
    u64 least, range; /* sums over the tensors: smallest sizes, largest minus smallest */
    u64 unit;         /* common divisor of all differences of size within a tensor */
    double error;     /* sum of each tensor's largest error */
} measures;

static lb_status measure(const lb_budget_item *items, u64 n, measures *m, lb_err *err) {
    *m = (measures){0};
    for (u64 i = 0; i < n; i++) {
        const lb_budget_item *x = &items[i];
        if (x->n_options == 0 || x->n_options > LB_BUDGET_OPTIONS_MAX)
            return lb_fail(err, LB_E_USAGE, "tensor %llu of the budget has %u options",
                           (unsigned long long)i, x->n_options);
        u64 lo = x->options[0].size_bytes, hi = lo;
        double worst = 0;
        for (u32 j = 0; j < x->n_options; j++) {
            const lb_budget_option *o = &x->options[j];
            u64 d = o->size_bytes > lo ? o->size_bytes - lo : lo - o->size_bytes;
            if (!(o->error >= 0) || isinf(o->error))
                return lb_fail(err, LB_E_USAGE, "tensor %llu of the budget has an error of %g",
                               (unsigned long long)i, o->error);
            m->unit = lb_gcd_u64(m->unit, d);
            lo = LB_MIN(lo, o->size_bytes);
            hi = LB_MAX(hi, o->size_bytes);
            worst = fmax(worst, o->error);
        }
        m->error += worst;
        if (!lb_add_u64(m->least, lo, &m->least) || !lb_add_u64(m->range, hi - lo, &m->range) ||
            m->least + m->range < m->least || isinf(m->error))
            return lb_fail(err, LB_E_LIMIT, "the sizes or errors of the budget do not add up");
    }
    m->unit = LB_MAX(m->unit, 1);
    return LB_OK;
}

static int by_size(const void *a, const void *b) {
    const lb_budget_choice *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    if (x->error != y->error)
        return x->error < y->error ? -1 : 1;
    return x->option < y->option ? -1 : x->option > y->option;
}

/* quantum: 2^exponent. The tensor's choices, without those that another one makes useless. */
static u32 choices_of(const lb_budget_item *x, u64 unit, int exponent, lb_budget_choice *out) {
    u32 n = 0;
    u64 lo = UINT64_MAX;
    for (u32 j = 0; j < x->n_options; j++)
        lo = LB_MIN(lo, x->options[j].size_bytes);
    for (u32 j = 0; j < x->n_options; j++)
        out[j] = (lb_budget_choice){(x->options[j].size_bytes - lo) / unit,
                                    (u64)rint(ldexp(x->options[j].error, -exponent)), j};
    qsort(out, x->n_options, sizeof *out, by_size);
    for (u32 j = 0; j < x->n_options; j++)
        if (n == 0 || out[j].error < out[n - 1].error)
            out[n++] = out[j];
    return n;
}

static lb_status init(lb_budget *b, const lb_budget_item *items, u64 n, const measures *m,
                      int *exponent, lb_err *err) {
    u64 total = 0;
    b->n = n;
    b->shift = bits_of(m->range / m->unit);
    if (b->shift > SIZE_BITS_MAX)
        return lb_fail(err, LB_E_LIMIT,
                       "sizes of the budget that differ by %llu units of %llu bytes: the limit is "
                       "2^%d",
                       (unsigned long long)(m->range / m->unit), (unsigned long long)m->unit,
                       SIZE_BITS_MAX);
    int bits = (int)LB_MIN(PRODUCT_BITS - 2 * b->shift, (u32)ERROR_BITS_MAX), top = 0;
    (void)frexp(m->error, &top); /* error < 2^top */
    *exponent = m->error > 0 ? top - bits : 0;
    for (u64 i = 0; i < n; i++)
        total += items[i].n_options;
    b->choices = lb_alloc_zero(total + 1, sizeof *b->choices);
    b->first = lb_alloc_zero(n + 1, sizeof *b->first);
    b->base = lb_alloc_zero(n + 1, sizeof *b->base);
    if (!b->choices || !b->first || !b->base)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the choice of types");
    for (u64 i = 0; i < n; i++)
        b->first[i + 1] =
            b->first[i] + choices_of(&items[i], m->unit, *exponent, b->choices + b->first[i]);
    return LB_OK;
}

static void deinit(lb_budget *b) {
    lb_free(b->choices);
    lb_free(b->first);
    lb_free(b->base);
}

/* ---- the relaxation ---- */

/* From one choice of a tensor to the next on its hull: so much less cost for so much more size. */
typedef struct edge {
    lb_i128 gain;
    u64 size;
    u32 to; /* among the tensor's choices */
    u32 item;
} edge;

/* The steepest first; along one line as they stand in their tensor, the earlier tensor first. */
static int by_steepness(const void *a, const void *b) {
    const edge *x = a, *y = b;
    lb_i128 p = x->gain * (lb_i128)y->size, q = y->gain * (lb_i128)x->size;
    if (p != q)
        return p > q ? -1 : 1;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static edge edge_of(const lb_budget *b, u64 item, u32 from, u32 to) {
    const lb_budget_choice *c = b->choices + b->first[item];
    return (edge){lb_budget_cost(b, &c[from]) - lb_budget_cost(b, &c[to]),
                  c[to].size - c[from].size, to, (u32)item};
}

/* The hull of one tensor from its smallest choice on; choices on a line stay. */
static u32 hull_of(const lb_budget *b, u64 item, edge *out) {
    u32 n_choices = (u32)(b->first[item + 1] - b->first[item]), n = 0, at = 0;
    u32 from[LB_BUDGET_OPTIONS_MAX];
    for (u32 j = 1; j < n_choices; j++) {
        edge e = edge_of(b, item, at, j);
        while (n && e.gain * (lb_i128)out[n - 1].size > out[n - 1].gain * (lb_i128)e.size) {
            at = from[--n];
            e = edge_of(b, item, at, j);
        }
        from[n] = at;
        out[n++] = e;
        at = j;
    }
    return n;
}

/* Sets base, room and the price; true: everything is at its best and fits. */
static bool relax(lb_budget *b, edge *edges, u64 capacity) {
    u64 n = 0;
    for (u64 i = 0; i < b->n; i++)
        n += hull_of(b, i, edges + n);
    qsort(edges, n, sizeof *edges, by_steepness);
    for (u64 k = 0; k < n; k++) {
        const edge *e = &edges[k];
        if (e->size > capacity) {
            b->num = e->gain;
            b->den = (lb_i128)e->size;
            b->room = (i64)capacity;
            return false;
        }
        capacity -= e->size;
        b->base[e->item] = e->to;
    }
    return true;
}

/* ---- ties ---- */

typedef struct order {
    const lb_budget_item *items;
    u32 item;
} order;

static int by_options(const lb_budget_item *x, const lb_budget_item *y) {
    if (x->n_options != y->n_options)
        return x->n_options < y->n_options ? -1 : 1;
    for (u32 j = 0; j < x->n_options; j++) {
        const lb_budget_option *p = &x->options[j], *q = &y->options[j];
        if (p->size_bytes != q->size_bytes)
            return p->size_bytes < q->size_bytes ? -1 : 1;
        if (p->error != q->error)
            return p->error < q->error ? -1 : 1;
    }
    return 0;
}

static int by_content(const void *a, const void *b) {
    const order *x = a, *y = b;
    int c = by_options(&x->items[x->item], &y->items[y->item]);
    return c ? c : x->item < y->item ? -1 : x->item > y->item;
}

static int by_u32(const void *a, const void *b) {
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return x < y ? -1 : x > y;
}

/* Of tensors of equal options the earlier ones get the larger choices, which have less error. */
static lb_status settle_ties(lb_budget *b, const lb_budget_item *items, lb_err *err) {
    order *o = lb_alloc_zero(b->n + 1, sizeof *o);
    u32 *taken = lb_alloc_zero(b->n + 1, sizeof *taken);
    lb_status st = o && taken ? LB_OK : LB_E_NOMEM;
    for (u64 i = 0; i < b->n && st == LB_OK; i++)
        o[i] = (order){items, (u32)i};
    if (st == LB_OK)
        qsort(o, b->n, sizeof *o, by_content);
    for (u64 i = 0, end; i < b->n && st == LB_OK; i = end) {
        for (end = i; end < b->n && by_options(&items[o[i].item], &items[o[end].item]) == 0; end++)
            taken[end - i] = b->base[o[end].item];
        qsort(taken, end - i, sizeof *taken, by_u32);
        for (u64 k = i; k < end; k++)
            b->base[o[k].item] = taken[end - 1 - k];
    }
    lb_free(o);
    lb_free(taken);
    return st == LB_OK ? LB_OK : lb_fail(err, st, "out of memory for the choice of types");
}

/* ---- all of it ---- */

static lb_status solve(lb_budget *b, u64 capacity, const lb_budget_limits *limits, lb_i128 *gap,
                       lb_budget_result *out, lb_err *err) {
    u64 total = b->first[b->n];
    edge *edges = lb_alloc_zero(total + 1, sizeof *edges);
    if (!edges)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the choice of types");
    bool best = relax(b, edges, capacity);
    lb_free(edges);
    *gap = 0;
    return best ? LB_OK : lb_budget_search(b, limits, gap, out, err);
}

static void report(const lb_budget *b, const lb_budget_item *items, u32 *chosen,
                   lb_budget_result *out) {
    for (u64 i = 0; i < b->n; i++) {
        chosen[i] = b->choices[b->first[i] + b->base[i]].option;
        out->size_bytes += items[i].options[chosen[i]].size_bytes;
        out->error += items[i].options[chosen[i]].error;
    }
}

lb_status lb_budget_solve(const lb_budget_item *items, u64 n, u64 budget_bytes,
                          const lb_budget_limits *limits, u32 *chosen, lb_budget_result *out,
                          lb_err *err) {
    measures m;
    lb_budget b = {0};
    lb_i128 gap = 0;
    int exponent = 0;
    lb_status st;
    *out = (lb_budget_result){0};
    if (n > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "a budget of more than 2^32 tensors");
    LB_TRY(measure(items, n, &m, err));
    if (m.least > budget_bytes)
        return lb_fail(err, LB_E_LIMIT,
                       "a budget of %llu bytes is too small: the smallest types that are allowed "
                       "take %llu bytes: give at least that",
                       (unsigned long long)budget_bytes, (unsigned long long)m.least);
    LB_TRY_DONE(st, init(&b, items, n, &m, &exponent, err));
    LB_TRY_DONE(st, solve(&b, (budget_bytes - m.least) / m.unit, limits, &gap, out, err));
    LB_TRY_DONE(st, settle_ties(&b, items, err));
    report(&b, items, chosen, out);
    out->exact = gap == 0;
    /* cost to error, rounded up */
    double above = ldexp((double)(gap >> b.shift) + (gap != 0), exponent);
    out->error_least = out->exact ? out->error : fmax(0, out->error - above);
done:
    deinit(&b);
    return st;
}
