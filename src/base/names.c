/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: open addressing, at most 3/4 full. 32 bits of each hash are kept, so that a text is only
 * looked at when it is most likely the one. */
#include "base/names.h"
#include "base/mem.h"

struct lb_names_slot {
    u32 hash, place; /* place: 1 + i; 0: free */
};

static bool grow_to(lb_names *x, u64 cap) {
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

static bool grow(lb_names *x) {
    return grow_to(x, x->cap ? x->cap * 2 : 64);
}

static lb_status no_memory(const lb_names *x, lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory: an index of %llu names could not grow",
                   (unsigned long long)x->n);
}

lb_status lb_names_reserve(lb_names *x, u64 n, lb_err *err) {
    u64 cap = LB_MAX(x->cap, (u64)64);
    while (cap / 4 * 3 < n)
        cap *= 2;
    return cap == x->cap || grow_to(x, cap) ? LB_OK : no_memory(x, err);
}

lb_status lb_names_copy(lb_names *out, const lb_names *x, lb_err *err) {
    *out = (lb_names){0};
    if (!x->cap)
        return LB_OK;
    out->slots = lb_alloc_zero((size_t)x->cap, sizeof *out->slots);
    if (!out->slots)
        return no_memory(x, err);
    memcpy(out->slots, x->slots, (size_t)x->cap * sizeof *out->slots);
    out->n = x->n;
    out->cap = x->cap;
    return LB_OK;
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
        return no_memory(x, err);
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

lb_status lb_names_fill(lb_names *x, lb_name_of name, const void *list, u64 n, u64 *twice,
                        lb_err *err) {
    enum { AHEAD = 16 };
    u32 hashes[AHEAD];
    LB_ASSERT(n < UINT32_MAX && !x->n);
    LB_TRY(lb_names_reserve(x, n, err));
    *twice = n;
    for (u64 i = 0; i < n + AHEAD; i++) {
        u32 *hash = &hashes[i % AHEAD];
        lb_str s = i >= AHEAD ? name(list, i - AHEAD) : LB_STR_NONE;
        if (s.len) {
            struct lb_names_slot *p = find_slot(x, name, list, s, *hash);
            if (p->place && *twice == n)
                *twice = i - AHEAD;
            x->n += !p->place;
            if (!p->place)
                *p = (struct lb_names_slot){*hash, (u32)(i - AHEAD) + 1};
        }
        if (i < n) {
            *hash = lb_names_hash(name(list, i));
            __builtin_prefetch(&x->slots[*hash & (x->cap - 1)], 1);
        }
    }
    return LB_OK;
}

u32 lb_names_hash(lb_str s) {
    return (u32)lb_map_hash(s);
}

void lb_names_fetch(const lb_names *x, u32 hash) {
    if (x->n)
        __builtin_prefetch(&x->slots[hash & (x->cap - 1)]);
}

u32 lb_names_guess(const lb_names *x, u32 hash) {
    for (u64 j = hash & (x->cap - 1); x->n; j = (j + 1) & (x->cap - 1))
        if (!x->slots[j].place || x->slots[j].hash == hash)
            return x->slots[j].place - 1;
    return UINT32_MAX;
}

bool lb_names_find(const lb_names *x, lb_name_of name, const void *list, lb_str s, u64 *i) {
    return x->n && lb_names_find_hashed(x, name, list, s, lb_names_hash(s), i);
}

bool lb_names_find_hashed(const lb_names *x, lb_name_of name, const void *list, lb_str s, u32 hash,
                          u64 *i) {
    if (!x->n)
        return false;
    const struct lb_names_slot *p = find_slot(x, name, list, s, hash);
    if (p->place && i)
        *i = (u64)p->place - 1;
    return p->place != 0;
}

void lb_names_deinit(lb_names *x) {
    lb_free(x->slots);
    *x = (lb_names){0};
}
