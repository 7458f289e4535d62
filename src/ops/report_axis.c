/* SPDX-License-Identifier: Apache-2.0 */
/* report_axis.c: from names of tensors to columns (layers) and rows (roles) of plots.
 *
 * Names alone decide, so that every architecture has its plots, also one that no table knows. */
#include "ops/report_internal.h"
#include <stdlib.h>

#define OUTSIDE UINT32_MAX

/* The end of the digits at `from`, where they stand between dots; 0: they do not. */
static size_t number_end(lb_str s, size_t from) {
    size_t end = from;
    if (from > 0 && s.ptr[from - 1] != '.')
        return 0;
    while (end < s.len && s.ptr[end] >= '0' && s.ptr[end] <= '9')
        end++;
    return end > from && (end == s.len || s.ptr[end] == '.') ? end : 0;
}

/* Without ".weight", numbers as "*". */
static lb_str role_of(lb_str s, lb_arena *perm) {
    if (lb_str_ends(s, LB_STR(".weight")) && s.len > 7)
        s = lb_str_sub(s, 0, s.len - 7);
    lb_str copy = lb_arena_str(perm, s);
    char *p = (char *)(uintptr_t)copy.ptr;
    size_t n = 0;
    for (size_t i = 0; p && i < s.len;) {
        size_t end = number_end(s, i);
        if (end) {
            p[n++] = '*';
            i = end;
        } else {
            p[n++] = s.ptr[i++];
        }
    }
    return (lb_str){p, n};
}

bool lb_report_place(lb_str name, lb_str *prefix, u64 *layer, lb_str *role, lb_arena *perm) {
    for (size_t i = 1; i < name.len; i++) {
        size_t end = number_end(name, i);
        if (!end || end == name.len || !lb_str_to_u64(lb_str_sub(name, i, end), layer) ||
            *layer == UINT64_MAX)
            continue;
        *prefix = lb_str_sub(name, 0, i - 1);
        *role = role_of(lb_str_sub(name, end + 1, name.len), perm);
        return true;
    }
    *prefix = LB_STR_NONE;
    *layer = UINT64_MAX;
    *role = role_of(name, perm);
    return false;
}

/* ---- groups and their layers ---- */

typedef struct found { /* a prefix */
    lb_str prefix;
    u64 n_params;
    u32 index;
} found;

static int by_params(const void *a, const void *b) {
    const found *x = a, *y = b;
    if (x->n_params != y->n_params)
        return x->n_params < y->n_params ? 1 : -1;
    return lb_str_cmp(x->prefix, y->prefix);
}

typedef struct layer_key {
    u32 group;
    u64 layer;
} layer_key;

static int by_layer(const void *a, const void *b) {
    const layer_key *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->layer < y->layer ? -1 : x->layer > y->layer;
}

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the layers of a report");
}

/* The largest prefixes become groups; item.group, which was the number of the prefix, follows. */
static lb_status choose_groups(lb_report_axis *a, lb_report_item *items, u64 n, found *list,
                               u32 n_found, lb_arena *scratch, lb_err *err) {
    u32 *to = lb_arena_new(scratch, u32, n_found + 1);
    if (!to)
        return oom(err);
    qsort(list, n_found, sizeof *list, by_params);
    a->n_groups = LB_MIN(n_found, LB_REPORT_GROUPS_MAX);
    a->n_groups_merged = n_found - a->n_groups;
    for (u32 i = 0; i < n_found; i++) {
        to[list[i].index] = i < a->n_groups ? i : OUTSIDE;
        if (i < a->n_groups)
            a->groups[i] =
                (lb_report_group){.prefix = list[i].prefix, .n_params = list[i].n_params};
    }
    for (u64 i = 0; i < n; i++)
        if (items[i].group != OUTSIDE)
            items[i].group = to[items[i].group];
    return LB_OK;
}

/* Distinct layers in order; each group's are `per_slot` to a slot. */
static lb_status make_slots(lb_report_axis *a, lb_report_item *items, u64 n, lb_arena *perm,
                            lb_arena *scratch, lb_err *err) {
    layer_key *keys = lb_arena_new(scratch, layer_key, n + 1);
    u64 n_keys = 0, n_distinct = 0;
    a->slots = lb_arena_new(perm, lb_report_slot, LB_REPORT_SLOTS_MAX + LB_REPORT_GROUPS_MAX + 1);
    if (!keys || !a->slots)
        return oom(err);
    for (u64 i = 0; i < n; i++)
        if (items[i].group != OUTSIDE)
            keys[n_keys++] = (layer_key){items[i].group, items[i].layer};
    qsort(keys, n_keys, sizeof *keys, by_layer);
    for (u64 i = 0; i < n_keys; i++)
        if (i == 0 || by_layer(&keys[i], &keys[n_distinct - 1]) != 0) {
            keys[n_distinct++] = keys[i];
            a->groups[keys[i].group].n_layers++;
        }
    u64 per_slot = lb_ceil_div_u64(n_distinct, LB_REPORT_SLOTS_MAX - 1);
    a->slots[a->n_slots++] = (lb_report_slot){.group = OUTSIDE};
    for (u64 i = 0, in_slot = 0; i < n_distinct; i++) {
        lb_report_slot *s = &a->slots[a->n_slots - 1];
        if (s->group != keys[i].group || in_slot == per_slot) {
            s = &a->slots[a->n_slots++];
            *s = (lb_report_slot){.group = keys[i].group, .first = keys[i].layer};
            in_slot = 0;
        }
        s->last = keys[i].layer;
        s->n++;
        in_slot++;
    }
    for (u32 g = 0; g < a->n_groups; g++)
        a->groups[g].per_slot = LB_MAX(per_slot, 1);
    return LB_OK;
}

static void find_slots(const lb_report_axis *a, lb_report_item *items, u64 n) {
    for (u64 i = 0; i < n; i++) {
        layer_key key = {items[i].group, items[i].layer};
        u32 lo = 1, hi = a->n_slots;
        items[i].slot = 0;
        if (key.group == OUTSIDE)
            continue;
        while (hi - lo > 1) { /* the last slot that begins at or before it */
            u32 mid = lo + (hi - lo) / 2;
            layer_key first = {a->slots[mid].group, a->slots[mid].first};
            if (by_layer(&first, &key) <= 0)
                lo = mid;
            else
                hi = mid;
        }
        items[i].slot = lo;
    }
}

/* ---- roles ---- */

typedef struct role_sum {
    lb_str name;
    u64 n_params;
    bool outside;
    u32 index;
} role_sum;

static int by_role(const void *a, const void *b) {
    const role_sum *x = a, *y = b;
    if (x->outside != y->outside)
        return x->outside ? -1 : 1;
    if (x->n_params != y->n_params)
        return x->n_params < y->n_params ? 1 : -1;
    return lb_str_cmp_natural(x->name, y->name);
}

typedef struct naming {
    lb_map prefixes, roles;
    found *found;
    role_sum *role_sums;
    u32 n_found, n_roles;
    lb_arena scratch;
} naming;

/* Of the ordered roles, which stand for themselves: the largest, wherever they are. */
static u64 least_params(const role_sum *list, u32 n, u64 *sorted) {
    for (u32 i = 0; i < n; i++)
        sorted[i] = list[i].n_params;
    for (u32 gap = n / 2; gap > 0; gap /= 2) /* Shell's sort: no second comparison function */
        for (u32 i = gap; i < n; i++)
            for (u32 k = i; k >= gap && sorted[k - gap] < sorted[k]; k -= gap) {
                u64 t = sorted[k];
                sorted[k] = sorted[k - gap];
                sorted[k - gap] = t;
            }
    return sorted[LB_REPORT_ROLES_MAX - 2];
}

static lb_status choose_roles(lb_report_axis *a, lb_report_item *items, u64 n, naming *x,
                              lb_arena *perm, lb_err *err) {
    role_sum *list = x->role_sums;
    u32 n_found = x->n_roles, *to = lb_arena_new(&x->scratch, u32, n_found + 1);
    u64 *sorted = lb_arena_new(&x->scratch, u64, n_found + 1), least = 0;
    a->roles = lb_arena_new(perm, lb_str, LB_REPORT_ROLES_MAX);
    if (!to || !sorted || !a->roles)
        return oom(err);
    qsort(list, n_found, sizeof *list, by_role);
    if (n_found > LB_REPORT_ROLES_MAX)
        least = least_params(list, n_found, sorted);
    for (u32 i = 0; i < n_found; i++) {
        bool own = n_found <= LB_REPORT_ROLES_MAX ||
                   (list[i].n_params >= least && a->n_roles < LB_REPORT_ROLES_MAX - 1);
        to[list[i].index] = own ? a->n_roles : OUTSIDE;
        a->n_roles_merged += !own;
        if (own)
            a->roles[a->n_roles++] = list[i].name;
    }
    if (a->n_roles_merged)
        a->roles[a->n_roles++] = LB_STR("all others");
    for (u64 i = 0; i < n; i++)
        items[i].role = LB_MIN(to[items[i].role], a->n_roles - 1);
    return LB_OK;
}

/* ---- both ---- */

static lb_status name_item(naming *x, lb_report_item *it, lb_arena *perm, lb_err *err) {
    lb_str prefix, role;
    u64 k;
    bool existed, layered = lb_report_place(it->name, &prefix, &it->layer, &role, perm);
    if (!role.ptr)
        return oom(err);
    it->group = OUTSIDE;
    if (layered) {
        if (!lb_map_find(&x->prefixes, prefix, &k)) {
            k = x->n_found++;
            x->found[k] = (found){.prefix = prefix, .index = (u32)k};
            LB_TRY(lb_map_put(&x->prefixes, prefix, k, &existed, err));
        }
        x->found[k].n_params += it->n_params;
        it->group = (u32)k;
    }
    if (!lb_map_find(&x->roles, role, &k)) {
        k = x->n_roles++;
        x->role_sums[k] = (role_sum){.name = role, .outside = true, .index = (u32)k};
        LB_TRY(lb_map_put(&x->roles, role, k, &existed, err));
    }
    x->role_sums[k].n_params += it->n_params; /* below the sum of all, which inspect checked */
    x->role_sums[k].outside &= !layered;
    it->role = (u32)k;
    return LB_OK;
}

lb_status lb_report_axis_build(lb_report_axis *out, lb_report_item *items, u64 n, lb_arena *perm,
                               lb_err *err) {
    naming x = {0};
    lb_status st = LB_OK;
    *out = (lb_report_axis){0};
    x.found = lb_arena_new(&x.scratch, found, n + 1);
    x.role_sums = lb_arena_new(&x.scratch, role_sum, n + 1);
    if (!x.found || !x.role_sums)
        LB_TRY_DONE(st, oom(err));
    for (u64 i = 0; i < n; i++)
        LB_TRY_DONE(st, name_item(&x, &items[i], perm, err));
    LB_TRY_DONE(st, choose_groups(out, items, n, x.found, x.n_found, &x.scratch, err));
    LB_TRY_DONE(st, make_slots(out, items, n, perm, &x.scratch, err));
    find_slots(out, items, n);
    LB_TRY_DONE(st, choose_roles(out, items, n, &x, perm, err));
done:
    lb_map_deinit(&x.prefixes);
    lb_map_deinit(&x.roles);
    lb_arena_deinit(&x.scratch);
    return st;
}

void lb_report_slot_text(const lb_report_axis *a, u32 slot, lb_buf *out) {
    const lb_report_slot *s = &a->slots[slot];
    if (s->group == OUTSIDE) {
        lb_buf_put_c(out, "outside the layers");
        return;
    }
    if (a->n_groups > 1) {
        lb_html_name(out, a->groups[s->group].prefix);
        lb_buf_put_c(out, ": ");
    }
    lb_buf_printf(out, s->n == 1 ? "layer %llu" : "layers %llu", (unsigned long long)s->first);
    if (s->n > 1)
        lb_buf_printf(out, "\xe2\x80\x93%llu", (unsigned long long)s->last);
}
