/* SPDX-License-Identifier: Apache-2.0 */
/* budget_core.c: the search around the base: which tensors leave it, for the least excess.
 *
 * Tensors are taken one after the other, those first whose changes cost least a unit of size. A
 * state is what has been changed so far: size added, sum of penalties. It is dropped when
 * another one has no more size and no more cost, or when its excess cannot end below the best one
 * found: every unit that is missing or too much costs at least the cheapest rate of the tensors
 * that are left. Every state that fits is a choice, so the best one falls as the search goes on;
 * changes whose penalty alone is as much are no longer tried, and mostly a few dozen tensors of
 * thousands are left.
 *
 * Two changes by the same size are exchangeable, and an optimal choice has few changes: put in an
 * order in which their sum stays within the largest one of its ends (positive ones at or below
 * zero, negative ones above), no sum occurs twice, or what lies between could be undone. So of all
 * changes by one size only the cheapest `changes_max` are needed. */
#include "base/mem.h"
#include "quant/budget_internal.h"
#include <stdlib.h>

typedef struct state {
    lb_i128 penalty;
    i64 size; /* units added to the base */
    u32 from; /* in the layer before; of a layer that is remembered: its own number */
    u32 to;   /* among the tensor's choices */
} state;

typedef struct change {
    lb_i128 penalty;
    i64 size;
    u32 to, item;
} change;

/* A tensor that may leave its base. */
typedef struct core_item {
    lb_i128 rate;       /* least penalty a unit of any change */
    bool grows;         /* that change */
    u32 turn;           /* of those of this rate that do so */
    u32 item, first, n; /* of changes */
    /* of this tensor and all after it: least rates, capped at num, and the least penalty */
    lb_i128 up, down, least;
    i64 step; /* common divisor of their sizes */
} core_item;

typedef struct list {
    state *ptr;
    u64 n, cap;
} list;

typedef struct past {
    u32 from;
    u32 to;
} past;

typedef struct layer {
    u64 first; /* in the past */
    u32 item;
} layer;

typedef struct search {
    lb_budget *b;
    u64 width, states_max;
    lb_i128 best;  /* excess */
    lb_i128 rated; /* as it was when the rates of the core were set */
    lb_i128 lost;  /* least bound of what was dropped for want of room */
    change *changes;
    u64 n_changes;
    core_item *core;
    u32 n_core;
    list now, next, spare;
    past *past;
    u64 n_past, cap_past;
    layer *layers;
    u32 n_layers;
    u32 best_layer, best_from, best_to; /* the change that led to it; 0: the base */
    lb_err *err;
} search;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the choice of types");
}

/* ---- what may change ---- */

static lb_i128 penalty_of(const lb_budget *b, const lb_budget_choice *base,
                          const lb_budget_choice *c) {
    return b->den * (lb_budget_cost(b, c) - lb_budget_cost(b, base)) +
           b->num * ((lb_i128)c->size - (lb_i128)base->size);
}

static i64 magnitude(i64 x) {
    return x < 0 ? -x : x;
}

static int by_change(const void *a, const void *b) {
    const change *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    if (x->penalty != y->penalty)
        return x->penalty < y->penalty ? -1 : 1;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static int by_item(const void *a, const void *b) {
    const change *x = a, *y = b;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static int by_rate(const void *a, const void *b) {
    const core_item *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate < y->rate ? -1 : 1;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    if (x->grows != y->grows)
        return x->grows ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

/* Those that could be part of something better than the base with its room. */
static lb_status list_changes(search *s) {
    const lb_budget *b = s->b;
    for (u32 pass = 0; pass < 2; pass++) {
        u64 n = 0;
        for (u64 i = 0; i < b->n; i++) {
            const lb_budget_choice *c = b->choices + b->first[i];
            u32 n_choices = (u32)(b->first[i + 1] - b->first[i]);
            for (u32 j = 0; j < n_choices; j++) {
                lb_i128 p = j == b->base[i] ? s->best : penalty_of(b, &c[b->base[i]], &c[j]);
                if (p >= s->best)
                    continue;
                if (pass)
                    s->changes[n] =
                        (change){p, (i64)c[j].size - (i64)c[b->base[i]].size, j, (u32)i};
                n++;
            }
        }
        s->n_changes = n;
        if (pass == 0 && !(s->changes = lb_alloc_zero(n + 1, sizeof *s->changes)))
            return no_memory(s->err);
    }
    return LB_OK;
}

/* Of changes by one size the cheapest; see the head. */
static void keep_cheapest(search *s) {
    u64 unit = 0, largest = 0, n = 0, run = 0;
    for (u64 i = 0; i < s->n_changes; i++) {
        u64 d = (u64)magnitude(s->changes[i].size);
        unit = lb_gcd_u64(unit, d);
        largest = LB_MAX(largest, d);
    }
    if (s->n_changes == 0)
        return;
    u64 changes_max = (largest + LB_MAX((u64)s->b->room, largest)) / unit + 1;
    qsort(s->changes, s->n_changes, sizeof *s->changes, by_change);
    for (u64 i = 0; i < s->n_changes; i++) {
        run = i && s->changes[i].size == s->changes[i - 1].size ? run + 1 : 0;
        if (run < changes_max)
            s->changes[n++] = s->changes[i];
    }
    s->n_changes = n;
}

/* Of the changes that may still be part of something better. */
static void set_rates(search *s) {
    lb_i128 up = s->b->num, down = s->b->num, least = s->best;
    u64 step = 0;
    for (u32 i = s->n_core; i-- > 0;) {
        core_item *x = &s->core[i];
        for (u32 j = 0; j < x->n; j++) {
            const change *c = &s->changes[x->first + j];
            lb_i128 rate = c->penalty / magnitude(c->size), *of = c->size > 0 ? &up : &down;
            if (c->penalty >= s->best)
                continue;
            *of = LB_MIN(*of, rate);
            least = LB_MIN(least, c->penalty);
            step = lb_gcd_u64(step, (u64)magnitude(c->size));
        }
        x->up = up;
        x->down = down;
        x->least = least;
        x->step = (i64)step;
    }
    s->rated = s->best;
}

/* Along one line (errors in proportion to sizes) growing and shrinking in turn, so that sums stay
 * near the budget. */
static void order_core(search *s) {
    u32 turn[2] = {0};
    qsort(s->core, s->n_core, sizeof *s->core, by_rate);
    for (u32 i = 0; i < s->n_core; i++) {
        core_item *x = &s->core[i];
        if (i && x->rate != s->core[i - 1].rate)
            turn[0] = turn[1] = 0;
        x->turn = turn[x->grows]++;
    }
    qsort(s->core, s->n_core, sizeof *s->core, by_rate);
}

static lb_status list_core(search *s) {
    qsort(s->changes, s->n_changes, sizeof *s->changes, by_item);
    for (u64 i = 0; i < s->n_changes; i++)
        s->n_core += i == 0 || s->changes[i].item != s->changes[i - 1].item;
    s->core = lb_alloc_zero(s->n_core + 1, sizeof *s->core);
    s->layers = lb_alloc_zero((u64)s->n_core + 1, sizeof *s->layers);
    if (!s->core || !s->layers)
        return no_memory(s->err);
    u32 n = 0;
    for (u64 i = 0; i < s->n_changes; i++) {
        const change *c = &s->changes[i];
        lb_i128 rate = c->penalty / magnitude(c->size);
        if (i == 0 || c->item != s->changes[i - 1].item)
            s->core[n++] =
                (core_item){.rate = rate, .grows = c->size > 0, .item = c->item, .first = (u32)i};
        core_item *x = &s->core[n - 1];
        if (rate < x->rate) {
            x->rate = rate;
            x->grows = c->size > 0;
        }
        x->n++;
    }
    order_core(s);
    set_rates(s);
    return LB_OK;
}

/* ---- states ---- */

/* The excess with which a state can end at best; after: the tensor that is next, NULL: none. The
 * room will be `rest` or more by some steps. */
static lb_i128 bound(const search *s, const state *x, const core_item *after) {
    i64 room = s->b->room - x->size;
    if (!after || after->step == 0)
        return room >= 0 ? x->penalty + s->b->num * (lb_i128)room : s->best;
    i64 rest = room % after->step;
    if (rest < 0)
        rest += after->step;
    return x->penalty + s->b->num * (lb_i128)rest +
           (room >= rest ? after->up * (lb_i128)(room - rest)
                         : after->down * (lb_i128)(rest - room));
}

static bool grow(list *l, u64 n) {
    if (n <= l->cap)
        return true;
    u64 cap = LB_MAX(n, 2 * l->cap);
    state *p = lb_realloc(l->ptr, cap * sizeof *p);
    if (!p)
        return false;
    l->ptr = p;
    l->cap = cap;
    return true;
}

/* Adds a state that has more size than all before it, unless one of them is as good. */
static void put(search *s, list *out, const state *x, const core_item *after) {
    if (out->n) {
        const state *last = &out->ptr[out->n - 1];
        lb_i128 a = last->penalty - s->b->num * last->size, b = x->penalty - s->b->num * x->size;
        if (a <= b)
            return;
    }
    if (bound(s, x, after) >= s->best)
        return;
    out->ptr[out->n++] = *x;
}

/* out: the states of a, and those of `from` with the change c (NULL: without, and a is nothing). */
static lb_status merge(search *s, list *out, const list *a, const change *c,
                       const core_item *after) {
    const list *from = &s->now;
    u64 i = 0, j = 0, n = a ? a->n : 0;
    out->n = 0;
    if (!grow(out, n + from->n))
        return no_memory(s->err);
    while (i < n || j < from->n) {
        state y = {0};
        if (j < from->n)
            y = (state){from->ptr[j].penalty + (c ? c->penalty : 0),
                        from->ptr[j].size + (c ? c->size : 0), from->ptr[j].from,
                        c ? c->to : UINT32_MAX};
        bool mine = i < n && (j == from->n || a->ptr[i].size < y.size ||
                              (a->ptr[i].size == y.size && a->ptr[i].penalty <= y.penalty));
        if (mine) {
            put(s, out, &a->ptr[i++], after);
            continue;
        }
        j++;
        i64 room = s->b->room - y.size;
        lb_i128 excess = y.penalty + s->b->num * (lb_i128)room;
        if (room >= 0 && excess < s->best) {
            s->best = excess;
            s->best_layer = s->n_layers + 1;
            s->best_from = y.from;
            s->best_to = y.to;
        }
        put(s, out, &y, after);
    }
    return LB_OK;
}

typedef struct rank {
    lb_i128 bound; /* in units of room, rounded down: what is less is noise of rounded errors */
    u64 distance;  /* from a full budget */
    u32 index;
} rank;

static int by_rank(const void *a, const void *b) {
    const rank *x = a, *y = b;
    if (x->bound != y->bound)
        return x->bound < y->bound ? -1 : 1;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_index(const void *a, const void *b) {
    u32 x = ((const rank *)a)->index, y = ((const rank *)b)->index;
    return x < y ? -1 : x > y;
}

/* What cannot end better goes; then the rest down to `width` states, and the least bound of what
 * goes for that is kept. */
static lb_status thin_out(search *s, list *l, const core_item *after, u64 width) {
    u64 n = 0;
    for (u64 i = 0; i < l->n; i++)
        if (bound(s, &l->ptr[i], after) < s->best)
            l->ptr[n++] = l->ptr[i];
    l->n = n;
    if (n <= width)
        return LB_OK;
    rank *ranks = lb_alloc_zero(n, sizeof *ranks);
    if (!ranks)
        return no_memory(s->err);
    for (u64 i = 0; i < n; i++)
        ranks[i] = (rank){bound(s, &l->ptr[i], after) / s->b->num,
                          (u64)magnitude(s->b->room - l->ptr[i].size), (u32)i};
    qsort(ranks, n, sizeof *ranks, by_rank);
    for (u64 i = width; i < n; i++) {
        lb_i128 x = bound(s, &l->ptr[ranks[i].index], after);
        s->lost = LB_MIN(s->lost, x);
    }
    qsort(ranks, width, sizeof *ranks, by_index);
    for (u64 i = 0; i < width; i++)
        l->ptr[i] = l->ptr[ranks[i].index];
    l->n = width;
    lb_free(ranks);
    return LB_OK;
}

static lb_status remember(search *s, u32 item) {
    list *l = &s->now;
    if (s->n_past + l->n > s->cap_past) {
        u64 cap = LB_MAX(s->n_past + l->n, 2 * s->cap_past);
        past *p = lb_realloc(s->past, cap * sizeof *p);
        if (!p)
            return no_memory(s->err);
        s->past = p;
        s->cap_past = cap;
    }
    s->layers[s->n_layers++] = (layer){s->n_past, item};
    for (u64 i = 0; i < l->n; i++) {
        s->past[s->n_past++] = (past){l->ptr[i].from, l->ptr[i].to};
        l->ptr[i].from = (u32)i;
    }
    return LB_OK;
}

static void swap(list *a, list *b) {
    list t = *a;
    *a = *b;
    *b = t;
}

/* One tensor: every state stays or takes one of its changes. */
static lb_status take(search *s, u32 i) {
    const core_item *x = &s->core[i], *after = i + 1 < s->n_core ? x + 1 : NULL;
    u32 n_tried = 0;
    for (u32 j = 0; j < x->n; j++)
        n_tried += s->changes[x->first + j].penalty < s->best;
    if (n_tried == 0) /* it stays */
        return LB_OK;
    LB_TRY(merge(s, &s->next, NULL, NULL, after));
    for (u32 j = 0; j < x->n; j++) {
        const change *c = &s->changes[x->first + j];
        if (c->penalty >= s->best)
            continue;
        LB_TRY(merge(s, &s->spare, &s->next, c, after));
        swap(&s->spare, &s->next);
    }
    /* A quarter of what may still be remembered: the search always comes to its end. */
    LB_TRY(thin_out(s, &s->next, after, LB_MIN(s->width, (s->states_max - s->n_past) / 4)));
    swap(&s->now, &s->next);
    return remember(s, x->item);
}

/* From the best state back to the base. */
static void trace(search *s) {
    u32 from = s->best_from, to = s->best_to;
    for (u32 k = s->best_layer; k-- > 0;) {
        if (to != UINT32_MAX)
            s->b->base[s->layers[k].item] = to;
        if (k == 0)
            return;
        past p = s->past[s->layers[k - 1].first + from];
        from = p.from;
        to = p.to;
    }
}

static lb_status run(search *s) {
    LB_TRY(list_changes(s));
    keep_cheapest(s);
    LB_TRY(list_core(s));
    if (!grow(&s->now, 1))
        return no_memory(s->err);
    s->now.ptr[s->now.n++] = (state){0};
    for (u32 i = 0; i < s->n_core && s->now.n && s->core[i].least < s->best; i++) {
        if (s->best < s->rated / 2)
            set_rates(s);
        LB_TRY(take(s, i));
    }
    trace(s);
    return LB_OK;
}

lb_status lb_budget_search(lb_budget *b, const lb_budget_limits *limits, lb_i128 *gap,
                           lb_budget_result *out, lb_err *err) {
    search s = {.b = b,
                .width = limits && limits->width ? limits->width : LB_BUDGET_WIDTH,
                .states_max = limits && limits->states ? limits->states : LB_BUDGET_STATES,
                .err = err};
    s.states_max = LB_MIN(s.states_max, UINT32_MAX);
    s.best = s.lost = b->num * (lb_i128)b->room;
    lb_status st = run(&s);
    /* excess is den times cost; a part of one more is one more */
    *gap = s.lost < s.best ? (s.best - s.lost + b->den - 1) / b->den : 0;
    out->n_core = s.n_layers;
    out->n_states = s.n_past;
    lb_free(s.changes);
    lb_free(s.core);
    lb_free(s.layers);
    lb_free(s.past);
    lb_free(s.now.ptr);
    lb_free(s.next.ptr);
    lb_free(s.spare.ptr);
    return st;
}
