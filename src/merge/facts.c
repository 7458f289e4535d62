/* SPDX-License-Identifier: Apache-2.0 */
/* facts.c: an index of a model's tensors by module, layer and name without the layer's number. */
#include "merge/facts.h"
#include <stdlib.h>

int lb_merge_entry_cmp(const lb_merge_entry *a, const lb_merge_entry *b) {
    int c = lb_str_cmp(a->head, b->head);
    return c ? c : lb_str_cmp(a->tail, b->tail);
}

static int place_cmp(const lb_merge_entry *a, u32 module, u64 place) {
    if (a->module != module)
        return a->module < module ? -1 : 1;
    return (a->place > place) - (a->place < place);
}

static int sort_cmp(const void *x, const void *y) {
    const lb_merge_entry *a = x, *b = y;
    int c = place_cmp(a, b->module, b->place);
    return c ? c : lb_merge_entry_cmp(a, b);
}

/* ".LAYER." at `dot`; *end: behind the number. */
static bool is_number_at(lb_str name, size_t dot, u32 layer, size_t *end) {
    size_t i = dot + 1;
    u64 n;
    while (i < name.len && name.ptr[i] >= '0' && name.ptr[i] <= '9')
        i++;
    *end = i;
    return i < name.len && name.ptr[i] == '.' && lb_str_to_u64(lb_str_sub(name, dot + 1, i), &n) &&
           n == layer;
}

/* The first ".LAYER.", or the one that the fact says. */
static bool split(const lb_merge_fact *f, lb_str *head, lb_str *tail) {
    size_t from = f->layer_at ? f->layer_at - 1 : 0, to = f->layer_at ? f->layer_at : f->name.len;
    for (size_t i = from; i < to; i++) {
        size_t end;
        if (f->name.ptr[i] != '.' || !is_number_at(f->name, i, f->layer, &end))
            continue;
        *head = lb_str_sub(f->name, 0, i + 1);
        *tail = lb_str_sub(f->name, end, f->name.len);
        return true;
    }
    return false;
}

static lb_status fill(const lb_merge_model *model, u32 n_modules, lb_str who, u32 i,
                      lb_merge_entry *e, lb_err *err) {
    const lb_merge_fact *f = &model->facts[i];
    LB_ASSERT(f->module < n_modules);
    LB_ASSERT(f->same_as == LB_NO_FACT || f->same_as < model->n_facts);
    *e = (lb_merge_entry){.module = f->module, .fact = i, .head = f->name};
    if (f->layer == LB_NO_LAYER) {
        e->place = f->after ? LB_PLACE_BEHIND : LB_PLACE_BEFORE;
        return LB_OK;
    }
    u64 n = model->n_layers[f->module];
    e->place = f->layer < n ? LB_PLACE_LAYER(f->layer) : LB_PLACE_EXTRA(f->layer - n);
    if (!split(f, &e->head, &e->tail))
        return lb_fail(err, LB_E_FORMAT,
                       "%.*s: tensor '%.*s': the number of its layer, %u, does not "
                       "stand in its name",
                       LB_FMT(who), LB_FMT(f->name), f->layer);
    return LB_OK;
}

lb_status lb_merge_entries_make(const lb_merge_model *model, u32 n_modules, lb_str who,
                                lb_arena *perm, lb_merge_entry **out, lb_err *err) {
    u32 n = model->n_facts;
    lb_merge_entry *list = lb_arena_new(perm, lb_merge_entry, (u64)n + 1);
    *out = list;
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "%.*s: out of memory", LB_FMT(who));
    for (u32 i = 0; i < n; i++)
        LB_TRY(fill(model, n_modules, who, i, &list[i], err));
    qsort(list, n, sizeof *list, sort_cmp);
    for (u32 i = 1; i < n; i++)
        if (sort_cmp(&list[i - 1], &list[i]) == 0)
            return lb_fail(err, LB_E_FORMAT, "%.*s: tensor '%.*s' is there twice", LB_FMT(who),
                           LB_FMT(model->facts[list[i].fact].name));
    return LB_OK;
}

static u32 lower(const lb_merge_entry *list, u32 n, u32 module, u64 place) {
    u32 lo = 0, hi = n;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        if (place_cmp(&list[mid], module, place) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const lb_merge_entry *lb_merge_entry_find(const lb_merge_entry *list, u32 n, u32 module, u64 place,
                                          const lb_merge_entry *kind) {
    u32 lo, hi;
    lb_merge_entries_at(list, n, module, place, &lo, &hi);
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        int c = lb_merge_entry_cmp(&list[mid], kind);
        if (c == 0)
            return &list[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

void lb_merge_entries_at(const lb_merge_entry *list, u32 n, u32 module, u64 place, u32 *first,
                         u32 *end) {
    *first = lower(list, n, module, place);
    *end = lower(list, n, module, place + 1);
}
