/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filters_list.c: filters on sequences and mappings. Those that are generators in jinja2 are
 * lazy here too (jinja_iter.c). */
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"

/* ---- sorting ---- */

typedef struct keyed {
    lb_jval key, item;
} keyed;

typedef struct sorter {
    lb_jx *x;
    bool reverse;
    keyed *scratch;
} sorter;

/* Merge sort; equal ones keep their order, also in reverse. */
static lb_status sort(sorter *s, keyed *a, u32 n) {
    u32 half = n / 2, i = 0, j = half, k = 0;
    if (n < 2)
        return LB_OK;
    LB_TRY(sort(s, a, half));
    LB_TRY(sort(s, a + half, n - half));
    memcpy(s->scratch, a, n * sizeof *a);
    while (k < n) {
        bool right = i == half;
        if (i < half && j < n) {
            int c;
            LB_TRY(s->reverse ? lb_jv_compare(s->x, s->scratch[i].key, s->scratch[j].key, "<", &c)
                              : lb_jv_compare(s->x, s->scratch[j].key, s->scratch[i].key, "<", &c));
            right = c < 0;
        }
        a[k++] = right ? s->scratch[j++] : s->scratch[i++];
    }
    return LB_OK;
}

static lb_status sort_by(lb_jx *x, keyed *a, u32 n, bool reverse) {
    sorter s = {x, reverse, lb_jx_new(x, keyed, n + 1)};
    return s.scratch ? sort(&s, a, n) : LB_E_LIMIT;
}

/* "a,b.c": a list of the values, so that it sorts by each in turn. */
static lb_status multi_key(lb_jx *x, lb_jval item, lb_jval attr, bool fold, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, 1);
    lb_jval v;
    if (!l)
        return LB_E_LIMIT;
    if (attr.type != LB_JT_STR) {
        LB_TRY(lb_jattr_path(x, item, attr, (lb_jval){0}, &v));
        if (fold)
            LB_TRY(lb_jv_fold_case(x, v, &v));
        LB_TRY(lb_jlist_push(x, l, v));
    } else {
        lb_str s = lb_jv_text(attr);
        for (size_t begin = 0, i = 0; i <= s.len; i++) {
            lb_jval path;
            if (i < s.len && s.ptr[i] != ',')
                continue;
            LB_TRY(lb_jv_view(x, lb_str_sub(s, begin, i), &path));
            LB_TRY(lb_jattr_path(x, item, path, (lb_jval){0}, &v));
            if (fold)
                LB_TRY(lb_jv_fold_case(x, v, &v));
            LB_TRY(lb_jlist_push(x, l, v));
            begin = i + 1;
        }
    }
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status f_sort(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    LB_TRY(lb_jv_to_list(x, self, &l));
    keyed *k = lb_jx_new(x, keyed, (u64)l->n + 1);
    if (!k)
        return LB_E_LIMIT;
    for (u32 i = 0; i < l->n; i++) {
        k[i].item = l->item[i];
        LB_TRY(multi_key(x, l->item[i], a[2], !lb_jv_true(a[1]), &k[i].key));
    }
    LB_TRY(sort_by(x, k, l->n, lb_jv_true(a[0])));
    for (u32 i = 0; i < l->n; i++)
        l->item[i] = k[i].item;
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status f_dictsort(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    bool by_value = false;
    lb_jval items;
    lb_jlist *l;
    if (a[1].type != LB_JT_MISSING) {
        by_value = a[1].type == LB_JT_STR && lb_str_eq_c(lb_jv_text(a[1]), "value");
        if (!by_value && !(a[1].type == LB_JT_STR && lb_str_eq_c(lb_jv_text(a[1]), "key")))
            return lb_jx_error(x, "You can only sort by either \"key\" or \"value\"");
    }
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    if (self.type != LB_JT_DICT)
        return lb_jx_error(x, "'%s' object has no attribute 'items'", lb_jv_type_name(self));
    LB_TRY(lb_jv_view_of(x, self.u.dict, LB_JVIEW_ITEMS, &items));
    LB_TRY(lb_jv_to_list(x, items, &l));
    keyed *k = lb_jx_new(x, keyed, (u64)l->n + 1);
    if (!k)
        return LB_E_LIMIT;
    for (u32 i = 0; i < l->n; i++) {
        k[i].item = l->item[i];
        k[i].key = l->item[i].u.list->item[by_value];
        if (!lb_jv_true(a[0]))
            LB_TRY(lb_jv_fold_case(x, k[i].key, &k[i].key));
    }
    LB_TRY(sort_by(x, k, l->n, lb_jv_true(a[2])));
    for (u32 i = 0; i < l->n; i++)
        l->item[i] = k[i].item;
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status group(lb_jx *x, lb_jval key, lb_jlist *items, lb_jval *out) {
    LB_TRY(lb_jv_pair(x, key, lb_jv_list(items), out));
    out->type = LB_JT_GROUP;
    return LB_OK;
}

/* attribute default case_sensitive */
static lb_status f_groupby(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    bool fold = !lb_jv_true(a[2]);
    lb_jlist *l, *groups = lb_jlist_new(x, 0), *items = NULL;
    LB_TRY(lb_jv_to_list(x, self, &l));
    keyed *k = groups ? lb_jx_new(x, keyed, (u64)l->n + 1) : NULL;
    if (!k)
        return LB_E_LIMIT;
    for (u32 i = 0; i < l->n; i++) {
        k[i].item = l->item[i];
        LB_TRY(lb_jattr_path(x, l->item[i], a[0], a[1], &k[i].key));
        if (fold)
            LB_TRY(lb_jv_fold_case(x, k[i].key, &k[i].key));
    }
    LB_TRY(sort_by(x, k, l->n, false));
    for (u32 i = 0; i < l->n; i++) {
        bool same = false;
        if (i)
            LB_TRY(lb_jv_equal(x, k[i - 1].key, k[i].key, &same));
        if (!same) {
            lb_jval key = k[i].key, g;
            items = lb_jlist_new(x, 1);
            if (!items)
                return LB_E_LIMIT;
            if (fold)
                LB_TRY(lb_jattr_path(x, k[i].item, a[0], a[1], &key));
            LB_TRY(group(x, key, items, &g));
            LB_TRY(lb_jlist_push(x, groups, g));
        }
        LB_TRY(lb_jlist_push(x, items, k[i].item));
    }
    *out = lb_jv_list(groups);
    return LB_OK;
}

static lb_status best(lb_jx *x, lb_jval self, const lb_jval *a, bool max, lb_jval *out) {
    lb_jval key, best_key = {0}, item;
    lb_jiter *it;
    bool any = false, more;
    LB_TRY(lb_jiter_new(x, self, &it));
    for (;;) {
        int c = -1;
        LB_TRY(lb_jiter_next(x, it, &item, &more));
        if (!more)
            break;
        LB_TRY(lb_jattr_path(x, item, a[1], (lb_jval){0}, &key));
        if (!lb_jv_true(a[0]))
            LB_TRY(lb_jv_fold_case(x, key, &key));
        if (any)
            LB_TRY(lb_jv_compare(x, key, best_key, max ? ">" : "<", &c));
        if (!any || (c != 2 && (max ? c > 0 : c < 0))) {
            *out = item;
            best_key = key;
        }
        any = true;
    }
    return any ? LB_OK : lb_jv_undef_hint(x, "No aggregated item, sequence was empty.", out);
}

static lb_status f_min(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return best(x, self, a, false, out);
}

static lb_status f_max(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return best(x, self, a, true, out);
}

static lb_status f_sum(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jiter *it;
    bool more;
    *out = a[1].type == LB_JT_MISSING ? lb_jv_int(0) : a[1];
    LB_TRY(lb_jiter_new(x, self, &it));
    if (out->type == LB_JT_STR)
        return lb_jx_error(x, "sum() can't sum strings [use ''.join(seq) instead]");
    for (;;) {
        lb_jval v;
        LB_TRY(lb_jiter_next(x, it, &v, &more));
        if (!more)
            return LB_OK;
        LB_TRY(lb_jattr_path(x, v, a[0], (lb_jval){0}, &v));
        LB_TRY(lb_jop_binary(x, '+', *out, v, out));
    }
}

/* ---- parts ---- */

static lb_status f_first(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jiter *it;
    bool more;
    (void)a;
    LB_TRY(lb_jiter_new(x, self, &it));
    LB_TRY(lb_jiter_next(x, it, out, &more));
    return more ? LB_OK : lb_jv_undef_hint(x, "No first item, sequence was empty.", out);
}

static lb_status f_last(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    u64 n;
    (void)a;
    if (!lb_jv_len(self, &n))
        return lb_jx_error(x, "'%s' object is not reversible", lb_jv_type_name(self));
    if (n == 0)
        return lb_jv_undef_hint(x, "No last item, sequence was empty.", out);
    if (self.type != LB_JT_DICT && self.type != LB_JT_VIEW)
        return lb_jitem(x, self, lb_jv_int(-1), out);
    LB_TRY(lb_jv_to_list(x, self, &l));
    *out = l->item[n - 1];
    return LB_OK;
}

static lb_status f_length(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    u64 n;
    i64 loop;
    (void)a;
    if (self.type == LB_JT_LOOP) {
        LB_TRY(lb_jloop_length(x, self.u.loop, &loop));
        *out = lb_jv_int(loop);
        return LB_OK;
    }
    if (!lb_jv_len(self, &n))
        return lb_jx_error(x, "object of type '%s' has no len()", lb_jv_type_name(self));
    *out = lb_jv_int((i64)n);
    return LB_OK;
}

static lb_status f_list(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    (void)a;
    LB_TRY(lb_jv_to_list(x, self, &l));
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status f_reverse(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jval part[3] = {{0}, {0}, lb_jv_int(-1)};
    lb_jlist *l;
    (void)a;
    if (self.type == LB_JT_STR)
        return lb_jslice(x, self, part, out);
    if (self.type == LB_JT_ITER) {
        LB_TRY(lb_jv_to_list(x, self, &l));
        return lb_jslice(x, lb_jv_list(l), part, out);
    }
    if (!lb_jv_is_iterable(self))
        return lb_jx_error(x, "argument must be iterable");
    return lb_jgen_new(x, &(lb_jgen_opts){.kind = LB_JGEN_REVERSED, .source = self}, out);
}

static lb_status f_join(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_jiter *it;
    lb_str sep = LB_STR("");
    bool more = true;
    lb_status st = LB_OK;
    if (a[0].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_text(x, a[0], &sep));
    LB_TRY(lb_jiter_new(x, self, &it));
    for (bool any = false; st == LB_OK && !b.over; any = true) {
        lb_jval v;
        st = lb_jiter_next(x, it, &v, &more);
        if (st != LB_OK || !more)
            break;
        st = lb_jattr_path(x, v, a[1], (lb_jval){0}, &v);
        if (any)
            lb_jbuf_put(&b, sep);
        if (st == LB_OK)
            st = lb_jv_put_str(&b, v);
    }
    if (st == LB_OK)
        return lb_jbuf_end(&b, out);
    lb_jbuf_drop(&b);
    return st;
}

/* ---- lazy ones ---- */

static lb_status f_unique(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return lb_jgen_new(
        x,
        &(lb_jgen_opts){
            .kind = LB_JGEN_UNIQUE, .source = self, .fold_case = !lb_jv_true(a[0]), .attr = a[1]},
        out);
}

static lb_status f_batch(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jgen_opts o = {.kind = LB_JGEN_BATCH, .source = self, .fallback = a[1]};
    LB_TRY(lb_jarg_int(x, a[0], &o.count));
    return lb_jgen_new(x, &o, out);
}

static lb_status f_slice(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jgen_opts o = {.kind = LB_JGEN_SLICE, .source = self, .fallback = a[1]};
    LB_TRY(lb_jarg_int(x, a[0], &o.count));
    return lb_jgen_new(x, &o, out);
}

static lb_status f_items(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return lb_jgen_new(x, &(lb_jgen_opts){.kind = LB_JGEN_ITEMS, .source = self}, out);
}

static lb_status f_map(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jgen_opts o = {.kind = LB_JGEN_MAP, .source = self, .args = *args};
    const lb_jval *attr = args->kw ? lb_jdict_find_str(args->kw, LB_STR("attribute")) : NULL;
    if (!args->n && attr) {
        const lb_jval *other = lb_jdict_find_str(args->kw, LB_STR("default"));
        if (args->kw->n > 1 + (other != NULL))
            return lb_jx_error(x, "map: Unexpected keyword argument");
        o.kind = LB_JGEN_MAP_ATTR;
        o.attr = *attr;
        o.fallback = other ? *other : lb_jv_none();
        o.args = (lb_jargs){0};
    } else if (args->n) {
        o.name = args->pos[0];
        o.args.pos++;
        o.args.n--;
    }
    return lb_jgen_new(x, &o, out);
}

static lb_status select_by(lb_jx *x, lb_jval self, const lb_jargs *args, bool by_attr, bool negate,
                           lb_jval *out) {
    lb_jgen_opts o = {.kind = LB_JGEN_SELECT, .source = self, .negate = negate, .args = *args};
    if (by_attr && o.args.n == 0)
        return lb_jx_error(x, "Missing parameter for attribute name");
    if (by_attr) {
        o.attr = *o.args.pos++;
        o.args.n--;
    }
    if (o.args.n) {
        o.name = *o.args.pos++;
        o.args.n--;
    } else {
        o.args.kw = NULL;
    }
    return lb_jgen_new(x, &o, out);
}

static lb_status f_select(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    return select_by(x, self, args, false, false, out);
}

static lb_status f_reject(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    return select_by(x, self, args, false, true, out);
}

static lb_status f_selectattr(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    return select_by(x, self, args, true, false, out);
}

static lb_status f_rejectattr(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    return select_by(x, self, args, true, true, out);
}

static const lb_jdef defs[] = {
    {"sort", f_sort, NULL, "reverse case_sensitive attribute", 0, false},
    {"dictsort", f_dictsort, NULL, "case_sensitive by reverse", 0, false},
    {"groupby", f_groupby, NULL, "attribute default case_sensitive", 1, false},
    {"min", f_min, NULL, "case_sensitive attribute", 0, false},
    {"max", f_max, NULL, "case_sensitive attribute", 0, false},
    {"sum", f_sum, NULL, "attribute start", 0, false},
    {"first", f_first, NULL, "", 0, false},
    {"last", f_last, NULL, "", 0, false},
    {"length", f_length, NULL, "", 0, false},
    {"count", f_length, NULL, "", 0, false},
    {"list", f_list, NULL, "", 0, false},
    {"reverse", f_reverse, NULL, "", 0, false},
    {"join", f_join, NULL, "d attribute", 0, false},
    {"unique", f_unique, NULL, "case_sensitive attribute", 0, false},
    {"batch", f_batch, NULL, "linecount fill_with", 1, false},
    {"slice", f_slice, NULL, "slices fill_with", 1, false},
    {"items", f_items, NULL, "", 0, false},
    {"map", NULL, f_map, NULL, 0, false},
    {"select", NULL, f_select, NULL, 0, false},
    {"reject", NULL, f_reject, NULL, 0, false},
    {"selectattr", NULL, f_selectattr, NULL, 0, false},
    {"rejectattr", NULL, f_rejectattr, NULL, 0, false},
    {"random", NULL, NULL, NULL, 0, false},
};
const lb_jtable lb_jfilters_list = {defs, LB_LEN(defs)};
