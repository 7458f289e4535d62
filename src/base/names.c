/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: open addressing, at most 3/4 full. 32 bits of each hash are kept, so that a text is only
 * looked at when it is most likely the one. */
#include "base/names.h"
#include "base/mem.h"

struct lb_names_slot {
    u32 hash, place; /* place: 1 + i; 0: free */
};

static bool grow(lb_names *x) {
    u64 cap = x->cap ? x->cap * 2 : 64;
    struct lb_names_slot *slots =
        cap > SIZE_MAX / sizeof *slots ? NULL : lb_alloc_zero((size_t)cap, sizeof *slots);
    if (!slots)
        return false;
    for (u64 i = 0; i < x->cap; i++) {
        u64 j = x->slots[i].hash & (cap - 1);
        if (!x->slots[i].place)
            continue;
        while (slots[j].place)
            j = (j + 1) & (cap - 1);
        slots[j] = x->slots[i];
    }
    lb_free(x->slots);
    x->slots = slots;
    x->cap = cap;
    return true;
}

static struct lb_names_slot *find_slot(const lb_names *x, lb_name_of name, const void *list,
                                       lb_str s, u32 hash) {
    for (u64 j = hash & (x->cap - 1);; j = (j + 1) & (x->cap - 1)) {
        struct lb_names_slot *p = &x->slots[j];
        if (!p->place || (p->hash == hash && lb_str_eq(name(list, p->place - 1), s)))
            return p;
    }
}

lb_status lb_names_put(lb_names *x, lb_name_of name, const void *list, u64 i, u64 *first,
                       lb_err *err) {
    LB_ASSERT(i < UINT32_MAX);
    if (x->n >= x->cap / 4 * 3 && !grow(x))
        return lb_fail(err, LB_E_NOMEM, "out of memory: an index of %llu names could not grow",
                       (unsigned long long)x->n);
    lb_str s = name(list, i);
    u32 hash = (u32)lb_map_hash(s);
    struct lb_names_slot *p = find_slot(x, name, list, s, hash);
    if (!p->place) {
        *p = (struct lb_names_slot){hash, (u32)i + 1};
        x->n++;
    }
    if (first)
        *first = p->place - 1;
    return LB_OK;
}

bool lb_names_find(const lb_names *x, lb_name_of name, const void *list, lb_str s, u64 *i) {
    if (!x->n)
        return false;
    const struct lb_names_slot *p = find_slot(x, name, list, s, (u32)lb_map_hash(s));
    if (p->place && i)
        *i = (u64)p->place - 1;
    return p->place != 0;
}

void lb_names_deinit(lb_names *x) {
    lb_free(x->slots);
    *x = (lb_names){0};
}
